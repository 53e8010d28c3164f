"""The Python interface for asyncio: `AsyncClient`, `Client`'s methods as coroutines and asynchronous iterators.

    async with AsyncClient() as helix:
        job = await helix.submit(wrap="hostname")
        async for event in helix.events():
            ...

Any number of calls may be on the way at once on the one connection; a stream has a connection of its own, so a slow
reader delays nobody.  Repeats, errors and arguments are `Client`'s (`helix.calls`).
"""

from __future__ import annotations

import asyncio
import math
import time
from binascii import a2b_base64

from helix.calls import (
    CONNECT_S,
    ENDLESS,
    START_HINT,
    TIMEOUT_S,
    WINDOW,
    ConnectionLost,
    Patience,
    answer_lost,
    awaits_node,
    cancel_args,
    decode_answer,
    encode_call,
    id_list,
    is_worth_repeating,
    list_args,
    log_args,
    many_args,
    may_have_arrived,
    raise_of_connection,
    result_of,
    socket_candidates,
    unreachable,
    watch_args,
)
from helix.errors import HelixError, NotNow, ProtocolError, TimedOut, Unavailable
from helix.rows import Event, Job, JobEnd, Node, Partition, Reservation
from helix.submission import submit_args
from helix.wire.frames import HEADER_BYTES, SERVER_FRAME_MAX, reachable_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
    from typing import Any, Self, Unpack

    from helix.submission import SubmitOptions


class _Link:
    """A connection: frames out, answers in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._next_i = 1
        self._due: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pump: asyncio.Task[None] | None = None
        self.lost = ""

    @classmethod
    async def open(cls, candidates: Sequence[str], timeout_s: float) -> _Link:
        """Connect to the first socket that answers.  Raises Unavailable naming all that were tried."""
        tried: dict[str, str] = {}
        for path in candidates:
            try:
                with reachable_path(path) as name:
                    opening = asyncio.open_unix_connection(name, limit=1 << 20)
                    reader, writer = await asyncio.wait_for(opening, timeout_s)
                return cls(reader, writer)
            except TimeoutError:
                tried[path] = "no answer"
            except OSError as exc:
                tried[path] = (exc.strerror or str(exc)).lower()
        raise unreachable(tried)

    def next_i(self) -> int:
        """A number for a request."""
        i = self._next_i
        self._next_i = i + 1
        return i

    async def ask(self, i: int, data: bytes) -> dict[str, Any]:
        """Send a request and wait for its answer.  Raises ConnectionLost, or what the server says of the connection."""
        if self.lost:
            raise ConnectionLost(self.lost)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._read_all())
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._due[i] = future
        try:
            self._writer.write(data)
            await self._writer.drain()
            return await future
        except OSError as exc:
            raise ConnectionLost(exc.strerror or str(exc)) from exc
        finally:
            self._due.pop(i, None)

    async def send(self, data: bytes) -> None:
        """Send a request whose answers are read with `read`."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as exc:
            raise ConnectionLost(exc.strerror or str(exc)) from exc

    async def read(self) -> dict[str, Any]:
        """The next answer.  Raises ConnectionLost, ProtocolError."""
        try:
            length = int.from_bytes(await self._reader.readexactly(HEADER_BYTES), "little")
            if not 0 < length <= SERVER_FRAME_MAX:
                raise ProtocolError(f"a frame of {length} bytes was announced", code="FRAME_TOO_LARGE")
            return decode_answer(await self._reader.readexactly(length))
        except asyncio.IncompleteReadError as exc:
            raise ConnectionLost("closed by the other side") from exc
        except OSError as exc:
            raise ConnectionLost(exc.strerror or str(exc)) from exc

    async def _read_all(self) -> None:
        """Hand each answer to who waits for it, until the connection ends; then tell all who still wait."""
        error: Exception
        try:
            while True:
                answer = await self.read()
                future = self._due.get(answer["i"])
                if future is not None:
                    if not future.done():
                        future.set_result(answer)
                elif answer["i"] == 0:
                    raise_of_connection(answer)
        except (ConnectionLost, HelixError) as exc:
            error = exc
            self.lost = str(exc) or "lost"
        for future in self._due.values():
            if not future.done():
                future.set_exception(error)
        self._writer.close()

    async def close(self) -> None:
        """Close; who still waits gets ConnectionLost."""
        self.lost = self.lost or "closed"
        self._writer.close()
        if self._pump is not None:
            await asyncio.wait([self._pump])


