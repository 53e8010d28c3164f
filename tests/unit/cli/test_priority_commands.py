"""hprio, hshare and hctl top: requests, columns, exact sums, exit statuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helix.cli import hctl, hprio, hshare
from helix.errors import Conflict, NotFound
from helix.wire.methods import PRIORITY_ROW, SHARE_ROW

WEIGHTS = {"age": 1000, "assoc": 0, "fairshare": 10000, "jobsize": 0, "partition": 0, "qos": 500, "tres": {"cpu": 70}}
JOB: dict[str, Any] = {
    **dict.fromkeys(PRIORITY_ROW, 0),
    **dict.fromkeys((name for name in PRIORITY_ROW if name.startswith("norm_")), 0.5),
    "job_id": 12, "display_id": "12", "array_job_id": 0, "array_task_id": None, "user": "alice", "account": "physics",
    "qos_name": "normal", "partition": "main", "priority": 5214, "age": 207, "fairshare": 5000, "tres": {"cpu": 7},
}  # fmt: skip
ROOT = {**dict.fromkeys(SHARE_ROW, 0), "account": "root", "user": "", "partition": "", "raw_shares": 1,
        "norm_shares": 1.0, "norm_usage": 1.0, "effectv_usage": 1.0, "fairshare": 1.0, "level_fs": None,
        "grp_tres_mins": {}, "grp_tres_raw": {"cpu": 9}, "tres_run_mins": {}}  # fmt: skip
ALICE = {**ROOT, "account": "physics", "user": "alice", "depth": 2, "raw_shares": -1, "raw_usage": 4210,
         "fairshare": 0.5, "level_fs": 1.25, "grp_tres_mins": {"cpu": 100, "gres/gpu": 3}}  # fmt: skip


@pytest.fixture
def run(peer: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    def go(module: Any, *words: str) -> tuple[int, str, str]:
        status = module.main(list(words))
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return go


def priorities(peer: Any, *jobs: dict[str, Any]) -> None:
    rows = [[{**JOB, **job}[name] for name in PRIORITY_ROW] for job in jobs]
    peer.answers["job.priority"] = [
        {"columns": PRIORITY_ROW, "weights": WEIGHTS, "rows": rows[:1], "more": True}, {"rows": rows[1:]},
    ] if len(rows) > 1 else [{"columns": PRIORITY_ROW, "weights": WEIGHTS, "rows": rows}]  # fmt: skip


def test_columns_are_those_with_a_weight(run: Any, peer: Any) -> None:
    priorities(peer, {}, {"job_id": 3, "display_id": "3", "priority": 9})
    status, out, _ = run(hprio)
    assert status == 0
    head, first, second = out.splitlines()
    assert head.split() == ["JOBID", "PARTITION", "PRIORITY", "SITE", "AGE", "FAIRSHARE", "QOS", "NICE", "TRES"]
    assert first.split() == ["3", "main", "9", "0", "207", "5000", "0", "0", "cpu=7"]
    assert second.split() == ["12", "main", "5214", "0", "207", "5000", "0", "0", "cpu=7"]
    assert "USER" in run(hprio, "-l")[1]
    assert "0.5000000" in run(hprio, "-n")[1]
    assert run(hprio, "-h", "-S", "-Y", "-o", "%i")[1] == "12\n3\n"


def test_weights(run: Any, peer: Any) -> None:
    priorities(peer, {})
    head, row = run(hprio, "-w")[1].splitlines()
    assert dict(zip(head.split()[-4:], row.split()[-4:], strict=True)) == {
        "AGE": "1000", "FAIRSHARE": "10000", "QOS": "500", "TRES": "cpu=70",
    }  # fmt: skip
    assert row.split()[0] == "Weights"


def test_requests_and_json(run: Any, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    priorities(peer, {})
    found = json.loads(run(hprio, "--json", "-j", "12,13_[1-2]", "-u", "alice,7", "-p", "main")[1])
    assert peer.args("job.priority") == {
        "filter": {"ids": ["12", "13_[1-2]"], "users": ["alice", "7"], "partitions": ["main"]}
    }
    assert found["jobs"][0]["fairshare"] == 5000
    assert found["weights"]["tres"] == {"cpu": 70}
    monkeypatch.setenv("SPRIO_FORMAT", "%Y")
    assert run(hprio, "-h")[1] == "5214\n"


def test_faults(run: Any, peer: Any) -> None:
    assert run(hprio, "-o", "%Z")[0] == 2
    assert run(hprio, "extra")[0] == 2
    peer.answers["job.priority"] = Conflict("priority/basic has no factors", code="PRIORITY_PLAIN", hint="set")
    status, _, err = run(hprio)
    assert (status, err) == (1, "hprio: priority/basic has no factors (PRIORITY_PLAIN)\nset\n")
    priorities(peer)
    peer.answers["job.show"] = NotFound("no job 99", code="JOB_UNKNOWN")
    assert run(hprio, "-j", "99")[0] == 1


def shares(peer: Any, *, fair_tree: bool = True) -> None:
    rows = [[row[name] for name in SHARE_ROW] for row in (ROOT, ALICE)]
    peer.answers["account.shares"] = {"columns": SHARE_ROW, "rows": rows, "fair_tree": fair_tree}


def test_shares_are_shown_as_sshare_does(run: Any, peer: Any) -> None:
    shares(peer)
    lines = run(hshare, "-a")[1].splitlines()
    assert peer.args("account.shares") == {"all": True}
    assert lines[0].split() == ["Account", "User", "RawShares", "NormShares", "RawUsage", "EffectvUsage", "FairShare"]
    assert set(lines[1]) == {"-", " "}
    assert lines[2].split() == ["root", "1", "1.000000", "0", "1.000000"]
    assert lines[3].startswith("  physics ")
    assert lines[3].split() == ["physics", "alice", "parent", "1.000000", "4210", "1.000000", "0.500000"]
    assert run(hshare, "-nPU", "-o", "Account,FairShare")[1] == "physics|0.500000\n"
    assert (
        run(hshare, "-np", "-o", "account,levelfs,grptresmins")[1]
        == "root|inf||\n  physics|1.250000|cpu=100,gres/gpu=3|\n"
    )
    assert run(hshare, "-n", "-o", "User%-8,RawUsage%3")[1] == "           0 \nalice    42+ \n"
    shares(peer, fair_tree=False)
    assert run(hshare, "-nP", "-o", "FairShare")[1] == "1.000000\n0.500000\n"


def test_shares_requests_and_json(run: Any, peer: Any) -> None:
    shares(peer)
    document = json.loads(run(hshare, "--json", "-A", "physics,x", "-u", "alice")[1])
    assert peer.args("account.shares") == {"accounts": ["physics", "x"], "users": ["alice"]}
    assert document["shares"][1]["raw_usage"] == 4210
    assert run(hshare, "-e")[1].split()[:2] == ["Account", "User"]
    assert "Partition" in run(hshare, "-m")[1]
    assert "TRESRunMins" in run(hshare, "-l")[1]
    for words in (["-o", "Nothing"], ["-o", "User%x"], ["more"]):
        assert run(hshare, *words)[0] == 2


def test_top(run: Any, peer: Any) -> None:
    peer.answers["job.top"] = {"done": ["12"], "errors": []}
    assert run(hctl, "top", "12,13")[0] == 0
    assert peer.args("job.top") == {"ids": ["12", "13"]}
