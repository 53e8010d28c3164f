"""`plan_ahead` for one row of interchangeable CPUs: the same results as `reference_ahead`, at a fraction of the cost.

A simulated machine is one row, and a simulation is hundreds of thousands of passes over short queues, so what counts
is the fixed cost of a pass.  `plan_pool` looks whether the tables are so plain (one row that is up, CPUs only, one
entry and one copy a job, nothing named) and gives None if they are not.

The profile is one step function, `times` and `free`, both ascending in time.  Cost: O(steps) a job that is planned
ahead, O(1) for most that cannot start, about 10 us a call.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from helix_native.ahead_arrays import (
    NEVER,
    AheadParams,
    AheadResult,
    JobArrays,
    KeptArrays,
    NeedArrays,
    PoolArrays,
    RowArrays,
    SpanArrays,
)
from helix_native.ahead_profile import FAR, slots_up
from helix_native.arrays import (
    BAD,
    FAIL_COUNT,
    FAIL_CPUS,
    FAIL_KEPT,
    PRIORITY,
    RESOURCES,
    STARTED,
    TIME_LIMIT,
    Bits,
    Flags,
    Int8,
    Int32,
    Int64,
    NodeArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
)
from helix_native.compiling import borrowing, compiled, entry

# ---- the profile -----------------------------------------------------------------------------------------------------


@borrowing
def _at(times: Any, size: int, t: Any) -> int:
    """The step that holds slot t."""
    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        if times[middle] <= t:
            low = middle
        else:
            high = middle
    return low


@borrowing
def _split(times: Any, free: Any, size: int, t: Any) -> Any:
    """The step that begins at slot t, made if need be; and the new size."""
    i = _at(times, size, t)
    if times[i] == t:
        return i, size
    for k in range(size, i + 1, -1):
        times[k], free[k] = times[k - 1], free[k - 1]
    times[i + 1], free[i + 1] = t, free[i]
    return i + 1, size + 1


@borrowing
def _merge(times: Any, free: Any, size: int, i: int) -> int:
    """Drop step i if it is as the one before it; the new size."""
    if i <= 0 or i >= size or free[i] != free[i - 1]:
        return size
    for k in range(i, size - 1):
        times[k], free[k] = times[k + 1], free[k + 1]
    return size - 1


@borrowing
def _take(times: Any, free: Any, size: int, begin: Any, end: Any, cpus: Any) -> int:
    """Take `cpus` in [begin, end), or give them back if negative; the new size."""
    first, size = _split(times, free, size, begin)
    last = size
    if end < FAR:
        last, size = _split(times, free, size, end)
    for i in range(first, last):
        free[i] -= cpus
    size = _merge(times, free, size, last)
    return _merge(times, free, size, first)


@borrowing
def _holds(times: Any, free: Any, size: int, begin: Any, end: Any, cpus: Any) -> bool:
    """Whether `cpus` are free throughout [begin, end)."""
    i = 0 if begin == 0 else _at(times, size, begin)
    while i < size and times[i] < end:
        if free[i] < cpus:
            return False
        i += 1
    return True


@borrowing
def _earliest(times: Any, free: Any, size: int, cpus: Any, length: Any, begin: Any, stop: Any) -> Any:
    """The first slot in [begin, stop) from which `cpus` are free for `length` slots; -1 if there is none."""
    t = begin
    i = _at(times, size, begin)
    while True:
        while i < size and free[i] < cpus:
            i += 1
        if i == size:
            return np.int64(-1)
        t = max(t, times[i])
        if t >= stop:
            return np.int64(-1)
        end = min(FAR, t + length)
        k = i + 1
        while k < size and times[k] < end and free[k] >= cpus:
            k += 1
        if k == size or times[k] >= end:
            return np.int64(t)
        i = k


@compiled
def _load(times: Any, free: Any, capacity: Any, spans: Any, resolution: Any) -> int:
    """The profile of what spans take from now until their ends; its size, or 0 if one of them is not plain."""
    count = len(spans.row)
    ends = np.empty(count, np.int64)
    taken = np.int64(0)
    for x in range(count):
        if spans.row[x] != 0 or spans.t_from[x] > 0:
            return 0
        ends[x] = _slots_up(spans.t_to[x], resolution)
        if ends[x] > 0:
            taken += spans.cpus[x]
    times[0], free[0] = 0, capacity - taken
    size = 1
    for x in np.argsort(ends):
        if ends[x] > 0 and spans.cpus[x] > 0 and ends[x] < FAR:
            if times[size - 1] != ends[x]:
                times[size], free[size] = ends[x], free[size - 1]
                size += 1
            free[size - 1] += spans.cpus[x]
    return size


# ---- the tables ------------------------------------------------------------------------------------------------------


class Queue(NamedTuple):
    """What a pass reads, by entry, in queue order."""

    job: Int32
    part: Int32
    cpus: Int64
    least: Int64  # CPUs with which a part of it could run
    length: Int64  # slots
    gates: Int8


@borrowing
def _slots_up(seconds: Any, resolution: Any) -> Any:
    return min(np.int64(FAR), -(-seconds // resolution))


@borrowing
def _need(s: int, nodes: Any, shapes: Any, tables: Any, needs: Any) -> Any:
    """CPUs that shape s takes, and those of its least share; -1 if it is not plain."""
    total, lo, hi = shapes.tasks[s], shapes.task_lo[s], shapes.task_hi[s]
    tasks = total if total > 0 else lo
    if (total > 0 and (tasks < lo or tasks > hi)) or (total == 0 and hi != lo) or shapes.nodes_lo[s] != 1:
        return np.int64(-1), np.int64(0)
    if shapes.mem_node[s] > 0 or shapes.mem_cpu[s] > 0 or shapes.mem_all[s] or shapes.exclusive[s]:
        return np.int64(-1), np.int64(0)
    if shapes.must_n[s] > 0 or needs.chunk[s] >= 0 or needs.switches[s] > 0:
        return np.int64(-1), np.int64(0)
    if shapes.mem_floor[s] > nodes.mem[0] or shapes.tmp[s] > nodes.tmp[0] or not tables.elig[shapes.elig[s], 0] & 1:
        return np.int64(-1), np.int64(0)
    width = np.int64(nodes.width[0])
    each, floor = np.int64(shapes.cpt[s]), np.int64(shapes.cpus_min[s])
    return (
        max(np.int64(1), -(-max(tasks * each, floor) // width)) * width,
        max(np.int64(1), -(-max(lo * each, floor) // width)) * width,
    )


@borrowing
def _gate(s: int, limit_s: Any, shapes: Any, tables: Any) -> Any:
    """0, or the code that keeps the entry from being tried: as `reference.entry_gates`."""
    p = shapes.part[s]
    if tables.part_gate[p] > 0:
        return tables.part_gate[p]
    if shapes.gate[s] > 0:
        return shapes.gate[s]
    longest = tables.part_time[p]
    return np.int8(TIME_LIMIT) if longest > 0 and (limit_s == 0 or limit_s > longest) else np.int8(0)


@compiled
def _read(nodes: Any, shapes: Any, tables: Any, queue: Any, needs: Any, jobs: Any, resolution: Any) -> Any:
    """Whether each job is plain (one entry, one copy, nothing said about its time), and the queue."""
    count = len(queue.shape)
    q = Queue(
        queue.job,
        np.empty(count, np.int32),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
        np.empty(count, np.int8),
    )
    seen = np.zeros(len(queue.starts), np.bool_)
    for e in range(count):
        j, s = queue.job[e], queue.shape[e]
        if seen[j] or queue.starts[j] != 1 or jobs.pool_n[j] > 0:
            return False, q
        if jobs.limit_min_s[j] > 0 or jobs.t_deadline[j] < NEVER or jobs.t_begin[j] > 0:
            return False, q
        seen[j] = True
        q.cpus[e], q.least[e] = _need(s, nodes, shapes, tables, needs)
        if q.cpus[e] < 0:
            return False, q
        q.part[e] = shapes.part[s]
        q.length[e] = np.int64(FAR) if queue.limit_s[e] == 0 else _slots_up(queue.limit_s[e], resolution)
        q.gates[e] = _gate(s, queue.limit_s[e], shapes, tables)
    return True, q


# ---- a pass ----------------------------------------------------------------------------------------------------------

_SIZE, _TURN, _GIVEN, _TESTED, _PROTECTED, _BLOCKED = range(6)  #: places of `Work.n`


class Work(NamedTuple):
    """What a pass changes.  A reservation is a job's while `turn` > 0, which tells when it was last decided."""

    n: Int64  # counts, see above
    times: Int64
    free: Int64
    code: Int8  # [J]
    waits: Flags  # [P]
    begin: Int64  # [J] slots
    end: Int64
    seconds: Int64
    cpus: Int64
    protected: Flags
    turn: Int64
    started: Flags  # [J]
    entry: Int32  # [E] starts, in order
    start_cpus: Int32
    backfilled: Flags
    block: Int32
    fails: Int32
    only: Int32


