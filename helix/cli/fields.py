"""Output formats: `-o "%.18i %j"` and `-O jobid:10,name` compiled into one template over columns of rows.

A table of `Field`s says for each letter or long name which row columns it needs and how they are shown.  A compiled
`Layout` asks for exactly those columns and renders a block of rows column by column, so that the cost of a row is a
few C calls (100,000 rows of the default format: about 0.3 s).  Grammar and justification are squeue(1)'s and
sinfo(1)'s: `%[[.]width]letter[text]`, fields cut to their width, `.` right-justifies.
"""

from __future__ import annotations

from helix.cli.options import nearest
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

LONG_WIDTH = 20  #: width of a -O field without one
WIDTH_MAX = 10_000
FORMAT_CHARS_MAX = 16_384


class Field:
    """One thing that can be shown: `needs` are row columns, `show(*values)` their text (None: the value as it is),
    `key(*values)` what sorting compares (None: the first value)."""

    __slots__ = ("help", "key", "letter", "names", "needs", "show", "title")

    def __init__(
        self,
        letter: str,
        names: str,
        title: str,
        needs: str,
        show: Callable[..., Any] | None = None,
        *,
        key: Callable[..., Any] | None = None,
        help: str = "",
    ) -> None:
        self.letter = letter
        self.names = names.split()
        self.title = title
        self.needs = tuple(needs.split())
        self.show = show
        self.key = key
        self.help = help


class Placed:
    """A field at its place in a line; `auto`: `%#`, as wide as the widest value (hinfo)."""

    __slots__ = ("auto", "field", "right", "suffix", "width")

    def __init__(self, field: Field, width: int, right: bool, suffix: str, auto: bool = False) -> None:
        self.auto = auto
        self.field = field
        self.width = width
        self.right = right
        self.suffix = suffix

    def template(self) -> str:
        """The %-template of this column; a field with a width is padded and cut to it."""
        suffix = self.suffix.replace("%", "%%")
        if not self.width:
            return "%s" + suffix
        return f"%{'' if self.right else '-'}{self.width}.{self.width}s{suffix}"


class Layout:
    """A compiled format: `columns` are the row columns to ask for, in the order `render` expects them."""

    def __init__(self, placed: Sequence[Placed], prefix: str = "", also: Iterable[str] = ()) -> None:
        """`also`: columns wanted besides (for sorting)."""
        self.placed = list(placed)
        names: dict[str, int] = {}
        for item in self.placed:
            for name in item.field.needs:
                names.setdefault(name, len(names))
        for name in also:
            names.setdefault(name, len(names))
        self.columns = list(names)
        self.index = names
        self._template = prefix.replace("%", "%%") + "".join(item.template() for item in self.placed)

    def header(self) -> str:
        """The line of titles."""
        return self._template % tuple(item.field.title for item in self.placed)

    def render(self, rows: Sequence[Sequence[Any]]) -> str:
        """The lines of `rows` (each has `columns`), joined; "" for none."""
        if not rows:
            return ""
        if not self.placed:
            return "\n".join([self._template % ()] * len(rows))
        by_column = list(zip(*rows, strict=True))
        shown: list[Iterable[Any]] = []
        for item in self.placed:
            field = item.field
            values = [by_column[self.index[name]] for name in field.needs]
            if field.show is not None:
                shown.append(map(field.show, *values) if values else [field.show()] * len(rows))
            else:
                shown.append(values[0])
        lines = list(map(self._template.__mod__, zip(*shown, strict=True)))
        text = "\n".join(lines)
        if text.count("\n") >= len(lines) and "\n" not in self._template:
            # a line break in a name must not look like another row
            text = "\n".join(line.replace("\n", "?") for line in lines)
        return text


def letters_of(table: Sequence[Field]) -> dict[str, Field]:
    """letter -> field."""
    return {field.letter: field for field in table if field.letter}


def names_of(table: Sequence[Field]) -> dict[str, Field]:
    """long name in lower case -> field."""
    return {name.lower(): field for field in table for name in field.names}


