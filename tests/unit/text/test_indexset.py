"""`helix.indexset`: grammar of --array, canonical form, cost, wire form."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import time

import msgspec
import pytest

from helix.errors import LimitExceeded, UsageError
from helix.indexset import EMPTY, MAX_INDEX, MAX_RANGES, IndexSet, parse_array_spec, parse_indexes
from helix.model.codec import msgpack_decoder, to_msgpack


@pytest.mark.parametrize(
    ("text", "shown", "limit", "count"),
    [
        ("1-10:2,15,20-30%4", "1-9:2,15,20-30", 4, 17),
        ("0", "0", None, 1),
        ("0-1000000", "0-1000000", None, 1_000_001),
        ("3,2,1", "1-3", None, 3),
        ("1-5,3-8", "1-8", None, 8),
        ("1-9:2,2-10:2", "1-10", None, 10),
        ("1,3,4,5", "1,3-5", None, 4),
        ("1,3,5", "1-5:2", None, 3),
        ("1,4", "1,4", None, 2),
        (" 1 , 2 % 3 ", "1-2", 3, 2),
        ("1-3%0", "1-3", None, 3),
        ("[4-6]", "4-6", None, 3),
        ("007", "7", None, 1),
    ],
)
def test_reads_what_sbatch_takes_and_prints_it_canonically(
    text: str, shown: str, limit: int | None, count: int
) -> None:
    indexes, at_once = parse_array_spec(text)
    assert (str(indexes), at_once, len(indexes)) == (shown, limit, count)


@pytest.mark.parametrize(
    "text",
    ["", ",", "1,", "a", "-1", "1-", "5-1", "1-5:0", "1-5:-1", "1:2", "1%", "1%a", "1%-1", "1%2%3", "1_0", "١", "1-2-3",
     "1.5", f"{MAX_INDEX + 1}", "9" * 50, "[1", "1]", "+1", "0x1", "1 2", "%4"],
)  # fmt: skip
def test_refuses_what_is_not_an_array(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_array_spec(text)
    assert caught.value.code == "ARRAY_INVALID"
    assert "\n" not in caught.value.msg


def test_refuses_a_list_that_falls_apart_into_too_many_ranges() -> None:
    with pytest.raises(UsageError, match="falls apart"):
        parse_array_spec("1-1000000:2,1-1000000:3")
    with pytest.raises(LimitExceeded):
        IndexSet.span(1, 1_000_000).difference(IndexSet.span(1, 1_000_000, 3))


def test_taking_the_first_splits_and_the_parts_make_the_whole() -> None:
    whole = parse_indexes("1-9:2,15,20-30")
    head, tail = whole.take_first(6)
    assert (str(head), str(tail)) == ("1-9:2,15", "20-30")
    assert whole.take_first(3)[1] == whole.remove_first(3)
    assert head | tail == whole
    assert whole.take_first(0) == (EMPTY, whole)
    assert whole.take_first(99) == (whole, EMPTY)
    assert (whole.first, whole.last) == (1, 30)


def test_without_one_index() -> None:
    assert str(parse_indexes("1-5").without(3)) == "1-2,4-5"
    assert str(parse_indexes("1-5").without(9)) == "1-5"
    assert not IndexSet.of([4]).without(4)


def test_empty_set_has_no_first_and_prints_as_nothing() -> None:
    assert (len(EMPTY), str(EMPTY), bool(EMPTY), list(EMPTY)) == (0, "", False, [])
    with pytest.raises(ValueError, match="no first"):
        _ = EMPTY.first


def test_format_is_cut_after_a_whole_range() -> None:
    indexes = parse_indexes("1,3,6,10,15,21")
    assert indexes.format(8) == "1,3,6,10,..."
    assert indexes.format(1000) == "1,3,6,10,15,21"


def test_is_immutable_hashable_and_copies() -> None:
    indexes = parse_indexes("1-3")
    with pytest.raises(AttributeError):
        indexes.ranges = ()
    assert {indexes: 1}[IndexSet.of([3, 2, 1])] == 1
    assert copy.deepcopy(indexes) == pickle.loads(pickle.dumps(indexes)) == indexes
    assert indexes != "1-3"


class Holder(msgspec.Struct, omit_defaults=True):
    """As job records hold index sets."""

    indexes: IndexSet | None = None


@pytest.mark.parametrize("indexes", [None, EMPTY, parse_indexes("1-9:2,15")])
def test_is_written_into_records_as_its_text(indexes: IndexSet | None) -> None:
    holder = Holder(indexes)
    assert msgpack_decoder(Holder).decode(to_msgpack(holder)) == holder


def test_any_set_can_be_taken_apart_one_by_one_and_reads_back() -> None:
    every_third = IndexSet((i, i, 1) for i in range(0, 500_000, 4)).union(IndexSet.of([1, 6]))
    odd = IndexSet((i, i + (i % 8 == 0), 1) for i in range(0, 900_000, 4))
    assert len(odd.ranges) > MAX_RANGES
    fewer = odd.without(odd.ranges[70_000][0])
    assert len(fewer) == len(odd) - 1
    assert fewer.union(odd) == odd
    assert parse_indexes(str(fewer)) == fewer
    assert len(every_third) == 125_002


def test_a_million_indexes_cost_what_their_ranges_do() -> None:
    started = time.process_time()
    pending = IndexSet.span(0, 1_000_000)
    for _ in range(2000):
        _, pending = pending.take_first(3)
    assert len(pending) == 1_000_001 - 6000
    assert 500_000 in pending
    assert pending.union(IndexSet.of([0, 1])).ranges == ((0, 1, 1), (6000, 1_000_000, 1))
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("module", ["helix.indexset", "helix.hostlist", "helix.timefmt", "helix.sizes"])
def test_commands_can_import_it_cheaply(module: str) -> None:
    code = (
        f"import sys, argparse, json, socket, typing; b=set(sys.modules); import {module}; print(*set(sys.modules)-b)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.partition(".")[0] for name in loaded} <= {"helix", "bisect", "_bisect"}
