"""Fair-share factors of a tree of associations: classic, depth-oblivious and Fair Tree.

`Tree` has one row an association, parents before children, row 0 the root; `usage` is what the row's subtree has used
(any unit), `shares` its shares among its siblings, -1 for a user that shares what its account has (Fairshare=parent).
All factors are in [0, 1]; 1 is served first.  Pure, plain Python: a tree of 10,000 takes about 30 ms.

Sources: slurm.schedmd.com/priority_multifactor.html (classic), priority_multifactor3.html (depth-oblivious) and
fair_tree.html.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

PARENT = -1  #: shares of a row that uses its parent's


@dataclass(slots=True)
class Tree:
    """The rows as parallel lists."""

    parent: list[int]  # [n] row of the account above; -1 for the root
    shares: list[int]
    usage: list[int]
    is_user: list[bool]

    def children(self) -> list[list[int]]:
        """Rows below each row, in order."""
        found: list[list[int]] = [[] for _ in self.parent]
        for row, above in enumerate(self.parent):
            if above >= 0:
                found[above].append(row)
        return found


@dataclass(slots=True)
class Shares:
    """What hshare shows of each row."""

    norm_shares: list[float]
    norm_usage: list[float]
    effective_usage: list[float]
    factor: list[float]
    level_fs: list[float] = field(default_factory=list)  # Fair Tree only; infinity where nothing was used


def classic(tree: Tree, dampening: int = 1, *, depth_oblivious: bool = False) -> Shares:
    """2^(-effective usage / normalised shares / dampening); see `_effective` and `_oblivious` for the usage."""
    norm_shares = _norm_shares(tree)
    total = tree.usage[0] if tree.usage else 0
    norm_usage = [used / total if total else 0.0 for used in tree.usage]
    effective = _oblivious(tree, norm_shares, norm_usage) if depth_oblivious else _effective(tree, norm_usage)
    factor: list[float] = []
    for row, used in enumerate(effective):
        above = tree.parent[row]
        if tree.shares[row] == PARENT and above >= 0:
            factor.append(factor[above])
        elif norm_shares[row] <= 0:
            factor.append(0.0)
        else:
            factor.append(2.0 ** -min(1074.0, used / norm_shares[row] / dampening))
    return Shares(norm_shares, norm_usage, effective, factor)


def fair_tree(tree: Tree) -> Shares:
    """Rank of each user in the tree walked account by account, best first, over the number of users.

    At each level siblings are ordered by level fair-share, shares over usage within the level; accounts that are equal
    there are taken together as if they were one, and users that are equal share the better rank.
    """
    children = tree.children()
    count = len(tree.parent)
    norm_shares, effective, level_fs = [1.0] * count, [1.0] * count, [math.inf] * count
    for row in range(count):
        _level(tree, children[row], norm_shares, effective, level_fs)
    users = sum(tree.is_user)
    factor = [0.0] * count
    rank = users
    # Rows still to be walked, the next last: groups of rows that are equal in their level.
    stack = [_groups(children[0], level_fs, tree)] if count else []
    while stack:
        groups = stack[-1]
        if not groups:
            stack.pop()
            continue
        group = groups.pop()
        members = [row for row in group if tree.is_user[row]]
        for row in members:
            factor[row] = rank / users
        rank -= len(members)
        below = [child for row in group if not tree.is_user[row] for child in children[row]]
        if below:
            stack.append(_groups(below, level_fs, tree))
    total = tree.usage[0] if tree.usage else 0
    norm_usage = [used / total if total else 0.0 for used in tree.usage]
    for row in range(count - 1, 0, -1):  # an account shows the best of its users
        above = tree.parent[row]
        factor[above] = max(factor[above], factor[row])
    return Shares(norm_shares, norm_usage, effective, factor, level_fs)


def _level(
    tree: Tree, siblings: list[int], norm_shares: list[float], effective: list[float], level_fs: list[float]
) -> None:
    """Shares, usage and their quotient within one level."""
    shares = sum(max(0, tree.shares[row]) for row in siblings)
    used = sum(tree.usage[row] for row in siblings)
    for row in siblings:
        if tree.shares[row] == PARENT:
            # Counts as its account: the place of an account's own users is then one and the same.
            norm_shares[row], effective[row] = norm_shares[tree.parent[row]], effective[tree.parent[row]]
            level_fs[row] = level_fs[tree.parent[row]]
            continue
        norm_shares[row] = tree.shares[row] / shares if shares else 0.0
        effective[row] = tree.usage[row] / used if used else 0.0
        if not tree.shares[row]:
            level_fs[row] = 0.0
        elif not tree.usage[row]:
            level_fs[row] = math.inf
        else:  # one division, so that equal shares of equal use are equal, whatever the numbers
            level_fs[row] = tree.shares[row] * used / (shares * tree.usage[row])


def _groups(rows: list[int], level_fs: list[float], tree: Tree) -> list[list[int]]:
    """Rows of one level that are equal, together; the best group last."""
    found: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (level_fs[row], not tree.is_user[row], row)):
        if found and level_fs[found[-1][0]] == level_fs[row]:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def _norm_shares(tree: Tree) -> list[float]:
    """The row's part of its siblings' shares, times that of its parent."""
    levels: dict[int, int] = {}
    for row, above in enumerate(tree.parent):
        levels[above] = levels.get(above, 0) + max(0, tree.shares[row])
    norm: list[float] = []
    for row, above in enumerate(tree.parent):
        if above < 0:
            norm.append(1.0)
        elif tree.shares[row] == PARENT:
            norm.append(norm[above])
        else:
            norm.append(norm[above] * tree.shares[row] / levels[above] if levels[above] else 0.0)
    return norm


def _effective(tree: Tree, norm_usage: list[float]) -> list[float]:
    """Own usage and a part of the parent's: U + (E[parent] - U) * shares / shares of all siblings."""
    levels: dict[int, int] = {}
    for row, above in enumerate(tree.parent):
        levels[above] = levels.get(above, 0) + max(0, tree.shares[row])
    effective: list[float] = []
    for row, above in enumerate(tree.parent):
        if above <= 0:
            effective.append(norm_usage[row])
        elif tree.shares[row] == PARENT:
            effective.append(effective[above])
        else:
            part = tree.shares[row] / levels[above] if levels[above] else 0.0
            effective.append(norm_usage[row] + (effective[above] - norm_usage[row]) * part)
    return effective


