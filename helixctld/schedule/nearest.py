"""Which node comes closest to serving a request, and what it lacks.  Shared by `feasible` (against what nodes have)
and `why` (against what is free)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix.errors import UsageError
from helix.expression import Clause
from helix.sched.explain import format_mib, plural
from helix.sched.features import EVERY, missing_words
from helix.sched.request import Request
from helix_native.arrays import Flags, Int64, unpack_bits
from helix_native.reference import Pass
from helixctld.schedule.columns import Columns
from helixctld.schedule.looking import Looking, lacking_gres


@dataclass(frozen=True, slots=True)
class Nearest:
    """`lacks` continues "n1 ": `has 64 of 128 CPUs and 32G of 64G memory`."""

    node: str
    lacks: str


def members_of(columns: Columns, part: int) -> Flags:
    """Nodes of a partition.  [N]"""
    _, tables = columns.shapes.freeze()
    return unpack_bits(tables.part[part], len(columns.nodes))


def nearest_node(
    columns: Columns, work: Looking, row: int, request: Request, cpus: Int64, mem: Int64, among: Flags
) -> Nearest | None:
    """The node of `among` with the least to miss for its share, given these CPUs and this memory."""
    candidates = np.flatnonzero(among)
    if not len(candidates):
        return None
    need_cpus = work.cost(row, request.task_lo)[candidates]
    need_mem = memory_needed(work, request, need_cpus, candidates)
    have_cpus, have_mem = np.maximum(cpus[candidates], 0), np.maximum(mem[candidates], 0)
    missing = np.maximum(0, need_cpus - have_cpus) / np.maximum(1, need_cpus)
    missing = missing + np.maximum(0, need_mem - have_mem) / np.maximum(1, need_mem)
    missing = missing + np.maximum(0, request.tmp_mib - work.nodes.tmp[candidates]) / max(1, request.tmp_mib)
    have_gres = work.gres_have if mem is work.nodes.mem else work.gres_free
    if work.gres.shape[1]:
        short = np.maximum(0, work.gres[row] - have_gres[candidates]) / np.maximum(1, work.gres[row])
        missing = missing + short.sum(axis=1)
    if request.constraint != EVERY:
        missing = missing + ~columns.nodes.meeting(request.constraint)[candidates]
    if request.require:
        missing = missing + ~columns.shapes.attributes.satisfying(request.require)[candidates]
    refused = columns.shapes.refused(row)
    if refused:
        missing = missing + ~columns.shapes.admission.admitting(refused)[candidates]
    place = int(np.argmin(missing))
    i = int(candidates[place])
    lacks = []
    if have_cpus[place] < need_cpus[place]:
        lacks.append(f"has {int(have_cpus[place])} of {plural(int(need_cpus[place]), 'CPU')}")
    if have_mem[place] < need_mem[place]:
        lacks.append(f"has {format_mib(int(have_mem[place]))} of {format_mib(int(need_mem[place]))} memory")
    if work.nodes.tmp[i] < request.tmp_mib:
        lacks.append(f"has {format_mib(int(work.nodes.tmp[i]))} of {format_mib(request.tmp_mib)} temporary disk")
    lacks.extend(lacking_gres(columns, work, row, request, i, have_gres))
    if words := missing_words(columns.nodes.records[i].features, request.constraint):
        lacks.append(words)
    lacks.extend(f"fails '{clause.text}'" for clause in failing_clauses(columns, request, i))
    if columns.nodes.records[i].admit in refused:
        lacks.append(f"admits only jobs with '{columns.nodes.records[i].admit}'")
    return Nearest(columns.nodes.names[i], " and ".join(lacks)) if lacks else None


def memory_needed(work: Pass, request: Request, need_cpus: Int64, at: Int64) -> Int64:
    """MiB a node gives for its least share of tasks."""
    if request.mem_all:
        return np.maximum(work.nodes.mem[at], 1)
    if request.mem_cpu_mib:
        return need_cpus * request.mem_cpu_mib
    return np.full(len(at), max(request.mem_node_mib, request.mem_floor_mib), np.int64)


def failing_clauses(columns: Columns, request: Request, node: int) -> list[Clause]:
    """The clauses of `--require` that a node does not meet."""
    if not request.require:
        return []
    attributes = columns.shapes.attributes
    try:
        clauses = attributes.condition(request.require).clauses
    except UsageError:  # the configuration no longer has what it names
        return []
    return [clause for clause in clauses if not attributes.clause(clause)[node]]
