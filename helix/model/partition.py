"""A partition as the controller knows it; the limits' meanings are slurm.conf(5)'s."""

from __future__ import annotations

from msgspec import Struct, field
from msgspec.structs import replace


class PartitionRecord(Struct, omit_defaults=True, kw_only=True):
    """Times are seconds, 0 = unlimited; `nodes` are expanded names in configuration order."""

    name: str
    nodes: list[str] = field(default_factory=list)
    is_default: bool = False
    state: str = "UP"  # UP DOWN DRAIN INACTIVE
    max_time_s: int = 0
    default_time_s: int | None = None  # None = max_time_s
    min_nodes: int = 0
    max_nodes: int = 0  # 0 = no limit
    allow_groups: list[str] = field(default_factory=list)  # empty = everybody
    allow_accounts: list[str] = field(default_factory=list)
    deny_accounts: list[str] = field(default_factory=list)
    allow_qos: list[str] = field(default_factory=list)
    deny_qos: list[str] = field(default_factory=list)
    oversubscribe: str = "NO"  # EXCLUSIVE NO YES FORCE, with :count
    priority_tier: int = 1
    priority_job_factor: int = 1
    def_mem_per_cpu_mib: int = 0
    def_mem_per_node_mib: int = 0
    max_mem_per_cpu_mib: int = 0
    max_mem_per_node_mib: int = 0
    max_cpus_per_node: int = 0
    hidden: bool = False
    root_only: bool = False
    disable_root_jobs: bool = False
    exclusive_user: bool = False
    grace_time_s: int = 0
    preempt_mode: list[str] = field(default_factory=list)  # words of PreemptMode; empty = the cluster's
    lln: bool = False
    qos: str = ""  # its limits hold for all jobs of the partition; "" = none
    tres_billing_weights: str = ""  # see `helix.config.tres`


def loosened(partition: PartitionRecord, flags: frozenset[str]) -> PartitionRecord:
    """The partition as jobs of a QOS with these flags find it: without the limits that the flags let them pass.

    `flags`: of `helix.model.account.PARTITION_OVERRIDES`.  The time limit of a job that names none stays.
    """
    changes: dict[str, int | None] = {}
    if "PartitionMaxNodes" in flags:
        changes["max_nodes"] = 0
    if "PartitionMinNodes" in flags:
        changes["min_nodes"] = 0
    if "PartitionTimeLimit" in flags:
        default_s = partition.max_time_s if partition.default_time_s is None else partition.default_time_s
        changes |= {"max_time_s": 0, "default_time_s": default_s}
    return replace(partition, **changes) if changes else partition
