"""The planner's columns, kept incrementally, are those made afresh; kept reservations never move later."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers.sched_world import World, node
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helix.model import events as ev
from helix.model.job_state import JobState
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helix.sched.snapshot import Snapshot
from helix_plugins.sched.backfill import Backfill
from helixctld.schedule.columns import Columns
from helixctld.schedule.wiring import sources_of

MOVES = ("submit", "array", "pass", "end", "hold", "release", "priority", "suspend", "resume", "limit", "drain", "wait")
move = st.tuples(st.sampled_from(MOVES), st.integers(0, 10**6))


def world(mode: str) -> World:
    nodes = [node("n1", 4), node("n2", 4, weight=2), node("n3", 8)]
    parts = [
        PartitionRecord(name="main", nodes=["n1", "n2", "n3"], is_default=True),
        PartitionRecord(name="high", nodes=["n2", "n3"], priority_tier=5, max_cpus_per_node=3),
    ]
    options = SchedOptions(def_mem_per_cpu_mib=10, bf_mode=mode)
    w = World(nodes, partitions=parts, options=options, planner=Backfill())
    w.state.set_licences({"a": 2, "b": 1})
    return w


def act(w: World, word: str, number: int) -> None:
    """One move; those that make no sense now change nothing."""
    state, t = w.state, w.now
    waiting = [j for j in state.jobs.values() if j.is_waiting]
    active = [j for j in state.jobs.values() if j.is_active and j.state is not JobState.COMPLETING]
    job = (waiting or [None])[number % max(1, len(waiting))]
    runs = (active or [None])[number % max(1, len(active))]
    match word:
        case "submit":
            w.submit(
                cpus_per_task=1 + number % 4,
                nodes_min=1 + number % 3,
                time_limit_s=[600, 3600, 0, 7200][number % 4],
                partitions=[["main"], ["high", "main"], []][number % 3],
                licenses=["", "a", "b:1", "a:2"][number // 7 % 4],
                exclusive=number % 11 == 0,
                name=f"x{number % 3}",
            )
        case "array":
            w.submit(array=1 + number % 5, time_limit_s=600)
        case "pass":
            w.run()
        case "wait":
            w.now += number % 5000
        case "end" if runs is not None:
            w.end(runs, [JobState.COMPLETED, JobState.FAILED, JobState.PENDING][number % 3])
        case "hold" if job is not None:
            w.do(ev.JobHeld(t=t, job_id=job.job_id))
        case "release" if job is not None:
            w.do(ev.JobReleased(t=t, job_id=job.job_id))
        case "priority" if job is not None and not job.is_array:
            w.do(ev.JobUpdated(t=t, job_id=job.job_id, spec=job.spec, priority=1 + number))
        case "suspend" if runs is not None:
            if runs.state is JobState.CONFIGURING:
                w.do(ev.JobLaunched(t=t, job_id=runs.job_id, attempt=runs.attempt, t_start=t))
            w.do(ev.JobSuspended(t=t, job_id=runs.job_id))
        case "resume" if runs is not None:
            w.do(ev.JobResumed(t=t, job_id=runs.job_id))
        case "limit" if runs is not None:
            w.do(ev.JobUpdated(t=t, job_id=runs.job_id, spec=runs.spec, time_limit_s=60 * (number % 200)))
        case "drain":
            w.update_node(f"n{1 + number % 3}", drain=number % 2 == 0, reason="test")


def picture(snapshot: Snapshot, columns: Columns) -> dict[str, Any]:
    """What does not depend on which slots and rows happened to be given out."""
    queue, jobs, pools = snapshot.queue, snapshot.jobs, columns.pools
    entries = []
    for shape, slot, limit in zip(queue.shape.tolist(), queue.job.tolist(), queue.limit_s.tolist(), strict=True):
        at = slice(int(jobs.pool_at[slot]), int(jobs.pool_at[slot]) + int(jobs.pool_n[slot]))
        wants = {pools.keys[k]: n for k, n in zip(jobs.pool[at].tolist(), jobs.amount[at].tolist(), strict=True)}
        numbers = [getattr(jobs, name)[slot].item() for name in ("limit_min_s", "t_deadline", "waited_s", "order")]
        part = snapshot.partitions[int(snapshot.shapes.part[shape])]
        where = (int(snapshot.job_id[slot]), int(queue.starts[slot]), part, limit, columns.shapes.requests[shape])
        entries.append((where, wants, numbers, snapshot.tables.elig[snapshot.shapes.elig[shape]].tolist()))
    spans = snapshot.spans
    names = [(pools.keys[k] if k >= 0 else None) for k in spans.pool.tolist()]
    taken = [(str(name), *(column[i].tolist() for column in (spans.row, spans.t_from, spans.t_to, spans.cpus, spans.mem,
                                                         spans.room))) for i, name in enumerate(names)]  # fmt: skip
    used = {key: (columns.pools.left(k), snapshot.pools.total[k].item()) for k, key in enumerate(pools.keys)}
    held = {str(key) for key in names if key} | {str(key) for _, wants, *_ in entries for key in wants}
    return {
        "nodes": {name: column.tolist() for name, column in snapshot.nodes._asdict().items()},
        "entries": entries,
        "spans": sorted(taken),
        "pools": {str(key): value for key, value in used.items() if str(key) in held},
        "room": snapshot.tables.room.tolist(),
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(move, max_size=40), st.sampled_from(["default", "conservative"]))
@example([("submit", 0), ("pass", 0), ("end", 152)], "default")  # ran and was requeued between two looks
def test_incremental_columns_equal_fresh_ones(moves: list[tuple[str, int]], mode: str) -> None:
    w = world(mode)
    for word, number in moves:
        act(w, word, number)
    columns = w.cycle.columns
    columns.update(w.state)
    fresh = Columns(w.options, w.cycle.select.request, sources_of(w.state))
    fresh.update(w.state)
    assert picture(columns.freeze(w.now), columns) == picture(fresh.freeze(w.now), fresh)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["submit", "pass", "end", "priority", "wait"]), st.integers(0, 10**6)), max_size=40
    )
)
def test_promises_of_conservative_mode_never_move_later(moves: list[tuple[str, int]]) -> None:
    """Whatever comes, however important; limits and nodes stay as they are."""
    w = world("conservative")
    promised: dict[int, float] = {}
    for word, number in moves:
        if word == "submit":
            w.submit(cpus_per_task=1 + number % 4, nodes_min=1 + number % 3, time_limit_s=[600, 3600, 7200][number % 3])
        elif word == "wait":
            w.now += number % 300
        elif word == "end":
            runs = [j for j in w.state.jobs.values() if j.is_active]
            if runs:
                w.end(runs[number % len(runs)])
        elif word == "priority":
            act(w, word, number)
            waiting = [j for j in w.state.jobs.values() if j.is_waiting]
            if waiting:  # a changed job is planned anew
                promised.pop(waiting[number % len(waiting)].job_id, None)
        over = [j for j in w.state.jobs.values() if j.is_active and w.now >= j.t_start + j.time_limit_s]
        for job in over:  # limits are kept
            w.end(job, JobState.TIMEOUT)
        for _ in range(3):
            w.run()
        for job in w.state.jobs.values():
            if not job.is_waiting:
                if job.job_id in promised and job.t_start:
                    assert job.t_start <= promised[job.job_id] + 1
                promised.pop(job.job_id, None)
                continue
            found = w.cycle.expectation(job.job_id)
            if found is None:
                continue
            before = promised.get(job.job_id, np.inf)
            assert found.t_expected <= before, (job.job_id, found.t_expected - before)
            promised[job.job_id] = found.t_expected
