"""helixd --emulate: many nodes in one process."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from helpers.fake_controller import Daemon, FakeController

from helix.wire import messages as msg

NAMES = "e[0-9999]"


def test_ten_thousand_nodes_run_jobs_of_declared_length(tmp_path: Path) -> None:
    async def test() -> None:
        controller = FakeController(tmp_path)
        controller.heartbeat_s = 0.3
        controller.listen()
        daemon = Daemon(controller, name=NAMES, emulate=10_000)
        daemon.start()
        try:
            register = await controller.registered()
            assert (register.name, register.emulated, len(register.nodes)) == (NAMES, True, 1)
            script = "#!/bin/sh\n#HELIX_EMULATE_RUNTIME=0.5\n"
            jobs = [controller.job(script, node=f"e{k}", attempt=0) for k in range(2000)]
            begun = time.monotonic()
            controller.send(controller.credential(*jobs, audience=NAMES))
            await controller.wait_until(lambda: len(controller.started) == 2000)
            await controller.wait_until(lambda: len(controller.ended) == 2000)
            assert 0.4 < time.monotonic() - begun < 10
            assert all(0.49 < end.t_end - end.t_start < 0.51 for end in controller.ended.values())
            long = controller.job("#!/bin/sh\n", node="e5", runtime_emulated_s=500.0)
            limited = controller.job("#!/bin/sh\n", node="e6", runtime_emulated_s=500.0, time_limit_s=1)
            controller.send(controller.credential(long, limited, audience=NAMES))
            await controller.start_of(long)
            controller.send(msg.TerminateStep(job_id=long.job_id, attempt=1, node="e5"))
            assert (await controller.end_of(long)).exit.signal == signal.SIGTERM
            assert (await controller.end_of(limited)).timed_out
            await controller.wait_until(lambda: sum(isinstance(m, msg.Heartbeat) for m in controller.received) >= 3)
        finally:
            assert daemon.kill(signal.SIGTERM) == 0
            controller.close()

    asyncio.run(asyncio.wait_for(test(), 60))
