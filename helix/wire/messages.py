"""What controller and node daemons say to each other over ZeroMQ.

Every ZeroMQ message is `[version byte, msgpack list of tagged structs]`: a batch, in order.  A new field always has
a default and an unknown tag is ignored with a rate-limited warning, so version N-1 is understood.  Nothing here
carries authority by itself: launches travel inside a signed `Credential`, and identity comes from the CURVE key of
the connection.
"""

from __future__ import annotations

from msgspec import Struct, field

from helix.model.job import ExitInfo, SignalSpec
from helix.model.job_state import LaunchFailure
from helix.model.node import Fingerprint

PROTOCOL_VERSION = 1
PROTOCOL_OLDEST = 1  #: the oldest version still accepted
BATCH_MESSAGES_MAX = 4096  #: messages in one batch
BATCH_BYTES_MAX = 64 << 20  #: one ZeroMQ message
LOG_CHUNK_MAX = 256 << 10  #: bytes in one LogData


class _Message(Struct, omit_defaults=True, tag=True):
    """Base: tagged with the class name."""


# ---- launch ------------------------------------------------------------------------------------------------------


class Launch(Struct, omit_defaults=True, kw_only=True):
    """One batch job for its first node; everything needed to start the script without asking back."""

    job_id: int
    attempt: int
    node: str
    uid: int
    gid: int
    groups: list[int] = field(default_factory=list)
    user: str = ""
    array_job_id: int = 0
    array_task_id: int | None = None
    array_task_count: int = 0
    array_task_min: int = 0
    array_task_max: int = 0
    array_task_step: int = 0
    name: str = ""
    account: str = ""
    qos: str = ""
    partition: str = ""
    script_hash: str = ""
    env_hash: str = ""
    args: list[str] = field(default_factory=list)
    work_dir: str = "/"
    submit_host: str = ""
    submit_dir: str = ""  # "" = work_dir
    stdin: str = ""  # patterns (%j %A %a %N ...), expanded on the node; "" = default
    stdout: str = ""
    stderr: str = ""
    open_mode: str = ""  # "", "append", "truncate"
    umask: int = 0o022
    rlimits: dict[str, tuple[int, int]] = field(default_factory=dict)
    get_user_env: bool = False
    nodes: str = ""  # host list of the allocation, this node first
    node_count: int = 1
    tasks: int = 1
    tasks_given: bool = True  # by the user; False: derived
    tasks_per_node: int = 0  # 0 = not given by the user
    tasks_per_core: int = 0
    tasks_per_socket: int = 0
    tasks_on_nodes: list[int] = field(default_factory=list)  # parallel to the nodes; [] = as cpus_per_node allow
    cpus_per_task: int = 1
    cpus_per_task_given: bool = False
    cpus_per_node: list[int] = field(default_factory=list)  # parallel to the nodes of the allocation
    cores: list[int] = field(default_factory=list)  # CPU indexes on this node
    gres: dict[str, str] = field(default_factory=dict)  # of this node: kind -> devices, {"gpu:a100": "0-1"}
    topology_addr: str = ""  # SLURM_TOPOLOGY_ADDR of this node, "" = no topology
    topology_pattern: str = ""
    mem_mib: int = 0  # of this node; 0 = no limit
    mem_per_cpu_mib: int = 0
    time_limit_s: int = 0  # 0 = unlimited; counted by the shepherd
    kill_wait_s: int = 30
    signal: SignalSpec | None = None
    runtime_emulated_s: float = -1.0  # --emulate: how long the job "runs"; < 0 = not declared
    restart_count: int = 0
    t_start: float = 0.0
    requeue: bool = True
    components: list[Launch] = field(default_factory=list)  # of a heterogeneous job, this first; for the environment


class Credential(Struct, omit_defaults=True, kw_only=True):
    """What the controller signs (Ed25519 over the msgpack bytes of this struct): who may start what, where, until
    when.  `nonce` rises by one with each credential of an epoch; a node refuses one that it has seen."""

    audience: str  # the link's registered name
    cluster: str
    epoch: int
    nonce: int
    t_issued: float
    t_expires: float
    launches: list[Launch]


class SignedBatch(_Message):
    """A credential and its signature; verified before it is decoded."""

    credential: bytes
    signature: bytes


# ---- controller to node ------------------------------------------------------------------------------------------


class Registered(_Message, kw_only=True):
    """Answer to `Register`: the node is a member; here is its configuration."""

    epoch: int
    cluster: str
    config: str  # text of the configuration, as `render_config` writes it
    config_hash: str
    verify_key: bytes  # Ed25519 public key of the controller
    heartbeat_s: float
    t_now: float
    refused: dict[str, str] = field(default_factory=dict)  # node name -> why it is not a member


class Refused(_Message, kw_only=True):
    """The link is not admitted; `retry_after_s` 0 means do not retry."""

    code: str
    msg: str
    retry_after_s: float = 0.0


