"""A blocking connection to an agent socket: frames out, replies in, always with a deadline.

Standard library only: the commands import this.
"""

from __future__ import annotations

import select
import socket

from helix.calls import ConnectionLost, decode_answer, unreachable
from helix.errors import HelixError, ProtocolError, TimedOut
from helix.wire.frames import SERVER_FRAME_MAX, FrameReader, reachable_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Connection:
    """A connected socket, frames in and out, blocking up to a deadline."""

    __slots__ = ("_frames", "_next_i", "_reader", "path", "sock")

    def __init__(self, path: str, sock: socket.socket) -> None:
        self.path = path
        self.sock = sock
        self._reader = FrameReader(SERVER_FRAME_MAX)
        self._frames: list[bytes] = []  # in reverse, so that pop() gives the oldest
        self._next_i = 1

    @classmethod
    def open(cls, candidates: Sequence[str], timeout_s: float | None) -> Connection:
        """Connect to the first socket that answers.  Raises Unavailable naming all that were tried."""
        tried: dict[str, str] = {}
        for path in candidates:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(timeout_s)
                with reachable_path(path) as name:
                    sock.connect(name)
                return cls(path, sock)
            except OSError as exc:
                sock.close()
                tried[path] = "no answer" if isinstance(exc, TimeoutError) else (exc.strerror or str(exc)).lower()
            except HelixError:
                sock.close()
                raise
        raise unreachable(tried)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def is_stale(self) -> bool:
        """True if the server has closed, or said something nobody asked for."""
        if self._frames or self._reader.pending:
            return True
        self.sock.settimeout(0)  # with a timeout set, even MSG_DONTWAIT would wait
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def next_i(self) -> int:
        """A number for a request."""
        i = self._next_i
        self._next_i = i + 1
        return i

    def send(self, data: bytes, timeout_s: float | None) -> None:
        """Send all of `data`.  Raises ConnectionLost, TimedOut."""
        try:
            self.sock.settimeout(_positive(timeout_s))
            self.sock.sendall(data)
        except TimeoutError as exc:
            raise TimedOut(f"{self.path} does not read its requests") from exc
        except OSError as exc:
            if not self._has_last_words():
                raise ConnectionLost(exc.strerror or str(exc)) from exc

    def _has_last_words(self) -> bool:
        """After a failed send: the server may have said why before it closed."""
        try:
            self.sock.settimeout(0)
            data = self.sock.recv(65536)
            if data:
                self._keep(self._reader.feed(data))
        except (OSError, ProtocolError):
            return False
        return bool(self._frames)

    def receive(self, timeout_s: float | None) -> dict[str, Any]:
        """The next reply.  Raises ConnectionLost, TimedOut, ProtocolError."""
        while not self._frames:
            try:
                self.sock.settimeout(_positive(timeout_s))
                data = self.sock.recv(262144)
            except TimeoutError as exc:
                raise TimedOut(f"no answer from {self.path} in time", hint="the controller is busy; try again") from exc
            except OSError as exc:
                raise ConnectionLost(exc.strerror or str(exc)) from exc
            if not data:
                raise ConnectionLost("closed by the other side")
            self._keep(self._reader.feed(data))
        return decode_answer(self._frames.pop())

    def _keep(self, frames: list[bytes]) -> None:
        if frames:
            frames.reverse()
            self._frames = frames + self._frames if self._frames else frames

    def exchange(self, out: bytearray, timeout_s: float | None) -> list[dict[str, Any]]:
        """Send what can be sent of `out` (removing it) and return what has come; waits until there is something.

        Reads while it writes, so that neither side can block the other.  Raises ConnectionLost, TimedOut,
        ProtocolError.
        """
        poller = select.poll()
        self.sock.settimeout(0)
        while True:
            poller.register(self.sock, select.POLLIN | (select.POLLOUT if out else 0))
            timeout_ms = None if timeout_s is None else max(1, int(timeout_s * 1000))
            ready = poller.poll(timeout_ms)
            if not ready:
                raise TimedOut(f"no answer from {self.path} in time", hint="the controller is busy; try again")
            flags = ready[0][1]
            try:
                if flags & ~select.POLLOUT:
                    data = self.sock.recv(262144)
                    if not data:
                        raise ConnectionLost("closed by the other side")
                    frames = self._reader.feed(data)
                    if frames:
                        return [decode_answer(frame) for frame in frames]
                if flags & select.POLLOUT and out:
                    del out[: self.sock.send(out)]
            except BlockingIOError:
                continue
            except OSError as exc:
                raise ConnectionLost(exc.strerror or str(exc)) from exc


def _positive(timeout_s: float | None) -> float | None:
    """settimeout(0) would mean non-blocking."""
    return None if timeout_s is None else max(timeout_s, 0.001)
