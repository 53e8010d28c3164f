"""The order in which rows are taken, and the taking of whole nodes from a set of free ones.  Compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_rows import SPARE_MAX
from helix_native.ahead_steps import low_bit
from helix_native.compiling import borrowing, compiled

TIERS_MAX = 64  #: more different ranks than these are sorted, not kept as sets


class Orders(NamedTuple):
    """Dense ranks; `parts[i]`, `wholes[i]` for score row i - 1 (0 = no score); wholes from `half` on: least first."""

    parts: Any  # [1 + scores, R] by score and weight
    wholes: Any  # [2 * (1 + scores), R] by score, weight, GRES and CPUs of the row
    ready: Any  # [2 * (1 + scores)] tiers of `wholes[i]`, 0 = not made yet
    tiers: Any  # [2, TIERS_MAX, W] rows of every rank, without scores


@compiled
def _dense(columns: Any, out: Any) -> Any:
    """Dense ranks of the rows of `columns` [keys, R], first key first; how many."""
    keys, size = columns.shape
    if size == 0:
        return np.int64(0)
    same = True
    for i in range(keys):
        for r in range(1, size):
            if columns[i, r] != columns[i, 0]:
                same = False
                break
    if same:
        out[:] = 0
        return np.int64(1)
    order = np.arange(size)
    for i in range(keys - 1, -1, -1):
        order = order[np.argsort(columns[i][order], kind="mergesort")]
    rank = np.int64(0)
    for i in range(size):
        if i > 0:
            for c in range(keys):
                if columns[c, order[i]] != columns[c, order[i - 1]]:
                    rank += 1
                    break
        out[order[i]] = rank
    return rank + 1


@compiled
def new_orders(nodes: Any, extra: Any) -> Any:
    """Ranks for parts of nodes; those for whole nodes are made when needed."""
    scores, size = extra.score.shape[0] + 1, len(nodes.rank)
    parts = np.zeros((scores, size), np.int32)
    columns = np.zeros((2, size), np.int64)
    columns[1] = nodes.rank
    parts[0] = nodes.rank
    for i in range(1, scores):
        columns[0] = extra.score[i - 1]
        _dense(columns, parts[i])
    return Orders(
        parts, np.empty((2 * scores, size), np.int32), np.zeros(2 * scores, np.int64),
        np.empty((2, TIERS_MAX, (size + 63) >> 6), np.uint64),
    )  # fmt: skip


@compiled
def whole_order(orders: Any, ground: Any, kinds: Any, score: Any, least: Any) -> Any:
    """Which line of `wholes` ranks rows for whole nodes with this score row (0 = none)."""
    scores = orders.parts.shape[0]
    at = np.int64(score) + (scores if least else 0)
    if orders.ready[at] > 0:
        return at
    cap = ground.cap
    size = cap.shape[0]
    columns = np.zeros((4, size), np.int64)
    if score > 0:
        columns[0] = ground.score[score - 1]
    for r in range(size):
        spare = np.int64(0)
        for d in range(kinds):
            spare += cap[r, 2 + d]
        columns[1, r] = ground.rank[r]
        columns[2, r] = min(spare, np.int64(SPARE_MAX))
        columns[3, r] = -cap[r, 0] if least else cap[r, 0]
    tiers = _dense(columns, orders.wholes[at])
    orders.ready[at] = max(tiers, np.int64(1))
    if score == 0 and tiers <= TIERS_MAX:
        sets = orders.tiers[1 if least else 0]
        sets[:] = np.uint64(0)
        for r in range(size):
            sets[orders.wholes[at, r], r >> 6] |= np.uint64(1) << np.uint64(r & 63)
    return at


@borrowing
def take_whole(free: Any, before: Any, after: Any, target: Any, orders: Any, at: Any, rows: Any, keys: Any) -> Any:
    """At most `target` rows of the set `free` into `rows`, best first; how many.  `before`, `after`: busy then."""
    scores = orders.parts.shape[0]
    tiers = orders.ready[at]
    count = np.int64(0)
    if (at == 0 or at == scores) and tiers <= TIERS_MAX:
        sets = orders.tiers[0 if at == 0 else 1]
        for tier in range(tiers):
            for gap in range(4):
                for w in range(len(free)):
                    bits = free[w] & sets[tier, w]
                    bits &= after[w] if gap < 2 else ~after[w]
                    bits &= before[w] if gap % 2 == 0 else ~before[w]
                    while bits != np.uint64(0):
                        place = low_bit(bits)
                        bits ^= np.uint64(1) << place
                        rows[count] = np.int64(w) * 64 + np.int64(place)
                        count += 1
                        if count == target:
                            return count
        return count
    for w in range(len(free)):
        bits = free[w]
        while bits != np.uint64(0):
            place = low_bit(bits)
            bit = np.uint64(1) << place
            bits ^= bit
            r = np.int64(w) * 64 + np.int64(place)
            gap = (0 if after[w] & bit else 2) + (0 if before[w] & bit else 1)
            keys[count] = np.int64(orders.wholes[at, r]) << 2 | gap
            rows[count] = r
            count += 1
    return best_of(keys, rows, count, target)


@compiled
def best_of(keys: Any, rows: Any, count: Any, target: Any) -> Any:
    """Bring the `target` best of `count` rows (by key, then index) to the front of `rows`; how many."""
    if count <= 1:
        return np.int64(count)
    by_index = np.argsort(rows[:count], kind="mergesort")
    one, other = rows[:count][by_index], keys[:count][by_index]
    order = np.argsort(other, kind="mergesort")
    found = min(np.int64(count), np.int64(target))
    for i in range(found):
        rows[i] = one[order[i]]
    return found
