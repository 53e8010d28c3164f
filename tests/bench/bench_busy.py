"""A controller whose planner never rests: submits are accepted, and what fits starts, while full passes run.

Run: python tests/bench/bench_busy.py [--nodes 10000] [--jobs 100000] [--samples 300] [--passes 5]
All nodes but ten are taken for hours, `--jobs` jobs wait for them, and full passes over the queue run back to back
(bf_interval=0).  Meanwhile jobs of one core are submitted that fit on the ten, at least as many as asked for and until
some full passes have ended.
Bars: accept p99 below 50 ms; a job that fits is started within 100 ms of its submit (p99); a second start of the
controller loads the kernels from the state directory.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_idle import rss_mib
from bench_scale import percentile, start_emulator, wait_idle

from helix import Client
from helix.cluster.conffile import Shape
from helix.cluster.lifecycle import Cluster

LONG = "#!/bin/sh\nHELIX_EMULATE_RUNTIME=36000\nsleep 36000\n"
SHORT = "#!/bin/sh\nHELIX_EMULATE_RUNTIME=1\nsleep 1\n"
FREE = 10  #: nodes of the partition that stays free


def configure(cluster: Cluster, nodes: int) -> None:
    """A local cluster's configuration with emulated nodes, a partition that stays free, and passes back to back."""
    cluster.create(Shape(nodes=1, cpus=8, memory_mib=32000))
    conf = cluster.layout.conf
    text = conf.read_text().replace("NodeName=n1 ", f"NodeName=e[0-{nodes - 1}] ")
    text = re.sub(r"(PartitionName=\S+ .*?)Nodes=\S+", rf"\1Nodes=e[{FREE}-{nodes - 1}]", text)
    text += f"PartitionName=express Nodes=e[0-{FREE - 1}]\n"
    conf.write_text(text + "MaxJobCount=2000000\nSchedulerParameters=bf_interval=0\n")


def wait_warm(cluster: Cluster, limit_s: float = 300.0) -> str:
    """The controller's line on its kernels, once it is in the log for the present start."""
    log = cluster.layout.log_file("helixctld")
    begun = time.monotonic()
    while time.monotonic() - begun < limit_s:
        lines = log.read_text().split("\n")
        ready = [i for i, line in enumerate(lines) if " ready cluster=" in line]
        warm = [i for i, line in enumerate(lines) if "kernels ready after" in line]
        if ready and warm and warm[-1] > ready[-1]:
            return lines[warm[-1]].rpartition("kernels ")[2]
        time.sleep(0.2)
    raise SystemExit("the kernels were not loaded")


def fill(client: Client, work: str, nodes: int, jobs: int) -> None:
    """Take every node but the free ones, then queue `jobs` jobs of 1,000 shapes."""
    client.submit(LONG, array=f"0-{nodes - FREE - 1}", tasks=8, nodes=1, time_limit=1440, work_dir=work, mem=1000)
    wait_counter(client, "jobs.running", nodes - FREE)
    accepted = 0
    while accepted < jobs:
        batch = [
            {
                "script": LONG,
                "tasks": 1 + k % 8,
                "nodes": "1" if k % 5 < 3 else str(1 + (k // 5) % 25),
                "exclusive": k % 5 >= 3,
                "mem": 1000 + 10 * ((k // 8) % 10),
                "time_limit": (10, 30, 60, 120, 240, 480, 720, 1440)[(k // 80) % 8],
                "work_dir": work,
            }
            for k in range(accepted, min(jobs, accepted + 5000))
        ]
        wrong = [found for found in client.submit_many(batch) if not isinstance(found, int)]
        assert not wrong, wrong[0]
        accepted += len(batch)


def wait_counter(client: Client, name: str, least: float, limit_s: float = 600.0) -> None:
    begun = time.monotonic()
    while counters(client).get(name, 0) < least:
        if time.monotonic() - begun > limit_s:
            raise SystemExit(f"{name} did not reach {least}: {counters(client).get(name)}")
        time.sleep(0.5)


def counters(client: Client) -> dict[str, Any]:
    return dict(client.call("ctl.diag", {})["counters"])


def full_passes(before: dict[str, Any], after: dict[str, Any]) -> tuple[float, float]:
    """How many ended between the two, and their mean in ms."""
    count = after["sched.full"] - before["sched.full"]
    spent_ms = [of["sched.full"] * of["sched.full_mean_ms"] for of in (before, after)]
    return count, (spent_ms[1] - spent_ms[0]) / max(1, count)


def started_after_ms(client: Client, job: int) -> float:
    """From the submit to the start of a job, as the controller noted both."""
    while True:
        shown = client.call("job.show", {"ids": [str(job)]})["jobs"][0]
        for t, _, new, _ in shown["story"]:
            if new == "CONFIGURING":
                return float(t - shown["t_submit"]) * 1e3
        time.sleep(0.02)


def measure(client: Client, work: str, samples: int, passes: int) -> None:
    """Submit jobs that fit while passes run: `samples` of them, and until `passes` full passes have ended."""
    before = counters(client)
    accepts, jobs = [], []
    t_begin = time.perf_counter()
    while len(jobs) < samples or (len(jobs) < 20 * samples and full_passes(before, counters(client))[0] < passes):
        for _ in range(20):
            begun = time.perf_counter()
            jobs.append(client.submit(SHORT, tasks=1, partition="express", time_limit=5, mem=100, work_dir=work))
            accepts.append((time.perf_counter() - begun) * 1e3)
            time.sleep(0.05)
    took_s = time.perf_counter() - t_begin
    after = counters(client)
    starts = [started_after_ms(client, job) for job in jobs]
    full, full_ms = full_passes(before, after)
    quick = after["sched.cycles"] - before["sched.cycles"]
    print(
        f"{len(jobs)} submits in {took_s:.0f} s: {full:.0f} full passes of {full_ms:.0f} ms ended over "
        f"{after['sched.depth_last']:.0f} entries, {quick:.0f} quick ones, the last of "
        f"{after['sched.cycle_last_ms']:.1f} ms; load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"accept: median {percentile(accepts, 0.5):.1f} ms, p99 {percentile(accepts, 0.99):.1f} ms (bar 50), "
        f"max {max(accepts):.1f} ms"
    )
    print(
        f"submit to start: median {percentile(starts, 0.5):.1f} ms, p99 {percentile(starts, 0.99):.1f} ms (bar 100), "
        f"max {max(starts):.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--passes", type=int, default=5, help="go on until so many full passes have ended")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="helix-bench-") as name:
        cluster = Cluster.at(Path(name) / "cluster")
        configure(cluster, args.nodes)
        begun = time.perf_counter()
        emulator = start_emulator(cluster, args.nodes)
        try:
            with Client(str(cluster.layout.controller_socket)) as client:
                ready_s = time.perf_counter() - begun
                print(f"answers {ready_s:.1f} s after its first start (bar 20); {wait_warm(cluster)}")
                wait_idle(client, args.nodes)
                work = str(cluster.layout.root)
                fill(client, work, args.nodes, args.jobs)
                done = counters(client)["sched.full"]
                wait_counter(client, "sched.full", done + 2)
                measure(client, work, args.samples, args.passes)
                pid = cluster.pid("helixctld")
                assert pid is not None
                print(f"controller {rss_mib(pid):.0f} MiB")
            os.kill(pid, signal.SIGTERM)
            while cluster.pid("helixctld") is not None:
                time.sleep(0.1)
            cluster.start_controller()
            print(f"second start: {wait_warm(cluster)}")
        finally:
            emulator.terminate()
            emulator.wait(30)
            cluster.down()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
