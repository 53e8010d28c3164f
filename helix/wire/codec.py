"""Bytes and messages: batches between daemons, requests and replies on agent sockets.

A batch is one version byte and a msgpack list of tagged structs (`helix.wire.messages`).  A request and a reply are
JSON objects (the frame around them is `helix.wire.frames`).  Decoders raise ProtocolError and nothing else; sizes and
counts are checked before anything is allocated for them, nesting is bounded by the structs' types (and by msgspec's
recursion check for what is skipped).  An unknown tag is left out and counted, an unknown field is ignored: so a peer
one minor version older or newer is understood.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec
from msgspec import Raw, Struct

from helix.errors import HelixError, InternalError, LimitExceeded, ProtocolError, UsageError
from helix.model.codec import dec_hook, enc_hook, msgpack_decoder, to_json
from helix.wire.frames import CLIENT_FRAME_MAX, SERVER_FRAME_MAX, check_version
from helix.wire.messages import (
    BATCH_BYTES_MAX,
    BATCH_MESSAGES_MAX,
    PROTOCOL_OLDEST,
    PROTOCOL_VERSION,
    FromNode,
    ToNode,
)

BATCH_BYTES_WANTED = 1 << 20  #: a batch is closed when it has this many bytes, so that one link cannot hog a socket
METHOD_CHARS_MAX = 64


class Kind(Enum):
    """Which way a batch goes."""

    TO_NODE = "to node"
    FROM_NODE = "from node"


#: What was left out while decoding, for `ctl.diag`.
counters: dict[str, int] = {"wire.unknown_tags": 0}

_VERSION = bytes([PROTOCOL_VERSION])
_encoder = msgspec.msgpack.Encoder(enc_hook=enc_hook)
_lists: dict[Kind, msgspec.msgpack.Decoder[list[Any]]] = {
    Kind.TO_NODE: msgpack_decoder(list[ToNode]),
    Kind.FROM_NODE: msgpack_decoder(list[FromNode]),
}
_singles: dict[Kind, msgspec.msgpack.Decoder[Any]] = {
    Kind.TO_NODE: msgspec.msgpack.Decoder(ToNode),
    Kind.FROM_NODE: msgspec.msgpack.Decoder(FromNode),
}
_raws = msgspec.msgpack.Decoder(list[Raw])


class _Tag(Struct):
    """Only the tag of a message."""

    type: str


_tags = msgspec.msgpack.Decoder(_Tag)
_known: dict[Kind, frozenset[str]] = {
    Kind.TO_NODE: frozenset(cls.__name__ for cls in ToNode.__args__),
    Kind.FROM_NODE: frozenset(cls.__name__ for cls in FromNode.__args__),
}


def encode_batches(messages: list[Any], *, bytes_max: int = BATCH_BYTES_MAX) -> list[bytes]:
    """`messages`, in order, as as few batches as the limits allow.

    Raises LimitExceeded (MESSAGE_TOO_LARGE) if one message alone is larger than `bytes_max`; nothing is encoded then.
    """
    if len(messages) <= BATCH_MESSAGES_MAX:
        data = _encoder.encode(messages)
        if len(data) < min(BATCH_BYTES_WANTED, bytes_max):
            return [_VERSION + data]
    batches: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for message in messages:
        part = _encoder.encode(message)
        if len(part) + 6 > bytes_max:
            raise LimitExceeded(
                f"a {type(message).__name__} of {len(part)} bytes is larger than {bytes_max}", code="MESSAGE_TOO_LARGE"
            )
        if parts and (len(parts) == BATCH_MESSAGES_MAX or size + len(part) + 6 > min(BATCH_BYTES_WANTED, bytes_max)):
            batches.append(_join(parts))
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        batches.append(_join(parts))
    return batches


def _join(parts: list[bytes]) -> bytes:
    count = len(parts)
    head = bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    return b"".join([_VERSION, head, *parts])


def decode_batch(data: bytes | memoryview, kind: Kind, *, bytes_max: int = BATCH_BYTES_MAX) -> list[Any]:
    """The messages of a batch.  Raises ProtocolError: BATCH_TOO_LARGE, BATCH_MALFORMED, VERSION."""
    size = len(data)
    if size > bytes_max:
        raise ProtocolError(f"a batch of {size} bytes; at most {bytes_max} are accepted", code="BATCH_TOO_LARGE")
    if size < 2:
        raise ProtocolError(f"a batch of {size} bytes", code="BATCH_MALFORMED")
    check_version(data[0], oldest=PROTOCOL_OLDEST, newest=PROTOCOL_VERSION)
    body = memoryview(data)[1:]
    count = _count(body)
    if count > BATCH_MESSAGES_MAX:
        raise ProtocolError(
            f"a batch of {count} messages; at most {BATCH_MESSAGES_MAX} are accepted", code="BATCH_TOO_LARGE"
        )
    try:
        return _lists[kind].decode(body)
    except msgspec.ValidationError:
        return _decode_known(body, kind)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as exc:
        raise ProtocolError(f"a batch that cannot be decoded: {exc}", code="BATCH_MALFORMED") from exc


def _count(body: memoryview) -> int:
    """How many messages a batch announces."""
    head = body[0]
    if head & 0xF0 == 0x90:
        return head & 0x0F
    if head == 0xDC and len(body) >= 3:
        return int.from_bytes(body[1:3], "big")
    if head == 0xDD and len(body) >= 5:
        return int.from_bytes(body[1:5], "big")
    raise ProtocolError("a batch that is not a list", code="BATCH_MALFORMED")


def _decode_known(body: memoryview, kind: Kind) -> list[Any]:
    """One by one, leaving out messages with a tag this version does not know."""
    messages: list[Any] = []
    try:
        for raw in _raws.decode(body):
            try:
                messages.append(_singles[kind].decode(raw))
            except msgspec.ValidationError:
                if _tags.decode(raw).type in _known[kind]:
                    raise
                counters["wire.unknown_tags"] += 1
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as exc:
        raise ProtocolError(f"a batch that cannot be decoded: {exc}", code="BATCH_MALFORMED") from exc
    return messages


# ---- requests and replies -----------------------------------------------------------------------------------------


class Request(Struct, omit_defaults=True):
    """A request as it stands in its frame; `a` is decoded by the method's own argument struct."""

    v: int = 0
    i: int = 0
    m: str = ""
    a: Raw = Raw(b"{}")


