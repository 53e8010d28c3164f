"""Suspend mode: from the acknowledged submit of the preempting job to its first process running.

Run: python tests/bench/bench_preempt.py [--samples 200]
A cluster of four nodes, filled by jobs of a low partition that sleep; each sample submits a job of a high partition,
in turn on one node and on all four, and waits until it is over and everybody runs again.
Bar: p99 below 50 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from helix.client import Client
from helix.cluster.conffile import Shape
from helix.cluster.lifecycle import Cluster

CPUS = 4
CONF = """
PreemptType=preempt/partition_prio
PreemptMode=SUSPEND,GANG
DefMemPerCPU=10
PartitionName=low Nodes=ALL PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=10
"""
#: $EPOCHREALTIME is taken by the job's first process, before it does anything else
SCRIPT = "#!/bin/bash\nprintf '%s\\n' $EPOCHREALTIME > $1.new\nmv $1.new $1\n"


def wait_until(condition, what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"bench_preempt: in vain: {what}")
        time.sleep(0.005)


def states(client: Client) -> list[str]:
    return sorted(job["state"] for job in client.queue(fields=["state"]))


def sample_ms(client: Client, folder: Path, number: int, nodes: int) -> float:
    """Milliseconds from the reply to the submit until the script runs."""
    path = folder / f"t{number}"
    client.submit(
        str(folder / "script"),
        args=[str(path)],
        partition="high",
        nodes=nodes,
        cpus_per_task=CPUS,
        chdir=str(folder),
        output="/dev/null",
    )
    t_ack = time.time()
    wait_until(path.exists, f"job {number} runs")
    began = float(path.read_text())
    wait_until(lambda: states(client) == ["RUNNING"] * 4, "everybody runs again")
    return (began - t_ack) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helix-bench-") as name:
        cluster = Cluster.at(Path(name) / "cluster")
        cluster.create(Shape(nodes=4, cpus=CPUS, memory_mib=4000), conf_extra=CONF)
        cluster.up()
        try:
            client = Client(str(cluster.layout.controller_socket))
            (Path(name) / "script").write_text(SCRIPT)
            for _ in range(4):
                client.submit(
                    wrap="exec sleep 100000", partition="low", cpus_per_task=CPUS, chdir=name, output="/dev/null"
                )
            wait_until(lambda: states(client) == ["RUNNING"] * 4, "the low jobs run")
            for warm in range(10):
                sample_ms(client, Path(name), -1 - warm, 1 + 3 * (warm % 2))
            by_nodes: dict[int, list[float]] = {1: [], 4: []}
            for number in range(args.samples):
                nodes = 1 + 3 * (number % 2)
                by_nodes[nodes].append(sample_ms(client, Path(name), number, nodes))
            for nodes, found in by_nodes.items():
                show(f"on {nodes} node{'s' if nodes > 1 else ''}", found)
            show("all", by_nodes[1] + by_nodes[4])
        finally:
            cluster.down()


def show(label: str, found: list[float]) -> None:
    cut = statistics.quantiles(found, n=100, method="inclusive")
    print(
        f"suspend to start, {label}: p50 {cut[49]:.1f} ms, p99 {cut[98]:.1f} ms, max {max(found):.1f} ms, "
        f"{len(found)} samples (bar: p99 < 50 ms)"
    )


if __name__ == "__main__":
    main()
