"""A workload: jobs with their true run times, and what was wrong with the lines they came from.  Times are seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from helix.model.job import JobSpec


@dataclass(slots=True)
class SimJob:
    """One job.  `spec` is what is submitted; `run_s` is known to the simulator only."""

    number: int  # as the trace numbers it
    submit_s: int
    run_s: int  # >= 1; a job ends at its limit if that comes first
    spec: JobSpec
    user: str = ""
    cpus: int = 1  # of the request, for plots and the offered load


@dataclass(slots=True)
class Workload:
    """Jobs in the order of (submit, place in the file)."""

    source: str
    jobs: list[SimJob]
    processors: int = 0  # of the machine the trace is from; 0 = it does not say
    skipped: Counter[str] = field(default_factory=Counter)  # what was wrong -> lines

    def first(self, limit: int) -> Workload:
        """The first `limit` jobs (0: all)."""
        return replace(self, jobs=self.jobs[:limit]) if limit else self

    def shaken(self, most_s: int, seed: int) -> Workload:
        """Every submit moved later by 0 to `most_s` whole seconds; the same seed gives the same workload."""
        if most_s <= 0:
            return self
        moves = np.random.default_rng(seed).integers(0, most_s + 1, len(self.jobs)).tolist()
        jobs = [replace(job, submit_s=job.submit_s + move) for job, move in zip(self.jobs, moves, strict=True)]
        return replace(self, jobs=in_order(jobs))

    def offered_load(self, cpus: int) -> float:
        """sum(CPUs x run) over the machine and the span of submits; 0.0 for fewer than two submit times."""
        if not self.jobs or not cpus:
            return 0.0
        span = self.jobs[-1].submit_s - self.jobs[0].submit_s
        return sum(job.cpus * job.run_s for job in self.jobs) / (cpus * span) if span else 0.0


def in_order(jobs: list[SimJob]) -> list[SimJob]:
    """By submit; jobs of one second keep their places."""
    return sorted(jobs, key=lambda job: job.submit_s)


class Specs:
    """Makes specs; jobs that ask the same share one object."""

    def __init__(self) -> None:
        self._made: dict[tuple[tuple[str, object], ...], JobSpec] = {}

    def of(self, **fields: object) -> JobSpec:
        """The spec with these fields, which must be hashable or lists of strings."""
        key = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in fields.items())
        spec = self._made.get(key)
        if spec is None:
            spec = self._made[key] = JobSpec(**fields)  # type: ignore[arg-type]
        return spec
