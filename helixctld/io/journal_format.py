"""Bytes of the journal: file headers, batches, records, and the errors the journal raises.

Owns the layout and nothing else: no file is opened here.  All integers are little-endian.

Every file (segment, snapshot, watermark) starts with one 512-byte head: magic, format version, cluster name, the
journal's random identity, a sequence number, and a CRC-32 of the head in its last 4 bytes.  Those places never move
between versions, so that a newer file is refused by name instead of being called damaged.

A segment is a head followed by batches; one batch is one group commit:

    batch head  32 B   magic, count, first seq, body bytes, chain before, crc of this head (seeded by the journal id)
    records            each: crc u32 | length u32 | seq u64 | payload
    batch foot  16 B   magic, crc of the body, chain after, crc of this foot (seeded by the head's crc)

A record's crc is `crc32(length + seq + payload)` seeded with the crc of the record before it, so records cannot be
reordered, dropped or taken from elsewhere unnoticed.  The body's crc lets a whole batch be checked in one call.  A
segment that has a successor normally ends in a seal, a batch head with count 0 and its own magic.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from helix.errors import ConfigError, Conflict, InternalError, NotNow

FORMAT_VERSION = 1
OLDEST_VERSION = max(1, FORMAT_VERSION - 1)

HEAD_BYTES = 512
CLUSTER_BYTES_MAX = 255
RECORD_BYTES_MAX = 16 << 20
UNSYNCED_BYTES_MAX = 64 << 20
"""Most payload bytes (plus 16 per record) that wait in memory for `sync`; also bounds one batch."""
SEGMENT_BYTES_MAX = 64 << 20
"""A segment is closed once it would pass this; a single batch may still make it up to twice as long."""
SEGMENT_READ_MAX = 4 << 30
SNAPSHOT_BYTES_MAX = 8 << 30

SEGMENT_MAGIC = b"HELIXJRN"
SNAPSHOT_MAGIC = b"HELIXSNP"
WATERMARK_MAGIC = b"HELIXMRK"
MAGIC_PREFIX = b"\xabHx"
BATCH_MAGIC = MAGIC_PREFIX + b"B"
SEAL_MAGIC = MAGIC_PREFIX + b"S"
FOOT_MAGIC = MAGIC_PREFIX + b"E"

_FILE_HEAD = struct.Struct("<8sHHI16sQQ32s")
BATCH_HEAD = struct.Struct("<4sIQQII")
BATCH_FOOT = struct.Struct("<4sIII")
RECORD_HEAD = struct.Struct("<IIQ")
_LENGTH_SEQ = struct.Struct("<IQ")
_U32 = struct.Struct("<I")


class JournalDamaged(ConfigError):
    """The journal holds bytes that no crash can explain, or lacks some it must have: the controller does not start."""

    default_code = "JOURNAL_DAMAGED"


class JournalUnusable(ConfigError):
    """The state directory or its files cannot be used: read-only, foreign owner, other cluster, newer version."""

    default_code = "JOURNAL_UNUSABLE"


class JournalLocked(Conflict):
    """Another process holds the journal."""

    default_code = "JOURNAL_LOCKED"


class JournalFull(NotNow):
    """No room for the records: they stay queued, and `sync` may be called again."""

    default_code = "JOURNAL_FULL"


class JournalFailed(InternalError):
    """The disk refused to make records durable; the page cache is no longer to be trusted and the daemon must exit."""

    default_code = "JOURNAL_FAILED"


class SnapshotFailed(InternalError):
    """A snapshot could not be written; the journal itself goes on, with its older snapshot."""

    default_code = "SNAPSHOT_FAILED"


class Flaw(NamedTuple):
    """One thing that is wrong: where, what should be there, what is."""

    file: str
    offset: int
    expected: str
    found: str

    def sentence(self) -> str:
        """`FILE, byte N: expected X, found Y`."""
        return f"{self.file}, byte {self.offset}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class FileHead:
    """The 512 bytes that start every file of the journal.

    `seq`: first seq of a segment, last seq inside a snapshot, durable seq of a watermark.  `chain`: the record crc
    that precedes a segment's first record.  `body_bytes` and `digest` (BLAKE3): a snapshot's state.
    """

    magic: bytes
    cluster: str
    journal_id: bytes
    seq: int
    chain: int = 0
    body_bytes: int = 0
    digest: bytes = b""
    version: int = FORMAT_VERSION

    def pack(self) -> bytes:
        """The head's 512 bytes."""
        name = self.cluster.encode()
        if len(name) > CLUSTER_BYTES_MAX:
            raise JournalUnusable(f"the cluster name is longer than {CLUSTER_BYTES_MAX} bytes")
        fixed = _FILE_HEAD.pack(
            self.magic,
            self.version,
            len(name),
            self.chain,
            self.journal_id,
            self.seq,
            self.body_bytes,
            self.digest,
        )
        data = (fixed + name).ljust(HEAD_BYTES - 4, b"\0")
        return data + _U32.pack(zlib.crc32(data))


