"""What idle daemons cost, and how long a restart with a long journal takes (figure 5).

Run: python tests/bench/bench_idle.py [--seconds 60] [--jobs 100000]
Bars: helixd below 0.3 % of a core and 60 MB; helixctld with 4 nodes below 0.5 % and 250 MB; restart with 100,000 jobs
in the journal at most 10 s.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from helix import Client
from helix.cluster.conffile import Shape
from helix.cluster.lifecycle import Cluster

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    """Resident memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def idle(cluster: Cluster, seconds: float) -> None:
    pids = {name: pid for name in ("helixctld", "n1", "n2", "n3", "n4") if (pid := cluster.pid(name)) is not None}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    begun = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    for name, pid in pids.items():
        share = 100 * (cpu_s(pid) - before[name]) / took
        bars = "0.5 % and 250 MB" if name == "helixctld" else "0.3 % and 60 MB"
        print(f"idle {name}: {share:.2f} % of a core over {took:.0f} s, {rss_mib(pid):.0f} MiB (bar {bars})")


def restart(cluster: Cluster, jobs: int) -> None:
    with Client(str(cluster.layout.controller_socket)) as client:
        done = 0
        while done < jobs:
            ids = client.submit_many([{"wrap": "true", "hold": True, "name": f"j{k % 1000}"} for k in range(5000)])
            done += sum(isinstance(i, int) for i in ids)
        pid = cluster.pid("helixctld")
        assert pid is not None
        os.kill(pid, 9)
        begun = time.perf_counter()
        cluster.start_controller()
        total = client.ping()["jobs"]
        print(f"restart after kill -9 with {total} jobs in the journal: {time.perf_counter() - begun:.1f} s (bar 10)")
        client.cancel(users=[str(os.getuid())])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helix-bench-") as name:
        cluster = Cluster.at(Path(name) / "cluster")
        cluster.create(Shape(nodes=4, cpus=64, memory_mib=64000))
        cluster.up()
        try:
            time.sleep(10)  # kernels load after READY; idle starts then
            idle(cluster, args.seconds)
            restart(cluster, args.jobs)
        finally:
            cluster.down()


if __name__ == "__main__":
    main()
