"""The files a run can leave: starts, and a line of figures a job."""

from __future__ import annotations

import csv

from helix.hostlist import format_hostlist
from helixctld.sim.engine import NOT_STARTED, Outcome
from helixctld.sim.metrics import TAU_S

COLUMNS = ("job_id", "submit", "start", "end", "wait", "run", "limit", "cpus", "user", "bounded_slowdown",
           "backfilled", "expected_start", "nodes", "refused")  # fmt: skip


def write_starts(path: str, out: Outcome) -> None:
    """`number start` of every job that started, in the order of the workload."""
    with open(path, "w", encoding="ascii") as stream:
        for job, start in zip(out.jobs, out.start_s, strict=True):
            if start != NOT_STARTED:
                stream.write(f"{job.number} {start}\n")


def write_csv(path: str, out: Outcome) -> None:
    """COLUMNS of every job; empty where nothing is known."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(COLUMNS)
        for place, job in enumerate(out.jobs):
            start, end = out.start_s[place], out.end_s[place]
            ran = end != NOT_STARTED
            suspended = out.yielded.suspended_s.get(place, 0) if out.yielded is not None else 0
            run, wait = end - start - suspended, start - job.submit_s
            rows.writerow(
                (
                    job.number,
                    job.submit_s,
                    start if ran else "",
                    end if ran else "",
                    wait if ran else "",
                    run if ran else "",
                    job.spec.time_limit_s,
                    out.cpus[place],
                    job.user,
                    f"{max(1.0, (end - job.submit_s) / max(run, TAU_S)):.4f}" if ran else "",
                    int(out.backfilled[place]),
                    out.told.get(place, ""),
                    format_hostlist(out.nodes[place]) if out.nodes[place] else "",
                    out.refused.get(place, ""),
                )
            )
