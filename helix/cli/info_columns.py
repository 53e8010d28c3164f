"""What hinfo can show of partitions and nodes: sinfo(1)'s letters and long names.

A line stands for the nodes of one partition that agree in every `same` field of the format.  `low` fields show the
least value with a `+` when nodes differ (with --exact they count as `same`); `all` fields are computed over the line's
nodes (counts, host list).
"""

from __future__ import annotations

from helix.cli.fields import Field
from helix.cli.moments import elapsed, stamp_or
from helix.words import NODE_STATE_CODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Row = dict[str, Any]

SAME, LOW, ALL = "same", "low", "all"

#: Node states from the most to the least striking: the order of sinfo's default `-t`.
STATE_ORDER = (
    "FAILING",
    "FAIL",
    "COMPLETING",
    "DRAINING",
    "DRAINED",
    "FUTURE",
    "MIXED",
    "ALLOCATED",
    "MAINT",
    "RESERVED",
    "IDLE",
    "DOWN",
    "UNKNOWN",
)
_RANK = {name: len(STATE_ORDER) - place for place, name in enumerate(STATE_ORDER)}
_IN_USE = frozenset({"ALLOCATED", "MIXED", "COMPLETING"})
_FREE = frozenset({"IDLE", "RESERVED", "MAINT"})


class InfoField(Field):
    """`value(partition, node)` for SAME and LOW, `value(partition, nodes)` for ALL; `rank` is what sorting compares."""

    __slots__ = ("kind", "rank", "value")

    def __init__(
        self,
        letter: str,
        names: str,
        title: str,
        kind: str,
        value: Callable[..., Any],
        help: str,
        rank: Callable[..., Any] | None = None,
    ) -> None:
        super().__init__(letter, names, title, "", help=help)
        self.kind = kind
        self.value = value
        self.rank = rank or value


def compact_state(word: str) -> str:
    """`IDLE*` as `idle*`, `DRAINED` as `drain`."""
    base, star = word.rstrip("*"), "*" if word.endswith("*") else ""
    return NODE_STATE_CODES.get(base, base.lower()) + star


def state_rank(word: str) -> int:
    """Place of a state in STATE_ORDER, those that do not respond above the others."""
    return _RANK.get(word.rstrip("*"), 0) + (100 if word.endswith("*") else 0)


def _times(nodes: Sequence[Row]) -> tuple[int, int, int]:
    """How many nodes are in use, idle, and neither."""
    used = sum(1 for node in nodes if node["state"].rstrip("*") in _IN_USE and not node["state"].endswith("*"))
    idle = sum(1 for node in nodes if node["state"] in _FREE)
    return used, idle, len(nodes) - used - idle


def _node_counts(_part: Row, nodes: Sequence[Row]) -> str:
    used, idle, other = _times(nodes)
    return f"{used}/{idle}/{other}/{len(nodes)}"


def _cpu_counts(_part: Row, nodes: Sequence[Row]) -> str:
    used = idle = other = 0
    for node in nodes:
        free = node["cpus"] - node["cpus_alloc"]
        used += node["cpus_alloc"]
        if node["state"] in _FREE or node["state"] in _IN_USE:
            idle += free
        else:
            other += free
    return f"{used}/{idle}/{other}/{used + idle + other}"


def _span(name: str, scale: Callable[[Any], str]) -> Callable[..., str]:
    def show(_part: Row, nodes: Sequence[Row]) -> str:
        values = [node[name] for node in nodes]
        if not values:
            return "N/A"
        low, high = min(values), max(values)
        return scale(low) if low == high else f"{scale(low)}-{scale(high)}"

    return show


def _host_list(name: str) -> Callable[..., str]:
    def show(_part: Row, nodes: Sequence[Row]) -> str:
        from helix.hostlist import format_hostlist

        return format_hostlist([node[name] or node["name"] for node in nodes])

    return show


def _cpus_or_unlimited(count: int) -> str:
    return str(count) if count else "UNLIMITED"


