"""hsim on real traces: every start against a reference schedule, the speed, and the quality of the default policy.

    python tests/bench/bench_sim.py [--traces DIR] [--only NAME] [--policies fcfs,easy,...]
                                    [--shaken RUNS [--from-seed N]]

DIR holds TRACE*.swf.gz and reference/TRACE.POLICY.csv.gz (job_id, submit, start, end); without it nothing is measured.
`--shaken RUNS` instead replays each trace RUNS times, submits moved by up to 60 s, under default, easy and easy-sjbf,
and prints each and the means.  Times are of this process's CPU.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import time
from pathlib import Path

import helix_native
from helixctld.sim.metrics import Result
from helixctld.sim.runs import Run, Wanted, play, read_workload

TRACES = ("KTH-SP2-1996-2", "SDSC-SP2-1998-4.2-cln", "CEA-Curie-2011-2.1-cln")
POLICIES = "fcfs,easy,easy-sjbf,conservative"
QUALITY = ("default", "easy", "easy-sjbf")


def replay(trace: Path, wanted: Wanted) -> tuple[Run, float]:
    began = time.process_time()
    run = play(read_workload(str(trace), wanted), wanted)
    return run, time.process_time() - began


def differing(run: Run, reference: Path) -> int:
    """Jobs whose start is not that of the reference schedule."""
    with gzip.open(reference, "rt", encoding="ascii") as stream:
        starts = {int(row["job_id"]): int(row["start"]) for row in csv.DictReader(stream)}
    pairs = zip(run.workload.jobs, run.outcome.start_s, strict=True)
    return sum(starts.get(job.number) != start for job, start in pairs)


def exact(trace: Path, name: str, policies: list[str]) -> None:
    for policy in policies:
        reference = trace.parent / "reference" / f"{name}.{policy}.csv.gz"
        if reference.exists():
            run, cpu_s = replay(trace, Wanted(policy=policy))
            jobs = run.result.jobs
            print(
                f"{name} {policy}: {differing(run, reference)} of {jobs} starts differ; {cpu_s:.1f} s, "
                f"{cpu_s / jobs * 1e6:.0f} us a job, {jobs / cpu_s * 60:.0f} jobs/min",
                flush=True,
            )


def quality(trace: Path, name: str, seeds: range) -> None:
    """Each replay as it ends, then the means over the seeds."""
    found: dict[str, list[Result]] = {policy: [] for policy in QUALITY}
    for seed in seeds:
        for policy in QUALITY:
            run, cpu_s = replay(trace, Wanted(policy=policy, shake_s=60, seed=seed))
            found[policy].append(run.result)
            print(f"{name} {policy} seed {seed}: {means([run.result])} ({cpu_s:.1f} s)", flush=True)
    for policy, results in found.items():
        print(f"{name} {policy}: {means(results)} (mean of {len(seeds)} runs)", flush=True)


def means(results: list[Result]) -> str:
    slowdown, wait, longest = (
        sum(getattr(result, field) for result in results) / len(results)
        for field in ("mean_bounded_slowdown", "mean_wait_s", "max_wait_s")
    )
    return f"slowdown {slowdown:.3f}, wait {wait:.1f} s, longest {longest:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "traces")
    parser.add_argument("--only", default="")
    parser.add_argument("--policies", default=POLICIES)
    parser.add_argument("--shaken", type=int, default=0)
    parser.add_argument("--from-seed", type=int, default=0)
    args = parser.parse_args()
    helix_native.use_compiled()
    for name in TRACES:
        found = sorted(args.traces.glob(f"{name}*.swf.gz")) if args.only in name else []
        if not found:
            continue
        if args.shaken:
            quality(found[0], name, range(args.from_seed, args.from_seed + args.shaken))
        else:
            exact(found[0], name, args.policies.split(","))


if __name__ == "__main__":
    main()
