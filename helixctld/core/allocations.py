"""What of the nodes the jobs have: cores, memory and GRES devices, given and taken back.

Part of `State` (a base class): owns `free_cores`, `free_mem_mib`, `gres` and `too_full`, and the counts in the records
of nodes.  Invariants: see `State`.  Cost: O(nodes of the job).
"""

from __future__ import annotations

from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeBase, NodeRecord, all_cores, is_counted
from helixctld.core.gres_use import GresUse
from helixctld.core.yielding import Yielding, cores_of_node


class Allocations(Yielding):
    """What of the state concerns the allocations of active jobs."""

    active: set[int]
    node_names: list[str]
    is_replaying: bool

    def __init__(self) -> None:
        super().__init__()
        self.free_cores: list[int] = []  # of each node, as a mask
        self.free_mem_mib: list[int] = []
        self.gres = GresUse()  # which GRES devices of each node are free
        self.too_full: set[str] = set()  # nodes that became smaller than what their jobs were given

    def take(self, job: JobRecord) -> None:
        """Give `job` its allocation; raises AssertionError if anything would be owned twice."""
        alloc = job.alloc
        assert alloc is not None
        for name, cores, count, mem in zip(alloc.nodes, alloc.cores, alloc.cpus, alloc.mem_mib, strict=True):
            node = self.nodes.get(name)
            if node is None:
                continue
            mask = cores_of_node(node, cores)
            assert self.free_cores[node.index] & mask == mask, f"{name}: cores {cores} of job {job.job_id} are taken"
            if not self.is_replaying:
                has_cpus = not is_counted(node) or node.cpus_alloc + count <= node.cpus
                assert has_cpus, f"{name}: {count} CPUs for job {job.job_id} are not free"
                assert self.free_mem_mib[node.index] >= mem, f"{name}: {mem} MiB for job {job.job_id} are not free"
            self.free_cores[node.index] &= ~mask
            self.free_mem_mib[node.index] -= mem
            node.cpus_alloc += count
            node.mem_alloc_mib += mem
            node.jobs[job.job_id] = count
            if alloc.whole:
                node.whole_job = job.job_id
            self.dirty_nodes.add(name)
        for name, given in zip(alloc.nodes, alloc.gres, strict=False):
            if name in self.nodes:
                self.gres.take(self.nodes[name], given, job.job_id)

    def release(self, job: JobRecord) -> None:
        """Take the allocation back."""
        alloc = job.alloc
        if alloc is None:
            return
        for name, given in zip(alloc.nodes, alloc.gres, strict=False):
            if name in self.nodes and job.job_id in self.nodes[name].jobs:
                self.gres.release(self.nodes[name], given)
        for name, cores, count, mem in zip(alloc.nodes, alloc.cores, alloc.cpus, alloc.mem_mib, strict=True):
            node = self.nodes.get(name)
            if node is None or job.job_id not in node.jobs:
                continue
            if job.yields_cpus:  # others have them
                cores, count = [], 0
            self.free_cores[node.index] |= cores_of_node(node, cores)
            self.free_mem_mib[node.index] += mem
            node.cpus_alloc -= count
            node.mem_alloc_mib -= mem
            del node.jobs[job.job_id]
            if node.whole_job == job.job_id:
                node.whole_job = 0
            if job.state is JobState.COMPLETING:
                node.completing -= 1
            self.dirty_nodes.add(name)
        if job.yields_cpus:
            job.yields_cpus = False
            self.yielding.discard(job.job_id)
            self.keep_for_waiting(alloc.nodes)

    def mark_completing(self, job: JobRecord) -> None:
        """Count `job` as COMPLETING on its nodes (called once, when it enters the state)."""
        if job.alloc is not None:
            for name in job.alloc.nodes:
                if (node := self.nodes.get(name)) is not None and job.job_id in node.jobs:
                    node.completing += 1

    def recount_allocations(self) -> None:
        """Derive everything from the records; a node that is not configured any more comes back for its jobs."""
        self.free_cores = [all_cores(n) for n in self.nodes.values()]
        self.free_mem_mib = [n.real_memory_mib for n in self.nodes.values()]
        self.gres.reset(self.nodes.values())
        for node in self.nodes.values():
            node.cpus_alloc = node.mem_alloc_mib = node.whole_job = node.completing = 0
            node.jobs = {}
        for job_id in sorted(self.active):
            job = self.jobs[job_id]
            if job.alloc is None:
                continue
            alloc = job.alloc
            for name, cores, count, mem in zip(alloc.nodes, alloc.cores, alloc.cpus, alloc.mem_mib, strict=True):
                node = self.nodes.get(name) or self._lost_node(name)
                if job.yields_cpus:
                    cores, count = [], 0
                self.free_cores[node.index] &= ~cores_of_node(node, cores)
                self.free_mem_mib[node.index] -= mem
                node.cpus_alloc += count
                node.mem_alloc_mib += mem
                node.jobs[job_id] = count
                if job.alloc.whole and not job.yields_cpus:
                    node.whole_job = job_id
                if job.state is JobState.COMPLETING:
                    node.completing += 1
            for name, given in zip(alloc.nodes, alloc.gres, strict=False):
                self.gres.take(self.nodes[name], given, job_id)
        self.too_full = {
            node.name
            for node in self.nodes.values()
            if self.free_mem_mib[node.index] < 0 or (is_counted(node) and node.cpus_alloc > node.cpus)
        }
        self.recount_kept()

    def _lost_node(self, name: str) -> NodeRecord:
        """A node that a running job names but the configuration no longer has: kept, DOWN, until the job is gone."""
        node = NodeRecord(name=name, index=len(self.nodes), base=NodeBase.DOWN, reason="not in the configuration")
        node.cpus, node.real_memory_mib = 0, 0
        self.nodes[name] = node
        self.node_names.append(name)
        self.free_cores.append(0)
        self.free_mem_mib.append(0)
        return node
