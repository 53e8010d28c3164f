"""hcancel, hwait, hwhy, hlog, hdiag: requests, texts, exit statuses."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest

from helix.cli import hcancel, hdiag, hlog, hwait, hwhy
from helix.errors import Conflict, Denied, NotFound


@pytest.fixture
def run(peer: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run a command's main; gives (exit status, stdout, stderr)."""

    def go(module: Any, *words: str) -> tuple[int, str, str]:
        status = module.main(list(words))
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return go


# ---- hcancel


@pytest.mark.parametrize(
    ("words", "args"),
    [
        (["12", "12_3", "13_[1-4,8]"], {"filter": {"ids": ["12", "12_3", "13_[1-4,8]"]}}),
        (["12,13"], {"filter": {"ids": ["12", "13"]}}),
        (["-u", "bob", "-t", "PD"], {"filter": {"users": ["bob"], "states": ["PENDING"]}}),
        (["--name=x", "-p", "debug", "-A", "a", "-q", "q", "-w", "n1"],
         {"filter": {"names": ["x"], "partitions": ["debug"], "accounts": ["a"], "qos": ["q"], "nodelist": "n1"}}),
        (["--jobname=x"], {"filter": {"names": ["x"]}}),
        (["-s", "USR1", "--batch", "12"], {"filter": {"ids": ["12"]}, "signal": 10, "batch": True}),
        (["12", "--signal=9", "-f"], {"filter": {"ids": ["12"]}, "signal": 9, "full": True}),
        (["--ctld", "12"], {"filter": {"ids": ["12"]}}),
    ],
)  # fmt: skip
def test_cancel_selects(run: Any, peer: Any, words: list[str], args: dict[str, Any]) -> None:
    assert run(hcancel, *words)[0] == 0
    assert peer.args("job.cancel") == args


def test_cancel_me(run: Any, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 7)
    run(hcancel, "--me")
    assert peer.args("job.cancel")["filter"] == {"users": ["7"]}


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "nothing says which jobs to cancel"),
        (["x"], "invalid job id 'x'"),
        (["12_"], "invalid job id '12_'"),
        (["-s", "NOPE", "12"], "there is no signal"),
        (["-t", "gone", "12"], "no job state 'gone'"),
        (["-M", "other", "12"], "--clusters is not supported yet"),
    ],
)
def test_cancel_refusals(run: Any, peer: Any, words: list[str], part: str) -> None:
    status, _, err = run(hcancel, *words)
    assert status == 2
    assert part in err
    assert peer.calls == []


def test_cancel_errors_read_as_scancels(run: Any, peer: Any) -> None:
    peer.answers["job.cancel"] = {
        "matched": 1,
        "signalled": ["12"],
        "errors": [
            {"id": "99", **NotFound("no job 99", code="JOB_UNKNOWN").to_wire()},
            {"id": "13", **Denied("job 13 belongs to another user", code="JOB_NOT_YOURS").to_wire()},
        ],
    }
    status, _, err = run(hcancel, "-v", "12", "13", "99")
    assert status == 4
    assert err.splitlines() == [
        "hcancel: Terminating job 12",
        "hcancel: error: Kill job error on job id 99: Invalid job id specified (no job 99)",
        "hcancel: error: Kill job error on job id 13: Access/permission denied (job 13 belongs to another user)",
    ]


def test_cancelling_a_job_that_is_over_is_done_already(run: Any, peer: Any) -> None:
    over = Conflict("job 1 is already over (COMPLETED)", code="JOB_OVER")
    peer.answers["job.cancel"] = {"errors": [{"id": "1", **over.to_wire()}]}
    assert run(hcancel, "1") == (0, "", "")
    status, _, err = run(hcancel, "-v", "1")
    assert status == 0
    assert "already completing or completed" in err
    assert run(hcancel, "-s", "USR1", "1")[0] == 1
    assert run(hcancel, "-Q", "-s", "USR1", "1")[2] == ""


