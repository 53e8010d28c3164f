"""On one row of CPUs a quick pass leaves out what cannot start and most of what is alike; the schedule is the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from helpers.swf_traces import write_swf

import helix.sched.one_row
import helix_native
import helixctld.sim.runs as runs
from helixctld.sim.machine import machine_of_pool


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    helix_native.use_compiled()


@pytest.mark.parametrize("policy", ["easy", "easy-sjbf", "default", "fcfs", "replan"])
@pytest.mark.parametrize("seed", range(3))
def test_the_schedule_is_that_of_whole_passes(
    policy: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    t, jobs = 0, []
    for _ in range(400):  # more than the machine can do, of few kinds: hundreds wait, many alike
        t += rng.choice([0, 0, 5, 40])
        limit = rng.choice([50, 400, 3000])
        jobs.append((t, rng.choice([limit, rng.randint(1, limit)]), limit, rng.choice([1, 1, 2, 4, 11, 16])))
    trace = write_swf(tmp_path / "trace.swf", jobs, 16)
    wanted = runs.Wanted(policy=policy)
    starts = []
    for few, enough, skips in ((0, 1, True), (0, 4, True), (10**9, 4, False)):
        monkeypatch.setattr(helix.sched.one_row, "FEW", few)
        monkeypatch.setattr(helix.sched.one_row, "ENOUGH", enough)

        def machine(*args: object, skips: bool = skips) -> object:
            made = machine_of_pool(*args)  # type: ignore[arg-type]
            made.is_hopeless_when_full &= skips
            return made

        monkeypatch.setattr(runs, "machine_of_pool", machine)
        run = runs.play(runs.read_workload(str(trace), wanted), wanted)
        starts.append((run.outcome.start_s, run.outcome.backfilled))
    assert starts[0] == starts[1] == starts[2]
    assert run.result.max_wait_s > 3000
