"""A damaged journal under a real controller: a torn end is cut off, anything else is refused by file and place, and the
tools an administrator has say and mend what they can."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from helix.cluster.fixture import TestCluster
from helix.errors import Unavailable


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A cluster with five held jobs in its journal and no snapshot, its controller killed."""
    root = tmp_path_factory.mktemp("damage") / "c"
    with TestCluster(root, nodes=1, cpus=1, memory_mib=64) as cluster:
        with cluster.client() as client:
            for k in range(5):
                client.submit(wrap=f"true {k}", name=f"job{k}", hold=True, work_dir="/", env={"A": "b" * 200})
        cluster.kill9_node("n1")
        cluster.kill9_controller()
        shutil.copytree(cluster.cluster.layout.state, root / "good")
        yield cluster


@pytest.fixture
def state(stopped: TestCluster) -> Iterator[Path]:
    """The state directory as it was left by the kill; nothing runs afterwards."""
    path = stopped.cluster.layout.state
    shutil.rmtree(path)
    shutil.copytree(stopped.dir / "good", path)
    yield path
    if stopped.cluster.pid("helixctld") is not None:
        stopped.kill9_controller()


def segment(state: Path) -> Path:
    """The journal's newest file."""
    return max(p for p in state.glob("journal.*") if re.fullmatch(r"journal\.[0-9a-f]{16}", p.name))


def snapshots(state: Path) -> list[Path]:
    """The complete snapshots, the newest last."""
    return sorted(p for p in state.glob("snapshot.*") if re.fullmatch(r"snapshot\.[0-9a-f]{16}", p.name))


def names(cluster: TestCluster) -> list[str]:
    """The jobs a started controller knows."""
    with cluster.client() as client:
        return sorted(job["name"] for job in client.queue(fields=["name"]))


def refusal(cluster: TestCluster) -> str:
    """What helixctld says when it does not start."""
    done = cluster.run("helixctld", "-f", str(cluster.cluster.layout.conf), check=False)
    assert done.returncode == 1, done
    return done.stderr


def in_use(path: Path) -> int:
    """Bytes up to the last that is not zero (the file may be longer than what is written)."""
    return len(path.read_bytes().rstrip(b"\0"))


def test_an_intact_journal(stopped, state):
    check = stopped.run("hctl", "journal", "check", str(state))
    assert "clean" in check.stdout
    stopped.start_controller()
    assert names(stopped) == [f"job{k}" for k in range(5)]


def test_a_torn_last_record_is_cut_off_and_said(stopped, state):
    path = segment(state)
    with path.open("r+b") as file:
        file.truncate(in_use(path) - 5)
    (state / "journal.mark").unlink()  # without it nobody knows that the last record was durable
    check = stopped.run("hctl", "journal", "check", str(state), check=False)
    assert "torn" in check.stdout
    stopped.start_controller()
    assert names(stopped) == [f"job{k}" for k in range(4)]
    log = stopped.cluster.layout.log_file("helixctld").read_text()
    assert path.name in log


def test_an_acknowledged_record_that_is_missing_is_not_taken_for_torn(stopped, state):
    """The mark says how far the journal was durable: less than that is damage, not a crash."""
    path = segment(state)
    with path.open("r+b") as file:
        file.truncate(in_use(path) - 5)
    text = refusal(stopped)
    assert path.name in text
    assert re.search(r"\d+", text)


def test_a_flipped_byte_is_refused_with_file_and_offset(stopped, state):
    path = segment(state)
    data = bytearray(path.read_bytes())
    at = in_use(path) // 2
    data[at] ^= 0x40
    path.write_bytes(data)
    text = refusal(stopped)
    assert str(path) in text
    offsets = [int(word) for word in re.findall(r"\b\d{2,}\b", text.replace(path.name, ""))]
    assert any(at - 2000 <= offset <= at for offset in offsets), text
    assert f"hctl journal repair {state}" in text
    assert "JOURNAL_" in text
    assert path.read_bytes() == bytes(data), "a refusal changes nothing"


def test_hcluster_shows_the_refusal(stopped, state):
    path = segment(state)
    data = bytearray(path.read_bytes())
    data[in_use(path) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Unavailable) as caught:
        stopped.start_controller()
    assert str(path) in caught.value.hint
    assert "hctl journal repair" in caught.value.hint


def test_check_and_repair_keep_the_longest_good_part(stopped, state):
    path = segment(state)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"job3")
    data[at] ^= 1
    path.write_bytes(data)
    check = stopped.run("hctl", "journal", "check", str(state), check=False)
    assert check.returncode == 1
    assert "damaged" in check.stdout
    assert path.name in check.stdout
    assert path.read_bytes() == bytes(data), "check changes nothing"
    repair = stopped.run("hctl", "journal", "repair", str(state), check=False)
    assert repair.returncode == 0, repair
    (aside,) = state.glob("damaged.*")
    assert any(p.read_bytes() == bytes(data) for p in aside.iterdir() if p.is_file()), "nothing is thrown away"
    assert "clean" in stopped.run("hctl", "journal", "check", str(state)).stdout
    stopped.start_controller()
    assert names(stopped) == [f"job{k}" for k in range(3)]
    with stopped.client() as client:
        assert client.submit(wrap="true", hold=True, work_dir="/") >= 4


def test_repair_beside_a_running_controller_is_refused(stopped, state):
    stopped.start_controller()
    done = stopped.run("hctl", "journal", "repair", str(state), check=False)
    assert done.returncode == 1
    assert "JOURNAL_LOCKED" in done.stderr
    assert stopped.run("hctl", "journal", "check", str(state), check=False).returncode == 0


def test_a_journal_whose_file_is_missing_is_refused(stopped, state):
    stopped.start_controller()
    stopped.run("hctl", "snapshot")
    stopped.wait_for(lambda: bool(snapshots(state)), "a snapshot is written")
    with stopped.client() as client:
        client.submit(wrap="true", hold=True, work_dir="/")
    stopped.kill9_controller()
    segment(state).unlink()
    text = refusal(stopped)
    assert str(state) in text
    assert "JOURNAL_" in text


def test_a_damaged_snapshot_is_not_needed_while_the_records_are_there(stopped, state):
    stopped.start_controller()
    stopped.run("hctl", "snapshot")
    stopped.wait_for(lambda: bool(snapshots(state)), "a snapshot is written")
    stopped.kill9_controller()
    snapshot = snapshots(state)[-1]
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    done = stopped.run("hctl", "journal", "check", str(state), check=False)
    assert snapshot.name in done.stdout
    stopped.start_controller()  # the records before it are still there
    assert names(stopped) == [f"job{k}" for k in range(5)]


def test_a_state_directory_that_is_none(stopped, state, tmp_path):
    conf = tmp_path / "helix.conf"
    (tmp_path / "file").write_text("")
    text = stopped.cluster.layout.conf.read_text()
    conf.write_text(text.replace(f"StateSaveLocation={state}", f"StateSaveLocation={tmp_path}/file"))
    done = stopped.run("helixctld", "-f", str(conf), check=False)
    assert done.returncode in (1, 70)
    assert f"{tmp_path}/file" in done.stderr
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
