"""Jobs of a QOS with NoReserve: they start when they fit, are never promised a start, and so delay nobody.

The planner promises nothing to a job that begins later, so those of these jobs that cannot start now are planned as if
they began in the next step.  Which those are is asked of the planner itself: could they start now if they were alone,
or beside the promises that are made to the others?  Where one that could is promised a start after all, because others
took its place, the plan is made again without it.  Costs two to four plans in place of one while such jobs wait.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from helix.sched.later_spans import joined_spans, spans_of
from helix.sched.plan import later_of
from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import AheadParams, AheadResult
from helix_native.arrays import Flags

AGAIN_MAX = 4  #: plans made for the sake of these jobs; in the last a promise may stand, for this pass

_Planner = Callable[[Snapshot, AheadParams], AheadResult]


def without_reserving(snapshot: Snapshot, params: AheadParams, plan: _Planner) -> AheadResult:
    """The plan in which no job of `snapshot.no_reserve` is promised a start."""
    own = snapshot.no_reserve
    assert own is not None
    if not own[snapshot.queue.job].any():
        return plan(snapshot, params)
    waits = own & ~_able_now(snapshot, own, params, plan)
    for _ in range(AGAIN_MAX):
        result = plan(_later(snapshot, waits, params.resolution_s), params)
        later = result.start_entry[result.starts :][result.protected[result.starts :]]
        promised = own & _slots(snapshot, snapshot.queue.job[later])
        if not promised.any():
            break
        waits |= promised
    return result


def _able_now(snapshot: Snapshot, own: Flags, params: AheadParams, plan: _Planner) -> Flags:
    """Which of these jobs could start now, if they were alone or beside what is promised to the others.  [J]"""
    mine = own[snapshot.queue.job]
    alone = replace(snapshot.only(mine), kept=None)
    start_only = params._replace(protect=0, predict=False)
    found = plan(alone, start_only)
    able = _slots(snapshot, alone.queue.job[found.start_entry[: found.starts]])
    if mine.all():
        return able
    others = _later(snapshot, own, params.resolution_s)
    result = plan(others, params._replace(predict=False))
    later = later_of(others, result, int(result.ptr[result.starts]))
    later = later.only(later.protected)
    spans = joined_spans((snapshot.spans, spans_of(others, later, later.t_start)))
    found = plan(replace(alone, spans=spans), start_only)
    return able | _slots(snapshot, alone.queue.job[found.start_entry[: found.starts]])


def _slots(snapshot: Snapshot, jobs: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Flags:
    found = np.zeros(len(snapshot.job_id), np.bool_)
    found[jobs] = True
    return found


def _later(snapshot: Snapshot, waits: Flags, step_s: int) -> Snapshot:
    """As if these jobs began in the next step."""
    begin = np.where(waits, np.maximum(snapshot.jobs.t_begin, step_s), snapshot.jobs.t_begin)
    return replace(snapshot, jobs=snapshot.jobs._replace(t_begin=begin))
