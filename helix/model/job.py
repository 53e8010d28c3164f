"""What a user asks for (`JobSpec`) and what the controller knows of it (`JobRecord`).

Map-encoded; a new field always has a default, so every older journal replays.  Units are in the names; absolute
times are epoch seconds.  Source of meanings: sbatch(1), squeue(1).
"""

from __future__ import annotations

from msgspec import Struct, field

from helix.indexset import IndexSet
from helix.model.job_state import ACTIVE, TERMINAL, WAITING, JobState, Reason

UNLIMITED_S = 0  #: a time limit of 0 means none


class Dependency(Struct, omit_defaults=True, frozen=True):
    """One edge of `--dependency`: `kind:job_id[_task][+minutes]`."""

    kind: str  # after afterok afterany afternotok aftercorr singleton
    job_id: int = 0  # 0 for singleton
    task_id: int | None = None  # array task, None for a whole job or array
    delay_s: int = 0  # `after:id+minutes`


class DependencyExpr(Struct, omit_defaults=True, frozen=True):
    """All edges, joined by `,` (every one must hold) or `?` (any one)."""

    edges: tuple[Dependency, ...] = ()
    any: bool = False


class SignalSpec(Struct, omit_defaults=True, frozen=True):
    """`--signal=[B:]sig[@seconds]`: sent `before_s` seconds before the time limit."""

    signal: int
    before_s: int = 60
    batch_only: bool = False  # B: only the batch shell, not its children


class JobSpec(Struct, omit_defaults=True, kw_only=True):
    """A request exactly as validated at submit.  Frozen by convention: an update replaces the whole spec."""

    name: str = ""
    account: str = ""
    qos: str = ""
    wckey: str = ""
    comment: str = ""
    partitions: list[str] = field(default_factory=list)  # in the order given; empty = the default one
    # size
    nodes_min: int = 1
    nodes_max: int = 0  # 0 = no upper bound given
    use_min_nodes: bool = False
    spread_job: bool = False
    tasks: int = 0  # 0 = not given (derived: one a node, or nodes_min * tasks_per_node)
    tasks_per_node: int = 0
    tasks_per_core: int = 0  # --ntasks-per-core: at most so many; 0 = as many as there are threads
    tasks_per_socket: int = 0  # --ntasks-per-socket: at most so many; 0 = any number
    cpus_per_task: int = 1
    cpus_per_task_given: bool = False  # asked for, if only one
    mem_per_node_mib: int = 0  # --mem; 0 = not given
    mem_per_cpu_mib: int = 0
    mem_all: bool = False  # --mem=0: all memory of each node
    tmp_mib: int = 0
    exclusive: bool = False  # whole nodes
    oversubscribe: bool = False
    contiguous: bool = False
    constraint: str = ""
    prefer: str = ""  # --prefer: a constraint that is dropped where it would keep the job waiting
    require: str = ""  # --require: condition over node attributes
    rank: str = ""  # --rank: nodes with more of it are preferred
    nodelist: str = ""  # -w, host list
    exclude: str = ""  # -x, host list
    licenses: str = ""  # "matlab:2,ansys:1"
    gres: str = ""  # --gres, on each node
    gpus: str = ""  # --gpus, in all
    gpus_per_node: str = ""
    gpus_per_task: str = ""
    gpus_per_socket: str = ""
    gres_flags: list[str] = field(default_factory=list)  # --gres-flags
    cpus_per_gpu: int = 0
    mem_per_gpu_mib: int = 0
    switches: int = 0  # most leaf switches; 0 = any number
    switch_wait_s: int | None = None  # after so long any number will do; None = max_switch_wait
    segment: int = 0  # --segment: each so many nodes are in one block; 0 = no segments
    sockets_per_node: int = 0  # least sockets and cores a socket that a node must have
    cores_per_socket: int = 0
    threads_per_core: int = 0  # threads used of each core; 0 = all
    cpus_min: int = 0  # --mincpus: least CPUs given on each node
    reservation: str = ""  # --reservation: names, comma-separated; any of them will do
    distribution: str = ""  # -m, as given; for the steps of the job
    # time
    time_limit_s: int | None = None  # None = the partition's default; 0 = unlimited
    time_min_s: int = 0
    t_begin: float = 0.0
    t_deadline: float = 0.0
    signal: SignalSpec | None = None
    # queue
    dependency: DependencyExpr | None = None
    kill_on_invalid_dep: bool | None = None
    hold: bool = False
    nice: int = 0
    site_factor: int = 0  # added to the priority; set by operators
    priority: int | None = None  # set by operators; 0 holds
    requeue: bool | None = None  # None = JobRequeue
    no_kill: bool = False
    array: IndexSet | None = None
    array_limit: int = 0  # %N: tasks that may run at once; 0 = no limit
    components: list[JobSpec] = field(default_factory=list)  # of a heterogeneous job: those after the first
    # execution
    work_dir: str = "/"
    script_hash: str = ""
    env_hash: str = ""
    args: list[str] = field(default_factory=list)  # after the script's name
    script_name: str = ""  # as typed, for display
    stdin: str = ""  # file name patterns, unexpanded; "" = the default
    stdout: str = ""
    stderr: str = ""
    open_mode: str = ""  # "", "append", "truncate"
    umask: int = 0o022
    rlimits: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> soft, hard; -1 = infinity
    get_user_env: bool = False
    export: str = ""  # as given, for display; the environment blob already reflects it
    # mail
    mail_type: list[str] = field(default_factory=list)
    mail_user: str = ""
    # where it came from
    submit_host: str = ""
    submit_dir: str = ""  # where the user stood; "" = work_dir
    submit_line: str = ""
    token: str = ""  # client-generated 128-bit hex key: the same token gives the same job id


