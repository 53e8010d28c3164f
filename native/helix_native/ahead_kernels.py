"""The look-ahead planner, compiled: the same result as `reference_ahead`, field by field (tests hold them equal).

Three structures say when a request fits.  Whole nodes: a tree of row sets over time (`ahead_tree`), if the window and
the number of rows let it be built.  Parts of nodes: step functions of every row (`ahead_steps`) and, for every distinct
request, a lower bound of the start on every row (`ahead_keys`).  All else: `ahead_slow`.  Every placement is entered in
the step functions, and in the tree.  A full plan costs about a microsecond for each (job, node) placed and a tenth of
one for each row that is looked at anew; what cannot start within the window costs next to nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_arrays import (
    LIMITED,
    NEVER,
    AheadParams,
    AheadResult,
    AheadTables,
    JobArrays,
    KeptArrays,
    NeedArrays,
    PoolArrays,
    RowArrays,
    SpanArrays,
)
from helix_native.ahead_find import find_later, find_now, ready
from helix_native.ahead_keys import (
    K_FIRST,
    K_LENGTH,
    K_READY,
    K_SEEN,
    S_VERDICT,
    keys_of,
    length_of,
    new_keys,
    slots_up,
    verdict_of,
)
from helix_native.ahead_lines import X_MUST_AT, X_MUST_N, X_NODES_LO, X_PART, X_SCORE
from helix_native.ahead_load import load
from helix_native.ahead_order import new_orders
from helix_native.ahead_place import (
    C_CHUNK,
    C_COLUMNS,
    C_CPUS,
    C_MEM,
    C_ROW,
    L_AT,
    L_COLUMNS,
    L_COUNT,
    L_END,
    L_ENTRY,
    L_LIMIT,
    L_ORDER,
    L_PROTECTED,
    L_SECONDS,
    L_START,
    Work,
    change_plan,
    may_keep,
    more,
    plant,
    shares_until,
)
from helix_native.ahead_pools import lacking, load_pools, pools_from, pools_until
from helix_native.ahead_rows import GROUP, class_of
from helix_native.ahead_slow import count_failures, scratch_of
from helix_native.ahead_steps import FAR, compiled, entry, inlined
from helix_native.arrays import (
    FAIL_COUNT,
    PRIORITY,
    RESOURCES,
    SHARES_PER_START,
    STARTED,
    TIME_LIMIT,
    NodeArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
)

_TOP = 11  #: highest level of the tree that is read
_TREE_BYTES = 512 << 20
_BOUND_BYTES = 400 << 20
_SETS_ROWS = 4  #: fewer rows are looked at one by one
_SETS_MAX = 2048  #: classes of what is free now
_SETS_WEIGHTS = 16


class Tallies(NamedTuple):
    """What becomes of jobs, by slot [J], and of partitions [P]."""

    code: Any
    left: Any  # copies that may still start
    lacks: Any  # pool
    plan: Any  # [J, L_COLUMNS]
    waits: Any  # [P] somebody waits
    blocked: Any  # [P] fifo
    floor: Any  # [P] fifo: nobody behind is predicted before this slot
    counts: Any  # T_* of the pass


T_STARTED, T_GIVEN, T_TESTED, T_PROTECTED, T_SEQUENCE, T_USED, T_LOGGED, T_COUNT = range(8)


@compiled
def _gates(shapes: Any, tables: Any, queue: Any) -> Any:
    """As `reference.entry_gates`."""
    gates = np.zeros(len(queue.shape), np.int8)
    for e in range(len(gates)):
        s = queue.shape[e]
        part = shapes.part[s]
        if tables.part_gate[part] > 0:
            gates[e] = tables.part_gate[part]
        elif shapes.gate[s] > 0:
            gates[e] = shapes.gate[s]
        else:
            longest_s, limit = tables.part_time[part], queue.limit_s[e]
            if longest_s > 0 and (limit == 0 or limit > longest_s):
                gates[e] = TIME_LIMIT
    return gates


@compiled
def _new_tallies(queue: Any, parts: Any) -> Any:
    jobs = len(queue.starts)
    plan = np.empty((jobs, L_COLUMNS), np.int64)
    plan[:, L_ENTRY] = -1
    return Tallies(
        np.zeros(jobs, np.int8), queue.starts.astype(np.int64), np.full(jobs, -1, np.int32), plan,
        np.zeros(parts, np.bool_), np.zeros(parts, np.bool_), np.zeros(parts, np.int64), np.zeros(T_COUNT, np.int64),
    )  # fmt: skip


@compiled
def _sets_of(ground: Any, steps: Any, queue_length: Any) -> Any:
    """Rows by what is free now, where that pays: many rows of one kind of core, few weights."""
    size = len(ground.up)
    words = (size + 63) >> 6
    kinds = ground.gres_of.shape[1]
    cpus_most, spare_most, rank_most = np.int64(0), np.int64(0), np.int64(0)
    alike = size >= _SETS_ROWS and queue_length > 0
    for r in range(size):
        alike = alike and ground.width[r] == 1
        cpus_most, rank_most = max(cpus_most, ground.cap[r, 0]), max(rank_most, np.int64(ground.rank[r]))
        spare = np.int64(0)
        for d in range(kinds):
            spare += ground.cap[r, 2 + d]
        spare_most = max(spare_most, spare)
    classes = (cpus_most + 1) * (spare_most + 1)
    if not alike or classes > _SETS_MAX or rank_most >= _SETS_WEIGHTS:
        classes, rank_most = np.int64(0), np.int64(-1)
    sets, members = np.zeros((classes, words), np.uint64), np.zeros(classes, np.int64)
    tiers = np.zeros((rank_most + 1, words), np.uint64)
    place = np.full(size, -1, np.int64)
    if classes > 0:
        for r in range(size):
            if ground.up[r]:
                bit = np.uint64(1) << np.uint64(r & 63)
                c = class_of(
                    r, steps.now, len(ground.guard), kinds, ground.word, ground.shift, ground.value, cpus_most,
                    spare_most,
                )  # fmt: skip
                sets[c, r >> 6] |= bit
                members[c] += 1
                tiers[ground.rank[r], r >> 6] |= bit
                place[r] = c
    return sets, members, tiers, place, cpus_most, spare_most


@compiled
def _new_work(
    ground: Any, steps: Any, full: Any, part: Any, top: Any, window: Any, candidates: Any, queue_length: Any
) -> Any:
    size, kinds = ground.cap.shape
    words = (size + 63) >> 6
    some, idle = np.zeros(words, np.uint64), np.zeros(words, np.uint64)
    for r in range(size):
        free = steps.now[r * len(ground.guard)] & ground.value[0]
        if ground.up[r] and free > 0:
            some[r >> 6] |= np.uint64(1) << np.uint64(r & 63)
        if ground.up[r] and free == ground.cap[r, 0]:
            idle[r >> 6] |= np.uint64(1) << np.uint64(r & 63)
    sets, members, tiers, place, cpus_most, spare_most = _sets_of(ground, steps, queue_length)
    return Work(
        some, idle, np.zeros(words, np.uint64), full, part, np.int64(full.shape[0] // 2), np.int64(top),
        np.int64(window),
        np.int64(candidates), np.empty(size + 1, np.int64), np.empty(size + 1, np.int64), np.empty(words, np.uint64),
        np.empty(words, np.uint64), np.empty(words, np.uint64), np.empty(kinds, np.int64),
        np.empty(len(ground.guard), np.int64), np.empty(size, np.int32),
        np.empty((size + GROUP - 1) // GROUP, np.int32), np.zeros(1, np.int64),
        sets, members, tiers, place, cpus_most, spare_most,
    )  # fmt: skip


@compiled
def _load_kept(
    kept: Any, queue: Any, jobs: Any, gates: Any, res: Any, ground: Any, steps: Any, pools: Any, shares: Any, work: Any,
    tallies: Any,
) -> Any:  # fmt: skip
    """Enter kept reservations, in queue order; forget those that no longer fit."""
    plan, counts = tallies.plan, tallies.counts
    entries = len(queue.shape)
    first = np.full(len(queue.starts), -1, np.int64)
    for place in range(entries - 1, -1, -1):
        first[queue.job[place]] = place
    for j in np.argsort(first, kind="mergesort"):
        e = np.int64(kept.entry[j])
        if e < 0 or e >= entries or queue.job[e] != j or tallies.left[j] <= 0 or gates[e] > 0:
            continue
        s, used = np.int64(queue.shape[e]), counts[T_USED]
        count = np.int64(kept.ptr[j + 1] - kept.ptr[j])
        shares = more(shares, used + count)
        for i in range(count):
            at = kept.ptr[j] + i
            shares[used + i, C_ROW], shares[used + i, C_CPUS] = kept.row[at], kept.cpus[at]
            shares[used + i, C_MEM] = kept.mem[at]
            shares[used + i, C_CHUNK] = kept.chunk[at] if len(kept.chunk) > 0 else 0
        seconds, limit = max(np.int64(0), kept.start[j]), kept.limit_s[j]
        begin = min(np.int64(FAR), seconds // res)
        end = np.int64(FAR) if limit == 0 else slots_up(seconds + limit, res)
        if count == 0 or lacking(pools, jobs, j, begin, end - begin) >= 0:
            continue
        if not may_keep(shares, used, count, s, ground):
            continue
        if shares_until(shares, used, count, s, begin, end, ground, steps, work) < end:
            continue
        steps, pools = change_plan(shares, used, count, s, j, begin, end, np.int64(1), ground, steps, pools, jobs, work)
        plan[j, L_ENTRY], plan[j, L_START], plan[j, L_END], plan[j, L_SECONDS] = e, begin, end, seconds
        plan[j, L_LIMIT], plan[j, L_PROTECTED], plan[j, L_AT], plan[j, L_COUNT] = limit, 1, used, count
        plan[j, L_ORDER] = counts[T_SEQUENCE]
        counts[T_SEQUENCE] += 1
        counts[T_PROTECTED] += 1
        counts[T_USED] += count
    return steps, pools, shares


@compiled
def _move(
    j: Any, sign: Any, queue: Any, jobs: Any, ground: Any, steps: Any, pools: Any, shares: Any, log: Any, work: Any,
    tallies: Any,
) -> Any:  # fmt: skip
    """Enter the reservation that job j has (1), or take it out and log what that gives back (-1)."""
    plan, counts = tallies.plan, tallies.counts
    at, count = plan[j, L_AT], plan[j, L_COUNT]
    steps, pools = change_plan(
        shares, at, count, np.int64(queue.shape[plan[j, L_ENTRY]]), j, plan[j, L_START], plan[j, L_END], sign, ground,
        steps, pools, jobs, work,
    )  # fmt: skip
    if sign > 0:
        plan[j, L_ORDER] = counts[T_SEQUENCE]
        counts[T_SEQUENCE] += 1
        return steps, pools, log
    log = more(log, counts[T_LOGGED] + count)
    for i in range(at, at + count):
        log[counts[T_LOGGED], 0], log[counts[T_LOGGED], 1] = shares[i, C_ROW], plan[j, L_START]
        counts[T_LOGGED] += 1
    return steps, pools, log


@compiled
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


@inlined
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


@inlined
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


@entry
def _ground(
    nodes: Any, shapes: Any, tables: Any, queue: Any, rows: Any, needs: Any, extra: Any, jobs: Any, pool_table: Any,
    spans: Any, kept: Any, params: Any, full: Any, part: Any, top: Any,
) -> Any:  # fmt: skip
    res = np.int64(params.resolution_s)
    ground, steps = load(nodes, shapes, needs, tables, extra, rows, spans, res, 64 + 16 * len(nodes.cpus))
    pools = load_pools(pool_table, spans, res)
    key, cut_key, table = keys_of(queue, jobs, ground.x, res)
    keys = new_keys(table, len(ground.x), len(nodes.cpus), np.int64(_BOUND_BYTES))
    orders = new_orders(nodes, extra)
    gates = _gates(shapes, tables, queue)
    sc = scratch_of(len(nodes.cpus), ground.cap.shape[1], len(ground.guard))
    work = _new_work(
        ground, steps, full, part, top, slots_up(params.window_s, res), params.candidates_max, len(queue.shape)
    )
    if work.leaves > 0:
        plant(ground, steps, work)
    tallies = _new_tallies(queue, len(tables.part_gate))
    shares = np.empty((256 + 2 * len(nodes.cpus), C_COLUMNS), np.int64)
    if params.backfill and len(kept.row) > 0:
        steps, pools, shares = _load_kept(kept, queue, jobs, gates, res, ground, steps, pools, shares, work, tallies)
    return res, ground, steps, pools, key, cut_key, keys, orders, gates, work, tallies, shares, sc


@entry
def _walk(
    queue: Any, jobs: Any, params: Any, part_gate: Any, res: Any, ground: Any, steps: Any, pools: Any, key: Any,
    cut_key: Any, keys: Any, orders: Any, gates: Any, work: Any, tallies: Any, shares: Any, sc: Any,
) -> Any:  # fmt: skip
    """The phases: 0 = fifo, 1 = in queue order with reservations, 2 = backfill, 3 = predictions."""
    entries, parts, size = len(queue.shape), len(part_gate), len(ground.up)
    x, counts, plan, code, left = ground.x, tallies.counts, tallies.plan, tallies.code, tallies.left
    waits, blocked, floor = tallies.waits, tallies.blocked, tallies.floor
    most = np.int64(params.protect)
    starts = np.empty((16, 5), np.int64)  # entry, limit, first share, shares, backfilled
    log = np.empty((16, 2), np.int64)
    block_entry = np.empty(parts, np.int32)
    fails = np.zeros((parts, FAIL_COUNT), np.int32)
    only = np.zeros((parts, FAIL_COUNT), np.int32)
    blockers = np.int64(0)
    truncated = again = anyone = False
    phase = 1 if params.backfill else 0
    order = np.arange(entries)
    fixed = np.zeros(len(left), np.bool_)
    while phase <= 3 and not truncated:
        resume = np.int64(entries)
        for place in range(len(order)):
            e = order[place]
            j = np.int64(queue.job[e])
            if left[j] <= 0:
                continue
            if gates[e] > 0:
                if phase < 3:
                    code[j] = max(code[j], gates[e])
                continue
            s, k, limit = np.int64(queue.shape[e]), np.int64(key[e]), queue.limit_s[e]
            p = x[s, X_PART]
            if phase == 0 and blocked[p]:
                if code[j] != LIMITED:
                    code[j] = max(code[j], np.int8(PRIORITY))
                continue
            if keys.shape[s, S_VERDICT] == 0:
                verdict_of(s, ground, steps, orders.parts, keys, work.acc, sc)
            verdict = keys.shape[s, S_VERDICT]
            if phase == 3 and (fixed[j] or verdict != RESOURCES):
                continue
            status = np.int64(PRIORITY)
            own = plan[j, L_ENTRY] >= 0
            waits_its_time = (
                phase == 1 and own and plan[j, L_ENTRY] == e and not params.compress and plan[j, L_START] > 0
            )
            out = False  # its reservation is out of the way
            # -- what can start now
            while phase < 3 and not waits_its_time:
                if counts[T_STARTED] >= params.starts_max or counts[T_GIVEN] >= params.starts_max * SHARES_PER_START:
                    truncated = True
                    break
                if own and not out:
                    steps, pools, log = _move(
                        j, np.int64(-1), queue, jobs, ground, steps, pools, shares, log, work, tallies
                    )
                    out = True
                if (  # what is known of the request is enough: most jobs of a long queue
                    keys.table[k, K_FIRST] > 0
                    and keys.table[k, K_READY]
                    and keys.table[k, K_SEEN] == counts[T_LOGGED]
                    and cut_key[e] < 0
                    and jobs.pool_n[j] == 0
                ):
                    status = np.int64(0)
                    if jobs.t_begin[j] <= 0:
                        counts[T_TESTED] += 1
                        status = np.int64(PRIORITY)
                    break
                shares = more(shares, counts[T_USED] + size)
                status, count, gets = _now(
                    e, k, np.int64(cut_key[e]), queue, jobs, res, ground, steps, pools, orders, keys, shares, log, work,
                    tallies, sc,
                )  # fmt: skip
                if status != STARTED:
                    break
                steps, pools = change_plan(
                    shares, counts[T_USED], count, s, j, np.int64(0), length_of(gets, res), np.int64(1), ground, steps,
                    pools, jobs, work,
                )  # fmt: skip
                starts = more(starts, counts[T_STARTED] + 1)
                at = counts[T_STARTED]
                starts[at, 0], starts[at, 1], starts[at, 2], starts[at, 3] = e, gets, counts[T_USED], count
                starts[at, 4] = phase == 2 or (phase == 1 and anyone)
                counts[T_STARTED] += 1
                counts[T_USED] += count
                counts[T_GIVEN] += count
                left[j] -= 1
                if own:
                    counts[T_PROTECTED] -= plan[j, L_PROTECTED]
                    plan[j, L_ENTRY] = -1
                    own = out = False
                if left[j] <= 0:
                    again = again or code[j] in (PRIORITY, RESOURCES)
                    code[j] = STARTED
                    break
            if truncated:
                break
            if left[j] <= 0:
                continue
            # -- when it can start later
            if phase == 3 or (
                phase == 1
                and not waits_its_time
                and status == PRIORITY
                and verdict == RESOURCES
                and (most < 0 or counts[T_PROTECTED] < most or own)
            ):
                if own and not out:
                    steps, pools, log = _move(
                        j, np.int64(-1), queue, jobs, ground, steps, pools, shares, log, work, tallies
                    )
                    out = True
                stop = plan[j, L_START] if own else np.int64(FAR)
                start = np.int64(FAR)
                if (
                    keys.table[k, K_FIRST] < min(stop, work.window)
                    or not keys.table[k, K_READY]
                    or keys.table[k, K_SEEN] != counts[T_LOGGED]
                ):
                    shares = more(shares, counts[T_USED] + size)
                    first = floor[p] if phase == 3 and not params.backfill else np.int64(0)
                    start = _later(
                        e, k, first, stop, queue, jobs, res, ground, steps, pools, orders, keys, shares, log, work,
                        tallies, sc,
                    )  # fmt: skip
                if start < FAR:
                    promised = np.int64(phase == 1)
                    counts[T_PROTECTED] += promised - (plan[j, L_PROTECTED] if own else 0)
                    end = min(np.int64(FAR), start + keys.table[k, K_LENGTH])
                    plan[j, L_ENTRY], plan[j, L_START], plan[j, L_END], plan[j, L_SECONDS] = e, start, end, start * res
                    plan[j, L_LIMIT], plan[j, L_PROTECTED] = limit, promised
                    plan[j, L_AT], plan[j, L_COUNT] = counts[T_USED], work.found[0]
                    counts[T_USED] += work.found[0]
                    own = out = True
                if phase == 3 and not params.backfill and code[j] in (RESOURCES, PRIORITY):
                    floor[p] = plan[j, L_START] if own else np.int64(FAR)
            if out:
                steps, pools, log = _move(j, np.int64(1), queue, jobs, ground, steps, pools, shares, log, work, tallies)
            if phase == 3:
                continue
            # -- why it waits
            if status == PRIORITY:
                status = verdict
                if status == RESOURCES and waits[p] and not (phase == 1 and most >= 0 and own):
                    status = np.int64(PRIORITY)
                if status == RESOURCES and not waits[p]:
                    block_entry[blockers] = e
                    count_failures(
                        s, length_of(limit, res), ground, steps, work.barred, orders.parts[x[s, X_SCORE] + 1],
                        fails[blockers], only[blockers], sc,
                    )  # fmt: skip
                    blockers += 1
                if status in (RESOURCES, PRIORITY):
                    waits[p] = True
            if code[j] != LIMITED:
                code[j] = max(code[j], np.int8(status))
            if waits_its_time:
                anyone = True
            elif status in (RESOURCES, PRIORITY):
                anyone = True
                if phase == 1 and 0 <= most <= counts[T_PROTECTED]:
                    resume = np.int64(e) + 1
                    break
                if phase == 0:
                    must = ground.must_of[x[s, X_MUST_AT] : x[s, X_MUST_AT] + x[s, X_MUST_N]]
                    if len(must) > 0 and len(must) >= x[s, X_NODES_LO]:
                        for m in must:
                            work.barred[m >> 6] |= np.uint64(1) << np.uint64(m & 63)
                    else:
                        for r in range(size):
                            if (ground.part_of[p, r >> 3] >> (r & 7)) & 1:
                                work.barred[r >> 6] |= np.uint64(1) << np.uint64(r & 63)
                        blocked[p] = True
        if phase == 1:
            phase = 2
            order = np.arange(resume, entries)
            if params.shortest_first and len(order) > 1:
                order = order[np.argsort(jobs.order[queue.job[order]], kind="mergesort")]
        elif phase != 3 and params.predict:
            phase = 3
            order = np.arange(entries)
            fixed[:] = plan[:, L_ENTRY] >= 0
        else:
            break
    return (
        starts, counts[T_STARTED], plan, shares, code, tallies.lacks, block_entry[:blockers], fails[:blockers],
        only[:blockers], counts[T_TESTED], truncated or again,
    )  # fmt: skip


@entry
def _result(starts: Any, started: Any, plan: Any, shares: Any, jobs: Any, code: Any, lacks: Any) -> Any:
    """The columns of `AheadResult` up to `pool`, and `chunk`: starts first, then the rest in the order decided."""
    count = np.int64(0)
    later = np.empty(len(plan), np.int64)
    for j in range(len(plan)):
        if plan[j, L_ENTRY] >= 0:
            later[count] = j
            count += 1
    later = later[:count]
    order = np.empty(count, np.int64)
    for i in range(count):
        order[i] = plan[later[i], L_ORDER]
    later = later[np.argsort(order)]
    total = started + count
    entry, t_start, limit = np.empty(total, np.int32), np.zeros(total, np.int64), np.empty(total, np.int64)
    protected, backfilled = np.zeros(total, np.bool_), np.zeros(total, np.bool_)
    ptr = np.zeros(total + 1, np.int32)
    expected = np.full(len(plan), NEVER, np.int64)
    used = np.int64(0)
    for i in range(started):
        used += starts[i, 3]
    for job in later:
        used += plan[job, L_COUNT]
    row, cpus, chunk = np.empty(used, np.int32), np.empty(used, np.int32), np.empty(used, np.int32)
    mem = np.empty(used, np.int64)
    used = np.int64(0)
    for i in range(total):
        if i < started:
            entry[i], limit[i], backfilled[i] = starts[i, 0], starts[i, 1], starts[i, 4] == 1
            first, number = starts[i, 2], starts[i, 3]
        else:
            job = later[i - started]
            entry[i], t_start[i], limit[i] = plan[job, L_ENTRY], plan[job, L_SECONDS], plan[job, L_LIMIT]
            protected[i] = plan[job, L_PROTECTED] == 1
            first, number = plan[job, L_AT], plan[job, L_COUNT]
            expected[job] = plan[job, L_SECONDS]
        for at in range(first, first + number):
            row[used], cpus[used], mem[used] = shares[at, C_ROW], shares[at, C_CPUS], shares[at, C_MEM]
            chunk[used] = shares[at, C_CHUNK]
            used += 1
        ptr[i + 1] = used
    for i in range(started):
        expected[jobs[starts[i, 0]]] = 0
    for j in range(len(code)):
        if code[j] != LIMITED:
            lacks[j] = -1
    return entry, t_start, limit, protected, backfilled, ptr, row, cpus, mem, expected, chunk


_NO_TREE = np.zeros((0, 0), np.uint64)


def _tree_for(nodes: NodeArrays, shapes: ShapeArrays, queue: QueueArrays, params: AheadParams) -> tuple[Any, Any, int]:
    """An empty tree (full, part, top), without lines if not worth it: no whole nodes, few later starts, too large."""
    if not (params.predict or params.protect < 0) or not shapes.exclusive.any() or not len(queue.limit_s):
        return _NO_TREE, _NO_TREE, 0
    words = (len(nodes.cpus) + 63) >> 6
    window = -(-params.window_s // params.resolution_s)
    longest = int(queue.limit_s.max()) // params.resolution_s
    leaves = 64
    while leaves < window + longest + 4:
        leaves *= 2
    while leaves > 64 and 4 * leaves * words * 8 > _TREE_BYTES:
        leaves //= 2
    if leaves < window + 64:
        return _NO_TREE, _NO_TREE, 0
    shape = (2 * leaves, words)
    return np.zeros(shape, np.uint64), np.zeros(shape, np.uint64), min(_TOP, leaves.bit_length() - 1)


def plan_ahead(
    nodes: NodeArrays,
    shapes: ShapeArrays,
    tables: TableArrays,
    queue: QueueArrays,
    rows: RowArrays,
    needs: NeedArrays,
    extra: AheadTables,
    jobs: JobArrays,
    pools: PoolArrays,
    spans: SpanArrays,
    kept: KeptArrays,
    params: AheadParams,
) -> AheadResult:
    """One pass that looks ahead; see `reference_ahead`."""
    full, part, top = _tree_for(nodes, shapes, queue, params)
    ground = _ground(
        nodes, shapes, tables, queue, rows, needs, extra, jobs, pools, spans, kept, params, full, part, top
    )
    starts, started, plan, shares, code, lacks, block_entry, fails, only, tested, truncated = _walk(
        queue, jobs, params, tables.part_gate, *ground
    )
    entry, t_start, limit, protected, backfilled, ptr, row, cpus, mem, expected, chunk = _result(
        starts, started, plan, shares, queue.job, code, lacks
    )
    return AheadResult(
        entry, t_start, limit, protected, backfilled, ptr, row, cpus, mem, started, code, expected, lacks, block_entry,
        fails, only, tested, bool(truncated), chunk,
    )  # fmt: skip
