"""State changes as a stream: a bounded ring that watchers read by cursor, and those who wait for a job's end.

A cursor is a number that rises by one with each event and starts anew, higher, with each controller start.  A reader
whose cursor has left the ring is told COMPACTED: list again, then watch from the cursor of the listing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from helix.errors import Conflict
from helixctld.core.state import Transition

RING_MAX = 100_000  #: events kept, about 300 B each
BATCH_MAX = 1000  #: events in one frame
EPOCH_SHIFT = 40  #: cursors of one controller start


class Feed:
    """The ring.  Readers wait on `changed`; nothing is kept for them."""

    def __init__(self, epoch: int) -> None:
        self._ring: deque[dict[str, Any]] = deque(maxlen=RING_MAX)
        self._next = (epoch << EPOCH_SHIFT) + 1
        self._first = self._next
        self._waiters: set[asyncio.Future[None]] = set()
        self.end_listeners: dict[int, set[Callable[[Transition], None]]] = {}

    @property
    def cursor(self) -> int:
        """The cursor of the newest event."""
        return self._next - 1

    def publish(self, kind: str, t: float, **fields: Any) -> None:
        """Add an event and wake the readers."""
        if len(self._ring) == RING_MAX:
            self._first += 1
        self._ring.append({"cursor": self._next, "t": t, "kind": kind, **fields})
        self._next += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def publish_job(self, change: Transition) -> None:
        """A job's change of state."""
        job = change.job
        self.publish(
            "job",
            change.t,
            id=job.job_id,
            display_id=job.display_id,
            array_job_id=job.array_job_id,
            name=job.spec.name,
            user=job.user,
            uid=job.uid,
            partition=job.partition,
            old=change.old,
            new=change.new,
            reason=str(job.reason),
            exit_code=str(job.exit),
        )
        if job.is_terminal:
            for key in {job.job_id, job.array_job_id}:
                for listener in tuple(self.end_listeners.get(key, ())):
                    listener(change)

    def after(self, cursor: int) -> tuple[list[dict[str, Any]], int]:
        """Events after `cursor` (at most `BATCH_MAX`) and the cursor of the last; raises Conflict (COMPACTED)."""
        if cursor > self.cursor or cursor < self._first - 1:
            raise Conflict(
                "the cursor is too old (or from another controller): list again",
                code="COMPACTED",
                data={"cursor": self.cursor},
            )
        start = cursor - self._first + 1
        stop = min(start + BATCH_MAX, len(self._ring))
        events = list(islice(self._ring, start, stop))
        return events, events[-1]["cursor"] if events else cursor

    async def changed(self, cursor: int) -> None:
        """Return when there is an event after `cursor`."""
        if self.cursor > cursor:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def on_end(self, job_id: int, listener: Callable[[Transition], None]) -> Callable[[], None]:
        """Call `listener` when the job (or a task of the array) ends; gives the function that stops that."""
        listeners = self.end_listeners.setdefault(job_id, set())
        listeners.add(listener)

        def stop() -> None:
            listeners.discard(listener)
            if not listeners:
                self.end_listeners.pop(job_id, None)

        return stop
