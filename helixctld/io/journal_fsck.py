"""`hctl journal check DIR` and `hctl journal repair DIR`: says what a journal holds; keeps the longest valid part.

`check` reads everything, also what a start would not need, and changes nothing; it may run beside a controller (the
batch being written then looks torn).  `repair` needs the lock.  It never deletes: whatever it changes or takes out of
the way is first copied or moved into a new folder `damaged.<time>` inside the directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from helixctld.io.journal_dir import StateDir, write_all
from helixctld.io.journal_format import (
    BATCH_HEAD,
    HEAD_BYTES,
    SEGMENT_MAGIC,
    FileHead,
    Flaw,
    JournalUnusable,
    encode_batch,
    seed_of,
)
from helixctld.io.journal_recovery import (
    WATERMARK_NAME,
    Examination,
    examine,
    link_flaw,
    read_snapshot,
    scan_file,
    segment_name,
    snapshot_name,
)
from helixctld.io.journal_scan import SegmentScan, valid_records_of_bad_batch
from helixctld.io.journal_side import Watermark

LIVE_TRIES = 5


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file: `status` is ok, torn, damaged or superseded-damaged (not needed for a start)."""

    name: str
    size: int
    first_seq: int
    last_seq: int
    status: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` or `repair` found.  `verdict`: empty, clean, torn (a start cuts it off) or damaged (no start)."""

    directory: str
    verdict: str
    cluster: str = ""
    in_use_by: str = ""
    files: tuple[FileReport, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()
    snapshot_seq: int = 0
    last_seq: int = 0
    acknowledged_seq: int = 0
    keepable_seq: int = 0
    actions: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a controller would start."""
        return self.verdict != "damaged"

    @property
    def lost(self) -> int:
        """How many acknowledged records a repair cannot keep, as far as the watermark knows."""
        return max(0, self.acknowledged_seq - self.keepable_seq)


@dataclass(slots=True)
class _Survey:
    """Everything in a directory, read deeply.  `snapshots` maps valid ones' seqs to their heads."""

    found: Examination
    scans: list[SegmentScan] = field(default_factory=list)
    snapshots: dict[int, FileHead] = field(default_factory=dict)
    files: list[FileReport] = field(default_factory=list)


def check(directory: str) -> Report:
    """Examine `directory` without changing it.  Raises JournalUnusable when it cannot be read.

    Beside a running controller files come and go, so what looks wrong is looked at again.
    """
    state_dir = StateDir(directory, tighten=False)
    try:
        for _ in range(LIVE_TRIES - 1):
            holder = state_dir.holder()
            try:
                report = _report(state_dir, _survey(state_dir), in_use_by=holder)
            except (OSError, JournalUnusable):
                if not holder:
                    raise
                continue
            if report.ok or not holder:
                return report
        return _report(state_dir, _survey(state_dir), in_use_by=state_dir.holder())
    except OSError as exc:
        raise JournalUnusable(f"cannot check {state_dir.path}: {exc.strerror}") from exc
    finally:
        state_dir.close()


def repair(directory: str, *, now: Callable[[], float] = time.time) -> Report:
    """Make `directory` startable, keeping the longest valid part and copies of all the rest.

    Raises JournalLocked while a controller runs, JournalUnusable when nothing valid is left to keep.
    """
    state_dir = StateDir(directory)
    try:
        state_dir.lock("hctl journal repair")
        survey = _survey(state_dir)
        before = _report(state_dir, survey)
        if before.verdict in ("empty", "clean"):
            return before
        actions = _repair(state_dir, survey, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now())))
        after = _report(state_dir, _survey(state_dir))
        return replace(after, acknowledged_seq=before.acknowledged_seq, actions=tuple(actions))
    except OSError as exc:
        raise JournalUnusable(f"cannot repair {state_dir.path}: {exc.strerror}") from exc
    finally:
        state_dir.close()


def render(report: Report) -> str:
    """The report as text for a person; ends with what to do."""
    cluster = f", cluster {report.cluster}" if report.cluster else ""
    lines = [f"journal {report.directory}: {report.verdict}{cluster}"]
    if report.in_use_by:
        lines.append(f"in use by {report.in_use_by}: the end may be in the middle of a write")
    for file in report.files:
        span = f"seq {file.first_seq}-{file.last_seq}" if file.last_seq >= file.first_seq else "no records"
        lines.append(f"  {file.name:<26} {file.size:>12} B  {span:<22} {file.status}")
        if file.detail:
            lines.append(f"      {file.detail}")
    lines += [f"note: {note}" for note in report.notes]
    if report.problem:
        lines.append(f"problem: {report.problem}")
    lines += [f"done: {action}" for action in report.actions]
    lines.append(f"valid up to seq {report.keepable_seq}; acknowledged at least up to seq {report.acknowledged_seq}")
    if report.lost:
        lines.append(f"{report.lost} acknowledged records (seq {report.keepable_seq + 1} on) cannot be kept")
    if report.verdict == "damaged":
        lines.append(f"next: restore a backup, or 'hctl journal repair {report.directory}'")
    elif report.verdict == "torn":
        lines.append("next: start the controller; it cuts the unfinished, unacknowledged write off and keeps a copy")
    return "\n".join(lines)


def _survey(state_dir: StateDir) -> _Survey:
    survey = _Survey(examine(state_dir))
    found = survey.found
    for seq in found.snapshot_seqs:
        result = read_snapshot(state_dir, seq)
        if isinstance(result, Flaw):
            survey.files.append(_file(state_dir, snapshot_name(seq), 1, seq, "damaged", result.sentence()))
        else:
            survey.snapshots[seq] = result[0]
            survey.files.append(_file(state_dir, snapshot_name(seq), 1, seq, "ok"))
    needed = {scan.name for scan in found.scans}
    for seq in found.segment_seqs:
        scan, _ = scan_file(state_dir, seq, deep=True)
        flaw = scan.flaw
        if flaw is None and survey.scans and survey.scans[-1].flaw is None:
            flaw = link_flaw(survey.scans[-1], scan)
        survey.scans.append(scan)
        status = "ok"
        if flaw:
            status = "torn" if scan.torn else "damaged"
            if found.flaw is None and scan.name not in needed:
                status = "superseded-damaged"
        survey.files.append(
            _file(state_dir, segment_name(seq), seq, scan.last_seq, status, flaw.sentence() if flaw else "")
        )
        if scan.flaw and scan.name in needed and not scan.torn and found.flaw is None:
            found.flaw = scan.flaw  # a record that only the deep look sees
    return survey


def _file(state_dir: StateDir, name: str, first: int, last: int, status: str, detail: str = "") -> FileReport:
    fd = state_dir.open_file(name, os.O_RDONLY)
    try:
        return FileReport(name, os.fstat(fd).st_size, first, last, status, detail)
    finally:
        os.close(fd)


def _report(state_dir: StateDir, survey: _Survey, in_use_by: str = "") -> Report:
    found = survey.found
    verdict = "damaged" if found.flaw else "empty" if found.empty else "torn" if found.torn else "clean"
    keepable = _best_part(survey)[1] if found.flaw else found.last_seq
    return Report(
        directory=state_dir.path,
        verdict=verdict,
        cluster=found.cluster,
        in_use_by=in_use_by,
        files=tuple(survey.files),
        problem=found.flaw.sentence() if found.flaw else "",
        notes=tuple(found.notes),
        snapshot_seq=found.snapshot_seq,
        last_seq=found.last_seq,
        acknowledged_seq=found.watermark_seq,
        keepable_seq=keepable,
    )


def _best_part(survey: _Survey) -> tuple[int, int, list[SegmentScan]]:
    """(snapshot seq or 0, last seq, segments to keep) that reach furthest; (-1, 0, []) when nothing is usable."""
    best: tuple[int, int, list[SegmentScan]] = (-1, 0, [])
    identity = survey.found.journal_id
    usable = [scan for scan in survey.scans if scan.head and scan.head.journal_id == identity]
    for start in sorted({0, *(n for n, head in survey.snapshots.items() if head.journal_id == identity)}):
        older = [scan for scan in usable if scan.first_seq <= start + 1]
        chain: list[SegmentScan] = []
        for scan in usable[usable.index(older[-1]) :] if older else []:
            if chain and link_flaw(chain[-1], scan):
                break
            chain.append(scan)
        if chain and chain[-1].last_seq < start:
            chain = []
        if not chain and start == 0:
            continue
        end = chain[-1].last_seq if chain else start
        if end >= best[1] or best[0] < 0:
            best = (start, end, chain)
    return best


def _repair(state_dir: StateDir, survey: _Survey, stamp: str) -> list[str]:
    start, end, keep = _best_part(survey)
    if start < 0:
        raise JournalUnusable(
            f"no valid part of the journal in {state_dir.path} can be kept",
            hint="restore a backup; or move the directory away to begin an empty journal (all jobs are then forgotten)",
        )
    aside = f"damaged.{stamp}.{os.urandom(2).hex()}"
    state_dir.make_folder(aside)
    actions: list[str] = []
    kept_names = {os.path.basename(scan.name) for scan in keep}
    superseded = [seq for seq in survey.found.segment_seqs if keep and seq < keep[0].first_seq]
    for seq in survey.found.segment_seqs:
        name = segment_name(seq)
        if name not in kept_names and seq not in superseded:
            state_dir.rename(name, f"{aside}/{name}")
            actions.append(f"moved {name} to {aside}/")
    for seq in survey.found.snapshot_seqs:
        if seq not in survey.snapshots or (not keep and seq != start):
            state_dir.rename(snapshot_name(seq), f"{aside}/{snapshot_name(seq)}")
            actions.append(f"moved {snapshot_name(seq)} to {aside}/")
    if keep and (keep[-1].flaw or keep[-1].sealed):
        end += _cut(state_dir, keep[-1], aside, actions)
    head = (survey.snapshots.get(start) or keep[0].head) if keep or survey.snapshots else None
    if head is None:
        raise JournalUnusable(f"no head of a journal is left in {state_dir.path}")
    if not keep:
        fresh = FileHead(SEGMENT_MAGIC, head.cluster, head.journal_id, start + 1)
        state_dir.create_atomic(segment_name(start + 1), [fresh.pack()])
        actions.append(f"began {segment_name(start + 1)} after the snapshot")
    if survey.found.watermark_there:
        state_dir.rename(WATERMARK_NAME, f"{aside}/{WATERMARK_NAME}")
    state_dir.fsync()
    mark = Watermark(state_dir, head.cluster, head.journal_id)
    mark.start(end)
    mark.close()
    actions.append(f"kept everything up to seq {end}")
    return actions


def _cut(state_dir: StateDir, scan: SegmentScan, aside: str, actions: list[str]) -> int:
    """Copy the segment aside, cut it after its last valid record; returns how many records of a bad batch stay."""
    name = segment_name(scan.first_seq)
    scan, data = scan_file(state_dir, scan.first_seq, deep=True)
    state_dir.create_atomic(f"{aside}/{name}", [data])
    payloads = valid_records_of_bad_batch(scan, data)
    end, sealed = scan.good_end, scan.sealed
    fd = state_dir.open_file(name, os.O_RDWR)
    try:
        if sealed:  # the successor is gone: what follows must be able to go on here
            end = _before_seal(scan)
        os.ftruncate(fd, end)
        if payloads and scan.head:
            batch = encode_batch(payloads, scan.last_seq + 1, scan.chain, seed_of(scan.head.journal_id))
            write_all(fd, batch.parts, end)
        os.fsync(fd)
    finally:
        os.close(fd)
    actions.append(f"copied {name} to {aside}/ and cut it at byte {end}, keeping {len(payloads)} records of that batch")
    return len(payloads)


def _before_seal(scan: SegmentScan) -> int:
    """Where the seal of a sealed segment starts."""
    return max(HEAD_BYTES, scan.good_end - BATCH_HEAD.size)
