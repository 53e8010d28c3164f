"""The one way by which anything changes: journal, apply, and only when durable let the effects out.

`commit(events, after)` queues the events for the journal and applies them at once; `after` (replies, messages to
nodes) runs on the loop when the batch is durable.  All commits of a loop turn, and all that arrive while a sync is
under way, share the next fdatasync.  One worker thread does the syncs, so a slow disk delays answers and nothing
else.

Full disk: `require_room` refuses new work; what is queued stays queued and is retried each second.  A disk that fails
otherwise ends the daemon: recovery must find what the disk really holds (`helixctld.io.journal`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from helix.blobstore import BlobStore
from helix.errors import NotNow
from helix.model import events as ev
from helix.model.codec import to_msgpack
from helixctld.core import invariants
from helixctld.core.apply import apply
from helixctld.core.effects import Action, effects_of
from helixctld.core.state import State
from helixctld.io.journal import Journal, JournalFailed, JournalFull

log = logging.getLogger("helixctld.commit")

RETRY_S = 1.0  #: between attempts while the disk is full
SNAPSHOT_MIN_INTERVAL_S = 60.0


class Committer:
    """Owns the journal and the order of things.  Everything but the sync runs on the event loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        journal: Journal,
        state: State,
        blobs: BlobStore,
        on_actions: Callable[[list[Action]], None],
        on_applied: Callable[[], None],
        on_failed: Callable[[JournalFailed], None],
    ) -> None:
        self.journal = journal
        self.check_invariants = False
        self.snapshot_every = 200_000
        self.counters = {"syncs": 0, "events": 0, "sync_last_us": 0, "sync_max_us": 0, "snapshots": 0, "full": 0}
        self._loop = loop
        self._state = state
        self._blobs = blobs
        self._on_actions = on_actions
        self._on_applied = on_applied
        self._on_failed = on_failed
        self._outbox: deque[tuple[int, Callable[[], object]]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._snapshot_pool = ThreadPoolExecutor(1, thread_name_prefix="snapshot")  # beside the syncs
        self._syncing = False
        self._planned = False
        self._snapshotting = False
        self._t_snapshot = time.monotonic()
        self._full = False
        self._stopped = False

    def require_room(self) -> None:
        """Raises NotNow (JOURNAL_FULL) while the disk is full: nothing new can be promised."""
        if self._full or self.journal.low_space:
            raise NotNow(
                "the controller's disk is full: nothing new can be accepted",
                code="JOURNAL_FULL",
                hint="free space on the file system of StateSaveLocation",
                data={"retry_after_s": RETRY_S},
            )

    def commit(
        self,
        events: Sequence[ev.Event],
        actions: Sequence[Action] = (),
        after: Callable[[], object] | None = None,
    ) -> None:
        """Make `events` happen; `actions`, those the events call for, and `after` follow once they are durable."""
        if events:
            seq = self.journal.append([to_msgpack(event) for event in events])
            follow = list(actions)
            for event in events:
                apply(self._state, event)
                follow.extend(effects_of(self._state, event))
                if self.check_invariants:
                    invariants.check(self._state)
            self.counters["events"] += len(events)
            self._on_applied()
        else:
            seq = self.journal.last_seq
            follow = list(actions)
        if follow:
            self._after(seq, lambda: self._on_actions(follow))
        if after is not None:
            self._after(seq, after)
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._start_sync)

    def _after(self, seq: int, call: Callable[[], object]) -> None:
        self._outbox.append((seq, call))

    def _start_sync(self) -> None:
        self._planned = False
        if self._syncing or self._stopped:
            return
        if self.journal.last_seq == self.journal.durable_seq and not self._full:
            self._release()
            return
        self._syncing = True
        self._pool.submit(self._sync_in_thread)

    def _sync_in_thread(self) -> None:
        started = time.perf_counter()
        failure: Exception | None = None
        try:
            self.journal.sync()
        except (JournalFull, JournalFailed) as exc:
            failure = exc
        took_us = int((time.perf_counter() - started) * 1e6)
        # a closed loop means the daemon is gone already; nobody waits for the outcome
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._synced, took_us, failure)

    def _synced(self, took_us: int, failure: Exception | None) -> None:
        self._syncing = False
        self.counters["syncs"] += 1
        log.debug("sync us=%d durable=%d", took_us, self.journal.durable_seq)
        self.counters["sync_last_us"] = took_us
        self.counters["sync_max_us"] = max(self.counters["sync_max_us"], took_us)
        if isinstance(failure, JournalFailed):
            self._stopped = True
            self._on_failed(failure)
            return
        if failure is not None or self.journal.low_space:
            if not self._full:
                log.error("the journal's disk is full; new work is refused until there is room: %s", failure or "")
                self.counters["full"] += 1
            self._full = True
            self._loop.call_later(RETRY_S, self._start_sync)
        elif self._full:
            self._full = False
            log.warning("the journal's disk has room again")
        self._release()
        if not self._full and self.journal.last_seq > self.journal.durable_seq:
            self._start_sync()
        elif self.journal.records_since_snapshot > self.snapshot_every:
            self.snapshot()

    def _release(self) -> None:
        durable = self.journal.durable_seq
        outbox = self._outbox
        while outbox and outbox[0][0] <= durable:
            outbox.popleft()[1]()

    @property
    def waiting(self) -> int:
        """Effects held back until they are durable."""
        return len(self._outbox)

    # ---- snapshots

    def snapshot(self, *, force: bool = False) -> None:
        """Write a snapshot in the worker thread; the state is encoded here, on the loop."""
        now = time.monotonic()
        if self._snapshotting or self._full or self._stopped:
            return
        if not force and now - self._t_snapshot < SNAPSHOT_MIN_INTERVAL_S:
            return
        if self.journal.records_since_snapshot == 0:
            return
        self._snapshotting = True
        self._t_snapshot = now
        keep = self._state.drop_unused_blobs()
        data, seq = to_msgpack(self._state.freeze()), self.journal.last_seq
        self._snapshot_pool.submit(self._snapshot_in_thread, data, seq, keep)

    def _snapshot_in_thread(self, data: bytes, seq: int, keep: set[str]) -> None:
        try:
            self._blobs.fsync_all()
            self.journal.snapshot(data, seq)
            self._blobs.gc(keep)
            self.counters["snapshots"] += 1
            log.info("snapshot seq=%d bytes=%d", seq, len(data))
        except Exception:  # boundary: a snapshot that fails leaves a longer journal, nothing worse
            log.exception("snapshot of seq %d failed; the journal goes on", seq)
        finally:
            self._snapshotting = False

    def close(self) -> None:
        """Sync what is queued, write a last snapshot, close the journal.  Blocks; call it as the daemon ends."""
        self._stopped = True
        done = threading.Event()
        self._pool.submit(done.set)
        done.wait(30.0)
        self._pool.shutdown(wait=True)
        self._snapshot_pool.shutdown(wait=True)
        try:
            self.journal.sync()
            if self.journal.records_since_snapshot:
                self._state.drop_unused_blobs()
                self._blobs.fsync_all()
                self.journal.snapshot(to_msgpack(self._state.freeze()), self.journal.last_seq)
        except NotNow as exc:
            log.error("stopping with a full disk: %s", exc.msg)
        finally:
            self.journal.close()
