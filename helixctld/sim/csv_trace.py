"""CSV traces: `#` comments, a header line that names the columns, one job a line; -1 or nothing = unknown.

Columns that are used: job_id, submit, run, req_time, nodes, cpus, gpus, mem_mb, user, queue, spec (Torque's
`nodes:ppn=N:property`).  A job asks for its `cpus`, or where they are unknown for its `gpus`: one processor each.  Its
limit is req_time, or its run time where that is unknown.  MaxCpus or MaxGpus in a comment is the machine.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from helixctld.sim.lines import unreadable
from helixctld.sim.swf import VALUE_MAX
from helixctld.sim.workload import SimJob, Specs, Workload, in_order

_MACHINE = re.compile(r"#\s*Max(?:Cpus|Gpus)\s*:\s*(\d+)")
_PPN = re.compile(r"(\d+):ppn=(\d+)((?::[\w.-]+)*)(#excl)?$")
_NEEDED = ("submit", "run")


@dataclass(slots=True)
class _Row:
    """The numbers of a line; -1 = unknown."""

    number: int
    submit: int
    run: int
    limit: int
    nodes: int
    cpus: int
    gpus: int
    mem_mib: int
    user: str
    queue: str
    chunk: str


def read_csv(lines: Iterable[str], source: str, *, by_node: bool = False) -> Workload:
    """The workload.  `by_node`: requests keep their nodes, tasks a node and memory, for a machine with nodes.

    Raises UsageError if the header names no submit and run times.
    """
    skipped: Counter[str] = Counter()
    machine = 0

    def text() -> Iterator[str]:
        nonlocal machine
        for line in lines:
            if line.startswith("#"):
                if found := _MACHINE.match(line):
                    machine = int(found[1])
            elif line.strip():
                yield line

    rows = csv.reader(text())
    header = [name.strip() for name in next(rows, [])]
    if missing := [name for name in _NEEDED if name not in header]:
        raise unreadable(source, f"its header line has no column '{missing[0]}'")
    specs = Specs()
    jobs: list[SimJob] = []
    build: Callable[[Specs, _Row], SimJob | str] = _with_nodes if by_node else _of_pool
    for place, fields in enumerate(rows, 1):
        row = _row(dict(zip(header, fields, strict=False)), place) if len(fields) >= len(header) else "too few fields"
        made = row if isinstance(row, str) else build(specs, row)
        if isinstance(made, str):
            skipped[made] += 1
        else:
            jobs.append(made)
    return Workload(source, in_order(jobs), machine, skipped)


def _row(fields: dict[str, str], place: int) -> _Row | str:
    try:
        numbers = {name: _number(fields.get(name, "")) for name in ("submit", "run", "req_time", "nodes", "cpus",
                                                                     "gpus", "mem_mb")}  # fmt: skip
        number = _number(fields.get("job_id", ""))
    except ValueError:
        return "not a number"
    if max(numbers.values()) > VALUE_MAX:
        return "a number out of range"
    if numbers["run"] < 0:
        return "no run time"
    if numbers["submit"] < 0:
        return "no submit time"
    run = max(1, numbers["run"])
    limit = numbers["req_time"] if numbers["req_time"] > 0 else run
    user = fields.get("user", "")
    queue = fields.get("queue", "")
    return _Row(
        number if number >= 0 else place, numbers["submit"], min(run, limit), limit, numbers["nodes"],
        numbers["cpus"], numbers["gpus"], numbers["mem_mb"], "" if user in ("", "-1") else f"user{user}", queue,
        fields.get("spec", ""),
    )  # fmt: skip


def _number(text: str) -> int:
    text = text.strip()
    if not text:
        return -1
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not -VALUE_MAX <= number <= VALUE_MAX:
            raise ValueError(text) from None
        return int(number)


def _of_pool(specs: Specs, row: _Row) -> SimJob | str:
    """A number of interchangeable processors, at most those of the machine."""
    count = row.cpus if row.cpus > 0 else row.gpus
    if count <= 0:
        return "no processors"
    spec = specs.of(tasks=count, time_limit_s=row.limit)
    return SimJob(row.number, row.submit, row.run, spec, row.user or row.queue, count)


def _with_nodes(specs: Specs, row: _Row) -> SimJob | str:
    """Nodes, tasks a node, memory and node properties as the line has them."""
    if row.cpus <= 0:
        return _gpus_on_nodes(specs, row)
    fields: dict[str, object] = {"time_limit_s": row.limit}
    nodes = max(1, row.nodes)
    if found := _PPN.fullmatch(row.chunk.strip()):
        nodes = int(found[1])
        fields.update(nodes_min=nodes, nodes_max=nodes, tasks=nodes * int(found[2]), tasks_per_node=int(found[2]))
        if properties := [word for word in found[3].split(":") if word.startswith("cl_")]:
            fields["constraint"] = "&".join(properties)
        if found[4]:
            fields["exclusive"] = True
    else:
        fields.update(nodes_min=nodes, tasks=row.cpus)
    if row.mem_mib > 0:
        fields["mem_per_node_mib"] = -(-row.mem_mib // nodes)
    return SimJob(row.number, row.submit, row.run, specs.of(**fields), row.user or row.queue, row.cpus)


def _gpus_on_nodes(specs: Specs, row: _Row) -> SimJob | str:
    """GPUs as tasks of one CPU: on a machine described with one CPU for each GPU."""
    if row.gpus <= 0:
        return "no processors"
    spec = specs.of(tasks=row.gpus, time_limit_s=row.limit, mem_per_node_mib=1)
    return SimJob(row.number, row.submit, row.run, spec, row.user or row.queue, row.gpus)
