"""Making room: after each pass the first waiting jobs that could take the place of others do so.

Three steps, each giving events that the caller commits before the next one looks at the state again:

* `claims(...)`  before a pass: jobs whose claim has come free start; claims that cannot come true are dropped.
* `preempt(...)` after it: a waiting job for which others may make room.  They are suspended and it starts at once, or
  they are ended and it gets a claim on what comes free, so that no third job slips in.  CPUs that only suspended jobs
  wait for are taken first.
* `resumes(...)` then: suspended jobs whose CPUs are free, and that nobody has a claim on, go on.

Nothing that matters is remembered between calls: a restart finds claims and suspended jobs in the records.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

import numpy as np
from msgspec.structs import replace

from helix.gres import layout_of, mask_of
from helix.model import events as ev
from helix.model.job import Allocation, Claim, JobRecord
from helix.model.job_state import JobState, Reason
from helix.model.node import NodeRecord, is_counted, is_schedulable
from helix.plugin.families import PreemptPlugin
from helix.sched.gres import needs_of, pick_devices
from helix.sched.place import core_width
from helix.sched.preempt import (
    OFF,
    SUSPEND,
    Choice,
    Contender,
    Need,
    Place,
    PreemptRules,
    Share,
    Victim,
    choose,
    work_cost,
)
from helix.sched.request import Request, partition_limit, time_limit_s
from helix_native.arrays import Int64
from helix_native.reference import Pass
from helixctld.core import preempt as rules_of
from helixctld.core.preempt import How, contender, how_to, make_room, mode_of
from helixctld.core.state import State
from helixctld.core.yielding import core_mask
from helixctld.schedule.columns import Columns
from helixctld.schedule.outlook import Outlook
from helixctld.schedule.owner_columns import someone_elses
from helixctld.schedule.reservation_guard import Guard
from helixctld.schedule.starts import start_events
from helixctld.schedule.verify import AcceptedStart, PickCpus

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


@dataclass(slots=True)
class Asked:
    """A waiting job in one partition, and what it needs."""

    job: JobRecord
    asker: Contender
    need: Need
    able: Int64  # nodes it may run on


@dataclass(slots=True)
class Round:
    """What is found out after one pass and holds until everybody has made room."""

    passed: set[int] = field(default_factory=set)  # waiting jobs looked at
    order: list[int] | None = None  # waiting jobs in the queue's order
    kinds: list[Contender] | None = None  # of running jobs that make room at all
    asks: dict[tuple[object, ...], bool] = field(default_factory=dict)
    others: dict[int, Contender] = field(default_factory=dict)
    failed: set[tuple[object, ...]] = field(default_factory=set)  # requests nobody can make room for
    promises: list[tuple[int, float, list[str]]] | None = None  # waiting job, start, nodes


class Preempting:
    """Bound to the columns of a cycle; the state is an argument everywhere."""

    def __init__(
        self,
        columns: Columns,
        plugin: PreemptPlugin,
        rules: PreemptRules,
        pick: PickCpus,
        outlook: Outlook | None = None,
    ) -> None:
        """`outlook`: what was promised to waiting jobs."""
        self.outlook = outlook
        self.columns = columns
        self.plugin = plugin
        self.rules = rules
        self.pick = pick
        self._in_vain: dict[tuple[object, ...], float] = {}  # request -> until when it need not be tried on all nodes
        self.counters = {"attempts": 0, "preemptions": 0, "claims": 0, "resumes": 0}

    # ---- before a pass -------------------------------------------------------------------------------------------

    def claims(self, state: State, now: float) -> Iterator[list[ev.Event]]:
        """Claims that have come free, or never will.  The caller applies each list before it takes the next."""
        for job_id in sorted(state.claims):
            job = state.jobs[job_id]
            claim = job.claim
            if claim is None:
                continue
            if why := self._broken(state, job, claim):
                yield [ev.JobClaimed(t=now, job_id=job_id, why=why)]
            elif self._came_free(state, job, claim):
                yield [ev.JobClaimed(t=now, job_id=job_id, why="room was made")]
                start = AcceptedStart(job_id, claim.partition, claim.time_limit_s, replace(claim.alloc, gres=[]))
                if self._may_start(state, job, start, now):
                    yield start_events(state, [start], now)

    def _broken(self, state: State, job: JobRecord, claim: Claim) -> str:
        """Why a claim can never come true; "" if it can."""
        partition = state.partitions.get(claim.partition)
        if partition is None or partition.state.upper() not in ("UP", "DRAIN"):
            return f"partition {claim.partition} does not start jobs any more"
        for name in claim.alloc.nodes:
            node = state.nodes.get(name)
            if node is None or not is_schedulable(node):
                return f"node {name} is not available any more"
        if job.held or not state.tasks_startable(job):
            return "the job may not start any more"
        if all(not state.jobs[v].is_active for v in claim.victims if v in state.jobs) and not self._came_free(
            state, job, claim
        ):
            return "others have what was to come free"
        return ""

    @staticmethod
    def _came_free(state: State, job: JobRecord, claim: Claim) -> bool:
        alloc = claim.alloc
        for name, cores, mem in zip(alloc.nodes, alloc.cores, alloc.mem_mib, strict=True):
            node = state.nodes[name]
            mask = core_mask(cores)
            if state.free_cores[node.index] & mask != mask or state.free_mem_mib[node.index] < mem:
                return False
            if node.whole_job or (alloc.whole and node.cpus_alloc):
                return False
        for name, given in zip(alloc.nodes, alloc.gres, strict=False):
            free = state.gres.free(state.nodes[name])
            for kind, indexes in given.items():
                mask = mask_of(indexes)
                if free.get(kind.partition(":")[0], 0) & mask != mask:
                    return False
        return True

    def resumes(self, state: State, now: float) -> list[ev.Event]:
        """Suspended jobs that have their CPUs back."""
        back = rules_of.to_resume(state)
        self.counters["resumes"] += len(back)
        return [ev.JobResumed(t=now, job_id=job.job_id, cause=job.suspended_for) for job in back]

    # ---- after a pass --------------------------------------------------------------------------------------------

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
                key = (asked.need, asked.able.tobytes(), alike(asked.asker))
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
            if job.claim is not None or job.reason not in _WAITS or job.spec.reservation:
                continue
            if len(turn.passed) >= CANDIDATES_MAX:
                return
            if self._asks(state, job, turn):
                turn.passed.add(job_id)
                yield job

    def _asks(self, state: State, job: JobRecord, turn: Round) -> bool:
        """False for a job for which nobody who runs would make room, wherever that is."""
        names = job.spec.partitions or [state.default_partition]
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
        """The job in each of its partitions where it could run if nothing else did."""
        shapes = self.columns.shapes
        for row in self.columns.queue.shapes_of(job.job_id):
            request = shapes.requests[row]
            if request is None or request.alternatives or request.reservation or len(shapes.parts(row)) > 1:
                continue
            partition = shapes.partitions[int(shapes.part_of(row))]
            current = state.partitions.get(partition.name)
            if current is None or current.state.upper() not in ("UP", "DRAIN"):
                continue
            if partition_limit(job.spec, request, current)[0] is not Reason.NONE:
                continue
            arrays, tables = shapes.freeze()
            nodes = self.columns.nodes.freeze()
            eligible = np.flatnonzero(Pass(nodes, arrays, tables).eligible(row))
            records = self.columns.nodes.records
            limit_s = time_limit_s(job.spec, current)
            promised = self._promised(state, job, current.priority_tier, now + limit_s if limit_s else inf, turn)
            good = [
                i < len(records) and _takes_jobs(records[i]) and records[i].name not in promised
                for i in eligible.tolist()
            ]
            able = eligible[good]
            if len(able) < request.nodes_lo:
                continue
            must = frozenset(state.nodes[n].index for n in request.must if n in state.nodes)
            gres = tuple(self.columns.sources.gres.asked(request))
            yield Asked(job, contender(state, job, partition.name), _need(request, must, gres), able)

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
        few = max(NODES_FEW, 2 * asked.need.nodes_lo)
        if len(asked.able) <= few:
            return self._try_on(state, asked, now, turn)
        found, later = self._try_on(state, replace_able(asked, self._promising(state, asked, now, few)), now, turn)
        key = asked.need, alike(asked.asker)
        if found is None and now >= self._in_vain.get(key, 0.0):
            found, later = self._try_on(state, asked, now, turn)
            if found is None:
                if len(self._in_vain) > SCAN_MAX:
                    self._in_vain.clear()
                self._in_vain[key] = now + VAIN_S
        return found, later

    def _promising(self, state: State, asked: Asked, now: float, count: int) -> Int64:
        """`count` nodes: those named, then those where least work is lost for a CPU.  About 1 us a running job."""
        size = len(self.columns.nodes.records)
        lost, freed = np.zeros(size), np.zeros(size)
        nodes, asker = state.nodes, asked.asker
        willing: dict[tuple[str, str], bool] = {}
        for job_id in state.active:
            job = state.jobs[job_id]
            kind = (job.partition, job.spec.qos)
            if kind not in willing:
                willing[kind] = self._may_ask(state, asker, job)
            if not willing[kind] or job.alloc is None or job.yields_cpus:
                continue
            ran_s = now - job.t_start - job.suspended_s + 1.0
            for name, cores in zip(job.alloc.nodes, job.alloc.cores, strict=True):
                if (node := nodes.get(name)) is not None:
                    lost[node.index] += ran_s * len(cores)
                    freed[node.index] += len(cores)
        able = asked.able
        there = freed[able] + [state.free_cores[i].bit_count() for i in able.tolist()]
        named = np.isin(able, list(asked.need.must))
        short = there < asked.need.cost(asked.need.task_lo, 1)
        order = np.lexsort((able, lost[able] / (there + 1.0), short, ~named))
        return np.sort(able[order[:count]])

    def _may_ask(self, state: State, asker: Contender, job: JobRecord) -> bool:
        """True if jobs like this one make room for the asker, as far as partition and QOS say."""
        other = replace_priority(contender(state, job))
        return self.plugin.may_preempt(asker, other, self.rules)

    def _try_on(self, state: State, asked: Asked, now: float, turn: Round) -> tuple[Outcome | None, float]:
        ways, later = self._willing(state, asked, now, turn)
        if not state.yielding and not any(how is not None for how in ways.values()):
            return None, later
        victims = self._victims(state, asked, ways, now)
        places = self._places(state, asked)
        choice = choose(asked.need, places, victims)
        if choice is None:
            return None, later
        if choice.victims and not any(ways[v] is not None for v in choice.victims):
            return None, later  # those that are ending anyway are enough
        alloc = self._allocation(state, asked, choice, {p.index: p for p in places}, victims)
        if alloc is None:
            return None, later
        partition = state.partitions[asked.asker.partition]
        start = AcceptedStart(asked.job.job_id, partition.name, time_limit_s(asked.job.spec, partition), alloc)
        if not self._allowed(state, asked.job, start, now):
            return None, later
        told = [state.jobs[v] for v in choice.victims]
        events = [self._tell(victim, how, asked, now) for victim in told if (how := ways[victim.job_id]) is not None]
        if all(isinstance(event, ev.JobSuspended) for event in events) and len(events) == len(told):
            return Outcome(events, start), 0.0
        self.counters["claims"] += 1
        claim = Claim(
            alloc=self._with_gres(state, asked.job, start.alloc, told),
            partition=start.partition,
            time_limit_s=start.time_limit_s,
            victims=choice.victims,
            t=now,
        )
        return Outcome([*events, ev.JobClaimed(t=now, job_id=asked.job.job_id, claim=claim)]), 0.0

    def _tell(self, victim: JobRecord, how: How, asked: Asked, now: float) -> ev.Event:
        return make_room(victim, how, asked.job, asked.asker, self.rules, now)

    def _willing(self, state: State, asked: Asked, now: float, turn: Round) -> tuple[dict[int, How | None], float]:
        """Jobs that may make room and how (None: it is ending anyway); and when others could, 0 = never."""
        ways: dict[int, How | None] = {}
        later = 0.0
        able = set(asked.able.tolist())
        nodes = state.nodes
        claimed = {v for claimer in state.claims if (c := state.jobs[claimer].claim) is not None for v in c.victims}
        for job_id in state.active:
            job = state.jobs[job_id]
            if job_id in claimed or job.yields_cpus or job.alloc is None:
                continue
            if not any((node := nodes.get(name)) is not None and node.index in able for name in job.alloc.nodes):
                continue
            if job.state is JobState.COMPLETING:
                ways[job_id] = None
                continue
            other = turn.others.get(job_id)
            if other is None:
                other = turn.others[job_id] = contender(state, job)
            if not self.plugin.may_preempt(asked.asker, other, self.rules):
                continue
            how = how_to(job, self.plugin.terms(other), self.rules, now)
            if how is None:
                continue
            if how.t:
                later = min(later, how.t) if later else how.t
                continue
            ways[job_id] = how
        return ways, later

    def _victims(self, state: State, asked: Asked, ways: dict[int, How | None], now: float) -> list[Victim]:
        levels = sorted({how.terms.level for how in ways.values() if how is not None})
        gres_of = self.columns.sources.gres
        able = set(asked.able.tolist())
        victims = []
        for job_id, how in ways.items():
            job = state.jobs[job_id]
            alloc = job.alloc
            assert alloc is not None
            stops = how is not None and how.mode == SUSPEND
            shares: dict[int, Share] = {}
            for place, (name, cores, mem) in enumerate(zip(alloc.nodes, alloc.cores, alloc.mem_mib, strict=True)):
                node = state.nodes.get(name)
                if node is None or node.index not in able:
                    continue
                gres = () if stops else tuple(gres_of.held(job, alloc, place))
                room = len(cores) if job.partition == asked.asker.partition else 0
                given = core_mask(cores) & ~self._full(state, asked, node)
                shares[node.index] = Share(given, 0 if stops else mem, gres, room)
            victims.append(Victim(job_id, self._cost(state, job, how, levels, now), shares))
        return victims

    def _cost(self, state: State, job: JobRecord, how: How | None, levels: list[int], now: float) -> int:
        """What it costs that a job makes room; one that is ending anyway, next to nothing."""
        if how is None:
            return 1
        assert job.alloc is not None
        level, loses = levels.index(how.terms.level), how.mode != SUSPEND
        ran_s = now - job.t_start - job.suspended_s
        return work_cost(sum(job.alloc.cpus), ran_s, level, loses=loses, rules=self.rules)

    def _full(self, state: State, asked: Asked, node: NodeRecord) -> int:
        """Cores of a node that the job may not have whoever makes room."""
        return 0

    def _places(self, state: State, asked: Asked) -> list[Place]:
        partition = state.partitions[asked.asker.partition]
        records = self.columns.nodes.records
        gres_of = self.columns.sources.gres
        places = []
        for index in asked.able.tolist():
            node = records[index]
            kept, mem = self._kept_from(state, node, asked)
            every = (1 << node.cpus) - 1
            room = None
            if partition.max_cpus_per_node:
                used = sum(n for j, n in node.jobs.items() if state.jobs[j].partition == partition.name)
                room = partition.max_cpus_per_node - used
            places.append(
                Place(
                    index=index,
                    cpus=node.cpus,
                    width=core_width(node),
                    mem_mib=node.real_memory_mib,
                    free_cores=state.free_cores[index] & ~kept,
                    free_mem_mib=max(0, state.free_mem_mib[index] - mem),
                    taken=(every & ~state.free_cores[index]) | kept,
                    free_gres=tuple(gres_of.free(state, node)),
                    room=room,
                    weight=node.weight,
                )
            )
        return places

    def _kept_from(self, state: State, node: NodeRecord, asked: Asked) -> tuple[int, int]:
        """Cores and memory of a node that the job may not take although they are free: others have a claim on them,
        or suspended jobs that it may not preempt wait for them."""
        full = self._full(state, asked, node)
        if node.name not in state.kept_cores:
            return full, 0
        cores = full | self._kept_by(state, asked, node)
        for claimer in state.claims:
            claim = state.jobs[claimer].claim
            if claim is not None and node.name in claim.alloc.nodes:
                cores |= core_mask(claim.alloc.cores[claim.alloc.nodes.index(node.name)])
        return cores, state.kept_mem_mib.get(node.name, 0)

    def _kept_by(self, state: State, asked: Asked, node: NodeRecord) -> int:
        cores = 0
        for job_id in node.jobs:
            job = state.jobs[job_id]
            if job.yields_cpus and job.alloc is not None and job.state is JobState.SUSPENDED:
                other = contender(state, job)
                if not self.plugin.may_preempt(asked.asker, other, self.rules):
                    cores |= core_mask(job.alloc.cores[job.alloc.nodes.index(node.name)])
        return cores

    def _allocation(
        self, state: State, asked: Asked, choice: Choice, places: dict[int, Place], victims: list[Victim]
    ) -> Allocation | None:
        """Exactly what the job gets once everybody chosen is gone."""
        gone = {v.job_id: v for v in victims if v.job_id in set(choice.victims)}
        records = self.columns.nodes.records
        need = asked.need
        alloc = Allocation(nodes=[], cores=[], mem_mib=[], whole=need.exclusive)
        for index, tasks in zip(choice.nodes, choice.tasks, strict=True):
            node, place = records[index], places[index]
            free, mem = place.free_cores, place.free_mem_mib
            for victim in gone.values():
                if (share := victim.shares.get(index)) is not None:
                    free |= share.cores
                    mem += share.mem_mib
            count = node.cpus if need.exclusive else need.cost(tasks, place.width)
            picked = self.pick(node, free, count)
            if picked is None:
                return None
            alloc.nodes.append(node.name)
            alloc.cores.append(picked)
            if need.mem_all:
                alloc.mem_mib.append(node.real_memory_mib)
            elif need.mem_node_mib:
                alloc.mem_mib.append(need.mem_node_mib)
            else:
                each = need.mem_cpu_mib
                if need.exclusive:  # all CPUs are taken, not all of them are used: memory at most what is there
                    each = min(each, mem // max(count, 1) + 1)
                alloc.mem_mib.append(min(each * count, mem))
        return alloc

    def _with_gres(self, state: State, job: JobRecord, alloc: Allocation, victims: list[JobRecord]) -> Allocation:
        """The allocation with the devices that are to be kept for it until all has come free."""
        units = needs_of(job.spec).units
        if not units:
            return alloc
        given: list[dict[str, str]] = []
        for name in alloc.nodes:
            node = state.nodes[name]
            masks = dict(state.gres.offered(node))
            for victim in victims:
                other = victim.alloc
                if other is None or name not in other.nodes or victim.yields_cpus:
                    continue
                at = other.nodes.index(name)
                for kind, indexes in (other.gres[at] if at < len(other.gres) else {}).items():
                    word = kind.partition(":")[0]
                    masks[word] = masks.get(word, 0) | mask_of(indexes)
            found = pick_devices(layout_of(node.gres), masks, units)
            given.append({} if isinstance(found, str) else found)
        return replace(alloc, gres=given)

    # ---- starts --------------------------------------------------------------------------------------------------

    def start(self, state: State, start: AcceptedStart, now: float) -> list[ev.Event]:
        """The start of a job for which others have been suspended (their events are applied); [] if it cannot."""
        job = state.jobs[start.job_id]
        return start_events(state, [start], now) if self._may_start(state, job, start, now) else []

    def _may_start(self, state: State, job: JobRecord, start: AcceptedStart, now: float) -> bool:
        if job.job_id not in state.schedulable or not self._allowed(state, job, start, now):
            return False
        if not self._came_free(state, job, Claim(alloc=start.alloc, partition=start.partition)):
            return False
        return not self.columns.sources.gres.give(state, job, start.alloc, {})

    def _allowed(self, state: State, job: JobRecord, start: AcceptedStart, now: float) -> bool:
        """True unless a limit, a licence or another check forbids the start."""
        self.columns.take_running(state)
        pools = self.columns.pools
        for pool, amount in pools.amounts_of(state, job, start.alloc):
            if amount > pools.left(pool):
                return False
        if self.columns.shapes.owners.on and someone_elses(state, job, start.partition, start.alloc.nodes, {}):
            return False
        if state.reservations and Guard(state, (), None, now).why_not(job, "", start.time_limit_s, start.alloc):
            return False
        checks = self.columns.sources.checks
        return not any(check(state, job, start.partition, start.time_limit_s, start.alloc, now) for check in checks)


def _tier(state: State, job: JobRecord) -> int:
    names = job.spec.partitions or [state.default_partition]
    return max((state.partitions[name].priority_tier for name in names if name in state.partitions), default=0)


def _takes_jobs(node: NodeRecord) -> bool:
    return is_schedulable(node) and not node.reservations and not is_counted(node)


def _need(request: Request, must: frozenset[int], gres: tuple[int, ...]) -> Need:
    return Need(
        nodes_lo=request.nodes_lo,
        nodes_hi=request.nodes_hi,
        tasks=request.tasks,
        task_lo=request.task_lo,
        task_hi=request.task_hi,
        cpus_per_task=request.cpus_per_task,
        cpus_min=request.cpus_min,
        mem_node_mib=request.mem_node_mib,
        mem_cpu_mib=request.mem_cpu_mib,
        mem_all=request.mem_all,
        exclusive=request.exclusive,
        gres=gres,
        must=must,
        contiguous=request.contiguous,
    )


def replace_able(asked: Asked, able: Int64) -> Asked:
    """The same on fewer nodes."""
    return Asked(asked.job, asked.asker, asked.need, able)


def replace_priority(other: Contender) -> Contender:
    """As if its priority were the least."""
    return dataclasses.replace(other, priority=-1)


def alike(asker: Contender) -> tuple[object, ...]:
    """All of a contender that plugins decide by, to recognise another just like it."""
    return (asker.partition, asker.tier, asker.qos, asker.priority, asker.uid, asker.account)
