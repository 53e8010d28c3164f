"""Host lists: `n[1-3,07-10],m[0-1]-ib[0-1]`.

Owns the grammar (Slurm's: several brackets a name, zero padding kept, commas or white space between names), its
expansion, counting and the way back.  Does not resolve names.  Every expansion is bounded before anything is
built, so that a list cannot be used to fill memory.  Expansion costs O(names); counting O(text).

Standard library only and cheap to import: the commands use it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from helix.errors import UsageError
from helix.quoting import one_line

MAX_HOSTS = 200_000  #: default bound on the names one list may stand for
MAX_TEXT_CHARS = 8 << 20  #: longest text looked at
MAX_NAME_CHARS = 253  #: longest single name, as in DNS
MAX_BRACKETS = 8  #: brackets in one name
MAX_DIGITS = 12  #: digits of a number in brackets

#: What a name may look like: it becomes part of paths, so no separators, and neither `.` nor `-` first.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", re.ASCII)
_LITERAL = re.compile(r"[A-Za-z0-9_.\-]*", re.ASCII)
_RANGE = re.compile(rf"([0-9]{{1,{MAX_DIGITS}}})(?:-([0-9]{{1,{MAX_DIGITS}}}))?", re.ASCII)
_FORM = "the form is n[1-3,07-10],m[0-1]-ib[0-1]"
_DIGITS = "0123456789"

_Numbers = tuple[int, int, int]  # low, high, width (0 = no padding)
_Part = str | list[_Numbers]


def parse_hostlist(text: str, *, limit: int = MAX_HOSTS) -> list[str]:
    """The names `text` stands for, in the order written, duplicates kept; [] for an empty text.

    Raises UsageError: HOSTLIST_INVALID, or HOSTLIST_TOO_LARGE for more than `limit` names.
    """
    items = [_parse_item(item, text) for item in split_hostlist(text)]
    total = sum(map(_count_item, items))
    if total > limit:
        raise UsageError(
            f"host list '{one_line(text)}' stands for {total} names, more than {limit}", code="HOSTLIST_TOO_LARGE"
        )
    names: list[str] = []
    for parts in items:
        names.extend(_expand_item(parts))
    return names


def count_hosts(text: str) -> int:
    """How many names `text` stands for, duplicates counted, without expanding it.  Raises UsageError."""
    return sum(_count_item(_parse_item(item, text)) for item in split_hostlist(text))


def split_hostlist(text: str) -> list[str]:
    """The items of a list, brackets kept whole: `a[1,2],b` gives `a[1,2]` and `b`.

    Raises UsageError (HOSTLIST_INVALID) for unbalanced or nested brackets, and for a missing name.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise UsageError(f"host list is longer than {MAX_TEXT_CHARS} characters", code="HOSTLIST_INVALID")
    if "[" not in text and "]" not in text:
        return _checked_items(text.split(","), text)
    items: list[str] = []
    start = 0
    inside = False
    for match in re.finditer(r"[\[\],]", text):
        mark, at = match[0], match.start()
        if mark == "[":
            if inside:
                raise _bad(text, "'[' inside brackets")
            inside = True
        elif mark == "]":
            if not inside:
                raise _bad(text, "']' without '['")
            inside = False
        elif not inside:
            items.append(text[start:at])
            start = at + 1
    if inside:
        raise _bad(text, "']' is missing")
    items.append(text[start:])
    return _checked_items(items, text)


def format_hostlist(names: Iterable[str]) -> str:
    """The shortest Slurm form of a set of names: sorted by name, then number; duplicates removed.

    Only the digits at the end of a name are folded, as Slurm does; padding is kept.  Names are not checked.
    """
    plain: set[str] = set()
    numbers: dict[str, set[tuple[int, int]]] = {}  # prefix -> (number, width), width 0 = no padding
    for name in names:
        stem = name.rstrip(_DIGITS)
        if len(name) - len(stem) > MAX_DIGITS:
            stem = name[: len(name) - MAX_DIGITS]
        digits = name[len(stem) :]
        # A name of digits only stays whole: Slurm's own form needs something before the bracket.
        if not digits or not stem:
            plain.add(name)
            continue
        width = len(digits) if digits[0] == "0" and len(digits) > 1 else 0
        numbers.setdefault(stem, set()).add((int(digits), width))
    items = [(name, name) for name in plain]
    items.extend((stem, _format_numbers(stem, found)) for stem, found in numbers.items())
    return ",".join(text for _, text in sorted(items))


def sort_hosts(names: Iterable[str]) -> list[str]:
    """`names` in the order people expect: n2 before n10; duplicates kept."""
    return sorted(names, key=host_sort_key)