def parse_short(text: str, table: Sequence[Field], what: str = "--format") -> tuple[list[Placed], str]:
    """Read a `-o` format: the placed fields and the text before the first.  Raises UsageError (FORMAT_INVALID)."""
    _require_short_enough(text, what)
    letters = letters_of(table)
    if text.lower() == "%all":
        return [Placed(letters[letter], 0, False, "|") for letter in sorted(letters)], ""
    pieces = text.replace("%%", "\0").split("%")
    prefix = pieces[0].replace("\0", "%")
    placed = []
    for piece in pieces[1:]:
        right = piece.startswith(".")
        body = piece.removeprefix(".")
        auto = body.startswith("#")
        body = body.removeprefix("#")
        digits = body[: len(body) - len(body.lstrip("0123456789"))]
        rest = body[len(digits) :]
        if not rest or rest[0] not in letters:
            shown = "%" + piece.replace("\0", "%")
            raise UsageError(
                f"{what}: no field '{shown.strip()[:30]}'",
                code="FORMAT_INVALID",
                hint="the fields are " + " ".join(f"%{letter}" for letter in sorted(letters)),
            )
        placed.append(Placed(letters[rest[0]], _width(digits, what), right, rest[1:].replace("\0", "%"), auto))
    return placed, prefix


def parse_long(text: str, table: Sequence[Field], what: str = "--Format") -> list[Placed]:
    """Read a `-O` format: `name[:[.][width][suffix]],...`.  Raises UsageError (FORMAT_INVALID)."""
    _require_short_enough(text, what)
    names = names_of(table)
    if text.strip().lower() == "all":
        return [Placed(field, LONG_WIDTH, False, " ") for field in table if field.names]
    placed = []
    for item in text.split(","):
        name, colon, layout = item.partition(":")
        field = names.get(name.strip().lower())
        if field is None:
            raise UsageError(
                f"{what}: no field '{name.strip()[:40]}'",
                code="FORMAT_INVALID",
                hint=nearest(name.strip().lower(), names) or "see the man page for the fields",
            )
        right = layout.startswith(".")
        layout = layout.removeprefix(".")
        digits = layout[: len(layout) - len(layout.lstrip("0123456789"))]
        width = _width(digits, what) if digits else (0 if colon and layout else LONG_WIDTH)
        placed.append(Placed(field, width, right, layout[len(digits) :]))
    return placed


def _width(digits: str, what: str) -> int:
    if len(digits) > 5 or int(digits or 0) > WIDTH_MAX:
        raise UsageError(f"{what}: a width of {digits[:20]} is above {WIDTH_MAX}", code="FORMAT_INVALID")
    return int(digits or 0)


def _require_short_enough(text: str, what: str) -> None:
    if len(text) > FORMAT_CHARS_MAX:
        raise UsageError(f"{what} is longer than {FORMAT_CHARS_MAX} characters", code="FORMAT_INVALID")


class SortKey:
    """One key of `--sort`: a field, and whether the order is reversed."""

    __slots__ = ("field", "reverse")

    def __init__(self, field: Field, reverse: bool) -> None:
        self.field = field
        self.reverse = reverse


def parse_sort(text: str, table: Sequence[Field], what: str = "--sort") -> list[SortKey]:
    """Read `P,t,-p` (`+` and `#` change nothing).  Raises UsageError (SORT_INVALID)."""
    letters, names = letters_of(table), names_of(table)
    keys = []
    for item in text.split(","):
        word = item.strip()
        if not word:
            continue
        reverse = False
        while word[:1] in ("+", "-", "#") and len(word) > 1:
            reverse = word[0] == "-" or (reverse and word[0] == "#")
            word = word[1:]
        for letter in [word] if word in letters or word.lower() in names else word:
            field = letters.get(letter) or names.get(letter.lower())
            if field is None:
                raise UsageError(
                    f"{what}: no field '{word[:30]}'",
                    code="SORT_INVALID",
                    hint="the fields are the letters of --format, as in P,t,-p",
                )
            keys.append(SortKey(field, reverse))
    return keys


def sort_rows(rows: list[Any], keys: Sequence[SortKey], index: dict[str, int]) -> None:
    """Sort rows in place, by the first key first."""
    for key in reversed(keys):
        places = [index[name] for name in key.field.needs]
        if not places:
            continue
        if key.field.key is None:
            place = places[0]
            rows.sort(key=lambda row: row[place], reverse=key.reverse)
        else:
            measure = key.field.key
            rows.sort(key=lambda row: measure(*(row[i] for i in places)), reverse=key.reverse)
