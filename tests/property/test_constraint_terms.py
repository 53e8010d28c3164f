"""`--constraint` against an evaluator that tries every choice of nodes."""

from __future__ import annotations

import re
from itertools import combinations, permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from helix.errors import UsageError
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.chain import shortage
from helix.sched.features import format_term, meets, parse_constraint
from helix.sched.options import SchedOptions
from helix.sched.request import Request, normalise

NAMES = "abc"
node_sets = st.lists(st.frozensets(st.sampled_from(NAMES)), min_size=0, max_size=5)

# A term is a name, ("!", term), or (operator, left, right): what the text says, kept apart from the parser's own tree.
terms = st.recursive(
    st.sampled_from(NAMES),
    lambda inner: st.one_of(st.tuples(st.just("!"), inner), st.tuples(st.sampled_from("&|"), inner, inner)),
    max_leaves=6,
)


def write(term: Any) -> str:
    if isinstance(term, str):
        return term
    if term[0] == "!":
        return f"!({write(term[1])})"
    return f"({write(term[1])}) {term[0]} ({write(term[2])})"


def holds(term: Any, features: frozenset[str]) -> bool:
    if isinstance(term, str):
        return term in features
    if term[0] == "!":
        return not holds(term[1], features)
    left, right = holds(term[1], features), holds(term[2], features)
    return (left and right) if term[0] == "&" else (left or right)


@given(terms, st.frozensets(st.sampled_from(NAMES)))
def test_terms_mean_what_they_say_and_survive_being_written(term: Any, features: frozenset[str]) -> None:
    parsed = parse_constraint(write(term)).alternatives[0].every
    assert meets(features, parsed) is holds(term, features)
    assert parse_constraint(format_term(parsed)).alternatives[0].every == parsed


@given(
    st.lists(st.tuples(st.sampled_from("&|"), st.sampled_from(NAMES)), max_size=6),
    st.frozensets(st.sampled_from(NAMES)),
)
def test_without_parentheses_operators_are_read_from_left_to_right(
    rest: list[tuple[str, str]], features: frozenset[str]
) -> None:
    expected = "a" in features
    for mark, name in rest:
        expected = (expected and name in features) if mark == "&" else (expected or name in features)
    text = "a" + "".join(mark + name for mark, name in rest)
    assert meets(features, parse_constraint(text).alternatives[0].every) is expected


def can_serve(request: Request, nodes: list[frozenset[str]]) -> bool:
    """What the planner's tables say: some chain whose parts find different nodes."""
    for chain in request.chains:
        classes = [(1, [meets(features, part.constraint) for part in chain]) for features in nodes]
        if shortage([part.nodes_lo for part in chain], classes) is None:
            return True
    return False


def asked(constraint: str, count: int) -> Request | None:
    spec = JobSpec(constraint=constraint, nodes_min=count, nodes_max=count)
    try:
        return normalise(spec, PartitionRecord(name="main"), SchedOptions())
    except UsageError:
        return None


@given(st.lists(terms, min_size=1, max_size=3), terms, node_sets, st.integers(1, 3))
def test_matching_or_is_one_of_them_on_all_nodes(
    options: list[Any], every: Any, nodes: list[frozenset[str]], count: int
) -> None:
    request = asked(f"({write(every)}) & [{'|'.join(f'({write(option)})' for option in options)}]", count)
    assert request is not None
    brute = any(
        all(holds(every, node) and holds(option, node) for node in chosen)
        for chosen in combinations(nodes, count)
        for option in options
    )
    assert can_serve(request, nodes) is brute


@given(
    st.lists(st.tuples(terms, st.integers(1, 2)), min_size=1, max_size=3),
    terms,
    node_sets,
    st.integers(1, 5),
    st.booleans(),
)
def test_counts_are_met_by_different_nodes(
    counted: list[tuple[Any, int]], every: Any, nodes: list[frozenset[str]], count: int, brackets: bool
) -> None:
    body = "&".join(f"({write(term)})*{number}" for term, number in counted)
    request = asked(f"({write(every)})&" + (f"[{body}]" if brackets else body), count)
    wanted = [term for term, number in counted for _ in range(number)]
    assert (request is None) is (len(wanted) > count)
    if request is None:
        return
    brute = any(
        all(holds(every, node) for node in chosen)
        and any(
            all(holds(term, node) for term, node in zip(wanted, order, strict=True))
            for order in permutations(chosen, len(wanted))
        )
        for chosen in combinations(nodes, count)
    )
    assert can_serve(request, nodes) is brute


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4).flatmap(
        lambda wanted: st.tuples(
            st.just(wanted),
            st.lists(
                st.tuples(st.integers(0, 4), st.lists(st.booleans(), min_size=len(wanted), max_size=len(wanted))),
                max_size=5,
            ),
        )
    )
)
def test_a_shortage_is_one(case: tuple[list[int], list[tuple[int, list[bool]]]]) -> None:
    wanted, classes = case
    found = shortage(wanted, classes)
    sets = [[p for p in range(len(wanted)) if mask >> p & 1] for mask in range(1, 1 << len(wanted))]
    short = [
        parts
        for parts in sets
        if sum(wanted[p] for p in parts) > sum(n for n, may in classes if any(may[p] for p in parts))
    ]
    if found is None:
        assert not short  # Hall's condition holds for every set
    else:
        parts, able = found
        assert parts in short
        assert able == sum(n for n, may in classes if any(may[p] for p in parts))


@given(st.one_of(st.text(max_size=40), st.text(alphabet="ab&|,!()[]*12 ", max_size=30)))
def test_any_text_is_parsed_or_refused_with_a_column_inside_it(text: str) -> None:
    try:
        parsed = parse_constraint(text)
    except UsageError as error:
        column = re.search(r"\(column (\d+)\)$", error.msg)
        assert column
        assert 1 <= int(column[1]) <= max(1, len(text))
        return
    assert parsed.alternatives
