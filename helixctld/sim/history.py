"""A site's own history: one JSON object a line, with the fields of `hqueue --json` and `hacct --json`.

Used: t_submit; elapsed_s, or t_start and t_end; time_limit_s; cpus or tasks, cpus_per_task, tasks_per_node, nodes_min
(or node_count), nodes_max, mem_per_node_mib, mem_per_cpu_mib, exclusive, constraint, partition, user, account, qos,
name, job_id.  A job that never ran is skipped.  Submits are moved so that the first is at second 0.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from helixctld.sim.swf import VALUE_MAX
from helixctld.sim.workload import SimJob, Specs, Workload, in_order

_TEXTS = ("name", "account", "qos", "constraint")
_COUNTS = ("cpus_per_task", "tasks_per_node", "nodes_max", "mem_per_node_mib", "mem_per_cpu_mib")


def read_history(lines: Iterable[str], source: str, *, by_node: bool = False) -> Workload:
    """The workload.  `by_node`: requests keep all they say; otherwise they are a number of processors."""
    skipped: Counter[str] = Counter()
    specs = Specs()
    jobs: list[SimJob] = []
    for place, line in enumerate(lines, 1):
        if not line.strip():
            continue
        made = _job(specs, line, place, by_node)
        if isinstance(made, str):
            skipped[made] += 1
        else:
            jobs.append(made)
    jobs = in_order(jobs)
    first = jobs[0].submit_s if jobs else 0
    for job in jobs:
        job.submit_s -= first
    return Workload(source, jobs, 0, skipped)


def _job(specs: Specs, line: str, place: int, by_node: bool) -> SimJob | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(row, dict):
        return "not a JSON object"
    try:
        submit, run, limit = _times(row)
        cpus = int(_number(row, "cpus") or (_number(row, "tasks") * max(1, _number(row, "cpus_per_task"))))
    except (TypeError, ValueError, OverflowError):
        return "not a number"
    if submit <= 0:
        return "no submit time"
    if run < 0:
        return "no run time"
    if cpus <= 0:
        return "no processors"
    if max(submit, run, limit, cpus) > VALUE_MAX:
        return "a number out of range"
    try:
        spec = _spec(specs, row, limit, cpus, by_node)
    except (TypeError, ValueError, OverflowError):
        return "not a number"
    number = row.get("job_id", place)
    user = str(row.get("user", ""))
    return SimJob(number if isinstance(number, int) else place, submit, run, spec, user, cpus)


def _times(row: dict[str, Any]) -> tuple[int, int, int]:
    """Submit, run and limit; -1 for a run time that is not known."""
    submit = int(_number(row, "t_submit"))
    start, end = _number(row, "t_start"), _number(row, "t_end")
    elapsed = _number(row, "elapsed_s")
    if elapsed > 0:
        run = int(elapsed)
    elif start > 0 and end >= start:
        run = int(end - start - _number(row, "suspended_s"))
    else:
        return submit, -1, 0
    run = max(1, run)
    limit = int(_number(row, "time_limit_s"))
    return submit, min(run, limit) if limit > 0 else run, limit if limit > 0 else run


def _spec(specs: Specs, row: dict[str, Any], limit: int, cpus: int, by_node: bool) -> Any:
    fields: dict[str, object] = {"time_limit_s": limit}
    fields.update({name: str(row[name]) for name in _TEXTS if row.get(name)})
    if not by_node:
        return specs.of(tasks=cpus, **fields)
    fields.update({name: int(_number(row, name)) for name in _COUNTS if _number(row, name) > 0})
    fields["tasks"] = int(_number(row, "tasks")) or max(1, cpus // max(1, int(_number(row, "cpus_per_task"))))
    fields["nodes_min"] = max(1, int(_number(row, "nodes_min") or _number(row, "node_count")))
    if row.get("partition"):
        fields["partitions"] = str(row["partition"]).split(",")
    if row.get("exclusive"):
        fields["exclusive"] = True
    return specs.of(**fields)


def _number(row: dict[str, Any], name: str) -> float:
    value = row.get(name)
    return 0.0 if value is None or value == "" else float(value)
