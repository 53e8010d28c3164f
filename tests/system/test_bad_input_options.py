"""Requests that make no sense or can never be served: refused at once, by name, with the nearest thing that works."""

from __future__ import annotations

import json
import socket
import struct

import pytest

NEVER = 1
USAGE = 2


def refused(cluster, work, *options: str, env=None) -> tuple[int, str]:
    """Status and words of a submission that must fail and leave nothing."""
    done = cluster.run("hsubmit", *options, "--wrap", "true", cwd=work, check=False, env=env)
    assert done.stdout == ""
    assert done.returncode in (1, 2, 4)
    assert done.stderr.startswith("hsubmit: ")
    assert "Traceback" not in done.stderr
    assert cluster.run("hqueue", "-h").stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--nodess=2",), USAGE, "did you mean"),
        (("-Z",), USAGE, "-Z"),
        (("--ntasks",), USAGE, "--ntasks"),
        (("--hold=yes",), USAGE, "--hold"),
        (("-n", "0"), USAGE, "--ntasks"),
        (("-n", "many"), USAGE, "'many'"),
        (("-N", "4-2"), USAGE, "the least is above the most"),
        (("-c", "-1"), USAGE, "--cpus-per-task"),
        (("-t", "tomorrow"), USAGE, "bad time limit 'tomorrow'"),
        (("-t", "1:2:3:4"), USAGE, "bad time limit"),
        (("--begin", "yesterday-ish"), USAGE, "TIME_INVALID"),
        (("--mem", "lots"), USAGE, "'lots'"),
        (("--mem", "-5"), USAGE, "--mem"),
        (("--mem-per-cpu", "0"), USAGE, "--mem-per-cpu"),
        (("-w", "n[1-"), USAGE, "n[1-"),
        (("-w", "n[3-1]"), USAGE, "--nodelist"),
        (("--signal", "NOSUCH@5"), USAGE, "NOSUCH"),
        (("--open-mode", "sideways"), USAGE, "'sideways' is not append or truncate"),
        (("--mail-type", "SOMETIMES"), USAGE, "'SOMETIMES' is not one of"),
        (("--export", ""), USAGE, "--export"),
        (("--nice=99999999999",), USAGE, "--nice"),
        (("-p", "batsh"), 1, "did you mean 'batch'?"),
        (("--uid", "no-such-user"), 1, "no-such-user"),
        (("-w", "n7"), 1, "no node 'n7'"),
        (("-x", "m1"), 1, "no node 'm1'"),
        (("--gpu-bind=none",), USAGE, "--gpu-bind is not supported yet"),
        (("--reservation=r",), 1, "no reservation 'r' (RESERVATION_UNKNOWN)"),
        (("--deadline=2001-01-01",), USAGE, "the deadline has passed"),
        (("-w", "n1", "-x", "n1"), USAGE, "n1"),
        (("-J", "a\x1b[31mred"), USAGE, "cannot be printed"),
    ],
)
def test_options_that_make_no_sense(cluster, workdir, options, status, words):
    got, text = refused(cluster, workdir, *options)
    assert words in text
    assert got == status


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-c", "5"), "no node of partition batch has 5 CPUs; the largest, n1, has 4"),
        (("-n", "9"), "all nodes of partition batch together take 8 tasks of this request, 9 are asked"),
        (("-N", "3"), "partition batch has 2 nodes, 3 are asked"),
        (("--mem", "2G"), "no node of partition batch has 2G of memory; the largest, n1, has 1G"),
        (("-C", "gpu"), "lacks feature gpu"),
        (("--tmp", "1000T"), "temporary disk"),
    ],
)
def test_requests_that_can_never_be_served_name_the_nearest_node(cluster, workdir, options, words):
    status, text = refused(cluster, workdir, *options)
    assert status == NEVER
    assert words in text
    assert "NODES_NEVER" in text


def test_variables_of_the_environment_are_checked_and_named(cluster, workdir):
    _, text = refused(cluster, workdir, env={"SBATCH_TIMELIMIT": "soon"})
    assert "SBATCH_TIMELIMIT" in text
    assert "'soon'" in text
    _, text = refused(cluster, workdir, env={"SBATCH_NETWORK": "1"})
    assert "not supported yet" in text


def test_wrap_and_a_script_do_not_go_together(cluster, workdir):
    done = cluster.run("hsubmit", "--wrap", "true", "job.sh", cwd=workdir, check=False)
    assert (done.returncode, "do not go together" in done.stderr) == (2, True)


