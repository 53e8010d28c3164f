"""What the queue asks for, told apart once: a key is a shape, a length in slots and whether switches count.

Compiled.  What was learnt in a pass about a key holds for all jobs of it: resources only shrink, so a start that was
impossible stays so, until something is given back.  What is given back is logged, and every key reads the log before
its bounds are used again.  Bounds that come from one job (begin, pools, a deadline) are never entered here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_arrays import NEVER
from helix_native.ahead_lines import (
    X_CHUNK,
    X_CONTIGUOUS,
    X_ELIG,
    X_EXCLUSIVE,
    X_GROW,
    X_MEM_FLOOR,
    X_MUST_N,
    X_NODES_HI,
    X_NODES_LO,
    X_SCORE,
    X_SWITCH_WAIT_S,
    X_SWITCHES,
    X_TAIL,
    X_TASK_HI,
    X_TASK_LO,
    X_TASKS,
    X_TMP,
)
from helix_native.ahead_rows import (
    ASK_COUNT,
    ASK_MODE,
    ASK_WHOLE,
    GROUP,
    MEM_ALL,
    able_bits,
    ask_of,
    set_minima,
)
from helix_native.ahead_slow import CAPACITY, CAPACITY_DOWN, _serve, choose_slow
from helix_native.ahead_steps import FAR, copy_to, low_bit
from helix_native.arrays import BAD, REQUIRED_DOWN, RESOURCES, UNAVAILABLE
from helix_native.compiling import borrowing, compiled

# Columns of the table of keys.
K_SHAPE, K_LENGTH, K_NEAR = 0, 1, 2
K_CLASS = 3  #: SLOW, TREE or ROWS
K_LEAST, K_TARGET = 4, 5  #: rows it needs, rows it takes if there are so many
K_ABLE = 6  #: rows that could serve it if nothing ran
K_FIRST = 7  #: no start before this slot
K_SEEN = 8  #: entries of the log it has read
K_SLOT = 9  #: where its bounds are, -1 = nowhere
K_FLAT = 10  #: 1 = asks the same of every row
K_READY = 11
K_ORDER = 12  #: which order of rows it wants
K_SAMPLE = 13  #: one row that could serve it
K_COUNT = 14
SLOW, TREE, ROWS = 0, 1, 2

# Columns of the table of shapes.
S_READY, S_PLAIN, S_TASKS, S_LEAST, S_TARGET, S_VERDICT, S_COUNT = 0, 1, 2, 3, 4, 5, 6


class Keys(NamedTuple):
    """Tables by key.  W words of row bits."""

    table: Any  # [keys, K_COUNT]
    ask: Any  # [keys, ASK_COUNT]
    able: Any  # [keys, W] rows that could serve it if nothing ran
    alive: Any  # [keys, W] of those, rows not known to fail now
    bounds: Any  # [slots, R] no start on that row before
    minima: Any  # [slots, ceil(R / GROUP)]
    owner: Any  # [slots + 1] key; the last one is the next slot to give away
    shape: Any  # [S, S_COUNT]


@borrowing
def slots_up(seconds: Any, resolution_s: Any) -> Any:
    """Slots that `seconds` take, rounded up; at most FAR."""
    if seconds >= np.int64(FAR) * resolution_s:
        return np.int64(FAR)
    return (seconds + resolution_s - 1) // resolution_s


@borrowing
def length_of(limit_s: Any, resolution_s: Any) -> Any:
    """Slots that a limit takes; 0 = unlimited."""
    return np.int64(FAR) if limit_s == 0 else slots_up(limit_s, resolution_s)


@borrowing
def near_of(s: Any, x: Any, waited_s: Any) -> bool:
    """Whether `--switches` still counts for a job of shape `s`."""
    part = np.int64(s)
    while part >= 0:
        if x[part, X_SWITCHES] > 0 and waited_s < x[part, X_SWITCH_WAIT_S]:
            return True
        part = np.int64(x[part, X_CHUNK])
    return False


@borrowing
def _place(table: Any, slots: Any, count: Any, shape: Any, length: Any, near: Any) -> Any:
    """The key's number in an open hash table of places; `count` if it is new (and then entered)."""
    mask = len(slots) - 1
    h = (np.uint64(shape) * np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(length) * np.uint64(0xC2B2AE3D27D4EB4F))
    h ^= np.uint64(near) + (h >> np.uint64(29))
    at = np.int64(h & np.uint64(mask))
    while slots[at] >= 0:
        k = slots[at]
        if table[k, K_SHAPE] == shape and table[k, K_LENGTH] == length and table[k, K_NEAR] == near:
            return np.int64(k)
        at = (at + 1) & mask
    slots[at] = count
    table[count, :] = 0
    table[count, K_SHAPE], table[count, K_LENGTH], table[count, K_NEAR] = shape, length, near
    table[count, K_SLOT] = -1
    return np.int64(count)


