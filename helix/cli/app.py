"""The frame around every command: options in, exit status out, errors as one line, the connection to the controller.

The one broad `except` of the commands is here.  Exit statuses are the table EXIT_STATUSES; Ctrl-C ends with 130 and a
reader that goes away (`| head`) with 141, both as the shell would report the signal.
"""

from __future__ import annotations

import os
import sys

from helix.cli import output
from helix.cli.options import Parser, format_help, format_usage, given_in_environment, read_values
from helix.errors import HelixError, UsageError, from_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from helix.cli.options import Command
    from helix.client import Client

#: Exit statuses all commands share.
EXIT_STATUSES: tuple[tuple[int, str], ...] = (
    (0, "done"),
    (1, "refused, or failed"),
    (2, "the command line is wrong"),
    (3, "no controller can be reached"),
    (4, "not allowed"),
    (5, "no answer in time"),
    (70, "a fault of Helix itself"),
)
INTERRUPTED = 130
BROKEN_PIPE = 141

#: Environment variables all commands read.
COMMON_ENV: tuple[tuple[str, str], ...] = (
    ("HELIX_SOCKET", "path of the agent socket to talk to"),
    ("HELIX_DEBUG", "1: as --debug"),
    ("NO_COLOR", "not empty: no colours"),
    ("SLURM_TIME_FORMAT", "how times are shown: standard, relative, or a strftime(3) format"),
)


