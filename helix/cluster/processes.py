"""Daemons as processes: start, find again, wait for, stop.

A daemon is found by its process id file, and only believed in when the process it names is older than the file and
carries the cluster's cookie in its environment: process ids are reused.  Nothing here blocks for longer than it is
told.  Source for the fields: proc(5).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from helix.errors import TimedOut

COOKIE_VARIABLE = "HELIX_CLUSTER_COOKIE"
#: How often a condition that nothing announces is looked at again.
_POLL_S = 0.02


def spawn(argv: Sequence[str], *, env: dict[str, str], log_file: Path, cwd: Path) -> subprocess.Popen[bytes]:
    """Start a daemon in a session of its own, its stdout and stderr appended to `log_file`."""
    with log_file.open("ab") as log:
        return subprocess.Popen(  # noqa: S603  (argv is ours)
            list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=cwd, start_new_session=True
        )


def stat_fields(pid: int) -> list[str] | None:
    """Fields 3 and later of /proc/PID/stat, or None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def is_alive(pid: int) -> bool:
    """True for a process that exists and is no zombie."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in ("Z", "X")


def environment(pid: int) -> dict[bytes, bytes]:
    """The environment a process was started with; empty when it cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)


def has_cookie(pid: int, cookie: str) -> bool:
    """True if the process was started by the cluster of that cookie."""
    return environment(pid).get(COOKIE_VARIABLE.encode()) == cookie.encode()


def find_by_cookie(cookie: str) -> list[int]:
    """Every living process that was started with that cookie: daemons, and jobs submitted with it, oldest first."""
    mine = os.getpid()
    found = [
        int(name)
        for name in os.listdir("/proc")
        if name.isdigit() and int(name) != mine and has_cookie(int(name), cookie) and is_alive(int(name))
    ]
    return sorted(found)


def find_shepherds(nodes_dir: Path) -> list[int]:
    """The shepherds that serve spool directories below `nodes_dir`; they have an empty environment, so no cookie."""
    below = os.fsencode(nodes_dir) + b"/"
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                argv = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if argv[0].endswith(b"helix-shepherd") and any(word.startswith(below) for word in argv[1:]):
                found.append(int(name))
    return sorted(pid for pid in found if is_alive(pid))


def with_descendants(pids: Iterable[int]) -> list[int]:
    """The processes and everything below them; for jobs that dropped their environment."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(int(name))
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(name))
    seen: dict[int, None] = {}
    queue = list(pids)
    while queue:
        pid = queue.pop()
        if pid not in seen:
            seen[pid] = None
            queue.extend(children.get(pid, ()))
    return list(seen)


def read_pid(pid_file: Path, cookie: str) -> int | None:
    """The process that `pid_file` names, if it lives and belongs to the cluster of that cookie; else None."""
    try:
        pid = int(pid_file.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    if pid <= 1 or not is_alive(pid) or not has_cookie(pid, cookie):
        return None
    return pid


def wait_until(condition: Callable[[], bool], *, timeout_s: float, unless: Callable[[], bool] = lambda: False) -> bool:
    """True as soon as `condition` holds; False at the time limit, or as soon as `unless` holds."""
    t_end = time.monotonic() + timeout_s
    while True:
        if condition():
            return True
        if unless() or time.monotonic() >= t_end:
            return condition()
        time.sleep(_POLL_S)


def wait_gone(pids: Iterable[int], timeout_s: float) -> list[int]:
    """Wait for processes to end; gives those that have not."""
    t_end = time.monotonic() + timeout_s
    left = []
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            gone = poller.poll(max(0.0, t_end - time.monotonic()) * 1000)
        finally:
            os.close(fd)
        _reap(pid)
        if not gone and is_alive(pid):
            left.append(pid)
    return left


def send(pids: Iterable[int], signum: int) -> None:
    """Send a signal to those that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def stop(pids: Sequence[int], *, timeout_s: float) -> list[int]:
    """SIGTERM, wait, then SIGKILL what is left; gives those that had to be killed."""
    send(pids, signal.SIGTERM)
    # A stopped process cannot handle SIGTERM.
    send(pids, signal.SIGCONT)
    left = wait_gone(pids, timeout_s)
    if left:
        send(left, signal.SIGKILL)
        wait_gone(left, 10.0)
    return left


@contextlib.contextmanager
def turn(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock file `path` for the length of a `with` block.  Raises TimedOut when another holds it too long."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def take() -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        if not wait_until(take, timeout_s=timeout_s):
            raise TimedOut(f"another hcluster has been at work on {path.parent} for {timeout_s:.0f} s")
        yield
    finally:
        os.close(fd)


def tail(path: Path, lines: int = 15, max_bytes: int = 64 << 10) -> list[str]:
    """The last lines of a log; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - max_bytes))
            return log.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


def _reap(pid: int) -> None:
    """Collect a child of this process, so that it does not stay as a zombie."""
    with contextlib.suppress(ChildProcessError, OSError):
        os.waitpid(pid, os.WNOHANG)
