"""The methods users call over an agent socket: one table of name, least role, arguments and meaning.

The table is the authority: the service dispatches by it, the exhaustive permission test walks it, and the docs are
generated from it.  Deny by default: a method that is not here does not exist.  `owned` methods act on jobs: a
`user` may act on their own jobs only, an operator on all.  Arguments are decoded strictly (unknown names refused).
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct, field

from helix.model.job import JobSpec


class Role(IntEnum):
    """Who calls.  `NODE` is a daemon's CURVE key and stands apart: it may call nothing in this table."""

    NODE = -1
    USER = 1
    OPERATOR = 2
    ADMIN = 3


class _Args(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of all argument structs."""


class NoArgs(_Args):
    """Nothing."""


class JobFilter(_Args):
    """Which jobs; every given criterion must match.  Empty lists match everything."""

    ids: list[str] = field(default_factory=list)  # "12", "12_3", "12_[1-5]"
    users: list[str] = field(default_factory=list)  # names or decimal uids
    names: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)
    qos: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)  # long or short names; "all"
    licenses: list[str] = field(default_factory=list)  # jobs that ask for any of them
    nodelist: str = ""  # jobs using any of these nodes
    reservation: str = ""


class SubmitArgs(_Args):
    """A new job.  The script and environment travel with the first submit that has them."""

    spec: JobSpec
    script: str = ""  # text; empty when spec.script_hash names a stored one
    env: list[str] = field(default_factory=list)  # NAME=value
    user: str = ""  # --uid: root only
    group: str = ""  # --gid: root only
    test_only: bool = False


class JobListArgs(_Args):
    """`fields` are names of JOB_ROW; empty = all.  Rows come in frames of at most 1,000."""

    filter: JobFilter = field(default_factory=JobFilter)
    fields: list[str] = field(default_factory=list)
    expand_arrays: bool = False  # -r: one row for each pending task (bounded)
    since: str = ""  # cursor of an earlier answer: `unchanged` if nothing changed


class JobIdsArgs(_Args):
    """Jobs by id, as typed."""

    ids: list[str]


class CancelArgs(_Args):
    """signal 0 = cancel (TERM, KillWait, KILL); otherwise just send it."""

    filter: JobFilter = field(default_factory=JobFilter)
    signal: int = 0
    batch: bool = False  # --batch: the script only
    full: bool = False  # --full: script and children
    hurry: bool = False


class JobUpdateArgs(_Args):
    """`changes`: scontrol's names (TimeLimit, Name, Nice, Priority, Partition, NumNodes, ...) -> text."""

    ids: list[str]
    changes: dict[str, str]


class RequeueArgs(_Args):
    """hold: REQUEUE_HOLD; special: SPECIAL_EXIT."""

    ids: list[str]
    hold: bool = False
    special: bool = False


class HoldArgs(_Args):
    """user: a hold the user may release (uhold); operators hold as admin otherwise."""

    ids: list[str]
    user: bool = False


class NodeListArgs(_Args):
    """`nodes` is a host list; empty = all."""

    nodes: str = ""
    states: list[str] = field(default_factory=list)
    partitions: list[str] = field(default_factory=list)


class NodeUpdateArgs(_Args):
    """State: DRAIN UNDRAIN RESUME DOWN FAIL IDLE; a reason is required for DRAIN, DOWN and FAIL."""

    nodes: str
    changes: dict[str, str]


class PartitionUpdateArgs(_Args):
    """PartitionName and what to change (State, MaxTime, Default, Nodes, ...)."""

    name: str
    changes: dict[str, str]


class ReservationCreateArgs(_Args):
    """`changes`: scontrol's names (StartTime, Duration, Nodes, Users, Flags, ...) -> text."""

    changes: dict[str, str]


class ReservationUpdateArgs(_Args):
    """The reservation's name and what to change; a value that begins with + or - adds or takes away."""

    name: str
    changes: dict[str, str]


class NameArgs(_Args):
    """One name; empty = all."""

    name: str = ""


class WatchArgs(_Args):
    """Events after `cursor` (0 = from now); streams until the connection closes.  A cursor too old is answered
    with COMPACTED: list again."""

    cursor: int = 0
    filter: JobFilter = field(default_factory=JobFilter)
    nodes: bool = False  # node events too


class WaitArgs(_Args):
    """Answered, a frame a job, as each job ends."""

    ids: list[str]


class LogArgs(_Args):
    """Bytes of a job's output from `offset` (negative: from the end); follow streams until the job has ended."""

    id: str
    stream: str = "stdout"
    offset: int = 0
    follow: bool = False
    attempt: int = -1  # -1 = the latest


class PriorityArgs(_Args):
    """Waiting jobs whose priority is asked for."""

    filter: JobFilter = field(default_factory=JobFilter)


class SharesArgs(_Args):
    """Which associations; without any, those of the caller and the accounts above."""

    accounts: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    all: bool = False


class DebugArgs(_Args):
    """DebugFlags to set (+Flag) and clear (-Flag), or a level."""

    flags: list[str] = field(default_factory=list)
    level: str = ""


class JobTokenArgs(_Args):
    """What became of a submit whose answer was lost."""

    token: str


class Method(Struct, frozen=True):
    """A row of the table."""

    name: str
    role: Role
    args: type[_Args]
    doc: str
    owned: bool = False
    stream: bool = False


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("ping", Role.USER, NoArgs, "controller's name, version, epoch, uptime and mode"),
        Method("job.submit", Role.USER, SubmitArgs, "accept a job durably and give its id"),
        Method("job.token", Role.USER, JobTokenArgs, "the id an earlier submit with this token was given"),
        Method("job.list", Role.USER, JobListArgs, "rows of the queue", stream=True),
        Method("job.show", Role.USER, JobIdsArgs, "everything about some jobs"),
        Method("job.script", Role.USER, JobIdsArgs, "the batch script", owned=True),
        Method("job.why", Role.USER, JobIdsArgs, "why a job waits, per reason and node"),
        Method("job.cancel", Role.USER, CancelArgs, "cancel or signal jobs", owned=True),
        Method("job.update", Role.USER, JobUpdateArgs, "change a job", owned=True),
        Method("job.hold", Role.USER, HoldArgs, "hold jobs", owned=True),
        Method("job.release", Role.USER, JobIdsArgs, "release held jobs", owned=True),
        Method("job.requeue", Role.USER, RequeueArgs, "put jobs back into the queue", owned=True),
        Method("job.suspend", Role.OPERATOR, JobIdsArgs, "stop running jobs"),
        Method("job.resume", Role.OPERATOR, JobIdsArgs, "continue suspended jobs"),
        Method("job.top", Role.USER, JobIdsArgs, "move jobs before the others of their user", owned=True),
        Method("job.priority", Role.USER, PriorityArgs, "what priorities are made of", stream=True),
        Method("account.shares", Role.USER, SharesArgs, "shares, usage and fair-share factors"),
        Method("job.wait", Role.USER, WaitArgs, "tell as jobs end", stream=True),
        Method("job.log", Role.USER, LogArgs, "bytes of a job's output", owned=True, stream=True),
        Method("events.watch", Role.USER, WatchArgs, "state changes as they happen", stream=True),
        Method("node.list", Role.USER, NodeListArgs, "rows of nodes"),
        Method("node.update", Role.ADMIN, NodeUpdateArgs, "drain, resume or mark nodes"),
        Method("partition.list", Role.USER, NameArgs, "partitions"),
        Method("partition.update", Role.ADMIN, PartitionUpdateArgs, "change a partition until the next restart"),
        Method("reservation.list", Role.USER, NameArgs, "advance reservations"),
        Method("reservation.create", Role.OPERATOR, ReservationCreateArgs, "keep nodes or licences for some users"),
        Method("reservation.update", Role.OPERATOR, ReservationUpdateArgs, "change a reservation"),
        Method("reservation.delete", Role.USER, NameArgs, "delete a reservation (its users: if it has USER_DELETE)"),
        Method("licence.list", Role.USER, NameArgs, "licences: how many there are and are in use"),
        Method("topology.show", Role.USER, NameArgs, "switches or blocks, or those above a node"),
        Method("config.show", Role.USER, NoArgs, "the configuration in force"),
        Method("config.reconfigure", Role.ADMIN, NoArgs, "read helix.conf again and apply what can change live"),
        Method("ctl.diag", Role.USER, NoArgs, "counters of the controller"),
        Method("ctl.diag_reset", Role.ADMIN, NoArgs, "set the counters to zero"),
        Method("ctl.debug", Role.ADMIN, DebugArgs, "change DebugFlags or the log level"),
        Method("ctl.shutdown", Role.ADMIN, NoArgs, "write a snapshot and stop the controller"),
        Method("ctl.snapshot", Role.ADMIN, NoArgs, "write a snapshot now"),
    )
}

