"""The clock of the simulator: ends, arrivals and passes over the real controller core.

At one instant all ends come first, then all arrivals and what is due by time, then passes until nothing more starts;
where jobs make room for others, the controller's steps for that are around each pass (`making_room`).
Nodes answer at once: a job runs from the second it starts, and ends after its run time or its limit, whichever is
less.  Nothing here is random, so the same workload on the same machine gives the same result.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil

from msgspec.structs import replace

from helix.errors import HelixError
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState
from helix.model.partition import PartitionRecord
from helixctld.core import usage
from helixctld.core.apply import apply
from helixctld.core.enrol import settle_account
from helixctld.core.reports import lost_job
from helixctld.core.submit import check_spec
from helixctld.core.timers import due
from helixctld.schedule.feasible import Feasibility
from helixctld.schedule.starts import start_events
from helixctld.sim.machine import MEMORY_LIMIT_S, Machine
from helixctld.sim.making_room import NEVER, Yielded
from helixctld.sim.workload import SimJob

NOT_STARTED = -1
FORGET_EVERY = 4096  #: ends between two sweeps of finished jobs
ROUNDS_MAX = 64  #: passes at one instant while jobs make room for each other
TELL_EVERY = 1000  #: ends between two words about the progress


@dataclass(slots=True)
class Outcome:
    """What became of the jobs, by their place in the workload; seconds as the trace counts them."""

    jobs: list[SimJob]
    start_s: list[int]  # of the last attempt; NOT_STARTED: never
    end_s: list[int]
    cpus: list[int]  # allocated
    backfilled: list[bool]  # started while an earlier job waited
    nodes: list[tuple[str, ...]]  # where; empty unless asked for
    refused: dict[int, str] = field(default_factory=dict)  # place -> why the controller did not take it
    told: dict[int, int] = field(default_factory=dict)  # place -> start expected at arrival
    passes: int = 0
    yielded: Yielded | None = None  # what making room came to; None where nobody does


class Clock:
    """Virtual seconds; what the cycle takes for its timer."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def no_collecting() -> Iterator[None]:
    """No garbage collection: records refer to each other in no cycles, and looking for some doubles the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Engine:
    """One run.  Job `k` of the workload is job id `k + 1`."""

    def __init__(
        self,
        machine: Machine,
        jobs: list[SimJob],
        clock: Clock,
        *,
        keep_nodes: bool = False,
        predictions: int = 0,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        """`keep_nodes`: note on which nodes each job ran.  `predictions`: at so many arrivals, evenly spread over the
        workload, note the start that is expected.  `tell`: called now and then with the jobs that ended."""
        count = len(jobs)
        self.machine = machine
        self.state = machine.state
        self.clock = clock
        self.jobs = jobs
        self.keep_nodes = keep_nodes
        self.ask_every = -(-count // predictions) if predictions else 0
        self.tell = tell
        self.out = Outcome(
            jobs, [NOT_STARTED] * count, [NOT_STARTED] * count, [0] * count, [False] * count, [()] * count
        )
        self._ends: list[tuple[int, int, int]] = []  # heap of (second, job id, attempt)
        self._uids: dict[str, int] = {}
        self._first_waiting = 0
        self._used = 0  # CPUs of running jobs
        #: waiting jobs, (rank, id, CPUs): while the first does not fit, none can start; None = it takes a pass to tell
        self._first_to_fit: list[tuple[int, int, int]] | None = [] if machine.is_hopeless_when_full else None
        self._ask: list[int] = []  # places of arrivals of this second whose expected start is to be noted
        self._ended = self._swept = 0
        self._feasible: dict[object, str] = {}  # request -> why it is refused
        self._feasibility = Feasibility(machine.cycle.columns)
        self._room = machine.room
        self._room_due = NEVER  # somebody may make room then who may not yet
        self.out.yielded = None if self._room is None else self._room.figures

    def run(self) -> Outcome:
        """Play the whole workload."""
        with no_collecting():
            self._run()
        return self.out

    def _run(self) -> None:
        jobs, ends = self.jobs, self._ends
        at, count = 0, len(jobs)
        while at < count or ends or self.state.schedulable or (self._room is not None and self.state.active):
            t = jobs[at].submit_s if at < count else NEVER
            if ends and ends[0][0] < t:
                t = ends[0][0]
            wake = self._wake()
            if wake < t:
                t = wake
            if t == NEVER:
                break  # what is left can never start
            self.clock.now = now = float(t)
            self._end_all(t, now)
            while at < count and jobs[at].submit_s <= t:
                self._submit(at, now)
                at += 1
            self._due(now)
            if self._room is not None:
                self._passes_with_room(t, now)
            elif self.state.schedulable and (self._ask or not self._hopeless()):
                self._passes(t, now)
            self.state.transitions.clear()

    # ---- events --------------------------------------------------------------------------------------------------

    def _submit(self, place: int, now: float) -> None:
        job = self.jobs[place]
        spec = job.spec
        why = self._refusal(job)
        if why:
            self.out.refused[place] = why
            return
        if self.ask_every and place % self.ask_every == 0:
            self._ask.append(place)
        uid = self._uids.setdefault(job.user, 1000 + len(self._uids))
        job_id = place + 1
        assoc = ""
        if self.state.accounts.is_configured:
            spec = replace(spec)
            try:
                assoc = settle_account(self.state, spec, job.user, self._partitions(spec))
            except HelixError as error:
                self.out.refused[place] = error.msg
                return
        submitted = ev.JobSubmitted(
            t=now, job_id=job_id, uid=uid, gid=uid, user=job.user, group=job.user, spec=spec, assoc=assoc
        )
        submitted.priority = self.machine.priority.initial_priority(job_id, spec, held=False)
        apply(self.state, submitted)
        if self._first_to_fit is not None:
            heappush(self._first_to_fit, (0 if self.machine.is_fifo else job.cpus, job_id, job.cpus))

    def _partitions(self, spec: JobSpec) -> list[PartitionRecord]:
        names = spec.partitions or [self.state.default_partition]
        return [self.state.partitions[name] for name in names]

    def _refusal(self, job: SimJob) -> str:
        """Why the controller would refuse the job at submit, "" if it takes it."""
        key = id(job.spec)
        why = self._feasible.get(key)
        if why is None:
            why = ""
            try:
                check_spec(job.spec)
                partitions = job.spec.partitions or [self.state.default_partition]
                if unknown := [name for name in partitions if name not in self.state.partitions]:
                    why = f"no partition '{unknown[0]}'"
                else:
                    self._feasibility.check_possible(self.state, job.spec, partitions)
            except HelixError as error:
                why = error.msg
            self._feasible[key] = why
        return why

    def _end_all(self, t: int, now: float) -> bool:
        """Everything that ends by `t`; True if anything did."""
        before = self._ended
        while self._ends and self._ends[0][0] <= t:
            self._end(heappop(self._ends), now)
        return self._ended > before

    def _end(self, end: tuple[int, int, int], now: float) -> None:
        t, job_id, attempt = end
        record = self.state.jobs.get(job_id)
        if record is None or record.attempt != attempt or not record.is_active:
            return
        if self._room is not None and not self._room.is_over(job_id, t):
            return
        place = job_id - 1
        job = self.jobs[place]
        if record.outcome is not None:
            self._end_early(place, record, now)
            return
        over = record.time_limit_s and job.run_s > record.time_limit_s
        state = JobState.TIMEOUT if over else JobState.COMPLETED
        apply(self.state, ev.JobEnded(t=now, job_id=job_id, attempt=attempt, state=state))
        self.out.end_s[place] = t
        if self._room is not None:
            self._room.ended(place, record, self.out.cpus[place], early=False)
        self._used -= self.out.cpus[place]
        self._ended += 1
        if self._ended % TELL_EVERY == 0 and self.tell is not None:
            self.tell(self._ended)

    def _end_early(self, place: int, record: JobRecord, now: float) -> None:
        """A job that was told to end has: it is back in the queue, or gone."""
        assert self._room is not None
        end = lost_job(record, "", now, requeue_default=self._room.room.rules.requeue_default)
        apply(self.state, end)
        self._room.ended(place, record, self.out.cpus[place], early=True)
        self._ended += 1
        if record.is_terminal:
            self.out.end_s[place] = int(now)
        else:
            self.out.start_s[place] = NOT_STARTED
            self._first_waiting = min(self._first_waiting, place)

    def _wake(self) -> int:
        """The next second at which time alone changes something: begin times, and reservations that come due."""
        timers = self.state.timers
        t = min(ceil(timers[0][0]) if timers else NEVER, self._room_due)
        if self.state.schedulable:
            if self.state.accounts.is_configured and (decays := usage.next_due(self.state)) < t:
                t = max(ceil(decays), int(self.clock.now) + 1)
            if len(kept := self.machine.cycle.kept) and (due_s := kept.next_due(self.clock.now)) < t:
                t = ceil(due_s)
        return t

    def _due(self, now: float) -> None:
        state = self.state
        sweep = self._ended - self._swept >= FORGET_EVERY
        decays = state.accounts.is_configured and usage.next_due(state) <= now
        if decays or sweep or state.doomed or (state.timers and state.timers[0][0] <= now):
            self._swept = self._ended
            self.machine.cycle.columns.take_running(state)  # how long they ran, before they are forgotten
            for event in due(state, now, MEMORY_LIMIT_S):
                apply(state, event)

    # ---- passes --------------------------------------------------------------------------------------------------

    def _passes(self, t: int, now: float) -> None:
        cycle, counters = self.machine.cycle, self.machine.cycle.counters
        while True:
            before = counters.truncated + counters.conflicts
            accepted, _ = cycle.run_inline(self.state, now, full=bool(self._ask))
            self.out.passes += 1
            if accepted:
                self._start(start_events(self.state, accepted, now), t, now)
            if counters.truncated + counters.conflicts == before or not accepted:
                break
        if self._ask:
            self._note_expected()

    def _passes_with_room(self, t: int, now: float) -> None:
        """Passes with the steps of making room around them, until nothing more happens."""
        room, state = self._room, self.state
        assert room is not None
        self._apply_all(iter([room.slice_events(state, t)]), t, now)
        for _ in range(ROUNDS_MAX):
            moved = self._apply_all(room.before(state, now), t, now)
            if state.schedulable:
                accepted, _ = self.machine.cycle.run_inline(state, now, full=True)
                self.out.passes += 1
                self._start(start_events(state, accepted, now), t, now)
            moved |= self._apply_all(room.after(state, now), t, now)
            moved |= self._end_all(t, now)
            if not moved:
                break
        room.begin_slice(state, t)
        due_s = room.next_due()
        self._room_due = max(due_s, t + 1)
        if self._ask:
            self._note_expected()

    def _apply_all(self, steps: Iterator[list[ev.Event]], t: int, now: float) -> bool:
        """Apply what making room calls for, and note until when jobs run now; True if there was anything."""
        room, moved = self._room, False
        assert room is not None
        for events in steps:
            for event in events:
                moved = True
                if isinstance(event, ev.JobStarted):
                    self._start([event], t, now)
                    continue
                apply(self.state, event)
                record = self.state.jobs.get(getattr(event, "job_id", 0))
                if (end_s := room.applied(event, record, t)) is not None and record is not None:
                    self._ends_at(end_s, record.job_id, record.attempt)
        return moved

    def _ends_at(self, end_s: int, job_id: int, attempt: int) -> None:
        heappush(self._ends, (end_s, job_id, attempt))
        if self._room is not None:
            self._room.end_of[job_id] = end_s

    def _hopeless(self) -> bool:
        """True if every job that waits (where none overtakes: the first) asks for more CPUs than are free: a pass would
        start nothing."""
        first, schedulable = self._first_to_fit, self.state.schedulable
        if first is None:
            return False
        while first and first[0][1] not in schedulable:
            heappop(first)
        return bool(first) and first[0][2] > self.machine.cpus - self._used

    def _note_expected(self) -> None:
        """What the pass foresees for the arrivals that were chosen; those that started need none."""
        for place in self._ask:
            if self.out.start_s[place] == NOT_STARTED:
                expected = self.machine.cycle.expectation(place + 1)
                if expected is not None:
                    self.out.told[place] = round(expected.t_expected)
        self._ask.clear()

    def _start(self, events: list[ev.Event], t: int, now: float) -> None:
        out = self.out
        for event in events:
            assert isinstance(event, ev.JobStarted)
            apply(self.state, event)
            job_id, attempt, limit = event.job_id, event.attempt, event.time_limit_s
            place = job_id - 1
            run = self.jobs[place].run_s
            self._ends_at(t + (min(run, limit) if limit else run), job_id, attempt)
            apply(self.state, ev.JobLaunched(t=now, job_id=job_id, attempt=attempt, t_start=now))
            out.start_s[place] = t
            out.cpus[place] = cpus = sum(event.alloc.cpus)
            self._used += cpus
            if self.keep_nodes:
                out.nodes[place] = tuple(event.alloc.nodes)
        first, starts, refused = self._first_waiting, out.start_s, out.refused
        while first < len(starts) and (starts[first] != NOT_STARTED or first in refused):
            first += 1
        self._first_waiting = first
        for event in events:
            assert isinstance(event, ev.JobStarted)
            out.backfilled[event.job_id - 1] = event.job_id - 1 > first
