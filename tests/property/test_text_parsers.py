"""Properties of the text parsers: what is printed reads back, and any text is either read or refused cleanly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix.errors import UsageError
from helix.hostlist import MAX_HOSTS, count_hosts, format_hostlist, parse_hostlist
from helix.indexset import IndexSet, parse_array_spec, parse_indexes
from helix.sizes import format_bytes, format_mem_mib, parse_bytes, parse_mem_mib
from helix.timefmt import format_time_limit, parse_time_limit, parse_when

SMALL_RANGE = st.tuples(st.integers(0, 60), st.integers(0, 40), st.integers(1, 6)).map(
    lambda r: (r[0], r[0] + r[1], r[2])
)
RANGES = st.lists(SMALL_RANGE, max_size=6)


def members(ranges: list[tuple[int, int, int]]) -> set[int]:
    """The naive meaning of ranges."""
    return {i for first, last, step in ranges for i in range(first, last + 1, step)}


@given(RANGES, RANGES, st.integers(0, 50), st.integers(0, 110))
def test_index_sets_are_sets(a: list[tuple[int, int, int]], b: list[tuple[int, int, int]], n: int, one: int) -> None:
    x, y, set_x, set_y = IndexSet(a), IndexSet(b), members(a), members(b)
    assert list(x) == sorted(set_x)
    assert len(x) == len(set_x)
    assert (one in x) == (one in set_x)
    assert x | y == IndexSet.of(set_x | set_y)
    assert x - y == IndexSet.of(set_x - set_y)
    assert x & y == IndexSet.of(set_x & set_y)
    assert x.without(one) == IndexSet.of(set_x - {one})
    head, tail = x.take_first(n)
    assert list(head) == sorted(set_x)[:n]
    assert tail == IndexSet.of(sorted(set_x)[n:])


@given(RANGES.filter(bool))
def test_index_sets_read_back(ranges: list[tuple[int, int, int]]) -> None:
    indexes = IndexSet(ranges)
    assert parse_indexes(str(indexes)) == indexes


LITERAL = st.text("abcn-._", max_size=3)
NUMBER = st.integers(0, 120)
NAME = st.builds(
    lambda first, rest, digits: first + rest + digits,
    st.sampled_from("abz_1"),
    LITERAL,
    st.text("0123456789", max_size=15),
)


@given(st.lists(NAME, max_size=30))
def test_host_lists_read_back(names: list[str]) -> None:
    text = format_hostlist(names)
    back = parse_hostlist(text)
    assert set(back) == set(names)
    assert len(back) == len(set(names))
    assert format_hostlist(back) == text


@given(st.lists(st.tuples(NUMBER, NUMBER, st.integers(1, 5)), min_size=1, max_size=3), LITERAL, LITERAL)
def test_brackets_mean_what_they_say(ranges: list[tuple[int, int, int]], middle: str, end: str) -> None:
    texts, numbers = [], []
    for low, extra, width in ranges:
        first = f"{low:0{width}d}"
        texts.append(f"{first}-{low + extra}" if extra else first)
        pad = len(first) if first[0] == "0" and len(first) > 1 else 0
        numbers.extend(f"{n:0{pad}d}" for n in range(low, low + extra + 1))
    text = f"n[{','.join(texts)}]{middle}[1-2]{end}"
    expected = [f"n{number}{middle}{k}{end}" for number in numbers for k in (1, 2)]
    assert parse_hostlist(text) == expected
    assert count_hosts(text) == len(expected)


HOSTISH = st.text("an019[]-,: .\\\0é", max_size=30)


@given(HOSTISH)
def test_any_host_list_is_read_or_refused(text: str) -> None:
    try:
        names = parse_hostlist(text)
    except UsageError as refusal:
        error = refusal
    else:
        assert len(names) <= MAX_HOSTS
        assert count_hosts(text) == len(names)
        assert set(parse_hostlist(format_hostlist(names))) == set(names)
        return
    assert error.msg.isprintable()


@given(st.integers(0, 1 << 45))
def test_sizes_read_back(number: int) -> None:
    assert parse_bytes(format_bytes(number)) == number
    assert parse_mem_mib(format_mem_mib(number)) == number


@given(st.integers(1, 10**9))
def test_time_limits_read_back(seconds: int) -> None:
    assert parse_time_limit(format_time_limit(seconds)) == seconds


@pytest.mark.parametrize(
    ("parse", "alphabet"),
    [
        (parse_array_spec, "0123456789,-:%[] "),
        (parse_time_limit, "0123456789:- UNLIMTEDinf"),
        (parse_mem_mib, "0123456789kKmMgGtTB. -"),
        (parse_bytes, "0123456789kKmMgGtTB. -"),
        (lambda text: parse_when(text, 1.79e9), "0123456789:-/.T nowtday+ampmhour"),
    ],
)
@given(data=st.data())
def test_any_text_is_read_or_refused(parse: Callable[[str], object], alphabet: str, data: st.DataObject) -> None:
    text = data.draw(st.one_of(st.text(alphabet, max_size=25), st.text(max_size=25)))
    try:
        parse(text)
    except UsageError as refusal:
        message = refusal.msg
    else:
        return
    assert message.isprintable()
