"""Texts of TRES: counts (`cpu=8,mem=4G,gres/gpu=2`) and weights (`CPU=1.0,Mem=0.25G,GRES/gpu=2.0`).

Counts are whole numbers, memory in MiB.  Weights are kept as whole billionths of a billing unit for each unit of the
TRES (for memory: each MiB), so that what a job is charged is exact.  Bad texts raise ValueError.  Standard library
only.  Source: slurm.conf(5), TRESBillingWeights; sacctmgr(1), GrpTRES.
"""

from __future__ import annotations

import re

from helix.errors import UsageError
from helix.quoting import one_line
from helix.sizes import parse_mem_mib

NANO = 1_000_000_000
COUNT_MAX = 1 << 52
WEIGHT_MAX = 1_000_000
_PLAIN = ("billing", "cpu", "energy", "mem", "node", "pages", "vmem")
_TYPED = ("bb", "fs", "gres", "ic", "license")
_NUMBER = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([KMGTP]?)", re.ASCII | re.IGNORECASE)
_SHIFT = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


def tres_name(text: str) -> str:
    """The name as it is kept: lower case, but for the part after `/`.  Raises ValueError for what is no TRES."""
    kind, slash, name = text.strip().partition("/")
    kind = kind.lower()
    if not slash and kind in _PLAIN:
        return kind
    if kind in _TYPED and name and name.isprintable() and not set(name) & set(" ,='\""):
        return f"{kind}/{name}"
    raise ValueError(f"'{one_line(text)}' is no TRES: cpu, mem, node, billing, gres/NAME or license/NAME")


def parse_tres(text: str) -> dict[str, int]:
    """Counts by TRES; a count of -1 takes the limit away and is left out."""
    found: dict[str, int] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        name, equals, value = item.partition("=")
        tres = tres_name(name)
        value = value.strip()
        if not equals or not value:
            raise ValueError(f"'{one_line(item)}' has no number")
        if value == "-1":
            continue
        if tres == "mem":
            try:
                count = parse_mem_mib(value)
            except UsageError as error:
                raise ValueError(error.msg) from error
        elif value.isascii() and value.isdigit() and len(value) <= 16:
            count = int(value)
        else:
            raise ValueError(f"'{one_line(value)}' is not a whole number")
        if count > COUNT_MAX:
            raise ValueError(f"{count} is above {COUNT_MAX}")
        found[tres] = count
    return found


def format_tres(counts: dict[str, int]) -> str:
    """`cpu=8,mem=4096M`; "" for none."""
    return ",".join(f"{name}={count}{'M' if name == 'mem' else ''}" for name, count in counts.items())


def parse_weights(text: str) -> dict[str, int]:
    """Billionths of a billing unit for one unit of each TRES.

    A suffix says what the weight is for: Mem=0.25G is 0.25 for each GiB (without one: for each MiB); of other TRES,
    K stands for 1024 units and so on.
    """
    found: dict[str, int] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        name, equals, value = item.partition("=")
        tres = tres_name(name)
        match = _NUMBER.fullmatch(value.strip())
        if not equals or not match:
            raise ValueError(f"'{one_line(item)}' is not TRES=number")
        if float(match[1]) > WEIGHT_MAX:
            raise ValueError(f"{match[1]} is above {WEIGHT_MAX}")
        shift = _SHIFT[match[2].upper()] - (20 if tres == "mem" and match[2] else 0)
        whole, _, part = match[1].partition(".")
        nano = int(whole) * NANO + int((part + "000000000")[:9])
        found[tres] = nano << -shift if shift < 0 else (nano + ((1 << shift) >> 1)) >> shift
    return found
