"""The kernels, compiled: the same results as `reference.py`, entry by entry (tests hold them equal).

Compiled with `nogil` (other threads run meanwhile) and `cache` (NUMBA_CACHE_DIR: a cold compile happens once).
Differences are of speed only: one-node requests are compared without divisions, and the tasks of an array fill a
node at once, which is what choosing them one by one comes to, since the fullest node that fits stays the fullest.

Cost: about 2 ns a node for each entry that is tried and 2 ns for each entry that is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helix_native.arrays import (
    BAD,
    FAIL_BUSY,
    FAIL_COUNT,
    FAIL_CPUS,
    FAIL_DOWN,
    FAIL_INELIGIBLE,
    FAIL_KEPT,
    FAIL_MEMORY,
    FAIL_ROOM,
    FAIL_SMALL,
    PRIORITY,
    REQUIRED_DOWN,
    RESOURCES,
    SHARES_PER_START,
    STARTED,
    TIME_LIMIT,
    UNAVAILABLE,
    NodeArrays,
    PlanArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
)
from helix_native.compiling import borrowing, compiled, entry

_NEVER = np.int64((1 << 63) - 1)
_HALF = np.int64(1 << 32)
_BLOCKERS = 64  #: entries that keep only the nodes they name; beyond these, counts are not collected


@borrowing
def _bit(row: Any, n: int) -> bool:
    return bool((row[n >> 3] >> (n & 7)) & 1)


@borrowing
def _cores(cpus: Any, width: Any) -> Any:
    """Rounded down to whole cores, at least 0."""
    if cpus <= 0:
        return np.int64(0)
    if width == 1:
        return np.int64(cpus)
    return np.int64(cpus) // width * width


@borrowing
def _cost(tasks: Any, cpt: Any, cpus_min: Any, width: Any) -> Any:
    """CPUs that `tasks` tasks take, whole cores."""
    cpus = np.int64(tasks) * np.int64(cpt)
    if cpus < cpus_min:
        cpus = np.int64(cpus_min)
    if width == 1:
        return cpus
    return (cpus + width - 1) // width * width


@borrowing
def _usable(n: int, cpus: Any, width: Any, row: int, room: Any) -> Any:
    if row >= 0 and room[row, n] < cpus:
        return _cores(room[row, n], width)
    return _cores(cpus, width)


@borrowing
def _memory_serves(mem_all: Any, mem_node: Any, mem_cpu: Any, need: Any, mem: Any, mem_total: Any, width: Any) -> bool:
    """Whether the memory free on a node serves `need` CPUs.  Scalars only: a call with tables counts references to
    every array of them, 0.2 us that are felt in a loop over nodes."""
    if mem_all:
        return bool(mem >= mem_total)
    if mem_node > 0:
        return bool(mem >= mem_node)
    if mem_cpu > 0:
        return bool(_cores(mem // mem_cpu, width) >= need)
    return True


@borrowing
def _fit(
    s: int, nodes: Any, shapes: Any, tables: Any, cpus: Any, mem: Any, empty: Any, able: Any, room: Any,
    fit: Any, use: Any,
) -> None:  # fmt: skip
    """Fill `fit` (tasks a node takes) and `use` (CPUs the request may use there); `able` masks nodes."""
    lo, hi = np.int64(shapes.task_lo[s]), np.int64(shapes.task_hi[s])
    cpt, cpus_min = np.int64(shapes.cpt[s]), np.int64(shapes.cpus_min[s])
    row = tables.part_room[shapes.part[s]]
    mem_all, mem_node, mem_cpu = shapes.mem_all[s], shapes.mem_node[s], shapes.mem_cpu[s]
    by_cpu = (not mem_all) and mem_node <= 0 and mem_cpu > 0
    elig = tables.elig[shapes.elig[s]]
    floor, tmp, exclusive = shapes.mem_floor[s], shapes.tmp[s], shapes.exclusive[s]
    for n in range(len(fit)):
        width = np.int64(nodes.width[n])
        have = _usable(n, cpus[n], width, row, room)
        use[n] = have
        fit[n] = 0
        if not able[n] or (exclusive and not empty[n]):
            continue
        need = _cost(lo, cpt, cpus_min, width)
        if have < need or not _bit(elig, n) or nodes.mem[n] < floor or nodes.tmp[n] < tmp:
            continue
        if not _memory_serves(mem_all, mem_node, mem_cpu, need, mem[n], nodes.mem[n], width):
            continue
        tasks = have // cpt
        if by_cpu:
            tasks = min(tasks, _cores(mem[n] // mem_cpu, width) // cpt)
        tasks = min(tasks, hi)
        if tasks >= lo:
            fit[n] = tasks


@borrowing
def _one_node(
    s: int, tasks: Any, nodes: Any, shapes: Any, tables: Any, cpus: Any, mem: Any, empty: Any, kept: Any, room: Any
) -> int:
    """The node that takes all `tasks` now with the lowest weight, then least CPUs left, then index; -1 if none."""
    best = -1
    best_key = _NEVER
    cpt, cpus_min = np.int64(shapes.cpt[s]), np.int64(shapes.cpus_min[s])
    row = tables.part_room[shapes.part[s]]
    elig = tables.elig[shapes.elig[s]]
    least = shapes.least[s]
    exclusive = shapes.exclusive[s]
    floor, tmp = shapes.mem_floor[s], shapes.tmp[s]
    mem_all, mem_node, mem_cpu = shapes.mem_all[s], shapes.mem_node[s], shapes.mem_cpu[s]
    flat = _cost(tasks, cpt, cpus_min, np.int64(1))
    for n in range(len(cpus)):
        if cpus[n] < flat or not nodes.up[n] or kept[n]:
            continue
        width = np.int64(nodes.width[n])
        have = _usable(n, cpus[n], width, row, room)
        need = _cost(tasks, cpt, cpus_min, width)
        if have < need or (exclusive and not empty[n]):
            continue
        if not _bit(elig, n) or nodes.mem[n] < floor or nodes.tmp[n] < tmp:
            continue
        if not _memory_serves(mem_all, mem_node, mem_cpu, need, mem[n], nodes.mem[n], width):
            continue
        left = (_HALF - 1 - have) if least else (have - need)
        key = np.int64(nodes.rank[n]) * _HALF + left
        if key < best_key:
            best, best_key = n, key
    return best


@compiled
def _sorted_nodes(fit: Any, must: Any, first: Any, second: Any, out: Any) -> int:
    """Nodes with fit > 0: `must` first, the others by first, second, index.  `first`, `second` < 2**32."""
    count = 0
    for n in must:
        out[count] = n
        count += 1
    able = np.empty(len(fit), np.int64)
    keys = np.empty(len(fit), np.int64)
    rest = 0
    for n in range(len(fit)):
        if fit[n] <= 0:
            continue
        is_must = False
        for m in must:
            if m == n:
                is_must = True
        if not is_must:
            able[rest] = n
            keys[rest] = first[n] * (_HALF >> 1) + second[n]
            rest += 1
    order = np.argsort(keys[:rest], kind="mergesort")
    for i in range(rest):
        out[count + i] = able[order[i]]
    return count + rest


@compiled
def _several(rank: Any, fit: Any, must: Any, lo: Any, hi: Any, target: Any, total: Any, out: Any) -> Any:
    """Nodes for `total` tasks into `out`: by weight if that needs no more than `hi` nodes, else the largest first."""
    ranks = rank.astype(np.int64)
    sizes = (_HALF >> 1) - 1 - fit
    for attempt in range(2):
        found = _sorted_nodes(fit, must, ranks if attempt == 0 else sizes, sizes if attempt == 0 else ranks, out)
        tasks = np.int64(0)
        for i in range(found):
            tasks += fit[out[i]]
            if tasks >= total:
                count = max(i + 1, lo)
                if count <= min(hi, found):
                    return max(count, min(target, found))
                break
    return 0


@borrowing
def _neighbours(fit: Any, must: Any, lo: Any, hi: Any, target: Any, total: Any, out: Any) -> Any:
    size = len(fit)
    first_must, last_must = size, -1
    for m in must:
        first_must, last_must = min(first_must, m), max(last_must, m)
    best, start = size + 1, -1
    for i in range(size):
        if i > first_must:
            break
        tasks = np.int64(0)
        j = i
        while j < size and fit[j] > 0 and j - i < min(hi, best - 1):
            tasks += fit[j]
            j += 1
            if j - i >= lo and tasks >= total and j > last_must:
                best, start = j - i, i
                break
    if start < 0:
        return 0
    end = start + best
    while end < size and fit[end] > 0 and end - start < target:
        end += 1
    for n in range(start, end):
        out[n - start] = n
    return end - start


@compiled
def _share(fit: Any, chosen: Any, total: Any, spread: bool, tasks: Any) -> None:
    """Tasks of each chosen node: block by block, or evenly."""
    count = len(chosen)
    left = np.int64(total)
    if not spread:
        for i in range(count):
            tasks[i] = min(fit[chosen[i]], left - (count - 1 - i))
            left -= tasks[i]
        return
    sizes = np.empty(count, np.int64)
    for i in range(count):
        sizes[i] = fit[chosen[i]]
    order = np.argsort(sizes, kind="mergesort")
    for place in range(count):
        i = order[place]
        tasks[i] = min(sizes[i], left // (count - place))
        left -= tasks[i]


@compiled
def _select(s: int, fit: Any, use: Any, nodes: Any, shapes: Any, must: Any, out: Any, tasks: Any) -> Any:
    """Choose nodes for one copy: indexes ascending into `out`, tasks into `tasks`; how many, 0 = none."""
    size = len(fit)
    total = np.int64(shapes.tasks[s])
    lo = max(np.int64(shapes.nodes_lo[s]), np.int64(len(must)))
    hi = np.int64(shapes.nodes_hi[s]) if shapes.nodes_hi[s] > 0 else np.int64(size)
    if total > 0:
        hi = min(hi, total)
    target = max(lo, hi) if shapes.grow[s] else lo
    if lo > hi:
        return 0
    for m in must:
        if fit[m] <= 0:
            return 0
    able = np.int64(0)
    sum_fit = np.int64(0)
    for n in range(size):
        if fit[n] > 0:
            able += 1
            sum_fit += min(fit[n], total)
    if able < lo or sum_fit < total:
        return 0
    count: Any = 0
    if shapes.contiguous[s]:
        count = _neighbours(fit, must, lo, hi, target, total, out)
    elif total == 0:
        left = np.empty(size, np.int64)
        for n in range(size):
            if shapes.least[s]:
                left[n] = (_HALF >> 1) - 1 - use[n]
            elif fit[n] > 0:
                left[n] = use[n] - _cost(shapes.task_lo[s], shapes.cpt[s], shapes.cpus_min[s], np.int64(nodes.width[n]))
        count = min(target, _sorted_nodes(fit, must, nodes.rank.astype(np.int64), left, out))
        if count < lo:
            return 0
    else:
        if target == 1:
            best_key = _NEVER
            for n in range(size):
                if fit[n] < total or (len(must) > 0 and (len(must) > 1 or must[0] != n)):
                    continue
                if shapes.least[s]:
                    spare = _HALF - 1 - use[n]
                else:
                    spare = use[n] - _cost(total, shapes.cpt[s], shapes.cpus_min[s], np.int64(nodes.width[n]))
                key = np.int64(nodes.rank[n]) * _HALF + spare
                if key < best_key:
                    best_key = key
                    out[0] = n
                    count = 1
        if count == 0:
            count = _several(nodes.rank, fit, must, lo, hi, target, total, out)
    if count == 0:
        return 0
    out[:count].sort()
    if total == 0:
        for i in range(count):
            tasks[i] = shapes.task_lo[s]
    else:
        _share(fit, out[:count], total, shapes.spread[s], tasks)
    return count


@compiled
def _serves(s: int, fit: Any, use: Any, nodes: Any, shapes: Any, must: Any, out: Any, tasks: Any) -> bool:
    """Whether `_select` would find nodes; mostly without sorting them."""
    total = np.int64(shapes.tasks[s])
    lo = max(np.int64(shapes.nodes_lo[s]), np.int64(len(must)))
    hi = np.int64(shapes.nodes_hi[s]) if shapes.nodes_hi[s] > 0 else np.int64(len(fit))
    able = np.int64(0)
    sum_fit = np.int64(0)
    for n in range(len(fit)):
        if fit[n] > 0:
            able += 1
            sum_fit += min(fit[n], total)
    for m in must:
        if fit[m] <= 0:
            return False
    if able < lo or lo > hi or sum_fit < total:
        return False
    if not shapes.contiguous[s] and (total == 0 or (able <= hi and able <= total)):
        return True
    return bool(_select(s, fit, use, nodes, shapes, must, out, tasks) > 0)


@borrowing
def _take(
    s: int, n: int, tasks: Any, nodes: Any, shapes: Any, row: int, cpus: Any, mem: Any, empty: Any, room: Any
) -> Any:
    """Take one node's share; CPUs and MiB taken."""
    width = np.int64(nodes.width[n])
    took = np.int64(nodes.cpus[n])
    if not shapes.exclusive[s]:
        took = _cost(tasks, shapes.cpt[s], shapes.cpus_min[s], width)
    if shapes.mem_all[s]:
        memory = mem[n]
    elif shapes.mem_node[s] > 0:
        memory = shapes.mem_node[s]
    else:
        each = shapes.mem_cpu[s]
        if shapes.exclusive[s]:
            each = min(each, mem[n] // max(took, 1) + 1)
        memory = min(each * took, mem[n])
    cpus[n] -= took
    mem[n] -= memory
    empty[n] = False
    if row >= 0:
        room[row, n] -= took
    return took, memory


@compiled
def _failures(
    s: int, nodes: Any, shapes: Any, tables: Any, cpus: Any, mem: Any, empty: Any, kept: Any, room: Any, most: Any,
    counts: Any, only: Any,
) -> None:  # fmt: skip
    """Count the nodes of the partition by what they lack; `most`: tasks each would take if empty, up or not."""
    part = shapes.part[s]
    row = tables.part_room[part]
    cap = np.int64(1 << 62)
    if shapes.tasks[s] > 0:
        cap = max(np.int64(1), np.int64(shapes.tasks[s]) - np.int64(shapes.nodes_lo[s]) + 1)
    mem_all, mem_node, mem_cpu = shapes.mem_all[s], shapes.mem_node[s], shapes.mem_cpu[s]
    lacks = np.zeros(FAIL_COUNT, np.bool_)
    for n in range(len(cpus)):
        if not _bit(tables.part[part], n):
            continue
        lacks[:] = False
        width = np.int64(nodes.width[n])
        eligible = _bit(tables.elig[shapes.elig[s]], n)
        share = min(most[n], cap)
        lacks[FAIL_INELIGIBLE] = not eligible
        lacks[FAIL_SMALL] = eligible and share <= 0
        lacks[FAIL_DOWN] = not nodes.up[n]
        lacks[FAIL_KEPT] = kept[n]
        if share > 0:
            need = _cost(share, shapes.cpt[s], shapes.cpus_min[s], width)
            if shapes.exclusive[s]:
                lacks[FAIL_BUSY] = not empty[n]
            else:
                lacks[FAIL_CPUS] = _cores(cpus[n], width) < need
            lacks[FAIL_MEMORY] = not _memory_serves(mem_all, mem_node, mem_cpu, need, mem[n], nodes.mem[n], width)
            if row >= 0:
                lacks[FAIL_ROOM] = _cores(room[row, n], width) < need
        lacking = 0
        for f in range(FAIL_COUNT):
            if lacks[f]:
                counts[f] += 1
                lacking += 1
        if lacking == 1:
            for f in range(FAIL_COUNT):
                if lacks[f]:
                    only[f] += 1


@borrowing
def _copies(s: int, n: int, need: Any, nodes: Any, shapes: Any, row: int, cpus: Any, mem: Any, room: Any) -> Any:
    """How many one-node copies of `need` CPUs the node takes, given that it takes one."""
    if shapes.exclusive[s] or shapes.mem_all[s]:
        return np.int64(1)
    width = np.int64(nodes.width[n])
    copies = _usable(n, cpus[n], width, row, room) // need
    if shapes.mem_node[s] > 0:
        copies = min(copies, mem[n] // shapes.mem_node[s])
    elif shapes.mem_cpu[s] > 0:
        copies = min(copies, _cores(mem[n] // shapes.mem_cpu[s], width) // need)
    return copies


@entry
def _plan(nodes: Any, shapes: Any, tables: Any, queue: Any, starts_max: int, blockers_max: int) -> Any:
    size = len(nodes.cpus)
    entries = len(queue.shape)
    parts = len(tables.part_gate)
    cpus = nodes.free_cpus.astype(np.int64)
    mem = nodes.free_mem.copy()
    empty = nodes.empty.copy()
    room = tables.room.astype(np.int64)
    kept = np.zeros(size, np.bool_)
    all_cpus = nodes.cpus.astype(np.int64)
    all_room = np.empty(tables.room.shape, np.int64)
    for row in range(all_room.shape[0]):
        all_room[row, :] = tables.room_cap[row]
    yes = np.ones(size, np.bool_)
    able = np.empty(size, np.bool_)
    fit = np.empty(size, np.int64)
    use = np.empty(size, np.int64)
    out = np.empty(size + 1, np.int64)
    tasks = np.empty(size + 1, np.int64)
    code = np.zeros(len(queue.starts), np.int8)
    left = queue.starts.copy()
    failed = np.zeros(len(shapes.part), np.int8)
    blocked = np.zeros(parts, np.bool_)

    gates = np.zeros(entries, np.int8)
    present = np.zeros(parts, np.bool_)
    for e in range(entries):
        s = queue.shape[e]
        part = shapes.part[s]
        gate = np.int8(0)
        if tables.part_gate[part] > 0:
            gate = tables.part_gate[part]
        elif shapes.gate[s] > 0:
            gate = shapes.gate[s]
        else:
            longest, limit = tables.part_time[part], queue.limit_s[e]
            if longest > 0 and (limit == 0 or limit > longest):
                gate = np.int8(TIME_LIMIT)
            else:
                present[part] = True
        gates[e] = gate
    unblocked = 0
    for part in range(parts):
        if present[part]:
            unblocked += 1

    starts = 0
    given = 0
    room_for = starts_max + size
    start_entry = np.empty(starts_max, np.int32)
    ptr = np.zeros(starts_max + 1, np.int32)
    a_node = np.empty(room_for, np.int32)
    a_cpus = np.empty(room_for, np.int32)
    a_mem = np.empty(room_for, np.int64)
    block_entry = np.empty(blockers_max, np.int32)
    fails = np.zeros((blockers_max, FAIL_COUNT), np.int32)
    only = np.zeros((blockers_max, FAIL_COUNT), np.int32)
    blockers = 0
    tested = 0
    truncated = False
    again = False
    no_room = np.full(tables.room.shape, (1 << 31) - 1, np.int64)
    for e in range(entries):
        s = queue.shape[e]
        job = queue.job[e]
        part = shapes.part[s]
        if left[job] <= 0:
            continue
        if gates[e] > 0:
            code[job] = max(code[job], gates[e])
            continue
        if unblocked == 0 or blocked[part]:
            code[job] = max(code[job], np.int8(PRIORITY))
            continue
        verdict = failed[s]
        if verdict == 0:
            tested += 1
        row = tables.part_room[part]
        must = tables.must[shapes.must_at[s] : shapes.must_at[s] + shapes.must_n[s]]
        lo = np.int64(shapes.nodes_lo[s])
        hi = np.int64(shapes.nodes_hi[s]) if shapes.nodes_hi[s] > 0 else np.int64(size)
        if shapes.tasks[s] > 0:
            hi = min(hi, np.int64(shapes.tasks[s]))
        one = np.int64(shapes.tasks[s]) if shapes.tasks[s] > 0 else np.int64(shapes.task_lo[s])
        single = (
            lo == 1
            and hi >= 1
            and (hi == 1 or not shapes.grow[s])
            and len(must) == 0
            and not shapes.contiguous[s]
            and one <= shapes.task_hi[s]
        )
        was_blocked = code[job] >= PRIORITY  # in another of its partitions
        while verdict == 0 and left[job] > 0:
            if starts >= starts_max or given >= starts_max * SHARES_PER_START:
                truncated = True
                break
            if single:
                n = _one_node(s, one, nodes, shapes, tables, cpus, mem, empty, kept, room)
                if n >= 0:
                    copies = np.int64(1)
                    if left[job] > 1 and not shapes.least[s]:
                        need = _cost(one, shapes.cpt[s], shapes.cpus_min[s], np.int64(nodes.width[n]))
                        copies = _copies(s, n, need, nodes, shapes, row, cpus, mem, room)
                        bound = min(starts_max - starts, starts_max * SHARES_PER_START - given)
                        copies = max(np.int64(1), min(copies, np.int64(left[job]), np.int64(bound)))
                    if given + copies + size > len(a_node):
                        a_node = np.concatenate((a_node, np.empty(len(a_node) + size, np.int32)))
                        a_cpus = np.concatenate((a_cpus, np.empty(len(a_cpus) + size, np.int32)))
                        a_mem = np.concatenate((a_mem, np.empty(len(a_mem) + size, np.int64)))
                    again = again or was_blocked
                    for _ in range(copies):
                        took, memory = _take(s, n, one, nodes, shapes, row, cpus, mem, empty, room)
                        a_node[given], a_cpus[given], a_mem[given] = n, took, memory
                        given += 1
                        start_entry[starts] = e
                        starts += 1
                        ptr[starts] = given
                    left[job] -= copies
                    continue
            count = 0
            if not single or shapes.tasks[s] > 1:
                for n in range(size):
                    able[n] = nodes.up[n] and not kept[n]
                _fit(s, nodes, shapes, tables, cpus, mem, empty, able, room, fit, use)
                count = _select(s, fit, use, nodes, shapes, must, out, tasks)
            if count == 0:
                _fit(s, nodes, shapes, tables, cpus, mem, empty, nodes.up, room, fit, use)
                if _serves(s, fit, use, nodes, shapes, must, out, tasks):
                    verdict = np.int8(PRIORITY)
                else:
                    _fit(s, nodes, shapes, tables, all_cpus, nodes.mem, yes, nodes.up, all_room, fit, use)
                    if _serves(s, fit, use, nodes, shapes, must, out, tasks):
                        verdict = np.int8(RESOURCES)
                    else:
                        _fit(s, nodes, shapes, tables, all_cpus, nodes.mem, yes, yes, all_room, fit, use)
                        if not _serves(s, fit, use, nodes, shapes, must, out, tasks):
                            verdict = np.int8(BAD)
                        elif len(must) > 0:
                            verdict = np.int8(REQUIRED_DOWN)
                        else:
                            verdict = np.int8(UNAVAILABLE)
                failed[s] = verdict
                if verdict in (RESOURCES, PRIORITY) and blockers < blockers_max:
                    _fit(s, nodes, shapes, tables, all_cpus, nodes.mem, yes, yes, all_room, fit, use)
                    _failures(
                        s, nodes, shapes, tables, cpus, mem, empty, kept, room, fit, fails[blockers], only[blockers]
                    )
                    block_entry[blockers] = e
                    blockers += 1
                break
            if given + count + size > len(a_node):
                a_node = np.concatenate((a_node, np.empty(len(a_node) + size, np.int32)))
                a_cpus = np.concatenate((a_cpus, np.empty(len(a_cpus) + size, np.int32)))
                a_mem = np.concatenate((a_mem, np.empty(len(a_mem) + size, np.int64)))
            again = again or was_blocked
            for i in range(count):
                n = out[i]
                took, memory = _take(s, n, tasks[i], nodes, shapes, row, cpus, mem, empty, room)
                a_node[given], a_cpus[given], a_mem[given] = n, took, memory
                given += 1
            start_entry[starts] = e
            starts += 1
            ptr[starts] = given
            left[job] -= 1
        if truncated:
            break
        if left[job] <= 0:
            code[job] = np.int8(STARTED)
            continue
        code[job] = max(code[job], verdict)
        if verdict in (RESOURCES, PRIORITY):
            if len(must) >= lo:
                for m in must:
                    kept[m] = True
            else:
                only_room = False
                if row >= 0:
                    _fit(s, nodes, shapes, tables, cpus, mem, empty, nodes.up, no_room, fit, use)
                    only_room = _serves(s, fit, use, nodes, shapes, must, out, tasks)
                if not only_room:
                    for n in range(size):
                        if _bit(tables.part[part], n):
                            kept[n] = True
                blocked[part] = True
                unblocked -= 1
    return (
        start_entry[:starts].copy(),
        ptr[: starts + 1].copy(),
        a_node[:given].copy(),
        a_cpus[:given].copy(),
        a_mem[:given].copy(),
        code,
        block_entry[:blockers].copy(),
        fails[:blockers].copy(),
        only[:blockers].copy(),
        tested,
        truncated or again,
    )


def plan_fifo(
    nodes: NodeArrays, shapes: ShapeArrays, tables: TableArrays, queue: QueueArrays, starts_max: int
) -> PlanArrays:
    """One pass over the queue; see `reference.plan_fifo`."""
    return PlanArrays._make(_plan(nodes, shapes, tables, queue, starts_max, len(tables.part_gate) + _BLOCKERS))
