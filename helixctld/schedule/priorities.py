"""Priorities that change while jobs wait: columns of all waiting jobs, one pass over them, and who is due for it.

A priority is derived, never journaled: after a restart it is made anew before the first pass.  New and changed jobs
get theirs before each pass; all get new ones every PriorityCalcPeriod, after a decay of usage, and after a change of
accounts or partitions.  Priorities that an operator set stay.  Cost: about 5 us a changed job; all of 100,000 waiting
jobs about 40 ms, of which the arithmetic is a few.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from helix.gres import layout_of
from helix.model.job import JobRecord
from helix.plugin.families import PriorityRecalculator
from helix.sched.priority import ONE, Priorities, PriorityOptions, PriorityScale, PriorityTable
from helix_native.arrays import Int32, Int64
from helixctld.core.asked import asked_tres, default_limit
from helixctld.core.state import State
from helixctld.core.usage import fair_shares

_COLUMNS = ("age_from", "aged", "nodes", "cpus", "limit_min", "assoc", "fair", "qos", "partition", "tres_row", "nice",
            "site", "last", "at")  # fmt: skip
_NEVER = 1 << 50  #: seconds; as the moment a job became eligible: not yet


class PriorityColumns:
    """One row a job that waits and whose priority nobody set."""

    def __init__(self, plugin: PriorityRecalculator, options: PriorityOptions) -> None:
        self.plugin = plugin
        self.options = options
        self.recalculated = 0  # times that all were made anew
        self._fair = np.zeros(1, np.int64)  # factor of each association; the last is that of none
        self._fair_row: dict[str, int] = {}
        self._shares_seen = (-1, -1)  # usage_version, accounts_version
        self._seen: tuple[object, ...] = ()
        self._t_all = float("-inf")
        self._partitions: dict[str, int] = {}
        self._jobs_left: list[int] = []  # to be read again
        self._rows_left: list[int] = []  # to be computed again
        self._forget()

    def set_options(self, options: PriorityOptions) -> None:
        """Take a changed configuration: everything is read anew if it says another thing."""
        if options != self.options:
            self.options = options
            self._seen = ()

    def due_in(self, state: State, now: float) -> float:
        """Seconds until all priorities are to be made anew; 0 or less: now."""
        if self._shares_seen != (state.usage_version, state.accounts_version):
            return 0.0
        return self._t_all + self.options.calc_period_s - now

    def update(self, state: State, now: float) -> dict[int, int]:
        """Bring `JobRecord.priority` up to date.  Drains nothing of the state.

        Gives the new priorities by job id.
        """
        changed: dict[int, int] = {}
        self.begin(state, now)
        while self.is_behind:
            changed |= self.more(state, now, len(state.jobs) + 1)
        return changed | self.take(state, state.dirty_jobs, now)

    @property
    def is_behind(self) -> bool:
        """True while `more` has something to do."""
        return bool(self._jobs_left or self._rows_left)

    def begin(self, state: State, now: float) -> bool:
        """See whether all priorities are to be made anew; if so `more` makes them, some at a time.  True if it is so
        since this call."""
        versions = self._versions(state)
        if self._seen == versions and self.due_in(state, now) > 0:
            return False
        if self._shares_seen != (state.usage_version, state.accounts_version):
            self._shares_seen = state.usage_version, state.accounts_version
            self._read_shares(state)
        if self._seen != versions:
            self._seen = versions
            if self._tres.shape[1] != len(self.options.weight_tres):
                self._forget()
            self._read_scale(state)
            self._jobs_left = list(state.jobs)
        self._t_all = now
        self.recalculated += 1
        self._rows_left = list(self._row.values())
        return True

    def more(self, state: State, now: float, count: int) -> dict[int, int]:
        """The new priorities of up to `count` jobs more."""
        if some := self._jobs_left[-count:]:
            del self._jobs_left[-count:]
            return self.take(state, some, now)
        rows = [row for row in self._rows_left[-count:] if self._ids[row] in state.jobs]
        del self._rows_left[-count:]
        return self._write(state, rows, now) if rows else {}

    def take(self, state: State, job_ids: Iterable[int], now: float) -> dict[int, int]:
        """Read these jobs, and give them their priorities."""
        rows = []
        for job_id in job_ids:
            job = state.jobs.get(job_id)
            if job is None:
                self._drop(job_id)
            elif (row := self._take(state, job)) is not None:
                rows.append(row)
        return self._write(state, rows, now) if rows else {}

    def factors(self, ids: Iterable[int]) -> tuple[list[int], Priorities]:
        """What the priorities that are shown were made of: the ids that have one, and their rows of the result."""
        known = [job_id for job_id in ids if job_id in self._row]
        rows = np.array([self._row[job_id] for job_id in known], np.int64)
        return known, self.plugin.prioritise(self._table(rows), self._scale, self.options)

    # ---- rows --------------------------------------------------------------------------------------------------------

    def _belongs(self, job: JobRecord) -> bool:
        if job.spec.priority is not None:
            return False
        if job.is_waiting:
            return job.pending is None or bool(job.pending)
        return job.is_active and "CALCULATE_RUNNING" in self.options.flags

    def _take(self, state: State, job: JobRecord) -> int | None:
        """Read a job into its row; None if it has none any more."""
        job_id = job.job_id
        if not self._belongs(job):
            self._drop(job_id)
            return None
        row = self._row.get(job_id)
        if row is None:
            row = self._row[job_id] = self._free.pop() if self._free else self._grow()
            self._ids[row] = job_id
        spec, of = job.spec, self._of
        of["last"][row] = job.priority
        names = spec.partitions or [state.default_partition]
        partitions = [state.partitions[name] for name in names if name in state.partitions]
        asked = asked_tres(job, state)
        limit_s = spec.time_limit_s if spec.time_limit_s is not None else default_limit(next(iter(partitions), None))
        accounts = state.accounts
        qos = accounts.qos.get(spec.qos)
        always = "ACCRUE_ALWAYS" in self.options.flags
        since = job.t_submit if always else job.t_eligible or float(_NEVER)
        of["age_from"][row] = int(since * 1000)
        of["aged"][row] = 0 if always else int(job.aged_s * 1000)
        of["nodes"][row], of["cpus"][row] = asked["node"], asked["cpu"]
        of["limit_min"][row] = max(1, limit_s // 60) if limit_s else 365 * 1440
        of["assoc"][row] = _assoc_priority(state, job.assoc)
        of["fair"][row] = self._fair_row.get(job.assoc, -1)
        of["qos"][row] = qos.priority if qos is not None else 0
        of["partition"][row] = max((p.priority_job_factor for p in partitions), default=0)
        of["tres_row"][row] = self._partitions.get(partitions[0].name, 0) if partitions else 0
        of["nice"][row], of["site"][row] = spec.nice, spec.site_factor
        for column, (name, _) in enumerate(self.options.weight_tres):
            self._tres[row, column] = asked.get(name, 0)
        return row

    def _drop(self, job_id: int) -> None:
        row = self._row.pop(job_id, None)
        if row is not None:
            self._ids[row] = 0
            self._free.append(row)

    def _forget(self) -> None:
        kinds = len(self.options.weight_tres)
        self._row: dict[int, int] = {}
        self._ids: list[int] = []  # by row; 0 = free
        self._free: list[int] = []
        self._of = {name: np.zeros(64, np.int64) for name in _COLUMNS}
        self._tres = np.zeros((64, kinds), np.int64)
        self._scale = PriorityScale(1, 1, 0, 0, 0, np.zeros((1, kinds), np.int64))

    def _grow(self) -> int:
        row = len(self._ids)
        self._ids.append(0)
        if row >= len(self._tres):
            self._of = {name: np.concatenate([column, np.zeros_like(column)]) for name, column in self._of.items()}
            self._tres = np.concatenate([self._tres, np.zeros_like(self._tres)])
        return row

    # ---- the pass ----------------------------------------------------------------------------------------------------

    def _versions(self, state: State) -> tuple[object, ...]:
        marks = [(p.name, p.priority_job_factor, len(p.nodes)) for p in state.partitions.values()]
        return self.options, state.accounts_version, len(state.node_names), marks

    def _read_shares(self, state: State) -> None:
        """The fair-share factors."""
        factors = [0.0]
        self._fair_row = {}
        if state.accounts.is_configured:
            found = fair_shares(state.accounts, state.usage, state.usage_policy)
            factors, self._fair_row = [*found.shares.factor, 0.0], found.row
        self._fair = (np.array(factors) * ONE).astype(np.int64)

    def _read_scale(self, state: State) -> None:
        """What a factor of 1 stands for."""
        nodes = list(state.nodes.values())
        self._partitions = {name: at for at, name in enumerate(state.partitions)}
        totals = np.zeros((max(1, len(state.partitions)), len(self.options.weight_tres)), np.int64)
        for at, partition in enumerate(state.partitions.values()):
            members = [state.nodes[name] for name in partition.nodes if name in state.nodes]
            counts = {
                "cpu": sum(node.cpus for node in members),
                "mem": sum(node.real_memory_mib for node in members),
                "node": len(members),
            }
            for column, (name, _) in enumerate(self.options.weight_tres):
                if name.startswith("gres/"):
                    kind = name[5:]
                    counts[name] = sum(layout_of(n.gres).units.get(kind, 0) for n in members if n.gres)
                totals[at, column] = counts.get(name, 0)
        self._scale = PriorityScale(
            nodes=len(nodes),
            cpus=sum(node.cpus for node in nodes),
            assoc=state.accounts.priority_max,
            qos=state.accounts.qos_priority_max,
            partition=max((p.priority_job_factor for p in state.partitions.values()), default=0),
            tres=totals,
        )

    def _table(self, rows: Int64) -> PriorityTable:
        """The rows as they were when they were last looked at."""
        of = self._of
        waited = np.maximum(of["at"][rows] - of["age_from"][rows], 0) + of["aged"][rows]
        floor = of["last"][rows] if "INCR_ONLY" in self.options.flags else np.zeros(len(rows), np.int64)
        tres_row: Int32 = of["tres_row"][rows].astype(np.int32)
        return PriorityTable(
            age_s=waited // 1000,
            nodes=of["nodes"][rows],
            cpus=of["cpus"][rows],
            limit_min=of["limit_min"][rows],
            fairshare=self._fair[of["fair"][rows]],
            assoc=of["assoc"][rows],
            qos=of["qos"][rows],
            partition=of["partition"][rows],
            tres=self._tres[rows],
            tres_row=tres_row,
            nice=of["nice"][rows],
            site=of["site"][rows],
            floor=floor,
        )

    def _write(self, state: State, rows: list[int], now: float) -> dict[int, int]:
        at = np.array(rows, np.int64)
        self._of["at"][at] = int(now * 1000)
        found = self.plugin.prioritise(self._table(at), self._scale, self.options).priority
        moved = np.flatnonzero(found != self._of["last"][at])
        self._of["last"][at] = found
        changed: dict[int, int] = {}
        ids, jobs = self._ids, state.jobs
        for row, priority in zip(at[moved].tolist(), found[moved].tolist(), strict=True):
            job_id = ids[row]
            job = jobs[job_id]
            if job.priority != priority:
                job.priority = priority
                changed[job_id] = priority
        return changed


def _assoc_priority(state: State, key: str) -> int:
    """Priority of an association: its own, or that of the nearest account above that has one."""
    for a in state.accounts.chain(key) if key else ():
        if a.priority is not None:
            return a.priority
    return 0
