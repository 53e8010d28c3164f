"""Jobs that make room for others in a simulation: who runs when, and what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import helix_native
from helixctld.core.reports import REQUEUE_DELAY_S
from helixctld.sim.metrics import table_of
from helixctld.sim.report import page
from helixctld.sim.runs import Run, Wanted, play, read_workload

CONF = """\
ClusterName=tried
HelixctldHost=localhost
SchedulerType=sched/backfill
SelectTypeParameters=CR_Core
{preemption}
SchedulerTimeSlice=30
NodeName=n1 CPUs=4 RealMemory=1000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 {low}
PartitionName=high Nodes=ALL PriorityTier=10
"""
PRIO = "PreemptType=preempt/partition_prio\nPreemptMode="


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    helix_native.use_compiled()


def simulate(tmp_path: Path, preemption: str, jobs: list[tuple[int, int, int, str]], low: str = "") -> Run:
    """`jobs`: submit, run, CPUs, partition."""
    conf = tmp_path / "helix.conf"
    conf.write_text(CONF.format(preemption=preemption, low=low), encoding="utf-8")
    rows: list[dict[str, Any]] = [
        {"job_id": i, "t_submit": 1000 + t, "elapsed_s": run, "time_limit_s": 3600, "tasks": cpus, "partition": part}
        for i, (t, run, cpus, part) in enumerate(jobs, 1)
    ]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    wanted = Wanted(conf=str(conf))
    run = play(read_workload(str(trace), wanted), wanted)
    assert run.outcome.refused == {}
    return run


JOBS = [(0, 1000, 4, "low"), (100, 200, 4, "high"), (150, 50, 2, "low")]


def test_a_requeued_job_loses_its_work_and_runs_again_from_the_beginning(tmp_path: Path) -> None:
    run = simulate(tmp_path, f"{PRIO}REQUEUE", JOBS)
    assert run.outcome.start_s == [300, 100, 1300]
    assert run.outcome.end_s == [1300, 300, 1350]
    told = run.result.preemption
    assert (told["preempted"], told["requeued"], told["cancelled"], told["lost_cpu_s"]) == (1, 1, 0, 400)
    assert run.result.jobs == 3
    assert run.result.utilization == pytest.approx((4000 + 800 + 100) / (4 * 1350))
    assert REQUEUE_DELAY_S < 200  # else it would have begun later


def test_a_cancelled_job_is_gone_and_counts_with_nobody(tmp_path: Path) -> None:
    run = simulate(tmp_path, f"{PRIO}CANCEL", JOBS)
    assert run.outcome.start_s[1:] == [100, 300]
    told = run.result.preemption
    assert (told["cancelled"], told["requeued"], told["lost_cpu_s"]) == (1, 0, 400)
    assert (run.result.jobs, run.result.never_started) == (2, 0)


def test_a_job_that_is_warned_runs_until_its_grace_is_over(tmp_path: Path) -> None:
    run = simulate(tmp_path, f"{PRIO}CANCEL", JOBS, low="GraceTime=30")
    assert run.outcome.start_s[1] == 130
    assert run.result.preemption["lost_cpu_s"] == 4 * 130


def test_a_suspended_job_keeps_what_it_has_left(tmp_path: Path) -> None:
    run = simulate(tmp_path, f"{PRIO}SUSPEND,GANG", JOBS)
    assert run.outcome.start_s == [0, 100, 1200]
    assert run.outcome.end_s == [1200, 300, 1250]
    told = run.result.preemption
    assert (told["suspended"], told["lost_cpu_s"], told["suspended_s"]) == (1, 0, 200)
    assert table_of(run.outcome).pauses.tolist() == [[0, 100, 300]]
    assert run.result.utilization == pytest.approx((4000 + 800 + 100) / (4 * 1250))


def test_jobs_that_share_cpus_take_turns(tmp_path: Path) -> None:
    run = simulate(
        tmp_path, "PreemptMode=SUSPEND,GANG", [(0, 100, 4, "low"), (10, 100, 4, "low")], low="OverSubscribe=FORCE:2"
    )
    assert max(run.outcome.start_s) < 100  # both before either has ended
    assert max(run.outcome.end_s) == 200  # and nothing is idle
    assert run.result.preemption["slices"] >= 4
    assert run.result.preemption["preempted"] == 0


def test_the_same_input_gives_the_same_schedule(tmp_path: Path) -> None:
    jobs = [(i * 7, 40 + 13 * i % 90, 1 + i % 4, "high" if i % 5 == 0 else "low") for i in range(60)]
    once, again = (simulate(tmp_path, f"{PRIO}REQUEUE", jobs) for _ in range(2))
    assert once.result.hash == again.result.hash
    assert "CPU seconds of work lost" in page(once)
    assert once.result.jobs == 60
    assert once.result.preemption["requeued"] > 0


def test_nothing_is_said_of_it_where_nobody_makes_room(tmp_path: Path) -> None:
    run = simulate(tmp_path, "", JOBS)
    assert run.result.preemption == {}
    assert run.outcome.start_s[1] == 1000
