"""How fast the sockets are: `python tests/bench/bench_wire.py`.

Prints round trips through an agent socket, pipelined requests a second, calls of the client, and messages a second
over a node link, each with server and client in processes of their own.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable

from helix.client import Client
from helix.wire.agent import AgentServer, Conn
from helix.wire.auth import AllowList, CurveKeys, new_curve_keys
from helix.wire.codec import decode_request, encode_reply
from helix.wire.frames import pack_frame
from helix.wire.loop_socket import new_context
from helix.wire.messages import Heartbeat, Register, StepEnded
from helix.wire.node_link import NodeLink
from helix.wire.transport import ControllerEndpoint, LinkId

REQUEST = pack_frame(b'{"v":1,"i":1,"m":"ping","a":{}}')


def serve(path: str) -> None:
    """An agent socket whose service answers at once."""

    def on_frame(conn: Conn, frame: bytes) -> None:
        request = decode_request(frame)
        conn.send(encode_reply(request.i, {"job_id": request.i}))

    async def main() -> None:
        await AgentServer(path, on_frame).start()
        await asyncio.Event().wait()

    asyncio.run(main())


def agent(path: str) -> None:
    """Round trips and pipelining on a bare socket, then through the client."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        times = []
        for _ in range(5000):
            start = time.perf_counter()
            sock.sendall(REQUEST)
            sock.recv(65536)
            times.append(time.perf_counter() - start)
        times.sort()
        report("agent.round_trip_us_p50", times[2500] * 1e6)
        report("agent.round_trip_us_p99", times[4950] * 1e6)
        size = len(encode_reply(1, {"job_id": 1})) + 4
        count, sent, got, held = 100_000, 0, 0, 0
        start = time.perf_counter()
        while got < count:
            room = min(200 - (sent - got), count - sent)
            if room > 0:
                sock.sendall(REQUEST * room)
                sent += room
            held += len(sock.recv(1 << 20))
            got, held = got + held // size, held % size
        report("agent.pipelined_per_s", count / (time.perf_counter() - start))
    with Client(path) as client:
        client.ping()
        start = time.perf_counter()
        for _ in range(3000):
            client.ping()
        report("client.call_us", (time.perf_counter() - start) / 3000 * 1e6)
        jobs = [{"script": "#!/bin/sh\nhostname\n", "env": ["A=1"], "spec": {"name": "x"}}] * 20_000
        start = time.perf_counter()
        client.submit_many(jobs)
        report("client.submit_many_per_s", len(jobs) / (time.perf_counter() - start))
        start = time.perf_counter()
        for _ in range(500):
            with Client(path) as fresh:
                fresh.ping()
        report("client.connect_and_call_us", (time.perf_counter() - start) / 500 * 1e6)


def controller(keys: CurveKeys, member: str, pipe: object) -> None:
    """An endpoint that counts what it gets and prints the rate."""
    got = 0
    start = 0.0

    async def main() -> None:
        done = asyncio.Event()

        def on_batch(link: LinkId, messages: list[object]) -> None:
            nonlocal got, start
            start = start or time.perf_counter()
            got += len(messages)
            if any(isinstance(message, Heartbeat) for message in messages):
                done.set()

        endpoint = ControllerEndpoint(
            new_context(),
            "tcp://127.0.0.1:0",
            keys,
            AllowList({"n1": member}),
            on_batch,
            lambda *_: None,
            lambda *_: None,
        )
        pipe.send(endpoint.port)  # type: ignore[attr-defined]
        await done.wait()
        pipe.send(got / (time.perf_counter() - start))  # type: ignore[attr-defined]

    asyncio.run(main())


def link() -> None:
    """Exit reports from one node to the controller, as they come when many jobs end."""
    keys, member = new_curve_keys(), new_curve_keys()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=controller, args=(keys, member.public, there), daemon=True)
    process.start()
    port = here.recv()

    async def main() -> None:
        up = asyncio.Event()
        node = NodeLink(
            new_context(), f"tcp://127.0.0.1:{port}", keys.public, member, lambda _: None, up.set, lambda _: None
        )
        node.start()
        await up.wait()
        node.send([Register(name="n1", version="0")])
        ends = [StepEnded(job_id=k, attempt=0, node="n1", t_start=1.5, t_end=2.5) for k in range(100)]
        sent = 0
        while sent < 200_000:
            if node.send(ends):
                sent += len(ends)
            await asyncio.sleep(0)
        while not node.send([Heartbeat(t_sent=0.0)]):
            await asyncio.sleep(0.001)
        report("link.messages_per_s", await asyncio.to_thread(here.recv))
        node.close()

    asyncio.run(main())
    process.join(10)


def report(name: str, value: float) -> None:
    """One line a number."""
    sys.stdout.write(f"{name} {value:.1f}\n")
    sys.stdout.flush()


def with_server(body: Callable[[str], None]) -> None:
    """Run `body` beside a server on a socket of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "agent.sock")
        process = multiprocessing.Process(target=serve, args=(path,), daemon=True)
        process.start()
        try:
            Client(path).ping()
            body(path)
        finally:
            process.terminate()
            process.join(10)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    with_server(agent)
    link()
