"""What users meet of a helixd: its agent socket, and --get-user-env."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from helpers.fake_controller import Daemon, FakeController

from helix.wire import messages as msg


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[tuple[FakeController, Daemon]]:
    controller = FakeController(folder)
    controller.listen()
    daemon = Daemon(controller)
    daemon.start()
    try:
        await controller.registered()
        await controller.wait_until(lambda: "registered name=" in daemon.log.read_text())  # it has the answer
        yield controller, daemon
    finally:
        daemon.kill(signal.SIGTERM)
        controller.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
    body = json.dumps({"v": 1, "i": number, "m": "ping", "a": {}}).encode()
    writer.write(struct.pack("<I", len(body)) + body)
    await writer.drain()


async def answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    async with asyncio.timeout(20):
        (size,) = struct.unpack("<I", await reader.readexactly(4))
        found: dict[str, Any] = json.loads(await reader.readexactly(size))
        return found


def test_requests_are_relayed_with_the_kernels_word_on_who_asks(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
            await ask(reader, writer, 7)
            relay = await controller.wait_until(
                lambda: next((m for m in controller.received if isinstance(m, msg.Relay)), None)
            )
            assert (relay.uid, relay.gid, json.loads(relay.frame)["m"]) == (os.geteuid(), os.getegid(), "ping")
            stranger = msg.RelayReply(conn=relay.conn + 1, frames=[b'{"i":7,"ok":true,"r":"not yours","more":false}'])
            reply = msg.RelayReply(conn=relay.conn, frames=[b'{"i":7,"ok":true,"r":{},"more":false}'])
            controller.send(stranger, reply)
            assert (await answer(reader))["r"] == {}
            writer.close()
            await controller.wait_until(
                lambda: any(isinstance(m, msg.Relay) and m.closed and m.conn == relay.conn for m in controller.received)
            )

    asyncio.run(asyncio.wait_for(test(), 60))


def test_without_a_controller_users_are_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, daemon):
            reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
            await ask(reader, writer, 1)
            await controller.wait_until(lambda: any(isinstance(m, msg.Relay) for m in controller.received))
            controller.close()
            assert (await answer(reader))["e"]["code"] == "CONTROLLER_UNREACHABLE"  # asked before the loss
            writer.close()
            reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
            await ask(reader, writer, 2)
            late = await answer(reader)
            assert (late["i"], late["ok"], late["e"]["code"]) == (2, False, "CONTROLLER_UNREACHABLE")
            assert str(controller.port) in late["e"]["msg"]
            writer.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_login_environment(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as (controller, _):
            job = controller.job('#!/bin/sh\necho "$HOME" "$MINE" "$USER"\n', get_user_env=True, env="MINE=1")
            controller.launch(job)
            end = await controller.end_of(job, 40)
            assert end.failure_text == ""
            home, mine, user = Path(end.stdout).read_text().split()
            assert (mine, Path(home).is_absolute(), bool(user)) == ("1", True, True)

    asyncio.run(asyncio.wait_for(test(), 60))
