"""From a request to `JobSubmitted`: every check that needs the controller's tables, before anything changes."""

from __future__ import annotations

from helix.errors import Denied, LimitExceeded, NotFound, UsageError
from helix.hostlist import parse_hostlist
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.gres import needs_of
from helixctld.core.caller import Caller
from helixctld.core.deadlines import require_in_time
from helixctld.core.dependencies import require_known
from helixctld.core.dependency_text import KINDS
from helixctld.core.licences import require_licences
from helixctld.core.nearest import did_you_mean
from helixctld.core.reservation_access import check_submit
from helixctld.core.state import State

NAME_MAX = 1024
TEXT_MAX = 64 << 10  #: comment, work dir, paths, submit line
ARGS_MAX = 4096
ENV_BYTES_MAX = 4 << 20
NICE_MAX = (1 << 31) - 3
DEPENDENCIES_MAX = 1024
DELAY_MAX_S = 10**9
#: Resource limits that can be carried over (getrlimit(2)).
LIMITS = frozenset(
    ("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO",
     "RTTIME", "SIGPENDING", "STACK")
)  # fmt: skip
MAIL_TYPES = frozenset(
    ("NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT", "TIME_LIMIT_90",
     "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS")
)  # fmt: skip

GRES_FLAGS = frozenset(
    ("disable-binding", "enforce-binding", "multiple-tasks-per-sharing", "one-task-per-sharing", "allow-task-sharing")
)


def check_spec(spec: JobSpec) -> None:
    """Limits that need no tables; raises UsageError or LimitExceeded naming the field."""
    for name in ("name", "account", "qos", "wckey", "submit_host", "token"):
        if len(getattr(spec, name)) > NAME_MAX:
            raise LimitExceeded(f"{name} is longer than {NAME_MAX} characters", code="FIELD_TOO_LONG")
    for name in (
        "comment",
        "work_dir",
        "submit_dir",
        "stdin",
        "stdout",
        "stderr",
        "constraint",
        "prefer",
        "require",
        "rank",
        "nodelist",
        "exclude",
        "submit_line",
        "licenses",
        "gres",
        "gpus",
        "gpus_per_node",
        "gpus_per_task",
        "gpus_per_socket",
    ):
        text = getattr(spec, name)
        if len(text) > TEXT_MAX:
            raise LimitExceeded(f"{name} is longer than {TEXT_MAX} characters", code="FIELD_TOO_LONG")
        if "\0" in text:
            raise UsageError(f"{name} contains a NUL character", code="BAD_ARGUMENT")
    if len(spec.args) > ARGS_MAX or sum(map(len, spec.args)) > ENV_BYTES_MAX:
        raise LimitExceeded(f"more than {ARGS_MAX} script arguments", code="FIELD_TOO_LONG")
    if not spec.work_dir.startswith("/"):
        raise UsageError(f"working directory '{spec.work_dir[:200]}' is not absolute", code="BAD_ARGUMENT")
    for name in ("nodes_min", "cpus_per_task"):
        if not 1 <= getattr(spec, name) < 1 << 31:
            raise UsageError(f"{name} is {getattr(spec, name)}; it must be at least 1", code="BAD_ARGUMENT")
    for name in ("cpus_per_gpu", "switches", "segment", "sockets_per_node", "cores_per_socket", "threads_per_core",
                 "tasks_per_core", "tasks_per_socket", "cpus_min"):  # fmt: skip
        if not 0 <= getattr(spec, name) < 1 << 31:
            raise UsageError(f"{name} is {getattr(spec, name)}; it must not be negative", code="BAD_ARGUMENT")
    for name in ("nodes_max", "tasks", "tasks_per_node", "mem_per_node_mib", "mem_per_cpu_mib", "mem_per_gpu_mib",
                 "tmp_mib", "time_min_s", "array_limit", "t_begin", "t_deadline"):  # fmt: skip
        if not 0 <= getattr(spec, name) < 1 << 52:
            raise UsageError(f"{name} is {getattr(spec, name)}; it must not be negative", code="BAD_ARGUMENT")
    if spec.switch_wait_s is not None and not 0 <= spec.switch_wait_s < 1 << 40:
        raise UsageError("the time to wait for switches is negative", code="BAD_ARGUMENT")
    if spec.time_limit_s is not None and spec.time_limit_s < 0:
        raise UsageError("the time limit is negative", code="BAD_ARGUMENT")
    if spec.nodes_max and spec.nodes_max < spec.nodes_min:
        raise UsageError(f"--nodes={spec.nodes_min}-{spec.nodes_max}: the least is above the most", code="BAD_ARGUMENT")
    if abs(spec.nice) > NICE_MAX:
        raise LimitExceeded(f"nice {spec.nice} is beyond ±{NICE_MAX}", code="BAD_ARGUMENT")
    if spec.dependency is not None and len(spec.dependency.edges) > DEPENDENCIES_MAX:
        raise LimitExceeded(f"more than {DEPENDENCIES_MAX} dependencies", code="DEPENDENCY_TOO_MANY")
    if spec.signal is not None and not 1 <= spec.signal.signal <= 64:
        raise UsageError(f"no signal {spec.signal.signal}", code="BAD_ARGUMENT")
    if not 0 <= spec.umask <= 0o777:
        raise UsageError(f"umask {spec.umask:o} is not a mode", code="BAD_ARGUMENT")
    _check_words(spec)


