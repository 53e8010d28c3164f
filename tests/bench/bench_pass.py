"""What a planning pass costs, on one core (figures 1 and 4).

Run: python tests/bench/bench_pass.py [--quick]; with NUMBA_CACHE_DIR at an empty folder it shows the cold compile
Every pass starts from the tables: nothing is kept from the pass before.  Seconds are of CPU time, the best of three.
For scale a bare compiled loop is timed first: a step function is walked, as the planner does for every row it looks at.
Bars: the full pass at most 2 s and 1 GB; parts of nodes only, or a window that never fills, 3 s; 5,000 requests 4 s;
5,000 jobs on 1,000 nodes 0.1 s; starts after one job ended 30 ms; growth with jobs at most n**1.1.
"""

from __future__ import annotations

import argparse
import math
import resource
import time

import numpy as np

from helix_native import ahead_kernels, samples, synthetic
from helix_native.ahead_arrays import NEVER, AheadParams, AheadResult, SpanArrays
from helix_native.ahead_steps import FAR, earliest
from helix_native.compiling import entry
from helix_native.synthetic import Mix, Tables

FULL = AheadParams(
    protect=-1,
    backfill=True,
    shortest_first=False,
    predict=True,
    compress=False,
    resolution_s=60,
    window_s=7 * 86400,
    starts_max=1_000_000,
    candidates_max=8,
)


@entry
def _walk(pt: object, pr: object, guard: object, need: object, times: int) -> int:
    total = 0
    for i in range(times):
        total += earliest(pt, pr, 0, len(pt), 1, guard, need, i % 64, 32, FAR)  # type: ignore[arg-type]
    return total


def bare_loop_ns() -> float:
    """Nanoseconds for one walk over a step function of 64 entries in which nothing fits before the end."""
    pt = np.arange(64, dtype=np.int32) * 16
    pr = np.where(np.arange(64) % 2, 3, 5).astype(np.int64)
    pr[-1] = 8
    guard, need = np.array([16], np.int64), np.array([6], np.int64)
    _walk(pt, pr, guard, need, 10)
    began = time.process_time()
    _walk(pt, pr, guard, need, 1_000_000)
    return (time.process_time() - began) * 1000


