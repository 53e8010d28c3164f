"""Expressions: any text is read or refused with a column inside it, and columns agree with a plain interpreter."""

from __future__ import annotations

import fnmatch
import math
import re
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.errors import UsageError
from helix.expression import Kind, Schema, compile_expression
from helix.glob_pattern import glob_regex
from helix.sched.expression_columns import Column, Numbers, Sets, Texts, Truths, evaluate, text_column

SCHEMA = Schema(
    {"cpus": Kind.NUMBER, "memory": Kind.NUMBER, "os": Kind.TEXT, "arch": Kind.TEXT, "features": Kind.SET},
    {"gres.": Kind.NUMBER},
)
WORDS = ["", "linux", "bsd", "n1", "a*"]

rows = st.fixed_dictionaries(
    {
        "cpus": st.one_of(st.none(), st.integers(-3, 8)),
        "memory": st.one_of(st.none(), st.integers(0, 4096)),
        "gres.gpu": st.integers(0, 2),
        "os": st.sampled_from(WORDS),
        "arch": st.sampled_from(WORDS),
        "features": st.frozensets(st.sampled_from(["ib", "gpu"])),
    }
)

# Trees: (operator, arguments...); texts are written from them and values are computed from them, apart from the parser.
numbers = st.recursive(
    st.one_of(
        st.tuples(st.just("number"), st.sampled_from([0, 1, 2, 3.5, 64])),
        st.tuples(st.just("load"), st.sampled_from(["cpus", "memory", "gres.gpu"])),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "/", "%"]), inner, inner),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner),
        st.tuples(st.sampled_from(["abs", "negate"]), inner),
    ),
    max_leaves=5,
)
texts = st.one_of(
    st.tuples(st.just("text"), st.sampled_from(["linux", "n1"])),
    st.tuples(st.just("load"), st.sampled_from(["os", "arch"])),
)
conditions = st.recursive(
    st.one_of(
        st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers, numbers),
        st.tuples(st.sampled_from(["==", "!=", "<", ">="]), texts, texts),
        st.tuples(st.just("has"), st.sampled_from(["ib", "gpu", "none"])),
        st.tuples(st.just("in"), st.sampled_from(["ib", "gpu"])),
        st.tuples(st.just("match"), texts, st.sampled_from(["l*", "*n*", "?1", "[a-m]*", "bsd", "*"])),
        st.tuples(st.just("one_of"), texts, st.just(("linux", "bsd"))),
        st.tuples(st.just("one_of"), numbers, st.just((1.0, 2.0))),
        st.tuples(st.just("defined"), st.one_of(numbers, texts)),
        st.tuples(st.just("truth"), st.booleans()),
    ),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["and", "or"]), inner, inner),
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("if"), inner, inner, inner),
        st.tuples(st.sampled_from(["==", "!="]), inner, inner),
    ),
    max_leaves=6,
)


def write(tree: Any) -> str:
    code = tree[0]
    if code in ("number", "load"):
        return str(tree[1])
    if code == "truth":
        return str(tree[1]).lower()
    if code == "text":
        return f"'{tree[1]}'"
    if code == "has":
        return f"features has {tree[1]}"
    if code == "in":
        return f"'{tree[1]}' in features"
    if code == "match":
        return f"{write(tree[1])} =~ '{tree[2]}'"
    if code == "one_of":
        return f"({write(tree[1])}) in ({', '.join(repr(item) for item in tree[2])})"
    if code in ("min", "max", "abs", "defined", "if"):
        return f"{code}({', '.join(write(arg) for arg in tree[1:])})"
    if code in ("not", "negate"):
        return f"{'not' if code == 'not' else '-'} ({write(tree[1])})"
    return f"({write(tree[1])}) {code} ({write(tree[2])})"


def value(tree: Any, row: dict[str, Any]) -> Any:
    """What a tree is worth on one row; None = undefined."""
    code = tree[0]
    if code in ("number", "text", "truth"):
        return tree[1]
    if code == "load":
        return row[tree[1]] if row[tree[1]] != "" else None
    if code in ("has", "in"):
        return tree[1] in row["features"]
    if code in ("match", "one_of"):
        word = value(tree[1], row)
        if word is None:
            return None
        return fnmatch.fnmatchcase(word, tree[2]) if code == "match" else word in tree[2]
    args = [value(arg, row) for arg in tree[1:]]
    if code == "defined":
        return args[0] is not None
    if code == "and":
        return False if False in args else None if None in args else True
    if code == "or":
        return True if True in args else None if None in args else False
    if code == "if":
        return None if args[0] is None else args[1] if args[0] else args[2]
    if None in args:
        return None
    return operate(code, args)


