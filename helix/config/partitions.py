"""Partition and node set lines: from texts to checked lines.  Source of rules: slurm.conf(5), PARTITION CONFIGURATION.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helix.config.findings import Findings
from helix.config.keys import nearest
from helix.config.line import Given, LineReader
from helix.config.nodes import MAX_NODES, Nodes
from helix.config.parse import Entry
from helix.config.table_lines import NODESET_KEYS, PARTITION_KEYS
from helix.config.table_preempt import modes_problem
from helix.errors import UsageError
from helix.hostlist import parse_hostlist, split_hostlist
from helix.quoting import one_line

MAX_PARTITIONS = 10_000  #: most partitions of a cluster
MAX_NAME_CHARS = 100
_EXCLUSIVE_PAIRS = (("DefMemPerCPU", "DefMemPerNode"), ("MaxMemPerCPU", "MaxMemPerNode"))


@dataclass(slots=True)
class PartitionLine:
    """A partition; the keys of `values` are fields of `PartitionConf`."""

    name: str
    nodes_text: str
    nodes: tuple[str, ...]
    values: dict[str, Any]


@dataclass(slots=True)
class Partitions:
    """All partitions.  Lines are taken in the file's order and finished when all nodes are known."""

    findings: Findings
    lines: list[PartitionLine] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)
    sets: dict[str, Given] = field(default_factory=dict)
    reader: LineReader = field(init=False)
    set_reader: LineReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = LineReader(PARTITION_KEYS, "a partition line", self.findings)
        self.set_reader = LineReader(NODESET_KEYS, "a NodeSet line", self.findings)

    def take(self, entry: Entry) -> None:
        """Read a PartitionName line."""
        given = self.reader.read(entry, may_default=True)
        if given is None:
            return
        name = given.head
        if not name or len(name) > MAX_NAME_CHARS or not name.isprintable() or set(name) & set(", \"'/%[]=#"):
            given.error("PartitionName", f"'{one_line(name)}' is not a name for a partition")
        elif name in self.names:
            given.error("PartitionName", f"partition '{name}' is described twice", hint="remove one of the lines")
        elif len(self.given) >= MAX_PARTITIONS:
            given.error("PartitionName", f"more than {MAX_PARTITIONS} partitions")
        else:
            self.given.append(given)
            self.names[name] = None

    def take_set(self, entry: Entry) -> None:
        """Read a NodeSet line."""
        given = self.set_reader.read(entry)
        if given is not None:
            self.sets[given.head] = given

    def finish(self, nodes: Nodes) -> None:
        """Resolve the nodes of all partitions and check what belongs together."""
        everything = tuple(nodes.known)
        sets = {name: self._set_members(given, nodes) for name, given in self.sets.items()}
        default = ""
        for given in self.given:
            members = self._members(given, nodes, sets, everything)
            if given.faulty or members is None or not self._consistent(given):
                continue
            if given.values["is_default"]:
                if default:
                    given.error(
                        "Default",
                        f"partitions '{default}' and '{given.head}' both say Default=YES",
                        hint="one partition is the default",
                    )
                default = default or given.head
            self._warn_of_nodes(given, len(members))
            values = {name: value for name, value in given.values.items() if name != "nodes"}
            self.lines.append(PartitionLine(given.head, given.texts.get("Nodes", ""), members, values))
        if self.given and not default and not any(given.faulty for given in self.given):
            self.given[0].warn(
                "Default", "no partition says Default=YES", hint="a job must then name its partition with -p"
            )

    def _warn_of_nodes(self, given: Given, count: int) -> None:
        """A partition in which nothing can ever start."""
        least = given.values["min_nodes"]
        if not count and given.texts.get("Nodes", "").upper() != "ALL":
            given.warn(
                "Nodes", f"partition '{given.head}' has no nodes: its jobs never start", hint="set Nodes=, or Nodes=ALL"
            )
        elif least > count > 0:
            given.warn(
                "MinNodes",
                f"MinNodes={least} of partition '{given.head}' is above the {count} nodes it has: its jobs never start",
                hint="lower MinNodes, or add nodes",
            )

    def _set_members(self, given: Given, nodes: Nodes) -> tuple[str, ...]:
        members: dict[str, None] = {}
        feature = given.texts.get("Feature", "")
        if feature:
            for line in nodes.lines:
                if feature in line.values["features"]:
                    members.update(dict.fromkeys(line.names))
        text = given.texts.get("Nodes", "")
        if text:
            try:
                members.update(dict.fromkeys(parse_hostlist(text, limit=MAX_NODES)))
            except UsageError as error:
                given.error("Nodes", error.msg, hint=error.hint)
        return tuple(members)

    def _members(
        self, given: Given, nodes: Nodes, sets: dict[str, tuple[str, ...]], everything: tuple[str, ...]
    ) -> tuple[str, ...] | None:
        text = given.texts.get("Nodes", "")
        if text.upper() == "ALL":
            return everything
        members: dict[str, None] = {}
        try:
            for item in split_hostlist(text):
                if item.upper() == "ALL":
                    members.update(dict.fromkeys(everything))
                elif item in sets:
                    members.update(dict.fromkeys(sets[item]))
                else:
                    members.update(dict.fromkeys(parse_hostlist(item, limit=MAX_NODES)))
        except UsageError as error:
            given.error("Nodes", error.msg, hint=error.hint)
            return None
        unknown = next((name for name in members if name not in nodes.known), None)
        if unknown is not None:
            # Comparing with every name of a large cluster would take seconds.
            alike = [name for name in (*sets, *everything) if name[:1] == unknown[:1]][:2000]
            near = nearest(unknown, alike)
            given.error(
                "Nodes",
                f"partition '{given.head}' names node '{one_line(unknown)}', which no NodeName line describes",
                nearest=near,
                hint=f"did you mean '{near}'?" if near else "add a NodeName line for it",
            )
            return None
        return tuple(members)

    def _consistent(self, given: Given) -> bool:
        values = given.values
        if values["max_nodes"] and values["min_nodes"] > values["max_nodes"]:
            given.error(
                "MinNodes",
                f"MinNodes={values['min_nodes']} of partition '{given.head}' is above MaxNodes={values['max_nodes']}",
                hint="lower MinNodes, or raise MaxNodes",
            )
        default_s, most_s = values["default_time_s"], values["max_time_s"]
        if default_s is not None and most_s and (default_s == 0 or default_s > most_s):
            given.error(
                "DefaultTime",
                f"DefaultTime of partition '{given.head}' is longer than its MaxTime",
                hint="lower DefaultTime, or raise MaxTime",
            )
        for one, other in _EXCLUSIVE_PAIRS:
            if given.texts.get(one) and given.texts.get(other):
                given.error(one, f"{one} and {other} of partition '{given.head}' exclude each other")
        alternate = values["alternate"]
        if alternate and alternate not in self.names:
            near = nearest(alternate, self.names)
            given.error(
                "Alternate",
                f"there is no partition '{one_line(alternate)}'",
                nearest=near,
                hint=f"did you mean '{near}'?" if near else "",
            )
        if problem := modes_problem(values["preempt_mode"]):
            given.error("PreemptMode", f"PreemptMode of partition '{given.head}': {problem}")
        for attr in ("allow_groups", "allow_accounts", "allow_qos", "alloc_nodes"):
            if any(word.upper() == "ALL" for word in values[attr]):
                values[attr] = ()
        return not given.faulty
