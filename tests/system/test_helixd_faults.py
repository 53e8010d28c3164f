"""What a node survives: the death of helixd, of a shepherd, of the forking shepherd, of the controller; a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from helpers.fake_controller import Daemon, FakeController, descendants

from helix.model.job_state import LaunchFailure
from helix.wire import messages as msg
from helixd.core import steplog


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 110))  # type: ignore[arg-type]


@asynccontextmanager
async def node(folder: Path, **options: object) -> AsyncIterator[tuple[FakeController, Daemon]]:
    """A controller and a registered helixd; steps still running at the end are killed."""
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
        for pid in shepherds(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def shepherds(daemon: Daemon) -> list[int]:
    """Processes of helix-shepherd with this spool, the forking one included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.joinpath("cmdline").read_bytes().endswith(f"--serve\0{daemon.spool}\0".encode()):
                    found.append(int(entry.name))
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def child_of(controller: FakeController, folder: Path) -> int:
    """The process number a script wrote to `child`."""
    path = folder / "child"
    return int(await controller.wait_until(lambda: path.exists() and path.read_text()))


GATE = "#!/bin/sh\necho $SLURM_JOB_ID >>ran\nwhile [ ! -e gate ]; do sleep 0.05; done\nexit 9\n"


def test_jobs_outlive_helixd_and_their_exit_codes_arrive(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            before = controller.job(GATE)  # ends while helixd is away
            after = controller.job("#!/bin/sh\nwhile [ ! -e gate2 ]; do sleep 0.05; done\nexit 8\n")
            controller.launch(before, after)
            await controller.start_of(before)
            await controller.start_of(after)
            daemon.kill(signal.SIGKILL)
            await controller.wait_until(lambda: not controller.links)
            (tmp_path / "gate").touch()
            await controller.wait_until(lambda: len(shepherds(daemon)) == 1)
            daemon.start()
            register = await controller.registered()
            assert {(s.job_id, s.running) for s in register.steps} == {(before.job_id, False), (after.job_id, True)}
            end = await controller.end_of(before)
            assert end.exit.code == 9
            assert end.stdout.endswith(f"out.{before.job_id}")
            (tmp_path / "gate2").touch()
            assert (await controller.end_of(after)).exit.code == 8

    run(test)


def test_orders_reach_steps_adopted_after_a_restart(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            job = controller.job(GATE)
            controller.launch(job)
            await controller.start_of(job)
            daemon.kill(signal.SIGKILL)
            await controller.wait_until(lambda: not controller.links)
            daemon.start()
            await controller.registered()
            controller.launch(job)  # repeated: it must not run again
            controller.send(msg.TerminateStep(job_id=job.job_id, attempt=1, node="n1", kill_wait_s=5))
            assert (await controller.end_of(job)).exit.signal == signal.SIGTERM
            assert (tmp_path / "ran").read_text() == f"{job.job_id}\n"

    run(test)


@pytest.mark.parametrize("restarted", [False, True])
def test_killed_shepherd_leaves_nothing_and_is_told(tmp_path: Path, restarted: bool) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            job = controller.job("#!/bin/sh\nsetsid sleep 300 &\necho $! >child\nsleep 300\n")
            controller.launch(job)
            start = await controller.start_of(job)
            child = await child_of(controller, tmp_path)
            if restarted:
                daemon.kill(signal.SIGKILL)
                await controller.wait_until(lambda: not controller.links)
                daemon.start()
                await controller.registered()
            os.kill(parent_of(start.pid), signal.SIGKILL)
            end = await controller.end_of(job)
            assert end.failure is LaunchFailure.SHEPHERD_LOST
            assert "shepherd" in end.failure_text
            assert not is_alive(start.pid)
            assert not is_alive(child)

    run(test)


def test_killed_shepherd_and_helixd_together(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            job = controller.job("#!/bin/sh\nsetsid sleep 300 &\necho $! >child\nsleep 300\n")
            controller.launch(job)
            await controller.start_of(job)
            child = await child_of(controller, tmp_path)
            for pid in shepherds(daemon):
                os.kill(pid, signal.SIGKILL)
            daemon.kill(signal.SIGKILL)
            await controller.wait_until(lambda: not controller.links)
            daemon.start()
            end = await controller.end_of(job)
            assert end.failure is LaunchFailure.SHEPHERD_LOST
            assert not is_alive(child)

    run(test)


def test_forking_shepherd_is_replaced_and_steps_go_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            job = controller.job(GATE)
            controller.launch(job)
            await controller.start_of(job)
            forker = next(pid for pid in shepherds(daemon) if parent_of(pid) == daemon.pid)
            os.kill(forker, signal.SIGKILL)
            other = controller.job("#!/bin/sh\nexit 3\n")
            controller.launch(other)
            assert (await controller.end_of(other)).exit.code == 3
            (tmp_path / "gate").touch()
            assert (await controller.end_of(job)).exit.code == 9
            await controller.wait_until(lambda: len(descendants(daemon.pid)) == 1)

    run(test)


def test_helixd_killed_at_random_moments_runs_each_job_once(tmp_path: Path) -> None:
    async def test() -> None:
        rng = random.Random(7)
        async with node(tmp_path) as (controller, daemon):
            jobs = [
                controller.job(f"#!/bin/sh\necho $SLURM_JOB_ID >>ran\nsleep 0.{rng.randrange(6)}\nexit {k}\n")
                for k in range(60)
            ]
            for k, job in enumerate(jobs):
                controller.launch(job)
                if k % 12 == 7:
                    # On a slow machine too the kill falls among starts: the oldest job of the round runs by then.
                    oldest = (jobs[k - 7].job_id, 1)
                    await controller.wait_until(lambda key=oldest: key in controller.started or key in controller.ended)
                    await asyncio.sleep(rng.random() * 0.05)
                    daemon.kill(signal.SIGKILL)
                    await controller.wait_until(lambda: not controller.links)
                    daemon.start()
                    await controller.registered()
                    known = next(m for m in reversed(controller.received) if isinstance(m, msg.Register))
                    told = {(s.job_id, s.attempt) for s in known.steps} | set(controller.ended)
                    controller.launch(*[j for j in jobs[: k + 1] if (j.job_id, 1) not in told])
            ends = [await controller.end_of(job, 60) for job in jobs]
            # A launch that helixd was killed with, before a shepherd had it, is told as such: nothing of it ran.
            never = {e.job_id for e in ends if e.failure is LaunchFailure.NOT_STARTED}
            assert len(never) < len(jobs)
            for k, end in enumerate(ends):
                if end.job_id not in never:
                    assert (end.exit.code, end.failure_text) == (k, "")
            ran = (tmp_path / "ran").read_text().split()
            assert sorted(ran) == sorted(str(job.job_id) for job in jobs if job.job_id not in never)

    run(test)


def test_ends_are_repeated_until_acknowledged(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path, auto_ack=False) as (controller, daemon):
            job = controller.job("#!/bin/sh\nexit 4\n")
            controller.launch(job)
            await controller.end_of(job)
            for _ in range(2):  # a new controller process, then a new helixd
                controller.ended.clear()
                controller.close()
                controller.listen()
                assert (await controller.end_of(job)).exit.code == 4
            controller.ended.clear()
            daemon.kill(signal.SIGKILL)
            daemon.start()
            assert (await controller.end_of(job)).exit.code == 4
            controller.send(msg.AckEnded([(job.job_id, job.attempt)]))
            marker = controller.job("#!/bin/sh\n")
            controller.launch(marker)
            await controller.end_of(marker)
            daemon.kill(signal.SIGTERM)
            await controller.wait_until(lambda: not controller.links)
            daemon.start()
            register = await controller.registered()
            assert [s.job_id for s in register.steps] == [marker.job_id]

    run(test)


def test_replay_after_acknowledgement_and_restart_does_not_run(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            job = controller.job("#!/bin/sh\necho x >>ran\n")
            controller.launch(job)
            await controller.end_of(job)
            marker = controller.job("#!/bin/sh\n")
            controller.launch(marker)
            await controller.end_of(marker)
            daemon.kill(signal.SIGKILL)
            await controller.wait_until(lambda: not controller.links)
            daemon.start()
            await controller.registered()
            controller.launch(job)
            marker = controller.job("#!/bin/sh\n")
            controller.launch(marker)
            await controller.end_of(marker)
            assert (tmp_path / "ran").read_text() == "x\n"

    run(test)


def test_reboot_is_told_and_old_credentials_are_void(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            old = controller.credential(controller.job("#!/bin/sh\ntouch ran-old\n"))
            daemon.kill(signal.SIGTERM)
            await controller.wait_until(lambda: not controller.links)
            log = daemon.spool / "steps.1.log"
            info = steplog.Attempt("n1", time.time(), time.time() + 60, stdout="/x/out")
            with log.open("ab") as file:
                file.write(steplog.encode(steplog.Kind.ATTEMPT, 55, 2, info))
                started = steplog.Started(1, 2, 3, 1000.0)
                file.write(steplog.encode_started(steplog.Kind.STARTED, 55, 2, started))
                file.write(steplog.encode(steplog.Kind.HOST, 0, 0, steplog.Host("another boot", 1, "s")))
            daemon.start()
            await controller.registered()
            end = await controller.wait_until(lambda: controller.ended.get((55, 2)))
            assert (end.failure, end.t_start, end.stdout) == (LaunchFailure.REBOOT, 1000.0, "/x/out")
            controller.send(old)
            fresh = controller.job("#!/bin/sh\n")
            controller.launch(fresh)
            await controller.end_of(fresh)
            assert not (tmp_path / "ran-old").exists()

    run(test)


def test_damaged_log_is_read_around(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path, auto_ack=False) as (controller, daemon):
            jobs = [controller.job(f"#!/bin/sh\nexit {k}\n") for k in range(1, 5)]
            for job in jobs:
                controller.launch(job)
                await controller.end_of(job)
            daemon.kill(signal.SIGKILL)
            await controller.wait_until(lambda: not controller.links)
            log = daemon.spool / "steps.1.log"
            data = bytearray(log.read_bytes())
            data[len(data) // 2] ^= 0x40
            log.write_bytes(bytes(data[:-5]))
            controller.ended.clear()
            daemon.start()
            await controller.registered()
            await controller.end_of(jobs[0])
            fresh = controller.job("#!/bin/sh\nexit 77\n")
            controller.launch(fresh)
            assert (await controller.end_of(fresh)).exit.code == 77
            assert "damaged" in daemon.log.read_text()

    run(test)


def test_older_controller_is_not_obeyed(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path, epoch=5) as (controller, daemon):
            first = controller.job("#!/bin/sh\n")
            controller.launch(first)
            await controller.end_of(first)
            controller.close()
            controller.epoch = 4
            controller.listen()
            await controller.wait_until(lambda: "a controller of epoch 4" in daemon.log.read_text())
            job = controller.job("#!/bin/sh\ntouch ran\n")
            controller.launch(job)
            await asyncio.sleep(0.3)
            assert not (tmp_path / "ran").exists()

    run(test)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_full_spool_refuses_launches_and_recovers(tmp_path: Path) -> None:
    async def test() -> None:
        spool = tmp_path / "spool"
        spool.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(spool)], check=False)
        if mounted.returncode:
            pytest.skip("cannot mount a tmpfs here")
        try:
            async with node(tmp_path) as (controller, _):
                running = controller.job(GATE)
                controller.launch(running)
                await controller.start_of(running)
                filler = spool / "filler"
                with filler.open("wb") as file, contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(65536))
                        file.flush()
                refused = controller.job("#!/bin/sh\nexit 1\n# another script\n")
                controller.launch(refused)
                end = await controller.end_of(refused)
                assert end.failure is LaunchFailure.SPOOL
                assert "No space left" in end.failure_text
                (tmp_path / "gate").touch()  # its end has room that was reserved
                assert (await controller.end_of(running)).exit.code == 9
                filler.unlink()
                again = controller.job("#!/bin/sh\nexit 6\n# yet another\n")
                controller.launch(again)
                assert (await controller.end_of(again)).exit.code == 6
        finally:
            subprocess.run(["umount", "-l", str(spool)], check=False)

    run(test)


def test_second_helixd_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            other = Daemon(controller)
            other.start()
            assert other.process is not None
            assert await asyncio.to_thread(other.process.wait, 20) == 1
            assert len(controller.links) == 1
            assert daemon.process is not None
            assert daemon.process.poll() is None

    run(test)
