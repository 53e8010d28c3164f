"""The agent socket: who calls, frames in and out, and its limits."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helix.errors import ConfigError, Conflict
from helix.wire.agent import AgentLimits, AgentServer, Conn
from helix.wire.codec import decode_request, encode_reply
from helix.wire.frames import pack_frame


def echo(conn: Conn, frame: bytes) -> None:
    request = decode_request(frame)
    conn.send(encode_reply(request.i, {"uid": conn.uid, "m": request.m}))


@asynccontextmanager
async def serving(
    path: Path, on_frame: Callable[[Conn, bytes], None] = echo, **limits: Any
) -> AsyncIterator[AgentServer]:
    closed: list[Conn] = []
    server = AgentServer(str(path), on_frame, closed.append, AgentLimits(**limits))
    server.closed_conns = closed  # type: ignore[attr-defined]
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def request(i: int, method: str = "ping", **args: Any) -> bytes:
    return pack_frame(json.dumps({"v": 1, "i": i, "m": method, "a": args}).encode())


class Peer:
    """A user's end of a connection, on the same loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, path: Path) -> Peer:
        return cls(*await asyncio.open_unix_connection(str(path)))

    async def read(self) -> dict[str, Any]:
        length = int.from_bytes(await self.reader.readexactly(4), "little")
        answer = json.loads(await self.reader.readexactly(length))
        assert isinstance(answer, dict)
        return answer

    async def is_closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except ConnectionResetError:
            return True


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(bounded())


def test_kernel_says_who_calls(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s") as server:
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1))
            answer = await peer.read()
            assert answer == {"i": 1, "ok": True, "r": {"uid": os.getuid(), "m": "ping"}, "more": False}
            (conn,) = server.connections.values()
            assert (conn.pid, conn.gid) == (os.getpid(), os.getgid())

    run(body)


def test_socket_is_open_to_all_in_a_folder_that_is_not(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / "run" / "s"
        async with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
        assert not path.exists()

    run(body)


def test_pipelined_requests_are_all_answered_even_beyond_the_bound_in_flight(tmp_path: Path) -> None:
    waiting: list[tuple[Conn, int]] = []
    most = 0

    def later(conn: Conn, frame: bytes) -> None:
        nonlocal most
        waiting.append((conn, decode_request(frame).i))
        most = max(most, conn.in_flight)

    async def body() -> None:
        async with serving(tmp_path / "s", later, in_flight_max=4):
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(b"".join(request(i) for i in range(1, 101)))
            got = []
            while len(got) < 100:
                await until(lambda: bool(waiting), "requests are handed on")
                conn, i = waiting.pop()
                conn.send(encode_reply(i, {}))
                got.append((await peer.read())["i"])
            assert sorted(got) == list(range(1, 101))
            assert most == 4

    run(body)


def test_frames_with_more_do_not_free_a_place(tmp_path: Path) -> None:
    conns: list[Conn] = []

    def stream(conn: Conn, frame: bytes) -> None:
        conns.append(conn)
        conn.send(encode_reply(decode_request(frame).i, {}, more=True))

    async def body() -> None:
        async with serving(tmp_path / "s", stream, in_flight_max=2):
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1) + request(2) + request(3))
            assert [(await peer.read())["i"] for _ in range(2)] == [1, 2]
            assert len(conns) == 2
            conns[0].send(encode_reply(1, {}))
            assert [(await peer.read())["i"] for _ in range(2)] == [1, 3]

    run(body)


def test_oversized_frame_is_answered_then_the_connection_closed(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s", frame_max=1000):
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1) + b"\xff\xff\xff\x7f")
            assert (await peer.read())["i"] == 1
            refusal = await peer.read()
            assert (refusal["i"], refusal["e"]["code"]) == (0, "FRAME_TOO_LARGE")
            assert await peer.is_closed()

    run(body)


def test_half_a_frame_times_out(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s", frame_s=0.1) as server:
            peer = await Peer.to(tmp_path / "s")
            quiet = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1)[:-1])
            assert (await peer.read())["e"]["code"] == "FRAME_TIMEOUT"
            assert await peer.is_closed()
            assert len(server.connections) == 1, "who sent nothing is not in the middle of a frame"
            quiet.writer.close()

    run(body)


