"""The specification of the look-ahead planner, in plain numpy.  Slow; used until the compiled one is warm.

What is free on a row is its capacity less the spans on it; where `free_*` of the tables is less than that, the
difference is taken in the first slot.  Pools: `total` less their spans; what `used` says beyond the spans is taken
for ever.  Spans that take no CPU (memory of a suspended job) do not make a row busy, but a request for whole nodes
counts them as if they lasted for ever.

Phase 1 gives each job in queue order its earliest start: now, or a protected reservation.  It ends when a job waits
that may not be protected or was the last that may: after its entry and those of the same job that follow at once.
Phase 2 starts what can start now of the rest, phase 3 predicts.
An array slot starts as many copies as fit; its first waiting copy alone is reserved or predicted.  A job that a pool
keeps from starting (LIMITED), or that begins later, is never protected and only predicted.  With several entries a
job keeps the earliest reservation any of them found.  A cut limit (`limit_min_s`) is tried when the full one does not
fit now: nodes are chosen for the least limit, then it is extended as far as they stay free.

Kept reservations are loaded first, in queue order; what no longer fits is dropped and planned anew in its turn.  With
`compress` each is taken out and put back where its job can start earliest; otherwise it starts when it is due.

FIFO: the first entry that waits blocks its partition, and that partition's rows for all behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from helix_native.ahead_profile import FAR, Steps, slots_down, slots_up
from helix_native.arrays import (
    FAIL_COUNT,
    PRIORITY,
    RESOURCES,
    SHARES_PER_START,
    STARTED,
    Flags,
    Int32,
    Int64,
    NodeArrays,
    QueueArrays,
    ShapeArrays,
    TableArrays,
    unpack_bits,
)
from helix_native.reference import entry_gates
from helix_native.reference_choice import CPUS, MEM, Choice, Shares, View


@dataclass
class Placement:
    """One copy of a job in the plan.  Slots; `seconds` is the start, `limit_s` the limit, 0 = unlimited."""

    entry: int
    start: int
    end: int
    seconds: int
    limit_s: int
    shares: Shares
    protected: bool
    backfilled: bool = False


class Planner:
    """The state of one pass."""

    def __init__(
        self,
        choice: Choice,
        queue: QueueArrays,
        jobs: JobArrays,
        pools: PoolArrays,
        spans: SpanArrays,
        params: AheadParams,
    ) -> None:
        self.choice, self.queue, self.jobs, self.params = choice, queue, jobs, params
        self.res = params.resolution_s
        self.window = slots_up(params.window_s, self.res)
        self.gates = entry_gates(choice.shapes, choice.tables, queue)
        self.part = choice.shapes.part[queue.shape]
        count = len(queue.starts)
        self.code = np.zeros(count, np.int8)
        self.left = queue.starts.astype(np.int64)
        self.pool = np.full(count, -1, np.int32)
        self.waits = np.zeros(len(choice.tables.part_gate), np.bool_)
        self.barred = np.zeros(choice.size, np.bool_)  # rows kept by a fifo blocker
        self.starts: list[Placement] = []
        self.later: dict[int, Placement] = {}
        self.blockers: list[int] = []
        self.fails: list[tuple[Int32, Int32]] = []
        self.given = self.tested = self.protected = 0
        self.truncated = self.again = False
        self._load_rows(spans)
        self._load_pools(pools, spans)

    # -- profiles

    def _load_rows(self, spans: SpanArrays) -> None:
        choice = self.choice
        gres = choice.gres
        self.steps = [Steps(row) for row in choice.capacity]
        for x in np.flatnonzero(spans.row >= 0):
            row, begin, end = int(spans.row[x]), *self._slots(spans, int(x))
            if begin >= end:
                continue
            amounts = np.zeros(choice.capacity.shape[1], np.int64)
            amounts[CPUS], amounts[MEM], amounts[gres] = spans.cpus[x], spans.mem[x], spans.gres[x]
            if len(spans.room) and spans.room[x] >= 0:
                amounts[gres.stop + spans.room[x]] = spans.cpus[x]
            self.steps[row].take(begin, end, amounts)
            if amounts[CPUS] == 0:
                choice.whole[row, MEM : gres.stop] -= amounts[MEM : gres.stop]
        choice.whole = np.maximum(choice.whole, 0)
        nodes, rows = choice.base, choice.rows
        columns = (nodes.free_cpus[:, None], nodes.free_mem[:, None], rows.gres_free, choice.tables.room.T)
        free: Int64 = np.concatenate(columns, axis=1, dtype=np.int64)
        self.empty_now = nodes.empty.copy()
        for row, steps in enumerate(self.steps):
            steps.clamp()
            missing = steps.at(0) - free[row]
            if (missing > 0).any():
                steps.take(0, 1, np.maximum(missing, 0))
                steps.clamp()
                self.empty_now[row] &= not (missing[: gres.stop] > 0).any()
            steps.clear(0, slots_up(int(rows.t_from[row]), self.res))
            if rows.t_to[row] < NEVER:
                steps.clear(max(0, slots_down(int(rows.t_to[row]), self.res)), FAR)

    def _load_pools(self, pools: PoolArrays, spans: SpanArrays) -> None:
        self.pools = [Steps(np.array([total], np.int64)) for total in pools.total]
        for x in np.flatnonzero(spans.pool >= 0):
            begin, end = self._slots(spans, int(x))
            if begin < end:
                self.pools[spans.pool[x]].take(begin, end, spans.cpus[x : x + 1])
        for k, steps in enumerate(self.pools):
            beyond = int(pools.used[k]) - (int(pools.total[k]) - int(steps.at(0)[0]))
            if beyond > 0:
                steps.take(0, FAR, np.array([beyond], np.int64))
            steps.clamp()

    def _slots(self, spans: SpanArrays, x: int) -> tuple[int, int]:
        return max(0, slots_down(int(spans.t_from[x]), self.res)), slots_up(int(spans.t_to[x]), self.res)

    def change(self, placement: Placement, sign: int) -> None:
        """Take (1) what a placement needs from rows, rooms and pools, or give it back (-1)."""
        shares, begin, end = placement.shares, placement.start, placement.end
        for row, amounts in zip(shares.row, shares.amounts, strict=True):
            self.steps[row].take(begin, end, sign * amounts)
        for k, amount in self.pools_of(int(self.queue.job[placement.entry])):
            self.pools[k].take(begin, end, np.array([sign * amount], np.int64))

    def pools_of(self, job: int) -> list[tuple[int, int]]:
        """Pools the job's starts take of, and how much."""
        at = slice(int(self.jobs.pool_at[job]), int(self.jobs.pool_at[job]) + int(self.jobs.pool_n[job]))
        return list(zip(self.jobs.pool[at].tolist(), self.jobs.amount[at].tolist(), strict=True))

    def lacking_pool(self, job: int, begin: int, end: int) -> int:
        """The first of the job's pools with too little throughout [begin, end), -1 = none."""
        for k, amount in self.pools_of(job):
            if not self.pools[k].holds(begin, end, np.array([amount])):
                return k
        return -1

    def view(self, begin: int, end: int) -> View:
        """Every row over [begin, end)."""
        choice = self.choice
        size, kinds = choice.size, choice.capacity.shape[1]
        low = np.zeros((size, kinds), np.int64)
        at = np.zeros((size, kinds), np.int64)
        before = np.zeros(size, np.bool_)
        after = np.zeros(size, np.bool_)
        cpus = choice.capacity[:, CPUS]
        for row, steps in enumerate(self.steps):
            low[row], at[row] = steps.low(begin, end), steps.at(begin)
            before[row] = begin > 0 and steps.at(begin - 1)[CPUS] < cpus[row]
            before[row] |= begin == 1 and not self.empty_now[row]
            after[row] = end < FAR and steps.at(end)[CPUS] < cpus[row]
        empty = low[:, CPUS] == cpus
        if begin == 0:
            empty &= self.empty_now
        gap = np.where(after, np.where(before, 0, 1), np.where(before, 2, 3)).astype(np.int64)
        return View(low, at, empty, gap, later=begin > 0)

    # -- one job

    def end_of(self, begin: int, limit_s: int) -> int:
        """The slot in which a run from slot `begin` has ended."""
        return FAR if limit_s == 0 else min(FAR, begin + slots_up(limit_s, self.res))

    def in_time(self, job: int, begin: int, limit_s: int) -> bool:
        """Whether the job's deadline is met."""
        deadline = int(self.jobs.t_deadline[job])
        return deadline >= NEVER or (limit_s > 0 and begin * self.res + limit_s <= deadline)

    def near(self, e: int) -> bool:
        """Whether `--switches` still counts for the entry's job."""
        needs, waited = self.choice.needs, int(self.jobs.waited_s[self.queue.job[e]])
        return any(
            needs.switches[c] > 0 and waited < needs.switch_wait_s[c]
            for c in self.choice.chain(int(self.queue.shape[e]))
        )

    def find(self, e: int, begin: int, limit_s: int) -> Shares | None:
        """Rows on which entry `e` can start in slot `begin`, whatever the pools say."""
        end = self.end_of(begin, limit_s)
        able = self.choice.base.up & ~self.barred if begin == 0 else self.choice.base.up
        return self.choice.choose(int(self.queue.shape[e]), self.view(begin, end), able, one_net=self.near(e))

    def now(self, e: int) -> Placement | int:
        """A start of entry `e` now; or LIMITED, PRIORITY (has to wait) or 0 (begins later)."""
        job, limit = int(self.queue.job[e]), int(self.queue.limit_s[e])
        if self.jobs.t_begin[job] > 0:
            return 0
        least = int(self.jobs.limit_min_s[job])
        cut = least if least > 0 and (limit == 0 or least < limit) else limit
        pool = self.lacking_pool(job, 0, self.end_of(0, cut))
        if pool >= 0:
            self.pool[job] = pool
            return LIMITED
        self.tested += 1
        if self.in_time(job, 0, limit) and self.lacking_pool(job, 0, self.end_of(0, limit)) < 0:
            shares = self.find(e, 0, limit)
            if shares is not None:
                return Placement(e, 0, self.end_of(0, limit), 0, limit, shares, protected=False)
        if cut == limit or not self.in_time(job, 0, cut):
            return PRIORITY
        shares = self.find(e, 0, cut)
        return PRIORITY if shares is None else self.extended(e, shares)

    def extended(self, e: int, shares: Shares) -> Placement:
        """A start now on chosen rows with as long a limit as they, the pools and the deadline allow."""
        job, limit = int(self.queue.job[e]), int(self.queue.limit_s[e])
        end = self.end_of(0, limit)
        for row, amounts in zip(shares.row, shares.amounts, strict=True):
            end = self.steps[row].longest(0, end, amounts)
        for k, amount in self.pools_of(job):
            end = self.pools[k].longest(0, end, np.array([amount]))
        least, deadline = int(self.jobs.limit_min_s[job]), int(self.jobs.t_deadline[job])
        if end < self.end_of(0, limit) or deadline < NEVER:
            cut = min(end * self.res, deadline)
            limit = max(least, min(limit, cut) if limit else cut)
        return Placement(e, 0, self.end_of(0, limit), 0, limit, shares, protected=False)

    def earliest(self, e: int, begin: int, stop: int) -> Placement | None:
        """The earliest start of entry `e` in [begin, stop), pools and deadline included."""
        job, limit = int(self.queue.job[e]), int(self.queue.limit_s[e])
        begin = max(begin, slots_up(int(self.jobs.t_begin[job]), self.res))
        times = {t for steps in self.steps for t in steps.times}
        times |= {t for k, _ in self.pools_of(job) for t in self.pools[k].times}
        for t in sorted({begin} | {t for t in times if t > begin}):
            if t >= min(stop, self.window) or not self.in_time(job, t, limit):
                break
            end = self.end_of(t, limit)
            if self.lacking_pool(job, t, end) < 0:
                shares = self.find(e, t, limit)
                if shares is not None:
                    return Placement(e, t, end, t * self.res, limit, shares, protected=False)
        return None

    # -- phases

    def full(self) -> bool:
        """Whether the pass has started as much as it may; says so in the result."""
        most = self.params.starts_max
        if len(self.starts) >= most or self.given >= most * SHARES_PER_START:
            self.truncated = True
        return self.truncated

    def settle(self, placement: Placement, *, backfilled: bool) -> None:
        """A start now."""
        job = int(self.queue.job[placement.entry])
        placement.backfilled, placement.seconds = backfilled, 0
        self.change(placement, 1)
        self.starts.append(placement)
        self.given += len(placement.shares.row)
        self.left[job] -= 1
        if self.left[job] <= 0:
            self.again = self.again or self.code[job] in (PRIORITY, RESOURCES)
            self.code[job] = STARTED

    def try_now(self, e: int, *, backfilled: bool) -> int:
        """Start copies of entry `e` while they fit.  STARTED if none is left, else what `now` said."""
        job = int(self.queue.job[e])
        while not self.full():
            own = self.later.pop(job, None)
            if own is not None:
                self.change(own, -1)
            found = self.now(e)
            if isinstance(found, Placement):
                self.settle(found, backfilled=backfilled)
                if own is not None:
                    self.protected -= own.protected
                if self.left[job] <= 0:
                    return STARTED
                continue
            if own is not None:
                self.change(own, 1)
                self.later[job] = own
            return found
        return 0

    def mark(self, e: int, status: int, *, promised: bool) -> int:
        """Note why entry `e` waits; the code that became of it."""
        job, part = int(self.queue.job[e]), int(self.part[e])
        if status == PRIORITY:
            status = self.choice.hopeless(int(self.queue.shape[e]))
            if status == RESOURCES and not promised and self.waits[part]:
                status = PRIORITY
            if status == RESOURCES and not self.waits[part]:
                self.blockers.append(e)
                self.fails.append(self.failures(e))
            if status in (RESOURCES, PRIORITY):
                self.waits[part] = True
        if self.code[job] != LIMITED:
            self.code[job] = max(int(self.code[job]), status)
        return status

    def failures(self, e: int) -> tuple[Int32, Int32]:
        """Counts of `reference.Pass.failures` as things stand in the first slot."""
        choice, s = self.choice, int(self.queue.shape[e])
        view = self.view(0, 1)
        choice.cpus, choice.mem, choice.empty = view.low[:, CPUS], view.low[:, MEM], view.empty
        choice.room = view.low[:, choice.gres.stop :].T
        able = choice.able(s) & choice.base.up
        run = self.view(0, self.end_of(0, int(self.queue.limit_s[e])))
        choice.kept = (choice.serve(s, view, able) > 0) & ((choice.serve(s, run, able) == 0) | self.barred)
        return choice.failures(s)

    def improve(self, e: int, *, protected: bool, floor: int = 0) -> int:
        """Give the entry's job its earliest reservation from slot `floor` on, if earlier than the one it has.

        The slot it then has, FAR if none.
        """
        job = int(self.queue.job[e])
        own = self.later.pop(job, None)
        if own is not None:
            self.change(own, -1)
        begin = max(floor, 1 if self.jobs.t_begin[job] <= 0 else 0)
        found = self.earliest(e, begin, own.start if own is not None else FAR)
        if found is not None:
            found.protected = protected
            self.protected += protected - (own is not None and own.protected)
        else:
            found = own
        if found is None:
            return FAR
        self.change(found, 1)
        self.later[job] = found
        return found.start

    def phase_1(self) -> int:
        """Starts and protected reservations in queue order; the place in the queue it got to."""
        most = self.params.protect
        anyone = False
        last = -1  # the job after which it ends
        for e in range(len(self.queue.shape)):
            job = int(self.queue.job[e])
            if last not in (-1, job):
                return e
            if not self.tried(e):
                continue
            own = self.later.get(job)
            if own is not None and own.entry == e and not self.params.compress and own.start > 0:
                self.mark(e, PRIORITY, promised=most >= 0)
                anyone = True
                continue
            status = self.try_now(e, backfilled=anyone)
            if self.truncated:
                break
            if status != PRIORITY:
                self.mark(e, status, promised=False)
                if status == STARTED:
                    last = -1
                continue
            able = self.choice.hopeless(int(self.queue.shape[e])) == RESOURCES
            if able and (most < 0 or self.protected < most or job in self.later):
                self.improve(e, protected=True)
            promised = most >= 0 and job in self.later
            status = self.mark(e, status, promised=promised)
            if status in (RESOURCES, PRIORITY):
                anyone = True
                if 0 <= most <= self.protected:
                    last = job
        return len(self.queue.shape)

    def tried(self, e: int) -> bool:
        """Whether the entry is to be tried at all; notes its gate if not."""
        job = int(self.queue.job[e])
        if self.left[job] <= 0:
            return False
        if self.gates[e]:
            self.code[job] = max(int(self.code[job]), int(self.gates[e]))
            return False
        return True

    def phase_2(self, first: int) -> None:
        """Start now what can of the entries from `first` on."""
        order = range(first, len(self.queue.shape))
        if self.params.shortest_first:
            order_list = sorted(order, key=lambda e: (int(self.jobs.order[self.queue.job[e]]), e))
        else:
            order_list = list(order)
        for e in order_list:
            if self.truncated:
                return
            if self.tried(e):
                status = self.try_now(e, backfilled=True)
                if not self.truncated:
                    self.mark(e, status, promised=False)

    def phase_3(self) -> None:
        """An expected start for every job that has none, in queue order."""
        fixed = set(self.later)
        floor = np.zeros(len(self.waits), np.int64)
        for e in range(len(self.queue.shape)):
            job, part = int(self.queue.job[e]), int(self.part[e])
            if self.left[job] <= 0 or self.gates[e] or job in fixed:
                continue
            if self.choice.hopeless(int(self.queue.shape[e])) != RESOURCES:
                continue
            found = self.improve(e, floor=0 if self.params.backfill else int(floor[part]), protected=False)
            if self.code[job] in (RESOURCES, PRIORITY):
                floor[part] = found

    def fifo(self) -> None:
        """Starts in strict order by partition."""
        blocked = np.zeros(len(self.waits), np.bool_)
        for e in range(len(self.queue.shape)):
            if not self.tried(e):
                continue
            part = int(self.part[e])
            if blocked[part]:
                job = int(self.queue.job[e])
                if self.code[job] != LIMITED:
                    self.code[job] = max(int(self.code[job]), PRIORITY)
                continue
            status = self.try_now(e, backfilled=False)
            if self.truncated:
                return
            if status == STARTED:
                continue
            if self.mark(e, status, promised=False) in (RESOURCES, PRIORITY):
                must = self.choice.must(int(self.queue.shape[e]))
                if len(must) and len(must) >= self.choice.shapes.nodes_lo[self.queue.shape[e]]:
                    self.barred[must] = True
                else:
                    self.barred |= self.members(part)
                    blocked[part] = True

    def members(self, part: int) -> Flags:
        """Rows of a partition."""
        return unpack_bits(self.choice.tables.part[part], self.choice.size)

    def load_kept(self, kept: KeptArrays) -> None:
        """Put kept reservations into the profile, in queue order; those that no longer fit are forgotten."""
        first: dict[int, int] = {}
        for e in range(len(self.queue.shape)):
            first.setdefault(int(self.queue.job[e]), e)
        for job in sorted((j for j in range(len(kept.entry)) if kept.entry[j] >= 0), key=lambda j: first.get(j, -1)):
            placement = self._kept(kept, job)
            if placement is not None:
                self.change(placement, 1)
                self.later[job] = placement
                self.protected += 1

    def _kept(self, kept: KeptArrays, job: int) -> Placement | None:
        e = int(kept.entry[job])
        if e >= len(self.queue.shape) or self.queue.job[e] != job or self.left[job] <= 0 or self.gates[e]:
            return None
        at = slice(int(kept.ptr[job]), int(kept.ptr[job + 1]))
        row = kept.row[at].astype(np.int64)
        chunk = kept.chunk[at].astype(np.int64) if len(kept.chunk) else np.zeros(len(row), np.int64)
        chain = self.choice.chain(int(self.queue.shape[e]))
        amounts = np.zeros((len(row), self.choice.capacity.shape[1]), np.int64)
        amounts[:, CPUS], amounts[:, MEM] = kept.cpus[at], kept.mem[at]
        for c, s in enumerate(chain):
            mine = amounts[chunk == c]
            mine[:, self.choice.gres] = self.choice.needs.gres[s]
            self.choice.limit_room(s, mine)
            amounts[chunk == c] = mine
        seconds, limit = max(0, int(kept.start[job])), int(kept.limit_s[job])
        begin = slots_down(seconds, self.res)
        end = FAR if limit == 0 else slots_up(seconds + limit, self.res)
        shares = Shares(row, amounts, chunk)
        able = [self.choice.able(c) & self.choice.base.up for c in chain]
        fits = all(able[c][r] for c, r in zip(chunk, row, strict=True))
        fits = fits and len(row) > 0 and self.lacking_pool(job, begin, end) < 0
        for r, need in zip(row, amounts, strict=True):
            fits = fits and self.steps[r].holds(begin, end, need)
        return Placement(e, begin, end, seconds, limit, shares, protected=True) if fits else None

    def result(self) -> AheadResult:
        """Everything decided, as arrays."""
        later = list(self.later.values())
        every = self.starts + later
        shares = [p.shares for p in every]
        none = np.zeros(0, np.int64)
        amounts = np.concatenate([np.zeros((0, self.choice.capacity.shape[1]), np.int64), *(x.amounts for x in shares)])
        expected = np.full(len(self.code), NEVER, np.int64)
        for placement in reversed(every):
            expected[self.queue.job[placement.entry]] = placement.seconds
        limited = self.code == LIMITED
        return AheadResult(
            start_entry=np.array([p.entry for p in every], np.int32),
            t_start=np.array([p.seconds for p in every], np.int64),
            limit_s=np.array([p.limit_s for p in every], np.int64),
            protected=np.array([p.protected for p in every], np.bool_),
            backfilled=np.array([p.backfilled for p in every], np.bool_),
            ptr=np.concatenate([[0], np.cumsum([len(x.row) for x in shares], dtype=np.int64)]).astype(np.int32),
            row=np.concatenate([none, *(x.row for x in shares)]).astype(np.int32),
            cpus=amounts[:, CPUS].astype(np.int32),
            mem=amounts[:, MEM].copy(),
            starts=len(self.starts),
            code=self.code,
            expected=expected,
            pool=np.where(limited, self.pool, -1).astype(np.int32),
            block_entry=np.array(self.blockers, np.int32),
            block_fails=np.array([f[0] for f in self.fails], np.int32).reshape(-1, FAIL_COUNT),
            block_only=np.array([f[1] for f in self.fails], np.int32).reshape(-1, FAIL_COUNT),
            tested=self.tested,
            truncated=bool(self.truncated or self.again),
            chunk=np.concatenate([none, *(x.chunk for x in shares)]).astype(np.int32),
        )


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
    """One pass that looks ahead; see the module's words and `ahead_arrays`."""
    choice = Choice(nodes, shapes, tables, rows, needs, extra, params.candidates_max)
    planner = Planner(choice, queue, jobs, pools, spans, params)
    if params.backfill:
        planner.load_kept(kept)
        first = planner.phase_1()
        if not planner.truncated:
            planner.phase_2(first)
    else:
        planner.fifo()
    if params.predict and not planner.truncated:
        planner.phase_3()
    return planner.result()
