"""Generic resources as files and users write them: `gpu:a100:4,nvme:2`, and what they add up to.

A *kind* is a name (`gpu`) or a name and a type (`gpu:a100`).  Units of a type are units of the name too: a node with
`gpu:a100:4` has four of the kind `gpu:a100` and four of the kind `gpu`, and a request counts the same way.  Devices of
a name are numbered from 0 in the order in which the node's text gives its types.  Sources: slurm.conf(5), Gres;
gres.conf(5); sbatch(1), --gres, --gpus.

Standard library only and cheap to import: the commands use it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from helix.errors import UsageError
from helix.quoting import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COUNT_MAX = 65_536  #: units of one name on one node: each is numbered
ITEMS_MAX = 256  #: items in one text

Item = tuple[str, str, int]  #: name, type ("" = none), units

_WORD = r"[A-Za-z_][A-Za-z0-9_.\-]*"
_NAME = re.compile(_WORD, re.ASCII)
_TYPE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-+]*", re.ASCII)
_COUNT = re.compile(r"([0-9]{1,9})([KMGkmg]?)", re.ASCII)
_SOCKETS = re.compile(r"\((S|s|IDX|idx):[0-9,\-]*\)$", re.ASCII)
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _bad(text: str, why: str) -> UsageError:
    return UsageError(
        f"'{one_line(text)}': {why}", code="GRES_INVALID", hint="the form is name[:type][:count],... as in gpu:a100:2"
    )


def parse_count(text: str) -> int | None:
    """`4`, `1K`; None for what is no count."""
    match = _COUNT.fullmatch(text)
    return int(match[1]) * _FACTOR[match[2].lower()] if match else None


def parse_gres(text: str) -> list[Item]:
    """The items of `gpu:a100:2,nvme`; a missing count is 1.  "" and `none` have no items.

    Raises UsageError (GRES_INVALID) for anything else, and for more than COUNT_MAX units.
    """
    if not text.strip() or text.strip().lower() == "none":
        return []
    pieces = split_items(text)
    if len(pieces) > ITEMS_MAX:
        raise _bad(text, f"more than {ITEMS_MAX} items")
    return [_item(piece) for piece in pieces]


def split_items(text: str) -> list[str]:
    """The text at its commas, but for those in parentheses."""
    found = [piece.strip() for piece in re.split(r",(?![^()]*\))", text)]
    return [piece for piece in found if piece]


def _item(piece: str) -> Item:
    plain = _SOCKETS.sub("", piece)
    for prefix in ("gres/", "gres:"):
        plain = plain.removeprefix(prefix)
    words = plain.replace("=", ":").split(":")
    if not _NAME.fullmatch(words[0]):
        raise _bad(piece, "a name is missing")
    if "no_consume" in words:
        raise _bad(piece, "no_consume is not served: every unit is given to one job at a time")
    kind, units = "", 1
    rest = words[1:]
    if rest and (count := parse_count(rest[-1])) is not None:
        units, rest = count, rest[:-1]
    if len(rest) > 1:
        raise _bad(piece, "more than name, type and count")
    if rest:
        kind = rest[0]
        if not _TYPE.fullmatch(kind):
            raise _bad(piece, f"'{one_line(kind)}' is neither a type nor a count")
    if units > COUNT_MAX:
        raise _bad(piece, f"{units} units are more than the {COUNT_MAX} that are numbered on a node")
    return words[0], kind, units


def parse_gpus(text: str) -> list[Item]:
    """The items of `--gpus` and its like: `4`, `a100:2,v100:1`; all of the name gpu.  Raises UsageError."""
    items: list[Item] = []
    for piece in split_items(text):
        kind, colon, count = piece.removeprefix("gpu:").rpartition(":")
        units = parse_count(count)
        if units is None and not colon:
            kind, units = count, 1
        if units is None or (kind and not _TYPE.fullmatch(kind)):
            raise UsageError(f"'{one_line(piece)}' is not [type:]count", code="GRES_INVALID", hint="write 4, or a100:4")
        if units > COUNT_MAX:
            raise _bad(piece, f"{units} units are more than any node has")
        items.append(("gpu", kind, units))
    return items


def kind_of(name: str, kind: str) -> str:
    """`gpu`, `gpu:a100`."""
    return f"{name}:{kind}" if kind else name


def units_of(items: Iterable[Item]) -> dict[str, int]:
    """Units by kind; those of a type count for the name as well.  Kinds with none are left out."""
    found: dict[str, int] = {}
    for name, kind, units in items:
        if units:
            found[name] = found.get(name, 0) + units
            if kind:
                full = f"{name}:{kind}"
                found[full] = found.get(full, 0) + units
    return found


def own_units(units: Mapping[str, int]) -> dict[str, int]:
    """The inverse of `units_of`, for display: names without what their types have already."""
    own = dict(units)
    for kind, count in units.items():
        name, colon, _ = kind.partition(":")
        if colon and name in own:
            own[name] -= count
    return {kind: count for kind, count in own.items() if count > 0}


def format_items(items: Iterable[Item]) -> str:
    """The items as a text that reads back the same."""
    return ",".join(f"{kind_of(name, kind)}:{units}" for name, kind, units in items)


class Layout:
    """The devices of a node: for each name the types in order as (kind, first index, units); units by kind."""

    __slots__ = ("names", "units")

    def __init__(self, items: Iterable[Item]) -> None:
        self.names: dict[str, list[tuple[str, int, int]]] = {}
        for name, kind, units in items:
            parts = self.names.setdefault(name, [])
            first = parts[-1][1] + parts[-1][2] if parts else 0
            parts.append((kind_of(name, kind), first, units))
        self.units = units_of(items)

    def full(self, name: str) -> int:
        """The mask of all devices of a name."""
        return (1 << self.units.get(name, 0)) - 1

    def free_units(self, free: Mapping[str, int]) -> dict[str, int]:
        """Free units by kind, given masks of free devices by name."""
        found: dict[str, int] = {}
        for name, parts in self.names.items():
            mask = free.get(name, 0)
            found[name] = mask.bit_count()
            for kind, first, units in parts:
                if kind != name:
                    here = (mask >> first & ((1 << units) - 1)).bit_count()
                    found[kind] = found.get(kind, 0) + here
        return found


@lru_cache(maxsize=4096)
def layout_of(text: str) -> Layout:
    """The layout of a node's text (nodes of a line share it).  Raises UsageError."""
    return Layout(parse_gres(text))


@lru_cache(maxsize=65_536)
def mask_of(indexes: str) -> int:
    """`0-1,3` as a bit mask."""
    mask = 0
    for piece in indexes.split(","):
        first, _, last = piece.partition("-")
        low = int(first)
        mask |= ((1 << (int(last or low) - low + 1)) - 1) << low
    return mask


def indexes_of(mask: int) -> str:
    """A bit mask as `0-1,3`."""
    pieces = []
    at = 0
    while mask:
        skip = (mask & -mask).bit_length() - 1
        mask >>= skip
        at += skip
        run = (~mask & (mask + 1)).bit_length() - 1
        pieces.append(str(at) if run == 1 else f"{at}-{at + run - 1}")
        mask >>= run
        at += run
    return ",".join(pieces)


def count_of(indexes: str) -> int:
    """How many devices `0-1,3` names."""
    return mask_of(indexes).bit_count() if indexes else 0