def parse_head(data: bytes, magic: bytes, file: str) -> FileHead | Flaw:
    """The head of `file`, or what is wrong with it; raises JournalUnusable for another format version."""
    if len(data) < HEAD_BYTES:
        return Flaw(file, len(data), f"a head of {HEAD_BYTES} bytes", f"a file of {len(data)} bytes")
    (found, version, name_bytes, chain, journal_id, seq, body_bytes, digest) = _FILE_HEAD.unpack_from(data)
    if found != magic:
        return Flaw(file, 0, f"the mark {magic.decode()}", repr(found))
    want, have = zlib.crc32(data[: HEAD_BYTES - 4]), _U32.unpack_from(data, HEAD_BYTES - 4)[0]
    if want != have or name_bytes > CLUSTER_BYTES_MAX:
        return Flaw(file, HEAD_BYTES - 4, f"head checksum {want:08x}", f"{have:08x}")
    if not OLDEST_VERSION <= version <= FORMAT_VERSION:
        raise JournalUnusable(
            f"{file} has format version {version}; this program reads versions {OLDEST_VERSION} to {FORMAT_VERSION}",
            code="JOURNAL_VERSION",
            hint="start the release that wrote it, or the one before the next format change, first",
        )
    start = _FILE_HEAD.size
    try:
        cluster = data[start : start + name_bytes].decode()
    except UnicodeDecodeError:
        return Flaw(file, start, "a cluster name in UTF-8", repr(data[start : start + name_bytes]))
    return FileHead(magic, cluster, journal_id, seq, chain, body_bytes, digest, version)


class Batch(NamedTuple):
    """One encoded group commit, ready for one `pwritev`."""

    parts: tuple[bytes, bytes, bytes]
    size: int
    chain: int


def seed_of(journal_id: bytes) -> int:
    """What the checksums of batch heads start from, so that another journal's batches do not look like ours."""
    return zlib.crc32(journal_id)


def encode_batch(payloads: Sequence[bytes], first_seq: int, chain: int, seed: int) -> Batch:
    """Frame `payloads` as records `first_seq`...; `chain` is the crc of the record before.

    Cost: about 0.7 us a record plus three passes over the bytes.
    """
    crc32, pack_length_seq, pack_u32 = zlib.crc32, _LENGTH_SEQ.pack, _U32.pack
    before, parts, seq = chain, [], first_seq
    for payload in payloads:
        record = pack_length_seq(len(payload), seq) + payload
        chain = crc32(record, chain)
        parts.append(pack_u32(chain))
        parts.append(record)
        seq += 1
    body = b"".join(parts)
    head = _sealed_head(BATCH_MAGIC, len(payloads), first_seq, len(body), before, seed)
    foot = FOOT_MAGIC + pack_u32(crc32(body)) + pack_u32(chain)
    foot += pack_u32(crc32(foot, crc32(head)))
    return Batch((head, body, foot), len(head) + len(body) + len(foot), chain)


def encode_seal(next_seq: int, chain: int, seed: int) -> bytes:
    """The mark that says: this segment is complete and a segment that starts at `next_seq` exists."""
    return _sealed_head(SEAL_MAGIC, 0, next_seq, 0, chain, seed)


def _sealed_head(magic: bytes, count: int, seq: int, body_bytes: int, chain: int, seed: int) -> bytes:
    head = BATCH_HEAD.pack(magic, count, seq, body_bytes, chain, 0)[:-4]
    return head + _U32.pack(zlib.crc32(head, seed))


class BatchHead(NamedTuple):
    """A batch head whose own checksum is right."""

    sealed: bool
    n_records: int
    first_seq: int
    body_bytes: int
    chain: int


def parse_batch_head(data: bytes, offset: int, seed: int) -> BatchHead | None:
    """The batch head at `offset`, or None when the bytes there are not one of this journal."""
    if offset + BATCH_HEAD.size > len(data):
        return None
    magic, count, first_seq, body_bytes, chain, crc = BATCH_HEAD.unpack_from(data, offset)
    if magic not in (BATCH_MAGIC, SEAL_MAGIC):
        return None
    if zlib.crc32(data[offset : offset + BATCH_HEAD.size - 4], seed) != crc:
        return None
    sealed = magic == SEAL_MAGIC
    if sealed != (count == 0) or body_bytes < count * RECORD_HEAD.size:
        return None
    return BatchHead(sealed, count, first_seq, body_bytes, chain)


def foot_is_right(data: bytes, offset: int, head_offset: int) -> bool:
    """Whether the foot at `offset` belongs to the head at `head_offset` (the body is not looked at)."""
    if offset + BATCH_FOOT.size > len(data):
        return False
    magic, _, _, crc = BATCH_FOOT.unpack_from(data, offset)
    head_crc = zlib.crc32(data[head_offset : head_offset + BATCH_HEAD.size])
    return bool(magic == FOOT_MAGIC and zlib.crc32(data[offset : offset + 12], head_crc) == crc)
