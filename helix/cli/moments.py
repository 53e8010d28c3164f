"""Times as the commands show them; the imports they need are made on the first non-trivial value only.

A queue of pending jobs has the same few values a hundred thousand times, so they are remembered (bounded).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CACHE_MAX = 20_000

_elapsed_seen: dict[int, str] = {0: "0:00"}
_stamp_seen: dict[float, str] = {0.0: "N/A"}
_styled: list[Callable[[float], str]] = []


def elapsed(seconds: float) -> str:
    """A run time as squeue shows it: `1-02:03:04`, `2:03:04`, `3:04`, `0:00`."""
    whole = int(seconds)
    text = _elapsed_seen.get(whole)
    if text is None:
        from helix.timefmt import format_elapsed

        text = format_elapsed(whole)
        if len(_elapsed_seen) < CACHE_MAX:
            _elapsed_seen[whole] = text
    return text


def elapsed_padded(seconds: float) -> str:
    """A run time as scontrol shows it: `00:03:04`."""
    from helix.timefmt import format_elapsed

    return format_elapsed(seconds, padded=True)


def limit(seconds: int) -> str:
    """A time limit: 0 is UNLIMITED."""
    return elapsed(seconds) if seconds else "UNLIMITED"


def limit_padded(seconds: int | None, absent: str = "NONE") -> str:
    """A time limit as scontrol shows it; None is `absent`."""
    if seconds is None:
        return absent
    return elapsed_padded(seconds) if seconds else "UNLIMITED"


def stamp(t: float) -> str:
    """A moment in local time, in the style of SLURM_TIME_FORMAT; 0 is `N/A`."""
    text = _stamp_seen.get(t)
    if text is None:
        text = _stamper()(t)
        if len(_stamp_seen) < CACHE_MAX:
            _stamp_seen[t] = text
    return text


def stamp_or(t: float, absent: str) -> str:
    """As `stamp`, with another word for 0."""
    return stamp(t) if t > 0 else absent


def _stamper() -> Callable[[float], str]:
    if not _styled:
        import time
        from os import environ

        from helix.timefmt import format_timestamp

        style, now = environ.get("SLURM_TIME_FORMAT", "standard"), time.time()
        _styled.append(lambda t: format_timestamp(t, style=style, now=now))
    return _styled[0]
