"""Looks at a journal directory and says what state can be rebuilt from it, or why none can.  Changes nothing.

The rules, in the order they are applied:

1. The newest snapshot whose digest is right is the start; one that is not right is passed over with a note.
2. The segments from the one that holds the seq after the snapshot must be there without a gap, each following the
   checksum chain of the one before.  Older segments are only a fallback and are not read at start.
3. A segment may end in a torn write (see `journal_scan` for how that is told from damage) if it is the last, or if the
   next one follows what stands before the torn bytes.
4. A sealed last segment means that its successor is gone.
5. What was found must reach the watermark, a small file that says which seq was surely acknowledged.  It is written
   after each fdatasync but not itself synced, so after a power cut it may be old, never too new.  After a mere
   kill it is exact, so that even a cleanly cut-off last batch is noticed as a loss.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import blake3

from helixctld.io.journal_dir import StateDir
from helixctld.io.journal_format import (
    HEAD_BYTES,
    SEGMENT_READ_MAX,
    SNAPSHOT_BYTES_MAX,
    SNAPSHOT_MAGIC,
    WATERMARK_MAGIC,
    FileHead,
    Flaw,
    JournalUnusable,
    parse_head,
)
from helixctld.io.journal_scan import SegmentScan, scan_segment

WATERMARK_NAME = "journal.mark"
_SEGMENT_NAME = re.compile(r"journal\.([0-9a-f]{16})")
_SNAPSHOT_NAME = re.compile(r"snapshot\.([0-9a-f]{16})")


def segment_name(first_seq: int) -> str:
    """The file name of the segment that starts at `first_seq`."""
    return f"journal.{first_seq:016x}"


def snapshot_name(seq: int) -> str:
    """The file name of the snapshot of the state after `seq`."""
    return f"snapshot.{seq:016x}"


@dataclass(slots=True)
class Examination:
    """What a directory holds.  With `flaw` set there is no safe start; `torn` names the one unfinished write."""

    segment_seqs: list[int] = field(default_factory=list)
    snapshot_seqs: list[int] = field(default_factory=list)
    cluster: str = ""
    journal_id: bytes = b""
    snapshot: bytes | None = None
    snapshot_seq: int = 0
    bad_snapshots: list[Flaw] = field(default_factory=list)
    scans: list[SegmentScan] = field(default_factory=list)
    """The segments needed after the snapshot, in order."""
    last_seq: int = 0
    watermark_seq: int = 0
    watermark_there: bool = False
    flaw: Flaw | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Nothing here yet: a journal may be made."""
        return not (self.segment_seqs or self.snapshot_seqs or self.watermark_there)

    @property
    def torn(self) -> SegmentScan | None:
        """The last segment, when it ends in an unfinished write."""
        return self.scans[-1] if self.scans and self.scans[-1].torn else None


def examine(state_dir: StateDir) -> Examination:
    """Apply the rules above.  Raises JournalUnusable for unreadable files and other versions."""
    found = Examination()
    found.segment_seqs, found.snapshot_seqs = list_files(state_dir)
    _read_watermark(state_dir, found)
    if found.empty:
        return found
    found.flaw = _find_start(state_dir, found) or _scan_needed(state_dir, found) or _check_watermark(state_dir, found)
    return found


def list_files(state_dir: StateDir) -> tuple[list[int], list[int]]:
    """(first seqs of segments, seqs of snapshots), each sorted, by file name."""
    segments, snapshots = [], []
    for name in state_dir.names():
        if match := _SEGMENT_NAME.fullmatch(name):
            segments.append(int(match[1], 16))
        elif match := _SNAPSHOT_NAME.fullmatch(name):
            snapshots.append(int(match[1], 16))
    return sorted(segments), sorted(snapshots)


def read_snapshot(state_dir: StateDir, seq: int) -> tuple[FileHead, bytes] | Flaw:
    """The snapshot after `seq`, or what is wrong with it."""
    path = state_dir.full(snapshot_name(seq))
    data = state_dir.read(snapshot_name(seq), SNAPSHOT_BYTES_MAX)
    head = parse_head(data[:HEAD_BYTES], SNAPSHOT_MAGIC, path)
    if isinstance(head, Flaw):
        return head
    if head.seq != seq:
        return Flaw(path, 0, f"seq {seq} as in the name", f"seq {head.seq}")
    if len(data) != HEAD_BYTES + head.body_bytes:
        return Flaw(path, len(data), f"{HEAD_BYTES + head.body_bytes} bytes", f"{len(data)} bytes")
    state = data[HEAD_BYTES:]
    digest = blake3.blake3(state).digest()
    if digest != head.digest:
        return Flaw(path, HEAD_BYTES, f"state with digest {head.digest.hex()[:16]}", digest.hex()[:16])
    return head, state


def scan_file(state_dir: StateDir, first_seq: int, *, deep: bool = False) -> tuple[SegmentScan, bytes]:
    """Read and scan the segment that starts at `first_seq`."""
    name = segment_name(first_seq)
    data = state_dir.read(name, SEGMENT_READ_MAX)
    scan = scan_segment(state_dir.full(name), data, deep=deep)
    if scan.head and scan.head.seq != first_seq:
        scan.flaw = Flaw(scan.name, 0, f"first seq {first_seq} as in the name", f"{scan.head.seq}")
        scan.head, scan.torn = None, False
    return scan, data


