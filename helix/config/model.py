"""What a configuration says, as typed records.  The defaults here are those of the key table (a test compares them).

Units are in the names; 0 means unlimited or not set where the key's `zero` says so.  Pure records: how they are read is
in `load`, what the fields mean in `table_settings` and `table_lines`.
"""

from __future__ import annotations

from msgspec import Struct, field


class ControllerHost(Struct, frozen=True):
    """A host of HelixctldHost: its name, and the address it is reached at (the name when none is given)."""

    name: str
    addr: str


class NodeConf(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """One node as configured."""

    name: str
    hostname: str  # what gethostname(2) says there
    addr: str
    port: int = 6818
    cpus: int = 1
    boards: int = 1
    sockets: int = 1
    cores_per_socket: int = 1
    threads_per_core: int = 1
    real_memory_mib: int = 1
    mem_spec_limit_mib: int = 0
    core_spec_count: int = 0
    tmp_disk_mib: int = 0
    weight: int = 1
    features: tuple[str, ...] = ()
    attrs: dict[str, str] = field(default_factory=dict)
    admit: str = ""
    gres: str = ""
    cpu_spec_list: str = ""
    state: str = "UNKNOWN"  # UNKNOWN DOWN DRAIN FAIL FAILING FUTURE CLOUD
    reason: str = ""


class SwitchConf(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """A switch or a block of topology.conf.  Only a leaf has nodes."""

    name: str
    nodes: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()  # below it
    is_block: bool = False


class PartitionConf(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """One partition as configured.  Lists of ALL are empty; None in `default_time_s` stands for `max_time_s`."""

    name: str
    nodes: tuple[str, ...] = ()  # names, in the order of the partition's host list (of the node lines for ALL)
    nodes_text: str = ""  # as written: host list, ALL, names of node sets
    is_default: bool = False
    state: str = "UP"  # UP DOWN DRAIN INACTIVE
    max_time_s: int = 0  # 0 = unlimited
    default_time_s: int | None = None
    min_nodes: int = 0
    max_nodes: int = 0  # 0 = unlimited
    max_cpus_per_node: int = 0  # 0 = unlimited
    allow_groups: tuple[str, ...] = ()
    allow_accounts: tuple[str, ...] = ()
    deny_accounts: tuple[str, ...] = ()
    allow_qos: tuple[str, ...] = ()
    deny_qos: tuple[str, ...] = ()
    alloc_nodes: tuple[str, ...] = ()
    alternate: str = ""
    oversubscribe: str = "NO"  # EXCLUSIVE NO YES[:n] FORCE[:n]
    exclusive_user: bool = False
    priority_tier: int = 1
    priority_job_factor: int = 1
    def_mem_per_cpu_mib: int = 0  # 0 = the cluster's
    def_mem_per_node_mib: int = 0
    max_mem_per_cpu_mib: int = 0
    max_mem_per_node_mib: int = 0
    hidden: bool = False
    root_only: bool = False
    disable_root_jobs: bool = False
    grace_time_s: int = 0
    preempt_mode: tuple[str, ...] = ()
    lln: bool = False
    qos: str = ""
    tres_billing_weights: str = ""
    req_resv: bool = False
    suspend_time: str = ""


class SchedulerParams(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """SchedulerParameters, read; `Config.scheduler_parameters` has the texts."""

    batch_sched_delay_s: float = 0.0
    sched_interval_s: float = 60.0
    sched_min_interval_us: int = 2
    default_queue_depth: int = 10_000
    partition_job_depth: int = 0  # 0 = no limit
    sched_max_job_start: int = 0  # 0 = no limit
    max_sched_time_s: float = 2.0
    defer: bool = False
    max_switch_wait_s: float = 300.0
    max_script_size: int = 0  # bytes; 0 = MaxScriptSize holds
    max_submit_env_bytes: int = 1 << 20
    max_submit_line_bytes: int = 1 << 20
    max_array_tasks: int = 0  # 0 = MaxArraySize holds
    max_depend_depth: int = 10
    requeue_delay_s: float = 1.0
    enable_user_top: bool = False
    bf_mode: str = "default"
    bf_protected: int = 1
    bf_window_min: int = 10080
    bf_resolution_s: int = 60
    bf_interval_s: float = 30.0
    bf_max_job_start: int = 0
    bf_max_job_test: int = 0
    bf_max_job_part: int = 0
    bf_max_job_user: int = 0
    bf_max_job_user_part: int = 0


class Config(Struct, omit_defaults=True, kw_only=True):
    """A whole configuration.  `hash` is of its content: equal for equal meanings, whatever file and layout."""

    source: str = ""  # path it was read from
    hash: str = ""  # BLAKE3 hex of `render_config`
    warnings: list[str] = field(default_factory=list)  # `file:line: message (remedy)` of what is odd but not wrong
    # cluster
    cluster_name: str = "cluster"
    helixctld_hosts: tuple[ControllerHost, ...] = (ControllerHost("localhost", "localhost"),)
    helixctld_addr: str = ""
    helixctld_port: int = 6817  # 0 = any free one
    helixd_port: int = 6818
    helix_user: str = "root"
    administrators: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    helixctld_parameters: dict[str, str] = field(default_factory=dict)
    helixd_parameters: dict[str, str] = field(default_factory=dict)
    # paths
    state_save_location: str = "/var/spool/helixctld"
    helixd_spool_dir: str = "/var/spool/helixd"  # with %n and %h, see `node_path`
    helixctld_socket: str = "/run/helix/helixctld.sock"
    helixd_socket: str = "/run/helix/helixd.sock"
    helixctld_pid_file: str = "/run/helixctld.pid"
    helixd_pid_file: str = "/run/helixd.pid"
    plugin_dir: str = ""
    tmp_fs: str = "/tmp"  # noqa: S108
    journal_snapshot_every: int = 200_000  # records
    # logs
    helixctld_log_file: str = ""  # "" = standard error
    helixd_log_file: str = ""
    helixctld_debug: str = "info"
    helixd_debug: str = "info"
    debug_flags: tuple[str, ...] = ()
    # timers
    heartbeat_interval_s: float = 5.0
    helixd_timeout_s: int = 300
    helixctld_timeout_s: int = 120
    message_timeout_s: int = 10
    batch_start_timeout_s: int = 10
    kill_wait_s: int = 30
    complete_wait_s: int = 0
    unkillable_step_timeout_s: int = 60
    inactive_limit_s: int = 0
    health_check_interval_s: int = 0
    # jobs
    min_job_age_s: int = 300
    resv_over_run_min: int | None = 0  # None = no limit
    max_job_count: int = 1_000_000
    max_array_size: int = 1_000_001  # largest index + 1
    max_script_bytes: int = 4 << 20
    first_job_id: int = 1
    job_requeue: bool = True
    enforce_part_limits: str = "NO"  # NO ANY ALL
    def_mem_per_cpu_mib: int = 0
    def_mem_per_node_mib: int = 0
    def_cpu_per_gpu: int = 0
    def_mem_per_gpu_mib: int = 0
    max_mem_per_cpu_mib: int = 0
    max_mem_per_node_mib: int = 0
    return_to_service: int = 0
    # scheduling
    scheduler_type: str = "sched/backfill"
    priority_type: str = "priority/basic"
    select_type: str = "select/cons_tres"
    select_type_parameters: tuple[str, ...] = ("CR_Core_Memory",)
    scheduler_parameters: dict[str, str] = field(default_factory=dict)
    scheduler: SchedulerParams = field(default_factory=SchedulerParams)
    preempt_type: str = "preempt/none"
    preempt_mode: tuple[str, ...] = ("OFF",)
    preempt_exempt_time_s: int | None = None
    preempt_parameters: dict[str, str] = field(default_factory=dict)
    scheduler_time_slice_s: int = 30
    gres_types: tuple[str, ...] = ()
    licenses: tuple[str, ...] = ()  # name or name:count, see `helix.licences`
    topology_plugin: str = "topology/flat"
    topology_param: tuple[str, ...] = ()
    block_sizes: tuple[str, ...] = ()
    # accounts, priorities and limits
    assoc_file: str = ""  # "" = no accounts
    accounting_storage_enforce: tuple[str, ...] = ()
    priority_flags: tuple[str, ...] = ()
    priority_weight_age: int = 0
    priority_weight_assoc: int = 0
    priority_weight_fairshare: int = 0
    priority_weight_job_size: int = 0
    priority_weight_partition: int = 0
    priority_weight_qos: int = 0
    priority_weight_tres: str = ""  # see `helix.config.tres`
    priority_max_age_s: int = 7 * 86400
    priority_favor_small: bool = False
    priority_decay_half_life_s: int = 7 * 86400  # 0 = usage does not decay
    priority_calc_period_s: int = 300
    priority_usage_reset_period: str = "NONE"
    fair_share_dampening_factor: int = 1
    # launching
    proctrack_type: str = "proctrack/cgroup"
    task_plugin: tuple[str, ...] = ("task/none",)
    launch_parameters: tuple[str, ...] = ()
    propagate_resource_limits: tuple[str, ...] = ("ALL",)
    propagate_resource_limits_except: tuple[str, ...] = ()
    may_claim_more: bool = False  # nodes may be configured with more than they have
    # mail
    mail_prog: str = ""  # "" and no mail_host = mail is off
    mail_host: str = ""  # host:port of an SMTP server
    mail_domain: str = ""
    # hooks
    health_check_program: str = ""
    prolog: str = ""
    epilog: str = ""
    # lines
    nodes: list[NodeConf] = field(default_factory=list)  # in the order of the lines
    partitions: list[PartitionConf] = field(default_factory=list)
    switches: list[SwitchConf] = field(default_factory=list)

    @property
    def helixctld_host(self) -> str:
        """Name of the controller's host."""
        return self.helixctld_hosts[0].name

    @property
    def controller_addr(self) -> str:
        """Address nodes reach the controller at."""
        return self.helixctld_addr or self.helixctld_hosts[0].addr

    @property
    def consumes_memory(self) -> bool:
        """True if memory is given out to jobs (SelectTypeParameters=..._Memory)."""
        return any(word.endswith("_Memory") for word in self.select_type_parameters)

    def node(self, name: str) -> NodeConf | None:
        """The node with this name; O(nodes)."""
        return next((node for node in self.nodes if node.name == name), None)

    def partition(self, name: str) -> PartitionConf | None:
        """The partition with this name."""
        return next((part for part in self.partitions if part.name == name), None)

    @property
    def default_partition(self) -> PartitionConf | None:
        """The partition jobs go to that name none."""
        return next((part for part in self.partitions if part.is_default), None)


def node_path(pattern: str, node: str, hostname: str = "") -> str:
    """A path of a node: %n is its name, %h its host name up to the first dot, %% a percent sign.

    Raises ValueError for another letter after %.
    """
    if "%" not in pattern:
        return pattern
    out: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern[at] != "%":
            out.append(pattern[at])
            at += 1
            continue
        letter = pattern[at + 1 : at + 2]
        if letter not in ("n", "h", "%"):
            raise ValueError(f"'%{letter}' in '{pattern}' is neither %n nor %h")
        out.append({"n": node, "h": (hostname or node).partition(".")[0], "%": "%"}[letter])
        at += 2
    return "".join(out)
