"""Which limits of associations and QOS hold for whom: worked out once for each association, QOS and partition's QOS.

A job may have two QOS: its own and its partition's (`QOS=` of the partition).  The partition's stands before the
job's, unless the job's has the flag OverPartQOS; what either limits is not limited by associations, each TRES by
itself.  What stands back for another still counts the job, as in Slurm, so that its own jobs see what is in use.
LimitFactor makes the TRES limits of associations larger for jobs of its QOS: such a limit is a pool for each factor,
all of which count every job.  Pure.

Source: slurm.schedmd.com/resource_limits.html, sacctmgr(1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from helix.model import limit_reasons as why
from helix.model.account import PARTITION_OVERRIDES, Accounts, Limits, Qos, Tres
from helix.model.job_state import Reason
from helixctld.core.usage import FairShares, Spent

SOURCE = "limit"  #: first word of the keys
#: ("limit", owner, name, kind, tres); owner: assoc, leaf, qos, user, account; kind: jobs, tres, mins, runmins, wall;
#: `tres*2.5` is the limit times a LimitFactor
Key = tuple[str, str, str, str, str]
#: one limit: where it is found, what it is of, how much, and its reason
_Found = tuple[str, str, str, str, int, Reason]


class Groups(NamedTuple):
    """The limits of groups that a job takes from."""

    limiting: tuple[Key, ...]  # they keep it from starting
    counted: tuple[Key, ...]  # they only count it: another limit stands in for them


OfTres = dict[str, tuple[int, Reason]]  #: TRES -> limit and its reason


@dataclass(frozen=True, slots=True)
class PerJob:
    """Limits of one job."""

    most: OfTres = field(default_factory=dict)
    on_node: OfTres = field(default_factory=dict)
    minutes: OfTres = field(default_factory=dict)
    least: OfTres = field(default_factory=dict)
    wall_s: int = 0  # 0 = none
    wall_reason: Reason = Reason.NONE

    @property
    def is_empty(self) -> bool:
        """True if nothing is limited."""
        return not (self.most or self.on_node or self.minutes or self.least or self.wall_s)


class LimitBook:
    """What holds for whom; a new one for each new AssocFile."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.total: dict[Key, int] = {}
        self.reason: dict[Key, Reason] = {}
        self.counts_minutes = False
        self.sums: dict[str, Spent] = {}  # see `helixctld.core.limits`
        self.sums_mark = -1
        #: associations whose past use counts
        self.minute_owners = {a.key for a in accounts if a.limits.grp_tres_mins or a.limits.grp_wall_s is not None}
        self.shares: FairShares | None = None
        self.shares_mark = -1
        #: QOS whose jobs wait while their association's fair-share factor is below this
        self.thresholds = {
            q.name: q.usage_threshold
            for q in accounts.qos.values()
            if q.usage_threshold is not None and "EnforceUsageThreshold" in q.flags
        }
        #: QOS -> which limits of partitions its jobs may pass
        self.overrides = {q.name: own for q in accounts.qos.values() if (own := q.flags & PARTITION_OVERRIDES)}
        self.no_reserve = frozenset(q.name for q in accounts.qos.values() if "NoReserve" in q.flags)
        self._factors = sorted({1.0, *(q.limit_factor for q in accounts.qos.values())})
        self._groups: dict[tuple[str, str, str], Groups] = {}
        self._per_job: dict[tuple[str, str, str], PerJob] = {}

    def order(self, qos: str, part_qos: str) -> list[Qos]:
        """The QOS of a job and of its partition, the one that stands before the other first."""
        own, of_part = self.accounts.qos.get(qos), self.accounts.qos.get(part_qos)
        found = [q for q in (of_part, own) if q is not None]
        if own is not None and "OverPartQOS" in own.flags:
            found.reverse()
        return found[:1] if own is of_part else found

    def groups(self, assoc: str, qos: str, part_qos: str = "") -> Groups:
        """The limits of groups that hold for a job of an association."""
        who = (assoc, qos, part_qos)
        found = self._groups.get(who)
        if found is None:
            found = self._groups[who] = self._find_groups(assoc, self.order(qos, part_qos))
            self.counts_minutes |= any(key[3] in ("mins", "runmins", "wall") for keys in found for key in keys)
        return found

    def per_job(self, assoc: str, qos: str, part_qos: str = "") -> PerJob:
        """The limits of one job."""
        who = (assoc, qos, part_qos)
        found = self._per_job.get(who)
        if found is None:
            found = self._per_job[who] = self._find_per_job(assoc, self.order(qos, part_qos))
        return found

    # ---- of groups -----------------------------------------------------------------------------------------------

    def _find_groups(self, assoc: str, order: list[Qos]) -> Groups:
        chain = self.accounts.chain(assoc)
        account, user = (chain[0].account, chain[0].user) if chain else ("", "")
        limiting: list[Key] = []
        counted: list[Key] = []
        taken: set[tuple[str, str, str]] = set()  # (scope, kind, tres) that a QOS before limits
        for qos in order:
            mine = [*_grp("qos", qos.name, qos.limits, "QOS"), *_of_qos(qos, account, user)]
            for found in mine:
                key = self._note(found)
                (counted if _mark(found) in taken else limiting).append(key)
            taken.update(map(_mark, mine))
        factor = _factor(order)
        for a in chain:
            for found in _grp("assoc", a.key, a.limits, "Assoc"):
                stands_back = ("grp", *found[2:4]) in taken
                for scale in self._factors if found[2] == "tres" else (1.0,):
                    key = self._note(_scaled(found, scale))
                    is_own = found[2] != "tres" or scale == factor
                    (limiting if is_own and not stands_back else counted).append(key)
        jobs = self.accounts.inherited(assoc, "max_jobs")
        if jobs is not None:
            key = self._note(("leaf", assoc, "jobs", "", jobs, Reason.ASSOC_MAX_JOBS_LIMIT))
            (counted if ("user", "jobs", "") in taken else limiting).append(key)
        return Groups(tuple(limiting), tuple(counted))

    def _note(self, found: _Found) -> Key:
        owner, name, kind, tres, total, reason = found
        key = (SOURCE, owner, name, kind, tres)
        self.total[key], self.reason[key] = total, reason
        return key

    # ---- of one job ------------------------------------------------------------------------------------------------

    def _find_per_job(self, assoc: str, order: list[Qos]) -> PerJob:
        factor = _factor(order)

        def joined(name: str, reason: Callable[[str, str], Reason], scale: float = 1.0) -> OfTres:
            of_assoc: Tres = self.accounts.inherited_tres(assoc, name)
            found = {tres: (int(most * scale), reason("Assoc", tres)) for tres, most in of_assoc.items()}
            for qos in reversed(order):
                own: Tres = getattr(qos.limits, name)
                found |= {tres: (most, reason("QOS", tres)) for tres, most in own.items()}
            return found

        least: OfTres = {}
        for qos in reversed(order):
            least |= {tres: (count, why.least(tres)) for tres, count in qos.min_tres_per_job.items()}
        wall_s = next((q.limits.max_wall_s for q in order if q.limits.max_wall_s is not None), None)
        wall_reason = Reason.QOS_MAX_WALL_DURATION_PER_JOB_LIMIT
        if wall_s is None:
            wall_s = self.accounts.inherited(assoc, "max_wall_s")
            wall_reason = Reason.ASSOC_MAX_WALL_DURATION_PER_JOB_LIMIT
        return PerJob(
            most=joined("max_tres_per_job", why.per_job, factor),
            on_node=joined("max_tres_per_node", why.per_node, factor),
            minutes=joined("max_tres_mins_per_job", why.minutes_per_job),
            least=least,
            wall_s=wall_s or 0,
            wall_reason=wall_reason,
        )


