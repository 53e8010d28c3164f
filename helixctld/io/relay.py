"""User connections of a node's agent socket, as the controller sees them.

`RelayConn` looks like `helix.wire.agent.Conn` to the service.  The uid is what the node's kernel said; the node's
CURVE key vouches for it (root on a member host is trusted to say which uid asked there, nobody else is).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from helix.wire.messages import Relay, RelayReply
from helixctld.io.links import Link

CONNS_MAX = 4096  #: relayed connections of one link


class RelayConn:
    """One user connection on a node."""

    def __init__(self, send: Callable[[list[Any]], object], conn: int, uid: int, gid: int) -> None:
        self.uid, self.gid, self.pid = uid, gid, 0
        self.id = conn
        self.data: object = None
        self.is_open = True
        self.is_congested = False  # the node bounds its own buffers and closes a reader that lags
        self._send = send

    def send(self, payload: bytes) -> bool:
        """One frame for the user."""
        if self.is_open:
            self._send([RelayReply(conn=self.id, frames=[payload])])
        return self.is_open

    async def drain(self) -> None:
        """The node applies the pressure."""

    def close(self) -> None:
        """Have the node close the connection."""
        if self.is_open:
            self.is_open = False
            self._send([RelayReply(conn=self.id, close=True)])


class Relays:
    """All relayed connections: (link, number) -> connection."""

    def __init__(
        self,
        send: Callable[[Any, list[Any]], object],
        on_frame: Callable[[Any, bytes], None],
        on_close: Callable[[Any], None],
    ) -> None:
        self._send = send
        self._on_frame = on_frame
        self._on_close = on_close
        self._conns: dict[Any, dict[int, RelayConn]] = {}

    def on_relay(self, link: Link, message: Relay) -> None:
        """A frame from, or the end of, a user connection on a node."""
        conns = self._conns.setdefault(link.id, {})
        conn = conns.get(message.conn)
        if message.closed:
            if conn is not None:
                del conns[message.conn]
                conn.is_open = False
                self._on_close(conn)
            return
        if conn is None or conn.uid != message.uid:
            if len(conns) >= CONNS_MAX:
                self._send(link.id, [RelayReply(conn=message.conn, close=True)])
                return
            conn = RelayConn(partial(self._send, link.id), message.conn, message.uid, message.gid)
            conns[message.conn] = conn
        self._on_frame(conn, message.frame)

    def drop_link(self, link_id: Any) -> None:
        """The link is gone, and all its connections with it."""
        for conn in self._conns.pop(link_id, {}).values():
            conn.is_open = False
            self._on_close(conn)

    @property
    def count(self) -> int:
        """Relayed connections."""
        return sum(map(len, self._conns.values()))
