"""Requests that are not plain: tasks spread over nodes, named or neighbouring nodes, switches, chains.  Compiled.

Specified by `reference_choice`.  Every able row is looked at for every start that is tried; from a start that fails
the next one tried is the first at which the rows could give more than they did, and enough of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_lines import (
    X_CHUNK,
    X_CONTIGUOUS,
    X_CPT,
    X_CPUS_MIN,
    X_ELIG,
    X_EXCLUSIVE,
    X_GROW,
    X_LEAST,
    X_MEM_ALL,
    X_MEM_CPU,
    X_MEM_FLOOR,
    X_MEM_NODE,
    X_MUST_AT,
    X_MUST_N,
    X_NODES_HI,
    X_NODES_LO,
    X_PART,
    X_ROOM,
    X_SCORE,
    X_SPREAD,
    X_SWITCHES,
    X_TASK_HI,
    X_TASK_LO,
    X_TASKS,
    X_TMP,
)
from helix_native.ahead_rows import ASK_COUNT, ask_of, can, in_cores, need_on, spare_of
from helix_native.ahead_steps import FAR, copy_to, earliest, entry_of
from helix_native.arrays import (
    FAIL_BUSY,
    FAIL_COUNT,
    FAIL_CPUS,
    FAIL_DOWN,
    FAIL_INELIGIBLE,
    FAIL_KEPT,
    FAIL_MEMORY,
    FAIL_ROOM,
    FAIL_SMALL,
)
from helix_native.compiling import borrowing, compiled
from helix_native.numba_kernels import _cores, _memory_serves, _neighbours, _several, _share, _sorted_nodes

_LARGE = np.int64((1 << 31) - 1)
WINDOW, CAPACITY, CAPACITY_DOWN = np.int64(0), np.int64(1), np.int64(2)  #: a time; empty rows; these, up or not


class Scratch(NamedTuple):
    """Working arrays of this module.  R rows."""

    fit: Any  # [R] tasks a row takes
    most: Any  # [R] tasks it would take if empty
    use: Any  # [R] CPUs it may use at the start
    rank: Any  # [R]
    kept: Any  # [R] `fit` of part of the rows
    left: Any  # [R] CPUs left over
    out: Any  # [R + 1]
    tasks: Any  # [R + 1]
    taken: Any  # [R] by an earlier part of the chain
    low: Any  # [D]
    ask: Any  # [ASK_COUNT]
    amounts: Any  # [D]
    need: Any  # [words]
    row: Any  # [R] chosen, part by part
    share: Any  # [R] tasks on it
    chunk: Any  # [R]


@compiled
def scratch_of(size: Any, kinds: Any, words: Any) -> Any:
    """New working arrays."""
    return Scratch(
        np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64),
        np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size + 1, np.int64),
        np.zeros(size + 1, np.int64),
        np.zeros(size, np.bool_), np.zeros(kinds, np.int64), np.zeros(ASK_COUNT, np.int64),
        np.zeros(kinds, np.int64), np.zeros(words, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64),
        np.zeros(size, np.int64),
    )  # fmt: skip


@borrowing
def _tasks(s: Any, x: Any, low: Any, cap: Any, width: Any, room: Any) -> Any:
    """Tasks of shape `s` that fit in what is free."""
    lo, hi, cpt = np.int64(x[s, X_TASK_LO]), np.int64(x[s, X_TASK_HI]), np.int64(x[s, X_CPT])
    have = low[0] if room < 0 else min(low[0], low[room])
    have = _cores(have, width)
    need = in_cores(max(lo * cpt, np.int64(x[s, X_CPUS_MIN])), width)
    each = x[s, X_MEM_CPU]
    if have < need or not _memory_serves(x[s, X_MEM_ALL], x[s, X_MEM_NODE], each, need, low[1], cap, width):
        return np.int64(0)
    tasks = have // cpt
    if not x[s, X_MEM_ALL] and x[s, X_MEM_NODE] <= 0 and each > 0:
        tasks = min(tasks, _cores(low[1] // each, width) // cpt)
    tasks = min(tasks, hi)
    return tasks if tasks >= lo else np.int64(0)


@borrowing
def _serve(
    s: Any, ground: Any, steps: Any, order: Any, begin: Any, end: Any, mode: Any,
    barred: Any, sc: Any,
) -> None:  # fmt: skip
    """Fill `fit`, `most`, `use` and `rank` of every row for shape `s` over [begin, end)."""
    pt, pr, off, cnt = steps.pt, steps.pr, steps.off, steps.cnt
    cap, whole, width, word, shift, value = (
        ground.cap, ground.whole, ground.width, ground.word, ground.shift, ground.value,
    )  # fmt: skip
    words = len(ground.guard)
    x = ground.x
    gres = ground.gres_of[s]
    elig = ground.elig_of[x[s, X_ELIG]]
    room = x[s, X_ROOM]
    if room >= 0:
        room += 2 + len(gres)
    entire = x[s, X_EXCLUSIVE]
    low = sc.low
    ask_of(x, s, x[s, X_TASK_LO], sc.ask)
    for r in range(len(width)):
        sc.fit[r] = sc.most[r] = sc.use[r] = sc.rank[r] = 0
        if not ((elig[r >> 3] >> (r & 7)) & 1) or not (ground.up[r] or mode == CAPACITY_DOWN):
            continue
        if not can(sc.ask, gres, x[s, X_MEM_FLOOR], x[s, X_TMP], ground, r):
            continue
        have = whole[r] if entire else cap[r]
        sc.most[r] = _tasks(s, x, have, cap[r, 1], width[r], room)
        if mode != WINDOW:
            sc.fit[r] = sc.most[r]
            used = cap[r, 0] if room < 0 else min(cap[r, 0], cap[r, room])
            sc.use[r] = _cores(used, width[r])
            spare = np.int64(0)
            for d in range(2, 2 + len(gres)):
                spare += cap[r, d]
            sc.rank[r] = np.int64(order[r]) << 12 | min(spare, np.int64(4095))
            continue
        i = entry_of(pt, off[r], cnt[r], begin)
        used = have[0] if entire else pr[i * words] & value[0]
        if room >= 0:
            there = (pr[i * words + word[room]] >> shift[room]) & value[room]
            used = min(used, have[room] if entire else there)
        sc.use[r] = _cores(used, width[r])
        sc.rank[r] = np.int64(order[r]) << 12 | spare_of(pr, i, words, len(gres), word, shift, value)
        copy_to(low, cap[r])
        while i < off[r] + cnt[r] and pt[i] < end:
            for d in range(len(low)):
                low[d] = min(low[d], (pr[i * words + word[d]] >> shift[d]) & value[d])
            i += 1
        if begin == 0 and (barred[r >> 6] >> np.uint64(r & 63)) & np.uint64(1):
            continue
        if entire:
            if low[0] == cap[r, 0] and (begin > 0 or ground.empty_now[r]):
                sc.fit[r] = sc.most[r]
            continue
        enough = True
        for d in range(len(gres)):
            enough = enough and low[2 + d] >= gres[d]
        if enough:
            sc.fit[r] = _tasks(s, x, low, cap[r, 1], width[r], room)


@compiled
def _pick(s: Any, fit: Any, ground: Any, must: Any, sc: Any) -> Any:
    """As `numba_kernels._select`, with the ranks of `sc`: rows into `out`, tasks into `tasks`; how many, 0 = none."""
    x, use, out, rank = ground.x, sc.use, sc.out, sc.rank
    size = len(fit)
    total = x[s, X_TASKS]
    lo = max(x[s, X_NODES_LO], np.int64(len(must)))
    hi = x[s, X_NODES_HI] if x[s, X_NODES_HI] > 0 else np.int64(size)
    hi = min(hi, total) if total > 0 else hi
    target = max(lo, hi) if x[s, X_GROW] else lo
    if lo > hi:
        return np.int64(0)
    for m in must:
        if fit[m] <= 0:
            return np.int64(0)
    able, most = np.int64(0), np.int64(0)
    for r in range(size):
        if fit[r] > 0:
            able += 1
            most += min(fit[r], total)
    if able < lo or most < total:
        return np.int64(0)
    asked = max((total if total > 0 else x[s, X_TASK_LO]) * x[s, X_CPT], x[s, X_CPUS_MIN])
    left = sc.left
    for r in range(size):
        left[r] = _LARGE - use[r] if x[s, X_LEAST] else use[r] - in_cores(asked, ground.width[r])
    count = np.int64(0)
    if x[s, X_CONTIGUOUS]:
        count = np.int64(_neighbours(fit, must, lo, hi, target, total, out))
    elif total == 0:
        for r in range(size):
            left[r] = max(left[r], np.int64(0))
        count = min(target, np.int64(_sorted_nodes(fit, must, rank, left, out)))
        if count < lo:
            return np.int64(0)
    else:
        if target == 1 and len(must) < 2:
            best = np.int64(-1)
            for r in range(size):
                if fit[r] < total or (len(must) == 1 and must[0] != r):
                    continue
                if best < 0 or rank[r] < rank[best] or (rank[r] == rank[best] and left[r] < left[best]):
                    best = np.int64(r)
            if best >= 0:
                out[0] = best
                count = np.int64(1)
        if count == 0:
            count = np.int64(_several(rank, fit, must, lo, hi, target, total, out))
    if count == 0:
        return count
    out[:count].sort()
    if total == 0:
        sc.tasks[:count] = x[s, X_TASK_LO]
    else:
        _share(fit, out[:count], total, x[s, X_SPREAD] > 0, sc.tasks)
    return count


@compiled
def _pick_near(s: Any, ground: Any, must: Any, sc: Any) -> Any:
    """On as few leaf switches as possible; see `Choice._choose_near`."""
    fit, switch, most = sc.fit, ground.switch, ground.x[s, X_SWITCHES]
    size = len(fit)
    able = np.flatnonzero(fit > 0)
    names = np.unique(switch[able])
    sums = np.zeros(len(names), np.int64)
    for one in able:
        sums[np.searchsorted(names, switch[one])] += fit[one]
    forced = np.zeros(len(names), np.bool_)
    lost = 0  # a named row whose switch has no row that fits: nothing serves
    for m in must:
        i = np.searchsorted(names, switch[m])
        if i < len(names) and names[i] == switch[m]:
            forced[i] = True
        else:
            lost += 1
    count_forced = np.int64(forced.sum())
    if lost:
        return np.int64(0)
    if count_forced <= 1:
        for i in np.argsort(sums, kind="mergesort"):
            if count_forced == 1 and not forced[i]:
                continue
            for r in range(size):
                sc.kept[r] = fit[r] if switch[r] == names[i] else 0
            count = _pick(s, sc.kept, ground, must, sc)
            if count > 0:
                return count
    rest = np.argsort(-sums, kind="mergesort")
    chosen = forced.copy()
    extra = np.int64(0)
    for number in range(max(np.int64(2), count_forced), min(np.int64(most), np.int64(len(names))) + 1):
        for i in rest:
            if count_forced + extra >= number:
                break
            if not chosen[i]:
                chosen[i] = True
                extra += 1
        for r in range(size):
            sc.kept[r] = 0
            if fit[r] > 0 and chosen[np.searchsorted(names, switch[r])]:
                sc.kept[r] = fit[r]
        count = _pick(s, sc.kept, ground, must, sc)
        if count > 0:
            return count
    return np.int64(0)


@compiled
def _sooner(
    s: Any, ground: Any, steps: Any, t: Any, length: Any, window: Any, must: Any,
    times: Any, sc: Any,
) -> Any:  # fmt: skip
    """From which slot on the rows of `_serve` could give more than they did at t, and enough: (first, enough)."""
    x, gres = ground.x, ground.gres_of[s]
    words = len(ground.guard)
    total = np.int64(x[s, X_TASKS])
    missing = total if total > 0 else np.int64(x[s, X_NODES_LO])
    first = np.int64(FAR)
    gains = np.int64(0)
    for r in range(len(sc.fit)):
        gain = sc.fit[r] if total > 0 else np.int64(sc.fit[r] > 0)
        missing -= min(gain, missing)
        times[r] = FAR
        if sc.fit[r] >= sc.most[r]:
            continue
        ask_of(x, s, max(sc.fit[r] + 1, np.int64(x[s, X_TASK_LO])), sc.ask)
        need_on(sc.ask, gres, ground.cap, ground.whole, ground.width, r, ground.word, ground.shift, sc.amounts, sc.need)
        times[r] = earliest(
            steps.pt, steps.pr, steps.off[r], steps.cnt[r], words, ground.guard, sc.need, t, length, window
        )
        times[r] = max(times[r], t + 1)  # the same slot: kept from it by something else (barred, not empty)
        first = min(first, times[r])
    enough = np.int64(0)
    if missing > 0:
        enough = np.int64(FAR)
        for r in np.argsort(times, kind="mergesort"):
            if times[r] >= FAR:
                break
            gains += sc.most[r] - sc.fit[r] if total > 0 else np.int64(sc.fit[r] == 0)
            if gains >= missing:
                enough = times[r]
                break
    for m in must:
        if sc.fit[m] <= 0:
            enough = max(enough, times[m])
    return first, enough


@compiled
def choose_slow(
    s: Any, near: bool, ground: Any, steps: Any,
    orders: Any, begin: Any, end: Any, mode: Any, barred: Any, length: Any, window: Any, sc: Any,
) -> Any:  # fmt: skip
    """Rows for the chain of shape `s` over [begin, end): (how many shares, 0 = none; next slot worth trying).

    Leaves them in `row`, `share` and `chunk`.  `orders[i]`: ranks of score and weight for rows of score i - 1.
    """
    x = ground.x
    sc.taken[:] = False
    shares = np.int64(0)
    part: Any = np.int64(s)
    place = np.int64(0)
    failed = False
    first, enough = np.int64(FAR), np.int64(0)
    times = np.empty(len(sc.fit), np.int64)
    while part >= 0:
        must = ground.must_of[x[part, X_MUST_AT] : x[part, X_MUST_AT] + x[part, X_MUST_N]]
        _serve(part, ground, steps, orders[x[part, X_SCORE] + 1], begin, end, mode, barred, sc)
        if failed:
            one, other = _sooner(part, ground, steps, begin, length, window, must, times, sc)
            first, enough = min(first, one), max(enough, other)
        else:
            for r in range(len(sc.fit)):
                if sc.taken[r]:
                    sc.fit[r] = 0
            if near and x[part, X_SWITCHES] > 0:
                count = _pick_near(part, ground, must, sc)
            else:
                count = _pick(part, sc.fit, ground, must, sc)
            if count == 0:
                failed = True
                if mode != WINDOW:
                    return np.int64(0), np.int64(FAR)
                part, place, shares = np.int64(s), np.int64(0), np.int64(0)  # again, to see when more is to be had
                continue
            for i in range(count):
                sc.row[shares], sc.share[shares], sc.chunk[shares] = sc.out[i], sc.tasks[i], place
                sc.taken[sc.out[i]] = True
                shares += 1
        part = x[part, X_CHUNK]
        place += 1
    if not failed:
        return shares, np.int64(begin)
    return np.int64(0), max(first, enough)


@compiled
def count_failures(
    s: Any, end: Any, ground: Any, steps: Any, barred: Any, order: Any, counts: Any, only: Any, sc: Any
) -> None:
    """Rows of the partition by what they lack in the first slot, for a request that runs until slot `end`.

    As `reference.Pass.failures`; kept = free in the first slot, but not throughout, or barred.
    """
    x, width, cap = ground.x, ground.width, ground.cap
    size = len(width)
    words = len(ground.guard)
    none = np.zeros((size + 63) >> 6, np.uint64)
    kept = np.zeros(size, np.bool_)
    _serve(s, ground, steps, order, np.int64(0), np.int64(1), WINDOW, none, sc)
    for r in range(size):
        kept[r] = sc.fit[r] > 0
    _serve(s, ground, steps, order, np.int64(0), end, WINDOW, none, sc)
    room = x[s, X_ROOM]
    if room >= 0:
        room += 2 + ground.gres_of.shape[1]
    member, elig = ground.part_of[x[s, X_PART]], ground.elig_of[x[s, X_ELIG]]
    share_max = max(np.int64(1), x[s, X_TASKS] - x[s, X_NODES_LO] + 1) if x[s, X_TASKS] > 0 else np.int64(1) << 62
    now = np.zeros(cap.shape[1], np.int64)
    lacks = np.zeros(FAIL_COUNT, np.bool_)
    for r in range(size):
        if not ((member[r >> 3] >> (r & 7)) & 1):
            continue
        for d in range(len(now)):
            now[d] = (steps.pr[steps.off[r] * words + ground.word[d]] >> ground.shift[d]) & ground.value[d]
        shut = (barred[r >> 6] >> np.uint64(r & 63)) & np.uint64(1)
        eligible = (elig[r >> 3] >> (r & 7)) & 1 == 1
        share = np.int64(0)
        if eligible and cap[r, 1] >= x[s, X_MEM_FLOOR] and ground.tmp[r] >= x[s, X_TMP]:
            share = min(share_max, _tasks(s, x, cap[r], cap[r, 1], width[r], room))
        lacks[:] = False
        lacks[FAIL_INELIGIBLE] = not eligible
        lacks[FAIL_SMALL] = eligible and share <= 0
        lacks[FAIL_DOWN] = not ground.up[r]
        lacks[FAIL_KEPT] = kept[r] and (sc.fit[r] == 0 or shut == np.uint64(1))
        if share > 0:
            need = in_cores(max(share * x[s, X_CPT], x[s, X_CPUS_MIN]), width[r])
            if x[s, X_EXCLUSIVE]:
                lacks[FAIL_BUSY] = now[0] < cap[r, 0] or not ground.empty_now[r]
            else:
                lacks[FAIL_CPUS] = _cores(now[0], width[r]) < need
            lacks[FAIL_MEMORY] = not _memory_serves(
                x[s, X_MEM_ALL], x[s, X_MEM_NODE], x[s, X_MEM_CPU], need, now[1], cap[r, 1], width[r]
            )
            if room >= 0:
                lacks[FAIL_ROOM] = _cores(now[room], width[r]) < need
        lacking = np.int64(0)
        for f in range(FAIL_COUNT):
            if lacks[f]:
                counts[f] += 1
                lacking += 1
        if lacking == 1:
            for f in range(FAIL_COUNT):
                if lacks[f]:
                    only[f] += 1
