"""Words for why nodes cannot take a request.  Pure; the counts come from the kernels' filter."""

from __future__ import annotations

from collections.abc import Sequence

from helix_native.arrays import (
    FAIL_BUSY,
    FAIL_CPUS,
    FAIL_DOWN,
    FAIL_INELIGIBLE,
    FAIL_KEPT,
    FAIL_MEMORY,
    FAIL_ROOM,
    FAIL_SMALL,
)

#: cause -> stable word (job.why's `reason`) and text
CAUSES: dict[int, tuple[str, str]] = {
    FAIL_INELIGIBLE: ("ineligible", "excluded or without a required feature"),
    FAIL_SMALL: ("small", "too small even when empty"),
    FAIL_DOWN: ("down", "down, drained or not responding"),
    FAIL_KEPT: ("kept", "kept for jobs ahead"),
    FAIL_BUSY: ("busy", "not empty (whole nodes asked)"),
    FAIL_CPUS: ("cpus", "too few free CPUs"),
    FAIL_MEMORY: ("memory", "too little free memory"),
    FAIL_ROOM: ("partition_cpus", "the partition's CPU limit there is used up"),
}
_SHOWN = 3  #: causes in one line; the rest is for hwhy


def plural(count: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def describe_wait(
    partition: str, nodes_lo: int, fails: Sequence[int], only: Sequence[int], more: Sequence[str] = ()
) -> str:
    """One line for the job that waits for resources: `2 nodes of main wanted; too few free CPUs on 4, ...`.  `more`:
    causes that the counts do not have, said first."""
    order = sorted((cause for cause in CAUSES if fails[cause]), key=lambda c: (-only[c], -fails[c], c))
    parts = [*more, *(f"{CAUSES[cause][1]} on {fails[cause]}" for cause in order)][:_SHOWN]
    wanted = f"{plural(nodes_lo, 'node')} of {partition} wanted"
    return f"{wanted}; {', '.join(parts)}" if parts else f"{wanted}; what is free does not add up"


def format_mib(mib: int) -> str:
    """`512M`, `16G`, `1.5T`."""
    for factor, letter in ((1 << 20, "T"), (1 << 10, "G")):
        if mib >= factor:
            return f"{mib / factor:.4g}{letter}"
    return f"{mib}M"


def duration_words(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 days 4 h`: two units at most, rounded up to the smaller."""
    whole = -int(-seconds // 1)
    if whole < 120:
        return f"{whole} s"
    minutes = -(-whole // 60)
    if minutes < 120:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, hours = divmod(-(-minutes // 60), 24)
    return f"{plural(days, 'day')} {hours} h" if hours else plural(days, "day")


def limit_option(seconds: int) -> str:
    """A time limit as `--time` takes it: `02:00:00`, `1-00:00:00`."""
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text
