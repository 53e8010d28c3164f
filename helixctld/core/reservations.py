"""Advance reservations are made, changed and deleted: `hctl create|update|delete reservation`.

Every function validates and gives an event; none changes anything.  The words are read by `reservation_text`, nodes
chosen and conflicts found by `reservation_nodes`; `reservation_times` is the calendar, `reservation_due` what time
does, `reservation_access` who may use one.  Source: scontrol(1), reservations.html.  Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from helix.errors import Conflict, Denied, LimitExceeded, NotFound
from helix.model import events as ev
from helix.model.reservation import RESERVATION_FLAGS, ReservationRecord
from helix.quoting import one_line
from helix.sched.licences import licences_of
from helix.timefmt import clock_of, format_timestamp
from helixctld.core.caller import Caller
from helixctld.core.nearest import did_you_mean
from helixctld.core.reservation_access import require
from helixctld.core.reservation_index import may_use
from helixctld.core.reservation_nodes import Search, all_nodes, job_end, shares_of
from helixctld.core.reservation_text import NAME, YEAR_S, Asked, invalid
from helixctld.core.reservation_times import NEVER_S, PERIOD_S, first_start, is_met, next_start, window
from helixctld.core.state import State

PAST_S = 60.0  #: a start may lie so far in the past: typing takes its time
RESERVATIONS_MAX = 10_000

Members = Callable[[str], Iterable[str]]  #: names of the users of a group


# ---- made, changed, deleted ------------------------------------------------------------------------------------------


def create(
    state: State, changes: dict[str, str], caller: Caller, now: float, members: Members
) -> ev.ReservationCreated:
    """The event of `hctl create reservation`."""
    if len(state.reservations) >= RESERVATIONS_MAX:
        raise LimitExceeded(f"there are {RESERVATIONS_MAX} reservations", hint="delete some that are not needed")
    r = ReservationRecord(name="", t_start=0.0, t_end=0.0, t_created=now, created_by=caller.user or str(caller.uid))
    asked = Asked(state, r, now, update=False)
    asked.read(changes)
    _check_users(state, r, [])
    if not r.name:
        r.name = _new_name(state, r)
    if r.name in state.reservations:
        raise Conflict(
            f"reservation '{r.name}' exists", code="RESERVATION_EXISTS", hint="update it, or take another name"
        )
    r.t_start = now if asked.start is None else asked.start
    if r.t_start < now - PAST_S:
        raise invalid(f"StartTime {format_timestamp(r.t_start)} has passed")
    _set_window(r, asked, YEAR_S, now)
    if r.repeats:
        r.clock_s, length = clock_of(r.t_start), r.t_end - r.t_start
        r.t_start = first_start(r.repeats, r.t_start)
        r.t_end = r.t_start + length
    if r.groups:
        r.group_users = sorted({user for group in r.groups for user in members(group)})
    _choose_nodes(state, r, asked, now)
    _check_licences(state, r, now)
    return ev.ReservationCreated(t=now, reservation=r)


def update(
    state: State, name: str, changes: dict[str, str], caller: Caller, now: float, members: Members
) -> ev.ReservationUpdated:
    """The event of `hctl update reservation=NAME`."""
    old = require(state, name)
    r = replace(old, tres=dict(old.tres))
    asked = Asked(state, r, now, update=True)
    asked.read(changes)
    _check_users(state, r, old.accounts)
    if asked.groups_changed:
        r.group_users = sorted({user for group in r.groups for user in members(group)})
    if asked.skip:
        if not r.repeats:
            raise invalid(f"reservation '{name}' does not repeat: there is no next occurrence", "delete it instead")
        if r.active and (running := running_jobs(state, name)):
            raise _in_use(name, running)
        length = r.t_end - r.t_start
        r.t_start = next_start(r, r.t_start)
        r.t_end, r.active = r.t_start + length, False
    timed = asked.start is not None or asked.end is not None or asked.duration_s is not None
    if asked.start is not None:
        if r.active and asked.start != r.t_start:
            raise Conflict(
                f"reservation '{name}' is active: its start cannot change", code="RESERVATION_ACTIVE",
                hint="change Duration or EndTime",
            )  # fmt: skip
        if asked.start < now - PAST_S and not r.active:
            raise invalid(f"StartTime {format_timestamp(asked.start)} has passed")
        r.t_start = asked.start
    if r.repeats and (asked.start is not None or r.clock_s < 0):
        r.clock_s = clock_of(r.t_start)
    if timed or r.flags != old.flags:
        _set_window(r, asked, old.t_end - old.t_start, now)
    _choose_again(state, old, r, asked, timed, now)
    _check_licences(state, r, now)
    return ev.ReservationUpdated(t=now, reservation=r, cause="changed", by_uid=caller.uid)


def delete(state: State, name: str, caller: Caller, now: float, *, users_may: bool = False) -> ev.ReservationDeleted:
    """The event of `hctl delete reservation=NAME`.  Refused while jobs run in it.  `users_may`: whoever may use it."""
    r = require(state, name)
    users_may |= r.has("USER_DELETE")
    theirs = state.accounts.users.get(caller.user, ())
    named = bool(r.users or r.groups) or (not r.accounts_denied and not set(theirs).isdisjoint(r.accounts))
    if not caller.is_operator and not (users_may and named and may_use(r, caller.user, caller.uid, None)):
        raise Denied(
            f"deleting reservation '{name}' needs an operator", code="RESERVATION_DENIED",
            hint="one with the flag USER_DELETE may be deleted by those it names",
        )  # fmt: skip
    if running := running_jobs(state, name):
        raise _in_use(name, running)
    return ev.ReservationDeleted(t=now, name=name, cause="deleted", by_uid=caller.uid)


def running_jobs(state: State, name: str) -> list[int]:
    """Jobs that run in a reservation."""
    jobs = (state.jobs[job_id] for job_id in state.reservation_jobs.get(name, ()))
    return sorted(job.job_id for job in jobs if job.is_active and job.reservation == name)


def _in_use(name: str, running: list[int]) -> Conflict:
    shown = ", ".join(map(str, running[:5])) + (", ..." if len(running) > 5 else "")
    return Conflict(
        f"reservation '{name}' is in use by job{'s' * (len(running) > 1)} {shown}", code="RESERVATION_BUSY",
        hint="cancel them, or end it with EndTime=now",
        data={"jobs": running[:1000]},
    )  # fmt: skip


def _check_users(state: State, r: ReservationRecord, before: list[str]) -> None:
    """`before`: the accounts it had, which may have left the association file since."""
    if state.accounts.is_configured:
        known = {association.account for association in state.accounts.associations.values()}
        for name in r.accounts:
            if name not in known and name not in before:
                raise NotFound(f"no account '{one_line(name)}'", code="ACCOUNT_UNKNOWN", hint=did_you_mean(name, known))
    if not (r.users or r.accounts or r.groups):
        raise invalid("who may use it is not said", "give Users=, Accounts= or Groups=")
    if r.users and r.groups:
        raise invalid("Users and Groups do not go together", "name the users, or the groups")


def _new_name(state: State, r: ReservationRecord) -> str:
    first = (r.users or r.accounts or r.groups)[0]
    base = first if NAME.fullmatch(f"{first}_1") else "resv"
    number = len(state.reservations) + 1
    while f"{base}_{number}" in state.reservations:
        number += 1
    return f"{base}_{number}"


def _set_window(r: ReservationRecord, asked: Asked, length_s: float, now: float) -> None:
    """The end from EndTime or Duration (which goes first, as Slurm's), or the length it had."""
    if sum(flag in PERIOD_S for flag in r.flags) > 1:
        raise invalid("it can repeat in one way only")
    if asked.duration_s is not None:
        r.t_end = r.t_start + asked.duration_s
    elif asked.end is not None:
        r.t_end = asked.end
    else:
        r.t_end = r.t_start + length_s
    if r.t_end <= r.t_start or r.t_end <= now - PAST_S:
        raise invalid(
            f"it would end {format_timestamp(r.t_end)}, "
            + ("before it begins" if r.t_end <= r.t_start else "which has passed")
        )
    longest = PERIOD_S.get(r.repeats, NEVER_S)
    if r.t_end - r.t_start > longest:
        raise invalid(f"a reservation that repeats ({r.repeats}) may last {longest / 3600:g} hours at most")
    if r.has("TIME_FLOAT"):
        if r.repeats:
            raise invalid(f"TIME_FLOAT and {r.repeats} do not go together")
        if asked.start is not None:
            r.float_s = max(1.0, asked.start - now)
        if r.float_s <= 0:
            raise invalid("TIME_FLOAT needs a start ahead of now", "StartTime=now+10minutes")


# ---- nodes -----------------------------------------------------------------------------------------------------------


def _choose_nodes(state: State, r: ReservationRecord, asked: Asked, now: float) -> None:
    """Fill in the shares of a new reservation."""
    named = _named(state, r, asked)
    if r.has("ANY_NODES"):
        if named or r.node_count or asked.cores or r.tres or not r.licenses:
            raise invalid("ANY_NODES is for reservations of licences only", "give Licenses= and no nodes")
        return
    search = Search(state, r, now)
    if named is not None:
        if not named:
            raise invalid("no node is left to reserve", "see Nodes, Features and PartitionName")
        if len(asked.cores) not in (0, 1, len(named)):
            raise invalid(f"CoreCnt has {len(asked.cores)} numbers for {len(named)} nodes")
        r.shares = shares_of(state, named, asked.cores)
        search.require_room(r.shares)
        return
    if not (r.node_count or r.core_count or r.tres):
        if r.licenses:  # of no nodes: those inside may run on any
            r.flags = [flag for flag in RESERVATION_FLAGS if flag in {*r.flags, "ANY_NODES"}]
            return
        raise invalid("nothing is asked for", "give Nodes=, NodeCnt=, CoreCnt=, TRES= or Licenses=")
    shares = search.choose()
    if shares is None:
        raise search.refusal()
    r.shares = shares


def _named(state: State, r: ReservationRecord, asked: Asked) -> list[str] | None:
    """The nodes the request names (ALL, or PART_NODES), None if it leaves the choice; sets the flags that say so."""
    by_part = r.has("PART_NODES")
    if by_part and not r.partition:
        raise invalid("PART_NODES needs PartitionName=")
    if by_part and asked.names and not asked.all_nodes:
        raise invalid("PART_NODES goes with Nodes=ALL")
    if asked.names is None and not by_part:
        return None
    if r.has("REPLACE") or r.has("REPLACE_DOWN"):
        raise invalid("REPLACE and REPLACE_DOWN do not go with named nodes", "use NodeCnt=")
    marks = {"ALL_NODES", "SPEC_NODES"}
    r.flags = [flag for flag in r.flags if flag not in marks]
    if by_part or asked.all_nodes:
        found = all_nodes(state, r)
        mark = "" if by_part else "ALL_NODES"
    else:
        found = [name for name in asked.names or () if name in state.nodes]  # one it had may have left the cluster
        mark = "SPEC_NODES"
        if r.features:
            raise invalid("Features go with NodeCnt or Nodes=ALL: named nodes are taken as they are")
    if mark:
        r.flags = [flag for flag in RESERVATION_FLAGS if flag in {*r.flags, mark}]
    return found


def _choose_again(
    state: State, old: ReservationRecord, r: ReservationRecord, asked: Asked, timed: bool, now: float
) -> None:
    """Fill in the shares of a changed reservation: what it has is kept as far as it fits."""
    named = _named(state, r, asked) if asked.names is not None or (r.has("PART_NODES") and not old.has("PART_NODES")) \
        else None  # fmt: skip
    search = Search(state, r, now)
    if named is not None:
        if not named and not r.licenses:
            raise invalid(f"reservation '{r.name}' would have no nodes left", "delete it instead")
        r.shares = {**shares_of(state, named, asked.cores)}
        if not asked.cores:
            r.shares |= {name: old.shares[name] for name in named if name in old.shares}
        r.node_count = r.core_count = 0
        r.tres = {}
    elif asked.counted:
        if not (r.node_count or r.core_count or r.tres):
            r.node_count = len(old.shares)
        r.flags = [flag for flag in r.flags if flag not in ("SPEC_NODES", "ALL_NODES")]
        busy = [name for name in old.shares if _runs_on(state, r.name, name)]
        shares = search.choose(keep=[*busy, *old.shares])
        if shares is None:
            raise search.refusal()
        r.shares = shares
    elif timed or set(old.flags) != set(r.flags) or r.t_start != old.t_start:
        if not r.active and r.node_count and not r.has("STATIC_ALLOC") and (found := search.choose(old.shares)):
            r.shares = found
        if r.shares == old.shares and _takes_no_more(old, r):  # whoever overlaps it was let do so
            return
        search.require_room({name: share for name, share in r.shares.items() if name in state.nodes})
        return
    else:
        return
    if lost := [name for name in old.shares if name not in r.shares and _runs_on(state, r.name, name)]:
        jobs = [j for name in lost for j in running_jobs(state, r.name) if j in state.nodes[name].jobs]
        raise _in_use(r.name, sorted(set(jobs)))
    search.require_room(r.shares)


def _takes_no_more(old: ReservationRecord, r: ReservationRecord) -> bool:
    """True if a change leaves the time of a reservation within what it was, and nothing else it would clash by."""
    freed = {"OVERLAP", "MAINT", "IGNORE_JOBS"} & (set(old.flags) - set(r.flags))
    within = old.t_start <= r.t_start and r.t_end <= old.t_end
    return within and r.repeats == old.repeats and not freed and not r.has("TIME_FLOAT")


def _runs_on(state: State, name: str, node: str) -> bool:
    held = state.nodes.get(node)
    return held is not None and any(state.jobs[job_id].reservation == name for job_id in held.jobs)


def _check_licences(state: State, r: ReservationRecord, now: float) -> None:
    """Raises NotFound or Conflict when the cluster has not so many licences left for reservations then."""
    if not r.licenses:
        return
    t_start, t_end = window(r, now)
    for name, count in r.licenses.items():
        total = state.licences.get(name)
        if total is None:
            raise NotFound(
                f"no licence '{one_line(name)}'", code="LICENSE_UNKNOWN", hint=did_you_mean(name, state.licences)
            )
        others = {
            other.name: other.licenses[name]
            for other in state.reservations.values()
            if other.name != r.name and name in other.licenses and is_met(other, t_start, t_end, now)
        }
        jobs = {} if r.has("IGNORE_JOBS") else _licences_in_use(state, r, name, t_start, now)
        if count + sum(others.values()) + sum(jobs.values()) > total:
            held = [f"reservation '{other}' has {n}" for other, n in others.items()]
            held += [f"running job {job_id} has {n}" for job_id, n in list(jobs.items())[:5]]
            raise Conflict(
                f"licence {name}: {count} are asked of {total}" + (f"; {', '.join(held)}" if held else ""),
                code="RESERVATION_CONFLICT",
                hint="ask for fewer, or another time",
                data={"reservations": list(others), "jobs": list(jobs)[:1000]},
            )


def _licences_in_use(state: State, r: ReservationRecord, licence: str, t_start: float, now: float) -> dict[int, int]:
    """Running jobs outside reservations with the licence that may go on beyond `t_start`, and how many they have."""
    found: dict[int, int] = {}
    for job_id in state.active:
        job = state.jobs[job_id]
        if job.reservation == r.name or job_end(job, now) <= t_start:
            continue
        inside = state.reservations.get(job.reservation)
        if inside is None or licence not in inside.licenses:
            found.update((job_id, n) for name, n in licences_of(job.spec) if name == licence)
    return found