def host_sort_key(name: str) -> tuple[tuple[str, int, str], ...]:
    """Sort key that compares the digit runs of names as numbers; ties are broken by the text."""
    pieces = re.split(r"([0-9]+)", name)
    texts, digits = pieces[0::2], [*pieces[1::2], "-1"]
    # int() of an unbounded digit run is quadratic; names are at most MAX_NAME_CHARS long where they come from outside.
    return tuple((text, int(run), run) for text, run in zip(texts, digits, strict=True))


def is_host_name(name: str) -> bool:
    """True for a name a node may have: letters, digits, `_`, `.` and `-`, not starting with `.` or `-`."""
    return len(name) <= MAX_NAME_CHARS and _NAME.fullmatch(name) is not None


def _checked_items(items: list[str], text: str) -> list[str]:
    if len(items) == 1 and not items[0].strip():
        return []
    found: list[str] = []
    for item in items:
        words = [item] if "[" in item and " " not in item else item.split()
        if not words:
            raise _bad(text, "a name is missing at a comma")
        found.extend(words)
    return found


def _parse_item(item: str, text: str) -> list[_Part]:
    """One name as alternating literal texts and lists of number ranges."""
    if "[" not in item:
        if not is_host_name(item):
            raise _bad(text, f"'{one_line(item)}' is not a host name")
        return [item]
    parts: list[_Part] = []
    literals = ""
    brackets = 0
    for at, piece in enumerate(re.split(r"[\[\]]", item)):
        if at % 2 == 0:
            if not _LITERAL.fullmatch(piece):
                raise _bad(text, f"'{one_line(item)}' is not a host name")
            parts.append(piece)
            literals += piece
        else:
            brackets += 1
            parts.append([_parse_numbers(piece_item, item, text) for piece_item in piece.split(",")])
    if brackets > MAX_BRACKETS:
        raise _bad(text, f"more than {MAX_BRACKETS} brackets in '{one_line(item)}'")
    if len(literals) + brackets * MAX_DIGITS > MAX_NAME_CHARS or str(parts[0])[:1] in (".", "-"):
        raise _bad(text, f"'{one_line(item)}' is not a host name")
    return parts


def _parse_numbers(piece: str, item: str, text: str) -> _Numbers:
    match = _RANGE.fullmatch(piece.strip())
    if not match:
        raise _bad(text, f"'{one_line(piece)}' in '{one_line(item)}' is not a number or a range")
    low, high = match[1], match[2]
    width = len(low) if low[0] == "0" and len(low) > 1 else 0
    if high is None:
        return int(low), int(low), width
    if high[0] == "0" and len(high) > 1 and len(high) != len(low):
        raise _bad(text, f"'{one_line(piece)}' pads its two ends differently")
    if int(high) < int(low):
        raise _bad(text, f"'{one_line(piece)}' runs backwards")
    return int(low), int(high), width


def _count_item(parts: list[_Part]) -> int:
    total = 1
    for part in parts:
        if not isinstance(part, str):
            total *= sum(high - low + 1 for low, high, _ in part)
    return total


def _expand_item(parts: list[_Part]) -> list[str]:
    choices: list[list[str]] = []
    for part in parts:
        if isinstance(part, str):
            if part:
                choices.append([part])
        else:
            choices.append([f"{n:0{width}d}" for low, high, width in part for n in range(low, high + 1)])
    if len(choices) == 1:
        return choices[0]
    if len(choices) == 2 and len(choices[0]) == 1:
        prefix = choices[0][0]
        return [prefix + number for number in choices[1]]
    return ["".join(choice) for choice in itertools.product(*choices)]


def _format_numbers(stem: str, found: set[tuple[int, int]]) -> str:
    """`stem` with one bracket for all its numbers (no bracket for a single one)."""
    padded = sorted({width for _, width in found if width}, reverse=True)
    by_width: dict[int, list[int]] = {}
    for number, width in found:
        if not width and padded:
            # 10 beside 09 belongs to the padded run: it prints alike.
            length = len(str(number))
            width = next((w for w in padded if w <= length), 0)
        by_width.setdefault(width, []).append(number)
    runs: list[tuple[int, int, int]] = []  # low, width, high
    for width, members in by_width.items():
        members.sort()
        low = previous = members[0]
        for number in members[1:]:
            if number != previous + 1:
                runs.append((low, width, previous))
                low = number
            previous = number
        runs.append((low, width, previous))
    runs.sort()
    if len(runs) == 1 and runs[0][0] == runs[0][2]:
        return f"{stem}{runs[0][0]:0{runs[0][1]}d}"
    texts = [f"{low:0{width}d}" if low == high else f"{low:0{width}d}-{high:0{width}d}" for low, width, high in runs]
    return f"{stem}[{','.join(texts)}]"


def _bad(text: str, why: str) -> UsageError:
    return UsageError(f"bad host list '{one_line(text)}': {why}", code="HOSTLIST_INVALID", hint=_FORM)
