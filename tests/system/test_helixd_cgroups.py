"""Control groups on a real kernel: tracking, kill, freeze, memory limits.  Skipped where groups cannot be made."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from helpers.fake_controller import Daemon, FakeController

from helix.wire import messages as msg

CONFIG = (
    "ClusterName=test\nProctrackType=proctrack/cgroup\nTaskPlugin={}\nNodeName=n1 CPUs=2\nPartitionName=p Nodes=n1\n"
)
ROOTS = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
UNIFIED = next((path for path in ROOTS if (path / "cgroup.controllers").exists()), None)


def can_make_groups() -> bool:
    if os.geteuid() != 0 or UNIFIED is None:
        return False
    probe = UNIFIED / f"helix-probe-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not can_make_groups(), reason="control groups cannot be made here")


def groups_of(name: str) -> list[Path]:
    return [path for path in Path("/sys/fs/cgroup").glob(f"**/helix/n1.*/job_{name}_1") if path.is_dir()]


def test_step_is_tracked_frozen_and_killed_by_its_group(tmp_path: Path) -> None:
    async def test() -> None:
        controller = FakeController(tmp_path, config=CONFIG.format("task/none"))
        controller.listen()
        controller.job_id = 910_000 + os.getpid() % 1000 * 10
        daemon = Daemon(controller)
        daemon.start()
        try:
            await controller.registered()
            job = controller.job("#!/bin/sh\nsetsid sleep 300 &\nsleep 300\n")
            controller.launch(job)
            start = await controller.start_of(job)
            (group,) = groups_of(str(job.job_id))
            pids = [int(word) for word in (group / "cgroup.procs").read_text().split()]
            assert start.pid in pids
            controller.send(msg.SuspendStep(job_id=job.job_id, attempt=1, node="n1"))
            await controller.wait_until(lambda: "frozen 1" in (group / "cgroup.events").read_text())
            controller.send(msg.SuspendStep(job_id=job.job_id, attempt=1, node="n1", resume=True))
            await controller.wait_until(lambda: "frozen 0" in (group / "cgroup.events").read_text())
            controller.send(msg.SuspendStep(job_id=job.job_id, attempt=1, node="n1"))
            controller.send(msg.TerminateStep(job_id=job.job_id, attempt=1, node="n1", kill_wait_s=0))
            assert (await controller.end_of(job)).exit.signal == signal.SIGKILL
            assert not groups_of(str(job.job_id))
        finally:
            daemon.kill(signal.SIGTERM)
            controller.close()
        assert not list(Path("/sys/fs/cgroup").glob(f"**/helix/n1.*/job_{controller.job_id}_1"))

    asyncio.run(asyncio.wait_for(test(), 60))


def test_memory_limit_ends_in_oom(tmp_path: Path) -> None:
    async def test() -> None:
        controller = FakeController(tmp_path, config=CONFIG.format("task/cgroup"))
        controller.listen()
        controller.job_id = 920_000 + os.getpid() % 1000 * 10
        daemon = Daemon(controller)
        daemon.start()
        try:
            await controller.registered()
            if "memory of jobs is not limited" in daemon.log.read_text():
                pytest.skip("no memory controller here")
            hog = controller.job("#!/bin/sh\nhead -c 200m /dev/zero | tail -c 200m >/dev/null\n", mem_mib=32)
            small = controller.job("#!/bin/sh\nexit 5\n", mem_mib=64)
            controller.launch(hog, small)
            assert (await controller.end_of(hog)).oom
            end = await controller.end_of(small)
            assert (end.oom, end.exit.code, end.failure_text) == (False, 5, "")
        finally:
            daemon.kill(signal.SIGTERM)
            controller.close()

    asyncio.run(asyncio.wait_for(test(), 60))
