"""Which share of a planned start is for which component of a heterogeneous job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helix.model.job import JobRecord
from helix.sched.plan import Plan
from helix.sched.request import Request

PartsOf = Callable[[int], list[Request]]  #: the parts that start together with the one of a shape, in order


@dataclass(frozen=True, slots=True)
class Group:
    """Shares of one component: places in the plan's lists, and the partition they are in."""

    component: int
    partition: str
    places: list[int]


def groups_of(plan: Plan, start: int, job: JobRecord, parts_of: PartsOf | None) -> list[Group]:
    """The components of start number `start`, in order; [] for a job that is not heterogeneous."""
    if not job.spec.components or parts_of is None or plan.start_shape is None or plan.chunk is None:
        return []
    parts = parts_of(int(plan.start_shape[start]))
    named = plan.partitions[int(plan.start_part[start])]
    groups: dict[int, Group] = {}
    for place in range(int(plan.ptr[start]), int(plan.ptr[start + 1])):
        part = parts[int(plan.chunk[place])]
        group = groups.setdefault(part.component, Group(part.component, part.partition or named, []))
        group.places.append(place)
    for group in groups.values():
        group.places.sort(key=lambda place: int(plan.node[place]))
    return [groups[component] for component in sorted(groups)]
