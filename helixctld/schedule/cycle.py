"""One scheduling pass: prepare a snapshot, plan on it, commit what still holds.

`prepare` and `commit` run on the loop's thread and touch the state; `plan` touches only the snapshot and may run on
the planner's thread.  At most one pass is under way.  Small passes are planned inline, because handing over to a
thread and back costs more than they do (`is_small`).  A failed or abandoned pass is ended by `abandon`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helix.model.job_state import Reason
from helix.plugin.families import SchedPlanner, SelectPlugin
from helix.sched.options import SchedOptions
from helix.sched.plan import Plan
from helix.sched.snapshot import CODES, Snapshot
from helix_native import is_warm
from helixctld.core.state import State
from helixctld.schedule.columns import Columns
from helixctld.schedule.pace import Pace
from helixctld.schedule.verify import AcceptedStart, verify

INLINE_WORK = 2_000_000  #: node looks a pass may need to be planned inline: about 4 ms compiled
REFERENCE_FACTOR = 25  #: how much slower the numpy reference is on small clusters
FRUITLESS_MAX = 3  #: after so many passes without one accepted start, plan inline
CONFLICT_DELAY_S = 0.005
CONFLICT_DELAY_MAX_S = 1.0

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


class Cycle:
    """Holds the columns, the pace and the counters of one controller."""

    def __init__(
        self,
        planner: SchedPlanner,
        select: SelectPlugin,
        options: SchedOptions,
        timer: Callable[[], float],
        seed: int = 0,
    ) -> None:
        """`timer`: monotonic seconds, for measuring and pacing (time.perf_counter, or a simulator's)."""
        self.planner = planner
        self.select = select
        self.options = options
        self.timer = timer
        self.pace = Pace(options)
        self.columns = Columns(options, select.request)
        self.counters = Counters()
        self.rng = np.random.default_rng(seed)
        self._began = 0.0
        self._loop_s = 0.0
        self._fruitless = 0  # passes in a row whose every start was a conflict

    # ---- pacing --------------------------------------------------------------------------------------------------

    def wake(self, *, submit: bool = False) -> None:
        """Something may be able to start (see `Pace.wake`)."""
        self.pace.wake(self.timer(), submit=submit)

    def due(self) -> bool:
        """True if a pass should start now."""
        return self.pace.due(self.timer())

    def due_in(self) -> float | None:
        """Seconds until a pass is due, at least 0; None if only an event can make one due."""
        at = self.pace.next_at()
        return None if at is None else max(0.0, at - self.timer())

    @property
    def in_flight(self) -> bool:
        """True between `prepare` and `commit` or `abandon`."""
        return self.pace.running

    # ---- a pass --------------------------------------------------------------------------------------------------

    def prepare(self, state: State, now: float) -> Snapshot:
        """Take what changed and freeze.  Loop's thread.  `now`: epoch seconds."""
        assert not self.pace.running, "a pass is under way"
        self._began = self.timer()
        self.pace.started(self._began)
        self.columns.update(state)
        snapshot = self.columns.freeze(now)
        self._loop_s = self.timer() - self._began
        return snapshot

    def is_small(self, snapshot: Snapshot) -> bool:
        """True if the pass is to be planned inline: few nodes times few entries, or the last passes were overtaken
        by changes (nothing changes under an inline pass)."""
        if self._fruitless >= FRUITLESS_MAX:
            return True
        nodes = len(snapshot.nodes.cpus)
        work = (nodes + 50) * min(snapshot.depth, self.options.starts_max) + snapshot.depth
        return work * (1 if is_warm() else REFERENCE_FACTOR) <= INLINE_WORK

    def plan(self, snapshot: Snapshot) -> Plan:
        """Any thread; touches the snapshot only."""
        return self.planner.plan(snapshot, self.options, snapshot.t, self.rng)

    def commit(self, plan: Plan, state: State, now: float) -> tuple[list[AcceptedStart], list[NewReason]]:
        """Re-check the plan and end the pass.  Loop's thread.  Changes the state in nothing: the caller applies a
        JobStarted for each accepted start (in this order, before anything else changes) and shows the reasons."""
        assert self.pace.running, "no pass is under way"
        t = self.timer()
        verified = verify(plan, state, pick=self.select.pick_cpus, spec_of=self.columns.queue.spec_of)
        reasons = self._reasons(plan, state)
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
        return verified.accepted, reasons

    def run_inline(self, state: State, now: float) -> tuple[list[AcceptedStart], list[NewReason]]:
        """A whole pass at once, for tests, the simulator and small clusters."""
        return self.commit(self.plan(self.prepare(state, now)), state, now)

    def abandon(self) -> None:
        """End a pass whose planning failed; it is tried again, not at once."""
        self.pace.finished(self.timer(), 0.0, again_s=CONFLICT_DELAY_MAX_S, waiting=True)

    def set_options(self, options: SchedOptions) -> None:
        """Take a changed configuration (between passes)."""
        self.options = self.pace.options = options
        self.columns.set_options(options)
        self.wake()

    def _reasons(self, plan: Plan, state: State) -> list[NewReason]:
        news: list[NewReason] = []
        told, slot_of = self.columns.queue.told, self.columns.queue.slot_of
        for job_id, (reason, words) in plan.reasons.items():
            slot = slot_of.get(job_id)
            if slot is None or job_id not in state.schedulable:
                continue
            told[slot] = CODES[reason]
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
        c.age_last_ms = max(0.0, now - plan.t) * 1e3
        c.age_max_ms = max(c.age_max_ms, c.age_last_ms)
        c.t_last = now
