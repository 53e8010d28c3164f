"""Which rows a request gets at a given time, as the look-ahead specification defines it.  Plain numpy; see `choose`.

A request is *plain* if every row that can take part serves it as well as any other: its rows all get the same share,
or are wholly taken.  Plain requests are the many; their rows are taken in the order of score, weight, GRES left over,
CPUs left over, index.  Whole nodes count as left over altogether, and of equal ones those come first that are busy
before and after, so that holes stay large.  A later start of a request for parts of nodes compares only the first
`candidates_max` able rows from the highest index down: it is a plan, and will be chosen anew when it starts.
All other requests (tasks spread over nodes, named or neighbouring nodes, switches, CPU limits of partitions, chains)
choose as `reference.Pass.select` does, with score and GRES before its other criteria.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from helix_native.ahead_arrays import NEVER, AheadTables, NeedArrays, RowArrays
from helix_native.arrays import (
    BAD,
    REQUIRED_DOWN,
    RESOURCES,
    UNAVAILABLE,
    Flags,
    Int64,
    NodeArrays,
    ShapeArrays,
    TableArrays,
)
from helix_native.reference import Pass

CPUS, MEM, GRES = 0, 1, 2  #: kinds of amounts: CPUs, MiB, every kind of GRES, then CPUs under partitions' limits
SPARE_MAX = 4095  #: more units of GRES left over than these count as these


class View(NamedTuple):
    """The rows as a request sees them: over its whole run, and when it starts.  [R, 2 + G + L] unless said."""

    low: Int64  # least free throughout
    at: Int64  # free at the start
    empty: Flags  # [R] no CPU taken throughout
    gap: Int64  # [R] 0 = busy before and after, 1 = only after, 2 = only before, 3 = neither
    later: bool  # does not start now


class Shares(NamedTuple):
    """What one start takes.  Parallel."""

    row: Int64
    amounts: Int64  # [shares, 2 + G + L]
    chunk: Int64


class Plain(NamedTuple):
    """A request whose rows are interchangeable."""

    tasks: int  # that each row must be able to take
    least: int  # rows
    target: int  # rows taken if there are so many


class Choice(Pass):
    """Requests, eligibility and choice; knows nothing of time."""

    def __init__(
        self,
        nodes: NodeArrays,
        shapes: ShapeArrays,
        tables: TableArrays,
        rows: RowArrays,
        needs: NeedArrays,
        extra: AheadTables,
        candidates_max: int,
    ) -> None:
        super().__init__(nodes, shapes, tables)
        self.base, self.rows, self.needs, self.extra = nodes, rows, needs, extra
        self.candidates_max = candidates_max
        limits = np.repeat(tables.room_cap[None, :].astype(np.int64), len(nodes.cpus), axis=0)
        columns = [nodes.cpus[:, None].astype(np.int64), nodes.mem[:, None], rows.gres.astype(np.int64), limits]
        self.capacity = np.concatenate(columns, axis=1)
        self.gres = slice(GRES, GRES + rows.gres.shape[1])
        self.whole = self.capacity.copy()  # what a request for whole nodes may count on: see `Planner`
        self.tails = set(needs.chunk[needs.chunk >= 0].tolist())
        self._plain: dict[int, Plain | None] = {}
        self._verdict: dict[int, int] = {}

    def chain(self, s: int) -> list[int]:
        """The shapes that start together with shape `s`, itself first."""
        found = [s]
        while self.needs.chunk[found[-1]] >= 0:
            found.append(int(self.needs.chunk[found[-1]]))
        return found

    def plain(self, s: int) -> Plain | None:
        """How shape `s` is served if it is plain, whatever its switches."""
        if s not in self._plain:
            self._plain[s] = self._find_plain(s)
        return self._plain[s]

    def _find_plain(self, s: int) -> Plain | None:
        sh = self.shapes
        if sh.contiguous[s] or sh.must_n[s] or self.needs.chunk[s] >= 0 or s in self.tails:
            return None
        total, lo, hi = int(sh.tasks[s]), int(sh.nodes_lo[s]), int(sh.nodes_hi[s]) or self.size
        hi = min(hi, total) if total else hi
        if lo > hi:
            return None
        target = hi if sh.grow[s] else lo
        each, most = int(sh.task_lo[s]), int(sh.task_hi[s])
        if not total:
            return Plain(each, lo, target)
        if hi == 1 and each <= total <= most:
            return Plain(total, 1, 1)
        if most * hi == total and each <= most:
            return Plain(most, hi, hi)
        if not sh.exclusive[s]:
            return None
        cpus = self._use(s, self.whole)
        takes = self.fit(s, self.able(s) & self.nodes.up, cpus, self.whole[:, MEM], np.ones(self.size, np.bool_))
        takes = takes[takes > 0]
        if not len(takes):
            return None
        if lo * int(takes.min()) >= total:
            return Plain(each, lo, target)
        needed = -(-total // int(takes.min()))
        if takes.min() == takes.max() and needed <= hi:
            return Plain(each, needed, max(needed, target))
        return None

    def able(self, s: int) -> Flags:
        """Rows that partition, exclusion, features, configured disk, memory and GRES allow."""
        have = self.whole if self.shapes.exclusive[s] else self.capacity
        enough: Flags = (have[:, self.gres] >= self.needs.gres[s]).all(axis=1)
        return self.eligible(s) & enough

    def serve(self, s: int, view: View, able: Flags) -> Int64:
        """Tasks of shape `s` that each row takes.  [R]"""
        if self.shapes.exclusive[s]:
            cpus, mem = self._use(s, self.whole), self.whole[:, MEM]
        else:
            cpus, mem = self._use(s, view.low), view.low[:, MEM]
            able = able & (view.low[:, self.gres] >= self.needs.gres[s]).all(axis=1)
        return self.fit(s, able, cpus, mem, view.empty)

    def _use(self, s: int, free: Int64) -> Int64:
        """CPUs of `free` that the partition may use, in whole cores.  [R]"""
        row = int(self.tables.part_room[self.shapes.part[s]])
        cpus = free[:, CPUS] if row < 0 else np.minimum(free[:, CPUS], free[:, self.gres.stop + row])
        return np.maximum(cpus, 0) // self.width * self.width

    def choose(self, s: int, view: View, able: Flags, *, one_net: bool) -> Shares | None:
        """Rows for the whole chain that begins with shape `s`; `one_net`: `--switches` still counts."""
        able = able.copy()
        parts: list[Shares] = []
        for place, c in enumerate(self.chain(s)):
            fit = self.serve(c, view, able & self.able(c))
            net = one_net and self.needs.switches[c] > 0
            found = self._choose_part(c, fit, view, net=net)
            if found is None:
                return None
            at, tasks = found
            able[at] = False
            parts.append(self._shares(c, at, tasks, place))
        return Shares(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _choose_part(self, s: int, fit: Int64, view: View, *, net: bool) -> tuple[Int64, Int64] | None:
        plain = self.plain(s)
        if plain is not None and not net:
            at = self._choose_plain(s, plain, fit, view)
            return None if at is None else (at, np.full(len(at), plain.tasks, np.int64))
        use = self._use(s, self.whole if self.shapes.exclusive[s] else view.at)
        self.nodes = self.base._replace(rank=self._ranks(s, view).astype(np.int32))
        found = self._choose_near(s, fit, use) if net else self.select(s, fit, use)
        self.nodes = self.base
        return found

    def _choose_plain(self, s: int, plain: Plain, fit: Int64, view: View) -> Int64 | None:
        sh = self.shapes
        able = np.flatnonzero((fit >= plain.tasks) & (fit > 0))
        if len(able) < plain.least:
            return None
        if sh.exclusive[s]:
            left = self.capacity[:, CPUS]
            spare = self._spare(self.capacity)
            gap = view.gap
        else:
            if view.later:
                able = able[::-1][: max(self.candidates_max, plain.target)]
            left = view.at[:, CPUS] // self.width * self.width
            left = left if sh.least[s] else left - self.cost(s, plain.tasks)
            spare = self._spare(view.at)
            gap = np.zeros(self.size, np.int64)
        left = -left if sh.least[s] else left
        order = np.lexsort((able, gap[able], left[able], spare[able], self.base.rank[able], self._scores(s)[able]))
        return np.sort(able[order[: plain.target]]).astype(np.int64)

    def _spare(self, free: Int64) -> Int64:
        """Units of GRES of all kinds.  [R]"""
        units: Int64 = np.minimum(free[:, self.gres].sum(axis=1), SPARE_MAX)
        return units

    def _scores(self, s: int) -> Int64:
        row = int(self.needs.score[s])
        return self.extra.score[row].astype(np.int64) if row >= 0 else np.zeros(self.size, np.int64)

    def _ranks(self, s: int, view: View) -> Int64:
        """Dense ranks of score, weight and GRES free at the start.  [R]"""
        keys = (self._spare(view.at), self.base.rank.astype(np.int64), self._scores(s))
        order = np.lexsort(keys)
        ranks = np.zeros(self.size, np.int64)
        if self.size:
            table = np.stack(keys)[:, order]
            ranks[order[1:]] = np.cumsum((table[:, 1:] != table[:, :-1]).any(axis=0))
        return ranks

    def _choose_near(self, s: int, fit: Int64, use: Int64) -> tuple[Int64, Int64] | None:
        """On as few leaf switches as possible: the fullest one that serves, else the largest ones together."""
        must = self.must(s)
        switch = self.rows.switch
        forced = sorted({int(x) for x in switch[must]})
        sizes = {int(x): int(fit[(switch == x) & (fit > 0)].sum()) for x in np.unique(switch[fit > 0])}
        most = int(self.needs.switches[s])
        if len(forced) <= 1:
            for x in sorted(sizes, key=lambda x: (sizes[x], x)):
                if forced and x != forced[0]:
                    continue
                found = self.select(s, np.where(switch == x, fit, 0), use)
                if found is not None:
                    return found
        rest = [x for x in sorted(sizes, key=lambda x: (-sizes[x], x)) if x not in forced]
        for count in range(max(2, len(forced)), min(most, len(forced) + len(rest)) + 1):
            chosen = forced + rest[: count - len(forced)]
            found = self.select(s, np.where(np.isin(switch, chosen), fit, 0), use)
            if found is not None:
                return found
        return None

    def _shares(self, s: int, at: Int64, tasks: Int64, chunk: int) -> Shares:
        sh = self.shapes
        amounts = np.zeros((len(at), self.capacity.shape[1]), np.int64)
        if sh.exclusive[s]:
            amounts[:, CPUS] = self.capacity[at, CPUS]
        else:
            cpus = np.maximum(tasks * int(sh.cpt[s]), int(sh.cpus_min[s]))
            amounts[:, CPUS] = -(-cpus // self.width[at]) * self.width[at]
        if sh.mem_all[s]:
            amounts[:, MEM] = self.base.mem[at]
        elif sh.mem_node[s] > 0:
            amounts[:, MEM] = sh.mem_node[s]
        elif sh.mem_cpu[s] > 0:  # all CPUs may be taken where fewer are used: memory at most what is there
            free = self.whole[at, MEM] if sh.exclusive[s] else self.base.mem[at]
            each = int(sh.mem_cpu[s])
            amounts[:, MEM] = [min(int(c) * each, int(m)) for c, m in zip(amounts[:, CPUS], free, strict=True)]
        amounts[:, self.gres] = self.needs.gres[s]
        self.limit_room(s, amounts)
        return Shares(at, amounts, np.full(len(at), chunk, np.int64))

    def limit_room(self, s: int, amounts: Int64) -> None:
        """Enter what shares take of their partition's CPU limit; who has the whole node leaves no one to count for."""
        room = int(self.tables.part_room[self.shapes.part[s]])
        if room >= 0 and not self.shapes.exclusive[s]:
            amounts[:, self.gres.stop + room] = amounts[:, CPUS]

    def hopeless(self, s: int) -> int:
        """RESOURCES if shape `s` could start on rows that are up and empty; else why it never can."""
        if s not in self._verdict:
            verdict = BAD
            if self._on_empty(s, self.base.up):
                verdict = RESOURCES
            elif self._on_empty(s, np.ones(self.size, np.bool_)):
                verdict = REQUIRED_DOWN if self.shapes.must_n[s] else UNAVAILABLE
            self._verdict[s] = verdict
        return self._verdict[s]

    def _on_empty(self, s: int, able: Flags) -> bool:
        yes = np.ones(self.size, np.bool_)
        view = View(self.capacity, self.capacity, yes, np.zeros(self.size, np.int64), later=False)
        near = any(self.needs.switches[c] > 0 and self.needs.switch_wait_s[c] >= NEVER for c in self.chain(s))
        return self.choose(s, view, able, one_net=near) is not None
