"""The option tables of the commands, and the getopt_long(3) rules by which a command line is read.

A command declares one table of `Option`s; parsing, `--help`, `--usage`, the man page's OPTIONS and the shell
completion are derived from it.  The rules are those of Slurm's commands: bundled short options (`-hl`), a value in
the same word (`-n4`), `--name=value`, `--name value`, unambiguous prefixes of long names, an optional value only
after `=`, `--` ends the options.  Owns no I/O.  argparse is avoided on purpose: it has other rules and costs start-up.
"""

from __future__ import annotations

from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

HONOURED = "honoured"  #: does what it says
STORED = "stored"  #: kept with the job for a later part of the system
LATER = "later"  #: refused by name
ACCEPTED = "accepted"  #: taken for compatibility and has nothing to do here

VALUE_CHARS_MAX = 1 << 20  #: longest value of one option


class Option:
    """One row of a table.

    `flags`: every spelling, blank-separated.  `metavar`: "" for an option without a value.  `optional`: the value may
    be left out (`const` then).  `parse`: text -> value; raises ValueError or HelixError.  `field`: the key the value
    is filed under.  `clears`: fields this option takes back.  `repeat`: values are collected in a list.  `env`: the
    environment variable's name after its prefix.
    """

    __slots__ = (
        "clears",
        "const",
        "env",
        "field",
        "flags",
        "help",
        "metavar",
        "name",
        "optional",
        "parse",
        "repeat",
        "status",
    )

    def __init__(
        self,
        flags: str,
        help: str,
        *,
        metavar: str = "",
        field: str = "",
        parse: Callable[[str], Any] | None = None,
        const: Any = True,
        optional: bool = False,
        env: str = "",
        status: str = HONOURED,
        clears: tuple[str, ...] = (),
        repeat: bool = False,
    ) -> None:
        self.flags = flags.split()
        self.help = help
        self.metavar = metavar
        self.name = next((f for f in self.flags if f.startswith("--")), self.flags[0])
        self.field = field or self.name.lstrip("-").replace("-", "_")
        self.parse = parse
        self.const = const
        self.optional = optional
        self.env = env
        self.status = status
        self.clears = clears
        self.repeat = repeat

    @property
    def spelling(self) -> str:
        """As shown in help: `-n, --ntasks=N`."""
        shown = ", ".join(self.flags)
        if not self.metavar:
            return shown
        if self.name.startswith("--"):
            return f"{shown}[={self.metavar}]" if self.optional else f"{shown}={self.metavar}"
        return f"{shown} {self.metavar}"

    def read(self, text: str | None, used: str = "") -> Any:
        """The value for `text` (None: given without one).  Raises UsageError that names the option (or `used`,
        the environment variable it came from)."""
        name = used if used and not used.startswith("-") else self.name
        if self.status == LATER:
            raise not_supported(name)
        if text is None:
            return self.const
        if len(text) > VALUE_CHARS_MAX:
            raise UsageError(f"the value of {name} is longer than {VALUE_CHARS_MAX} characters")
        if self.parse is None:
            return text
        try:
            return self.parse(text)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", code="OPTION_INVALID") from error
        except UsageError as error:
            raise UsageError(f"{name}: {error.msg}", code=error.code, hint=error.hint) from error


class Given:
    """An option as it was given: the row, the text of its value (None: none) and the spelling used."""

    __slots__ = ("option", "text", "used")

    def __init__(self, option: Option, text: str | None, used: str) -> None:
        self.option = option
        self.text = text
        self.used = used


class Command:
    """What one command declares about itself: everything help, man page and completion need."""

    __slots__ = (
        "details",
        "env",
        "env_prefixes",
        "examples",
        "exits",
        "extra_tables",
        "fields",
        "name",
        "operands",
        "options",
        "permute",
        "see_also",
        "stop_words",
        "summary",
        "synopsis",
    )

    def __init__(
        self,
        name: str,
        summary: str,
        synopsis: Sequence[str],
        options: Iterable[Option],
        *,
        operands: Sequence[tuple[str, str]] = (),
        permute: bool = True,
        stop_words: frozenset[str] = frozenset(),
        env: Sequence[tuple[str, str]] = (),
        env_prefixes: Sequence[str] = (),
        exits: Sequence[tuple[int, str]] = (),
        fields: str = "",
        see_also: Sequence[str] = (),
        examples: Sequence[tuple[str, str]] = (),
        details: str = "",
        short_help: bool = True,
    ) -> None:
        """`permute`: options may follow operands.  `stop_words`: operands after which nothing is an option.
        `fields`: `module:NAME` of a table of output fields (see `helix.cli.fields`).  `short_help`: `-h` is --help
        (hqueue and hinfo use it for --noheader)."""
        self.name = name
        self.summary = summary
        self.synopsis = tuple(synopsis)
        self.options = (*options, *(HELP_OPTIONS_SHORT if short_help else HELP_OPTIONS))
        self.operands = tuple(operands)
        self.permute = permute
        self.stop_words = stop_words
        self.env = tuple(env)
        self.env_prefixes = tuple(env_prefixes)
        self.exits = tuple(exits)
        self.fields = fields
        self.see_also = tuple(see_also)
        self.examples = tuple(examples)
        self.details = details