def kind_of(key: tuple[str, ...]) -> str:
    """The kind of limit, whatever the factor."""
    return key[3].partition("*")[0]


def _mark(found: _Found) -> tuple[str, str, str]:
    """What a limit of a QOS stands in for: the same kind for the same scope."""
    return {"qos": "grp"}.get(found[0], found[0]), found[2], found[3]


def _factor(order: list[Qos]) -> float:
    """What the TRES limits of associations are multiplied by."""
    return next((q.limit_factor for q in order if q.limit_factor != 1.0), 1.0)


def _scaled(found: _Found, scale: float) -> _Found:
    owner, name, kind, tres, most, reason = found
    return found if scale == 1.0 else (owner, name, f"{kind}*{scale!r}", tres, int(most * scale), reason)


def _grp(owner: str, name: str, limits: Limits, word: str) -> Iterator[_Found]:
    """Grp... limits of one owner."""
    if limits.grp_jobs is not None:
        yield owner, name, "jobs", "", limits.grp_jobs, Reason(f"{word}GrpJobsLimit")
    for tres, most in limits.grp_tres.items():
        yield owner, name, "tres", tres, most, why.grp(word, tres)
    for tres, most in limits.grp_tres_mins.items():
        yield owner, name, "mins", tres, most * 60, why.minutes(word, tres)
    for tres, most in limits.grp_tres_run_mins.items():
        yield owner, name, "runmins", tres, most * 60, why.minutes(word, tres, run=True)
    if limits.grp_wall_s is not None:
        yield owner, name, "wall", "", limits.grp_wall_s, Reason(f"{word}GrpWallLimit")


def _of_qos(qos: Qos, account: str, user: str) -> Iterator[_Found]:
    """Limits of a QOS for each user and each account."""
    if user:
        name = f"{qos.name}:{user}"
        if qos.max_jobs_per_user is not None:
            yield "user", name, "jobs", "", qos.max_jobs_per_user, Reason.QOS_MAX_JOBS_PER_USER_LIMIT
        for tres, most in qos.max_tres_per_user.items():
            yield "user", name, "tres", tres, most, why.per_user(tres)
    if account:
        name = f"{qos.name}:{account}"
        if qos.max_jobs_per_account is not None:
            yield "account", name, "jobs", "", qos.max_jobs_per_account, Reason.MAX_JOBS_PER_ACCOUNT
        for tres, most in qos.max_tres_per_account.items():
            yield "account", name, "tres", tres, most, why.per_account(tres)
