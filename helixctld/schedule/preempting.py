"""Preemption: after each pass the first waiting jobs that could take the place of others do so.

Those are suspended and the job starts at once, or they are ended and it gets a claim on what comes free, so that no
third job slips in.  CPUs that only suspended jobs wait for are taken first.  Nothing that matters is remembered between
calls: a restart finds claims and suspended jobs in the records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from helix.model import events as ev
from helix.model.job import Allocation, Claim, JobRecord
from helix.model.job_state import Reason
from helix.plugin.families import PreemptPlugin
from helix.sched.preempt import OFF, SUSPEND, Contender, PreemptRules
from helix.sched.victims import Part, choose_chain
from helixctld.core.preempt import contender, mode_of
from helixctld.core.state import State
from helixctld.core.yielding import core_mask
from helixctld.schedule.asking import Asked
from helixctld.schedule.claims import Claims, with_devices
from helixctld.schedule.columns import Columns
from helixctld.schedule.outlook import Outlook
from helixctld.schedule.verify import AcceptedStart, PickCpus
from helixctld.schedule.who_yields import Round, WhoYields, Willing, claimed_victims, mem_on

CANDIDATES_MAX = 64  #: waiting jobs looked at closely after one pass
SCAN_MAX = 4096  #: entries of the queue, in its order, among which they are
NODES_FEW = 128  #: nodes looked at first on a large cluster, or twice as many as the job needs
NODES_MORE = 512  #: nodes looked at when those are in vain
VAIN_S = 2.0  #: which is done for one kind of request once in so long
VAIN_LARGE_S = 30.0  #: the same for a request for so many nodes that all are looked at
PROMISES_MAX = 2000  #: protected reservations that are respected
ELSEWHERE_MAX = 4  #: jobs with a claim for which free nodes are looked for after one pass
_WAITS = frozenset({Reason.RESOURCES, Reason.PRIORITY, Reason.NONE})


@dataclass(slots=True)
class Outcome:
    """What `preempt` found."""

    events: list[ev.Event]  # those told to make room, and the claim
    start: AcceptedStart | None = None  # to be started at once when `events` are applied
    t_again: float = 0.0  # somebody could make room from then on (PreemptExemptTime); 0 = nobody
    cut: bool = False  # time was up before all had been looked at


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
        self._looked = -1  # version of the nodes at the last look for what came free elsewhere
        self._last_elsewhere = 0  # for which job that was
        #: request -> until when it need not be tried on more nodes, and which those are
        self._in_vain: dict[tuple[object, ...], tuple[float, int]] = {}
        self.counters = {"attempts": 0, "preemptions": 0, "claims": 0}

    def preempt(
        self, state: State, now: float, turn: Round, is_late: Callable[[], bool] = lambda: False
    ) -> Outcome | None:
        """The first waiting job for which others can make room; None if there is none.

        `turn`: what was looked at already; the caller keeps it from call to call until it gets None.  `is_late`: asked
        after each attempt in vain; True ends the search.
        """
        if not self.is_on(state) or not state.active:
            return None
        if state.dirty_partitions or self.columns.nodes.is_stale(state):
            return None  # a change of the configuration: the next pass knows it
        t_again = 0.0
        for job in self._candidates(state, turn):
            for asked in self._ways(state, job, now, turn):
                key = asked.key
                if job.priority <= turn.failed.get(key, -1):
                    continue
                self.counters["attempts"] += 1
                found, later = self._try(state, asked, now, turn, is_late)
                if found is not None:
                    self.counters["preemptions"] += 1
                    turn.failed.clear()  # who makes room may leave more than is needed
                    if job.is_array and found.start is not None:
                        turn.passed.discard(job.job_id)  # its next task
                    return found
                turn.failed[key] = job.priority
                if later and (not t_again or later < t_again):
                    t_again = later
                if is_late():
                    return Outcome([], t_again=t_again, cut=True)
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
        for asked in self.asking.ways(state, job, now, turn.able):
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

    def _try(
        self, state: State, asked: Asked, now: float, turn: Round, is_late: Callable[[], bool]
    ) -> tuple[Outcome | None, float]:
        """Make room for a job; on a large cluster on the most promising nodes, and now and then on more of them, each
        time on others."""
        if all(len(part.able) <= max(NODES_FEW, 2 * part.need.nodes_lo) for part in asked.parts):
            large = any(len(part.able) > NODES_MORE for part in asked.parts)
            if large and now < self._in_vain.get(asked.kind, (0.0, 0))[0] <= now + VAIN_LARGE_S:
                return None, 0.0  # (a clock that was set back does not make the rest longer)
            found, later, _ = self._try_on(state, asked, now, turn)
            if large and found is None:
                self._in_vain[asked.kind] = now + VAIN_LARGE_S, 0
            return found, later
        near = self._promising(state, asked, now, NODES_FEW)
        found, later, enough = self._try_on(state, near, now, turn)
        t, window = self._in_vain.get(asked.kind, (0.0, 0))
        if found is None and not enough and not now < t <= now + VAIN_S and not is_late():
            more = self._promising(state, asked, now, NODES_MORE, window)
            found, later, _ = self._try_on(state, more, now, turn)
            if len(self._in_vain) > SCAN_MAX:
                self._in_vain.clear()
            most = max(len(part.able) for part in asked.parts)
            self._in_vain[asked.kind] = now + VAIN_S, (window + 1) % -(-most // NODES_MORE)
        return found, later

    def _try_on(self, state: State, asked: Asked, now: float, turn: Round) -> tuple[Outcome | None, float, bool]:
        """What can be done; when more could be; and whether nothing need be, since those that are ending are enough."""
        willing = self._willing(state, asked, now, turn)
        ways, later = willing.ways, willing.later
        if not state.yielding and not willing.over and not any(how is not None for how in ways.values()):
            return None, later, False
        found = self._chosen(state, asked, willing, now)
        if found is None:
            return None, later, False
        start, told = found
        over = _taken_over(state, start.alloc, willing.over, told)
        new = any(ways[victim.job_id] is not None for victim in told)
        if told and not over and not new and not all(victim.preemptor for victim in told):
            return None, later, True
        events: list[ev.Event] = [
            ev.JobClaimed(t=now, job_id=other, why=f"job {asked.job.display_id} goes first") for other in over
        ]
        for victim in told:
            if (how := ways[victim.job_id]) is not None:
                events.append(self._tell(victim, how, asked, willing, now))
        self._leave(state, start.alloc)
        if all((how := ways[victim.job_id]) is not None and how.mode == SUSPEND for victim in told):
            return Outcome(events, start), 0.0, False
        self.counters["claims"] += 1
        claimed = claimed_victims(state, state.claims - set(over))
        claim = Claim(
            alloc=with_devices(state, asked.job, start.alloc, [v for v in told if v.job_id not in claimed]),
            partition=start.partition,
            reservation=start.reservation,
            time_limit_s=start.time_limit_s,
            victims=[victim.job_id for victim in told],
            t=now,
        )
        return Outcome([*events, ev.JobClaimed(t=now, job_id=asked.job.job_id, claim=claim)]), 0.0, False

    def _chosen(
        self, state: State, asked: Asked, willing: Willing, now: float
    ) -> tuple[AcceptedStart, list[JobRecord]] | None:
        """The cheapest way to start, and who has to go for it; None if there is none."""
        victims = self._victims(state, asked, willing, now)
        places = [self._places(state, asked, part, willing) for part in asked.parts]
        parts = [
            Part(part.need, there, frozenset(may_ask))
            for part, there, may_ask in zip(asked.parts, places, willing.may_ask, strict=True)
        ]
        choice = choose_chain(parts, victims)
        if choice is None:
            return None
        chosen = set(choice.victims)
        gone = [[v for v in victims if v.job_id in chosen & may_ask] for may_ask in willing.may_ask]
        by_index = [{place.index: place for place in there} for there in places]
        alloc = self._allocation(asked, choice, by_index, gone, willing.theirs)
        if alloc is None:
            return None
        start = AcceptedStart(asked.job.job_id, asked.partition, asked.limit_s, alloc, asked.reservation)
        if not self.starts.allowed(state, asked.job, start, now, chosen):
            return None
        return start, [state.jobs[v] for v in choice.victims]

    def elsewhere(self, state: State, now: float) -> Iterator[Outcome]:
        """Jobs with a claim that can start without waiting for it, since other nodes came free.  After a pass a few of
        those for which enough nodes have CPUs to offer are looked at, each time others."""
        if not state.claims or self._looked == self.columns.nodes.version or self.columns.nodes.is_stale(state):
            return
        self._looked = self.columns.nodes.version
        nodes = self.columns.nodes.freeze()
        offered = np.sort(nodes.free_cpus[nodes.up])
        looked = 0
        for job_id in sorted(state.claims, key=lambda job_id: (job_id <= self._last_elsewhere, job_id)):
            job = state.jobs[job_id]
            claim = job.claim
            if claim is None or job.is_array or job.held:
                continue
            enough = len(offered) - int(np.searchsorted(offered, min(claim.alloc.cpus)))
            if enough < len(claim.alloc.nodes):
                continue
            if looked == ELSEWHERE_MAX:
                return
            looked += 1
            self._last_elsewhere = job_id
            for asked in self.asking.ways_of_claimer(state, job, now):
                free = _free_only(state, asked)
                found = None if free is None else self._chosen(state, free, self._asking(state, free), now)
                if found is not None and not set(_taken_over(state, found[0].alloc, state.claims, ())) - {job_id}:
                    why = "other nodes came free"
                    yield Outcome([ev.JobClaimed(t=now, job_id=job_id, why=why)], found[0])
                    break


def _free_only(state: State, asked: Asked) -> Asked | None:
    """The way on the nodes that could serve it as they are, few of them; None if there are too few."""
    parts = []
    for part in asked.parts:
        least = part.need.cost(part.need.task_lo, 1)
        able = [i for i in part.able.tolist() if state.free_cores[i].bit_count() >= least]
        if len(able) < part.need.nodes_lo:
            return None
        count = max(NODES_FEW, 2 * part.need.nodes_lo)
        able.sort(key=lambda i: (i not in part.need.must, -state.free_cores[i].bit_count(), i))
        parts.append(dataclasses.replace(part, able=np.sort(np.array(able[:count], np.int64))))
    return dataclasses.replace(asked, parts=tuple(parts))


def _taken_over(state: State, alloc: Allocation, claimers: Collection[int], told: Collection[JobRecord]) -> list[int]:
    """Those of the waiting jobs whose claims do not go together with an allocation.  `told`: who goes for it."""
    found = []
    mine = {name: core_mask(cores) for name, cores in zip(alloc.nodes, alloc.cores, strict=True)}
    mem = dict(zip(alloc.nodes, alloc.mem_mib, strict=True))
    for job_id in sorted(claimers):
        claim = state.jobs[job_id].claim
        if claim is None:
            continue
        gone = {victim.job_id for victim in told}.union(claim.victims)
        theirs = claim.alloc
        for name, cores, mib in zip(theirs.nodes, theirs.cores, theirs.mem_mib, strict=True):
            if name not in mine:
                continue
            node = state.nodes[name]
            stays = sum(mem_on(state.jobs[j], name) for j in node.jobs if j not in gone)
            tight = node.real_memory_mib - stays < mem[name] + mib
            if tight or theirs.whole or alloc.whole or mine[name] & core_mask(cores):
                found.append(job_id)
                break
    return found


def _tier(state: State, job: JobRecord) -> int:
    names = job.spec.partitions or [state.default_partition]
    return max((state.partitions[name].priority_tier for name in names if name in state.partitions), default=0)
