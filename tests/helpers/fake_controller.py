"""A minimal controller for tests of helixd: the real transport and credentials, no scheduling.

Runs in the test's own event loop.  `received` has every message of the nodes; `wait_for` waits for one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from helix.wire import messages as msg
from helix.wire.auth import AllowList, load_or_create_identity, sign_credential
from helix.wire.loop_socket import new_context
from helix.wire.transport import ControllerEndpoint, LinkId

CONFIG = "ClusterName=test\nProctrackType=proctrack/linuxproc\nNodeName=n1 CPUs=2\nPartitionName=p Nodes=n1\n"


class FakeController:
    """`auto_ack`: acknowledge every end at once."""

    def __init__(self, folder: Path, *, auto_ack: bool = True, config: str = CONFIG, epoch: int = 1) -> None:
        self.folder = folder
        self.auto_ack = auto_ack
        self.config = config
        self.epoch = epoch
        self.token = "hxj1-" + "ab" * 32
        self.received: list[Any] = []
        self.links: list[LinkId] = []
        self.blobs: dict[str, bytes] = {}
        self.nonce = 0
        self.job_id = 100
        self.heartbeat_s = 5.0
        self.port = 0
        self.ended: dict[tuple[int, int], msg.StepEnded] = {}
        self.started: dict[tuple[int, int], msg.StepStarted] = {}
        self._identity = load_or_create_identity(str(folder / "controller-keys"), signing=True)
        self._allow = AllowList()
        self._news = asyncio.Event()
        self._endpoint: ControllerEndpoint | None = None
        self._context: Any = None

    @property
    def key(self) -> str:
        return self._identity.curve.public

    def listen(self) -> None:
        self._context = new_context()
        self._endpoint = ControllerEndpoint(
            self._context,
            f"tcp://127.0.0.1:{self.port}",
            self._identity.curve,
            self._allow,
            self._on_batch,
            self._on_unadmitted,
            self._on_down,
            join_open=lambda: True,
        )
        self.port = self._endpoint.port

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
            self._context.destroy(linger=100)
        self.links.clear()

    def _on_unadmitted(self, link: LinkId, register: msg.Register) -> None:
        assert self._endpoint is not None
        if register.join_token != self.token:
            self._endpoint.refuse(link, msg.Refused(code="JOIN", msg="bad token", retry_after_s=0.1))
            return
        self._allow.admit(register.name, link.key)
        self._endpoint.admit(link, register.name)
        self._on_batch(link, [register])

    def _on_down(self, link: LinkId, name: str, reason: str) -> None:
        if link in self.links:
            self.links.remove(link)
        self._news.set()

    def _on_batch(self, link: LinkId, batch: list[Any]) -> None:
        acks: list[tuple[int, int]] = []
        for message in batch:
            self.received.append(message)
            if isinstance(message, msg.Register):
                self.links.append(link)
                self.send(
                    msg.Registered(
                        epoch=self.epoch,
                        cluster="test",
                        config=self.config,
                        config_hash="h",
                        verify_key=self._identity.verify_key,
                        heartbeat_s=self.heartbeat_s,
                        t_now=time.time(),
                    )
                )
            elif isinstance(message, msg.StepEnded):
                self.ended[message.job_id, message.attempt] = message
                acks.append((message.job_id, message.attempt))
            elif isinstance(message, msg.StepStarted):
                self.started[message.job_id, message.attempt] = message
            elif isinstance(message, msg.BlobWanted):
                self.send(*[msg.BlobData(h, self.blobs[h]) for h in message.hashes if h in self.blobs])
        if acks and self.auto_ack:
            self.send(msg.AckEnded(acks))
        self._news.set()

    def send(self, *messages: Any) -> None:
        assert self._endpoint is not None
        if messages and self.links:
            self._endpoint.send(self.links[-1], list(messages))

    def blob(self, data: bytes) -> str:
        name = blake3(data).hexdigest()
        self.blobs[name] = data
        return name

    def job(self, script: str, **fields: Any) -> msg.Launch:
        """A launch with the next job id, its output below the test's folder."""
        self.job_id += 1
        env = fields.pop("env", f"PATH={os.environ['PATH']}")
        defaults: dict[str, Any] = {
            "job_id": self.job_id,
            "attempt": 1,
            "node": "n1",
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "groups": sorted(os.getgroups()),
            "user": "tester",
            "name": "test",
            "script_hash": self.blob(script.encode()),
            "env_hash": self.blob(env.encode()),
            "work_dir": str(self.folder),
            "stdout": "out.%j",
            "cpus_per_node": [2],
            "cores": [0, 1],
            "kill_wait_s": 1,
            "t_start": time.time(),
        }
        return msg.Launch(**{**defaults, **fields})

    def credential(self, *launches: msg.Launch, **fields: Any) -> msg.SignedBatch:
        self.nonce += 1
        now = time.time()
        defaults: dict[str, Any] = {
            "audience": "n1",
            "cluster": "test",
            "epoch": self.epoch,
            "nonce": self.nonce,
            "t_issued": now,
            "t_expires": now + 60,
            "launches": list(launches),
        }
        credential = msg.Credential(**{**defaults, **fields})
        assert self._identity.signing is not None
        return sign_credential(credential, self._identity.signing)

    def launch(self, *launches: msg.Launch) -> None:
        self.send(self.credential(*launches))

    async def wait_until(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        """Wait until `condition()` is true; looks again at every message and every 20 ms."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            left = deadline - time.monotonic()
            assert left > 0, f"waited {timeout_s} s in vain; received {self.received[-5:]}"
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), min(left, 0.02))
            except TimeoutError:
                continue
        return found

    async def registered(self, timeout_s: float = 20.0) -> msg.Register:
        """Wait for a registration that is still up."""
        await self.wait_until(lambda: self.links, timeout_s)
        return next(m for m in reversed(self.received) if isinstance(m, msg.Register))

    async def end_of(self, launch: msg.Launch, timeout_s: float = 20.0) -> msg.StepEnded:
        found = await self.wait_until(lambda: self.ended.get((launch.job_id, launch.attempt)), timeout_s)
        assert isinstance(found, msg.StepEnded)
        return found

    async def start_of(self, launch: msg.Launch, timeout_s: float = 20.0) -> msg.StepStarted:
        found = await self.wait_until(lambda: self.started.get((launch.job_id, launch.attempt)), timeout_s)
        assert isinstance(found, msg.StepStarted)
        return found


class Daemon:
    """A real helixd process."""

    def __init__(self, controller: FakeController, *, name: str = "n1", emulate: int = 0) -> None:
        self.controller = controller
        self.name = name
        self.spool = controller.folder / "spool"
        self.socket = controller.folder / "n1.sock"
        self.log = controller.folder / "helixd.log"
        self._emulate = emulate
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        token = self.controller.folder / "token"
        token.write_text(self.controller.token)
        token.chmod(0o600)
        argv = [sys.executable, "-m", "helixd.main", "--name", self.name]
        argv += ["--controller", f"tcp://127.0.0.1:{self.controller.port}", "--controller-key", self.controller.key]
        argv += ["--join-token-file", str(token), "--spool", str(self.spool), "--socket", str(self.socket)]
        argv += ["--log-file", str(self.log), "--log-level", "debug"]
        if self._emulate:
            argv += ["--emulate", str(self._emulate)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Signal it and wait for its end."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found