#: Fields of a row of job.list and job.show, raw (epoch seconds, MiB, seconds): commands format them.
JOB_ROW: tuple[str, ...] = (
    "job_id",  # int
    "display_id",  # "12", "12_3", "12_[4-9%2]"
    "array_job_id",  # int, 0 = none
    "array_task_id",  # int or null; array's own record: null
    "array_pending",  # text of the pending index set, "" if none
    "array_limit",  # int
    "het_job_id",  # of a component of a heterogeneous job: the first component's id, else 0
    "het_offset",  # its number, from 0
    "het_size",  # how many components
    "name",
    "user",
    "uid",
    "group",
    "gid",
    "account",
    "qos",
    "wckey",
    "comment",
    "partition",  # "a,b" while pending
    "state",  # JobState
    "outcome",  # JobState while COMPLETING, else ""
    "reason",
    "reason_text",
    "held",  # "", "user", "admin"
    "priority",
    "nice",
    "attempt",
    "requeue",  # bool
    "t_submit",
    "t_eligible",
    "t_begin",
    "t_deadline",
    "t_start",  # 0 = not started
    "t_expected",  # of a waiting job: when it will start, by the last pass over the whole queue; 0 = not known
    "expected_range",  # [early, late]: as jobs usually run, and by their limits; [] = not known
    "protected",  # t_expected is promised
    "sched_nodes",  # nodes it is expected to get, host list
    "t_end",  # end, or expected end by the limit while running; 0 = unknown
    "suspended_s",
    "t_suspended",  # while SUSPENDED: since when; else 0
    "suspended_for",  # while SUSPENDED: "" = somebody asked, "preempt", "gang"
    "t_preempt",  # when it was last told to make room, 0 = never
    "t_preemptable",  # from then on it may have to; 0 = it does not run
    "preemptor",  # job it makes room for, or was ended for; 0 = none
    "preemptions",  # how often it made room
    "time_limit_s",  # 0 = unlimited
    "time_min_s",
    "elapsed_s",  # run time so far without suspensions
    "nodes_min",
    "nodes_max",
    "node_count",  # allocated, or the least requested
    "cpus",  # allocated, or the least requested
    "tasks",
    "tasks_per_node",
    "tasks_per_core",  # at most, 0 = any number
    "tasks_per_socket",
    "cpus_per_task",
    "mem_per_node_mib",
    "mem_per_cpu_mib",
    "mem_mib",  # allocated, all nodes
    "tmp_mib",
    "constraint",
    "prefer",  # in place of the constraint, where that can start now
    "require",
    "rank",
    "exclusive",  # bool
    "oversubscribe",  # bool
    "contiguous",  # bool
    "nodes",  # allocated, host list
    "batch_host",
    "cores",  # {node: [cpu indexes]} (job.show only)
    "nodelist",  # requested
    "exclude",
    "licenses",
    "gres_per_node",  # asked: "gres/gpu:a100:2"
    "gres_per_job",  # asked with --gpus
    "gres_per_task",
    "gres_tres",  # allocated on all nodes: "gres/gpu=2,gres/gpu:a100=2"
    "gres_given",  # {node: "gpu:a100:2(IDX:0-1)"} (job.show only)
    "gres_flags",  # list of words
    "switches",  # asked, 0 = any number
    "switch_wait_s",  # null = max_switch_wait
    "segment",  # each so many nodes in one block, 0 = no segments
    "cpus_min",  # least CPUs on each node
    "sockets_per_node",  # asked, 0 = any number
    "cores_per_socket",
    "threads_per_core",
    "reservation",  # its nodes are used; while waiting: those asked for, comma-separated
    "dependency",  # text, as Slurm prints it
    "exit_code",  # "0:0"
    "derived_exit_code",
    "work_dir",
    "command",  # script name and arguments
    "stdin",
    "stdout",  # expanded once started, pattern before
    "stderr",
    "submit_host",
    "submit_line",
    "user_s",
    "system_s",
    "max_rss_mib",
    "story",  # [[t, old, new, cause], ...] (job.show only)
)