class Invocation:
    """A command line that was read: values by field, operands, and the name the command was called by."""

    __slots__ = ("command", "operands", "prog", "values", "words")

    def __init__(
        self, command: Command, prog: str, words: list[str], values: dict[str, Any], operands: list[str]
    ) -> None:
        self.command = command
        self.prog = prog
        self.words = words
        self.values = values
        self.operands = operands

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a field, or `default` when the option was not given."""
        return self.values.get(field, default)

    def note(self, text: str) -> None:
        """A remark on stderr."""
        output.note(self.prog, text)


def run(command: Command, body: Callable[[Invocation], int], argv: Sequence[str] | None = None) -> int:
    """Read the command line, call `body`, and turn whatever happens into an exit status."""
    prog, words = _split_argv(command, argv)
    debug = bool(os.environ.get("HELIX_DEBUG")) or "--debug" in words
    try:
        parser = Parser(prog, command.options)
        given, operands = parser.split(words, permute=command.permute, stop_words=command.stop_words)
        names = {item.option.name for item in given}
        if "--help" in names:
            output.put(format_help(command))
            status = 0
        elif "--usage" in names:
            output.put(format_usage(command))
            status = 0
        elif "--version" in names:
            from helix import __version__

            output.put(f"helix {__version__}")
            status = 0
        else:
            status = body(Invocation(command, prog, words, read_values(given), operands))
        sys.stdout.flush()
        return status
    except BaseException as error:
        return _report(prog, error, debug)


def _split_argv(command: Command, argv: Sequence[str] | None) -> tuple[str, list[str]]:
    if argv is not None:
        return command.name, list(argv)
    return os.path.basename(sys.argv[0]).removesuffix(".py") or command.name, sys.argv[1:]


def _report(prog: str, error: BaseException, debug: bool) -> int:
    """The exit status for what went wrong, after telling the user."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt):
        _discard_stdout(flush=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        _discard_stdout(flush=False)
        return BROKEN_PIPE
    _discard_stdout(flush=True)
    if isinstance(error, HelixError):
        text, status = output.format_error(prog, error), error.exit_status
    elif isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        text, status = f"{prog}: {name}{error.strerror or error} (OS_ERROR)", 1
    elif isinstance(error, RecursionError | MemoryError):
        text, status = f"{prog}: {type(error).__name__.lower()} (INTERNAL)", 70
    else:
        text = f"{prog}: internal error: {type(error).__name__}: {error} (INTERNAL)\nrun it again with --debug"
        status = 70
    try:
        if debug:
            import traceback

            traceback.print_exception(error)
        sys.stderr.write(output.clean(text) + "\n")
        sys.stderr.flush()
    except OSError:
        return status
    return status


def _discard_stdout(*, flush: bool) -> None:
    """Print what is pending if that is possible; keep the interpreter from complaining at exit if it is not."""
    try:
        if flush:
            sys.stdout.flush()
            return
    except OSError:
        flush = False
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def connect() -> Client:
    """The connection to the agent socket (made on the first call).  A person who waits for it is told why."""
    from helix.client import Client

    return Client(on_retry=_tell_waiting if sys.stderr.isatty() else None)


def _tell_waiting(error: HelixError, pause_s: float) -> None:
    if pause_s >= 1.0:
        sys.stderr.write(output.clean(f"{error.msg}; trying again in {pause_s:.0f} s\n"))
        sys.stderr.flush()


def apply_environment(invocation: Invocation) -> None:
    """Fill in what the command line left open from the command's environment variables.  Raises UsageError."""
    command = invocation.command
    from_env = read_values(given_in_environment(command.options, command.env_prefixes, os.environ))
    for field, value in from_env.items():
        invocation.values.setdefault(field, value)


def require_operands(invocation: Invocation, what: str, *, at_least: int = 1, at_most: int = 10_000) -> list[str]:
    """The operands, or a UsageError that says what is missing."""
    operands = invocation.operands
    if len(operands) < at_least:
        raise UsageError(f"{what} missing", hint=f"see {invocation.prog} --help")
    if len(operands) > at_most:
        raise UsageError(f"unexpected argument '{operands[at_most][:60]}'", hint=f"see {invocation.prog} --help")
    return operands


def refuse_operands(invocation: Invocation) -> None:
    """A UsageError if there are operands where none belong."""
    if invocation.operands:
        raise UsageError(f"unexpected argument '{invocation.operands[0][:60]}'", hint=f"see {invocation.prog} --help")


def split_ids(operands: Iterable[str]) -> list[str]:
    """Job ids as typed: separate words or joined by commas (not the commas inside `12_[1,3]`)."""
    ids: list[str] = []
    for operand in operands:
        depth, start = 0, 0
        for at, letter in enumerate(operand):
            if letter == "[":
                depth += 1
            elif letter == "]":
                depth -= 1
            elif letter == "," and depth == 0:
                ids.append(operand[start:at])
                start = at + 1
        ids.append(operand[start:])
    return [require_job_id(text.strip()) for text in ids if text.strip()]


def require_job_id(text: str) -> str:
    """`12`, `12+1`, `12_3`, `12_[1-4]` or `12_*`, checked for shape only.  Raises UsageError (JOB_ID_INVALID)."""
    number, underscore, task = text.partition("_")
    leader, plus, offset = number.partition("+")
    if plus and not underscore and offset.isascii() and offset.isdigit():
        number = leader
    good = number.isascii() and number.isdigit() and len(number) <= 20
    if good and underscore:
        if task.startswith("["):
            from helix.indexset import parse_indexes

            body, _, limit = task.removeprefix("[").removesuffix("]").partition("%")
            good = task.endswith("]") and bool(parse_indexes(body)) and (not limit or limit.isdigit())
        else:
            good = task.isascii() and task.isdigit() and len(task) <= 10
    if not good:
        raise UsageError(
            f"invalid job id '{text[:60]}'", code="JOB_ID_INVALID", hint="the forms are 12, 12_3 and 12_[1-4,8]"
        )
    return text


def report_done(invocation: Invocation, reply: dict[str, Any], quiet: bool = False) -> int:
    """Print the per-job errors of a `{done, errors}` reply; the exit status they amount to."""
    status = 0
    for item in reply.get("errors", ()):
        error = from_wire(item)
        status = max(status, error.exit_status)
        if not quiet:
            invocation.note(f"{item.get('id')}: {error.msg} ({error.code})")
            if error.hint:
                sys.stderr.write(output.clean(error.hint) + "\n")
    return status
