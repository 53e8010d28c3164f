"""A controller that answers what a test tells it to, on a real agent socket in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from helix.errors import HelixError
from helix.wire.agent import AgentLimits, AgentServer, Conn
from helix.wire.codec import Request, decode_request, encode_error, encode_reply

Handler = Callable[["Fake", Conn, Request], None]


class Fake:
    """`handler(fake, conn, request)` answers with `reply`, `error` or `cut`; every request is kept in `requests`."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.handler: Handler = lambda fake, conn, request: fake.reply(conn, request, {})
        self.limits = AgentLimits()
        self.accepted = 0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def reply(self, conn: Conn, request: Request, *results: Any) -> None:
        for k, result in enumerate(results):
            conn.send(encode_reply(request.i, result, more=k < len(results) - 1))

    def error(self, conn: Conn, request: Request, error: HelixError) -> None:
        conn.send(encode_error(request.i, error))

    def cut(self, conn: Conn) -> None:
        """As a crash does: nothing is sent any more."""
        assert conn._transport is not None
        conn._transport.abort()

    def from_outside(self, action: Callable[[], object]) -> None:
        """Do it on the controller's thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(action)

    def args(self, method: str) -> list[dict[str, Any]]:
        return [args for name, args in self.requests if name == method]

    def start(self) -> None:
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), daemon=True)
        self._thread.start()
        ready.result(10)

    def stop(self) -> None:
        if self._thread is not None and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._thread = None

    async def _run(self, ready: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = AgentServer(self.path, self._frame, limits=self.limits)
        try:
            await server.start()
        except HelixError as error:
            ready.set_exception(error)
            return
        ready.set_result(None)
        await self._stop.wait()
        self.accepted += server.counters["accepted"]
        await server.stop()

    def _frame(self, conn: Conn, frame: bytes) -> None:
        request = decode_request(frame)
        self.requests.append((request.m, json.loads(bytes(request.a))))
        self.handler(self, conn, request)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    controller = Fake(tmp_path / "agent.sock")
    controller.start()
    yield controller
    controller.stop()
