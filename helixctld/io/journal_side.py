"""The two small files beside the journal: the watermark and the reserve.

The watermark names the last seq that was acknowledged.  It is rewritten (one 512-byte write, not synced) after each
group commit, so it costs a microsecond or two and after a kill -9 is exact; after a power cut it may lag.  It is
advice for recovery: failing to write it never fails a commit.

The reserve is a preallocated file that is given up when the disk is full, so that what the controller has already
applied can still be made durable while it refuses new work.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable

from helixctld.io.journal_dir import FULL_ERRNOS, StateDir
from helixctld.io.journal_format import WATERMARK_MAGIC, FileHead
from helixctld.io.journal_recovery import WATERMARK_NAME

RESERVE_NAME = "journal.reserve"
RESERVE_BYTES = 1 << 20
RESTORE_INTERVAL_S = 1.0

log = logging.getLogger("helixctld.journal")


class Watermark:
    """The acknowledged seq on disk.  Used by the thread that commits."""

    def __init__(self, state_dir: StateDir, cluster: str, journal_id: bytes) -> None:
        self._dir, self._cluster, self._journal_id = state_dir, cluster, journal_id
        self._fd = -1

    def start(self, seq: int) -> None:
        """Make the file hold `seq`, replacing what is there; OSError when there is no room."""
        self._dir.create_atomic(WATERMARK_NAME, [self._head(seq)])
        self._fd = self._dir.open_file(WATERMARK_NAME, os.O_WRONLY)

    def write(self, seq: int) -> None:
        """Note that everything up to `seq` is durable and about to be acknowledged."""
        try:
            if self._fd < 0:
                self.start(seq)
            else:
                os.pwrite(self._fd, self._head(seq), 0)
        except OSError as exc:
            log.warning("cannot write %s: %s", self._dir.full(WATERMARK_NAME), exc.strerror)
            self.close()

    def _head(self, seq: int) -> bytes:
        return FileHead(WATERMARK_MAGIC, self._cluster, self._journal_id, seq).pack()

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Reserve:
    """Room kept for the last records.  `held` is False while the disk is short of room."""

    def __init__(self, state_dir: StateDir, clock: Callable[[], float] = time.monotonic) -> None:
        self._dir, self._clock = state_dir, clock
        self._next_try = 0.0
        self.held = False

    def restore(self) -> bool:
        """Make the reserve if there is room for it twice over (at most one try a second); whether it is held."""
        if self.held or self._clock() < self._next_try:
            return self.held
        self._next_try = self._clock() + RESTORE_INTERVAL_S
        try:
            fd = self._dir.open_file(RESERVE_NAME, os.O_WRONLY | os.O_CREAT)
            try:
                is_new = os.fstat(fd).st_size < RESERVE_BYTES
                if is_new and self._dir.free_bytes() < 2 * RESERVE_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
            self.held = True
        except OSError as exc:
            self._dir.unlink_if_there(RESERVE_NAME)
            self.held = exc.errno not in FULL_ERRNOS
            if self.held:  # no fallocate on this file system: go without, rather than call the disk full for ever
                log.warning("no reserve in %s: %s", self._dir.path, exc.strerror)
        return self.held

    def release(self) -> bool:
        """Give the room up; whether there was any."""
        was_held, self.held = self.held, False
        self._next_try = self._clock() + RESTORE_INTERVAL_S
        return self._dir.unlink_if_there(RESERVE_NAME) and was_held
