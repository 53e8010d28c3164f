"""Globs as regular expressions that never take long: `*`, `?`, `[a-z]`, `[!a]`, and a backslash before any letter.

Standard library only.
"""

from __future__ import annotations

import re
from functools import lru_cache

CHARS_MAX = 256  #: longest pattern


@lru_cache(maxsize=1024)
def glob_regex(pattern: str) -> re.Pattern[str]:
    """The regular expression of a glob (`*`, `?`, `[a-z]`, `[!a]`, backslash), for `fullmatch`.

    Runs of text between stars are matched once, leftmost first, and never tried again (atomic groups), so that a
    match costs at most length of the text x length of the pattern.  Raises ValueError.
    """
    if len(pattern) > CHARS_MAX:
        raise ValueError(f"a pattern is longer than {CHARS_MAX} characters")
    runs = [""]
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            runs.append("")
        elif letter == "?":
            runs[-1] += "."
        elif letter == "\\":
            if at == len(pattern):
                raise ValueError("a pattern ends with a backslash")
            runs[-1] += re.escape(pattern[at])
            at += 1
        elif letter == "[":
            end = pattern.find("]", at + 1 + (pattern[at : at + 1] in ("!", "^")))
            if end < 0:
                raise ValueError("a [ of a pattern is not closed")
            body, negated = pattern[at:end], pattern[at] in "!^"
            runs[-1] += f"[{'^' if negated else ''}{_letters(body[negated:])}]"
            at = end + 1
        else:
            runs[-1] += re.escape(letter)
    if len(runs) == 1:
        return re.compile(runs[0], re.DOTALL)
    middle = "".join(f"(?>.*?{run})" for run in runs[1:-1] if run)
    return re.compile(f"{runs[0]}{middle}.*{runs[-1]}", re.DOTALL)


def _letters(body: str) -> str:
    """The inside of a character class."""
    found, at = [], 0
    while at < len(body):
        if at + 2 < len(body) and body[at + 1] == "-":
            if body[at] > body[at + 2]:
                raise ValueError(f"the range {body[at]}-{body[at + 2]} of a pattern is empty")
            found.append(f"{re.escape(body[at])}-{re.escape(body[at + 2])}")
            at += 3
        else:
            found.append(re.escape(body[at]))
            at += 1
    return "".join(found)