def peak_mib() -> float:
    """The most memory the process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(tables: Tables, params: AheadParams, rounds: int = 3) -> tuple[float, AheadResult]:
    """CPU seconds of the fastest of some equal passes, and the plan."""
    best = math.inf
    for _ in range(rounds):
        began = time.process_time()
        result = ahead_kernels.plan_ahead(*tables, params)
        best = min(best, time.process_time() - began)
    return best, result


def line(name: str, seconds: float, result: AheadResult, bar: str = "") -> None:
    """One line of the table."""
    later = len(result.start_entry) - result.starts
    print(
        f"{name:44} {seconds * 1e3:9.1f} ms   {result.starts:6} now {later:6} later {len(result.row):8} (job, node)"
        f"   peak {peak_mib():5.0f} MiB   {bar}",
        flush=True,
    )


def running_too(tables: Tables, result: AheadResult) -> Tables:
    """The tables with everything that starts now running, and one job on one row ended early."""
    count = int(result.ptr[result.starts])
    each = np.repeat(np.arange(result.starts), np.diff(result.ptr[: result.starts + 1]))
    limit = result.limit_s[each]
    gres = tables.needs.gres[tables.queue.shape[result.start_entry[each]]]
    s, row = tables.spans, result.row[:count]
    spans = SpanArrays(
        row=np.concatenate([s.row, row]),
        pool=np.concatenate([s.pool, np.full(count, -1, np.int32)]),
        t_from=np.concatenate([s.t_from, np.zeros(count, np.int64)]),
        t_to=np.concatenate([s.t_to, np.where(limit > 0, limit, NEVER)]),
        cpus=np.concatenate([s.cpus, result.cpus[:count].astype(np.int64)]),
        mem=np.concatenate([s.mem, result.mem[:count]]),
        gres=np.concatenate([s.gres, gres.astype(np.int32)]),
    )
    spans = SpanArrays(*(column[1:] if len(column) else column for column in spans))
    nodes, rows = tables.nodes, tables.rows
    free = nodes.cpus.astype(np.int64)
    mem, units = nodes.mem.copy(), rows.gres.astype(np.int64)
    np.subtract.at(free, spans.row, spans.cpus)
    np.subtract.at(mem, spans.row, spans.mem)
    np.subtract.at(units, spans.row, spans.gres)
    left = tables.queue.starts.copy()
    left[tables.queue.job[result.start_entry[: result.starts]]] = 0
    return tables._replace(
        nodes=nodes._replace(free_cpus=free.astype(np.int32), free_mem=mem, empty=free == nodes.cpus),
        rows=rows._replace(gres_free=units.astype(np.int32)),
        queue=tables.queue._replace(starts=left),
        spans=spans,
    )


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """The slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def growth(quick: bool) -> None:
    """Pass time over jobs and over nodes."""
    jobs = [1_000, 10_000, 100_000] + ([] if quick else [300_000])
    nodes = [100, 1_000, 10_000] + ([] if quick else [50_000])
    spent = []
    for count in jobs:
        seconds, result = timed(synthetic.random_cluster(10_000, count, 20_000), FULL, 1)
        line(f"10,000 nodes, {count:,} jobs", seconds, result)
        spent.append(seconds)
    print(f"growth with jobs: n**{exponent(jobs, spent):.2f} (at most 1.1)")
    spent = []
    for count in nodes:
        seconds, result = timed(synthetic.random_cluster(count, 100_000, 2 * count), FULL, 1)
        line(f"{count:,} nodes, 100,000 jobs", seconds, result)
        spent.append(seconds)
    print(f"growth with nodes: n**{exponent(nodes, spent):.2f}")


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no more than 100,000 jobs and 10,000 nodes")
    args = parser.parse_args()
    began = time.process_time()
    ahead_kernels.plan_ahead(*samples.smallest_ahead())
    print(f"first call (compile or load): {time.process_time() - began:.1f} s of CPU, {peak_mib():.0f} MiB")
    print(f"bare loop: {bare_loop_ns():.0f} ns a walk over 64 steps")
    seconds, result = timed(synthetic.random_cluster(1_000, 5_000, 2_000), FULL)
    line("1,000 nodes, 5,000 jobs", seconds, result, "at most 100 ms")
    tables = synthetic.random_cluster(10_000, 100_000, 20_000)
    seconds, result = timed(tables, FULL)
    line("10,000 nodes, 100,000 jobs, 1,000 requests", seconds, result, "at most 2,000 ms and 1,024 MiB")
    easy = FULL._replace(protect=0, predict=False)
    full = tables
    for _ in range(3):
        now = ahead_kernels.plan_ahead(*full, easy)
        full = running_too(full, now)
    seconds, result = timed(full, easy)
    line("the same, full, one job ended: what starts now", seconds, result, "at most 30 ms")
    for name, mix, shapes, bar in (
        ("parts of nodes only", Mix(whole=0.0), 1000, "at most 3,000 ms"),
        ("a window that never fills (limits / 4)", Mix(limit_divisor=4), 1000, "at most 3,000 ms"),
        ("5,000 requests", Mix(), 5000, "at most 4,000 ms"),
        ("with parts of several nodes (20 %)", Mix(several=0.2), 1000, ""),
        ("with 100 licences and limits (30 % of jobs)", Mix(limited=0.3, pools=100), 1000, ""),
    ):
        seconds, result = timed(synthetic.random_cluster(10_000, 100_000, 20_000, shapes=shapes, mix=mix), FULL, 2)
        line(name, seconds, result, bar)
    growth(args.quick)


if __name__ == "__main__":
    main()
