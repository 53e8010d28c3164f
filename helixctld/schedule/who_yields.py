"""Who would make room for a waiting job, on which nodes, and what it would get: one attempt, put to `choose`.

What is asked of the state here: which running jobs are willing (the plugin and the rules say so), what each node has
free for the asker, which cores it may not have whoever goes, and the exact cores it gets.  `Gangs` answers some of that
otherwise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from helix.model import events as ev
from helix.model.job import Allocation, JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeRecord
from helix.plugin.families import PreemptPlugin
from helix.sched.place import core_width
from helix.sched.preempt import SUSPEND, Choice, Contender, Need, Place, PreemptRules, Share, Victim, work_cost
from helix_native.arrays import Int64
from helixctld.core.preempt import How, contender, how_to, make_room
from helixctld.core.state import State
from helixctld.core.yielding import core_mask
from helixctld.schedule.columns import Columns
from helixctld.schedule.verify import PickCpus


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


class WhoYields:
    """Bound to the columns of a cycle; the state is an argument everywhere."""

    def __init__(self, columns: Columns, plugin: PreemptPlugin, rules: PreemptRules, pick: PickCpus) -> None:
        self.columns = columns
        self.plugin = plugin
        self.rules = rules
        self.pick = pick

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
        other = dataclasses.replace(contender(state, job), priority=-1)
        return self.plugin.may_preempt(asker, other, self.rules)

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


def alike(asker: Contender) -> tuple[object, ...]:
    """All of a contender that plugins decide by, to recognise another just like it."""
    return (asker.partition, asker.tier, asker.qos, asker.priority, asker.uid, asker.account)
