"""Who may finish a CURVE handshake: the ZAP handler of a ZeroMQ context (ZeroMQ RFC 27), on the asyncio loop.

ZeroMQ asks it once for each connection, with the client's public key, which CURVE has proved the client to own.  The
answer sets the connection's User-Id to that key (Z85), and ZeroMQ then attaches it to every message that arrives
there: that is how the controller knows from whom a message is, whatever the message says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import zmq
from zmq.utils import z85

from helix.errors import HelixError
from helix.wire.limits import RateLimit

log = logging.getLogger("helix.zap")

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"helix"
_PER_TURN = 64  # handshakes answered before the loop gets its turn


class ZapHandler:
    """Answers for one context.  `decide(key, address)` says whether a key may connect; it must be quick."""

    def __init__(self, ctx: zmq.Context[zmq.Socket[bytes]], decide: Callable[[str, str], bool]) -> None:
        self._decide = decide
        self._notes = RateLimit(log)
        self.counters: dict[str, int] = {"admitted": 0, "refused": 0}
        self._sock = ctx.socket(zmq.ROUTER)
        self._sock.setsockopt(zmq.LINGER, 0)
        self._sock.bind(ZAP_ADDRESS)
        self._fd = int(self._sock.getsockopt(zmq.FD))
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to answer, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._drain)
        self._loop.call_soon(self._drain)

    def close(self) -> None:
        """Stop; handshakes of this context fail from now on."""
        if not self._sock.closed:
            if self._loop is not None:
                self._loop.remove_reader(self._fd)
            self._sock.close(0)

    def _drain(self) -> None:
        if self._sock.closed:
            return
        for _ in range(_PER_TURN):
            try:
                frames = self._sock.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._answer(frames)
        assert self._loop is not None
        self._loop.call_soon(self._drain)

    def _answer(self, frames: list[bytes]) -> None:
        """Frames: envelope, "", version, request id, domain, address, identity, mechanism, credentials."""
        if b"" not in frames:
            return
        start = frames.index(b"") + 1
        envelope, request = frames[:start], frames[start:]
        if len(request) < 6 or request[0] != b"1.0":
            return
        domain, address, mechanism = request[2], request[3].decode("ascii", "replace"), request[5]
        user_id = b""
        if domain == ZAP_DOMAIN and mechanism == b"CURVE" and len(request) == 7 and len(request[6]) == 32:
            key = z85.encode(request[6])
            if self._may_connect(key.decode(), address):
                user_id = key
        self.counters["admitted" if user_id else "refused"] += 1
        status, text = (b"200", b"OK") if user_id else (b"400", b"not a member of this cluster")
        self._sock.send_multipart([*envelope, b"1.0", request[1], status, text, user_id, b""], zmq.NOBLOCK)

    def _may_connect(self, key: str, address: str) -> bool:
        why = "not a member"
        try:
            if self._decide(key, address):
                return True
        except HelixError as error:  # the join tokens cannot be read, say
            why = error.msg
        self._notes.warning(address, time.monotonic(), "refused the key %s from %s: %s", key, address, why)
        return False
