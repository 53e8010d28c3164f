"""Four schedulers of a machine of interchangeable processors, written to be read: what `hsim` is compared with.

They share nothing with the planner.  A job is (submit, run, limit, processors), run <= limit; at one instant all ends
come first, then all arrivals, then the schedule is looked at once.  Cost: the square of the queue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

Job = tuple[int, int, int, int]


@dataclass
class Running:
    end: int  # really
    until: int  # by its limit
    processors: int


class Machine(ABC):
    """The clock, the running jobs and the queue; subclasses decide."""

    def __init__(self, processors: int, jobs: list[Job]) -> None:
        self.size = self.free = processors
        self.jobs = jobs
        self.start: list[int] = [-1] * len(jobs)
        self.running: dict[int, Running] = {}
        self.queue: list[int] = []
        self.now = 0

    def run(self) -> list[int]:
        """The start of each job."""
        arrivals = sorted(range(len(self.jobs)), key=lambda k: self.jobs[k][0])
        at = 0
        while at < len(arrivals) or self.running or self.queue:
            times = [r.end for r in self.running.values()] + self.wakes()
            if at < len(arrivals):
                times.append(self.jobs[arrivals[at]][0])
            self.now = min(times)
            ended = [k for k, r in self.running.items() if r.end == self.now]
            for k in ended:
                self.free += self.running.pop(k).processors
            arrived = []
            while at < len(arrivals) and self.jobs[arrivals[at]][0] == self.now:
                arrived.append(arrivals[at])
                at += 1
            self.queue.extend(arrived)
            self.look(arrived, ended=bool(ended))
        return self.start

    def wakes(self) -> list[int]:
        return []

    def begin(self, k: int) -> None:
        _, run, limit, processors = self.jobs[k]
        assert processors <= self.free
        self.free -= processors
        self.running[k] = Running(self.now + run, self.now + limit, processors)
        self.start[k] = self.now
        self.queue.remove(k)

    @abstractmethod
    def look(self, arrived: list[int], *, ended: bool) -> None:
        """Start what the policy starts now."""


class Fcfs(Machine):
    def look(self, arrived: list[int], *, ended: bool) -> None:
        while self.queue and self.jobs[self.queue[0]][3] <= self.free:
            self.begin(self.queue[0])


class Easy(Machine):
    shortest_first = False

    def look(self, arrived: list[int], *, ended: bool) -> None:
        while self.queue and self.jobs[self.queue[0]][3] <= self.free:
            self.begin(self.queue[0])
        if not self.queue:
            return
        head = self.jobs[self.queue[0]][3]
        free, shadow = self.free, self.now
        for r in sorted(self.running.values(), key=lambda r: r.until):
            if free >= head and r.until > shadow:
                break
            free, shadow = free + r.processors, r.until
        extra = free - head
        others = self.queue[1:]
        if self.shortest_first:
            others.sort(key=lambda k: self.jobs[k][2])
        for k in others:
            _, _, limit, processors = self.jobs[k]
            if processors > self.free:
                continue
            if self.now + limit <= shadow:
                self.begin(k)
            elif processors <= extra:
                extra -= processors
                self.begin(k)


class EasySjbf(Easy):
    shortest_first = True


class Conservative(Machine):
    """Every job has a reservation; an end lets each, in order of arrival, move to where it fits earliest.

    So does an end at the limit: what one job left when it moved may let an earlier one in, which looks only now."""

    def __init__(self, processors: int, jobs: list[Job]) -> None:
        super().__init__(processors, jobs)
        self.reserved: dict[int, int] = {}

    def wakes(self) -> list[int]:
        return [t for t in self.reserved.values() if t > self.now]

    def look(self, arrived: list[int], *, ended: bool) -> None:
        if ended:
            for k in [k for k in self.queue if k in self.reserved]:
                del self.reserved[k]
                self.reserved[k] = self.earliest(k)
        for k in arrived:
            self.reserved[k] = self.earliest(k)
        for k in [k for k in self.queue if self.reserved[k] == self.now]:
            del self.reserved[k]
            self.begin(k)

    def taken(self) -> list[tuple[int, int, int]]:
        """From, until, processors."""
        spans = [(self.now, r.until, r.processors) for r in self.running.values()]
        return spans + [(t, t + self.jobs[k][2], self.jobs[k][3]) for k, t in self.reserved.items()]

    def earliest(self, k: int) -> int:
        _, _, limit, processors = self.jobs[k]
        spans = self.taken()
        for t in sorted({self.now, *(until for _, until, _ in spans if until > self.now)}):
            looks = [t, *(begin for begin, _, _ in spans if t < begin < t + limit)]
            most = max(sum(p for begin, until, p in spans if begin <= x < until) for x in looks)
            if most + processors <= self.size:
                return t
        raise AssertionError("a job larger than the machine")


POLICIES: dict[str, type[Machine]] = {
    "fcfs": Fcfs,
    "easy": Easy,
    "easy-sjbf": EasySjbf,
    "conservative": Conservative,
}
