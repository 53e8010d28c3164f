"""A controller with 10,000 emulated nodes and 100,000 pending jobs (figure 4).

Run: python tests/bench/bench_scale.py [--nodes 10000] [--jobs 100000] [--seconds 30]
Bars: all accepted; `hqueue -h | wc -l` at most 2 s; submit p99 below 50 ms while the planner runs; controller memory at
most 1.5 GB; idle with 10,000 registered nodes below 25 % of a core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_idle import cpu_s, rss_mib

from helix import Client
from helix.cluster.conffile import Shape
from helix.cluster.lifecycle import Cluster

LONG = "#!/bin/sh\nHELIX_EMULATE_RUNTIME=20\nsleep 20\n"


def configure(cluster: Cluster, nodes: int) -> None:
    """A local cluster's configuration, with emulated nodes in the place of real ones."""
    cluster.create(Shape(nodes=1, cpus=8, memory_mib=32000))
    conf = cluster.layout.conf
    text = conf.read_text().replace("NodeName=n1 ", f"NodeName=e[0-{nodes - 1}] ")
    conf.write_text(text + "MaxJobCount=2000000\n")


def start_emulator(cluster: Cluster, nodes: int) -> subprocess.Popen[bytes]:
    """One helixd that stands for all nodes."""
    layout = cluster.layout
    bin_dir = Path(sys.executable).parent
    token = layout.root / "token"
    made = subprocess.run(
        [bin_dir / "helixctld", "-f", layout.conf, "--create-join-token"], check=True, capture_output=True
    )
    token.write_bytes(made.stdout)
    token.chmod(0o600)
    cluster.start_controller()
    port = layout.port_file.read_text().strip()
    return subprocess.Popen(
        [
            bin_dir / "helixd",
            *("--name", f"e[0-{nodes - 1}]", "--emulate", str(nodes)),
            *("--controller", f"tcp://127.0.0.1:{port}"),
            *("--controller-key", layout.controller_key.read_text().strip()),
            *("--join-token-file", str(token), "--spool", str(layout.root / "emulated")),
            *("--socket", str(layout.root / "e.sock"), "--log-file", str(layout.root / "emulated.log")),
        ]
    )


def wait_idle(client: Client, nodes: int, limit_s: float = 120) -> float:
    begun = time.perf_counter()
    while time.perf_counter() - begun < limit_s:
        counters = client.call("ctl.diag", {})["counters"]
        if counters["nodes.links"] and all(n["state"] == "IDLE" for n in client.nodes()):
            return time.perf_counter() - begun
        time.sleep(0.2)
    raise SystemExit("the emulated nodes did not become IDLE")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helix-bench-") as name:
        cluster = Cluster.at(Path(name) / "cluster")
        configure(cluster, args.nodes)
        emulator = start_emulator(cluster, args.nodes)
        try:
            with Client(str(cluster.layout.controller_socket)) as client:
                took = wait_idle(client, args.nodes)
                pid = cluster.pid("helixctld")
                assert pid is not None
                time.sleep(10)
                before, begun = cpu_s(pid), time.monotonic()
                time.sleep(args.seconds)
                share = 100 * (cpu_s(pid) - before) / (time.monotonic() - begun)
                print(f"{args.nodes} emulated nodes IDLE after {took:.1f} s; idle controller {share:.1f} % (bar 25)")
                measure_queue(client, cluster, pid, args.jobs)
        finally:
            emulator.terminate()
            emulator.wait(30)
            cluster.down()


def measure_queue(client: Client, cluster: Cluster, pid: int, jobs: int) -> None:
    """Fill the queue, then list it and submit into it while the planner works."""
    begun, accepted = time.perf_counter(), 0
    work = str(cluster.layout.root)
    while accepted < jobs:
        batch = [
            {
                "script": LONG,
                "tasks": 1 + (k // 10) % 10,
                "cpus_per_task": 1 + k % 8,
                "nodes": f"{1 + (k // 100) % 10}-{10 + (k // 100) % 10}",
                "mem": 1000,
                "time_limit": 60,
                "work_dir": work,
                "name": f"shape{k % 1000}",
            }
            for k in range(accepted, min(jobs, accepted + 5000))
        ]
        ids = client.submit_many(batch)
        wrong = [i for i in ids if not isinstance(i, int)]
        assert not wrong, wrong[0]
        accepted += len(ids)
    took = time.perf_counter() - begun
    print(f"{accepted} jobs accepted at {accepted / took:.0f}/s; controller {rss_mib(pid):.0f} MiB (bar 1500)")
    counters = client.call("ctl.diag", {})["counters"]
    print(f"pending {counters.get('jobs.pending')}, cycle max {counters.get('sched.cycle_max_ms'):.1f} ms")
    env = {**os.environ, **cluster.env()}
    for _ in range(3):
        begun = time.perf_counter()
        shown = subprocess.run("hqueue -h | wc -l", shell=True, env=env, check=True, capture_output=True)
        print(f"hqueue -h | wc -l: {int(shown.stdout)} lines in {time.perf_counter() - begun:.2f} s (bar 2)")
    times = []
    cycles = client.call("ctl.diag", {})["counters"]["sched.cycles"]
    for k in range(500):
        begun = time.perf_counter()
        client.submit(LONG, tasks=1 + k % 10, time_limit=60, work_dir=work)
        times.append((time.perf_counter() - begun) * 1e3)
        time.sleep(0.005)
    cycles = client.call("ctl.diag", {})["counters"]["sched.cycles"] - cycles
    print(
        f"submit while planning ({cycles:.0f} passes): median {percentile(times, 0.5):.1f} ms,"
        f" p99 {percentile(times, 0.99):.1f} ms (bar 50), max {max(times):.1f} ms; controller {rss_mib(pid):.0f} MiB"
    )


if __name__ == "__main__":
    main()
