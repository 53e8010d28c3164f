"""Limits on jobs that wait or run, and what is refused at submission: too many, or more than a job may ever have.

Source: slurm.schedmd.com/resource_limits.html, sacctmgr(1).  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from helix.errors import LimitExceeded
from helix.model.account import Accounts, Qos
from helix.model.job import JobRecord
from helixctld.core.limit_book import kind_of
from helixctld.core.limits import amounts, over_in, part_qos_of, partitions_of

if TYPE_CHECKING:
    from helixctld.core.state import State


_Who = tuple[str, str, str]  #: association, QOS, partition


class OpenJobs:
    """How many jobs wait or run, each task of an array being one: of associations with all below them, by QOS, and by
    QOS with user and with account.  A job counts for its own QOS and for its partition's (of the first it names)."""

    def __init__(self, accounts: Accounts, partition_qos: dict[str, str], before: OpenJobs | None = None) -> None:
        """`partition_qos`: QOS of the partitions that have one; `before`: what was counted under other accounts."""
        self.accounts = accounts
        self.partition_qos = partition_qos
        self.count: dict[tuple[str, ...], int] = {}
        self._share: dict[int, tuple[_Who, int]] = {} if before is None else before._share
        self._of: dict[_Who, int] = {}
        self._scopes: dict[_Who, tuple[tuple[str, ...], ...]] = {}
        for who, count in () if before is None else before._of.items():
            self._add(who, count)

    def note(self, job_id: int, job: JobRecord | None) -> None:
        """Count a job anew after a change; None: it is gone."""
        new = None
        if job is not None and not job.is_terminal and (count := 1 if job.pending is None else len(job.pending)):
            new = (job.assoc, job.spec.qos, job.partition), count
        old = self._share.get(job_id)
        if new == old:
            return
        if old is not None:
            del self._share[job_id]
            self._add(old[0], -old[1])
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

    def _add(self, who: _Who, change: int) -> None:
        self._of[who] = self._of.get(who, 0) + change
        for scope in self._scopes_of(who):
            self.count[scope] = self.count.get(scope, 0) + change

    def _scopes_of(self, who: _Who) -> tuple[tuple[str, ...], ...]:
        found = self._scopes.get(who)
        if found is None:
            assoc, qos, partition = who
            account, _, rest = assoc.partition(":")
            user = rest.partition(":")[0]
            scopes: list[tuple[str, ...]] = [("assoc", a.key) for a in self.accounts.chain(assoc)]
            for name in dict.fromkeys(filter(None, (qos, self.partition_qos.get(partition, "")))):
                scopes += [("qos", name), ("user", name, user), ("account", name, account)]
            found = self._scopes[who] = tuple(scopes)
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
    refusals = [_denied(state, job, name) for name in part_qos_of(state, job)]
    if refusals and all(refusals):
        assert refusals[0] is not None
        raise refusals[0]


def _denied(state: State, job: JobRecord, part_qos: str) -> LimitExceeded | None:
    """What a QOS with DenyOnLimit says to a job that could never start by itself."""
    strict = next((q for q in state.limit_book.order(job.spec.qos, part_qos) if "DenyOnLimit" in q.flags), None)
    if strict is None:
        return None
    over = over_in(state, job, (job.assoc, part_qos))
    if over is not None:
        return LimitExceeded(
            f"{over[1]} ({over[0]})",
            code="JOB_LIMIT",
            hint=f"ask for less, or use another QOS: '{strict.name}' (DenyOnLimit) refuses jobs that could never start",
        )
    for key, amount in amounts(state, job, state.limit_book.groups(job.assoc, job.spec.qos, part_qos).limiting):
        most = state.limit_book.total[key]
        if kind_of(key) in ("tres", "jobs") and amount > most:
            reason, owner = (
                state.limit_book.reason[key],
                "QOS" if key[1] in ("qos", "user", "account") else "association",
            )
            return LimitExceeded(
                f"{amount} {key[4] or 'jobs'} are more than the limit {most} of {owner} {key[2]} ({reason})",
                code="JOB_LIMIT",
                hint=f"ask for at most {most}, or use another QOS: '{strict.name}' has DenyOnLimit",
            )
    return None


def _submit_limits(state: State, job: JobRecord) -> Iterator[tuple[str, int, int]]:
    """Limits on open jobs that hold: words, limit, and how many there are."""
    accounts, there = state.accounts, state.open_jobs
    part_qos = state.partition_qos.get(partitions_of(state, job)[0], "")
    order = state.limit_book.order(job.spec.qos, part_qos)
    chain = accounts.chain(job.assoc)
    leaf = chain[0] if chain else None
    group = _first(order, lambda q: q.limits.grp_submit_jobs)
    if group is not None:
        yield f"GrpSubmitJobs of QOS {group[0]}", group[1], there.of_qos(group[0])
    of_user = _first(order, lambda q: q.max_submit_per_user)
    if of_user is not None and leaf is not None:
        used = there.of_qos(of_user[0], user=leaf.user)
        yield f"MaxSubmitJobsPerUser of QOS {of_user[0]}", of_user[1], used
    of_account = _first(order, lambda q: q.max_submit_per_account)
    if of_account is not None and leaf is not None:
        used = there.of_qos(of_account[0], account=leaf.account)
        yield f"MaxSubmitJobsPerAccount of QOS {of_account[0]}", of_account[1], used
    most = accounts.inherited(job.assoc, "max_submit_jobs") if leaf is not None else None
    if most is not None and of_user is None:
        yield f"MaxSubmitJobs of {job.assoc}", most, there.of_association(job.assoc)
    for a in chain:
        if a.limits.grp_submit_jobs is not None and group is None:
            yield f"GrpSubmitJobs of {a.key}", a.limits.grp_submit_jobs, there.of_association(a.key)


def _first(order: list[Qos], limit: Callable[[Qos], int | None]) -> tuple[str, int] | None:
    """The first QOS that has the limit, and what it is."""
    return next(((q.name, most) for q in order if (most := limit(q)) is not None), None)
