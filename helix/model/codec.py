"""Bytes and records: the one place that knows how the model's own types are written.

An `IndexSet` is written as Slurm's text (`1-10:2,15`).  Everything else is plain msgspec.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from helix.errors import HelixError, UsageError
from helix.indexset import IndexSet, parse_indexes

T = TypeVar("T")


def enc_hook(value: object) -> str:
    """Write an `IndexSet` as text."""
    if isinstance(value, IndexSet):
        return str(value)
    raise TypeError(f"no wire form for {type(value).__name__}")


def dec_hook(kind: type[Any], value: object) -> object:
    """Read an `IndexSet` from text."""
    if kind is IndexSet and isinstance(value, str):
        try:
            return parse_indexes(value) if value else IndexSet()
        except HelixError as exc:
            raise ValueError(exc.msg) from exc
    raise TypeError(f"cannot read a {kind.__name__}")


_msgpack_encoder = msgspec.msgpack.Encoder(enc_hook=enc_hook)
_json_encoder = msgspec.json.Encoder(enc_hook=enc_hook)


def to_msgpack(value: object) -> bytes:
    """`value` as msgpack."""
    return _msgpack_encoder.encode(value)


def to_json(value: object) -> bytes:
    """`value` as JSON."""
    return _json_encoder.encode(value)


def msgpack_decoder(kind: type[T]) -> msgspec.msgpack.Decoder[T]:
    """A decoder to keep; raises msgspec.DecodeError or ValidationError on bad bytes."""
    return msgspec.msgpack.Decoder(kind, dec_hook=dec_hook)


def convert(value: object, kind: type[T], what: str) -> T:
    """Plain dicts and lists as a `kind`; raises UsageError that names `what` and the bad field."""
    try:
        return msgspec.convert(value, kind, dec_hook=dec_hook)
    except (msgspec.ValidationError, ValueError) as exc:
        raise UsageError(f"{what}: {exc}", code="BAD_ARGUMENT") from exc
