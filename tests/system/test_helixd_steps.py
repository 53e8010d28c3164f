"""A real helixd with real shepherds and scripts, driven by a minimal controller."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from helpers.fake_controller import Daemon, FakeController, descendants

from helix.model.job import SignalSpec
from helix.model.job_state import LaunchFailure
from helix.wire import messages as msg


@asynccontextmanager
async def node(folder: Path, **options: object) -> AsyncIterator[tuple[FakeController, Daemon]]:
    """A controller and a registered helixd."""
    controller = FakeController(folder, **options)  # type: ignore[arg-type]
    controller.listen()
    daemon = Daemon(controller)
    daemon.start()
    try:
        await controller.registered()
        yield controller, daemon
    finally:
        daemon.kill(signal.SIGTERM)
        controller.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 100))  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    """True for a process that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def order(kind: type, launch: msg.Launch, **fields: object) -> object:
    return kind(job_id=launch.job_id, attempt=launch.attempt, node="n1", **fields)


def test_script_runs_and_its_exit_code_arrives(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            job = controller.job("#!/bin/sh\necho hello from $SLURM_JOB_ID $1\necho oops >&2\nexit 7\n", args=["x y"])
            controller.launch(job)
            end = await controller.end_of(job)
            assert (end.exit.code, end.exit.signal, end.failure) == (7, 0, LaunchFailure.NONE)
            assert end.stdout == str(tmp_path / f"out.{job.job_id}")
            assert Path(end.stdout).read_text() == f"hello from {job.job_id} x y\noops\n"
            assert 0 < end.t_start <= end.t_end <= time.time()
            assert end.max_rss_mib > 0

    run(test)


def test_task_pid_and_session_are_the_scripts_own(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            job = controller.job(
                "#!/bin/sh\necho $$ $SLURM_TASK_PID $HELIX_TASK_PID\nset -- $(cat /proc/$$/stat)\necho $5 $6\n"
                "ls -l /proc/$$/fd | wc -l\ntrap '' PIPE; grep -E 'SigBlk|SigIgn' /proc/self/status\nulimit -n\n",
                rlimits={"NOFILE": (200, 400)},
            )
            controller.launch(job)
            lines = Path((await controller.end_of(job)).stdout).read_text().splitlines()
            pid = lines[0].split()[0]
            assert lines[0].split() == [pid] * 3
            assert lines[1].split() == [pid, pid]
            assert int(lines[2]) <= 5  # total, 0, 1, 2, and the script itself
            assert lines[3].split()[1] == "0" * 16
            assert lines[4].split()[1] == f"{1 << 12:016x}"  # only what the script itself ignores
            assert lines[5] == "200"

    run(test)


@pytest.mark.parametrize(
    ("fields", "script", "failure", "words"),
    [
        ({"work_dir": "/nonexistent/dir"}, "#!/bin/sh\n", LaunchFailure.WORK_DIR, "/nonexistent/dir: No such file"),
        ({"stdout": "/nonexistent/out"}, "#!/bin/sh\n", LaunchFailure.STDIO, "output file /nonexistent/out: No such"),
        ({"stdout": "/proc"}, "#!/bin/sh\n", LaunchFailure.STDIO, "output file /proc: Is a directory"),
        ({"stdin": "none"}, "#!/bin/sh\n", LaunchFailure.STDIO, "input file"),
        ({}, "#!/bin/bsh\n", LaunchFailure.EXEC, "interpreter '/bin/bsh' does not exist"),
        ({}, "#!/bin/sh\r\n", LaunchFailure.EXEC, "DOS line ends"),
        ({}, "echo\n", LaunchFailure.EXEC, "no interpreter"),
        ({"stdout": "x" * 5000}, "#!/bin/sh\n", LaunchFailure.STDIO, "longer than"),
        ({"node": "n2"}, "#!/bin/sh\n", LaunchFailure.CREDENTIAL, "node 'n2'"),
    ],
)
def test_failure_before_the_first_instruction_is_named(
    tmp_path: Path, fields: dict[str, object], script: str, failure: LaunchFailure, words: str
) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            job = controller.job(script, **fields)
            controller.launch(job)
            end = await controller.end_of(job)
            assert end.failure is failure
            assert words in end.failure_text
            assert end.t_start == 0

    run(test)


def test_time_limit_terms_then_kills(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            polite = controller.job("#!/bin/sh\nsleep 60 & wait\n", time_limit_s=1)
            stubborn = controller.job("#!/bin/sh\ntrap '' TERM\nsleep 60; sleep 60\n", time_limit_s=1)
            warned = controller.job(
                "#!/bin/sh\ntrap 'echo warned; exit 3' USR1\nsleep 30 & wait\n",
                time_limit_s=4,
                signal=SignalSpec(signal=signal.SIGUSR1, before_s=3, batch_only=True),
            )
            controller.launch(polite, stubborn, warned)
            end = await controller.end_of(polite)
            assert end.timed_out
            assert end.exit.signal == signal.SIGTERM
            end = await controller.end_of(stubborn)
            assert end.timed_out
            assert end.exit.signal == signal.SIGKILL
            assert 1.9 < end.t_end - end.t_start < 6
            end = await controller.end_of(warned)
            assert not end.timed_out
            assert end.exit.code == 3
            assert Path(end.stdout).read_text() == "warned\n"

    run(test)


def test_child_of_a_terminated_script_keeps_its_grace(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            child = tmp_path / "child.sh"
            child.write_text("trap 'sleep 0.5; echo saved; exit' TERM\necho ready\nsleep 60 & wait\n")
            job = controller.job(f"#!/bin/sh\n/bin/sh {child}\nexit 1\n", kill_wait_s=10)
            controller.launch(job)
            start = await controller.start_of(job)
            await controller.wait_until(lambda: Path(start.stdout).read_text() == "ready\n")
            controller.send(order(msg.TerminateStep, job, kill_wait_s=10))
            end = await controller.end_of(job)
            assert Path(end.stdout).read_text() == "ready\nsaved\n"
            assert end.t_end - end.t_start < 9

    run(test)


def test_nothing_is_left_of_a_job_that_daemonises(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            job = controller.job(
                "#!/bin/bash\nsetsid sh -c 'trap \"\" TERM; setsid sleep 300 & echo $! >>pids; sleep 300' &\n"
                "(setsid sleep 300 & echo $! >>pids)\nexec -c 3<&- true\n"
            )
            controller.launch(job)
            await controller.end_of(job)
            pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
            assert pids
            assert not [pid for pid in pids if is_alive(pid)]
            await controller.wait_until(lambda: len(descendants(daemon.pid)) == 1)

    run(test)


def test_signals_suspend_and_limits_reach_the_step(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            job = controller.job(
                "#!/bin/sh\ntrap 'echo usr1' USR1\ni=0\nwhile [ $i -lt 600 ]; do i=$((i+1)); sleep 0.05; done\n",
                time_limit_s=2,
            )
            controller.launch(job)
            start = await controller.start_of(job)
            controller.send(order(msg.SignalStep, job, signal=signal.SIGUSR1, scope="batch"))
            await controller.wait_until(lambda: Path(start.stdout).read_text() == "usr1\n")
            controller.send(order(msg.SuspendStep, job))
            stat = Path(f"/proc/{start.pid}/stat")
            await controller.wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
            await asyncio.sleep(2.5)  # longer than what was left of its limit
            assert is_alive(start.pid)
            controller.send(order(msg.SuspendStep, job, resume=True))
            await controller.wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] != "T")
            controller.send(order(msg.SetTimeLimit, job, time_limit_s=600))
            await asyncio.sleep(2.0)  # longer than the old limit
            assert is_alive(start.pid)
            controller.send(order(msg.TerminateStep, job, kill_wait_s=0))
            end = await controller.end_of(job)
            assert end.exit.signal == signal.SIGKILL
            assert not end.timed_out

    run(test)


def test_orders_for_unknown_steps_are_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            ghost = controller.job("#!/bin/sh\n")
            controller.send(order(msg.SignalStep, ghost, signal=9), order(msg.TerminateStep, ghost))
            assert (await controller.end_of(ghost)).unknown

    run(test)


def test_open_mode_append_and_truncate(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            out = tmp_path / "log"
            for mode, expected in (("", "x\n"), ("append", "x\nx\n"), ("truncate", "x\n")):
                job = controller.job("#!/bin/sh\necho x\n", stdout="log", open_mode=mode)
                controller.launch(job)
                await controller.end_of(job)
                assert out.read_text() == expected

    run(test)


def test_repeated_launch_runs_once_and_older_attempts_not_at_all(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            job = controller.job("#!/bin/sh\necho $SLURM_RESTART_COUNT. >>runs\n", attempt=3, restart_count=3)
            controller.launch(job)
            controller.launch(job)
            await controller.end_of(job)
            controller.launch(job)
            job.attempt = 2
            controller.launch(job)
            last = controller.job("#!/bin/sh\n")
            controller.launch(last)
            await controller.end_of(last)
            assert (tmp_path / "runs").read_text() == "3.\n"

    run(test)


def test_bad_credentials_start_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            now = time.time()
            job = controller.job("#!/bin/sh\ntouch ran\n")
            good = controller.credential(job)
            bad = [
                msg.SignedBatch(good.credential, bytes(64)),
                msg.SignedBatch(good.credential[:-1] + b"x", good.signature),
                controller.credential(job, audience="n2"),
                controller.credential(job, cluster="other"),
                controller.credential(job, t_expires=now - 1),
                controller.credential(job, epoch=0),
            ]
            controller.send(*bad)
            marker = controller.job("#!/bin/sh\n")
            replayed = controller.credential(marker)
            controller.send(replayed, replayed)
            await controller.end_of(marker)
            assert not (tmp_path / "ran").exists()

    run(test)


def test_log_is_read_by_offset(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            (tmp_path / "file").write_bytes(b"0123456789")

            async def read(offset: int, limit: int = 100, path: str = "file") -> msg.LogData:
                controller.received.clear()
                controller.send(
                    msg.LogRead(
                        req=7, job_id=1, attempt=1, node="n1", uid=os.geteuid(), gid=os.getegid(),
                        groups=list(os.getgroups()), path=str(tmp_path / path), offset=offset, limit=limit,
                    )
                )  # fmt: skip
                return await controller.wait_until(
                    lambda: next((m for m in controller.received if isinstance(m, msg.LogData)), None)
                )

            assert ((await read(3, 4)).data, (await read(0)).size) == (b"3456", 10)
            assert (await read(-4)).data == b"6789"
            assert (await read(-99)).data == b"0123456789"
            assert (await read(50)).data == b""
            assert "No such file" in (await read(0, path="gone")).error
            assert "directory" in (await read(0, path=".")).error

    run(test)


def test_blobs_are_asked_for_and_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            job = controller.job("#!/bin/sh\nexit 5\n")
            script = controller.blobs.pop(job.script_hash)
            controller.launch(job)
            await controller.wait_until(lambda: [m for m in controller.received if isinstance(m, msg.BlobWanted)])
            controller.send(msg.BlobData(job.script_hash, b"not it"))
            controller.send(msg.BlobData(job.script_hash, script))
            assert (await controller.end_of(job)).exit.code == 5

    run(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_script_runs_as_its_user_and_writes_as_its_user(tmp_path: Path) -> None:
    async def test() -> None:
        for folder in (tmp_path, *tmp_path.parents):
            if str(folder).startswith("/tmp/pytest"):
                folder.chmod(0o755)
        work = tmp_path / "work"
        work.mkdir()
        os.chown(work, 12345, 23456)
        async with node(tmp_path) as (controller, _):
            job = controller.job(
                "#!/bin/sh\nid -u; id -g; id -G; umask; grep CapEff /proc/self/status\n",
                uid=12345, gid=23456, groups=[23456, 7], work_dir=str(work), umask=0o027,
            )  # fmt: skip
            controller.launch(job)
            end = await controller.end_of(job)
            assert end.failure_text == ""
            lines = Path(end.stdout).read_text().splitlines()
            assert lines[:2] == ["12345", "23456"]
            assert sorted(lines[2].split()) == ["23456", "7"]
            assert lines[3:] == ["0027", "CapEff:\t0000000000000000"]
            info = Path(end.stdout).stat()
            assert (info.st_uid, info.st_gid, info.st_mode & 0o777) == (12345, 23456, 0o640)
            other = controller.job("#!/bin/sh\n", uid=12345, gid=23456, groups=[23456], stdout=str(tmp_path / "no"))
            controller.launch(other)
            end = await controller.end_of(other)
            assert end.failure is LaunchFailure.STDIO
            assert "Permission denied" in end.failure_text
            secret = tmp_path / "secret"
            secret.write_text("x")
            secret.chmod(0o600)
            controller.send(
                msg.LogRead(req=1, job_id=1, attempt=1, node="n1", uid=12345, gid=23456, groups=[], path=str(secret))
            )
            data = await controller.wait_until(
                lambda: next((m for m in controller.received if isinstance(m, msg.LogData)), None)
            )
            assert (data.data, "Permission denied" in data.error) == (b"", True)

    run(test)
