"""`DebugFlags`: subjects that are logged in detail, as loggers of this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable

#: flag -> the loggers it sets to debug.  Invariants checks the whole state after every event instead.
FLAGS: dict[str, tuple[str, ...]] = {
    "Invariants": (),
    "Journal": ("helixctld.journal", "helixctld.commit"),
    "Nodes": ("helixctld.links",),
    "Schedule": ("helixctld.sched",),
    "Wire": ("helix.link", "helix.agent", "helixctld.service"),
}


def known_flag(text: str) -> str:
    """The flag meant by `text`, whatever its case; "" if there is none."""
    return next((flag for flag in FLAGS if flag.lower() == text.strip().lower()), "")


def set_flags(flags: Iterable[str]) -> set[str]:
    """Log these subjects in detail and all others as usual; gives the flags that are known here."""
    on = {flag for text in flags if (flag := known_flag(text))}
    for flag, loggers in FLAGS.items():
        for name in loggers:
            logging.getLogger(name).setLevel(logging.DEBUG if flag in on else logging.NOTSET)
    return on
