"""A planner for plain requests by brute force: a table of what is free in every slot, and nothing else.

Written against the words of `helix_native.ahead_arrays` and sharing no code with the kernels.  It knows requests of
one or more nodes with equal shares or whole nodes, GRES, weights and scores, pools, begin times and deadlines, in one
entry and one copy a job; not switches, chains, named nodes, CPU limits of partitions, cut limits or windows of rows.
"""

from __future__ import annotations

from helpers.ahead_cases import AheadCase

from helix_native.ahead_arrays import NEVER


class Brute:
    """Free amounts by row and slot, up to a horizon that stands for ever."""

    def __init__(self, case: AheadCase) -> None:
        self.case = case
        res = case.params.resolution_s
        longest = max([int(x) for x in case.queue.limit_s], default=0)
        ends = [int(x) for x in (*case.spans.t_to, *case.spans.t_from) if x < NEVER]
        self.last = -(-(case.params.window_s + longest) // res) + max([-(-x // res) for x in ends], default=0) + 2
        nodes, rows = case.nodes, case.rows
        self.cap = [[int(nodes.cpus[r]), int(nodes.mem[r]), *map(int, rows.gres[r])] for r in range(len(nodes.cpus))]
        self.free = [[list(cap) for _ in range(self.last + 1)] for cap in self.cap]
        self.pool = [[int(total)] * (self.last + 1) for total in case.pools.total]
        self.lasting = [list(cap) for cap in self.cap]  # less what takes no CPU
        spans = case.spans
        for x in range(len(spans.row)):
            line = range(max(0, int(spans.t_from[x])) // res, self.slot(int(spans.t_to[x])))
            if spans.row[x] < 0:
                for t in line:
                    self.pool[spans.pool[x]][t] -= int(spans.cpus[x])
                continue
            taken = [int(spans.cpus[x]), int(spans.mem[x]), *map(int, spans.gres[x])]
            for t in line:
                self.free[spans.row[x]][t] = [a - b for a, b in zip(self.free[spans.row[x]][t], taken, strict=True)]
            if taken[0] == 0 and len(line):
                row = self.lasting[spans.row[x]]
                row[1:] = [max(0, a - b) for a, b in zip(row[1:], taken[1:], strict=True)]
        self.empty = [bool(e) for e in nodes.empty]
        for r, row in enumerate(self.free):
            for t in range(self.last + 1):
                row[t] = [max(0, a) for a in row[t]]
            now = [int(nodes.free_cpus[r]), int(nodes.free_mem[r]), *map(int, rows.gres_free[r])]
            if any(a < b for a, b in zip(now, row[0], strict=True)):
                self.empty[r] = False
            row[0] = [max(0, min(a, b)) for a, b in zip(now, row[0], strict=True)]
        for k, line in enumerate(self.pool):
            beyond = max(0, int(case.pools.used[k]) - (int(case.pools.total[k]) - line[0]))
            self.pool[k] = [max(0, a - beyond) for a in line]

    def slot(self, second: int) -> int:
        return self.last + 1 if second >= NEVER else min(self.last, -(-second // self.case.params.resolution_s))

    def end(self, t: int, limit: int) -> int:
        return self.last + 1 if limit == 0 else min(self.last + 1, t - (-limit // self.case.params.resolution_s))

    def asks(self, s: int, r: int) -> list[int]:
        """What one share takes on row r."""
        sh, width = self.case.shapes, int(self.case.nodes.width[r])
        cpus = -(-max(int(sh.task_lo[s]) * int(sh.cpt[s]), int(sh.cpus_min[s])) // width) * width
        mem = 0
        if sh.exclusive[s]:
            cpus = self.cap[r][0]
        if sh.mem_all[s]:
            mem = self.cap[r][1]
        elif sh.mem_node[s] > 0:
            mem = int(sh.mem_node[s])
        elif sh.mem_cpu[s] > 0:
            mem = int(sh.mem_cpu[s]) * cpus
            if sh.exclusive[s]:
                mem = min(mem, self.lasting[r][1])
        return [cpus, mem, *map(int, self.case.needs.gres[s])]

    def serves(self, s: int, r: int, t: int, end: int) -> bool:
        case, sh = self.case, self.case.shapes
        if not case.nodes.up[r] or not self.could(s, r):
            return False
        if sh.exclusive[s]:
            free = all(self.free[r][x][0] == self.cap[r][0] for x in range(t, end))
            return free and (t > 0 or self.empty[r])
        asks = self.asks(s, r)
        return all(a >= b for x in range(t, end) for a, b in zip(self.free[r][x], asks, strict=True))

    def could(self, s: int, r: int) -> bool:
        """Whether row r could serve if nothing ran there, up or not."""
        case, sh = self.case, self.case.shapes
        bit = int(case.tables.elig[sh.elig[s]][r >> 3]) >> (r & 7) & 1
        if not bit or case.nodes.mem[r] < sh.mem_floor[s] or case.nodes.tmp[r] < sh.tmp[s]:
            return False
        width = int(case.nodes.width[r])
        least = -(-max(int(sh.task_lo[s]) * int(sh.cpt[s]), int(sh.cpus_min[s])) // width) * width
        have = self.lasting[r] if sh.exclusive[s] else self.cap[r]
        asks = self.asks(s, r)
        if sh.exclusive[s]:
            asks[0] = least
            if sh.mem_cpu[s] > 0 and not sh.mem_all[s] and sh.mem_node[s] <= 0:
                asks[1] = int(sh.mem_cpu[s]) * least
        return all(a >= b for a, b in zip(have, asks, strict=True)) and sh.task_lo[s] <= sh.task_hi[s]

    def choose(self, s: int, t: int, end: int) -> list[int] | None:
        """Rows for a start in slot t."""
        case, sh = self.case, self.case.shapes
        able = [r for r in range(len(self.cap)) if self.serves(s, r, t, end)]
        lo, hi = int(sh.nodes_lo[s]), int(sh.nodes_hi[s]) or len(self.cap)
        if len(able) < lo or lo > hi:
            return None
        target = hi if sh.grow[s] else lo
        if t > 0 and not sh.exclusive[s]:
            able = able[::-1][: max(case.params.candidates_max, target)]

        def order(r: int) -> tuple[int, ...]:
            score = int(case.extra.score[case.needs.score[s]][r]) if case.needs.score[s] >= 0 else 0
            if sh.exclusive[s]:
                before = t > 0 and (self.free[r][t - 1][0] < self.cap[r][0] or (t == 1 and not self.empty[r]))
                after = end <= self.last and self.free[r][end][0] < self.cap[r][0]
                size = -self.cap[r][0] if sh.least[s] else self.cap[r][0]
                return score, int(case.nodes.rank[r]), sum(self.cap[r][2:]), size, 2 - 2 * after + 1 - before, r
            width = int(case.nodes.width[r])
            free = self.free[r][t][0] // width * width
            left = -free if sh.least[s] else free - self.asks(s, r)[0]
            return score, int(case.nodes.rank[r]), sum(self.free[r][t][2:]), left, 0, r

        return sorted(sorted(able, key=order)[:target])

    def pools_of(self, job: int) -> list[tuple[int, int]]:
        jobs = self.case.jobs
        at = slice(int(jobs.pool_at[job]), int(jobs.pool_at[job] + jobs.pool_n[job]))
        return [(int(k), int(a)) for k, a in zip(jobs.pool[at], jobs.amount[at], strict=True)]

    def pools_hold(self, job: int, t: int, end: int) -> bool:
        return all(self.pool[k][x] >= a for k, a in self.pools_of(job) for x in range(t, end))

    def take(self, e: int, t: int, rows: list[int]) -> None:
        s, job = int(self.case.queue.shape[e]), int(self.case.queue.job[e])
        for x in range(t, self.end(t, int(self.case.queue.limit_s[e]))):
            for r in rows:
                self.free[r][x] = [a - b for a, b in zip(self.free[r][x], self.asks(s, r), strict=True)]
            for k, a in self.pools_of(job):
                self.pool[k][x] -= a

    def try_at(self, e: int, t: int) -> list[int] | None:
        """Rows for entry e in slot t if everything allows it."""
        case, job, limit = self.case, int(self.case.queue.job[e]), int(self.case.queue.limit_s[e])
        deadline, res = int(case.jobs.t_deadline[job]), case.params.resolution_s
        if deadline < NEVER and (limit == 0 or t * res + limit > deadline):
            return None
        if t * res < case.jobs.t_begin[job] or not self.pools_hold(job, t, self.end(t, limit)):
            return None
        return self.choose(int(case.queue.shape[e]), t, self.end(t, limit))


def brute_plan(case: AheadCase) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Start slot and rows of every entry that gets a start, by the three phases."""
    brute, params, queue = Brute(case), case.params, case.queue
    window = -(-params.window_s // params.resolution_s)
    found: dict[int, tuple[int, tuple[int, ...]]] = {}
    waiting: list[int] = []
    protected = 0
    entries = list(range(len(queue.shape)))

    def earliest(e: int) -> bool:
        for t in range(1, window):
            rows = brute.try_at(e, t)
            if rows is not None:
                brute.take(e, t, rows)
                found[e] = (t, tuple(rows))
                return True
        return False

    def hopeless(e: int) -> bool:
        s = int(queue.shape[e])
        able = [r for r in range(len(brute.cap)) if case.nodes.up[r] and brute.could(s, r)]
        hi = int(case.shapes.nodes_hi[s]) or len(brute.cap)
        return len(able) < case.shapes.nodes_lo[s] or case.shapes.nodes_lo[s] > hi

    def start(e: int) -> bool:
        rows = brute.try_at(e, 0)
        if rows is not None:
            brute.take(e, 0, rows)
            found[e] = (0, tuple(rows))
        return rows is not None

    while entries:
        e = entries.pop(0)
        if start(e):
            continue
        waiting.append(e)
        job = int(queue.job[e])
        own = case.jobs.t_begin[job] > 0 or not brute.pools_hold(job, 0, brute.end(0, int(queue.limit_s[e])))
        if own or hopeless(e):
            continue
        if params.protect < 0 or protected < params.protect:
            protected += earliest(e)
        if 0 <= params.protect <= protected:
            break
    if params.shortest_first:
        entries.sort(key=lambda e: (int(case.jobs.order[queue.job[e]]), e))
    waiting += [e for e in entries if not start(e)]
    if params.predict:
        for e in sorted(waiting):
            if e not in found and not hopeless(e):
                earliest(e)
    return found
