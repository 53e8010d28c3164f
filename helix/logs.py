"""Logging of the daemons: one line an event, `time level logger: text key=value`, to a file or standard error.

Owns the format, the level, the file (opened again on SIGHUP for log rotation) and nothing else.  Under systemd (when
standard error is the journal) the time is left out.  Warnings that may repeat go through `helix.wire.limits.RateLimit`.
"""

from __future__ import annotations

import logging
import os
import sys
import time

#: names of `HelixctldDebug` and `HelixdDebug` to levels of `logging`
LEVELS = {
    "quiet": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "info": logging.INFO,
    "verbose": logging.INFO,
    "debug": logging.DEBUG,
    "debug2": logging.DEBUG,
    "debug3": logging.DEBUG,
    "debug4": logging.DEBUG,
    "debug5": logging.DEBUG,
}


class _Format(logging.Formatter):
    """`2026-11-21T02:48:30.123+0000 info helixd.core: text`; line ends inside a text are escaped."""

    def __init__(self, daemon: str, *, with_time: bool) -> None:
        super().__init__()
        self._daemon = daemon
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if "\n" in text or "\r" in text:
            text = text.replace("\r", "\\r").replace("\n", "\\n")
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            text = f"{text}\n{record.exc_text}"
        name = record.name.rpartition(".")[2] if record.name != "root" else self._daemon
        line = f"{record.levelname.lower()} {self._daemon}/{name}: {text}"
        if not self._with_time:
            return line
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        return f"{moment}.{int(record.msecs):03d}{time.strftime('%z')} {line}"


class _File(logging.StreamHandler):  # type: ignore[type-arg]
    """Appends to `path`; opened again by `reopen`."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(_open(path))

    def reopen(self) -> None:
        """Close and open by name, so that a rotated file is let go."""
        fresh = _open(self.path)
        old = self.setStream(fresh)
        if old is not None:
            old.close()


def _open(path: str) -> object:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    return open(fd, "a", encoding="utf-8", errors="backslashreplace", buffering=1)


def setup_logging(daemon: str, path: str = "", level: str = "info") -> None:
    """Send everything to `path` ("" = standard error) at `level` (a name of LEVELS).

    May be called again to change file or level.  Raises OSError if the file cannot be opened.
    """
    handler: logging.Handler
    if path:
        handler = _File(path)
        handler.setFormatter(_Format(daemon, with_time=True))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Format(daemon, with_time="JOURNAL_STREAM" not in os.environ))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    set_level(level)
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """Change the level; an unknown name means info."""
    logging.getLogger().setLevel(LEVELS.get(level.lower(), logging.INFO))


def reopen_logs() -> None:
    """Open log files by name again (SIGHUP, after a rotation).  Raises OSError; the old file is then kept."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _File):
            handler.reopen()
