"""Which control groups steps are put into: found once, when the configuration arrives.

Version 2 at /sys/fs/cgroup or, on a mixed machine, /sys/fs/cgroup/unified: tracking, kill and freeze; memory limits too
where the controller is delegated.  Otherwise version 1's memory and cpuset hierarchies for the limits.  The shepherd
makes and removes a step's own groups (native/csrc/cgroup.c); here are only their parents, `helix/NODE.SPOOL`.  Without
root or with proctrack/linuxproc and no limits: none, and no cost for any step.
"""

from __future__ import annotations

import contextlib
import logging
import os

from msgspec import Struct

log = logging.getLogger("helixd.cgroups")

_UNIFIED = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_MEMORY_V1 = "/sys/fs/cgroup/memory"
_CPUSET_V1 = "/sys/fs/cgroup/cpuset"


class StepGroups(Struct, frozen=True):
    """Directories of one step; "" = none."""

    unified: str = ""
    memory: str = ""
    cpuset: str = ""


NO_GROUPS = StepGroups()


class Cgroups(Struct, frozen=True):
    """Parents of the steps' groups; "" = not used."""

    unified: str = ""
    memory: str = ""
    cpuset: str = ""

    def of_step(self, job_id: int, attempt: int) -> StepGroups:
        """The groups of a step."""
        if not (self.unified or self.memory or self.cpuset):
            return NO_GROUPS
        name = f"job_{job_id}_{attempt}"
        return StepGroups(*(f"{path}/{name}" if path else "" for path in (self.unified, self.memory, self.cpuset)))


def find_cgroups(name: str, *, track: bool, limit_memory: bool, limit_cores: bool) -> Cgroups:
    """Make the parents for what is wanted; what cannot be had is left out with one line in the log."""
    if not (track or limit_memory or limit_cores):
        return Cgroups()
    if os.geteuid() != 0:
        log.info("control groups are not used: helixd does not run as root")
        return Cgroups()
    unified = memory = cpuset = ""
    root = next((path for path in _UNIFIED if os.path.exists(f"{path}/cgroup.controllers")), "")
    limits_v2 = False
    if root:
        wanted = [name for name, on in (("memory", limit_memory), ("cpuset", limit_cores)) if on]
        limits_v2 = bool(wanted) and _delegate(root, wanted)
        if track or limits_v2:
            unified = _make(f"{root}/helix/{name}")
        if unified and limits_v2:
            _delegate(f"{root}/helix", wanted)
            limits_v2 = _delegate(unified, wanted)
    if limit_memory and not limits_v2 and os.path.isdir(_MEMORY_V1):
        memory = _make(f"{_MEMORY_V1}/helix/{name}")
    if limit_cores and not limits_v2 and os.path.isdir(_CPUSET_V1):
        cpuset = _make(f"{_CPUSET_V1}/helix/{name}")
        if cpuset and not _inherit_cpuset(cpuset):
            cpuset = ""
    if limit_memory and not (limits_v2 or memory):
        log.error("memory of jobs is not limited: no usable memory control group")
    log.info("control groups unified=%s memory=%s cpuset=%s", unified or "-", memory or "-", cpuset or "-")
    return Cgroups(unified=unified, memory=memory, cpuset=cpuset)


def _make(path: str) -> str:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as exc:
        log.warning("cannot make %s: %s", path, exc.strerror)
        return ""
    return path


def _delegate(path: str, controllers: list[str]) -> bool:
    """Give `controllers` to the groups below `path`; False if it does not have them."""
    try:
        with open(f"{path}/cgroup.controllers", encoding="ascii") as file:
            if not set(controllers) <= set(file.read().split()):
                return False
        with open(f"{path}/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write(" ".join(f"+{name}" for name in controllers))
    except OSError as exc:
        log.warning("cannot delegate %s in %s: %s", ",".join(controllers), path, exc.strerror)
        return False
    return True


def _inherit_cpuset(path: str) -> bool:
    """Fill the cpuset files of `path` and its parent from above: version 1 leaves them empty."""
    try:
        for folder in (os.path.dirname(path), path):
            for name in ("cpuset.cpus", "cpuset.mems"):
                with open(f"{os.path.dirname(folder)}/{name}", encoding="ascii") as file:
                    value = file.read().strip()
                with open(f"{folder}/{name}", "w", encoding="ascii") as file:
                    file.write(value)
    except OSError as exc:
        log.warning("cannot fill %s: %s", path, exc.strerror)
        return False
    return True


def remove_parents(name: str) -> None:
    """Remove this node's groups as far as no step is in them."""
    for root in (*_UNIFIED, _MEMORY_V1, _CPUSET_V1):
        with contextlib.suppress(OSError):
            os.rmdir(f"{root}/helix/{name}")
            os.rmdir(f"{root}/helix")  # of the last node here


def remove_groups(name: str, job_id: int, attempt: int) -> None:
    """Kill what is left in a lost step's groups, whatever the configuration was when it began, and remove them."""
    for root in (*_UNIFIED, _MEMORY_V1, _CPUSET_V1):
        path = f"{root}/helix/{name}/job_{job_id}_{attempt}"
        if not os.path.isdir(path):
            continue
        with contextlib.suppress(OSError), open(f"{path}/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")
        with contextlib.suppress(OSError):
            os.rmdir(path)
