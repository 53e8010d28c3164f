"""Records of the steps log: how helixd and the shepherds remember, and how shepherds report.

One append-only file a generation (`steps.N.log` in the spool).  helixd writes ATTEMPT before anything is spawned and
FORGOTTEN after the controller has acknowledged the end; each step's shepherd writes BORN, STARTED and ENDED; the
process that forks shepherds writes LOST.  Every record is one write(2) with O_APPEND and has a checksum over all of
it, so a torn or damaged record is skipped and the rest is read.  Layouts: native/csrc/shepherd.h.

Pure: bytes in, records out.  Cost: about 2 us a record.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

import msgspec
from msgspec import Struct

MAGIC = 0x31525848
_MAGIC_BYTES = MAGIC.to_bytes(4, "little")
_HEAD = struct.Struct("<IHBBIIQ")
_STARTED = struct.Struct("<IIQd")
_ENDED = struct.Struct("<iIIIddQQQ")
_LOST = struct.Struct("<iI")
RECORD_MAX = 65535  #: bytes, head included


class Kind(IntEnum):
    """What a record says."""

    ATTEMPT = 1  # helixd: an attempt was accepted; nothing has been spawned yet
    BORN = 2  # shepherd: it lives, the script has not started yet
    STARTED = 3  # shepherd: the script runs
    ENDED = 4  # shepherd: over
    LOST = 5  # forking process: the shepherd died without an ENDED
    FORGOTTEN = 6  # helixd: acknowledged; kept as a tombstone until the credential has expired
    HOST = 7  # helixd: boot id, epoch, spool id


class Stage(IntEnum):
    """What stopped a script before its first instruction (enum stage of shepherd.h)."""

    NONE = 0
    SPAWN = 1
    CGROUP = 2
    LIMITS = 3
    IDENTITY = 4
    WORK_DIR = 5
    STDIN = 6
    STDOUT = 7
    STDERR = 8
    EXEC = 9


ENDED_TIMED_OUT = 1
ENDED_OOM = 2
ENDED_TERMINATED = 4
ENDED_UNKILLABLE = 8


class Attempt(Struct, omit_defaults=True):
    """What helixd must know of a step after its own restart."""

    node: str
    t: float  # epoch seconds
    t_expires: float  # of the credential: until then its replay must find a tombstone
    uid: int = 0
    script: str = ""  # path as executed
    stdout: str = ""
    stderr: str = ""


class Host(Struct, omit_defaults=True):
    """Who wrote the log, and when it changed."""

    boot_id: str
    epoch: int = 0
    spool_id: str = ""  # random; part of the cookie in every step's environment


class Forgotten(Struct, omit_defaults=True):
    """A tombstone."""

    t_expires: float


class Started(NamedTuple):
    """BORN and STARTED."""

    shepherd_pid: int
    main_pid: int
    shepherd_start: int  # clock ticks after boot, field 22 of /proc/PID/stat
    t_start: float


class Ended(NamedTuple):
    """The exit record; `status` is as wait(2) gives it."""

    status: int
    stage: int
    error: int
    flags: int
    t_start: float
    t_end: float
    user_us: int
    system_us: int
    max_rss_kib: int
    text: str = ""


class Lost(NamedTuple):
    """How the shepherd died, as wait(2) gives it."""

    status: int


Body = Attempt | Started | Ended | Lost | Forgotten | Host


class Record(NamedTuple):
    """One record."""

    kind: Kind
    job_id: int
    attempt: int
    body: Body


class Scan(NamedTuple):
    """What `scan` found."""

    records: list[Record]
    consumed: int  # bytes that need not be looked at again
    skipped: int  # bytes that were no valid record


_encoder = msgspec.msgpack.Encoder()
_attempts = msgspec.msgpack.Decoder(Attempt)
_forgotten = msgspec.msgpack.Decoder(Forgotten)
_hosts = msgspec.msgpack.Decoder(Host)


def encode(kind: Kind, job_id: int, attempt: int, body: Attempt | Forgotten | Host) -> bytes:
    """A record of helixd's own.  Raises ValueError if it would be longer than RECORD_MAX."""
    return _sealed(kind, job_id, attempt, _encoder.encode(body))


def encode_started(kind: Kind, job_id: int, attempt: int, body: Started) -> bytes:
    """BORN or STARTED, as a shepherd writes it (to carry a living step into a new generation, and for tests)."""
    return _sealed(kind, job_id, attempt, _STARTED.pack(*body))


def encode_ended(job_id: int, attempt: int, body: Ended) -> bytes:
    """ENDED, as a shepherd writes it (for tests)."""
    return _sealed(Kind.ENDED, job_id, attempt, _ENDED.pack(*body[:9]) + body.text.encode())


def encode_lost(job_id: int, attempt: int, status: int) -> bytes:
    """LOST, as the forking process writes it (for tests)."""
    return _sealed(Kind.LOST, job_id, attempt, _LOST.pack(status, 0))


def _sealed(kind: Kind, job_id: int, attempt: int, payload: bytes) -> bytes:
    size = _HEAD.size + len(payload)
    if size > RECORD_MAX:
        raise ValueError(f"a record of {size} bytes")
    bare = _HEAD.pack(MAGIC, size, kind, 1, 0, attempt, job_id)
    crc = zlib.crc32(payload, zlib.crc32(bare))
    return _HEAD.pack(MAGIC, size, kind, 1, crc, attempt, job_id) + payload


def scan(data: bytes, *, at_end: bool = False) -> Scan:
    """The valid records of `data`.

    An incomplete record at the end is left for the next call unless `at_end`.  Damage is stepped over: the search goes
    on at the next magic number.  Records of an unknown kind are skipped (a newer version wrote them).
    """
    records: list[Record] = []
    at, skipped, end = 0, 0, len(data)
    while end - at >= _HEAD.size:
        magic, size, kind, _, crc, attempt, job_id = _HEAD.unpack_from(data, at)
        if magic == MAGIC and size >= _HEAD.size:
            if at + size <= end:
                bare = data[at : at + 8] + b"\0\0\0\0" + data[at + 12 : at + size]
                if zlib.crc32(bare) == crc:
                    body = _body(kind, data[at + _HEAD.size : at + size])
                    if body is not None:
                        records.append(Record(Kind(kind), job_id, attempt, body))
                    at += size
                    continue
            elif not at_end and data.find(_MAGIC_BYTES, at + 4) < 0:
                break  # the rest of it has not been written, or not been read, yet
        following = data.find(_MAGIC_BYTES, at + 1)
        if following < 0:
            following = end if at_end else max(at + 1, end - 3)
        skipped += following - at
        at = following
    if at_end:
        skipped += end - at
        at = end
    return Scan(records, at, skipped)


def _body(kind: int, payload: bytes) -> Body | None:
    try:
        if kind == Kind.ENDED:
            text = payload[_ENDED.size :].decode("utf-8", "surrogateescape")
            return Ended(*_ENDED.unpack_from(payload))._replace(text=text)
        if kind in (Kind.STARTED, Kind.BORN):
            return Started(*_STARTED.unpack(payload))
        if kind == Kind.ATTEMPT:
            return _attempts.decode(payload)
        if kind == Kind.FORGOTTEN:
            return _forgotten.decode(payload)
        if kind == Kind.HOST:
            return _hosts.decode(payload)
        if kind == Kind.LOST:
            return Lost(_LOST.unpack(payload)[0])
    except (struct.error, msgspec.DecodeError):
        return None
    return None
