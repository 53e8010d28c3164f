"""A look at the nodes for answers (feasibility, why, advice): the planner's filter, with GRES, outside a pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helix.gres import own_units
from helix.sched.request import Request
from helix_native.arrays import Flags, Int64, ShapeArrays, TableArrays
from helix_native.reference import Pass
from helixctld.schedule.columns import Columns


class Looking(Pass):
    """What is free now on the nodes of `columns`.  `gres`: units that each shape wants on a node.  [S, G]"""

    def __init__(self, columns: Columns, shapes: ShapeArrays, tables: TableArrays, gres: Int64) -> None:
        nodes = columns.nodes.freeze()
        super().__init__(nodes, shapes, tables._replace(room=tables.room[:, : len(nodes.cpus)]))
        self.gres = gres
        self.gres_have, self.gres_free = columns.rows.devices()

    def eligible(self, s: int) -> Flags:
        """Also: nodes with enough devices, whoever has them."""
        able = super().eligible(s)
        if self.gres.shape[1]:
            able &= (self.gres_have >= self.gres[s]).all(axis=1)
        return able

    def fit_now(self, s: int, *, kept: bool) -> Int64:
        """Also: where enough devices are free."""
        fit = super().fit_now(s, kept=kept)
        return np.where(self.has_free(s), fit, 0) if self.gres.shape[1] else fit

    def has_free(self, s: int) -> Flags:
        """Nodes with enough free devices.  [N]"""
        enough: Flags = (self.gres_free >= self.gres[s]).all(axis=1)
        return enough


def look_at(columns: Columns) -> Looking:
    """A look at all shapes of the columns as they are now."""
    shapes, tables = columns.shapes.freeze()
    return Looking(columns, shapes, tables, wanted_gres(columns))


def wanted_gres(columns: Columns) -> Int64:
    """Units that each shape wants on a node.  [S, G]"""
    hosts = np.arange(len(columns.nodes), dtype=np.int32)
    return columns.shapes.freeze_needs(hosts)[0].gres.astype(np.int64)


def gres_masks(columns: Columns, work: Looking, row: int, request: Request, members: Flags) -> list[
    tuple[str, str, Flags]
]:  # fmt: skip
    """For each kind that the request names: nodes that never have enough of it, and nodes where too few are free; word
    and text of each."""
    found: list[tuple[str, str, Flags]] = []
    kinds = columns.sources.gres.kinds
    named = own_units(dict(request.gres))
    for column, kind in enumerate(kinds):
        wanted = int(work.gres[row, column])
        if kind in named and wanted:
            small = members & (work.gres_have[:, column] < wanted)
            found.append(("too_few_gres", f"fewer {kind} than asked even when empty", small))
            busy = members & ~small & (work.gres_free[:, column] < wanted)
            found.append(("gres", f"too few free {kind}", busy))
    return found


def lacking_gres(
    columns: Columns, work: Looking, row: int, request: Request, node: int, have: NDArray[np.int32]
) -> list[str]:
    """What a node lacks of the kinds that the request names, `has 1 of 2 gpu`.  `have`: units by kind.  [N, G]"""
    named = own_units(dict(request.gres))
    return [
        f"has {int(have[node, column])} of {int(work.gres[row, column])} {kind}"
        for column, kind in enumerate(columns.sources.gres.kinds)
        if kind in named and have[node, column] < work.gres[row, column]
    ]
