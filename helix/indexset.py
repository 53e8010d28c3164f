"""Sets of array indexes, kept as ranges with a step: `1-10:2,15,20-30`.

Owns `IndexSet` and the grammar of `--array` (sbatch(1)).  A million indexes cost as much as their ranges do: every
operation is O(ranges) of its operands, except where two progressions with different steps interleave, which costs
one range per alternation (bounded by `MAX_RANGES`).

The ranges are canonical: sorted, their spans disjoint, and cut greedily from the left (two or more neighbours with
step 1, three or more with a larger step, single indexes otherwise).  So equal sets have equal ranges, and print alike.

Standard library only and cheap to import: the commands use it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from helix.errors import LimitExceeded, UsageError
from helix.quoting import one_line

Range = tuple[int, int, int]  #: first, last (in the set), step >= 1 (1 for a single index)

MAX_INDEX = 4_000_000  #: largest index the grammar takes; the bound Slurm puts on MaxArraySize
MAX_RANGES = 100_000  #: most ranges a user may write, or that interleaving steps may make of two sets
MAX_SPEC_CHARS = 1 << 20  #: longest text `parse_array_spec` looks at
MAX_TEXT_CHARS = 48 << 20  #: longest text `parse_indexes` looks at: longer than that of any set up to MAX_INDEX

_ITEM = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10})(?::([0-9]{1,10}))?)?", re.ASCII)
_LIMIT = re.compile(r"[0-9]{1,9}", re.ASCII)
_FORM = "the form is 1-10:2,15,20-30%4"


class IndexSet:
    """An immutable set of indexes >= 0.  Its wire form is its text (`helix.model.codec`)."""

    __slots__ = ("ranges",)

    ranges: tuple[Range, ...]

    def __init__(self, ranges: Iterable[tuple[int, int, int]] = ()) -> None:
        """The set of all indexes of `ranges`, which may be given in any order and may overlap.

        Raises ValueError for a range that is empty, negative, or has a step below 1.
        """
        pieces: list[Range] = []
        for first, last, step in ranges:
            if first < 0 or last < first or step < 1:
                raise ValueError(f"not a range of indexes: first={first} last={last} step={step}")
            last -= (last - first) % step
            pieces.append((first, last, step if last > first else 1))
        pieces.sort()
        if any(pieces[i][1] >= pieces[i + 1][0] for i in range(len(pieces) - 1)):
            # Merging in pairs keeps the cost of many overlapping ranges at n log n.
            layers: list[tuple[Range, ...]] = [(piece,) for piece in pieces]
            while len(layers) > 1:
                layers = [
                    _union(layers[i], layers[i + 1]) if i + 1 < len(layers) else layers[i]
                    for i in range(0, len(layers), 2)
                ]
            object.__setattr__(self, "ranges", layers[0])
        else:
            object.__setattr__(self, "ranges", _canonical(pieces))

    @classmethod
    def _trusted(cls, ranges: tuple[Range, ...]) -> IndexSet:
        self = object.__new__(cls)
        object.__setattr__(self, "ranges", ranges)
        return self

    @classmethod
    def of(cls, indexes: Iterable[int]) -> IndexSet:
        """The set of `indexes`, in any order, duplicates allowed."""
        return cls((i, i, 1) for i in set(indexes))

    @classmethod
    def span(cls, first: int, last: int, step: int = 1) -> IndexSet:
        """`first-last:step`, both ends included; empty when last < first."""
        return cls(((first, last, step),) if last >= first else ())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an IndexSet does not change")

    def __reduce__(self) -> tuple[Any, ...]:
        return (IndexSet, (self.ranges,))

    def __len__(self) -> int:
        return sum((last - first) // step + 1 for first, last, step in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, last, step in self.ranges:
            yield from range(first, last + 1, step)

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int) or not self.ranges:
            return False
        at = bisect_right(self.ranges, index, key=_first_of) - 1
        if at < 0:
            return False
        first, last, step = self.ranges[at]
        return index <= last and (index - first) % step == 0

    def __eq__(self, other: object) -> bool:
        return self.ranges == other.ranges if isinstance(other, IndexSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"IndexSet({self.format()!r})"

    def __str__(self) -> str:
        return self.format()

    @property
    def first(self) -> int:
        """The smallest index; ValueError when empty."""
        if not self.ranges:
            raise ValueError("an empty index set has no first index")
        return self.ranges[0][0]

    @property
    def last(self) -> int:
        """The largest index; ValueError when empty."""
        if not self.ranges:
            raise ValueError("an empty index set has no last index")
        return self.ranges[-1][1]

    def take_first(self, n: int) -> tuple[IndexSet, IndexSet]:
        """The `n` smallest indexes (all of them when there are fewer) and the rest."""
        if n <= 0:
            return EMPTY, self
        left = n
        for at, (first, last, step) in enumerate(self.ranges):
            count = (last - first) // step + 1
            if left < count:
                cut = first + left * step
                head = [*self.ranges[:at], *([_piece(first, cut - step, step)] if left else [])]
                tail = [_piece(cut, last, step), *self.ranges[at + 1 :]]
                return IndexSet._trusted(_canonical(head)), IndexSet._trusted(_canonical(tail, 1))
            left -= count
        return self, EMPTY

    def remove_first(self, n: int = 1) -> IndexSet:
        """What is left without the `n` smallest indexes."""
        return self.take_first(n)[1]

    def without(self, index: int) -> IndexSet:
        """The set less one index; itself when the index is not in it."""
        if self.ranges and self.ranges[0][0] == index:  # tasks of an array start lowest first
            return self.take_first(1)[1]
        return self.difference(IndexSet._trusted(((index, index, 1),))) if index in self else self

    def union(self, other: IndexSet) -> IndexSet:
        """Indexes in either.  Raises LimitExceeded when the result needs more than `MAX_RANGES` ranges."""
        if not other.ranges or self.ranges == other.ranges:
            return self
        if not self.ranges:
            return other
        return IndexSet._trusted(_union(self.ranges, other.ranges))

    def difference(self, other: IndexSet) -> IndexSet:
        """Indexes in this set and not in the other.  Raises LimitExceeded as `union` does."""
        if not other.ranges or not self.ranges:
            return self
        return IndexSet._trusted(_canonical(_split(self.ranges, other.ranges)[1]))

    def intersection(self, other: IndexSet) -> IndexSet:
        """Indexes in both.  Raises LimitExceeded as `union` does."""
        if not other.ranges or not self.ranges:
            return EMPTY
        return IndexSet._trusted(_canonical(_split(self.ranges, other.ranges)[0]))

    __or__ = union
    __sub__ = difference
    __and__ = intersection

    def format(self, max_chars: int = 0) -> str:
        """As Slurm prints it; cut after a whole range and ended by `...` when longer than `max_chars` (0 = never)."""
        parts: list[str] = []
        used = 0
        for first, last, step in self.ranges:
            text = str(first) if first == last else f"{first}-{last}" if step == 1 else f"{first}-{last}:{step}"
            used += len(text) + 1
            if max_chars and used - 1 > max_chars:
                return ",".join([*parts, "..."])
            parts.append(text)
        return ",".join(parts)


def parse_array_spec(text: str) -> tuple[IndexSet, int | None]:
    """Read `--array`: the indexes, and how many tasks may run at once (None: no `%N`, or `%0`).

    Raises UsageError (ARRAY_INVALID) for anything else.
    """
    if len(text) > MAX_SPEC_CHARS:
        raise UsageError(f"array specification is longer than {MAX_SPEC_CHARS} characters", code="ARRAY_INVALID")
    if text.count(",") >= MAX_RANGES:
        raise _bad(text, f"more than {MAX_RANGES} ranges")
    spec, percent, limit_text = text.strip().partition("%")
    limit: int | None = None
    if percent:
        if not _LIMIT.fullmatch(limit_text.strip()):
            raise _bad(text, f"'{one_line(limit_text)}' after % is not a number of tasks")
        limit = int(limit_text) or None
    return parse_indexes(spec, shown=text), limit


def parse_indexes(text: str, *, shown: str = "") -> IndexSet:
    """Read `1-10:2,15` without a task limit, as in `12_[1-10:2,15]`.  Raises UsageError (ARRAY_INVALID).

    Reads the text of every set up to MAX_INDEX, however fragmented: journals hold such texts.
    """
    shown = shown or text
    if len(text) > MAX_TEXT_CHARS:
        raise UsageError(f"index list is longer than {MAX_TEXT_CHARS} characters", code="ARRAY_INVALID")
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    ranges: list[Range] = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item.strip())
        if not match:
            raise _bad(
                shown, f"'{one_line(item)}' is not an index or a range" if item.strip() else "an index is missing"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        step = 1 if match[3] is None else int(match[3])
        if last < first:
            raise _bad(shown, f"'{one_line(item)}' runs backwards")
        if step < 1:
            raise _bad(shown, f"'{one_line(item)}' has a step of 0")
        if last > MAX_INDEX:
            raise _bad(shown, f"index {last} is above {MAX_INDEX}")
        ranges.append((first, last, step))
    try:
        return IndexSet(ranges)
    except LimitExceeded as error:
        raise _bad(shown, error.msg) from error


def _first_of(piece: Range) -> int:
    return piece[0]


def _bad(text: str, why: str) -> UsageError:
    return UsageError(f"bad array '{one_line(text)}': {why}", code="ARRAY_INVALID", hint=_FORM)


def _piece(first: int, last: int, step: int) -> Range:
    return (first, last, step if last > first else 1)


def _canonical(pieces: Sequence[Range], good_from: int = -1) -> tuple[Range, ...]:
    """Cut sorted pieces with disjoint spans anew into the canonical ranges; O(pieces).

    `good_from`: from this piece on the pieces are canonical already, so the walk stops when it reaches one's start.
    """
    out: list[Range] = []
    count = len(pieces)
    at = 0  # piece being consumed
    here = pieces[0][0] if count else 0  # its first element not yet consumed
    while at < count:
        if 0 <= good_from <= at and here == pieces[at][0]:
            out.extend(pieces[at:])
            break
        run_first = here
        at, here = _step_on(pieces, at, here)
        if at == count:
            out.append((run_first, run_first, 1))
            break
        step = here - run_first
        if step > 1:
            next_at, after = _step_on(pieces, at, here)
            if next_at == count or after - here != step:
                out.append((run_first, run_first, 1))
                continue
        run_last = run_first
        while at < count and here == run_last + step:
            _, last, piece_step = pieces[at]
            if piece_step == step or here == last:
                run_last = last
                at += 1
                here = pieces[at][0] if at < count else 0
            else:
                run_last = here
                here += piece_step
        out.append((run_first, run_last, step))
    return tuple(out)


def _step_on(pieces: Sequence[Range], at: int, here: int) -> tuple[int, int]:
    """Position and value of the element after `here`; position len(pieces) at the end."""
    if here < pieces[at][1]:
        return at, here + pieces[at][2]
    at += 1
    return at, pieces[at][0] if at < len(pieces) else 0


def _union(a: tuple[Range, ...], b: tuple[Range, ...]) -> tuple[Range, ...]:
    """All of `a`, and those of `b` not in `a`, interleaved chunk by chunk."""
    rest = _split(b, a)[1]
    out: list[Range] = []
    most = _most_ranges(a, b)
    i = j = 0
    left = list(a)
    while i < len(left) and j < len(rest):
        x, y = left[i], rest[j]
        if x[0] < y[0]:
            chunk, remainder = _cut_below(x, y[0])
            if remainder is None:
                i += 1
            else:
                left[i] = remainder
        else:
            chunk, remainder = _cut_below(y, x[0])
            if remainder is None:
                j += 1
            else:
                rest[j] = remainder
        out.append(chunk)
        if len(out) > most:
            raise _fragmented(most)
    out.extend(left[i:])
    out.extend(rest[j:])
    return _canonical(out)


def _cut_below(piece: Range, bound: int) -> tuple[Range, Range | None]:
    """The elements of `piece` below `bound` (at least its first is), and the remaining ones."""
    first, last, step = piece
    if last < bound:
        return piece, None
    cut = first + (bound - 1 - first) // step * step
    return _piece(first, cut, step), _piece(cut + step, last, step)


def _split(a: Sequence[Range], b: Sequence[Range]) -> tuple[list[Range], list[Range]]:
    """`a` cut in two: pieces that are in `b`, and pieces that are not; both sorted, spans disjoint."""
    inside: list[Range] = []
    outside: list[Range] = []
    most = _most_ranges(a, b)
    j = 0
    for piece in a:
        rest: Range | None = piece
        while rest is not None:
            first, last, step = rest
            while j < len(b) and b[j][1] < first:
                j += 1
            if j == len(b) or b[j][0] > last:
                outside.append(rest)
                break
            b_first, b_last, b_step = b[j]
            # The first element of b[j] at or after `first`; there is one, because b[j] ends at or after it.
            meet = b_first if b_first >= first else b_first + -(-(first - b_first) // b_step) * b_step
            if meet > first:
                if meet > last:
                    outside.append(rest)
                    break
                chunk, rest = _cut_below(rest, meet)
                outside.append(chunk)
            elif step % b_step == 0 or first == last:  # all of it up to b_last is in b
                chunk, rest = _cut_below(rest, b_last + 1)
                inside.append(chunk)
            else:
                chunk, rest = _cut_below(rest, first + 1)
                inside.append(chunk)
            if len(inside) > most or len(outside) > most:
                raise _fragmented(most)
    return inside, outside


def _most_ranges(a: Sequence[Range], b: Sequence[Range]) -> int:
    """Bound on the pieces of a result.

    Cutting at the ends of ranges stays far below it whatever the sets are, so that taking indexes out one by one
    always works; only progressions with different steps that interleave can reach it.
    """
    return max(MAX_RANGES, 2 * (len(a) + len(b)) + 4)


def _fragmented(most: int) -> LimitExceeded:
    return LimitExceeded(
        f"the index set falls apart into more than {most} ranges",
        code="ARRAY_FRAGMENTED",
        hint="use ranges with one step",
    )


EMPTY = IndexSet()  #: the set without indexes
