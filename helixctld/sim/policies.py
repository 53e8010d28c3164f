"""The policies `hsim` can try on a workload: a scheduler plugin and its SchedulerParameters."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Policy:
    """One row."""

    scheduler: str  # SchedulerType
    summary: str
    parameters: dict[str, str] = field(default_factory=dict)


POLICIES: dict[str, Policy] = {
    "fcfs": Policy("sched/fifo", "in order of arrival; the first that waits holds back all others"),
    "easy": Policy(
        "sched/backfill", "one reservation, for the first that waits; others may overtake it", {"bf_mode": "easy"}
    ),
    "easy-sjbf": Policy("sched/backfill", "the same, the shortest limits overtake first", {"bf_mode": "easy-sjbf"}),
    "conservative": Policy(
        "sched/backfill", "every job keeps its reservation, which only moves earlier", {"bf_mode": "conservative"}
    ),
    "replan": Policy(
        "sched/backfill", "reservations for all, made anew in every pass, as Slurm does", {"bf_mode": "replan"}
    ),
    "default": Policy("sched/backfill", "what Helix does unless told otherwise", {"bf_mode": "default"}),
}