def operate(code: str, args: list[Any]) -> Any:
    a = args[0]
    if len(args) == 1:
        return {"not": lambda: not a, "negate": lambda: -a, "abs": lambda: abs(a)}[code]()
    b = args[1]
    if code in ("/", "%"):
        return None if b == 0 else a / b if code == "/" else a % b
    return {
        "+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "min": lambda: min(a, b), "max": lambda: max(a, b),
        "==": lambda: a == b, "!=": lambda: a != b, "<": lambda: a < b, "<=": lambda: a <= b, ">": lambda: a > b,
        ">=": lambda: a >= b,
    }[code]()  # fmt: skip


def columns(table: list[dict[str, Any]]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for name in ("cpus", "memory", "gres.gpu"):
        values = [row[name] for row in table]
        known = np.array([v is not None for v in values], np.bool_)
        found[name] = Numbers(np.array([v or 0 for v in values], np.float64), None if known.all() else known)
    for name in ("os", "arch"):
        found[name] = text_column([row[name] for row in table])
    words = {w: np.array([w in row["features"] for row in table], np.bool_) for w in ("ib", "gpu")}
    found["features"] = Sets(words, len(table))
    return found


def listed(column: Column) -> list[Any]:
    if isinstance(column, Texts):
        return [column.words[c] if c >= 0 else None for c in column.code.tolist()]
    assert isinstance(column, Numbers | Truths)
    values = column.value.tolist()
    return values if column.known is None else [v if k else None for v, k in zip(values, column.known, strict=True)]


@settings(max_examples=400)
@given(st.one_of(conditions, numbers), st.lists(rows, min_size=1, max_size=6))
def test_columns_agree_with_a_plain_interpreter(tree: Any, table: list[dict[str, Any]]) -> None:
    expression = compile_expression(write(tree), SCHEMA)
    found = listed(evaluate(expression.program, columns(table).__getitem__, len(table)))
    for got, row in zip(found, table, strict=True):
        expected = value(tree, row)
        if isinstance(expected, float) and not isinstance(expected, bool):
            assert got is not None
            assert math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-9)
        else:
            assert got == expected
            assert (got is None) is (expected is None)


@given(conditions, st.lists(rows, min_size=1, max_size=4))
def test_what_is_not_known_is_held_as_false(tree: Any, table: list[dict[str, Any]]) -> None:
    found = evaluate(compile_expression(write(tree), SCHEMA).program, columns(table).__getitem__, len(table))
    assert isinstance(found, Truths)
    if found.known is not None:
        assert not (found.value & ~found.known).any()


@given(conditions)
def test_clauses_joined_by_and_mean_the_whole(tree: Any) -> None:
    table = [
        {"cpus": c, "memory": 5, "gres.gpu": 1, "os": o, "arch": "", "features": frozenset(["ib"])}
        for c in (None, 2) for o in ("", "linux")
    ]  # fmt: skip
    expression = compile_expression(write(tree), SCHEMA)
    load = columns(table).__getitem__
    whole = evaluate(expression.program, load, len(table))
    assert isinstance(whole, Truths)
    each = np.ones(len(table), np.bool_)
    for clause in expression.clauses:
        part = evaluate(compile_expression(clause.text, SCHEMA).program, load, len(table))
        assert isinstance(part, Truths)
        each &= part.value
    assert np.array_equal(each, whole.value)


pieces = st.sampled_from(
    ["cpus", "os", "features", "gres.gpu", "and", "or", "not", "in", "has", "(", ")", "[", "]", ",", "==", "<", "=~",
     "+", "-", "*", "/", "'a'", "'", "4", "64G", "2h", "9x", "if", "min", "defined", "true", "=", "&", "€", "."]
)  # fmt: skip


@settings(max_examples=500)
@given(
    st.one_of(
        st.text(max_size=40), st.lists(pieces, max_size=12).map(" ".join), st.lists(pieces, max_size=9).map("".join)
    )
)
def test_any_text_is_read_or_refused_with_a_column_inside_it(text: str) -> None:
    try:
        expression = compile_expression(text, SCHEMA)
    except UsageError as error:
        column = re.search(r"\(column (\d+)\)$", error.msg)
        assert column
        assert 1 <= int(column[1]) <= max(1, len(text))
        return
    table = [{"cpus": 1, "memory": None, "gres.gpu": 0, "os": "", "arch": "x", "features": frozenset()}]
    known = columns(table)
    evaluate(expression.program, lambda name: known.get(name, known["gres.gpu"]), 1)


@given(st.text(alphabet="ab*?[]!-\\", max_size=8), st.text(alphabet="ab!-", max_size=6))
def test_globs_match_as_the_shell_does(pattern: str, word: str) -> None:
    try:
        found = glob_regex(pattern).fullmatch(word) is not None
    except ValueError:
        return
    if "\\" in pattern or "[" in pattern:  # fnmatch takes these otherwise
        return
    assert found is fnmatch.fnmatchcase(word, pattern)


def test_a_pattern_of_many_stars_costs_little() -> None:
    assert glob_regex("*a" * 100 + "b").fullmatch("a" * 1000) is None
