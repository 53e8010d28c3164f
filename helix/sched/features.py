"""Node features and `--constraint`: sbatch(1)'s grammar, and Helix's `!` for not.

    constraint  operand { ("&" | "," | "|") operand }
    operand     "!" operand | NAME ["*" COUNT] | "(" constraint ")" ["*" COUNT] | "[" ... "]"

Without parentheses operators are read strictly from left to right, as Slurm does: `a|b&c` is `(a|b)&c`.  `,` is `&`.
`[a|b]` (matching OR) makes alternatives: one of them holds for all nodes.  `a*2&b*4`, with or without brackets, asks
for parts: two nodes with a, four others with b; what is not counted holds for every node.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from helix.errors import UsageError
from helix.quoting import one_line

CONSTRAINT_CHARS_MAX = 4096
DEPTH_MAX = 32  #: parentheses and `!` inside one another
ALTERNATIVES_MAX = 64
PARTS_MAX = 32
COUNT_MAX = 1_000_000

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z0-9_.=+:/\-]+)|(?P<mark>[&,|!()\[\]*])|(?P<bad>\S))", re.ASCII)
_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class Has:
    """The node has the feature."""

    name: str


@dataclass(frozen=True, slots=True)
class Not:
    """`!`."""

    term: Term


@dataclass(frozen=True, slots=True)
class AllOf:
    """`&`."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`|`."""

    terms: tuple[Term, ...]


Term = Has | Not | AllOf | AnyOf  #: what one node meets or not
EVERY: Term = AllOf(())  #: met by every node


@dataclass(frozen=True, slots=True)
class Part:
    """`term*count`: so many nodes, counted in no other part, meet the term."""

    count: int
    term: Term


@dataclass(frozen=True, slots=True)
class Alternative:
    """All nodes meet `every`; besides there are the parts."""

    every: Term = EVERY
    parts: tuple[Part, ...] = ()

    @property
    def nodes(self) -> int:
        """Least nodes the parts stand for."""
        return sum(part.count for part in self.parts)


@dataclass(frozen=True, slots=True)
class Constraint:
    """Any one of the alternatives must hold; `text` is as written, for messages."""

    alternatives: tuple[Alternative, ...] = (Alternative(),)
    text: str = field(default="", compare=False)

    @property
    def is_plain(self) -> bool:
        """True if it is one term that each node meets by itself."""
        return len(self.alternatives) == 1 and not self.alternatives[0].parts


NO_CONSTRAINT = Constraint()


@lru_cache(maxsize=1024)
def parse_constraint(text: str) -> Constraint:
    """What `text` asks; raises UsageError (CONSTRAINT_INVALID) with the column."""
    if not text.strip():
        return NO_CONSTRAINT
    if len(text) > CONSTRAINT_CHARS_MAX:
        raise UsageError(f"constraint is longer than {CONSTRAINT_CHARS_MAX} characters", code="CONSTRAINT_INVALID")
    return Constraint(_Reader(text).read(), text.strip())


def parse_preference(text: str) -> Constraint | None:
    """What `--prefer` asks, None for nothing; raises UsageError: as `parse_constraint`, CONSTRAINT_UNSUPPORTED for
    counts."""
    if not text.strip():
        return None
    try:
        found = parse_constraint(text)
    except UsageError as error:
        words = error.msg.removeprefix("constraint ")
        raise UsageError(f"--prefer: {words}", code=error.code, hint=error.hint) from None
    if any(alternative.parts for alternative in found.alternatives):
        raise UsageError(
            f"--prefer: '{found.text}' has node counts",
            code="CONSTRAINT_UNSUPPORTED",
            hint="count nodes in --constraint",
        )
    return found


@dataclass(frozen=True, slots=True)
class _Item:
    """An operand with its count (0 = none), or the alternatives of brackets."""

    column: int
    term: Term = EVERY
    count: int = 0
    bracket: tuple[Alternative, ...] | None = None


