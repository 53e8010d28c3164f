"""Which format a trace has, told by its first line; and the errors for files that hold no jobs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from helixctld.sim.csv_trace import read_csv
from helixctld.sim.history import read_history
from helixctld.sim.lines import read_lines, unreadable
from helixctld.sim.swf import read_swf
from helixctld.sim.workload import Workload


def read_trace(path: str | Path, *, by_node: bool = False) -> Workload:
    """The workload in a file.  `by_node`: keep nodes and memory of requests where the format has them.

    Raises NotFound, or UsageError (TRACE_UNREADABLE, TRACE_EMPTY).
    """
    lines = read_lines(path)
    head: list[str] = []
    kind = ""
    for line in lines:
        head.append(line)
        if kind := _kind(line):
            break
    rest: Iterator[str] = chain(head, lines)
    source = str(path)
    if kind == "swf":
        workload = read_swf(rest, source)
    elif kind == "json":
        workload = read_history(rest, source, by_node=by_node)
    elif kind == "csv":
        workload = read_csv(rest, source, by_node=by_node)
    else:
        raise unreadable(path, "it is empty" if not any(line.strip() for line in head) else "it is no trace")
    if not workload.jobs:
        told = ", ".join(f"{n} {'line' if n == 1 else 'lines'}: {why}" for why, n in workload.skipped.most_common(3))
        raise unreadable(path, "no job in it" + (f" ({told})" if told else ""))
    return workload


def _kind(line: str) -> str:
    """What the first line that says anything starts: "swf", "json", "csv", or "" for one that tells nothing."""
    text = line.strip()
    if not text:
        return ""
    if text.startswith(";"):
        return "swf"
    if text.startswith("{"):
        return "json"
    if text.startswith("#"):
        return "csv"
    words = text.split()
    if len(words) >= 5 and all(_is_number(word) for word in words[:5]):
        return "swf"
    return "csv" if "," in text and "submit" in text else ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