_requests = msgspec.json.Decoder(Request)


def decode_request(frame: bytes) -> Request:
    """Read a request; its arguments stay undecoded (`Request.a`, raw JSON).

    Raises ProtocolError: REQUEST_MALFORMED, VERSION.  The error's data['i'] is the request's number if it had one.
    """
    try:
        request = _requests.decode(frame)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as exc:
        raise ProtocolError(
            f"a request that cannot be decoded: {exc}", code="REQUEST_MALFORMED", hint='send {"v":1,"i":1,"m":...}'
        ) from exc
    try:
        check_version(request.v or None)
    except ProtocolError as exc:
        exc.data["i"] = request.i
        raise
    if not request.m or len(request.m) > METHOD_CHARS_MAX:
        raise ProtocolError("a request without a method's name", code="REQUEST_MALFORMED", data={"i": request.i})
    return request


def decode_args(raw: Raw, kind: type[Any], method: str) -> Any:
    """The arguments of `method` as a `kind` (strict: unknown names are refused).  Raises UsageError (BAD_ARGUMENT)."""
    decoder = _arg_decoders.get(kind)
    if decoder is None:
        decoder = _arg_decoders[kind] = msgspec.json.Decoder(kind, dec_hook=dec_hook)
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError) as exc:
        raise UsageError(f"{method}: {exc}", code="BAD_ARGUMENT") from exc


_arg_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def encode_reply(i: int, result: Any, *, more: bool = False) -> bytes:
    """A reply's payload; "more" is its last key, see `frames.is_last_frame`.

    A result too large for one frame becomes the error LIMIT_EXCEEDED (REPLY_TOO_LARGE).
    """
    body = b'{"i":%d,"ok":true,"r":%b,"more":%b}' % (i, to_json(result), b"true" if more else b"false")
    if len(body) > SERVER_FRAME_MAX:
        return encode_error(
            i,
            LimitExceeded(f"the answer has {len(body)} bytes", code="REPLY_TOO_LARGE", hint="ask for less at once"),
        )
    return body


def encode_error(i: int, error: BaseException) -> bytes:
    """A refusal's payload.  Anything but a HelixError is shown as InternalError, without its text."""
    known = error if isinstance(error, HelixError) else InternalError(f"internal error ({type(error).__name__})")
    return b'{"i":%d,"ok":false,"e":%b,"more":false}' % (i, to_json(known.to_wire()))


__all__ = [
    "BATCH_BYTES_WANTED",
    "CLIENT_FRAME_MAX",
    "Kind",
    "Request",
    "counters",
    "decode_args",
    "decode_batch",
    "decode_request",
    "encode_batches",
    "encode_error",
    "encode_reply",
]
