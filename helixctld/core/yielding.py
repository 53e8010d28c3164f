"""CPUs that change hands for a while: jobs that yield theirs while suspended, and claims on what is to come free.

Part of `State` (a base class): owns `yielding`, `claims` and what is derived from them, `kept_cores` and
`kept_mem_mib`.  Invariants: see `State`.
"""

from __future__ import annotations

from helix.hostlist import format_hostlist
from helix.model.job import Claim, JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeRecord, all_cores, is_counted
from helixctld.core.gres_use import GresUse


class Yielding:
    """What of the state concerns CPUs that somebody else has for the time being."""

    jobs: dict[int, JobRecord]
    nodes: dict[str, NodeRecord]
    free_cores: list[int]
    free_mem_mib: list[int]
    gres: GresUse
    dirty_nodes: set[str]

    def __init__(self) -> None:
        self.yielding: set[int] = set()  # active jobs whose CPUs are given to others while they are suspended
        self.claims: set[int] = set()  # waiting jobs that jobs are being ended for
        self.kept_cores: dict[str, int] = {}  # node -> cores that those wait for, as a mask; no entry = none
        self.kept_mem_mib: dict[str, int] = {}  # node -> memory that claims wait for

    def recount_kept(self) -> None:
        """Derive everything from the records."""
        self.yielding = {job.job_id for job in self.jobs.values() if job.yields_cpus}
        self.claims = {job.job_id for job in self.jobs.values() if job.claim is not None}
        self.kept_cores, self.kept_mem_mib = {}, {}
        for job_id in self.yielding | self.claims:
            job = self.jobs[job_id]
            alloc = job.alloc if job.claim is None else job.claim.alloc
            if alloc is not None:
                self.keep_for_waiting(alloc.nodes)

    def yield_cpus(self, job: JobRecord) -> None:
        """Let others have the cores of a suspended job; its memory stays its own."""
        alloc = job.alloc
        assert alloc is not None
        assert not job.yields_cpus
        for name, cores, count in zip(alloc.nodes, alloc.cores, alloc.cpus, strict=True):
            node = self.nodes.get(name)
            if node is not None and job.job_id in node.jobs:
                self.free_cores[node.index] |= cores_of_node(node, cores)
                node.cpus_alloc -= count
                node.jobs[job.job_id] = 0
                if node.whole_job == job.job_id:
                    node.whole_job = 0
        job.yields_cpus = True
        self.yielding.add(job.job_id)
        self.keep_for_waiting(alloc.nodes)

    def can_take_back(self, job: JobRecord, given: dict[str, int] | None = None) -> bool:
        """True if nobody has the cores that the job yields (nor, for whole nodes, any CPU of its nodes).

        `given`: node -> cores that are about to be given to others.
        """
        alloc = job.alloc
        assert alloc is not None
        given = given or {}
        for name, cores, count in zip(alloc.nodes, alloc.cores, alloc.cpus, strict=True):
            node = self.nodes.get(name)
            if node is None:
                continue
            mask, other = cores_of_node(node, cores), given.get(name, 0)
            if self.free_cores[node.index] & mask != mask or mask & other or node.whole_job:
                return False
            if alloc.whole and (node.cpus_alloc or other):
                return False
            if is_counted(node) and node.cpus_alloc + count > node.cpus:
                return False
        return True

    def is_claimed(self, job: JobRecord) -> bool:
        """True if one of the cores that the job yields is to go to a job with a claim."""
        alloc = job.alloc
        if alloc is None:
            return False
        for claimer in self.claims:
            claim = self.jobs[claimer].claim
            if claim is None:
                continue
            for name, cores in zip(alloc.nodes, alloc.cores, strict=True):
                if name in claim.alloc.nodes:
                    claimed = core_mask(claim.alloc.cores[claim.alloc.nodes.index(name)])
                    if claim.alloc.whole or claimed & core_mask(cores):
                        return True
        return False

    def take_cpus_back(self, job: JobRecord) -> None:
        """End `yield_cpus`: the same cores as before; raises AssertionError if somebody has one."""
        alloc = job.alloc
        assert alloc is not None
        assert self.can_take_back(job), f"the CPUs of job {job.job_id} are taken"
        for name, cores, count in zip(alloc.nodes, alloc.cores, alloc.cpus, strict=True):
            node = self.nodes.get(name)
            if node is not None and job.job_id in node.jobs:
                self.free_cores[node.index] &= ~cores_of_node(node, cores)
                node.cpus_alloc += count
                node.jobs[job.job_id] = count
                if alloc.whole:
                    node.whole_job = job.job_id
        job.yields_cpus = False
        self.yielding.discard(job.job_id)
        self.keep_for_waiting(alloc.nodes)

    def keep_for_waiting(self, names: list[str]) -> None:
        """Recompute what is kept on these nodes for jobs that yield there and for claims."""
        for name in names:
            cores = mem = 0
            gres: list[dict[str, str]] = []
            for job_id in self.nodes[name].jobs if name in self.nodes else ():
                job = self.jobs[job_id]
                if job.yields_cpus and job.alloc is not None:
                    cores |= core_mask(job.alloc.cores[job.alloc.nodes.index(name)])
            for job_id in self.claims:
                claim = self.jobs[job_id].claim
                if claim is not None and name in claim.alloc.nodes:
                    at = claim.alloc.nodes.index(name)
                    cores |= core_mask(claim.alloc.cores[at])
                    mem += claim.alloc.mem_mib[at]
                    gres.extend(claim.alloc.gres[at : at + 1])
            self.gres.keep(name, gres)
            for table, value in ((self.kept_cores, cores), (self.kept_mem_mib, mem)):
                if value:
                    table[name] = value
                else:
                    table.pop(name, None)
            self.dirty_nodes.add(name)

    def drop_claim(self, job: JobRecord) -> None:
        """Keep nothing for the job any more."""
        if job.claim is not None:
            names = job.claim.alloc.nodes
            job.claim = None
            self.claims.discard(job.job_id)
            self.keep_for_waiting(names)

    def offered_cores(self, node: NodeRecord) -> int:
        """Free cores of a node that nobody waits for, as a mask."""
        return self.free_cores[node.index] & ~self.kept_cores.get(node.name, 0)

    def offered_mem_mib(self, node: NodeRecord) -> int:
        """Free memory of a node that no claim waits for."""
        return max(0, self.free_mem_mib[node.index] - self.kept_mem_mib.get(node.name, 0))

    def is_empty(self, node: NodeRecord) -> bool:
        """True if no CPU of the node is taken or waited for."""
        return node.cpus_alloc == 0 and node.name not in self.kept_cores


