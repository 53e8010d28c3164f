"""Limits of associations and QOS as pools of the planner: see `helixctld.core.limits` and `sources.PoolSource`."""

from __future__ import annotations

from collections.abc import Iterable

from helix.config.tres import format_tres
from helix.model.job import Allocation, JobRecord
from helix.model.job_state import Reason
from helixctld.core import limits
from helixctld.core.limit_book import SOURCE, kind_of
from helixctld.core.state import State
from helixctld.schedule.sources import PoolKey

_NAMES = {"tres": "GrpTRES", "mins": "GrpTRESMins", "runmins": "GrpTRESRunMins", "wall": "GrpWall", "jobs": "GrpJobs"}
_OF_ONE = {"leaf": "MaxJobs", "user": "Max{}PerUser", "account": "Max{}PerAccount"}
_OWNERS = {"assoc": "association", "leaf": "association", "qos": "QOS", "user": "QOS and user",
           "account": "QOS and account"}  # fmt: skip


class LimitPools:
    """The source.  Its version is that of the accounts: what is left of minutes moves by itself (`is_moving`)."""

    name = SOURCE

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def version(self) -> int:
        """Rises with each change of accounts or of what is enforced."""
        return self._state.accounts_version

    def wants(self, state: State, job: JobRecord) -> Iterable[tuple[PoolKey, int]]:
        """What one start of a waiting job takes of each limit that holds for it."""
        return limits.takes(state, job) if state.usage_policy.limits else ()

    def holds(self, state: State, job: JobRecord, alloc: Allocation) -> Iterable[tuple[PoolKey, int]]:
        """What a job takes with what it has been given."""
        return limits.takes(state, job, alloc) if state.usage_policy.limits else ()

    def counts(self, state: State, job: JobRecord, alloc: Allocation) -> Iterable[tuple[PoolKey, int]]:
        """What it takes of limits that another limit stands in for: they keep others from starting."""
        return limits.is_counted_by(state, job, alloc) if state.usage_policy.limits else ()

    def total(self, state: State, key: PoolKey) -> int:
        """The limit; of minutes, what past use has left."""
        return limits.total_of(state, key)  # type: ignore[arg-type]

    def is_moving(self, key: PoolKey) -> bool:
        """True if the total changes with usage."""
        return key[3] in ("mins", "wall")

    def words(self, state: State, key: PoolKey) -> tuple[Reason, str]:
        """The limit's reason, and which it is."""
        _, owner, name, _, tres = key
        kind, _, factor = kind_of(key), *key[3].partition("*")[1:]
        most, left = state.limit_book.total[key], self.total(state, key)  # type: ignore[index]
        what = _OF_ONE[owner].format("Jobs" if kind == "jobs" else "TRES") if owner in _OF_ONE else _NAMES[kind]
        if kind in ("mins", "runmins", "wall"):
            most, left = most // 60, left // 60
        shown = f"{what}={format_tres({tres: most}) if tres else most}"
        rest = f", {left} minutes are left" if kind in ("mins", "wall") else ""
        scaled = f" (LimitFactor={float(factor):g})" if factor else ""
        text = f"{shown}{scaled} of {_OWNERS[owner]} {name}{rest}"
        return state.limit_book.reason[key], text  # type: ignore[index]


def check_limits(state: State, job: JobRecord, partition: str, limit_s: int, alloc: Allocation, now: float) -> str:
    """A `StartCheck`: limits of one job, with what it is really given."""
    del now
    if not state.usage_policy.limits:
        return ""
    who = limits.association_of(state, job), state.partition_qos.get(partition, "")
    over = limits.over_in(state, job, who, alloc, limit_s)
    return f"{over[1]} ({over[0]})" if over is not None else ""
