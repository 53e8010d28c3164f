"""GRES as the planner's columns see them (`sources.GresSource`): kinds are columns, `gpu` and `gpu:a100` two of them.

A kind's column counts units; which devices a start gets is decided at its commit, the lowest numbers first.  A request
without a type takes devices of any type, so after such a start in the same plan a column of a type may promise more
than is left: the commit notices, and the job waits for the next pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helix.gres import layout_of, mask_of, units_of
from helix.model.hetjob import spec_at, specs_of
from helix.model.job import Allocation, JobRecord
from helix.model.node import NodeRecord
from helix.sched.gres import devices_in, needs_of, pick_devices
from helix.sched.request import Request
from helixctld.core.state import State


class NodeGres:
    """The kinds that the configured nodes of one state have."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kinds: tuple[str, ...] = ()
        self._capacity: dict[str, list[int]] = {}  # text of a node -> units by column

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those that some node is configured with, by name."""
        if self._kinds != self._state.gres.kinds:
            self._kinds = self._state.gres.kinds
            self._capacity = {}
        return self._kinds

    def _row(self, units: Mapping[str, int]) -> list[int]:
        return [units.get(kind, 0) for kind in self.kinds]

    def capacity(self, node: NodeRecord) -> Sequence[int]:
        """Units of each kind the node has."""
        kinds = self.kinds
        row = self._capacity.get(node.gres)
        if row is None:
            row = self._capacity[node.gres] = self._row(layout_of(node.gres).units) if node.gres else [0] * len(kinds)
        return row

    def free(self, state: State, node: NodeRecord) -> Sequence[int]:
        """Units of each kind that no job has, and that are kept for none."""
        if not node.gres or node.whole_job:
            return [0] * len(self.kinds)
        return self._row(layout_of(node.gres).free_units(state.gres.offered(node)))

    def asked(self, request: Request) -> Sequence[int]:
        """Units of each kind the request wants on each node; a kind that no node has is `lacking`'s business."""
        return self._row(dict(request.gres))

    def lacking(self, request: Request) -> str:
        """A kind that is asked for and that no node has, "" if there is none."""
        kinds = self.kinds
        return next((kind for kind, _ in request.gres if kind not in kinds), "")

    def held(self, job: JobRecord, alloc: Allocation, place: int) -> Sequence[int]:
        """Units of each kind `alloc` has on its node number `place`."""
        if place >= len(alloc.gres):
            return [0] * len(self.kinds)
        return self._row(units_given(alloc.gres[place]))

    def give(self, state: State, job: JobRecord, alloc: Allocation, taken: dict[str, object]) -> str:
        """Fill in the devices of a start; or say what is missing, in words, and take nothing."""
        if not alloc.whole and not any(needs_of(spec).units for spec in specs_of(job.spec)):
            return ""
        given: list[dict[str, str]] = []
        left: dict[str, dict[str, int]] = {}
        for place, name in enumerate(alloc.nodes):
            needs = needs_of(spec_at(job.spec, alloc, place)).units
            node = state.nodes[name]
            layout = layout_of(node.gres)
            free = taken.get(name)
            masks = dict(free) if isinstance(free, dict) else dict(state.gres.offered(node))
            found = pick_devices(layout, masks, needs)
            if isinstance(found, str):
                return f"{name} has too few free {found}"
            if alloc.whole:  # all that suspended jobs do not keep
                found = devices_in(layout, masks)
            for kind, indexes in found.items():
                masks[kind.partition(":")[0]] &= ~mask_of(indexes)
            given.append(found)
            left[name] = masks
        if any(given):
            taken.update(left)
            alloc.gres = given
        return ""


def units_given(given: Mapping[str, str]) -> dict[str, int]:
    """Units by kind of what a job has on a node; those of a type count for the name as well."""
    items = []
    for kind, indexes in given.items():
        name, _, word = kind.partition(":")
        items.append((name, word, mask_of(indexes).bit_count()))
    return units_of(items)
