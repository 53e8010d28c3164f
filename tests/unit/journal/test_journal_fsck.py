"""check and repair: what they say, what they keep, and that nothing is ever deleted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from helixctld.io import journal as journal_module
from helixctld.io.journal import Journal, JournalLocked, JournalUnusable
from helixctld.io.journal_fsck import check, render, repair

SEGMENT = "journal.0000000000000001"


def open_at(path: Path) -> Journal:
    return Journal.open(str(path), cluster="c1")


def fill(path: Path, count: int, snapshots: tuple[int, ...] = ()) -> None:
    with open_at(path) as journal:
        for number in range(1, count + 1):
            journal.append([b"r%d" % number])
            journal.sync()
            if number in snapshots:
                journal.snapshot(b"s%d" % number, number)


def edit(file: Path, change: Callable[[bytearray], object]) -> bytes:
    before = file.read_bytes()
    data = bytearray(before)
    change(data)
    file.write_bytes(data)
    return before


def flip_at(text: bytes) -> Callable[[bytearray], object]:
    def change(data: bytearray) -> None:
        data[data.index(text)] ^= 1

    return change


def state_of(path: Path) -> tuple[bytes | None, list[bytes]]:
    with open_at(path) as journal:
        return journal.recovered.snapshot, [payload for _, payload in journal.replay()]


def aside(path: Path) -> Path:
    (folder,) = path.glob("damaged.*Z.*")
    return folder


def test_clean_journal_checks_clean_and_repair_does_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 5, (2, 4))
    report = check(str(tmp_path))
    assert (report.verdict, report.ok, report.cluster) == ("clean", True, "c1")
    assert (report.snapshot_seq, report.last_seq, report.acknowledged_seq, report.lost) == (4, 5, 5, 0)
    assert {file.status for file in report.files} == {"ok"}
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name != "journal.lock"}
    assert repair(str(tmp_path)).actions == ()
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != "journal.lock"}
    text = render(report)
    assert "clean, cluster c1" in text
    assert "snapshot.0000000000000004" in text


def test_empty_directory_is_empty(tmp_path: Path) -> None:
    assert check(str(tmp_path)).verdict == "empty"
    assert repair(str(tmp_path)).verdict == "empty"
    with pytest.raises(JournalUnusable):
        check(str(tmp_path / "absent"))


def test_check_changes_nothing_not_even_permissions(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    tmp_path.chmod(0o755)
    check(str(tmp_path))
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_check_beside_a_controller_names_it_and_repair_refuses(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"x"])
        journal.sync()
        report = check(str(tmp_path))
        assert report.verdict == "clean"
        assert "pid" in report.in_use_by
        assert "in use by" in render(report)
        with pytest.raises(JournalLocked):
            repair(str(tmp_path))


def test_torn_tail_is_reported_and_cut_with_a_copy(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    edit(tmp_path / SEGMENT, lambda data: data.extend(bytes(700)))
    torn = (tmp_path / SEGMENT).read_bytes()
    report = check(str(tmp_path))
    assert (report.verdict, report.ok) == ("torn", True)
    assert "cuts the unfinished" in render(report)
    after = repair(str(tmp_path))
    assert after.verdict == "clean"
    assert (aside(tmp_path) / SEGMENT).read_bytes() == torn
    assert state_of(tmp_path) == (None, [b"r1", b"r2", b"r3"])


def test_flipped_byte_keeps_the_records_before_it(tmp_path: Path) -> None:
    with open_at(tmp_path) as journal:
        journal.append([b"r1"])
        journal.sync()
        journal.append([b"r2", b"r3", b"bad!", b"r5"])
        journal.sync()
        journal.append([b"r6"])
    edit(tmp_path / SEGMENT, flip_at(b"bad!"))
    damaged = (tmp_path / SEGMENT).read_bytes()
    report = check(str(tmp_path))
    assert (report.verdict, report.ok) == ("damaged", False)
    assert "expected record 4" in report.problem
    assert f"hctl journal repair {tmp_path}" in render(report)
    after = repair(str(tmp_path), now=lambda: 0.0)
    assert aside(tmp_path).name.startswith("damaged.19700101T000000Z.")
    assert (after.verdict, after.last_seq, after.acknowledged_seq, after.lost) == ("clean", 3, 6, 3)
    assert "3 acknowledged records (seq 4 on) cannot be kept" in render(after)
    assert (aside(tmp_path) / SEGMENT).read_bytes() == damaged
    assert state_of(tmp_path) == (None, [b"r1", b"r2", b"r3"])
    with open_at(tmp_path) as journal:
        assert journal.append([b"new"]) == 4
    assert state_of(tmp_path)[1][-1] == b"new"
    assert check(str(tmp_path)).verdict == "clean"


def test_newer_snapshot_wins_over_damaged_segments(tmp_path: Path) -> None:
    fill(tmp_path, 6, (3, 5))
    (tmp_path / "journal.0000000000000006").write_bytes(b"rubbish")
    after = repair(str(tmp_path))
    assert (after.verdict, after.last_seq) == ("clean", 5)
    assert state_of(tmp_path) == (b"s5", [])
    with open_at(tmp_path) as journal:
        assert journal.append([b"new"]) == 6
    assert state_of(tmp_path) == (b"s5", [b"new"])


def test_all_segments_gone_keeps_the_snapshot(tmp_path: Path) -> None:
    fill(tmp_path, 6, (3, 5))
    for segment in tmp_path.glob("journal.0*"):
        segment.unlink()
    after = repair(str(tmp_path))
    assert (after.verdict, after.last_seq, after.lost) == ("clean", 5, 1)
    assert state_of(tmp_path) == (b"s5", [])


def test_missing_middle_segment_keeps_what_is_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 800)
    with open_at(tmp_path) as journal:
        for number in range(1, 10):
            journal.append([b"%d" % number * 200])
            journal.sync()
    segments = sorted(tmp_path.glob("journal.0*"))
    first_of_second = int(segments[1].name.split(".")[1], 16)
    segments[1].unlink()
    after = repair(str(tmp_path))
    assert (after.verdict, after.last_seq) == ("clean", first_of_second - 1)
    assert {p.name for p in aside(tmp_path).iterdir()} >= {segments[0].name, segments[2].name}
    with open_at(tmp_path) as journal:
        assert journal.append([b"new"]) == first_of_second
    assert state_of(tmp_path)[1][-1] == b"new"


def test_bad_newest_snapshot_without_cover_falls_back_as_far_as_it_can(tmp_path: Path) -> None:
    fill(tmp_path, 6, (2, 4, 5))
    edit(tmp_path / "snapshot.0000000000000005", flip_at(b"s5"))
    (tmp_path / "journal.0000000000000005").unlink()
    assert not check(str(tmp_path)).ok
    after = repair(str(tmp_path))
    assert (after.verdict, after.last_seq) == ("clean", 4)
    assert (aside(tmp_path) / "snapshot.0000000000000005").exists()
    assert state_of(tmp_path) == (b"s4", [])


@pytest.mark.parametrize(("cut", "kept"), [(1, 3), (16, 3), (17, 2), (60, 2)])
def test_cut_off_acknowledged_tail_keeps_every_whole_record(tmp_path: Path, cut: int, kept: int) -> None:
    fill(tmp_path, 3)
    edit(tmp_path / SEGMENT, lambda data: data.__delitem__(slice(-cut, None)))
    assert not check(str(tmp_path)).ok
    after = repair(str(tmp_path))
    assert (after.verdict, after.last_seq, after.lost) == ("clean", kept, 3 - kept)
    assert state_of(tmp_path) == (None, [b"r1", b"r2", b"r3"][:kept])


def test_superseded_damage_is_shown_but_does_not_stop_a_start(tmp_path: Path) -> None:
    fill(tmp_path, 4, (2, 3))
    edit(tmp_path / "journal.0000000000000003", flip_at(b"r3"))
    report = check(str(tmp_path))
    assert report.verdict == "clean"
    assert [f.name for f in report.files if f.status == "superseded-damaged"] == ["journal.0000000000000003"]


def test_nothing_valid_left_is_refused_and_nothing_is_moved(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    (tmp_path / SEGMENT).write_bytes(b"rubbish")
    with pytest.raises(JournalUnusable, match="no valid part"):
        repair(str(tmp_path))
    assert (tmp_path / SEGMENT).read_bytes() == b"rubbish"
    assert not list(tmp_path.glob("damaged.*"))
