"""Accounts on a real cluster: whose turn it is, what limits hold, what is refused, and what a crash leaves."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
from helpers.cluster_jobs import blocker, finish, submit, wait_reason, wait_state

from helix.cluster.fixture import TestCluster

ME = pwd.getpwuid(os.getuid()).pw_name
NULL = ("-o", "/dev/null", "-t", "5")
CONF = """\
PriorityType=priority/multifactor
PriorityWeightFairshare=10000
PriorityWeightAge=10
PriorityWeightQOS=500
PriorityCalcPeriod=0:01
AccountingStorageEnforce=limits,qos
MinJobAge=3600
"""
ACCOUNTS = f"""\
Cluster - 'tux':Fairshare=1
QOS - 'normal'
QOS - 'high':Priority=100
QOS - 'short':MaxWall=1:Flags=DenyOnLimit
Parent - 'root'
Account - 'physics':Fairshare=10{{physics}}
Account - 'chemistry':Fairshare=10{{chemistry}}
Parent - 'physics'
User - '{ME}':DefaultAccount='physics'
Parent - 'chemistry'
User - '{ME}':QOS='normal'
"""


def write(path: Path, physics: str = "", chemistry: str = "") -> None:
    path.write_text(ACCOUNTS.format(physics=physics, chemistry=chemistry))


@pytest.fixture
def shared(helix_cluster_factory: Any, tmp_path: Path) -> TestCluster:
    """One node with one CPU, two accounts of the same user."""
    write(tmp_path / "assoc.conf")
    cluster: TestCluster = helix_cluster_factory(nodes=1, cpus=1, conf_extra=f"{CONF}AssocFile={tmp_path}/assoc.conf\n")
    return cluster


def factors(cluster: TestCluster) -> dict[int, dict[str, Any]]:
    """What hprio says of each job."""
    return {job["job_id"]: job for job in json.loads(cluster.run("hprio", "--json").stdout)["jobs"]}


def usage(cluster: TestCluster) -> dict[str, int]:
    """RawUsage of each account."""
    rows = json.loads(cluster.run("hshare", "-a", "--json").stdout)["shares"]
    return {row["account"]: row["raw_usage"] for row in rows if not row["user"]}


def test_who_has_used_less_starts_first_and_a_crash_forgets_nothing(shared: TestCluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = submit(shared, tmp_path, blocker(go), *NULL)
    wait_state(shared, first, "RUNNING")
    again = submit(shared, tmp_path, "true", *NULL)
    other = submit(shared, tmp_path, "true", "-A", "chemistry", *NULL)
    shared.wait_for(lambda: usage(shared)["physics"] >= 1, "the running job is charged")
    shared.wait_for(
        lambda: factors(shared)[other]["fairshare"] == 10000 > factors(shared)[again]["fairshare"], "factors follow"
    )
    for job in factors(shared).values():
        terms = job["age"] + job["assoc"] + job["fairshare"] + job["jobsize"] + job["partition_term"] + job["qos"]
        assert job["priority"] == terms + sum(job["tres"].values()) + job["site"] + job["bound"] - job["nice"]
    with shared.client() as client:
        assert client.job(other)["priority"] == 10000
        assert client.job(other)["account"] == "chemistry"
        assert (client.job(again)["account"], client.job(again)["qos"]) == ("physics", "normal")
    used = usage(shared)
    shared.kill9_controller()
    shared.start_controller()
    shared.wait_nodes()
    assert usage(shared)["physics"] >= used["physics"]
    go.touch()
    ends = {job: finish(shared, job) for job in (first, other, again)}
    assert all(end["state"] == "COMPLETED" for end in ends.values())
    with shared.client() as client:
        assert client.job(other)["t_start"] < client.job(again)["t_start"]
    before = usage(shared)
    assert before["physics"] > before["chemistry"]
    shared.kill9_controller()
    shared.start_controller()
    after = usage(shared)
    assert all(abs(after[name] - before[name]) <= 1 for name in before)


def test_limits_hold_jobs_until_the_file_changes(shared: TestCluster, tmp_path: Path) -> None:
    write(tmp_path / "assoc.conf", chemistry=":GrpJobs=0:MaxSubmitJobs=2")
    shared.run("hctl", "reconfigure")
    held = submit(shared, tmp_path, "true", "-A", "chemistry", *NULL)
    wait_reason(shared, held, "AssocGrpJobsLimit")
    assert "GrpJobs=0 of association chemistry" in shared.run("hwhy", str(held)).stdout
    finish(shared, submit(shared, tmp_path, "true", *NULL))  # nobody else waits for it
    submit(shared, tmp_path, "true", "-A", "chemistry", *NULL)
    for words, error in (
        (("-A", "chemistry"), "(SUBMIT_LIMIT)"),
        (("-A", "chemistri"), "did you mean 'chemistry'?"),
        (("-A", "chemistry", "-q", "high"), "chemistry:"),
        (("-q", "hihg"), "did you mean 'high'?"),
        (("-q", "short"), "(JOB_LIMIT)"),
    ):
        done = shared.run("hsubmit", *NULL, *words, "--wrap=true", check=False)
        assert done.returncode != 0
        assert error in done.stderr, done.stderr
    write(tmp_path / "assoc.conf", physics=":Fairshre=3")
    done = shared.run("hctl", "reconfigure", check=False)
    assert done.returncode == 1
    assert f"{tmp_path}/assoc.conf:6: unknown field 'Fairshre' of Account" in done.stderr
    assert "did you mean Fairshare?" in done.stderr
    write(tmp_path / "assoc.conf")
    assert "AssocFile" in shared.run("hctl", "reconfigure").stdout
    assert finish(shared, held)["state"] == "COMPLETED"


def test_the_qos_of_a_partition_limits_all_its_jobs(shared: TestCluster, tmp_path: Path) -> None:
    """Set and taken away while jobs wait; nothing starts beyond it, and everything does once it is gone."""
    assert "QoS=N/A" in shared.run("hctl", "show", "partition").stdout
    refused = shared.run("hctl", "update", "PartitionName=batch", "QOS=shrt", check=False)
    assert refused.returncode != 0
    assert "did you mean 'short'?" in refused.stderr
    go = tmp_path / "go"
    first = submit(shared, tmp_path, blocker(go), *NULL)
    wait_state(shared, first, "RUNNING")
    waiting = submit(shared, tmp_path, "true", *NULL)
    shared.run("hctl", "update", "PartitionName=batch", "QOS=short")
    assert "QoS=short" in shared.run("hctl", "show", "partition").stdout
    wait_reason(shared, waiting, "QOSMaxWallDurationPerJobLimit")
    denied = shared.run("hsubmit", "-o", "/dev/null", "-t", "5", "--wrap", "true", check=False)
    assert denied.returncode != 0
    assert "MaxWall=1:00" in denied.stderr
    shared.run("hctl", "update", "PartitionName=batch", "QOS=")
    go.touch()
    for job in (first, waiting):
        wait_state(shared, job, "COMPLETED")


def test_priorities_that_are_set_and_jobs_that_are_put_first(shared: TestCluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    running = submit(shared, tmp_path, blocker(go), *NULL)
    wait_state(shared, running, "RUNNING")
    one, two, three = (submit(shared, tmp_path, "true", *NULL) for _ in range(3))
    shared.wait_for(lambda: len(factors(shared)) == 3, "all have priorities")
    shared.run("hctl", "update", f"JobId={one}", "Priority=17")
    assert factors(shared)[one]["admin"] == 17
    shared.run("hctl", "update", f"JobId={two}", "SiteFactor=1000")
    shared.wait_for(lambda: factors(shared)[two]["site"] == 1000, "the site factor counts")
    shared.run("hctl", "top", str(three))
    shared.wait_for(lambda: factors(shared)[three]["priority"] > factors(shared)[two]["priority"], "it is on top")
    nice = [factors(shared)[job]["nice"] for job in (two, three)]
    assert sum(nice) == 0
    shared.run("hctl", "hold", str(one))
    shared.run("hctl", "release", str(one))
    shared.wait_for(lambda: factors(shared)[one]["fairshare"] > 0, "the plugin has it again")
    go.touch()
    for job in (one, two, three):
        finish(shared, job)
    with shared.client() as client:
        start = {job: client.job(job)["t_start"] for job in (one, two, three)}
    assert start[three] < start[one] < start[two]  # what the third gained, the second gave


BAD_PLUGIN = """
class Bad:
    def initial_priority(self, job_id, spec, *, held=False):
        return 1

    def prioritise(self, table, scale, options):
        raise ValueError("out of order")


plugin = Bad
"""


def test_a_faulty_plugin_costs_the_factors_not_the_jobs(helix_cluster_factory: Any, tmp_path: Path) -> None:
    place = tmp_path / "plugins" / "priority"
    place.mkdir(parents=True)
    (place / "bad.py").write_text(BAD_PLUGIN)
    cluster = helix_cluster_factory(
        nodes=1, cpus=1, conf_extra=f"PluginDir={place.parent}\nPriorityType=priority/bad\nPriorityWeightAge=5\n"
    )
    assert finish(cluster, submit(cluster, tmp_path, "true", *NULL))["state"] == "COMPLETED"
    done = cluster.run("hprio", check=False)
    assert (done.returncode, "(PRIORITY_PLAIN)" in done.stderr) == (1, True)
    assert "ValueError: out of order" in cluster.logs()
