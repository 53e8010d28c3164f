"""Evaluates the programs of `helix.expression` over many rows at once, with numpy.

A value is a column: its entries, and where they are known (None = everywhere); what is not known is held as False, 0
or code -1, so that `and`, `or` and `not` of three values are a few bit operations.  Texts are codes into a list of
words, so that a comparison or a pattern looks at each distinct word once.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helix.expression import Program
from helix.glob_pattern import glob_regex
from helix_native.arrays import Flags, Int32

Floats = NDArray[np.float64]
Known = Flags | None


@dataclass(frozen=True, slots=True)
class Numbers:
    """[N]"""

    value: Floats
    known: Known = None


@dataclass(frozen=True, slots=True)
class Truths:
    """`value` is False where it is not known.  [N]"""

    value: Flags
    known: Known = None


@dataclass(frozen=True, slots=True)
class Texts:
    """`code` is a place in `words`, -1 where it is not known.  [N]"""

    code: Int32
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sets:
    """Which rows have a word; a word that is not there no row has.  [count] each"""

    rows: Mapping[str, Flags]
    count: int


Column = Numbers | Truths | Texts | Sets
Load = Callable[[str], Column]


def text_column(texts: Sequence[str]) -> Texts:
    """Texts by row; "" is not known."""
    place: dict[str, int] = {}
    code = np.fromiter((place.setdefault(text, len(place)) if text else -1 for text in texts), np.int32, len(texts))
    return Texts(code, list(place))


def evaluate(program: Program, load: Load, count: int) -> Column:
    """The value of a program on `count` rows.  `load` gives the columns of attributes.  Nothing given is changed."""
    stack: list[Column] = []
    for code, takes, value in program:
        args = stack[len(stack) - takes :] if takes else []
        del stack[len(stack) - takes :]
        if code == "load":
            stack.append(load(value))
        elif code == "push":
            stack.append(_literal(value, count))
        else:
            stack.append(_STEPS[code](args, value))
    return stack.pop()


def true_rows(program: Program, load: Load, count: int) -> Flags:
    """Rows for which a condition is true (not false, and not undefined).  [N]"""
    found = evaluate(program, load, count)
    assert isinstance(found, Truths)
    return found.value


def rank_rows(program: Program, load: Load, count: int) -> Int32:
    """Dense ranks of a `--rank` expression, the highest value first (0), what is undefined last.  [N]"""
    found = evaluate(program, load, count)
    assert isinstance(found, Numbers | Truths)
    value = -found.value.astype(np.float64)
    if found.known is not None:
        value = np.where(found.known, value, np.inf)
    _, rank = np.unique(value, return_inverse=True)
    return rank.astype(np.int32)


def _literal(value: Any, count: int) -> Column:
    if isinstance(value, bool):
        return Truths(np.full(count, value))
    if isinstance(value, str):
        return Texts(np.zeros(count, np.int32), [value])
    return Numbers(np.full(count, value, np.float64))


def _and_known(a: Known, b: Known) -> Known:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _both(args: Sequence[Any], _: Any) -> Truths:
    a, b = args
    value = a.value & b.value
    if a.known is None and b.known is None:
        return Truths(value)
    ka, kb = _all(a), _all(b)
    return Truths(value, (ka & kb) | (ka & ~a.value) | (kb & ~b.value))


def _either(args: Sequence[Any], _: Any) -> Truths:
    a, b = args
    value = a.value | b.value
    if a.known is None and b.known is None:
        return Truths(value)
    return Truths(value, (_all(a) & _all(b)) | value)


def _negation(args: Sequence[Any], _: Any) -> Truths:
    a = args[0]
    return Truths(~a.value if a.known is None else ~a.value & a.known, a.known)


def _all(column: Numbers | Truths) -> Flags:
    return np.ones(len(column.value), np.bool_) if column.known is None else column.known


def _compared(name: str) -> Callable[[Sequence[Any], Any], Truths]:
    operation: Callable[[Any, Any], Any] = {
        "==": np.equal,
        "<": np.less,
        "<=": np.less_equal,
        ">": np.greater,
        ">=": np.greater_equal,
    }[name]

    def step(args: Sequence[Any], _: Any) -> Truths:
        a, b = args
        if isinstance(a, Texts):
            return _compared_texts(a, b, operation)
        known = _and_known(a.known, b.known)
        value = operation(a.value, b.value)
        return Truths(value if known is None else value & known, known)

    return step


def _compared_texts(a: Texts, b: Texts, operation: Callable[[Any, Any], Any]) -> Truths:
    known = (a.code >= 0) & (b.code >= 0)
    if len(b.words) == 1 or len(a.words) == 1:  # one of them is a literal, or might as well be
        if len(b.words) == 1:
            by_word = np.array([operation(word, b.words[0]) for word in a.words], np.bool_)
            value = _by_code(by_word, a.code)
        else:
            by_word = np.array([operation(a.words[0], word) for word in b.words], np.bool_)
            value = _by_code(by_word, b.code)
    else:
        order = {word: place for place, word in enumerate(sorted({*a.words, *b.words}))}
        left = _by_code(np.array([order[word] for word in a.words], np.int32), a.code)
        right = _by_code(np.array([order[word] for word in b.words], np.int32), b.code)
        value = operation(left, right)
    return Truths(value & known, known)


def _by_code(by_word: NDArray[Any], code: Int32) -> Any:
    """The entry of each row's word; of unknown rows anything."""
    return by_word[np.maximum(code, 0)] if len(by_word) else np.zeros(len(code), by_word.dtype)


