"""Which GRES devices of which node are free: masks by name, derived from the allocations of ACTIVE jobs.

Invariant (asserted by `invariants.check`): a device is free exactly when no ACTIVE job was given it.  Devices that left
the configuration while a job holds them are nobody's when it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from helix.gres import layout_of, mask_of
from helix.model.node import NodeRecord


class GresUse:
    """Free devices of the nodes that have any."""

    def __init__(self) -> None:
        self.kinds: tuple[str, ...] = ()  #: that some node is configured with, by name
        self._free: dict[str, dict[str, int]] = {}  # node -> name -> mask
        self._kept: dict[str, dict[str, int]] = {}  # node -> name -> mask of what waiting jobs have a claim on

    def reset(self, nodes: Iterable[NodeRecord]) -> None:
        """As if no job ran and none had a claim."""
        self._kept = {}
        self._free = {}
        texts: set[str] = set()
        for node in nodes:
            if node.gres:
                layout = layout_of(node.gres)
                texts.add(node.gres)
                self._free[node.name] = {name: layout.full(name) for name in layout.names}
        self.kinds = tuple(sorted({kind for text in texts for kind in layout_of(text).units}))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GresUse) and self._free == other._free

    __hash__ = None  # type: ignore[assignment]

    def free(self, node: NodeRecord) -> Mapping[str, int]:
        """Free devices of a node: name -> mask.  Not to be changed."""
        return self._free.get(node.name, {})

    def offered(self, node: NodeRecord) -> Mapping[str, int]:
        """Free devices of a node on which no waiting job has a claim: name -> mask.  Not to be changed."""
        free, kept = self.free(node), self._kept.get(node.name)
        return {name: mask & ~kept.get(name, 0) for name, mask in free.items()} if kept else free

    def keep(self, node: str, given: Iterable[Mapping[str, str]]) -> None:
        """Note which devices (kind -> indexes) of a node waiting jobs have a claim on, in place of what was noted."""
        kept: dict[str, int] = {}
        for devices in given:
            for kind, indexes in devices.items():
                name = kind.partition(":")[0]
                kept[name] = kept.get(name, 0) | mask_of(indexes)
        if kept:
            self._kept[node] = kept
        else:
            self._kept.pop(node, None)

    def free_units(self, node: NodeRecord) -> dict[str, int]:
        """Free units of a node by kind."""
        return layout_of(node.gres).free_units(self.free(node)) if node.gres else {}

    def take(self, node: NodeRecord, given: Mapping[str, str], job_id: int) -> None:
        """Give devices (kind -> indexes) to a job; raises AssertionError for one that another has.

        What the configuration does not have any more is passed over: the job was given it when it had.
        """
        free = self._free.get(node.name, {})
        layout = layout_of(node.gres)
        for kind, indexes in given.items():
            name = kind.partition(":")[0]
            mask = mask_of(indexes) & layout.full(name)
            assert free.get(name, 0) & mask == mask, f"{node.name}: {kind} {indexes} of job {job_id} are taken"
            if mask:
                free[name] &= ~mask

    def release(self, node: NodeRecord, given: Mapping[str, str]) -> None:
        """Take devices back."""
        free = self._free.get(node.name)
        if free is None:
            return
        layout = layout_of(node.gres)
        for kind, indexes in given.items():
            name = kind.partition(":")[0]
            if name in free:
                free[name] |= mask_of(indexes) & layout.full(name)


def used_units(node: NodeRecord, free: Mapping[str, int]) -> dict[str, int]:
    """Units of a node by kind that jobs have, given its free units by kind; none are left out."""
    return {kind: units - free.get(kind, 0) for kind, units in layout_of(node.gres).units.items()} if node.gres else {}