class ConfigUpdate(_Message, kw_only=True):
    """A live change of the configuration."""

    config: str
    config_hash: str


class BlobData(_Message):
    """A script or an environment, by content."""

    hash: str
    data: bytes


class SignalStep(_Message, kw_only=True):
    """Send a signal: `scope` batch (the script only), children (all but the script) or all."""

    job_id: int
    attempt: int
    node: str
    signal: int
    scope: str = "all"


class TerminateStep(_Message, kw_only=True):
    """End the step: SIGCONT, SIGTERM, `kill_wait_s`, SIGKILL; 0 = SIGKILL at once.  Unknown step: answered with
    StepEnded(unknown=True)."""

    job_id: int
    attempt: int
    node: str
    kill_wait_s: int = 30
    signal: int = 0  # sent first instead of SIGTERM, where `--signal` says (B: = the script only); 0 = SIGTERM


class SuspendStep(_Message, kw_only=True):
    """Stop (or, with resume, continue) all processes of the step; its time limit stops counting."""

    job_id: int
    attempt: int
    node: str
    resume: bool = False
    grace_s: int = 0  # processes that catch SIGTSTP may go on for so long before they are stopped


class SetTimeLimit(_Message, kw_only=True):
    """A new limit for a running step, counted from its start; 0 = unlimited."""

    job_id: int
    attempt: int
    node: str
    time_limit_s: int


class AckEnded(_Message):
    """The exits that are durable at the controller: (job id, attempt).  The node may forget them."""

    ended: list[tuple[int, int]]


class RelayReply(_Message, kw_only=True):
    """Frames for a user connection of a node's agent socket."""

    conn: int
    frames: list[bytes] = field(default_factory=list)
    close: bool = False


class LogRead(_Message, kw_only=True):
    """Read bytes of a job's output on its node, as the user."""

    req: int
    job_id: int
    attempt: int
    node: str
    uid: int
    gid: int
    groups: list[int] = field(default_factory=list)
    path: str = ""
    offset: int = 0  # negative: from the end
    limit: int = LOG_CHUNK_MAX


# ---- node to controller ------------------------------------------------------------------------------------------


class StepKnown(Struct, omit_defaults=True, kw_only=True):
    """A step a node knows of when it registers."""

    job_id: int
    attempt: int
    node: str
    running: bool = True  # False: ended, its StepEnded follows in the same batch
    pid: int = 0


class Register(_Message, kw_only=True):
    """First message of a link.  `nodes` has one entry, or all emulated nodes of the process."""

    name: str  # host list; the audience of this link's credentials
    version: str
    nodes: list[Fingerprint] = field(default_factory=list)  # one, or one shared by all emulated nodes
    emulated: bool = False
    config_hash: str = ""
    epoch_seen: int = 0
    join_token: str = ""  # first contact only; admits this link's CURVE key
    steps: list[StepKnown] = field(default_factory=list)
    t_sent: float = 0.0


class Heartbeat(_Message, kw_only=True):
    """All nodes of the link are well, but for those named."""

    t_sent: float
    load: float = 0.0
    free_mem_mib: int = 0
    unwell: dict[str, str] = field(default_factory=dict)


class StepStarted(_Message, kw_only=True):
    """The script's first process runs."""

    job_id: int
    attempt: int
    node: str
    pid: int = 0
    t_start: float = 0.0
    stdout: str = ""
    stderr: str = ""


class StepEnded(_Message, kw_only=True):
    """The exit record of a step; repeated until acknowledged by AckEnded."""

    job_id: int
    attempt: int
    node: str
    exit: ExitInfo = field(default_factory=ExitInfo)
    failure: LaunchFailure = LaunchFailure.NONE
    failure_text: str = ""
    timed_out: bool = False
    oom: bool = False
    unknown: bool = False  # the node has never heard of this attempt
    t_start: float = 0.0
    t_end: float = 0.0
    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_mib: float = 0.0
    stdout: str = ""
    stderr: str = ""


class BlobWanted(_Message):
    """The node lacks these blobs; launches that need them wait on the node."""

    hashes: list[str]


class Relay(_Message, kw_only=True):
    """A frame from a user connection of the node's agent socket; uid and gid are what the kernel said there."""

    conn: int
    uid: int
    gid: int
    frame: bytes = b""
    closed: bool = False


class LogData(_Message, kw_only=True):
    """Answer to LogRead; `size` is the file's size now."""

    req: int
    data: bytes = b""
    offset: int = 0
    size: int = 0
    running: bool = False
    error: str = ""


ToNode = (
    Registered
    | Refused
    | ConfigUpdate
    | BlobData
    | SignedBatch
    | SignalStep
    | TerminateStep
    | SuspendStep
    | SetTimeLimit
    | AckEnded
    | RelayReply
    | LogRead
)
FromNode = Register | Heartbeat | StepStarted | StepEnded | BlobWanted | Relay | LogData
