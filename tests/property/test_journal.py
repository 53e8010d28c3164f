"""The journal under arbitrary input, arbitrary damage, and a power cut at every system call.

The power cut test records every write, truncate, rename, unlink and sync that a workload makes, and then rebuilds,
for each point in that list, directories as a disk might hold them: what was synced is there; of the rest a prefix,
with any subset of the sectors of the write in progress.  A journal opened on any of them must hold every
acknowledged record, in order, without refusing.
"""

import errno
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helix.errors import HelixError
from helixctld.io import journal as journal_module
from helixctld.io.journal import Journal, JournalDamaged, JournalFull, JournalUnusable
from helixctld.io.journal_format import (
    HEAD_BYTES,
    SEGMENT_MAGIC,
    FileHead,
    encode_batch,
    parse_head,
    seed_of,
)
from helixctld.io.journal_fsck import check, render, repair
from helixctld.io.journal_scan import records, scan_segment, valid_records_of_bad_batch

SECTOR = 512
ID = b"i" * 16
slow = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def open_at(path: Path) -> Journal:
    return Journal.open(str(path), cluster="c1")


def segment_of(batches: list[list[bytes]]) -> bytes:
    data, seq, chain = FileHead(SEGMENT_MAGIC, "c1", ID, 1).pack(), 1, 0
    for batch in batches:
        encoded = encode_batch(batch, seq, chain, seed_of(ID))
        data, seq, chain = data + b"".join(encoded.parts), seq + len(batch), encoded.chain
    return data


payload_lists = st.lists(st.lists(st.binary(max_size=700), min_size=1, max_size=4), max_size=4)


@given(payload_lists)
def test_encoded_batches_scan_and_read_back(batches: list[list[bytes]]) -> None:
    data = segment_of(batches)
    flat = [payload for batch in batches for payload in batch]
    for deep in (False, True):
        scan = scan_segment("s", data, deep=deep)
        assert (scan.flaw, scan.good_end, scan.last_seq) == (None, len(data), len(flat))
    for after in range(len(flat) + 1):
        assert list(records(scan, data, after)) == list(enumerate(flat, 1))[after:]


@given(payload_lists, st.data())
def test_any_prefix_of_a_segment_is_torn_and_keeps_whole_batches(
    batches: list[list[bytes]], data: st.DataObject
) -> None:
    whole = segment_of(batches)
    cut = data.draw(st.integers(HEAD_BYTES, len(whole)))
    scan = scan_segment("s", whole[:cut], deep=True)
    assert scan.good_end <= cut
    assert (scan.flaw is None) == (scan.good_end == cut)
    assert scan.torn == (scan.flaw is not None)
    flat = [payload for batch in batches for payload in batch]
    kept = [payload for _, payload in records(scan, whole[:cut], 0)]
    assert kept == flat[: len(kept)]
    rest = valid_records_of_bad_batch(scan, whole[:cut])
    assert kept + rest == flat[: len(kept) + len(rest)]


@given(payload_lists, st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), min_size=1, max_size=3))
def test_changed_bytes_never_change_a_record(batches: list[list[bytes]], changes: list[tuple[int, int]]) -> None:
    data = bytearray(segment_of(batches))
    for offset, mask in changes:
        data[offset % len(data)] ^= mask
    try:
        scan = scan_segment("s", bytes(data), deep=True)
    except JournalUnusable:
        return
    flat = [payload for batch in batches for payload in batch]
    kept = [payload for _, payload in records(scan, bytes(data), 0)]
    assert kept == flat[: len(kept)]
    assert scan.flaw is not None or kept == flat


@given(st.binary(max_size=4000), payload_lists)
def test_random_bytes_never_break_the_scanner(noise: bytes, batches: list[list[bytes]]) -> None:
    for data in (noise, segment_of(batches) + noise, segment_of([]) + noise):
        scan = scan_segment("s", data, deep=True)
        valid_records_of_bad_batch(scan, data)
        assert scan.good_end <= len(data)
        if noise and scan.head:
            assert scan.flaw is not None
        list(records(scan, data, 0))


