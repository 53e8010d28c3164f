"""`--constraint`: the grammar, where it goes wrong, and what it asks of a job's nodes."""

from __future__ import annotations

import pytest

from helix.errors import UsageError
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.chain import place_required
from helix.sched.features import format_term, meets, missing_words, parse_constraint
from helix.sched.options import SchedOptions
from helix.sched.request import Request, normalise


def plain(text: str, features: str) -> bool:
    constraint = parse_constraint(text)
    assert constraint.is_plain
    return meets(features.split(), constraint.alternatives[0].every)


@pytest.mark.parametrize(
    ("text", "has", "met"),
    [
        ("", "", True),
        ("a", "a b", True),
        ("a", "b", False),
        ("a&b", "a b", True),
        ("a,b", "a", False),
        ("a&b|c", "c", True),
        ("a|b&c", "a", False),  # sbatch(1): strictly from left to right
        ("a|b&c", "a c", True),
        ("a|(b&c)", "a", True),
        ("foo&(bar|baz)", "foo baz", True),
        ("!a", "b", True),
        ("b & !a", "a b", False),
        ("!(a|b)", "c", True),
        ("!(a|b)", "b", False),
        ("!!a", "a", True),
        ("gpu:a100&rack-1/2.x+y", "gpu:a100 rack-1/2.x+y", True),
        ("[a]", "a", True),
    ],
)
def test_plain_constraints(text: str, has: str, met: bool) -> None:
    assert plain(text, has) is met


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("a&&b", 3, "a feature name is missing"),
        ("a|", 2, "missing"),
        ("a b", 3, "where & or . was expected"),
        ("[a|b", 4, "'\\]' is missing"),
        ("(a", 2, "'\\)' is missing"),
        ("a)", 2, "expected"),
        ("()", 2, "missing"),
        ("a&$b", 3, "'\\$' has no place"),
        ("[a|b&c]", 5, "side by side"),
        ("[a&b*2]", 2, "a node count is missing"),
        ("[a|b]|c", 6, "beside brackets"),
        ("a*2|b", 4, "beside brackets or node counts"),
        ("[a]&[b]", 5, "second pair"),
        ("([a])", 2, "inside brackets or parentheses"),
        ("(a*2)", 3, "inside parentheses"),
        ("![a]", 2, "or after '!'"),
        ("a*", 2, "wants a number"),
        ("a*x", 3, "wants a number"),
        ("a*0", 3, "not between 1"),
        ("*2", 1, "missing"),
        ("(" * 40 + "a" + ")" * 40, 34, "nested"),
        ("x" * 300, 1, "longer than 255"),
    ],
)
def test_errors_name_the_column(text: str, column: int, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_constraint(text)
    assert caught.value.code == "CONSTRAINT_INVALID"
    assert caught.value.msg.endswith(f"(column {column})")


def test_a_text_of_any_length_is_refused_before_it_is_read() -> None:
    with pytest.raises(UsageError, match="longer than 4096"):
        parse_constraint("a|" * 4000)


def request(constraint: str, **fields: object) -> Request:
    spec = JobSpec(constraint=constraint, **fields)  # type: ignore[arg-type]
    return normalise(spec, PartitionRecord(name="main"), SchedOptions())


def parts(asked: Request) -> list[list[tuple[str, int, int, int]]]:
    """Each chain as (term, least nodes, most nodes, tasks)."""
    return [
        [(format_term(part.constraint), part.nodes_lo, part.nodes_hi, part.tasks) for part in chain]
        for chain in asked.chains
    ]


@pytest.mark.parametrize(
    ("constraint", "fields", "expected"),
    [
        ("a|b", {"nodes_min": 2}, [[("a|b", 2, 0, 0)]]),
        ("[a|b]", {"nodes_min": 2}, [[("a", 2, 0, 0)], [("b", 2, 0, 0)]]),
        ("c&[a|(b&d)]", {}, [[("c&a", 1, 0, 0)], [("c&(b&d)", 1, 0, 0)]]),
        ("[a*2&b*4]", {}, [[("a", 2, 2, 0), ("b", 4, 4, 0)]]),
        ("a*2&b*1", {"nodes_min": 5, "nodes_max": 5}, [[("a", 2, 2, 0), ("b", 1, 1, 0), ("", 2, 2, 0)]]),
        ("x&a*2", {"nodes_min": 3}, [[("x&a", 2, 2, 0), ("x", 1, 0, 0)]]),
        ("[(a|b)*1&c*2]", {"tasks": 7}, [[("a|b", 1, 1, 3), ("c", 2, 2, 4)]]),
        ("!a*2&!(a|b)*1", {}, [[("!a", 2, 2, 0), ("!(a|b)", 1, 1, 0)]]),
        ("[a*2|b*4]", {"nodes_min": 3, "nodes_max": 3}, [[("a", 2, 2, 0), ("", 1, 1, 0)]]),
        ("a*3", {"tasks": 2}, [[("a", 3, 3, 3)]]),
    ],
)
def test_alternatives_and_counts_become_chains(constraint: str, fields: dict[str, int], expected: object) -> None:
    assert parts(request(constraint, **fields)) == expected


@pytest.mark.parametrize(
    ("constraint", "fields", "code", "said"),
    [
        (
            "a*3",
            {"nodes_min": 2, "nodes_max": 2},
            "NODE_COUNT_INVALID",
            "--constraint counts 3 nodes, --nodes allows 2",
        ),
        ("a*3", {"contiguous": True}, "CONSTRAINT_UNSUPPORTED", "--contiguous"),
    ],
)
def test_counts_that_contradict_the_rest_are_refused(
    constraint: str, fields: dict[str, int], code: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        request(constraint, **fields)
    assert caught.value.code == code


def test_required_nodes_go_to_parts_whose_term_they_meet() -> None:
    features = {"n1": ["a", "b"], "n2": ["b"], "n3": ["c"]}
    chain = request("a*1&b*1", nodelist="n[1-2]").chains[0]
    placed = place_required(chain, features.__getitem__)
    assert placed is not None
    assert [part.must for part in placed] == [("n1",), ("n2",)]
    chain = request("a*1&b*1", nodelist="n[2-3]").chains[0]
    assert place_required(chain, features.__getitem__) is None


@pytest.mark.parametrize(
    ("text", "features", "words"),
    [
        ("a&b", "a", "lacks feature b"),
        ("a&!b", "b", "lacks feature a and has feature b"),
        ("(a&b)|c", "", "lacks feature c"),
        ("!(a|b)", "a b", "has feature a, b"),
        ("a", "a", ""),
    ],
)
def test_what_a_node_misses(text: str, features: str, words: str) -> None:
    assert missing_words(features.split(), parse_constraint(text).alternatives[0].every) == words
