"""What is derived of reservations: the jobs that ask for one or run in it, and the marks of their nodes.

Kept up to date by `State` and `apply`; rebuilt with the state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from helix.model.job import JobRecord
from helix.model.reservation import ReservationRecord
from helix.timefmt import format_timestamp

if TYPE_CHECKING:
    from helixctld.core.state import State


def asked(job: JobRecord) -> list[str]:
    """The reservations a job asks for, in its order."""
    return [name for name in job.spec.reservation.split(",") if name]


def may_use(r: ReservationRecord, user: str, uid: int, account: str | None) -> bool:
    """True if a job of this user and account may use it.  `account` None: whatever the account.

    Users and Accounts must both let it in; groups stand for their users.
    """
    mine = {user, str(uid)} - {""}
    if r.users and bool(mine.intersection(r.users)) == r.users_denied:
        return False
    if r.groups and mine.isdisjoint(r.group_users):
        return False
    return account is None or not r.accounts or (account in r.accounts) != r.accounts_denied


def index_job(state: State, job: JobRecord, t: float) -> None:
    """Keep `reservation_jobs` true for one job; a reservation whose last job leaves is idle from `t` on."""
    if job.is_terminal:
        wanted = frozenset[str]()
    elif job.is_active:
        wanted = frozenset([job.reservation] if job.reservation else ())
    else:
        wanted = frozenset(asked(job))
    known = state.reserving_jobs.get(job.job_id, frozenset())
    if wanted == known:
        return
    state.calendar_version += 1
    for name in known - wanted:
        jobs = state.reservation_jobs[name]
        jobs.discard(job.job_id)
        if not jobs:
            del state.reservation_jobs[name]
            if (r := state.reservations.get(name)) is not None and r.active:
                r.t_idle = t
    for name in wanted - known:
        state.reservation_jobs.setdefault(name, set()).add(job.job_id)
        if (r := state.reservations.get(name)) is not None:
            r.t_idle = 0.0
    if wanted:
        state.reserving_jobs[job.job_id] = wanted
    else:
        state.reserving_jobs.pop(job.job_id, None)


def mark_nodes(state: State, names: Iterable[str]) -> None:
    """Recompute which active reservations hold of these nodes."""
    active = [r for r in state.reservations.values() if r.active]
    for name in names:
        node = state.nodes.get(name)
        if node is None:
            continue
        mine = [r for r in active if name in r.shares]
        node.reservations = [r.name for r in mine]
        node.maintenance = any(r.has("MAINT") for r in mine)
        state.dirty_nodes.add(name)


def awaited(state: State, job: JobRecord) -> str:
    """Why a job that asks for reservations may not start yet, "" if one of them takes it."""
    words = []
    for name in asked(job):
        r = state.reservations.get(name)
        if r is None:
            words.append(f"reservation {name} does not exist")
        elif not may_use(r, job.user, job.uid, job.spec.account):  # any more: who may use it has been changed
            words.append(f"reservation {name} is not for {job.user or job.uid} with account '{job.spec.account}'")
        elif r.active or r.has("FLEX"):
            return ""
        else:
            words.append(f"reservation {name} begins {format_timestamp(r.t_start)}")
    return ", ".join(words)
