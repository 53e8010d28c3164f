"""The agent socket: a Unix stream socket on which users' commands talk to helixctld or helixd.

Owns listening, who calls (SO_PEERCRED, taken from the kernel when the connection is accepted), frames in and out, and
every limit on a connection.  Knows nothing of methods: `on_frame` gets payloads, `Conn.send` takes payloads.

Limits, so that no user can take the socket from the others: connections in all and for each uid (when there are too
many, the oldest idle connection of the uid that has most goes; if nobody is idle the newcomer is refused with
TRY_AGAIN; root and the daemon's own user have a reserve); idle time; time for a half-sent frame; frame size; requests
in flight on a connection (reading stops until some are answered); bytes waiting to be read by a slow reader (reading
its requests stops, `Conn.is_congested` says so, and far beyond that the connection is cut).

Everything runs on the event loop's thread and nothing blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import socket
import stat
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from helix.errors import ConfigError, Conflict, NotNow, ProtocolError
from helix.wire.codec import encode_error
from helix.wire.frames import CLIENT_FRAME_MAX, FrameReader, is_last_frame, pack_frame, reachable_path
from helix.wire.limits import RateLimit

log = logging.getLogger("helix.agent")

_UCRED = struct.Struct("3i")
_RESERVE = 16  # connections kept for root and the daemon's own user
_SWEEP_S = 1.0
_WRITE_NOW = 256 << 10  # bytes collected in one loop turn that are written without waiting for its end


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Bounds of an agent socket; the defaults suit a login node with hundreds of users."""

    connections_max: int = 4096  # lowered to half of RLIMIT_NOFILE at start
    per_uid_max: int = 1024  # lowered to half of the above
    frame_max: int = CLIENT_FRAME_MAX  # bytes
    in_flight_max: int = 256  # requests of one connection not yet answered
    idle_s: float = 300.0
    frame_s: float = 30.0  # to finish a frame that was begun
    eof_s: float = 5.0  # to answer a client that closed its sending side
    write_high: int = 1 << 20  # bytes unsent at which a connection is congested
    write_max: int = 64 << 20  # bytes unsent at which it is cut