class Allocation(Struct, omit_defaults=True):
    """What a job owns while ACTIVE.  The lists are parallel."""

    nodes: list[str]
    cores: list[list[int]]  # CPU indexes on that node; [] where CPUs are counted (`helix.model.node.is_counted`)
    mem_mib: list[int]
    whole: bool = False  # --exclusive: nothing else may be there
    counts: list[int] = field(default_factory=list)  # CPUs on each node, if one of them has its CPUs counted
    gres: list[dict[str, str]] = field(default_factory=list)  # by node: kind -> devices, {"gpu:a100": "0-1"}; [] = none

    component: list[int] = field(default_factory=list)  # of each node, for a heterogeneous job; [] = all 0
    billing_milli: int = -1  # thousandths of billing units it is charged a second; -1 = a unit for each CPU
    usage_factor_milli: int = 1000  # of its QOS: what its usage is multiplied by
    part_qos: str = ""  # QOS of the partition, which is charged too

    @property
    def cpus(self) -> list[int]:
        """CPUs on each node."""
        return self.counts or [len(cores) for cores in self.cores]


class Claim(Struct, omit_defaults=True, kw_only=True):
    """What jobs are being ended for: the waiting job gets exactly this as soon as all of it is free."""

    alloc: Allocation
    partition: str
    reservation: str = ""  # whose nodes they are
    time_limit_s: int = 0
    victims: list[int] = field(default_factory=list)
    t: float = 0.0


class ExitInfo(Struct, omit_defaults=True, frozen=True):
    """How a script ended: `code:signal`, as Slurm prints it."""

    code: int = 0
    signal: int = 0

    def __str__(self) -> str:
        return f"{self.code}:{self.signal}"


class StoryEntry(Struct, omit_defaults=True, frozen=True, array_like=True):
    """One line of a job's story: when, from, to, why."""

    t: float
    old: str
    new: str
    cause: str


