"""Expressions over attributes: `--require`, `--rank` and `Admit=`, as typed stack programs.

Owns the grammar, the types and every refusal, with its column; knows no attribute (a `Schema` is handed in) and
evaluates nothing (`helix.sched.expression_columns` does).  Logic has three values: what is not known of a node (an
attribute it does not have, a division by 0) is undefined, undefined propagates, and only true counts.

    either      both { ("or" | "||") both }
    both        negated { ("and" | "&&") negated }
    negated     ("not" | "!") negated | comparison
    comparison  sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum | ("=~" | "!~") TEXT
                    | ["not"] "in" ("(" literals ")" | SET) | "has" (TEXT | NAME) ]
    sum         product { ("+" | "-") product }
    product     value { ("*" | "/" | "%") value }
    value       "-" value | NUMBER | TEXT | "true" | "false" | NAME | FUNCTION "(" arguments ")" | "(" either ")"

Standard library only; imported by the commands when such an option is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NamedTuple

from helix.errors import UsageError
from helix.glob_pattern import glob_regex
from helix.quoting import one_line

CHARS_MAX = 4096
DEPTH_MAX = 48  #: parentheses, `not`, `-` and functions inside one another
LITERALS_MAX = 256  #: items of one list
STEPS_MAX = 256  #: values and operators
PATTERNS_MAX = 16  #: each looks at every distinct text

_UNITS = {
    "K": 1 / 1024, "M": 1, "G": 1 << 10, "T": 1 << 20, "P": 1 << 30,
    "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800,
}  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?P<unit>[A-Za-z_][A-Za-z0-9_]*)?
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*(?:[.:][A-Za-z0-9_]+)*)
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<mark>=~|!~|==|!=|<=|>=|&&|\|\||[<>!+\-*/%(),\[\]])
    | (?P<bad>\S)
    )""",
    re.VERBOSE | re.ASCII,
)


class Kind(StrEnum):
    """The type of a value."""

    NUMBER = "number"
    TEXT = "text"
    TRUTH = "truth value"
    SET = "set of texts"


class Op(NamedTuple):
    """One step of a program: takes `takes` values off the stack and puts one there."""

    code: str
    takes: int = 0
    value: Any = None  # push: the literal; load: the name; match: the pattern; one_of: the literals


Program = tuple[Op, ...]
#: the kind of an attribute, None if there is none of that name
Lookup = Callable[[str], Kind | None]


