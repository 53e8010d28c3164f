"""What a scheduling pass costs: a draining array on 4 nodes, and 100,000 pending jobs on 10,000 nodes.

Prints milliseconds for each part of a pass, microseconds a start, and the memory of the process.  `prepare` and
`commit` run on the controller's loop; `plan` runs beside it.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.sched_world import World, node

import helix_native
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions


def rss_mib() -> float:
    """Resident memory now."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Timed:
    """Seconds by name."""

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = {}

    def __call__(self, name: str, began: float) -> float:
        now = time.perf_counter()
        self.samples.setdefault(name, []).append(now - began)
        return now

    def line(self, name: str) -> str:
        values = sorted(self.samples[name])
        return (
            f"{name:24} median {statistics.median(values) * 1e3:9.3f} ms   max {values[-1] * 1e3:9.3f} ms"
            f"   n {len(values)}"
        )


def one_pass(world: World, timed: Timed, tag: str = "") -> int:
    """A pass with its parts timed; how many starts."""
    state, cycle = world.state, world.cycle
    t = time.perf_counter()
    snapshot = cycle.prepare(state, world.now)
    t = timed(tag + "prepare", t)
    plan = cycle.plan(snapshot)
    t = timed(tag + "plan", t)
    accepted, reasons = cycle.commit(plan, state, world.now)
    timed(tag + "commit", t)
    for job_id, reason, text in reasons:
        state.jobs[job_id].reason, state.jobs[job_id].reason_text = reason, text
    world.begin(accepted)
    return len(accepted)


def bench_drain(tasks: int, chunk: int) -> None:
    """`tasks` array tasks on 4 x 64 CPUs; `chunk` of them end before each further pass."""
    world = World([node(f"n{i}", 64, 64_000, sockets=2, cores_per_socket=32) for i in range(4)], check=False)
    world.submit(array=tasks)
    timed = Timed()
    began = time.perf_counter()
    done = starts = 0
    loop_s = 0.0
    while done < tasks:
        starts += one_pass(world, timed)
        running = sorted(world.state.active)
        for job_id in running[:chunk]:
            world.end(world.state.jobs[job_id])
            done += 1
    loop_s = sum(sum(timed.samples[name]) for name in ("prepare", "plan", "commit"))
    print(f"-- array of {tasks} on 4 x 64 CPUs, {chunk} ends a pass ({'numba' if helix_native.is_warm() else 'numpy'})")
    for name in ("prepare", "plan", "commit"):
        print(timed.line(name))
    print(f"scheduling                {loop_s / starts * 1e6:9.1f} us a start, {len(timed.samples['plan'])} passes")
    print(f"with apply of all events  {(time.perf_counter() - began) / starts * 1e6:9.1f} us a start")


def bench_singles(jobs: int, chunk: int) -> None:
    """`jobs` separate one-CPU jobs on 4 x 64 CPUs."""
    world = World([node(f"n{i}", 64, 64_000, sockets=2, cores_per_socket=32) for i in range(4)], check=False)
    for _ in range(jobs):
        world.submit()
    timed = Timed()
    done = starts = 0
    while done < jobs:
        starts += one_pass(world, timed)
        for job_id in sorted(world.state.active)[:chunk]:
            world.end(world.state.jobs[job_id])
            done += 1
    loop_s = sum(sum(timed.samples[name]) for name in ("prepare", "plan", "commit"))
    print(f"-- {jobs} separate jobs on 4 x 64 CPUs, {chunk} ends a pass")
    for name in ("prepare", "plan", "commit"):
        print(timed.line(name))
    print(f"scheduling                {loop_s / starts * 1e6:9.1f} us a start, {len(timed.samples['plan'])} passes")


