"""The tables the kernels read and write: named tuples of numpy arrays, and the small integer codes in them.

Owns names, dtypes and units; knows nothing of jobs, nodes or configuration as objects.  N nodes, S shapes (distinct
requests), P partitions, L partitions with a per-node CPU limit, E queue entries (job x partition, in the order to
be tried), J job slots.  All arrays are inputs and are never written by a kernel, but those of `PlanArrays`.

Memory is MiB, time is seconds, CPUs are hardware threads given in whole cores of `width` CPUs.  Bit tables are rows
of bytes, least significant bit first (numpy's `bitorder="little"`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Bits = NDArray[np.uint8]
Flags = NDArray[np.bool_]

# What became of a job in a pass; of several partitions the highest counts, so the order is from hopeless to done.
UNTESTED = 0  #: not reached: whatever was said before still holds
TIME_LIMIT = 1  #: over the partition's time limit
NODE_LIMIT = 2  #: outside the partition's node limits
INACTIVE = 3  #: partition INACTIVE
DOWN = 4  #: partition DOWN
BAD = 5  #: no set of nodes, empty and up, could serve it
UNAVAILABLE = 6  #: would fit if nodes that are down or drained were not
REQUIRED_DOWN = 7  #: the same, and the job names nodes
PRIORITY = 8  #: behind a job that waits for resources
RESOURCES = 9  #: next in line; waits until something ends
STARTED = 10

# Why a node cannot take (its share of) a request: columns of the counts.
FAIL_INELIGIBLE = 0  #: excluded, or lacks a feature
FAIL_SMALL = 1  #: too few CPUs, or too little memory or disk, even when empty
FAIL_DOWN = 2  #: down, drained or not responding
FAIL_KEPT = 3  #: kept for a job of higher priority
FAIL_BUSY = 4  #: not empty, and the request wants whole nodes
FAIL_CPUS = 5  #: too few free CPUs
FAIL_MEMORY = 6  #: too little free memory
FAIL_ROOM = 7  #: the partition's CPU limit on that node is used up
FAIL_COUNT = 8

SHARES_PER_START = 4  #: a pass also ends when its starts use so many nodes a start, so that a commit stays short

MEM_MAX = 1 << 50  #: MiB; larger requests and nodes are clamped, so that products stay inside 64 bits
CPUS_MAX = (1 << 31) - 1


class NodeArrays(NamedTuple):
    """One row a node.  [N]"""

    cpus: Int32  # CPUs that may be allocated
    width: Int32  # CPUs in a core, >= 1
    mem: Int64
    tmp: Int64
    rank: Int32  # dense rank of the weight: lower is taken first
    up: Flags  # may take new work
    free_cpus: Int32  # in whole cores
    free_mem: Int64
    empty: Flags  # no job there


class ShapeArrays(NamedTuple):
    """One row a distinct request.  [S]"""

    part: Int32
    elig: Int32  # row of `elig`
    gate: Int8  # 0, or the code that keeps it from being tried at all
    nodes_lo: Int32  # >= 1
    nodes_hi: Int32  # 0 = no bound
    grow: Flags  # take up to nodes_hi when there are so many
    spread: Flags  # even shares, not filled one after the other
    contiguous: Flags  # neighbours by index only
    least: Flags  # least loaded nodes first, not best fit
    tasks: Int32  # tasks in all, each node at least one; 0 = every node gets task_lo
    task_lo: Int32  # least tasks a node must take
    task_hi: Int32  # most tasks a node may take
    cpt: Int32  # CPUs a task, >= 1
    cpus_min: Int32  # least CPUs on a node
    mem_node: Int64  # 0 = not by node
    mem_cpu: Int64  # for each CPU given; 0 = not by CPU
    mem_all: Flags  # all memory of each node, which must be unused
    mem_floor: Int64  # least configured memory
    tmp: Int64  # least configured disk
    exclusive: Flags  # the node must be empty; all its CPUs are taken
    must_at: Int32  # nodes that must be part: must[must_at : must_at + must_n]
    must_n: Int32


class TableArrays(NamedTuple):
    """What shapes and partitions refer to."""

    elig: Bits  # [rows, ceil(N/8)]: nodes of the partition that exclusion and features allow
    part: Bits  # [P, ceil(N/8)]: nodes of the partition
    part_gate: Int8  # [P] 0 = starts jobs, else the code
    part_time: Int64  # [P] longest time limit, 0 = none
    part_room: Int32  # [P] row of `room`, -1 = no limit
    room: Int32  # [L, N] CPUs the partition may still use on the node
    room_cap: Int32  # [L] the limit itself
    must: Int32  # node indexes


class QueueArrays(NamedTuple):
    """The queue.  `shape`, `job`, `limit_s` are parallel, in the order to be tried."""

    shape: Int32  # [E]
    job: Int32  # [E] slot
    limit_s: Int64  # [E] time limit the job would run with, 0 = unlimited
    starts: Int32  # [J] how many starts the slot still allows; > 1 for an array


class PlanArrays(NamedTuple):
    """The result of a pass."""

    start_entry: Int32  # [starts] which entry
    ptr: Int32  # [starts + 1] nodes of start i: ptr[i]:ptr[i + 1]
    node: Int32
    cpus: Int32
    mem: Int64
    code: Int8  # [J]
    block_entry: Int32  # [blockers] entries that were found to wait for resources
    block_fails: Int32  # [blockers, FAIL_COUNT] nodes of the partition by what they lack
    block_only: Int32  # the same, nodes that lack nothing else
    tested: int  # entries for which nodes were looked at
    truncated: bool  # a bound was reached, or a job started that had blocked another partition: plan again


def pack_bits(flags: Flags) -> Bits:
    """A row of a bit table."""
    return np.packbits(flags, bitorder="little")


def unpack_bits(row: Bits, count: int) -> Flags:
    """A row of a bit table as `count` flags."""
    return np.unpackbits(row, count=count, bitorder="little").astype(np.bool_)


def empty_shapes(rows: int) -> ShapeArrays:
    """`rows` rows of zeros, each column with its own dtype."""
    wide = {"mem_node", "mem_cpu", "mem_floor", "tmp"}
    flags = {"grow", "spread", "contiguous", "least", "mem_all", "exclusive"}
    columns: list[NDArray[Any]] = []
    for name in ShapeArrays._fields:
        dtype: type = np.int8 if name == "gate" else np.bool_ if name in flags else np.int32
        columns.append(np.zeros(rows, np.int64 if name in wide else dtype))
    return ShapeArrays._make(columns)
