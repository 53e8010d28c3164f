"""Recovery: what is cut off as torn, what refuses to start, and that the refusal names file, byte and command."""

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helixctld.io import journal as journal_module
from helixctld.io.journal import Journal, JournalDamaged

SEGMENT = "journal.0000000000000001"
HEAD = 512


def open_at(path: Path) -> Journal:
    return Journal.open(str(path), cluster="c1")


def make(path: Path, batches: list[list[bytes]]) -> list[int]:
    """Write one group commit per list; the segment's size after each."""
    sizes = []
    with open_at(path) as journal:
        for batch in batches:
            journal.append(batch)
            journal.sync()
            sizes.append((path / SEGMENT).stat().st_size)
    return sizes


def edit(file: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)


def flip(offset: int) -> Callable[[bytearray], object]:
    def change(data: bytearray) -> None:
        data[offset] ^= 0x10

    return change


def forget_watermark(path: Path) -> None:
    (path / "journal.mark").unlink()


def refused(path: Path) -> str:
    before = {p.name: p.read_bytes() for p in path.iterdir() if p.name.startswith(("journal.0", "snapshot"))}
    with pytest.raises(JournalDamaged) as caught:
        open_at(path)
    after = {p.name: p.read_bytes() for p in path.iterdir() if p.name.startswith(("journal.0", "snapshot"))}
    assert before == after, "a refusal changes nothing"
    text = str(caught.value)
    assert f"hctl journal check {path}" in text
    assert "byte " in text
    assert "expected " in text
    assert f"hctl journal repair {path}" in caught.value.hint
    return text


def payloads(path: Path) -> list[bytes]:
    with open_at(path) as journal:
        return [payload for _, payload in journal.replay()]


def test_batch_cut_at_any_byte_before_it_was_acknowledged_is_torn(tmp_path: Path) -> None:
    source = tmp_path / "source"
    sizes = make(source, [[b"kept"], [b"lost" * 30, b"also"]])
    whole = (source / SEGMENT).read_bytes()
    for cut in range(sizes[0] + 1, sizes[1]):
        state = tmp_path / "s"
        shutil.copytree(source, state)
        forget_watermark(state)
        (state / SEGMENT).write_bytes(whole[:cut])
        with open_at(state) as journal:
            assert [p for _, p in journal.replay()] == [b"kept"], cut
            assert journal.recovered.torn_bytes == cut - sizes[0]
            assert Path(journal.recovered.torn_copy).read_bytes() == whole[sizes[0] : cut]
            assert journal.append([b"new"]) == 2
        assert payloads(state) == [b"kept", b"new"]
        shutil.rmtree(state)


def test_batch_cut_after_it_was_acknowledged_is_a_loss(tmp_path: Path) -> None:
    sizes = make(tmp_path, [[b"a"], [b"b"]])
    edit(tmp_path / SEGMENT, lambda data: data.__delitem__(slice(sizes[1] - 1, None)))
    text = refused(tmp_path)
    assert f"{tmp_path / SEGMENT}, byte {sizes[0]}" in text
    assert "acknowledged" in text


def test_whole_acknowledged_batch_missing_is_a_loss(tmp_path: Path) -> None:
    sizes = make(tmp_path, [[b"a"], [b"b"]])
    edit(tmp_path / SEGMENT, lambda data: data.__delitem__(slice(sizes[0], None)))
    assert "records up to seq 2" in refused(tmp_path)


@pytest.mark.parametrize("watermark", [True, False], ids=["watermark", "no watermark"])
def test_any_flipped_byte_of_any_record_or_frame_refuses(tmp_path: Path, watermark: bool) -> None:
    source = tmp_path / "source"
    sizes = make(source, [[b"first"], [b"second", b"third"], [b"fourth", b"f" * 30]])
    whole = (source / SEGMENT).read_bytes()
    if not watermark:
        forget_watermark(source)
    state = tmp_path / "s"
    shutil.copytree(source, state)
    for offset in range(sizes[-1]):
        data = bytearray(whole)
        data[offset] ^= 0x10
        (state / SEGMENT).write_bytes(data)
        try:
            open_at(state).close()
        except (JournalDamaged, journal_module.JournalUnusable):
            continue
        pytest.fail(f"a flipped bit at byte {offset} was not noticed")


