"""helixd's small effects: the steps log on disk, scripts, blobs, logs, sd_notify."""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from helix import logs, sdnotify
from helixd.core import steplog
from helixd.core.steplog import Forgotten, Kind
from helixd.io import scripts as scripts_module
from helixd.io import step_files
from helixd.io.scripts import Blobs, Scripts
from helixd.io.step_files import StepFiles


def record(job_id: int) -> bytes:
    return steplog.encode(Kind.FORGOTTEN, job_id, 0, Forgotten(1.0))


def ids(records: list[steplog.Record]) -> list[int]:
    return [r.job_id for r in records]


def test_appends_of_others_are_heard_of_and_read(tmp_path: Path) -> None:
    files = StepFiles(str(tmp_path))
    assert files.open_all() == {}
    files.begin(1, record(1))
    assert ids(files.changed()) == [1]
    fd = os.open(tmp_path / "steps.1.log", os.O_WRONLY | os.O_APPEND)
    os.write(fd, record(2) + record(3)[:10])
    assert select.select([files.watch_fd], [], [], 5)[0]
    assert ids(files.changed()) == [2]
    os.write(fd, record(3)[10:])
    assert ids(files.changed()) == [3]
    assert not select.select([files.watch_fd], [], [], 0)[0]
    os.close(fd)
    files.close()


def test_generations_are_read_in_order_and_dropped(tmp_path: Path) -> None:
    files = StepFiles(str(tmp_path))
    files.begin(1, record(1))
    files.begin(2, record(2))
    files.append(record(3))
    files.want_sync()
    files.sync()
    files.close()
    files = StepFiles(str(tmp_path))
    assert {g: ids(r) for g, r in files.open_all().items()} == {1: [1], 2: [2, 3]}
    files.begin(2, b"")
    files.drop(1)
    assert sorted(os.listdir(tmp_path)) == ["steps.2.log"]
    files.close()


def test_generation_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_files, "GENERATION_MAX", 100)
    files = StepFiles(str(tmp_path))
    files.begin(1, record(1))
    assert not files.is_full
    files.append(record(2) * 4)
    assert files.is_full
    files.close()


def test_log_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "steps.1.log").symlink_to(tmp_path / "elsewhere")
    files = StepFiles(str(tmp_path))
    with pytest.raises(Exception, match="cannot use the steps log"):
        files.open_all()
    files.close()


def test_script_is_the_users_own_and_written_anew_when_tampered_with(tmp_path: Path) -> None:
    store = Scripts(str(tmp_path))
    uid, gid = os.geteuid(), os.getegid()
    path = Path(store.require(uid, gid, "h", b"#!/bin/sh\n"))
    assert path.stat().st_mode & 0o7777 == 0o500
    assert path.parent.stat().st_mode & 0o7777 == 0o711
    assert store.require(uid, gid, "h", None) == str(path)
    assert store.head(str(path)) == b"#!/bin/sh\n"
    assert store.head("/etc/passwd") == b""
    path.chmod(0o700)
    path.write_bytes(b"#!/bin/evil\n")
    with pytest.raises(FileNotFoundError):
        store.require(uid, gid, "h", None)
    store.require(uid, gid, "h", b"#!/bin/sh\n")
    assert path.read_bytes() == b"#!/bin/sh\n"


def test_scripts_on_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts_module, "FILES_MAX", 4)
    store = Scripts(str(tmp_path))
    for k in range(7):
        store.require(os.geteuid(), os.getegid(), f"h{k}", b"x")
    folder = tmp_path / "scripts" / str(os.geteuid())
    assert sorted(os.listdir(folder)) == ["h3", "h4", "h5", "h6"]
    Scripts(str(tmp_path))
    assert len(os.listdir(folder)) == 2


def test_blobs_are_checked_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts_module, "CACHE_MAX", 100)
    blobs = Blobs()
    names = [blake3(bytes([k]) * 40).hexdigest() for k in range(4)]
    assert not blobs.add(names[0], b"other")
    assert not blobs.has(names[0])
    for k, name in enumerate(names):
        assert blobs.add(name, bytes([k]) * 40)
    assert [blobs.has(name) for name in names] == [False, False, True, True]
    base = blobs.base("")
    assert base is not None
    assert base.entries == 0
    assert blobs.base("unknown") is None


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.usefixtures("restored_logging")
def test_log_lines_levels_and_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.setup_logging("helixd", str(path), "info")
    log = logging.getLogger("helix.test")
    log.info("one node=%s", "n1\nforged line")
    log.debug("hidden")
    path.rename(tmp_path / "log.1")
    logs.reopen_logs()
    logs.set_level("debug")
    log.debug("two")
    first = (tmp_path / "log.1").read_text()
    assert first.count("\n") == 1
    assert first.rstrip().endswith(r"info helixd/test: one node=n1\nforged line")
    assert path.read_text().endswith("debug helixd/test: two\n")


def test_notify_speaks_to_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not sdnotify.notify("READY=1")
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    assert not sdnotify.notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        assert sdnotify.notify("READY=1\nSTATUS=ok")
        assert sock.recv(100) == b"READY=1\nSTATUS=ok"
