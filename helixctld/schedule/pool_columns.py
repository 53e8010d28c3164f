"""Pools as columns: licences and limits, what waiting jobs would take of them, and what running jobs hold.

Equal lists of (pool, amount) are kept once, so that 100,000 jobs of one user cost one.  Cost: what the sources cost
a changed job, and a freeze copies what changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from helix.model.job import Allocation, JobRecord
from helix.model.job_state import Reason
from helix_native.ahead_arrays import PoolArrays
from helix_native.arrays import Int32, Int64
from helixctld.core.state import State
from helixctld.schedule.sources import (
    CountingPoolSource,
    MovingPoolSource,
    PoolKey,
    PoolSource,
    Sources,
    TellingPoolSource,
)

Amounts = tuple[tuple[int, int], ...]  #: (pool, amount), ascending
_SPARE = 4096  #: places of lists nobody uses any more that are kept before all lists are made anew


class PoolColumns:
    """Owns the numbers of the pools; `used` counts the running jobs it was told of."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.keys: list[PoolKey] = []
        self._index: dict[PoolKey, int] = {}
        self._total: list[int] = []
        self._used: list[int] = []
        self._held: dict[int, Amounts] = {}  # running job -> what it holds
        self._at: dict[Amounts, int] = {}  # a list that waiting jobs share -> its first place
        self._pool: list[int] = []
        self._amount: list[int] = []
        self._versions: tuple[int, ...] = ()
        self.epoch = 0  # rises when pools get other numbers
        self._frozen: tuple[PoolArrays, Int32, Int64] | None = None
        self._past: list[dict[Any, Any]] = []  # what was known before `reload`: letting go of it all at once takes long
        self._counting = [source for source in sources.pools if isinstance(source, CountingPoolSource)]
        self._moving = {source.name: source for source in sources.pools if isinstance(source, MovingPoolSource)}

    def is_stale(self) -> bool:
        """True if a source says that everything must be asked again."""
        return self._versions != tuple(source.version for source in self.sources.pools)

    def is_sparse(self, waiting: int) -> bool:
        """True if far more lists are kept than `waiting` jobs can use: ask everything again."""
        return len(self._pool) > _SPARE + 16 * waiting

    def reload(self, state: State) -> None:
        """Forget everything; the caller takes all jobs again."""
        self._versions = tuple(source.version for source in self.sources.pools)
        self.keys, self._index, self._total, self._used = [], {}, [], []
        self._past += [held for held in (self._held, self._at) if held]
        self._held, self._at, self._pool, self._amount = {}, {}, [], []
        self.epoch += 1
        self._frozen = None

    def let_go(self, count: int) -> bool:
        """Forget some of what was known before the last `reload`; True if nothing is left of it."""
        while self._past and count > 0:
            old = self._past[-1]
            for _ in range(min(count, len(old))):
                old.popitem()
            count -= len(old) + 1
            if not old:
                self._past.pop()
        return not self._past

    def wanted(self, state: State, job: JobRecord) -> tuple[int, int]:
        """Where the list of a waiting job starts, and how long it is."""
        amounts: dict[int, int] = {}
        for source in self.sources.pools:
            self._add(amounts, state, source, source.wants(state, job))
        if not amounts:
            return 0, 0
        key = tuple(sorted(amounts.items()))
        at = self._at.get(key)
        if at is None:
            at = self._at[key] = len(self._pool)
            self._pool.extend(pool for pool, _ in key)
            self._amount.extend(amount for _, amount in key)
            self._frozen = None
        return at, len(key)

    def take_running(self, state: State, job: JobRecord) -> Amounts:
        """Note what a running job holds, in place of what was noted of it before; [] pools if it holds none."""
        self.drop_running(job.job_id)
        if job.alloc is None or not self.sources.pools:
            return ()
        held = self.taken_by(state, job, job.alloc)
        if held:
            self._held[job.job_id] = held
            for pool, amount in held:
                self._used[pool] += amount
            self._frozen = None
        return held

    def drop_running(self, job_id: int) -> None:
        """The job holds nothing any more."""
        for pool, amount in self._held.pop(job_id, ()):
            self._used[pool] -= amount
            self._frozen = None

    def amounts_of(self, state: State, job: JobRecord, alloc: Allocation) -> Amounts:
        """What there must be for the job to run with `alloc`."""
        amounts: dict[int, int] = {}
        for source in self.sources.pools:
            self._add(amounts, state, source, source.holds(state, job, alloc))
        return tuple(sorted(amounts.items()))

    def taken_by(self, state: State, job: JobRecord, alloc: Allocation) -> Amounts:
        """What the job takes while it runs with `alloc`: also of pools that only count it."""
        amounts = dict(self.amounts_of(state, job, alloc))
        for source in self._counting:
            self._add(amounts, state, source, source.counts(state, job, alloc))
        return tuple(sorted(amounts.items()))

    def number_of_licence(self, name: str) -> int:
        """The pool that jobs outside reservations take a licence of; -1 if nobody has asked for it."""
        return self._index.get(("licence", name), -1)

    def left(self, pool: int) -> int:
        """What is free of a pool; negative after a limit was lowered."""
        return self._total[pool] - self._used[pool]

    def short(self, state: State, job: JobRecord) -> int:
        """The first pool that has too little left for a start of the job, -1 if none has."""
        at, count = self.wanted(state, job)
        for place in range(at, at + count):
            if self._amount[place] > self.left(self._pool[place]):
                return self._pool[place]
        return -1

    def words(self, state: State, pool: int) -> tuple[Reason, str]:
        """The reason of a job that this pool keeps waiting."""
        key = self.keys[pool]
        return next(source for source in self.sources.pools if source.name == key[0]).words(state, key)

    def of_job(self, state: State, job: JobRecord, pool: int) -> tuple[str, list[str]]:
        """How a waiting job stands with a pool it wants of, in words, and advice; "" where the source does not say."""
        key = self.keys[pool]
        source = next(source for source in self.sources.pools if source.name == key[0])
        if not isinstance(source, TellingPoolSource):
            return "", []
        at, count = self.wanted(state, job)
        amount = sum(self._amount[place] for place in range(at, at + count) if self._pool[place] == pool)
        return source.of_job(state, key, self._used[pool], amount)

    def refresh(self, state: State) -> None:
        """Ask anew for totals that move by themselves (minutes that are left)."""
        for pool, key in enumerate(self.keys) if self._moving else ():
            source = self._moving.get(key[0])
            if source is not None and source.is_moving(key):
                total = source.total(state, key)
                if total != self._total[pool]:
                    self._total[pool] = total
                    self._frozen = None

    def freeze(self) -> tuple[PoolArrays, Int32, Int64]:
        """The pools, and the lists that `wanted` points into; never written again."""
        if self._frozen is None:
            self._frozen = (
                PoolArrays(total=np.array(self._total, np.int64), used=np.array(self._used, np.int64)),
                np.array(self._pool, np.int32),
                np.array(self._amount, np.int64),
            )
        return self._frozen

    def _add(
        self, amounts: dict[int, int], state: State, source: PoolSource, wants: Iterable[tuple[PoolKey, int]]
    ) -> None:
        for key, amount in wants:
            pool = self._index.get(key)
            if pool is None:
                pool = self._index[key] = len(self.keys)
                self.keys.append(key)
                self._total.append(source.total(state, key))
                self._used.append(0)
                self._frozen = None
            if amount:
                amounts[pool] = amounts.get(pool, 0) + amount