def link_flaw(before: SegmentScan, after: SegmentScan) -> Flaw | None:
    """What keeps `after` from following `before`, if anything.

    An unfinished write at the end of `before` does not when `after` follows what is in front of it: then it was a
    seal, or a batch that had found the disk full and was written again in `after`.
    """
    if after.head is None:
        return after.flaw
    follows = after.head.seq == before.last_seq + 1 and after.head.chain == before.chain
    if before.flaw and not (before.torn and follows):
        return before.flaw
    if after.head.seq != before.last_seq + 1:
        expected = f"records up to seq {after.head.seq - 1}, where the next segment starts"
        return Flaw(before.name, before.size, expected, f"the end after seq {before.last_seq}")
    if after.head.chain != before.chain:
        expected = f"a segment that follows checksum {before.chain:08x}"
        return Flaw(after.name, 0, expected, f"{after.head.chain:08x}")
    return None


def adopt(found: Examination, head: FileHead, path: str) -> Flaw | None:
    """All files must be of one journal: remember the first head's identity, refuse another."""
    if not found.journal_id:
        found.journal_id, found.cluster = head.journal_id, head.cluster
    if head.journal_id != found.journal_id or head.cluster != found.cluster:
        expected = f"journal {found.journal_id.hex()[:8]} of cluster {found.cluster}"
        return Flaw(path, 0, expected, f"journal {head.journal_id.hex()[:8]} of cluster {head.cluster}")
    return None


def _read_watermark(state_dir: StateDir, found: Examination) -> None:
    if WATERMARK_NAME not in state_dir.names():
        return
    found.watermark_there = True
    path = state_dir.full(WATERMARK_NAME)
    head = parse_head(state_dir.read(WATERMARK_NAME, 1 << 20), WATERMARK_MAGIC, path)
    if isinstance(head, Flaw):
        found.notes.append(f"the watermark cannot be used: {head.sentence()}")
        return
    adopt(found, head, path)
    found.watermark_seq = head.seq


def _find_start(state_dir: StateDir, found: Examination) -> Flaw | None:
    """Choose the snapshot."""
    for seq in reversed(found.snapshot_seqs):
        result = read_snapshot(state_dir, seq)
        if isinstance(result, Flaw):
            found.bad_snapshots.append(result)
            found.notes.append(f"snapshot passed over: {result.sentence()}")
            continue
        head, found.snapshot = result
        found.snapshot_seq = found.last_seq = seq
        return adopt(found, head, state_dir.full(snapshot_name(seq)))
    return None


def _scan_needed(state_dir: StateDir, found: Examination) -> Flaw | None:
    """Scan the segments from the one that holds the first seq after the snapshot."""
    start = found.snapshot_seq + 1
    older = [seq for seq in found.segment_seqs if seq <= start]
    if not older:
        if found.bad_snapshots:
            return found.bad_snapshots[0]
        have = segment_name(found.segment_seqs[0]) if found.segment_seqs else "no segment at all"
        if found.snapshot_seq == 0 and found.segment_seqs:
            expected = f"a snapshot that covers seq 1 to {found.segment_seqs[0] - 1}, or the segments that hold them"
            return Flaw(state_dir.full(have), 0, expected, "neither")
        return Flaw(state_dir.path, 0, f"a segment that holds seq {start}", have)
    needed = [seq for seq in found.segment_seqs if seq >= older[-1]]
    for seq in needed:
        scan, _ = scan_file(state_dir, seq)
        if scan.head and (flaw := adopt(found, scan.head, scan.name)):
            return flaw
        flaw = link_flaw(found.scans[-1], scan) if found.scans else None
        if flaw is None and not scan.torn:
            flaw = scan.flaw
        if flaw:
            return flaw
        found.scans.append(scan)
    last = found.scans[-1]
    found.last_seq = last.last_seq
    if last.last_seq < found.snapshot_seq:
        if found.bad_snapshots:
            return found.bad_snapshots[0]
        expected = f"records up to seq {found.snapshot_seq}, which the snapshot covers, and what followed"
        return Flaw(last.name, last.good_end, expected, f"the end after seq {last.last_seq}")
    if last.sealed:
        missing = state_dir.full(segment_name(last.last_seq + 1))
        return Flaw(missing, 0, "the segment that follows the sealed one", "no such file")
    return None


def _check_watermark(state_dir: StateDir, found: Examination) -> Flaw | None:
    if found.last_seq >= found.watermark_seq:
        return None
    last = found.scans[-1]
    expected = f"records up to seq {found.watermark_seq}, which was acknowledged"
    return Flaw(last.name, last.good_end, expected, f"valid records only up to seq {found.last_seq}")


def require_cluster(found: Examination, state_dir: StateDir, cluster: str) -> None:
    """Refuse the journal of another cluster."""
    if found.cluster != cluster:
        raise JournalUnusable(
            f"the journal in {state_dir.path} belongs to cluster {found.cluster!r}, the configuration says {cluster!r}",
            code="JOURNAL_CLUSTER",
            hint="correct ClusterName or StateSaveLocation in helix.conf",
        )
