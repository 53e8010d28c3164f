"""When could one request start, given what runs, what is promised, and what is foreseen for the jobs ahead of it?

Plans that one job against the profile of the last full pass, with the planner's own kernel, so that an answer is what a
pass would do.  "Now" goes by running jobs and promises: that is what a job may overtake by.  "When" goes by what is
foreseen for every job ahead of it.  Cost: loading the profile, about 1 ms a thousand spans, and a search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from helix.hostlist import format_hostlist
from helix.model.job import JobRecord
from helix.sched.later_spans import joined_spans, spans_of
from helix.sched.options import SchedOptions
from helix.sched.snapshot import Snapshot, no_kept
from helix_native import kernels
from helix_native.ahead_arrays import (
    NEVER,
    AheadParams,
    AheadResult,
    AheadTables,
    JobArrays,
    NeedArrays,
    SpanArrays,
)
from helix_native.arrays import Flags, Int32, QueueArrays, ShapeArrays, TableArrays
from helixctld.core.state import State
from helixctld.schedule.columns import Columns
from helixctld.schedule.outlook import Outlook


@dataclass(frozen=True, slots=True)
class Found:
    """A start.  `wait_s` seconds from now, 0 = at once."""

    wait_s: int
    limit_s: int  # that it would have, 0 = unlimited
    nodes: tuple[str, ...]
    cpus: int

    @property
    def where(self) -> str:
        """The nodes as a host list."""
        return format_hostlist(self.nodes)


#: runs a plan, perhaps while the caller's thread lets others change state and columns
Beside = Callable[[Callable[[], Any]], Any]


class Changed(Exception):
    """Nodes, partitions or pools were numbered anew while a plan was made: the question is to be asked again."""


def at_once(plan: Callable[[], Any]) -> Any:
    """A `Beside` that lets nobody in between."""
    return plan()


class Forecast:
    """Answers about one job at one moment."""

    def __init__(
        self,
        state: State,
        columns: Columns,
        outlook: Outlook,
        options: SchedOptions,
        job: JobRecord,
        now: float,
        beside: Beside = at_once,
    ) -> None:
        """`job`: in the queue, or a record for a request that is not (job id 0).  `now`: epoch seconds."""
        columns.take_running(state)
        self._beside = beside
        self._made_for = _numbers(columns)
        self._shapes: dict[int, tuple[ShapeArrays, TableArrays, NeedArrays, AheadTables, list[int]]] = {}
        self.columns = columns
        self.options = options
        self.now = now
        pool_at, pool_n = columns.pools.wanted(state, job)
        pools, pool, amount = columns.pools.freeze()
        self.nodes, self.rows = columns.rows.freeze(columns.nodes.freeze(), now)
        waited = max(0.0, now - (job.t_eligible or now))
        self.jobs = JobArrays(
            limit_min_s=np.zeros(1, np.int64),
            t_deadline=np.full(1, int(job.spec.t_deadline - now) if job.spec.t_deadline else NEVER, np.int64),
            t_begin=np.full(1, max(0, int(job.spec.t_begin - now)), np.int64),
            waited_s=np.full(1, int(waited), np.int64),
            order=np.zeros(1, np.int64),
            pool_at=np.full(1, pool_at, np.int32),
            pool_n=np.full(1, pool_n, np.int32),
            pool=pool,
            amount=amount,
        )
        running = columns.spans.freeze(now, columns.shapes.freeze()[1].part_room)
        self.pools, self._running = columns.with_licences(now, pools, running)
        self._outlook = outlook
        slot = columns.queue.slot_of.get(job.job_id, -1)
        self._own = slot
        self._ahead = columns.queue.ahead_slots(job)
        self._spans: dict[bool, list[SpanArrays]] = {}

    def _tables(self, *, all_ahead: bool) -> list[SpanArrays]:
        """What is taken: by running jobs and promises, or also by what is foreseen for the jobs ahead."""
        if all_ahead not in self._spans:
            later = later_spans(self._outlook, self.columns, self.now, self._own, self._ahead if all_ahead else None)
            self._spans[all_ahead] = [self._running] if later is None else [self._running, later]
        return self._spans[all_ahead]

    def start(
        self,
        row: int,
        limit_s: int,
        *,
        all_ahead: bool = False,
        now_only: bool = False,
        tables: TableArrays | None = None,
        gres: Any = None,
        least_s: int = 0,
        **changes: Any,
    ) -> Found | None:
        """The earliest start of the request at head `row` with this limit; None if there is none (now, or in the
        window).  `tables`: in place of the columns'; `gres`, `changes`: columns of the request's shape to change;
        `least_s`: the limit may be cut down to this, and is then as long as the nodes stay free."""
        columns = self.columns
        shapes, own_tables, needs, extra, heads = self.hold(row)
        if changes:
            shapes = _changed(shapes, row, changes)
        if gres is not None:
            needs = NeedArrays._make([_with(needs.gres, row, gres), *needs[1:]])
        count = len(heads)
        jobs = self.jobs._replace(limit_min_s=np.full(1, least_s, np.int64))
        queue = QueueArrays(
            shape=np.array(heads, np.int32),
            job=np.zeros(count, np.int32),
            limit_s=np.full(count, limit_s, np.int64),
            starts=np.ones(1, np.int32),
        )
        params = AheadParams(
            protect=0 if now_only else 1,
            backfill=True,
            shortest_first=False,
            predict=not now_only,
            compress=False,
            resolution_s=self.options.bf_resolution_s,
            window_s=self.options.bf_window_s,
            starts_max=1,
            candidates_max=self.options.bf_candidates,
        )
        taken = self._tables(all_ahead=all_ahead)

        def plan() -> AheadResult:  # reads nothing but what was put together above
            if len(taken) > 1:
                taken[:] = [joined_spans(taken)]
            nodes, rows, none = self.nodes, self.rows, no_kept(1)
            return kernels().plan_ahead(
                nodes, shapes, tables or own_tables, queue, rows, needs, extra, jobs, self.pools, taken[0], none, params
            )

        result: AheadResult = self._beside(plan)
        if _numbers(columns) != self._made_for:
            raise Changed
        if not len(result.start_entry):
            return None
        shares = slice(int(result.ptr[0]), int(result.ptr[1]))
        hosts = np.unique(self.rows.host[result.row[shares]]).tolist()
        return Found(
            wait_s=int(result.t_start[0]),
            limit_s=int(result.limit_s[0]),
            nodes=tuple(columns.nodes.names[i] for i in hosts),
            cpus=int(result.cpus[shares].sum()),
        )

    def hold(self, row: int) -> tuple[ShapeArrays, TableArrays, NeedArrays, AheadTables, list[int]]:
        """The tables that plans of head `row` are made with: as they are at the first call for it."""
        if row not in self._shapes:
            shapes = self.columns.shapes
            self._shapes[row] = (*shapes.freeze(), *shapes.freeze_needs(self.rows.host), shapes.heads(row))
        return self._shapes[row]


def _numbers(columns: Columns) -> tuple[object, ...]:
    """Another value when rows, shapes or pools are others than before."""
    return columns.cluster_version, columns.pools.epoch, columns.rows.count


def later_spans(outlook: Outlook, columns: Columns, now: float, own: int, only: Flags | None) -> SpanArrays | None:
    """Starts to come as spans: the promised ones, or those of the slots in `only`; never slot `own`."""
    later, snapshot = outlook.later, outlook.snapshot
    if later is None or snapshot is None or not len(later.slot):
        return None
    if snapshot.node_names is not columns.nodes.frozen_names:
        return None
    keep = columns.queue.present(later.slot, snapshot.generation[later.slot]) & (later.slot != own)
    if only is None:
        keep &= later.protected
    else:
        wanted = np.zeros(max(len(only), int(later.slot.max()) + 1), np.bool_)
        wanted[: len(only)] = only
        keep &= wanted[later.slot]
    later = later.only(keep)
    if not len(later.slot):
        return None
    if snapshot.rows.host is not columns.rows.hosts:
        later = replace(later, row=_rows_now(snapshot, columns)[later.row])
    shift = outlook.t - now
    begin = np.maximum(0, np.ceil(later.t_start + shift)).astype(np.int64)
    return spans_of(snapshot, later, begin, pools=snapshot.pools_epoch == columns.pools.epoch)


def _rows_now(snapshot: Snapshot, columns: Columns) -> Int32:
    """For each row of an older snapshot of the same nodes the row as it is numbered now."""
    place, size = np.arange(len(snapshot.rows.host), dtype=np.int32), len(snapshot.node_names)
    for row, name in enumerate(snapshot.clones, size):  # reservations have begun or ended since
        place[row] = columns.rows.reservations.row_of(name, int(snapshot.rows.host[row]))
    return place


def _changed(shapes: ShapeArrays, row: int, changes: dict[str, Any]) -> ShapeArrays:
    return shapes._replace(**{name: _with(getattr(shapes, name), row, value) for name, value in changes.items()})


def _with(column: Any, row: int, value: Any) -> Any:
    copy = column.copy()
    copy[row] = value
    return copy
