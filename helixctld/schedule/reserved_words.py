"""What reservations have to do with a job's waiting, in words: for `hqueue` and `hwhy`."""

from __future__ import annotations

from helix.hostlist import format_hostlist
from helix.model.job import JobRecord
from helix.model.job_state import Reason
from helix.model.node import is_schedulable
from helix.model.reservation import ReservationRecord
from helix.sched.explain import plural
from helix.sched.request import host_names, time_limit_s
from helix.timefmt import format_timestamp
from helixctld.core.reservation_index import asked
from helixctld.core.reservation_times import NEVER_S, is_met
from helixctld.core.state import State
from helixctld.schedule.outlook import Expectation

MAINTENANCE = "Reserved for maintenance"  #: Slurm's words
_WAITS = frozenset({Reason.RESOURCES, Reason.PRIORITY, Reason.NODES_UNAVAILABLE, Reason.REQ_NODE_NOT_AVAIL})


class ReservedWords:
    """Answers for one moment; jobs that ask for equally many nodes for equally long share an answer."""

    def __init__(self, state: State, now: float) -> None:
        self.state = state
        self.now = now
        self._known: dict[object, tuple[str, bool]] = {}

    def reason(self, job: JobRecord, reason: Reason, words: str) -> tuple[Reason, str]:
        """The reason a waiting job is to show in place of `reason`, when reservations leave it too few nodes."""
        if not self.state.reservations or reason not in _WAITS or job.spec.reservation:
            return reason, words
        held, maintenance = self.in_the_way(job)
        if not held:
            return reason, words
        return (Reason.REQ_NODE_NOT_AVAIL, MAINTENANCE) if maintenance else (reason, held)

    def in_the_way(self, job: JobRecord) -> tuple[str, bool]:
        """Which reservations leave a job outside of them too few nodes for its time, in words ("" = none do), and
        whether one of them is for maintenance."""
        state, spec = self.state, job.spec
        names = tuple(spec.partitions or [state.default_partition])
        limits = [time_limit_s(spec, state.partitions[name]) for name in names if name in state.partitions]
        limit = 0 if 0 in limits else max(limits, default=0)
        key = (names, max(1, spec.nodes_min), limit, spec.nodelist)
        if key not in self._known:
            self._known[key] = self._find(names, max(1, spec.nodes_min), limit, spec.nodelist)
        return self._known[key]

    def _find(self, partitions: tuple[str, ...], wanted: int, limit_s: int, nodelist: str) -> tuple[str, bool]:
        state, end = self.state, self.now + limit_s if limit_s else NEVER_S
        met = [(r, at) for r in state.reservations.values() if (at := is_met(r, self.now, end, self.now)) is not None]
        if not met:
            return "", False
        must, left = host_names(nodelist), 0
        by: dict[str, list[str]] = {}
        domain = must or tuple(
            dict.fromkeys(n for p in partitions if p in state.partitions for n in state.partitions[p].nodes)
        )
        for name in domain:
            node = state.nodes.get(name)
            if node is None or not is_schedulable(node):
                continue
            whole = [r.name for r, _ in met if (share := r.shares.get(name)) is not None and share.whole]
            left += not whole
            for other in whole:
                by.setdefault(other, []).append(name)
        if not by or (left >= wanted and not must) or (must and left == len(must)):
            return "", False
        records = {r.name: (r, at) for r, at in met}
        words = [f"{format_hostlist(by[name])} by {_span(*records[name])}" for name in by]
        return f"reserved: {', '.join(words)}", any(records[name][0].has("MAINT") for name in by)

    def inside(self, job: JobRecord) -> str:
        """How it stands with the reservations that a job asks for; "" if it asks for none."""
        words = []
        for name in asked(job):
            r = self.state.reservations.get(name)
            if r is None:
                words.append(f"reservation {name} does not exist")
            elif not r.active and not r.has("FLEX"):
                words.append(f"reservation {name} begins {format_timestamp(r.t_start)}")
            else:
                busy = sum(
                    any(self.state.jobs[j].reservation == name for j in self.state.nodes[n].jobs)
                    for n in r.shares
                    if n in self.state.nodes
                )
                words.append(
                    f"waits for room in reservation {name}: jobs of it are on {busy} of its "
                    f"{plural(len(r.shares), 'node')}, it ends {format_timestamp(r.t_end)}"
                )
        return "; ".join(words)


def start_with_reservation(state: State, job_id: int) -> Expectation | None:
    """What to expect of a job that waits for a reservation to begin; None for any other."""
    job = state.jobs.get(job_id)
    if job is None or job.reason is not Reason.RESERVATION:
        return None
    found = [state.reservations[name] for name in asked(job) if name in state.reservations]
    if not found:
        return None
    r = min(found, key=lambda r: r.t_start)
    return Expectation(r.t_start, r.t_start, r.t_start, False, r.t_created, job.partition, lambda: r.nodes)


def _span(r: ReservationRecord, at: tuple[float, float]) -> str:
    return f"{r.name} ({format_timestamp(at[0])} to {format_timestamp(at[1])})"