def test_flipped_byte_names_the_record(tmp_path: Path) -> None:
    sizes = make(tmp_path, [[b"one"], [b"two", b"three"]])
    offset = (tmp_path / SEGMENT).read_bytes().index(b"three")
    edit(tmp_path / SEGMENT, flip(offset))
    text = refused(tmp_path)
    assert f"byte {offset - 16}: expected record 3" in text
    assert sizes[1] > offset


def test_zeroed_middle_of_a_batch_that_others_follow_refuses(tmp_path: Path) -> None:
    make(tmp_path, [[b"x" * 3000], [b"y"]])
    forget_watermark(tmp_path)
    edit(tmp_path / SEGMENT, lambda data: data.__setitem__(slice(1024, 1536), bytes(512)))
    refused(tmp_path)


def test_sectors_that_never_arrived_in_the_last_batch_are_torn(tmp_path: Path) -> None:
    sizes = make(tmp_path, [[b"kept"], [b"x" * 3000, b"y" * 700]])
    forget_watermark(tmp_path)
    edit(tmp_path / SEGMENT, lambda data: data.__setitem__(slice(1536, 2048), bytes(512)))
    with open_at(tmp_path) as journal:
        assert [p for _, p in journal.replay()] == [b"kept"]
        assert journal.recovered.torn_bytes == sizes[1] - sizes[0]


def test_missing_sector_does_not_excuse_a_wrong_byte_elsewhere(tmp_path: Path) -> None:
    make(tmp_path, [[b"kept"], [b"w" * 600, b"x" * 3000]])
    forget_watermark(tmp_path)
    edit(tmp_path / SEGMENT, lambda data: data.__setitem__(slice(2048, 2560), bytes(512)))
    edit(tmp_path / SEGMENT, flip((tmp_path / SEGMENT).read_bytes().index(b"www") + 3))
    refused(tmp_path)


def test_zeros_where_a_batch_should_start_are_torn(tmp_path: Path) -> None:
    sizes = make(tmp_path, [[b"kept"]])
    edit(tmp_path / SEGMENT, lambda data: data.extend(bytes(3000)))
    with open_at(tmp_path) as journal:
        assert journal.recovered.torn_bytes == 3000
    assert (tmp_path / SEGMENT).stat().st_size == sizes[0]


def test_garbage_where_a_batch_should_start_refuses(tmp_path: Path) -> None:
    make(tmp_path, [[b"kept"]])
    edit(tmp_path / SEGMENT, lambda data: data.extend(b"garbage!" * 30))
    refused(tmp_path)


def test_batches_out_of_order_or_dropped_refuse(tmp_path: Path) -> None:
    sizes = make(tmp_path, [[b"aaaa"], [b"bbbb"], [b"cccc"], [b"dddd"]])
    data = (tmp_path / SEGMENT).read_bytes()
    parts = [data[: sizes[0]], *(data[a:b] for a, b in itertools.pairwise(sizes))]
    for order in ([0, 2, 1, 3], [0, 2, 3], [0, 1, 1, 2, 3]):
        (tmp_path / SEGMENT).write_bytes(b"".join(parts[i] for i in order))
        refused(tmp_path)


def test_segment_of_another_journal_refuses(tmp_path: Path) -> None:
    make(tmp_path / "a", [[b"a"]])
    make(tmp_path / "b", [[b"b"]])
    shutil.copy(tmp_path / "b" / SEGMENT, tmp_path / "a" / SEGMENT)
    assert "journal" in refused(tmp_path / "a")