def limit(seconds: int | None, absent: str = "n/a") -> str:
    """A partition's time limit: 0 is infinite."""
    if seconds is None:
        return absent
    return elapsed(seconds) if seconds else "infinite"


def _job_size(part: Row, _node: Row) -> str:
    low, high = max(1, part["min_nodes"]), part["max_nodes"]
    if not high:
        return f"{low}-infinite"
    return str(low) if low == high else f"{low}-{high}"


def _avail(part: Row, _node: Row) -> str:
    state = str(part["state"])
    return {"UP": "up", "DOWN": "down", "DRAIN": "drain", "INACTIVE": "inact"}.get(state, state.lower())


def _p(name: str) -> Callable[..., Any]:
    return lambda part, _node: part[name]


def _n(name: str) -> Callable[..., Any]:
    return lambda _part, node: node[name] if node else 0


def _text(name: str, absent: str) -> Callable[..., str]:
    return lambda _part, node: str(node[name]) if node and node[name] else absent


def _features(_part: Row, node: Row) -> str:
    return ",".join(node["features"]) if node and node["features"] else "(null)"


def _reservations(_part: Row, node: Row) -> str:
    return ",".join(node["reservations"]) if node else ""


def _groups(part: Row, _node: Row) -> str:
    return ",".join(part["allow_groups"]) or "all"


