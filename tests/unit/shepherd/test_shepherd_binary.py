"""The real helix-shepherd, without helixd: descriptions in over its socket, records out in the steps log."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helixd.core import steplog, stepspec
from helixd.core.steplog import Ended, Kind, Record, Stage, Started
from helixd.core.stepspec import StepSpec, encode_spec
from helixd.io import processes
from helixd.io.forker import shepherd_path


class Server:
    """A forking shepherd of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "steps.1.log").touch()
        self.log = folder / "steps.1.log"
        self.socket, theirs = socket.socketpair()
        actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
        self.pid = os.posix_spawn(shepherd_path(), ["helix-shepherd", "--serve", str(folder)], {}, file_actions=actions)
        theirs.close()
        self.serial = 0

    def spec(self, script: str, **fields: Any) -> StepSpec:
        self.serial += 1
        path = self.folder / f"script{self.serial}"
        path.write_text(script)
        path.chmod(0o755)
        defaults: dict[str, Any] = {
            "job_id": self.serial,
            "attempt": 0,
            "generation": 1,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "groups": os.getgroups(),
            "script": str(path),
            "env": b"PATH=/usr/bin:/bin\0",
            "env_count": 1,
            "work_dir": str(self.folder),
            "stdout": str(self.folder / f"out{self.serial}"),
            "stderr": str(self.folder / f"out{self.serial}"),
            "flags": stepspec.ROOT_OK,
            "kill_wait_s": 1,
        }
        return StepSpec(**{**defaults, **fields})

    def run(self, script: str, **fields: Any) -> int:
        spec = self.spec(script, **fields)
        self.socket.sendall(encode_spec(spec))
        return spec.job_id

    def records(self) -> list[Record]:
        return steplog.scan(self.log.read_bytes(), at_end=True).records

    def wait(self, kind: Kind, job_id: int, timeout_s: float = 20.0) -> Any:
        def find() -> Any:
            return next((r.body for r in self.records() if r.kind is kind and r.job_id == job_id), None)

        return wait_until(find, timeout_s)

    def order(self, job_id: int, op: int, argument: int = 0) -> None:
        started = self.wait(Kind.STARTED, job_id)
        assert processes.send_control(
            started.shepherd_pid, started.shepherd_start, stepspec.control_value(op, argument)
        )

    def close(self) -> int:
        self.socket.close()
        return os.waitpid(self.pid, 0)[1]


