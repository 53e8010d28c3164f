"""The controller's side of the links to its nodes: one ROUTER socket, CURVE, and who is who on it.

Trust, step by step.

1. CURVE: a peer proves that it owns a key; the controller proves its own.  Traffic is encrypted both ways.
2. ZAP (`helix.wire.zap`): keys on the allow list pass.  Unknown keys pass only while a join token is valid, at a
   bounded rate.  All others fail the handshake.
3. Every message carries the User-Id that ZAP gave its connection: the key.  A connection is bound to its key by the
   first message and the key is compared on every one.
4. The first message must be `Register`.  A member's key owns one name (a host list) and must claim exactly that.  An
   unknown key must present a join token (`on_unadmitted` decides); until it is admitted, nothing else it sends is
   looked at, it may send little and seldom, and it is disconnected after `register_s`.
5. Routing ids are made by ZeroMQ, one for each TCP connection, so a link is a connection: after a loss there is a new
   link and a new Register.  A peer that chose an id for itself is disconnected.  ROUTER_HANDOVER stays off: with it,
   whoever claims a member's id would get what is sent to that member; without it a second claim is ignored.
   libzmq (4.3.5) aborts the process when an id it makes is one that a peer has claimed before, and makes them by
   counting up from rand(), which nobody seeds: so it is seeded here from the kernel, before the socket is made.

A link is an ordered stream or it is down: messages wait, within limits, for a slow peer; one too slow is
disconnected and reported, and what it missed is made up when it registers again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import logging
import os
import resource
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import zmq

from helix.errors import ConfigError, LimitExceeded, ProtocolError
from helix.wire.auth import AllowList, CurveKeys
from helix.wire.codec import Kind, decode_batch, encode_batches
from helix.wire.limits import KeyedBuckets, RateLimit, TokenBucket
from helix.wire.loop_socket import Context, LoopSocket, Monitor, new_context
from helix.wire.messages import Refused, Register
from helix.wire.zap import ZAP_DOMAIN, ZapHandler

log = logging.getLogger("helix.link")

_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
_SWEEP_S = 0.5
_RETRY_S = 0.02


@dataclass(frozen=True, slots=True)
class LinkId:
    """A connection of a node daemon: its proved key and ZeroMQ's name for the connection."""

    key: str
    routing_id: bytes


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Bounds of an endpoint; the defaults suit thousands of nodes."""

    connections_max: int = 16384  # lowered to half of RLIMIT_NOFILE
    register_s: float = 10.0  # from the TCP connection to the Register
    message_max: int = 24 << 20  # bytes of one batch from a node
    stranger_max: int = 256 << 10  # bytes of one batch from a key not yet admitted
    queue_batches: int = 64  # batches ZeroMQ queues for a peer
    backlog_max: int = 16 << 20  # bytes kept beyond that
    backlog_s: float = 15.0  # how long a peer may not read at all
    heartbeat_s: float = 5.0  # ZMTP ping; a peer silent for four of them is gone


class _Peer:
    """What is known of a link."""

    __slots__ = ("backlog", "backlog_bytes", "bucket", "fd", "link", "name", "out", "t_seen", "t_stuck")

    def __init__(self, link: LinkId, fd: int, now: float) -> None:
        self.link = link
        self.fd = fd
        self.name = ""  # once registered
        self.out: list[Any] = []
        self.backlog: deque[bytes] = deque()
        self.backlog_bytes = 0
        self.t_stuck = 0.0
        self.t_seen = now
        self.bucket = TokenBucket(3, 0.2)  # messages before admission


class ControllerEndpoint:
    """The ROUTER socket.  Made and used on the event loop's thread.

    `on_batch(link, messages)`: a member's messages, the first of a link being its Register.
    `on_unadmitted(link, register)`: an unknown key, or a member that claims another name than its own, presents a
    join token: answer with `admit` and the messages of a welcome, or with `refuse`.
    `on_down(link, name, reason)`: a registered link is gone.
    """

    def __init__(
        self,
        ctx: Context,
        bind_addr: str,
        keys: CurveKeys,
        allowlist: AllowList,
        on_batch: Callable[[LinkId, list[Any]], None],
        on_unadmitted: Callable[[LinkId, Register], None],
        on_down: Callable[[LinkId, str, str], None],
        *,
        join_open: Callable[[], bool] = lambda: False,
        limits: LinkLimits | None = None,
    ) -> None:
        """`bind_addr`: `tcp://HOST:PORT`, port 0 for any.  `join_open()` is true while a join token is valid.

        Raises ConfigError (BIND_FAILED).
        """
        self.counters: dict[str, int] = dict.fromkeys(
            ("batches_in", "batches_out", "messages_in", "messages_out", "dropped", "refused", "cut"), 0
        )
        self.allowlist = allowlist
        self.limits = _clamped(limits or LinkLimits())
        self._on_batch = on_batch
        self._on_unadmitted = on_unadmitted
        self._on_down = on_down
        self._join_open = join_open
        self._loop = asyncio.get_running_loop()
        self._notes = RateLimit(log)
        self._peers: dict[bytes, _Peer] = {}
        self._by_fd: dict[int, bytes | None] = {}  # open TCP connections -> routing id once known
        self._t_accepted: dict[int, float] = {}  # connections that have not registered
        self._dirty: list[_Peer] = []
        self._flush_planned = False
        self._stuck: set[bytes] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._strangers = KeyedBuckets(burst=10, rate=0.5)
        self._strangers_all = TokenBucket(burst=200, rate=5)
        self._zap = ZapHandler(ctx, self._may_connect)
        _seed_rand()
        sock = ctx.socket(zmq.ROUTER)
        self._configure(sock, keys)
        self._monitor = Monitor(sock, _EVENTS, self._connection_event)
        try:
            sock.setsockopt(zmq.IPV6, int("[" in bind_addr))
            sock.bind(bind_addr)
        except zmq.ZMQError as exc:
            self._monitor.close()
            sock.close(0)
            self._zap.close()
            raise ConfigError(
                f"cannot listen on {bind_addr}: {exc.strerror}",
                code="BIND_FAILED",
                hint="is another controller running, or the port in use?",
            ) from exc
        self.endpoint = _text(sock.getsockopt(zmq.LAST_ENDPOINT))
        self.port = int(self.endpoint.rpartition(":")[2])
        self._zap.start()
        self._socket = LoopSocket(sock, self._message)
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep)

    def _configure(self, sock: zmq.Socket[bytes], keys: CurveKeys) -> None:
        limits = self.limits
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.CURVE_SERVER, 1)
        sock.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        sock.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
        sock.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        sock.setsockopt(zmq.ROUTER_HANDOVER, 0)
        sock.setsockopt(zmq.MAXMSGSIZE, limits.message_max)
        sock.setsockopt(zmq.SNDHWM, limits.queue_batches)
        sock.setsockopt(zmq.RCVHWM, limits.queue_batches)
        sock.setsockopt(zmq.BACKLOG, 4096)
        sock.setsockopt(zmq.HANDSHAKE_IVL, int(limits.register_s * 1000))
        set_heartbeat(sock, limits.heartbeat_s)

    # ---- for the controller

    def send(self, link: LinkId, messages: Sequence[Any]) -> bool:
        """Queue messages; all that is queued for a link in one turn of the loop leaves as one batch.

        False if the link is down (`on_down` was, or is about to be, called).
        """
        peer = self._peers.get(link.routing_id)
        if peer is None or peer.link != link:
            return False
        if not peer.out:
            self._dirty.append(peer)
        peer.out.extend(messages)
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Send what is queued now instead of at the end of the turn."""
        self._flush_planned = False
        dirty, self._dirty = self._dirty, []
        for peer in dirty:
            messages, peer.out = peer.out, []
            if messages and peer.link.routing_id in self._peers:
                self._send_now(peer, messages)

    def admit(self, link: LinkId, name: str) -> bool:
        """From now on `link` is the member `name`; its key must be on the allow list under that name already.

        False if the link is down by now.
        """
        peer = self._peers.get(link.routing_id)
        if peer is None or self.allowlist.name_of(link.key) != name:
            return False
        self._registered(peer, name)
        return True

    def refuse(self, link: LinkId, answer: Refused) -> None:
        """Say no, and disconnect."""
        self.counters["refused"] += 1
        self.send(link, [answer])
        self._loop.call_later(0.5, self.disconnect, link, f"refused: {answer.code}")

    def disconnect(self, link: LinkId, reason: str = "disconnected") -> None:
        """Close the connection; `on_down` follows at once if it was registered."""
        peer = self._peers.get(link.routing_id)
        if peer is not None and peer.link == link:
            self._shut(peer.fd)
            self._forget(peer, reason)

    def disconnect_key(self, key: str, reason: str = "key revoked") -> None:
        """Close all connections of a key."""
        for peer in [p for p in self._peers.values() if p.link.key == key]:
            self.disconnect(peer.link, reason)

    def name_of(self, link: LinkId) -> str:
        """The name a link has registered; "" if it has not."""
        peer = self._peers.get(link.routing_id)
        return peer.name if peer is not None and peer.link == link else ""

    @property
    def links(self) -> list[LinkId]:
        """Registered links."""
        return [peer.link for peer in self._peers.values() if peer.name]

    @property
    def connection_count(self) -> int:
        """Open TCP connections, registered or not."""
        return len(self._by_fd)

    def close(self) -> None:
        """Send what is queued, then stop listening and close every connection.  `on_down` is not called."""
        self.flush()
        self._timer.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._monitor.close()
        self._socket.close(linger_ms=500)
        self._zap.close()
        self._peers.clear()

    # ---- what arrives

    def _may_connect(self, key: str, address: str) -> bool:
        if key in self.allowlist:
            return True
        if not self._join_open():
            return False
        now = time.monotonic()
        return self._strangers.take(address, now) == 0 and self._strangers_all.take(now) == 0

    def _message(self, frames: Sequence[zmq.Frame]) -> None:
        routing_id = frames[0].bytes
        body = frames[-1]
        key = _metadata(body, "User-Id")
        peer = self._peers.get(routing_id)
        if peer is None:
            peer = self._new_peer(routing_id, key, body)
            if peer is None:
                return
        if peer.link.key != key or len(frames) != 2:
            self._drop(peer, "a message that does not fit its connection")
            self.disconnect(peer.link, "protocol error")
            return
        peer.t_seen = time.monotonic()
        if not peer.name and not self._is_modest(peer, len(body)):
            return
        try:
            messages = decode_batch(body.buffer, Kind.FROM_NODE, bytes_max=self.limits.message_max)
        except ProtocolError as error:
            self._drop(peer, error.msg)
            if error.code == "VERSION":
                self.refuse(peer.link, Refused(code="VERSION", msg=error.msg, retry_after_s=60.0))
            else:
                self.disconnect(peer.link, error.msg)
            return
        self.counters["batches_in"] += 1
        self.counters["messages_in"] += len(messages)
        if not peer.name and not self._may_register(peer, messages):
            return
        if messages:
            self._on_batch(peer.link, messages)

    def _new_peer(self, routing_id: bytes, key: str, body: zmq.Frame) -> _Peer | None:
        self._monitor.drain()  # an older connection with the same descriptor ended before this message was sent
        fd_text = _metadata(body, "__fd")
        fd = int(fd_text) if fd_text.isdecimal() else -1
        if not key or _metadata(body, "Identity") or len(routing_id) != 5 or routing_id[0]:
            self._notes.warning("routing id", time.monotonic(), "disconnected a peer that chose its own routing id")
            self.counters["refused"] += 1
            self._shut(fd)
            return None
        if fd not in self._by_fd:  # last words of a connection that is gone: repeated on the next, if they matter
            self.counters["dropped"] += 1
            return None
        peer = self._peers[routing_id] = _Peer(LinkId(key, routing_id), fd, time.monotonic())
        self._by_fd[fd] = routing_id
        return peer

    def _is_modest(self, peer: _Peer, size: int) -> bool:
        """Bounds on what is not registered yet, before a byte is decoded."""
        if peer.link.key in self.allowlist:
            return True
        if size > self.limits.stranger_max or peer.bucket.take(time.monotonic()) > 0:
            self._drop(peer, f"{size} bytes, or too often, from a key that is not admitted")
            return False
        return True

    def _may_register(self, peer: _Peer, messages: list[Any]) -> bool:
        """Look at the first messages of a link; True if it is registered now."""
        register = messages[0] if messages else None
        if not isinstance(register, Register):
            self._drop(peer, "not registered")
            return False
        owned = self.allowlist.name_of(peer.link.key)
        if owned is not None and owned == register.name:
            self._registered(peer, owned)
            return True
        if register.join_token:
            self._on_unadmitted(peer.link, register)
            return False
        if owned is None:
            code, why = "KEY_UNKNOWN", f"this controller does not know the key of {register.name[:200]}"
        else:
            code, why = "NAME_NOT_OWNED", f"this key belongs to {owned[:200]}, not to {register.name[:200]}"
        self._drop(peer, why)
        self.refuse(peer.link, Refused(code=code, msg=f"{why}; join with a token", retry_after_s=30.0))
        return False

    def _registered(self, peer: _Peer, name: str) -> None:
        peer.name = name
        self._t_accepted.pop(peer.fd, None)

    def _drop(self, peer: _Peer, why: str) -> None:
        self.counters["dropped"] += 1
        self._notes.warning(
            peer.link.key, time.monotonic(), "dropped a message of %s (key %s): %s", peer.name, peer.link.key, why
        )

    # ---- what leaves

    def _send_now(self, peer: _Peer, messages: list[Any]) -> None:
        try:
            batches = encode_batches(messages)
        except LimitExceeded as error:
            log.error("%s: %s", peer.name, error.msg)
            self._cut(peer, error.msg)
            return
        self.counters["messages_out"] += len(messages)
        self.counters["batches_out"] += len(batches)
        if not peer.backlog:
            for at, data in enumerate(batches):
                sent = self._try_send(peer, data)
                if sent is None:
                    return
                if not sent:
                    batches = batches[at:]
                    break
            else:
                return
        peer.backlog.extend(batches)
        peer.backlog_bytes += sum(map(len, batches))
        if not peer.t_stuck:
            peer.t_stuck = time.monotonic()
        if peer.backlog_bytes > self.limits.backlog_max:
            self._cut(peer, f"{peer.backlog_bytes} bytes wait to be read")
            return
        self._stuck.add(peer.link.routing_id)
        if self._retry is None:
            self._retry = self._loop.call_later(_RETRY_S, self._try_again)

    def _try_send(self, peer: _Peer, data: bytes) -> bool | None:
        """True: sent.  False: its queue is full.  None: it is gone."""
        try:
            return self._socket.send([peer.link.routing_id, data])
        except zmq.ZMQError as exc:
            if exc.errno != errno.EHOSTUNREACH:
                raise
            self._forget(peer, "the connection is gone")
            return None

    def _try_again(self) -> None:
        self._retry = None
        now = time.monotonic()
        for routing_id in list(self._stuck):
            peer = self._peers.get(routing_id)
            if peer is None:
                self._stuck.discard(routing_id)
                continue
            moved = False
            while peer.backlog and self._try_send(peer, peer.backlog[0]):
                peer.backlog_bytes -= len(peer.backlog.popleft())
                moved = True
            if moved:
                peer.t_stuck = now
            if not peer.backlog:
                peer.t_stuck = 0.0
                self._stuck.discard(routing_id)
            elif now - peer.t_stuck > self.limits.backlog_s:
                self._cut(peer, f"it has read nothing for {self.limits.backlog_s:.0f} s")
        if self._stuck:
            self._retry = self._loop.call_later(_RETRY_S, self._try_again)

    def _cut(self, peer: _Peer, why: str) -> None:
        self.counters["cut"] += 1
        self._notes.warning(peer.link.key, time.monotonic(), "disconnected %s: %s", peer.name, why)
        self.disconnect(peer.link, why)

    # ---- connections

    def _connection_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_ACCEPTED:
            self._by_fd[value] = None
            self._t_accepted[value] = time.monotonic()
            if len(self._by_fd) > self.limits.connections_max:
                self._notes.warning("connections", time.monotonic(), "too many connections: a new one is refused")
                self.counters["refused"] += 1
                self._shut(value)
        else:
            routing_id = self._by_fd.pop(value, None)
            self._t_accepted.pop(value, None)
            peer = self._peers.get(routing_id) if routing_id is not None else None
            if peer is not None and peer.fd == value:
                self._forget(peer, "the connection is gone")

    def _forget(self, peer: _Peer, reason: str) -> None:
        self._peers.pop(peer.link.routing_id, None)
        self._stuck.discard(peer.link.routing_id)
        peer.backlog.clear()
        peer.out.clear()
        if peer.name:
            self._on_down(peer.link, peer.name, reason)

    def _shut(self, fd: int) -> None:
        """End a TCP connection of ZeroMQ's: its thread then sees the end and closes it.

        Only descriptors that the monitor says are open connections of this socket are touched.
        """
        if fd in self._by_fd:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as copy:
                copy.shutdown(socket.SHUT_RDWR)

    def _sweep(self) -> None:
        late = time.monotonic() - self.limits.register_s
        for fd, t_accepted in list(self._t_accepted.items()):
            if t_accepted > late:
                break  # in the order of acceptance
            del self._t_accepted[fd]
            self._notes.warning("late", time.monotonic(), "disconnected a peer that did not register in time")
            self.counters["refused"] += 1
            self._shut(fd)
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep)


