"""Limits of associations and QOS: which hold for a job, what it takes of them, what is refused at submission.

`LimitBook` works out once for each pair of association and QOS which limits hold (a new one for each new AssocFile):
the limits of groups as keys of pools, with what a job takes of each, and those of one job.  A limit of the QOS stands
in for the same limit of associations, as in Slurm.  Minutes are counted in TRES-seconds.  Pure.

Source: slurm.schedmd.com/resource_limits.html, sacctmgr(1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from helix.errors import LimitExceeded
from helix.model import limit_reasons as why
from helix.model.account import NO_LIMITS, Accounts, Limits, Qos, Tres
from helix.model.job import Allocation, JobRecord
from helix.model.job_state import Reason
from helix.sched.licences import licences_of
from helix.timefmt import format_time_limit
from helixctld.core.asked import asked_tres, limit_of
from helixctld.core.usage import MILLI, Spent, add_spent, billing_of, qos_key, tres_of

if TYPE_CHECKING:
    from helixctld.core.state import State

SOURCE = "limit"  #: first word of the keys
AMOUNT_MAX = 1 << 60
FOREVER_S = 1 << 40  #: stands for a job without a time limit, where time is counted

#: ("limit", owner, name, kind, tres); owner: assoc, leaf, qos, user, account; kind: jobs, tres, mins, runmins, wall
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class PerJob:
    """Limits of one job: TRES -> (limit, reason)."""

    most: dict[str, tuple[int, Reason]] = field(default_factory=dict)
    on_node: dict[str, tuple[int, Reason]] = field(default_factory=dict)
    minutes: dict[str, tuple[int, Reason]] = field(default_factory=dict)
    least: dict[str, tuple[int, Reason]] = field(default_factory=dict)
    wall_s: int = 0  # 0 = none
    wall_reason: Reason = Reason.NONE

    @property
    def is_empty(self) -> bool:
        """True if nothing is limited."""
        return not (self.most or self.on_node or self.minutes or self.least or self.wall_s)


class LimitBook:
    """What holds for whom."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.total: dict[Key, int] = {}
        self.reason: dict[Key, Reason] = {}
        self.counts_minutes = False
        self.sums: dict[str, Spent] = {}  # see `_sums`
        self.sums_mark = -1
        self._groups: dict[tuple[str, str], tuple[Key, ...]] = {}
        self._per_job: dict[tuple[str, str], PerJob] = {}

    def groups(self, assoc: str, qos: str) -> tuple[Key, ...]:
        """The limits of groups that a job takes from."""
        pair = (assoc, qos)
        found = self._groups.get(pair)
        if found is None:
            found = self._groups[pair] = tuple(self._find_groups(assoc, self.accounts.qos.get(qos)))
            self.counts_minutes |= any(key[3] in ("mins", "runmins", "wall") for key in found)
        return found

    def per_job(self, assoc: str, qos: str) -> PerJob:
        """The limits of one job."""
        pair = (assoc, qos)
        found = self._per_job.get(pair)
        if found is None:
            found = self._per_job[pair] = self._find_per_job(assoc, self.accounts.qos.get(qos))
        return found

    def _note(self, owner: str, name: str, kind: str, tres: str, total: int, reason: Reason) -> Key:
        key = (SOURCE, owner, name, kind, tres)
        self.total[key], self.reason[key] = total, reason
        return key

    def _find_groups(self, assoc: str, qos: Qos | None) -> Iterator[Key]:
        of_qos = qos.limits if qos is not None else Limits()
        chain = self.accounts.chain(assoc)
        if qos is not None:
            yield from self._grp("qos", qos.name, of_qos, Limits(), "QOS")
            yield from self._of_qos(qos, chain[0].account if chain else "", chain[0].user if chain else "")
        for a in chain:
            yield from self._grp("assoc", a.key, a.limits, of_qos, "Assoc")
        jobs = self.accounts.inherited(assoc, "max_jobs")
        if jobs is not None and (qos is None or qos.max_jobs_per_user is None):
            yield self._note("leaf", assoc, "jobs", "", jobs, Reason.ASSOC_MAX_JOBS_LIMIT)

    def _grp(self, owner: str, name: str, limits: Limits, instead: Limits, word: str) -> Iterator[Key]:
        """Grp... limits of one owner; those that `instead` has are its."""
        if limits.grp_jobs is not None and instead.grp_jobs is None:
            yield self._note(owner, name, "jobs", "", limits.grp_jobs, Reason(f"{word}GrpJobsLimit"))
        for tres, most in limits.grp_tres.items():
            if tres not in instead.grp_tres:
                yield self._note(owner, name, "tres", tres, most, why.grp(word, tres))
        for tres, most in limits.grp_tres_mins.items():
            if tres not in instead.grp_tres_mins:
                yield self._note(owner, name, "mins", tres, most * 60, why.minutes(word, tres))
        for tres, most in limits.grp_tres_run_mins.items():
            if tres not in instead.grp_tres_run_mins:
                yield self._note(owner, name, "runmins", tres, most * 60, why.minutes(word, tres, run=True))
        if limits.grp_wall_s is not None and instead.grp_wall_s is None:
            yield self._note(owner, name, "wall", "", limits.grp_wall_s, Reason(f"{word}GrpWallLimit"))

    def _of_qos(self, qos: Qos, account: str, user: str) -> Iterator[Key]:
        if user:
            name = f"{qos.name}:{user}"
            if qos.max_jobs_per_user is not None:
                most = qos.max_jobs_per_user
                yield self._note("user", name, "jobs", "", most, Reason.QOS_MAX_JOBS_PER_USER_LIMIT)
            for tres, most in qos.max_tres_per_user.items():
                yield self._note("user", name, "tres", tres, most, why.per_user(tres))
        if account:
            name = f"{qos.name}:{account}"
            if qos.max_jobs_per_account is not None:
                yield self._note("account", name, "jobs", "", qos.max_jobs_per_account, Reason.MAX_JOBS_PER_ACCOUNT)
            for tres, most in qos.max_tres_per_account.items():
                yield self._note("account", name, "tres", tres, most, why.per_account(tres))

    def _find_per_job(self, assoc: str, qos: Qos | None) -> PerJob:
        of_qos = qos.limits if qos is not None else Limits()

        def joined(name: str, reason: object) -> dict[str, tuple[int, Reason]]:
            of_assoc: Tres = self.accounts.inherited_tres(assoc, name)
            found = {tres: (most, reason("Assoc", tres)) for tres, most in of_assoc.items()}  # type: ignore[operator]
            own: Tres = getattr(of_qos, name)
            return {**found, **{tres: (most, reason("QOS", tres)) for tres, most in own.items()}}  # type: ignore[operator]

        wall_s, reason = of_qos.max_wall_s, Reason.QOS_MAX_WALL_DURATION_PER_JOB_LIMIT
        if wall_s is None:
            wall_s = self.accounts.inherited(assoc, "max_wall_s")
            reason = Reason.ASSOC_MAX_WALL_DURATION_PER_JOB_LIMIT
        return PerJob(
            most=joined("max_tres_per_job", why.per_job),
            on_node=joined("max_tres_per_node", why.per_node),
            minutes=joined("max_tres_mins_per_job", why.minutes_per_job),
            least={tres: (count, why.least(tres)) for tres, count in (qos.min_tres_per_job if qos else {}).items()},
            wall_s=wall_s or 0,
            wall_reason=reason,
        )


