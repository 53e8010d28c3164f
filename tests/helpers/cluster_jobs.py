"""What the system tests do again and again: write a script, submit it as a user would, wait for a condition, look at
what a job left behind, and do all that as another user."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import helix.cli
from helix.client import Client
from helix.cluster.fixture import TestCluster
from helix.rows import Job, JobEnd

NOBODY = 65534
#: What commands import when they need it.
_LATE = (
    "binascii",
    "difflib",
    "helix.client",
    "helix.hostlist",
    "helix.indexset",
    "helix.sizes",
    "helix.timefmt",
    "resource",
    "shutil",
)
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


def write(path: Path, text: str) -> Path:
    """An executable file; a script without `#!` gets /bin/sh."""
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def submit(cluster: TestCluster, work: Path, body: str, *options: str, **more: Any) -> int:
    """`hsubmit OPTIONS work/job.sh` in `work`; gives the job's id."""
    script = write(work / "job.sh", body)
    return int(cluster.run("hsubmit", "--parsable", *options, str(script), cwd=work, **more).stdout)


def run_job(cluster: TestCluster, work: Path, body: str, *options: str, **more: Any) -> JobEnd:
    """Submit with hsubmit and wait for the end."""
    return finish(cluster, submit(cluster, work, body, *options, **more))


def finish(cluster: TestCluster, job: Any, timeout_s: float = 30.0) -> JobEnd:
    """The end of one job."""
    with cluster.client() as client:
        return client.wait(job, timeout_s=timeout_s)[0]


def how(end: JobEnd) -> tuple[str, str]:
    """State and exit code."""
    return end["state"], end["exit_code"]


def wait_state(cluster: TestCluster, job: Any, *states: str, timeout_s: float = 30.0) -> Job:
    """Wait until a job is in one of these states."""
    seen: list[Job] = []

    def there() -> bool:
        seen.append(client.job(job))
        return seen[-1]["state"] in states

    with cluster.client() as client:
        cluster.wait_for(there, f"job {job} is {' or '.join(states)}", timeout_s=timeout_s)
    return seen[-1]


def wait_reason(cluster: TestCluster, job: Any, reason: str) -> Job:
    """Wait until a waiting job shows this reason."""
    with cluster.client() as client:
        cluster.wait_for(lambda: client.job(job)["reason"] == reason, f"job {job} waits for {reason}")
        return client.job(job)


def wait_text(cluster: TestCluster, path: Path, text: str = "\n") -> str:
    """Wait until a file has this in it."""
    cluster.wait_for(lambda: path.exists() and text in path.read_text(), f"{path} holds {text!r}")
    return path.read_text()


def blocker(go: Path) -> str:
    """The lines of a job that runs until the file `go` exists."""
    return f"while [ ! -e {go} ]; do sleep 0.02; done"


def is_alive(pid: int) -> bool:
    """True if the process runs (a zombie does not)."""
    return process_state(pid) not in ("", "Z")


def process_state(pid: int) -> str:
    """The letter of proc(5), "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def processes_of(cluster: TestCluster, job: int) -> list[int]:
    """Processes that carry the environment of that job of that cluster."""
    wanted = (f"HELIX_JOB_ID={job}".encode(), f"HELIX_SOCKET={cluster.cluster.layout.run}/".encode())
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            entries = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            if wanted[0] in entries and any(entry.startswith(wanted[1]) for entry in entries):
                found.append(int(name))
    return found


def counter(cluster: TestCluster, name: str) -> float:
    """One of hdiag's counters."""
    with cluster.client() as client:
        return float(client.call("ctl.diag")["counters"][name])


# ---- other users -----------------------------------------------------------------------------------------------------


class Ran(NamedTuple):
    """How a command ended that another user ran."""

    status: int
    out: str
    err: str


def as_user(call: Callable[[], Any], uid: int = NOBODY, gid: int = NOBODY, groups: Sequence[int] = ()) -> Any:
    """What `call` gives (as JSON can say it) in a child process that has become somebody else."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            os.setgroups(list(groups))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            result = json.dumps(call())
            status = 0
        except BaseException:
            result = traceback.format_exc()
        with os.fdopen(writer, "w") as out:
            out.write(result)
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, text
    return json.loads(text)


def command_as(
    cluster: TestCluster, command: str, *argv: str, cwd: Path | None = None, uid: int = NOBODY, gid: int = NOBODY
) -> Ran:
    """Run a command of Helix as another user.

    In a forked child instead of a new program, with all it may import loaded before: the other user need not be able
    to read this checkout, or even Python.
    """
    for module in (*_LATE, *(f"helix.cli.{item.name}" for item in pkgutil.iter_modules(helix.cli.__path__))):
        import_module(module)
    main = import_module(f"helix.cli.{command}").main
    place = cwd or cluster.dir
    out, err = place / f".{command}.out", place / f".{command}.err"
    out.write_bytes(b"")
    err.write_bytes(b"")

    env = cluster.cluster.env()

    def call() -> int:
        os.environ.update(env)
        os.chdir(place)
        for descriptor, path in ((1, out), (2, err)):
            os.dup2(target[path], descriptor)
        # pytest has put its own files there
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        status = int(main(list(argv)))
        sys.stdout.flush()
        sys.stderr.flush()
        return status

    target = {path: os.open(path, os.O_WRONLY) for path in (out, err)}
    try:
        status = as_user(call, uid, gid)
    finally:
        for descriptor in target.values():
            os.close(descriptor)
    done = Ran(status, out.read_text(), err.read_text())
    out.unlink()
    err.unlink()
    return done


@contextlib.contextmanager
def background(cluster: TestCluster, out: Path, *argv: str) -> Iterator[int]:
    """A command that runs on while the test goes on, its output in a file; ended at the end of the block."""
    import subprocess

    with out.open("wb") as file:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=cluster.dir, env=cluster.env
        )
    try:
        yield process.pid
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)


def client_of(cluster: TestCluster) -> Client:
    """A client that fails at once when nobody is there."""
    return Client(str(cluster.cluster.layout.controller_socket), timeout_s=10.0, connect_s=0.0)
