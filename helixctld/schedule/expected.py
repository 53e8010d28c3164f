"""When a waiting job is expected to start, and who has what it waits for: the part of job.why that looks ahead."""

from __future__ import annotations

from typing import Any

import numpy as np

from helix.hostlist import format_hostlist
from helix.model.job import JobRecord
from helix.model.job_state import Reason
from helixctld.core.state import State
from helixctld.core.views import end_time
from helixctld.schedule.columns import Columns
from helixctld.schedule.outlook import Expectation, Outlook
from helixctld.schedule.reserved_words import start_with_reservation

SHOWN = 5  #: jobs named


def expected(state: State, job: JobRecord, columns: Columns, outlook: Outlook | None) -> dict[str, Any]:
    """`t_expected` (0 = not known), `expected_range`, `protected`, `sched_nodes`; `waits_for`: running jobs on those
    nodes, the last to end first; `promised`: jobs ahead of it that are promised a start."""
    found: dict[str, Any] = {
        "t_expected": 0.0,
        "expected_range": [],
        "protected": False,
        "sched_nodes": "",
        "waits_for": [],
        "promised": [],
    }
    slot = columns.queue.slot_of.get(job.job_id)
    if slot is None and (by_clock := start_by_clock(state, job.job_id)) is not None:
        span = [by_clock.t_early, by_clock.t_late]
        found.update(t_expected=by_clock.t_expected, expected_range=span, sched_nodes=format_hostlist(by_clock.nodes))
    if outlook is None or slot is None:
        return found
    found["promised"] = _promised(state, job, columns, outlook)
    foreseen = outlook.of(slot, columns.queue.generation_of(slot))
    if foreseen is None:
        return found
    found.update(
        t_expected=foreseen.t_expected,
        expected_range=[foreseen.t_early, foreseen.t_late],
        protected=foreseen.protected,
        sched_nodes=format_hostlist(foreseen.nodes),
        waits_for=_holders(state, foreseen),
    )
    return found


def start_by_clock(state: State, job_id: int) -> Expectation | None:
    """What to expect of a job that waits for its begin time, or for its reservation to begin; None for any other."""
    job = state.jobs.get(job_id)
    if job is None or job.reason is not Reason.BEGIN_TIME:
        return start_with_reservation(state, job_id)
    t = job.spec.t_begin
    return Expectation(t, t, t, False, job.t_submit, "", list)


def _holders(state: State, foreseen: Expectation) -> list[dict[str, Any]]:
    """Running jobs on the nodes where the job is expected to start, that will be over by then."""
    nodes_of: dict[int, int] = {}
    for name in foreseen.nodes:
        node = state.nodes.get(name)
        for job_id in node.jobs if node is not None else ():
            nodes_of[job_id] = nodes_of.get(job_id, 0) + 1
    holders: list[dict[str, Any]] = []
    for job_id, count in nodes_of.items():
        other = state.jobs[job_id]
        t_end = end_time(other)
        if t_end and t_end <= foreseen.t_late + 1:
            user = other.user or str(other.uid)
            holders.append({"id": other.display_id, "user": user, "nodes": count, "t_end": t_end})
    holders.sort(key=lambda holder: (-holder["t_end"], holder["id"]))
    return holders[:SHOWN]


def _promised(state: State, job: JobRecord, columns: Columns, outlook: Outlook) -> list[dict[str, Any]]:
    """Jobs that are tried before this one and are promised a start."""
    later, snapshot, queue = outlook.later, outlook.snapshot, columns.queue
    if later is None or snapshot is None:
        return []
    ahead = queue.ahead_slots(job)
    promised = np.flatnonzero(later.protected & queue.present(later.slot, snapshot.generation[later.slot]))
    found = []
    for place in promised[np.argsort(later.t_start[promised], kind="stable")].tolist():
        slot = int(later.slot[place])
        other = state.jobs.get(int(snapshot.job_id[slot]))
        if other is None or slot >= len(ahead) or not ahead[slot]:
            continue
        foreseen = outlook.of(slot, int(snapshot.generation[slot]))
        if foreseen is not None:
            user = other.user or str(other.uid)
            t, nodes = foreseen.t_expected, format_hostlist(foreseen.nodes)
            found.append({"id": other.display_id, "user": user, "t_start": t, "nodes": nodes})
        if len(found) == SHOWN:
            break
    return found