def bench_large(nodes: int, jobs: int, shapes: int, passes: int) -> None:
    """A full queue: fill the cluster pass by pass, then keep it full while jobs end and arrive."""
    rng = random.Random(1)
    records = [
        node(f"e{i}", 64, 256_000, weight=1 + i % 3, features=["cpu", "fast" if i % 2 else "slow"])
        for i in range(nodes)
    ]
    half = [r.name for r in records]
    parts = [
        PartitionRecord(name="main", nodes=half, is_default=True),
        PartitionRecord(name="long", nodes=half[: nodes // 2], priority_tier=2),
    ]
    world = World(records, partitions=parts, options=SchedOptions(def_mem_per_cpu_mib=1000), check=False)
    kinds = []
    for i in range(shapes):
        kind = {"mem_per_node_mib": 1000 + 7 * i, "partitions": [rng.choice(["main", "main", "long"])]}
        if rng.random() < 0.4:
            kind |= {"nodes_min": (k := rng.choice([1, 2, 4, 8, 50, 200])), "nodes_max": k, "exclusive": True}
        else:
            kind |= {"cpus_per_task": rng.choice([1, 2, 4, 8, 16, 32])}
        if rng.random() < 0.3:
            kind["constraint"] = rng.choice(["fast", "slow", "cpu&fast"])
        kinds.append(kind)
    base = rss_mib()
    t = time.perf_counter()
    for _ in range(jobs):
        world.submit(time_limit_s=rng.choice([600, 3600, 86400]), **rng.choice(kinds))
    print(f"-- {jobs} jobs of {shapes} requests on {nodes} nodes")
    print(f"submit (apply only)       {(time.perf_counter() - t) / jobs * 1e6:9.1f} us a job")
    timed = Timed()
    first = one_pass(world, timed, "first ")
    print(f"first pass: {first} starts, depth {world.cycle.counters.depth_last}")
    for name in ("first prepare", "first plan", "first commit"):
        print(timed.line(name))
    fills = 0
    while one_pass(world, timed, "fill "):
        fills += 1
    for name in ("fill prepare", "fill plan", "fill commit"):
        print(timed.line(name))
    print(f"filled in {fills + 1} passes: {len(world.state.active)} running, {len(world.cycle.columns.queue)} pending")
    starts = 0
    for _ in range(passes):
        for job_id in rng.sample(sorted(world.state.active), 5):
            world.end(world.state.jobs[job_id])
        for _ in range(5):
            world.submit(**rng.choice(kinds))
        starts += one_pass(world, timed, "full ")
    print(f"full queue, 5 ends and 5 submits a pass: {starts} starts in {passes} passes")
    for name in ("full prepare", "full plan", "full commit"):
        print(timed.line(name))
    waiting = world.state.jobs[int(world.cycle.columns.queue.freeze()[1].max())]
    t = time.perf_counter()
    world.why(waiting)
    print(f"job.why                   {(time.perf_counter() - t) * 1e3:9.1f} ms")
    t = time.perf_counter()
    for kind in kinds:
        world.feasibility.check_possible(world.state, world.state.jobs[1].spec.__class__(**kind), kind["partitions"])
    first_s = time.perf_counter() - t
    t = time.perf_counter()
    for kind in kinds:
        world.feasibility.check_possible(world.state, world.state.jobs[1].spec.__class__(**kind), kind["partitions"])
    again_s = time.perf_counter() - t
    print(f"check_possible            {first_s / shapes * 1e6:9.1f} us first, {again_s / shapes * 1e6:.1f} us again")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"memory: {rss_mib():.0f} MiB now, {rss_mib() - base:.0f} MiB more than before the jobs, peak {peak:.0f} MiB")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--shapes", type=int, default=1_000)
    parser.add_argument("--passes", type=int, default=30)
    parser.add_argument("--no-gc", action="store_true", help="switch Python's garbage collector off")
    args = parser.parse_args()
    if args.no_gc:
        gc.disable()
    bench_drain(1000, 16)
    t = time.perf_counter()
    helix_native.warm_up()
    print(f"-- warm-up: {time.perf_counter() - t:.1f} s, {rss_mib():.0f} MiB")
    bench_drain(1000, 4)
    bench_drain(1000, 16)
    bench_drain(1000, 250)
    bench_singles(1000, 16)
    bench_large(args.nodes, args.jobs, args.shapes, args.passes)


if __name__ == "__main__":
    main()
