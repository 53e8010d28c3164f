"""A raw ZeroMQ socket on the asyncio loop, and its monitor.

zmq.asyncio makes a future for every message; this calls a function.  ZeroMQ's file descriptor is edge-triggered: it
becomes readable once when the state changes, so after it was readable, and after every send, the socket's EVENTS are
looked at again.  Nothing blocks, and no more than a bounded number of messages is taken in one turn of the loop.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Callable, Sequence

import zmq

Socket = zmq.Socket[bytes]
Context = zmq.Context[zmq.Socket[bytes]]

PER_TURN = 200  #: messages taken from one socket before the loop gets its turn
_serial = itertools.count()
_EVENT = struct.Struct("=HI")


def new_context() -> Context:
    """A context whose end never blocks."""
    ctx: Context = zmq.Context(io_threads=1)
    ctx.setsockopt(zmq.LINGER, 0)
    ctx.set(zmq.MAX_SOCKETS, 4096)
    return ctx


class LoopSocket:
    """Calls `on_message(frames)` for each message and `on_writable()` when a socket that was full is so no more."""

    def __init__(
        self,
        sock: Socket,
        on_message: Callable[[Sequence[zmq.Frame]], None],
        on_writable: Callable[[], None] | None = None,
    ) -> None:
        self.sock = sock
        self._on_message = on_message
        self._on_writable = on_writable
        self._loop = asyncio.get_running_loop()
        self._fd = int(sock.getsockopt(zmq.FD))
        self._planned = False
        self._loop.add_reader(self._fd, self._ready)
        self.poke()

    def poke(self) -> None:
        """Look at the socket soon; to be called after sending."""
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._ready)

    def send(self, parts: Sequence[bytes]) -> bool:
        """Send without waiting; False if the queue is full.  Raises zmq.ZMQError (EHOSTUNREACH: no such peer)."""
        try:
            self.sock.send_multipart(parts, zmq.NOBLOCK, copy=True)
        except zmq.Again:
            return False
        finally:
            self.poke()
        return True

    def close(self, linger_ms: int = 0) -> None:
        """Leave the loop and close the socket."""
        if not self.sock.closed:
            self._loop.remove_reader(self._fd)
            self.sock.close(linger_ms)

    def drain(self) -> bool:
        """Take what has arrived, up to PER_TURN messages; True if there may be more."""
        sock = self.sock
        more = True  # also after an exception: what else has arrived must not wait for the next edge
        try:
            for _ in range(PER_TURN):
                if sock.closed:
                    more = False
                    break
                try:
                    frames = sock.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    more = False
                    break
                self._on_message(frames)
        finally:
            if more:
                self.poke()
        return more

    def _ready(self) -> None:
        self._planned = False
        if self.sock.closed:
            return
        events = int(self.sock.getsockopt(zmq.EVENTS))
        if events & zmq.POLLIN:
            self.drain()
        if events & zmq.POLLOUT and self._on_writable is not None and not self.sock.closed:
            self._on_writable()


class Monitor:
    """Connection events of a socket: `on_event(event, value)`, see zmq_socket_monitor(3)."""

    def __init__(self, sock: Socket, events: int, on_event: Callable[[int, int], None]) -> None:
        self._on_event = on_event
        self._watched = sock
        addr = f"inproc://helix.monitor.{next(_serial)}"
        sock.monitor(addr, events)
        pair = sock.context.socket(zmq.PAIR)
        pair.setsockopt(zmq.RCVHWM, 0)  # a full queue would block ZeroMQ's own thread
        pair.setsockopt(zmq.LINGER, 0)
        pair.connect(addr)
        self._pair = LoopSocket(pair, self._message)

    def drain(self) -> None:
        """Handle everything that has happened up to now."""
        while self._pair.drain():
            continue

    def close(self) -> None:
        """Stop watching; before the watched socket is closed."""
        if not self._watched.closed:
            self._watched.monitor(None, 0)
        self._pair.close()

    def _message(self, frames: Sequence[zmq.Frame]) -> None:
        head = frames[0].bytes
        if len(head) == _EVENT.size:
            event, value = _EVENT.unpack(head)
            self._on_event(event, value)