@given(st.binary(max_size=600))
def test_random_heads_are_refused(noise: bytes) -> None:
    assert not isinstance(parse_head(noise, SEGMENT_MAGIC, "f"), FileHead)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A journal with two snapshots and several segments, and its payloads."""
    path = tmp_path_factory.mktemp("sample") / "state"
    rng, payloads = random.Random(7), []
    with pytest.MonkeyPatch.context() as patch, open_at(path) as journal:
        patch.setattr(journal_module, "SEGMENT_BYTES_MAX", 4000)
        for number in range(1, 41):
            batch = [rng.randbytes(rng.randrange(400)) for _ in range(rng.randrange(1, 4))]
            payloads += batch
            journal.append(batch)
            journal.sync()
            if number in (12, 24):
                journal.snapshot(b"%d" % len(payloads), len(payloads))
    return path, payloads


def recovered(path: Path) -> tuple[int, list[bytes]]:
    """(seq of the snapshot, payloads after it); checks that the snapshot is the one of that seq."""
    with open_at(path) as journal:
        found = journal.recovered
        assert found.snapshot_seq == int(found.snapshot or b"0")
        return found.snapshot_seq, [payload for _, payload in journal.replay()]


@slow
@given(st.data())
def test_damage_to_any_file_is_refused_or_harmless_and_repair_keeps_a_prefix(
    sample: tuple[Path, list[bytes]], tmp_path: Path, data: st.DataObject
) -> None:
    source, payloads = sample
    state = tmp_path / "s"
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(source, state)
    for _ in range(data.draw(st.integers(1, 3))):
        files = sorted(p for p in state.iterdir() if p.name.startswith(("journal.0", "snapshot.", "journal.mark")))
        if not files:
            break
        damage(data.draw(st.sampled_from(files)), data)
    mark_there = (state / "journal.mark").exists()
    try:
        seq, rest = recovered(state)
    except (JournalDamaged, JournalUnusable):
        report = check(str(state))
        assert not report.ok
        render(report)
        try:
            after = repair(str(state))
        except JournalUnusable:
            return
        assert after.ok, after
        seq, rest = recovered(state)
        assert payloads[seq : seq + len(rest)] == rest
    else:
        assert payloads[seq : seq + len(rest)] == rest
        assert seq + len(rest) == len(payloads) or not mark_there or not same(source, state, "journal.mark")
    with open_at(state) as journal:
        journal.append([b"goes on"])
    assert recovered(state)[1][-1] == b"goes on"


def same(a: Path, b: Path, name: str) -> bool:
    first, second = parse_head((a / name).read_bytes(), b"HELIXMRK", ""), (b / name).read_bytes()
    return isinstance(first, FileHead) and first == parse_head(second, b"HELIXMRK", "")


def damage(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "zero", "grow", "remove", "drop", "empty"]))
    at = data.draw(st.integers(0, max(0, len(content) - 1)))
    if kind == "remove":
        file.unlink()
        return
    if kind == "flip" and content:
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[at:]
    elif kind == "zero":
        length = min(len(content) - at, data.draw(st.integers(1, 1500)))
        content[at : at + length] = bytes(length)
    elif kind == "grow":
        content += data.draw(st.binary(min_size=1, max_size=100))
    elif kind == "drop":
        del content[at : at + data.draw(st.integers(1, 600))]
    elif kind == "empty":
        content.clear()
    file.write_bytes(content)


# -- power cuts ----------------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """Records what a workload does to one directory, as (kind, arguments) in order."""

    root: str
    log: list[tuple[Any, ...]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    by_fd: dict[int, int] = field(default_factory=dict)
    real: dict[str, Callable[..., Any]] = field(default_factory=dict)
    files: int = 0
    fail_full: Callable[[], bool] = field(default=lambda: False)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("open", "pwrite", "pwritev", "ftruncate", "fsync", "fdatasync", "rename", "unlink"):
            self.real[name] = getattr(os, name)
            patch.setattr(os, name, getattr(self, f"on_{name}"))

    def on_open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd: int = self.real["open"](path, flags, mode, dir_fd=dir_fd)
        self.by_fd.pop(fd, None)
        if dir_fd is None:
            return fd
        if path not in self.names and flags & os.O_CREAT:
            self.files += 1
            self.names[path] = self.files
            self.log.append(("create", path, self.files))
        if path in self.names:
            self.by_fd[fd] = self.names[path]
            if flags & os.O_TRUNC:
                self.log.append(("truncate", self.names[path], 0))
        return fd

    def on_pwrite(self, fd: int, data: bytes, at: int) -> int:
        return self.on_pwritev(fd, [data], at)

    def on_pwritev(self, fd: int, parts: list[bytes], at: int) -> int:
        whole = b"".join(parts)
        if self.fail_full():
            part = whole[: len(whole) // 2]
            if part:
                self.real["pwrite"](fd, part, at)
                self.log.append(("write", self.by_fd[fd], at, part))
            raise OSError(errno.ENOSPC, "No space left on device")
        self.log.append(("write", self.by_fd[fd], at, whole))
        return int(self.real["pwritev"](fd, parts, at))

    def on_ftruncate(self, fd: int, size: int) -> None:
        self.log.append(("truncate", self.by_fd[fd], size))
        self.real["ftruncate"](fd, size)

    def on_fsync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self.log.append(("sync names",))
        else:
            self.log.append(("sync", self.by_fd[fd]))

    def on_fdatasync(self, fd: int) -> None:
        self.on_fsync(fd)

    def on_rename(self, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self.real["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self.names[new] = self.names.pop(old)
        self.log.append(("rename", old, new))

    def on_unlink(self, name: str, *, dir_fd: int) -> None:
        self.real["unlink"](name, dir_fd=dir_fd)
        self.names.pop(name, None)
        self.log.append(("unlink", name))


def write_sectors(content: bytearray, at: int, data: bytes, arrives: Callable[[], bool]) -> None:
    """Apply a write sector by sector; what does not arrive keeps the old bytes, or zeros beyond the old end."""
    end = at + len(data)
    if arrives():
        content.extend(bytes(max(0, end - len(content))))
    for sector in range(at // SECTOR, (end - 1) // SECTOR + 1):
        low, high = max(at, sector * SECTOR), min(end, (sector + 1) * SECTOR)
        if arrives():
            content.extend(bytes(max(0, high - len(content))))
            content[low:high] = data[low - at : high - at]


def file_after(events: list[tuple[Any, ...]], rng: random.Random) -> bytes:
    """One file's content after a power cut that follows `events` (its own only)."""
    synced = max((i + 1 for i, event in enumerate(events) if event[0] == "sync"), default=0)
    pending = [event for event in events[synced:] if event[0] != "sync"]
    keep = synced + rng.randint(0, len(pending))
    chance = rng.choice([0.0, 0.5, 0.9, 1.0])
    content = bytearray()
    for index, event in enumerate(events[: keep + 1]):
        if event[0] == "truncate" and index < keep:
            del content[event[2] :]
            content.extend(bytes(event[2] - len(content)))
        elif event[0] == "write":
            whole = index < keep
            write_sectors(content, event[2], event[3], lambda whole=whole: whole or rng.random() < chance)  # type: ignore[misc]
    return bytes(content)


