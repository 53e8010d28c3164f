"""`helix.hostlist`: grammar, bounds, and the way back."""

from __future__ import annotations

import time

import pytest

from helix.errors import UsageError
from helix.hostlist import count_hosts, format_hostlist, is_host_name, parse_hostlist, sort_hosts, split_hostlist


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("n[1-3,07-10]", ["n1", "n2", "n3", "n07", "n08", "n09", "n10"]),
        ("m[0-1]-ib[0-1]", ["m0-ib0", "m0-ib1", "m1-ib0", "m1-ib1"]),
        ("a,b , c", ["a", "b", "c"]),
        ("a b", ["a", "b"]),
        ("b,a,b", ["b", "a", "b"]),
        ("n[001-3]", ["n001", "n002", "n003"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("n[5]", ["n5"]),
        ("n[1,3]x", ["n1x", "n3x"]),
        ("rack1.n[1-2].example", ["rack1.n1.example", "rack1.n2.example"]),
        ("n[000]", ["n000"]),
        ("n[0]", ["n0"]),
        ("[1-2]n", ["1n", "2n"]),
    ],
)
def test_expands(text: str, names: list[str]) -> None:
    assert parse_hostlist(text) == names
    assert count_hosts(text) == len(names)


@pytest.mark.parametrize(
    "text",
    ["n[1-3", "n1-3]", "n[[1]]", "n[]", "n[1-]", "n[-1]", "n[3-1]", "n[a]", "n[1,,2]", ",", "a,,b", "a,", "n[1-3]]",
     "]", "[", "n[1-010]", "n[1:3]", "../n", "a/b", ".n", "-n", "n\0", "n[1 2]", "né", "n[١]", "n" * 300,
     "n[" + "9" * 40 + "]", "a[1][1][1][1][1][1][1][1][1]", "n;rm", "$(x)"],
)  # fmt: skip
def test_refuses_what_is_not_a_host_list(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hostlist(text)
    assert caught.value.code == "HOSTLIST_INVALID"
    assert "\n" not in caught.value.msg
    assert len(caught.value.msg) < 300


@pytest.mark.parametrize(
    "text", ["n[1-999999999999]", "n[0-999][0-999][0-999]", "n[1-200001]", "n[1-100000],m[0-100000]"]
)
def test_expansion_is_bounded_before_anything_is_built(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hostlist(text)
    assert caught.value.code == "HOSTLIST_TOO_LARGE"
    assert count_hosts(text) > 200_000


def test_the_bound_is_the_callers() -> None:
    assert len(parse_hostlist("n[1-5]", limit=5)) == 5
    with pytest.raises(UsageError, match="more than 4"):
        parse_hostlist("n[1-5]", limit=4)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["n1"], "n1"),
        (["n1", "n2", "n3", "n07", "n08", "n09", "n10"], "n[1-3,07-10]"),
        (["n10", "n9", "n8"], "n[8-10]"),
        (["n08", "n09", "n10", "n100"], "n[08-10,100]"),
        (["n1", "n01", "n2", "n02"], "n[1-2,01-02]"),
        (["a", "b1", "a"], "a,b1"),
        (["m0-ib0", "m0-ib1", "m1-ib0"], "m0-ib[0-1],m1-ib0"),
        (["n1-ib", "n2-ib"], "n1-ib,n2-ib"),
        (["1", "2"], "1,2"),
        (["n", "n1", "n2"], "n,n[1-2]"),
        (["n0000", "n9999"], "n[0000,9999]"),
    ],
)
def test_folds_to_slurms_form(names: list[str], text: str) -> None:
    assert format_hostlist(names) == text
    assert set(parse_hostlist(text)) == set(names)


def test_items_keep_their_brackets() -> None:
    assert split_hostlist("a[1,2],b, c[3-4]d[5]") == ["a[1,2]", "b", "c[3-4]d[5]"]


def test_sorts_by_number() -> None:
    assert sort_hosts(["n10", "n2", "m1", "n02", "n"]) == ["m1", "n", "n02", "n2", "n10"]


def test_host_names_are_safe_in_paths() -> None:
    assert is_host_name("n1.example-2_x")
    assert not any(map(is_host_name, ["", ".", "..", "a/b", "a b", "-a", "a\n", "a" * 254]))


def test_ten_thousand_names_are_fast_both_ways() -> None:
    started = time.process_time()
    names = parse_hostlist("e[0000-9999]")
    assert format_hostlist(reversed(names)) == "e[0000-9999]"
    assert len(parse_hostlist(",".join(names))) == 10_000
    assert time.process_time() - started < 0.5
