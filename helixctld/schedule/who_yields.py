"""Who would make room for a waiting job, on which nodes, and what it would get: one attempt, put to `choose`.

What is asked of the state here: which running jobs are willing (the plugin and the rules say so), what each node has
free for the asker, which cores it may not have whoever goes, and the exact cores it gets.  `Gangs` answers some of that
otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from helix.model import events as ev
from helix.model.hetjob import partition_on
from helix.model.job import Allocation, Claim, JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeRecord
from helix.plugin.families import PreemptPlugin
from helix.sched.place import core_width
from helix.sched.preempt import SUSPEND, Choice, Contender, Place, PreemptRules, Share, Victim, work_cost
from helix_native.arrays import Int64
from helixctld.core.preempt import How, contender, contenders, how_to, make_room, terms_of
from helixctld.core.state import State
from helixctld.core.yielding import core_mask
from helixctld.schedule.asking import Asked, AskedPart, Asking, alike
from helixctld.schedule.columns import Columns
from helixctld.schedule.kept import Float64
from helixctld.schedule.verify import PickCpus

KNOWN_S = 1.0  #: how long the order in which nodes are looked at is kept
KINDS_MAX = 256  #: kinds of askers for which it is
_NOTHING = np.zeros(0, np.float64)
IN_RESERVATION = "reservation "  #: before its name: what its share of a node leaves; partitions' names have no spaces


@dataclass(slots=True)
class Round:
    """What is found out after one pass and holds until everybody has made room."""

    passed: set[int] = field(default_factory=set)  # waiting jobs looked at
    order: list[int] | None = None  # waiting jobs in the queue's order
    kinds: list[Contender] | None = None  # of running jobs that make room at all
    asks: dict[tuple[object, ...], bool] = field(default_factory=dict)
    others: dict[int, list[Contender]] = field(default_factory=dict)
    failed: dict[tuple[object, ...], int] = field(default_factory=dict)  # request -> priority with which it was in vain
    promises: list[tuple[int, float, list[str]]] | None = None  # waiting job, start, nodes
    able: dict[tuple[int, frozenset[str]], Int64] = field(default_factory=dict)  # see `Asking.ways`


@dataclass(slots=True)
class Willing:
    """Who may make room for a job."""

    may_ask: list[set[int]]  # by part: jobs it may ask
    over: set[int] = field(default_factory=set)  # waiting jobs whose claims it may take over
    theirs: dict[str, int] = field(default_factory=dict)  # node -> cores that those are for
    kept: dict[str, tuple[int, int]] = field(default_factory=dict)  # node -> cores, MiB that other claims are for
    ways: dict[int, How | None] = field(default_factory=dict)  # how each would; None: it is ending anyway
    later: float = 0.0  # others could from then on, 0 = never

    def add(self, job_id: int, how: How | None, asks: list[bool]) -> None:
        """A job that the parts with a flag may ask."""
        self.ways[job_id] = how
        for may_ask, may in zip(self.may_ask, asks, strict=True):
            if may:
                may_ask.add(job_id)

    def wait_until(self, t: float) -> None:
        """Somebody could from then on."""
        self.later = min(self.later, t) if self.later else t


class WhoYields:
    """Bound to the columns of a cycle; the state is an argument everywhere."""

    def __init__(self, columns: Columns, plugin: PreemptPlugin, rules: PreemptRules, pick: PickCpus) -> None:
        self.columns = columns
        self.asking = Asking(columns)
        #: kind of asker -> when that was, and by node: CPU seconds that would be lost, CPUs that would come free
        self._known: dict[tuple[object, ...], tuple[float, Float64, Float64]] = {}
        self.plugin = plugin
        self.rules = rules
        self.pick = pick

    def _promising(self, state: State, asked: Asked, now: float, few: int, window: int = 0) -> Asked:
        """The way on few nodes: those named, then those where least work is lost for a CPU; `window`: leave out so many
        times as many.  About 1 us a running job, once in KNOWN_S for all that ask alike."""
        parts = []
        for part in asked.parts:
            count = max(few, 2 * part.need.nodes_lo)
            able = part.able
            if len(able) > count:
                able = self._promising_nodes(state, part, now, count, window)
            parts.append(dataclasses.replace(part, able=able))
        return dataclasses.replace(asked, parts=tuple(parts))

    def _promising_nodes(self, state: State, part: AskedPart, now: float, count: int, window: int) -> Int64:
        kind = alike(part.asker)
        size = len(self.columns.nodes.records)
        t, lost, freed = self._known.get(kind, (0.0, _NOTHING, _NOTHING))
        if not 0 <= now - t < KNOWN_S or len(lost) != size:
            if len(self._known) > KINDS_MAX:
                self._known.clear()
            lost, freed = self._yields(state, part.asker, now)
            self._known[kind] = now, lost, freed
        able = part.able
        there = freed[able] + self.columns.nodes.freeze().free_cpus[able]
        named = np.isin(able, list(part.need.must))
        short = there < part.need.cost(part.need.task_lo, 1)
        order = np.lexsort((able, lost[able] / (there + 1.0), short, ~named))
        begin = count * window if count * window < len(order) else 0
        found: Int64 = np.sort(able[order[begin : begin + count]])
        return found

    def _yields(self, state: State, asker: Contender, now: float) -> tuple[Float64, Float64]:
        size = len(self.columns.nodes.records)
        lost, freed = np.zeros(size), np.zeros(size)
        nodes = state.nodes
        willing: dict[tuple[str, str], bool] = {}
        for job_id in state.active:
            job = state.jobs[job_id]
            kind = (job.partition, job.spec.qos)
            if kind not in willing:
                willing[kind] = self._may_ask(state, asker, job)
            if not willing[kind] or job.alloc is None or job.yields_cpus or job.state is JobState.COMPLETING:
                continue
            ran_s = now - job.t_start - job.suspended_s + 1.0
            for name, cores in zip(job.alloc.nodes, job.alloc.cores, strict=True):
                if (node := nodes.get(name)) is not None:
                    lost[node.index] += ran_s * len(cores)
                    freed[node.index] += len(cores)
        return lost, freed

    def _leave(self, state: State, alloc: Allocation) -> None:
        """Nodes that have been given are not the next to be looked at."""
        indexes = [state.nodes[name].index for name in alloc.nodes]
        for _, lost, freed in self._known.values():
            if len(lost) <= max(indexes):
                continue
            freed[indexes] = 0.0
            lost[indexes] = np.inf

    def _may_ask(self, state: State, asker: Contender, job: JobRecord) -> bool:
        """True if jobs like this one make room for the asker, as far as partition and QOS say."""
        other = dataclasses.replace(contender(state, job), priority=-1)
        return self.plugin.may_preempt(asker, other, self.rules)

    def _tell(self, victim: JobRecord, how: How, asked: Asked, willing: Willing, now: float) -> ev.Event:
        askers = (part.asker for part, asks in zip(asked.parts, willing.may_ask, strict=True) if victim.job_id in asks)
        return make_room(victim, how, asked.job, next(askers), self.rules, now)

    def _asking(self, state: State, asked: Asked) -> Willing:
        """Nobody yet; and whose claims stand against the job.  Its own, and those of jobs that it might preempt if they
        ran, do not."""
        found = Willing([set() for _ in asked.parts])
        for claimer in state.claims:
            other = state.jobs[claimer]
            claim = other.claim
            if claim is None:
                continue
            over = other is asked.job or self._goes_first(state, asked, other, claim)
            if over:
                found.over.add(claimer)
            for name, cores, mem in zip(claim.alloc.nodes, claim.alloc.cores, claim.alloc.mem_mib, strict=True):
                if over:
                    found.theirs[name] = found.theirs.get(name, 0) | core_mask(cores)
                    continue
                before = found.kept.get(name, (0, 0))
                found.kept[name] = before[0] | core_mask(cores), before[1] + mem
        return found

    def _goes_first(self, state: State, asked: Asked, other: JobRecord, claim: Claim) -> bool:
        if claim.reservation != asked.reservation:
            return False
        victim = contender(state, other, claim.partition)
        return all(self.plugin.may_preempt(part.asker, victim, self.rules) for part in asked.parts)

    def _willing(self, state: State, asked: Asked, now: float, turn: Round) -> Willing:
        found = self._asking(state, asked)
        records = self.columns.nodes.records
        there = [{job_id for i in part.able.tolist() for job_id in records[i].jobs} for part in asked.parts]
        for job_id in set().union(*there):
            job = state.jobs[job_id]
            if job.yields_cpus or job.alloc is None:
                continue
            if job.reservation and job.reservation != asked.reservation:
                continue  # what is reserved is left to the jobs of the reservation
            near = [job_id in mine for mine in there]
            if job.state is JobState.COMPLETING:
                found.add(job_id, None, near)
                continue
            others = turn.others.get(job_id)
            if others is None:
                others = turn.others[job_id] = contenders(state, job)
            asks = [
                is_near and all(self.plugin.may_preempt(part.asker, other, self.rules) for other in others)
                for part, is_near in zip(asked.parts, near, strict=True)
            ]
            if not any(asks):
                continue
            how = how_to(job, terms_of(self.plugin, others, self.rules), self.rules, now)
            if how is None:
                continue
            if how.t:
                found.wait_until(how.t)
                continue
            found.add(job_id, how, asks)
        return found

    def _victims(self, state: State, asked: Asked, willing: Willing, now: float) -> list[Victim]:
        ways, kept = willing.ways, willing.kept
        levels = sorted({how.terms.level for how in ways.values() if how is not None})
        gres_of = self.columns.sources.gres
        able = asked.able
        claimed = claimed_victims(state, state.claims - willing.over)
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
                gres = () if stops or job_id in claimed else tuple(gres_of.held(job, alloc, place))
                rooms = {partition_on(job, name): len(cores), IN_RESERVATION + job.reservation: len(cores)}
                given = core_mask(cores) & ~self._full(state, asked, node) & ~kept.get(name, (0, 0))[0]
                shares[node.index] = Share(given, 0 if stops else mem, gres, rooms)
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

    def _places(self, state: State, asked: Asked, part: AskedPart, willing: Willing) -> list[Place]:
        partition = state.partitions[part.asker.partition]
        reservation = state.reservations.get(asked.reservation)
        records = self.columns.nodes.records
        gres_of = self.columns.sources.gres
        places = []
        for index in part.able.tolist():
            node = records[index]
            kept, mem = self._kept_from(state, node, asked, part, willing)
            free_mem = state.free_mem_mib[index] - mem  # less than nothing where a claim waits for those that go
            rooms: dict[str, int] = {}
            if partition.max_cpus_per_node:
                used = sum(n for j, n in node.jobs.items() if partition_on(state.jobs[j], node.name) == partition.name)
                rooms[partition.name] = partition.max_cpus_per_node - used
            if reservation is not None and (share := reservation.shares.get(node.name)) and not share.whole:
                inside = [job for j in node.jobs if (job := state.jobs[j]).reservation == reservation.name]
                rooms[IN_RESERVATION + reservation.name] = share.cpus - sum(node.jobs[job.job_id] for job in inside)
                free_mem = min(free_mem, max(0, share.mem_mib - sum(mem_on(job, node.name) for job in inside)))
            places.append(
                Place(
                    index=index,
                    cpus=node.cpus,
                    width=core_width(node),
                    mem_mib=node.real_memory_mib,
                    free_cores=state.free_cores[index] & ~kept,
                    free_mem_mib=free_mem,
                    taken=(((1 << node.cpus) - 1) & ~state.free_cores[index]) | kept,
                    free_gres=tuple(gres_of.free(state, node)),
                    rooms=rooms,
                    weight=node.weight,
                )
            )
        return places

    def _kept_from(
        self, state: State, node: NodeRecord, asked: Asked, part: AskedPart, willing: Willing
    ) -> tuple[int, int]:
        """Cores and memory of a node that the job may not take although they are free: others have a claim on them,
        or suspended jobs that it may not preempt wait for them."""
        full = self._full(state, asked, node)
        if node.name not in state.kept_cores:
            return full, 0
        cores, mem = willing.kept.get(node.name, (0, 0))
        return full | cores | self._kept_by(state, asked, part, node), mem

    def _kept_by(self, state: State, asked: Asked, part: AskedPart, node: NodeRecord) -> int:
        cores = 0
        for job_id in node.jobs:
            job = state.jobs[job_id]
            if job.yields_cpus and job.alloc is not None and job.state is JobState.SUSPENDED:
                others = contenders(state, job)
                may = all(self.plugin.may_preempt(part.asker, other, self.rules) for other in others)
                if not may or (job.reservation and job.reservation != asked.reservation):
                    cores |= core_mask(job.alloc.cores[job.alloc.nodes.index(node.name)])
        return cores

    def _allocation(
        self,
        asked: Asked,
        choice: Choice,
        places: list[dict[int, Place]],
        gone: list[list[Victim]],
        claimed: Mapping[str, int],
    ) -> Allocation | None:
        """Exactly what the job gets once everybody chosen is gone.  `places`, `gone`: by part; `claimed`: cores that it
        takes last, by node."""
        records = self.columns.nodes.records
        alloc = Allocation(nodes=[], cores=[], mem_mib=[], whole=asked.parts[0].need.exclusive)
        shares: list[dict[int, list[Share]]] = [{} for _ in gone]
        for mine, victims in zip(shares, gone, strict=True):
            for victim in victims:
                for index, share in victim.shares.items():
                    mine.setdefault(index, []).append(share)
        given = sorted(
            zip(choice.part, choice.nodes, choice.tasks, strict=True),
            key=lambda at: (asked.parts[at[0]].component, at[1]),
        )
        for at, index, tasks in given:
            need, node, place = asked.parts[at].need, records[index], places[at][index]
            free, mem = place.free_cores, place.free_mem_mib
            for share in shares[at].get(index, ()):
                free |= share.cores
                mem += share.mem_mib
            count = node.cpus if need.exclusive else need.cost(tasks, place.width)
            picked = self.pick(node, free & ~claimed.get(node.name, 0), count) or self.pick(node, free, count)
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
            if asked.job.spec.components:
                alloc.component.append(asked.parts[at].component)
        return alloc


def claimed_victims(state: State, claimers: Iterable[int]) -> set[int]:
    """Jobs that make room for these waiting ones."""
    claims = (state.jobs[job_id].claim for job_id in claimers)
    return {victim for claim in claims if claim is not None for victim in claim.victims}


def mem_on(job: JobRecord, node: str) -> int:
    """MiB that a running job has on one of its nodes."""
    assert job.alloc is not None
    return job.alloc.mem_mib[job.alloc.nodes.index(node)]