def _match(args: Sequence[Any], pattern: str) -> Truths:
    fullmatch = glob_regex(pattern).fullmatch
    return _words_that(args[0], lambda word: fullmatch(word) is not None)


def _one_of(args: Sequence[Any], literals: tuple[Any, ...]) -> Truths:
    column = args[0]
    if isinstance(column, Texts):
        among = frozenset(literals)
        return _words_that(column, among.__contains__)
    value = np.isin(column.value, np.array(literals, np.float64))
    return Truths(value if column.known is None else value & column.known, column.known)


def _words_that(column: Texts, test: Callable[[str], bool]) -> Truths:
    known = column.code >= 0
    by_word = np.fromiter((test(word) for word in column.words), np.bool_, len(column.words))
    return Truths(_by_code(by_word, column.code) & known, known)


def _arithmetic(operation: Callable[[Any, Any], Any]) -> Callable[[Sequence[Any], Any], Numbers]:
    def step(args: Sequence[Any], _: Any) -> Numbers:
        a, b = args
        with np.errstate(all="ignore"):
            value = operation(a.value, b.value)
        return _finite(value, _and_known(a.known, b.known))

    return step


def _divided(operation: Callable[..., Any]) -> Callable[[Sequence[Any], Any], Numbers]:
    def step(args: Sequence[Any], _: Any) -> Numbers:
        a, b = args
        good = b.value != 0
        with np.errstate(all="ignore"):
            value = operation(a.value, np.where(good, b.value, 1.0))
        return _finite(value, _and_known(_and_known(a.known, b.known), good))

    return step


def _finite(value: Floats, known: Known) -> Numbers:
    """What has no value (infinity less infinity) is not known."""
    bad = np.isnan(value)
    if not bad.any():
        return Numbers(value, known)
    return Numbers(np.where(bad, 0.0, value), ~bad if known is None else known & ~bad)


def _chosen(args: Sequence[Any], _: Any) -> Column:
    condition, yes, no = args
    asked = _all(condition)
    if isinstance(yes, Texts):
        words = list(dict.fromkeys((*yes.words, *no.words)))
        place = {word: at for at, word in enumerate(words)}
        codes = []
        for side in (yes, no):
            code = _by_code(np.array([place[word] for word in side.words], np.int32), side.code)
            codes.append(np.where(side.code >= 0, code, -1))
        return Texts(np.where(asked, np.where(condition.value, codes[0], codes[1]), -1).astype(np.int32), words)
    value = np.where(condition.value, yes.value, no.value)
    known = asked & np.where(condition.value, _all(yes), _all(no))
    if isinstance(yes, Truths):
        return Truths(value & known, known)
    return Numbers(value, known)


def _has(args: Sequence[Any], word: str) -> Truths:
    column = args[0]
    rows = column.rows.get(word)
    return Truths(np.zeros(column.count, np.bool_) if rows is None else rows)


def _extreme(operation: Callable[[Any, Any], Any]) -> Callable[[Sequence[Any], Any], Numbers]:
    def step(args: Sequence[Any], _: Any) -> Numbers:
        value, known = args[0].value, args[0].known
        for other in args[1:]:
            value, known = operation(value, other.value), _and_known(known, other.known)
        return Numbers(value, known)

    return step


def _is_defined(args: Sequence[Any], _: Any) -> Truths:
    column = args[0]
    if isinstance(column, Texts):
        return Truths(column.code >= 0)
    if isinstance(column, Sets):
        return Truths(np.ones(column.count, np.bool_))
    return Truths(_all(column).copy())


_STEPS: dict[str, Callable[[Sequence[Any], Any], Column]] = {
    "and": _both,
    "or": _either,
    "not": _negation,
    **{name: _compared(name) for name in ("==", "<", "<=", ">", ">=")},
    "match": _match,
    "one_of": _one_of,
    "has": _has,
    "min": _extreme(np.minimum),
    "max": _extreme(np.maximum),
    "+": _arithmetic(np.add),
    "-": _arithmetic(np.subtract),
    "*": _arithmetic(np.multiply),
    "/": _divided(np.divide),
    "%": _divided(np.mod),
    "negate": lambda args, _: Numbers(-args[0].value, args[0].known),
    "abs": lambda args, _: Numbers(np.abs(args[0].value), args[0].known),
    "if": _chosen,
    "defined": _is_defined,
}