class Conn(asyncio.Protocol):
    """A user's connection.  `uid`, `gid` and `pid` are the kernel's word; `data` is the service's to use."""

    def __init__(self, server: AgentServer) -> None:
        self.uid = -1
        self.gid = -1
        self.pid = 0
        self.id = 0  #: never reused within the life of the server
        self.data: object = None
        self.t_active = 0.0  # monotonic
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(server.limits.frame_max)
        self._waiting: deque[bytes] = deque()  # frames read and not yet handed on
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._in_flight = 0
        self._t_frame = 0.0  # when the half-sent frame began; 0 = none
        self._t_eof = 0.0  # when the client said it will send no more; 0 = not yet
        self._corked = False
        self._flush_planned = False
        self._write_paused = False
        self._read_paused = False
        self._closing = False
        self._drained: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"Conn({self.id}, uid={self.uid}, pid={self.pid})"

    # ---- for the service

    @property
    def is_open(self) -> bool:
        """False once closed from either side."""
        return self._transport is not None and not self._closing

    @property
    def is_congested(self) -> bool:
        """True while the reader lags by more than `write_high` bytes: stop streaming, await `drain`."""
        return self._write_paused

    @property
    def in_flight(self) -> int:
        """Requests handed to `on_frame` and not yet answered with a last frame."""
        return self._in_flight

    @property
    def is_idle(self) -> bool:
        """Nothing asked that is not answered (half a frame may be there)."""
        return self._in_flight == 0 and not self._waiting and not self._out

    @property
    def has_ended(self) -> bool:
        """The client will send no more; perhaps it is gone."""
        return self._t_eof > 0

    def send(self, payload: bytes) -> bool:
        """Send one frame; a last frame (see `frames.is_last_frame`) answers one request.

        Frames sent in one loop turn leave in one write.  False if the connection is closed, or is cut now because
        its reader lags by more than `write_max` bytes.
        """
        transport = self._transport
        if transport is None or self._closing:
            return False
        self._out.append(pack_frame(payload))
        self._out_bytes += len(payload)
        if self._in_flight and is_last_frame(payload):
            self._in_flight -= 1
            self.t_active = time.monotonic()
        if self._out_bytes > _WRITE_NOW:
            self._write_out()
        elif not self._corked and not self._flush_planned:
            self._flush_planned = True
            self._server.loop.call_soon(self._flush)
        if self._write_paused and transport.get_write_buffer_size() > self._server.limits.write_max:
            self._server.note("slow reader", "%r reads too slowly: cut", self)
            transport.abort()
            return False
        return True

    async def drain(self) -> None:
        """Wait until the connection is no longer congested.  Raises ConnectionResetError when it is closed."""
        self._flush()
        while self._write_paused and self.is_open:
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()
        if not self.is_open:
            raise ConnectionResetError(f"{self!r} is closed")

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None and not self._closing:
            self._write_out()
            self._closing = True
            self._transport.close()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn from the kernel who calls; let the server decide whether there is room."""
        assert isinstance(transport, asyncio.Transport)
        sock = transport.get_extra_info("socket")
        self._transport = transport
        self.pid, self.uid, self.gid = _UCRED.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        self.t_active = time.monotonic()
        limits = self._server.limits
        transport.set_write_buffer_limits(high=limits.write_high, low=limits.write_high // 4)
        self._server.accepted(self)

    def data_received(self, data: bytes) -> None:
        """Hand on the frames that are complete; answer and close on a bad one."""
        if self._closing:
            return
        self.t_active = time.monotonic()
        self._corked = True
        try:
            self._take(data)
        finally:
            self._corked = False
            if self._out:
                self._flush()

    def eof_received(self) -> bool:
        """The client sends no more: answer what it asked, for a while, then close.

        A command that was killed looks the same as one that only closed its sending side, so a stream cannot stay.
        """
        self._t_eof = time.monotonic()
        return self._in_flight > 0 or len(self._waiting) > 0 or len(self._out) > 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the server, which tells the service."""
        self._transport = None
        self._closing = True
        self._out.clear()
        self._waiting.clear()
        if self._drained is not None:
            self._drained.set()
        self._server.closed(self)

    def pause_writing(self) -> None:
        """The reader lags: read no more requests from it."""
        self._write_paused = True
        self._pause_reading()

    def resume_writing(self) -> None:
        """The reader caught up."""
        self._write_paused = False
        if self._drained is not None:
            self._drained.set()
            self._drained = None
        self._hand_on()

    # ---- inside

    def _take(self, data: bytes) -> None:
        reader = self._reader
        waiting = self._waiting
        try:
            frames = reader.feed(data)
            if len(frames) == 1 and not waiting and not reader.pending and self._has_room:
                self._t_frame = 0.0
                self._in_flight += 1
                self._server.on_frame(self, frames[0])
                return
            while frames:
                waiting.extend(frames)
                frames = reader.feed(b"") if reader.pending else []
        except ProtocolError as error:
            self._hand_on()
            self._refuse(error)
            return
        if not reader.pending:
            self._t_frame = 0.0
        elif waiting or not self._t_frame:
            self._t_frame = self.t_active
        self._hand_on()

    @property
    def _has_room(self) -> bool:
        return self._in_flight < self._server.limits.in_flight_max and not self._write_paused

    def _hand_on(self) -> None:
        waiting = self._waiting
        while waiting and self._has_room and not self._closing:
            self._in_flight += 1
            self._server.on_frame(self, waiting.popleft())
        if waiting or self._write_paused:
            self._pause_reading()
        elif self._read_paused and self._transport is not None and not self._closing:
            self._read_paused = False
            if self._reader.pending:
                self._t_frame = time.monotonic()  # the time we did not read is not the client's
            self._transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self._read_paused and self._transport is not None and not self._closing:
            self._read_paused = True
            self._transport.pause_reading()

    def _write_out(self) -> None:
        out = self._out
        if out and self._transport is not None and not self._closing:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._out_bytes = 0
            self._transport.write(data)

    def _flush(self) -> None:
        self._flush_planned = False
        self._write_out()
        if self._read_paused and not self._write_paused:
            self._hand_on()
        if self._t_eof and self.is_idle:
            self.close()

    def _refuse(self, error: ProtocolError | NotNow) -> None:
        """Say why (as the answer to request 0), then close."""
        self._server.note(f"refused {error.code}", "%r refused: %s", self, error.msg)
        self._waiting.clear()
        self._out.append(pack_frame(encode_error(0, error)))
        self.close()

    def _sweep(self, now: float) -> None:
        limits = self._server.limits
        if self._t_frame and now - self._t_frame > limits.frame_s and not self._read_paused:
            self._refuse(ProtocolError(f"half a frame, then nothing for {limits.frame_s:.0f} s", code="FRAME_TIMEOUT"))
        elif (self._t_eof and now - self._t_eof > limits.eof_s) or (
            now - self.t_active > limits.idle_s and self.is_idle
        ):
            self.close()


