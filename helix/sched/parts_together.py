"""Nodes for the parts of a chain, no node for two of them.  Pure.

First part after part, nodes that fewer of the later parts could use first; where that fails, the parts' nodes are
found as a maximum flow over kinds of nodes, with tasks spread evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helix.sched.chain import allotted
from helix.sched.preempt import Need, enough


def together(needs: Sequence[Need], fits: Sequence[Mapping[int, int]]) -> list[list[int]] | None:
    """Nodes of each part; None if none were found.  `fits`: by part, tasks that each node takes, best nodes first."""
    return _in_turn(needs, fits) or _by_flow(needs, fits)


def _in_turn(needs: Sequence[Need], fits: Sequence[Mapping[int, int]]) -> list[list[int]] | None:
    taken: set[int] = set()
    found: list[list[int]] = []
    for at, (need, fit) in enumerate(zip(needs, fits, strict=True)):
        named = {i for other in needs if other is not need for i in other.must} - need.must
        later = fits[at + 1 :]
        able = [i for i, tasks in fit.items() if tasks > 0 and i not in taken and i not in named]
        able.sort(key=lambda i: sum(other.get(i, 0) > 0 for other in later))
        nodes = enough(need, {i: fit[i] for i in able})
        if nodes is None:
            return None
        taken.update(nodes)
        found.append(nodes)
    return found


def _by_flow(needs: Sequence[Need], fits: Sequence[Mapping[int, int]]) -> list[list[int]] | None:
    if any(need.contiguous for need in needs):
        return None
    counts, shares = [], []
    for need in needs:
        count = max(need.nodes_lo, len(need.must), -(-need.tasks // need.task_hi) if need.tasks else 1)
        if need.nodes_hi and count > need.nodes_hi:
            return None
        counts.append(count)
        shares.append(max(need.task_lo, -(-need.tasks // count)))
    found: list[list[int]] = [sorted(need.must) for need in needs]
    named = {i for nodes in found for i in nodes}
    for nodes, fit, share in zip(found, fits, shares, strict=True):
        if any(fit.get(i, 0) < share for i in nodes):
            return None
    if sum(map(len, found)) != len(named):
        return None
    kinds: dict[tuple[bool, ...], list[int]] = {}
    for i in dict.fromkeys(i for fit in fits for i in fit if i not in named):
        may = tuple(fit.get(i, 0) >= share for fit, share in zip(fits, shares, strict=True))
        if any(may):
            kinds.setdefault(may, []).append(i)
    wanted = [count - len(nodes) for count, nodes in zip(counts, found, strict=True)]
    flow = allotted(wanted, [(len(nodes), may) for may, nodes in kinds.items()])
    if flow is None:
        return None
    for amounts, nodes in zip(flow, kinds.values(), strict=True):
        for part, amount in enumerate(amounts):
            found[part] += nodes[:amount]
            del nodes[:amount]
    return found
