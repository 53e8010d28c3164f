"""The blob store: content addressing, verification, durability bookkeeping, garbage collection."""

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from helix.blobstore import BlobDamaged, BlobStore, BlobStoreFailed, BlobStoreFull, blob_hash
from helix.errors import LimitExceeded, NotFound, UsageError


def path_of(store: BlobStore, name: str) -> Path:
    return Path(store.path) / name[:2] / name[2:]


def test_put_get_has(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    name = store.put(b"#!/bin/sh\n")
    assert name == blob_hash(b"#!/bin/sh\n")
    assert store.put(b"#!/bin/sh\n") == name
    assert store.get(name) == b"#!/bin/sh\n"
    assert store.has(name)
    assert path_of(store, name).read_bytes() == b"#!/bin/sh\n"
    assert not store.has("0" * 64)
    with pytest.raises(NotFound) as caught:
        store.get("0" * 64)
    assert caught.value.code == "BLOB_NOT_FOUND"
    assert store.get(store.put(b"")) == b""


def test_blobs_survive_a_new_process(tmp_path: Path) -> None:
    name = BlobStore(str(tmp_path)).put(b"x")
    assert BlobStore(str(tmp_path)).get(name) == b"x"


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir(mode=0o777)
    (tmp_path / "b").chmod(0o777)
    store = BlobStore(str(tmp_path / "b"))
    file = path_of(store, store.put(b"x"))
    assert [stat.S_IMODE(p.stat().st_mode) for p in (file, file.parent, file.parent.parent)] == [0o600, 0o700, 0o700]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_names_that_are_no_hash_never_reach_the_file_system(tmp_path: Path, name: str) -> None:
    store = BlobStore(str(tmp_path))
    for call in (store.get, store.has):
        with pytest.raises(UsageError):
            call(name)


def test_size_limit_is_exact(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path), size_max=10)
    store.put(b"x" * 10)
    with pytest.raises(LimitExceeded) as caught:
        store.put(b"x" * 11)
    assert caught.value.code == "BLOB_TOO_LARGE"


@pytest.mark.parametrize("content", [b"", b"other", b"scripT", bytes(6)])
def test_corrupt_file_is_refused_by_name_and_healed_by_put(tmp_path: Path, content: bytes) -> None:
    name = BlobStore(str(tmp_path)).put(b"script")
    store = BlobStore(str(tmp_path))
    path_of(store, name).write_bytes(content)
    with pytest.raises(BlobDamaged, match=str(path_of(store, name))):
        store.get(name)
    assert store.put(b"script") == name
    assert BlobStore(str(tmp_path)).get(name) == b"script"


def test_fifo_in_place_of_a_blob_does_not_block(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    name = blob_hash(b"x")
    path_of(store, name).parent.mkdir()
    os.mkfifo(path_of(store, name))
    with pytest.raises(BlobDamaged):
        store.get(name)
    assert not store.has(name)


def test_fsync_all_covers_each_new_blob_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    store = BlobStore(str(tmp_path))
    monkeypatch.setattr(os, "fsync", fsync)
    names = [store.put(b"%d" % n) for n in range(5)]
    assert synced == []
    assert store.fsync_all() == 5
    for name in names:
        file = path_of(store, name)
        assert synced.index(str(file)) < synced.index(str(file.parent)) < synced.index(str(tmp_path))
    assert store.fsync_all() == 0


def test_blob_of_an_earlier_process_counts_as_unsynced(tmp_path: Path) -> None:
    BlobStore(str(tmp_path)).put(b"never synced")
    store = BlobStore(str(tmp_path))
    store.put(b"never synced")
    assert store.fsync_all() == 1


def test_failed_fsync_is_reported_and_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(str(tmp_path))
    store.put(b"x")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    for _ in range(2):
        with pytest.raises(BlobStoreFailed):
            store.fsync_all()


def test_full_disk_stores_nothing_and_can_be_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(str(tmp_path))

    def fail(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(BlobStoreFull):
        store.put(b"x")
    monkeypatch.undo()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert not store.has(blob_hash(b"x"))
    assert store.get(store.put(b"x")) == b"x"


def test_gc_removes_only_what_is_old_and_unwanted(tmp_path: Path) -> None:
    now = 1_000_000.0
    store = BlobStore(str(tmp_path), clock=lambda: now)
    wanted, unwanted, fresh = store.put(b"wanted"), store.put(b"unwanted"), store.put(b"fresh")
    stale = Path(store.path) / "tmp.1.1"
    stale.write_bytes(b"half")
    for file in (path_of(store, wanted), path_of(store, unwanted), path_of(store, fresh), stale):
        os.utime(file, (now, now))
    now += 5000
    store.put(b"fresh")
    result = store.gc({wanted}, grace_s=3600)
    assert (result.removed, result.removed_bytes, result.kept) == (2, len(b"unwanted") + 4, 2)
    assert store.has(wanted)
    assert store.has(fresh)
    assert not stale.exists()
    assert not store.has(unwanted)
    with pytest.raises(NotFound):
        store.get(unwanted)
    assert store.get(store.put(b"unwanted")) == b"unwanted"


def test_gc_leaves_strange_files_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("mine")
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "note").write_text("mine")
    assert BlobStore(str(tmp_path), clock=lambda: 1e12).gc(set()).removed == 0
    assert (tmp_path / "ab" / "note").exists()


def test_cache_serves_repeats_and_stays_within_its_size(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path), cache_bytes=100)
    first = store.put(b"a" * 20)
    path_of(store, first).unlink()
    assert store.get(first) == b"a" * 20
    for number in range(10):
        store.put(bytes([number]) * 20)
    with pytest.raises(NotFound):
        store.get(first)
    assert store._cache_size <= 100


def test_threads_may_put_the_same_blobs(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path))
    contents = [b"%d" % n * 100 for n in range(50)]

    def work() -> None:
        for content in contents:
            assert store.get(store.put(content)) == content
            store.fsync_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(1 for p in tmp_path.rglob("*") if p.is_file()) == 50
