"""Batches, requests and replies: what is understood, and what is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from helix.errors import InternalError, LimitExceeded, NotFound, ProtocolError, UsageError
from helix.wire import codec
from helix.wire.codec import Kind, decode_args, decode_batch, decode_request, encode_batches, encode_error, encode_reply
from helix.wire.messages import BATCH_MESSAGES_MAX, AckEnded, BlobData, Heartbeat, StepEnded
from helix.wire.methods import JobIdsArgs


def batch(messages: Any, version: int = 1) -> bytes:
    return bytes([version]) + msgspec.msgpack.encode(messages)


def test_batch_comes_back_in_order() -> None:
    messages = [StepEnded(job_id=k, attempt=0, node="n1", t_end=float(k)) for k in range(100)]
    (data,) = encode_batches(messages)
    assert decode_batch(data, Kind.FROM_NODE) == messages


def test_batches_are_split_by_count_and_lose_nothing() -> None:
    messages = [AckEnded([(k, 0)]) for k in range(2 * BATCH_MESSAGES_MAX + 1)]
    batches = encode_batches(messages)
    assert len(batches) == 3
    assert [m for data in batches for m in decode_batch(data, Kind.TO_NODE)] == messages


def test_batches_are_split_by_bytes() -> None:
    messages = [BlobData("h", bytes(300_000)) for _ in range(10)]
    batches = encode_batches(messages)
    assert len(batches) > 2
    assert all(len(data) <= codec.BATCH_BYTES_WANTED for data in batches)
    assert [m for data in batches for m in decode_batch(data, Kind.TO_NODE)] == messages


def test_message_above_the_wanted_size_travels_alone() -> None:
    big = BlobData("h", bytes(3 << 20))
    batches = encode_batches([AckEnded([]), big, AckEnded([])])
    assert [len(decode_batch(data, Kind.TO_NODE)) for data in batches] == [1, 1, 1]


def test_message_larger_than_any_batch_is_refused() -> None:
    with pytest.raises(LimitExceeded) as caught:
        encode_batches([AckEnded([]), BlobData("h", bytes(2000))], bytes_max=1000)
    assert caught.value.code == "MESSAGE_TOO_LARGE"


def test_unknown_tag_is_left_out_and_counted() -> None:
    before = codec.counters["wire.unknown_tags"]
    known = {"type": "Heartbeat", "t_sent": 1.0}
    got = decode_batch(batch([known, {"type": "FromTheFuture", "x": [1]}, known]), Kind.FROM_NODE)
    assert got == [Heartbeat(t_sent=1.0)] * 2
    assert codec.counters["wire.unknown_tags"] == before + 1


def test_unknown_field_is_ignored() -> None:
    assert decode_batch(batch([{"type": "Heartbeat", "t_sent": 1.0, "new": {"a": 1}}]), Kind.FROM_NODE) == [
        Heartbeat(t_sent=1.0)
    ]


def test_message_of_the_other_direction_is_not_taken() -> None:
    assert decode_batch(batch([AckEnded([(1, 1)])]), Kind.FROM_NODE) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x01\x80",
        b"\x01\xc0",
        b"\x01\x91",
        b"\x01\x91\x01",
        b"\x01\x91\x80",
        b"\x01\xdd\x00\x00",
        batch([{"type": 7}]),
        batch([Heartbeat(t_sent=1.0)]) + b"tail",
        batch([Heartbeat(t_sent=1.0)])[:-1],
    ],
)
def test_malformed_batch_is_a_protocol_error(data: bytes) -> None:
    for kind in Kind:
        with pytest.raises(ProtocolError):
            decode_batch(data, kind)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"type": "Heartbeat", "t_sent": "soon"}, Kind.FROM_NODE),
        ({"type": "Heartbeat"}, Kind.FROM_NODE),
        ({"type": "AckEnded", "ended": [[1, 2, 3]]}, Kind.TO_NODE),
        ({"type": "AckEnded", "ended": None}, Kind.TO_NODE),
    ],
)
def test_known_message_with_bad_fields_is_a_protocol_error(message: dict[str, Any], kind: Kind) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_batch(batch([message]), kind)
    assert caught.value.code == "BATCH_MALFORMED"


def test_newer_batch_version_is_refused_naming_both() -> None:
    with pytest.raises(ProtocolError, match="version 9") as caught:
        decode_batch(batch([], version=9), Kind.TO_NODE)
    assert caught.value.code == "VERSION"


def test_batch_with_too_many_messages_is_refused_by_its_header() -> None:
    count = BATCH_MESSAGES_MAX + 1
    for head in (b"\xdc" + count.to_bytes(2, "big"), b"\xdd\xff\xff\xff\xff"):
        with pytest.raises(ProtocolError, match="messages") as caught:
            decode_batch(b"\x01" + head, Kind.TO_NODE)
        assert caught.value.code == "BATCH_TOO_LARGE"


def test_batch_with_too_many_bytes_is_refused_unread() -> None:
    with pytest.raises(ProtocolError):
        decode_batch(bytes(1001), Kind.TO_NODE, bytes_max=1000)


@pytest.mark.parametrize("head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_announced_sizes_allocate_nothing(head: bytes) -> None:
    start = time.monotonic()
    body = b"\x01\x91\x82\xa4type\xa8AckEnded\xa5ended" + head
    with pytest.raises(ProtocolError):
        decode_batch(body, Kind.TO_NODE)
    assert time.monotonic() - start < 1.0


def test_nesting_is_bounded() -> None:
    deep = b"\x01\x91\x82\xa4type\xa8AckEnded\xa1x" + b"\x91" * 200_000 + b"\xc0"
    with pytest.raises(ProtocolError):
        decode_batch(deep, Kind.TO_NODE)


def test_request_keeps_its_arguments_undecoded() -> None:
    request = decode_request(b'{"v":1,"i":7,"m":"job.show","a":{"ids":["12"]}}')
    assert (request.i, request.m) == (7, "job.show")
    assert decode_args(request.a, JobIdsArgs, request.m) == JobIdsArgs(ids=["12"])


def test_request_without_arguments_has_empty_ones() -> None:
    assert bytes(decode_request(b'{"v":1,"i":1,"m":"ping"}').a) == b"{}"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"v":1,"i":"x","m":"ping"}',
        b'{"v":1,"i":1,"m":""}',
        b'{"v":1,"i":1,"m":"' + b"m" * 65 + b'"}',
        b'{"v":1,"i":1e999,"m":"ping"}',
        b'{"v":1,"i":' + b"9" * 5000 + b',"m":"ping"}',
        b'{"v":1,"i":1,"m":"ping","a":' + b"[" * 100_000,
        b'{"i":1,"m":"ping"}',
        b'{"v":2,"i":1,"m":"ping"}',
    ],
)
def test_malformed_request_is_a_protocol_error(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_request(frame)


def test_request_of_another_version_is_answered_under_its_number() -> None:
    with pytest.raises(ProtocolError, match="version 3") as caught:
        decode_request(b'{"v":3,"i":9,"m":"ping"}')
    assert caught.value.data["i"] == 9


@pytest.mark.parametrize("raw", [b"{}", b'{"ids":1}', b'{"ids":[],"x":1}', b"[]", b"{", b'{"ids":["\\ud800"]}'])
def test_bad_arguments_are_a_usage_error_naming_the_method(raw: bytes) -> None:
    with pytest.raises(UsageError, match=r"job\.show") as caught:
        decode_args(msgspec.Raw(raw), JobIdsArgs, "job.show")
    assert caught.value.code == "BAD_ARGUMENT"


def test_reply_and_refusal_are_what_the_clients_read() -> None:
    assert json.loads(encode_reply(3, {"a": [1]})) == {"i": 3, "ok": True, "r": {"a": [1]}, "more": False}
    assert json.loads(encode_reply(3, {}, more=True))["more"] is True
    refusal = json.loads(encode_error(4, NotFound("no job 9", code="JOB_UNKNOWN", hint="look again")))
    assert refusal["ok"] is False
    assert refusal["e"] == {"code": "JOB_UNKNOWN", "kind": "NotFound", "msg": "no job 9", "hint": "look again"}


def test_fault_is_shown_without_its_text() -> None:
    refusal = json.loads(encode_error(4, KeyError("secret")))
    assert refusal["e"]["kind"] == InternalError.kind
    assert "secret" not in json.dumps(refusal)


def test_reply_too_large_for_a_frame_becomes_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "SERVER_FRAME_MAX", 100)
    assert json.loads(encode_reply(1, {"x": "y" * 200}))["e"]["code"] == "REPLY_TOO_LARGE"
