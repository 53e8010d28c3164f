"""Choosing victims is done on the controller's loop: what it costs is bounded however many jobs nodes have."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from helix.sched import victims
from helix.sched.preempt import Need, Place, Share, Victim, tasks_on


@pytest.mark.parametrize("tasks", [7, 11, 16])
def test_many_nodes_with_many_jobs_each(tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 nodes with 10 jobs each: not every subset of the ten is tried on all of them."""
    places = [
        Place(index=i, cpus=16, width=1, mem_mib=9000, free_cores=0b111111 << 10, free_mem_mib=9000) for i in range(128)
    ]
    jobs = [Victim(10 * i + k + 1, 1000 + i + 7 * k, {i: Share(1 << k, 0)}) for i in range(128) for k in range(10)]
    looks = 0

    def counted(need: Need, place: Place, shares: Iterable[Share]) -> int:
        nonlocal looks
        looks += 1
        return tasks_on(need, place, shares)

    monkeypatch.setattr(victims, "tasks_on", counted)
    choice = victims.choose(Need(task_lo=tasks, task_hi=tasks), places, jobs)
    assert choice is not None
    assert choice.victims == list(range(1, tasks - 5))
    assert looks < 20 * 128