class JobRecord(Struct, omit_defaults=True, kw_only=True):
    """A job as the controller knows it.

    An array is one record whose `pending` holds the indexes that have not started; each started task is a record of
    its own with `array_job_id` set to the array's id.  The array's own record ends when the last task has ended.
    """

    job_id: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    spec: JobSpec
    state: JobState = JobState.PENDING
    outcome: JobState | None = None  # while COMPLETING: the state to end in (REQUEUED = back to the queue)
    reason: Reason = Reason.NONE
    reason_text: str = ""  # more than the code, for people
    priority: int = 0
    held: str = ""  # "", "user", "admin"
    dependency_met: bool = False  # once met it stays met, whatever becomes of the other jobs
    attempt: int = 0  # counts starts; part of every launch and report
    t_submit: float = 0.0
    t_eligible: float = 0.0
    aged_s: float = 0.0  # time it was eligible before it was held
    t_start: float = 0.0
    t_end: float = 0.0
    t_suspended: float = 0.0  # when it was last suspended
    suspended_s: float = 0.0  # total time suspended
    suspended_for: str = ""  # while SUSPENDED: "" = asked for, "preempt" = for `preemptor`, "gang" = its turn is over
    yields_cpus: bool = False  # its CPUs are given to others; memory and GRES stay its own
    t_kill: float = 0.0  # while COMPLETING: when SIGKILL follows SIGTERM; 0 = KillWait after it
    t_preempt: float = 0.0  # when it was last told to make room
    preemptor: int = 0  # the job it made room for
    preemptions: int = 0  # how often it made room
    assoc: str = ""  # key of the association it is charged to (`helix.model.account`), "" = none
    charged_ms: int = 0  # of the present attempt's run time, what its association has been charged
    claim: Claim | None = None  # while waiting: jobs are being ended for it
    time_limit_s: int = 0  # in force for the present attempt; 0 = unlimited
    partition: str = ""  # chosen at start; before that the first of the spec
    reservation: str = ""  # whose nodes the present attempt runs on, "" = none
    t_over_run: float = 0.0  # its reservation is over: it is ended then; 0 = no
    alloc: Allocation | None = None
    exit: ExitInfo = field(default_factory=ExitInfo)
    derived_exit: ExitInfo = field(default_factory=ExitInfo)
    launch_failures: int = 0  # in a row; the circuit breaker of requeues
    excluded_nodes: list[str] = field(default_factory=list)  # where launching failed
    requeue_hold: str = ""  # "", "hold", "special": what to do when the attempt is over
    killed_by: int | None = None  # uid that cancelled
    # arrays
    array_job_id: int = 0  # 0 = not part of an array
    array_task_id: int | None = None  # None on the array's own record
    pending: IndexSet | None = None  # array's own record: tasks not yet started
    tasks_active: int = 0  # array's own record: tasks that own an allocation
    tasks_open: int = 0  # array's own record: started tasks that have not ended (requeued ones too)
    tasks_failed: int = 0
    tasks_done: int = 0  # ended, in any way, after a start
    forgotten_ok: IndexSet | None = None  # array's own record: tasks that completed and left the table
    forgotten_bad: IndexSet | None = None  # likewise, ended in any other way
    # of the components of heterogeneous jobs, as they are shown; never on a record of the state
    het_job_id: int = 0
    het_offset: int = 0
    het_size: int = 0
    stdout_path: str = ""  # as the node opened it
    stderr_path: str = ""
    usage: dict[str, float] = field(default_factory=dict)  # user_s system_s max_rss_mib
    story: list[StoryEntry] = field(default_factory=list)

    @property
    def is_waiting(self) -> bool:
        """In the queue, held or not."""
        return self.state in WAITING

    @property
    def is_active(self) -> bool:
        """Owns an allocation."""
        return self.state in ACTIVE

    @property
    def is_terminal(self) -> bool:
        """Over."""
        return self.state in TERMINAL

    @property
    def is_array(self) -> bool:
        """The array's own record (not one of its tasks)."""
        return self.pending is not None

    @property
    def display_id(self) -> str:
        """`12`, `12_3` for a task, `12_[4-9%2]` for an array with tasks that have not started."""
        if self.array_task_id is not None:
            return f"{self.array_job_id}_{self.array_task_id}"
        if self.het_size:
            return f"{self.het_job_id}+{self.het_offset}"
        if self.pending:
            limit = f"%{self.spec.array_limit}" if self.spec.array_limit else ""
            return f"{self.job_id}_[{self.pending}{limit}]"
        return str(self.job_id)
