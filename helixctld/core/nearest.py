"""`did you mean 'gpu'?`: the nearest of the known names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LOOKED_AT_MAX = 2000  #: names compared; a cluster's ten thousand nodes are not all worth it


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A hint naming the nearest known name, or a few that exist, or ""."""
    names = [name for _, name in zip(range(_LOOKED_AT_MAX), known, strict=False)]
    close = get_close_matches(wrong, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    if not names:
        return ""
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"there are: {shown}"