def test_idle_connection_is_closed_and_a_waiting_one_is_not(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s", lambda conn, frame: None, idle_s=0.1) as server:
            waits, idle = await Peer.to(tmp_path / "s"), await Peer.to(tmp_path / "s")
            waits.writer.write(request(1))
            assert await idle.is_closed()
            (conn,) = server.connections.values()
            assert conn.in_flight == 1

    run(body)


def test_uid_at_its_limit_loses_its_oldest_idle_connection(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s", per_uid_max=3) as server:
            peers = []
            for _ in range(3):
                peer = await Peer.to(tmp_path / "s")
                peer.writer.write(request(1))
                await peer.read()
                peers.append(peer)
            newcomer = await Peer.to(tmp_path / "s")
            newcomer.writer.write(request(9))
            assert (await newcomer.read())["i"] == 9
            assert await peers[0].is_closed()
            peers[2].writer.write(request(2))
            assert (await peers[2].read())["i"] == 2
            assert server.counters["evicted"] == 1

    run(body)


def test_newcomer_is_told_to_try_again_when_nobody_is_idle(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s", lambda conn, frame: None, per_uid_max=2) as server:
            busy = [await Peer.to(tmp_path / "s") for _ in range(2)]
            for peer in busy:
                peer.writer.write(request(1))
            await until(lambda: sum(c.in_flight for c in server.connections.values()) == 2, "both wait")
            newcomer = await Peer.to(tmp_path / "s")
            refusal = await newcomer.read()
            assert refusal["e"]["code"] == "TRY_AGAIN"
            assert refusal["e"]["kind"] == "NotNow"
            assert refusal["e"]["data"]["retry_after_s"] > 0
            assert await newcomer.is_closed()

    run(body)


def test_slow_reader_is_congested_then_drains(tmp_path: Path) -> None:
    conns: list[Conn] = []

    async def body() -> None:
        async with serving(tmp_path / "s", lambda conn, frame: conns.append(conn), write_high=1000):
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1))
            await until(lambda: bool(conns), "request arrived")
            conn = conns[0]
            sent = 0
            while not conn.is_congested:
                assert conn.send(encode_reply(1, {"x": "y" * 100_000}, more=True))
                sent += 1
                await asyncio.sleep(0)
            reading = asyncio.create_task(_read_many(peer, sent))
            await conn.drain()
            assert not conn.is_congested
            assert await reading == sent

    run(body)


async def _read_many(peer: Peer, count: int) -> int:
    for _ in range(count):
        await peer.read()
    return count


def test_reader_that_lags_too_far_is_cut(tmp_path: Path) -> None:
    conns: list[Conn] = []

    async def body() -> None:
        async with serving(
            tmp_path / "s", lambda conn, frame: conns.append(conn), write_high=1000, write_max=1 << 20
        ) as server:
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1))
            await until(lambda: bool(conns), "request arrived")
            sent = 0
            while conns[0].send(encode_reply(1, {"x": "y" * 300_000}, more=True)):
                sent += 1
                assert sent < 100, "memory for a slow reader must be bounded"
            await until(lambda: not server.connections, "cut")
            assert server.counters["slow"] == 1
            with pytest.raises(ConnectionResetError):
                await conns[0].drain()

    run(body)


def test_congested_connection_reads_no_more_requests(tmp_path: Path) -> None:
    seen: list[int] = []

    def big(conn: Conn, frame: bytes) -> None:
        i = decode_request(frame).i
        seen.append(i)
        conn.send(encode_reply(i, {"x": "y" * 500_000}))

    async def body() -> None:
        async with serving(tmp_path / "s", big, write_high=100_000):
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(b"".join(request(i) for i in range(200)))
            await until(lambda: bool(seen), "some were read")
            assert len(seen) < 10
            assert await _read_many(peer, 200) == 200
            assert len(seen) == 200

    run(body)


def test_client_that_closed_its_sending_side_gets_its_answer(tmp_path: Path) -> None:
    conns: list[tuple[Conn, int]] = []

    async def body() -> None:
        async with serving(tmp_path / "s", lambda c, f: conns.append((c, decode_request(f).i))) as server:
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(5))
            peer.writer.write_eof()
            await until(lambda: bool(conns), "request arrived")
            conns[0][0].send(encode_reply(5, {}))
            assert (await peer.read())["i"] == 5
            assert await peer.is_closed()
            await until(lambda: not server.connections, "closed on our side too")

    run(body)


def test_stream_of_a_client_that_is_gone_ends(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s", lambda conn, frame: None, eof_s=0.1) as server:
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(5))
            await until(lambda: any(c.in_flight for c in server.connections.values()), "request arrived")
            peer.writer.close()
            await until(lambda: not server.connections, "forgotten")
            assert len(server.closed_conns) == 1  # type: ignore[attr-defined]

    run(body)


def test_second_daemon_is_refused_naming_the_first(tmp_path: Path) -> None:
    async def body() -> None:
        async with serving(tmp_path / "s"):
            second = AgentServer(str(tmp_path / "s"), echo)
            with pytest.raises(Conflict, match=str(os.getpid())) as caught:
                await second.start()
            assert caught.value.code == "SOCKET_IN_USE"
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1))
            assert (await peer.read())["ok"]

    run(body)


def test_listener_that_takes_no_lock_is_not_replaced_either(tmp_path: Path) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "s"))
            other.listen()
            with pytest.raises(Conflict):
                await AgentServer(str(tmp_path / "s"), echo).start()
            assert (tmp_path / "s").exists()

    run(body)


def test_socket_left_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    async def body() -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "s"))
        async with serving(tmp_path / "s"):
            peer = await Peer.to(tmp_path / "s")
            peer.writer.write(request(1))
            assert (await peer.read())["ok"]

    run(body)


def test_file_that_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    async def body() -> None:
        (tmp_path / "s").write_text("precious")
        with pytest.raises(ConfigError, match="not a socket"):
            await AgentServer(str(tmp_path / "s"), echo).start()
        assert (tmp_path / "s").read_text() == "precious"

    run(body)


def test_socket_in_a_deep_folder_works(tmp_path: Path) -> None:
    async def body() -> None:
        path = tmp_path / ("d" * 120) / "s"
        async with serving(path):
            from helix.client import Client

            answer = await asyncio.to_thread(Client(str(path)).ping)
            assert answer["uid"] == os.getuid()

    run(body)


def test_stop_delivers_what_is_queued(tmp_path: Path) -> None:
    async def body() -> None:
        server = AgentServer(str(tmp_path / "s"), lambda c, f: None)
        await server.start()
        peer = await Peer.to(tmp_path / "s")
        peer.writer.write(request(1))
        await until(lambda: any(c.in_flight for c in server.connections.values()), "request arrived")
        for conn in server.connections.values():
            conn.send(encode_reply(1, {"last": True}))
        await server.stop()
        assert (await peer.read())["r"] == {"last": True}
        assert await peer.is_closed()

    run(body)
