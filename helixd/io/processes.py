"""Processes of steps, looked at from helixd: is a shepherd still the one that it was, and what is left of a lost step.

Cost: `is_process` two system calls; `left_of_step` reads /proc/PID/environ of every process, and is only used when a
shepherd has been killed.
"""

from __future__ import annotations

import contextlib
import os
import signal

from helix_native import ckernels
from helixd.core.environment import COOKIE
from helixd.core.stepspec import CONTROL_SIGNAL

_ENVIRON_MAX = 4 << 20


def _stat_fields(pid: int) -> list[bytes]:
    """The fields after the name in /proc/PID/stat; [] if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return []


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks after boot; 0 if it is gone or a zombie."""
    fields = _stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 and fields[0] != b"Z" else 0


def open_process(pid: int, start: int) -> int:
    """A pidfd of the process with this number and start; -1 if it is gone.  The caller closes it."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return -1
    if start_ticks(pid) == start:
        return fd
    os.close(fd)
    return -1


def send_control(pid: int, start: int, value: int) -> bool:
    """Queue a control signal to a shepherd.  False if it is gone."""
    fd = open_process(pid, start)
    if fd < 0:
        return False
    try:
        ckernels.pidfd_queue(fd, CONTROL_SIGNAL, value)
    except (ProcessLookupError, BlockingIOError):
        return False
    finally:
        os.close(fd)
    return True


def left_of_step(cookie: str, session: int, uid: int) -> list[int]:
    """Processes of a step whose shepherd is gone: those with its cookie in their environment, and those of its user in
    the script's session."""
    mark = f"{COOKIE}={cookie}\0".encode()
    own = os.getpid()
    found: list[int] = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == own:
            continue
        fields = _stat_fields(int(name))
        if len(fields) < 4 or fields[0] == b"Z":
            continue
        try:
            with open(f"/proc/{name}/environ", "rb", buffering=0) as file:
                environ = b"\0" + file.read(_ENVIRON_MAX)
            owner = os.stat(f"/proc/{name}").st_uid
        except OSError:
            continue
        if b"\0" + mark in environ or (session and int(fields[3]) == session and owner == uid):
            found.append(int(name))
    return found


def kill_processes(pids: list[int]) -> None:
    """SIGKILL them."""
    for pid in pids:
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)
