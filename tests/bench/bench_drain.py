"""How fast jobs start and end beside a bare loop on the same machine (figures 1 and 2).

Run: python tests/bench/bench_drain.py [--tasks 1000] [--rounds 3]
Reference: posix_spawn of the same two-line script, 16 in flight, taken before and after each round in the same run.
Bars: an array of 1,000 tasks at least 0.5 of the bare rate; 1,000 pipelined submissions at least 0.4; acceptance alone
(durable, fsync on, nothing started) at least 3,000/s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from helix import Client
from helix.cluster.conffile import Shape
from helix.cluster.lifecycle import Cluster

SCRIPT = "#!/bin/sh\n/bin/true\n"
IN_FLIGHT = 16


def bare_rate(script: Path, count: int) -> float:
    """Runs per second of the bare loop."""
    started, live, begun = 0, 0, time.perf_counter()
    done = 0
    while done < count:
        while live < IN_FLIGHT and started < count:
            os.posix_spawn(script, [str(script)], os.environ)
            started += 1
            live += 1
        os.wait()
        live -= 1
        done += 1
    return count / (time.perf_counter() - begun)


def drain_array(client: Client, script: Path, work: Path, count: int) -> float:
    """Tasks per second from the submit to the end of the last, every exit record durable at the controller."""
    begun = time.perf_counter()
    job = client.submit(script, array=f"1-{count}", work_dir=work, stdout="/dev/null")
    ends = client.wait(job)
    took = time.perf_counter() - begun
    assert ends[0]["state"] == "COMPLETED", ends
    return count / took


def drain_singles(client: Client, script: Path, work: Path, count: int) -> float:
    """Jobs per second for separate, pipelined submissions."""
    begun = time.perf_counter()
    ids = client.submit_many([{"script": script, "work_dir": work, "stdout": "/dev/null"}] * count)
    bad = [i for i in ids if not isinstance(i, int)]
    assert not bad, bad[0]
    ends = client.wait(ids)
    took = time.perf_counter() - begun
    assert all(e["state"] == "COMPLETED" for e in ends)
    return count / took


def accept(client: Client, script: Path, work: Path, count: int) -> float:
    """Acknowledged submissions per second of held jobs."""
    begun = time.perf_counter()
    ids = client.submit_many([{"script": script, "work_dir": work, "hold": True}] * count)
    took = time.perf_counter() - begun
    assert all(isinstance(i, int) for i in ids)
    client.cancel(ids)
    return count / took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helix-bench-") as name:
        root = Path(name)
        script = root / "true.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        cluster = Cluster.at(root / "cluster")
        cluster.create(Shape(nodes=4, cpus=64, memory_mib=64000))
        cluster.up()
        try:
            rows: dict[str, list[tuple[float, float]]] = {"array": [], "singles": []}
            accepted = []
            with Client(str(cluster.layout.controller_socket)) as client:
                drain_array(client, script, root, 50)  # warm: kernels, user database, page cache
                for _ in range(args.rounds):
                    for kind, drain in (("array", drain_array), ("singles", drain_singles)):
                        before = bare_rate(script, args.tasks)
                        rate = drain(client, script, root, args.tasks)
                        after = bare_rate(script, args.tasks)
                        rows[kind].append((rate, (before + after) / 2))
                    accepted.append(accept(client, script, root, args.tasks))
            for kind, bar in (("array", 0.5), ("singles", 0.4)):
                ratios = [rate / bare for rate, bare in rows[kind]]
                shown = ", ".join(f"{rate:.0f}/{bare:.0f}={rate / bare:.2f}" for rate, bare in rows[kind])
                print(
                    f"drain {kind}: median {statistics.median(ratios):.2f} of the bare loop (bar {bar});"
                    f" jobs/s / bare/s: {shown}"
                )
            print(
                f"acceptance alone: median {statistics.median(accepted):.0f}/s (bar 3000);"
                f" {', '.join(f'{a:.0f}' for a in accepted)}"
            )
        finally:
            cluster.down()


if __name__ == "__main__":
    main()