# ---- what a job takes --------------------------------------------------------------------------------------------


def association_of(state: State, job: JobRecord) -> str:
    """The association a job belongs to now: the one it was submitted with, or one that has come since; "" if none."""
    if job.assoc in state.accounts.associations or not state.accounts.is_configured:
        return job.assoc
    return state.accounts.find(job.spec.account or state.accounts.account_of(job.user), job.user, job.partition)


def counts_of(state: State, job: JobRecord, alloc: Allocation | None = None) -> Tres:
    """All TRES of a job with billing: of an allocation, or the least it asks for."""
    if alloc is None:
        counts = {**asked_tres(job, state), **licence_tres(job)}
    else:
        counts = {**tres_of(alloc), **licence_tres(job)}
    if alloc is not None and alloc.billing_milli >= 0:
        milli = alloc.billing_milli
    else:
        partition = state.partitions.get(job.partition)
        milli = billing_of(counts, partition.tres_billing_weights if partition else "", state.usage_policy.flags)
    counts["billing"] = -(-milli // MILLI)
    return counts


def takes(state: State, job: JobRecord, alloc: Allocation | None = None) -> Iterator[tuple[Key, int]]:
    """What a job takes of each group limit: waiting, or with an allocation."""
    assoc = association_of(state, job)
    groups = state.limit_book.groups(assoc, job.spec.qos)
    if not groups:
        return
    counts = counts_of(state, job, alloc)
    left_s = remaining_s(state, job)
    qos = state.accounts.qos.get(job.spec.qos)
    factor = 1.0 if qos is None or "UsageFactorSafe" not in qos.flags else qos.usage_factor
    for key in groups:
        kind, tres = key[3], key[4]
        if kind == "jobs":
            yield key, 1
        elif kind == "wall":
            yield key, left_s
        elif counts.get(tres):
            amount = counts[tres] if kind == "tres" else int(counts[tres] * left_s * factor)
            yield key, min(amount, AMOUNT_MAX)


def remaining_s(state: State, job: JobRecord) -> int:
    """What a job may still run by its limit that has not been charged yet, whole seconds rounded up."""
    limit_s = limit_of(job, state) or FOREVER_S
    return max(0, -((job.charged_ms - limit_s * 1000) // 1000)) if job.is_active else limit_s


def total_of(state: State, key: Key) -> int:
    """How much of a limit there is: of minutes, what past use has left."""
    most = state.limit_book.total[key]
    _, owner, name, kind, tres = key
    if kind not in ("mins", "wall"):
        return most
    spent = _sums(state).get(qos_key(name) if owner == "qos" else name)
    if spent is None:
        return most
    return most - (spent.wall_ms if kind == "wall" else spent.tres.get(tres, 0)) // 1000


def _sums(state: State) -> dict[str, Spent]:
    """What each association with all below it, and each QOS, has used; made anew when the book has changed."""
    book = state.limit_book
    if book.sums_mark != state.usage_charges:
        book.sums_mark, book.sums = state.usage_charges, {}
        for key, spent in state.usage.book.items():
            if key.startswith("qos="):
                book.sums[key] = spent
                continue
            for a in state.accounts.chain(key) or state.accounts.chain(key.partition(":")[0]):
                add_spent(book.sums.setdefault(a.key, Spent()), spent)
    return book.sums


def licence_tres(job: JobRecord) -> Tres:
    """Licences of a job as TRES."""
    return {f"license/{name}": count for name, count in licences_of(job.spec)}


# ---- limits of one job ----------------------------------------------------------------------------------------------


def gate(state: State, job: JobRecord) -> tuple[Reason, str] | None:
    """What keeps a waiting job from being looked at at all; None if nothing does."""
    accounts, enforce = state.accounts, state.usage_policy.enforce
    if not accounts.is_configured or not enforce:
        return None
    assoc = association_of(state, job)
    if not assoc:
        return Reason.INVALID_ACCOUNT, f"user {job.user or job.uid} is not in account '{job.spec.account}'"
    if "qos" in enforce and job.spec.qos:
        if job.spec.qos not in accounts.qos:
            return Reason.INVALID_QOS, f"there is no QOS '{job.spec.qos}'"
        if job.spec.qos not in accounts.allowed_qos(assoc):
            return Reason.QOS_NOT_ALLOWED, f"{assoc} may not use QOS '{job.spec.qos}'"
    return over_limit(state, job, assoc) if "limits" in enforce else None


def over_limit(
    state: State, job: JobRecord, assoc: str, alloc: Allocation | None = None, limit_s: int | None = None
) -> tuple[Reason, str] | None:
    """The first limit of one job that a request (or an allocation) passes."""
    limits = state.limit_book.per_job(assoc, job.spec.qos)
    if limits.is_empty:
        return None
    counts = counts_of(state, job, alloc)
    wanted_s = limit_of(job, state) if limit_s is None else limit_s
    if limits.wall_s and (wanted_s == 0 or wanted_s > limits.wall_s):
        return limits.wall_reason, (
            f"the time limit {format_time_limit(wanted_s)} is longer than MaxWall={format_time_limit(limits.wall_s)}"
        )
    for tres, (most, reason) in limits.most.items():
        if counts.get(tres, 0) > most:
            return reason, f"{counts[tres]} {tres} are more than MaxTRESPerJob={tres}={most}"
    for tres, (most, reason) in limits.minutes.items():
        used = counts.get(tres, 0) * (wanted_s or FOREVER_S)
        if used > most * 60:
            return reason, f"{used // 60} minutes of {tres} are more than MaxTRESMinsPerJob={tres}={most}"
    for tres, (count, reason) in limits.least.items():
        if counts.get(tres, 0) < count:
            return reason, f"{counts.get(tres, 0)} {tres} are fewer than MinTRESPerJob={tres}={count}"
    nodes = max(1, counts.get("node", 1))
    for tres, (most, reason) in limits.on_node.items():
        here = -(-counts.get(tres, 0) // nodes) if alloc is None else _largest_share(alloc, tres)
        if here > most:
            return reason, f"{here} {tres} on a node are more than MaxTRESPerNode={tres}={most}"
    return None


def _largest_share(alloc: Allocation, tres: str) -> int:
    if tres == "cpu":
        return max(alloc.cpus, default=0)
    if tres == "mem":
        return max(alloc.mem_mib, default=0)
    shares = [Allocation(nodes=[name], cores=[[]], mem_mib=[0], gres=alloc.gres[at : at + 1])
              for at, name in enumerate(alloc.nodes)]  # fmt: skip
    return max((tres_of(share).get(tres, 0) for share in shares), default=0)


# ---- at submission ---------------------------------------------------------------------------------------------------


class OpenJobs:
    """How many jobs wait or run, each task of an array being one: of associations with all below them, by QOS, and by
    QOS with user and with account."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.count: dict[tuple[str, ...], int] = {}
        self._share: dict[int, tuple[str, str, int]] = {}
        self._scopes: dict[tuple[str, str], tuple[tuple[str, ...], ...]] = {}

    def note(self, job_id: int, job: JobRecord | None) -> None:
        """Count a job anew after a change; None: it is gone."""
        new = None
        if job is not None and not job.is_terminal and (count := 1 if job.pending is None else len(job.pending)):
            new = (job.assoc, job.spec.qos, count)
        old = self._share.get(job_id)
        if new == old:
            return
        if old is not None:
            del self._share[job_id]
            self._add(old[0], old[1], -old[2])
        if new is not None:
            self._share[job_id] = new
            self._add(*new)

    def of_association(self, key: str) -> int:
        """Jobs of an association and all below it."""
        return self.count.get(("assoc", key), 0)

    def of_qos(self, name: str, *, user: str = "", account: str = "") -> int:
        """Jobs with a QOS: all, a user's, or an account's."""
        scope = ("user", name, user) if user else ("account", name, account) if account else ("qos", name)
        return self.count.get(scope, 0)

    def _add(self, assoc: str, qos: str, change: int) -> None:
        for scope in self._of(assoc, qos):
            self.count[scope] = self.count.get(scope, 0) + change

    def _of(self, assoc: str, qos: str) -> tuple[tuple[str, ...], ...]:
        found = self._scopes.get((assoc, qos))
        if found is None:
            account, _, rest = assoc.partition(":")
            user = rest.partition(":")[0]
            scopes: list[tuple[str, ...]] = [("assoc", a.key) for a in self.accounts.chain(assoc)]
            if qos:
                scopes += [("qos", qos), ("user", qos, user), ("account", qos, account)]
            found = self._scopes[(assoc, qos)] = tuple(scopes)
        return found


def require_submit(state: State, job: JobRecord) -> None:
    """Refuse a job of which there would be too many, or that a QOS with DenyOnLimit turns away.

    `job` is the record as it would be, with its association.  Raises LimitExceeded (SUBMIT_LIMIT, JOB_LIMIT).
    """
    if not state.accounts.is_configured or not state.usage_policy.limits:
        return
    new = 1 if job.spec.array is None else len(job.spec.array)
    for what, most, used in _submit_limits(state, job):
        if used + new > most:
            raise LimitExceeded(
                f"{what}={most}: {used} jobs wait or run already",
                code="SUBMIT_LIMIT",
                hint="wait until some have ended" if new <= most else "ask for fewer tasks",
            )
    qos = state.accounts.qos.get(job.spec.qos)
    if qos is None or "DenyOnLimit" not in qos.flags:
        return
    over = over_limit(state, job, job.assoc)
    if over is not None:
        raise LimitExceeded(f"{over[1]} ({over[0]})", code="JOB_LIMIT", hint=f"QOS '{qos.name}' refuses such jobs")
    for key, amount in takes(state, job):
        most = state.limit_book.total[key]
        if key[3] in ("tres", "jobs") and amount > most:
            reason = state.limit_book.reason[key]
            raise LimitExceeded(
                f"{amount} {key[4] or 'jobs'} are more than the limit {most} ({reason})", code="JOB_LIMIT"
            )


def _submit_limits(state: State, job: JobRecord) -> Iterator[tuple[str, int, int]]:
    """Limits on open jobs that hold: words, limit, and how many there are."""
    accounts, there = state.accounts, state.open_jobs
    qos = accounts.qos.get(job.spec.qos)
    of_qos = qos.limits if qos is not None else NO_LIMITS
    chain = accounts.chain(job.assoc)
    leaf = chain[0] if chain else None
    if qos is not None:
        name = qos.name
        if of_qos.grp_submit_jobs is not None:
            yield f"GrpSubmitJobs of QOS {name}", of_qos.grp_submit_jobs, there.of_qos(name)
        if qos.max_submit_per_user is not None and leaf is not None:
            used = there.of_qos(name, user=leaf.user)
            yield f"MaxSubmitJobsPerUser of QOS {name}", qos.max_submit_per_user, used
        if qos.max_submit_per_account is not None and leaf is not None:
            used = there.of_qos(name, account=leaf.account)
            yield f"MaxSubmitJobsPerAccount of QOS {name}", qos.max_submit_per_account, used
    most = accounts.inherited(job.assoc, "max_submit_jobs") if leaf is not None else None
    if most is not None and (qos is None or qos.max_submit_per_user is None):
        yield f"MaxSubmitJobs of {job.assoc}", most, there.of_association(job.assoc)
    for a in chain:
        if a.limits.grp_submit_jobs is not None and of_qos.grp_submit_jobs is None:
            yield f"GrpSubmitJobs of {a.key}", a.limits.grp_submit_jobs, there.of_association(a.key)
