"""What requests ask besides nodes, CPUs and memory, as columns beside the shapes: GRES, rank scores, switches, parts.

Owns no rows: `ShapeColumns` says which row is which request.  A score row is kept for each rank expression in use, and
for each set of later parts to which a part of a chain leaves nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helix.sched.request import Request
from helix_native.ahead_arrays import NEVER, AheadTables, NeedArrays
from helix_native.arrays import Flags, Int32
from helixctld.schedule.node_attributes import NodeAttributes
from helixctld.schedule.node_columns import NodeColumns
from helixctld.schedule.sources import Sources

SCORE_ROWS_SPARE = 16
Able = Callable[[Request], Flags]  #: nodes that could serve a share of the request if they were empty.  [N]


class NeedColumns:
    """One row a shape, at the shape's row."""

    def __init__(self, nodes: NodeColumns, sources: Sources, attributes: NodeAttributes, able: Able) -> None:
        self.nodes = nodes
        self.sources = sources
        self.attributes = attributes
        self.able = able
        self._work = _empty(0, 0)
        self._score_rows: dict[tuple[str, tuple[Request, ...]], int] = {}
        self._scores: list[Int32] = []
        self._frozen_scores: tuple[Int32, Int32] | None = None  # for which hosts, the table

    def renew(self) -> None:
        """What nodes are has changed, or the kinds of GRES: every row will be filled again."""
        self._work = _empty(len(self._work.score), len(self.sources.gres.kinds))
        self._score_rows.clear()
        self._scores.clear()
        self._frozen_scores = None

    def fill(self, row: int, request: Request | None, chunk: int) -> None:
        """What the shape of `row` asks; `chunk`: the row of its next part, -1 = the last."""
        if row >= len(self._work.score):
            grown = _empty(max(64, 2 * row), len(self.sources.gres.kinds))
            for name, old in self._work._asdict().items():
                getattr(grown, name)[: len(old)] = old
            self._work = grown
        work = self._work
        work.chunk[row] = chunk
        if request is None:
            work.gres[row], work.score[row], work.switches[row], work.switch_wait_s[row] = 0, -1, 0, NEVER
            return
        if work.gres.shape[1]:
            work.gres[row] = self.sources.gres.asked(request)
        work.score[row] = self._score_row(request.rank, request.spare)
        work.switches[row] = request.switches
        work.switch_wait_s[row] = request.switch_wait_s or NEVER

    def _score_row(self, rank: str, spare: tuple[Request, ...]) -> int:
        if not rank and not spare:
            return -1
        row = self._score_rows.get((rank, spare))
        if row is None:
            if len(self._scores) > SCORE_ROWS_SPARE + 2 * len(self._work.score):
                self._drop_unused()
            score = np.zeros(len(self.nodes), np.int64)
            if rank:
                score_of = self.sources.score_of or self.attributes.scores
                score += score_of(rank, self.nodes.records)
            step = int(score.max(initial=0)) + 1
            for part in spare:  # first of all leave nodes to the parts that could not do without
                score += self.able(part) * np.int64(step)
            row = self._score_rows[(rank, spare)] = len(self._scores)
            self._scores.append(score.astype(np.int32))
            self._frozen_scores = None
        return row

    def _drop_unused(self) -> None:
        used = sorted({int(row) for row in self._work.score if row >= 0})
        place = {old: new for new, old in enumerate(used)}
        self._scores = [self._scores[old] for old in used]
        self._score_rows = {key: place[old] for key, old in self._score_rows.items() if old in place}
        for row, old in enumerate(self._work.score.tolist()):
            if old >= 0:
                self._work.score[row] = place[old]
        self._frozen_scores = None

    def freeze(self, count: int) -> NeedArrays:
        """The first `count` rows, never written again."""
        if len(self._work.score) < count:
            self.fill(count - 1, None, -1)
        return NeedArrays._make(column[:count].copy() for column in self._work)

    def freeze_scores(self, hosts: Int32) -> AheadTables:
        """The score rows, for rows on these nodes."""
        if self._frozen_scores is None or self._frozen_scores[0] is not hosts:
            table = np.stack(self._scores)[:, hosts] if self._scores else np.zeros((0, len(hosts)), np.int32)
            self._frozen_scores = (hosts, np.ascontiguousarray(table, np.int32))
        return AheadTables(score=self._frozen_scores[1])


def _empty(count: int, kinds: int) -> NeedArrays:
    return NeedArrays(
        gres=np.zeros((count, kinds), np.int32),
        score=np.full(count, -1, np.int32),
        switches=np.zeros(count, np.int32),
        switch_wait_s=np.full(count, NEVER, np.int64),
        chunk=np.full(count, -1, np.int32),
    )
