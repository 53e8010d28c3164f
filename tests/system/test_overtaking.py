"""sched/backfill with real daemons: overtaking, promises, expected starts, and advice that is true."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

from helpers.cluster_jobs import blocker, finish, submit, wait_reason, wait_state

NULL = ("-o", "/dev/null")
WHOLE = ("-n4", "-N1", *NULL)


def epoch(text: str) -> float:
    """A time as the commands print it."""
    return datetime.fromisoformat(text).astimezone().timestamp()


def start_of(cluster, job) -> str:
    """START_TIME of hqueue --start."""
    return cluster.run("hqueue", "--start", "-h", "-j", str(job), "-o", "%S").stdout.strip()


def foreseen(cluster, job) -> dict:
    """The job's row once a start is expected."""
    rows: list[dict] = []

    def known() -> bool:
        rows[:] = json.loads(cluster.run("hqueue", "--json", "-j", str(job)).stdout)["jobs"]
        return bool(rows and rows[0]["t_expected"])

    cluster.wait_for(known, f"a start of job {job} is expected")
    return rows[0]


def fill(cluster, workdir):
    """n1 busy for an hour at most, n2 free, and a job that waits for both."""
    hog = submit(cluster, workdir, blocker(workdir / "go"), "-w", "n1", "-t60", *WHOLE)
    wait_state(cluster, hog, "RUNNING")
    big = submit(cluster, workdir, "true", "-N2", "-n8", "-t30", *NULL)
    wait_reason(cluster, big, "Resources")
    return hog, big


def test_a_short_job_overtakes_a_big_one_and_its_promise_holds(cluster, workdir):
    hog, big = fill(cluster, workdir)
    promised = foreseen(cluster, big)
    assert promised["protected"]
    assert promised["sched_nodes"] == "n[1-2]"
    with cluster.client() as client:
        hog_start = client.job(hog)["t_start"]
    assert hog_start + 3600 - 1 <= promised["t_expected"] <= hog_start + 3600 + 61
    long = submit(cluster, workdir, "true", "-t120", *WHOLE)
    wait_reason(cluster, long, "Priority")
    short = submit(cluster, workdir, "true", "-t10", *WHOLE)
    assert finish(cluster, short)["state"] == "COMPLETED"
    shown = cluster.run("hqueue", "--start", "-h", "-o", "%i %S %Y").stdout.split("\n")
    assert sorted(line.split()[0] for line in shown if line) == sorted(map(str, (big, long)))
    assert epoch(start_of(cluster, big)) <= promised["t_expected"] + 1, "a promise does not move later"
    assert foreseen(cluster, long)["expected_range"][1] >= promised["t_expected"] + 1800 - 61
    header = cluster.run("hqueue", "--start").stdout.split("\n")[0].split()
    assert header[5:8] == ["START_TIME", "NODES", "SCHEDNODES"]
    (workdir / "go").touch()
    assert finish(cluster, hog)["state"] == "COMPLETED"
    assert finish(cluster, big)["state"] == "COMPLETED"
    assert finish(cluster, long)["state"] == "COMPLETED"
    counters = json.loads(cluster.run("hdiag", "--json", "-g", "sched").stdout)["counters"]
    assert counters["sched.backfilled"] >= 1
    assert counters["sched.full"] >= 1
    assert counters["sched.table_rows"] == 2


def test_test_only_says_when_and_where(cluster, workdir):
    fill(cluster, workdir)
    said = cluster.run("hsubmit", "--test-only", "-n4", "-N1", "-t10", "--wrap=true").stderr
    assert re.fullmatch(
        r"hsubmit: Job \d+ to start at \S+ using 4 processors on nodes n2 in partition batch\n", said
    ), said
    assert abs(epoch(said.split()[6]) - time.time()) < 30
    later = cluster.run("hsubmit", "--test-only", "-n4", "-N1", "-t120", "--wrap=true").stderr
    job = submit(cluster, workdir, "true", "-t120", *WHOLE)
    assert abs(epoch(later.split()[6]) - foreseen(cluster, job)["expected_range"][1]) < 90
    (workdir / "go").touch()


def test_advice_is_true(cluster, workdir):
    fill(cluster, workdir)
    job = submit(cluster, workdir, "true", "-t120", *WHOLE)
    wait_reason(cluster, job, "Priority")
    foreseen(cluster, job)
    answer = json.loads(cluster.run("hwhy", "--json", str(job)).stdout)["jobs"][0]
    advice = next(line for line in answer["advice"] if line.startswith("with --time="))
    assert "it would start now in a backfill hole on n2" in advice
    again = submit(cluster, workdir, "true", advice.split()[1], *WHOLE)
    assert finish(cluster, again)["state"] == "COMPLETED"
    assert wait_state(cluster, job, "PENDING")["state"] == "PENDING"
    text = cluster.run("hwhy", str(job)).stdout
    assert "  expected start: " in text
    assert "  promised first: job " in text
    (workdir / "go").touch()
