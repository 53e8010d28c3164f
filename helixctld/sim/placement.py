"""How well the placement of helixctld packs pods with GPUs, whole ones and parts: the protocol of Weng et al., USENIX
ATC 2023 ("Beware of Fragmentation").

The nodes that have GPUs start empty.  Pods arrive in random order, drawn again when all have come, and never leave; one
that finds no place is lost.  When the GPU share asked for reaches a percentage of all GPUs, the share that is allocated
is the result.  CPUs are counted in thousandths.  A part of a GPU comes from one device; a pod of several GPUs gets
whole ones.  Requests, planner, choice of nodes and commit are the real ones; only the kinds of GRES are the trace's.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from helix.config.load import default_config
from helix.model import events as ev
from helix.model.job import Allocation, JobRecord, JobSpec
from helix.model.job_state import JobState
from helix.model.node import NodeBase, NodeRecord
from helix.model.partition import PartitionRecord
from helix.plugin.registry import load_plugin
from helix.sched.request import Request
from helixctld.core.apply import apply
from helixctld.core.state import State
from helixctld.core.timers import due
from helixctld.io.planning import sched_options
from helixctld.schedule.cycle import Cycle
from helixctld.schedule.sources import Sources
from helixctld.schedule.starts import start_events
from helixctld.sim.lines import read_lines, unreadable
from helixctld.sim.machine import POOL

MILLI = 1000  #: parts of a GPU
WHOLE, PART = "gpu", "gpu_milli"  #: kinds of GRES
FORGET_EVERY = 2000


@dataclass(frozen=True, slots=True)
class Pod:
    """What one pod asks for."""

    cpu_milli: int
    mem_mib: int
    gpus: int
    gpu_milli: int  # of each

    @property
    def share(self) -> int:
        """Thousandths of GPUs in all."""
        return self.gpus * self.gpu_milli


class Devices:
    """The GPUs of the nodes by what is free of each (`sources.GresSource`)."""

    kinds: tuple[str, ...] = (WHOLE, PART)

    def __init__(self, gpus: dict[str, int]) -> None:
        self._count = gpus
        self._free = {name: [MILLI] * count for name, count in gpus.items()}

    @property
    def allocated(self) -> int:
        """Thousandths of GPUs in use."""
        return sum(MILLI - left for free in self._free.values() for left in free)

    def capacity(self, node: NodeRecord) -> Sequence[int]:
        """Whole GPUs, and the most that one part can be."""
        count = self._count.get(node.name, 0)
        return [count, MILLI if count else 0]

    def free(self, state: State, node: NodeRecord) -> Sequence[int]:
        """GPUs nobody uses, and the largest part that is free on one."""
        free = self._free.get(node.name, ())
        return [sum(left == MILLI for left in free), max(free, default=0)]

    def asked(self, request: Request) -> Sequence[int]:
        """Columns of a request."""
        wanted = dict(request.gres)
        return [wanted.get(kind, 0) for kind in self.kinds]

    def lacking(self, request: Request) -> str:
        """Every kind is known."""
        return next((kind for kind, _ in request.gres if kind not in self.kinds), "")

    def held(self, job: JobRecord, alloc: Allocation, place: int) -> Sequence[int]:
        """Pods never end: what is taken shows in `free`."""
        return (0, 0)

    def give(self, state: State, job: JobRecord, alloc: Allocation, taken: dict[str, object]) -> str:
        """Take the devices of a start: for a part the fullest that still has room for it."""
        free = self._free[alloc.nodes[0]]
        name, _, count = job.spec.gres.partition(":")
        if name == WHOLE:
            whole = [at for at, left in enumerate(free) if left == MILLI][: int(count)]
            if len(whole) < int(count):
                return f"{alloc.nodes[0]} has too few free GPUs"
            for at in whole:
                free[at] = 0
        elif name == PART:
            part = int(count)
            fitting = [(left, at) for at, left in enumerate(free) if left >= part]
            if not fitting:
                return f"no GPU of {alloc.nodes[0]} has so much left"
            free[min(fitting)[1]] -= part
        return ""


class Placing:
    """Pods arrive one by one."""

    def __init__(self, nodes: list[NodeRecord], gpus: dict[str, int]) -> None:
        self.devices = Devices(gpus)
        self.state = State("placement")
        self.state.set_nodes(nodes)
        self.state.set_partitions([PartitionRecord(name=POOL, nodes=[n.name for n in nodes], is_default=True)])
        config = default_config()
        config.scheduler_parameters = {"bf_mode": "easy"}
        config.select_type_parameters = ("CR_CPU_MEMORY",)
        self.cycle = Cycle(
            load_plugin("sched", "sched/backfill"),
            load_plugin("select", config.select_type),
            sched_options(config),
            lambda: 0.0,
            sources=Sources(gres=self.devices),
        )
        self._specs: dict[Pod, JobSpec] = {}

    def arrive(self, pod: Pod, number: int) -> bool:
        """True if the pod found a place; one that did not is gone."""
        state, t = self.state, float(number)
        spec = self._specs.setdefault(pod, spec_of(pod))
        apply(state, ev.JobSubmitted(t=t, job_id=number, uid=1000, gid=1000, spec=spec, priority=1))
        accepted, _ = self.cycle.run_inline(state, t, full=False)
        for event in start_events(state, accepted, t):
            apply(state, event)
        if not accepted:
            job = state.jobs[number]
            apply(state, ev.JobEnded(t=t, job_id=number, attempt=job.attempt, state=JobState.CANCELLED))
        if number % FORGET_EVERY == 0:
            for event in due(state, t, 0.0):
                apply(state, event)
        state.transitions.clear()
        return bool(accepted)


def spec_of(pod: Pod) -> JobSpec:
    """The request of a pod: one task on one node."""
    gres = ""
    if pod.gpus == 1 and pod.gpu_milli < MILLI:
        gres = f"{PART}:{pod.gpu_milli}"
    elif pod.gpus:
        gres = f"{WHOLE}:{pod.gpus}"
    return JobSpec(
        nodes_min=1, nodes_max=1, tasks=1, cpus_per_task=max(1, pod.cpu_milli), mem_per_node_mib=max(1, pod.mem_mib),
        gres=gres, time_limit_s=0,
    )  # fmt: skip


def place(
    pods_path: str,
    nodes_path: str,
    *,
    percent: int = 130,
    seed: int = 0,
    tell: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Fill the nodes of one CSV file with the pods of another; the figures by name."""
    skipped: Counter[str] = Counter()
    nodes, gpus = read_nodes(nodes_path, skipped)
    pods = read_pods(pods_path, skipped)
    if not any(pod.share for pod in pods):
        raise unreadable(pods_path, "no pod asks for a GPU")
    placing = Placing(nodes, gpus)
    total = MILLI * sum(gpus.values())
    rng = np.random.default_rng(seed)
    asked = number = lost = 0
    at_100 = 0.0
    while asked * 100 < percent * total:
        for k in rng.permutation(len(pods)).tolist():
            if asked * 100 >= percent * total:
                break
            number += 1
            asked += pods[k].share
            lost += not placing.arrive(pods[k], number)
            if not at_100 and asked >= total:
                at_100 = placing.devices.allocated / total
            if tell is not None:
                tell(int(asked * 100 / total))
    return {
        "nodes": len(nodes),
        "gpus": sum(gpus.values()),
        "pods": number,
        "lost": lost,
        "seed": seed,
        "asked_share": asked / total,
        "allocated_share": placing.devices.allocated / total,
        "allocated_share_at_100": at_100,
        "skipped": sum(skipped.values()),
    }