_HELP_TEXT = "print this help and exit"
#: Rows every command has.
HELP_OPTIONS = (
    Option("--help", _HELP_TEXT),
    Option("--usage", "print a short reminder of the usage and exit"),
    Option("-V --version", "print the version and exit"),
    Option("--debug", "on a failure print where in the program it happened"),
)
HELP_OPTIONS_SHORT = (Option("-h --help", _HELP_TEXT), *HELP_OPTIONS[1:])


def not_supported(what: str) -> UsageError:
    """The refusal of an option that a later part of the system serves."""
    return UsageError(
        f"{what} is not supported yet",
        code="NOT_SUPPORTED",
        hint="leave it out; nothing would honour it",
    )


def nearest(word: str, candidates: Iterable[str]) -> str:
    """`did you mean '...'?` for the closest candidate, or ""."""
    from difflib import get_close_matches

    match = get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return f"did you mean '{match[0]}'?" if match else ""


class Parser:
    """Reads words by a table.  Made once a process; O(options) to build, O(words) to use."""

    def __init__(self, command: str, options: Iterable[Option]) -> None:
        self.command = command
        self.short: dict[str, Option] = {}
        self.long: dict[str, Option] = {}
        for option in options:
            for flag in option.flags:
                if flag.startswith("--"):
                    self.long[flag] = option
                else:
                    self.short[flag] = option

    def split(
        self, words: Sequence[str], *, permute: bool = True, stop_words: frozenset[str] = frozenset()
    ) -> tuple[list[Given], list[str]]:
        """The options and the operands of a command line.  Raises UsageError; values are not looked at yet."""
        given: list[Given] = []
        operands: list[str] = []
        at, count = 0, len(words)
        while at < count:
            word = words[at]
            at += 1
            if word == "--":
                operands.extend(words[at:])
                break
            if word == "-" or not word.startswith("-"):
                operands.append(word)
                if not permute or word in stop_words:
                    operands.extend(words[at:])
                    break
                continue
            if word.startswith("--"):
                name, equals, text = word.partition("=")
                option = self.find_long(name)
                if not option.metavar:
                    if equals:
                        raise self.bad(f"{option.name} takes no value")
                    given.append(Given(option, None, name))
                elif equals:
                    given.append(Given(option, text, name))
                elif option.optional:
                    given.append(Given(option, None, name))
                elif at < count:
                    given.append(Given(option, words[at], name))
                    at += 1
                else:
                    raise self.bad(f"{option.name} needs a value ({option.metavar})")
                continue
            at = self._split_short(word, words, at, given)
        return given, operands

    def _split_short(self, word: str, words: Sequence[str], at: int, given: list[Given]) -> int:
        rest = word[1:]
        while rest:
            flag, rest = "-" + rest[0], rest[1:]
            option = self.short.get(flag)
            if option is None:
                raise self.bad(f"no option {flag}", hint=self._hint_for(word))
            if not option.metavar:
                given.append(Given(option, None, flag))
            elif option.optional or rest:
                given.append(Given(option, rest or None, flag))
                rest = ""
            elif at < len(words):
                given.append(Given(option, words[at], flag))
                at += 1
            else:
                raise self.bad(f"{flag} needs a value ({option.metavar})")
        return at

    def find_long(self, name: str) -> Option:
        """The option a long name, or an unambiguous beginning of one, stands for.  Raises UsageError."""
        option = self.long.get(name)
        if option is not None:
            return option
        found = {flag: row for flag, row in self.long.items() if flag.startswith(name)}
        rows = {id(row) for row in found.values()}
        if len(rows) == 1:
            return next(iter(found.values()))
        if found:
            raise self.bad(f"option {name} is ambiguous", hint="it may be " + ", ".join(sorted(found)))
        raise self.bad(f"no option {name}", hint=self._hint_for(name))

    def _hint_for(self, word: str) -> str:
        # `-gpus` is how people misspell `--gpus`.
        return nearest(word if word.startswith("--") else "-" + word, self.long) or f"see {self.command} --help"

    def bad(self, msg: str, hint: str = "") -> UsageError:
        """A refusal of the command line."""
        return UsageError(msg, code="OPTION_INVALID", hint=hint or f"see {self.command} --help")


def read_values(given: Iterable[Given], into: dict[str, Any] | None = None) -> dict[str, Any]:
    """field -> value; of two options for the same field the later wins.  Raises UsageError."""
    values: dict[str, Any] = {} if into is None else into
    for item in given:
        option = item.option
        value = option.read(item.text, item.used)
        for name in option.clears:
            values.pop(name, None)
        if option.repeat:
            values.setdefault(option.field, []).append(value)
        else:
            values[option.field] = value
    return values


