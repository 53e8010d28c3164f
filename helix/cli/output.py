"""What the commands print: tables, JSON documents, colours, one-line errors.

Text that came from users (job names, comments) never reaches the terminal with control characters in it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

    from helix.errors import HelixError

JSON_VERSION = 1  #: of every JSON document; fields are only ever added within a version

_COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "bold": "1", "dim": "2"}


def is_coloured(stream: TextIO) -> bool:
    """Colours are for terminals, and for nobody who set NO_COLOR (https://no-color.org)."""
    from os import environ

    return not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, colour: str, on: bool) -> str:
    """`text` in a colour when `on`."""
    return f"\033[{_COLOURS[colour]}m{text}\033[0m" if on else text


def clean(text: str) -> str:
    """`text` with control characters (other than line ends) replaced by `?`: nobody's job name moves the cursor."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c == "\n" or c.isprintable() else "?" for c in text)


def put(text: str) -> None:
    """A line (or several) of the result."""
    sys.stdout.write(clean(text) + "\n")


def put_rows(text: str) -> None:
    """As `put`, for a block that may be empty."""
    if text:
        sys.stdout.write(clean(text) + "\n")


def note(command: str, text: str) -> None:
    """A remark that is not the result: on stderr."""
    sys.stderr.write(f"{command}: {clean(text)}\n")


def put_json(kind: str, body: dict[str, Any], *, stream: TextIO | None = None) -> None:
    """A JSON document: `{"helix": {"format": kind, "version": 1}, ...body}`."""
    import json

    document = {"helix": {"format": kind, "version": JSON_VERSION}, **body}
    (stream or sys.stdout).write(json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n")


def format_error(command: str, error: HelixError) -> str:
    """`hsubmit: no partition 'gpuu' (PARTITION_UNKNOWN)`, and the hint on a line of its own."""
    text = f"{command}: {error.msg} ({error.code})"
    return clean(f"{text}\n{error.hint}" if error.hint else text)


def format_columns(rows: Iterable[tuple[str, ...]], *, gap: str = "  ") -> str:
    """Rows of cells as left-justified columns, as wide as they need."""
    table = [tuple(map(str, row)) for row in rows]
    if not table:
        return ""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join(
        gap.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )
