"""User requests in, replies out: decode, authorise by the one table, dispatch, reply when durable.

Identity comes with the connection (SO_PEERCRED here, or on a member node), the role from the configuration, the
permission from `helix.wire.methods`; all three are settled here, before any handler runs.  Handlers are grouped by
noun in `serve_jobs.py`, `serve_nodes.py` and `serve_streams.py` and registered by method name; a method of the table
without a handler is a fault found at start.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from helix.errors import HelixError, InternalError, NotNow
from helix.wire.codec import decode_args, decode_request, encode_error, encode_reply
from helix.wire.limits import KeyedBuckets
from helix.wire.methods import METHODS
from helixctld.core.caller import Caller, require_method
from helixctld.io.identity import People

log = logging.getLogger("helixctld.service")

STREAMS_MAX = 64  #: streaming requests of one connection


class Session:
    """What the service keeps of a connection: its streaming tasks."""

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()


class Call:
    """One request under way: who, what, and how to answer."""

    __slots__ = ("caller", "conn", "i", "t")

    def __init__(self, conn: Any, i: int, caller: Caller) -> None:
        self.conn = conn
        self.i = i
        self.caller = caller
        self.t = time.time()

    def reply(self, result: Any, *, more: bool = False) -> bool:
        """Send a result; False if the connection is gone."""
        return bool(self.conn.send(encode_reply(self.i, result, more=more)))

    def refuse(self, error: BaseException) -> None:
        """Send an error."""
        self.conn.send(encode_error(self.i, error))


#: A handler answers through the call, at once or later; a coroutine is a stream and becomes a task.
Handler = Callable[[Call, Any], "Coroutine[Any, Any, None] | None"]


class Service:
    """The dispatcher.  `on_frame` and `on_close` are what agent sockets and relays call."""

    def __init__(self, people: People, handlers: dict[str, Handler]) -> None:
        missing, extra = METHODS.keys() - handlers.keys(), handlers.keys() - METHODS.keys()
        if missing or extra:
            raise InternalError(f"methods without handler {sorted(missing)}, handlers without method {sorted(extra)}")
        self.people = people
        self.counters: dict[str, int] = dict.fromkeys(METHODS, 0)
        self.times_us: dict[str, int] = dict.fromkeys(METHODS, 0)
        self.by_user: dict[int, int] = {}
        self.refused = 0
        self.buckets: KeyedBuckets | None = None  # HelixctldParameters=rl_enable
        self._handlers = handlers

    def on_frame(self, conn: Any, frame: bytes) -> None:
        """A request.  Every failure becomes a reply; nothing escapes to the loop."""
        i = 0
        started = time.perf_counter()
        name = ""
        try:
            request = decode_request(frame)
            i = request.i
            caller = self.people.caller(conn.uid, conn.gid)
            method = require_method(request.m, caller)
            name = method.name
            if self.buckets is not None and not caller.is_operator:
                self._pace(caller)
            args = decode_args(request.a, method.args, method.name)
            log.debug("request uid=%d method=%s", conn.uid, name)
            pending = self._handlers[name](Call(conn, i, caller), args)
            if pending is not None:
                self._start_stream(conn, i, pending)
        except HelixError as exc:
            self.refused += 1
            if isinstance(exc.data.get("i"), int):
                i = exc.data.pop("i")
            conn.send(encode_error(i, exc))
        except Exception as exc:  # boundary: a fault in a handler must not take the daemon down
            log.exception("fault in %s", name or "a request")
            conn.send(encode_error(i, exc))
        if name:
            self.counters[name] += 1
            self.times_us[name] += int((time.perf_counter() - started) * 1e6)
            self.by_user[conn.uid] = self.by_user.get(conn.uid, 0) + 1

    def _pace(self, caller: Caller) -> None:
        assert self.buckets is not None
        wait_s = self.buckets.take(caller.uid, time.monotonic())
        if wait_s > 0:
            raise NotNow(
                "too many requests from this user",
                code="TRY_AGAIN",
                hint="the commands wait and try again by themselves",
                data={"retry_after_s": round(wait_s, 2)},
            )

    def _start_stream(self, conn: Any, i: int, coroutine: Coroutine[Any, Any, None]) -> None:
        if conn.data is None:
            conn.data = Session()
        tasks = conn.data.tasks
        if len(tasks) >= STREAMS_MAX:
            coroutine.close()
            raise NotNow(f"more than {STREAMS_MAX} streams on one connection", code="TOO_MANY_STREAMS")
        task = asyncio.get_running_loop().create_task(self._run_stream(conn, i, coroutine))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _run_stream(self, conn: Any, i: int, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except HelixError as exc:
            conn.send(encode_error(i, exc))
        except ConnectionResetError:
            log.debug("%r went away during a stream", conn)
        except Exception as exc:  # boundary: as in on_frame
            log.exception("fault in a stream")
            conn.send(encode_error(i, exc))

    def on_close(self, conn: Any) -> None:
        """The connection is gone: so are its streams."""
        if conn.data is not None:
            for task in list(conn.data.tasks):
                task.cancel()

    def reset_counters(self) -> None:
        """`hdiag --reset`."""
        for table in (self.counters, self.times_us):
            for name in table:
                table[name] = 0
        self.by_user.clear()
        self.refused = 0