def _check_words(spec: JobSpec) -> None:
    """Words of closed vocabularies: a client may not have looked at them."""
    if spec.open_mode not in ("", "append", "truncate"):
        raise UsageError(f"open mode '{spec.open_mode[:40]}' is not append or truncate", code="BAD_ARGUMENT")
    for edge in spec.dependency.edges if spec.dependency is not None else ():
        if edge.kind not in (*KINDS, "singleton"):
            raise UsageError(f"'{edge.kind[:40]}' is not a dependency", code="DEPENDENCY_INVALID")
        if not 0 <= edge.delay_s <= DELAY_MAX_S or (edge.job_id < 1 and edge.kind != "singleton"):
            raise UsageError(f"a dependency on job {edge.job_id} + {edge.delay_s} s", code="DEPENDENCY_INVALID")
    for name, (soft, hard) in spec.rlimits.items():
        if name.upper().removeprefix("RLIMIT_") not in LIMITS or min(soft, hard) < -1 or max(soft, hard) >= 1 << 63:
            raise UsageError(f"no resource limit {name[:40]}={soft}:{hard}", code="BAD_ARGUMENT")
    for word in spec.gres_flags:
        if word not in GRES_FLAGS:
            raise UsageError(f"--gres-flags: no flag '{word[:40]}'", code="BAD_ARGUMENT")
    for word in spec.mail_type:
        if word not in MAIL_TYPES:
            raise UsageError(f"mail type '{word[:40]}' is none", code="BAD_ARGUMENT")
    if any("\0" in text for text in (*spec.args, spec.name, spec.mail_user)):
        raise UsageError("a NUL character in the name or the arguments", code="BAD_ARGUMENT")


def check_script(script: str, size_max: int) -> None:
    """Refuse what cannot be a batch script; raises UsageError (SCRIPT_INVALID) or LimitExceeded."""
    if not script:
        raise UsageError("the batch script is empty", code="SCRIPT_INVALID")
    if len(script) > size_max:
        raise LimitExceeded(
            f"the batch script is {len(script)} bytes; max_script_size is {size_max}", code="SCRIPT_TOO_LARGE"
        )
    if "\0" in script:
        raise UsageError("the batch script contains a NUL character: a program, not a script?", code="SCRIPT_INVALID")
    first, _, _ = script.partition("\n")
    if not first.startswith("#!"):
        raise UsageError(
            "this does not look like a batch script: the first line must start with #! followed by the path to an "
            "interpreter",
            code="SCRIPT_INVALID",
            hint="for instance: #!/bin/sh",
        )
    if first.endswith("\r"):
        raise UsageError(
            "the batch script has DOS line breaks (\\r\\n) where UNIX ones (\\n) are needed",
            code="SCRIPT_INVALID",
            hint="dos2unix converts it",
        )


