"""The lines of topology.conf: switches that form a tree, or blocks.

Source: topology.conf(5).  Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helix.config.findings import Findings
from helix.config.keys import BLOCK_KEYS, SWITCH_KEYS, nearest
from helix.config.line import Given, LineReader
from helix.config.nodes import MAX_NODES, Nodes
from helix.config.parse import Entry
from helix.errors import UsageError
from helix.hostlist import is_host_name, parse_hostlist
from helix.quoting import one_line

MAX_SWITCHES = 20_000  #: switches and blocks together
FLAT = frozenset({"topology/flat", "topology/default", "topology/none"})


@dataclass(slots=True)
class Topology:
    """All switches and blocks.  Lines are taken in the file's order and finished when all nodes are known.

    `lines`: fields of `SwitchConf`.
    """

    findings: Findings
    lines: list[dict[str, Any]] = field(default_factory=list)
    given: dict[str, Given] = field(default_factory=dict)
    reader: LineReader = field(init=False)
    block_reader: LineReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = LineReader(SWITCH_KEYS, "a SwitchName line", self.findings)
        self.block_reader = LineReader(BLOCK_KEYS, "a BlockName line", self.findings)

    def take(self, entry: Entry) -> None:
        """Read a SwitchName line."""
        self._take(self.reader.read(entry), "SwitchName", is_block=False)

    def take_block(self, entry: Entry) -> None:
        """Read a BlockName line."""
        self._take(self.block_reader.read(entry), "BlockName", is_block=True)

    def _take(self, given: Given | None, head: str, *, is_block: bool) -> None:
        if given is None:
            return
        name = given.head
        if not is_host_name(name):
            given.error(head, f"'{one_line(name)}' is not a name for a switch or block")
        elif name in self.given:
            given.error(head, f"'{name}' is described twice", hint="remove one of the lines")
        elif len(self.given) >= MAX_SWITCHES:
            given.error(head, f"more than {MAX_SWITCHES} switches and blocks")
        else:
            self.given[name] = given
            given.values["is_block"] = is_block

    def finish(self, nodes: Nodes, plugin: str, given_at: Entry | None) -> None:
        """Resolve members, and check that the whole is what `plugin` wants."""
        leaf_of: dict[str, str] = {}
        above: dict[str, str] = {}
        for name, given in self.given.items():
            members = self._hosts(given, "Nodes", given.texts.get("Nodes", ""))
            below = self._hosts(given, "Switches", given.texts.get("Switches", ""))
            if given.faulty or not self._consistent(given, name, members, below, nodes, leaf_of):
                continue
            for switch in below:
                if switch not in self.given:
                    near = nearest(switch, self.given)
                    hint = f"did you mean '{near}'?" if near else "add a SwitchName line for it"
                    given.error("Switches", f"no switch '{one_line(switch)}'", nearest=near, hint=hint)
                elif switch in above:
                    given.error("Switches", f"switch '{switch}' is below both '{above[switch]}' and '{name}'")
                above[switch] = name
            is_block = given.values["is_block"]
            if not given.faulty:
                self.lines.append({"name": name, "nodes": members, "switches": below, "is_block": is_block})
        self._no_circle(above)
        wanted = {"topology/tree": False, "topology/block": True}.get(plugin)
        if wanted is None:
            return
        kind = "BlockName" if wanted else "SwitchName"
        if given_at is not None and not any(line["is_block"] is wanted for line in self.lines):
            self.findings.error(
                given_at.file,
                given_at.line,
                "TopologyPlugin",
                f"TopologyPlugin={plugin}, but there is no {kind} line",
                hint="write them into topology.conf beside helix.conf",
            )

    def _hosts(self, given: Given, key: str, text: str) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(parse_hostlist(text, limit=MAX_NODES))) if text else ()
        except UsageError as error:
            given.error(key, error.msg, hint=error.hint)
            return ()

    def _consistent(
        self,
        given: Given,
        name: str,
        members: tuple[str, ...],
        below: tuple[str, ...],
        nodes: Nodes,
        leaf_of: dict[str, str],
    ) -> bool:
        if bool(members) == bool(below):
            what = "both Nodes and Switches" if members else "neither Nodes nor Switches"
            given.error("Nodes", f"'{name}' has {what}", hint="a leaf has nodes, another switch has switches")
            return False
        for node in members:
            if node not in nodes.known:
                given.error(
                    "Nodes",
                    f"'{name}' names node '{one_line(node)}', which no NodeName line describes",
                    hint="add a NodeName line for it, or take it out",
                )
                return False
            if node in leaf_of:
                given.error("Nodes", f"node '{node}' is in both '{leaf_of[node]}' and '{name}'")
                return False
            leaf_of[node] = name
        return True

    def _no_circle(self, above: dict[str, str]) -> None:
        for name in above:
            seen, at = {name}, above[name]
            while at in above and at not in seen:
                seen.add(at)
                at = above[at]
            if at in seen:
                self.given[name].error("Switches", f"switch '{name}' is below itself", hint="switches form a tree")
                return
