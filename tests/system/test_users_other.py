"""Other users: what they may do, as whom their jobs run, and that no message makes them another."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import socket
import struct
from pathlib import Path

import pytest
from helpers.cluster_jobs import (
    NOBODY,
    as_root,
    as_user,
    blocker,
    command_as,
    finish,
    how,
    submit,
    wait_reason,
    wait_state,
    wait_text,
)

from helix.client import Client
from helix.errors import HelixError

pytestmark = as_root
NULL = ("-o", "/dev/null")


def submitted(cluster, work: Path, body: str, *options: str) -> int:
    """Nobody submits a script."""
    script = work / "nobody.sh"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    done = command_as(cluster, "hsubmit", "--parsable", *options, str(script), cwd=work)
    assert done.status == 0, done.err
    return int(done.out)


def test_a_job_runs_as_its_user_and_its_files_are_theirs(cluster, workdir):
    job = submitted(cluster, workdir, "id -u; id -g; id -G; whoami; touch made", "-o", "out")
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
    lines = (workdir / "out").read_text().splitlines()
    assert lines[:2] == [str(NOBODY), str(NOBODY)]
    assert "0" not in lines[2].split(), "no group of root's is left"
    assert lines[3] == pwd.getpwuid(NOBODY).pw_name
    for name in ("out", "made"):
        info = (workdir / name).stat()
        assert (info.st_uid, info.st_gid) == (NOBODY, NOBODY)
    with cluster.client() as client:
        row = client.job(job)
    assert (row["user"], row["uid"], row["gid"]) == ("nobody", NOBODY, NOBODY)


def test_a_job_has_the_groups_of_the_user_database_and_no_others(cluster, workdir):
    """Whatever groups the submitting process had: those of the database count."""
    if not all(group.gr_gid != NOBODY for group in grp.getgrall() if "nobody" in group.gr_mem):
        pytest.fail("nobody is in a group here")

    def call() -> int:
        with Client(str(cluster.cluster.layout.controller_socket)) as client:
            return client.submit(wrap="id -G", work_dir=workdir, stdout="groups", env={})

    job = as_user(call, groups=(0, 4, NOBODY))
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
    expected = {NOBODY, *(g.gr_gid for g in grp.getgrall() if "nobody" in g.gr_mem)}
    assert {int(word) for word in (workdir / "groups").read_text().split()} == expected


def test_output_is_opened_as_the_user(cluster, workdir):
    (workdir / "closed").mkdir(mode=0o700)
    job = submitted(cluster, workdir, "echo never", "-o", "closed/out")
    end = finish(cluster, job)
    assert (end["state"], end["reason"]) == ("FAILED", "OutputFileUnwritable")
    assert "closed/out: Permission denied" in end["reason_text"]
    assert list((workdir / "closed").iterdir()) == []


def test_a_link_does_not_lead_to_files_of_others(cluster, workdir):
    secret = workdir / "secret"
    secret.write_text("root's own\n")
    secret.chmod(0o600)
    (workdir / "link").symlink_to(secret)
    over = finish(cluster, submitted(cluster, workdir, "echo overwritten", "-o", "link"))
    assert (over["state"], over["reason"]) == ("FAILED", "OutputFileUnwritable")
    read = finish(cluster, submitted(cluster, workdir, "cat", "-i", "link", "-o", "out"))
    assert read["state"] == "FAILED"
    assert secret.read_text() == "root's own\n"


def test_hlog_reads_as_the_user(cluster, workdir):
    """The output is replaced by a link to a file of root's: hlog must not show it to the job's owner."""
    job = submitted(cluster, workdir, "echo mine", "-o", "out")
    finish(cluster, job)
    assert command_as(cluster, "hlog", str(job)).out == "mine\n"
    secret = workdir / "secret"
    secret.write_text("root's own\n")
    secret.chmod(0o600)
    (workdir / "out").unlink()
    (workdir / "out").symlink_to(secret)
    done = command_as(cluster, "hlog", str(job))
    assert (done.status, done.out) == (1, "")
    assert "Permission denied" in done.err


def test_jobs_of_others_are_seen_but_not_touched(cluster, workdir):
    job = submit(cluster, workdir, f"echo secret output; echo up > up; {blocker(workdir / 'go')}", "-J", "roots")
    wait_text(cluster, workdir / "up")
    wait_state(cluster, job, "RUNNING")
    assert command_as(cluster, "hqueue", "-h", "-j", str(job), "-o", "%j %u").out == "roots root\n"
    denied = [
        ("hcancel", str(job)),
        ("hcancel", "-s", "USR1", str(job)),
        ("hctl", "requeue", str(job)),
        ("hctl", "hold", str(job)),
        ("hctl", "update", f"JobId={job}", "Comment=x"),
        ("hctl", "write", "batch_script", str(job), "-"),
        ("hlog", str(job)),
        ("hctl", "suspend", str(job)),
    ]
    for command, *words in denied:
        done = command_as(cluster, command, *words, cwd=workdir)
        assert done.status == 4, (command, words, done)
        assert "secret" not in done.out
    assert wait_state(cluster, job, "RUNNING")["comment"] == ""
    (workdir / "go").touch()
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")


def test_filters_cancel_only_ones_own(cluster, workdir):
    mine = submit(cluster, workdir, "true", "-H", "-J", "both", *NULL)
    theirs = submitted(cluster, workdir, "true", "-H", "-J", "both", *NULL)
    assert command_as(cluster, "hcancel", "--name=both").status == 0
    with cluster.client() as client:
        assert [client.job(job)["state"] for job in (mine, theirs)] == ["PENDING", "CANCELLED"]


def test_what_only_administrators_may(cluster, workdir):
    for words in (
        ("update", "NodeName=n1", "State=DRAIN", "Reason=x"),
        ("update", "PartitionName=batch", "State=DOWN"),
        ("reconfigure",),
        ("shutdown",),
        ("snapshot",),
        ("debug", "debug"),
    ):
        done = command_as(cluster, "hctl", *words)
        assert (done.status, "ACCESS_DENIED" in done.err) == (4, True), (words, done)
    with cluster.client() as client:
        assert client.ping()["pid"] == cluster.controller
        assert {node["state"] for node in client.nodes()} == {"IDLE"}


def test_options_of_operators_and_root(cluster, workdir):
    for options, code in (
        (("--nice=-5",), "NICE_DENIED"),
        (("--priority=5",), "PRIORITY_DENIED"),
        (("--uid=root",), "UID_DENIED"),
        (("--gid=root",), "UID_DENIED"),
    ):
        done = command_as(cluster, "hsubmit", *options, "--wrap", "id > id", cwd=workdir)
        assert (done.status, code in done.err) == (4, True), done
    assert not (workdir / "id").exists()


def test_a_user_may_not_release_an_operators_hold(cluster, workdir):
    job = submitted(cluster, workdir, "true", "-H", *NULL)
    cluster.run("hctl", "hold", str(job))
    wait_reason(cluster, job, "JobHeldAdmin")
    done = command_as(cluster, "hctl", "release", str(job))
    assert (done.status, "HELD_BY_ADMIN" in done.err) == (1, True)
    cluster.run("hctl", "uhold", str(job))


def test_a_user_may_shorten_and_not_lengthen_a_running_job(cluster, workdir):
    job = submitted(cluster, workdir, blocker(workdir / "go"), "-t10", *NULL)
    wait_state(cluster, job, "RUNNING")
    done = command_as(cluster, "hctl", "update", f"JobId={job}", "TimeLimit=20")
    assert (done.status, "TIME_LIMIT_DENIED" in done.err) == (4, True)
    assert command_as(cluster, "hctl", "update", f"JobId={job}", "TimeLimit=5").status == 0
    with cluster.client() as client:
        assert client.job(job)["time_limit_s"] == 300
    (workdir / "go").touch()
    finish(cluster, job)


def test_root_may_submit_for_a_user(cluster, workdir):
    job = submit(cluster, workdir, "id -u; id -g", "--uid=nobody", "-o", "out")
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
    assert (workdir / "out").read_text().split() == [str(NOBODY), str(NOBODY)]
    assert (workdir / "out").stat().st_uid == NOBODY
    assert command_as(cluster, "hlog", str(job)).status == 0, "it is theirs"


# ---- raw frames ------------------------------------------------------------------------------------------------------


def raw(path: str, request: dict) -> dict:
    """One frame there, one back."""
    with socket.socket(socket.AF_UNIX) as conn:
        conn.settimeout(10)
        conn.connect(path)
        data = json.dumps(request).encode()
        conn.sendall(struct.pack("<I", len(data)) + data)
        head = conn.recv(4, socket.MSG_WAITALL)
        return json.loads(conn.recv(struct.unpack("<I", head)[0], socket.MSG_WAITALL))


@pytest.fixture(params=["controller", "node"])
def agent(cluster, request) -> str:
    """Path of the controller's socket, or of a node's that relays."""
    layout = cluster.cluster.layout
    return str(layout.controller_socket if request.param == "controller" else layout.node_socket("n1"))


def test_a_uid_in_a_message_is_not_believed(cluster, workdir, agent):
    spec = {"work_dir": str(workdir), "stdout": "out", "name": "forged"}
    script = "#!/bin/sh\nid -u\n"

    def send(**more) -> dict:
        envelope = {"v": 1, "i": 1, "m": "job.submit", **more.pop("envelope", {})}
        return as_user(lambda: raw(agent, {**envelope, "a": {"spec": spec, "script": script, **more}}))

    plain = send()
    assert plain["ok"], plain
    assert how(finish(cluster, plain["r"]["job_id"])) == ("COMPLETED", "0:0")
    assert (workdir / "out").read_text() == f"{NOBODY}\n"
    for forged in (
        {"uid": 0, "gid": 0},
        {"user": "root"},
        {"user": "0"},
        {"group": "root"},
        {"owner": 0},
        {"envelope": {"uid": 0, "gid": 0}},
        {"envelope": {"u": 0}},
    ):
        reply = send(**forged)
        if reply["ok"]:  # an unknown word around the request is not read at all
            with cluster.client() as client:
                assert client.job(reply["r"]["job_id"])["uid"] == NOBODY
            finish(cluster, reply["r"]["job_id"])
        else:
            assert reply["e"]["kind"] in ("Denied", "UsageError", "ProtocolError"), reply


def test_a_uid_in_the_spec_is_refused(cluster, workdir, agent):
    for name in ("uid", "gid", "user"):
        spec = {"work_dir": str(workdir), name: 0}
        reply = as_user(lambda spec=spec: raw(agent, {"v": 1, "i": 1, "m": "job.submit", "a": {"spec": spec}}))
        assert not reply["ok"]


def test_through_a_node_one_is_still_oneself(cluster, workdir, agent):
    mine = submit(cluster, workdir, "true", "-H", *NULL)
    request = {"v": 1, "i": 7, "m": "job.cancel", "a": {"filter": {"ids": [str(mine)]}}}
    reply = as_user(lambda: raw(agent, request))
    codes = [item["code"] for item in reply["r"]["errors"]] if reply["ok"] else [reply["e"]["code"]]
    assert codes == ["JOB_NOT_YOURS"]
    assert raw(agent, request)["r"]["errors"] == []
    with cluster.client() as client:
        assert client.job(mine)["state"] == "CANCELLED"


# ---- files of the daemons --------------------------------------------------------------------------------------------


def readable_by_nobody(root: Path) -> list[str]:
    """Files below `root` that another user can read."""

    def look() -> list[str]:
        found = []
        for folder, _, names in os.walk(root):
            for name in names:
                with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb"):
                    found.append(os.path.relpath(os.path.join(folder, name), root))
        return found

    return list(as_user(look))


def test_keys_journal_scripts_and_environments_are_private(cluster, workdir):
    job = submit(cluster, workdir, "echo 'password=hunter2'", *NULL, env={"SECRET": "hunter2"})
    finish(cluster, job)
    assert readable_by_nobody(cluster.cluster.layout.state) == []
    left = [name for name in readable_by_nobody(cluster.cluster.layout.nodes) if not name.endswith("/lock")]
    assert left == []
    for path in cluster.cluster.layout.log.glob("*.log"):
        assert "hunter2" not in path.read_text()


def test_environment_of_the_daemons_is_not_the_jobs(cluster, workdir):
    job = submitted(cluster, workdir, "env", "-o", "out", "--export=NIL")
    finish(cluster, job)
    assert "HELIX_CLUSTER_COOKIE" not in (workdir / "out").read_text()


def test_home_and_shell_come_from_the_user_database(cluster, workdir):
    login = pwd.getpwuid(NOBODY)
    job = submitted(cluster, workdir, "echo $HOME $USER $LOGNAME", "-o", "out", "--export=NIL")
    finish(cluster, job)
    assert (workdir / "out").read_text().split() == [login.pw_dir, login.pw_name, login.pw_name]


def test_a_user_that_is_in_no_database(cluster, workdir):
    """A number without a name can still run jobs, as that number."""

    def call() -> int:
        with Client(str(cluster.cluster.layout.controller_socket)) as client:
            return client.submit(wrap="id -u", work_dir=workdir, stdout="out", env={})

    job = as_user(call, uid=54321, gid=54321)
    assert how(finish(cluster, job)) == ("COMPLETED", "0:0")
    assert (workdir / "out").read_text() == "54321\n"
    assert cluster.run("hqueue", "-h", "-t", "all", "-j", str(job), "-o", "%u").stdout == "54321\n"


def test_a_denied_caller_is_told_which_role_is_needed(cluster):
    def call() -> list[str]:
        with Client(str(cluster.cluster.layout.controller_socket)) as client:
            try:
                client.call("ctl.shutdown")
            except HelixError as error:
                return [error.code, error.msg]
        return []

    assert as_user(call) == ["ACCESS_DENIED", "ctl.shutdown needs the role admin; nobody is user"]
