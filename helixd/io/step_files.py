"""The steps log on disk: `steps.N.log` in the spool, one file a generation.

Owns opening, appending, reading what others appended, reserving room, syncing and removing.  helixd hears of appends by
inotify, so one wake-up may bring the reports of many steps.  Cost of an append: one write(2).  Room for GENERATION_MAX
bytes is reserved at the start of a generation, so that ends can be recorded when the disk has filled up since.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re

from helix.errors import ConfigError
from helix_native import ckernels
from helixd.core import steplog

log = logging.getLogger("helixd.steps")

GENERATION_MAX = 8 << 20  #: bytes at which a new generation is begun
_READ = 1 << 20
_NAME = re.compile(r"steps\.(\d{1,9})\.log")
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class _Generation:
    """One file; `offset` is how far it was read, `rest` an incomplete record."""

    __slots__ = ("fd", "offset", "rest")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.offset = 0
        self.rest = b""


class StepFiles:
    """All generations of a spool directory."""

    def __init__(self, spool: str) -> None:
        self.spool = spool
        self.generation = 0
        self.size = 0
        self.watch_fd = ckernels.inotify_init()
        self._files: dict[int, _Generation] = {}
        self._unsynced: set[int] = set()

    # ---- opening

    def open_all(self) -> dict[int, list[steplog.Record]]:
        """Open what is there and read it whole.  Raises ConfigError (SPOOL_UNUSABLE)."""
        logs: dict[int, list[steplog.Record]] = {}
        try:
            names = sorted((m for m in map(_NAME.fullmatch, os.listdir(self.spool)) if m), key=lambda m: int(m[1]))
            for match in names:
                generation = int(match[1])
                self._open(generation, os.O_RDWR | os.O_APPEND | _FLAGS)
                logs[generation] = self._read(self._files[generation], at_end=True)
        except OSError as exc:
            raise self._unusable(exc) from exc
        return logs

    def begin(self, generation: int, first: bytes) -> None:
        """Make `generation` the one that is written to, beginning with `first` if it is new.

        Raises OSError when there is no room.
        """
        fresh = generation not in self._files
        if fresh:
            self._open(generation, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | _FLAGS)
        fd = self._files[generation].fd
        try:
            ckernels.reserve(fd, GENERATION_MAX + (1 << 20))
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                log.warning("cannot reserve room in %s: %s", self._path(generation), exc.strerror)
        self.generation, self.size = generation, os.fstat(fd).st_size
        if fresh:
            self.append(first)
            os.fdatasync(fd)
            self._sync_folder()

    def _open(self, generation: int, flags: int) -> None:
        path = self._path(generation)
        self._files[generation] = _Generation(os.open(path, flags, 0o600))
        ckernels.inotify_watch_modify(self.watch_fd, path)

    def _path(self, generation: int) -> str:
        return os.path.join(self.spool, f"steps.{generation}.log")

    def _sync_folder(self) -> None:
        fd = os.open(self.spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _unusable(self, exc: OSError) -> ConfigError:
        return ConfigError(
            f"cannot use the steps log in {self.spool}: {exc.strerror}",
            code="SPOOL_UNUSABLE",
            hint="the directory must belong to helixd's user and be writable",
        )

    # ---- traffic

    def append(self, data: bytes) -> None:
        """Write whole records.  Raises OSError; a part that was written is skipped by readers."""
        if not self._files:
            raise OSError(errno.EBADF, "the steps log is not open")
        written = os.write(self._files[self.generation].fd, data)
        self.size += written
        if written != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def changed(self) -> list[steplog.Record]:
        """Records appended since the last call, by anybody; empties the inotify queue."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.watch_fd, 16384)) > 8192:
                continue
        records: list[steplog.Record] = []
        for file in self._files.values():
            records += self._read(file)
        return records

    def _read(self, file: _Generation, *, at_end: bool = False) -> list[steplog.Record]:
        records: list[steplog.Record] = []
        while True:
            data = os.pread(file.fd, _READ, file.offset)
            if not data and not (at_end and file.rest):
                return records
            file.offset += len(data)
            scan = steplog.scan(file.rest + data, at_end=at_end and not data)
            file.rest = (file.rest + data)[scan.consumed :]
            records += scan.records
            if scan.skipped:
                log.warning("skipped %d damaged bytes of a steps log before offset %d", scan.skipped, file.offset)
            if len(data) < _READ and not at_end:
                return records

    @property
    def is_full(self) -> bool:
        """True if a new generation is due."""
        return self.size > GENERATION_MAX

    def want_sync(self) -> None:
        """Something was appended that ought to be durable."""
        self._unsynced.update(self._files)

    def sync(self) -> None:
        """Make all of it durable; blocks.  Raises OSError."""
        todo, self._unsynced = self._unsynced, set()
        for generation in todo:
            file = self._files.get(generation)
            if file is not None:
                os.fdatasync(file.fd)

    def drop(self, generation: int) -> None:
        """Remove a generation that nothing needs."""
        file = self._files.pop(generation, None)
        if file is not None and generation != self.generation:
            os.close(file.fd)
            try:
                os.unlink(self._path(generation))
            except OSError as exc:
                log.warning("cannot remove %s: %s", self._path(generation), exc.strerror)

    def close(self) -> None:
        """Close everything."""
        for file in self._files.values():
            os.close(file.fd)
        self._files.clear()
        os.close(self.watch_fd)
