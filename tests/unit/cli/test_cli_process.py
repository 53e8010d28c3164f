"""The commands as processes: what they import, how they end, what `--help` and friends do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from helix.cli.commands import COMMANDS

#: What every command may import besides helix itself: cheap parts of the standard library.
_ALLOWED = """
    __future__ abc array binascii codecs collections copyreg enum errno functools genericpath io itertools json
    keyword math operator os posixpath re reprlib resource select selectors site socket stat struct sys time types
    zipimport"""
ALLOWED = frozenset(_ALLOWED.split())
_FORBIDDEN = """
    argparse asyncio cffi cryptography ctypes dataclasses getopt helixctld helixd inspect logging msgspec numba numpy
    optparse pathlib random shlex shutil signal sqlalchemy subprocess tempfile textwrap threading typing urllib
    zmq"""
FORBIDDEN = frozenset(_FORBIDDEN.split())

_PROBE = """
import sys
before = set(sys.modules)
sys.argv = {argv!r}
sys.path[:] = {path!r}
from helix.cli.{name} import main
status = main()
print(status, *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def imported(name: str, *words: str) -> tuple[int, set[str], str]:
    """Exit status of a command, the modules it loaded (site excluded), and its output."""
    code = _PROBE.format(argv=[name, *words], path=sys.path, name=name)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    status, *modules = done.stderr.splitlines()[-1].split()
    return int(status), set(modules), done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hsubmit", ["--wrap", "true"]),
        ("hsubmit", ["-n", "4", "-t", "10", "-p", "debug", "-J", "x", "--wrap", "true"]),
        ("hqueue", []),
        ("hqueue", ["-h", "-u", "alice", "-o", "%i %T"]),
        ("hcancel", ["12"]),
        ("hwait", ["12"]),
    ],
)
def test_imports_are_pinned(peer: Any, name: str, words: list[str]) -> None:
    peer.answers["job.submit"] = {"job_id": 1}
    peer.answers["job.wait"] = {"job_id": 12, "display_id": "12", "state": "COMPLETED", "exit_code": "0:0"}
    peer.jobs()
    status, modules, _ = imported(name, *words)
    assert status == 0
    tops = {module.partition(".")[0] for module in modules}
    assert not tops & FORBIDDEN, tops & FORBIDDEN
    foreign = {top for top in tops if top != "helix" and top not in ALLOWED and not top.startswith("_")}
    assert not foreign, foreign
    assert not {module for module in modules if module.startswith("helix.model")}


def _command(name: str, *words: str, **kwargs: Any) -> subprocess.Popen[bytes]:
    code = f"import sys; sys.argv[0] = {name!r}; from helix.cli.{name} import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", code, *words], **kwargs)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_usage_version_without_a_controller(name: str) -> None:
    for word, start in (("--help", "Usage: " + name), ("--usage", "Usage: " + name), ("--version", "helix ")):
        process = _command(name, word, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert out.decode().startswith(start)
        assert err == b""


def test_a_reader_that_goes_away_is_no_error(peer: Any) -> None:
    peer.jobs(*({"job_id": i, "display_id": str(i)} for i in range(5000)))
    read, write = os.pipe()
    process = _command("hqueue", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.read(read, 100)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert err == b""
    assert process.returncode == 141


def test_interrupt_exits_130_without_a_word(peer: Any) -> None:
    import threading

    asked, blocked = threading.Event(), threading.Event()

    def answer(_args: dict[str, Any]) -> list[dict[str, Any]]:
        asked.set()
        blocked.wait(30)
        return []

    peer.answers["job.wait"] = answer
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit it ignored
    try:
        process = _command("hwait", "12", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked.wait(30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    blocked.set()
    assert (process.returncode, out, err) == (130, b"", b"")


def test_faults_are_one_line_unless_debugging(peer: Any) -> None:
    peer.answers["job.submit"] = {"no_id": 1}  # a reply that breaks the contract
    process = _command("hsubmit", "--wrap", "true", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 70
    assert b"Traceback" not in err
    assert b"(INTERNAL)" in err
    process = _command("hsubmit", "--debug", "--wrap", "true", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"Traceback" in process.communicate(timeout=60)[1]


def test_colours_only_on_a_terminal(peer: Any) -> None:
    peer.answers["job.why"] = {"jobs": [{"id": "1", "state": "PENDING"}]}
    process = _command("hwhy", "1", stdout=subprocess.PIPE)
    assert b"\x1b" not in process.communicate(timeout=60)[0]
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        main, child = os.openpty()
        process = _command("hwhy", "1", stdout=child, env={**os.environ, "TERM": "xterm", **extra})
        assert process.wait(timeout=60) == 0
        os.close(child)
        shown = os.read(main, 4096)
        os.close(main)
        assert (b"\x1b" in shown) is coloured
