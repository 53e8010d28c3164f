"""`helix.sizes`: suffixes, rounding, the way back."""

from __future__ import annotations

import pytest

from helix.errors import UsageError
from helix.sizes import format_bytes, format_mem_mib, format_mem_short, parse_bytes, parse_mem_mib


@pytest.mark.parametrize(
    ("text", "mib"),
    [("100", 100), ("4G", 4096), ("4g", 4096), ("4GB", 4096), ("4GiB", 4096), ("1T", 1 << 20), ("1K", 1), ("1025K", 2),
     ("2048K", 2), ("0", 0), (" 7M ", 7), ("1P", 1 << 30), ("1B", 1)],
)  # fmt: skip
def test_memory_is_read_in_mib_and_rounded_up(text: str, mib: int) -> None:
    assert parse_mem_mib(text) == mib


@pytest.mark.parametrize(
    "text", ["", "G", "4X", "-1", "1.5G", "4 G B", "1e3", "٤", "9" * 30, "999999999999999P", "4G4"]
)
def test_refuses_what_is_not_a_size(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mem_mib(text)
    assert caught.value.code == "SIZE_INVALID"


def test_bytes_have_no_default_unit() -> None:
    assert (parse_bytes("4194304"), parse_bytes("4M"), parse_bytes("4MB")) == (4 << 20, 4 << 20, 4 << 20)


@pytest.mark.parametrize(
    ("mib", "exact", "short"),
    [(0, "0", "0"), (4096, "4G", "4G"), (4000, "4000M", "3.91G"), (1, "1M", "1M"), (1 << 20, "1T", "1T"),
     (1500, "1500M", "1.46G")],
)  # fmt: skip
def test_prints_exactly_or_short(mib: int, exact: str, short: str) -> None:
    assert format_mem_mib(mib) == exact
    assert format_mem_short(mib) == short
    assert parse_mem_mib(exact) == mib


def test_bytes_print_shortest() -> None:
    assert [format_bytes(n) for n in (0, 1000, 1024, 4 << 20, (4 << 20) + 1)] == ["0", "1000", "1K", "4M", "4194305"]
