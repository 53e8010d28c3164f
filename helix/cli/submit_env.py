"""What of the submitter's surroundings goes with a job: environment, resource limits, umask, command line.

Source: sbatch(1), --export, --export-file, --propagate and ENVIRONMENT.
"""

from __future__ import annotations

import os

from helix.errors import HelixError, LimitExceeded, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ENV_BYTES_MAX = 4 << 20  #: what the controller takes
EXPORT_FILE_BYTES_MAX = ENV_BYTES_MAX
SUBMIT_LINE_CHARS_MAX = 4096
#: With NONE, NIL or a list these still go along (sbatch(1) --export).
ALWAYS = ("SLURM_", "HELIX_", "SPANK_")
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_")


class Exported:
    """The job's environment, whether its login environment is wanted too, and what was left out."""

    __slots__ = ("dropped", "get_user_env", "variables")

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.get_user_env = False
        self.dropped: list[str] = []

    def lines(self) -> list[str]:
        """NAME=value each; names whose value is not UTF-8 text go to `dropped`.  Raises LimitExceeded."""
        lines = [f"{name}={value}" for name, value in self.variables.items()]
        try:
            total = len("".join(lines).encode())
        except UnicodeEncodeError:
            self.dropped = [name for name, value in self.variables.items() if not _is_text(name + value)]
            for name in self.dropped:
                del self.variables[name]
            return self.lines()
        if total > ENV_BYTES_MAX:
            largest = max(self.variables, key=lambda name: len(self.variables[name]))
            raise LimitExceeded(
                f"the environment is {total} bytes, more than {ENV_BYTES_MAX}; the largest variable is {largest[:60]}",
                code="ENVIRONMENT_TOO_LARGE",
                hint="unset it, or choose with --export=NAME,...",
            )
        return lines


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def export_environment(export: str, export_file: str, environ: Mapping[str, str]) -> Exported:
    """The environment for `--export` and `--export-file`.  Raises UsageError or LimitExceeded."""
    result = Exported()
    low = export.strip().lower()
    if low in ("", "all"):
        result.variables.update(environ)
    else:
        result.get_user_env = low != "nil"
        if low not in ("none", "nil"):
            _add_listed(export, environ, result.variables)
        result.variables.update(
            {name: value for name, value in environ.items() if name.startswith(ALWAYS) and name not in result.variables}
        )
    if export_file:
        result.variables.update(_read_export_file(export_file))
    return result


def _add_listed(export: str, environ: Mapping[str, str], into: dict[str, str]) -> None:
    for item in split_export(export):
        name, equals, value = item.partition("=")
        if item.strip().lower() == "all":
            for key, text in environ.items():
                into.setdefault(key, text)
        elif equals:
            into[_require_name(name)] = value
        elif name in environ:
            into[_require_name(name)] = environ[name]


def split_export(text: str) -> list[str]:
    """The items of a list, in which quotes keep commas together and `\\,` is a comma.  Raises UsageError."""
    items: list[str] = []
    item: list[str] = []
    quote = ""
    escaped = False
    for letter in text:
        if escaped:
            item.append(letter if letter == "," else "\\" + letter)
            escaped = False
        elif letter == "\\":
            escaped = True
        elif quote:
            if letter == quote:
                quote = ""
            else:
                item.append(letter)
        elif letter in "\"'":
            quote = letter
        elif letter == ",":
            items.append("".join(item))
            item = []
        else:
            item.append(letter)
    if quote:
        raise UsageError(f"--export: a {quote} is not closed", code="OPTION_INVALID")
    if escaped:
        item.append("\\")
    items.append("".join(item))
    return [piece for piece in items if piece.strip()]


def _require_name(name: str) -> str:
    if not name.strip() or "\0" in name or not name.isprintable():
        raise UsageError(f"--export: '{name[:40]}' is not a variable's name", code="OPTION_INVALID")
    return name.strip()


def _read_export_file(source: str) -> dict[str, str]:
    """NAME=value records that end with NUL, from a file or an open descriptor (3 or more)."""
    try:
        with open(int(source) if source.isdigit() and int(source) > 2 else source, "rb") as file:
            data = file.read(EXPORT_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise HelixError(f"--export-file: {source[:200]}: {error.strerror}", code="FILE_UNREADABLE") from error
    if len(data) > EXPORT_FILE_BYTES_MAX:
        raise LimitExceeded(f"--export-file: {source[:200]} is larger than {EXPORT_FILE_BYTES_MAX} bytes")
    found = {}
    for record in data.decode("utf-8", "surrogateescape").split("\0"):
        name, equals, value = record.partition("=")
        if not record.strip():
            continue
        if not equals:
            raise UsageError(
                f"--export-file: '{record.strip()[:40]}' is not NAME=value",
                code="OPTION_INVALID",
                hint="records end with a NUL byte, as in env -0 > FILE",
            )
        found[_require_name(name)] = value
    return found


def resource_limits(propagate: str) -> dict[str, tuple[int, int]]:
    """name -> (soft, hard), -1 for infinity, for the limits named: `ALL`, `NONE`, or names joined by commas."""
    chosen = propagate.split(",")
    if "NONE" in chosen:
        return {}
    import resource

    from helix.cli.submit_values import LIMIT_NAMES

    limits = {}
    for name in LIMIT_NAMES:
        if "ALL" in chosen or name in chosen:
            soft, hard = resource.getrlimit(getattr(resource, "RLIMIT_" + name))
            limits[name] = (_finite(soft), _finite(hard))
    return limits


def _finite(value: int) -> int:
    # RLIM_INFINITY is -1 here already; numbers beyond 63 bits mean the same.
    return -1 if value < 0 or value >= 1 << 62 else value


def umask(environ: Mapping[str, str]) -> int:
    """The present file mode mask; HELIX_UMASK or SLURM_UMASK (octal) overrides it."""
    text = environ.get("HELIX_UMASK") or environ.get("SLURM_UMASK") or ""
    if text:
        try:
            return int(text, 8) & 0o777
        except ValueError:
            raise UsageError(f"SLURM_UMASK: '{text[:20]}' is not an octal number", code="OPTION_INVALID") from None
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def working_directory() -> str:
    """Where we are.  Raises HelixError when that directory is gone or closed to us."""
    try:
        return os.getcwd()
    except OSError as error:
        raise HelixError(
            f"the working directory cannot be read: {error.strerror}",
            code="WORK_DIR_INVALID",
            hint="cd to a directory that exists, or use --chdir",
        ) from error


def submit_directory(environ: Mapping[str, str]) -> str:
    """Where we are, for SLURM_SUBMIT_DIR beside a --chdir; "" when that directory is gone."""
    try:
        return os.getcwd()
    except OSError:
        return environ.get("PWD", "")


def submit_line(words: list[str]) -> str:
    """The command line as the shell would need it, cut to a bound."""
    line = " ".join(word if word and _SAFE.issuperset(word) else _quote(word) for word in words)
    return line if len(line) <= SUBMIT_LINE_CHARS_MAX else line[: SUBMIT_LINE_CHARS_MAX - 3] + "..."


def _quote(word: str) -> str:
    return "'" + word.replace("'", "'\"'\"'") + "'"
