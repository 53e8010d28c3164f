"""The environment of a batch script: what the user submitted, then what the scheduler says.

Names and formats are sbatch(1)'s, OUTPUT ENVIRONMENT VARIABLES.  Each is set twice, as SLURM_X and as HELIX_X.  The
user's value of a name in `RESERVED` never reaches the job, set here or not: a job submitted from within a job does not
inherit the outer one's array index.

Pure.  Cost: the user's part is prepared once per environment (`base_environment`), the rest takes about 30 us a job.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from helix.gres import mask_of
from helix.wire.messages import Launch

# fmt: off
_JOB = (
    "JOB_ID", "JOBID", "JOB_NAME", "JOB_NODELIST", "NODELIST", "JOB_NUM_NODES", "NNODES", "NTASKS", "NPROCS",
    "CPUS_ON_NODE", "JOB_CPUS_PER_NODE", "TASKS_PER_NODE", "NTASKS_PER_NODE", "CPUS_PER_TASK", "MEM_PER_NODE",
    "MEM_PER_CPU", "SUBMIT_DIR", "SUBMIT_HOST", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "ARRAY_TASK_COUNT", "ARRAY_TASK_MIN",
    "ARRAY_TASK_MAX", "ARRAY_TASK_STEP", "JOB_PARTITION", "JOB_USER", "JOB_UID", "JOB_GID", "JOB_ACCOUNT", "JOB_QOS",
    "CLUSTER_NAME", "NODEID", "PROCID", "LOCALID", "GTIDS", "TASK_PID", "RESTART_COUNT", "JOB_START_TIME",
    "JOB_END_TIME", "STEP_COOKIE", "PRIO_PROCESS", "JOB_GROUP", "JOB_GPUS", "GPUS_ON_NODE", "SHARDS_ON_NODE",
    "TOPOLOGY_ADDR", "TOPOLOGY_ADDR_PATTERN",
)
# fmt: on
#: what is told of each component of a heterogeneous job, with _HET_GROUP_n after it
HET_GROUP = (
    "JOB_ID",
    "JOBID",
    "JOB_NAME",
    "JOB_NODELIST",
    "NODELIST",
    "JOB_NUM_NODES",
    "NNODES",
    "NTASKS",
    "NPROCS",
    "JOB_CPUS_PER_NODE",
    "TASKS_PER_NODE",
    "NTASKS_PER_NODE",
    "CPUS_PER_TASK",
    "MEM_PER_NODE",
    "MEM_PER_CPU",
    "JOB_PARTITION",
    "JOB_ACCOUNT",
    "JOB_QOS",
    "JOB_GPUS",
)
#: names that only the scheduler sets
RESERVED = frozenset(
    [f"{prefix}_{name}" for name in _JOB for prefix in ("SLURM", "HELIX")]
    + ["SLURMD_NODENAME", "HELIXD_NODENAME", "HELIX_SOCKET", "ENVIRONMENT"]
)
#: which devices a program uses that looks for them by itself; of GPU numbers on this node
VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL")
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
COOKIE = "HELIX_STEP_COOKIE"


class Home(Struct, frozen=True):
    """Of the user, from the node's user database."""

    name: str = ""
    directory: str = "/"
    shell: str = "/bin/sh"


class Place(Struct, frozen=True):
    """Of this node."""

    cluster: str
    socket: str  # agent socket of this node's helixd
    tmp_fs: str = "/tmp"  # noqa: S108 - TmpFS, where jobs may write
    spool_id: str = ""


class Base(NamedTuple):
    """The user's part, encoded; `has` are the names of HOME, PATH, CUDA_VISIBLE_DEVICES ... that are in it."""

    data: bytes
    entries: int
    has: frozenset[str]


def base_environment(blob: bytes) -> Base:
    """From the stored environment (NUL-separated NAME=value).  Entries that are none are dropped; a name given twice
    counts once, the last wins."""
    entries: dict[bytes, bytes] = {}
    for entry in blob.split(b"\0"):
        name, equals, _ = entry.partition(b"=")
        if name and equals and name.decode("utf-8", "replace") not in RESERVED:
            entries[name] = entry
    wanted = ("HOME", "PATH", "USER", "LOGNAME", "SHELL", "TMPDIR", *VISIBLE)
    return Base(
        b"".join(entry + b"\0" for entry in entries.values()),
        len(entries),
        frozenset(name for name in wanted if name.encode() in entries),
    )


