"""A small cluster as pure state, and the moves that a controller makes with it."""

from __future__ import annotations

from typing import Any

from helix.indexset import parse_array_spec
from helix.model import events as ev
from helix.model.codec import msgpack_decoder, to_msgpack
from helix.model.job import Allocation, JobRecord, JobSpec
from helix.model.node import Fingerprint, NodeRecord
from helix.model.partition import PartitionRecord
from helix.wire.methods import Role
from helixctld.core import invariants
from helixctld.core.apply import apply
from helixctld.core.caller import Caller
from helixctld.core.dependency_text import parse_dependency
from helixctld.core.state import State
from helixctld.core.state_save import Persistent

ROOT = Caller(uid=0, gid=0, user="root", role=Role.ADMIN)
ALICE = Caller(uid=1001, gid=1001, user="alice")
BOB = Caller(uid=1002, gid=1002, user="bob")

_events = msgpack_decoder(ev.Event)  # type: ignore[arg-type]
_persistent = msgpack_decoder(Persistent)


def node_records(count: int, cpus: int, memory_mib: int) -> list[NodeRecord]:
    return [
        NodeRecord(name=f"n{k + 1}", cpus=cpus, sockets=1, cores_per_socket=cpus, real_memory_mib=memory_mib)
        for k in range(count)
    ]


class Cluster:
    """A state, its journal as bytes, and a clock that moves by hand."""

    def __init__(self, nodes: int = 2, cpus: int = 4, memory_mib: int = 1000) -> None:
        self.shape = (nodes, cpus, memory_mib)
        self.journal: list[bytes] = []
        self.now = 1000.0
        self.state = self._empty()
        for name in list(self.state.nodes):
            self.do(ev.NodeRegistered(t=self.now, node=name, fingerprint=Fingerprint(cpus=cpus, boot_id="b1")))
            self.state.set_responding(name, True)

    def _empty(self) -> State:
        state = State("test")
        state.set_nodes(node_records(*self.shape))
        state.set_partitions([PartitionRecord(name="batch", nodes=list(state.nodes), is_default=True)])
        return state

    def do(self, *events: Any) -> None:
        """Journal, apply and check; each event crosses its wire form."""
        for event in events:
            data = to_msgpack(event)
            self.journal.append(data)
            apply(self.state, _events.decode(data))
            invariants.check(self.state)

    def submit(
        self, *, caller: Caller = ALICE, array: str = "", dependency: str = "", assoc: str = "", **fields: Any
    ) -> JobRecord:
        spec = JobSpec(**fields)
        if array:
            spec.array, limit = parse_array_spec(array)
            spec.array_limit = limit or 0
        if dependency:
            spec.dependency = parse_dependency(dependency)
        job_id = self.state.next_job_id
        self.do(
            ev.JobSubmitted(
                t=self.now,
                job_id=job_id,
                uid=caller.uid,
                gid=caller.gid,
                user=caller.user,
                spec=spec,
                priority=1000,
                assoc=assoc,
            )
        )
        return self.state.jobs[job_id]

    def start(self, job: JobRecord, node: str = "n1", cores: tuple[int, ...] = (0,), mem_mib: int = 10) -> JobRecord:
        """Start a job, or the next task of an array; gives the record that runs."""
        event = ev.JobStarted(
            t=self.now,
            job_id=job.job_id,
            attempt=job.attempt,
            partition="batch",
            alloc=Allocation(nodes=[node], cores=[list(cores)], mem_mib=[mem_mib]),
            array_job_id=job.array_job_id,
            array_task_id=job.array_task_id,
        )
        if job.is_array:
            event.job_id, event.array_task_id = self.state.next_job_id, self.state.next_tasks(job, 1)[0]
            event.attempt = 0
        self.do(event)
        return self.state.jobs[event.job_id]

    def launch(self, job: JobRecord) -> None:
        self.do(ev.JobLaunched(t=self.now, job_id=job.job_id, attempt=job.attempt, t_start=self.now))

    def replayed(self) -> State:
        """The state a restart would come to from the journal alone."""
        state = self._empty()
        state.is_replaying = True
        for data in self.journal:
            apply(state, _events.decode(data))
        state.is_replaying = False
        state.set_nodes(node_records(*self.shape))
        state.rebuild(self.now)
        return state

    def restarted(self) -> State:
        """The state a restart would come to from a snapshot taken now."""
        state = State("test")
        state.thaw(_persistent.decode(to_msgpack(self.state.freeze())))
        state.set_nodes(node_records(*self.shape))
        state.set_partitions([PartitionRecord(name="batch", nodes=list(state.nodes), is_default=True)])
        state.rebuild(self.now)
        return state


def picture(state: State) -> dict[str, Any]:
    """What two states must agree on."""
    return {
        "jobs": {j.job_id: to_msgpack(j) for j in state.jobs.values()},
        "free": (state.free_cores, state.free_mem_mib),
        "kept": (state.kept_cores, state.kept_mem_mib, state.yielding, state.claims),
        "schedulable": state.schedulable,
        "active": state.active,
        "next": state.next_job_id,
        "history": state.history,
        "usage": to_msgpack(state.usage),
        "counts": {k: v for k, v in state.counts.items() if v},
    }
