"""How a node becomes a member: join tokens good and bad, keys placed beforehand, names owned."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helix.cluster.fixture import TestCluster
from helix.cluster.processes import COOKIE_VARIABLE

Helixd = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A cluster of one node whose configuration names eleven more that nobody has started."""
    with TestCluster(tmp_path_factory.mktemp("home") / "c", nodes=1, cpus=1, memory_mib=256) as cluster:
        conf = cluster.cluster.layout.conf
        conf.write_text(conf.read_text() + "NodeName=j[1-11] CPUs=1 RealMemory=64\n")
        cluster.run("hctl", "reconfigure")
        yield cluster


@pytest.fixture
def helixd(home: TestCluster) -> Iterator[Helixd]:
    """Starts a helixd by hand: `helixd(name, token, key=..., spool=...)`; all of them end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    layout = home.cluster.layout

    def start(
        name: str, token: str | Path = "", *, key: str = "", spool: Path | None = None
    ) -> subprocess.Popen[bytes]:
        place = spool or layout.nodes / name
        place.mkdir(parents=True, exist_ok=True)
        argv = ["--name", name, "--controller", f"tcp://127.0.0.1:{home.cluster.facts().port}"]
        argv += ["--controller-key", key or str(layout.controller_key), "--spool", str(place)]
        argv += ["--log-file", str(log_of(home, name))]
        if token:
            argv += ["--join-token-file", str(token if isinstance(token, Path) else token_file(home, name, token))]
        env = {**os.environ, COOKIE_VARIABLE: home.cluster.cookie()}
        process = subprocess.Popen([sys.executable, "-m", "helixd.main", *argv], env=env, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a helixd and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    process.communicate(timeout=10)


def log_of(cluster: TestCluster, name: str) -> Path:
    """The log of a node started here."""
    return cluster.cluster.layout.log / f"{name}.log"


def token_file(cluster: TestCluster, name: str, token: str, mode: int = 0o600) -> Path:
    """A join token as helixd wants it."""
    path = cluster.dir / f"token-{name}"
    path.unlink(missing_ok=True)
    path.write_text(token + "\n")
    path.chmod(mode)
    return path


def make_token(cluster: TestCluster, uses: int = 1, ttl_s: int = 600) -> str:
    """A token, made as the guide says."""
    return cluster.run("hctl", "token", "create", str(uses), str(ttl_s)).stdout.strip()


def state_of(cluster: TestCluster, name: str) -> str:
    """The node's state, without the star."""
    with cluster.client() as client:
        return str(client.nodes(name)[0]["state"])


def wait_idle(cluster: TestCluster, *names: str) -> None:
    """Wait until nodes are members."""
    cluster.wait_for(lambda: all(state_of(cluster, name) == "IDLE" for name in names), f"{names} are idle")


def wait_log(cluster: TestCluster, name: str, text: str) -> None:
    """Wait for a word in a daemon's log."""
    path = log_of(cluster, name)
    cluster.wait_for(lambda: path.exists() and text in path.read_text(), f"the log of {name} says '{text}'")


def test_a_token_admits_a_node_and_its_key_admits_it_ever_after(home, helixd):
    assert state_of(home, "j1").startswith("UNKNOWN")
    first = helixd("j1", make_token(home))
    wait_idle(home, "j1")
    stop(first)
    home.kill9_controller()  # whom it admitted is in the journal
    home.start_controller()
    helixd("j1")
    wait_idle(home, "j1", "n1")
    home.run("hsubmit", "--wait", "-w", "j1", "-o", "/dev/null", "--mem=1", "--wrap", "true")


def test_a_wrong_token_is_refused(home, helixd):
    make_token(home)  # some other token is open
    helixd("j2", "hxj1-" + "0" * 64)
    wait_log(home, "j2", "JOIN_TOKEN_REFUSED")
    wait_log(home, "helixctld", "registration of j2 refused")
    assert state_of(home, "j2").startswith("UNKNOWN")


def test_a_token_is_used_up(home, helixd):
    token = make_token(home, uses=2)
    helixd("j3", token)
    wait_idle(home, "j3")
    helixd("j4", token)
    wait_idle(home, "j4")
    make_token(home)
    helixd("j5", token)
    wait_log(home, "j5", "JOIN_TOKEN_REFUSED")
    assert state_of(home, "j5").startswith("UNKNOWN")