def claim_words(claim: Claim) -> str:
    """What a job with a claim waits for."""
    where = format_hostlist(claim.alloc.nodes)
    jobs = ", ".join(map(str, claim.victims[:5])) + (", ..." if len(claim.victims) > 5 else "")
    return f"starts on {where} when job {jobs} has made room"


def suspension_words(job: JobRecord) -> str:
    """Why a job that yields its CPUs stands still; "" for any other."""
    if not job.yields_cpus or job.state is not JobState.SUSPENDED:
        return ""
    if job.suspended_for == "preempt":
        return f"suspended to make room for job {job.preemptor}; it goes on when its CPUs are free again"
    return "suspended until it is its turn again: it shares its CPUs by time slices"


def note_cores(job: JobRecord, given: dict[str, int]) -> None:
    """Add the cores of a job to those of each node in `given`."""
    if job.alloc is not None:
        for name, cores in zip(job.alloc.nodes, job.alloc.cores, strict=True):
            given[name] = given.get(name, 0) | core_mask(cores)


def cores_of_node(node: NodeRecord, cores: list[int]) -> int:
    """The same without the CPUs that a node has no more: the configuration may have changed under a job."""
    return core_mask(cores) & all_cores(node)


def core_mask(cores: list[int]) -> int:
    """CPU indexes as a bit mask."""
    mask = 0
    for core in cores:
        mask |= 1 << core
    return mask
