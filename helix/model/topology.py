"""How nodes are joined: a tree of switches, or blocks (topology.conf)."""

from __future__ import annotations

from msgspec import Struct, field


class Switch(Struct, frozen=True):
    """A switch or block.  `level` counts from the leaves, which are 0; `nodes` are all below it."""

    name: str
    level: int
    nodes: tuple[str, ...]
    switches: tuple[str, ...] = ()


class Topology(Struct):
    """`kind`: "flat", "tree" or "block".  `leaf_of`: node -> index of its leaf in `leaves`."""

    kind: str = "flat"
    switches: list[Switch] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    leaf_of: dict[str, int] = field(default_factory=dict)
    above: dict[str, str] = field(default_factory=dict)  # switch -> the one it hangs from

    def address(self, node: str) -> tuple[str, str]:
        """SLURM_TOPOLOGY_ADDR and SLURM_TOPOLOGY_ADDR_PATTERN of a node."""
        leaf = self.leaf_of.get(node)
        if leaf is None:
            return node, "node"
        path = [self.leaves[leaf]]
        while path[0] in self.above:
            path.insert(0, self.above[path[0]])
        word = "block" if self.kind == "block" else "switch"
        return ".".join([*path, node]), ".".join([word] * len(path) + ["node"])


def topology_of(kind: str, lines: list[tuple[str, tuple[str, ...], tuple[str, ...]]]) -> Topology:
    """The topology of `lines` (name, nodes, switches below), which form trees."""
    found = Topology(kind=kind)
    below = {name: switches for name, _, switches in lines}
    own = {name: nodes for name, nodes, _ in lines}
    done: dict[str, tuple[int, tuple[str, ...]]] = {}

    def visit(name: str) -> tuple[int, tuple[str, ...]]:
        if name not in done:
            parts = [visit(switch) for switch in below[name]]
            level = 1 + max(part[0] for part in parts) if parts else 0
            done[name] = level, (*own[name], *(node for part in parts for node in part[1]))
        return done[name]

    for name, nodes, switches in lines:
        level, members = visit(name)
        found.switches.append(Switch(name, level, members, switches))
        found.above.update(dict.fromkeys(switches, name))
        if nodes:
            found.leaf_of.update(dict.fromkeys(nodes, len(found.leaves)))
            found.leaves.append(name)
    return found
