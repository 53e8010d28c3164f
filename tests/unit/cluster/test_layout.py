"""Where a local cluster keeps its things."""

import stat
from pathlib import Path

import pytest

from helix.cluster.layout import Layout, checkout_root, default_dir, prepare
from helix.errors import Conflict, Denied


def test_prepare_makes_everything_and_keeps_the_state_private(tmp_path: Path) -> None:
    layout = prepare(tmp_path / "deep" / "c")
    for path in (layout.state, layout.run, layout.log, layout.nodes):
        assert path.is_dir()
    assert stat.S_IMODE(layout.state.stat().st_mode) == 0o700
    assert not layout.exists


def test_prepare_twice_changes_nothing(tmp_path: Path) -> None:
    layout = prepare(tmp_path / "c")
    (layout.state / "journal").write_text("x")
    prepare(tmp_path / "c")
    assert (layout.state / "journal").read_text() == "x"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("not a directory")
    with pytest.raises(Conflict, match="in the way"):
        prepare(tmp_path / "c")


def test_a_directory_one_may_not_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_args: object, **_kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere, so the refusal is made up
    with pytest.raises(Denied, match="permission denied"):
        prepare(tmp_path / "ro" / "c")


def test_names_of_sockets_and_logs(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.node_socket("n1") == tmp_path / "run" / "n1.sock"
    assert layout.controller_socket == tmp_path / "run" / "helixctld.sock"
    assert layout.log_file("n1") == tmp_path / "log" / "n1.log"


def test_default_directory_is_spool_in_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "README.md").write_text("x")
    (tmp_path / "helixctld").mkdir()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    assert checkout_root(Path.cwd()) == tmp_path
    assert default_dir() == tmp_path / "spool" / "cluster"


def test_default_directory_elsewhere_is_the_users_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_dir() == tmp_path / ".local" / "state" / "helix" / "cluster"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "x"))
    assert default_dir() == tmp_path / "x" / "helix" / "cluster"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert default_dir() == tmp_path / ".local" / "state" / "helix" / "cluster"
