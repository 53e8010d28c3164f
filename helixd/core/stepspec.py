"""The description of a step that the forking shepherd reads from its socket (struct spec of native/csrc/shepherd.h).

Pure.  Raises ValueError for what cannot be a path, an argument or an environment entry: a NUL byte inside.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

MAGIC = 0x31535848
SPEC_MAX = 8 << 20
COUNT_MAX = 65536
_HEAD = struct.Struct("<IIQQ16I")
_RLIMIT = struct.Struct("<IIqq")

APPEND = 1
ROOT_OK = 2
WARN_BATCH = 4
AFFINITY = 8

CONTROL_SIGNAL = 40  #: the real time signal that carries orders to a shepherd: op << 56 | argument
OP_SIGNAL, OP_TERMINATE, OP_SUSPEND, OP_RESUME, OP_SET_LIMIT = 1, 2, 3, 4, 5
SCOPES = {"batch": 0, "children": 1, "all": 2}

# fmt: off
_LIMIT_NAMES = (
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING",
    "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
)
# fmt: on
#: numbers of getrlimit(2) on Linux, by the names of `Launch.rlimits` (with or without RLIMIT_)
RLIMITS = {name: number for number, name in enumerate(_LIMIT_NAMES)}


@dataclass(slots=True)
class StepSpec:
    """All that a shepherd needs; units in the names, 0 = none."""

    job_id: int
    attempt: int
    generation: int
    uid: int
    gid: int
    script: str
    env: bytes  # NAME=value entries, each ended by NUL
    env_count: int
    work_dir: str = "/"
    stdin: str = "/dev/null"
    stdout: str = "/dev/null"
    stderr: str = "/dev/null"
    args: Sequence[str] = ()
    groups: Sequence[int] = ()
    cores: Sequence[int] = ()
    rlimits: dict[str, tuple[int, int]] = field(default_factory=dict)
    flags: int = 0
    umask: int = 0o022
    mem_bytes: int = 0
    limit_s: int = 0
    kill_wait_s: int = 30
    warn_signal: int = 0
    warn_before_s: int = 0
    unkillable_s: int = 60
    cgroup_unified: str = ""
    cgroup_memory: str = ""
    cgroup_cpuset: str = ""


def rlimit_number(name: str) -> int | None:
    """Number of a resource limit by its name, any case, RLIMIT_ optional; None when there is no such limit."""
    return RLIMITS.get(name.upper().removeprefix("RLIMIT_"))


def encode_spec(spec: StepSpec) -> bytes:
    """The bytes for the socket."""
    texts = (
        spec.script,
        spec.work_dir,
        spec.stdin,
        spec.stdout,
        spec.stderr,
        spec.cgroup_unified,
        spec.cgroup_memory,
        spec.cgroup_cpuset,
        *spec.args,
    )
    strings = "\0".join(texts).encode("utf-8", "surrogateescape") + b"\0"
    if strings.count(0) != len(texts):
        raise ValueError("a NUL character in a path or an argument")
    if spec.env.count(0) != spec.env_count or (spec.env and spec.env[-1]):
        raise ValueError("a malformed environment")
    limits = b"".join(
        _RLIMIT.pack(number, 0, soft, hard)
        for name, (soft, hard) in spec.rlimits.items()
        if (number := rlimit_number(name)) is not None
    )
    groups = struct.pack(f"<{len(spec.groups)}I", *spec.groups)
    cores = struct.pack(f"<{len(spec.cores)}I", *spec.cores)
    size = _HEAD.size + len(limits) + len(groups) + len(cores) + len(strings) + len(spec.env)
    padding = -size % 8
    if size + padding > SPEC_MAX or max(len(spec.args), spec.env_count, len(spec.groups), len(spec.cores)) > COUNT_MAX:
        raise ValueError(f"arguments and environment of {size} bytes")
    head = _HEAD.pack(
        MAGIC,
        size + padding,
        spec.job_id,
        spec.mem_bytes,
        spec.attempt,
        spec.generation,
        spec.uid,
        spec.gid,
        spec.flags,
        spec.umask,
        spec.limit_s,
        spec.kill_wait_s,
        spec.warn_signal,
        spec.warn_before_s,
        spec.unkillable_s,
        len(spec.groups),
        len(spec.cores),
        len(limits) // _RLIMIT.size,
        len(spec.args),
        spec.env_count,
    )
    return b"".join((head, limits, groups, cores, strings, spec.env, bytes(padding)))


def control_value(op: int, argument: int = 0) -> int:
    """The value of a control signal."""
    return op << 56 | (argument & 0xFFFFFFFFFFFFFF)
