"""What time does to reservations: they begin, end, come again, are purged, and get other nodes.

Gives events; changes nothing but the heap of jobs to end.  Times are epoch seconds.
"""

from __future__ import annotations

from heapq import heappop

from msgspec.structs import replace

from helix.model import events as ev
from helix.model.job_state import JobState, Reason
from helix.model.reservation import ReservationRecord
from helixctld.core.reservation_nodes import Search, all_nodes, is_fit, shares_of
from helixctld.core.reservation_times import NEVER_S, advanced
from helixctld.core.state import State

REPLACE_EVERY_S = 30.0  #: between looks for nodes to replace


def next_due(state: State) -> float:
    """When `due` is to be called next; infinity if no reservation waits for time."""
    t = state.over_run[0][0] if state.over_run else NEVER_S
    for r in state.reservations.values():
        t = min(t, moment_of(r))
    return t


def moment_of(r: ReservationRecord) -> float:
    """When the next thing happens to a reservation by time alone; infinity if nothing does."""
    if r.has("TIME_FLOAT"):
        return NEVER_S
    if not r.active:
        return r.t_start
    if r.has("PURGE_COMP") and r.t_idle:
        return min(r.t_end, r.t_idle + r.purge_s)
    return r.t_end


def due(state: State, now: float, over_run_s: int | None) -> list[ev.Event]:
    """Events that time alone calls for: beginnings, ends, the next occurrences, purges, jobs that ran on too long.

    `over_run_s`: ResvOverRun, None = jobs run on as long as they like.  What follows from one of these events (a
    repeated reservation that begins again at once) is found by the next call.
    """
    events: list[ev.Event] = []
    for r in list(state.reservations.values()):
        if moment_of(r) > now:
            continue
        if r.t_end <= now:
            events.append(_ended(r, now, over_run_s, "over"))
        elif r.active:
            events.append(_ended(r, now, over_run_s, "idle"))
        else:
            if (better := _replaced(state, r, now)) is not None:
                events.append(better)
            events.append(ev.ReservationStarted(t=now, name=r.name))
    while state.over_run and state.over_run[0][0] <= now:
        _, job_id = heappop(state.over_run)
        job = state.jobs.get(job_id)
        if job is not None and job.is_active and 0 < job.t_over_run <= now and job.state is not JobState.COMPLETING:
            events.append(
                ev.JobEnding(
                    t=now,
                    job_id=job_id,
                    attempt=job.attempt,
                    outcome=JobState.TIMEOUT,
                    reason=Reason.TIME_LIMIT,
                    reason_text=f"reservation {job.reservation} is over",
                )
            )
    return events


def _ended(r: ReservationRecord, now: float, over_run_s: int | None, cause: str) -> ev.Event:
    following = advanced(r, max(now, r.t_end))
    if following is None:
        return ev.ReservationDeleted(t=now, name=r.name, cause=cause, over_run_s=over_run_s)
    again = replace(r, active=False, t_start=following[0], t_end=following[1], t_idle=0.0)
    return ev.ReservationUpdated(t=now, reservation=again, cause="next", over_run_s=over_run_s)


def replacements(state: State, now: float) -> list[ev.Event]:
    """New nodes for reservations that may replace theirs; called every REPLACE_EVERY_S while there are any."""
    found = (_replaced(state, r, now) for r in list(state.reservations.values()))
    return [event for event in found if event is not None]


def wants_replacements(state: State) -> bool:
    """True if `replacements` may have something to do."""
    return any(_is_replaceable(r) for r in state.reservations.values())


def _is_replaceable(r: ReservationRecord) -> bool:
    return r.has("PART_NODES") or r.has("ALL_NODES") or (
        r.node_count > 0 and not r.core_count and not r.tres and not r.has("STATIC_ALLOC") and not r.has("SPEC_NODES")
    )  # fmt: skip


def _replaced(state: State, r: ReservationRecord, now: float) -> ev.ReservationUpdated | None:
    """Other nodes for those that went down or were drained (REPLACE: or that jobs took); None if all is well.

    PART_NODES and ALL_NODES follow the partition and the cluster.  As many as can be had are taken.
    """
    if not _is_replaceable(r):
        return None
    if r.has("PART_NODES") or r.has("ALL_NODES"):
        names = all_nodes(state, r) if not r.has("PART_NODES") or r.partition in state.partitions else []
        if names == r.nodes or not names:
            return None
        wider = replace(r, shares={**shares_of(state, names, [])})
        return ev.ReservationUpdated(t=now, reservation=wider, cause="nodes")
    kept = [name for name in r.shares if name in state.nodes and is_fit(state.nodes[name])]
    if r.has("REPLACE"):
        kept = [name for name in kept if not state.nodes[name].jobs]
    if len(kept) == len(r.shares) == r.node_count:
        return None
    trial = replace(r)
    search = Search(state, trial, now)
    free = [node.name for node in search.candidates() if node.name not in r.shares and search.is_free(node)]
    missing = r.node_count - len(kept)
    names = [*kept, *free[:missing]]
    lost = [name for name in r.shares if name not in kept]
    names += lost[: max(0, r.node_count - len(names))]  # nothing better: it keeps what it has
    if set(names) == set(r.shares):
        return None
    shares = shares_of(state, [name for name in names if name in state.nodes], [])
    return ev.ReservationUpdated(t=now, reservation=replace(r, shares=shares), cause="nodes")
