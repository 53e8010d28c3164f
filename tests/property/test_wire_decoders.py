"""Every decoder of the wire, given anything at all, decodes or raises the error it promises, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helix.calls import decode_answer, encode_call, result_of
from helix.errors import Denied, HelixError, ProtocolError, UsageError
from helix.submission import parse_dependency, parse_signal_spec
from helix.wire.auth import NonceWindow, is_curve_key, sign_credential, verify_credential, verify_key_bytes
from helix.wire.codec import (
    Kind,
    decode_args,
    decode_batch,
    decode_request,
    encode_batches,
    encode_reply,
)
from helix.wire.frames import FrameReader, is_last_frame, pack_frame
from helix.wire.limits import TokenBucket
from helix.wire.messages import AckEnded, Credential, FromNode, Heartbeat, SignedBatch, StepEnded, ToNode
from helix.wire.methods import METHODS

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = verify_key_bytes(KEY)
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
tags = st.sampled_from([*sorted(cls.__name__ for cls in (*ToNode.__args__, *FromNode.__args__)), "Unheard"])
field_names = st.sampled_from(
    sorted({field for cls in (*ToNode.__args__, *FromNode.__args__) for field in cls.__struct_fields__})
)
msgpack_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def decode(data: bytes) -> None:
    for kind in Kind:
        try:
            assert isinstance(decode_batch(data, kind), list)
        except ProtocolError:
            continue


@FUZZ
@given(st.binary(max_size=400))
@example(b"\x01\xdd\xff\xff\xff\xff")
@example(b"\x01\x91" + b"\x91" * 5000)
@example(b"\x01\x91\xc7\xff\x01")
def test_batches_of_bytes(data: bytes) -> None:
    decode(data)
    decode(b"\x01" + data)
    decode(b"\x01\x91" + data)


@FUZZ
@given(st.lists(st.dictionaries(st.text(max_size=6) | field_names, msgpack_values, max_size=6), max_size=4), tags)
def test_batches_of_almost_messages(almost: list[dict[str, Any]], tag: str) -> None:
    decode(b"\x01" + msgspec.msgpack.encode([{"type": tag, **message} for message in almost]))


@FUZZ
@given(st.data())
def test_batches_with_a_changed_byte(data: st.DataObject) -> None:
    (good,) = encode_batches(
        [Heartbeat(t_sent=1.5, unwell={"n": "x"}), StepEnded(job_id=1, attempt=2, node="n1"), Heartbeat(t_sent=2.0)]
    )
    changed = bytearray(good)
    changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    decode(bytes(changed[: data.draw(st.integers(0, len(good)))]))
    decode(bytes(changed))


@FUZZ
@given(st.lists(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 99)), max_size=9), max_size=40))
def test_batches_lose_nothing_whatever_the_limits(ended: list[list[tuple[int, int]]]) -> None:
    messages = [AckEnded(pairs) for pairs in ended]
    batches = encode_batches(messages, bytes_max=300)
    assert all(len(data) <= 300 for data in batches)
    assert [m for data in batches for m in decode_batch(data, Kind.TO_NODE)] == messages


@FUZZ
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=20), st.data())
def test_frames_survive_any_cutting(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pack_frame(payload) for payload in payloads)
    reader = FrameReader(60)
    got: list[bytes] = []
    at = 0
    while at < len(stream):
        step = data.draw(st.integers(1, 80))
        got += reader.feed(stream[at : at + step])
        at += step
    assert got == payloads
    assert reader.pending == 0


@FUZZ
@given(st.lists(st.binary(max_size=40), max_size=10))
def test_streams_of_anything_are_bounded(pieces: list[bytes]) -> None:
    reader = FrameReader(50)
    try:
        for piece in pieces:
            assert all(0 < len(frame) <= 50 for frame in reader.feed(piece))
            reader.feed(b"")
            assert reader.pending < 54
    except ProtocolError:
        return


@FUZZ
@given(st.binary(max_size=200) | json_values.map(msgspec.json.encode))
@example(b'{"v":1,"i":99999999999999999999,"m":"ping"}')
@example(b'{"v":1,"i":1,"m":"ping","a":"\\ud800"}')
def test_requests_of_anything(frame: bytes) -> None:
    try:
        request = decode_request(frame)
    except ProtocolError:
        return
    assert request.v == 1
    assert request.m


@FUZZ
@given(
    st.dictionaries(st.sampled_from(["v", "i", "m", "a", "x"]), json_values, max_size=5),
    st.sampled_from(sorted(METHODS)),
)
def test_requests_that_are_nearly_right(fields: dict[str, Any], method: str) -> None:
    try:
        request = decode_request(msgspec.json.encode({"v": 1, "i": 1, "m": method, **fields}))
        decode_args(request.a, METHODS[method].args, method)
    except (ProtocolError, UsageError):
        return


@FUZZ
@given(st.sampled_from(sorted(METHODS)), json_values)
def test_arguments_of_anything(method: str, value: Any) -> None:
    raw = msgspec.Raw(msgspec.json.encode(value))
    try:
        decode_args(raw, METHODS[method].args, method)
    except UsageError:
        return


@FUZZ
@given(st.sampled_from(sorted(METHODS)), st.data())
def test_arguments_with_values_of_wrong_kinds(method: str, data: st.DataObject) -> None:
    kind = METHODS[method].args
    if not kind.__struct_fields__:
        return
    names = st.sampled_from(kind.__struct_fields__)
    value = data.draw(st.dictionaries(names, json_values, max_size=4))
    try:
        decode_args(msgspec.Raw(msgspec.json.encode(value)), kind, method)
    except UsageError:
        return


@FUZZ
@given(st.integers(1, 2**53), st.sampled_from(sorted(METHODS)))
def test_requests_come_back(i: int, method: str) -> None:
    request = decode_request(encode_call(i, method, {})[4:])
    assert (request.i, request.m) == (i, method)


@FUZZ
@given(st.binary(max_size=100) | json_values.map(msgspec.json.encode))
def test_answers_of_anything(frame: bytes) -> None:
    try:
        assert isinstance(result_of(decode_answer(frame)), dict)
    except HelixError:
        return


@FUZZ
@given(json_values, st.booleans())
def test_answers_say_correctly_whether_more_follow(value: Any, more: bool) -> None:
    frame = encode_reply(1, value, more=more)
    assert is_last_frame(frame) is not more
    assert decode_answer(frame)["more"] is more


@FUZZ
@given(st.binary(max_size=120), st.binary(max_size=80))
def test_credentials_of_anything(data: bytes, signature: bytes) -> None:
    for batch in (SignedBatch(data, signature), SignedBatch(data, KEY.sign(b"helix credential 1\0" + data))):
        try:
            verify(batch)
        except (Denied, ProtocolError):
            continue
        raise AssertionError("a credential made of noise was accepted")


@FUZZ
@given(st.data())
def test_credentials_with_a_changed_byte(data: st.DataObject) -> None:
    good = sign_credential(
        Credential(audience="n1", cluster="c", epoch=1, nonce=1, t_issued=0.0, t_expires=100.0, launches=[]), KEY
    )
    assert verify(good).nonce == 1
    body = bytearray(good.credential)
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Denied) as caught:
        verify(SignedBatch(bytes(body), good.signature))
    assert caught.value.code == "CREDENTIAL_SIGNATURE"


def verify(batch: SignedBatch) -> Credential:
    return verify_credential(batch, PUBLIC, audience="n1", cluster="c", epoch_min=0, nonce_seen=NonceWindow(), now=50.0)


@FUZZ
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 60)), max_size=80), st.integers(1, 16))
def test_nonces_are_good_once_at_most(pairs: list[tuple[int, int]], size: int) -> None:
    window = NonceWindow(size)
    accepted: set[tuple[int, int]] = set()
    for epoch, nonce in pairs:
        fresh = window.is_fresh(epoch, nonce)
        marked = window.mark(epoch, nonce)
        assert fresh == marked
        highest = max((n for e, n in accepted if e == epoch), default=-1)
        current = max((e for e, _ in accepted), default=0)
        expected = epoch > current or (
            epoch == current and (epoch, nonce) not in accepted and (nonce > highest - size or highest < 0)
        )
        assert marked == expected
        if marked:
            accepted.add((epoch, nonce))


@FUZZ
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 5)), max_size=60))
def test_token_bucket_never_gives_more_than_it_may(takes: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(burst=5, rate=2)
    now = granted = 0.0
    for pause, n in takes:
        now += pause
        wait = bucket.take(now, n)
        assert wait >= 0
        if wait == 0:
            granted += n
        assert granted <= 5 + 2 * now + 1e-6


@FUZZ
@given(st.text(max_size=60))
def test_texts_of_options(text: str) -> None:
    is_curve_key(text)
    for parser in (parse_dependency, parse_signal_spec):
        try:
            assert isinstance(parser(text), dict)
        except UsageError:
            continue
