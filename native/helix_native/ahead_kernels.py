"""The look-ahead planner, compiled: the same result as `reference_ahead`, field by field (tests hold them equal).

Three structures say when a request fits.  Whole nodes: a tree of row sets over time (`ahead_tree`), if the window and
the number of rows let it be built.  Parts of nodes: step functions of every row (`ahead_steps`) and, for every distinct
request, a lower bound of the start on every row (`ahead_keys`).  All else: `ahead_slow`.  Every placement is entered in
the step functions, and in the tree.  A full plan costs about a microsecond for each (job, node) placed and a tenth of
one for each row that is looked at anew; what cannot start within the window costs next to nothing.
"""

from __future__ import annotations

from typing import Any

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
from helix_native.ahead_keys import keys_of, new_keys, slots_up
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
    is_short,
    may_keep,
    more,
    plant,
    shares_until,
    with_room,
)
from helix_native.ahead_pools import lacking, load_pools
from helix_native.ahead_rows import GROUP, class_of
from helix_native.ahead_slow import scratch_of
from helix_native.ahead_steps import FAR
from helix_native.ahead_walk import (
    BACKFILL,
    FIFO,
    IN_ORDER,
    MORE_LOG,
    MORE_ROOM,
    MORE_SHARES,
    MORE_STARTS,
    PREDICT,
    T_AGAIN,
    T_AT,
    T_BLOCKERS,
    T_COUNT,
    T_LAST,
    T_LOGGED,
    T_N,
    T_PLACE,
    T_PROTECTED,
    T_RESUME,
    T_SEQUENCE,
    T_STARTED,
    T_TESTED,
    T_TRUNCATED,
    T_USED,
    Tallies,
    run_phase,
)
from helix_native.arrays import (
    FAIL_COUNT,
    TIME_LIMIT,
    NodeArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
)
from helix_native.compiling import compiled, entry

_TOP = 11  #: highest level of the tree that is read
_TREE_BYTES = 512 << 20
_BOUND_BYTES = 400 << 20
_SETS_ROWS = 4  #: fewer rows are looked at one by one
_SETS_MAX = 2048  #: classes of what is free now
_SETS_WEIGHTS = 16


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
        np.zeros(parts, np.bool_), np.zeros(parts, np.bool_), np.zeros(parts, np.int64), np.empty(parts, np.int32),
        np.zeros((parts, FAIL_COUNT), np.int32), np.zeros((parts, FAIL_COUNT), np.int32), np.zeros(T_COUNT, np.int64),
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
        if is_short(steps, pools, jobs, j, shares, used, count):
            steps, pools = with_room(steps, pools, jobs, j, shares, used, count)
        change_plan(shares, used, count, s, j, begin, end, np.int64(1), ground, steps, pools, jobs, work)
        plan[j, L_ENTRY], plan[j, L_START], plan[j, L_END], plan[j, L_SECONDS] = e, begin, end, seconds
        plan[j, L_LIMIT], plan[j, L_PROTECTED], plan[j, L_AT], plan[j, L_COUNT] = limit, 1, used, count
        plan[j, L_ORDER] = counts[T_SEQUENCE]
        counts[T_SEQUENCE] += 1
        counts[T_PROTECTED] += 1
        counts[T_USED] += count
    return steps, pools, shares


@entry
def _ground(
    nodes: Any, shapes: Any, tables: Any, queue: Any, rows: Any, needs: Any, extra: Any, jobs: Any, pool_table: Any,
    spans: Any, kept: Any, params: Any, full: Any, part: Any, top: Any,
) -> Any:  # fmt: skip
    res = np.int64(params.resolution_s)
    ground, steps = load(nodes, shapes, needs, tables, extra, rows, spans, res, 4 * len(nodes.cpus))
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
    shares = np.empty((2 * len(nodes.cpus), C_COLUMNS), np.int64)
    if params.backfill and len(kept.row) > 0:
        steps, pools, shares = _load_kept(kept, queue, jobs, gates, res, ground, steps, pools, shares, work, tallies)
    return res, ground, steps, pools, key, cut_key, keys, orders, gates, work, tallies, shares, sc


@entry
def _walk(
    queue: Any, jobs: Any, params: Any, res: Any, ground: Any, steps: Any, pools: Any, key: Any, cut_key: Any,
    keys: Any, orders: Any, gates: Any, work: Any, tallies: Any, shares: Any, sc: Any,
) -> Any:  # fmt: skip
    """The phases, and more room for them."""
    counts, plan = tallies.counts, tallies.plan
    starts, log = np.empty((4, 5), np.int64), np.empty((4, 2), np.int64)
    order = np.arange(len(queue.shape))
    fixed = np.zeros(len(tallies.left), np.bool_)
    phase = np.int64(IN_ORDER if params.backfill else FIFO)
    counts[T_RESUME], counts[T_LAST] = len(order), -1
    while True:
        lack = run_phase(
            phase, order, fixed, queue, jobs, params, res, ground, steps, pools, key, cut_key, keys, orders, gates,
            work, tallies, shares, log, starts, sc,
        )  # fmt: skip
        if lack == MORE_SHARES:
            shares = more(shares, counts[T_USED] + len(ground.up))
        elif lack == MORE_STARTS:
            starts = more(starts, counts[T_STARTED] + 1)
        elif lack == MORE_LOG:
            log = more(log, counts[T_LOGGED] + len(ground.up))
        elif lack == MORE_ROOM:
            j = np.int64(queue.job[order[counts[T_PLACE]]])
            steps, pools = with_room(steps, pools, jobs, j, shares, counts[T_AT], counts[T_N])
        elif counts[T_TRUNCATED] or phase == PREDICT:
            break
        else:
            counts[T_PLACE] = 0
            if phase == IN_ORDER:
                phase = np.int64(BACKFILL)
                order = order[counts[T_RESUME] :]
                if params.shortest_first and len(order) > 1:
                    order = order[np.argsort(jobs.order[queue.job[order]], kind="mergesort")]
            elif params.predict:
                phase = np.int64(PREDICT)
                order = np.arange(len(queue.shape))
                fixed[:] = plan[:, L_ENTRY] >= 0
            else:
                break
    return starts, shares


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


ENTRIES: tuple[Any, ...] = (_ground, _walk, _result)  #: what numba compiles for Python


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
    tallies = ground[-3]
    starts, shares = _walk(queue, jobs, params, *ground)
    counts, blockers = tallies.counts, int(tallies.counts[T_BLOCKERS])
    entry, t_start, limit, protected, backfilled, ptr, row, cpus, mem, expected, chunk = _result(
        starts, counts[T_STARTED], tallies.plan, shares, queue.job, tallies.code, tallies.lacks
    )
    return AheadResult(
        entry, t_start, limit, protected, backfilled, ptr, row, cpus, mem, int(counts[T_STARTED]), tallies.code,
        expected, tallies.lacks, tallies.block_entry[:blockers], tallies.fails[:blockers], tallies.only[:blockers],
        int(counts[T_TESTED]), bool(counts[T_TRUNCATED] or counts[T_AGAIN]), chunk,
    )  # fmt: skip
