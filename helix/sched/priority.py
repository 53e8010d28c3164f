"""Priorities of many jobs at once: each factor times its weight, added up.  Whole numbers only.

A factor is a whole number from 0 to ONE; a term is weight * factor / ONE, rounded; a priority is the sum of its
terms, plus the site's, less the nice value, and at least 1.  So what is shown adds up exactly, and the same table
gives the same priorities on every machine.  Cost: a few milliseconds for 100,000 jobs.

Source of the factors: slurm.schedmd.com/priority_multifactor.html, slurm.conf(5).  J jobs, P partitions, T weighted
TRES.  Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from helix_native.arrays import Flags, Int32, Int64

ONE = 1 << 30  #: a factor of 1
PRIORITY_MAX = (1 << 32) - 2  #: largest priority, as in Slurm
TERM_MAX = 1 << 40  #: largest term; only values that are not normalised come near
TERMS = ("age", "assoc", "fairshare", "jobsize", "partition", "qos", "tres")  #: columns of `Priorities.terms`


@dataclass(frozen=True, slots=True)
class PriorityOptions:
    """What the configuration says about priorities; weights are whole numbers, 0 = the factor does not count."""

    weight_age: int = 0
    weight_assoc: int = 0
    weight_fairshare: int = 0
    weight_jobsize: int = 0
    weight_partition: int = 0
    weight_qos: int = 0
    weight_tres: tuple[tuple[str, int], ...] = ()  # (TRES, weight), in the order of the columns of `tres`
    max_age_s: int = 7 * 86400
    favor_small: bool = False
    calc_period_s: int = 300
    flags: frozenset[str] = frozenset()  # PriorityFlags

    def raw(self, what: str) -> bool:
        """True if the values of a factor count as they are: NO_NORMAL_ASSOC, _PART, _QOS, _TRES."""
        return not self.flags.isdisjoint((f"NO_NORMAL_{what}", "NO_NORMAL_ALL"))


class PriorityTable(NamedTuple):
    """One row a job."""

    age_s: Int64  # [J] time that counts, 0 or more
    nodes: Int64  # least it asks for
    cpus: Int64
    limit_min: Int64  # time limit in minutes, at least 1
    fairshare: Int64  # factor of its association, 0 to ONE
    assoc: Int64  # Priority of the association
    qos: Int64  # Priority of the QOS
    partition: Int64  # PriorityJobFactor
    tres: Int64  # [J, T] what it asks for
    tres_row: Int32  # [J] row of `PriorityScale.tres`
    nice: Int64
    site: Int64
    floor: Int64  # INCR_ONLY: the priority never falls below; 0 otherwise


@dataclass(frozen=True, slots=True)
class PriorityScale:
    """What is 1."""

    nodes: int  # of the cluster
    cpus: int
    assoc: int  # largest Priority of an association
    qos: int
    partition: int  # largest PriorityJobFactor
    tres: Int64  # [P, T] of each partition


class Priorities(NamedTuple):
    """The result."""

    priority: Int64  # [J] 1 to PRIORITY_MAX
    terms: Int64  # [J, len(TERMS)]
    factors: Int64  # [J, len(TERMS)] of ONE; a value that is not normalised as it is
    tres: Int64  # [J, T] what each TRES adds to its term
    bound: Int64  # [J] what keeping the priority in its bounds added; 0 but for extreme weights and nice values


def priorities(table: PriorityTable, scale: PriorityScale, options: PriorityOptions) -> Priorities:
    """All priorities.  Row i depends on row i only."""
    size = len(table.age_s)
    factors = np.zeros((size, len(TERMS)), np.int64)
    terms = np.zeros((size, len(TERMS)), np.int64)
    parts = (
        (options.weight_age, np.minimum(table.age_s, options.max_age_s) * ONE // options.max_age_s),
        (options.weight_assoc, _share(table.assoc, scale.assoc, options.raw("ASSOC"))),
        (options.weight_fairshare, table.fairshare),
        (options.weight_jobsize, size_factor(table, scale, options)),
        (options.weight_partition, _share(table.partition, scale.partition, options.raw("PART"))),
        (options.weight_qos, _share(table.qos, scale.qos, options.raw("QOS"))),
    )
    raw = (False, options.raw("ASSOC"), False, False, options.raw("PART"), options.raw("QOS"))
    for column, (weight, factor) in enumerate(parts):
        factors[:, column] = factor
        terms[:, column] = _term(weight, factor, raw[column])
    tres = _tres_terms(table, scale, options, factors[:, -1])
    terms[:, -1] = tres.sum(axis=1)
    wanted = terms.sum(axis=1) + table.site - table.nice
    priority = np.clip(np.maximum(wanted, table.floor), 1, PRIORITY_MAX)
    return Priorities(priority, terms, factors, tres, priority - wanted)


def size_factor(table: PriorityTable, scale: PriorityScale, options: PriorityOptions) -> Int64:
    """The mean of the job's share of the nodes and of the CPUs; SMALL_RELATIVE_TO_TIME: its CPUs over its minutes."""
    nodes, cpus = max(1, scale.nodes), max(1, scale.cpus)
    if "SMALL_RELATIVE_TO_TIME" in options.flags:
        used = np.maximum(table.cpus, table.nodes * cpus // nodes)
        factor = np.minimum(used, cpus) * ONE // (np.maximum(table.limit_min, 1) * cpus)
    else:
        of_nodes = np.minimum(table.nodes, nodes) * ONE // nodes
        of_cpus = np.minimum(table.cpus, cpus) * ONE // cpus
        factor = (of_nodes + of_cpus) // 2
    small: Int64 = ONE - factor if options.favor_small else factor
    return small


def _share(value: Int64, most: int, raw: bool) -> Int64:
    """`value` of `most` as a factor; 0 where nobody has any."""
    value = np.clip(value, 0, ONE)
    if raw:
        return value
    return np.minimum(value * ONE // most, ONE) if most > 0 else np.zeros_like(value)


def _term(weight: int, factor: Int64, raw: bool) -> Int64:
    return np.minimum(factor * weight, TERM_MAX) if raw else (factor * weight + (ONE >> 1)) >> 30


def _tres_terms(table: PriorityTable, scale: PriorityScale, options: PriorityOptions, factor: Int64) -> Int64:
    """What each TRES adds; the factor shown is the mean of theirs, by weight."""
    terms = np.zeros((len(table.age_s), len(options.weight_tres)), np.int64)
    raw = options.raw("TRES")
    total = sum(weight for _, weight in options.weight_tres)
    for column, (_, weight) in enumerate(options.weight_tres):
        asked = table.tres[:, column]
        if raw:
            own = np.clip(asked, 0, ONE)
        else:
            most = scale.tres[table.tres_row, column]
            known: Flags = most > 0
            own = np.where(known, np.minimum(asked, most) * ONE // np.maximum(most, 1), 0)
        terms[:, column] = _term(weight, own, raw)
        if total:
            factor += own * weight // total
    return terms