def test_names_with_control_characters_are_shown_harmlessly(cluster, workdir):
    """hsubmit refuses them; another client may not."""
    with cluster.client() as client:
        job = client.submit(wrap="true", name="a\x1b[31mred\nb", work_dir=workdir, hold=True)
    for words in (("hqueue", "-h", "-j", str(job), "-o", "%j"), ("hctl", "-o", "show", "job", str(job))):
        shown = cluster.run(*words).stdout
        assert "\x1b" not in shown
        assert shown.count("\n") == 1


def frames(cluster, *payloads: bytes) -> list[dict]:
    """What comes back for raw payloads until the connection ends or a second passes."""
    with socket.socket(socket.AF_UNIX) as conn:
        conn.settimeout(5)
        conn.connect(str(cluster.cluster.layout.controller_socket))
        for payload in payloads:
            conn.sendall(struct.pack("<I", len(payload)) + payload)
        found = []
        for _ in payloads:
            head = conn.recv(4, socket.MSG_WAITALL)
            if len(head) < 4:
                break
            found.append(json.loads(conn.recv(struct.unpack("<I", head)[0], socket.MSG_WAITALL)))
        return found


def call(method: str, **args) -> bytes:
    """A request."""
    return json.dumps({"v": 1, "i": 1, "m": method, "a": args}).encode()


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"spec": {}},
        {"spec": {"work_dir": "relative"}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/"}, "script": "no interpreter"},
        {"spec": {"work_dir": "/", "nodes_min": 0}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "nodes_min": 10**30}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "cpus_per_task": 1.5}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "tasks": -1}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "time_limit_s": -5}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "t_begin": "soon"}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "array": "1-"}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "array": ""}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "nodelist": "n[1-99999999]"}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "script_hash": "0" * 64}},
        {"spec": {"work_dir": "/", "umask": 99999}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "signal": {"signal": 99}}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "stdout": "a\u0000b"}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/\u0000"}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/"}, "script": "#!/bin/sh\n", "env": ["no equals"]},
        {"spec": {"work_dir": "/"}, "script": "#!/bin/sh\n", "env": "A=1"},
        {
            "spec": {"work_dir": "/", "dependency": {"edges": [{"kind": "afterok", "job_id": -4}]}},
            "script": "#!/bin/sh\n",
        },
        {"spec": {"work_dir": "/", "dependency": {"edges": [{"kind": "never", "job_id": 1}]}}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "rlimits": {"NOFILE": [5]}}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "rlimits": {"NOSUCH": [5, 5]}}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "open_mode": "sideways"}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "name": "x" * 5000}, "script": "#!/bin/sh\n"},
        {"spec": {"work_dir": "/", "mail_type": ["SOMETIMES"]}, "script": "#!/bin/sh\n"},
    ],
)
def test_submissions_of_a_client_that_checks_nothing(cluster, args):
    """The controller holds every request to the same rules, whoever made it."""
    (reply,) = frames(cluster, call("job.submit", **args))
    assert reply["ok"] is False, reply
    error = reply["e"]
    assert error["kind"] not in ("InternalError", "HelixError"), error
    assert error["code"].isupper()
    assert error["msg"]
    with cluster.client() as client:
        assert client.queue() == []


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"v": 1}',
        b'{"v": 1, "i": "x", "m": "ping"}',
        b'{"v": 99, "i": 1, "m": "ping", "a": {}}',
        b'{"v": 1, "i": 1, "m": "no.such", "a": {}}',
        b'{"v": 1, "i": 1, "m": "job.list", "a": {"nosuch": 1}}',
        b'{"v": 1, "i": 1, "m": "job.show", "a": {"ids": 5}}',
        b'{"v": 1, "i": 1, "m": "job.show", "a": {"ids": ["1_[0-99999999999]"]}}',
        b'{"v": 1, "i": 1, "m": "job.cancel", "a": {}}',
        b'{"v": 1, "i": 1, "m": "job.log", "a": {"id": ""}}',
        b'{"v": 1, "i": 1, "m": "node.list", "a": {"nodes": "n[0-999999999]"}}',
        b"\xff\xfe\x00garbage",
        b"[" * 100_000,
    ],
)
def test_requests_that_are_none(cluster, payload):
    replies = frames(cluster, payload)
    assert all(reply["ok"] is False and reply["e"]["kind"] != "InternalError" for reply in replies), replies
    with cluster.client() as client:
        assert client.ping()["pid"] == cluster.controller