class _Reader:
    """One text, read once from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, int]] = []
        self.at = 0
        for match in _TOKEN.finditer(text):
            column = match.end() - len(match[0].lstrip()) + 1
            if match["bad"]:
                raise self.bad(f"'{one_line(match['bad'])}' has no place in a constraint", column)
            if match["name"] and len(match["name"]) > _NAME_MAX:
                raise self.bad(f"a feature name is longer than {_NAME_MAX} characters", column)
            self.tokens.append((match["name"] or match["mark"], column))
        self.end = len(text.rstrip())

    def bad(self, why: str, column: int, hint: str = "") -> UsageError:
        return UsageError(
            f"constraint '{one_line(self.text)}': {why} (column {column})", code="CONSTRAINT_INVALID", hint=hint
        )

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def column(self) -> int:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else max(1, self.end)

    def read(self) -> tuple[Alternative, ...]:
        items, marks = self.sequence(0, "")
        if all(not item.count and item.bracket is None for item in items):
            return (Alternative(_fold([item.term for item in items], [mark for mark, _ in marks])),)
        for mark, column in marks:
            if mark == "|":
                hint = "put all alternatives into one pair of brackets: [a|b]"
                raise self.bad("'|' beside brackets or node counts", column, hint)
        every = [item.term for item in items if not item.count and item.bracket is None]
        parts = tuple(Part(item.count, item.term) for item in items if item.count)
        brackets = [item for item in items if item.bracket is not None]
        if len(brackets) > 1:
            raise self.bad("a second pair of brackets", brackets[1].column, "a constraint has one '[...]' at most")
        found = []
        for inner in (brackets[0].bracket or ()) if brackets else (Alternative(),):
            terms = [*every, inner.every] if inner.every != EVERY else every
            both = Alternative(_joined(AllOf, terms), (*parts, *inner.parts))
            if len(both.parts) > PARTS_MAX:
                raise self.bad(f"more than {PARTS_MAX} node counts", 1)
            found.append(both)
        return tuple(dict.fromkeys(found))

    def sequence(self, depth: int, closing: str) -> tuple[list[_Item], list[tuple[str, int]]]:
        """Operands and the operators between them, up to `closing`."""
        items = [self.operand(depth, closing)]
        marks: list[tuple[str, int]] = []
        while (mark := self.peek()) in ("&", ",", "|") and mark:
            marks.append(("&" if mark == "," else mark, self.column()))
            self.at += 1
            items.append(self.operand(depth, closing))
        if mark != closing:
            wanted = f"'{closing}' is missing" if not mark else f"'{one_line(mark)}' where & or | was expected"
            raise self.bad(wanted, self.column())
        self.at += 1
        return items, marks

    def operand(self, depth: int, closing: str) -> _Item:
        word, column = self.peek(), self.column()
        if depth > DEPTH_MAX:
            raise self.bad(f"nested more than {DEPTH_MAX} deep", column)
        if word == "!":
            self.at += 1
            inner = self.operand(depth + 1, "!").term
            return _Item(column, inner.term if isinstance(inner, Not) else Not(inner), self.count(closing))
        if word == "[":
            if closing:
                raise self.bad("'[' inside brackets or parentheses, or after '!'", column)
            self.at += 1
            return _Item(column, bracket=self.bracket(column))
        if word == "(":
            self.at += 1
            items, marks = self.sequence(depth + 1, ")")
            term = _fold([item.term for item in items], [mark for mark, _ in marks])
        elif not word or word in "&,|)]*":
            raise self.bad("a feature name is missing", column)
        else:
            self.at += 1
            term = Has(word)
        return _Item(column, term, self.count(closing))

    def count(self, closing: str) -> int:
        """The number after a `*`, 0 if there is none."""
        if self.peek() != "*" or closing == "!":  # what follows `!` ends before a count: !a*2 is (!a)*2
            return 0
        star = self.column()
        if closing == ")":
            raise self.bad("a node count inside parentheses", star, "write (a&b)*2, not (a*2&b)")
        self.at += 1
        digits, column = self.peek(), self.column()
        if not (digits.isascii() and digits.isdigit()):
            raise self.bad("'*' wants a number of nodes", column)
        if len(digits) > 9 or not 1 <= int(digits) <= COUNT_MAX:
            raise self.bad(f"the number of nodes is not between 1 and {COUNT_MAX}", column)
        self.at += 1
        return int(digits)

    def bracket(self, column: int) -> tuple[Alternative, ...]:
        """What follows a `[`: alternatives, or parts that are all counted."""
        items, marks = self.sequence(0, "]")
        kinds = {mark for mark, _ in marks}
        if len(kinds) == 2:
            at = next(at for mark, at in marks if mark != marks[0][0])
            hint = "group with parentheses: [(a&b)|c]"
            raise self.bad("'&' and '|' side by side inside brackets", at, hint)
        if len(items) > ALTERNATIVES_MAX:
            raise self.bad(f"more than {ALTERNATIVES_MAX} alternatives", column)
        if kinds == {"&"}:
            bare = next((item for item in items if not item.count), None)
            if bare is not None:
                hint = "inside brackets each feature joined by '&' has a node count: [a*2&b*4]"
                raise self.bad("a node count is missing", bare.column, hint)
            return (Alternative(parts=tuple(Part(item.count, item.term) for item in items)),)
        return tuple(
            Alternative(parts=(Part(item.count, item.term),)) if item.count else Alternative(item.term)
            for item in items
        )


def _fold(terms: list[Term], marks: list[str]) -> Term:
    """Left to right; neighbours with the same operator share one term."""
    found = terms[0]
    for mark, term in zip(marks, terms[1:], strict=True):
        kind = AllOf if mark == "&" else AnyOf
        found = kind((*found.terms, term)) if isinstance(found, kind) else kind((found, term))
    return found


def _joined(kind: type[AllOf] | type[AnyOf], terms: list[Term]) -> Term:
    return terms[0] if len(terms) == 1 else kind(tuple(terms))


def meets(features: Collection[str], term: Term) -> bool:
    """True if a node with these features meets the term."""
    match term:
        case Has(name):
            return name in features
        case Not(inner):
            return not meets(features, inner)
        case AllOf(terms):
            return all(meets(features, inner) for inner in terms)
        case AnyOf(terms):
            return any(meets(features, inner) for inner in terms)


def names_in(term: Term) -> Iterator[str]:
    """The feature names a term speaks of."""
    match term:
        case Has(name):
            yield name
        case Not(inner):
            yield from names_in(inner)
        case AllOf(terms) | AnyOf(terms):
            for inner in terms:
                yield from names_in(inner)


def format_term(term: Term, inside: bool = False) -> str:
    """The term as a constraint that reads back as the same; "" for EVERY."""
    match term:
        case Has(name):
            return name
        case Not(inner):
            return f"!{format_term(inner, inside=True)}"
        case AllOf(terms) | AnyOf(terms):
            joint = "&" if isinstance(term, AllOf) else "|"
            text = joint.join(format_term(inner, inside=True) for inner in terms)
            return f"({text})" if inside else text


def missing_words(features: Collection[str], term: Term) -> str:
    """What a node with these features misses: `lacks feature gpu`; "" if it meets the term."""
    if meets(features, term):
        return ""
    lacking, unwanted = _least(features, term, wanted=True)
    words = []
    if lacking:
        words.append(f"lacks feature {', '.join(lacking)}")
    if unwanted:
        words.append(f"has feature {', '.join(unwanted)}")
    return " and ".join(words)


def _least(features: Collection[str], term: Term, *, wanted: bool) -> tuple[list[str], list[str]]:
    """A smallest set of features to add, and to take away, that makes the term `wanted` (clauses by themselves)."""
    match term:
        case Has(name):
            if (name in features) is wanted:
                return [], []
            return ([name], []) if wanted else ([], [name])
        case Not(inner):
            return _least(features, inner, wanted=not wanted)
        case AllOf(terms) | AnyOf(terms):
            sets = [_least(features, inner, wanted=wanted) for inner in terms]
            if isinstance(term, AllOf) is wanted:
                add = list(dict.fromkeys(name for more, _ in sets for name in more))
                return add, list(dict.fromkeys(name for _, less in sets for name in less))
            return min(sets, key=lambda both: len(both[0]) + len(both[1]), default=([], []))
