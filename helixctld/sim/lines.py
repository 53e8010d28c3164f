"""Lines of a trace file, plain or gzip, whatever its name; and the errors for files that are none."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from helix.errors import HelixError, NotFound, UsageError

_GZIP_MAGIC = b"\x1f\x8b"
LINE_MAX = 1 << 20  #: characters; a longer line is no job


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines, without line ends; bytes that are not UTF-8 are replaced.

    Raises NotFound for a missing file and UsageError (TRACE_UNREADABLE) for one that cannot be read to its end.
    """
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            while line := stream.readline(LINE_MAX):
                yield line.decode("utf-8", "replace").rstrip("\r\n")
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such trace", code="TRACE_MISSING") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise unreadable(path, f"broken gzip file: {error}") from error
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error


def unreadable(path: str | Path, why: str) -> HelixError:
    """The error for a file that is no trace."""
    return UsageError(
        f"{path}: {why}",
        code="TRACE_UNREADABLE",
        hint="traces are SWF, CSV with a header line, or JSON lines, plain or gzip: see hsim(1)",
    )
