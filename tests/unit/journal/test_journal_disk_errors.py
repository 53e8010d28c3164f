"""Errors of the disk while running: a full disk loses nothing and recovers, any other error is final."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helixctld.io.journal import Journal, JournalFailed, JournalFull, SnapshotFailed


class Fault:
    """Makes one os function fail with `code` while `left` is above 0 (-1: always)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, function: str, code: int, left: int = -1) -> None:
        self.real: Callable[..., Any] = getattr(os, function)
        self.code, self.left, self.hits = code, left, 0
        monkeypatch.setattr(os, function, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.left == 0:
            return self.real(*args, **kwargs)
        self.left -= 1
        self.hits += 1
        raise OSError(self.code, os.strerror(self.code))


def open_at(path: Path) -> Journal:
    return Journal.open(str(path), cluster="c1")


def payloads(path: Path) -> list[bytes]:
    with open_at(path) as journal:
        return [payload for _, payload in journal.replay()]


@pytest.mark.parametrize("function", ["pwritev", "fdatasync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_keeps_the_queue_and_a_later_sync_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"before"])
        journal.sync()
        fault = Fault(monkeypatch, function, code)
        journal.append([b"during"])
        with pytest.raises(JournalFull) as caught:
            journal.sync()
        assert caught.value.code == "JOURNAL_FULL"
        assert str(tmp_path) in caught.value.msg
        assert journal.low_space
        assert (journal.durable_seq, journal.last_seq) == (1, 2)
        assert journal.append([b"queued"]) == 3
        fault.left = 0
        assert journal.sync() == 3
        assert journal.unsynced_bytes == 0
    assert payloads(tmp_path) == [b"before", b"during", b"queued"]


def test_one_full_write_is_saved_by_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_at(tmp_path) as journal:
        assert (tmp_path / "journal.reserve").stat().st_blocks * 512 >= 1 << 20
        Fault(monkeypatch, "pwritev", errno.ENOSPC, left=1)
        journal.append([b"x"])
        assert journal.sync() == 1
        assert journal.low_space
        assert not (tmp_path / "journal.reserve").exists()
        journal._reserve._next_try = 0.0
        journal.sync()
        assert not journal.low_space
    assert payloads(tmp_path) == [b"x"]


def test_partial_write_is_cut_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"kept"])
        journal.sync()
        size = (tmp_path / "journal.0000000000000001").stat().st_size
        real = os.pwritev
        monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: real(fd, [b"".join(parts)[:100]], at))
        Fault(monkeypatch, "pwrite", errno.ENOSPC)
        journal.append([b"x" * 5000])
        with pytest.raises(JournalFull):
            journal.sync()
        assert (tmp_path / "journal.0000000000000001").stat().st_size == size
        monkeypatch.undo()
        assert journal.sync() == 2
    assert payloads(tmp_path) == [b"kept", b"x" * 5000]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_v, real = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: real_v(fd, [b"".join(parts)[:7]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:900], at))
    with open_at(tmp_path) as journal:
        journal.append([b"x" * 5000, b"y"])
        journal.sync()
    monkeypatch.undo()
    assert payloads(tmp_path) == [b"x" * 5000, b"y"]


@pytest.mark.parametrize("function", ["pwritev", "fdatasync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS])
def test_any_other_error_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int) -> None:
    journal = open_at(tmp_path)
    journal.append([b"acknowledged"])
    journal.sync()
    fault = Fault(monkeypatch, function, code, left=1)
    journal.append([b"unknown"])
    with pytest.raises(JournalFailed) as caught:
        journal.sync()
    assert "journal.0000000000000001" in caught.value.msg
    assert fault.hits == 1
    for call in (journal.sync, lambda: journal.append([b"x"]), lambda: journal.snapshot(b"", 1)):
        with pytest.raises(JournalFailed):
            call()
    assert journal.durable_seq == 1
    journal.close()
    assert payloads(tmp_path)[0] == b"acknowledged"


def test_failed_truncate_after_a_full_disk_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_at(tmp_path)
    journal.append([b"x"])
    Fault(monkeypatch, "pwritev", errno.ENOSPC)
    Fault(monkeypatch, "ftruncate", errno.EIO)
    with pytest.raises(JournalFailed):
        journal.sync()
    monkeypatch.undo()
    journal.close()


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, JournalFull), (errno.EIO, SnapshotFailed)])
@pytest.mark.parametrize("function", ["pwritev", "fsync", "rename"])
def test_failed_snapshot_leaves_the_journal_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int, error: type[Exception]
) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"1"])
        journal.sync()
        fault = Fault(monkeypatch, function, code)
        with pytest.raises(error):
            journal.snapshot(b"state", 1)
        fault.left = 0
        assert not list(tmp_path.glob("*.tmp"))
        journal.append([b"2"])
        assert journal.sync() == 2
        journal.snapshot(b"state", 2)
    with open_at(tmp_path) as journal:
        assert journal.recovered.snapshot_seq == 2


def test_close_on_a_full_disk_says_so_and_releases_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_at(tmp_path)
    journal.append([b"x"])
    Fault(monkeypatch, "pwritev", errno.ENOSPC)
    with pytest.raises(JournalFull):
        journal.close()
    monkeypatch.undo()
    assert payloads(tmp_path) == []


def test_watermark_that_cannot_be_written_does_not_fail_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_at(tmp_path) as journal:
        fault = Fault(monkeypatch, "pwrite", errno.EIO)
        journal.append([b"x"])
        assert journal.sync() == 1
        assert fault.hits == 1
        fault.left = 0
        journal.append([b"y"])
        assert journal.sync() == 2
    assert payloads(tmp_path) == [b"x", b"y"]


def test_no_descriptor_is_left_open_after_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_at(tmp_path).close()
    (tmp_path / "journal.0000000000000001").write_bytes(b"nonsense")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(Exception, match="journal"):
            open_at(tmp_path)
    for number in range(5):
        (tmp_path / f"n{number}").mkdir(mode=0o700)
    Fault(monkeypatch, "fsync", errno.EIO)
    for number in range(5):
        with pytest.raises(Exception, match="journal"):
            open_at(tmp_path / f"n{number}")
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_system_without_fallocate_is_not_called_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(monkeypatch, "posix_fallocate", errno.EOPNOTSUPP)
    with open_at(tmp_path) as journal:
        assert fault.hits == 1
        assert not journal.low_space
        Fault(monkeypatch, "pwritev", errno.ENOSPC, left=1)
        journal.append([b"x"])
        with pytest.raises(JournalFull):
            journal.sync()
        assert journal.low_space
        journal._reserve._next_try = 0.0
        assert journal.sync() == 1
        assert not journal.low_space


def test_nearly_full_disk_is_known_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fault(monkeypatch, "posix_fallocate", errno.ENOSPC)
    with open_at(tmp_path) as journal:
        assert journal.low_space
        journal.append([b"x"])
        assert journal.sync() == 1
        assert not (tmp_path / "journal.reserve").exists()
