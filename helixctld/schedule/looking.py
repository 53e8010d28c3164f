"""A look at the nodes for answers (feasibility, why, advice): the planner's filter, with GRES, outside a pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helix.gres import own_units
from helix.sched.explain import duration_words, plural
from helix.sched.request import ANY_SWITCHES, Request
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


def look_at(columns: Columns, *, lasting: bool = False) -> Looking:
    """A look at all shapes of the columns as they are now; `lasting`: at the nodes they may ever use, not only now."""
    shapes, tables = columns.shapes.freeze()
    if lasting:
        tables = columns.shapes.lasting()
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


def scattered(columns: Columns, request: Request, fit: Int64) -> str:
    """That enough nodes (`fit`: tasks each takes now) are free, but not below as few switches as are asked; else ""."""
    if not 0 < request.switches < ANY_SWITCHES:
        return ""
    _, counts = np.unique(columns.rows.leaves()[fit > 0], return_counts=True)
    most = int(np.sort(counts)[::-1][: request.switches].sum())
    if most >= request.nodes_lo:
        return ""
    free, below = plural(int(counts.sum()), "node"), plural(request.switches, "switch").replace("switchs", "switches")
    return f"{free} could take part now, but at most {most} of them below {below}, and {request.nodes_lo} are asked"


def switch_advice(request: Request) -> list[str]:
    """What helps a job that waits for switches."""
    if not request.switch_wait_s:
        return ["without --segment it would fit now"]
    wait = duration_words(request.switch_wait_s)
    return [f"without --switches it would fit now; any switches will do once it has waited {wait}"]


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
