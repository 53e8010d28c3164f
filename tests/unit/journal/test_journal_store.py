"""The journal when nothing goes wrong: order, durability counters, snapshots, rotation, locking, permissions."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from helix.errors import InternalError, LimitExceeded
from helixctld.io import journal as journal_module
from helixctld.io.journal import Journal, JournalDamaged, JournalFull, JournalLocked, JournalUnusable
from helixctld.io.journal_dir import StateDir


def open_at(path: Path, cluster: str = "c1") -> Journal:
    return Journal.open(str(path), cluster=cluster)


def replayed(path: Path) -> list[tuple[int, bytes]]:
    with open_at(path) as journal:
        return list(journal.replay())


def names(path: Path, prefix: str) -> list[str]:
    return sorted(p.name for p in path.iterdir() if p.name.startswith(prefix))


def test_fresh_journal_is_empty_and_says_so(tmp_path: Path) -> None:
    with open_at(tmp_path / "s") as journal:
        assert journal.recovered.fresh
        assert journal.recovered.snapshot is None
        assert (journal.durable_seq, journal.last_seq, list(journal.replay())) == (0, 0, [])
        assert not journal.low_space


def test_records_come_back_in_order_with_their_seqs(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        assert journal.append([b"a", b"", b"c" * 5000]) == 3
        assert (journal.last_seq, journal.durable_seq) == (3, 0)
        assert journal.unsynced_bytes == 5001 + 3 * 16
        assert journal.sync() == 3
        assert journal.unsynced_bytes == 0
        assert journal.append([]) == 3
        journal.append([b"d"])
        assert journal.sync() == 4
    with open_at(tmp_path) as journal:
        assert list(journal.replay()) == [(1, b"a"), (2, b""), (3, b"c" * 5000), (4, b"d")]
        assert journal.durable_seq == journal.last_seq == 4
        assert journal.records_since_snapshot == 4
        assert journal.append([b"e"]) == 5
    assert replayed(tmp_path)[-1] == (5, b"e")


def test_close_commits_what_is_queued(tmp_path: Path) -> None:
    journal = open_at(tmp_path)
    journal.append([b"x"])
    journal.close()
    journal.close()
    with pytest.raises(InternalError):
        journal.append([b"y"])
    assert replayed(tmp_path) == [(1, b"x")]


def test_unsynced_records_are_not_on_disk(tmp_path: Path) -> None:
    journal = open_at(tmp_path)
    journal.append([b"one"])
    journal.sync()
    journal.append([b"two"])
    before = (tmp_path / "journal.0000000000000001").read_bytes()
    assert b"one" in before
    assert b"two" not in before
    journal.close()


def test_snapshot_replaces_the_records_it_covers(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"1", b"2", b"3", b"4"])
        journal.snapshot(b"state after 3", 3)
        assert journal.durable_seq == 4
        assert journal.records_since_snapshot == 1
        journal.append([b"5"])
        journal.sync()
    with open_at(tmp_path) as journal:
        assert (journal.recovered.snapshot, journal.recovered.snapshot_seq) == (b"state after 3", 3)
        assert list(journal.replay()) == [(4, b"4"), (5, b"5")]


def test_two_snapshots_and_the_segments_after_the_older_are_kept(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        for number in range(1, 6):
            journal.append([b"r%d" % number])
            journal.snapshot(b"s%d" % number, number)
    assert names(tmp_path, "snapshot.") == ["snapshot.0000000000000004", "snapshot.0000000000000005"]
    assert names(tmp_path, "journal.00") == ["journal.0000000000000005", "journal.0000000000000006"]
    (tmp_path / "snapshot.0000000000000005").unlink()
    with open_at(tmp_path) as journal:
        assert journal.recovered.snapshot == b"s4"
        assert list(journal.replay()) == [(5, b"r5")]


def test_the_first_snapshot_keeps_everything_as_fallback(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"1", b"2"])
        journal.snapshot(b"s2", 2)
    (tmp_path / "snapshot.0000000000000002").unlink()
    assert replayed(tmp_path) == [(1, b"1"), (2, b"2")]


def test_empty_snapshot_state_is_a_snapshot(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"1"])
        journal.snapshot(b"", 1)
    with open_at(tmp_path) as journal:
        assert journal.recovered.snapshot == b""


def test_snapshot_of_a_seq_that_is_old_or_not_there_is_refused(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"1", b"2"])
        with pytest.raises(InternalError):
            journal.snapshot(b"", 3)
        with pytest.raises(InternalError):
            journal.snapshot(b"", 0)
        journal.snapshot(b"", 2)
        with pytest.raises(InternalError):
            journal.snapshot(b"", 2)


def test_a_long_journal_spans_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 2000)
    with open_at(tmp_path) as journal:
        for number in range(1, 51):
            journal.append([b"%d" % number * 50])
            journal.sync()
    assert len(names(tmp_path, "journal.00")) > 3
    assert replayed(tmp_path) == [(n, b"%d" % n * 50) for n in range(1, 51)]


def test_reopening_many_times_goes_on_in_the_same_chain(tmp_path: Path) -> None:
    for number in range(1, 8):
        with open_at(tmp_path) as journal:
            assert journal.append([b"x%d" % number]) == number
    assert [seq for seq, _ in replayed(tmp_path)] == list(range(1, 8))


def test_record_length_limit_is_exact_and_all_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "RECORD_BYTES_MAX", 100)
    with open_at(tmp_path) as journal:
        journal.append([b"x" * 100])
        with pytest.raises(LimitExceeded) as caught:
            journal.append([b"ok", b"x" * 101])
        assert caught.value.code == "RECORD_TOO_LONG"
        assert journal.last_seq == 1


def test_queue_limit_refuses_and_recovers_after_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "UNSYNCED_BYTES_MAX", 1000)
    with open_at(tmp_path) as journal:
        journal.append([b"x" * 900])
        with pytest.raises(JournalFull) as caught:
            journal.append([b"y" * 100])
        assert caught.value.data["retry_after_s"] > 0
        journal.sync()
        assert journal.append([b"y" * 100]) == 2


def test_append_goes_on_while_another_thread_syncs(tmp_path: Path) -> None:
    total, done = 3000, threading.Event()
    with open_at(tmp_path) as journal:

        def committer() -> None:
            while not done.is_set() or journal.durable_seq < journal.last_seq:
                journal.sync()

        thread = threading.Thread(target=committer)
        thread.start()
        for number in range(1, total + 1):
            assert journal.append([b"%d" % number]) == number
        done.set()
        thread.join()
        assert journal.durable_seq == total
        assert journal.unsynced_bytes == 0
    assert replayed(tmp_path) == [(n, b"%d" % n) for n in range(1, total + 1)]


def test_second_controller_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    with open_at(tmp_path), pytest.raises(JournalLocked, match=f"pid {os.getpid()}"):
        open_at(tmp_path)
    open_at(tmp_path).close()


def test_lock_is_not_inherited_by_child_processes(tmp_path: Path) -> None:
    journal = open_at(tmp_path)
    program = "print('runs', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"runs\n"  # its exec is over: only then are its inherited files closed
        journal.close()
        open_at(tmp_path).close()
    finally:
        child.communicate(b"\n")


def test_another_clusters_journal_is_refused(tmp_path: Path) -> None:
    open_at(tmp_path, "alpha").close()
    with pytest.raises(JournalUnusable, match="belongs to cluster 'alpha'") as caught:
        open_at(tmp_path, "beta")
    assert caught.value.code == "JOURNAL_CLUSTER"


def test_newer_format_is_refused_by_name_and_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helixctld.io import journal_format

    monkeypatch.setattr(journal_format.FileHead.__init__, "__defaults__", (0, 0, b"", 2))
    open_at(tmp_path).close()
    monkeypatch.undo()
    with pytest.raises(JournalUnusable, match="format version 2") as caught:
        open_at(tmp_path)
    assert caught.value.code == "JOURNAL_VERSION"


def test_directory_and_files_are_private_and_tightened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    with open_at(state) as journal:
        journal.append([b"1"])
        journal.snapshot(b"s", 1)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(p.stat().st_mode) for p in state.iterdir()} == {0o600}
    assert "now 0700" in caplog.text
    (state / "snapshot.0000000000000001").chmod(0o644)
    open_at(state).close()
    assert stat.S_IMODE((state / "snapshot.0000000000000001").stat().st_mode) == 0o600


def test_symbolic_link_in_place_of_a_segment_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "s"
    open_at(state).close()
    segment = state / "journal.0000000000000001"
    segment.rename(tmp_path / "elsewhere")
    segment.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalUnusable, match="symbolic link"):
        open_at(state)


def test_replay_notices_a_file_that_changes_under_it(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"a" * 100])
    with open_at(tmp_path) as journal:
        segment = tmp_path / "journal.0000000000000001"
        data = bytearray(segment.read_bytes())
        data[600] ^= 1
        segment.write_bytes(data)
        with pytest.raises(JournalDamaged):
            list(journal.replay())


def test_leftover_temporary_files_are_removed(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    (tmp_path / "snapshot.0000000000000009.tmp").write_bytes(b"half")
    open_at(tmp_path).close()
    assert not names(tmp_path, "snapshot.")


def test_byte_counter_grows_and_falls_at_a_snapshot(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"x" * 1000])
        assert journal.bytes_since_snapshot >= 1000
        journal.sync()
        assert 1000 <= journal.bytes_since_snapshot < 1200
        journal.snapshot(b"", 1)
        assert journal.bytes_since_snapshot == 0
        journal.append([b"x" * 100])
        journal.sync()
    with open_at(tmp_path) as journal:
        assert 100 <= journal.bytes_since_snapshot < 300


def test_commits_go_on_while_a_snapshot_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, may_finish = threading.Event(), threading.Event()
    real = StateDir.write_aside

    def slow_write(self: StateDir, name: str, parts: Sequence[bytes]) -> None:
        if name.startswith("snapshot."):
            writing.set()
            assert may_finish.wait(30)
        real(self, name, parts)

    monkeypatch.setattr(StateDir, "write_aside", slow_write)
    with open_at(tmp_path) as journal:
        journal.append([b"1"])
        thread = threading.Thread(target=journal.snapshot, args=(b"s1", 1))
        thread.start()
        assert writing.wait(30)
        journal.append([b"2"])
        assert journal.sync() == 2
        may_finish.set()
        thread.join()
        assert journal.records_since_snapshot == 1
    with open_at(tmp_path) as journal:
        assert journal.recovered.snapshot == b"s1"
        assert list(journal.replay()) == [(2, b"2")]


def test_snapshot_longer_than_one_chunk_comes_back_whole(tmp_path: Path) -> None:
    state = os.urandom((4 << 20) * 2 + 17)
    with open_at(tmp_path) as journal:
        journal.append([b"1"])
        journal.snapshot(state, 1)
    with open_at(tmp_path) as journal:
        assert journal.recovered.snapshot == state