def three_segments(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES_MAX", 1000)
    with open_at(path) as journal:
        for number in range(9):
            journal.append([b"%d" % number * 200])
            journal.sync()
    segments = sorted(path.glob("journal.0*"))
    assert len(segments) >= 3
    return segments


def test_missing_middle_segment_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_segments(tmp_path, monkeypatch)[1].unlink()
    refused(tmp_path)


def test_missing_first_segment_without_a_snapshot_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_segments(tmp_path, monkeypatch)[0].unlink()
    assert "a snapshot that covers seq 1 to" in refused(tmp_path)


def test_missing_last_segment_refuses_even_without_a_watermark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = three_segments(tmp_path, monkeypatch)[-1]
    last.unlink()
    forget_watermark(tmp_path)
    assert f"{last}, byte 0" in refused(tmp_path)


def test_truncated_middle_segment_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    middle = three_segments(tmp_path, monkeypatch)[1]
    edit(middle, lambda data: data.__delitem__(slice(-400, None)))
    assert str(middle) in refused(tmp_path)


def test_all_segments_missing_refuses_while_the_watermark_remembers(tmp_path: Path) -> None:
    make(tmp_path, [[b"a"]])
    (tmp_path / SEGMENT).unlink()
    refused(tmp_path)


def with_snapshots(path: Path, count: int) -> None:
    with open_at(path) as journal:
        for number in range(1, count + 1):
            journal.append([b"r%d" % number])
            journal.snapshot(b"s%d" % number * 300, number)
        journal.append([b"tail"])


def test_missing_snapshot_that_segments_do_not_cover_refuses(tmp_path: Path) -> None:
    with_snapshots(tmp_path, 3)
    for snapshot in tmp_path.glob("snapshot.*"):
        snapshot.unlink()
    assert "a snapshot that covers seq 1 to 2" in refused(tmp_path)


@pytest.mark.parametrize("offset", [0, 3, 20, 511, 512, 700, -1])
def test_damaged_newest_snapshot_falls_back_to_the_older(tmp_path: Path, offset: int) -> None:
    with_snapshots(tmp_path, 3)
    edit(tmp_path / "snapshot.0000000000000003", flip(offset))
    with open_at(tmp_path) as journal:
        assert journal.recovered.snapshot == b"s2" * 300
        assert [p for _, p in journal.replay()] == [b"r3", b"tail"]
        assert any("snapshot.0000000000000003" in note for note in journal.recovered.notes)
        journal.snapshot(b"s4", 4)
    assert (tmp_path / "damaged.snapshot.0000000000000003").exists()
    assert (tmp_path / "snapshot.0000000000000002").exists()


def test_both_snapshots_damaged_refuses_and_names_the_newest(tmp_path: Path) -> None:
    with_snapshots(tmp_path, 3)
    for snapshot in tmp_path.glob("snapshot.*"):
        edit(snapshot, flip(600))
    assert "snapshot.0000000000000003, byte 512" in refused(tmp_path)


def test_damage_in_what_a_snapshot_covers_does_not_stop_a_start(tmp_path: Path) -> None:
    with_snapshots(tmp_path, 2)
    edit(tmp_path / "journal.0000000000000002", flip(550))
    with open_at(tmp_path) as journal:
        assert journal.recovered.snapshot_seq == 2
        assert [p for _, p in journal.replay()] == [b"tail"]


def test_segments_gone_after_a_snapshot_refuse(tmp_path: Path) -> None:
    with_snapshots(tmp_path, 2)
    forget_watermark(tmp_path)
    for segment in tmp_path.glob("journal.0*"):
        segment.unlink()
    refused(tmp_path)


def test_unreadable_watermark_is_noted_and_replaced(tmp_path: Path) -> None:
    make(tmp_path, [[b"a"]])
    edit(tmp_path / "journal.mark", flip(40))
    with open_at(tmp_path) as journal:
        assert any("watermark" in note for note in journal.recovered.notes)
        assert journal.durable_seq == 1
    with open_at(tmp_path) as journal:
        assert journal.recovered.notes == []


def test_torn_copies_do_not_pile_up(tmp_path: Path) -> None:
    make(tmp_path, [[b"a"]])
    for _ in range(20):
        edit(tmp_path / SEGMENT, lambda data: data.extend(bytes(100)))
        open_at(tmp_path).close()
    assert len(list(tmp_path.glob("torn.*"))) == 16


def test_payloads_that_look_like_batches_do_not_confuse_recovery(tmp_path: Path) -> None:
    sizes = make(tmp_path, [[b"old"]])
    copy = (tmp_path / SEGMENT).read_bytes()[HEAD : sizes[0]]
    with open_at(tmp_path) as journal:
        journal.append([copy * 40])
        journal.sync()
    forget_watermark(tmp_path)
    edit(tmp_path / SEGMENT, lambda data: data.__delitem__(slice(-1, None)))
    assert payloads(tmp_path) == [b"old"]


def test_recovered_records_are_synced_before_they_are_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, [[b"written, perhaps never synced"]])
    synced: list[str] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with open_at(tmp_path):
        assert synced == [SEGMENT]


def test_torn_seal_is_no_damage_when_the_next_segment_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = three_segments(tmp_path, monkeypatch)[0]
    edit(first, lambda data: data.__delitem__(slice(-20, None)))
    assert len(payloads(tmp_path)) == 9
    edit(first, lambda data: data.__delitem__(slice(-30, None)))
    assert str(first) in refused(tmp_path)
