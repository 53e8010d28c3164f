"""What a request's GRES options come to on each node, and which devices a start gets.  Pure.

Counts are served on each node.  `--gpus` is a count for the job: it needs a number of nodes that is known and divides
it, one by default.  `--gpus-per-task` needs to know the tasks on each node.  What would need a choice of nodes by
uneven counts is refused by name.  Source: sbatch(1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from helix.errors import UsageError
from helix.gres import Layout, indexes_of, parse_gpus, parse_gres, units_of
from helix.model.job import JobSpec

Units = tuple[tuple[str, int], ...]  #: (kind, units) by kind; units of a type count for its name too


@dataclass(frozen=True, slots=True)
class Needs:
    """Units on each node, and what they say about the nodes."""

    units: Units = ()
    nodes: int = 0  # exactly so many nodes, 0 = any number
    tasks_per_node: int = 0  # exactly so many tasks on each, 0 = any number


def gres_key(spec: JobSpec) -> tuple[object, ...]:
    """Everything of a spec that `needs_of` reads."""
    return (spec.gres, spec.gpus, spec.gpus_per_node, spec.gpus_per_task, spec.gpus_per_socket)


def needs_of(spec: JobSpec) -> Needs:
    """The units on each node.  Raises UsageError (GRES_INVALID, GRES_UNSERVED) that names the option."""
    if not (spec.gres or spec.gpus or spec.gpus_per_node or spec.gpus_per_task or spec.gpus_per_socket):
        return _NOTHING
    return _needs(
        spec.gres,
        spec.gpus,
        spec.gpus_per_node,
        spec.gpus_per_task,
        spec.gpus_per_socket,
        spec.nodes_min,
        spec.nodes_max,
        spec.tasks,
        spec.tasks_per_node,
        spec.sockets_per_node,
    )


_NOTHING = Needs()


@lru_cache(maxsize=4096)
def _needs(
    gres: str,
    gpus: str,
    per_node: str,
    per_task: str,
    per_socket: str,
    nodes_min: int,
    nodes_max: int,
    tasks: int,
    tasks_per_node: int,
    sockets: int,
) -> Needs:
    fixed = nodes_max if 0 < nodes_max == nodes_min else 0
    units = units_of(parse_gres(gres))
    if per_node:
        _add(units, units_of(parse_gpus(per_node)), 1)
    if per_socket:
        if not sockets:
            raise _unserved("--gpus-per-socket", "needs to know the sockets of a node", "--sockets-per-node")
        _add(units, units_of(parse_gpus(per_socket)), sockets)
    if gpus:
        total = units_of(parse_gpus(gpus))
        if not fixed:
            if nodes_max > 1 or nodes_min > 1 or (tasks_per_node and tasks > tasks_per_node):
                raise _unserved("--gpus", "needs a fixed number of nodes", "--nodes=N, or use --gpus-per-node")
            fixed = 1
        uneven = next((count for count in total.values() if count % fixed), 0)
        if uneven:
            raise _unserved("--gpus", f"{uneven} GPUs are not shared evenly over {fixed} nodes", "--gpus-per-node")
        _add(units, {kind: count // fixed for kind, count in total.items()}, 1)
    share = 0
    if per_task:
        if not tasks_per_node and not fixed and tasks <= 1:
            fixed = 1
        share = tasks_per_node or (tasks or fixed) // (fixed or 1)
        if not tasks_per_node and (not fixed or (tasks or fixed) % fixed):
            raise _unserved(
                "--gpus-per-task",
                "needs to know the tasks on each node",
                "--ntasks-per-node, or --nodes=N that divides --ntasks",
            )
        if tasks_per_node and tasks and tasks % tasks_per_node:
            raise _unserved("--gpus-per-task", f"{tasks} tasks are not {tasks_per_node} on each node", "--nodes")
        if tasks_per_node and tasks and not fixed:
            fixed = tasks // tasks_per_node
        _add(units, units_of(parse_gpus(per_task)), share)
    return Needs(tuple(sorted(units.items())), fixed if gpus or per_task else 0, share)


def _add(units: dict[str, int], more: Mapping[str, int], times: int) -> None:
    for kind, count in more.items():
        units[kind] = units.get(kind, 0) + count * times


def _unserved(option: str, why: str, remedy: str) -> UsageError:
    return UsageError(f"{option}: {why}", code="GRES_UNSERVED", hint=f"add {remedy}")


def pick_devices(layout: Layout, free: Mapping[str, int], need: Mapping[str, int] | Units) -> dict[str, str] | str:
    """The devices for `need` (as `units_of` counts) out of `free` (masks by name), the lowest numbers first: kind ->
    indexes; or the kind of which too few are free."""
    need = dict(need)
    given: dict[str, str] = {}
    for name in sorted({kind.partition(":")[0] for kind, units in need.items() if units}):
        left = free.get(name, 0)
        wanted = need.get(name, 0)
        parts = layout.names.get(name, [])
        taken: dict[str, int] = {}
        for kind, units in need.items():
            if units and kind.startswith(name + ":"):
                for part, first, size in parts:
                    if part == kind and units > taken.get(kind, 0).bit_count():
                        here = lowest(left & ((1 << size) - 1) << first, units - taken.get(kind, 0).bit_count())
                        taken[kind] = taken.get(kind, 0) | here
                        left &= ~here
                if taken.get(kind, 0).bit_count() < units:
                    return kind
                wanted -= units
        for part, first, size in parts:
            if wanted <= 0:
                break
            here = lowest(left & ((1 << size) - 1) << first, wanted)
            if here:
                taken[part] = taken.get(part, 0) | here
                left &= ~here
                wanted -= here.bit_count()
        if wanted > 0:
            return name
        given.update((kind, indexes_of(mask)) for kind, mask in taken.items() if mask)
    return given


def devices_in(layout: Layout, free: Mapping[str, int]) -> dict[str, str]:
    """All devices of a node that are in the masks (by name), as `pick_devices` gives them."""
    masks: dict[str, int] = {}
    for name, parts in layout.names.items():
        for kind, first, size in parts:
            masks[kind] = masks.get(kind, 0) | free.get(name, 0) & ((1 << size) - 1) << first
    return {kind: indexes_of(mask) for kind, mask in masks.items() if mask}


def lowest(mask: int, count: int) -> int:
    """The `count` lowest bits of a mask, or all it has."""
    if mask.bit_count() <= count:
        return mask
    found = 0
    for _ in range(count):
        low = mask & -mask
        found |= low
        mask ^= low
    return found
