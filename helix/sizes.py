"""Sizes of memory and files as users write them: `4G`, `512M`, `2048K`, `100` (MiB).

Owns the suffixes and their rounding; the meaning of a special 0 (`--mem=0` is all memory of a node) belongs to the
caller.  Standard library only and cheap to import: the commands use it.
"""

from __future__ import annotations

import re

from helix.errors import UsageError
from helix.quoting import one_line

MAX_MIB = 1 << 50  #: largest size taken, in MiB
_SIZE = re.compile(r"([0-9]{1,18})\s*(?:([KMGTP])(?:I?B)?|(B))?", re.ASCII | re.IGNORECASE)
_SHIFT = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50}
_FORM = "the form is a whole number with K, M, G or T, as in 4G"


def parse_mem_mib(text: str) -> int:
    """A memory size in MiB, rounded up; without a suffix the number is MiB, as in sbatch(1).

    Raises UsageError (SIZE_INVALID).
    """
    return -(-_parse(text, 20) >> 20)


def parse_bytes(text: str) -> int:
    """A size in bytes; without a suffix the number is bytes.  Raises UsageError (SIZE_INVALID)."""
    return _parse(text, 0)


def format_mem_mib(mib: int) -> str:
    """The shortest exact form with a suffix: 4096 gives `4G`, 4000 gives `4000M`, 0 gives `0`."""
    return format_bytes(mib << 20)


def format_mem_short(mib: int) -> str:
    """A rounded form with up to two decimals, as squeue prints sizes: 1500 gives `1.46G`, 4096 gives `4G`."""
    value, suffix = float(mib), "M"
    for bigger in "GTP":
        if value < 1024:
            break
        value, suffix = value / 1024, bigger
    if mib == 0:
        return "0"
    return f"{int(value)}{suffix}" if value == int(value) else f"{value:.2f}{suffix}"


def format_bytes(size: int) -> str:
    """The shortest exact form: 4194304 gives `4M`, 1000 gives `1000`."""
    if size == 0:
        return "0"
    suffix = ""
    for letter in "KMGTP":
        if size % 1024:
            break
        size, suffix = size // 1024, letter
    return f"{size}{suffix}"


def _parse(text: str, default_shift: int) -> int:
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"bad size '{one_line(text)}'", code="SIZE_INVALID", hint=_FORM)
    shift = 0 if match[3] else _SHIFT[match[2].upper()] if match[2] else default_shift
    size = int(match[1]) << shift
    if size > MAX_MIB << 20:
        raise UsageError(f"size '{one_line(text)}' is above {MAX_MIB >> 40}E", code="SIZE_INVALID", hint=_FORM)
    return size
