"""Preemption: after each pass the first waiting jobs that could take the place of others do so.

Those are suspended and the job starts at once, or they are ended and it gets a claim on what comes free, so that no
third job slips in.  CPUs that only suspended jobs wait for are taken first.  Nothing that matters is remembered between
calls: a restart finds claims and suspended jobs in the records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from helix.model import events as ev
from helix.model.job import Claim, JobRecord
from helix.model.job_state import Reason
from helix.plugin.families import PreemptPlugin
from helix.sched.preempt import OFF, Contender, PreemptRules
from helix.sched.victims import Part, choose_chain
from helixctld.core.preempt import contender, mode_of
from helixctld.core.state import State
from helixctld.schedule.asking import Asked
from helixctld.schedule.claims import Claims, with_devices
from helixctld.schedule.columns import Columns
from helixctld.schedule.outlook import Outlook
from helixctld.schedule.verify import AcceptedStart, PickCpus
from helixctld.schedule.who_yields import Round, WhoYields

CANDIDATES_MAX = 64  #: waiting jobs looked at closely after one pass
NODES_FEW = 128  #: nodes looked at first on a large cluster, or twice as many as the job needs
PROMISES_MAX = 2000  #: protected reservations that are respected
VAIN_S = 10.0  #: all nodes of a large cluster are looked at for one kind of request once in so long
SCAN_MAX = 4096  #: entries of the queue, in its order, among which they are
_WAITS = frozenset({Reason.RESOURCES, Reason.PRIORITY, Reason.NONE})


@dataclass(slots=True)
class Outcome:
    """What `preempt` found."""

    events: list[ev.Event]  # those told to make room, and the claim
    start: AcceptedStart | None = None  # to be started at once when `events` are applied
    t_again: float = 0.0  # somebody could make room from then on (PreemptExemptTime); 0 = nobody


class Preempting(WhoYields):
    """The plugin's preemption."""

    def __init__(
        self,
        columns: Columns,
        plugin: PreemptPlugin,
        rules: PreemptRules,
        pick: PickCpus,
        outlook: Outlook | None = None,
    ) -> None:
        """`outlook`: what was promised to waiting jobs."""
        super().__init__(columns, plugin, rules, pick)
        self.starts = Claims(columns)
        self.outlook = outlook
        self._in_vain: dict[tuple[object, ...], float] = {}  # request -> until when it need not be tried on all nodes
        self.counters = {"attempts": 0, "preemptions": 0, "claims": 0}

    def preempt(self, state: State, now: float, turn: Round) -> Outcome | None:
        """The first waiting job for which others can make room; None if there is none.

        `turn`: what was looked at already; the caller keeps it from call to call until it gets None.
        """
        if not self.is_on(state) or not state.active:
            return None
        if state.dirty_partitions or self.columns.nodes.is_stale(state):
            return None  # a change of the configuration: the next pass knows it
        t_again = 0.0
        for job in self._candidates(state, turn):
            for asked in self._ways(state, job, now, turn):
                key = asked.key
                if key in turn.failed:
                    continue
                self.counters["attempts"] += 1
                found, later = self._try(state, asked, now, turn)
                if found is not None:
                    self.counters["preemptions"] += 1
                    turn.failed.clear()  # who makes room may leave more than is needed
                    return found
                turn.failed.add(key)
                if later and (not t_again or later < t_again):
                    t_again = later
        return Outcome([], t_again=t_again) if t_again else None

    def is_on(self, state: State) -> bool:
        """True if anybody ever makes room here."""
        return self.plugin.enabled

    def _candidates(self, state: State, turn: Round) -> Iterator[JobRecord]:
        """Waiting jobs in the queue's order that only want of nodes keeps waiting, and that have whom to ask."""
        if turn.order is None:
            turn.order = self.columns.queue.in_order()[:SCAN_MAX].tolist()
        for job_id in turn.order:
            job = state.jobs.get(job_id)
            if job is None or job_id in turn.passed or job_id not in state.schedulable:
                continue
            if job.claim is not None or job.reason not in _WAITS:
                continue
            if len(turn.passed) >= CANDIDATES_MAX:
                return
            if self._asks(state, job, turn):
                turn.passed.add(job_id)
                yield job

    def _asks(self, state: State, job: JobRecord, turn: Round) -> bool:
        """False for a job for which nobody who runs would make room, wherever that is."""
        names = job.spec.partitions or [state.default_partition]
        names = [*names, *(part.partitions[0] for part in job.spec.components if part.partitions)]
        key = (tuple(names), job.spec.qos, job.priority)
        known = turn.asks.get(key)
        if known is None:
            if turn.kinds is None:
                turn.kinds = self._kinds(state)
            askers = [contender(state, job, name) for name in names]
            kinds = turn.kinds
            known = any(self.plugin.may_preempt(asker, kind, self.rules) for asker in askers for kind in kinds)
            turn.asks[key] = known
        return known

    def _kinds(self, state: State) -> list[Contender]:
        """One running job of each partition and QOS that makes room at all: the one of least priority."""
        least: dict[tuple[str, str], JobRecord] = {}
        for job_id in state.active:
            job = state.jobs[job_id]
            key = (job.partition, job.spec.qos)
            if key not in least or job.priority < least[key].priority:
                least[key] = job
        kinds = [contender(state, job) for job in least.values()]
        return [kind for kind in kinds if mode_of(self.plugin.terms(kind), self.rules) != OFF]

    def _ways(self, state: State, job: JobRecord, now: float, turn: Round) -> Iterator[Asked]:
        """The ways in which the job could run if nothing else did, less what is promised to jobs before it."""
        for asked in self.asking.ways(state, job, now):
            parts = []
            for part in asked.parts:
                t_end = now + asked.limit_s if asked.limit_s else inf
                promised = self._promised(state, job, part.asker.tier, t_end, turn)
                able = part.able
                if promised:
                    able = able[[name not in promised for name in map(state.node_names.__getitem__, able.tolist())]]
                if len(able) < part.need.nodes_lo:
                    break
                parts.append(dataclasses.replace(part, able=able))
            else:
                yield dataclasses.replace(asked, parts=tuple(parts))

    def _promised(self, state: State, job: JobRecord, tier: int, t_end: float, turn: Round) -> set[str]:
        """Nodes promised to jobs before this one in the queue that are to start there before it would have ended."""
        if self.outlook is None:
            return set()
        if turn.promises is None:
            turn.promises = self.outlook.promises(PROMISES_MAX)
        found: set[str] = set()
        for job_id, t_start, names in turn.promises:
            other = state.jobs.get(job_id)
            if other is None or other is job or t_start >= t_end or job_id not in state.schedulable:
                continue
            if (_tier(state, other), other.priority, -other.t_submit) > (tier, job.priority, -job.t_submit):
                found.update(names)
        return found

    def _try(self, state: State, asked: Asked, now: float, turn: Round) -> tuple[Outcome | None, float]:
        """Make room for a job; on a large cluster on the most promising nodes first, and seldom on all."""
        if all(len(part.able) <= max(NODES_FEW, 2 * part.need.nodes_lo) for part in asked.parts):
            return self._try_on(state, asked, now, turn)
        found, later = self._try_on(state, self._promising(state, asked, now, NODES_FEW), now, turn)
        key = asked.key[2:]
        if found is None and now >= self._in_vain.get(key, 0.0):
            found, later = self._try_on(state, asked, now, turn)
            if found is None:
                if len(self._in_vain) > SCAN_MAX:
                    self._in_vain.clear()
                self._in_vain[key] = now + VAIN_S
        return found, later

    def _try_on(self, state: State, asked: Asked, now: float, turn: Round) -> tuple[Outcome | None, float]:
        willing = self._willing(state, asked, now, turn)
        ways, later = willing.ways, willing.later
        if not state.yielding and not any(how is not None for how in ways.values()):
            return None, later
        victims = self._victims(state, asked, willing, now)
        places = [self._places(state, asked, part) for part in asked.parts]
        parts = [
            Part(part.need, there, frozenset(may_ask))
            for part, there, may_ask in zip(asked.parts, places, willing.may_ask, strict=True)
        ]
        choice = choose_chain(parts, victims)
        if choice is None:
            return None, later
        if choice.victims and not any(ways[v] is not None for v in choice.victims):
            return None, later  # those that are ending anyway are enough
        chosen = set(choice.victims)
        gone = [[v for v in victims if v.job_id in chosen & may_ask] for may_ask in willing.may_ask]
        alloc = self._allocation(state, asked, choice, [{p.index: p for p in there} for there in places], gone)
        if alloc is None:
            return None, later
        start = AcceptedStart(asked.job.job_id, asked.partition, asked.limit_s, alloc, asked.reservation)
        if not self.starts.allowed(state, asked.job, start, now, chosen):
            return None, later
        told = [state.jobs[v] for v in choice.victims]
        events = [self._tell(victim, how, asked, now) for victim in told if (how := ways[victim.job_id]) is not None]
        if all(isinstance(event, ev.JobSuspended) for event in events) and len(events) == len(told):
            return Outcome(events, start), 0.0
        self.counters["claims"] += 1
        claim = Claim(
            alloc=with_devices(state, asked.job, start.alloc, told),
            partition=start.partition,
            reservation=start.reservation,
            time_limit_s=start.time_limit_s,
            victims=choice.victims,
            t=now,
        )
        return Outcome([*events, ev.JobClaimed(t=now, job_id=asked.job.job_id, claim=claim)]), 0.0


def _tier(state: State, job: JobRecord) -> int:
    names = job.spec.partitions or [state.default_partition]
    return max((state.partitions[name].priority_tier for name in names if name in state.partitions), default=0)
