"""Finding, waiting for and stopping processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helix.cluster import processes
from helix.errors import TimedOut

_COOKIE = f"test-{os.getpid()}"


def _sleeper(tmp_path: Path, code: str = "", cookie: str = _COOKIE) -> subprocess.Popen[bytes]:
    program = f"{code}\nimport signal\nopen('ready','w').close()\nwhile True: signal.pause()"
    env = {**os.environ, processes.COOKIE_VARIABLE: cookie}
    child = processes.spawn([sys.executable, "-c", program], env=env, log_file=tmp_path / "log", cwd=tmp_path)
    assert processes.wait_until(lambda: (tmp_path / "ready").exists(), timeout_s=20)
    return child


def test_a_pid_file_is_believed_only_with_the_cookie(tmp_path: Path) -> None:
    child = _sleeper(tmp_path)
    pid_file = tmp_path / "pid"
    try:
        pid_file.write_text(f"{child.pid}\n")
        assert processes.read_pid(pid_file, _COOKIE) == child.pid
        # The same number, but a process of somebody else: the id was reused.
        assert processes.read_pid(pid_file, "another") is None
    finally:
        processes.stop([child.pid], timeout_s=10)
    assert processes.read_pid(pid_file, _COOKIE) is None


@pytest.mark.parametrize("text", ["", "\n", "x\n", "-1\n", "1\n", "0\n", "99999999999\n"])
def test_nonsense_in_a_pid_file_is_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert processes.read_pid(tmp_path / "pid", _COOKIE) is None


def test_stop_is_polite_first(tmp_path: Path) -> None:
    child = _sleeper(tmp_path)
    assert processes.stop([child.pid], timeout_s=10) == []
    assert not processes.is_alive(child.pid)


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    child = _sleeper(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert processes.stop([child.pid], timeout_s=0.2) == [child.pid]
    assert not processes.is_alive(child.pid)


def test_stop_ends_a_stopped_process(tmp_path: Path) -> None:
    child = _sleeper(tmp_path)
    os.kill(child.pid, signal.SIGSTOP)
    assert processes.stop([child.pid], timeout_s=10) == []


def test_processes_are_found_by_cookie_with_their_children(tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "env = {k: v for k, v in os.environ.items() if not k.startswith('HELIX_')}\n"
        "p = subprocess.Popen(['sleep', '600'], env=env)\n"
        "open('grandchild', 'w').write(str(p.pid))"
    )
    child = _sleeper(tmp_path, code, cookie=_COOKIE + "-family")
    grandchild = int((tmp_path / "grandchild").read_text())
    try:
        assert processes.find_by_cookie(_COOKIE + "-family") == [child.pid]
        assert set(processes.with_descendants([child.pid])) == {child.pid, grandchild}
    finally:
        os.kill(grandchild, signal.SIGKILL)
        processes.stop([child.pid], timeout_s=10)


def test_wait_gone_gives_up_in_time(tmp_path: Path) -> None:
    child = _sleeper(tmp_path)
    try:
        assert processes.wait_gone([child.pid], 0.05) == [child.pid]
    finally:
        processes.stop([child.pid], timeout_s=10)
    assert processes.wait_gone([child.pid], 0.05) == []


def test_wait_until_ends_early_when_it_is_hopeless() -> None:
    assert not processes.wait_until(lambda: False, timeout_s=60, unless=lambda: True)


def test_tail_gives_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.tail(log) == []
    log.write_text("".join(f"{n}\n" for n in range(100)))
    assert processes.tail(log, 3) == ["97", "98", "99"]


def test_only_one_at_a_time_has_its_turn(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with processes.turn(lock, 5.0), pytest.raises(TimedOut, match="another hcluster"), processes.turn(lock, 0.05):
        raise AssertionError("two at once")
    with processes.turn(lock, 0.05):
        assert lock.exists()
