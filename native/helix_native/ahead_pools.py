"""Pools over time: licences and limits as step functions of one amount.  Compiled; amounts at most 2**61."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_load import _down, _up
from helix_native.ahead_steps import FAR, USED, change, copy_to, earliest, longest
from helix_native.compiling import borrowing, compiled

_GUARD = 1 << 62
_MOST = 1 << 61
_ONE = np.int64(1)  #: words of an entry


class Pools(NamedTuple):
    """Step functions as in `ahead_steps`, one word each."""

    pt: Any
    pr: Any
    off: Any
    cap: Any
    cnt: Any
    state: Any
    guard: Any  # [1]
    need: Any  # [1] scratch


@compiled
def load_pools(pools: Any, spans: Any, resolution_s: Any) -> Any:
    """Totals less the spans; what `used` says beyond the spans is taken for ever."""
    size = len(pools.total)
    at = np.zeros(size + 1, np.int64)
    for x in range(len(spans.pool)):
        if spans.pool[x] >= 0:
            at[spans.pool[x] + 1] += 2
    total = np.int64(0)
    for k in range(size):
        total += max(16, 4 * (at[k + 1] + 2))
        at[k + 1] += at[k]
    events = np.empty(at[size], np.int64)
    fill = at[:size].copy()
    for x in range(len(spans.pool)):
        k = spans.pool[x]
        if k < 0:
            continue
        begin, end = max(np.int64(0), _down(spans.t_from[x], resolution_s)), _up(spans.t_to[x], resolution_s)
        if begin >= end:
            continue
        events[fill[k]] = begin << 32 | (2 * x)
        fill[k] += 1
        if end < FAR:
            events[fill[k]] = end << 32 | (2 * x + 1)
            fill[k] += 1
    result = Pools(
        np.empty(total, np.int32), np.empty(total, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64),
        np.zeros(size, np.int64), np.zeros(2, np.int64), np.full(1, _GUARD, np.int64), np.zeros(1, np.int64),
    )  # fmt: skip
    used = np.int64(0)
    for k in range(size):
        result.off[k], result.cap[k] = used, max(16, 4 * (at[k + 1] - at[k] + 2))
        mine = events[at[k] : fill[k]]
        if len(mine) > 1:
            mine.sort()
        free = np.int64(pools.total[k])
        i, count = np.int64(0), np.int64(0)
        beyond = np.int64(0)
        t = np.int64(0)
        while True:
            while i < len(mine) and (mine[i] >> 32) <= t:
                x = (mine[i] & 0x7FFFFFFF) >> 1
                free += spans.cpus[x] if mine[i] & 1 else -spans.cpus[x]
                i += 1
            if t == 0:
                beyond = max(np.int64(0), free - (pools.total[k] - pools.used[k]))
            amount = min(max(free - beyond, np.int64(0)), np.int64(_MOST))
            if count == 0 or result.pr[used + count - 1] != amount:
                result.pt[used + count], result.pr[used + count] = t, amount
                count += 1
            if i == len(mine):
                break
            t = mine[i] >> 32
        result.cnt[k] = count
        used += result.cap[k]
    result.state[USED] = used
    return result


@borrowing
def lacking(pools: Any, jobs: Any, j: Any, begin: Any, length: Any) -> Any:
    """The first of the job's pools with too little for `length` slots from `begin` on; -1 = none."""
    for i in range(jobs.pool_at[j], jobs.pool_at[j] + jobs.pool_n[j]):
        k = jobs.pool[i]
        if jobs.amount[i] > _MOST:
            return np.int64(k)
        pools.need[0] = jobs.amount[i]
        end = min(np.int64(FAR), begin + length)
        if longest(pools.pt, pools.pr, pools.off[k], pools.cnt[k], _ONE, pools.guard, pools.need, begin, end) < end:
            return np.int64(k)
    return np.int64(-1)


@borrowing
def pools_from(pools: Any, jobs: Any, j: Any, t: Any, length: Any, stop: Any) -> Any:
    """The first slot from t on at which all of the job's pools have enough for `length` slots; FAR: not before stop."""
    settled = np.int64(0)
    count = np.int64(jobs.pool_n[j])
    i = np.int64(0)
    while settled < count and t < stop:
        at = jobs.pool_at[j] + i
        k = jobs.pool[at]
        if jobs.amount[at] > _MOST:
            return np.int64(FAR)
        pools.need[0] = jobs.amount[at]
        start = earliest(
            pools.pt,
            pools.pr,
            pools.off[k],
            pools.cnt[k],
            len(pools.guard),
            pools.guard,
            pools.need,
            np.int64(t),
            length,
            stop,
        )
        settled = settled + 1 if start == t else np.int64(1)
        t = start
        i = (i + 1) % count
    return np.int64(t) if t < stop else np.int64(FAR)


@borrowing
def pools_until(pools: Any, jobs: Any, j: Any, end: Any) -> Any:
    """The slot up to which all of the job's pools have enough from now on; at most `end`."""
    for i in range(jobs.pool_at[j], jobs.pool_at[j] + jobs.pool_n[j]):
        k = jobs.pool[i]
        pools.need[0] = jobs.amount[i]
        end = longest(
            pools.pt,
            pools.pr,
            pools.off[k],
            pools.cnt[k],
            len(pools.guard),
            pools.guard,
            pools.need,
            np.int64(0),
            np.int64(end),
        )
    return np.int64(end)


@borrowing
def pools_short(pools: Any, jobs: Any, j: Any) -> Any:
    """Entries by which the tables are short of one more change of each of the job's pools; <= 0: none."""
    wanted = pools.state[USED]
    for i in range(jobs.pool_at[j], jobs.pool_at[j] + jobs.pool_n[j]):
        k = jobs.pool[i]
        if pools.cnt[k] + 4 > pools.cap[k]:
            wanted += 2 * pools.cap[k]
    return wanted - np.int64(len(pools.pt))


@compiled
def roomy(pools: Any, jobs: Any, j: Any) -> Any:
    """The tables with room for one more change of each of the job's pools."""
    extra = pools_short(pools, jobs, j)
    if extra <= 0:
        return pools
    size = 2 * len(pools.pt) + extra
    pt, pr = np.empty(size, np.int32), np.empty(size, np.int64)
    copy_to(pt, pools.pt)
    copy_to(pr, pools.pr)
    return Pools(pt, pr, pools.off, pools.cap, pools.cnt, pools.state, pools.guard, pools.need)


@borrowing
def change_pools(pools: Any, jobs: Any, j: Any, begin: Any, end: Any, sign: Any) -> None:
    """Take what the job takes of its pools in [begin, end), or give it back."""
    for i in range(jobs.pool_at[j], jobs.pool_at[j] + jobs.pool_n[j]):
        k = jobs.pool[i]
        pools.need[0] = jobs.amount[i]
        change(
            pools.pt, pools.pr, pools.off, pools.cap, pools.cnt, pools.state, _ONE, np.int64(k), begin, end, pools.need,
            sign,
        )  # fmt: skip
