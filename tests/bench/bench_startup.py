"""Cold start of the commands beside a bare interpreter (figure 3).

Run: python tests/bench/bench_startup.py [--runs 30]
Reference: `python -I -c "import argparse, json, socket"` by the same interpreter, alternating in the same run.
Bar: hsubmit --wrap true, and hqueue on an empty queue, at most 1.6 of it (medians).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helix.cluster.conffile import Shape
from helix.cluster.lifecycle import Cluster


def run_ms(argv: list[str], env: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, env=env, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=30)
    args = parser.parse_args()
    bin_dir = Path(sys.executable).parent
    bare = [sys.executable, "-I", "-c", "import argparse, json, socket"]
    with tempfile.TemporaryDirectory(prefix="helix-bench-") as name:
        cluster = Cluster.at(Path(name) / "cluster")
        cluster.create(Shape(nodes=1, cpus=4, memory_mib=4000))
        cluster.up()
        env = {**os.environ, **cluster.env()}
        try:
            for label, argv in (
                ("hqueue (empty)", [str(bin_dir / "hqueue")]),
                ("hsubmit --wrap true", [str(bin_dir / "hsubmit"), "--hold", "-o", "/dev/null", "--wrap", "true"]),
            ):
                pairs = []
                for _ in range(3):
                    run_ms(argv, env)
                for _ in range(args.runs):
                    pairs.append((run_ms(bare, env), run_ms(argv, env)))
                base = statistics.median(p[0] for p in pairs)
                mine = statistics.median(p[1] for p in pairs)
                print(f"{label}: {mine:.1f} ms, bare interpreter {base:.1f} ms: ratio {mine / base:.2f} (bar 1.60)")
        finally:
            cluster.down()


if __name__ == "__main__":
    main()
