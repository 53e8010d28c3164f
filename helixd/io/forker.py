"""The forking shepherd: one `helix-shepherd --serve SPOOL` for each helixd, started again when it dies.

Owns the socket to it and what waits for it.  A step costs one description written here; many of one turn go out in one
write.  It gets no environment, so nothing of a user can steer a process of root.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from helix.errors import ConfigError
from helixd.io.children import Children

log = logging.getLogger("helixd.forker")

_BUFFER = 1 << 20
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 10.0
WAITING_MAX = 64 << 20  #: bytes of descriptions not yet taken


def shepherd_path() -> str:
    """The program.  Raises ConfigError (SHEPHERD_MISSING)."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "libexec", "helix-shepherd")
    if not os.access(path, os.X_OK):
        raise ConfigError(
            f"{path} is missing",
            code="SHEPHERD_MISSING",
            hint="build it: python setup.py build_ext --inplace (make does it)",
        )
    return path


class Forker:
    """`on_gone()` is called when the process has died; it has been, or will be, started again."""

    def __init__(self, children: Children, spool: str, on_gone: Callable[[], None]) -> None:
        self.pid = 0
        self._children = children
        self._spool = spool
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._program = shepherd_path()
        self._socket: socket.socket | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._planned = False
        self._writing = False
        self._retry_s = _RETRY_FIRST_S
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Start the process.  Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self.pid = self._children.spawn(
                [self._program, "--serve", self._spool], {}, [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)], self._ended
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        self._write()
        log.debug("forking shepherd started pid=%d", self.pid)

    def send(self, spec: bytes) -> bool:
        """Describe a step; sent at the end of the turn, or when the process has been started again.  False if too much
        waits."""
        if self._closed or self._waiting_bytes + len(spec) > WAITING_MAX:
            return False
        self._waiting.append(spec)
        self._waiting_bytes += len(spec)
        if self._socket is not None and not self._planned and not self._writing:
            self._planned = True
            self._loop.call_soon(self._write)
        return True

    def _write(self) -> None:
        self._planned = False
        sock = self._socket
        while self._waiting and sock is not None:
            data = b"".join(self._waiting)
            try:
                sent = sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as exc:
                log.debug("forking shepherd: %s", exc.strerror)
                return  # its end is being told by SIGCHLD
            self._waiting_bytes -= sent
            self._waiting = [data[sent:]] if sent < len(data) else []
            if self._waiting:
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(sock, self._write)
                return
        if self._writing and sock is not None:
            self._writing = False
            self._loop.remove_writer(sock)

    def _drop_socket(self) -> None:
        if self._socket is not None:
            if self._writing:
                self._loop.remove_writer(self._socket)
            self._socket.close()
        self._socket = None
        self._writing = False
        self._waiting.clear()
        self._waiting_bytes = 0

    def _ended(self, status: int) -> None:
        self._drop_socket()
        self.pid = 0
        if self._closed:
            return
        log.error("the forking shepherd died status=%#x; it is started again", status)
        self._timer = self._loop.call_later(self._retry_s, self._again)
        self._retry_s = min(self._retry_s * 2, _RETRY_MAX_S)
        self._on_gone()

    def _again(self) -> None:
        try:
            self.start()
        except OSError as exc:
            log.error("cannot start %s: %s", self._program, exc.strerror)
            self._timer = self._loop.call_later(_RETRY_MAX_S, self._again)
            self._drop_socket()
            self._on_gone()  # what was described meanwhile is not going to run

    def close(self) -> None:
        """Let it end; steps go on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._write()
        self._drop_socket()