def set_heartbeat(sock: zmq.Socket[bytes], heartbeat_s: float) -> None:
    """ZMTP pings, so that a dead TCP connection is noticed."""
    sock.setsockopt(zmq.HEARTBEAT_IVL, int(heartbeat_s * 1000))
    sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(heartbeat_s * 4000))
    sock.setsockopt(zmq.HEARTBEAT_TTL, min(6_553_500, int(heartbeat_s * 6000)))


def _metadata(frame: zmq.Frame, name: str) -> str:
    """A property of the connection a message came by; "" if there is none."""
    try:
        value = frame.get(name)
    except UnicodeDecodeError:  # chosen by the peer
        return "?"
    except zmq.ZMQError:
        return ""
    return value if isinstance(value, str) else ""


def _text(value: object) -> str:
    """A C string option as text."""
    return value.rstrip(b"\0").decode() if isinstance(value, bytes) else str(value)


def _clamped(limits: LinkLimits) -> LinkLimits:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or limits.connections_max <= soft // 2:
        return limits
    return replace(limits, connections_max=max(16, soft // 2))


def _seed_rand() -> None:
    """Seed the C library's rand(), from which libzmq takes its first routing id; see the module's docstring."""
    ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "little")))


__all__ = ["ControllerEndpoint", "LinkId", "LinkLimits", "new_context", "set_heartbeat"]
