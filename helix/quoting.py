"""How text from outside is shown inside a one-line message: short, and without control characters.

Standard library only and cheap to import: the commands use it.
"""

from __future__ import annotations


def one_line(text: str, max_chars: int = 60) -> str:
    """`text` without surrounding space, unprintable characters as `?`, cut to `max_chars` with `...`."""
    text = text[: 4 * max_chars].strip() if len(text) > 4 * max_chars else text.strip()
    if len(text) > max_chars:
        text = text[: max_chars - 3] + "..."
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