def disk_after(log: list[tuple[Any, ...]], rng: random.Random) -> dict[str, bytes]:
    """Names and contents after a power cut that follows `log`."""
    name_events = [e for e in log if e[0] in ("create", "rename", "unlink", "sync names")]
    synced = max((i + 1 for i, e in enumerate(name_events) if e[0] == "sync names"), default=0)
    keep = rng.randint(synced, len(name_events))
    names: dict[str, int] = {}
    for event in name_events[:keep]:
        if event[0] == "create":
            names[event[1]] = event[2]
        elif event[0] == "rename":
            names[event[2]] = names.pop(event[1])
        elif event[0] == "unlink":
            names.pop(event[1], None)
    contents = {}
    for name, number in names.items():
        if name not in ("journal.lock", "journal.reserve"):
            own = [e for e in log if e[0] in ("write", "truncate", "sync") and e[1] == number]
            contents[name] = file_after(own, rng)
    return contents


def workload(path: Path, disk: Disk, rng: random.Random, full_chance: float) -> Iterator[bytes]:
    """Append, sync and snapshot at random, noting ("ack", seq) in the log; yields the payloads."""
    journal = open_at(path)
    disk.fail_full = lambda: rng.random() < full_chance
    number = 0
    for _ in range(25):
        batch = []
        for _ in range(rng.randint(1, 4)):
            number += 1
            batch.append(b"%d:" % number + rng.randbytes(rng.choice([0, 10, 300, 1500])))
        yield from batch
        journal.append(batch)
        try:
            seq = journal.sync()
            disk.log.append(("ack", seq))
            if rng.random() < 0.15:
                journal.snapshot(b"%d" % seq, seq)
        except JournalFull:
            disk.log.append(("full",))
    disk.fail_full = lambda: False
    journal.close()
    disk.log.append(("ack", journal.durable_seq))


@pytest.mark.parametrize("seed", range(6))
def test_power_cut_at_every_system_call_loses_nothing_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 6000)
    disk = Disk(str(tmp_path / "live"))
    with pytest.MonkeyPatch.context() as patch:
        (tmp_path / "live").mkdir(mode=0o700)
        disk.install(patch)
        payloads = list(workload(tmp_path / "live", disk, rng, 0.15 if seed % 2 else 0.0))
    assert sum(1 for event in disk.log if event[0] in ("sync", "sync names")) > 40
    for point in range(len(disk.log) + 1):
        log = disk.log[:point]
        acknowledged = max((event[1] for event in log if event[0] == "ack"), default=0)
        for trial in range(2):
            crash = random.Random(f"{seed}/{point}/{trial}")
            state = tmp_path / "crashed"
            state.mkdir(mode=0o700)
            for name, content in disk_after(log, crash).items():
                (state / name).touch(0o600)
                (state / name).write_bytes(content)
            try:
                seq, rest = recovered(state)
                assert payloads[seq : seq + len(rest)] == rest
                assert acknowledged <= seq + len(rest) <= len(payloads)
                with open_at(state) as journal:
                    journal.append([b"goes on"])
                assert recovered(state)[1][-1] == b"goes on"
            except (HelixError, AssertionError) as exc:
                pytest.fail(f"seed {seed}, after call {point} {log[-1:]!r:.200}, trial {trial}: {exc}")
            shutil.rmtree(state)
