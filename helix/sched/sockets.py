"""`--ntasks-per-socket` and `--ntasks-per-core`: what tasks take of cores and sockets.  Pure.

A socket takes at most so many tasks, each whole within it.  Masks and indexes are those of `helix.sched.place`.
Source: sbatch(1).
"""

from __future__ import annotations

from dataclasses import dataclass

from helix.model.job import JobSpec
from helix.model.node import NodeRecord
from helix.sched.place import core_width, socket_cpus, whole_cores


@dataclass(frozen=True, slots=True)
class TaskCpus:
    """What decides how many CPUs a task takes."""

    cpus: int = 1  # asked
    threads: int = 0  # used of each core, 0 = all
    per_core: int = 0  # at most so many tasks, 0 = any number
    per_socket: int = 0  # likewise

    def on(self, width: int) -> int:
        """CPUs on nodes with `width` CPUs in a core."""
        if 0 < self.threads < width:
            return -(-self.cpus // self.threads) * width
        cpus = self.cpus
        if 0 < self.per_core < width:
            cpus = max(cpus, -(-width // self.per_core))
        if self.per_core == 1 or self.per_socket * cpus % width:  # a core for each, or none across two sockets
            cpus = -(-cpus // width) * width
        return cpus


def task_cpus(spec: JobSpec) -> TaskCpus:
    """As the spec has it.  (MaxMemPerCPU may make them more: see `helix.sched.request`.)"""
    return TaskCpus(spec.cpus_per_task, spec.threads_per_core, spec.tasks_per_core, spec.tasks_per_socket)


@dataclass(frozen=True, slots=True)
class Seats:
    """Tasks by socket: at most `task.per_socket` on each; a node takes `least` to `greatest` in all."""

    task: TaskCpus
    least: int
    greatest: int

    def on_empty(self, node: NodeRecord) -> int:
        """Tasks that the node takes when nothing runs there."""
        own = socket_cpus(node)
        return node.cpus // own * min(self.task.per_socket, own // self.task.on(core_width(node)))

    def on_free(self, node: NodeRecord, free: int) -> int:
        """Tasks that fit on these free CPUs (a mask)."""
        width, own = core_width(node), socket_cpus(node)
        cores = whole_cores(free, width, node.cpus)
        each = self.task.on(width)
        mask = (1 << own) - 1
        return sum(
            min(self.task.per_socket, (cores >> base & mask).bit_count() * width // each)
            for base in range(0, node.cpus, own)
        )

    def serves(self, node: NodeRecord, free: int) -> bool:
        """True if sockets are no reason to take fewer tasks here than all free CPUs do."""
        width = core_width(node)
        cpus = whole_cores(free, width, node.cpus).bit_count() * width
        return self.on_free(node, free) >= min(self.greatest, cpus // self.task.on(width))


def pick_seats(node: NodeRecord, free: int, count: int, task: TaskCpus, tasks: int) -> list[int] | None:
    """`count` CPUs of `free`, ascending, that seat as many tasks as they are for, at most `tasks`; None if they cannot.

    As few sockets as possible, of equal ones the fullest that does.  CPUs beyond those of tasks come from anywhere.
    """
    width, own = core_width(node), socket_cpus(node)
    cores = whole_cores(free, width, node.cpus)
    each = task.on(width)
    left = min(tasks, count // each)
    mask = (1 << own) - 1
    sockets = []
    for base in range(0, node.cpus, own):
        there = cores & mask << base
        room = there.bit_count() * width
        sockets.append((-min(task.per_socket, room // each), room, base, there))
    chosen, need = 0, count // width
    for seats, _, _, there in sorted(sockets):
        seated = min(left, -seats)
        chosen |= _lowest(there, min(need - chosen.bit_count(), -(-seated * each // width)))
        left -= seated
    if left:
        return None
    chosen |= _lowest(cores & ~chosen, need - chosen.bit_count())
    if chosen.bit_count() < need:
        return None
    return [cpu + thread for cpu in range(node.cpus) if chosen >> cpu & 1 for thread in range(width)]


def _lowest(mask: int, count: int) -> int:
    found = 0
    for _ in range(min(count, mask.bit_count())):
        low = mask & -mask
        found |= low
        mask ^= low
    return found


def share_tasks(tasks: int, cpus: list[int], nodes: list[NodeRecord], task: TaskCpus) -> list[int]:
    """Tasks on each node of an allocation, as the planner shares them: as many as fit on one node after the other, at
    least one on each.  `cpus`: those given on each node."""
    room = []
    for count, node in zip(cpus, nodes, strict=True):
        own = socket_cpus(node)
        most = task.per_socket * (node.cpus // own) if task.per_socket else tasks
        room.append(max(1, min(most, count // task.on(core_width(node)))))
    given, left = [], tasks
    for at, most in enumerate(room):
        given.append(max(1, min(most, left - (len(room) - 1 - at))))
        left -= given[-1]
    given[-1] += max(0, left)
    return given
