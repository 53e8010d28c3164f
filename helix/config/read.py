"""Reads configuration files from disk.  The only part of `helix.config` that touches the file system, with `load`."""

from __future__ import annotations

import os
import stat

MAX_FILE_BYTES = 32 << 20  #: largest file read


def read_file(path: str) -> str:
    """The text of a regular file.  Raises OSError, or ValueError when it is too large or not UTF-8."""
    # O_NONBLOCK: a path that is a pipe must not hang a daemon's start.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    text = data.decode("utf-8")
    if "\0" in text:
        raise ValueError("it holds a NUL byte")
    return text
