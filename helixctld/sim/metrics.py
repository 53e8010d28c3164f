"""What a run comes to, as numbers.

wait = start - submit; bounded slowdown = max(1, (wait + run) / max(run, TAU_S)); makespan = last end - first submit;
utilization = sum(CPUs x run) / (CPUs of the machine x makespan).  Fairness per user: for each user the mean bounded
slowdown of their jobs; `jain` is Jain's index of these (1 = every user fares the same, 1/users = one takes it all) and
`worst_to_median` their largest over their median.  Users are those the trace names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helix_native.arrays import Int64
from helixctld.sim.engine import NOT_STARTED, Outcome

TAU_S = 10  #: shorter runs count as this long, so that a second's wait of a second's job is no disaster
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Table:
    """The jobs that ran, as columns in the order of the workload.  Seconds."""

    place: Int64
    submit: Int64
    start: Int64
    end: Int64
    cpus: Int64
    user: list[str]
    suspended: Int64  # seconds
    pauses: Int64  # [P, 3] place in the table, from, until: when they were suspended

    @property
    def run(self) -> Int64:
        """Time each job had, without what it was suspended."""
        return self.end - self.start - self.suspended

    @property
    def wait(self) -> Int64:
        """Time from its submit to its (last) start."""
        return self.start - self.submit

    @property
    def slowdown(self) -> Floats:
        """Bounded slowdown; time suspended counts as waiting."""
        return np.maximum(1.0, (self.end - self.submit) / np.maximum(self.run, TAU_S))


def table_of(out: Outcome) -> Table:
    """The jobs that ran to their end; not those that were ended for others."""
    end = np.array(out.end_s, np.int64)
    suspended = np.zeros(len(end), np.int64)
    ran = end != NOT_STARTED
    if out.yielded is not None:
        ran[list(out.yielded.cancelled)] = False
        for job, seconds in out.yielded.suspended_s.items():
            suspended[job] = seconds
    place = np.flatnonzero(ran)
    start = np.array(out.start_s, np.int64)
    pauses = np.array([] if out.yielded is None else out.yielded.pauses, np.int64).reshape(-1, 3)
    pauses = pauses[ran[pauses[:, 0]] & (pauses[:, 1] >= start[pauses[:, 0]])]  # of the attempts that count
    pauses[:, 0] = np.searchsorted(place, pauses[:, 0])
    return Table(
        place=place,
        submit=np.array([job.submit_s for job in out.jobs], np.int64)[place],
        start=start[place],
        end=end[place],
        cpus=np.array(out.cpus, np.int64)[place],
        user=[out.jobs[k].user for k in place.tolist()],
        suspended=suspended[place],
        pauses=pauses,
    )


@dataclass(slots=True)
class Result:
    """The figures of one run, in the order in which they are shown."""

    jobs: int = 0
    mean_wait_s: float = 0.0
    p95_wait_s: float = 0.0
    max_wait_s: int = 0
    mean_bounded_slowdown: float = 0.0
    utilization: float = 0.0
    makespan_s: int = 0
    backfilled: int = 0
    fairness: dict[str, float] = field(default_factory=dict)
    prediction: dict[str, float] = field(default_factory=dict)
    preemption: dict[str, int] = field(default_factory=dict)  # see `making_room.Yielded`; empty where nobody makes room
    refused: dict[str, int] = field(default_factory=dict)  # why -> jobs
    never_started: int = 0
    passes: int = 0
    hash: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def measure(out: Outcome, machine_cpus: int) -> Result:
    """The figures of a run on `machine_cpus` CPUs."""
    table = table_of(out)
    refused: dict[str, int] = {}
    cut = out.yielded
    for why in out.refused.values():
        refused[why] = refused.get(why, 0) + 1
    result = Result(
        jobs=len(table.place),
        backfilled=sum(out.backfilled),
        refused=refused,
        never_started=len(out.jobs) - len(table.place) - len(out.refused) - (len(cut.cancelled) if cut else 0),
        preemption=cut.as_dict() if cut else {},
        passes=out.passes,
        hash=digest(out),
    )
    if not result.jobs:
        return result
    wait, slowdown = table.wait, table.slowdown
    result.mean_wait_s = float(wait.mean())
    result.p95_wait_s = float(np.percentile(wait, 95))
    result.max_wait_s = int(wait.max())
    result.mean_bounded_slowdown = float(slowdown.mean())
    result.makespan_s = int(table.end.max() - table.submit.min())
    result.utilization = float((table.cpus * table.run).sum() / (machine_cpus * result.makespan_s))
    result.fairness = fairness(table.user, slowdown)
    result.prediction = prediction(out)
    return result


def digest(out: Outcome) -> str:
    """A hash of every job's number, start, end and CPUs: equal schedules have equal hashes."""
    rows = np.array([[job.number for job in out.jobs], out.start_s, out.end_s, out.cpus], np.int64)
    return hashlib.sha256(np.ascontiguousarray(rows.T, "<i8").tobytes()).hexdigest()[:32]


def fairness(users: list[str], slowdown: Floats) -> dict[str, float]:
    """How evenly users fare (see the module); empty where the trace names no users."""
    names, at = np.unique(np.array(users), return_inverse=True)
    known = names != ""
    if not known.any():
        return {}
    means = (np.bincount(at, slowdown, len(names)) / np.bincount(at, minlength=len(names)))[known]
    return {
        "users": int(known.sum()),
        "jain": float(means.sum() ** 2 / (len(means) * (means**2).sum())),
        "median_user_slowdown": float(np.median(means)),
        "worst_user_slowdown": float(means.max()),
        "worst_to_median": float(means.max() / np.median(means)),
    }


def prediction(out: Outcome) -> dict[str, float]:
    """How far the starts told at arrival were off: real less told, for jobs that did not start at once."""
    pairs = [
        (out.start_s[place] - told, out.start_s[place] - out.jobs[place].submit_s)
        for place, told in sorted(out.told.items())
        if out.start_s[place] != NOT_STARTED
    ]
    if not pairs:
        return {}
    errors = np.array([error for error, _ in pairs], np.float64)
    return {
        "jobs": len(pairs),
        "median_absolute_error_s": float(np.median(np.abs(errors))),
        "p90_absolute_error_s": float(np.percentile(np.abs(errors), 90)),
        "bias_s": float(errors.mean()),
        "median_wait_s": float(np.median([wait for _, wait in pairs])),
    }
