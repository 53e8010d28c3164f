"""The grammar of helix.conf and slurm.conf: texts to entries, with the file and line of each.

`Key=Value`, one or more on a line; keys in any case; values in double quotes when they hold white space; `#` starts
a comment (unless quoted or after a backslash); a backslash at the end continues the line; `Include FILE` reads another
file, relative to the including one.  Knows no keys.  Bounded: size of files, length of lines, depth and number of
includes.  Source: slurm.conf(5), DESCRIPTION and INCLUDE MODIFIERS.

`read_entries` never raises for what a file says: every fault is a `Problem`, so that a check can show all of them.
Standard library only; files come through a reader the caller gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from helix.quoting import one_line

MAX_FILE_CHARS = 32 << 20  #: largest file
MAX_TOTAL_CHARS = 64 << 20  #: most text of a file and all it includes
MAX_LINE_CHARS = 2 << 20  #: longest line, continuations included
MAX_DEPTH = 8  #: includes inside includes
MAX_FILES = 256  #: files read altogether
MAX_PROBLEMS = 1000  #: faults kept; a file that is no configuration at all has one on every line

_PAIR = re.compile(
    r"\s*(?P<key>[A-Za-z][A-Za-z0-9_.]*)\s*(?P<op>[-+*/]?)=[^\S\n]*(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>[^\s\"]+)?)(?=\s|$)"
)
_INCLUDE = re.compile(r"\s*include\s+(\S.*)", re.IGNORECASE)

Reader = Callable[[str], str]  #: path -> text; raises OSError or ValueError (not UTF-8)


@dataclass(frozen=True, slots=True)
class Entry:
    """One logical line: its pairs in order, keys and values as written."""

    file: str
    line: int  # of its first physical line, from 1
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of the text itself."""

    file: str
    line: int
    message: str
    hint: str = ""


@dataclass(slots=True)
class Parsed:
    """What a file and its includes hold."""

    entries: list[Entry] = field(default_factory=list)
    gres: list[Entry] = field(default_factory=list)  # of gres.conf, whose keys are not those of helix.conf
    problems: list[Problem] = field(default_factory=list)

    def problem(self, file: str, line: int, message: str, hint: str = "") -> None:
        """Note a fault, up to MAX_PROBLEMS."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(file, line, message, hint))


def parse_text(text: str, filename: str, reader: Reader | None = None) -> Parsed:
    """The entries of `text`, which came from `filename`; includes are read with `reader` (None: they are faults)."""
    parsed = Parsed()
    _Files(parsed, reader).take(text, filename, ())
    return parsed


def read_entries(path: str, reader: Reader) -> Parsed:
    """The entries of the file at `path` and all it includes."""
    parsed = Parsed()
    _Files(parsed, reader).include(path, path, 0, ())
    return parsed


class _Files:
    """Reads files into one `Parsed`, within the bounds."""

    def __init__(self, parsed: Parsed, reader: Reader | None) -> None:
        self.parsed = parsed
        self.reader = reader
        self.files = 0
        self.chars = 0
        self.cluster = ""  # ClusterName so far, for %c in the name of an include

    def include(self, path: str, file: str, line: int, stack: tuple[str, ...]) -> None:
        """Read `path`, named at `file`:`line`, inside the files of `stack`."""
        problem = self.parsed.problem
        if self.reader is None:
            problem(file, line, f"cannot include '{one_line(path)}' here", "write its lines into the file")
            return
        if path in stack:
            problem(file, line, f"'{one_line(path)}' includes itself", "remove one Include of the circle")
            return
        self.files += 1
        if len(stack) >= MAX_DEPTH or self.files > MAX_FILES:
            problem(file, line, f"more than {MAX_DEPTH} includes inside one another, or than {MAX_FILES} files")
            return
        try:
            text = self.reader(path)
        except OSError as error:
            problem(file, line, f"cannot read '{one_line(path, 200)}': {error.strerror or error}")
            return
        except ValueError as error:
            problem(path, 0, f"not a text in UTF-8: {one_line(str(error), 120)}")
            return
        self.take(text, path, (*stack, path))

    def take(self, text: str, file: str, stack: tuple[str, ...]) -> None:
        """Read the lines of `text`."""
        self.chars += len(text)
        if len(text) > MAX_FILE_CHARS or self.chars > MAX_TOTAL_CHARS:
            self.parsed.problem(file, 0, f"longer than {MAX_FILE_CHARS} characters")
            return
        for line, logical in self.logical_lines(text, file):
            match = _INCLUDE.fullmatch(logical) if logical[:1] in "iI \t" else None
            if match and not _PAIR.match(logical):
                name = match[1].strip().strip('"').replace("%c", self.cluster)
                self.include(name if name.startswith("/") else _beside(file, name), file, line, stack)
            else:
                self.pairs(logical, file, line)

    def logical_lines(self, text: str, file: str) -> list[tuple[int, str]]:
        """Lines without comments, continuations joined, empty ones left out."""
        found: list[tuple[int, str]] = []
        held: list[str] = []
        start = 0
        length = 0
        for number, physical in enumerate(text.split("\n"), 1):
            line = physical.rstrip("\r")
            if "#" in line:
                line = _without_comment(line)
            line = line.rstrip()
            more = line.endswith("\\")
            if not held:
                start = number
            length += len(line)
            if length > MAX_LINE_CHARS:
                self.parsed.problem(file, start, f"line is longer than {MAX_LINE_CHARS} characters")
                held, length = [], 0
                continue
            held.append(line[:-1] if more else line)
            if not more:
                logical = "".join(held)
                if logical.strip():
                    found.append((start, logical))
                held, length = [], 0
        if held and "".join(held).strip():
            found.append((start, "".join(held)))
        return found

    def pairs(self, logical: str, file: str, line: int) -> None:
        """Cut a logical line into its pairs."""
        pairs: list[tuple[str, str]] = []
        at = 0
        end = len(logical)
        while at < end:
            match = _PAIR.match(logical, at)
            if not match:
                rest = logical[at:].strip()
                if rest:
                    self.parsed.problem(
                        file, line, f"'{one_line(rest)}' is not Key=Value", 'quote a value with spaces: Key="a b"'
                    )
                    return
                break
            if match["op"]:
                self.parsed.problem(file, line, f"'{match['key']}{match['op']}=' is not supported", "write Key=Value")
                return
            value = match["quoted"] if match["quoted"] is not None else match["bare"] or ""
            pairs.append((match["key"], value))
            if match["key"].lower() == "clustername":
                self.cluster = value
            at = match.end()
        if pairs:
            self.parsed.entries.append(Entry(file, line, tuple(pairs)))


def _without_comment(line: str) -> str:
    """`line` up to the first `#` that is neither quoted nor after a backslash; an unquoted `\\#` becomes `#`."""
    kept: list[str] = []
    quoted = False
    # An unbalanced quote protects nothing: the line is faulty, but its comment is still one.
    balanced = line.count('"') % 2 == 0
    at = 0
    while at < len(line):
        char = line[at]
        if char == "\\" and line[at + 1 : at + 2] == "#" and not (quoted and balanced):
            kept.append("#")
            at += 2
            continue
        if char == '"':
            quoted = not quoted
        elif char == "#" and not (quoted and balanced):
            break
        kept.append(char)
        at += 1
    return "".join(kept)


def _beside(file: str, name: str) -> str:
    """`name` in the directory of `file`."""
    directory, slash, _ = file.rpartition("/")
    return f"{directory}{slash}{name}"
