"""From the tables to the planner's ground: packing, rows of one kind, and step functions with everything loaded.

Compiled.  D kinds of amounts: CPUs, MiB, G kinds of GRES, L CPU limits of partitions; see `ahead_steps` for packing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_lines import request_table
from helix_native.ahead_steps import FAR, USED
from helix_native.compiling import borrowing, compiled

_PLAIN = (1 << 31) - 1
_KINDS_MAX = 64
_WORD_BITS = 62


class Ground(NamedTuple):
    """What does not change in a pass.  R rows, W words of row bits."""

    cap: Any  # [R, D] when nothing runs
    whole: Any  # [R, D] less what spans without CPUs take: what requests for whole nodes may count on
    width: Any  # [R]
    tmp: Any  # [R]
    up: Any  # [R]
    empty_now: Any  # [R]
    word: Any  # [D] where the amount is packed
    shift: Any  # [D]
    value: Any  # [D] mask of the amount, unshifted
    guard: Any  # [words]
    kind_row: Any  # [kinds] rows of one kind are alike in all but what is free: one of them
    kind_bits: Any  # [kinds, W] all of them that are up
    x: Any  # [S, X_COUNT] requests; see `ahead_lines`
    gres_of: Any  # [S, G]
    elig_of: Any  # as in `TableArrays`
    must_of: Any
    part_of: Any
    rank: Any  # [R]
    switch: Any  # [R]
    score: Any  # [scores, R]


class Steps(NamedTuple):
    """What is free over time; see `ahead_steps`."""

    pt: Any
    pr: Any
    off: Any
    cap: Any
    cnt: Any
    state: Any
    now: Any  # [R * words] copy of the first entry of every row


@borrowing
def _up(seconds: Any, resolution_s: Any) -> Any:
    if seconds >= np.int64(FAR) * resolution_s:
        return np.int64(FAR)
    return min(np.int64(FAR), -((-seconds) // resolution_s))


@borrowing
def _down(seconds: Any, resolution_s: Any) -> Any:
    return min(np.int64(FAR), seconds // resolution_s)


@borrowing
def pack(amounts: Any, word: Any, shift: Any, need: Any) -> None:
    """Amounts of every kind as packed words."""
    need[:] = 0
    for d in range(len(amounts)):
        need[word[d]] |= amounts[d] << shift[d]


@compiled
def _layout(cap: Any) -> Any:
    kinds = cap.shape[1]
    word = np.zeros(kinds, np.int64)
    shift = np.zeros(kinds, np.int64)
    value = np.zeros(kinds, np.int64)
    used = np.int64(0)
    words = np.int64(0)
    for d in range(kinds):
        most = np.int64(0)
        for r in range(cap.shape[0]):
            most = max(most, cap[r, d])
        bits = np.int64(1)
        while (most >> bits) > 0:
            bits += 1
        if used + bits + 1 > _WORD_BITS:
            words += 1
            used = np.int64(0)
        word[d], shift[d], value[d] = words, used, (np.int64(1) << bits) - 1
        used += bits + 1
    guard = np.zeros(words + 1, np.int64)
    for d in range(kinds):
        guard[word[d]] |= (value[d] + 1) << shift[d]
    return word, shift, value, guard


@compiled
def _kinds(cap: Any, whole: Any, width: Any, tmp: Any, up: Any) -> Any:
    """Rows of one kind; more than _KINDS_MAX kinds are not told apart (every row is tested by itself)."""
    size, amounts = cap.shape
    kind = np.full(size, -1, np.int32)
    first = np.zeros(_KINDS_MAX, np.int64)
    count = np.int64(0)
    last = np.int64(0)
    for r in range(size):
        if not up[r]:
            continue
        found = np.int64(-1)
        for step in range(count):
            k = (last + step) % count
            other = first[k]
            same = width[r] == width[other] and tmp[r] == tmp[other]
            for d in range(amounts):
                same = same and cap[r, d] == cap[other, d] and whole[r, d] == whole[other, d]
            if same:
                found = k
                break
        if found < 0:
            if count == _KINDS_MAX:
                return first[:0].copy(), np.zeros((0, (size + 63) >> 6), np.uint64)
            found = count
            first[count] = r
            count += 1
        last = found
        kind[r] = found
    bits = np.zeros((count, (size + 63) >> 6), np.uint64)
    for r in range(size):
        if kind[r] >= 0:
            bits[kind[r], r >> 6] |= np.uint64(1) << np.uint64(r & 63)
    return first[:count].copy(), bits


@compiled
def load(
    nodes: Any, shapes: Any, needs: Any, tables: Any, extra: Any, rows: Any, spans: Any, resolution_s: Any,
    pool_size: Any,
) -> Any:  # fmt: skip
    """Ground and steps of a pass; `pool_size`: entries beyond those loaded."""
    size = len(nodes.cpus)
    gres_kinds = rows.gres.shape[1]
    rooms = len(tables.room_cap)
    kinds = 2 + gres_kinds + rooms
    cap = np.empty((size, kinds), np.int64)
    now = np.empty((size, kinds), np.int64)
    for r in range(size):
        cap[r, 0], cap[r, 1] = nodes.cpus[r], nodes.mem[r]
        now[r, 0], now[r, 1] = nodes.free_cpus[r], nodes.free_mem[r]
        for i in range(gres_kinds):
            cap[r, 2 + i], now[r, 2 + i] = rows.gres[r, i], rows.gres_free[r, i]
        for i in range(rooms):
            cap[r, 2 + gres_kinds + i], now[r, 2 + gres_kinds + i] = tables.room_cap[i], tables.room[i, r]
    width = nodes.width.astype(np.int64)
    up = nodes.up
    word, shift, value, guard = _layout(cap)
    words = len(guard)

    # spans by row
    whole = cap.copy()
    at = np.zeros(size + 1, np.int64)
    for x in range(len(spans.row)):
        if spans.row[x] >= 0:
            at[spans.row[x] + 1] += 2
    for r in range(size):
        at[r + 1] += at[r]
    events = np.empty(at[size], np.int64)
    fill = at[:size].copy()
    for x in range(len(spans.row)):
        r = spans.row[x]
        if r < 0:
            continue
        begin, end = max(np.int64(0), _down(spans.t_from[x], resolution_s)), _up(spans.t_to[x], resolution_s)
        if begin >= end:
            continue
        events[fill[r]] = begin << 32 | (2 * x)
        fill[r] += 1
        if end < FAR:
            events[fill[r]] = end << 32 | (2 * x + 1)
            fill[r] += 1
        if spans.cpus[x] == 0:
            whole[r, 1] -= spans.mem[x]
            for i in range(gres_kinds):
                whole[r, 2 + i] -= spans.gres[x, i]
    for r in range(size):
        for d in range(kinds):
            whole[r, d] = max(whole[r, d], np.int64(0))

    total = np.int64(0)
    for r in range(size):
        total += max(16, 4 * (fill[r] - at[r] + 4))
    pt = np.empty(total + pool_size, np.int32)
    pr = np.empty((total + pool_size) * words, np.int64)
    off = np.zeros(size, np.int64)
    room_for = np.zeros(size, np.int64)
    cnt = np.zeros(size, np.int64)
    state = np.zeros(4, np.int64)
    first_entry = np.zeros(size * words, np.int64)
    empty_now = nodes.empty.copy()
    free = np.empty(kinds, np.int64)
    packed = np.empty(words, np.int64)
    used = np.int64(0)
    for r in range(size):
        off[r] = used
        room_for[r] = max(16, 4 * (fill[r] - at[r] + 4))
        used += room_for[r]
        mine = events[at[r] : fill[r]]
        if len(mine) > 1:
            mine.sort()
        opens = max(np.int64(0), _up(rows.t_from[r], resolution_s))
        closes = np.int64(FAR)
        if rows.t_to[r] < np.int64(1) << 40:
            closes = max(np.int64(0), _down(rows.t_to[r], resolution_s))
        free[:] = cap[r]
        at_event: Any = np.int64(0)
        t = np.int64(0)
        count = np.int64(0)
        while True:
            while at_event < len(mine) and (mine[at_event] >> 32) <= t:
                x = (mine[at_event] & _PLAIN) >> 1
                sign = np.int64(1) if mine[at_event] & 1 else np.int64(-1)
                free[0] += sign * spans.cpus[x]
                free[1] += sign * spans.mem[x]
                for g in range(gres_kinds):
                    free[2 + g] += sign * np.int64(spans.gres[x, g])
                if len(spans.room) > 0 and spans.room[x] >= 0:
                    free[2 + gres_kinds + spans.room[x]] += sign * spans.cpus[x]
                at_event += 1
            packed[:] = 0
            short = False
            for d in range(kinds):
                amount = max(free[d], np.int64(0))
                if t == 0 and now[r, d] < amount:
                    short = short or d < 2 + gres_kinds
                    amount = max(now[r, d], np.int64(0))
                if t >= opens and t < closes:
                    packed[word[d]] |= amount << shift[d]
            if short:
                empty_now[r] = False
            to = off[r] + count
            differs = count == 0
            for w in range(words):
                differs = differs or pr[(to - 1) * words + w] != packed[w]
            if differs:
                pt[to] = t
                for w in range(words):
                    pr[to * words + w] = packed[w]
                count += 1
            after = np.int64(FAR)
            if at_event < len(mine):
                after = mine[at_event] >> 32
            if t == 0:
                after = min(after, np.int64(1))
            if opens > t:
                after = min(after, opens)
            if closes > t:
                after = min(after, closes)
            if after >= FAR:
                break
            t = after
        cnt[r] = count
        for w in range(words):
            first_entry[r * words + w] = pr[off[r] * words + w]
    state[USED] = used
    kind_row, kind_bits = _kinds(cap, whole, width, nodes.tmp, up)
    ground = Ground(
        cap, whole, width, nodes.tmp, up, empty_now, word, shift, value, guard, kind_row, kind_bits,
        request_table(shapes, needs, tables), needs.gres, tables.elig, tables.must, tables.part, nodes.rank,
        rows.switch, extra.score,
    )  # fmt: skip
    return ground, Steps(pt, pr, off, room_for, cnt, state, first_entry)
