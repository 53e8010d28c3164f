"""A node's side of its link to the controller: one DEALER socket for each connection, made anew after every loss.

ZeroMQ's own reconnecting is off: it would carry messages of one link into the next behind the caller's back.  Here a
link is one connection: `on_up`, Register, traffic, `on_down`; then the next try, with back-off and jitter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from helix.errors import ConfigError, LimitExceeded, ProtocolError
from helix.wire.auth import CurveKeys, is_curve_key
from helix.wire.codec import Kind, decode_batch, encode_batches
from helix.wire.limits import RateLimit
from helix.wire.loop_socket import Context, LoopSocket, Monitor
from helix.wire.messages import BATCH_BYTES_MAX
from helix.wire.transport import set_heartbeat

log = logging.getLogger("helix.link")

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0
CONNECT_S = 15.0  #: from the first packet to the end of the handshake
STABLE_S = 10.0  #: a link that lived so long sets the back-off to its beginning
QUEUE_BATCHES = 256
BACKLOG_MAX = 32 << 20  #: bytes waiting beyond ZeroMQ's queue

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
)
_REASONS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "it does not admit this node's key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "it speaks another protocol, or has another key",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "it closed the connection during the handshake (is its key the right one?)",
    zmq.EVENT_CLOSED: "nobody answers",
    zmq.EVENT_DISCONNECTED: "the connection is gone",
}


class NodeLink:
    """Keeps a link to the controller.  Made and used on the event loop's thread.

    `on_up()`: connected and authenticated: send the Register now.  `on_down(reason)`: the link that was up is gone.
    `on_batch(messages)`: what the controller sent.
    """

    def __init__(
        self,
        ctx: Context,
        addr: str,
        server_key: str,
        keys: CurveKeys,
        on_batch: Callable[[list[Any]], None],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        *,
        heartbeat_s: float = 5.0,
    ) -> None:
        """`addr`: `tcp://HOST:PORT`; `server_key`: the controller's public key, Z85.  Raises ConfigError."""
        if not is_curve_key(server_key):
            raise ConfigError(f"'{server_key}' is not a CURVE public key", code="KEY_MALFORMED")
        self.addr = addr
        self.is_up = False
        self.last_error = ""  #: why the last try failed
        self.counters: dict[str, int] = {"tries": 0, "ups": 0}
        self._ctx = ctx
        self._server_key = server_key.encode()
        self._keys = keys
        self._on_batch = on_batch
        self._on_up = on_up
        self._on_down = on_down
        self._heartbeat_s = heartbeat_s
        self._loop = asyncio.get_running_loop()
        self._notes = RateLimit(log, burst=3, rate=1 / 60)
        self._socket: LoopSocket | None = None
        self._monitor: Monitor | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._t_up = 0.0
        self._failed_how = ""
        self._out: list[Any] = []
        self._flush_planned = False
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._closed = False

    def start(self) -> None:
        """Begin to connect."""
        self._connect()

    def send(self, messages: Sequence[Any]) -> bool:
        """Queue messages; all of one turn of the loop leave as one batch.

        False, and nothing is queued, while the link is down or too much waits: the caller decides what to keep.
        """
        if not self.is_up or self._backlog_bytes > BACKLOG_MAX:
            return False
        self._out.extend(messages)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Send what is queued now instead of at the end of the turn."""
        self._flush_planned = False
        messages, self._out = self._out, []
        if not messages or self._socket is None:
            return
        try:
            batches = encode_batches(messages)
        except LimitExceeded as error:
            log.error("%s: %s", self.addr, error.msg)
            self._lost(error.msg)
            return
        self._backlog.extend(batches)
        self._backlog_bytes += sum(map(len, batches))
        self._write()

    def accepted(self) -> None:
        """The controller has taken this node in: when the connection breaks, it is made again without delay."""
        self._failures = 0

    def reconnect(self, after_s: float, reason: str) -> None:
        """Give up this connection and try again in about `after_s` seconds (the controller refused, say)."""
        self._lost(reason, at_least_s=after_s)

    def close(self, linger_ms: int = 500) -> None:
        """Send what is queued and end.  `on_down` is not called."""
        if not self._closed:
            self.flush()
            self._closed = True
            self.is_up = False
            self._drop_socket(linger_ms)

    # ---- inside

    def _connect(self) -> None:
        if self._closed:
            return
        self.counters["tries"] += 1
        self._failed_how = ""
        sock = self._ctx.socket(zmq.DEALER)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.CURVE_SERVERKEY, self._server_key)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.public.encode())
        sock.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)
        sock.setsockopt(zmq.IPV6, int("[" in self.addr))
        sock.setsockopt(zmq.RECONNECT_IVL, -1)
        sock.setsockopt(zmq.IMMEDIATE, 1)
        sock.setsockopt(zmq.MAXMSGSIZE, BATCH_BYTES_MAX)
        sock.setsockopt(zmq.SNDHWM, QUEUE_BATCHES)
        sock.setsockopt(zmq.RCVHWM, QUEUE_BATCHES)
        sock.setsockopt(zmq.CONNECT_TIMEOUT, int(CONNECT_S * 1000))
        sock.setsockopt(zmq.HANDSHAKE_IVL, int(CONNECT_S * 1000))
        set_heartbeat(sock, self._heartbeat_s)
        self._monitor = Monitor(sock, _EVENTS, self._event)
        self._socket = LoopSocket(sock, self._message, self._write)
        self._timer = self._loop.call_later(CONNECT_S, self._lost, f"no answer in {CONNECT_S:.0f} s")
        try:
            sock.connect(self.addr)
        except zmq.ZMQError as exc:  # a name that does not resolve shows later; this is a malformed address
            self._lost(exc.strerror or str(exc))

    def _event(self, event: int, value: int) -> None:
        if self._socket is None:
            return
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.is_up = True
            self.last_error = ""
            self._t_up = time.monotonic()
            self.counters["ups"] += 1
            self._on_up()
        elif event in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
            self._lost(self._failed_how or _REASONS[event])
        else:
            self._failed_how = _REASONS.get(event, f"the handshake failed ({event}, {value})")

    def _message(self, frames: Sequence[zmq.Frame]) -> None:
        if self._monitor is not None and not self.is_up:
            self._monitor.drain()  # `on_up` comes first
        if self._socket is None:
            return
        try:
            if len(frames) != 1:
                raise ProtocolError(f"{len(frames)} frames in one message")
            messages = decode_batch(frames[0].buffer, Kind.TO_NODE)
        except ProtocolError as error:
            self._lost(error.msg, at_least_s=RETRY_MAX_S)
            return
        if messages:
            self._on_batch(messages)

    def _write(self) -> None:
        while self._backlog and self._socket is not None and self._socket.send([self._backlog[0]]):
            self._backlog_bytes -= len(self._backlog.popleft())

    def _lost(self, reason: str, at_least_s: float = 0.0) -> None:
        """The connection ended, or was never made: tell, and plan the next try."""
        if self._closed or (self._socket is None and self._timer is not None):
            return
        was_up, self.is_up = self.is_up, False
        self.last_error = reason
        self._drop_socket(0)
        now = time.monotonic()
        self._failures = 0 if was_up and now - self._t_up > STABLE_S else min(self._failures + 1, 16)
        spread = 0.5 + os.urandom(1)[0] / 255
        pause = max(at_least_s, min(RETRY_MAX_S, RETRY_FIRST_S * 2.0**self._failures)) * spread
        self._timer = self._loop.call_later(pause, self._connect)
        self._notes.warning(reason, now, "no link to the controller at %s: %s", self.addr, reason)
        if was_up:
            self._on_down(reason)

    def _drop_socket(self, linger_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._socket is not None:
            self._socket.close(linger_ms)
            self._socket = None
        self._out.clear()
        self._backlog.clear()
        self._backlog_bytes = 0