#: Fields of a row of job.priority.  Terms are whole numbers; they, `site` and `bound` less `nice` are the priority.
PRIORITY_ROW: tuple[str, ...] = (
    "job_id",
    "display_id",
    "array_job_id",
    "array_task_id",
    "user",
    "account",
    "qos_name",
    "partition",  # "a,b" for several
    "priority",
    "admin",  # the priority, if an operator set it; then there are no terms
    "site",
    "age",
    "assoc",
    "fairshare",
    "jobsize",
    "partition_term",
    "qos",
    "tres",  # {TRES: term}
    "nice",
    "bound",  # what keeping it above 0 and below 2**32 - 1 added
    "norm_age",  # factors, 0 to 1
    "norm_assoc",
    "norm_fairshare",
    "norm_jobsize",
    "norm_partition",
    "norm_qos",
    "norm_tres",
)

#: Fields of a row of account.shares, in the order of the tree.
SHARE_ROW: tuple[str, ...] = (
    "account",
    "user",  # "" for the account itself
    "partition",
    "depth",  # 0 = the root
    "raw_shares",  # -1 = the parent's
    "norm_shares",
    "raw_usage",  # billing units times seconds
    "norm_usage",
    "effectv_usage",
    "fairshare",
    "level_fs",  # null = infinite, or not with classic fair share
    "grp_tres_mins",  # {TRES: minutes}, the limit
    "grp_tres_raw",  # {TRES: minutes} used
    "tres_run_mins",  # {TRES: minutes} that running jobs may still use
)

