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
_TIMES = ("mins", "runmins", "wall")  #: counted in seconds, shown in minutes


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
        if kind in _TIMES:
            most, left = most // 60, left // 60
        shown = f"{what}={format_tres({tres: most}) if tres else most}"
        rest = f", {left} minutes are left" if kind in ("mins", "wall") else ""
        scaled = f" (LimitFactor={float(factor):g})" if factor else ""
        text = f"{shown}{scaled} of {_OWNERS[owner]} {name}{rest}"
        return state.limit_book.reason[key], text  # type: ignore[index]

    def of_job(self, state: State, key: PoolKey, used: int, amount: int) -> tuple[str, list[str]]:
        """How much of a limit is in use and what a job (a task of an array) asks of it, and advice: for hwhy.

        `used`: what running jobs hold; `amount`: what the job would take.  Both as `total` counts.
        """
        kind, tres, most = kind_of(key), key[4], state.limit_book.total[key]  # type: ignore[index]
        if kind in _TIMES and amount >= limits.FOREVER_S:
            return "the job has no time limit: it never starts", ["give it a --time"]
        held, asked, top = (_shown(count, kind, tres) for count in (used, amount, most))
        unit = " minutes" if kind in _TIMES else ""
        if amount > most:
            text = f"it asks {asked}{unit}, the limit is {top}: it never starts"
            return text, [] if kind == "jobs" else [f"ask for at most {top}{unit}{' (--time)' if unit else ''}"]
        if kind in ("mins", "wall"):
            return f"running jobs may take {held} of them, it asks {asked}", []
        return f"{held} of {top}{unit} in use, it asks {asked}", []


def _shown(count: int, kind: str, tres: str) -> str:
    """An amount of a limit as people write it: whole minutes begun, MiB with their letter."""
    return str(-(-count // 60)) if kind in _TIMES else f"{count}M" if tres == "mem" else str(count)


def check_limits(state: State, job: JobRecord, partition: str, limit_s: int, alloc: Allocation, now: float) -> str:
    """A `StartCheck`: limits of one job, with what it is really given."""
    del now
    if not state.usage_policy.limits:
        return ""
    who = limits.association_of(state, job), state.partition_qos.get(partition, "")
    over = limits.over_in(state, job, who, alloc, limit_s)
    return f"{over[1]} ({over[0]})" if over is not None else ""
