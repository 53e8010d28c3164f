"""Files named by the BLAKE3 hash of their content: job scripts and environments.

Used by the controller (StateSaveLocation/blobs) and the node daemon (its script cache).  Layout: `ab/cdef...`, the 64
hex digits of the hash split after two; folders 0700, files 0600; a file appears whole (written aside, renamed).

Durability: `put` does not sync.  The controller's journal carries the content of a new blob, so replaying puts it
again; `fsync_all` makes all blobs durable and must come before a snapshot, after which those records go.  A file that
an earlier process left may be short or only in the page cache, so the first `put` of a hash in this process compares
it and counts it as unsynced.  Whether a blob's content must go into the journal is decided by the journaled state
(does it already name the hash?), never by `has`.

May be used from several threads.  A corrupt file is never served: `get` checks the hash and names the file.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

import blake3

from helix.errors import InternalError, LimitExceeded, NotFound, NotNow, UsageError

BLOB_BYTES_MAX = 16 << 20
CACHE_BYTES = 8 << 20
KNOWN_MAX = 200_000
"""Hashes remembered as present and right; about 20 MB when full, then forgotten at once."""
GRACE_S = 3600.0

_HASH = re.compile(r"[0-9a-f]{64}")
_SUBDIR = re.compile(r"[0-9a-f]{2}")
_REST = re.compile(r"[0-9a-f]{62}")
_TMP_PREFIX = "tmp."
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

log = logging.getLogger("helix.blobstore")


class BlobDamaged(InternalError):
    """A stored blob does not have the content that its name promises."""

    default_code = "BLOB_DAMAGED"


class BlobStoreFailed(InternalError):
    """The disk refused to store or sync a blob."""

    default_code = "BLOB_STORE_FAILED"


class BlobStoreFull(NotNow):
    """No room for the blob; nothing was stored."""

    default_code = "BLOB_STORE_FULL"


@dataclass(frozen=True, slots=True)
class GcResult:
    """What `gc` did."""

    removed: int
    removed_bytes: int
    kept: int


def blob_hash(data: bytes) -> str:
    """The name of `data`: 64 hex digits of BLAKE3."""
    return blake3.blake3(data).hexdigest()


class BlobStore:
    """One directory of blobs."""

    def __init__(
        self,
        directory: str,
        *,
        size_max: int = BLOB_BYTES_MAX,
        cache_bytes: int = CACHE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open `directory`, making it when absent; raises BlobStoreFailed when that cannot be done."""
        self.path = os.path.abspath(directory)
        self._size_max, self._cache_max, self._clock = size_max, cache_bytes, clock
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_size = 0
        self._known: dict[str, float] = {}
        self._unsynced: set[str] = set()
        self._counter = 0
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            if os.stat(self.path).st_mode & 0o077:
                log.warning("%s was open to others: now 0700", self.path)
                os.chmod(self.path, 0o700)
            self._dir_fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise BlobStoreFailed(f"cannot use {self.path}: {exc.strerror}") from exc

    def close(self) -> None:
        """Release the directory; harmless when repeated."""
        with self._lock:
            if self._dir_fd >= 0:
                os.close(self._dir_fd)
                self._dir_fd = -1

    def put(self, data: bytes) -> str:
        """Store `data` (once) and return its hash.

        Raises LimitExceeded when too long, BlobStoreFull, BlobStoreFailed; then nothing was stored.
        """
        if len(data) > self._size_max:
            raise LimitExceeded(f"a blob of {len(data)} bytes is longer than {self._size_max}", code="BLOB_TOO_LARGE")
        name = blob_hash(data)
        with self._lock:
            if name not in self._known:
                if self._read(name) != data:
                    self._write(name, data)
                self._unsynced.add(name)
            self._remember(name)
            self._cache_add(name, data)
        return name

    def get(self, name: str) -> bytes:
        """The content of blob `name`.  Raises NotFound, BlobDamaged, or UsageError when `name` is no hash."""
        require_hash(name)
        with self._lock:
            data = self._cache.get(name)
            if data is not None:
                self._cache.move_to_end(name)
                return data
            data = self._read(name)
            if data is None:
                raise NotFound(f"no blob {name} in {self.path}", code="BLOB_NOT_FOUND")
            if blob_hash(data) != name:
                self._known.pop(name, None)
                raise BlobDamaged(
                    f"{self._full(name)} does not have the content that its name promises",
                    hint="restore that file from a backup, or remove it: jobs that need it then fail by name",
                )
            self._cache_add(name, data)
            return data

    def has(self, name: str) -> bool:
        """Whether a file of that name is there (its content is checked by `get`)."""
        require_hash(name)
        with self._lock:
            if name in self._cache or name in self._known:
                return True
            try:
                return stat.S_ISREG(os.stat(_rel(name), dir_fd=self._dir_fd, follow_symlinks=False).st_mode)
            except FileNotFoundError:
                return False
            except OSError as exc:
                raise BlobStoreFailed(f"cannot look at {self._full(name)}: {exc.strerror}") from exc

    def fsync_all(self) -> int:
        """Make every blob put so far durable; returns how many needed it.

        Raises BlobStoreFailed; as after any failed fsync the process must then exit and recover.  May run in a worker
        thread: the lock is not held during the syncs.
        """
        with self._lock:
            todo, self._unsynced = self._unsynced, set()
        try:
            for name in todo:
                _fsync(self._dir_fd, _rel(name))
            for folder in {name[:2] for name in todo}:
                _fsync(self._dir_fd, folder)
            if todo:
                os.fsync(self._dir_fd)
        except OSError as exc:
            with self._lock:
                self._unsynced |= todo
            raise BlobStoreFailed(f"cannot make the blobs in {self.path} durable: {exc.strerror}") from exc
        return len(todo)

    def gc(self, keep: Set[str], *, grace_s: float = GRACE_S) -> GcResult:
        """Remove blobs not in `keep` and neither put nor changed for `grace_s` seconds, and stale temporary files."""
        oldest = self._clock() - grace_s
        removed = removed_bytes = kept = 0
        for name, relative in self._walk():
            with self._lock:
                try:
                    status = os.stat(relative, dir_fd=self._dir_fd, follow_symlinks=False)
                    used = max(status.st_mtime, self._known.get(name, 0.0))
                    if name in keep or used > oldest:
                        kept += 1
                        continue
                    os.unlink(relative, dir_fd=self._dir_fd)
                except OSError as exc:
                    log.warning("cannot remove %s/%s: %s", self.path, relative, exc.strerror)
                    continue
                self._forget(name)
            removed, removed_bytes = removed + 1, removed_bytes + status.st_size
        return GcResult(removed, removed_bytes, kept)

    def _walk(self) -> Iterator[tuple[str, str]]:
        """(hash or empty string, path relative to the store) of each blob and temporary file."""
        for folder in sorted(os.listdir(self._dir_fd)):
            if folder.startswith(_TMP_PREFIX):
                yield "", folder
            elif _SUBDIR.fullmatch(folder):
                for rest in sorted(os.listdir(os.path.join(self.path, folder))):
                    if _REST.fullmatch(rest):
                        yield folder + rest, f"{folder}/{rest}"

    def _read(self, name: str) -> bytes | None:
        """The file's bytes, None when absent."""
        try:
            fd = os.open(_rel(name), os.O_RDONLY | _OPEN, dir_fd=self._dir_fd)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise BlobStoreFailed(f"cannot open {self._full(name)}: {exc.strerror}") from exc
        with open(fd, "rb", buffering=0) as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self._size_max:
                raise BlobDamaged(f"{self._full(name)} is not a regular file of at most {self._size_max} bytes")
            try:
                return file.readall()
            except OSError as exc:
                raise BlobStoreFailed(f"cannot read {self._full(name)}: {exc.strerror}") from exc

    def _write(self, name: str, data: bytes) -> None:
        self._counter += 1
        tmp = f"{_TMP_PREFIX}{os.getpid()}.{self._counter}"
        try:
            # made in the top folder: ext4 spreads folders over the disk and took 3 times as long to make files there
            fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN, 0o600, dir_fd=self._dir_fd)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            finally:
                os.close(fd)
            try:
                os.rename(tmp, _rel(name), src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name[:2], 0o700, dir_fd=self._dir_fd)
                os.rename(tmp, _rel(name), src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        except OSError as exc:
            try:
                os.unlink(tmp, dir_fd=self._dir_fd)
            except OSError:
                log.debug("%s/%s is left for gc", self.path, tmp)
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BlobStoreFull(
                    f"no room for a blob of {len(data)} bytes in {self.path}: {exc.strerror}",
                    hint="free space on that file system",
                    data={"retry_after_s": 1.0},
                ) from exc
            raise BlobStoreFailed(f"cannot store {self._full(name)}: {exc.strerror}") from exc

    def _remember(self, name: str) -> None:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[name] = self._clock()

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        self._unsynced.discard(name)
        data = self._cache.pop(name, None)
        if data is not None:
            self._cache_size -= len(data)

    def _cache_add(self, name: str, data: bytes) -> None:
        if name in self._cache:
            self._cache.move_to_end(name)
            return
        if len(data) > self._cache_max // 4:
            return
        self._cache[name] = data
        self._cache_size += len(data)
        while self._cache_size > self._cache_max:
            _, old = self._cache.popitem(last=False)
            self._cache_size -= len(old)

    def _full(self, name: str) -> str:
        return os.path.join(self.path, _rel(name))


def require_hash(name: str) -> str:
    """`name` itself when it has the form of a blob's hash; raises UsageError (it could be a path)."""
    if not _HASH.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is not the hash of a blob", code="BLOB_HASH")
    return name


def _rel(name: str) -> str:
    return f"{name[:2]}/{name[2:]}"


def _fsync(dir_fd: int, relative: str) -> None:
    fd = os.open(relative, os.O_RDONLY | _OPEN, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