#: Fields of a row of node.list.
NODE_ROW: tuple[str, ...] = (
    "name",
    "addr",
    "hostname",
    "state",  # state_word()
    "reason",
    "reason_by",
    "t_reason",
    "reservations",  # active ones that hold of it, a list
    "maintenance",  # bool: one of them is for maintenance
    "cpus",
    "cpus_alloc",
    "cpu_load",
    "boards",
    "sockets",
    "cores_per_socket",
    "threads_per_core",
    "memory_mib",
    "mem_alloc_mib",
    "free_mem_mib",
    "tmp_mib",
    "weight",
    "features",  # list
    "gres",  # configured: "gpu:a100:4,nvme:1"
    "gres_used",  # "gpu:a100:2(IDX:0-1),nvme:0(IDX:N/A)"
    "gres_tres",  # "gres/gpu=4,gres/gpu:a100=4"
    "gres_tres_alloc",
    "attrs",  # name -> text
    "admit",  # condition over jobs, "" = takes all
    "partitions",  # list
    "arch",
    "os",
    "kernel",
    "version",
    "boot_id",
    "t_boot",
    "t_helixd_start",
    "t_last_seen",
    "skew_s",
    "jobs",  # ids
)

#: Fields of a row of partition.list.
PARTITION_ROW: tuple[str, ...] = (
    "name",
    "nodes",  # host list
    "is_default",
    "state",
    "max_time_s",
    "default_time_s",
    "min_nodes",
    "max_nodes",
    "allow_groups",
    "allow_accounts",
    "deny_accounts",
    "allow_qos",
    "deny_qos",
    "oversubscribe",
    "priority_tier",
    "priority_job_factor",
    "def_mem_per_cpu_mib",
    "def_mem_per_node_mib",
    "max_mem_per_cpu_mib",
    "max_mem_per_node_mib",
    "max_cpus_per_node",
    "hidden",
    "root_only",
    "disable_root_jobs",
    "exclusive_user",
    "grace_time_s",
    "preempt_mode",  # words in force, comma-separated
    "qos",  # whose limits hold in it
    "total_nodes",
    "total_cpus",
    "total_memory_mib",
)

#: Fields of a row of reservation.list.
RESERVATION_ROW: tuple[str, ...] = (
    "name",
    "state",  # ACTIVE, INACTIVE
    "t_start",  # of the present occurrence, or the next
    "t_end",
    "nodes",  # host list
    "node_count",
    "core_count",
    "cpus",
    "memory_mib",
    "parts",  # [[node, CPUs], ...] where it has parts of nodes, else []
    "gres",  # {kind: units}
    "licenses",  # text
    "features",
    "partition",
    "flags",  # list
    "purge_s",  # with PURGE_COMP
    "users",  # list; those kept out have a - in front
    "accounts",  # likewise
    "groups",
    "comment",
    "created_by",
    "t_created",
    "jobs_running",  # ids
    "jobs_waiting",  # ids
)