@dataclass(frozen=True)
class Schema:
    """The attributes an expression may name: some by name, some by prefix (`gres.` before any name)."""

    names: Mapping[str, Kind]
    prefixes: Mapping[str, Kind]

    def kind(self, name: str) -> Kind | None:
        """The kind of the attribute, None if there is none of that name."""
        found = self.names.get(name)
        if found is not None:
            return found
        return next((kind for prefix, kind in self.prefixes.items() if name.startswith(prefix)), None)

    def hint(self, name: str) -> str:
        """What may have been meant."""
        known = [*self.names, *(f"{prefix}NAME" for prefix in self.prefixes)]
        close = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        return f"did you mean '{close[0]}'? a text stands in quotes" if close else f"there are: {', '.join(known)}"


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of an expression whose parts are joined by `and`."""

    text: str
    program: Program


@dataclass(frozen=True, slots=True)
class Expression:
    """What was read; equal texts under one schema give equal programs."""

    text: str
    kind: Kind
    program: Program
    names: frozenset[str]
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, slots=True)
class _Node:
    kind: Kind
    op: Op
    column: int
    start: int
    end: int
    args: tuple[_Node, ...] = ()

    def program(self) -> Iterator[Op]:
        """Arguments first."""
        for arg in self.args:
            yield from arg.program()
        yield self.op


class _Token(NamedTuple):
    kind: str  # number name text mark end
    text: str
    start: int
    end: int


FUNCTIONS: dict[str, str] = {
    "defined": "defined(x): true if x is known of the node",
    "if": "if(c, a, b): a where c is true, b where it is false",
    "min": "min(a, b, ...): the least of some numbers",
    "max": "max(a, b, ...): the greatest of some numbers",
    "abs": "abs(a): a without its sign",
}
_WORDS = frozenset(("and", "or", "not", "in", "has", "true", "false"))


def compile_condition(text: str, schema: Schema, what: str = "expression") -> Expression:
    """An expression that is true or not (`--require`, `Admit=`).  Raises UsageError (EXPRESSION_INVALID)."""
    found = compile_expression(text, schema, what)
    if found.kind is not Kind.TRUTH:
        raise _refusal(what, text, f"it is a {found.kind}, not a condition", 1, "compare it with something")
    return found


def compile_rank(text: str, schema: Schema, what: str = "expression") -> Expression:
    """An expression that is a number, or a condition that counts as 1 or 0 (`--rank`).  Raises UsageError."""
    found = compile_expression(text, schema, what)
    if found.kind not in (Kind.NUMBER, Kind.TRUTH):
        raise _refusal(what, text, f"it is a {found.kind}, not a number", 1, "")
    return found


def compile_expression(text: str, schema: Schema, what: str = "expression") -> Expression:
    """Read any expression.  Raises UsageError (EXPRESSION_INVALID) with the column; `what` names it there."""
    if len(text) > CHARS_MAX:
        raise UsageError(f"{what} is longer than {CHARS_MAX} characters", code="EXPRESSION_INVALID")
    reader = _Reader(text, schema, what)
    node = reader.read()
    program = tuple(node.program())
    if len(program) > STEPS_MAX:
        raise _refusal(what, text, f"it has more than {STEPS_MAX} values and operators", 1, "")
    if sum(op.code == "match" for op in program) > PATTERNS_MAX:
        raise _refusal(
            what, text, f"it has more than {PATTERNS_MAX} patterns", 1, "name the texts in a list: in ('a', 'b')"
        )
    clauses = tuple(Clause(text[part.start : part.end], tuple(part.program())) for part in _conjuncts(node))
    return Expression(text.strip(), node.kind, program, frozenset(reader.names), clauses)


def _conjuncts(node: _Node) -> Iterator[_Node]:
    if node.op.code == "and":
        for arg in node.args:
            yield from _conjuncts(arg)
    else:
        yield node


def _refusal(what: str, text: str, why: str, column: int, hint: str) -> UsageError:
    return UsageError(f"{what} '{one_line(text)}': {why} (column {column})", code="EXPRESSION_INVALID", hint=hint)


def _scan(text: str, what: str) -> list[_Token]:
    tokens = []
    for match in _TOKEN.finditer(text):
        kind = next(name for name in ("number", "name", "text", "mark", "bad") if match[name] is not None)
        start = match.start(kind)
        if kind == "bad":
            said = (
                f"the {match[kind]} is not closed" if match[kind] in "'\"" else f"'{one_line(match[kind])}' unexpected"
            )
            hints = {"=": "write == for equal", "&": "write and, or &&", "|": "write or, or ||"}
            raise _refusal(what, text, said, start + 1, hints.get(match[kind], ""))
        tokens.append(_Token(kind, match[0].lstrip(), start, match.end()))
    end = len(text.rstrip())
    tokens.append(_Token("end", "", max(0, end - 1), end))
    return tokens


class _Reader:
    """One text, read once; each method reads one line of the grammar."""

    def __init__(self, text: str, schema: Schema, what: str) -> None:
        self.text = text
        self.schema = schema
        self.what = what
        self.tokens = _scan(text, what)
        self.at = 0
        self.depth = 0
        self.names: set[str] = set()

    # ---- tokens --------------------------------------------------------------------------------------------------

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def take(self) -> _Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def is_word(self, *words: str) -> bool:
        """True if a keyword (in any case) or mark of these comes next."""
        token = self.next
        return token.kind in ("mark", "name") and (token.text.lower() if token.kind == "name" else token.text) in words

    def expect(self, mark: str) -> _Token:
        if not self.is_word(mark):
            found = f"'{one_line(self.next.text)}'" if self.next.text else "the end"
            raise self.bad(f"{found} where '{mark}' was expected", self.next)
        return self.take()

    def bad(self, why: str, at: _Token | _Node, hint: str = "") -> UsageError:
        column = at.column if isinstance(at, _Node) else at.start + 1
        return _refusal(self.what, self.text, why, column, hint)

    def deeper(self, at: _Token) -> None:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise self.bad(f"nested more than {DEPTH_MAX} deep", at)

    # ---- the grammar ---------------------------------------------------------------------------------------------

    def read(self) -> _Node:
        if self.next.kind == "end":
            raise self.bad("it is empty", self.next)
        node = self.either()
        if self.next.kind != "end":
            hint = "compare two values at a time, joined by and" if self.is_word("<", ">", "<=", ">=", "==") else ""
            raise self.bad(f"'{one_line(self.next.text)}' unexpected", self.next, hint)
        return node

    def either(self) -> _Node:
        return self.joined("or", ("or", "||"), self.both)

    def both(self) -> _Node:
        return self.joined("and", ("and", "&&"), self.negated)

    def joined(self, code: str, words: tuple[str, ...], inner: Callable[[], _Node]) -> _Node:
        node = inner()
        while self.is_word(*words):
            token = self.take()
            right = inner()
            for side in (node, right):
                self.require(side, Kind.TRUTH, f"a side of '{token.text}'")
            node = _Node(Kind.TRUTH, Op(code, 2), token.start + 1, node.start, right.end, (node, right))
        return node

    def negated(self) -> _Node:
        if not self.is_word("not", "!"):
            return self.comparison()
        token = self.take()
        self.deeper(token)
        inner = self.negated()
        self.depth -= 1
        self.require(inner, Kind.TRUTH, f"what '{token.text}' negates")
        return _Node(Kind.TRUTH, Op("not", 1), token.start + 1, token.start, inner.end, (inner,))

    def comparison(self) -> _Node:
        left = self.sum()
        if self.is_word("==", "!=", "<", "<=", ">", ">="):
            return self.compared(left, self.take())
        if self.is_word("=~", "!~"):
            return self.matched(left, self.take())
        if self.is_word("has"):
            return self.has(left, self.take())
        if self.is_word("in"):
            self.take()
            return self.member(left)
        if self.is_word("not") and self.tokens[self.at + 1].text.lower() == "in":
            self.take()
            self.take()
            inner = self.member(left)
            return _Node(Kind.TRUTH, Op("not", 1), inner.column, inner.start, inner.end, (inner,))
        return left

    def compared(self, left: _Node, token: _Token) -> _Node:
        right = self.sum()
        for side in (left, right):
            if side.kind is Kind.SET or (side.kind is Kind.TRUTH and token.text not in ("==", "!=")):
                hint = "ask with has: features has ib" if side.kind is Kind.SET else ""
                raise self.bad(f"a {side.kind} cannot be compared with '{token.text}'", side, hint)
        if left.kind is not right.kind:
            raise self.bad(f"a {left.kind} compared with a {right.kind}", token)
        code = "==" if token.text == "!=" else token.text
        node = _Node(Kind.TRUTH, Op(code, 2), token.start + 1, left.start, right.end, (left, right))
        if token.text == "!=":
            node = _Node(Kind.TRUTH, Op("not", 1), node.column, node.start, node.end, (node,))
        return node

    def matched(self, left: _Node, token: _Token) -> _Node:
        self.require(left, Kind.TEXT, f"what '{token.text}' matches")
        pattern = self.take()
        if pattern.kind != "text":
            raise self.bad(f"'{token.text}' wants a pattern in quotes", pattern, "as in name =~ 'n1*'")
        body = pattern.text[1:-1]
        try:
            glob_regex(body)
        except ValueError as error:
            raise self.bad(str(error), pattern) from error
        node = _Node(Kind.TRUTH, Op("match", 1, body), token.start + 1, left.start, pattern.end, (left,))
        if token.text == "!~":
            node = _Node(Kind.TRUTH, Op("not", 1), node.column, node.start, node.end, (node,))
        return node

    def has(self, left: _Node, token: _Token) -> _Node:
        self.require(left, Kind.SET, "the left side of 'has'")
        word = self.take()
        if word.kind not in ("text", "name") or (word.kind == "name" and word.text.lower() in _WORDS):
            raise self.bad("'has' wants a word, in quotes if it has other letters", word)
        body = word.text[1:-1] if word.kind == "text" else word.text
        return _Node(Kind.TRUTH, Op("has", 1, body), token.start + 1, left.start, word.end, (left,))

    def member(self, left: _Node) -> _Node:
        """What follows `in`."""
        if not self.is_word("(", "["):
            right = self.value()
            self.require(right, Kind.SET, "the right side of 'in'", "a list stands in parentheses: in ('a', 'b')")
            if left.op.code != "push" or left.kind is not Kind.TEXT:
                raise self.bad("only a text in quotes can be looked for in a set", left)
            return _Node(Kind.TRUTH, Op("has", 1, left.op.value), left.column, left.start, right.end, (right,))
        closing = ")" if self.take().text == "(" else "]"
        values = [self.literal(left)]
        while self.is_word(","):
            self.take()
            values.append(self.literal(left))
            if len(values) > LITERALS_MAX:
                raise self.bad(f"more than {LITERALS_MAX} items in a list", self.next)
        end = self.expect(closing)
        return _Node(Kind.TRUTH, Op("one_of", 1, tuple(values)), left.column, left.start, end.end, (left,))

    def literal(self, left: _Node) -> float | str:
        node = self.value()
        if node.op.code != "push" or node.kind not in (Kind.NUMBER, Kind.TEXT):
            raise self.bad("a list holds numbers or texts in quotes", node)
        if node.kind is not left.kind:
            raise self.bad(f"a {left.kind} looked for among {node.kind}s", node)
        value: float | str = node.op.value
        return value

    def sum(self) -> _Node:
        return self.arithmetic(("+", "-"), self.product)

    def product(self) -> _Node:
        return self.arithmetic(("*", "/", "%"), self.value)

    def arithmetic(self, marks: tuple[str, ...], inner: Callable[[], _Node]) -> _Node:
        node = inner()
        while self.is_word(*marks):
            token = self.take()
            right = inner()
            for side in (node, right):
                self.require(side, Kind.NUMBER, f"a side of '{token.text}'")
            node = _Node(Kind.NUMBER, Op(token.text, 2), token.start + 1, node.start, right.end, (node, right))
        return node

    def value(self) -> _Node:
        token = self.take()
        if token.kind == "number":
            return _Node(Kind.NUMBER, Op("push", 0, self.number(token)), token.start + 1, token.start, token.end)
        if token.kind == "text":
            return _Node(Kind.TEXT, Op("push", 0, token.text[1:-1]), token.start + 1, token.start, token.end)
        if token.text in ("(", "-") and token.kind == "mark":
            self.deeper(token)
            inner = self.either() if token.text == "(" else self.value()
            self.depth -= 1
            if token.text == "(":
                end = self.expect(")")
                return _Node(inner.kind, inner.op, inner.column, token.start, end.end, inner.args)
            self.require(inner, Kind.NUMBER, "what '-' negates")
            if inner.op.code == "push":
                return _Node(Kind.NUMBER, Op("push", 0, -inner.op.value), token.start + 1, token.start, inner.end)
            return _Node(Kind.NUMBER, Op("negate", 1), token.start + 1, token.start, inner.end, (inner,))
        if token.kind == "name":
            return self.named(token)
        self.at -= 1
        found = f"'{one_line(token.text)}'" if token.text else "the end"
        raise self.bad(f"{found} where a value was expected", token)

    def number(self, token: _Token) -> float:
        at = next((i for i, letter in enumerate(token.text) if letter.isalpha() or letter == "_"), len(token.text))
        body, unit = token.text[:at], token.text[at:]
        if len(body) > 18:
            raise self.bad("a number has more than 18 digits", token)
        if unit and unit not in _UNITS:
            hint = "sizes end with K, M, G, T or P, times with s, min, h, d or w"
            raise self.bad(f"'{one_line(unit)}' is not a unit", token, hint)
        return float(body) * _UNITS.get(unit, 1)

    def named(self, token: _Token) -> _Node:
        low = token.text.lower()
        if low in ("true", "false"):
            return _Node(Kind.TRUTH, Op("push", 0, low == "true"), token.start + 1, token.start, token.end)
        if low in _WORDS:
            raise self.bad(f"'{token.text}' where a value was expected", token)
        if self.is_word("("):
            return self.call(token)
        kind = self.schema.kind(token.text)
        if kind is None:
            raise self.bad(f"no attribute '{one_line(token.text)}'", token, self.schema.hint(token.text))
        self.names.add(token.text)
        return _Node(kind, Op("load", 0, token.text), token.start + 1, token.start, token.end)

    def call(self, token: _Token) -> _Node:
        name = token.text.lower()
        if name not in FUNCTIONS:
            raise self.bad(f"no function '{one_line(token.text)}'", token, f"there are: {', '.join(FUNCTIONS)}")
        self.take()
        self.deeper(token)
        args = [self.either()]
        while self.is_word(","):
            self.take()
            args.append(self.either())
        self.depth -= 1
        end = self.expect(")")
        kind = self.checked_call(name, token, args)
        return _Node(kind, Op(name, len(args)), token.start + 1, token.start, end.end, tuple(args))

    def checked_call(self, name: str, token: _Token, args: list[_Node]) -> Kind:
        """The kind of what the function gives."""
        count = {"defined": 1, "abs": 1, "if": 3}.get(name)
        if count is not None and len(args) != count:
            raise self.bad(f"{name}() takes {count} argument{'s' * (count > 1)}, not {len(args)}", token)
        if name == "defined":
            return Kind.TRUTH
        if name == "if":
            self.require(args[0], Kind.TRUTH, "the first argument of if()")
            if args[1].kind is not args[2].kind or args[1].kind is Kind.SET:
                raise self.bad(f"if() of a {args[1].kind} and a {args[2].kind}", args[2])
            return args[1].kind
        for arg in args:
            self.require(arg, Kind.NUMBER, f"an argument of {name}()")
        return Kind.NUMBER

    def require(self, node: _Node, kind: Kind, what: str, hint: str = "") -> None:
        if node.kind is not kind:
            raise self.bad(f"{what} is a {node.kind}, not a {kind}", node, hint)