class AgentServer:
    """Listens on `path` and hands each frame to `on_frame(conn, payload)`.

    `on_frame` must not block; it answers with `conn.send`, at once or later.  `on_close(conn)` is called once for
    each connection that was accepted.
    """

    def __init__(
        self,
        path: str,
        on_frame: Callable[[Conn, bytes], None],
        on_close: Callable[[Conn], None] | None = None,
        limits: AgentLimits | None = None,
        *,
        mode: int = 0o666,
    ) -> None:
        self.path = os.path.abspath(path)
        self.on_frame = on_frame
        self.limits = limits or AgentLimits()
        self.connections: dict[int, Conn] = {}
        self.counters: dict[str, int] = {"accepted": 0, "evicted": 0, "refused": 0, "slow": 0}
        self._on_close = on_close
        self._mode = mode
        self._by_uid: dict[int, dict[int, Conn]] = {}
        self._next_id = 1
        self._server: asyncio.Server | None = None
        self._lock_fd = -1
        self._inode = 0
        self._timer: asyncio.TimerHandle | None = None
        self._notes = RateLimit(log)
        self.loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Bind and listen.

        A socket file left by a dead daemon is replaced.  Raises Conflict (SOCKET_IN_USE) naming the process if
        somebody listens there, ConfigError if the path cannot be used.
        """
        self.loop = asyncio.get_running_loop()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        connections_max = self.limits.connections_max
        if soft != resource.RLIM_INFINITY:
            connections_max = min(connections_max, max(_RESERVE * 2, soft // 2))
        self.limits = replace(
            self.limits,
            connections_max=connections_max,
            per_uid_max=min(self.limits.per_uid_max, max(1, connections_max // 2)),
        )
        sock = self._bind()
        self._server = await self.loop.create_unix_server(lambda: Conn(self), sock=sock, backlog=1024)
        self._timer = self.loop.call_later(_SWEEP_S, self._sweep)

    async def stop(self) -> None:
        """Stop listening, send what is queued, close all connections and remove the socket file if it is ours."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for conn in list(self.connections.values()):
            conn.close()
        for _ in range(20):  # readers that read get their last frames; the others are cut
            if not self.connections:
                break
            await asyncio.sleep(0.01)
        for conn in list(self.connections.values()):
            if conn._transport is not None:
                conn._transport.abort()
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # ---- called by connections

    def accepted(self, conn: Conn) -> None:
        """Admit `conn`, making room if needed, or refuse it."""
        conn.id = self._next_id
        self._next_id += 1
        self.counters["accepted"] += 1
        self.connections[conn.id] = conn
        own = self._by_uid.setdefault(conn.uid, {})
        own[conn.id] = conn
        limits = self.limits
        if len(own) > limits.per_uid_max:
            if not self._evict(own, conn):
                self._turn_away(conn, f"uid {conn.uid} has {limits.per_uid_max} connections open, all busy")
        elif len(self.connections) > limits.connections_max - (0 if conn.uid in (0, os.geteuid()) else _RESERVE):
            greediest = max(self._by_uid.values(), key=len)
            if not self._evict(greediest, conn):
                self._turn_away(conn, "too many connections are open, all busy")

    def closed(self, conn: Conn) -> None:
        """Forget `conn` and tell the service."""
        if self.connections.pop(conn.id, None) is None:
            return
        own = self._by_uid[conn.uid]
        del own[conn.id]
        if not own:
            del self._by_uid[conn.uid]
        if self._on_close is not None:
            self._on_close(conn)

    def note(self, key: str, message: str, *args: object) -> None:
        """A log line about misbehaviour, rate-limited by `key`."""
        if key == "slow reader":
            self.counters["slow"] += 1
        self._notes.warning(key, time.monotonic(), message, *args)

    # ---- inside

    def _evict(self, among: dict[int, Conn], newcomer: Conn) -> bool:
        idle = [c for c in among.values() if c is not newcomer and c.is_open and (c.is_idle or c.has_ended)]
        if not idle:
            return False
        oldest = min(idle, key=lambda c: c.t_active)
        self.counters["evicted"] += 1
        self.note("evicted", "uid %d has %d connections: the oldest idle one is closed", oldest.uid, len(among))
        oldest.close()
        return True

    def _turn_away(self, conn: Conn, why: str) -> None:
        self.counters["refused"] += 1
        conn._refuse(NotNow(why, code="TRY_AGAIN", hint="close some, or try again", data={"retry_after_s": 1.0}))

    def _sweep(self) -> None:
        now = time.monotonic()
        for conn in list(self.connections.values()):
            if conn.is_open:
                conn._sweep(now)
        self._timer = self.loop.call_later(_SWEEP_S, self._sweep)

    def _bind(self) -> socket.socket:
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            self._lock_fd = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as exc:
            raise ConfigError(f"{self.path}: {exc.strerror}", code="SOCKET_UNUSABLE") from exc
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise self._in_use() from exc
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self.path).st_mode):
                raise ConfigError(f"{self.path}: is there and is not a socket", code="SOCKET_UNUSABLE")
            if _listener_pid(self.path) is not None:
                raise self._in_use()
            os.unlink(self.path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with reachable_path(self.path) as name:
                sock.bind(name)
            os.chmod(self.path, self._mode)
            self._inode = os.lstat(self.path).st_ino
        except OSError as exc:
            sock.close()
            raise ConfigError(f"{self.path}: cannot bind: {exc.strerror}", code="SOCKET_UNUSABLE") from exc
        return sock

    def _in_use(self) -> Conflict:
        os.close(self._lock_fd)
        self._lock_fd = -1
        pid = _listener_pid(self.path)
        who = f"process {pid}" if pid else "another daemon"
        return Conflict(
            f"{self.path}: {who} listens there already",
            code="SOCKET_IN_USE",
            hint="stop it first, or give this one another socket",
        )


def _listener_pid(path: str) -> int | None:
    """The process listening on `path`; 0 if it cannot be told; None if nobody listens."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with probe:
        try:
            with reachable_path(path) as name:
                probe.connect(name)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError:  # its queue is full, or it is not ours to connect to
            return 0
        return int(_UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0])
