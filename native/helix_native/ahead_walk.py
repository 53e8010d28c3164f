"""The phases of a pass: who starts now, who gets a reservation, who a prediction.  Compiled.

A phase allocates nothing.  When a table is full it stops at the job it is at, says what it lacks, and goes on with that
job once there is more: all that it had learnt of it by then, it finds again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_arrays import LIMITED, NEVER
from helix_native.ahead_find import find_later, find_now, ready
from helix_native.ahead_keys import K_FIRST, K_LENGTH, K_READY, K_SEEN, S_VERDICT, length_of, slots_up, verdict_of
from helix_native.ahead_lines import X_MUST_AT, X_MUST_N, X_NODES_LO, X_PART, X_SCORE
from helix_native.ahead_place import (
    C_ROW,
    L_AT,
    L_COUNT,
    L_END,
    L_ENTRY,
    L_LIMIT,
    L_ORDER,
    L_PROTECTED,
    L_SECONDS,
    L_START,
    change_plan,
    is_short,
    shares_until,
)
from helix_native.ahead_pools import lacking, pools_from, pools_until
from helix_native.ahead_slow import count_failures
from helix_native.ahead_steps import FAR
from helix_native.arrays import PRIORITY, RESOURCES, SHARES_PER_START, STARTED
from helix_native.compiling import borrowing

FIFO, IN_ORDER, BACKFILL, PREDICT = 0, 1, 2, 3  #: phases


class Tallies(NamedTuple):
    """What becomes of jobs, by slot [J], and of partitions [P]."""

    code: Any
    left: Any  # copies that may still start
    lacks: Any  # pool
    plan: Any  # [J, L_COLUMNS]
    waits: Any  # [P] somebody waits
    blocked: Any  # [P] fifo
    floor: Any  # [P] fifo: nobody behind is predicted before this slot
    block_entry: Any  # [P] who waits first, and
    fails: Any  # [P, FAIL_COUNT] on how many rows for what
    only: Any  # [P, FAIL_COUNT]
    counts: Any  # T_* of the pass


T_STARTED, T_GIVEN, T_TESTED, T_PROTECTED, T_SEQUENCE, T_USED, T_LOGGED, T_BLOCKERS = range(8)
T_ANYONE = 8  #: somebody waits
T_AGAIN = 9  #: a pass over what is left may find more
T_TRUNCATED = 10
T_PLACE = 11  #: where in the order the phase goes on
T_RESUME = 12  #: entry at which backfill begins
T_OUT = 13  #: the reservation of the job at T_PLACE is out of the way
T_AT, T_N = 14, 15  #: shares for which there is no room
T_LAST = 16  #: the job after whose entries the phase ends, -1 = not known yet
T_COUNT = 17

# What a phase lacks to go on; each is given more by `ahead_kernels`.
ENDED, MORE_SHARES, MORE_STARTS, MORE_LOG, MORE_ROOM = 0, 1, 2, 3, 4


@borrowing
def _lacks_room(j: Any, at: Any, count: Any, steps: Any, pools: Any, jobs: Any, shares: Any, counts: Any) -> bool:
    """Whether shares of job j cannot be entered before there is more room; says for which."""
    counts[T_AT], counts[T_N] = at, count
    return is_short(steps, pools, jobs, j, shares, at, count)


@borrowing
def _enter(
    j: Any, queue: Any, jobs: Any, ground: Any, steps: Any, pools: Any, shares: Any, work: Any, tallies: Any
) -> None:
    """Enter the reservation that job j has."""
    plan, counts = tallies.plan, tallies.counts
    change_plan(
        shares, plan[j, L_AT], plan[j, L_COUNT], np.int64(queue.shape[plan[j, L_ENTRY]]), j, plan[j, L_START],
        plan[j, L_END], np.int64(1), ground, steps, pools, jobs, work,
    )  # fmt: skip
    plan[j, L_ORDER] = counts[T_SEQUENCE]
    counts[T_SEQUENCE] += 1


@borrowing
def _take_out(
    j: Any, queue: Any, jobs: Any, ground: Any, steps: Any, pools: Any, shares: Any, log: Any, work: Any, tallies: Any
) -> Any:
    """Take out the reservation that job j has and log what that gives back: ENDED, or what is lacking."""
    plan, counts = tallies.plan, tallies.counts
    at, count = plan[j, L_AT], plan[j, L_COUNT]
    if _lacks_room(j, at, count, steps, pools, jobs, shares, counts):
        return MORE_ROOM
    if counts[T_LOGGED] + count > len(log):
        return MORE_LOG
    change_plan(
        shares, at, count, np.int64(queue.shape[plan[j, L_ENTRY]]), j, plan[j, L_START], plan[j, L_END], np.int64(-1),
        ground, steps, pools, jobs, work,
    )  # fmt: skip
    for i in range(at, at + count):
        log[counts[T_LOGGED], 0], log[counts[T_LOGGED], 1] = shares[i, C_ROW], plan[j, L_START]
        counts[T_LOGGED] += 1
    return ENDED


@borrowing
def _limit_cut(
    e: Any, queue: Any, jobs: Any, res: Any, count: Any, ground: Any, steps: Any, pools: Any, shares: Any, used: Any,
    work: Any,
) -> Any:  # fmt: skip
    """The longest limit with which the staged shares can start now."""
    j, limit = np.int64(queue.job[e]), queue.limit_s[e]
    full = length_of(limit, res)
    end = shares_until(shares, used, count, np.int64(queue.shape[e]), np.int64(0), full, ground, steps, work)
    end = pools_until(pools, jobs, j, end)
    if end < full or jobs.t_deadline[j] < NEVER:
        cut = min(end * res, jobs.t_deadline[j])
        limit = max(jobs.limit_min_s[j], min(limit, cut) if limit > 0 else cut)
    return limit


@borrowing
def _now(
    e: Any, k: Any, cut: Any, queue: Any, jobs: Any, res: Any, ground: Any, steps: Any, pools: Any, orders: Any,
    keys: Any, shares: Any, log: Any, work: Any, tallies: Any, sc: Any,
) -> Any:  # fmt: skip
    """Stage a start of entry `e` now: (STARTED or what keeps it, shares, limit)."""
    j, counts = np.int64(queue.job[e]), tallies.counts
    limit, deadline = queue.limit_s[e], jobs.t_deadline[j]
    if jobs.t_begin[j] > 0:
        return np.int64(0), np.int64(0), limit
    shortest = k if cut < 0 else cut
    if jobs.pool_n[j] > 0:
        lack = lacking(pools, jobs, j, np.int64(0), keys.table[shortest, K_LENGTH])
        if lack >= 0:
            tallies.lacks[j] = lack
            return np.int64(LIMITED), np.int64(0), limit
    counts[T_TESTED] += 1
    for attempt in range(2 if cut >= 0 else 1):
        one = k if attempt == 0 else cut
        asked = limit if attempt == 0 else jobs.limit_min_s[j]
        if deadline < NEVER and (asked == 0 or asked > deadline):
            continue
        if attempt == 0 and cut >= 0 and lacking(pools, jobs, j, np.int64(0), keys.table[k, K_LENGTH]) >= 0:
            continue
        ready(one, ground, steps, orders, keys, log, counts[T_LOGGED], work, sc)
        count = find_now(one, ground, steps, orders, keys, shares, counts[T_USED], work, sc)
        if count > 0:
            if attempt == 1:
                limit = _limit_cut(e, queue, jobs, res, count, ground, steps, pools, shares, counts[T_USED], work)
            return np.int64(STARTED), count, limit
    return np.int64(PRIORITY), np.int64(0), limit


@borrowing
def _later(
    e: Any, k: Any, first: Any, stop: Any, queue: Any, jobs: Any, res: Any, ground: Any, steps: Any, pools: Any,
    orders: Any, keys: Any, shares: Any, log: Any, work: Any, tallies: Any, sc: Any,
) -> Any:  # fmt: skip
    """Stage the earliest start of entry `e` in [first, stop): its slot, FAR if none."""
    j, limit = np.int64(queue.job[e]), queue.limit_s[e]
    deadline, length = jobs.t_deadline[j], keys.table[k, K_LENGTH]
    ready(k, ground, steps, orders, keys, log, tallies.counts[T_LOGGED], work, sc)
    t = max(np.int64(first), slots_up(jobs.t_begin[j], res) if jobs.t_begin[j] > 0 else np.int64(1))
    while t < min(np.int64(stop), work.window):
        if jobs.pool_n[j] > 0:
            t = pools_from(pools, jobs, j, t, length, work.window)
        start = find_later(k, t, stop, ground, steps, orders, keys, shares, tallies.counts[T_USED], work, sc)
        if start >= FAR or (deadline < NEVER and (limit == 0 or start * res + limit > deadline)):
            break
        if start == t or jobs.pool_n[j] == 0 or lacking(pools, jobs, j, start, length) < 0:
            return start
        t = start
    return np.int64(FAR)


@borrowing
def _bar(e: Any, s: Any, p: Any, ground: Any, work: Any, blocked: Any) -> None:
    """Fifo: keep the nodes that entry `e` waits for from those behind it."""
    x = ground.x
    must = ground.must_of[x[s, X_MUST_AT] : x[s, X_MUST_AT] + x[s, X_MUST_N]]
    if len(must) > 0 and len(must) >= x[s, X_NODES_LO]:
        for m in must:
            work.barred[m >> 6] |= np.uint64(1) << np.uint64(m & 63)
        return
    for r in range(len(ground.up)):
        if (ground.part_of[p, r >> 3] >> (r & 7)) & 1:
            work.barred[r >> 6] |= np.uint64(1) << np.uint64(r & 63)
    blocked[p] = True


@borrowing
def run_phase(
    phase: Any, order: Any, fixed: Any, queue: Any, jobs: Any, params: Any, res: Any, ground: Any, steps: Any,
    pools: Any, key: Any, cut_key: Any, keys: Any, orders: Any, gates: Any, work: Any, tallies: Any, shares: Any,
    log: Any, starts: Any, sc: Any,
) -> Any:  # fmt: skip
    """One phase over the entries in `order`, from T_PLACE on: ENDED, or what it lacks.

    `fixed` [J]: jobs that are not predicted; `starts`: entry, limit, first share, shares, backfilled.
    """
    size = len(ground.up)
    x, counts, plan, code, left = ground.x, tallies.counts, tallies.plan, tallies.code, tallies.left
    waits, blocked, floor = tallies.waits, tallies.blocked, tallies.floor
    table, kinds = keys.table, keys.shape
    most = np.int64(params.protect)
    for place in range(counts[T_PLACE], len(order)):
        e = order[place]
        j = np.int64(queue.job[e])
        if counts[T_LAST] >= 0 and counts[T_LAST] != j:
            counts[T_RESUME], counts[T_LAST] = e, -1
            return ENDED
        if left[j] <= 0:
            continue
        if gates[e] > 0:
            if phase != PREDICT:
                code[j] = max(code[j], gates[e])
            continue
        s, k, limit = np.int64(queue.shape[e]), np.int64(key[e]), queue.limit_s[e]
        p = x[s, X_PART]
        if phase == FIFO and blocked[p]:
            if code[j] != LIMITED:
                code[j] = max(code[j], np.int8(PRIORITY))
            continue
        if kinds[s, S_VERDICT] == 0:
            verdict_of(s, ground, steps, orders.parts, keys, work.acc, sc)
        verdict = kinds[s, S_VERDICT]
        if phase == PREDICT and (fixed[j] or verdict != RESOURCES):
            continue
        status = np.int64(PRIORITY)
        own = plan[j, L_ENTRY] >= 0
        waits_its_time = (
            phase == IN_ORDER and own and plan[j, L_ENTRY] == e and not params.compress and plan[j, L_START] > 0
        )
        counts[T_PLACE] = place
        out = counts[T_OUT] == 1  # its reservation is out of the way
        counts[T_OUT] = 0
        tested = counts[T_TESTED]  # what it was before this job, or its last copy, was looked at
        # -- what can start now
        while phase != PREDICT and not waits_its_time:
            if counts[T_STARTED] >= params.starts_max or counts[T_GIVEN] >= params.starts_max * SHARES_PER_START:
                counts[T_TRUNCATED] = 1
                return ENDED
            if own and not out:
                lack = _take_out(j, queue, jobs, ground, steps, pools, shares, log, work, tallies)
                if lack != ENDED:
                    counts[T_TESTED] = tested
                    return lack
                out = True
            if (  # what is known of the request is enough: most jobs of a long queue
                table[k, K_FIRST] > 0
                and table[k, K_READY]
                and table[k, K_SEEN] == counts[T_LOGGED]
                and cut_key[e] < 0
                and jobs.pool_n[j] == 0
            ):
                status = np.int64(0)
                if jobs.t_begin[j] <= 0:
                    counts[T_TESTED] += 1
                    status = np.int64(PRIORITY)
                break
            counts[T_OUT] = out
            if counts[T_USED] + size > len(shares):
                return MORE_SHARES
            if counts[T_STARTED] == len(starts):
                return MORE_STARTS
            status, count, gets = _now(
                e, k, np.int64(cut_key[e]), queue, jobs, res, ground, steps, pools, orders, keys, shares, log, work,
                tallies, sc,
            )  # fmt: skip
            if status != STARTED:
                counts[T_OUT] = 0
                break
            if _lacks_room(j, counts[T_USED], count, steps, pools, jobs, shares, counts):
                counts[T_TESTED] = tested
                return MORE_ROOM
            counts[T_OUT] = 0
            change_plan(
                shares, counts[T_USED], count, s, j, np.int64(0), length_of(gets, res), np.int64(1), ground, steps,
                pools, jobs, work,
            )  # fmt: skip
            at = counts[T_STARTED]
            starts[at, 0], starts[at, 1], starts[at, 2], starts[at, 3] = e, gets, counts[T_USED], count
            starts[at, 4] = phase == BACKFILL or (phase == IN_ORDER and counts[T_ANYONE] == 1)
            counts[T_STARTED] += 1
            counts[T_USED] += count
            counts[T_GIVEN] += count
            left[j] -= 1
            tested = counts[T_TESTED]
            if own:
                counts[T_PROTECTED] -= plan[j, L_PROTECTED]
                plan[j, L_ENTRY] = -1
                own = out = False
            if left[j] <= 0:
                if code[j] in (PRIORITY, RESOURCES):
                    counts[T_AGAIN] = 1
                code[j] = STARTED
                break
        if left[j] <= 0:
            counts[T_LAST] = -1
            continue
        # -- when it can start later
        found = False
        if phase == PREDICT or (
            phase == IN_ORDER
            and not waits_its_time
            and status == PRIORITY
            and verdict == RESOURCES
            and (most < 0 or counts[T_PROTECTED] < most or own)
        ):
            if own and not out:
                lack = _take_out(j, queue, jobs, ground, steps, pools, shares, log, work, tallies)
                if lack != ENDED:
                    counts[T_TESTED] = tested
                    return lack
                out = True
            stop = plan[j, L_START] if own else np.int64(FAR)
            start = np.int64(FAR)
            if (
                table[k, K_FIRST] < min(stop, work.window)
                or not table[k, K_READY]
                or table[k, K_SEEN] != counts[T_LOGGED]
            ):
                counts[T_OUT] = out
                if counts[T_USED] + size > len(shares):
                    counts[T_TESTED] = tested
                    return MORE_SHARES
                first = floor[p] if phase == PREDICT and not params.backfill else np.int64(0)
                start = _later(
                    e, k, first, stop, queue, jobs, res, ground, steps, pools, orders, keys, shares, log, work,
                    tallies, sc,
                )  # fmt: skip
                if start < FAR and _lacks_room(j, counts[T_USED], work.found[0], steps, pools, jobs, shares, counts):
                    counts[T_TESTED] = tested
                    return MORE_ROOM
                counts[T_OUT] = 0
            if start < FAR:
                promised = np.int64(phase == IN_ORDER)
                counts[T_PROTECTED] += promised - (plan[j, L_PROTECTED] if own else 0)
                end = min(np.int64(FAR), start + table[k, K_LENGTH])
                plan[j, L_ENTRY], plan[j, L_START], plan[j, L_END], plan[j, L_SECONDS] = e, start, end, start * res
                plan[j, L_LIMIT], plan[j, L_PROTECTED] = limit, promised
                plan[j, L_AT], plan[j, L_COUNT] = counts[T_USED], work.found[0]
                counts[T_USED] += work.found[0]
                own = out = found = True
            if phase == PREDICT and not params.backfill and code[j] in (RESOURCES, PRIORITY):
                floor[p] = plan[j, L_START] if own else np.int64(FAR)
        if out:
            if not found and _lacks_room(j, plan[j, L_AT], plan[j, L_COUNT], steps, pools, jobs, shares, counts):
                counts[T_OUT], counts[T_TESTED] = 1, tested
                return MORE_ROOM
            _enter(j, queue, jobs, ground, steps, pools, shares, work, tallies)
        if phase == PREDICT:
            continue
        # -- why it waits
        if status == PRIORITY:
            status = verdict
            if status == RESOURCES and waits[p] and not (phase == IN_ORDER and most >= 0 and own):
                status = np.int64(PRIORITY)
            if status == RESOURCES and not waits[p]:
                tallies.block_entry[counts[T_BLOCKERS]] = e
                count_failures(
                    s, length_of(limit, res), ground, steps, work.barred, orders.parts[x[s, X_SCORE] + 1],
                    tallies.fails[counts[T_BLOCKERS]], tallies.only[counts[T_BLOCKERS]], sc,
                )  # fmt: skip
                counts[T_BLOCKERS] += 1
            if status in (RESOURCES, PRIORITY):
                waits[p] = True
        if code[j] != LIMITED:
            code[j] = max(code[j], np.int8(status))
        if waits_its_time:
            counts[T_ANYONE] = 1
        elif status in (RESOURCES, PRIORITY):
            counts[T_ANYONE] = 1
            if phase == IN_ORDER and 0 <= most <= counts[T_PROTECTED]:
                counts[T_LAST] = j
            if phase == FIFO:
                _bar(e, s, p, ground, work, blocked)
    counts[T_LAST] = -1
    return ENDED
