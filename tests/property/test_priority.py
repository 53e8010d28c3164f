"""Priorities: exact sums, monotone, row by row, and the same however the rows are ordered."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.sched.priority import (
    ONE,
    PRIORITY_MAX,
    TERMS,
    PriorityOptions,
    PriorityScale,
    PriorityTable,
    priorities,
)

FLAGS = (
    "NO_NORMAL_ALL",
    "NO_NORMAL_ASSOC",
    "NO_NORMAL_PART",
    "NO_NORMAL_QOS",
    "NO_NORMAL_TRES",
    "SMALL_RELATIVE_TO_TIME",
)
WEIGHT = st.one_of(st.just(0), st.integers(0, 100_000), st.just((1 << 32) - 1))
COUNT = st.one_of(st.integers(0, 50), st.integers(0, 1 << 31))


@st.composite
def options(draw: st.DrawFn) -> PriorityOptions:
    weights = draw(st.lists(WEIGHT, min_size=7, max_size=7))
    return PriorityOptions(
        *weights[:6],
        weight_tres=(("cpu", weights[6]), ("mem", 3)),
        max_age_s=draw(st.sampled_from([1, 60, 604_800, 86400 * 3650])),
        favor_small=draw(st.booleans()),
        flags=frozenset(draw(st.lists(st.sampled_from(FLAGS), max_size=2))),
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[PriorityTable, PriorityScale]:
    rows = draw(st.integers(0, 8))

    def column(values: st.SearchStrategy[int]) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=rows, max_size=rows)), np.int64)

    table = PriorityTable(
        age_s=column(st.integers(0, 1 << 32)),
        nodes=column(st.integers(1, 100_000)),
        cpus=column(st.integers(1, 1 << 31)),
        limit_min=column(st.integers(1, 1 << 30)),
        fairshare=column(st.integers(0, ONE)),
        assoc=column(COUNT),
        qos=column(COUNT),
        partition=column(COUNT),
        tres=np.stack([column(COUNT), column(COUNT)], axis=1),
        tres_row=column(st.integers(0, 1)).astype(np.int32),
        nice=column(st.integers(-(1 << 31), 1 << 31)),
        site=column(st.integers(-1000, 1000)),
        floor=column(st.just(0)),
    )
    most = draw(st.lists(COUNT, min_size=9, max_size=9))
    scale = PriorityScale(*most[:5], tres=np.array(most[5:], np.int64).reshape(2, 2))
    return table, scale


@given(tables(), options())
def test_terms_add_up_exactly(given: tuple[PriorityTable, PriorityScale], chosen: PriorityOptions) -> None:
    table, scale = given
    found = priorities(table, scale, chosen)
    assert ((found.terms.sum(axis=1) + table.site - table.nice + found.bound) == found.priority).all()
    assert ((found.priority >= 1) & (found.priority <= PRIORITY_MAX)).all()
    assert (found.terms >= 0).all()
    inside = (found.priority > 1) & (found.priority < PRIORITY_MAX)
    assert (found.bound[inside] == 0).all()


@given(tables(), options(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(
    given: tuple[PriorityTable, PriorityScale], chosen: PriorityOptions, random: object
) -> None:
    table, scale = given
    order = np.arange(len(table.age_s))
    random.shuffle(order)  # type: ignore[attr-defined]
    mixed = PriorityTable._make(column[order] for column in table)
    assert (priorities(mixed, scale, chosen).priority == priorities(table, scale, chosen).priority[order]).all()


@given(tables(), options(), st.integers(0, 1 << 20))
def test_waiting_never_lowers_a_priority(
    given: tuple[PriorityTable, PriorityScale], chosen: PriorityOptions, more_s: int
) -> None:
    table, scale = given
    before = priorities(table, scale, chosen).priority
    after = priorities(table._replace(age_s=table.age_s + more_s), scale, chosen).priority
    assert (after >= before).all()


@given(tables(), options())
def test_a_factor_that_nobody_has_counts_nothing(
    given: tuple[PriorityTable, PriorityScale], chosen: PriorityOptions
) -> None:
    table, scale = given
    none = np.zeros_like(table.qos)
    bare = table._replace(qos=none, assoc=none, partition=none)
    found = [
        priorities(bare, PriorityScale(scale.nodes, scale.cpus, most, most, most, scale.tres), chosen).priority
        for most in (0, 7)
    ]
    assert (found[0] == found[1]).all()


@given(tables(), options())
@settings(max_examples=50)
def test_one_row_alone_is_the_same(given: tuple[PriorityTable, PriorityScale], chosen: PriorityOptions) -> None:
    table, scale = given
    whole = priorities(table, scale, chosen).priority
    for row in range(len(whole)):
        alone = PriorityTable._make(column[row : row + 1] for column in table)
        assert priorities(alone, scale, chosen).priority[0] == whole[row]


def test_the_factors_of_slurms_manual() -> None:
    one = np.ones(1, np.int64)
    table = PriorityTable(
        age_s=one * 43_200, nodes=one * 25, cpus=one * 100, limit_min=one * 60, fairshare=one * (ONE // 4),
        assoc=one * 5, qos=one * 50, partition=one * 30, tres=np.array([[100]]), tres_row=np.zeros(1, np.int32),
        nice=one * 7, site=one * 3, floor=one * 0,
    )  # fmt: skip
    scale = PriorityScale(100, 400, 10, 100, 40, np.array([[200]]))
    chosen = PriorityOptions(1000, 1000, 1000, 1000, 1000, 1000, (("cpu", 1000),), max_age_s=86_400)
    found = priorities(table, scale, chosen)
    assert dict(zip(TERMS, found.terms[0].tolist(), strict=True)) == {
        "age": 500, "assoc": 500, "fairshare": 250, "jobsize": 250, "partition": 750, "qos": 500, "tres": 500,
    }  # fmt: skip
    assert found.priority[0] == 3250 + 3 - 7
    small = priorities(table, scale, PriorityOptions(weight_jobsize=1000, favor_small=True)).terms[0]
    assert small[TERMS.index("jobsize")] == 750
    timed = PriorityOptions(weight_jobsize=60_000, flags=frozenset({"SMALL_RELATIVE_TO_TIME"}))
    assert priorities(table, scale, timed).terms[0][TERMS.index("jobsize")] in (249, 250)
    raw = PriorityOptions(weight_qos=3, weight_partition=2, flags=frozenset({"NO_NORMAL_ALL"}))
    assert priorities(table, scale, raw).terms[0].tolist() == [0, 0, 0, 0, 60, 150, 0]
