"""Who may use a reservation, and which jobs are refused because theirs cannot serve them."""

from __future__ import annotations

from helix.errors import Conflict, Denied, HelixError, Never, NotFound, UsageError
from helix.hostlist import parse_hostlist
from helix.model.job import JobRecord, JobSpec
from helix.model.reservation import ReservationRecord, Share
from helix.quoting import one_line
from helix.timefmt import format_timestamp
from helixctld.core.caller import Caller
from helixctld.core.nearest import did_you_mean
from helixctld.core.reservation_index import may_use
from helixctld.core.reservation_times import NEVER_S, is_met
from helixctld.core.state import State

ONE_JOB_MAX = 64  #: reservations one job may ask for


def require(state: State, name: str) -> ReservationRecord:
    """The reservation of that name; raises NotFound."""
    r = state.reservations.get(name)
    if r is None:
        raise NotFound(
            f"no reservation '{one_line(name)}'", code="RESERVATION_UNKNOWN",
            hint=did_you_mean(name, state.reservations) or "hctl show reservation lists them",
        )  # fmt: skip
    return r


def check_submit(state: State, spec: JobSpec, owner: Caller, now: float) -> None:
    """Refuse a job whose --reservation cannot serve it.  Raises NotFound, Denied, Conflict or Never."""
    if not spec.reservation:
        return
    names = [name.strip() for name in spec.reservation.split(",") if name.strip()]
    if not names or len(names) > ONE_JOB_MAX:
        raise UsageError(f"--reservation={spec.reservation[:80]}: 1 to {ONE_JOB_MAX} names", code="RESERVATION_INVALID")
    account = spec.account or state.accounts.account_of(owner.user)
    problem: HelixError | None = None
    served = False
    for name in names:
        r = require(state, name)
        if not may_use(r, owner.user, owner.uid, account):
            who = owner.user or str(owner.uid)
            raise Denied(
                f"reservation '{name}' is not for user {who}"
                + (f" with account '{account}'" if r.accounts and account else ""),
                code="RESERVATION_DENIED",
                hint=f"it is for {_for_whom(r)}",
            )
        try:
            _check_fits(state, spec, r, now)
            served = True
        except HelixError as exc:
            problem = problem or exc
    if not served and problem is not None:
        raise problem
    spec.reservation = ",".join(dict.fromkeys(names))


def _for_whom(r: ReservationRecord) -> str:
    lists = (("users", r.users, r.users_denied), ("groups", r.groups, False),
             ("accounts", r.accounts, r.accounts_denied))  # fmt: skip
    return " and ".join(f"{'all but ' * no}{word} {', '.join(names[:10])}" for word, names, no in lists if names)


def _check_fits(state: State, spec: JobSpec, r: ReservationRecord, now: float) -> None:
    if r.has("FLEX"):
        return
    begin = max(now, spec.t_begin)
    if is_met(r, begin, NEVER_S, now) is None or (spec.t_deadline and is_met(r, begin, spec.t_deadline, now) is None):
        raise Conflict(
            f"reservation '{r.name}' ends {format_timestamp(r.t_end)}: the job could not start in it",
            code="RESERVATION_OVER",
            hint="see hctl show reservation for its time",
        )
    if r.has("ANY_NODES"):
        return
    for name in parse_hostlist(spec.nodelist) if spec.nodelist else ():
        if name not in r.shares:
            raise Never(f"node {name} is not in reservation '{r.name}'", hint="leave out --nodelist")
    asked, there = max(1, spec.nodes_min), len(r.shares)
    if asked > there and r.shares:
        raise Never(f"reservation '{r.name}' has {there} node{'s' * (there != 1)}, {asked} are asked")
    cpus = sum(_cpus(state, name, share) for name, share in r.shares.items())
    wanted = max(spec.tasks, asked * max(1, spec.tasks_per_node)) * max(1, spec.cpus_per_task)
    if r.shares and wanted > cpus:
        raise Never(f"reservation '{r.name}' has {cpus} CPUs, {wanted} are asked")


def _cpus(state: State, name: str, share: Share) -> int:
    node = state.nodes.get(name)
    return 0 if node is None else node.cpus if share.whole else share.cpus


def is_asked_by(job: JobRecord, r: ReservationRecord) -> bool:
    """True if a waiting job asks for the reservation, or is drawn in by it (MAGNETIC), and may use it still."""
    if not may_use(r, job.user, job.uid, job.spec.account):
        return False
    return r.name in job.spec.reservation.split(",") if job.spec.reservation else r.has("MAGNETIC") and r.active
