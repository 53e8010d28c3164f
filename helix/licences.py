"""Licences as the configuration and users write them: `matlab:10,ansys`.  Source: sbatch(1), --licenses; slurm.conf(5).

Standard library only and cheap to import: the commands use it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from helix.errors import UsageError
from helix.quoting import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

COUNT_MAX = (1 << 31) - 1
NAMES_MAX = 256  #: licences one job may name
_ITEM = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.\-@+/]{0,255})(?:[:*=]([0-9]{1,10}))?", re.ASCII)


def _bad(text: str, why: str = "") -> UsageError:
    return UsageError(
        f"'{one_line(text)}' is not a licence{why}",
        code="LICENSE_INVALID",
        hint="the form is name[:count],... as in matlab:2,ansys",
    )


def _item(text: str) -> tuple[str, int]:
    match = _ITEM.fullmatch(text)
    if not match:
        raise _bad(text)
    count = int(match[2]) if match[2] is not None else 1
    if count > COUNT_MAX:
        raise _bad(text, f": more than {COUNT_MAX}")
    return match[1], count


def parse_configured(items: Iterable[str]) -> dict[str, int]:
    """`Licenses=` of helix.conf: name -> how many there are.  Raises UsageError; a name may stand once."""
    found: dict[str, int] = {}
    for text in items:
        name, count = _item(text)
        if name in found:
            raise _bad(text, f": '{name}' stands twice")
        found[name] = count
    return found


@lru_cache(maxsize=4096)
def parse_licences(text: str) -> tuple[tuple[str, int], ...]:
    """What a job asks: (name, count) by name; counts of a name given twice add up.  () for "".

    Raises UsageError (LICENSE_INVALID), also for alternatives (`a|b`), which are not served.
    """
    if "|" in text:
        raise UsageError(
            f"'{one_line(text)}': alternatives (|) are not served",
            code="LICENSE_INVALID",
            hint="name the licences that are needed, comma-separated",
        )
    found: dict[str, int] = {}
    for piece in text.replace(";", ",").split(","):
        if piece.strip():
            name, count = _item(piece.strip())
            found[name] = found.get(name, 0) + count
    if len(found) > NAMES_MAX or any(count > COUNT_MAX for count in found.values()):
        raise _bad(text, "s that can be counted")
    return tuple(sorted((name, count) for name, count in found.items() if count))
