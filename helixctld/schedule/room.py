"""Making room for waiting jobs, in the order the steps have around a pass: for the daemon, the simulator and tests.

Both iterators give lists of events, each of which must be applied before the next is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from helix.model import events as ev
from helix.plugin.families import PreemptPlugin
from helix.sched.preempt import PreemptRules
from helixctld.core import gang
from helixctld.core.preempt import to_resume
from helixctld.core.state import State
from helixctld.schedule.columns import Columns
from helixctld.schedule.gangs import Gangs
from helixctld.schedule.outlook import Outlook
from helixctld.schedule.preempting import Outcome, Preempting
from helixctld.schedule.verify import PickCpus
from helixctld.schedule.who_yields import Round

ROUNDS_MAX = 64  #: jobs made room for after one pass
BUDGET_S = 0.02  #: what may be spent on it; the next pass goes on from there
REST = 5.0  #: after attempts in vain there is none for so many times as long as they took
REST_MAX_S = 1.0


class Room:
    """Preemption and time slices of one cycle."""

    def __init__(
        self,
        columns: Columns,
        plugin: PreemptPlugin,
        rules: PreemptRules,
        pick: PickCpus,
        outlook: Outlook | None = None,
        timer: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`timer`: monotonic seconds, to keep within what may be spent; the default spends as much as it takes."""
        #: after `after_pass`: when it should be called again although nothing happens, epoch seconds; 0 = need not be
        self.t_again = 0.0
        self._timer = timer
        self._turns: dict[Preempting, Round] = {}  # that were cut short
        self._rests: dict[Preempting, float] = {}  # until when, by the timer
        self._resumed = 0
        self._preempting = Preempting(columns, plugin, rules, pick, outlook)
        self._gangs = Gangs(columns, plugin, rules, pick, outlook)

    @property
    def rules(self) -> PreemptRules:
        """What the configuration says."""
        return self._preempting.rules

    @rules.setter
    def rules(self, rules: PreemptRules) -> None:
        self._preempting.rules = self._gangs.rules = rules

    @property
    def counters(self) -> dict[str, int]:
        """For hdiag: choices tried, jobs made room for, claims, suspended jobs that went on, starts on shared CPUs."""
        mine = self._preempting.counters
        return {
            "preempt_tried": mine["attempts"],
            "preempt_made": mine["preemptions"],
            "preempt_claims": mine["claims"],
            "preempt_resumed": self._resumed,
            "gang_starts": self._gangs.counters["preemptions"],
        }

    def before_pass(self, state: State, now: float) -> Iterator[list[ev.Event]]:
        """Start jobs whose claims have come free."""
        if state.claims:
            yield from self._preempting.starts.due(state, now)

    def after_pass(self, state: State, now: float) -> Iterator[list[ev.Event]]:
        """Let jobs make room for those that still wait; then let suspended ones go on that can."""
        self.t_again = 0.0
        for found in self._preempting.elsewhere(state, now):
            yield from self._start(self._preempting, state, found, now)
        if state.schedulable:
            for maker in (self._preempting, self._gangs):
                yield from self._make_room(maker, state, now)
        if back := to_resume(state) if state.yielding else []:
            self._resumed += len(back)
            yield [ev.JobResumed(t=now, job_id=job.job_id, cause=job.suspended_for) for job in back]

    def _make_room(self, maker: Preempting, state: State, now: float) -> Iterator[list[ev.Event]]:
        began = self._timer()
        rest_s = self._rests.get(maker, 0.0) - began
        if rest_s > 0:
            self._look_again(now + rest_s)
            return
        before = self._turns.pop(maker, None)
        turn = Round() if before is None else Round(passed=before.passed)
        in_vain_s = 0.0
        for _ in range(ROUNDS_MAX):
            t = self._timer()
            found = maker.preempt(state, now, turn, lambda: self._timer() - began > BUDGET_S)
            if found is None or not (found.events or found.start):
                in_vain_s = self._timer() - t
                if found is not None and found.t_again:
                    self._look_again(found.t_again)
                cut = found is not None and found.cut
                break
            yield from self._start(maker, state, found, now)
            if cut := self._timer() - began > BUDGET_S:
                break
        else:
            cut = True
        rest_s = min(REST * in_vain_s, REST_MAX_S)
        self._rests[maker] = self._timer() + rest_s
        if cut:
            self._turns[maker] = turn
            self._look_again(now + rest_s)

    def _look_again(self, t: float) -> None:
        self.t_again = min(self.t_again, t) if self.t_again else t

    def _start(self, maker: Preempting, state: State, found: Outcome, now: float) -> Iterator[list[ev.Event]]:
        if found.events:
            yield found.events
        if found.start is not None and (events := maker.starts.start(state, found.start, now)):
            yield events

    # ---- time slices ---------------------------------------------------------------------------------------------

    def slice_s(self, state: State) -> int:
        """How long the slice is that goes on now; 0 if nobody waits for a turn."""
        return self.rules.time_slice_s if state.yielding and self.rules.gang and gang.someone_waits(state) else 0

    def end_slice(self, state: State, now: float) -> list[ev.Event]:
        """Others' turn: first who stops, then who goes on."""
        return gang.turn(state, now)
