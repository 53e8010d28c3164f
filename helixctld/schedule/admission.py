"""`Admit=` of node lines: which nodes take jobs of this kind.

A condition over the job is true, false or undefined for all nodes that have it written alike; only true admits.
Jobs that the same lines refuse share a row of the planner's tables, whoever they belong to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from helix.errors import UsageError
from helix.expression import Expression, compile_condition
from helix.expression_names import JOB_SCHEMA
from helix.model.job import JobRecord, JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.expression_columns import Column, Numbers, Truths, text_column, true_rows
from helix.sched.request import time_limit_s
from helix_native.arrays import Flags
from helixctld.schedule.node_columns import NodeColumns

ANSWERS_MAX = 4096  #: remembered; all are forgotten when there are more


class Who(NamedTuple):
    """Whose job it is: what a spec does not say."""

    user: str = ""
    uid: int = -1
    group: str = ""


NOBODY = Who()


def who_of(job: JobRecord) -> Who:
    """Whose job this is."""
    return Who(job.user, job.uid, job.group)


Value = float | str | bool | None
_Fact = Callable[[JobSpec, PartitionRecord, Who], Value]


def _time_limit(spec: JobSpec, partition: PartitionRecord, _: Who) -> Value:
    return time_limit_s(spec, partition) or math.inf


def _tasks(spec: JobSpec, *_: object) -> int:
    return spec.tasks or max(1, spec.nodes_min) * max(1, spec.tasks_per_node)


def _memory(spec: JobSpec, partition: PartitionRecord, _: Who) -> Value:
    if spec.mem_per_node_mib:
        return spec.mem_per_node_mib
    each = spec.mem_per_cpu_mib or partition.def_mem_per_cpu_mib
    if each and not spec.mem_all:
        on_node = spec.tasks_per_node or -(-_tasks(spec) // max(1, spec.nodes_min))
        return each * spec.cpus_per_task * on_node
    return None if spec.mem_all else partition.def_mem_per_node_mib or None


_FACTS: dict[str, _Fact] = {
    "user": lambda s, p, w: w.user,
    "uid": lambda s, p, w: w.uid,
    "group": lambda s, p, w: w.group,
    "account": lambda s, p, w: s.account,
    "qos": lambda s, p, w: s.qos,
    "wckey": lambda s, p, w: s.wckey,
    "name": lambda s, p, w: s.name,
    "partition": lambda s, p, w: p.name,
    "time_limit": _time_limit,
    "nodes": lambda s, p, w: max(1, s.nodes_min),
    "tasks": lambda s, p, w: _tasks(s),
    "cpus": lambda s, p, w: _tasks(s) * s.cpus_per_task,
    "cpus_per_task": lambda s, p, w: s.cpus_per_task,
    "memory": _memory,
    "exclusive": lambda s, p, w: s.exclusive or p.oversubscribe.upper().startswith("EXCLUSIVE"),
    "array": lambda s, p, w: s.array is not None,
}


class Admission:
    """The distinct Admit lines of some nodes."""

    def __init__(self, nodes: NodeColumns) -> None:
        self.nodes = nodes
        self.texts: tuple[str, ...] = ()
        self._version = -1
        self._expressions: dict[str, Expression | None] = {}
        self._names: tuple[str, ...] = ()
        self._answers: dict[tuple[Value, ...], tuple[str, ...]] = {}

    def refresh(self) -> bool:
        """Take the lines as they are now; True if they are others than before."""
        if self._version == self.nodes.static_version:
            return False
        self._version = self.nodes.static_version
        texts = tuple(sorted({node.admit for node in self.nodes.records if node.admit}))
        if texts == self.texts:
            return False
        self.texts = texts
        self._answers.clear()
        self._expressions = {text: _compiled(text) for text in texts}
        names = {name for found in self._expressions.values() if found is not None for name in found.names}
        self._names = tuple(sorted(names))
        return True

    def refused(self, spec: JobSpec, partition: PartitionRecord, who: Who) -> tuple[str, ...]:
        """The Admit lines that do not admit the job, in order."""
        if not self.texts:
            return ()
        key = tuple(_FACTS[name](spec, partition, who) for name in self._names)
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) > ANSWERS_MAX:
                self._answers.clear()
            facts = dict(zip(self._names, key, strict=True))
            found = self._answers[key] = tuple(text for text in self.texts if not self._admits(text, facts))
        return found

    def admitting(self, refused: Sequence[str]) -> Flags:
        """Nodes whose line is none of `refused`.  [N]"""
        if not refused:
            return np.ones(len(self.nodes), np.bool_)
        among = frozenset(refused)
        return np.fromiter((node.admit not in among for node in self.nodes.records), np.bool_, len(self.nodes))

    def _admits(self, text: str, facts: dict[str, Value]) -> bool:
        expression = self._expressions[text]
        if expression is None:
            return False
        return bool(true_rows(expression.program, lambda name: _column(facts[name]), 1)[0])


def _compiled(text: str) -> Expression | None:
    """None for a line that cannot be read, which admits nobody; the configuration's check refuses it."""
    try:
        return compile_condition(text, JOB_SCHEMA, "Admit")
    except UsageError:
        return None


def _column(value: Value) -> Column:
    if isinstance(value, bool):
        return Truths(np.array([value]))
    if isinstance(value, str):
        column = text_column([value or " "])
        return column if value else column.__class__(column.code, [""])  # "" is a value here
    known = None if value is not None else np.zeros(1, np.bool_)
    return Numbers(np.array([value or 0], np.float64), known)
