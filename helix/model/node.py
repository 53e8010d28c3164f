"""What a node has (`Fingerprint`), what it was configured to have, and the state it is in (`NodeRecord`)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

COUNTED_CPUS = 16_384  #: CPUs of a larger node are counted, not numbered: see `is_counted`


class NodeBase(StrEnum):
    """What the controller last heard; the allocation-derived word is computed by `state_word`."""

    UNKNOWN = "UNKNOWN"  # never registered since the cluster was made
    UP = "UP"  # registered
    DOWN = "DOWN"
    FUTURE = "FUTURE"


class Fingerprint(Struct, omit_defaults=True, kw_only=True):
    """The hardware a helixd found, sent at registration."""

    hostname: str = ""
    boards: int = 1
    sockets: int = 1
    cores_per_socket: int = 1
    threads_per_core: int = 1
    cpus: int = 1
    real_memory_mib: int = 0
    tmp_disk_mib: int = 0
    arch: str = ""
    os: str = ""
    kernel: str = ""
    boot_id: str = ""
    t_boot: float = 0.0
    t_helixd_start: float = 0.0
    version: str = ""
    runs_as: int = 0  # uid of helixd: unless 0, it can start that user's jobs only
    t_sent: float = 0.0  # node's clock when sent: the controller derives the skew


class NodeRecord(Struct, omit_defaults=True, kw_only=True):
    """A node as the controller knows it.  `index` is its row in the planner's arrays."""

    name: str
    index: int = 0
    addr: str = ""
    cpus: int = 1  # configured: what may be allocated
    sockets: int = 1
    cores_per_socket: int = 1
    threads_per_core: int = 1
    real_memory_mib: int = 1
    tmp_disk_mib: int = 0
    weight: int = 1
    features: list[str] = field(default_factory=list)
    attrs: dict[str, str] = field(default_factory=dict)  # Attr= of the node line
    admit: str = ""  # Admit= of the node line: which jobs it takes, "" = all
    gres: str = ""  # configured generic resources, complete: "gpu:a100:4,nvme:1"
    base: NodeBase = NodeBase.UNKNOWN
    drain: bool = False
    fail: bool = False
    responding: bool = False
    reason: str = ""
    reason_by: str = ""  # user name, or "helix" when the controller set it
    t_reason: float = 0.0
    down_by_silence: bool = False  # a node that comes back by itself undoes only this kind of DOWN
    drain_by_mismatch: bool = False  # a registration that matches undoes only this kind of drain
    drain_by_health: bool = False  # a heartbeat that tells of no trouble undoes only this kind
    fingerprint: Fingerprint | None = None
    skew_s: float = 0.0
    t_last_seen: float = 0.0
    cpus_alloc: int = 0  # derived from `jobs`
    mem_alloc_mib: int = 0  # derived from `jobs`
    jobs: dict[int, int] = field(default_factory=dict)  # exactly the ACTIVE jobs here: job id -> CPUs
    whole_job: int = 0  # job that has the node to itself, 0 = none
    completing: int = 0  # how many of `jobs` are COMPLETING
    reservations: list[str] = field(default_factory=list)  # derived: active ones that hold of it
    maintenance: bool = False  # derived: one of them is for maintenance


def state_word(node: NodeRecord) -> str:
    """The state as sinfo prints it, long form: IDLE MIXED ALLOCATED COMPLETING DOWN DRAINED DRAINING FAIL UNKNOWN,
    RESERVED or MAINT for an idle one in an active reservation, with `*` appended while the node does not respond."""
    star = "" if node.responding or node.base is NodeBase.UNKNOWN else "*"
    if node.base is NodeBase.DOWN:
        word = "DOWN"
    elif node.base is NodeBase.FUTURE:
        word = "FUTURE"
    elif node.fail:
        word = "FAILING" if node.jobs else "FAIL"
    elif node.drain:
        word = "DRAINING" if node.jobs else "DRAINED"
    elif node.base is NodeBase.UNKNOWN:
        word = "UNKNOWN"
    elif node.jobs and node.completing == len(node.jobs):
        word = "COMPLETING"
    elif not node.jobs:
        word = "MAINT" if node.maintenance else "RESERVED" if node.reservations else "IDLE"
    elif node.cpus_alloc >= node.cpus or node.whole_job:
        word = "ALLOCATED"
    else:
        word = "MIXED"
    return word + star


def is_schedulable(node: NodeRecord) -> bool:
    """True if new work may be placed on the node."""
    return node.base is NodeBase.UP and node.responding and not node.drain and not node.fail


def all_cores(node: NodeRecord) -> int:
    """The mask of all CPUs of a node; 0 where they are counted (what is free there is `cpus` - `cpus_alloc`)."""
    return 0 if is_counted(node) else (1 << node.cpus) - 1


def is_counted(node: NodeRecord) -> bool:
    """True for a node whose CPUs are only counted: a pool of interchangeable processors, as a simulated machine.

    No real node comes near; a mask of 80,640 CPUs a start would cost more than planning it.  Its jobs get a number of
    CPUs and are bound to none.
    """
    return node.cpus > COUNTED_CPUS
