"""Random planner inputs as arrays, and a plain-Python checker that shares no code with the kernels."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np

from helix_native.arrays import (
    BAD,
    CPUS_MAX,
    DOWN,
    MEM_MAX,
    PRIORITY,
    REQUIRED_DOWN,
    RESOURCES,
    STARTED,
    TIME_LIMIT,
    UNAVAILABLE,
    NodeArrays,
    PlanArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
    empty_shapes,
    pack_bits,
    unpack_bits,
)


@dataclass
class Case:
    """Everything `plan_fifo` takes."""

    nodes: NodeArrays
    shapes: ShapeArrays
    tables: TableArrays
    queue: QueueArrays
    starts_max: int

    @property
    def args(self) -> tuple[NodeArrays, ShapeArrays, TableArrays, QueueArrays, int]:
        return self.nodes, self.shapes, self.tables, self.queue, self.starts_max


def random_case(seed: int, *, nodes_max: int = 6, entries_max: int = 12, huge: bool = False) -> Case:
    """A small cluster and queue; `huge` mixes in numbers at the limits of their types."""
    rng = random.Random(seed)
    count = rng.randint(0, nodes_max)
    parts = rng.randint(1, 3)
    i32, i64, i8 = np.int32, np.int64, np.int8

    def some(values: list[int]) -> list[int]:
        return [rng.choice(values) for _ in range(count)]

    width = np.array(some([1, 1, 2]), i32)
    cores = np.array(some([1, 2, 4] if not huge else [1, 4, CPUS_MAX // 2]), i64)
    cpus = (cores * width).astype(i32)
    mem = np.array(some([1, 10, 100] if not huge else [10, MEM_MAX - 1, MEM_MAX]), i64)
    busy = np.array(some([0, 0, 1]), np.bool_)
    free_cores = np.array([rng.randint(0, int(c)) if b else int(c) for c, b in zip(cores, busy, strict=True)], i64)
    free_mem = np.array([rng.randint(0, int(m)) if b else int(m) for m, b in zip(mem, busy, strict=True)], i64)
    nodes = NodeArrays(
        cpus=cpus,
        width=width,
        mem=mem,
        tmp=np.array(some([0, 5]), i64),
        rank=np.array(some([0, 0, 1]), i32),
        up=np.array(some([1, 1, 1, 0]), np.bool_),
        free_cpus=(free_cores * width).astype(i32),
        free_mem=free_mem,
        empty=~busy,
    )
    members = [np.array(some([1, 1, 0]), np.bool_) for _ in range(parts)]
    part_bits = np.stack([pack_bits(m) for m in members])
    limited = [p for p in range(parts) if rng.random() < 0.2]
    part_room = np.full(parts, -1, i32)
    part_room[limited] = np.arange(len(limited))
    caps = [rng.randint(1, 6) for _ in limited]
    room = np.array([[rng.randint(0, cap) for _ in range(count)] for cap in caps], i32).reshape(len(caps), count)

    size = rng.randint(1, 5)
    shapes = empty_shapes(size)
    elig, must = [], []
    for s in range(size):
        part = rng.randrange(parts)
        shapes.part[s] = part
        elig.append(pack_bits(members[part] & np.array(some([1, 1, 1, 0]), np.bool_)))
        shapes.elig[s] = s
        shapes.gate[s] = rng.choice([0] * 9 + [BAD])
        lo = rng.choice([1, 1, 1, 2, 3])
        shapes.nodes_lo[s] = lo
        shapes.nodes_hi[s] = rng.choice([0, lo, lo, lo + 1, lo + 2])
        shapes.grow[s] = shapes.nodes_hi[s] > lo and rng.random() < 0.5
        shapes.contiguous[s] = rng.random() < 0.15
        shapes.least[s] = rng.random() < 0.15
        shapes.exclusive[s] = rng.random() < 0.2
        shapes.cpt[s] = rng.choice([1, 1, 2, 3] if not huge else [1, 3, CPUS_MAX])
        if rng.random() < 0.5:
            shapes.tasks[s] = max(lo, rng.choice([1, 2, 3, 5, 8] if not huge else [1, 5, CPUS_MAX]))
            shapes.task_lo[s] = 1
            shapes.task_hi[s] = rng.choice([int(shapes.tasks[s]), 1, 2])
            shapes.spread[s] = rng.random() < 0.3
        else:
            shapes.task_lo[s] = shapes.task_hi[s] = rng.choice([1, 1, 2] if not huge else [1, CPUS_MAX])
        memory = rng.choice(["node", "cpu", "all", "none"])
        if memory == "node":
            shapes.mem_node[s] = rng.choice([1, 5, 50] if not huge else [1, MEM_MAX])
            shapes.cpus_min[s] = rng.choice([0, 0, 3])
        elif memory == "cpu":
            shapes.mem_cpu[s] = rng.choice([1, 5] if not huge else [1, MEM_MAX])
        elif memory == "all":
            shapes.mem_all[s] = True
        shapes.mem_floor[s] = rng.choice([0, 0, 10])
        shapes.tmp[s] = rng.choice([0, 0, 0, 5])
        named = rng.sample(range(count), min(count, rng.choice([0, 0, 0, 1, 2])))
        if len(named) <= (shapes.nodes_hi[s] or count):
            shapes.must_at[s], shapes.must_n[s] = len(must), len(named)
            must.extend(named)
    tables = TableArrays(
        elig=np.stack(elig),
        part=part_bits,
        part_gate=np.array([rng.choice([0] * 8 + [DOWN]) for _ in range(parts)], i8),
        part_time=np.array([rng.choice([0, 0, 100]) for _ in range(parts)], i64),
        part_room=part_room,
        room=room,
        room_cap=np.array(caps, i32),
        must=np.array(must, i32),
    )
    entries = rng.randint(0, entries_max)
    jobs = rng.randint(1, max(1, entries))
    queue = QueueArrays(
        shape=np.array([rng.randrange(size) for _ in range(entries)], i32),
        job=np.array([rng.randrange(jobs) for _ in range(entries)], i32),
        limit_s=np.array([rng.choice([0, 50, 200]) for _ in range(entries)], i64),
        starts=np.array([rng.choice([0, 1, 1, 1, 5, 40]) for _ in range(jobs)], i32),
    )
    return Case(nodes, shapes, tables, queue, rng.choice([1, 3, 1000]))


def same_plan(a: PlanArrays, b: PlanArrays) -> bool:
    """Equal in every array."""
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


class Checker:
    """Replays a plan start by start with Python ints and asserts every rule; then checks every reason."""

    def __init__(self, case: Case) -> None:
        self.case = case
        nodes, tables = case.nodes, case.tables
        self.size = len(nodes.cpus)
        self.cpus = [int(x) for x in nodes.free_cpus]
        self.mem = [int(x) for x in nodes.free_mem]
        self.empty = [bool(x) for x in nodes.empty]
        self.room = [[int(x) for x in row] for row in tables.room]
        self.elig = [unpack_bits(row, self.size) for row in tables.elig]
        self.member = [unpack_bits(row, self.size) for row in tables.part]

    def most(self, s: int, n: int, *, cpus: int, mem: int, empty: bool, room: int | None) -> int:
        """Tasks of shape s that node n takes with these resources, by counting up."""
        sh, nodes = self.case.shapes, self.case.nodes
        width, total_mem = int(nodes.width[n]), int(nodes.mem[n])
        if not self.elig[sh.elig[s]][n] or total_mem < sh.mem_floor[s] or nodes.tmp[n] < sh.tmp[s]:
            return 0
        if sh.exclusive[s] and not empty:
            return 0
        if sh.mem_all[s] and mem < total_mem:
            return 0
        if not sh.mem_all[s] and sh.mem_node[s] > 0 and mem < sh.mem_node[s]:
            return 0
        usable = cpus if room is None else min(cpus, max(room, 0))
        usable = usable // width * width
        lo, hi, cpt = int(sh.task_lo[s]), int(sh.task_hi[s]), int(sh.cpt[s])
        by_cpu = not sh.mem_all[s] and sh.mem_node[s] <= 0 and sh.mem_cpu[s] > 0

        def holds(tasks: int) -> bool:
            need = -(-max(tasks * cpt, int(sh.cpus_min[s])) // width) * width
            return need <= usable and (not by_cpu or need * int(sh.mem_cpu[s]) <= mem)

        if not holds(lo):
            return 0
        low, high = lo, hi
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if holds(middle) else (low, middle - 1)
        return low

    def fits_somewhere(self, s: int, most: list[int]) -> bool:
        """Whether any set of nodes serves shape s, by trying every set."""
        sh = self.case.shapes
        total, lo = int(sh.tasks[s]), int(sh.nodes_lo[s])
        hi = int(sh.nodes_hi[s]) or self.size
        if total:
            hi = min(hi, total)
        at = int(sh.must_at[s])
        must = {int(n) for n in self.case.tables.must[at : at + int(sh.must_n[s])]}
        able = [n for n in range(self.size) if most[n] > 0]
        for count in range(lo, min(hi, len(able)) + 1):
            for chosen in itertools.combinations(able, count):
                if not must <= set(chosen):
                    continue
                if sh.contiguous[s] and chosen[-1] - chosen[0] + 1 != count:
                    continue
                if not total or sum(most[n] for n in chosen) >= total:
                    return True
        return False

    def room_of(self, s: int, n: int) -> int | None:
        row = int(self.case.tables.part_room[self.case.shapes.part[s]])
        return None if row < 0 else self.room[row][n]

    def check(self, plan: PlanArrays) -> None:
        """Capacity, membership, counts; then the reasons."""
        case, sh, nodes = self.case, self.case.shapes, self.case.nodes
        left = [int(x) for x in case.queue.starts]
        assert len(plan.start_entry) <= case.starts_max
        for i, e in enumerate(plan.start_entry.tolist()):
            s, job = int(case.queue.shape[e]), int(case.queue.job[e])
            left[job] -= 1
            assert left[job] >= 0
            at = slice(int(plan.ptr[i]), int(plan.ptr[i + 1]))
            chosen = plan.node[at].tolist()
            assert chosen == sorted(set(chosen))
            assert len(chosen) >= sh.nodes_lo[s]
            assert not sh.nodes_hi[s] or len(chosen) <= sh.nodes_hi[s]
            must = case.tables.must[sh.must_at[s] : sh.must_at[s] + sh.must_n[s]].tolist()
            assert set(must) <= set(chosen)
            if sh.contiguous[s]:
                assert chosen[-1] - chosen[0] + 1 == len(chosen)
            tasks = 0
            for n, cpus, mem in zip(chosen, plan.cpus[at].tolist(), plan.mem[at].tolist(), strict=True):
                most = self.most(s, n, cpus=self.cpus[n], mem=self.mem[n], empty=self.empty[n], room=self.room_of(s, n))
                assert most > 0
                assert nodes.up[n]
                assert self.member[sh.part[s]][n]
                assert cpus % int(nodes.width[n]) == 0
                tasks += min(most, cpus // int(sh.cpt[s]))
                self.cpus[n] -= cpus
                self.mem[n] -= mem
                self.empty[n] = False
                assert self.cpus[n] >= 0
                assert self.mem[n] >= 0
                row = int(case.tables.part_room[sh.part[s]])
                if row >= 0:
                    self.room[row][n] -= cpus
            assert tasks >= sh.tasks[s]
        if plan.block_entry.size:  # nothing was kept from the first blocker, and what is free only shrinks
            s = int(case.queue.shape[plan.block_entry[0]])
            assert not self.fits_somewhere(s, [self.now(s, n) for n in range(self.size)])
        if not plan.truncated:
            self.check_reasons(plan, left)

    def now(self, s: int, n: int) -> int:
        """Tasks of shape s that node n takes after all starts."""
        if not self.case.nodes.up[n]:
            return 0
        return self.most(s, n, cpus=self.cpus[n], mem=self.mem[n], empty=self.empty[n], room=self.room_of(s, n))

    def check_reasons(self, plan: PlanArrays, left: list[int]) -> None:
        """Free resources only shrink in a pass, so what failed must fail at its end; classes by trying all sets."""
        case = self.case
        seen: dict[int, set[int]] = {}
        for e, (s, job) in enumerate(zip(case.queue.shape.tolist(), case.queue.job.tolist(), strict=True)):
            seen.setdefault(job, set()).add(self.verdict(e, s))
        for job, verdicts in seen.items():
            if left[job] <= 0 and case.queue.starts[job] > 0:
                assert plan.code[job] == STARTED
            elif case.queue.starts[job] > 0:
                code = int(plan.code[job])
                assert code != 0
                allowed = set(verdicts)
                if RESOURCES in verdicts:
                    allowed.add(PRIORITY)  # behind another, its own turn did not come
                if code in (PRIORITY, RESOURCES):
                    assert plan.block_entry.size > 0
                if code != PRIORITY:
                    assert code in allowed, (job, code, verdicts)

    def verdict(self, e: int, s: int) -> int:
        """What entry e deserves if nobody were ahead of it."""
        case, sh, nodes = self.case, self.case.shapes, self.case.nodes
        part = int(sh.part[s])
        if case.tables.part_gate[part]:
            return int(case.tables.part_gate[part])
        if sh.gate[s]:
            return int(sh.gate[s])
        longest, limit = int(case.tables.part_time[part]), int(case.queue.limit_s[e])
        if longest and (limit == 0 or limit > longest):
            return TIME_LIMIT
        row = int(case.tables.part_room[part])
        cap = None if row < 0 else int(case.tables.room_cap[row])

        def full(n: int) -> int:
            return self.most(s, n, cpus=int(nodes.cpus[n]), mem=int(nodes.mem[n]), empty=True, room=cap)

        everywhere = [full(n) for n in range(self.size)]
        if self.fits_somewhere(s, [m if nodes.up[n] else 0 for n, m in enumerate(everywhere)]):
            return RESOURCES
        if self.fits_somewhere(s, everywhere):
            return REQUIRED_DOWN if sh.must_n[s] else UNAVAILABLE
        return BAD
