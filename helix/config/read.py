"""Reads configuration files from disk.  The only part of `helix.config` that touches the file system, with `load`."""

from __future__ import annotations

import os
import stat

from helix.config.parse import Parsed, read_entries
from helix.quoting import one_line

#: keys that a topology.conf may hold (the keys of its lines, and one of helix.conf)
TOPOLOGY_HEADS = frozenset({"switchname", "blockname", "blocksizes"})
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


def read_config(path: str) -> Parsed:
    """The entries of the helix.conf at `path` (absolute), with those of gres.conf and topology.conf beside it, if there
    are such files."""
    parsed = read_entries(path, read_file)
    folder = os.path.dirname(path)
    for name in ("gres.conf", "topology.conf"):
        beside = os.path.join(folder, name)
        if beside == path or not os.path.exists(beside):
            continue
        more = read_entries(beside, read_file)
        parsed.problems.extend(more.problems)
        if name == "gres.conf":
            parsed.gres.extend(more.entries)
            continue
        for entry in more.entries:
            key = entry.pairs[0][0]
            if key.lower() in TOPOLOGY_HEADS:
                parsed.entries.append(entry)
            else:
                parsed.problem(entry.file, entry.line, f"'{one_line(key)}' is no key of topology.conf")
    return parsed
