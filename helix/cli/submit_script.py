"""The batch script: reading it, the checks that spare a job that could not start, and its `#HBATCH`/`#SBATCH` lines.

The rules for the lines are sbatch(1)'s: they count up to the first line that is neither blank nor a comment; quotes
group words, a backslash escapes, an unquoted `#` ends the line.  Unlike sbatch, a word that belongs to no option is an
error with its line number instead of the silent end of all options.
"""

from __future__ import annotations

import os
import sys

from helix.errors import HelixError, LimitExceeded, NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from helix.cli.options import Given, Parser

SCRIPT_BYTES_MAX = 4 << 20  #: larger ones are refused here already; the controller's MaxScriptSize may be less
DIRECTIVE_LINES_MAX = 10_000
MAGIC = ("#HBATCH", "#SBATCH")
FOREIGN = ("#PBS", "#BSUB")
_INTERPRETER_HINT = "start it with #!/bin/sh, or use --wrap for a command line"


class Script:
    """A script's text and what it was called; `name` is "" for standard input."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text


def wrap(command: str) -> Script:
    """The script of `--wrap`."""
    text = f"#!/bin/sh\n# This script was created by hsubmit --wrap.\n\n{command}\n"
    return Script("", _decode(text.encode("utf-8", "surrogateescape"), "--wrap"))


def read_script(path: str) -> Script:
    """The script in a file, or on standard input for `-` and "".  Raises NotFound, UsageError or LimitExceeded."""
    if path in ("", "-"):
        return Script("", _check(sys.stdin.buffer.read(SCRIPT_BYTES_MAX + 1), "standard input"))
    try:
        with open(path, "rb") as file:
            data = file.read(SCRIPT_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NotFound(f"no batch script '{path}'", code="SCRIPT_UNKNOWN", hint=_path_hint(path)) from None
    except IsADirectoryError:
        raise NotFound(f"'{path}' is a directory, not a batch script", code="SCRIPT_UNKNOWN") from None
    except PermissionError:
        raise HelixError(f"batch script '{path}' cannot be read: permission denied", code="SCRIPT_UNREADABLE") from None
    return Script(path, _check(data, path))


def _path_hint(path: str) -> str:
    from helix.cli.options import nearest

    folder = os.path.dirname(path) or "."
    try:
        names = sorted(os.listdir(folder))[:2000]
    except OSError:
        return f"there is no directory '{folder}'" if not os.path.isdir(folder) else ""
    return nearest(os.path.basename(path), names)


def _check(data: bytes, name: str) -> str:
    """The text of a script that can work.  The texts of the refusals begin as sbatch's do."""
    if len(data) > SCRIPT_BYTES_MAX:
        raise LimitExceeded(
            f"batch script {name} is larger than {SCRIPT_BYTES_MAX >> 20} MiB",
            code="SCRIPT_TOO_LARGE",
            hint="keep data in files and read them from the script",
        )
    if not data:
        raise _invalid(f"Batch script {name} is empty!")
    if not data.strip():
        raise _invalid(f"Batch script {name} contains only whitespace!")
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise _invalid(f"batch script {name} contains a NUL byte on line {line}", "is it a program? use --wrap")
    if not data.startswith(b"#!"):
        raise _invalid(
            f"This does not look like a batch script: {name} does not start with #! and the path of an interpreter",
            _INTERPRETER_HINT,
        )
    if b"\r\n" in data or data.endswith(b"\r"):
        line = data[: data.index(b"\r")].count(b"\n") + 1
        raise _invalid(
            f"Batch script contains DOS line breaks (\\r\\n) instead of expected UNIX line breaks (\\n): "
            f"{name}, line {line}",
            "dos2unix or sed -i 's/\\r$//' mends it",
        )
    if not data[2:].split(b"\n", 1)[0].strip():
        raise _invalid(f"batch script {name} names no interpreter after #!", _INTERPRETER_HINT)
    return _decode(data, name)


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _invalid(
            f"batch script {name} is not UTF-8 text: byte 0x{data[error.start]:02x} on line {line}",
            "iconv -f latin1 -t utf-8 converts it",
        ) from None


def _invalid(msg: str, hint: str = "") -> HelixError:
    return HelixError(msg, code="SCRIPT_INVALID", hint=hint)


class Header:
    """What the head of a script asks for."""

    __slots__ = ("components", "foreign_line")

    def __init__(self) -> None:
        self.components: list[list[Given]] = [[]]  #: options of each component; one but for heterogeneous jobs
        self.foreign_line = 0  #: first line of another scheduler's options, 0 = none


def read_header(script: Script, parser: Parser) -> Header:
    """The options in the script's head; checked, so that an error names the line.  Raises UsageError."""
    header = Header()
    if "#" not in script.text[2:]:
        return header
    name = script.name or "standard input"
    for number, line in enumerate(script.text.split("\n"), 1):
        if not line.startswith("#"):
            body = line.lstrip()
            if body and not body.startswith("#"):
                break
            continue
        magic = next((word for word in MAGIC if line.startswith(word)), "")
        if not magic:
            if not header.foreign_line and line.startswith(FOREIGN):
                header.foreign_line = number
            continue
        if number > DIRECTIVE_LINES_MAX:
            raise UsageError(f"{name}: {magic} lines beyond line {DIRECTIVE_LINES_MAX}", code="SCRIPT_INVALID")
        where = f"{name}, line {number}"
        try:
            words = split_words(line[len(magic) :])
            if words and words[0].lower() in ("hetjob", "packjob"):
                if len(words) > 1:
                    raise UsageError(f"'{words[1][:60]}' beside {words[0]}, which stands alone", code="OPTION_INVALID")
                header.components.append([])
            else:
                header.components[-1].extend(_read_line(words, parser))
        except HelixError as error:
            raise UsageError(f"{where}: {error.msg}", code=error.code, hint=error.hint) from error
    return header


def _read_line(words: list[str], parser: Parser) -> list[Given]:
    given, rest = parser.split(words, permute=False)
    if rest:
        raise UsageError(
            f"'{rest[0][:60]}' belongs to no option",
            code="OPTION_INVALID",
            hint="quote a value that has spaces, or put # before a remark",
        )
    for item in given:
        if item.option.field in ("help", "usage", "version", "debug", "wrap"):
            raise UsageError(f"{item.used} has no place in a script", code="OPTION_INVALID")
        item.option.read(item.text)
    return given


def split_words(text: str) -> list[str]:
    """The words of a `#SBATCH` line: quotes group, a backslash escapes the next character, `#` ends the line.

    Raises UsageError for a quote that is not closed.
    """
    words: list[str] = []
    word: list[str] = []
    in_word = escaped = False
    quote = ""
    for letter in text:
        if escaped:
            escaped = False
            word.append(letter)
        elif letter == "\\":
            escaped = in_word = True
        elif quote:
            if letter == quote:
                quote = ""
            else:
                word.append(letter)
        elif letter in "\"'":
            quote = letter
            in_word = True
        elif letter.isspace():
            if in_word:
                words.append("".join(word))
                word, in_word = [], False
        elif letter == "#":
            break
        else:
            word.append(letter)
            in_word = True
    if quote:
        raise UsageError(f"a {quote} is not closed", code="OPTION_INVALID")
    if in_word:
        words.append("".join(word))
    return words
