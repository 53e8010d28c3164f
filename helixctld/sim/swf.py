"""The Standard Workload Format of the Parallel Workloads Archive: 18 numbers a line, `;` before comments.

How a line becomes a job: processors = field 8 if > 0, else field 5, at most MaxProcs; run = max(1, run), cut at the
limit; limit = requested time if > 0, else run.  Jobs without processors or with a negative run time are skipped.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from helixctld.sim.workload import SimJob, Specs, Workload, in_order

FIELDS = 18
VALUE_MAX = 1 << 40  #: seconds and counts beyond this are no job's
_NUMBER, _SUBMIT, _RUN, _ALLOCATED, _REQUESTED, _LIMIT, _USER, _PROGRAM = 0, 1, 3, 4, 7, 8, 11, 13
_HEADER = re.compile(r";\s*(MaxProcs|MaxNodes)\s*:\s*(\d+)")


def read_swf(lines: Iterable[str], source: str) -> Workload:
    """The workload; lines that are no job are counted in `skipped`."""
    skipped: Counter[str] = Counter()
    header: dict[str, int] = {}
    rows: list[tuple[int, int, int, int, int, str, str]] = []
    for line in lines:
        if line.lstrip().startswith(";"):
            if found := _HEADER.match(line.lstrip()):
                header[found[1]] = int(found[2])
        elif line.strip():
            row = _row(line)
            if isinstance(row, str):
                skipped[row] += 1
            else:
                rows.append(row)
    most = header.get("MaxProcs") or header.get("MaxNodes") or 0
    return Workload(source, in_order(_jobs(rows, most)), most, skipped)


def _row(line: str) -> tuple[int, int, int, int, int, str, str] | str:
    """Number, submit, run, limit, processors, user, program; or what is wrong."""
    fields = line.split()
    if len(fields) < FIELDS:
        return "too few fields"
    try:
        number, submit, run = _whole(fields[_NUMBER]), _whole(fields[_SUBMIT]), _whole(fields[_RUN])
        processors = _whole(fields[_REQUESTED])
        if processors <= 0:
            processors = _whole(fields[_ALLOCATED])
        limit = _whole(fields[_LIMIT])
    except (ValueError, OverflowError):
        return "not a number"
    if max(submit, run, limit, processors) > VALUE_MAX:
        return "a number out of range"
    if processors <= 0:
        return "no processors"
    if run < 0:
        return "no run time"
    if submit < 0:
        return "no submit time"
    run = max(1, run)
    limit = limit if limit > 0 else run
    return number, submit, min(run, limit), limit, processors, fields[_USER], fields[_PROGRAM]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def _jobs(rows: list[tuple[int, int, int, int, int, str, str]], most: int) -> list[SimJob]:
    specs = Specs()
    jobs = []
    for number, submit, run, limit, processors, user, program in rows:
        count = min(processors, most) if most else processors
        name = "" if program == "-1" else f"program{program}"
        spec = specs.of(tasks=count, time_limit_s=limit, name=name)
        jobs.append(SimJob(number, submit, run, spec, "" if user == "-1" else f"user{user}", count))
    return jobs
