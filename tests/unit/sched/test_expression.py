"""Expressions: where they go wrong, to the column, and what bounds them."""

from __future__ import annotations

import pytest

from helix.errors import UsageError
from helix.expression import FUNCTIONS, compile_condition, compile_rank
from helix.expression_names import JOB_SCHEMA, NODE_ATTRIBUTES, Kind, attr_kinds, attr_number, node_schema
from helixctld.schedule.node_attributes import NodeAttributes
from helixctld.schedule.node_columns import NodeColumns

SCHEMA = node_schema({"rack": Kind.NUMBER, "row": Kind.TEXT})


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("", 1, "empty"),
        ("cpus = 3", 6, "unexpected"),
        ("cpu > 3", 1, "no attribute 'cpu'"),
        ("cpus > 'a'", 6, "a number compared with a text"),
        ("features == 'x'", 1, "cannot be compared"),
        ("cpus and true", 1, "a side of 'and' is a number"),
        ("(cpus > 1", 9, "the end where '\\)' was expected"),
        ("1 < cpus < 3", 10, "'<' unexpected"),
        ("name =~ os", 9, "wants a pattern"),
        ("name =~ 'a[b'", 9, "not closed"),
        ("os == Linux", 7, "no attribute 'Linux'"),
        ("mean(cpus) > 1", 1, "no function 'mean'"),
        ("min('a', 1) > 1", 5, "a text, not a number"),
        ("abs(1, 2) > 1", 1, "takes 1 argument, not 2"),
        ("cpus in (1, 'a')", 13, "a number looked for among texts"),
        ("cpus in features", 1, "only a text in quotes"),
        ("'a' in name", 8, "the right side of 'in'"),
        ("cpus > 4x", 8, "'x' is not a unit"),
        ("name == 'abc", 9, "not closed"),
        ("not cpus", 5, "a number, not a truth value"),
        ("attr.row < 3", 10, "a text compared with a number"),
        ("attr.nothing == 3", 1, "no attribute 'attr.nothing'"),
        ("cpus", 1, "not a condition"),
        ("(" * 60 + "true" + ")" * 60, 49, "nested"),
        (" or ".join(["cpus > 1"] * 100), 1, "more than 256 values"),
        (" or ".join(["name =~ 'a*'"] * 17), 1, "more than 16 patterns"),
    ],
)
def test_errors_name_the_column(text: str, column: int, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        compile_condition(text, SCHEMA, "--require")
    assert caught.value.code == "EXPRESSION_INVALID"
    assert caught.value.msg.startswith("--require '")
    assert caught.value.msg.endswith(f"(column {column})")


def test_long_texts_are_refused_before_they_are_read() -> None:
    with pytest.raises(UsageError, match="longer than 4096"):
        compile_condition("(" * 5000, SCHEMA)


@pytest.mark.parametrize("text", ["features", "name", "'a'"])
def test_a_rank_is_a_number_or_a_condition(text: str) -> None:
    with pytest.raises(UsageError, match="not a number"):
        compile_rank(text, SCHEMA)
    assert compile_rank("cpus > 1", SCHEMA).kind is Kind.TRUTH


def test_units_and_keywords() -> None:
    text = "memory == 64G AND tmp < 2T && NOT (weight > 1.5e || false)".replace("1.5e", "1.5")
    program = compile_condition(text, SCHEMA).program
    assert [op.value for op in program if op.code == "push"] == [65536.0, 2097152.0, 1.5, False]
    limits = compile_condition("time_limit in (30s, 10min, 2h, 1d, 2w)", JOB_SCHEMA).program
    assert limits[-1].value == (30.0, 600.0, 7200.0, 86400.0, 1209600.0)


def test_clauses_are_those_joined_by_and() -> None:
    found = compile_condition("cpus > 1 and (memory > 2 or tmp > 3) and (weight == 1 and true)", SCHEMA)
    assert [clause.text for clause in found.clauses] == ["cpus > 1", "(memory > 2 or tmp > 3)", "weight == 1", "true"]


def test_every_attribute_of_the_table_has_a_column() -> None:
    attributes = NodeAttributes(NodeColumns())
    for row in NODE_ATTRIBUTES:
        attributes.column("gres.gpu" if row.name == "gres." else row.name)
    assert all(text.startswith(f"{name}(") for name, text in FUNCTIONS.items())


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7.0), ("-2.5", -2.5), ("007", 7.0), ("", None), ("-", None), ("1.", None), ("1e3", None), ("nan", None),
     ("٣", None), ("9" * 19, None)],
)  # fmt: skip
def test_attributes_that_are_numbers(text: str, number: float | None) -> None:
    assert attr_number(text) == number


def test_an_attribute_is_a_number_if_all_nodes_say_so() -> None:
    lines = {"n1": {"rack": "1", "row": "2"}, "n2": {"rack": "3", "row": "b"}, "n3": {}}
    assert attr_kinds(lines) == {"rack": Kind.NUMBER, "row": Kind.TEXT}
