"""`sched/backfill`: jobs start in priority order; others overtake where that delays nobody who was promised a start.

`bf_mode` says what is promised.  `easy`: a start to the first `bf_protected` jobs that wait, made anew in each pass;
`easy-sjbf`: the same, and the shortest limits overtake first; `conservative`: to every job, and it only moves earlier;
`replan`: to every job, all thrown away in each pass, as Slurm does.  `default`: as `easy-sjbf`, but a job that has
waited long overtakes before those that are merely short (`helix.sched.candidates`).

A pass is quick or full.  A quick pass starts what can start now; a full pass also finds an expected start for every
job.  Which it is, and what was promised before, comes with the snapshot.
"""

from __future__ import annotations

import numpy as np

from helix.sched import alike, fitting, one_row
from helix.sched.alike import first_alike, must_see_all
from helix.sched.candidates import as_usual, candidate_order, considered
from helix.sched.fitting import able_shapes, narrowed, promised_rightly
from helix.sched.no_reserve import without_reserving
from helix.sched.options import SchedOptions
from helix.sched.plan import Plan, plan_of_ahead
from helix.sched.since import promises_stand, to_look_at
from helix.sched.snapshot import Snapshot, no_kept
from helix_native import kernels
from helix_native.ahead_arrays import AheadParams, AheadResult
from helix_native.arrays import Int64

_ALL_PROMISED = ("conservative", "replan")


class Backfill:
    """The planner.  Stateless: what lives between passes is in the snapshot."""

    def plan(self, snapshot: Snapshot, options: SchedOptions, now: float, rng: np.random.Generator) -> Plan:
        """One pass over the whole queue, at most `options.starts_max` starts."""
        seen, passed_over = considered(snapshot, options)
        order = candidate_order(seen, options)
        quick = not snapshot.full and options.bf_mode not in _ALL_PROMISED and not passed_over
        if quick and (plan := _quick(seen, options, order)) is not None:
            return plan
        keep = snapshot.full or options.bf_mode == "conservative" or snapshot.depth > alike.FEW
        plan = plan_of_ahead(seen, _run(seen, options, order), full=snapshot.full, keep=keep)
        plan.counters.update(passed_over)
        if snapshot.full and bool((snapshot.likely < snapshot.spans.t_to).any()):
            expected = _run(as_usual(seen), options, order).expected
            plan.early = np.maximum(expected, options.bf_resolution_s)  # what could start now does
        return plan


def _quick(snapshot: Snapshot, options: SchedOptions, order: Int64) -> Plan | None:
    """What can start now, without looking at what surely cannot; None = that is not known before all are looked at."""
    if snapshot.depth > one_row.FEW and one_row.is_plain(snapshot):
        return _on_one_row(snapshot, options, order)
    if snapshot.depth <= min(alike.FEW, fitting.FEW) and snapshot.past is None:
        return None
    able = able_shapes(snapshot)
    entries = to_look_at(snapshot, able)
    if entries is not None and snapshot.past is not None:
        few = snapshot.only(entries)
        plan = plan_of_ahead(few, _run(few, options, order), full=False, keep=True)
        if promises_stand(plan, snapshot.past, options.bf_resolution_s):
            plan.counters.update(depth=snapshot.depth, not_reached=0)
            return plan
    promises = max(0, options.bf_protected)
    for heads in (fitting.HEADS, 32 * fitting.HEADS):
        what = narrowed(snapshot, able, promises, heads)
        few = snapshot.only(what.keep)
        found = _first_alike(few, options, order)
        if found is None:
            found = plan_of_ahead(few, _run(few, options, order), full=False)
        if promised_rightly(snapshot, found, what, promises):
            found.counters.update(depth=snapshot.depth, not_reached=0)
            return found
    return _first_alike(snapshot, options, order)


def _on_one_row(snapshot: Snapshot, options: SchedOptions, order: Int64) -> Plan:
    """`_quick` of a plain snapshot."""
    promises = max(0, options.bf_protected)
    able = one_row.that_may_start(snapshot, promises)
    keep, groups = one_row.first_alike(snapshot, able, promises, order if options.bf_mode == "default" else None)
    few = snapshot if keep.all() else snapshot.only(keep)
    result = _run(few, options, order)
    if any(must_see_all(result, whose) for whose in groups):
        few = snapshot if able.all() else snapshot.only(able)
        result = _run(few, options, order)
    plan = plan_of_ahead(few, result, full=False, keep=False)
    plan.counters.update(depth=snapshot.depth)
    return plan


def _first_alike(snapshot: Snapshot, options: SchedOptions, order: Int64) -> Plan | None:
    """A plan made with a few of the entries that are alike; None = all of them must be looked at."""
    few, groups = first_alike(snapshot, max(0, options.bf_protected))
    if groups is None:
        return None
    result = _run(few, options, order)
    if must_see_all(result, groups):
        return None
    plan = plan_of_ahead(few, result, full=False)
    plan.counters.update(depth=snapshot.depth, not_reached=0)
    return plan


def _run(snapshot: Snapshot, options: SchedOptions, order: Int64) -> AheadResult:
    params = params_of(snapshot, options)
    if snapshot.no_reserve is None:
        return _kernel(snapshot, params, order)
    return without_reserving(snapshot, params, lambda changed, how: _kernel(changed, how, order))


def _kernel(snapshot: Snapshot, params: AheadParams, order: Int64) -> AheadResult:
    return kernels().plan_ahead(
        snapshot.nodes,
        snapshot.shapes,
        snapshot.tables,
        snapshot.queue,
        snapshot.rows,
        snapshot.needs,
        snapshot.extra,
        snapshot.jobs._replace(order=order),
        snapshot.pools,
        snapshot.spans,
        snapshot.kept or no_kept(len(snapshot.job_id)),
        params,
    )


def params_of(snapshot: Snapshot, options: SchedOptions) -> AheadParams:
    """What the mode means to the kernel."""
    all_promised = options.bf_mode in _ALL_PROMISED
    return AheadParams(
        protect=-1 if all_promised else max(0, options.bf_protected),
        backfill=True,
        shortest_first=options.bf_mode in ("default", "easy-sjbf"),
        predict=snapshot.full,
        compress=snapshot.compress,
        resolution_s=options.bf_resolution_s,
        window_s=options.bf_window_s,
        starts_max=max(1, options.starts_max),
        candidates_max=options.bf_candidates,
    )