def given_in_environment(options: Iterable[Option], prefixes: Sequence[str], environ: Mapping[str, str]) -> list[Given]:
    """Options set by environment variables, `prefixes` in order of precedence, the strongest first.

    A flag is set by an empty value, `yes`, `true` or a number other than 0, as sbatch(1) has it; any other value
    leaves it alone.
    """
    given = []
    for option in options:
        for name in option.env.split():
            found = next((prefix + name for prefix in prefixes if prefix + name in environ), "")
            if not found:
                continue
            text = environ[found]
            if option.metavar:
                if text or option.optional:
                    given.append(Given(option, text or None, found))
            elif text.strip().lower() in ("", "yes", "true", "y") or text.strip().strip("0").isdigit():
                given.append(Given(option, None, found))
            break
    return given


# ---- parsers of values used by several commands -------------------------------------------------------------------


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole decimal numbers from `low` to `high`."""

    def parse(text: str) -> int:
        digits = text.strip()
        body = digits[1:] if digits[:1] in "+-" else digits
        if not (body.isascii() and body.isdigit()) or len(body) > 20:
            raise ValueError(f"'{text[:60]}' is not a whole number")
        number = int(digits)
        if not low <= number <= high:
            raise ValueError(f"{number} is not between {low} and {high}")
        return number

    return parse


def count(text: str) -> int:
    """A number of things, at least 1; `k` and `m` multiply by 1024 and 1048576, as in sbatch(1) --nodes."""
    digits = text.strip()
    scale = {"k": 1024, "m": 1048576}.get(digits[-1:].lower(), 1)
    if scale > 1:
        digits = digits[:-1]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 12:
        raise ValueError(f"'{text[:60]}' is not a number")
    number = int(digits) * scale
    if not 1 <= number <= 0x7FFFFFFF:
        raise ValueError(f"{text.strip()} is not between 1 and 2147483647")
    return number


def words(text: str) -> list[str]:
    """A comma-separated list without its empty items."""
    return [item for item in (part.strip() for part in text.split(",")) if item]


def choice(*allowed: str) -> Callable[[str], str]:
    """A parser that takes one of some words, in any case."""

    def parse(text: str) -> str:
        low = text.strip().lower()
        if low not in allowed:
            raise ValueError(f"'{text[:60]}' is not {' or '.join(allowed)}")
        return low

    return parse


def text_up_to(limit: int, what: str = "the text") -> Callable[[str], str]:
    """A parser of text of at most `limit` characters without control characters."""

    def parse(text: str) -> str:
        if len(text) > limit:
            raise ValueError(f"{what} is longer than {limit} characters")
        if not text.isprintable():
            raise ValueError(f"{what} has a character that cannot be printed")
        return text

    return parse


def signal_number(text: str) -> int:
    """A signal by number or by name with or without SIG, in any case."""
    word = text.strip().upper()
    if word.isascii() and word.isdigit() and len(word) < 4:
        if not 0 <= int(word) <= 64:
            raise ValueError(f"there is no signal {word}")
        return int(word)
    import signal

    name = word if word.startswith("SIG") else "SIG" + word
    number = getattr(signal, name, None)
    if not isinstance(number, signal.Signals):
        raise ValueError(f"there is no signal '{text[:60]}'")
    return int(number)


# ---- help ---------------------------------------------------------------------------------------------------------


def format_usage(command: Command) -> str:
    """The synopsis."""
    first, *rest = command.synopsis
    return "\n".join([f"Usage: {first}", *(f"       {line}" for line in rest)])


def format_help(command: Command, width: int = 80) -> str:
    """The whole of `--help`."""
    import textwrap

    lines = [format_usage(command), "", f"{command.name}: {command.summary}", ""]
    if command.details:
        for paragraph in command.details.strip().split("\n\n"):
            if paragraph.startswith(" "):
                lines.extend([paragraph.rstrip(), ""])
            else:
                lines.extend([*textwrap.wrap(" ".join(paragraph.split()), width), ""])
    rows = [(name, text) for name, text in command.operands]
    lines.extend(_rows(rows, width))
    if rows:
        lines.append("")
    shown = [row for row in command.options if row.status != LATER]
    lines.append("Options:")
    lines.extend(
        _rows([(row.spelling, row.help + (" (stored)" if row.status == STORED else "")) for row in shown], width)
    )
    later = [row.name for row in command.options if row.status == LATER]
    if later:
        lines.extend(["", "Not supported yet, refused:"])
        lines.extend(
            textwrap.wrap(" ".join(later), width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        )
    lines.extend(["", f"See {command.name}(1) for all of it."])
    return "\n".join(lines)


def _rows(rows: Sequence[tuple[str, str]], width: int) -> list[str]:
    import textwrap

    column = 30
    lines = []
    for left, right in rows:
        body = textwrap.wrap(right, width - column) or [""]
        if len(left) + 4 > column:
            lines.append(f"  {left}")
        else:
            lines.append(f"  {left:<{column - 2}}{body.pop(0)}".rstrip())
        lines.extend(" " * column + line for line in body)
    return lines