def test_interactive_cancel_asks(run: Any, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.jobs({"display_id": "1"}, {"display_id": "2"}, {"display_id": "3"})
    monkeypatch.setattr("sys.stdin", io.StringIO("y\nn\nyes\n"))
    run(hcancel, "-i", "--name=wrap")
    assert peer.args("job.cancel")["filter"] == {"ids": ["1", "3"]}


# ---- hwait


def _end(job: int, state: str, code: str) -> dict[str, Any]:
    return {"job_id": job, "display_id": str(job), "state": state, "exit_code": code}


def test_wait_exit_status_is_the_jobs(run: Any, peer: Any) -> None:
    peer.answers["job.wait"] = [_end(12, "COMPLETED", "0:0"), _end(13, "FAILED", "5:0")]
    assert run(hwait, "12", "13") == (5, "12 COMPLETED 0:0\n13 FAILED 5:0\n", "")
    assert run(hwait, "--any", "-q", "12", "13") == (0, "", "")
    assert json.loads(run(hwait, "--json", "--any", "12", "13")[1])["state"] == "COMPLETED"


def test_wait_times_out_with_5(run: Any, peer: Any) -> None:
    import threading

    blocked = threading.Event()
    peer.answers["job.wait"] = lambda _args: blocked.wait(20) and []
    status, _, err = run(hwait, "--timeout=1s", "12")
    blocked.set()
    assert status == 5
    assert "12" in err
    assert run(hwait)[0] == 2


# ---- hwhy

WHY = {
    "id": "12",
    "state": "PENDING",
    "reason": "Resources",
    "text": "waits for 4 free nodes",
    "nodes_total": 10,
    "counts": [
        {"reason": "BadConstraints", "text": "too little memory", "nodes": 6, "only": 2, "examples": ["n1", "n2"]},
        {"reason": "Resources", "text": "busy", "nodes": 4, "only": 4, "examples": []},
    ],
    "ahead": 1,
    "nearest": {"node": "n7", "lacks": "2 CPUs"},
    "advice": ["--mem=4G: 6 nodes more"],
}


def test_why_as_text_and_json(run: Any, peer: Any) -> None:
    peer.answers["job.why"] = {"jobs": [WHY]}
    assert run(hwhy, "12")[1].splitlines() == [
        "job 12: PENDING, Resources",
        "  waits for 4 free nodes",
        "  of 10 nodes:",
        "         6  too little memory  (2 for this alone)    e.g. n1, n2",
        "         4  busy               (all for this alone)",
        "  1 job ahead of it in the queue",
        "  closest: n7: 2 CPUs",
        "  try: --mem=4G: 6 nodes more",
    ]
    assert json.loads(run(hwhy, "--json", "12")[1])["jobs"] == [WHY]


def test_why_says_what_is_expected_and_who_is_in_the_way(run: Any, peer: Any) -> None:
    t = 1_800_000_000.4
    holder = {"id": "7", "user": "bob", "nodes": 2, "t_end": t - 5}
    first = {"id": "9_1", "user": "eve", "t_start": t - 100, "nodes": "n3"}
    foreseen = {"t_expected": t, "expected_range": [t - 3600, t + 3600], "protected": False, "sched_nodes": "n[1-2]"}
    peer.answers["job.why"] = {"jobs": [{**WHY, **foreseen, "waits_for": [holder], "promised": [first]}]}
    text = run(hwhy, "12")[1]
    assert "promised first: job 9_1 of eve, on n3 at 2027-01-" in text
    assert "expected start: 2027-01-" in text
    assert " on n[1-2]\n" in text
    assert "if jobs run as long as they usually do, and 2027-01-" in text
    assert "held until then: 2 nodes by job 7 of bob, until 2027-01-" in text
    peer.answers["job.why"] = {"jobs": [{**WHY, **foreseen, "protected": True}]}
    assert " on n[1-2], promised\n" in run(hwhy, "12")[1]


def test_why_cleans_what_it_prints(run: Any, peer: Any) -> None:
    peer.answers["job.why"] = {"jobs": [{"id": "1", "state": "PENDING", "text": "a\x1b[2Jb"}]}
    assert "\x1b" not in run(hwhy, "1")[1]


# ---- hlog


class Output:
    """A job's output file as the controller relays it."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        offset = args.get("offset", 0)
        start = max(0, len(self.data) + offset) if offset < 0 else offset
        piece = self.data[start:]
        frame = {"data_b64": base64.b64encode(piece).decode(), "offset": start, "size": len(self.data)}
        return [{**frame, "node": "n1", "path": "/out", "attempt": 1, "running": False}]


def test_log_prints_the_bytes(run: Any, peer: Any) -> None:
    peer.answers["job.log"] = Output(b"one\ntwo\nthree\n")
    assert run(hlog, "12")[1] == "one\ntwo\nthree\n"
    assert peer.args("job.log") == {"id": "12", "stream": "stdout"}
    assert run(hlog, "-f", "-e", "12_3.1")[2] == ""
    assert "attempt 0 has no file of its own: this is attempt 1" in run(hlog, "12.0")[2]
    run(hlog, "-f", "-e", "12_3.1")
    assert peer.args("job.log") == {"id": "12_3", "stream": "stderr", "follow": True, "attempt": 1}


@pytest.mark.parametrize(
    ("tail", "out"),
    [
        ("0", ""),
        ("1", "three\n"),
        ("2", "two\nthree\n"),
        ("99", "one\ntwo\nthree\n"),
        ("3c", "ee\n"),
        ("1K", "one\ntwo\nthree\n"),
    ],
)
def test_log_tail(run: Any, peer: Any, tail: str, out: str) -> None:
    peer.answers["job.log"] = Output(b"one\ntwo\nthree\n")
    assert run(hlog, "-n", tail, "12")[1] == out


def test_log_tail_looks_further_back_for_long_lines(run: Any, peer: Any) -> None:
    peer.answers["job.log"] = Output(b"first\n" + b"x" * 100_000 + b"\nlast")
    assert run(hlog, "-n", "2", "12")[1] == "x" * 100_000 + "\nlast"
    assert run(hlog, "-n", "3", "12")[1] == "first\n" + "x" * 100_000 + "\nlast"


def test_log_verbose_and_refusals(run: Any, peer: Any) -> None:
    peer.answers["job.log"] = Output(b"x")
    assert run(hlog, "-v", "12")[2] == "hlog: n1:/out, attempt 1\n"
    assert run(hlog)[0] == 2
    assert run(hlog, "12", "13")[0] == 2
    assert "is not an attempt" in run(hlog, "12.x")[2]
    peer.answers["job.log"] = NotFound("job 12 has no output yet: it is PENDING", code="NO_OUTPUT")
    assert run(hlog, "12")[0] == 1


# ---- hdiag


def test_diag_groups_counters(run: Any, peer: Any) -> None:
    peer.answers["ctl.diag"] = {
        "counters": {"jobs.pending": 3, "jobs.running": 1, "sched.cycle_last_ms": 1.25, "x": 2.0}
    }
    assert run(hdiag)[1] == ("jobs\n  pending  3\n  running  1\n\nsched\n  cycle_last_ms  1.25\n\ngeneral\n  x  2\n")
    assert json.loads(run(hdiag, "--json", "-g", "sched")[1])["counters"] == {"sched.cycle_last_ms": 1.25}
    assert run(hdiag, "--reset")[0] == 0
    assert peer.calls[-1][0] == "ctl.diag_reset"