def _oblivious(tree: Tree, norm_shares: list[float], norm_usage: list[float]) -> list[float]:
    """R[parent] * r^k times the shares: r is the row's use of its shares over its siblings' use of theirs, k is 1
    where parent and row lie on the same side of fair and 1/(1 + (5 ln R[parent])^2) where they do not."""
    level_shares: dict[int, float] = {}
    level_usage: dict[int, float] = {}
    for row, above in enumerate(tree.parent):
        if tree.shares[row] != PARENT:
            level_shares[above] = level_shares.get(above, 0.0) + norm_shares[row]
            level_usage[above] = level_usage.get(above, 0.0) + norm_usage[row]
    ratio: list[float] = []
    for row, above in enumerate(tree.parent):
        if above < 0:
            ratio.append(1.0)
        elif tree.shares[row] == PARENT:
            ratio.append(ratio[above])
        elif norm_shares[row] <= 0:
            ratio.append(0.0)
        elif above == 0:
            ratio.append(norm_usage[row] / norm_shares[row])
        else:
            used, granted = level_usage[above], level_shares[above]
            local = norm_usage[row] / norm_shares[row] / (used / granted) if used and granted else 0.0
            up = ratio[above]
            k = 1.0
            if up > 0 and local > 0 and math.log(up) * math.log(local) < 0:
                k = 1.0 / (1.0 + (5.0 * math.log(up)) ** 2)
            ratio.append(up * local**k if local > 0 else 0.0)
    return [r * s for r, s in zip(ratio, norm_shares, strict=True)]
