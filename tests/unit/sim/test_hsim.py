"""The command: what it prints and writes, that it repeats itself, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.swf_traces import random_jobs, write_swf

from helixctld.sim import cli
from helixctld.sim.plots import mean_over, step_curve

CONF = """\
ClusterName=tried
HelixctldHost=localhost
SchedulerType=sched/backfill
SelectTypeParameters=CR_Core
{more}
NodeName=n[1-4] CPUs=4 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return write_swf(tmp_path / "trace.swf.gz", random_jobs(5, 120, 16), 16)


def conf(tmp_path: Path, name: str, more: str = "") -> Path:
    path = tmp_path / name
    path.write_text(CONF.format(more=more), encoding="utf-8")
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert cli.main([*map(str, words), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["helix"]["version"] == 1
    return document


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    status = cli.main([*map(str, words)])
    told = capsys.readouterr()
    assert told.out == ""
    return status, told.err


def test_a_run_has_its_figures_and_repeats_itself(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once, again = (answer(capsys, "run", "--policy", "easy", trace) for _ in range(2))
    for found in (once, again):
        assert found.pop("wall_s") >= 0
    assert once == again
    assert once["jobs"] == 120
    assert once["skipped"] == once["never_started"] == 0
    assert once["mean_wait_s"] <= once["max_wait_s"] > once["p95_wait_s"] > 0
    assert once["mean_bounded_slowdown"] >= 1
    assert 0 < once["utilization"] <= 1
    assert once["backfilled"] > 0
    assert once["fairness"]["users"] == 7
    assert 1 / 7 <= once["fairness"]["jain"] <= 1
    assert once["prediction"]["jobs"] > 0
    shaken = answer(capsys, "run", "--policy", "easy", "--shake", 60, "--seed", 3, trace)
    assert shaken["hash"] != once["hash"] == answer(capsys, "run", "--policy", "easy", "--seed", 3, trace)["hash"]


def test_files_of_a_run_agree_with_each_other(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    starts, rows_file, page = (tmp_path / name for name in ("starts.txt", "jobs.csv", "page.html"))
    words = ("run", "--limit", 50, "--starts", starts, "--csv", rows_file, "--report", page, trace)
    found = answer(capsys, *words)
    assert found["jobs"] == 50
    with rows_file.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [f"{row['job_id']} {row['start']}" for row in rows] == starts.read_text().splitlines()
    waits = [int(row["wait"]) for row in rows]
    assert max(waits) == found["max_wait_s"]
    assert sum(waits) / 50 == pytest.approx(found["mean_wait_s"])
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 4
    assert found["hash"] in text
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", text), "the page fetches something"
    again = page.read_bytes()
    answer(capsys, *words)
    assert page.read_bytes() == again


def test_a_configuration_describes_the_machine(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "run", "--conf", conf(tmp_path, "a.conf"), "--report", tmp_path / "r.html", trace)
    assert found["jobs"] + found["never_started"] + sum(found["refused"].values()) == 120
    assert found["jobs"] == 120
    assert cli.main(["run", "--conf", str(tmp_path / "a.conf"), "--policy", "fcfs", str(trace)]) == 0
    assert "mean bounded slowdown" in capsys.readouterr().out


def test_jobs_that_the_controller_would_refuse_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write_swf(tmp_path / "t.swf", [(0, 5, 10, 4), (1, 5, 10, 999)], 999)
    found = answer(capsys, "run", "--conf", conf(tmp_path, "a.conf"), trace)
    assert found["jobs"] == 1
    assert list(found["refused"].values()) == [1]


def test_two_configurations_are_compared(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = conf(tmp_path, "fifo.conf")
    slow.write_text(slow.read_text().replace("sched/backfill", "sched/fifo"), encoding="utf-8")
    quick = conf(tmp_path, "easy.conf", "SchedulerParameters=bf_mode=easy")
    found = answer(capsys, "compare", slow, quick, "--trace", trace, "--runs", 2)
    wait = found["differences"]["mean_wait_s"]
    assert wait["difference"] == pytest.approx(wait["b"] - wait["a"])
    assert wait["low"] <= wait["difference"] <= wait["high"] < 0
    assert wait["certain"]
    same = answer(capsys, "compare", slow, slow, "--trace", trace, "--runs", 2)["differences"]
    assert all((d["low"], d["high"], d["certain"]) == (0, 0, False) for d in same.values())
    assert cli.main(["compare", str(slow), str(quick), "--trace", str(trace), "--runs", "1", "--limit", "30"]) == 0
    assert "mean_bounded_slowdown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "the first word must be one of"),
        (["walk"], 2, "'walk' is not one of"),
        (["run"], 2, "run takes one trace"),
        (["run", "none.swf"], 1, "there is no such trace"),
        (["run", "--policy", "best", "x"], 2, "'best' is not fcfs"),
        (["run", "--nodes", "4", "x"], 2, "--nodes means nothing to run"),
        (["run", "--starts", "no/such/dir/f", "x"], 2, "there is no directory"),
        (["compare", "a.conf"], 2, "compare takes two configurations"),
        (["compare", "a.conf", "b.conf"], 2, "compare needs --trace"),
        (["compare", "a.conf", "b.conf", "--trace", "x"], 1, "no such file"),
        (["pass", "--nodes", "4"], 2, "pass needs --jobs"),
        (["place", "--trace", "x"], 2, "place needs --cluster"),
    ],
)
def test_bad_command_lines_are_told_in_words(
    words: list[str], status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("x").write_text("; MaxProcs: 4\n1 0 -1 5 1 -1 -1 1 9 -1 1 1 1 -1 -1 -1 -1 -1\n", encoding="utf-8")
    found, error = refused(capsys, *words)
    assert (found, said in error) == (status, True), error
    assert "Traceback" not in error


def test_machines_on_which_nothing_can_run_are_refused(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = conf(tmp_path, "down.conf")
    path.write_text(path.read_text().replace("RealMemory=1000", "RealMemory=1000 State=DOWN"), encoding="utf-8")
    status, error = refused(capsys, "run", "--conf", path, trace)
    assert (status, "nothing can be planned" in error) == (1, True), error
    bare = write_swf(tmp_path / "bare.swf", [(0, 5, 10, 1)], 0)
    status, error = refused(capsys, "run", bare)
    assert (status, "how many processors" in error) == (2, True), error
    assert answer(capsys, "run", "--processors", 4, bare)["jobs"] == 1


def test_a_pass_on_a_random_cluster_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "pass", "--nodes", 20, "--jobs", 60, "--running", 20, "--seed", 4)
    assert found["pass_s"] > 0
    assert 0 < found["started"] <= found["planned"] <= 60
    assert found["rejected"] + found["planned"] <= 60
    assert found["peak_mib"] > 10


def test_curves_are_means_over_time() -> None:
    import numpy as np

    at, count = step_curve(np.array([0, 10, 10, 20]), np.array([2, 1, 1, -4]))
    assert (at.tolist(), count.tolist()) == ([0, 10, 20], [2, 4, 0])
    assert mean_over(at, count, np.array([0, 5, 15, 30])).tolist() == [2.0, 3.0, pytest.approx(4 / 3)]
