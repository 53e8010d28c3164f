"""Node attributes as columns for `--require` and `--rank`: made when first asked for, kept until nodes change.

Cost: a column of 10,000 nodes about 1 ms, once; an expression over them 30 to 300 us, once for each distinct text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from helix.errors import UsageError
from helix.expression import Clause, Expression, Kind, Schema, compile_condition, compile_rank
from helix.expression_names import ATTR_PREFIX, attr_kinds, attr_number, node_schema
from helix.gres import parse_gres, units_of
from helix.model.node import Fingerprint, NodeRecord
from helix.model.partition import PartitionRecord
from helix.model.topology import Topology
from helix.sched.expression_columns import Column, Numbers, Sets, rank_rows, text_column, true_rows
from helix_native.arrays import Flags, Int32
from helixctld.schedule.node_columns import NodeColumns

TEXTS_MAX = 512  #: results kept; all are forgotten when there are more

_NUMBERS: dict[str, Callable[[NodeRecord], int]] = {
    "cpus": lambda n: n.cpus,
    "sockets": lambda n: n.sockets,
    "cores": lambda n: n.sockets * n.cores_per_socket,
    "threads": lambda n: n.sockets * n.cores_per_socket * n.threads_per_core,
    "cores_per_socket": lambda n: n.cores_per_socket,
    "threads_per_core": lambda n: n.threads_per_core,
    "memory": lambda n: n.real_memory_mib,
    "tmp": lambda n: n.tmp_disk_mib,
    "weight": lambda n: n.weight,
}
_NO_PRINT = Fingerprint()
_TEXTS: dict[str, Callable[[NodeRecord], str]] = {
    "name": lambda n: n.name,
    "arch": lambda n: (n.fingerprint or _NO_PRINT).arch,
    "os": lambda n: (n.fingerprint or _NO_PRINT).os,
    "kernel": lambda n: (n.fingerprint or _NO_PRINT).kernel,
}


class NodeAttributes:
    """Answers about the nodes of a `NodeColumns`."""

    def __init__(self, nodes: NodeColumns) -> None:
        self.nodes = nodes
        self._partitions: Sequence[PartitionRecord] = ()
        self._topology = Topology()
        self._version = -1
        self._schema: Schema | None = None
        self._columns: dict[str, Column] = {}
        self._expressions: dict[tuple[str, str], Expression | UsageError] = {}
        self._flags: dict[str, Flags] = {}
        self._ranks: dict[str, Int32] = {}

    def take_partitions(self, partitions: Sequence[PartitionRecord], topology: Topology) -> None:
        """Partitions and their nodes, and the switches of nodes, are these now."""
        self._partitions = partitions
        self._topology = topology
        self._version = -1

    def condition(self, text: str) -> Expression:
        """A `--require`, compiled.  Raises UsageError (EXPRESSION_INVALID)."""
        return self._compiled(text, "--require")

    def rank(self, text: str) -> Expression:
        """A `--rank`, compiled.  Raises UsageError (EXPRESSION_INVALID)."""
        return self._compiled(text, "--rank")

    def satisfying(self, text: str) -> Flags:
        """Nodes for which the condition is true; none if the configuration no longer has what it names.  [N]"""
        self._refresh()
        found = self._flags.get(text)
        if found is None:
            try:
                found = true_rows(self.condition(text).program, self.column, len(self.nodes))
            except UsageError:
                found = np.zeros(len(self.nodes), np.bool_)
            self._flags[text] = found
        return found.copy()

    def clause(self, clause: Clause) -> Flags:
        """Nodes for which one clause of a condition is true.  [N]"""
        self._refresh()
        return true_rows(clause.program, self.column, len(self.nodes))

    def ranked(self, text: str) -> Int32:
        """The place of each node under a `--rank`, 0 for the best; all equal if it cannot be read any more.  [N]"""
        self._refresh()
        found = self._ranks.get(text)
        if found is None:
            try:
                found = rank_rows(self.rank(text).program, self.column, len(self.nodes))
            except UsageError:
                found = np.zeros(len(self.nodes), np.int32)
            self._ranks[text] = found
        return found

    def scores(self, text: str, nodes: Sequence[NodeRecord]) -> Int32:
        """`ranked`, as a source of scores (see `helixctld.schedule.sources.ScoreOf`)."""
        assert len(nodes) == len(self.nodes)
        return self.ranked(text)

    def number(self, name: str, row: int) -> float | None:
        """A number of one node, for messages; None if it is not known."""
        self._refresh()
        column = self.column(name)
        if not isinstance(column, Numbers) or (column.known is not None and not column.known[row]):
            return None
        return float(column.value[row])

    # ---- columns -------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Forget what nodes were."""
        full = max(len(self._flags), len(self._ranks), len(self._expressions)) > TEXTS_MAX
        if self._version != self.nodes.static_version:
            self._columns.clear()
            self._schema = None
            self._version = self.nodes.static_version
            full = True
        if full:
            self._expressions.clear()
            self._flags.clear()
            self._ranks.clear()

    def _compiled(self, text: str, option: str) -> Expression:
        self._refresh()
        found = self._expressions.get((option, text))
        if found is None:
            if self._schema is None:
                self._schema = node_schema(attr_kinds({node.name: node.attrs for node in self.nodes.records}))
            try:
                compiler = compile_rank if option == "--rank" else compile_condition
                found = compiler(text, self._schema, option)
            except UsageError as error:
                found = error
            self._expressions[(option, text)] = found
        if isinstance(found, UsageError):
            raise UsageError(found.msg, code=found.code, hint=found.hint)
        return found

    def column(self, name: str) -> Column:
        """An attribute of all nodes; `condition` or `rank` must have been asked for what names it."""
        found = self._columns.get(name)
        if found is None:
            found = self._columns[name] = self._made(name)
        return found

    def _made(self, name: str) -> Column:
        records = self.nodes.records
        if name in _NUMBERS:
            return Numbers(np.fromiter(map(_NUMBERS[name], records), np.float64, len(records)))
        if name in _TEXTS:
            return text_column([_TEXTS[name](node) for node in records])
        if name == "features":
            return Sets(self.nodes.by_feature(), len(records))
        if name == "partitions":
            place = {record.name: row for row, record in enumerate(records)}
            rows = {}
            for partition in self._partitions:
                rows[partition.name] = np.zeros(len(records), np.bool_)
                rows[partition.name][[place[node] for node in partition.nodes if node in place]] = True
            return Sets(rows, len(records))
        if name == "switch":
            leaf_of, leaves = self._topology.leaf_of, self._topology.leaves
            return text_column([leaves[leaf_of[node.name]] if node.name in leaf_of else "" for node in records])
        if name.startswith(ATTR_PREFIX):
            return self._attr(name.removeprefix(ATTR_PREFIX))
        kind = name.removeprefix("gres.")
        units = {text: float(units_of(parse_gres(text)).get(kind, 0)) for text in {node.gres for node in records}}
        return Numbers(np.fromiter((units[node.gres] for node in records), np.float64, len(records)))

    def _attr(self, name: str) -> Column:
        texts = [node.attrs.get(name, "") for node in self.nodes.records]
        assert self._schema is not None
        if self._schema.kind(ATTR_PREFIX + name) is Kind.TEXT:
            return text_column(texts)
        values = [attr_number(text) for text in texts]
        known = np.array([value is not None for value in values], np.bool_)
        return Numbers(np.array([value or 0.0 for value in values], np.float64), known)
