"""Preemption and time slices with the virtual clock: the controller's own steps around a pass, and what they cost.

Nodes do at once what they are told.  A job that is told to end runs on until its grace is over, or less if it ends by
itself; suspended jobs keep what is left of their run and of their limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from helix.config.model import Config
from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.plugin.registry import load_plugin
from helixctld.core.state import State
from helixctld.io.making_room import preempt_rules
from helixctld.schedule.cycle import Cycle
from helixctld.schedule.room import Room

NEVER = 1 << 62


@dataclass(slots=True)
class Yielded:
    """What making room came to."""

    preempted: int = 0  # times a job was told to make room
    requeued: int = 0  # of these, those that went back to the queue
    suspended: int = 0  # of these, those that were suspended; turns of time slices are not counted
    slices: int = 0  # suspensions at the end of a time slice
    lost_cpu_s: int = 0  # work of attempts that were ended: CPUs x seconds they ran
    cancelled: set[int] = field(default_factory=set)  # places of jobs that were ended for good
    suspended_s: dict[int, int] = field(default_factory=dict)  # place -> seconds suspended, of jobs that ended
    pauses: list[tuple[int, int, int]] = field(default_factory=list)  # place, from, until

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return {
            "preempted": self.preempted,
            "requeued": self.requeued,
            "cancelled": len(self.cancelled),
            "suspended": self.suspended,
            "slices": self.slices,
            "lost_cpu_s": self.lost_cpu_s,
            "suspended_s": sum(self.suspended_s.values()),
        }


class SimRoom:
    """The steps, and until when each job runs as things stand."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.t_slice = NEVER  # the slice ends
        self.end_of: dict[int, int] = {}  # running job -> second
        self.figures = Yielded()
        self._left: dict[int, int] = {}  # suspended job -> seconds it has left
        self._since: dict[int, int] = {}  # suspended job -> second

    def next_due(self) -> int:
        """When time alone may change something, seconds."""
        again = self.room.t_again
        return min(self.t_slice, ceil(again) if again else NEVER)

    def slice_events(self, state: State, t: int) -> list[ev.Event]:
        """Others' turn, if the slice is over."""
        if t < self.t_slice:
            return []
        self.t_slice = NEVER
        return self.room.end_slice(state, float(t))

    def begin_slice(self, state: State, t: int) -> None:
        """A slice begins if somebody waits for a turn."""
        if self.t_slice == NEVER and (slice_s := self.room.slice_s(state)):
            self.t_slice = t + slice_s

    def before(self, state: State, now: float) -> Iterator[list[ev.Event]]:
        """Starts of jobs whose claims have come free."""
        return self.room.before_pass(state, now)

    def after(self, state: State, now: float) -> Iterator[list[ev.Event]]:
        """Who makes room, and who goes on."""
        return self.room.after_pass(state, now)

    def applied(self, event: ev.Event, job: JobRecord | None, t: int) -> int | None:
        """Note an event that has been applied; the second at which its job ends now, None = as before."""
        if job is None:
            return None
        job_id, figures = job.job_id, self.figures
        match event:
            case ev.JobSuspended() if job.state is JobState.SUSPENDED:
                figures.preempted += event.cause == "preempt"
                figures.suspended += event.cause == "preempt"
                figures.slices += event.cause == "gang"
                if job_id in self.end_of:
                    self._left[job_id] = self.end_of.pop(job_id) - t
                    self._since[job_id] = t
            case ev.JobResumed() if job.state is JobState.RUNNING and job_id in self._left:
                figures.pauses.append((job_id - 1, self._since.pop(job_id), t))
                return t + self._left.pop(job_id)
            case ev.JobEnding():
                figures.preempted += bool(event.preemptor)
                left = self._left.pop(job_id, None)
                natural = self.end_of.get(job_id, t) if left is None else t + left
                return min(natural, t + (event.kill_wait_s or 0))
        return None

    def is_over(self, job_id: int, t: int) -> bool:
        """True if a job ends now; False if it was suspended since, or is to end at another second."""
        if self.end_of.get(job_id) != t:
            return False
        del self.end_of[job_id]
        return True

    def ended(self, place: int, job: JobRecord, cpus: int, *, early: bool) -> None:
        """Note a job whose end was applied.  `early`: it was told to end; `cpus`: of the attempt."""
        figures = self.figures
        if early:
            figures.lost_cpu_s += cpus * round(job.t_end - job.t_start - job.suspended_s)
            figures.requeued += not job.is_terminal
            if job.is_terminal:
                figures.cancelled.add(place)
        if job.suspended_s and not early:
            figures.suspended_s[place] = round(job.suspended_s)


def room_of_config(config: Config, state: State, cycle: Cycle) -> SimRoom | None:
    """What the configuration says about preemption and time slices; None if neither is on."""
    rules = preempt_rules(config)
    if config.preempt_type.endswith("none") and not rules.gang:
        return None
    plugin: Any = load_plugin("preempt", config.preempt_type, config.plugin_dir)
    state.preempt_rules = rules
    return SimRoom(Room(cycle.columns, plugin, rules, cycle.select.pick_cpus, cycle.outlook))
