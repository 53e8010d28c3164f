"""One run from what was asked to its figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helixctld.sim.engine import Clock, Engine, Outcome, no_collecting
from helixctld.sim.machine import Machine, machine_of_config, machine_of_pool
from helixctld.sim.metrics import Result, measure
from helixctld.sim.trace import read_trace
from helixctld.sim.workload import Workload


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run a workload on, and how.  "" and 0 = not given."""

    conf: str = ""
    policy: str = ""
    processors: int = 0
    limit: int = 0
    shake_s: int = 0
    seed: int = 0
    predictions: int = 0
    keep_nodes: bool = False


@dataclass(slots=True)
class Run:
    """What came of it."""

    workload: Workload
    machine: str
    machine_cpus: int
    policy: str
    outcome: Outcome
    result: Result
    wall_s: float
    notes: tuple[str, ...]
    wanted: Wanted

    def as_dict(self) -> dict[str, Any]:
        """The body of the JSON document."""
        figures = self.result.as_dict()
        return {
            "trace": self.workload.source,
            "machine": self.machine,
            "policy": self.policy,
            "seed": self.wanted.seed,
            "shake_s": self.wanted.shake_s,
            **figures,
            "wall_s": round(self.wall_s, 3),
            "skipped": sum(self.workload.skipped.values()),
            "skipped_why": dict(self.workload.skipped),
            "notes": list(self.notes),
        }


def read_workload(path: str, wanted: Wanted) -> Workload:
    """The workload of a trace, cut and shaken as wanted."""
    with no_collecting():
        return read_trace(path, by_node=bool(wanted.conf)).first(wanted.limit).shaken(wanted.shake_s, wanted.seed)


def make_machine(workload: Workload, wanted: Wanted, clock: Clock) -> Machine:
    """The machine that is wanted: a configuration's, or the trace's number of processors."""
    if wanted.conf:
        return machine_of_config(wanted.conf, wanted.policy, clock)
    return machine_of_pool(wanted.processors or workload.processors, wanted.policy, clock)


def play(workload: Workload, wanted: Wanted, tell: Callable[[int], None] | None = None) -> Run:
    """Run the workload.  `tell`: called now and then with the number of jobs that ended."""
    clock = Clock()
    machine = make_machine(workload, wanted, clock)
    engine = Engine(
        machine, workload.jobs, clock, keep_nodes=wanted.keep_nodes, predictions=wanted.predictions, tell=tell
    )
    began = time.perf_counter()
    outcome = engine.run()
    wall_s = time.perf_counter() - began
    policy = wanted.policy or ("the configuration's" if wanted.conf else "default")
    return Run(
        workload,
        machine.label,
        machine.cpus,
        policy,
        outcome,
        measure(outcome, machine.cpus),
        wall_s,
        machine.notes,
        wanted,
    )
