"""The attributes expressions may name: of nodes (`--require`, `--rank`) and of jobs (`Admit=` on node lines).

One table each, which the manual's lists must agree with.  Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from helix.expression import Kind, Schema


class Attribute(NamedTuple):
    """A name, or a prefix that ends with a dot."""

    name: str
    kind: Kind
    doc: str


NODE_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("name", Kind.TEXT, "the node's name"),
    Attribute("cpus", Kind.NUMBER, "CPUs that jobs may have"),
    Attribute("sockets", Kind.NUMBER, "processor sockets"),
    Attribute("cores", Kind.NUMBER, "cores of all sockets"),
    Attribute("threads", Kind.NUMBER, "hardware threads of all cores"),
    Attribute("cores_per_socket", Kind.NUMBER, "cores of one socket"),
    Attribute("threads_per_core", Kind.NUMBER, "hardware threads of one core"),
    Attribute("memory", Kind.NUMBER, "configured memory in MiB"),
    Attribute("tmp", Kind.NUMBER, "temporary disk space in MiB"),
    Attribute("weight", Kind.NUMBER, "Weight of the node line"),
    Attribute("features", Kind.SET, "features of the node"),
    Attribute("partitions", Kind.SET, "partitions the node is in"),
    Attribute("switch", Kind.TEXT, "leaf switch or block of the node; undefined without a topology"),
    Attribute("arch", Kind.TEXT, "architecture, as the node reported it; undefined before it registers"),
    Attribute("os", Kind.TEXT, "operating system, likewise"),
    Attribute("kernel", Kind.TEXT, "kernel release, likewise"),
    Attribute("gres.", Kind.NUMBER, "units of a generic resource: gres.gpu, gres.gpu:a100; 0 where there is none"),
)

JOB_ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("user", Kind.TEXT, "name of the job's user"),
    Attribute("uid", Kind.NUMBER, "number of the job's user"),
    Attribute("group", Kind.TEXT, "name of the job's group"),
    Attribute("account", Kind.TEXT, "account the job is charged to, '' if none is given"),
    Attribute("qos", Kind.TEXT, "quality of service, '' if none is given"),
    Attribute("wckey", Kind.TEXT, "workload characterization key"),
    Attribute("name", Kind.TEXT, "name of the job"),
    Attribute("partition", Kind.TEXT, "partition in which the job is tried"),
    Attribute("time_limit", Kind.NUMBER, "time limit in seconds; above every number when there is none"),
    Attribute("nodes", Kind.NUMBER, "least number of nodes"),
    Attribute("tasks", Kind.NUMBER, "number of tasks"),
    Attribute("cpus", Kind.NUMBER, "CPUs of all tasks"),
    Attribute("cpus_per_task", Kind.NUMBER, "CPUs of one task"),
    Attribute("memory", Kind.NUMBER, "memory asked on a node in MiB; undefined when all of it is"),
    Attribute("exclusive", Kind.TRUTH, "whether whole nodes are asked"),
    Attribute("array", Kind.TRUTH, "whether the job is an array"),
)

#: kinds of `attr.NAME` of the node lines
ATTR_PREFIX = "attr."


def node_schema(attrs: Mapping[str, Kind]) -> Schema:
    """What `--require` and `--rank` may name; `attrs`: the kind of each name that Attr= of a node line sets."""
    named, prefixes = _split(NODE_ATTRIBUTES)
    return Schema({**named, **{ATTR_PREFIX + name: kind for name, kind in attrs.items()}}, prefixes)


def _split(table: tuple[Attribute, ...]) -> tuple[dict[str, Kind], dict[str, Kind]]:
    named = {row.name: row.kind for row in table if not row.name.endswith(".")}
    return named, {row.name: row.kind for row in table if row.name.endswith(".")}


JOB_SCHEMA = Schema(*_split(JOB_ATTRIBUTES))


def attr_kinds(lines: Mapping[str, Mapping[str, str]]) -> dict[str, Kind]:
    """name -> kind of the attributes of some nodes (node -> name -> text): a number if every text is one."""
    kinds: dict[str, Kind] = {}
    for attrs in lines.values():
        for name, text in attrs.items():
            if kinds.get(name, Kind.NUMBER) is Kind.NUMBER:
                kinds[name] = Kind.TEXT if attr_number(text) is None else Kind.NUMBER
    return kinds


@lru_cache(maxsize=4096)
def attr_number(text: str) -> float | None:
    """The number an Attr value is, None if it is none.  Plain decimals only, of at most 18 characters."""
    body = text[1:] if text[:1] == "-" else text
    whole, dot, rest = body.partition(".")
    digits = whole + rest
    if not digits or len(text) > 18 or not (digits.isascii() and digits.isdigit()) or (dot and not (whole and rest)):
        return None
    return float(text)
