"""The hardware of this machine, as Slurm's `slurmd -C` counts it.

Reads /sys/devices/system/cpu, /proc/meminfo, statvfs(TmpFS) and uname; nothing is run.  `probe(root=...)` reads another
tree, for tests.  CPUs that are offline do not count.  Where the topology is not told (virtual machines, odd
architectures) every CPU is a core of one socket.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import time

from helix import __version__
from helix.hostlist import parse_hostlist
from helix.model.node import Fingerprint

_CPUS_MAX = 65536


def parse_cpu_list(text: str) -> list[int]:
    """`0-3,8` as the kernel writes it; [] for an empty or malformed text."""
    text = text.strip()
    if not text or not all(c.isdigit() or c in ",-" for c in text):
        return []
    with contextlib.suppress(Exception):
        return [int(name[1:]) for name in parse_hostlist(f"c[{text}]", limit=_CPUS_MAX)]
    return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(1 << 16).strip()
    except OSError:
        return ""


def _number(text: str, missing: int = -1) -> int:
    try:
        return int(text)
    except ValueError:
        return missing


def topology(root: str = "") -> tuple[int, int, int, int]:
    """(cpus, sockets, cores per socket, threads per core)."""
    base = f"{root}/sys/devices/system/cpu"
    cpus = parse_cpu_list(_read(f"{base}/online")) or list(range(os.cpu_count() or 1))
    sockets: dict[int, set[int]] = {}
    for cpu in cpus:
        package = _number(_read(f"{base}/cpu{cpu}/topology/physical_package_id"), 0)
        core = _number(_read(f"{base}/cpu{cpu}/topology/core_id"), cpu)
        sockets.setdefault(max(0, package), set()).add(core)
    cores = sum(len(found) for found in sockets.values())
    if not cores or len(cpus) % cores or cores % len(sockets):
        return len(cpus), 1, len(cpus), 1
    return len(cpus), len(sockets), cores // len(sockets), len(cpus) // cores


def meminfo(root: str = "") -> dict[str, int]:
    """/proc/meminfo in KiB."""
    found: dict[str, int] = {}
    for line in _read(f"{root}/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        found[name] = _number(rest.split()[0] if rest.split() else "", 0)
    return found


def boot_id(root: str = "") -> str:
    """Random at every boot; "" if the kernel does not tell."""
    return _read(f"{root}/proc/sys/kernel/random/boot_id")


def boot_time(root: str = "") -> float:
    """When the machine was booted, epoch seconds; 0 if unknown."""
    for line in _read(f"{root}/proc/stat").splitlines():
        if line.startswith("btime "):
            return float(_number(line.split()[1], 0))
    return 0.0


def tmp_disk_mib(tmp_fs: str) -> int:
    """Size of the file system with `tmp_fs`; 0 if it cannot be had."""
    try:
        info = os.statvfs(tmp_fs)
    except OSError:
        return 0
    return info.f_blocks * info.f_frsize >> 20


def probe(tmp_fs: str = "/tmp", t_helixd_start: float = 0.0, root: str = "") -> Fingerprint:  # noqa: S108
    """What this machine has."""
    cpus, sockets, cores, threads = topology(root)
    uname = platform.uname()
    return Fingerprint(
        hostname=socket.gethostname(),
        runs_as=os.geteuid(),
        sockets=sockets,
        cores_per_socket=cores,
        threads_per_core=threads,
        cpus=cpus,
        real_memory_mib=meminfo(root).get("MemTotal", 0) >> 10,
        tmp_disk_mib=tmp_disk_mib(tmp_fs),
        arch=uname.machine,
        os=uname.system,
        kernel=uname.release,
        boot_id=boot_id(root),
        t_boot=boot_time(root),
        t_helixd_start=t_helixd_start,
        version=__version__,
        t_sent=time.time(),
    )


def load_and_free() -> tuple[float, int]:
    """(load of the last minute, free memory in MiB) for a heartbeat."""
    free = meminfo()
    return os.getloadavg()[0], free.get("MemAvailable", free.get("MemFree", 0)) >> 10