def test_a_token_expires(home, helixd):
    token = make_token(home, ttl_s=1)
    made = time.time()
    home.wait_for(lambda: time.time() > made + 1.1, "the token's time is over")
    make_token(home)
    helixd("j6", token)
    wait_log(home, "j6", "JOIN_TOKEN_REFUSED")


def test_a_token_that_others_can_read_is_not_used(home, helixd):
    path = token_file(home, "j7", make_token(home), mode=0o644)
    helixd("j7", path)
    wait_log(home, "j7", "a secret that others can read")
    assert state_of(home, "j7").startswith("UNKNOWN")


def test_an_unknown_key_without_a_token_gets_nowhere(home, helixd):
    make_token(home)
    helixd("j8")
    wait_log(home, "j8", "KEY_UNKNOWN")
    assert state_of(home, "j8").startswith("UNKNOWN")


def test_a_node_that_is_not_in_the_configuration_is_told_so(home, helixd):
    helixd("stranger", make_token(home))
    wait_log(home, "stranger", "no node 'stranger' in the configuration")


def test_a_node_made_anew_needs_a_new_token_and_its_old_key_is_void(home, helixd, tmp_path):
    wait_idle(home, "n1")
    old = tmp_path / "old"
    first = helixd("j9", make_token(home), spool=old)
    wait_idle(home, "j9")
    stop(first)
    second = helixd("j9", make_token(home), spool=tmp_path / "new")
    wait_idle(home, "j9")
    stop(second)
    log_of(home, "j9").unlink()
    make_token(home)
    helixd("j9", spool=old)
    wait_log(home, "j9", "KEY_UNKNOWN")


def test_a_key_placed_beforehand_needs_no_token(home, helixd):
    spool = home.cluster.layout.nodes / "j10"
    (spool / "keys").mkdir(parents=True, mode=0o700)
    key = home.run("hcluster", "keygen", str(spool / "keys" / "curve.key")).stdout.strip()
    assert len(key) == 40
    admit = ("helixctld", "-f", str(home.cluster.layout.conf), "--admit-key", "j10", key)
    busy = home.run(*admit, check=False)
    assert busy.returncode == 1
    assert "JOURNAL_LOCKED" in busy.stderr, "not while the controller runs"
    home.kill9_controller()
    assert "j10 may join" in home.run(*admit).stdout
    home.start_controller()
    helixd("j10")
    wait_idle(home, "j10")


def test_a_wrong_controller_key_is_noticed_by_the_node(home, helixd):
    """The node expects another controller: it tells this one nothing, and stays outside."""
    helixd("j11", make_token(home), key="rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")
    wait_log(home, "j11", "helixd started")
    home.run("hsubmit", "--wait", "-w", "n1", "-o", "/dev/null", "--mem=1", "--wrap", "true")
    assert state_of(home, "j11").startswith("UNKNOWN")


def test_a_second_helixd_on_the_same_spool_is_refused(home, helixd):
    second = helixd("n1")
    _, err = second.communicate(timeout=20)
    assert second.returncode == 1
    assert b"SPOOL_IN_USE" in err


def test_a_second_controller_on_the_same_state_is_refused(home):
    done = home.run("helixctld", "-f", str(home.cluster.layout.conf), check=False)
    assert done.returncode == 1
    assert str(home.cluster.layout.state) in done.stderr
    assert "JOURNAL_LOCKED" in done.stderr
    assert str(home.controller) in done.stderr, "it names the process that has it"
    with home.client() as client:
        assert client.ping()["pid"] == home.controller


def test_the_state_of_another_cluster_is_refused(home, tmp_path):
    conf = tmp_path / "other.conf"
    home.kill9_controller()
    text = home.cluster.layout.conf.read_text().replace("ClusterName=", "ClusterName=not-", 1)
    conf.write_text(text)
    done = home.run("helixctld", "-f", str(conf), check=False)
    home.start_controller()
    assert done.returncode == 1
    assert "not-" in done.stderr