@compiled
def keys_of(queue: Any, jobs: Any, x: Any, resolution_s: Any) -> Any:
    """Key of every entry, key of its cut limit (-1 = the limit cannot be cut), and the table of keys."""
    entries = len(queue.shape)
    size = np.int64(16)
    while size < 4 * entries:
        size *= 2
    slots = np.full(size, -1, np.int32)
    table = np.empty((2 * entries, K_COUNT), np.int64)
    key = np.empty(entries, np.int32)
    cut = np.full(entries, -1, np.int32)
    count = np.int64(0)
    special = False
    for line in range(len(x)):
        special = special or x[line, X_SWITCHES] > 0 or x[line, X_CHUNK] >= 0
    for e in range(entries):
        s, j = np.int64(queue.shape[e]), queue.job[e]
        near = np.int64(special and near_of(s, x, jobs.waited_s[j]))
        k = _place(table, slots, count, s, length_of(queue.limit_s[e], resolution_s), near)
        count = max(count, k + 1)
        key[e] = k
        least, limit = jobs.limit_min_s[j], queue.limit_s[e]
        if least > 0 and (limit == 0 or least < limit):
            k = _place(table, slots, count, s, length_of(least, resolution_s), near)
            count = max(count, k + 1)
            cut[e] = k
    return key, cut, table[: max(count, np.int64(1))]


@compiled
def _plain(s: Any, ground: Any, steps: Any, order: Any, keys: Any, sc: Any) -> None:
    """Fill the table of shapes for `s`; as `Choice.plain`."""
    x, row = ground.x, keys.shape[s]
    row[S_READY] = 1
    size = np.int64(len(ground.up))
    if x[s, X_CONTIGUOUS] or x[s, X_MUST_N] > 0 or x[s, X_CHUNK] >= 0 or x[s, X_TAIL]:
        return
    total, lo = np.int64(x[s, X_TASKS]), np.int64(x[s, X_NODES_LO])
    hi = np.int64(x[s, X_NODES_HI]) if x[s, X_NODES_HI] > 0 else size
    if total > 0:
        hi = min(hi, total)
    if lo > hi:
        return
    target = hi if x[s, X_GROW] else lo
    each, most = np.int64(x[s, X_TASK_LO]), np.int64(x[s, X_TASK_HI])
    row[S_TASKS], row[S_LEAST], row[S_TARGET] = each, lo, target
    if total == 0:
        row[S_PLAIN] = 1
    elif hi == 1 and each <= total <= most:
        row[S_PLAIN], row[S_TASKS], row[S_LEAST], row[S_TARGET] = 1, total, 1, 1
    elif most * hi == total and each <= most:
        row[S_PLAIN], row[S_TASKS], row[S_LEAST], row[S_TARGET] = 1, most, hi, hi
    elif x[s, X_EXCLUSIVE]:
        none = np.zeros((size + 63) >> 6, np.uint64)
        _serve(s, ground, steps, order, np.int64(0), np.int64(0), CAPACITY, none, sc)
        fewest, largest = np.int64(FAR) << 8, np.int64(0)
        for r in range(size):
            if sc.fit[r] > 0:
                fewest, largest = min(fewest, sc.fit[r]), max(largest, sc.fit[r])
        if largest == 0:
            return
        if lo * fewest >= total:
            row[S_PLAIN] = 1
            return
        needed = (total + fewest - 1) // fewest
        if fewest == largest and needed <= hi:
            row[S_PLAIN], row[S_LEAST], row[S_TARGET] = 1, needed, max(needed, target)


