"""File name patterns of --output, --error and --input (sbatch(1), FILENAME PATTERN).

Pure.  `%%` is a percent sign, a backslash anywhere turns all patterns off (and is removed), a number between the sign
and the letter pads with zeros (at most ten digits; ignored for texts).  Letters Slurm does not know stay as written.
The result is bounded and never holds a NUL; directories are not created.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from helix.errors import UsageError

PATH_MAX = 4096
_PAD_MAX = 10
_NO_ARRAY = 4294967294  # what Slurm prints for %a outside an array
_PATTERN = re.compile(r"%(\d*)([A-Za-z%])")
DEFAULT = "slurm-%j.out"
DEFAULT_ARRAY = "slurm-%A_%a.out"


class Names(Struct, frozen=True):
    """What the letters stand for."""

    job_id: int
    name: str = ""
    user: str = ""
    node: str = ""
    array_job_id: int = 0
    array_task_id: int | None = None


def letters_of(names: Names) -> dict[str, int | str]:
    """Letter -> value; numbers are padded on request, texts are not."""
    return {
        "A": names.array_job_id or names.job_id,
        "a": _NO_ARRAY if names.array_task_id is None else names.array_task_id,
        "j": names.job_id,
        "J": str(names.job_id),
        "x": names.name,
        "u": names.user,
        "N": names.node.partition(".")[0],
        "n": 0,
        "t": 0,
        "s": "batch",
    }


def expand_pattern(pattern: str, letters: Mapping[str, int | str]) -> str:
    """`pattern` with its letters replaced.  Raises UsageError (PATH_TOO_LONG) beyond PATH_MAX bytes."""
    if "\\" in pattern:
        return _bounded(pattern.replace("\\", ""))
    if "%" not in pattern:
        return _bounded(pattern)

    def replace(match: re.Match[str]) -> str:
        digits, letter = match.groups()
        if letter == "%":
            return "%"
        value = letters.get(letter)
        if value is None:
            return match.group()
        if isinstance(value, int):
            return str(value).zfill(min(int(digits[:3] or 0), _PAD_MAX))
        # a name may hold a slash: it must not choose another directory
        return value.replace("/", "_")

    return _bounded(_PATTERN.sub(replace, pattern))


def _bounded(path: str) -> str:
    if "\0" in path or len(path.encode("utf-8", "surrogateescape")) >= PATH_MAX:
        raise UsageError(f"file name '{path[:60]}...' is longer than {PATH_MAX - 1} bytes", code="PATH_TOO_LONG")
    return path


def stdio_paths(stdin: str, stdout: str, stderr: str, work_dir: str, names: Names) -> tuple[str, str, str]:
    """Absolute paths of standard input, output and error.

    Defaults: /dev/null, `slurm-%j.out` (`slurm-%A_%a.out` for an array task) in the working directory, and standard
    error together with standard output.  Raises UsageError (PATH_TOO_LONG).
    """
    letters = letters_of(names)
    default = DEFAULT if names.array_task_id is None else DEFAULT_ARRAY
    out = _absolute(expand_pattern(stdout or default, letters), work_dir)
    return (
        _absolute(expand_pattern(stdin, letters), work_dir) if stdin else "/dev/null",
        out,
        _absolute(expand_pattern(stderr, letters), work_dir) if stderr else out,
    )


def _absolute(path: str, work_dir: str) -> str:
    return path if path.startswith("/") else _bounded(f"{work_dir.rstrip('/')}/{path}")