def read_nodes(path: str, skipped: Counter[str]) -> tuple[list[NodeRecord], dict[str, int]]:
    """The nodes that have GPUs, and how many."""
    nodes: list[NodeRecord] = []
    gpus: dict[str, int] = {}
    for row in _rows(path, ("sn", "cpu_milli", "memory_mib", "gpu"), skipped):
        count = int(row["gpu"])
        if count > 0:
            cpus = int(row["cpu_milli"])
            gpus[row["sn"]] = count
            nodes.append(
                NodeRecord(
                    name=row["sn"],
                    cpus=cpus,
                    cores_per_socket=cpus,
                    real_memory_mib=int(row["memory_mib"]),
                    base=NodeBase.UP,
                    responding=True,
                    features=[row["model"]] if row.get("model") else [],
                )
            )
    if not nodes:
        raise unreadable(path, "no node in it has a GPU")
    return nodes, gpus


def read_pods(path: str, skipped: Counter[str]) -> list[Pod]:
    """The pods, in the order of the file."""
    return [
        Pod(int(row["cpu_milli"]), int(row["mem_mb"]), int(row["gpus"]), int(row["gpu_milli"]))
        for row in _rows(path, ("cpu_milli", "gpus", "gpu_milli", "mem_mb"), skipped)
    ]


def _rows(path: str, columns: tuple[str, ...], skipped: Counter[str]) -> list[dict[str, str]]:
    """Lines of a CSV file whose `columns` (but a name) are whole numbers from 0 on."""
    lines = csv.reader(line for line in read_lines(path) if line.strip() and not line.startswith("#"))
    header = next(lines, [])
    if missing := [name for name in columns if name not in header]:
        raise unreadable(path, f"its header line has no column '{missing[0]}'")
    rows = []
    for fields in lines:
        row = dict(zip(header, fields, strict=False))
        if len(fields) < len(header):
            skipped["too few fields"] += 1
        elif not all(row[name].isascii() and row[name].isdigit() for name in columns if name != "sn"):
            skipped["not a number"] += 1
        else:
            rows.append(row)
    return rows