@borrowing
def _book(w: Any, j: int, begin: Any, end: Any, cpus: Any) -> None:
    """Put a reservation of job j into the profile."""
    w.n[_SIZE] = _take(w.times, w.free, w.n[_SIZE], begin, end, cpus)
    w.n[_TURN] += 1
    w.begin[j], w.end[j], w.cpus[j], w.turn[j] = begin, end, cpus, w.n[_TURN]


@borrowing
def _unbook(w: Any, j: int) -> None:
    w.n[_SIZE] = _take(w.times, w.free, w.n[_SIZE], w.begin[j], w.end[j], -w.cpus[j])
    w.turn[j] = 0


@borrowing
def _load_kept(w: Any, q: Any, kept: Any, resolution: Any) -> bool:
    """Kept reservations, in queue order; False if one is not plain."""
    for e in range(len(q.job)):
        j = q.job[e]
        if kept.entry[j] != e or q.gates[e] > 0:
            continue
        if kept.ptr[j + 1] - kept.ptr[j] != 1 or kept.row[kept.ptr[j]] != 0:
            return False
        seconds = max(np.int64(0), kept.start[j])
        begin = min(np.int64(FAR), seconds // resolution)
        end = np.int64(FAR) if kept.limit_s[j] == 0 else _slots_up(seconds + kept.limit_s[j], resolution)
        cpus = np.int64(kept.cpus[kept.ptr[j]])
        if _holds(w.times, w.free, w.n[_SIZE], begin, end, cpus):
            _book(w, j, begin, end, cpus)
            w.seconds[j], w.protected[j] = seconds, True
            w.n[_PROTECTED] += 1
    return True


@borrowing
def _start(w: Any, q: Any, e: int, backfilled: bool) -> bool:
    """Start the entry now if it fits; its job has no reservation in the profile."""
    j, cpus = q.job[e], q.cpus[e]
    w.n[_TESTED] += 1
    if w.free[0] < cpus or not _holds(w.times, w.free, w.n[_SIZE], 0, q.length[e], cpus):
        return False
    w.n[_SIZE] = _take(w.times, w.free, w.n[_SIZE], 0, q.length[e], cpus)
    given = w.n[_GIVEN]
    w.entry[given], w.start_cpus[given], w.backfilled[given] = e, cpus, backfilled
    w.n[_GIVEN] += 1
    w.started[j] = True
    return True


@borrowing
def _reserve(w: Any, q: Any, e: int, stop: Any, resolution: Any) -> bool:
    """Reserve the entry's earliest later start before slot `stop`."""
    begin = _earliest(w.times, w.free, w.n[_SIZE], q.cpus[e], q.length[e], np.int64(1), stop)
    if begin < 0:
        return False
    j = q.job[e]
    _book(w, j, begin, min(np.int64(FAR), begin + q.length[e]), q.cpus[e])
    w.seconds[j] = begin * resolution
    return True


@borrowing
def _mark(w: Any, q: Any, e: int, capacity: Any, promised: bool) -> bool:
    """Note why the entry waits; True if others may overtake it."""
    j, p, cpus = q.job[e], q.part[e], q.cpus[e]
    status = RESOURCES if cpus <= capacity else BAD
    if status == RESOURCES and not promised and w.waits[p]:
        status = PRIORITY
    if status == RESOURCES and not w.waits[p]:
        at = w.n[_BLOCKED]
        w.block[at] = e
        cpus_short = w.free[0] < cpus
        kept = w.free[0] >= q.least[e] and not _holds(w.times, w.free, w.n[_SIZE], 0, q.length[e], q.least[e])
        w.fails[at, FAIL_CPUS], w.fails[at, FAIL_KEPT] = cpus_short, kept
        if cpus_short != kept:
            w.only[at, FAIL_CPUS], w.only[at, FAIL_KEPT] = cpus_short, kept
        w.n[_BLOCKED] += 1
    if status != BAD:
        w.waits[p] = True
    w.code[j] = max(w.code[j], np.int8(status))
    return bool(status != BAD)


@borrowing
def _phase_1(
    w: Any, q: Any, capacity: Any, protect: int, compress: bool, resolution: Any, window: Any, starts_max: int
) -> Any:
    """Starts and promises in queue order: the place it got to, and whether there may be more starts."""
    anyone = False
    for e in range(len(q.job)):
        j = q.job[e]
        if q.gates[e] > 0:
            w.code[j] = max(w.code[j], q.gates[e])
            continue
        due = w.turn[j] > 0
        if due and not compress and w.begin[j] > 0:
            _mark(w, q, e, capacity, protect >= 0)
            anyone = True
            continue
        if w.n[_GIVEN] >= starts_max:
            return e, True
        if due:
            _unbook(w, j)
        if _start(w, q, e, anyone):
            w.n[_PROTECTED] -= due and w.protected[j]
            w.code[j] = STARTED
            continue
        if q.cpus[e] <= capacity and (protect < 0 or w.n[_PROTECTED] < protect or due):
            was = due and w.protected[j]
            begin, end, cpus = w.begin[j], w.end[j], w.cpus[j]
            if _reserve(w, q, e, min(begin, window) if due else window, resolution):
                w.protected[j] = True
                w.n[_PROTECTED] += 1 - was
            elif due:
                _book(w, j, begin, end, cpus)
        elif due:
            _book(w, j, w.begin[j], w.end[j], w.cpus[j])
        if _mark(w, q, e, capacity, protect >= 0 and w.turn[j] > 0):
            anyone = True
            if 0 <= protect <= w.n[_PROTECTED]:
                return e + 1, False
    return len(q.job), False


@borrowing
def _phase_2(w: Any, q: Any, capacity: Any, candidates: Any, starts_max: int) -> bool:
    """Start what can start of the candidates; True if it had to stop."""
    for e in candidates:
        j = q.job[e]
        if q.gates[e] > 0:
            w.code[j] = max(w.code[j], q.gates[e])
            continue
        if w.n[_GIVEN] >= starts_max:
            return True
        due = w.turn[j] > 0
        if due:
            _unbook(w, j)
        if _start(w, q, e, True):
            w.n[_PROTECTED] -= due and w.protected[j]
            w.code[j] = STARTED
            continue
        if due:
            _book(w, j, w.begin[j], w.end[j], w.cpus[j])
        _mark(w, q, e, capacity, False)
    return False


class _Nodes(NamedTuple):
    """The columns that are read: fewer arrays are quicker to hand over.  The same for the next."""

    cpus: Int32
    width: Int32
    mem: Int64
    tmp: Int64
    free_cpus: Int32


class _Shapes(NamedTuple):
    part: Int32
    elig: Int32
    gate: Int8
    nodes_lo: Int32
    tasks: Int32
    task_lo: Int32
    task_hi: Int32
    cpt: Int32
    cpus_min: Int32
    mem_node: Int64
    mem_cpu: Int64
    mem_all: Flags
    mem_floor: Int64
    tmp: Int64
    exclusive: Flags
    must_n: Int32


class _Tables(NamedTuple):
    elig: Bits
    part_gate: Int8
    part_time: Int64


class _Needs(NamedTuple):
    chunk: Int32
    switches: Int32


class _Jobs(NamedTuple):
    limit_min_s: Int64
    t_deadline: Int64
    t_begin: Int64
    pool_n: Int32
    order: Int64


class _Spans(NamedTuple):
    row: Int32
    t_from: Int64
    t_to: Int64
    cpus: Int64


class _Kept(NamedTuple):
    entry: Int32
    start: Int64
    limit_s: Int64
    ptr: Int32
    row: Int32
    cpus: Int32


@entry
def _plan(
    nodes: Any, shapes: Any, tables: Any, queue: Any, needs: Any, jobs: Any, spans: Any, kept: Any, protect: int,
    shortest: bool, predict: bool, compress: bool, resolution: Any, window: Any, starts_max: int,
) -> Any:  # fmt: skip
    """The pass; the first of the tuple is False if this is no case for it."""
    count, slots, parts = len(queue.shape), len(queue.starts), len(tables.part_gate)
    capacity = np.int64(nodes.cpus[0])
    good, q = _read(nodes, shapes, tables, queue, needs, jobs, resolution)
    steps = len(spans.row) + 4 * count + 8
    w = Work(
        np.zeros(6, np.int64), np.empty(steps, np.int64), np.empty(steps, np.int64), np.zeros(slots, np.int8),
        np.zeros(parts, np.bool_), np.zeros(slots, np.int64), np.zeros(slots, np.int64), np.zeros(slots, np.int64),
        np.zeros(slots, np.int64), np.zeros(slots, np.bool_), np.zeros(slots, np.int64), np.zeros(slots, np.bool_),
        np.empty(count, np.int32), np.empty(count, np.int32), np.zeros(count, np.bool_), np.empty(parts + 1, np.int32),
        np.zeros((parts + 1, FAIL_COUNT), np.int32), np.zeros((parts + 1, FAIL_COUNT), np.int32),
    )  # fmt: skip
    truncated = False
    if good:
        w.n[_SIZE] = _load(w.times, w.free, capacity, spans, resolution)
        good = w.n[_SIZE] > 0 and w.free[0] == nodes.free_cpus[0]
    if good:
        good = _load_kept(w, q, kept, resolution)
    if good:
        first, truncated = _phase_1(w, q, capacity, protect, compress, resolution, window, starts_max)
        if not truncated and first < count:
            candidates = np.arange(first, count)
            if shortest:
                candidates = candidates[np.argsort(jobs.order[q.job[first:]], kind="mergesort")]
            truncated = _phase_2(w, q, capacity, candidates, starts_max)
        if predict and not truncated:
            for e in range(count):
                j = q.job[e]
                if not w.started[j] and q.gates[e] == 0 and w.turn[j] == 0 and q.cpus[e] <= capacity:
                    w.protected[j] = False
                    _reserve(w, q, e, window, resolution)
    return (good, truncated, *_result(w, queue))


@compiled
def _result(w: Any, queue: Any) -> Any:
    """The columns of `AheadResult` up to `block_only`, but for `starts`."""
    given, slots = w.n[_GIVEN], len(queue.starts)
    entry_of = np.zeros(slots, np.int32)
    for e in range(len(queue.job)):
        entry_of[queue.job[e]] = e
    later = np.flatnonzero(w.turn > 0)
    later = later[np.argsort(w.turn[later], kind="mergesort")]
    count = given + len(later)
    entry = np.empty(count, np.int32)
    seconds = np.zeros(count, np.int64)
    limit = np.empty(count, np.int64)
    protected = np.zeros(count, np.bool_)
    backfilled = np.zeros(count, np.bool_)
    cpus = np.empty(count, np.int32)
    expected = np.full(slots, NEVER, np.int64)
    for at in range(count):
        if at < given:
            e = w.entry[at]
            j = queue.job[e]
            backfilled[at], cpus[at] = w.backfilled[at], w.start_cpus[at]
        else:
            j = later[at - given]
            e = entry_of[j]
            seconds[at], protected[at], cpus[at] = w.seconds[j], w.protected[j], w.cpus[j]
        entry[at], limit[at] = e, queue.limit_s[e]
        expected[j] = seconds[at]
    blocked = w.n[_BLOCKED]
    return (
        given, entry, seconds, limit, protected, backfilled, np.arange(count + 1).astype(np.int32), cpus, w.code,
        expected, w.block[:blocked], w.fails[:blocked], w.only[:blocked], w.n[_TESTED],
    )  # fmt: skip


_columns = attrgetter(*_Shapes._fields)


def _shapes(shapes: ShapeArrays) -> _Shapes:
    return _Shapes._make(_columns(shapes))


ENTRIES: tuple[Any, ...] = (_plan,)  #: what numba compiles for Python


def plan_pool(
    nodes: NodeArrays,
    shapes: ShapeArrays,
    tables: TableArrays,
    queue: QueueArrays,
    rows: RowArrays,
    needs: NeedArrays,
    jobs: JobArrays,
    pools: PoolArrays,
    spans: SpanArrays,
    kept: KeptArrays,
    params: AheadParams,
) -> AheadResult | None:
    """`reference_ahead.plan_ahead` if the tables are plain, else None."""
    if len(rows.host) != 1 or not params.backfill or len(pools.total) or rows.gres.shape[1] or len(tables.room_cap):
        return None
    if not nodes.up[0] or rows.t_from[0] > 0 or rows.t_to[0] < NEVER:
        return None
    (good, truncated, given, entry, seconds, limit, protected, backfilled, ptr, cpus, code, expected, block, fails,
     only, tested) = _plan(
        _Nodes(nodes.cpus, nodes.width, nodes.mem, nodes.tmp, nodes.free_cpus), _shapes(shapes),
        _Tables(tables.elig, tables.part_gate, tables.part_time), queue, _Needs(needs.chunk, needs.switches),
        _Jobs(jobs.limit_min_s, jobs.t_deadline, jobs.t_begin, jobs.pool_n, jobs.order),
        _Spans(spans.row, spans.t_from, spans.t_to, spans.cpus),
        _Kept(kept.entry, kept.start, kept.limit_s, kept.ptr, kept.row, kept.cpus), params.protect,
        params.shortest_first, params.predict, params.compress, params.resolution_s,
        slots_up(params.window_s, params.resolution_s), params.starts_max,
    )  # fmt: skip
    if not good:
        return None
    shares, zeros = len(cpus), np.zeros(len(cpus), np.int32)
    return AheadResult(
        start_entry=entry,
        t_start=seconds,
        limit_s=limit,
        protected=protected,
        backfilled=backfilled,
        ptr=ptr,
        row=zeros,
        cpus=cpus,
        mem=np.zeros(shares, np.int64),
        starts=given,
        code=code,
        expected=expected,
        pool=np.full(len(code), -1, np.int32),
        block_entry=block,
        block_fails=fails,
        block_only=only,
        tested=tested,
        truncated=truncated,
        chunk=zeros,
    )