def check_request(state: State, spec: JobSpec, caller: Caller, owner: Caller, now: float) -> list[PartitionRecord]:
    """Everything that needs the tables; gives the partitions the job may use, in order.

    `caller` asks, `owner` is whom the job will belong to.  Raises NotFound, Denied, UsageError or LimitExceeded.
    """
    check_spec(spec)
    if not caller.is_operator:
        if spec.nice < 0:
            raise Denied("a negative nice value needs an operator", code="NICE_DENIED")
        if spec.priority is not None and spec.priority != 0:
            raise Denied("setting a priority needs an operator", code="PRIORITY_DENIED")
        if spec.priority == 0:  # a hold, and one that is the owner's to release
            spec.priority, spec.hold = None, True
        if spec.site_factor:
            raise Denied("a site factor needs an operator", code="PRIORITY_DENIED")
    if spec.dependency is not None:
        require_known(state, spec.dependency)
    for option, hosts in (("nodelist", spec.nodelist), ("exclude", spec.exclude)):
        for name in parse_hostlist(hosts) if hosts else ():
            if name not in state.nodes:
                raise NotFound(
                    f"--{option}: no node '{name}'", code="NODE_UNKNOWN", hint=did_you_mean(name, state.nodes)
                )
    require_licences(state, spec)
    require_devices(state, spec)
    partitions = require_partitions(state, spec.partitions, owner)
    require_in_time(spec, partitions, now)
    check_submit(state, spec, owner, now)
    return partitions


def require_devices(state: State, spec: JobSpec) -> None:
    """Raises UsageError for GRES options that cannot be served, NotFound for a kind of device that no node has."""
    units = needs_of(spec).units
    if not units:
        return
    known = state.gres.kinds
    for kind, _ in units:
        if kind not in known:
            hint = did_you_mean(kind, known) if known else "no node has generic resources: see Gres in helix.conf(5)"
            raise NotFound(f"no node has {kind}", code="GRES_UNKNOWN", hint=hint)


def require_partitions(state: State, names: list[str], owner: Caller) -> list[PartitionRecord]:
    """The partitions by name (the default one for none), each open to `owner`."""
    if not names:
        if not state.default_partition:
            raise UsageError(
                "no partition given and the cluster has no default one",
                code="PARTITION_MISSING",
                hint=f"use --partition with one of: {', '.join(list(state.partitions)[:20]) or 'none is configured'}",
            )
        names = [state.default_partition]
    found = []
    for name in names:
        partition = state.partitions.get(name)
        if partition is None:
            raise NotFound(
                f"no partition '{name[:80]}'", code="PARTITION_UNKNOWN", hint=did_you_mean(name, state.partitions)
            )
        require_access(partition, owner)
        found.append(partition)
    return found


def require_access(partition: PartitionRecord, owner: Caller) -> None:
    """Raises Denied when `owner` may not use the partition."""
    name = partition.name
    if partition.state in ("DRAIN", "INACTIVE"):
        raise Denied(f"partition '{name}' is {partition.state}: it takes no jobs", code="PARTITION_CLOSED")
    if owner.uid == 0 and partition.disable_root_jobs:
        raise Denied(f"partition '{name}' takes no jobs of root", code="PARTITION_DENIED")
    if partition.root_only and owner.uid != 0:
        raise Denied(f"only root may submit to partition '{name}'", code="PARTITION_DENIED")
    if partition.allow_groups and not owner.is_operator and owner.groups.isdisjoint(partition.allow_groups):
        raise Denied(
            f"partition '{name}' is for the groups {', '.join(partition.allow_groups)}", code="PARTITION_DENIED"
        )


def require_accounts(partition: PartitionRecord, account: str) -> None:
    """Raises Denied when AllowAccounts or DenyAccounts shuts the account out."""
    if partition.allow_accounts and account not in partition.allow_accounts:
        raise Denied(
            f"partition '{partition.name}' is for the accounts {', '.join(partition.allow_accounts)}",
            code="ACCOUNT_DENIED",
        )
    if account and account in partition.deny_accounts:
        raise Denied(f"partition '{partition.name}' takes no jobs of account '{account}'", code="ACCOUNT_DENIED")
