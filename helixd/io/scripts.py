"""Blobs of the controller on the node: a bounded cache in memory, and scripts as files that can be executed.

A script is one file for each user and content, `scripts/UID/HASH`, owned by the user with mode 0500 in directories that
others can neither list nor write.  It is shared by all steps that run it; before each start its owner, size and change
time are compared with what was written, so a file its owner has tampered with is written anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import OrderedDict

from blake3 import blake3

from helixd.core.environment import Base, base_environment

log = logging.getLogger("helixd.scripts")

CACHE_MAX = 32 << 20  #: bytes of blobs in memory
BASES_MAX = 256  #: environments ready for use
FILES_MAX = 2000  #: scripts on disk; the least recently used go


def is_blob(name: str, data: bytes) -> bool:
    """True if `data` is what `name` promises."""
    return blake3(data).hexdigest() == name


class Blobs:
    """Content by hash; the least recently used go beyond CACHE_MAX bytes."""

    def __init__(self) -> None:
        self._data: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._bases: OrderedDict[str, Base] = OrderedDict()

    def add(self, name: str, data: bytes) -> bool:
        """False if the content is not what the name says."""
        if not is_blob(name, data):
            return False
        if name not in self._data:
            self._data[name] = data
            self._size += len(data)
            while self._size > CACHE_MAX and len(self._data) > 1:
                self._size -= len(self._data.popitem(last=False)[1])
        return True

    def has(self, name: str) -> bool:
        """Whether it is here."""
        return name in self._data

    def get(self, name: str) -> bytes | None:
        """The content, or None."""
        data = self._data.get(name)
        if data is not None:
            self._data.move_to_end(name)
        return data

    def base(self, name: str) -> Base | None:
        """A stored environment, prepared; "" is the empty one."""
        base = self._bases.get(name)
        if base is None:
            data = self.get(name) if name else b""
            if data is None:
                return None
            base = self._bases[name] = base_environment(data)
            if len(self._bases) > BASES_MAX:
                self._bases.popitem(last=False)
        else:
            self._bases.move_to_end(name)
        return base


class Scripts:
    """The files under `scripts/` of the spool."""

    def __init__(self, spool: str) -> None:
        self.path = os.path.join(spool, "scripts")
        self._written: OrderedDict[str, tuple[int, int]] = OrderedDict()  # path -> size, change time in ns
        self._is_root = os.geteuid() == 0
        os.makedirs(self.path, mode=0o711, exist_ok=True)
        os.chmod(self.path, 0o711)  # noqa: S103 - users pass through to their own files
        self._forget_old()

    def path_of(self, uid: int, name: str) -> str:
        """Where the script of that content is, or will be, for that user."""
        return f"{self.path}/{uid}/{name}"

    def require(self, uid: int, gid: int, name: str, data: bytes | None) -> str:
        """Path of the file, written first if needed.  Raises OSError; FileNotFoundError if `data` is needed."""
        path = self.path_of(uid, name)
        known = self._written.get(path)
        if known is not None:
            with contextlib.suppress(FileNotFoundError):
                info = os.lstat(path)
                if (info.st_size, info.st_ctime_ns) == known and info.st_uid == uid:
                    self._written.move_to_end(path)
                    return path
        if data is None:
            raise FileNotFoundError(2, "the script is not here", path)
        self._write(path, uid, gid, data)
        info = os.lstat(path)
        self._written[path] = info.st_size, info.st_ctime_ns
        while len(self._written) > FILES_MAX:
            old, _ = self._written.popitem(last=False)
            with contextlib.suppress(OSError):
                os.unlink(old)
        return path

    def _write(self, path: str, uid: int, gid: int, data: bytes) -> None:
        folder = os.path.dirname(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o711)
        fresh = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o500)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if self._is_root:
                os.fchown(fd, uid, gid)
            os.fchmod(fd, 0o500)
        except OSError:
            os.unlink(fresh)
            raise
        finally:
            os.close(fd)
        os.rename(fresh, path)

    def head(self, path: str) -> bytes:
        """The first bytes of a script, b"" if it is gone."""
        if not path.startswith(self.path + "/"):
            return b""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return b""
        try:
            return os.read(fd, 512)
        finally:
            os.close(fd)

    def _forget_old(self) -> None:
        """Remove all but the newest files: a script that runs has been opened by its interpreter."""
        files: list[tuple[float, str]] = []
        for folder in os.scandir(self.path):
            if folder.is_dir(follow_symlinks=False):
                files += [(e.stat(follow_symlinks=False).st_mtime, e.path) for e in os.scandir(folder.path)]
        for _, path in sorted(files, reverse=True)[FILES_MAX // 2 :]:
            with contextlib.suppress(OSError):
                os.unlink(path)