INFO_FIELDS: tuple[InfoField, ...] = (
    InfoField("a", "Available", "AVAIL", SAME, _avail, "state of the partition"),
    InfoField("A", "NodeAI", "NODES(A/I)", ALL, lambda _p, nodes: "/".join(map(str, _times(nodes)[:2])),
              "nodes allocated/idle"),
    InfoField("b", "Features_act ActiveFeatures", "ACTIVE_FEATURES", SAME, _features, "features in force"),
    InfoField("B", "MaxCPUsPerNode", "MAX_CPUS_PER_NODE", SAME,
              lambda part, _n: _cpus_or_unlimited(part["max_cpus_per_node"]), "most CPUs of a node the partition uses"),
    InfoField("c", "CPUs", "CPUS", LOW, _n("cpus"), "CPUs a node"),
    InfoField("C", "CPUsState", "CPUS(A/I/O/T)", ALL, _cpu_counts, "CPUs allocated/idle/other/total"),
    InfoField("d", "Disk", "TMP_DISK", LOW, _n("tmp_mib"), "temporary disk space a node, MiB"),
    InfoField("D", "Nodes", "NODES", ALL, lambda _p, nodes: len(nodes), "number of nodes"),
    InfoField("e", "FreeMem", "FREE_MEM", ALL, _span("free_mem_mib", str), "free memory, MiB"),
    InfoField("E", "Reason", "REASON", SAME, _text("reason", "none"), "why nodes are down, drained or failing"),
    InfoField("f", "Features AvailableFeatures", "AVAIL_FEATURES", SAME, _features, "features"),
    InfoField("F", "NodeAIOT", "NODES(A/I/O/T)", ALL, _node_counts, "nodes allocated/idle/other/total"),
    InfoField("g", "Groups", "GROUPS", SAME, _groups, "groups that may use the partition"),
    InfoField("G", "Gres", "GRES", SAME, _text("gres", "(null)"), "generic resources a node"),
    InfoField("", "GresUsed", "GRES_USED", SAME, _text("gres_used", "(null)"), "generic resources in use"),
    InfoField("h", "OverSubscribe Share", "OVERSUBSCRIBE", SAME, _p("oversubscribe"), "sharing of CPUs between jobs"),
    InfoField("H", "Timestamp", "TIMESTAMP", SAME,
              lambda _p, node: stamp_or(node["t_reason"] if node else 0, "Unknown"), "when the reason was set",
              lambda _p, node: node["t_reason"] if node else 0),
    InfoField("i", "Reservation", "RESERVATION", SAME, _reservations, "active reservations of nodes"),
    InfoField("I", "PriorityJobFactor", "PRIO_JOB_FACTOR", SAME, _p("priority_job_factor"), "share in job priorities"),
    InfoField("l", "Time", "TIMELIMIT", SAME, lambda part, _n: limit(part["max_time_s"]), "longest time limit",
              lambda part, _n: part["max_time_s"] or 1 << 60),
    InfoField("L", "DefaultTime", "DEFAULTTIME", SAME, lambda part, _n: limit(part["default_time_s"]),
              "time limit of jobs that give none", lambda part, _n: part["default_time_s"] or 0),
    InfoField("m", "Memory", "MEMORY", LOW, _n("memory_mib"), "memory a node, MiB"),
    InfoField("M", "PreemptMode", "PREEMPT_MODE", SAME, _p("preempt_mode"), "how jobs make room for others"),
    InfoField("n", "NodeHost", "HOSTNAMES", SAME, _text("hostname", "n/a"), "host name"),
    InfoField("N", "NodeList", "NODELIST", ALL, _host_list("name"), "the nodes"),
    InfoField("o", "NodeAddr", "NODE_ADDR", SAME, _text("addr", "n/a"), "address"),
    InfoField("O", "CPUsLoad", "CPU_LOAD", ALL, _span("cpu_load", lambda load: f"{load:.2f}"), "load"),
    InfoField("p", "PriorityTier", "PRIO_TIER", SAME, _p("priority_tier"), "tier of the partition"),
    InfoField("P", "Partition", "PARTITION", SAME,
              lambda part, _n: part["name"] + ("*" if part["is_default"] else ""), "partition, * marks the default one",
              _p("name")),
    InfoField("r", "Root", "ROOT", SAME, lambda part, _n: "yes" if part["root_only"] else "no", "only root may use it"),
    InfoField("R", "PartitionName", "PARTITION", SAME, _p("name"), "partition"),
    InfoField("s", "Size", "JOB_SIZE", SAME, _job_size, "nodes a job may use",
              lambda part, _n: (part["min_nodes"], part["max_nodes"])),
    InfoField("S", "AllocNodes", "ALLOCNODES", SAME, lambda _p, _n: "all", "hosts that may submit"),
    InfoField("t", "StateCompact", "STATE", SAME, lambda _p, node: compact_state(node["state"]) if node else "n/a",
              "state, short; * does not respond", lambda _p, node: state_rank(node["state"]) if node else -1),
    InfoField("T", "StateLong State", "STATE", SAME, lambda _p, node: node["state"].lower() if node else "n/a",
              "state", lambda _p, node: state_rank(node["state"]) if node else -1),
    InfoField("u", "User", "USER", SAME, _text("reason_by", "Unknown"), "who set the reason"),
    InfoField("U", "UserLong", "USER", SAME, _text("reason_by", "Unknown"), "who set the reason"),
    InfoField("v", "Version", "VERSION", SAME, _text("version", "(null)"), "version of helixd"),
    InfoField("V", "Cluster", "CLUSTER", SAME, lambda _p, _n: "N/A", "cluster"),
    InfoField("w", "Weight", "WEIGHT", LOW, _n("weight"), "weight: light nodes are used first"),
    InfoField("X", "Sockets", "SOCKETS", LOW, _n("sockets"), "sockets a node"),
    InfoField("Y", "Cores", "CORES", LOW, _n("cores_per_socket"), "cores a socket"),
    InfoField("z", "SocketCoreThread", "S:C:T", SAME,
              lambda _p, node: f"{node['sockets']}:{node['cores_per_socket']}:{node['threads_per_core']}"
              if node else "0:0:0", "sockets, cores, threads"),
    InfoField("Z", "Threads", "THREADS", LOW, _n("threads_per_core"), "threads a core"),
    InfoField("", "AllocMem", "ALLOCMEM", ALL, _span("mem_alloc_mib", str), "memory allocated, MiB"),
    InfoField("", "Kernel", "KERNEL", SAME, _text("kernel", "(null)"), "kernel release"),
)  # fmt: skip
