"""Step functions of free amounts, packed: what every row has free over time.  Compiled; specified by `ahead_profile`.

The amounts of a row (CPUs, MiB, GRES, partitions' CPU limits) share 64-bit words: every kind has as many bits as the
largest capacity needs and one guard bit above them, at most 62 bits a word, so that "does it fit" is one subtraction a
word.  An entry is a start slot (`pt`) and its words (`pr`); a row's entries lie together in one pool, at `off`, in room
for `cap` of them; a row that outgrows its room moves to the end of the pool.  Equal neighbours are merged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from helix_native.compiling import borrowing

FAR = 1 << 30  #: slots; for ever

USED, OVER = 0, 1  #: places of the state array: entries used of the pool; the pool was too small


@intrinsic
def _popcount(typingctx: Any, word: Any) -> Any:
    """Set bits of a 64-bit word."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), generate


@intrinsic
def _low_bit(typingctx: Any, word: Any) -> Any:
    """Place of the lowest set bit of a word that has one."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


popcount: Any = _popcount  # their own types show the arguments of the compiler, not those of a caller
low_bit: Any = _low_bit


@borrowing
def copy_to(out: Any, source: Any) -> None:
    """Entry by entry: numba's slice assignment looks for overlaps, and is large."""
    for i in range(len(source)):
        out[i] = source[i]


@borrowing
def fits(pr: Any, at: Any, words: Any, guard: Any, need: Any) -> bool:
    """Whether the entry at `at` has all that `need` asks."""
    if words == 1:
        return bool(((pr[at] | guard[0]) - need[0]) & guard[0] == guard[0])
    for w in range(words):  # noqa: SIM110
        if ((pr[at * words + w] | guard[w]) - need[w]) & guard[w] != guard[w]:
            return False
    return True


@borrowing
def entry_of(pt: Any, first: Any, count: Any, t: Any) -> Any:
    """The entry that holds slot t."""
    low, high = np.int64(first), np.int64(first) + np.int64(count)
    while high - low > 1:
        middle = (low + high) >> 1
        if pt[middle] <= t:
            low = middle
        else:
            high = middle
    return low


@borrowing
def earliest(
    pt: Any, pr: Any, first: Any, count: Any, words: Any, guard: Any, need: Any, t: Any, length: Any, stop: Any
) -> Any:
    """The first slot from t on at which `need` is free for `length` slots; FAR if not before `stop`."""
    end = first + count
    i = entry_of(pt, first, count, t)
    start = np.int64(t)
    while True:
        if not fits(pr, i, words, guard, need):
            i += 1
            while i < end and not fits(pr, i, words, guard, need):
                i += 1
            if i == end:
                return np.int64(FAR)
            start = np.int64(pt[i])
            if start >= stop:
                return np.int64(FAR)
        last = start + length
        i += 1
        while i < end and pt[i] < last and fits(pr, i, words, guard, need):
            i += 1
        if i == end or pt[i] >= last:
            return start


@borrowing
def longest(pt: Any, pr: Any, first: Any, count: Any, words: Any, guard: Any, need: Any, t: Any, stop: Any) -> Any:
    """The slot up to which `need` is free from t on; at most `stop`."""
    i = entry_of(pt, first, count, t)
    while i < first + count and pt[i] < stop:
        if not fits(pr, i, words, guard, need):
            return max(np.int64(t), np.int64(pt[i]))
        i += 1
    return np.int64(stop)


@borrowing
def _same(pr: Any, a: Any, words: Any) -> bool:
    for w in range(words):  # noqa: SIM110
        if pr[a * words + w] != pr[(a - 1) * words + w]:
            return False
    return True


@borrowing
def _drop(pt: Any, pr: Any, at: Any, end: Any, words: Any) -> None:
    for i in range(at, end - 1):
        pt[i] = pt[i + 1]
        for w in range(words):
            pr[i * words + w] = pr[(i + 1) * words + w]


@borrowing
def _split(pt: Any, pr: Any, at: Any, end: Any, words: Any, t: Any) -> None:
    """Cut the entry at `at` in two at slot t; there is room at `end`."""
    for i in range(end, at + 1, -1):
        pt[i] = pt[i - 1]
        for w in range(words):
            pr[i * words + w] = pr[(i - 1) * words + w]
    pt[at + 1] = t
    for w in range(words):
        pr[(at + 1) * words + w] = pr[at * words + w]


@borrowing
def change(
    pt: Any, pr: Any, off: Any, cap: Any, cnt: Any, state: Any, words: Any, row: Any, begin: Any, end: Any, need: Any,
    sign: Any,
) -> None:  # fmt: skip
    """Take `need` from a row in [begin, end), or give it back with sign -1.  Needs the room; sets OVER without."""
    first, count = off[row], np.int64(cnt[row])
    if count + 2 > cap[row]:
        larger = cap[row] * 2
        if state[USED] + larger > len(pt):
            state[OVER] = 1
            return
        to = state[USED]
        for i in range(count):
            pt[to + i] = pt[first + i]
        for i in range(count * words):
            pr[to * words + i] = pr[first * words + i]
        state[USED] += larger
        off[row] = first = to
        cap[row] = larger
    low = entry_of(pt, first, count, begin)
    if pt[low] != begin:
        _split(pt, pr, low, first + count, words, begin)
        low += 1
        count += 1
    high = first + count
    if end < FAR:
        high = entry_of(pt, low, first + count - low, end)
        if pt[high] != end:
            _split(pt, pr, high, first + count, words, end)
            high += 1
            count += 1
    for i in range(low, high):
        for w in range(words):
            pr[i * words + w] -= sign * need[w]
    if high < first + count and _same(pr, high, words):
        _drop(pt, pr, high, first + count, words)
        count -= 1
    if low > first and _same(pr, low, words):
        _drop(pt, pr, low, first + count, words)
        count -= 1
    cnt[row] = count
