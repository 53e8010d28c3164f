"""What plain requests ask of a row, which rows can serve them, and the search for the earliest start on rows.

Compiled; specified by `reference_choice`.  A request is boiled down to its `ask`; see the ASK_ places.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helix_native.ahead_lines import X_CPT, X_CPUS_MIN, X_EXCLUSIVE, X_LEAST, X_MEM_ALL, X_MEM_CPU, X_MEM_NODE, X_ROOM
from helix_native.ahead_load import pack
from helix_native.ahead_steps import FAR, earliest, entry_of, fits, low_bit, popcount
from helix_native.compiling import borrowing

ASK_CPUS = 0  #: CPUs, not rounded to cores
ASK_WHOLE = 1  #: 1 = whole nodes
ASK_MODE = 2  #: MEM_*
ASK_MEM = 3
ASK_ROOM = 4  #: row of `TableArrays.room`, -1 = none
ASK_LEAST = 5  #: 1 = least loaded first
ASK_COUNT = 6
MEM_NONE, MEM_NODE, MEM_CPU, MEM_ALL = 0, 1, 2, 3

GROUP = 64  #: rows under one minimum of the bounds
SPARE_MAX = 4095
_HALF = np.int64(1 << 31)


@borrowing
def ask_of(x: Any, s: Any, tasks: Any, ask: Any) -> None:
    """What `tasks` tasks of shape `s` ask of one row."""
    ask[ASK_CPUS] = max(np.int64(tasks) * np.int64(x[s, X_CPT]), np.int64(x[s, X_CPUS_MIN]))
    ask[ASK_WHOLE] = 1 if x[s, X_EXCLUSIVE] else 0
    ask[ASK_MODE], ask[ASK_MEM] = MEM_NONE, 0
    if x[s, X_MEM_ALL]:
        ask[ASK_MODE] = MEM_ALL
    elif x[s, X_MEM_NODE] > 0:
        ask[ASK_MODE], ask[ASK_MEM] = MEM_NODE, x[s, X_MEM_NODE]
    elif x[s, X_MEM_CPU] > 0:
        ask[ASK_MODE], ask[ASK_MEM] = MEM_CPU, x[s, X_MEM_CPU]
    ask[ASK_ROOM] = x[s, X_ROOM]
    ask[ASK_LEAST] = 1 if x[s, X_LEAST] else 0


@borrowing
def in_cores(cpus: Any, width: Any) -> Any:
    """CPUs rounded up to whole cores."""
    return cpus if width == 1 else (cpus + width - 1) // width * width


@borrowing
def amounts_of(ask: Any, gres: Any, cap: Any, whole: Any, width: Any, r: Any, out: Any) -> None:
    """What row r gives to a request it can serve, kind by kind."""
    out[:] = 0
    cpus = in_cores(ask[ASK_CPUS], width[r])
    free = cap[r, 1]
    if ask[ASK_WHOLE]:
        cpus, free = cap[r, 0], whole[r, 1]
    out[0] = cpus
    if ask[ASK_MODE] == MEM_ALL:
        out[1] = cap[r, 1]
    elif ask[ASK_MODE] == MEM_NODE:
        out[1] = ask[ASK_MEM]
    elif ask[ASK_MODE] == MEM_CPU:
        out[1] = free if ask[ASK_MEM] > free // max(cpus, np.int64(1)) else ask[ASK_MEM] * cpus
    for i in range(len(gres)):
        out[2 + i] = gres[i]
    if ask[ASK_ROOM] >= 0 and not ask[ASK_WHOLE]:
        out[2 + len(gres) + ask[ASK_ROOM]] = cpus


@borrowing
def need_on(
    ask: Any, gres: Any, cap: Any, whole: Any, width: Any, r: Any, word: Any, shift: Any, amounts: Any, need: Any
) -> None:
    """What must be free on row r throughout, packed.  For whole nodes only CPUs count: nobody else can be there."""
    if ask[ASK_WHOLE]:
        need[:] = 0
        need[word[0]] = cap[r, 0] << shift[0]
        return
    amounts_of(ask, gres, cap, whole, width, r, amounts)
    pack(amounts, word, shift, need)


@borrowing
def can(ask: Any, gres: Any, floor: Any, tmp: Any, ground: Any, r: Any) -> bool:
    """Whether row r could serve the request if nothing ran there."""
    cap, whole = ground.cap, ground.whole
    if cap[r, 1] < floor or ground.tmp[r] < tmp:
        return False
    have = whole if ask[ASK_WHOLE] else cap
    width = ground.width[r]
    usable = have[r, 0]
    if ask[ASK_ROOM] >= 0:
        usable = min(usable, have[r, 2 + len(gres) + ask[ASK_ROOM]])
    need = in_cores(ask[ASK_CPUS], width)
    if usable // width * width < need:
        return False
    if ask[ASK_MODE] == MEM_ALL and have[r, 1] < cap[r, 1]:
        return False
    if ask[ASK_MODE] == MEM_NODE and have[r, 1] < ask[ASK_MEM]:
        return False
    if ask[ASK_MODE] == MEM_CPU and have[r, 1] // ask[ASK_MEM] < need:
        return False
    for i in range(len(gres)):  # noqa: SIM110
        if have[r, 2 + i] < gres[i]:
            return False
    return True


@borrowing
def able_bits(ask: Any, gres: Any, floor: Any, tmp: Any, elig: Any, ground: Any, any_state: bool, out: Any) -> Any:
    """Bits of the rows that could serve the request (`any_state`: up or not) into `out`; how many."""
    kinds = len(ground.kind_row)
    size = len(ground.up)
    if kinds == 0 or any_state:
        out[:] = np.uint64(0)
        for r in range(size):
            if (ground.up[r] or any_state) and (elig[r >> 3] >> (r & 7)) & 1 and can(ask, gres, floor, tmp, ground, r):
                out[r >> 6] |= np.uint64(1) << np.uint64(r & 63)
    else:
        out[:] = np.uint64(0)
        for k in range(kinds):
            if can(ask, gres, floor, tmp, ground, ground.kind_row[k]):
                bits = ground.kind_bits[k]
                for w in range(len(out)):
                    out[w] |= bits[w]
        for w in range(len(out)):
            allowed = np.uint64(0)
            for i in range(8):
                if 8 * w + i < len(elig):
                    allowed |= np.uint64(elig[8 * w + i]) << np.uint64(8 * i)
            out[w] &= allowed
    count = np.int64(0)
    for w in range(len(out)):
        count += np.int64(popcount(out[w]))
    return count


@borrowing
def spare_of(pr: Any, at: Any, words: Any, kinds: Any, word: Any, shift: Any, value: Any) -> Any:
    """Units of GRES free in an entry."""
    spare = np.int64(0)
    for d in range(2, 2 + kinds):
        spare += (pr[at * words + word[d]] >> shift[d]) & value[d]
    return min(spare, np.int64(SPARE_MAX))


@borrowing
def part_key(ask: Any, rank: Any, spare: Any, free: Any, width: Any) -> Any:
    """The order of rows for parts of nodes: `free` CPUs at the start; lower is better."""
    free = free if width == 1 else free // width * width
    left = _HALF - 1 - free if ask[ASK_LEAST] else free - in_cores(ask[ASK_CPUS], width)
    return rank << 43 | spare << 31 | left


@borrowing
def sift(keys: Any, rows: Any, size: Any, key: Any, row: Any) -> None:
    """Put (key, row) in place of the largest of a heap (largest first; ties: the higher row) and mend the heap."""
    i = np.int64(0)
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (keys[other] > keys[child] or (keys[other] == keys[child] and rows[other] > rows[child])):
            child = other
        if keys[child] < key or (keys[child] == key and rows[child] < row):
            break
        keys[i], rows[i] = keys[child], rows[child]
        i = child
    keys[i], rows[i] = key, row


@borrowing
def push(keys: Any, rows: Any, size: Any, key: Any, row: Any) -> None:
    """Add (key, row) to a heap of `size`."""
    i = np.int64(size)
    while i > 0:
        above = (i - 1) >> 1
        if keys[above] > key or (keys[above] == key and rows[above] > row):
            break
        keys[i], rows[i] = keys[above], rows[above]
        i = above
    keys[i], rows[i] = key, row


@borrowing
def busy(pt: Any, pr: Any, first: Any, count: Any, words: Any, t: Any, value: Any, cpus: Any) -> bool:
    """Whether CPUs of the row are taken in slot t."""
    return bool(pr[entry_of(pt, first, count, t) * words] & value < cpus)


@borrowing
def gap_of(
    pt: Any, pr: Any, first: Any, count: Any, words: Any, begin: Any, end: Any, value: Any, cpus: Any, empty_now: Any
) -> Any:
    """0 = busy before and after [begin, end), 1 = only after, 2 = only before, 3 = neither."""
    before = begin > 0 and busy(pt, pr, first, count, words, begin - 1, value, cpus)
    before = before or (begin == 1 and not empty_now)
    after = end < FAR and busy(pt, pr, first, count, words, end, value, cpus)
    if after:
        return np.int64(0) if before else np.int64(1)
    return np.int64(2) if before else np.int64(3)


@borrowing
def rows_now(
    ask: Any, gres: Any, ground: Any, steps: Any, length: Any, alive: Any, some: Any, barred: Any, order: Any,
    least: Any, target: Any, flat: bool, keys: Any, rows: Any, amounts: Any, need: Any,
) -> Any:  # fmt: skip
    """The best `target` rows (at least `least`) that serve the request from now on: how many, 0 = too few.

    `alive`: rows not yet known to fail now; those found to fail are taken out.  `some`: rows with a free CPU now.
    `order`: rank of each row (for whole nodes: of all that is fixed).  Leaves the rows in `rows`, unsorted.
    """
    pt, pr, off, cnt, now = steps.pt, steps.pr, steps.off, steps.cnt, steps.now
    cap, whole, width, guard, word, shift, value = (
        ground.cap, ground.whole, ground.width, ground.guard, ground.word, ground.shift, ground.value,
    )  # fmt: skip
    empty_now = ground.empty_now
    words = len(guard)
    entire = ask[ASK_WHOLE] == 1
    size = np.int64(0)
    for w in range(len(alive)):
        bits = alive[w] & some[w] & ~barred[w]
        while bits != np.uint64(0):
            place = low_bit(bits)
            bit = np.uint64(1) << place
            bits ^= bit
            r = np.int64(w) * 64 + np.int64(place)
            if not flat:
                need_on(ask, gres, cap, whole, width, r, word, shift, amounts, need)
            if not fits(now, r, words, guard, need):
                alive[w] &= ~bit
                continue
            if entire:
                if not empty_now[r]:
                    continue
                gap = gap_of(pt, pr, off[r], cnt[r], words, np.int64(0), length, value[0], cap[r, 0], True)
                key = np.int64(order[r]) << 2 | gap
            else:
                spare = spare_of(now, r, words, len(gres), word, shift, value)
                key = part_key(ask, np.int64(order[r]), spare, now[r * words] & value[0], width[r])
            if size == target and key >= keys[0]:
                continue
            if earliest(pt, pr, off[r], cnt[r], words, guard, need, np.int64(0), length, np.int64(1)) != 0:
                alive[w] &= ~bit
                continue
            if size < target:
                push(keys, rows, size, key, r)
                size += 1
            else:
                sift(keys, rows, size, key, r)
    return size if size >= least else np.int64(0)


@borrowing
def class_of(
    r: Any, now: Any, words: Any, kinds: Any, word: Any, shift: Any, value: Any, cpus_most: Any, spare_most: Any
) -> Any:
    """Number of the set that a row with such amounts free now is in: by GRES free, then CPUs."""
    spare = min(spare_of(now, r, words, kinds, word, shift, value), spare_most)
    return spare * (cpus_most + 1) + (now[r * words] & value[0])


@borrowing
def sets_now(
    ask: Any, gres: Any, ground: Any, steps: Any, length: Any, alive: Any, barred: Any, least: Any, target: Any,
    sets: Any, members: Any, tiers: Any, cpus_most: Any, rows: Any, need: Any,
) -> Any:  # fmt: skip
    """As `rows_now` for parts of nodes of one kind of core, without scores: tries rows in the order they are taken.

    `sets[c]`: rows of class c (see `class_of`), `members[c]` of them; `tiers`: rows of every weight.
    """
    pt, pr, off, cnt, now, guard = steps.pt, steps.pr, steps.off, steps.cnt, steps.now, ground.guard
    words = len(guard)
    span = cpus_most - ask[ASK_CPUS] + 1
    spares = len(members) // (cpus_most + 1)
    count = np.int64(0)
    for tier in range(len(tiers)):
        for spare in range(spares):
            for step in range(span):
                cpus = cpus_most - step if ask[ASK_LEAST] else ask[ASK_CPUS] + step
                c = spare * (cpus_most + 1) + cpus
                if members[c] == 0:
                    continue
                for w in range(len(alive)):
                    bits = sets[c, w] & alive[w] & ~barred[w] & tiers[tier, w]
                    while bits != np.uint64(0):
                        place = low_bit(bits)
                        bit = np.uint64(1) << place
                        bits ^= bit
                        r = np.int64(w) * 64 + np.int64(place)
                        if (
                            not fits(now, r, words, guard, need)
                            or earliest(pt, pr, off[r], cnt[r], words, guard, need, np.int64(0), length, np.int64(1))
                            != 0
                        ):
                            alive[w] &= ~bit
                            continue
                        rows[count] = r
                        count += 1
                        if count == target:
                            return count
    return count if count >= least else np.int64(0)


@borrowing
def _count_upto(bounds: Any, t: Any) -> Any:
    count = np.int64(0)
    for r in range(len(bounds)):
        count += bounds[r] <= t
    return count


@borrowing
def lower_bound(bounds: Any, minima: Any, least: Any, t: Any, stop: Any) -> Any:
    """The first slot from t on by which `least` rows have their bounds; FAR if that is not before `stop`."""
    if least == 1:
        low = np.int64(FAR)
        for m in range(len(minima)):
            low = min(low, np.int64(minima[m]))
        low = max(low, t)
        return low if low < stop else np.int64(FAR)
    if _count_upto(bounds, t) >= least:
        return np.int64(t)
    if _count_upto(bounds, stop - 1) < least:
        return np.int64(FAR)
    low, high = np.int64(t), np.int64(stop - 1)  # count(low) < least <= count(high)
    while high - low > 1:
        middle = (low + high) >> 1
        if _count_upto(bounds, middle) >= least:
            high = middle
        else:
            low = middle
    return high


@borrowing
def set_minima(bounds: Any, minima: Any) -> None:
    """Minima of every GROUP bounds."""
    for m in range(len(minima)):
        low = np.int32(FAR + 1)
        for r in range(m * GROUP, min((m + 1) * GROUP, len(bounds))):
            low = min(low, bounds[r])
        minima[m] = low


@borrowing
def rows_later(
    ask: Any, gres: Any, ground: Any, steps: Any, length: Any, bounds: Any, minima: Any, least: Any, wanted: Any,
    t: Any, stop: Any, window: Any, flat: bool, rows: Any, amounts: Any, need: Any, found: Any,
) -> Any:  # fmt: skip
    """The earliest start in [t, stop) of `least` rows, FAR if none; `found[0]` of them, at most `wanted`, in `rows`.

    `bounds`: no start on a row before its bound; they are raised; FAR: none before `window`; above: row not able.
    """
    pt, pr, off, cnt = steps.pt, steps.pr, steps.off, steps.cnt
    cap, whole, width, guard, word, shift = (
        ground.cap, ground.whole, ground.width, ground.guard, ground.word, ground.shift,
    )  # fmt: skip
    words = len(guard)
    size = len(bounds)
    while True:
        t = lower_bound(bounds, minima, least, t, stop)
        if t >= stop:
            return np.int64(FAR)
        count = np.int64(0)
        for m in range(len(minima) - 1, -1, -1):
            if minima[m] > t:
                continue
            for r in range(min(size, (m + 1) * GROUP) - 1, m * GROUP - 1, -1):
                if bounds[r] > t:
                    continue
                if not flat:
                    need_on(ask, gres, cap, whole, width, r, word, shift, amounts, need)
                start = earliest(pt, pr, off[r], cnt[r], words, guard, need, t, length, window)
                bounds[r] = start
                if start == t:
                    rows[count] = r
                    count += 1
                    if count == wanted:
                        break
            low = np.int32(FAR + 1)
            for r in range(m * GROUP, min((m + 1) * GROUP, size)):
                low = min(low, bounds[r])
            minima[m] = low
            if count == wanted:
                break
        if count >= least:
            found[0] = count
            return t
        t += 1
