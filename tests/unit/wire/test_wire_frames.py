"""Framing at its boundaries."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from helix.errors import LimitExceeded, ProtocolError
from helix.wire.codec import encode_error, encode_reply
from helix.wire.frames import (
    API_VERSION,
    FrameReader,
    check_version,
    is_last_frame,
    pack_frame,
    reachable_path,
)


def test_frames_come_out_as_they_went_in_whatever_the_pieces() -> None:
    payloads = [b"a", b"b" * 300, b"c" * 70000]
    stream = b"".join(pack_frame(p) for p in payloads)
    for step in (1, 3, 4, 5, 1000, len(stream)):
        reader = FrameReader()
        got: list[bytes] = []
        for at in range(0, len(stream), step):
            got += reader.feed(stream[at : at + step])
        assert got == payloads
        assert reader.pending == 0


def test_frame_of_exactly_the_limit_is_accepted_and_one_more_byte_is_not() -> None:
    assert FrameReader(10).feed(pack_frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(ProtocolError) as caught:
        FrameReader(10).feed(b"\x0b\0\0\0")
    assert caught.value.code == "FRAME_TOO_LARGE"
    assert "11" in caught.value.msg


def test_oversized_frame_is_refused_at_its_header_and_nothing_is_kept_for_it() -> None:
    reader = FrameReader(100)
    assert reader.feed(b"\xff\xff\xff") == []
    with pytest.raises(ProtocolError):
        reader.feed(b"\xff")


def test_oversized_frame_is_refused_however_its_header_is_cut() -> None:
    reader = FrameReader(10)
    assert reader.feed(pack_frame(b"x" * 5)[:7]) == []
    assert reader.feed(pack_frame(b"x" * 5)[7:] + b"\x0b\0") == [b"xxxxx"]
    with pytest.raises(ProtocolError):
        reader.feed(b"\0\0")


def test_good_frames_before_a_bad_header_are_delivered_first() -> None:
    reader = FrameReader(10)
    assert reader.feed(pack_frame(b"ok") + b"\0\0\0\0junk") == [b"ok"]
    with pytest.raises(ProtocolError) as caught:
        reader.feed(b"")
    assert caught.value.code == "FRAME_EMPTY"


def test_sender_refuses_what_no_reader_would_take() -> None:
    with pytest.raises(LimitExceeded):
        pack_frame(b"x" * 11, 10)
    with pytest.raises(ProtocolError):
        pack_frame(b"")


@pytest.mark.parametrize("version", [API_VERSION])
def test_present_version_is_accepted(version: int) -> None:
    check_version(version)


def test_newer_version_is_refused_naming_both() -> None:
    with pytest.raises(ProtocolError, match=r"version 99.*1 to 1") as caught:
        check_version(99)
    assert caught.value.code == "VERSION"


def test_older_version_is_refused_naming_both() -> None:
    with pytest.raises(ProtocolError, match=r"version 2.*at least 3"):
        check_version(2, oldest=3, newest=4)


@pytest.mark.parametrize("version", [None, "1", 1.0, True, []])
def test_missing_version_is_refused(version: object) -> None:
    with pytest.raises(ProtocolError):
        check_version(version)


def test_only_frames_that_say_more_are_not_the_last() -> None:
    assert is_last_frame(encode_reply(1, {"a": 1}))
    assert not is_last_frame(encode_reply(1, {"a": 1}, more=True))
    assert is_last_frame(encode_error(1, ProtocolError("x")))
    assert is_last_frame(encode_reply(1, {"a": '"more":true}'}))


def test_a_path_too_long_for_the_kernel_is_reached_through_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    path = str(folder / "agent.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with reachable_path(path) as name:
            server.bind(name)
        server.listen()
        with reachable_path(path) as name:
            assert len(name) < 108
            client.connect(name)
    before = len(os.listdir("/proc/self/fd"))
    with reachable_path(path):
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_name_too_long_by_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LimitExceeded), reachable_path(str(tmp_path / ("n" * 200))):
        raise AssertionError("unreachable")