class AsyncClient:
    """An asynchronous client; an async context manager.  Belongs to one event loop."""

    def __init__(
        self,
        socket_path: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        connect_s: float = CONNECT_S,
    ) -> None:
        """As `Client`."""
        self.socket_paths = socket_candidates(socket_path)
        self.timeout_s = timeout_s
        self.connect_s = connect_s
        self._link: _Link | None = None
        self._opening: asyncio.Lock | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection.  The client may be used again."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    # ---- any method

    async def call(
        self, method: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """As `Client.call`."""
        patience = Patience(time.monotonic(), self.timeout_s if timeout_s is None else timeout_s, self.connect_s)
        while True:
            sent = False
            try:
                link = await self._connected()
                i = link.next_i()
                data = encode_call(i, method, args)
                sent = True
                answer = await asyncio.wait_for(link.ask(i, data), patience.left_s(time.monotonic()))
                return result_of(answer)
            except TimeoutError as exc:
                raise TimedOut(f"no answer to {method} in time", hint="the controller is busy; try again") from exc
            except ConnectionLost as exc:
                await _pause(answer_lost(method, str(exc)), method, patience, sent=sent)
            except (NotNow, Unavailable) as error:
                await _pause(error, method, patience, sent=sent)

    async def stream(
        self, method: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """As `Client.stream`."""
        if timeout_s is None and method not in ENDLESS:
            timeout_s = self.timeout_s
        patience = Patience(time.monotonic(), timeout_s, self.connect_s)
        started = False
        while True:
            sent, t_sent = False, 0.0
            link: _Link | None = None
            try:
                link = await _Link.open(self.socket_paths, self.connect_s)
                i = link.next_i()
                data = encode_call(i, method, args)
                sent, t_sent = True, time.monotonic()
                await asyncio.wait_for(link.send(data), timeout_s)
                more = True
                while more:
                    answer = await asyncio.wait_for(link.read(), timeout_s)
                    more = bool(answer.get("more"))
                    if answer["i"] == 0:
                        raise_of_connection(answer)
                    result = result_of(answer)
                    started = True
                    yield result
                return
            except TimeoutError as exc:
                raise TimedOut(f"no answer to {method} in time", hint="the controller is busy; try again") from exc
            except ConnectionLost as exc:
                lost = answer_lost(method, str(exc))
                if started:
                    raise lost from exc
                if sent:
                    patience.held(time.monotonic() - t_sent)
                await _pause(lost, method, patience, sent=sent)
            except (NotNow, Unavailable) as error:
                if started:
                    raise
                await _pause(error, method, patience, sent=sent)
            finally:
                if link is not None:
                    await link.close()

    async def call_many(
        self, calls: Iterable[tuple[str, Mapping[str, Any]]], *, window: int = WINDOW
    ) -> list[dict[str, Any] | HelixError]:
        """Many calls, up to `window` on the way at once; answers in order, an error in its place."""
        todo = list(calls)
        results: list[dict[str, Any] | HelixError] = [{}] * len(todo)
        numbers = iter(range(len(todo)))

        async def work() -> None:
            for index in numbers:
                try:
                    results[index] = await self.call(*todo[index])
                except HelixError as error:
                    results[index] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(window, len(todo))):
                group.create_task(work())
        return results

    async def _connected(self) -> _Link:
        if self._link is not None and not self._link.lost:
            return self._link
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._link is None or self._link.lost:
                self._link = await _Link.open(self.socket_paths, self.connect_s)
            return self._link

    # ---- jobs

    async def submit(self, script: str | os.PathLike[str] | None = None, **options: Unpack[SubmitOptions]) -> int:
        """Submit a batch job and return its id, once the controller has it on disk; see `Client.submit`."""
        return int((await self.call("job.submit", submit_args(script, options)))["job_id"])

    async def submit_many(self, jobs: Iterable[Mapping[str, Any]], *, window: int = WINDOW) -> list[int | HelixError]:
        """Submit many; a job id, or its error, for each; see `Client.submit_many`."""
        answers = await self.call_many([("job.submit", many_args(job)) for job in jobs], window=window)
        return [answer if isinstance(answer, HelixError) else int(answer["job_id"]) for answer in answers]

    async def wait(self, jobs: Any, timeout_s: float | None = None) -> list[JobEnd]:
        """Wait until all `jobs` have ended; see `Client.wait`."""
        ids = id_list(jobs)
        seen: dict[str, JobEnd] = {}

        async def collect() -> None:
            async for end in self.wait_each(ids):
                seen[str(end.get("display_id", ""))] = end

        try:
            await asyncio.wait_for(collect(), timeout_s)
        except TimeoutError as exc:
            ended = {str(end.get(name, "")) for end in seen.values() for name in ("display_id", "job_id")}
            left = [job for job in ids if job not in ended]
            raise TimedOut(
                f"{len(left)} of the jobs have not ended: {','.join(left[:5])}", data={"left": left}
            ) from exc
        return list(seen.values())

    async def wait_each(self, jobs: Any) -> AsyncIterator[JobEnd]:
        """Yield a JobEnd as each job ends.  Survives restarts of the controller."""
        left = dict.fromkeys(id_list(jobs))
        patience = Patience(time.monotonic(), None, self.connect_s)
        seen: set[str] = set()
        while left:
            heard = False
            try:
                async for frame in self.stream("job.wait", {"ids": list(left)}):
                    heard = True
                    patience.answered()
                    end = JobEnd(frame)
                    name = str(end.get("display_id", ""))
                    left.pop(name, None)
                    left.pop(str(end.get("job_id", "")), None)
                    if "state" in end and name not in seen:
                        seen.add(name)
                        yield end
                return
            except Unavailable as error:
                if not heard:  # the stream has tried for long enough
                    raise
                await _pause(error, "job.wait", patience, sent=False)

    async def cancel(self, jobs: Any = None, *, signal: int = 0, **criteria: Any) -> dict[str, Any]:
        """Cancel (or only signal) jobs; see `Client.cancel`."""
        return await self.call("job.cancel", cancel_args(jobs, signal, criteria))

    async def queue(self, jobs: Any = None, *, fields: Sequence[str] = (), **criteria: Any) -> list[Job]:
        """The queue; see `Client.queue`."""
        return await self._table("job.list", list_args(jobs, fields, criteria), Job)

    async def job(self, job: Any) -> Job:
        """Everything about one job."""
        return (await self.jobs(job))[0]

    async def jobs(self, jobs: Any) -> list[Job]:
        """Everything about some jobs."""
        return [Job(row) for row in (await self.call("job.show", {"ids": id_list(jobs)}))["jobs"]]

    async def why(self, jobs: Any) -> list[dict[str, Any]]:
        """Why jobs wait."""
        return list((await self.call("job.why", {"ids": id_list(jobs)}))["jobs"])

    async def hold(self, jobs: Any) -> dict[str, Any]:
        """Hold jobs."""
        return await self.call("job.hold", {"ids": id_list(jobs)})

    async def release(self, jobs: Any) -> dict[str, Any]:
        """Release held jobs."""
        return await self.call("job.release", {"ids": id_list(jobs)})

    async def requeue(self, jobs: Any, *, hold: bool = False) -> dict[str, Any]:
        """Put jobs back into the queue."""
        return await self.call("job.requeue", {"ids": id_list(jobs), "hold": hold})

    async def update(self, jobs: Any, **changes: Any) -> dict[str, Any]:
        """Change jobs; see `Client.update`."""
        texts = {name: str(value) for name, value in changes.items()}
        return await self.call("job.update", {"ids": id_list(jobs), "changes": texts})

    # ---- the cluster

    async def ping(self) -> dict[str, Any]:
        """The controller's name, version, epoch and time."""
        return await self.call("ping")

    async def nodes(self, nodes: str = "", **criteria: Any) -> list[Node]:
        """Nodes; see `Client.nodes`."""
        args = {"nodes": nodes} if nodes else {}
        return await self._table("node.list", {**args, **{k: id_list(v) for k, v in criteria.items() if v}}, Node)

    async def partitions(self, name: str = "") -> list[Partition]:
        """Partitions, all or one."""
        return await self._table("partition.list", {"name": name} if name else {}, Partition)

    async def reservations(self, name: str = "") -> list[Reservation]:
        """Advance reservations, all or one; `call("reservation.create", {"changes": {...}})` makes them."""
        return await self._table("reservation.list", {"name": name} if name else {}, Reservation)

    async def _table(self, method: str, args: Mapping[str, Any], kind: type[Any]) -> list[Any]:
        patience = Patience(time.monotonic(), self.timeout_s, self.connect_s)
        while True:
            rows: list[Any] = []
            try:
                async for frame in self.stream(method, args):
                    rows.extend(kind.from_table(frame.get("columns", ()), frame.get("rows", ())))
                return rows
            except Unavailable as error:
                if not rows:  # the stream has tried for long enough
                    raise
                await _pause(error, method, patience, sent=True)

    # ---- streams

    async def events(self, cursor: int = 0, *, nodes: bool = False, **criteria: Any) -> AsyncIterator[Event]:
        """State changes after `cursor`, as they happen, for ever; see `Client.events`."""
        patience = Patience(time.monotonic(), None, self.connect_s)
        while True:
            heard = False
            try:
                async for frame in self.stream("events.watch", watch_args(cursor, nodes, criteria)):
                    heard = True
                    patience.answered()
                    for row in frame.get("events", ()):
                        cursor = max(cursor, int(row.get("cursor", 0)))
                        yield Event(row)
                    cursor = max(cursor, int(frame.get("cursor", 0)))
                raise Unavailable("the controller ended the stream of events", hint=START_HINT)
            except Unavailable as error:
                if not heard:
                    raise
                await _pause(error, "events.watch", patience, sent=False)

    async def log(
        self, job: Any, *, follow: bool = False, stream: str = "stdout", offset: int = 0, attempt: int = -1
    ) -> AsyncIterator[bytes]:
        """A job's output, piece by piece; see `Client.log`."""
        patience = Patience(time.monotonic(), None, self.connect_s)
        for_node = Patience(time.monotonic(), None, math.inf)
        while True:
            args = log_args(id_list(job)[0], follow, stream, offset, attempt)
            heard = False
            try:
                async for frame in self.stream("job.log", args):
                    heard = True
                    patience.answered()
                    for_node.answered()
                    data = a2b_base64(frame.get("data_b64", ""))
                    offset = int(frame.get("offset", 0)) + len(data)
                    if data:
                        yield data
                return
            except Unavailable as error:
                if awaits_node(error, follow):
                    await asyncio.sleep(for_node.pause(error, time.monotonic()))
                elif heard:
                    await _pause(error, "job.log", patience, sent=False)
                else:
                    raise


async def _pause(error: HelixError, method: str, patience: Patience, *, sent: bool) -> None:
    """Wait before asking again, or raise `error`."""
    if not is_worth_repeating(error, method, sent=sent):
        raise error
    arrived = sent and may_have_arrived(error, method)
    await asyncio.sleep(patience.pause(error, time.monotonic(), sent=arrived))
