"""The controller's durable store: an append-only log of records with group commit, snapshots and strict recovery.

What it promises
----------------
* A record is durable once `sync` has returned a seq at or above it: it survives kill -9 and loss of power.
* After a crash, `replay` gives the durable records and possibly some that were written but not yet acknowledged, in
  order and without a gap.  Recovered records are made durable before `open` returns.
* Damage is never repaired silently.  `open` cuts off one thing only: an unfinished write of the last, unacknowledged
  batch (it says how many bytes and keeps a copy as `torn.*`).  All else raises JournalDamaged, naming file, byte,
  what was expected, and the command to run.  `journal_scan` and `journal_recovery` state the rules.

What it relies on: fdatasync means it; a sector (512 B) is written whole or not at all, and writing the sectors at the
end of a file leaves earlier bytes of the same sector as they were (SQLite's "powersafe overwrite"); rename is atomic.

Files (directory 0700, files 0600): `journal.<first seq>` segments, `snapshot.<seq>` (the newest two), `journal.mark`
(watermark), `journal.reserve`, `journal.lock`, `torn.*` and `damaged.*` (copies for a person; the journal never reads
them).  The segments since the older snapshot are kept too, so that a snapshot that turns out unreadable costs time
and no data.

Threads
-------
`append` belongs to one thread (the event loop) and never does I/O.  `sync`, `snapshot` and `close` may be called from
any other threads while `append` goes on: `append` fills one list, `sync` takes it as a whole and works on its own (a
lock held for the swap only).  Commits go on while a snapshot is written; only its last step, naming the file and
starting a new segment, keeps them waiting for a few milliseconds.  Use one thread for `sync` and another for
`snapshot`.

When the disk is full
---------------------
`sync` gives up the reserve (1 MiB) and tries again, so what was applied usually still becomes durable; `low_space` is
then True and the controller must refuse new work with JOURNAL_FULL until it is False again.  If even that fails,
`sync` raises JournalFull: the partial write is cut back, all records stay queued, nothing is lost, nothing is
acknowledged.  Protocol for the controller: on `low_space` or JournalFull keep the queue, refuse submits and changes,
call `sync` every second (also with nothing queued: that is what takes the reserve back), release held replies and
effects when it returns.  There is on purpose no way to drop unsynced records: the state in memory already contains
them.  A controller that would rather not wait exits; recovery then takes it back to what was acknowledged.

`append` refuses (JournalFull, nothing queued) once 64 MiB wait; call it before applying what it records, or check
`unsynced_bytes`.

When the disk fails
-------------------
EIO, EROFS or any other error of a write or fdatasync: JournalFailed, for good.  After a failed fdatasync the kernel
may have dropped the dirty pages and report success next time, so neither a retry nor the page cache can be trusted
("fsyncgate", 2018): the daemon must exit and recover from what the disk really holds.

No preallocation: on the ext4 of the development machine, fdatasync of a growing file took 150 us (400 B) to 390 us
(300 KB), of a file written with zeros beforehand 105 to 300 us, of one prepared by fallocate 115 to 360 us, where
the noise is 30 us.  Not enough to give up that the end of the file says where writing stopped.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import blake3

from helix.errors import InternalError, LimitExceeded
from helixctld.io import journal_format as fmt
from helixctld.io.journal_dir import FULL_ERRNOS, TMP_SUFFIX, StateDir, write_all
from helixctld.io.journal_format import (
    HEAD_BYTES,
    RECORD_BYTES_MAX,
    RECORD_HEAD,
    SEGMENT_BYTES_MAX,
    SEGMENT_MAGIC,
    SEGMENT_READ_MAX,
    SNAPSHOT_BYTES_MAX,
    SNAPSHOT_MAGIC,
    UNSYNCED_BYTES_MAX,
    FileHead,
    Flaw,
    JournalDamaged,
    JournalFailed,
    JournalFull,
    JournalLocked,
    JournalUnusable,
    SnapshotFailed,
)
from helixctld.io.journal_recovery import (
    Examination,
    examine,
    require_cluster,
    segment_name,
    snapshot_name,
)
from helixctld.io.journal_scan import SegmentScan, records
from helixctld.io.journal_side import RESERVE_BYTES, Reserve, Watermark

__all__ = [
    "Journal",
    "JournalDamaged",
    "JournalFailed",
    "JournalFull",
    "JournalLocked",
    "JournalUnusable",
    "Recovery",
    "SnapshotFailed",
]

FULL_RETRY_S = 1.0
TORN_COPIES_MAX = 16

log = logging.getLogger("helixctld.journal")


@dataclass(slots=True)
class Recovery:
    """What `open` found.  Set `snapshot` to None after use: nothing else keeps those bytes."""

    fresh: bool = False
    snapshot: bytes | None = None
    snapshot_seq: int = 0
    last_seq: int = 0
    segments: tuple[str, ...] = ()
    torn_bytes: int = 0
    torn_copy: str = ""
    notes: list[str] = field(default_factory=list)


class Journal:
    """See the module docstring.  Made by `open`; also a context manager that closes."""

    def __init__(self, state_dir: StateDir, cluster: str, journal_id: bytes, recovered: Recovery) -> None:
        self._dir, self._cluster, self._journal_id = state_dir, cluster, journal_id
        self._seed = fmt.seed_of(journal_id)
        self.recovered = recovered
        self.durable_seq = self.last_seq = recovered.last_seq
        self.unsynced_bytes = 0
        self.failure = ""
        self._pending: list[bytes] = []
        self._unwritten: list[bytes] = []
        self._pending_lock = threading.Lock()
        self._io_lock = threading.Lock()
        self._snapshot_lock = threading.Lock()
        self._watermark = Watermark(state_dir, cluster, journal_id)
        self._reserve = Reserve(state_dir)
        self._fd = -1
        self._offset = HEAD_BYTES
        self._chain = 0
        self._segment_seqs: list[int] = []
        self._snapshot_seqs: list[int] = []
        self._scans: list[SegmentScan] = []
        self._bytes_since_snapshot = 0
        self._closed = False

    @classmethod
    def open(cls, directory: str, *, cluster: str) -> Journal:
        """Lock `directory` (made when absent), recover, and be ready to append.

        Raises JournalLocked, JournalUnusable, JournalDamaged, and JournalFull when a first journal finds no room.
        """
        state_dir = StateDir(directory, create=True)
        try:
            state_dir.lock()
            found = examine(state_dir)
            if found.flaw:
                raise damaged(state_dir, found.flaw)
            if found.empty:
                return cls._create(state_dir, cluster)
            require_cluster(found, state_dir, cluster)
            return cls._reopen(state_dir, found)
        except OSError as exc:
            state_dir.close()
            if exc.errno in FULL_ERRNOS:
                raise JournalFull(f"no room in {state_dir.path} to open the journal: {exc.strerror}") from exc
            raise JournalUnusable(f"cannot open the journal in {state_dir.path}: {exc.strerror}") from exc
        except BaseException:
            state_dir.close()
            raise

    @classmethod
    def _create(cls, state_dir: StateDir, cluster: str) -> Journal:
        journal = cls(state_dir, cluster, os.urandom(16), Recovery(fresh=True, segments=(segment_name(1),)))
        state_dir.create_atomic(segment_name(1), [journal._segment_head(1)])
        journal._segment_seqs = [1]
        journal._start_side_files()
        journal._fd = state_dir.open_file(segment_name(1), os.O_RDWR)
        log.info("new journal %s in %s", journal._journal_id.hex()[:8], state_dir.path)
        return journal

    @classmethod
    def _reopen(cls, state_dir: StateDir, found: Examination) -> Journal:
        recovered = Recovery(
            snapshot=found.snapshot,
            snapshot_seq=found.snapshot_seq,
            last_seq=found.last_seq,
            segments=tuple(scan.name for scan in found.scans),
            notes=found.notes,
        )
        journal = cls(state_dir, found.cluster, found.journal_id, recovered)
        last = found.scans[-1]
        journal._scans, journal._chain, journal._offset = found.scans, last.chain, last.good_end
        journal._segment_seqs = found.segment_seqs
        bad = {flaw.file for flaw in found.bad_snapshots}
        journal._snapshot_seqs = [n for n in found.snapshot_seqs if state_dir.full(snapshot_name(n)) not in bad]
        journal._bytes_since_snapshot = sum(scan.good_end - HEAD_BYTES for scan in found.scans)
        journal._fd = state_dir.open_file(segment_name(last.first_seq), os.O_RDWR)
        try:
            if found.torn:
                journal._cut_torn_tail(found.torn)
            os.fdatasync(journal._fd)  # a batch that was written but not yet synced is replayed, so it must stay
            for flaw in found.bad_snapshots:
                name = os.path.basename(flaw.file)
                state_dir.rename(name, f"damaged.{name}")
            for name in state_dir.names():
                if name.endswith(TMP_SUFFIX) and name.startswith(("journal.", "snapshot.")):
                    state_dir.unlink_if_there(name)
            state_dir.fsync()
            journal._start_side_files()
        except BaseException:
            os.close(journal._fd)
            raise
        for note in found.notes:
            log.warning("%s", note)
        return journal

    def _start_side_files(self) -> None:
        try:
            self._watermark.start(self.last_seq)
        except OSError as exc:
            if exc.errno not in FULL_ERRNOS:
                raise
            log.warning("no room for the watermark in %s: %s", self._dir.path, exc.strerror)
        if not self._reserve.restore():
            log.warning("no room for a reserve in %s", self._dir.path)

    def _cut_torn_tail(self, scan: SegmentScan) -> None:
        """Cut the unfinished write off, after keeping a copy (unless there is no room for one)."""
        name = segment_name(scan.first_seq)
        tail = self._dir.read(name, SEGMENT_READ_MAX)[scan.good_end :]
        copy = f"torn.{scan.first_seq:016x}.{scan.good_end}.{os.urandom(4).hex()}"
        old = [n for n in self._dir.names() if n.startswith("torn.")]
        for surplus in old[: max(0, len(old) - TORN_COPIES_MAX + 1)]:
            self._dir.unlink_if_there(surplus)
        try:
            self._dir.create_atomic(copy, [tail])
        except OSError as exc:
            if exc.errno not in FULL_ERRNOS:
                raise
            log.warning("no room to keep a copy of the torn bytes of %s", scan.name)
            copy = ""
        os.ftruncate(self._fd, scan.good_end)
        self.recovered.torn_bytes = len(tail)
        self.recovered.torn_copy = self._dir.full(copy) if copy else ""
        self.recovered.notes.append(
            f"cut an unfinished write of {len(tail)} bytes off {scan.name} at byte {scan.good_end}"
            f" (after seq {scan.last_seq}); copy: {self.recovered.torn_copy or 'none, the disk is full'}"
        )

    def replay(self) -> Iterator[tuple[int, bytes]]:
        """(seq, payload) of every recovered record after the snapshot, in order; reads one segment at a time."""
        after, scans = self.recovered.snapshot_seq, self._scans
        for scan in scans:
            if scan.last_seq <= after:
                continue
            data = self._dir.read(segment_name(scan.first_seq), SEGMENT_READ_MAX)
            try:
                yield from records(scan, data, after)
            except ValueError as exc:
                flaw = exc.args[0]
                if not isinstance(flaw, Flaw):
                    raise
                raise damaged(self._dir, flaw) from exc

    def append(self, payloads: Sequence[bytes]) -> int:
        """Queue records (immutable bytes, at most 16 MiB each); returns the seq of the last.  Not durable yet.

        All or none: raises LimitExceeded for a record too long, JournalFull when 64 MiB wait, JournalFailed.
        """
        if not payloads:
            return self.last_seq
        lengths = list(map(len, payloads))
        if max(lengths) > RECORD_BYTES_MAX:
            raise LimitExceeded(
                f"a journal record of {max(lengths)} bytes is longer than {RECORD_BYTES_MAX}", code="RECORD_TOO_LONG"
            )
        size = sum(lengths) + RECORD_HEAD.size * len(lengths)
        with self._pending_lock:
            self._require_usable()
            if self.unsynced_bytes + size > UNSYNCED_BYTES_MAX:
                raise self._full(f"{self.unsynced_bytes} bytes already wait for the disk")
            self._pending.extend(payloads)
            self.unsynced_bytes += size
            self.last_seq += len(payloads)
            return self.last_seq

    def sync(self) -> int:
        """Make everything queued so far durable as one group commit; returns the durable seq.

        Raises JournalFull (call again later; nothing is lost) or JournalFailed (the process must exit).
        """
        with self._io_lock:
            self._require_usable()
            self._commit()
            if not self._reserve.held and self._reserve.restore():
                log.warning("there is room again in %s", self._dir.path)
            return self.durable_seq

    def snapshot(self, state: bytes, seq: int) -> None:
        """Keep `state`, which is exactly the effect of records 1 to `seq`, and drop files older than the last one.

        Records after `seq` may exist already.  `fsync_all` of the blob store comes first.  Raises SnapshotFailed or
        JournalFull with the journal unharmed, JournalFailed when it is not.
        """
        if len(state) > SNAPSHOT_BYTES_MAX - HEAD_BYTES:
            raise LimitExceeded(f"a snapshot of {len(state)} bytes is longer than {SNAPSHOT_BYTES_MAX}")
        name = snapshot_name(seq)
        with self._snapshot_lock:
            newest = self._snapshot_seqs[-1] if self._snapshot_seqs else 0
            if not newest < seq <= self.last_seq:
                raise InternalError(f"a snapshot of seq {seq}: the last was {newest}, records end at {self.last_seq}")
            with self._io_lock:
                self._require_usable()
                self._commit()
            digest = blake3.blake3(state).digest()
            head = FileHead(SNAPSHOT_MAGIC, self._cluster, self._journal_id, seq, 0, len(state), digest)
            try:
                self._dir.write_aside(name, [head.pack(), state])
                with self._io_lock:
                    self._require_usable()
                    self._dir.publish(name)
                    self._snapshot_seqs.append(seq)
                    with self._pending_lock:
                        self._bytes_since_snapshot = 0
                    self._rotate()
            except OSError as exc:
                if exc.errno in FULL_ERRNOS:
                    raise self._full("no room for a snapshot") from exc
                raise SnapshotFailed(f"cannot write {self._dir.full(name)}: {exc.strerror}") from exc
            self._prune(newest)

    def close(self) -> None:
        """Commit what is queued if that is still possible, then release files and lock.  May be repeated."""
        with self._snapshot_lock, self._io_lock:
            if self._closed:
                return
            self._closed = True
            try:
                if not self.failure:
                    self._commit()
            finally:
                self._watermark.close()
                os.close(self._fd)
                self._dir.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def low_space(self) -> bool:
        """The disk is (nearly) full: refuse new work, call `sync` every second."""
        return not self._reserve.held

    @property
    def records_since_snapshot(self) -> int:
        """Records, durable or queued, that a restart would replay."""
        return self.last_seq - (self._snapshot_seqs[-1] if self._snapshot_seqs else 0)

    @property
    def bytes_since_snapshot(self) -> int:
        """About how many bytes of segments a restart would read."""
        return self._bytes_since_snapshot + self.unsynced_bytes

    # -- called with _io_lock held (_prune: with _snapshot_lock) ----------------------------------------------------

    def _commit(self) -> None:
        with self._pending_lock:
            self._unwritten.extend(self._pending)
            self._pending = []
        if not self._unwritten:
            return
        batch = fmt.encode_batch(self._unwritten, self.durable_seq + 1, self._chain, self._seed)
        if self._offset > HEAD_BYTES and self._offset + batch.size > SEGMENT_BYTES_MAX:
            self._rotate()
        try:
            self._write_durably(batch.parts)
        except JournalFull:
            if not self._reserve.release():
                raise
            log.warning("%s is full: gave up the reserve of %d bytes", self._dir.path, RESERVE_BYTES)
            self._write_durably(batch.parts)
        self._offset += batch.size
        self._chain = batch.chain
        payload_bytes = len(batch.parts[1])  # counted as in append: payloads plus a record head each
        with self._pending_lock:
            self.durable_seq += len(self._unwritten)
            self.unsynced_bytes -= payload_bytes
            self._bytes_since_snapshot += batch.size
        self._unwritten = []
        self._watermark.write(self.durable_seq)

    def _write_durably(self, parts: Sequence[bytes]) -> None:
        """Write at the durable end and fdatasync; on ENOSPC cut back to that end and raise JournalFull."""
        try:
            write_all(self._fd, parts, self._offset)
            os.fdatasync(self._fd)
        except OSError as exc:
            if exc.errno not in FULL_ERRNOS:
                raise self._fail("write", exc) from exc
            try:
                os.ftruncate(self._fd, self._offset)
            except OSError as second:
                raise self._fail("truncate", second) from second
            raise self._full(str(exc.strerror)) from exc

    def _rotate(self) -> None:
        """Go on in a new segment.  When none can be made, stay in this one: that is no error."""
        first = self.durable_seq + 1
        if first == self._segment_seqs[-1]:
            return
        name = segment_name(first)
        try:
            self._dir.create_atomic(name, [self._segment_head(first)])
            fd = self._dir.open_file(name, os.O_RDWR)
        except OSError as exc:
            if name in self._dir.names():  # recovery would go on in it, whether or not we do
                raise self._fail(f"creation of {name}", exc) from exc
            log.warning("no new segment in %s: %s", self._dir.path, exc.strerror)
            return
        try:
            self._write_durably([fmt.encode_seal(first, self._chain, self._seed)])
        except JournalFull:
            log.warning("no room to seal segment %d", self._segment_seqs[-1])  # a missing seal costs only evidence
        except JournalFailed:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._offset = fd, HEAD_BYTES
        self._segment_seqs.append(first)

    def _prune(self, kept_seq: int) -> None:
        """Remove snapshots older than `kept_seq` and the segments that it covers whole."""
        for seq in [n for n in self._snapshot_seqs if n < kept_seq]:
            self._dir.unlink_if_there(snapshot_name(seq))
        self._snapshot_seqs = [n for n in self._snapshot_seqs if n >= kept_seq]
        while len(self._segment_seqs) > 1 and self._segment_seqs[1] <= kept_seq + 1:
            self._dir.unlink_if_there(segment_name(self._segment_seqs.pop(0)))

    # -- small things ----------------------------------------------------------------------------------------------

    def _segment_head(self, first_seq: int) -> bytes:
        return FileHead(SEGMENT_MAGIC, self._cluster, self._journal_id, first_seq, self._chain).pack()

    def _require_usable(self) -> None:
        if self.failure:
            raise JournalFailed(self.failure, hint="the controller must exit and recover")
        if self._closed:
            raise InternalError(f"the journal in {self._dir.path} is closed")

    def _fail(self, action: str, exc: OSError) -> JournalFailed:
        name = self._dir.full(segment_name(self._segment_seqs[-1]))
        self.failure = f"journal {name}: {action} at byte {self._offset} failed: {exc.strerror}"
        log.critical("%s", self.failure)
        return JournalFailed(self.failure, hint="check the disk; the controller must exit and recover")

    def _full(self, why: str) -> JournalFull:
        return JournalFull(
            f"no room for the journal in {self._dir.path}: {why}",
            hint="free space on that file system; the controller goes on by itself",
            data={"retry_after_s": FULL_RETRY_S},
        )


def damaged(state_dir: StateDir, flaw: Flaw) -> JournalDamaged:
    """The error that names file, byte, expectation and command."""
    return JournalDamaged(
        f"the journal is damaged: {flaw.sentence()}; see 'hctl journal check {state_dir.path}'",
        hint=f"'hctl journal repair {state_dir.path}' keeps the longest valid part and copies the rest aside",
    )