def wait_until(find: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := find()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    for record in made.records():
        if isinstance(record.body, Started):
            processes.send_control(
                record.body.shepherd_pid, record.body.shepherd_start, stepspec.control_value(stepspec.OP_TERMINATE)
            )
    if made.socket.fileno() >= 0:
        assert made.close() == 0


def ended(server: Server, job_id: int) -> Ended:
    found = server.wait(Kind.ENDED, job_id)
    assert isinstance(found, Ended)
    return found


def test_end_is_recorded_with_usage(server: Server) -> None:
    job = server.run("#!/bin/sh\ni=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; kill -SEGV $$\n")
    end = ended(server, job)
    assert end.status & 0x7F == signal.SIGSEGV
    assert end.user_us > 0
    assert end.max_rss_kib > 500


def test_root_is_refused_unless_allowed(server: Server) -> None:
    if os.geteuid() == 0:
        end = ended(server, server.run("#!/bin/sh\n", flags=0))
        assert (end.stage, end.text) == (Stage.IDENTITY, "jobs of root are not allowed here")
    else:
        assert ended(server, server.run("#!/bin/sh\n", uid=0)).stage == Stage.IDENTITY
    assert ended(server, server.run("#!/bin/sh\n", uid=2**32 - 1)).stage == Stage.IDENTITY


def test_limits_above_the_nodes_are_cut(server: Server) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    job = server.run("#!/bin/sh\nulimit -Sn; ulimit -Hn; ulimit -Sc\n", rlimits={"NOFILE": (77, hard), "CORE": (0, 0)})
    assert ended(server, job).stage == Stage.NONE
    assert (server.folder / f"out{job}").read_text().split() == ["77", str(hard), "0"]


def test_input_and_separate_error_file(server: Server) -> None:
    (server.folder / "in").write_text("from input\n")
    job = server.run("#!/bin/sh\ncat\necho e >&2\n", stdin=str(server.folder / "in"), stderr=str(server.folder / "err"))
    ended(server, job)
    assert (server.folder / f"out{job}").read_text() == "from input\n"
    assert (server.folder / "err").read_text() == "e\n"


def test_step_stuck_opening_a_fifo_can_be_ended(server: Server) -> None:
    os.mkfifo(server.folder / "fifo")
    job = server.run("#!/bin/sh\n", stdin=str(server.folder / "fifo"))
    born = server.wait(Kind.BORN, job)
    value = stepspec.control_value(stepspec.OP_TERMINATE, 5)
    assert processes.send_control(born.shepherd_pid, born.shepherd_start, value)
    assert ended(server, job).status == signal.SIGTERM


def test_fork_bomb_is_ended(server: Server) -> None:
    job = server.run(
        "#!/bin/bash\nulimit -u unlimited 2>/dev/null\nf() { sleep 1000 & [ $1 -gt 0 ] && f $(($1-1)); }\n"
        "for i in 1 2 3 4; do (trap '' TERM; while :; do f 3 & sleep 0.02; done) & done\nwait\n"
    )
    started = server.wait(Kind.STARTED, job)
    server.order(job, stepspec.OP_TERMINATE, 1)
    ended(server, job)
    assert not processes.start_ticks(started.main_pid)


def test_scopes_of_signals(server: Server) -> None:
    job = server.run(
        "#!/bin/sh\ntrap 'echo main' USR1\nsh -c 'trap \"echo child\" USR1; while :; do sleep 0.05; done' &\n"
        "while :; do sleep 0.05; done\n",
        stderr="/dev/null",
    )
    out = server.folder / f"out{job}"
    server.wait(Kind.STARTED, job)
    server.order(job, stepspec.OP_SIGNAL, signal.SIGUSR1 | stepspec.SCOPES["batch"] << 8)
    wait_until(lambda: out.read_text() == "main\n")
    server.order(job, stepspec.OP_SIGNAL, signal.SIGUSR1 | stepspec.SCOPES["children"] << 8)
    wait_until(lambda: out.read_text() == "main\nchild\n")
    server.order(job, stepspec.OP_TERMINATE, 0)
    assert ended(server, job).flags & steplog.ENDED_TERMINATED


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_suspension_leaves_time_to_who_catches_sigtstp(server: Server, tmp_path: Path) -> None:
    told = tmp_path / "told"
    job = server.run(
        f"#!/bin/bash\ntrap 'echo tstp >>{told}' TSTP\ntrap 'echo cont >>{told}' CONT\nwhile :; do sleep 0.02; done\n"
    )
    pid = server.wait(Kind.STARTED, job).main_pid
    server.order(job, stepspec.OP_SUSPEND, 1)
    wait_until(lambda: told.exists() and "tstp" in told.read_text())  # it ran on for that
    wait_until(lambda: process_state(pid) == "T")
    server.order(job, stepspec.OP_RESUME)
    wait_until(lambda: "cont" in told.read_text())
    wait_until(lambda: process_state(pid) != "T")


def test_suspension_is_at_once_for_all_others(server: Server) -> None:
    job = server.run("#!/bin/sh\nwhile :; do :; done\n")
    pid = server.wait(Kind.STARTED, job).main_pid
    server.order(job, stepspec.OP_SUSPEND, 3600)
    wait_until(lambda: process_state(pid) == "T")
    server.order(job, stepspec.OP_TERMINATE, 60)  # goes on to hear of its end
    assert ended(server, job).status & 0x7F == signal.SIGTERM


def test_end_during_the_grace_of_a_suspension(server: Server) -> None:
    job = server.run("#!/bin/bash\ntrap : TSTP\nwhile :; do sleep 0.02; done\n")
    server.wait(Kind.STARTED, job)
    server.order(job, stepspec.OP_SUSPEND, 3600)
    server.order(job, stepspec.OP_TERMINATE, 60)
    assert ended(server, job).status & 0x7F == signal.SIGTERM


def test_another_signal_may_come_first(server: Server, tmp_path: Path) -> None:
    told = tmp_path / "told"
    job = server.run(f"#!/bin/bash\ntrap 'echo usr1 >>{told}; exit 7' USR1\nwhile :; do sleep 0.02; done\n")
    server.wait(Kind.STARTED, job)
    server.order(job, stepspec.OP_TERMINATE, 60 | signal.SIGUSR1 << 32)
    assert ended(server, job).status >> 8 == 7
    assert told.read_text() == "usr1\n"


def test_new_limit_that_has_passed_ends_the_step(server: Server) -> None:
    job = server.run("#!/bin/sh\nsleep 100\n", limit_s=1000)
    server.wait(Kind.STARTED, job)
    time.sleep(1)
    server.order(job, stepspec.OP_SET_LIMIT, 1)
    end = ended(server, job)
    assert end.flags & steplog.ENDED_TIMED_OUT


def test_strangers_signals_are_not_orders(server: Server) -> None:
    job = server.run("#!/bin/sh\nsleep 0.5; exit 3\n")
    started = server.wait(Kind.STARTED, job)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, stepspec.CONTROL_SIGNAL):
        os.kill(started.shepherd_pid, number)
    assert ended(server, job).status == 3 << 8


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two users")
def test_other_users_cannot_order(server: Server) -> None:
    job = server.run("#!/bin/sh\nsleep 0.5; exit 3\n")
    started = server.wait(Kind.STARTED, job)
    code = (
        f"import os, ctypes; os.setuid(12345); print(ctypes.CDLL(None).sigqueue({started.shepherd_pid}, 40, 2 << 56))"
    )
    shown = subprocess.run(["python3", "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "-1"
    assert ended(server, job).status == 3 << 8


@pytest.mark.parametrize(
    "junk",
    [
        b"x" * 200,
        struct.pack("<II", stepspec.MAGIC, 4) + bytes(100),
        struct.pack("<II", stepspec.MAGIC, 2**31) + bytes(100),
        struct.pack("<II", stepspec.MAGIC, 96) + b"\xff" * 88,
        struct.pack("<IIQQ16I", stepspec.MAGIC, 88, 1, 0, *[0] * 12, 2, 3, 4, 5),
    ],
)
def test_garbage_on_the_socket_ends_the_server(tmp_path: Path, junk: bytes) -> None:
    server = Server(tmp_path)
    server.socket.sendall(junk)
    assert os.waitstatus_to_exitcode(os.waitpid(server.pid, 0)[1]) == 1
    server.socket.close()


def test_half_a_description_waits_for_the_other_half(server: Server) -> None:
    spec = server.spec("#!/bin/sh\nexit 4\n", env=b"A=" + b"x" * 900_000 + b"\0")
    spec.env = b"".join(b"A%d=%b\0" % (k, b"x" * 1000) for k in range(1000))
    spec.env_count = 1000
    data = encode_spec(spec)
    for at in range(0, len(data), 300_000):
        server.socket.sendall(data[at : at + 300_000])
    assert ended(server, spec.job_id).status == 4 << 8


def test_many_steps_at_once(server: Server) -> None:
    specs = [server.spec(f"#!/bin/sh\nexit {k % 50}\n") for k in range(300)]
    server.socket.sendall(b"".join(map(encode_spec, specs)))
    ends = [ended(server, spec.job_id) for spec in specs]
    assert [end.status >> 8 for end in ends] == [k % 50 for k in range(300)]


def test_steps_outlive_the_server(server: Server) -> None:
    job = server.run("#!/bin/sh\nsleep 0.5; exit 6\n")
    server.wait(Kind.STARTED, job)
    assert server.close() == 0
    assert ended(server, job).status == 6 << 8


def test_killed_shepherd_is_told_and_its_processes_die(server: Server) -> None:
    job = server.run("#!/bin/sh\nsetsid env -i sleep 300 &\necho $!\nwait\n")
    started = server.wait(Kind.STARTED, job)
    out = server.folder / f"out{job}"
    child = int(wait_until(lambda: out.read_text().strip()))
    bystander = server.run("#!/bin/sh\nsleep 0.7; exit 2\n")
    server.wait(Kind.STARTED, bystander)
    os.kill(started.shepherd_pid, signal.SIGKILL)
    assert server.wait(Kind.LOST, job).status == signal.SIGKILL
    assert not processes.start_ticks(child)
    assert not processes.start_ticks(started.main_pid)
    assert ended(server, bystander).status == 2 << 8


def as_user(*words: str) -> subprocess.CompletedProcess[bytes]:
    groups = ",".join(map(str, os.getgroups()))
    argv = [shepherd_path(), "--as", str(os.geteuid()), str(os.getegid()), groups, *words]
    return subprocess.run(argv, capture_output=True, check=False, timeout=20)


def test_reading_as_a_user(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    data = as_user("--read", str(path), "-3", "2").stdout
    assert struct.unpack_from("<iiqq", data)[2:] == (7, 10)
    assert data[24:] == b"78"
    os.mkfifo(tmp_path / "fifo")
    assert struct.unpack_from("<iiqq", as_user("--read", str(tmp_path / "fifo"), "0", "9").stdout)[0] != 0


def test_running_as_a_user() -> None:
    done = as_user("--run", "/bin/sh", "-c", "echo $1; exit 5", "sh", "word")
    assert (done.returncode, done.stdout) == (5, b"word\n")
    assert as_user("--run", "/nonexistent/program").returncode == 127


@pytest.mark.parametrize("words", [[], ["--serve"], ["--as", "1"], ["--as", "0", "0", "x", "--read", "a"]])
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    assert subprocess.run([shepherd_path(), *words], capture_output=True, check=False).returncode == 2
