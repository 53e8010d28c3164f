"""The Python interface: `Client` talks to the agent socket of a helixctld or helixd.

    with Client() as helix:
        job = helix.submit(wrap="make -j8", cpus_per_task=8, time_limit="1:00:00")
        end = helix.wait(job)[0]

Calls are repeated, with back-off, when the controller is down or busy, as long as that is safe: a request that may
have been acted upon is repeated only if doing it twice is the same as doing it once.  A submit always is, because it
carries a token.  Errors are those of `helix.errors`.  A `Client` belongs to one thread; it keeps one idle connection,
and every stream being read has a connection of its own.

Standard library only: the commands import this, and start-up time counts.
"""

from __future__ import annotations

import math
import time

from helix.calls import (
    CONNECT_S,
    ENDLESS,
    REPEATABLE,
    START_HINT,
    TIMEOUT_S,
    WINDOW,
    ConnectionLost,
    Patience,
    answer_lost,
    awaits_node,
    cancel_args,
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
from helix.connection import Connection
from helix.errors import HelixError, NotNow, TimedOut, Unavailable
from helix.rows import Event, Job, JobEnd, Node, Partition, Reservation
from helix.submission import submit_args

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Self, Unpack

    from helix.submission import SubmitOptions


class Client:
    """A synchronous client; a context manager.  Nothing is connected before the first call."""

    def __init__(
        self,
        socket_path: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        connect_s: float = CONNECT_S,
        on_retry: Callable[[HelixError, float], None] | None = None,
    ) -> None:
        """`socket_path`: one, or several to try in order; default HELIX_SOCKET, then the usual ones.

        `timeout_s` bounds a call with its repeats, `connect_s` trying while nobody answers.  `on_retry(error, pause)`
        is called before each pause, to tell a waiting user.
        """
        self.socket_paths = socket_candidates(socket_path)
        self.timeout_s = timeout_s
        self.connect_s = connect_s
        self._on_retry = on_retry
        self._idle: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connection.  The client may be used again."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    # ---- any method

    def call(
        self, method: str, args: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Ask and return the answer's `r`.  Of a streamed answer: its first frame.

        Raises the server's error, Unavailable, TimedOut.
        """
        patience = Patience(time.monotonic(), self.timeout_s if timeout_s is None else timeout_s, self.connect_s)
        while True:
            sent = False
            conn: Connection | None = None
            try:
                conn = self._take(patience)
                i = conn.next_i()
                data = encode_call(i, method, args)
                sent = True
                conn.send(data, patience.left_s(time.monotonic()))
                answer = self._answer(conn, i, patience.left_s(time.monotonic()))
                if answer["i"] != i:
                    conn.close()
                    raise_of_connection(answer)
                elif answer.get("more"):
                    conn.close()
                else:
                    self._give(conn)
                return result_of(answer)
            except ConnectionLost as exc:
                if conn is not None:
                    conn.close()
                self._pause(answer_lost(method, str(exc)), method, patience, sent=sent)
            except (NotNow, Unavailable) as error:
                self._pause(error, method, patience, sent=sent)
            except BaseException:
                if conn is not None and conn is not self._idle:
                    conn.close()
                raise

    def stream(
        self,
        method: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        deadline: float | None = None,
    ) -> Generator[dict[str, Any], None, None]:
        """Ask and yield the answer's `r` frame by frame.

        Repeated like `call` until the first frame has come; a loss after that raises Unavailable.  `timeout_s` bounds
        the wait for each frame (default: none for streams that wait for something to happen), `deadline` (monotonic)
        the whole.
        """
        if timeout_s is None and method not in ENDLESS:
            timeout_s = self.timeout_s
        patience = Patience(time.monotonic(), timeout_s, self.connect_s)
        if deadline is not None:
            patience.deadline = deadline
        conn: Connection | None = None
        started = False
        try:
            while True:
                sent, t_sent = False, 0.0
                try:
                    conn = using = self._take(patience)
                    i = using.next_i()
                    data = encode_call(i, method, args)
                    sent, t_sent = True, time.monotonic()
                    using.send(data, patience.left_s(t_sent))
                    more = True
                    while more:
                        left_s = timeout_s if deadline is None else max(0.0, deadline - time.monotonic())
                        answer = self._answer(using, i, left_s)
                        if answer["i"] != i:
                            raise_of_connection(answer)
                        more = bool(answer.get("more"))
                        if not more:
                            self._give(using)
                            conn = None
                        result = result_of(answer)
                        started = True
                        yield result
                    return
                except ConnectionLost as exc:
                    lost = answer_lost(method, str(exc))
                    if started:
                        raise lost from exc
                    if sent:
                        patience.held(time.monotonic() - t_sent)
                    self._pause(lost, method, patience, sent=sent)
                except (NotNow, Unavailable) as error:
                    if started:
                        raise
                    self._pause(error, method, patience, sent=sent)
                if conn is not None:
                    conn.close()
                    conn = None
        finally:
            if conn is not None:
                conn.close()

    def call_many(
        self,
        calls: Iterable[tuple[str, Mapping[str, Any]]],
        *,
        window: int = WINDOW,
        timeout_s: float | None = None,
    ) -> list[dict[str, Any] | HelixError]:
        """Many calls, up to `window` on the way at once; answers in the order of `calls`, an error in its place.

        `timeout_s` is for each answer to come after the one before.  Raises Unavailable if nobody answers any more,
        UsageError and LimitExceeded for a call that cannot be sent.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        todo = [(method, args) for method, args in calls]
        results: list[dict[str, Any] | HelixError | None] = [None] * len(todo)
        queue = list(range(len(todo) - 1, -1, -1))
        flying: dict[int, int] = {}
        patience = Patience(time.monotonic(), limit_s, self.connect_s)
        conn: Connection | None = None
        out = bytearray()
        try:
            while queue or flying:
                try:
                    if conn is None:
                        conn = self._take(patience)
                    while queue and len(flying) < window and len(out) < 1 << 20:
                        index = queue.pop()
                        i = conn.next_i()
                        out += encode_call(i, *todo[index])
                        flying[i] = index
                    answers = conn.exchange(out, patience.left_s(time.monotonic()))
                    patience = Patience(time.monotonic(), limit_s, self.connect_s)
                    pause = self._sort_answers(answers, flying, results, todo, queue, patience)
                    if pause:
                        time.sleep(pause)
                except ConnectionLost as exc:
                    assert conn is not None
                    conn.close()
                    conn = None
                    out.clear()
                    self._requeue(flying, results, todo, queue, str(exc))
                    time.sleep(patience.pause(unreachable({}, f"the connection broke ({exc})"), time.monotonic()))
                except (NotNow, Unavailable) as error:  # nobody there, or refused as a connection
                    if conn is not None:
                        conn.close()
                        conn = None
                    out.clear()
                    queue.extend(sorted(flying.values(), reverse=True))
                    flying.clear()
                    self._pause(error, "job.token", patience, sent=False)
            if conn is not None:
                self._give(conn)
                conn = None
        finally:
            if conn is not None:
                conn.close()
        return [result for result in results if result is not None]

    def _sort_answers(
        self,
        answers: list[dict[str, Any]],
        flying: dict[int, int],
        results: list[dict[str, Any] | HelixError | None],
        todo: list[tuple[str, Mapping[str, Any]]],
        queue: list[int],
        patience: Patience,
    ) -> float:
        """Put answers into `results`; those to be asked again back into `queue`; return how long to wait first."""
        pause = 0.0
        for answer in answers:
            index = flying.pop(answer["i"], None)
            if index is None:
                if answer["i"] == 0:
                    raise_of_connection(answer)
                continue
            if results[index] is not None:
                continue
            try:
                results[index] = result_of(answer)
                if answer.get("more"):  # only the first frame is wanted
                    flying[answer["i"]] = index
            except HelixError as error:
                if is_worth_repeating(error, todo[index][0], sent=True):
                    pause = max(pause, patience.pause(error, time.monotonic()))
                    queue.append(index)
                else:
                    results[index] = error
        return pause

    def _requeue(
        self,
        flying: dict[int, int],
        results: list[dict[str, Any] | HelixError | None],
        todo: list[tuple[str, Mapping[str, Any]]],
        queue: list[int],
        why: str,
    ) -> None:
        for index in sorted(flying.values(), reverse=True):
            if results[index] is None:
                if todo[index][0] in REPEATABLE:
                    queue.append(index)
                else:
                    results[index] = answer_lost(todo[index][0], why)
        flying.clear()

    # ---- connections

    def _take(self, patience: Patience) -> Connection:
        conn, self._idle = self._idle, None
        if conn is not None:
            if not conn.is_stale():
                return conn
            conn.close()
        left = patience.left_s(time.monotonic())
        return Connection.open(self.socket_paths, self.connect_s if left is None else min(left, self.connect_s))

    def _give(self, conn: Connection) -> None:
        if self._idle is None:
            self._idle = conn
        elif self._idle is not conn:
            conn.close()

    def _answer(self, conn: Connection, i: int, timeout_s: float | None) -> dict[str, Any]:
        """The reply to `i`, or one that concerns the connection."""
        while True:
            answer = conn.receive(timeout_s)
            if answer["i"] == i or (answer["i"] == 0 and answer.get("ok") is not True):
                return answer

    def _pause(self, error: HelixError, method: str, patience: Patience, *, sent: bool) -> None:
        """Wait before asking again, or raise `error`."""
        if not is_worth_repeating(error, method, sent=sent):
            raise error
        pause = patience.pause(error, time.monotonic(), sent=sent and may_have_arrived(error, method))
        if self._on_retry is not None:
            self._on_retry(error, pause)
        time.sleep(pause)

    # ---- jobs

    def submit(self, script: str | os.PathLike[str] | None = None, **options: Unpack[SubmitOptions]) -> int:
        """Submit a batch job and return its id, once the controller has it on disk.

        `script` and the options: see `helix.submission.submit_args`.  A retry never makes a second job.
        """
        return int(self.call("job.submit", submit_args(script, options))["job_id"])

    def submit_many(self, jobs: Iterable[Mapping[str, Any]], *, window: int = WINDOW) -> list[int | HelixError]:
        """Submit many, up to `window` on the way at once: a job id, or its error, for each.

        Each of `jobs` holds the options of `submit`, with "script" for the script; or is a complete `a` of job.submit
        (recognised by its "spec"), to which a token is added if it has none.
        """
        calls = [("job.submit", many_args(job)) for job in jobs]
        answers = self.call_many(calls, window=window)
        return [answer if isinstance(answer, HelixError) else int(answer["job_id"]) for answer in answers]

    def wait(self, jobs: Any, timeout_s: float | None = None) -> list[JobEnd]:
        """Wait until all `jobs` (ids, "12_3", Job objects) have ended; in the order in which they did.

        Raises TimedOut (data["left"]: ids still going) after `timeout_s`.
        """
        return list(self.wait_each(jobs, timeout_s))

    def wait_each(self, jobs: Any, timeout_s: float | None = None) -> Iterator[JobEnd]:
        """Yield a JobEnd as each job ends.  Survives restarts of the controller."""
        left = dict.fromkeys(id_list(jobs))
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        patience = Patience(time.monotonic(), None, self.connect_s)
        seen: set[str] = set()
        while left:
            heard = False
            try:
                for frame in self.stream("job.wait", {"ids": list(left)}, deadline=deadline):
                    heard = True
                    patience.answered()
                    end = JobEnd(frame)
                    for name in (str(end.get("display_id", "")), str(end.get("job_id", ""))):
                        left.pop(name, None)
                    if "state" in end and str(end.get("display_id", "")) not in seen:
                        seen.add(str(end.get("display_id", "")))
                        yield end
                return  # the stream is complete: arrays have answered under the ids of their tasks
            except TimedOut as exc:
                raise TimedOut(
                    f"{len(left)} of the jobs have not ended: {','.join(list(left)[:5])}", data={"left": list(left)}
                ) from exc
            except Unavailable as error:
                if not heard:  # the stream has tried for long enough
                    raise
                self._pause(error, "job.wait", patience, sent=False)

    def cancel(self, jobs: Any = None, *, signal: int = 0, **criteria: Any) -> dict[str, Any]:
        """Cancel (or only signal) jobs by id and by criteria (users, names, partitions, states...): see JobFilter.

        Returns {matched, signalled, errors}.
        """
        return self.call("job.cancel", cancel_args(jobs, signal, criteria))

    def queue(self, jobs: Any = None, *, fields: Sequence[str] = (), **criteria: Any) -> list[Job]:
        """The queue: pending and running jobs, or those the criteria select (ids, users, states, partitions...)."""
        return self._table("job.list", list_args(jobs, fields, criteria), Job)

    def job(self, job: Any) -> Job:
        """Everything about one job (of an array: its own record)."""
        return self.jobs(job)[0]

    def jobs(self, jobs: Any) -> list[Job]:
        """Everything about some jobs."""
        return [Job(row) for row in self.call("job.show", {"ids": id_list(jobs)})["jobs"]]

    def why(self, jobs: Any) -> list[dict[str, Any]]:
        """Why jobs wait."""
        return list(self.call("job.why", {"ids": id_list(jobs)})["jobs"])

    def hold(self, jobs: Any) -> dict[str, Any]:
        """Hold jobs."""
        return self.call("job.hold", {"ids": id_list(jobs)})

    def release(self, jobs: Any) -> dict[str, Any]:
        """Release held jobs."""
        return self.call("job.release", {"ids": id_list(jobs)})

    def requeue(self, jobs: Any, *, hold: bool = False) -> dict[str, Any]:
        """Put jobs back into the queue."""
        return self.call("job.requeue", {"ids": id_list(jobs), "hold": hold})

    def update(self, jobs: Any, **changes: Any) -> dict[str, Any]:
        """Change jobs: scontrol's names, as in `update(12, TimeLimit="2:00:00")`."""
        texts = {name: str(value) for name, value in changes.items()}
        return self.call("job.update", {"ids": id_list(jobs), "changes": texts})

    # ---- the cluster

    def ping(self) -> dict[str, Any]:
        """The controller's name, version, epoch and time."""
        return self.call("ping")

    def nodes(self, nodes: str = "", **criteria: Any) -> list[Node]:
        """Nodes, all or those of a host list, states=[...], partitions=[...]."""
        args = {"nodes": nodes} if nodes else {}
        return self._table("node.list", {**args, **{k: id_list(v) for k, v in criteria.items() if v}}, Node)

    def partitions(self, name: str = "") -> list[Partition]:
        """Partitions, all or one."""
        return self._table("partition.list", {"name": name} if name else {}, Partition)

    def reservations(self, name: str = "") -> list[Reservation]:
        """Advance reservations, all or one; `call("reservation.create", {"changes": {...}})` makes them."""
        return self._table("reservation.list", {"name": name} if name else {}, Reservation)

    def _table(self, method: str, args: Mapping[str, Any], kind: type[Any]) -> list[Any]:
        """All rows of a columnar answer; read again from the start if the connection breaks on the way."""
        patience = Patience(time.monotonic(), self.timeout_s, self.connect_s)
        while True:
            rows: list[Any] = []
            try:
                for frame in self.stream(method, args):
                    rows.extend(kind.from_table(frame.get("columns", ()), frame.get("rows", ())))
                return rows
            except Unavailable as error:
                if not rows:  # the stream has tried for long enough
                    raise
                self._pause(error, method, patience, sent=True)

    # ---- streams

    def events(self, cursor: int = 0, *, nodes: bool = False, **criteria: Any) -> Iterator[Event]:
        """State changes after `cursor` (0: from now), as they happen, for ever.

        A lost connection is resumed at the last cursor seen.  Raises Conflict (COMPACTED) when the controller no
        longer has what lies between: list again, then watch from 0 (the data of the error names the present cursor,
        if the server says it).
        """
        patience = Patience(time.monotonic(), None, self.connect_s)
        while True:
            heard = False
            try:
                for frame in self.stream("events.watch", watch_args(cursor, nodes, criteria)):
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
                self._pause(error, "events.watch", patience, sent=False)

    def log(
        self, job: Any, *, follow: bool = False, stream: str = "stdout", offset: int = 0, attempt: int = -1
    ) -> Iterator[bytes]:
        """A job's output, piece by piece, from `offset` (negative: from the end); with `follow` until it has ended.

        A lost connection is resumed where it broke.  A node that does not respond is an error (NODE_UNREACHABLE), but
        for `follow`: that waits until the node is back.
        """
        from binascii import a2b_base64

        patience = Patience(time.monotonic(), None, self.connect_s)
        for_node = Patience(time.monotonic(), None, math.inf)
        while True:
            args = log_args(id_list(job)[0], follow, stream, offset, attempt)
            heard = False
            try:
                for frame in self.stream("job.log", args):
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
                    pause = for_node.pause(error, time.monotonic())
                    if self._on_retry is not None:
                        self._on_retry(error, pause)
                    time.sleep(pause)
                elif heard:
                    self._pause(error, "job.log", patience, sent=False)
                else:
                    raise
