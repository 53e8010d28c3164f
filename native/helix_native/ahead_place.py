"""Shares of jobs: written down, entered in step functions, pools and tree, and taken out again.  Compiled."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_lines import X_CHUNK, X_ELIG, X_EXCLUSIVE, X_MEM_FLOOR, X_ROOM, X_TMP
from helix_native.ahead_load import Steps, pack
from helix_native.ahead_pools import change_pools, pools_short, roomy
from helix_native.ahead_rows import amounts_of, ask_of, class_of
from helix_native.ahead_steps import FAR, USED, change, copy_to, longest
from helix_native.ahead_tree import mark, remark
from helix_native.compiling import borrowing, compiled

# Columns of the table of jobs: the reservation or prediction a job has.
L_ENTRY, L_START, L_END, L_SECONDS, L_LIMIT, L_PROTECTED, L_AT, L_COUNT, L_ORDER, L_COLUMNS = range(10)
# Columns of the table of shares.
C_ROW, C_CPUS, C_MEM, C_CHUNK, C_COLUMNS = range(5)


class Work(NamedTuple):
    """Sets, scratch and constants of a pass.  R rows, W words of row bits."""

    some: Any  # [W] rows with a free CPU now
    idle: Any  # [W] rows with all their CPUs free now
    barred: Any  # [W] rows that a waiting job keeps (fifo)
    full: Any  # the tree; no lines = there is none
    part: Any
    leaves: Any
    top: Any
    window: Any  # slots
    candidates: Any  # rows compared for one later start
    rows: Any  # [R + 1]
    sort_keys: Any  # [R + 1]
    acc: Any  # [W]
    before: Any  # [W]
    after: Any  # [W]
    amounts: Any  # [D]
    need: Any  # [words]
    bounds: Any  # [R]
    minima: Any  # [groups]
    found: Any  # [1]
    sets: Any  # rows by what is free now; see `ahead_rows.sets_now`.  No lines = not kept
    members: Any  # [classes]
    tiers: Any  # [weights, W]
    place: Any  # [R] class of each row, -1 = none
    cpus_most: Any
    spare_most: Any


@compiled
def more(table: Any, wanted: Any) -> Any:
    """The table with at least `wanted` lines; its own if it has."""
    if wanted <= len(table):
        return table
    larger = np.empty((2 * len(table) + wanted, table.shape[1]), np.int64)
    for i in range(len(table)):
        copy_to(larger[i], table[i])
    return larger


@borrowing
def shape_of(s: Any, chunk: Any, x: Any) -> Any:
    """Part `chunk` of the chain of shape `s`."""
    s = np.int64(s)
    for _ in range(chunk):
        s = x[s, X_CHUNK]
    return s


@borrowing
def need_of_share(share: Any, s: Any, ground: Any, amounts: Any, need: Any) -> None:
    """What a share holds, packed; `s`: its own part of the chain."""
    amounts[:] = 0
    amounts[0], amounts[1] = share[C_CPUS], share[C_MEM]
    gres = ground.gres_of[s]
    for i in range(len(gres)):
        amounts[2 + i] = gres[i]
    room = ground.x[s, X_ROOM]
    if room >= 0 and not ground.x[s, X_EXCLUSIVE]:
        amounts[2 + len(gres) + room] = share[C_CPUS]
    pack(amounts, ground.word, ground.shift, need)


@borrowing
def _sort(rows: Any, count: Any) -> None:
    """The first `count` rows ascending, in place (Shell's sort; what comes here is short or nearly sorted)."""
    gap = np.int64(1)
    while 9 * gap < 4 * count:  # Tokuda's gaps, about 9/4 apart
        gap = (9 * gap + 4) // 4
    while gap > 0:
        for i in range(gap, count):
            row, to = rows[i], np.int64(i)
            while to >= gap and rows[to - gap] > row:
                rows[to] = rows[to - gap]
                to -= gap
            rows[to] = row
        gap = 4 * gap // 9


@borrowing
def stage(shares: Any, at: Any, rows: Any, count: Any, ask: Any, gres: Any, ground: Any, amounts: Any) -> None:
    """Write the shares of a plain request, rows in index order."""
    _sort(rows, count)
    for i in range(count):
        amounts_of(ask, gres, ground.cap, ground.whole, ground.width, rows[i], amounts)
        shares[at + i, C_ROW], shares[at + i, C_CPUS], shares[at + i, C_MEM] = rows[i], amounts[0], amounts[1]
        shares[at + i, C_CHUNK] = 0


@borrowing
def stage_slow(shares: Any, at: Any, count: Any, s: Any, ground: Any, sc: Any) -> None:
    """Write the shares that `choose_slow` left."""
    for i in range(count):
        own = shape_of(s, sc.chunk[i], ground.x)
        ask_of(ground.x, own, sc.share[i], sc.ask)
        amounts_of(sc.ask, ground.gres_of[own], ground.cap, ground.whole, ground.width, sc.row[i], sc.amounts)
        shares[at + i, C_ROW], shares[at + i, C_CPUS], shares[at + i, C_MEM] = sc.row[i], sc.amounts[0], sc.amounts[1]
        shares[at + i, C_CHUNK] = sc.chunk[i]


@borrowing
def _short(steps: Any, shares: Any, at: Any, count: Any) -> Any:
    """Entries by which the pool of the steps is short of one more change of each of the shares' rows; <= 0: none."""
    wanted = steps.state[USED]
    for i in range(at, at + count):
        r = shares[i, C_ROW]
        if steps.cnt[r] + 2 > steps.cap[r]:
            wanted += 2 * steps.cap[r]
    return wanted - np.int64(len(steps.pt))


@borrowing
def is_short(steps: Any, pools: Any, jobs: Any, j: Any, shares: Any, at: Any, count: Any) -> bool:
    """Whether `change_plan` needs `with_room` first."""
    return bool(_short(steps, shares, at, count) > 0 or pools_short(pools, jobs, j) > 0)


@compiled
def with_room(steps: Any, pools: Any, jobs: Any, j: Any, shares: Any, at: Any, count: Any) -> Any:
    """Steps and pools with room for one more change of each of the shares' rows and of each of job j's pools."""
    extra = _short(steps, shares, at, count)
    if extra > 0:
        size = 2 * len(steps.pt) + extra
        words = len(steps.pr) // len(steps.pt)
        pt, pr = np.empty(size, np.int32), np.empty(size * words, np.int64)
        copy_to(pt, steps.pt)
        copy_to(pr, steps.pr)
        steps = Steps(pt, pr, steps.off, steps.cap, steps.cnt, steps.state, steps.now)
    return steps, roomy(pools, jobs, j)


@borrowing
def _apply(
    shares: Any, at: Any, count: Any, s: Any, begin: Any, end: Any, sign: Any, ground: Any, steps: Any, work: Any
) -> None:
    pt, pr, off, cap, cnt, state, now = steps.pt, steps.pr, steps.off, steps.cap, steps.cnt, steps.state, steps.now
    some, full, part, leaves, top = work.some, work.full, work.part, work.leaves, work.top
    amounts, need = work.amounts, work.need
    words = len(need)
    value, cpus, empty_now, x = ground.value[0], ground.cap, ground.empty_now, ground.x
    chunk, own = np.int64(0), np.int64(s)
    word = np.int64(-1)
    mask = np.uint64(0)
    for i in range(at, at + count):
        r = shares[i, C_ROW]
        if shares[i, C_CHUNK] != chunk:
            chunk = shares[i, C_CHUNK]
            own = shape_of(s, chunk, x)
        need_of_share(shares[i], own, ground, amounts, need)
        change(pt, pr, off, cap, cnt, state, words, r, begin, end, need, sign)
        if begin == 0:
            for w in range(words):
                now[r * words + w] = pr[off[r] * words + w]
            bit = np.uint64(1) << np.uint64(r & 63)
            if now[r * words] & value > 0:
                some[r >> 6] |= bit
            else:
                some[r >> 6] &= ~bit
            if now[r * words] & value == cpus[r, 0]:
                work.idle[r >> 6] |= bit
            else:
                work.idle[r >> 6] &= ~bit
            if len(work.sets) > 0 and work.place[r] >= 0:
                c = class_of(
                    r, now, words, ground.gres_of.shape[1], ground.word, ground.shift, ground.value, work.cpus_most,
                    work.spare_most,
                )  # fmt: skip
                work.sets[work.place[r], r >> 6] &= ~bit
                work.members[work.place[r]] -= 1
                work.sets[c, r >> 6] |= bit
                work.members[c] += 1
                work.place[r] = c
        if leaves == 0:
            continue
        if sign < 0:
            remark(
                full, part, leaves, top, r, begin, end, pt, pr, off[r], cnt[r], words, np.int64(0), value, cpus[r, 0],
                not empty_now[r],
            )  # fmt: skip
            continue
        if r >> 6 != word:
            if word >= 0:
                mark(full, part, leaves, top, word, mask, begin, end)
            word, mask = r >> 6, np.uint64(0)
        mask |= np.uint64(1) << np.uint64(r & 63)
    if leaves > 0 and sign > 0 and word >= 0:
        mark(full, part, leaves, top, word, mask, begin, end)


@borrowing
def change_plan(
    shares: Any, at: Any, count: Any, s: Any, j: Any, begin: Any, end: Any, sign: Any, ground: Any, steps: Any,
    pools: Any, jobs: Any, work: Any,
) -> None:  # fmt: skip
    """Take shares of job j, of shape `s`, in [begin, end), or give them back (sign -1).  Needs room (`is_short`)."""
    _apply(shares, at, count, s, begin, end, sign, ground, steps, work)
    if jobs.pool_n[j] > 0:
        change_pools(pools, jobs, j, begin, end, sign)


@borrowing
def plant(ground: Any, steps: Any, work: Any) -> None:
    """Mark in the tree everything that is taken at the start of the pass."""
    full, part, leaves, top = work.full, work.part, work.leaves, work.top
    words = len(ground.guard)
    for r in range(len(ground.up)):
        if not ground.up[r]:
            continue
        mask = np.uint64(1) << np.uint64(r & 63)
        cpus = ground.cap[r, 0]
        first, count = steps.off[r], steps.cnt[r]
        begin = np.int64(-1)
        for i in range(first, first + count):
            taken = steps.pr[i * words] & ground.value[0] < cpus
            if taken and begin < 0:
                begin = np.int64(steps.pt[i])
            if not taken and begin >= 0:
                mark(full, part, leaves, top, r >> 6, mask, begin, np.int64(steps.pt[i]))
                begin = np.int64(-1)
        if begin >= 0:
            mark(full, part, leaves, top, r >> 6, mask, begin, np.int64(FAR))
        if not ground.empty_now[r]:
            mark(full, part, leaves, top, r >> 6, mask, np.int64(0), np.int64(1))


@borrowing
def shares_until(
    shares: Any, at: Any, count: Any, s: Any, begin: Any, end: Any, ground: Any, steps: Any, work: Any
) -> Any:
    """The slot up to which the shares are free from `begin` on; at most `end`."""
    for i in range(at, at + count):
        r = shares[i, C_ROW]
        need_of_share(shares[i], shape_of(s, shares[i, C_CHUNK], ground.x), ground, work.amounts, work.need)
        end = longest(
            steps.pt, steps.pr, steps.off[r], steps.cnt[r], len(work.need), ground.guard, work.need, begin,
            np.int64(end),
        )  # fmt: skip
    return np.int64(end)


@borrowing
def may_keep(shares: Any, at: Any, count: Any, s: Any, ground: Any) -> bool:
    """Whether the shares of a kept reservation may still be on their rows."""
    x = ground.x
    for i in range(at, at + count):
        r = shares[i, C_ROW]
        own = shape_of(s, shares[i, C_CHUNK], x)
        elig = ground.elig_of[x[own, X_ELIG]]
        gres = ground.gres_of[own]
        have = ground.whole if x[own, X_EXCLUSIVE] else ground.cap
        if not ground.up[r] or not ((elig[r >> 3] >> (r & 7)) & 1):
            return False
        if ground.cap[r, 1] < x[own, X_MEM_FLOOR] or ground.tmp[r] < x[own, X_TMP]:
            return False
        if shares[i, C_CPUS] > ground.cap[r, 0] or shares[i, C_MEM] > ground.cap[r, 1]:
            return False
        room = x[own, X_ROOM]
        limit = ground.cap.shape[1] if room < 0 or x[own, X_EXCLUSIVE] else 2 + len(gres) + room
        if limit < ground.cap.shape[1] and shares[i, C_CPUS] > ground.cap[r, limit]:
            return False
        for g in range(len(gres)):
            if have[r, 2 + g] < gres[g]:
                return False
    return True
