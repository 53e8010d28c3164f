"""Every job starts at the very second at which the policy's definition starts it."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest
from helpers.plain_schedulers import POLICIES
from helpers.swf_traces import random_jobs, write_swf

import helix_native
from helixctld.sim.runs import Run, Wanted, play, read_workload

TRACES = Path(__file__).parents[4] / "shared" / "traces"
SHARED = {
    "KTH-SP2-1996-2": "KTH-SP2-1996-2.swf.gz",
    "SDSC-SP2-1998-4.2-cln": "SDSC-SP2-1998-4.2-cln.pyss.swf.gz",
    "CEA-Curie-2011-2.1-cln": "CEA-Curie-2011-2.1-cln.pyss.swf.gz",
}
SHARED_JOBS = 1200


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    helix_native.use_compiled()


def run_trace(path: Path, policy: str, **fields: int) -> Run:
    wanted = Wanted(policy=policy, **fields)
    return play(read_workload(str(path), wanted), wanted)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("seed", "processors"), [(1, 8), (2, 24), (3, 100), (4, 50_000)])
def test_random_workloads_start_as_defined(tmp_path: Path, policy: str, seed: int, processors: int) -> None:
    jobs = random_jobs(seed, 250, processors)
    trace = write_swf(tmp_path / "trace.swf", jobs, processors)
    run = run_trace(trace, policy)
    assert run.outcome.start_s == POLICIES[policy](processors, jobs).run()


def test_conservative_reservations_move_when_jobs_end_at_their_limits(tmp_path: Path) -> None:
    """At second 2 the first job ends early; the second and the fourth move there, the third looks before the fourth has
    left its place.  At second 3 those two end at their limits: the third is not to wait while the machine is idle."""
    jobs = [(0, 2, 3, 3), (0, 1, 1, 2), (0, 2, 2, 4), (1, 1, 1, 2)]
    run = run_trace(write_swf(tmp_path / "trace.swf", jobs, 4), "conservative")
    assert run.outcome.start_s == [0, 2, 3, 2]
    assert POLICIES["conservative"](4, jobs).run() == [0, 2, 3, 2]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", SHARED)
def test_the_beginning_of_a_real_trace_starts_as_the_reference_schedule(name: str, policy: str) -> None:
    """Only jobs that no later job could have delayed or overtaken: those that had started when the last one came."""
    trace = TRACES / SHARED[name]
    reference = TRACES / "reference" / f"{name}.{policy}.csv.gz"
    if not trace.exists() or not reference.exists():
        pytest.skip("the shared traces are not here")
    run = run_trace(trace, policy, limit=SHARED_JOBS)
    with gzip.open(reference, "rt", encoding="utf-8") as stream:
        starts = {int(row["job_id"]): int(row["start"]) for row in csv.DictReader(stream)}
    last = run.workload.jobs[-1].submit_s
    compared = 0
    for job, start in zip(run.workload.jobs, run.outcome.start_s, strict=True):
        if starts[job.number] < last:
            assert start == starts[job.number], job.number
            compared += 1
    assert compared > SHARED_JOBS // 2
