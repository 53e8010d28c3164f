"""When are N whole nodes free at the same time: a segment tree over slots with a bit for every row.  Compiled.

Leaf of slot x is `leaves + x`, the parent of v is v >> 1; level k has blocks of 2**k slots, and nothing is kept above
level `top`.  `full[v]` has a row's bit if a busy span covered exactly block v, `part[v]` if the row is busy somewhere
in the block by a span at v or below it, not above it.  The last leaf stands for all slots from there on.  Spans are
split at multiples of 2**top slots, so that none lands on a level that is not read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helix_native.ahead_steps import FAR, copy_to, entry_of, popcount
from helix_native.compiling import borrowing


@borrowing
def _mark_block(full: Any, part: Any, leaves: Any, top: Any, word: Any, mask: Any, begin: Any, end: Any) -> None:
    left, right = leaves + begin, leaves + end
    while left < right:
        if left & 1:
            full[left, word] |= mask
            part[left, word] |= mask
            left += 1
        if right & 1:
            right -= 1
            full[right, word] |= mask
            part[right, word] |= mask
        left >>= 1
        right >>= 1
    left, right = leaves + begin, leaves + end - 1
    for _ in range(top + 1):
        part[left, word] |= mask
        part[right, word] |= mask
        left >>= 1
        right >>= 1


@borrowing
def mark(full: Any, part: Any, leaves: Any, top: Any, word: Any, mask: Any, begin: Any, end: Any) -> None:
    """The rows of `mask` are busy in [begin, end)."""
    end = min(end, leaves)
    begin = min(begin, end - 1)
    while begin < end:
        stop = min(end, ((begin >> top) + 1) << top)
        _mark_block(full, part, leaves, top, word, mask, begin, stop)
        begin = stop


@borrowing
def _count_with(acc: Any, line: Any) -> Any:
    count = np.int64(0)
    for w in range(len(acc)):
        count += np.int64(popcount(acc[w] | line[w]))
    return count


@borrowing
def _merge(acc: Any, line: Any) -> None:
    for w in range(len(acc)):
        acc[w] |= line[w]


@borrowing
def find_whole(
    full: Any, part: Any, leaves: Any, top: Any, barred: Any, least: Any, t: Any, length: Any, stop: Any, acc: Any,
    before: Any,
) -> Any:  # fmt: skip
    """The first start in [t, stop) of `least` rows for `length` slots; FAR if none.  `barred`: rows not to be used.

    The busy rows of the window found are left in `acc`.  Looks from the window's end back to its start; where too few
    rows are free from a block on, the last slot for which that holds is found and the next start is after it.
    """
    most = 64 * len(acc) - least
    while t < stop:
        copy_to(acc, barred)
        pos = min(t + length, leaves)
        came = np.int64(-1)  # left edge of the block before, and its level
        level_before = np.int64(0)
        jump = np.int64(-1)
        while pos > t:
            k = np.int64(0)
            while k < top and (pos >> k) & 1 == 0 and pos - (np.int64(2) << k) >= t:
                k += 1
            v = (leaves + pos - (np.int64(1) << k)) >> k
            copy_to(before, acc)
            above = v >> 1
            for level in range(k + 1, top + 1):
                if came >= 0 and level > level_before and (leaves + came) >> level == above:
                    break
                _merge(acc, full[above])
                above >>= 1
            if _count_with(acc, part[v]) > most:
                above = v
                for _ in range(k, top + 1):
                    _merge(before, full[above])
                    above >>= 1
                while v < leaves:
                    right = 2 * v + 1
                    if _count_with(before, part[right]) > most:
                        v = right
                    else:
                        _merge(before, part[right])
                        v = 2 * v
                    _merge(before, full[v])
                jump = v - leaves
                break
            _merge(acc, part[v])
            pos -= np.int64(1) << k
            came, level_before = pos, k
        if jump < 0:
            return np.int64(t)
        t = jump + 1
    return np.int64(FAR)


@borrowing
def busy_at(full: Any, leaves: Any, top: Any, t: Any, out: Any) -> None:
    """The rows that are busy in slot t, into `out`."""
    out[:] = np.uint64(0)
    v = leaves + min(t, leaves - 1)
    for _ in range(top + 1):
        _merge(out, full[v])
        v >>= 1


@borrowing
def _clear_block(full: Any, part: Any, leaves: Any, root: Any, word: Any, mask: Any) -> None:
    """Take a row's bit out of `root` and everything below: a part of the tree without it is not entered."""
    v = root
    while True:
        if part[v, word] & mask != np.uint64(0):
            part[v, word] &= ~mask
            full[v, word] &= ~mask
            if v < leaves:
                v *= 2
                continue
        while v != root and v & 1:
            v >>= 1
        if v == root:
            return
        v += 1


@borrowing
def remark(
    full: Any, part: Any, leaves: Any, top: Any, row: Any, begin: Any, end: Any, pt: Any, pr: Any, first: Any,
    count: Any, words: Any, shift: Any, value: Any, cpus: Any, full_now: Any,
) -> None:  # fmt: skip
    """Bring the tree in line with the row's entries around [begin, end), after something was given back.

    `shift`, `value`: where in an entry's first word the CPUs are; busy = less than `cpus` free; `full_now`: busy in
    the first slot whatever its CPUs.
    """
    word = row >> 6
    mask = np.uint64(1) << np.uint64(row & 63)
    end = min(end, leaves)
    begin = min(begin, end - 1)
    block = (begin >> top) << top
    while block < end:
        stop = min(leaves, block + (np.int64(1) << top))
        _clear_block(full, part, leaves, (leaves + block) >> top, word, mask)
        i = entry_of(pt, first, count, block)
        while i < first + count and pt[i] < stop:
            if (pr[i * words] >> shift) & value < cpus:
                to = np.int64(pt[i + 1]) if i + 1 < first + count else np.int64(FAR)
                _mark_block(full, part, leaves, top, word, mask, max(np.int64(pt[i]), block), min(to, stop))
            i += 1
        if block == 0 and full_now:
            _mark_block(full, part, leaves, top, word, mask, np.int64(0), np.int64(1))
        block = stop
