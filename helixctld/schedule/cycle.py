"""Scheduling passes: prepare a snapshot, plan on it, commit what still holds.

Two kinds.  A quick pass starts what can start now; it comes within milliseconds of a submit or an end.  A full pass
also finds an expected start for every waiting job; it comes only after a change, at the latest bf_interval after the
last, and sooner where that costs a planner less than a twentieth of its time; with bf_interval=0 one follows the other.
Where a full pass is cheap, or the mode keeps a reservation for every job, each pass is full.  Elsewhere full ones run
beside quick ones, and only quick ones start jobs: `prepare_ahead`, `plan`, `commit_ahead`.

`prepare*` and `commit*` run on the loop's thread and touch the state; `plan` touches only the snapshot and may run on
another thread.  At most one pass of each kind is under way.  Small passes are planned inline, because handing over to
a thread and back costs more than they do (`is_small`).  A failed or abandoned pass is ended by `abandon`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from helix.model.job_state import Reason
from helix.plugin.families import SchedPlanner, SelectPlugin
from helix.sched import alike
from helix.sched.options import SchedOptions
from helix.sched.plan import Plan
from helix.sched.since import past_of
from helix.sched.snapshot import CODES, Past, Snapshot
from helix.sched.switch_waits import next_end
from helix_native import is_warm
from helix_native.ahead_arrays import LIMITED
from helixctld.core.state import State
from helixctld.schedule.columns import Columns
from helixctld.schedule.kept import KeptReservations
from helixctld.schedule.outlook import Expectation, Outlook
from helixctld.schedule.pace import Pace
from helixctld.schedule.priorities import PriorityColumns
from helixctld.schedule.recheck import Recheck, version_of
from helixctld.schedule.reserved_words import ReservedWords
from helixctld.schedule.sources import Sources
from helixctld.schedule.verify import AcceptedStart, Conflict, Verified, verify

LOOK_S = 2e-9  #: what looking at a node for an entry takes, compiled
INLINE_S = 0.004  #: a pass that needs more is not planned on the loop
REFERENCE_FACTOR = 25  #: how much slower the numpy reference is on small clusters, without a look ahead
AHEAD_FACTOR = 700  #: the same with a look ahead, and
FULL_FACTOR = 10_000  #: with an expected start for every job
CHEAP_S = 0.01  #: a full pass that took less to plan is done in place of a quick one
FULL_SPACING = 20.0  #: full passes beside quick ones take at most this part of a planner's time
QUICK_INLINE_S = 0.008  #: a quick pass that took less to plan is planned inline
SLICE = 32  #: jobs taken between two looks at the time, see `Cycle.catch_up`
BACKLOG = 512  #: so many changed jobs are taken at once
FRUITLESS_MAX = 3  #: after so many passes without one accepted start, plan inline
CONFLICT_DELAY_S = 0.005
CONFLICT_DELAY_MAX_S = 1.0

_UNABLE = frozenset({Reason.BAD_CONSTRAINTS, Reason.NODES_UNAVAILABLE, Reason.REQ_NODE_NOT_AVAIL})

NewReason = tuple[int, Reason, str]  #: job id, reason, words


@dataclass(slots=True)
class Counters:
    """What hdiag shows of scheduling; times in milliseconds, `age` = snapshot to commit."""

    cycles: int = 0
    cycle_last_ms: float = 0.0
    cycle_mean_ms: float = 0.0
    cycle_max_ms: float = 0.0
    loop_last_ms: float = 0.0
    loop_max_ms: float = 0.0
    depth_last: int = 0
    depth_max: int = 0
    tested_last: int = 0
    starts: int = 0
    starts_last: int = 0
    conflicts: int = 0
    truncated: int = 0
    age_last_ms: float = 0.0
    age_max_ms: float = 0.0
    t_last: float = 0.0
    full: int = 0  # passes that gave every job an expected start
    full_last_ms: float = 0.0
    full_mean_ms: float = 0.0
    full_max_ms: float = 0.0
    full_age_last_ms: float = 0.0
    backfilled: int = 0  # starts that overtook a waiting job
    backfilled_last: int = 0
    protected_last: int = 0
    predicted_last: int = 0
    beyond_window_last: int = 0  # jobs that could start, but not within bf_window
    limited_last: int = 0  # jobs that a licence or a limit keeps waiting
    not_considered_last: int = 0  # entries that a bf_max_job_* parameter held back
    not_reached_last: int = 0  # jobs a pass did not come to: it had started as many as it may
    table_rows: int = 0
    table_shapes: int = 0
    table_spans: int = 0
    table_pools: int = 0
    table_kept: int = 0


class Cycle:
    """Holds the columns, the pace and the counters of one controller."""

    def __init__(
        self,
        planner: SchedPlanner,
        select: SelectPlugin,
        options: SchedOptions,
        timer: Callable[[], float],
        seed: int = 0,
        sources: Sources | None = None,
    ) -> None:
        """`timer`: monotonic seconds, for measuring and pacing (time.perf_counter, or a simulator's).  `sources`: what
        else takes part (licences, limits, GRES, topology ...)."""
        self.planner = planner
        self.select = select
        self.options = options
        self.timer = timer
        self.pace = Pace(options)
        self.ahead = Pace(_ahead_options(options, 0.0))  # of full passes beside the quick ones
        self.columns = Columns(options, select.request, sources)
        self.priorities: PriorityColumns | None = None  # set where priorities change while jobs wait
        self.kept = KeptReservations()
        self.outlook = Outlook(lambda shape: [part.component for part in self.columns.shapes.parts_asked(shape)])
        self.counters = Counters()
        self.rng = np.random.default_rng(seed)
        self._began = 0.0
        self._loop_s = 0.0
        self._fruitless = 0  # passes in a row whose every start was a conflict
        self._snapshot: Snapshot | None = None  # of the pass under way
        self._cluster = version_of(self.columns)  # of its snapshot
        self._wait_ends = float("inf")  # when a job gives up waiting for switches next, epoch seconds
        self._ahead_snapshot: Snapshot | None = None  # likewise
        self._ahead_began = 0.0
        self._full_s = 0.0  # what the last full pass took to plan
        self._quick_s = 0.0  # likewise, a quick one
        self._blind = False  # the planner does not look ahead
        self._past: Past | None = None  # the last pass that looked at everything
        self._overlooked = False  # the quick pass under way may pass over what a full one has found meanwhile
        self._released = False  # a job ended since the last pass
        self._reloads = -1

    # ---- pacing --------------------------------------------------------------------------------------------------

    def wake(self, *, submit: bool = False) -> None:
        """Something may be able to start (see `Pace.wake`)."""
        self.pace.wake(self.timer(), submit=submit)
        self.ahead.wake(self.timer())

    def due(self) -> bool:
        """True if a pass should start now."""
        return self.pace.due(self.timer())

    def due_in(self) -> float | None:
        """Seconds until a pass is due, at least 0; None if only an event can make one due."""
        at = self.pace.next_at()
        return None if at is None else max(0.0, at - self.timer())

    def ahead_due_in(self) -> float | None:
        """The same of a full pass beside the quick ones; None also where each pass is full."""
        if self.one_kind:
            return None
        at = self.ahead.next_at()
        return None if at is None else max(0.0, at - self.timer())

    @property
    def one_kind(self) -> bool:
        """True if each pass is full: full ones are cheap, or every job has a reservation, or the planner does not look
        ahead."""
        return self._blind or self._full_s < CHEAP_S or self.options.bf_mode in ("conservative", "replan")

    @property
    def in_flight(self) -> bool:
        """True between `prepare` and `commit` or `abandon`."""
        return self.pace.running

    # ---- a pass --------------------------------------------------------------------------------------------------

    def prepare(self, state: State, now: float, *, full: bool | None = None) -> Snapshot:
        """Take what changed and freeze.  Loop's thread.  `now`: epoch seconds; `full`: whether every job is to be given
        an expected start, None = as the cost of the last passes suggests."""
        assert not self.pace.running, "a pass is under way"
        self._began = self.timer()
        self.pace.started(self._began)
        full = self.one_kind if full is None else full
        self._snapshot = snapshot = self._freeze(state, now, full=full)
        self._cluster = version_of(self.columns)
        self._wait_ends = next_end(snapshot, self.columns.queue.eligible())
        self._loop_s = self.timer() - self._began
        return snapshot

    def prepare_ahead(self, state: State, now: float) -> Snapshot:
        """The same for a full pass beside the quick ones; it is ended by `commit_ahead` or `abandon_ahead`."""
        assert not self.ahead.running, "a full pass is under way"
        self._ahead_began = self.timer()
        self.ahead.started(self._ahead_began)
        self._ahead_snapshot = snapshot = self._freeze(state, now, full=True)
        return snapshot

    def catch_up(self, state: State, now: float, enough: Callable[[], bool]) -> bool:
        """Take some of what a change of accounts, a decay or very many changes leave to do before the next pass, until
        `enough` says so; True if `prepare` will find little to do.  Loop's thread, between passes."""
        columns, priorities = self.columns, self.priorities
        columns.update_cluster(state)
        while True:
            if state.to_look_at:
                state.look_at_some(now, SLICE)
            elif priorities is not None and priorities.begin(state, now):
                pass
            elif priorities is not None and priorities.is_behind:
                columns.queue.set_priorities(priorities.more(state, now, 8 * SLICE))
            elif len(state.dirty_jobs) > BACKLOG:
                some = [state.dirty_jobs.pop() for _ in range(SLICE)]
                if priorities is not None:
                    columns.queue.set_priorities(priorities.take(state, some, now))
                columns.take_jobs(state, some)
            else:
                return columns.catch_up_pools(state, enough)
            if enough():
                return False

    def _freeze(self, state: State, now: float, *, full: bool) -> Snapshot:
        columns = self.columns
        state.look_at_some(now, len(state.to_look_at))
        self.refresh_priorities(state, now)
        columns.update(state)
        if self._reloads != columns.cluster_version[1]:  # rows are other nodes now
            self._reloads = columns.cluster_version[1]
            self.kept.clear()
        self._released |= columns.spans.released
        if self.options.bf_mode != "conservative":
            snapshot = columns.freeze(now, full=full)
            past = None if full or columns.spans.extended else self._past
            columns.spans.extended = False
            return snapshot if past is None else replace(snapshot, past=past)
        return columns.freeze(now, self.kept, full=full, compress=self._released)

    def refresh_priorities(self, state: State, now: float) -> None:
        """Bring priorities up to date, where they change; may be called at any time."""
        if self.priorities is not None:
            self.columns.queue.set_priorities(self.priorities.update(state, now))

    def is_small(self, snapshot: Snapshot) -> bool:
        """True if the pass is to be planned inline: the last of its kind was short, or (before the first) few nodes
        times few entries, or the last passes were overtaken by changes (nothing changes under an inline pass)."""
        if self._fruitless >= FRUITLESS_MAX:
            return True
        spent = self._full_s if snapshot.full else self._quick_s
        if spent > QUICK_INLINE_S:
            return False
        return self.cost_s(snapshot) <= INLINE_S

    def cost_s(self, snapshot: Snapshot) -> float:
        """A guess, before anything was measured, at what the pass takes to plan with the kernels there are now."""
        work = (len(snapshot.nodes.cpus) + 50) * min(snapshot.depth, self.options.starts_max) + snapshot.depth
        factor = REFERENCE_FACTOR if self._blind else FULL_FACTOR if snapshot.full else AHEAD_FACTOR
        return work * (1 if is_warm() else factor) * LOOK_S

    def plan(self, snapshot: Snapshot) -> Plan:
        """Any thread; touches the snapshot only."""
        return self.planner.plan(snapshot, self.options, snapshot.t, self.rng)

    def commit(self, plan: Plan, state: State, now: float) -> tuple[list[AcceptedStart], list[NewReason]]:
        """Re-check the plan and end the pass.  Loop's thread.  Changes the state in nothing: the caller applies a
        JobStarted for each accepted start (in this order, before anything else changes) and shows the reasons."""
        snapshot = self._snapshot
        assert self.pace.running, "no pass is under way"
        assert snapshot is not None, "no pass is under way"
        t = self.timer()
        self._blind = plan.later is None
        self._past = past_of(snapshot, plan) if snapshot.depth > alike.FEW and not self._overlooked else None
        self._overlooked = False
        if plan.full:
            self._full_s = t - self._began
            if not self.ahead.running:  # what it would have found is known now
                self.ahead.started(t)
                self.ahead.finished(t, 0.0, again_s=None, waiting=False)
        else:
            self._quick_s = t - self._began
        self._snapshot = None
        columns = self.columns
        columns.update_cluster(state)
        columns.take_running(state)
        if columns.is_behind(state):  # the accounts changed: what running jobs take of the new limits is not known yet
            late = [Conflict(job_id, "limits have changed") for job_id in plan.start_job.tolist()]
            verified = Verified(conflicts=late)
        else:
            verified = self._verify(plan, snapshot, state, now)
        reasons = self._reasons(plan, state)
        if plan.later is not None and self.options.bf_mode == "conservative":
            self.kept.take(plan.t, plan.later, snapshot.generation, self.options.bf_resolution_s)
            self._released = False
        if plan.full:
            self._look_ahead(plan, snapshot, t - self._began, now)
        done = self.timer()
        loop_s = self._loop_s + done - t
        conflicts = len(verified.conflicts)
        self._count(plan, len(verified.accepted), conflicts, done - self._began, loop_s, now)
        waiting = len(self.columns.queue) > 0
        self._fruitless = self._fruitless + 1 if conflicts and not verified.accepted else 0
        again_s = None
        if self._fruitless:
            again_s = min(CONFLICT_DELAY_S * 2.0**self._fruitless, CONFLICT_DELAY_MAX_S)
        elif plan.truncated or conflicts:
            again_s = 0.0
        self.pace.finished(done, loop_s, again_s=again_s, waiting=waiting)
        if self._wait_ends < float("inf"):
            self.pace.wake(done + max(0.0, self._wait_ends - now))
        return verified.accepted, reasons

    def _verify(self, plan: Plan, snapshot: Snapshot, state: State, now: float) -> Verified:
        columns, generation = self.columns, snapshot.generation
        return verify(
            plan,
            state,
            pick=self.select.pick_cpus,
            spec_of=lambda job_id: columns.queue.spec_since(job_id, generation),
            pools=columns.pools,
            now=now,
            over_run_s=self.options.resv_over_run_s,
            parts_of=columns.shapes.parts_asked,
            recheck=None if self._cluster == version_of(columns) else Recheck(columns, self._cluster),
        )

    def commit_ahead(self, plan: Plan, state: State, now: float) -> list[NewReason]:
        """End a full pass beside the quick ones: what it foresees is taken, starts are left to the next quick pass."""
        snapshot = self._ahead_snapshot
        assert self.ahead.running, "no full pass is under way"
        assert snapshot is not None, "no full pass is under way"
        self._ahead_snapshot = None
        t = self.timer()
        self._full_s = t - self._ahead_began
        self._look_ahead(plan, snapshot, self._full_s, now)
        self.ahead.options = _ahead_options(self.options, self._full_s)
        if len(plan.start_job):
            self._past = None  # quick passes passed something over
            self._overlooked = self.pace.running
            self.pace.wake(t)
        # without an interval the next one follows at once, whether something has changed or not
        again_s = 0.0 if not self.options.bf_interval_s and len(self.columns.queue) else None
        self.ahead.finished(self.timer(), 0.0, again_s=again_s, waiting=False)
        return self._reasons(plan, state)

    def run_inline(
        self, state: State, now: float, *, full: bool | None = None
    ) -> tuple[list[AcceptedStart], list[NewReason]]:
        """A whole pass at once, for tests, the simulator and small clusters.  `full`: see `prepare`."""
        return self.commit(self.plan(self.prepare(state, now, full=full)), state, now)

    def abandon(self) -> None:
        """End a pass whose planning failed; it is tried again, not at once."""
        self._snapshot = self._past = None
        self.pace.finished(self.timer(), 0.0, again_s=CONFLICT_DELAY_MAX_S, waiting=True)

    def abandon_ahead(self) -> None:
        """The same of a full pass beside the quick ones."""
        self._ahead_snapshot = None
        self.ahead.finished(self.timer(), 0.0, again_s=CONFLICT_DELAY_MAX_S, waiting=False)

    def set_options(self, options: SchedOptions) -> None:
        """Take a changed configuration (between passes)."""
        if options.bf_mode != self.options.bf_mode:
            self.kept.clear()
        self.options = self.pace.options = options
        self.ahead.options = _ahead_options(options, self._full_s)
        self.columns.set_options(options)
        self._past = None
        self.wake()

    def expectation(self, job_id: int) -> Expectation | None:
        """What the last full pass foresees for a waiting job."""
        queue = self.columns.queue
        slot = queue.slot_of.get(job_id)
        return None if slot is None else self.outlook.of(slot, queue.generation_of(slot))

    def _look_ahead(self, plan: Plan, snapshot: Snapshot, wall_s: float, now: float) -> None:
        """Take what a full plan foresees."""
        if plan.later is None:
            return
        self.outlook.take(plan, snapshot, self.options.bf_resolution_s)
        c, counts = self.counters, plan.counters
        c.full += 1
        c.full_last_ms = wall_s * 1e3
        c.full_mean_ms += (c.full_last_ms - c.full_mean_ms) / c.full
        c.full_max_ms = max(c.full_max_ms, c.full_last_ms)
        c.full_age_last_ms = max(0.0, now - plan.t) * 1e3
        c.protected_last, c.predicted_last = counts.get("protected", 0), counts.get("predicted", 0)
        c.beyond_window_last, c.limited_last = counts.get("beyond_window", 0), counts.get("limited", 0)
        c.not_considered_last = sum(n for name, n in counts.items() if name.startswith("over_"))
        c.not_reached_last = counts.get("not_reached", 0)
        c.table_rows, c.table_shapes = len(snapshot.rows.host), len(snapshot.shapes.part)
        c.table_spans, c.table_pools = len(snapshot.spans.row), len(snapshot.pools.total)
        c.table_kept = len(self.kept)

    def _reasons(self, plan: Plan, state: State) -> list[NewReason]:
        news: list[NewReason] = []
        queue, pools = self.columns.queue, self.columns.pools
        reserved = ReservedWords(state, plan.t)
        for job_id, (reason, words) in plan.reasons.items():
            slot = queue.slot_of.get(job_id)
            if slot is None or job_id not in state.schedulable:
                continue
            pool = plan.limited.get(job_id, -1)
            if pool >= 0:
                if plan.pools_epoch != pools.epoch:
                    continue
                reason, words = pools.words(state, pool)
                queue.told[slot], queue.told_pool[slot] = LIMITED, pool
            else:
                queue.told[slot], queue.told_pool[slot] = CODES[reason], -1
                reason, words = reserved.reason(state.jobs[job_id], reason, words)
                if reason in _UNABLE and self.columns.waits_for_sockets(job_id):
                    reason, words = Reason.RESOURCES, "free CPUs lie in too few sockets for --ntasks-per-socket"
                elif self.columns.shapes.owners.on and reason in _UNABLE:  # not for ever: it was accepted
                    reason, words = Reason.RESOURCES, "the nodes that could serve it are in use by other users"
            news.append((job_id, reason, words))
        return news

    def _count(self, plan: Plan, starts: int, conflicts: int, wall_s: float, loop_s: float, now: float) -> None:
        c = self.counters
        c.cycles += 1
        c.cycle_last_ms = wall_s * 1e3
        c.cycle_mean_ms += (c.cycle_last_ms - c.cycle_mean_ms) / c.cycles
        c.cycle_max_ms = max(c.cycle_max_ms, c.cycle_last_ms)
        c.loop_last_ms = loop_s * 1e3
        c.loop_max_ms = max(c.loop_max_ms, c.loop_last_ms)
        c.depth_last = plan.counters.get("depth", 0)
        c.depth_max = max(c.depth_max, c.depth_last)
        c.tested_last = plan.counters.get("tested", 0)
        c.starts_last = starts
        c.starts += starts
        c.conflicts += conflicts
        c.truncated += plan.truncated
        c.backfilled_last = plan.counters.get("backfilled", 0)
        c.backfilled += c.backfilled_last
        c.age_last_ms = max(0.0, now - plan.t) * 1e3
        c.age_max_ms = max(c.age_max_ms, c.age_last_ms)
        c.t_last = now


def _ahead_options(options: SchedOptions, cost_s: float) -> SchedOptions:
    """The pace of full passes that take `cost_s`: at most bf_interval apart after a change, cheap ones less."""
    return replace(options, min_interval_s=min(options.bf_interval_s, FULL_SPACING * cost_s), defer=False)