@borrowing
def prepare(
    k: Any, ground: Any, steps: Any, orders: Any, keys: Any, tree_max: Any,
    sc: Any,
) -> None:  # fmt: skip
    """Fill the table of keys for key `k` when it is first used; `tree_max`: longest run the tree serves, -1 = none."""
    row, x = keys.table[k], ground.x
    s = row[K_SHAPE]
    row[K_READY] = 1
    kind = keys.shape[s]
    if kind[S_READY] == 0:
        _plain(s, ground, steps, orders[0], keys, sc)
    row[K_ORDER] = x[s, X_SCORE] + 1
    if kind[S_PLAIN] == 0 or row[K_NEAR]:
        row[K_CLASS] = SLOW
        return
    row[K_LEAST], row[K_TARGET] = kind[S_LEAST], kind[S_TARGET]
    ask = keys.ask[k]
    ask_of(x, s, kind[S_TASKS], ask)
    elig = ground.elig_of[x[s, X_ELIG]]
    row[K_ABLE] = 0
    keys.able[k, :] = np.uint64(0)
    if x[s, X_TASK_LO] <= kind[S_TASKS] <= x[s, X_TASK_HI]:
        row[K_ABLE] = able_bits(
            ask, ground.gres_of[s], x[s, X_MEM_FLOOR], x[s, X_TMP], elig, ground, False, keys.able[k]
        )
    copy_to(keys.alive[k], keys.able[k])
    row[K_CLASS] = ROWS
    if ask[ASK_WHOLE] and tree_max >= 0 and (row[K_LENGTH] >= FAR or row[K_LENGTH] <= tree_max):
        row[K_CLASS] = TREE
    row[K_FLAT] = 1
    if ask[ASK_WHOLE] or ask[ASK_MODE] == MEM_ALL or len(ground.kind_row) == 0:
        row[K_FLAT] = 0
    else:
        for r in ground.kind_row:
            if ground.width[r] != 1:
                row[K_FLAT] = 0
    for w in range(keys.able.shape[1]):
        if keys.able[k, w] != np.uint64(0):
            row[K_SAMPLE] = np.int64(w) * 64 + np.int64(low_bit(keys.able[k, w]))
            break


@borrowing
def verdict_of(
    s: Any, ground: Any, steps: Any, orders: Any,
    keys: Any, bits: Any, sc: Any,
) -> Any:  # fmt: skip
    """RESOURCES if shape `s` could start on rows that are up and empty; else why it never can."""
    kind, x = keys.shape[s], ground.x
    if kind[S_VERDICT] != 0:
        return kind[S_VERDICT]
    if kind[S_READY] == 0:
        _plain(s, ground, steps, orders[0], keys, sc)
    near = near_of(s, x, np.int64(NEVER) - 1)
    verdict = np.int64(BAD)
    for attempt in range(2):
        if kind[S_PLAIN] and not near:
            count = np.int64(0)
            if x[s, X_TASK_LO] <= kind[S_TASKS] <= x[s, X_TASK_HI]:
                ask_of(x, s, kind[S_TASKS], sc.ask)
                elig = ground.elig_of[x[s, X_ELIG]]
                count = able_bits(
                    sc.ask, ground.gres_of[s], x[s, X_MEM_FLOOR], x[s, X_TMP], elig, ground, attempt == 1, bits
                )
            served = count >= kind[S_LEAST]
        else:
            mode = CAPACITY if attempt == 0 else CAPACITY_DOWN
            bits[:] = np.uint64(0)
            count, _ = choose_slow(
                s, near, ground, steps, orders, np.int64(0), np.int64(0), mode,
                bits, np.int64(0), np.int64(0), sc,
            )  # fmt: skip
            served = count > 0
        if served:
            if attempt == 0:
                verdict = np.int64(RESOURCES)
            else:
                verdict = np.int64(REQUIRED_DOWN) if x[s, X_MUST_N] > 0 else np.int64(UNAVAILABLE)
            break
    kind[S_VERDICT] = verdict
    return verdict