def cookie(launch_job: int, attempt: int, spool_id: str) -> str:
    """What marks every process of a step in its environment."""
    return f"{launch_job}.{attempt}.{spool_id}"


def compress_counts(counts: list[int]) -> str:
    """`[4, 4, 2]` as Slurm writes it: `4(x2),2`."""
    parts: list[str] = []
    at = 0
    while at < len(counts):
        run = at
        while run < len(counts) and counts[run] == counts[at]:
            run += 1
        parts.append(f"{counts[at]}(x{run - at})" if run - at > 1 else str(counts[at]))
        at = run
    return ",".join(parts)


def tasks_on_nodes(launch: Launch) -> list[int]:
    """How many tasks each node of the allocation gets: as many as were asked for on each, else one on each and the
    rest in order as CPUs allow, what is over goes round."""
    count = max(1, launch.node_count)
    if launch.tasks_per_node:
        return [launch.tasks_per_node] * count
    if len(launch.tasks_on_nodes) == count:
        return launch.tasks_on_nodes
    cpus = launch.cpus_per_node if len(launch.cpus_per_node) == count else [0] * count
    room = [max(1, n // max(1, launch.cpus_per_task)) for n in cpus]
    given = [1] * count
    left = launch.tasks - count
    for k in range(count):
        more = max(0, min(left, room[k] - 1))
        given[k] += more
        left -= more
    k = 0
    while left > 0 and k < count:  # more tasks than CPUs: overcommitted evenly
        share = -(-left // (count - k))
        given[k] += share
        left -= share
        k += 1
    return given


def job_variables(launch: Launch, place: Place) -> dict[str, str]:
    """Name without prefix -> value."""
    cpus = launch.cpus_per_node or [len(launch.cores) or 1]
    end = int(launch.t_start) + launch.time_limit_s
    variables = {
        "JOB_ID": str(launch.job_id),
        "JOBID": str(launch.job_id),
        "JOB_NAME": launch.name,
        "JOB_NODELIST": launch.nodes or launch.node,
        "NODELIST": launch.nodes or launch.node,
        "JOB_NUM_NODES": str(launch.node_count),
        "NNODES": str(launch.node_count),
        "CPUS_ON_NODE": str(cpus[0]),
        "JOB_CPUS_PER_NODE": str(cpus[0]) if len(cpus) == 1 else compress_counts(cpus),
        "TASKS_PER_NODE": str(launch.tasks) if launch.node_count == 1 else compress_counts(tasks_on_nodes(launch)),
        "SUBMIT_DIR": launch.submit_dir or launch.work_dir,
        "SUBMIT_HOST": launch.submit_host,
        "JOB_PARTITION": launch.partition,
        "JOB_USER": launch.user,
        "JOB_UID": str(launch.uid),
        "JOB_GID": str(launch.gid),
        "CLUSTER_NAME": place.cluster,
        "NODEID": "0",
        "PROCID": "0",
        "LOCALID": "0",
        "GTIDS": "0",
        "PRIO_PROCESS": "0",
        "JOB_START_TIME": str(int(launch.t_start)),
    }
    if launch.account:
        variables["JOB_ACCOUNT"] = launch.account
    if launch.qos:
        variables["JOB_QOS"] = launch.qos
    if launch.time_limit_s:
        variables["JOB_END_TIME"] = str(end)
    if launch.tasks_given:
        variables["NTASKS"] = variables["NPROCS"] = str(launch.tasks)
    if launch.tasks_per_node:
        variables["NTASKS_PER_NODE"] = str(launch.tasks_per_node)
    if launch.tasks_per_core:
        variables["NTASKS_PER_CORE"] = str(launch.tasks_per_core)
    if launch.tasks_per_socket:
        variables["NTASKS_PER_SOCKET"] = str(launch.tasks_per_socket)
    if launch.cpus_per_task_given:
        variables["CPUS_PER_TASK"] = str(launch.cpus_per_task)
    if launch.mem_per_cpu_mib:
        variables["MEM_PER_CPU"] = str(launch.mem_per_cpu_mib)
    elif launch.mem_mib:
        variables["MEM_PER_NODE"] = str(launch.mem_mib)
    gpus = device_numbers(launch, "gpu")
    if gpus:
        variables["JOB_GPUS"] = ",".join(map(str, gpus))
        variables["GPUS_ON_NODE"] = str(len(gpus))
    if shards := device_numbers(launch, "shard"):
        variables["SHARDS_ON_NODE"] = str(len(shards))
    if launch.topology_addr:
        variables["TOPOLOGY_ADDR"] = launch.topology_addr
        variables["TOPOLOGY_ADDR_PATTERN"] = launch.topology_pattern
    if launch.restart_count:
        variables["RESTART_COUNT"] = str(launch.restart_count)
    if launch.components:
        variables["HET_SIZE"] = str(len(launch.components))
        for at, part in enumerate(launch.components):
            own = job_variables(part, place)
            variables.update({f"{name}_HET_GROUP_{at}": own[name] for name in HET_GROUP if name in own})
    if launch.array_task_id is not None:
        variables["ARRAY_JOB_ID"] = str(launch.array_job_id)
        variables["ARRAY_TASK_ID"] = str(launch.array_task_id)
        variables["ARRAY_TASK_COUNT"] = str(launch.array_task_count)
        variables["ARRAY_TASK_MIN"] = str(launch.array_task_min)
        variables["ARRAY_TASK_MAX"] = str(launch.array_task_max)
        variables["ARRAY_TASK_STEP"] = str(launch.array_task_step)
    return variables


def without(base: Base, names: tuple[str, ...]) -> Base:
    """The user's part without these names, if it has any: of two entries for a name programs see the first."""
    if base.has.isdisjoint(names):
        return base
    gone = tuple(f"{name}=".encode() for name in names)
    kept = [entry for entry in base.data.split(b"\0")[:-1] if not entry.startswith(gone)]
    return Base(b"".join(entry + b"\0" for entry in kept), len(kept), base.has.difference(names))


def device_numbers(launch: Launch, name: str) -> list[int]:
    """The numbers of the devices of a name that the job has on this node, ascending."""
    mask = 0
    for kind, indexes in launch.gres.items():
        if kind.partition(":")[0] == name:
            mask |= mask_of(indexes)
    return [number for number in range(mask.bit_length()) if mask >> number & 1]


def step_environment(launch: Launch, base: Base, home: Home, place: Place) -> tuple[bytes, int]:
    """The whole environment, each entry ended by NUL, and how many entries.

    The last two are SLURM_TASK_PID and HELIX_TASK_PID with room for the number that only the new process knows.
    """
    entries: list[str] = []
    defaults = {
        "HOME": home.directory,
        "USER": home.name or launch.user,
        "LOGNAME": home.name or launch.user,
        "SHELL": home.shell,
        "PATH": _DEFAULT_PATH,
        "TMPDIR": place.tmp_fs,
    }
    entries += [f"{name}={value}" for name, value in defaults.items() if name not in base.has]
    for name, value in job_variables(launch, place).items():
        entries.append(f"SLURM_{name}={value}")
        entries.append(f"HELIX_{name}={value}")
    if gpus := ",".join(map(str, device_numbers(launch, "gpu"))):
        base = without(base, VISIBLE)
        entries += [f"{name}={gpus}" for name in VISIBLE]
    entries += (
        f"SLURMD_NODENAME={launch.node}",
        f"HELIXD_NODENAME={launch.node}",
        f"HELIX_SOCKET={place.socket}",
        "ENVIRONMENT=BATCH",
        f"{COOKIE}={cookie(launch.job_id, launch.attempt, place.spool_id)}",
        "SLURM_TASK_PID=0000000000",
        "HELIX_TASK_PID=0000000000\0",
    )
    return base.data + "\0".join(entries).encode("utf-8", "surrogateescape"), base.entries + len(entries)
