"""Which waiting jobs a pass looks at, and in which order they may overtake.  Pure; numpy over the queue.

The order of candidates is what `AheadParams.shortest_first` goes by; ties are in queue order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix.sched.options import SchedOptions
from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import NEVER
from helix_native.arrays import Flags, Int64

PATIENCE = 10  #: so many seconds of waiting count as much as one second of run time less


def candidate_order(snapshot: Snapshot, options: SchedOptions) -> Int64:
    """By slot; lower overtakes first.

    `easy-sjbf` goes by limits.  `default` goes by the geometric mean of the limit and of what the user's last jobs
    ran, because limits say little where users ask for far more than they use; waiting makes a job count as shorter, so
    that long ones are not passed over without end.  Measured on three public traces, in docs/internals/measurements.md.
    """
    limit = snapshot.jobs.order
    if options.bf_mode != "default":
        return limit
    length = np.sqrt(np.where(limit > 0, limit, NEVER).astype(np.float64) * snapshot.recent_s)
    return (length - snapshot.jobs.waited_s / PATIENCE).astype(np.int64)


def considered(snapshot: Snapshot, options: SchedOptions) -> tuple[Snapshot, dict[str, int]]:
    """The snapshot with the entries that the bf_max_job_* parameters let through, and how many each held back."""
    if not (options.bf_max_job_test or options.bf_max_job_user or options.bf_max_job_part
            or options.bf_max_job_user_part):  # fmt: skip
        return snapshot, {}
    entries = len(snapshot.queue.shape)
    keep = np.ones(entries, np.bool_)
    passed_over: dict[str, int] = {}
    part = snapshot.shapes.part[snapshot.queue.shape].astype(np.int64)
    user = snapshot.user[snapshot.queue.job]
    for name, most, group in (
        ("bf_max_job_part", options.bf_max_job_part, part),
        ("bf_max_job_user", options.bf_max_job_user, user),
        ("bf_max_job_user_part", options.bf_max_job_user_part, user * (1 + int(part.max(initial=0))) + part),
        ("bf_max_job_test", options.bf_max_job_test, np.zeros(entries, np.int64)),
    ):
        if most and entries > most:
            within = keep & (place_in(group, keep) < most)
            passed_over[f"over_{name}"] = int(keep.sum() - within.sum())
            keep = within
    if not passed_over or keep.all():
        return snapshot, passed_over
    kept = snapshot.kept
    if kept is not None:
        place = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
        kept = kept._replace(entry=np.where(kept.entry >= 0, place[kept.entry], -1).astype(np.int32))
    return replace(snapshot.only(keep), kept=kept), passed_over


def place_in(group: Int64, keep: Flags) -> Int64:
    """For each entry, how many of those kept before it are of the same group.  [E]"""
    order = np.argsort(group, kind="stable")
    ones = keep[order].astype(np.int64)
    before = np.cumsum(ones) - ones
    first = np.ones(len(order), np.bool_)
    first[1:] = group[order][1:] != group[order][:-1]
    base = np.maximum.accumulate(np.where(first, before, 0))
    place = np.zeros(len(order), np.int64)
    place[order] = before - base
    return place


def as_usual(snapshot: Snapshot) -> Snapshot:
    """The snapshot as if jobs ran as long as they probably will; nothing is kept or cut."""
    queue, jobs = snapshot.queue, snapshot.jobs
    likely = snapshot.estimate_s[queue.job]
    limit = np.where(likely >= NEVER, 0, likely)
    return replace(
        snapshot,
        queue=queue._replace(limit_s=np.where(queue.limit_s > 0, np.minimum(limit, queue.limit_s), limit)),
        jobs=jobs._replace(limit_min_s=np.zeros_like(jobs.limit_min_s)),
        spans=snapshot.spans._replace(t_to=snapshot.likely),
        kept=None,
        compress=False,
    )
