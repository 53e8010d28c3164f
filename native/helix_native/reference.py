"""The specification of the kernels, in numpy.  Slow, plain, and used until the compiled ones are warm.

`plan_fifo` walks the queue in its order and starts what fits.  A job that does not fit now but would if running jobs
ended blocks its partition, and its nodes for every job behind it in other partitions too.  One that names its nodes
keeps only those, and one that only its partition's own CPU limit holds back keeps none.  A job that could not start
even then (nodes down, nothing big enough) blocks nobody.

A node takes `t` tasks of a shape if `max(t * cpt, cpus_min)` CPUs, rounded up to whole cores, and the memory that
goes with them are free.  Nodes are chosen by weight, then least CPUs left over, then index.  Tasks fill one node
after the other in index order, each later node keeping at least one (`--distribution=block`), or evenly with spread.
Nothing is written but the result.  Cost: O(nodes) numpy operations for each entry that is tried.
"""

from __future__ import annotations

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
    Flags,
    Int8,
    Int32,
    Int64,
    NodeArrays,
    PlanArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
    unpack_bits,
)

Chosen = tuple[Int64, Int64]  #: node indexes, ascending, and the tasks on each


class Pass:
    """Working copies of one pass: what is free shrinks, what is kept grows."""

    def __init__(self, nodes: NodeArrays, shapes: ShapeArrays, tables: TableArrays) -> None:
        self.nodes = nodes
        self.shapes = shapes
        self.tables = tables
        self.size = len(nodes.cpus)
        self.width = nodes.width.astype(np.int64)
        self.cpus = nodes.free_cpus.astype(np.int64)
        self.mem = nodes.free_mem.astype(np.int64)
        self.empty = nodes.empty.copy()
        self.room = tables.room.astype(np.int64)
        self.kept = np.zeros(self.size, np.bool_)

    def eligible(self, s: int) -> Flags:
        """Nodes that partition, exclusion, features and configured disk and memory allow."""
        able = unpack_bits(self.tables.elig[self.shapes.elig[s]], self.size)
        able &= (self.nodes.mem >= self.shapes.mem_floor[s]) & (self.nodes.tmp >= self.shapes.tmp[s])
        return able

    def must(self, s: int) -> Int64:
        """Nodes the shape names."""
        at = int(self.shapes.must_at[s])
        return self.tables.must[at : at + int(self.shapes.must_n[s])].astype(np.int64)

    def usable(self, s: int, cpus: Int64, *, full: bool) -> Int64:
        """CPUs the partition's limit leaves of `cpus`, in whole cores; `full`: as if no job ran."""
        row = int(self.tables.part_room[self.shapes.part[s]])
        if row >= 0:
            cpus = np.minimum(cpus, int(self.tables.room_cap[row]) if full else self.room[row])
        return np.maximum(cpus, 0) // self.width * self.width

    def fit(self, s: int, able: Flags, cpus: Int64, mem: Int64, empty: Flags) -> Int64:
        """Tasks of shape `s` each node takes with these CPUs and this memory; 0 where it cannot be part.  [N]"""
        sh = self.shapes
        lo, cpt = int(sh.task_lo[s]), int(sh.cpt[s])
        need = self.cost(s, lo)
        tasks = cpus // cpt
        good = able & (cpus >= need)
        if sh.mem_all[s]:
            good &= mem >= self.nodes.mem
        elif sh.mem_node[s] > 0:
            good &= mem >= sh.mem_node[s]
        elif sh.mem_cpu[s] > 0:
            by_mem = mem // int(sh.mem_cpu[s]) // self.width * self.width
            good &= by_mem >= need
            tasks = np.minimum(tasks, by_mem // cpt)
        if sh.exclusive[s]:
            good &= empty
        tasks = np.minimum(tasks, int(sh.task_hi[s]))
        return np.where(good & (tasks >= lo), tasks, 0)

    def fit_now(self, s: int, *, kept: bool) -> Int64:
        """`fit` with what is free; `kept`: also on nodes kept for others."""
        able = self.eligible(s) & self.nodes.up
        if not kept:
            able &= ~self.kept
        return self.fit(s, able, self.usable(s, self.cpus, full=False), self.mem, self.empty)

    def only_room(self, s: int) -> bool:
        """True if nothing but the partition's CPU limit on nodes keeps the shape from starting."""
        if self.tables.part_room[self.shapes.part[s]] < 0:
            return False
        cpus = self.cpus // self.width * self.width
        fit = self.fit(s, self.eligible(s) & self.nodes.up, cpus, self.mem, self.empty)
        return self.select(s, fit, cpus) is not None

    def fit_empty(self, s: int, *, down: bool) -> Int64:
        """`fit` as if no job ran; `down`: also on nodes that are down or drained."""
        able = self.eligible(s)
        if not down:
            able &= self.nodes.up
        cpus = self.usable(s, self.nodes.cpus.astype(np.int64), full=True)
        return self.fit(s, able, cpus, self.nodes.mem, np.ones(self.size, np.bool_))

    def cost(self, s: int, tasks: int | Int64) -> Int64:
        """CPUs that `tasks` tasks take on each node, whole cores.  [N]"""
        cpus = np.maximum(tasks * np.int64(self.shapes.cpt[s]), int(self.shapes.cpus_min[s]))
        return -(-cpus // self.width) * self.width

    def select(self, s: int, fit: Int64, cpus: Int64) -> Chosen | None:
        """Choose nodes for one copy of shape `s` given the tasks each could take, or None."""
        sh = self.shapes
        total = int(sh.tasks[s])
        must = self.must(s)
        lo, hi = max(int(sh.nodes_lo[s]), len(must)), int(sh.nodes_hi[s]) or self.size
        if total:
            hi = min(hi, total)
        target = max(lo, hi) if sh.grow[s] else lo
        if lo > hi or not (fit[must] > 0).all():
            return None
        if sh.contiguous[s]:
            found = self._neighbours(fit, must, lo, hi, target, total)
        elif not total:
            left = -cpus if sh.least[s] else cpus - self.cost(s, int(sh.task_lo[s]))
            found = self._ranked(fit, must, left)[:target]
            found = found if len(found) >= lo else None
        else:
            found = self._single(s, fit, cpus, must, total) if target == 1 else None
            if found is None:
                found = self._several(fit, must, lo, hi, target, total)
        if found is None:
            return None
        chosen = np.sort(found)
        if not total:
            return chosen, np.full(len(chosen), int(sh.task_lo[s]), np.int64)
        return chosen, share_evenly(fit[chosen], total) if sh.spread[s] else share_block(fit[chosen], total)

    def _ranked(self, fit: Int64, must: Int64, second: Int64) -> Int64:
        able = np.flatnonzero(fit)
        order = able[np.lexsort((second[able], self.nodes.rank[able]))]
        return np.concatenate([must, order[~np.isin(order, must)]])

    def _single(self, s: int, fit: Int64, cpus: Int64, must: Int64, total: int) -> Int64 | None:
        able = np.flatnonzero(fit >= total)
        if len(must):
            able = able[np.isin(able, must)]
        if not len(able) or len(must) > 1:
            return None
        left = -cpus if self.shapes.least[s] else cpus - self.cost(s, total)
        return able[np.lexsort((left[able], self.nodes.rank[able]))][:1]

    def _several(self, fit: Int64, must: Int64, lo: int, hi: int, target: int, total: int) -> Int64 | None:
        able = np.flatnonzero(fit)
        by_weight = self._ranked(fit, must, -fit)
        by_size = able[np.lexsort((self.nodes.rank[able], -fit[able]))]
        by_size = np.concatenate([must, by_size[~np.isin(by_size, must)]])
        for order in (by_weight, by_size):
            enough = np.flatnonzero(np.cumsum(fit[order]) >= total)
            if len(enough):
                count = max(int(enough[0]) + 1, lo)
                if count <= min(hi, len(order)):
                    return order[: max(count, min(target, len(order)))]
        return None

    def _neighbours(self, fit: Int64, must: Int64, lo: int, hi: int, target: int, total: int) -> Int64 | None:
        first_must = int(must.min()) if len(must) else self.size
        last_must = int(must.max()) if len(must) else -1
        best, start = self.size + 1, -1
        for i in range(self.size):
            if i > first_must:
                break
            tasks, j = 0, i
            while j < self.size and fit[j] > 0 and j - i < min(hi, best - 1):
                tasks += int(fit[j])
                j += 1
                if j - i >= lo and tasks >= total and j > last_must:
                    best, start = j - i, i
                    break
        if start < 0:
            return None
        end = start + best
        while end < self.size and fit[end] > 0 and end - start < target:
            end += 1
        return np.arange(start, end, dtype=np.int64)

    def take(self, s: int, chosen: Chosen) -> tuple[Int64, Int64]:
        """Take the resources of one copy; what was taken on each node: CPUs, MiB."""
        sh = self.shapes
        at, tasks = chosen
        cpus = (
            self.nodes.cpus[at].astype(np.int64)
            if sh.exclusive[s]
            else -(-np.maximum(tasks * int(sh.cpt[s]), int(sh.cpus_min[s])) // self.width[at]) * self.width[at]
        )
        if sh.mem_all[s]:
            mem = self.mem[at].copy()
        elif sh.mem_node[s] > 0:
            mem = np.full(len(at), int(sh.mem_node[s]), np.int64)
        else:
            each: Int64 = np.full(len(at), int(sh.mem_cpu[s]), np.int64)
            if sh.exclusive[s]:  # all CPUs are taken, not all of them are used: memory at most what is there
                each = np.minimum(each, self.mem[at] // np.maximum(cpus, 1) + 1)
            mem = np.minimum(each * cpus, self.mem[at])
        self.cpus[at] -= cpus
        self.mem[at] -= mem
        self.empty[at] = False
        row = int(self.tables.part_room[sh.part[s]])
        if row >= 0:
            self.room[row, at] -= cpus
        return cpus, mem

    def failures(self, s: int) -> tuple[Int32, Int32]:
        """Nodes of the shape's partition by what they lack, and those that lack only that.  [FAIL_COUNT]"""
        masks = self.failure_masks(s)
        lacking = masks.sum(axis=0)
        return (
            masks.sum(axis=1).astype(np.int32),
            (masks & (lacking == 1)).sum(axis=1).astype(np.int32),
        )

    def failure_masks(self, s: int) -> Flags:
        """For each cause, the nodes of the partition it holds for.  [FAIL_COUNT, N]

        A node is asked for its share: the tasks it would take if it were empty, at most all of them.
        """
        sh, nodes = self.shapes, self.nodes
        masks = np.zeros((FAIL_COUNT, self.size), np.bool_)
        member = unpack_bits(self.tables.part[sh.part[s]], self.size)
        eligible = unpack_bits(self.tables.elig[sh.elig[s]], self.size)
        most = self.fit_empty(s, down=True)
        share = np.minimum(most, max(1, int(sh.tasks[s]) - int(sh.nodes_lo[s]) + 1)) if sh.tasks[s] else most
        able = share > 0
        need = np.where(able, self.cost(s, share), 0)
        masks[FAIL_INELIGIBLE] = member & ~eligible
        masks[FAIL_SMALL] = member & eligible & ~able
        masks[FAIL_DOWN] = member & ~nodes.up
        masks[FAIL_KEPT] = member & self.kept
        asked = member & able
        if sh.exclusive[s]:
            masks[FAIL_BUSY] = asked & ~self.empty
        else:
            masks[FAIL_CPUS] = asked & (self.cpus // self.width * self.width < need)
        if sh.mem_all[s]:
            masks[FAIL_MEMORY] = asked & (self.mem < nodes.mem)
        elif sh.mem_node[s] > 0:
            masks[FAIL_MEMORY] = asked & (self.mem < sh.mem_node[s])
        elif sh.mem_cpu[s] > 0:
            masks[FAIL_MEMORY] = asked & (self.mem // int(sh.mem_cpu[s]) // self.width * self.width < need)
        row = int(self.tables.part_room[sh.part[s]])
        if row >= 0:
            masks[FAIL_ROOM] = asked & (np.maximum(self.room[row], 0) // self.width * self.width < need)
        return masks

    def classify(self, s: int) -> int:
        """Why a shape that found no nodes waits."""
        if self.select(s, self.fit_now(s, kept=True), self.usable(s, self.cpus, full=False)) is not None:
            return PRIORITY
        total = self.usable(s, self.nodes.cpus.astype(np.int64), full=True)
        if self.select(s, self.fit_empty(s, down=False), total) is not None:
            return RESOURCES
        if self.select(s, self.fit_empty(s, down=True), total) is not None:
            return REQUIRED_DOWN if self.shapes.must_n[s] else UNAVAILABLE
        return BAD


def share_block(fit: Int64, total: int) -> Int64:
    """Tasks filled in one node after the other, leaving at least one for each later node.  sum(fit) >= total."""
    tasks = np.zeros(len(fit), np.int64)
    left = total
    for i in range(len(fit)):
        tasks[i] = min(int(fit[i]), left - (len(fit) - 1 - i))
        left -= int(tasks[i])
    return tasks


def share_evenly(fit: Int64, total: int) -> Int64:
    """Tasks spread as evenly as the nodes allow; remainders go to the nodes that can take most."""
    tasks = np.zeros(len(fit), np.int64)
    left = total
    order = np.argsort(fit, kind="stable")
    for place, i in enumerate(order):
        tasks[i] = min(int(fit[i]), left // (len(fit) - place))
        left -= int(tasks[i])
    return tasks


def entry_gates(shapes: ShapeArrays, tables: TableArrays, queue: QueueArrays) -> Int8:
    """For each entry 0, or the code that keeps it from being tried: partition, node limit, time limit.  [E]"""
    part = shapes.part[queue.shape]
    longest = tables.part_time[part]
    over = (longest > 0) & ((queue.limit_s == 0) | (queue.limit_s > longest))
    gates = np.where(over, TIME_LIMIT, 0)
    own = shapes.gate[queue.shape]
    gates = np.where(own > 0, own, gates)
    closed = tables.part_gate[part]
    return np.where(closed > 0, closed, gates).astype(np.int8)


def plan_fifo(
    nodes: NodeArrays, shapes: ShapeArrays, tables: TableArrays, queue: QueueArrays, starts_max: int
) -> PlanArrays:
    """One pass over the queue; at most `starts_max` starts, on about SHARES_PER_START times as many nodes."""
    work = Pass(nodes, shapes, tables)
    part_of = shapes.part[queue.shape]
    gates = entry_gates(shapes, tables, queue)
    code = np.zeros(len(queue.starts), np.int8)
    left = queue.starts.copy()
    failed: dict[int, int] = {}  # shape -> code: what failed once in a pass fails again
    blocked = np.zeros(len(tables.part_gate), np.bool_)
    unblocked = len(np.unique(part_of[gates == 0]))
    starts: list[tuple[int, Int64, Int64, Int64]] = []
    blockers: list[int] = []
    fails: list[tuple[Int32, Int32]] = []
    tested = given = 0
    truncated = again = False
    for e in range(len(queue.shape)):
        if unblocked == 0:
            tail = np.where(gates[e:] > 0, gates[e:], PRIORITY).astype(np.int8)
            tail = np.where(left[queue.job[e:]] > 0, tail, 0).astype(np.int8)
            np.maximum.at(code, queue.job[e:], tail)
            break
        s, job, part = int(queue.shape[e]), int(queue.job[e]), int(part_of[e])
        if left[job] <= 0:
            continue
        if gates[e]:
            code[job] = max(int(code[job]), int(gates[e]))
            continue
        if blocked[part]:
            code[job] = max(int(code[job]), PRIORITY)
            continue
        verdict = failed.get(s, 0)
        if not verdict:
            tested += 1
        while not verdict and left[job] > 0:
            if len(starts) >= starts_max or given >= starts_max * SHARES_PER_START:
                truncated = True
                break
            cpus = work.usable(s, work.cpus, full=False)
            chosen = work.select(s, work.fit_now(s, kept=False), cpus)
            if chosen is None:
                verdict = failed[s] = work.classify(s)
                if verdict in (RESOURCES, PRIORITY):
                    blockers.append(e)
                    fails.append(work.failures(s))
                break
            again = again or code[job] >= PRIORITY
            starts.append((e, chosen[0], *work.take(s, chosen)))
            given += len(chosen[0])
            left[job] -= 1
        if truncated:
            break
        if left[job] <= 0:
            code[job] = STARTED
            continue
        code[job] = max(int(code[job]), verdict)
        if verdict in (RESOURCES, PRIORITY):
            must = work.must(s)
            if len(must) >= shapes.nodes_lo[s]:
                work.kept[must] = True
            else:
                if not work.only_room(s):
                    work.kept |= unpack_bits(tables.part[part], work.size)
                blocked[part] = True
                unblocked -= 1
    return _result(starts, code, blockers, fails, tested, truncated or bool(again))


def _result(
    starts: list[tuple[int, Int64, Int64, Int64]],
    code: Int8,
    blockers: list[int],
    fails: list[tuple[Int32, Int32]],
    tested: int,
    truncated: bool,
) -> PlanArrays:
    none = np.zeros(0, np.int64)
    return PlanArrays(
        start_entry=np.array([s[0] for s in starts], np.int32),
        ptr=np.concatenate([[0], np.cumsum([len(s[1]) for s in starts], dtype=np.int64)]).astype(np.int32),
        node=np.concatenate([none, *(s[1] for s in starts)]).astype(np.int32),
        cpus=np.concatenate([none, *(s[2] for s in starts)]).astype(np.int32),
        mem=np.concatenate([none, *(s[3] for s in starts)]),
        code=code,
        block_entry=np.array(blockers, np.int32),
        block_fails=np.array([f[0] for f in fails], np.int32).reshape(-1, FAIL_COUNT),
        block_only=np.array([f[1] for f in fails], np.int32).reshape(-1, FAIL_COUNT),
        tested=tested,
        truncated=truncated,
    )