@borrowing
def read_log(k: Any, keys: Any, log: Any, count: Any) -> None:
    """Bring the key's bounds up to date with what was given back: `log[i]` = (row, first slot)."""
    row = keys.table[k]
    seen = row[K_SEEN]
    if seen == count:
        return
    row[K_SEEN] = count
    size = keys.bounds.shape[1]
    slot = row[K_SLOT]
    if count - seen > size:
        row[K_FIRST] = 0
        if row[K_CLASS] != SLOW:
            copy_to(keys.alive[k], keys.able[k])
        if slot >= 0:
            _reset(k, keys, slot)
        return
    for i in range(seen, count):
        r = log[i, 0]
        first = max(np.int64(0), log[i, 1] - row[K_LENGTH] + 1)
        if row[K_CLASS] == SLOW:
            row[K_FIRST] = min(row[K_FIRST], first)
            continue
        bit = np.uint64(1) << np.uint64(r & 63)
        if keys.able[k, r >> 6] & bit == np.uint64(0):
            continue
        row[K_FIRST] = min(row[K_FIRST], first)
        if first == 0:
            keys.alive[k, r >> 6] |= bit
        if slot >= 0 and keys.bounds[slot, r] > first:
            keys.bounds[slot, r] = first
            keys.minima[slot, r // GROUP] = min(keys.minima[slot, r // GROUP], first)


@borrowing
def _reset(k: Any, keys: Any, slot: Any) -> None:
    first = np.int32(keys.table[k, K_FIRST])
    bounds = keys.bounds[slot]
    for r in range(len(bounds)):
        able = (keys.able[k, r >> 6] >> np.uint64(r & 63)) & np.uint64(1)
        bounds[r] = first if able else np.int32(FAR + 1)
    set_minima(bounds, keys.minima[slot])


@borrowing
def slot_of(k: Any, keys: Any) -> Any:
    """Where the key's bounds are; takes a place away from another key if there is no free one."""
    row = keys.table[k]
    if row[K_SLOT] >= 0:
        return row[K_SLOT]
    slots = keys.bounds.shape[0]
    slot = keys.owner[slots]
    keys.owner[slots] = (slot + 1) % slots
    if keys.owner[slot] >= 0:
        keys.table[keys.owner[slot], K_SLOT] = -1
    keys.owner[slot] = k
    row[K_SLOT] = slot
    _reset(k, keys, slot)
    return np.int64(slot)


@compiled
def new_keys(table: Any, shapes: Any, size: Any, bytes_max: Any) -> Any:
    """Tables for `table`'s keys; `bytes_max` bounds the memory of bounds."""
    count = len(table)
    words = (size + 63) >> 6
    slots = max(np.int64(1), min(np.int64(count), bytes_max // max(np.int64(1), 4 * size)))
    owner = np.full(slots + 1, -1, np.int64)
    owner[slots] = 0
    return Keys(
        table, np.zeros((count, ASK_COUNT), np.int64), np.empty((count, words), np.uint64),
        np.empty((count, words), np.uint64), np.empty((slots, size), np.int32),
        np.empty((slots, (size + GROUP - 1) // GROUP), np.int32), owner, np.zeros((shapes, S_COUNT), np.int64),
    )  # fmt: skip
