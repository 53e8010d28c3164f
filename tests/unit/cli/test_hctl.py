"""hctl: verbs, records in scontrol's layout, and the requests that changes become."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from helix.cli import hctl, hinfo
from helix.cli.hctl import LATER_VERBS, VERBS, find_verb
from helix.errors import Denied, NotFound, UsageError
from helix.wire.methods import RESERVATION_ROW

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def ctl(peer: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run hctl; gives (exit status, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        status = hctl.main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_show_job_is_scontrols(ctl: Any, peer: Any, job_row: dict[str, Any]) -> None:
    peer.answers["job.show"] = {"jobs": [job_row]}
    assert ctl("show", "job", "12")[1] == (GOLDEN / "hctl_show_job.txt").read_text()
    assert peer.args("job.show") == {"ids": ["12"]}
    one_line = ctl("show", "job=12", "-o")[1]
    assert one_line.count("\n") == 1
    assert one_line.startswith("JobId=12 JobName=wrap UserId=alice(1000) ")


def test_show_job_details(ctl: Any, peer: Any, job_row: dict[str, Any]) -> None:
    peer.answers["job.show"] = {"jobs": [{**job_row, "cores": {"n1": [0, 1, 4]}}]}
    out = ctl("-d", "show", "job", "12")[1]
    assert "   Nodes=n1 CPU_IDs=0-1,4 GRES=\n" in out
    assert "   2027-01-15T08:00:10 PENDING -> RUNNING: started\n" in out


def test_show_array_job(ctl: Any, peer: Any, job_row: dict[str, Any]) -> None:
    array = {**job_row, "array_pending": "4-9", "array_limit": 2}
    task = {**job_row, "job_id": 13, "array_job_id": 12, "array_task_id": 3}
    peer.answers["job.show"] = {"jobs": [array, task]}
    heads = [block.splitlines()[0] for block in ctl("show", "jobs", "12")[1].split("\n\n")]
    assert heads == [
        "JobId=12 ArrayJobId=12 ArrayTaskId=4-9 ArrayTaskThrottle=2 JobName=wrap",
        "JobId=13 ArrayJobId=12 ArrayTaskId=3 JobName=wrap",
    ]


def test_show_node_and_partition(ctl: Any, peer: Any) -> None:
    peer.nodes({"state": "DRAINED*", "reason": "bad disk", "reason_by": "root", "t_reason": 1.8e9})
    peer.partitions({"max_time_s": 3600, "allow_groups": ["a", "b"]})
    out = ctl("show", "node", "n1")[1]
    assert "NodeName=n1 Arch=x86_64 CoresPerSocket=4\n" in out
    assert "State=IDLE+DRAIN* " in out
    assert out.endswith("Reason=bad disk [root@2027-01-15T08:00:00]\n")
    assert peer.args("node.list") == {"nodes": "n1"}
    out = ctl("show", "partition")[1]
    assert "AllowGroups=a,b AllowAccounts=ALL AllowQos=ALL\n" in out
    assert "MaxTime=01:00:00" in out


def test_show_config(ctl: Any, peer: Any) -> None:
    peer.answers["config.show"] = {"pairs": [["ClusterName", "demo"], ["MinJobAge", "300 s"]], "hash": "x"}
    lines = ctl("show", "config")[1].splitlines()
    assert lines[0].startswith("Configuration data as of 20")
    assert lines[1:] == ["ClusterName = demo", "MinJobAge   = 300 s"]


def test_host_lists_need_no_controller(ctl: Any, peer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HELIX_SOCKET", "/nonexistent")
    assert ctl("show", "hostnames", "n[1-2],m3")[1] == "n1\nn2\nm3\n"
    monkeypatch.setenv("SLURM_JOB_NODELIST", "c[08-09]")
    assert ctl("show", "hostnames")[1] == "c08\nc09\n"
    assert ctl("show", "hostlist", "n2,n1,n3")[1] == "n[1-3]\n"
    (tmp_path / "hosts").write_text("n1\nn2\n")
    assert ctl("show", "hostlist", str(tmp_path / "hosts"))[1] == "n[1-2]\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("a1\na2"))
    assert ctl("show", "hostlistsorted", "-")[1] == "a[1-2]\n"
    assert peer.calls == []


@pytest.mark.parametrize(
    ("words", "method", "args"),
    [
        (["update", "JobId=12_3", "TimeLimit=5", "Nice=1"], "job.update",
         {"ids": ["12_3"], "changes": {"TimeLimit": "5", "Nice": "1"}}),
        (["update", "TimeLimit=5", "JobId=12"], "job.update", {"ids": ["12"], "changes": {"TimeLimit": "5"}}),
        (["update", "JobId=12", "Partition=gpu"], "job.update", {"ids": ["12"], "changes": {"Partition": "gpu"}}),
        (["update", "JobId=12", "TimeLimit+=10"], "job.update", {"ids": ["12"], "changes": {"TimeLimit": "+10"}}),
        (["update", "job", "12", "Name=x"], "job.update", {"ids": ["12"], "changes": {"Name": "x"}}),
        (["update", "NodeName=n[1-2]", "State=DRAIN", "Reason=new disk"], "node.update",
         {"nodes": "n[1-2]", "changes": {"State": "DRAIN", "Reason": "new disk"}}),
        (["update", "PartitionName=debug", "State=DOWN"], "partition.update",
         {"name": "debug", "changes": {"State": "DOWN"}}),
        (["hold", "12", "13"], "job.hold", {"ids": ["12", "13"]}),
        (["hold", "12,13"], "job.hold", {"ids": ["12", "13"]}),
        (["uhold", "12"], "job.hold", {"ids": ["12"], "user": True}),
        (["rel", "12_[1,3]"], "job.release", {"ids": ["12_[1,3]"]}),
        (["requeue", "12"], "job.requeue", {"ids": ["12"]}),
        (["requeuehold", "12"], "job.requeue", {"ids": ["12"], "hold": True}),
        (["requeuehold", "State=SpecialExit", "12"], "job.requeue", {"ids": ["12"], "special": True}),
        (["suspend", "12"], "job.suspend", {"ids": ["12"]}),
        (["resume", "12"], "job.resume", {"ids": ["12"]}),
        (["shutdown"], "ctl.shutdown", {}),
        (["snapshot"], "ctl.snapshot", {}),
        (["debug", "-Sched", "+Rpc", "debug"], "ctl.debug", {"flags": ["-Sched", "+Rpc"], "level": "debug"}),
    ],
)  # fmt: skip
def test_verbs_become_requests(ctl: Any, peer: Any, words: list[str], method: str, args: dict[str, Any]) -> None:
    status, _, err = ctl(*words)
    assert status == 0, err
    assert peer.args(method) == args


def test_hold_by_name_means_my_jobs(ctl: Any, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 7)
    peer.jobs({"job_id": 5}, {"job_id": 6})
    assert ctl("hold", "jobname=x")[0] == 0
    assert peer.args("job.list")["filter"] == {"names": ["x"], "users": ["7"]}
    assert peer.args("job.hold") == {"ids": ["5", "6"]}


def test_errors_of_single_jobs_are_listed(ctl: Any, peer: Any) -> None:
    peer.answers["job.hold"] = {
        "done": ["12"],
        "errors": [{"id": "13", **Denied("not your job", hint="ask bob").to_wire()}],
    }
    status, _, err = ctl("hold", "12,13")
    assert status == 4
    assert err == "hctl: 13: not your job (ACCESS_DENIED)\nask bob\n"


def test_reconfigure_tells_what_needs_a_restart(ctl: Any, peer: Any) -> None:
    peer.answers["config.reconfigure"] = {
        "applied": [{"key": "KillWait", "old": "30", "new": "5"}],
        "needs_restart": [{"key": "StateSaveLocation", "old": "/a", "new": "/b"}],
        "warnings": ["odd"],
    }
    status, out, err = ctl("reconfigure")
    assert status == 0
    assert out == "applied: KillWait: 30 -> 5\nneeds a restart: StateSaveLocation: /a -> /b\n"
    assert err == "hctl: warning: odd\n"


def test_ping(ctl: Any, peer: Any, monkeypatch: pytest.MonkeyPatch, no_patience: None) -> None:
    peer.answers["ping"] = {"host": "head", "cluster": "demo"}
    assert ctl("ping")[:2] == (0, "Helixctld(primary) at head is UP\n")
    monkeypatch.setenv("HELIX_SOCKET", "/nonexistent")
    status, out, err = ctl("ping")
    assert (status, out) == (3, "Helixctld(primary) is DOWN\n")
    assert "/nonexistent" in err


def test_write_batch_script(ctl: Any, peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    peer.answers["job.script"] = {"scripts": {"12": "#!/bin/sh\necho é\n"}}
    assert ctl("write", "batch_script", "12", "-")[1] == "#!/bin/sh\necho é\n"
    assert ctl("write", "batch_script", "12")[1] == "batch script for job 12 written to slurm-12.sh\n"
    assert (tmp_path / "slurm-12.sh").read_text() == "#!/bin/sh\necho é\n"


def test_wait_job_returns_when_it_has_started(ctl: Any, peer: Any) -> None:
    states = iter(["PENDING", "RUNNING"])

    def listing(args: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"columns": ["state"], "rows": [[next(states)]], "cursor": "5.2"}]

    peer.answers["job.list"] = listing
    peer.answers["events.watch"] = [{"events": [{"cursor": 6, "id": 12}], "cursor": 6}, {"events": []}]
    assert ctl("wait_job", "12")[0] == 0
    assert peer.args("events.watch") == {"cursor": 5, "filter": {"ids": ["12"]}}


def test_config_check(ctl: Any, tmp_path: Path) -> None:
    path = tmp_path / "slurm.conf"
    path.write_text("ClusterName=x\nKillWiat=5\n")
    status, out, _ = ctl("config", "check", str(path))
    assert status == 1
    assert f"{path}:2: unknown: " in out
    document = json.loads(ctl("--json", "config", "check", str(path))[1])
    assert document["usable"] is False
    assert ctl("config", "check", "/nonexistent.conf")[0] == 1


def test_journal_and_token_become_helixctld(ctl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _path, argv: ran.append(argv[2:]) or (_ for _ in ()).throw(SystemExit(0)))
    for words in (["journal", "check", "/d"], ["-f", "/c", "token", "create", "3", "60"]):
        with pytest.raises(SystemExit):
            hctl.main(words)
    assert ran == [
        ["-m", "helixctld.main", "--journal-check", "/d"],
        ["-m", "helixctld.main", "--create-join-token", "--uses", "3", "--ttl", "60", "-f", "/c"],
    ]


@pytest.mark.parametrize("verb", LATER_VERBS)
def test_later_verbs_are_refused_by_name(ctl: Any, verb: str) -> None:
    status, _, err = ctl(verb)
    assert status == 2
    assert f"{verb} is not supported yet (NOT_SUPPORTED)" in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "a command is missing"),
        (["shw"], "did you mean 'show'?"),
        (["re"], "ambiguous"),
        (["show"], "show what?"),
        (["show", "jbo"], "did you mean 'job'?"),
        (["show", "step", "12.0"], "show step is not supported yet"),
        (["show", "job", "12.batch"], "is not supported yet"),
        (["update"], "update what?"),
        (["update", "JobId=12"], "nothing to change"),
        (["update", "JobId=12", "TimeLimit"], "is not Key=Value"),
        (["update", "JobId=12", "Nice=1", "nice=2"], "given twice"),
        (["update", "Jobb=12", "Nice=1"], "is not a job, node or partition"),
        (["update", "ReservationName=x"], "nothing to change about reservation x"),
        (["update", "ReservationName=", "a=b"], "name is empty"),
        (["update", "StepId=1.0", "a=b"], "update StepId is not supported yet"),
        (["create"], "create what?"),
        (["create", "partition", "a=b"], "create partition is not supported yet"),
        (["create", "reservatoin", "a=b"], "cannot be created"),
        (["create", "reservation"], "nothing is said about it"),
        (["create", "reservation", "Users"], "is not Key=Value"),
        (["create", "reservation", "StartTime=soon"], "bad time 'soon'"),
        (["create", "reservation", "Users=a", "users=b"], "given twice"),
        (["delete"], "delete what?"),
        (["delete", "reservation"], "name is missing"),
        (["delete", "reservation", "a", "b"], "unexpected argument 'b'"),
        (["hold"], "a job id is missing"),
        (["hold", "x"], "invalid job id 'x'"),
        (["journal", "mend", "/x"], "journal check DIR"),
        (["token", "create", "x"], "is not a number"),
        (["config", "chek"], "config check"),
        (["write", "batch_script"], "needs a job id"),
    ],
)
def test_refusals(ctl: Any, words: list[str], part: str) -> None:
    status, out, err = ctl(*words)
    assert (status, out) == (2, "")
    assert part in err


def test_denied_is_4(ctl: Any, peer: Any) -> None:
    peer.answers["node.update"] = Denied("node.update is for admins")
    assert ctl("update", "NodeName=n1", "State=DOWN")[0] == 4
    peer.answers["job.show"] = NotFound("no job 1", code="JOB_UNKNOWN")
    assert ctl("show", "job", "1")[0] == 1


def test_every_verb_is_there() -> None:
    for verb in VERBS:
        module_name, _, function = verb.does.partition(":")
        module = __import__("helix.cli." + module_name, fromlist=[function])
        assert callable(getattr(module, function))
        for name in verb.names:
            assert find_verb(name) in VERBS
    with pytest.raises(UsageError):
        find_verb("nothing")


def test_reservations_are_made_changed_and_deleted(ctl: Any, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.answers["reservation.create"] = {"name": "course"}
    peer.answers["reservation.update"] = peer.answers["reservation.delete"] = {"name": "course"}
    out = ctl("create", "reservation=course", "StartTime=2027-01-15T09:00", "Duration=60", "Nodes=n[1-4]", "Users=a,b")
    assert out == (0, "Reservation created: course\n", "")
    asked = {
        "ReservationName": "course",
        "StartTime": "@1800003600.000",
        "Duration": "60",
        "Nodes": "n[1-4]",
        "Users": "a,b",
    }
    assert peer.args("reservation.create") == {"changes": asked}
    assert ctl("update", "ReservationName=course", "Users+=c,d", "Flags-=MAINT", "Duration+=30", "skip")[0] == 0
    changes = {"Users": "+c,+d", "Flags": "-MAINT", "Duration": "+30", "Skip": "1"}
    assert peer.args("reservation.update") == {"name": "course", "changes": changes}
    for words in (("reservation=course",), ("ReservationName=course",), ("reservation", "course")):
        assert ctl("delete", *words) == (0, "", "")
        assert peer.args("reservation.delete") == {"name": "course"}


def test_show_reservation_is_scontrols(ctl: Any, peer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        **dict.fromkeys(RESERVATION_ROW, ""),
        "name": "course",
        "state": "ACTIVE",
        "t_start": 1.8e9,
        "t_end": 1.8e9 + 5400,
        "nodes": "n[1-2]",
        "node_count": 2,
        "core_count": 6,
        "cpus": 6,
        "memory_mib": 1536,
        "parts": [["n1", 4], ["n2", 2]],
        "gres": {"gpu": 1},
        "licenses": "matlab:2",
        "flags": ["DAILY", "PURGE_COMP"],
        "purge_s": 300,
        "users": ["-alice", "-bob"],
        "accounts": [],
        "groups": [],
        "comment": "for all",
        "jobs_running": [],
        "jobs_waiting": [],
    }
    answer = {"columns": list(row), "rows": [list(row.values())]}
    peer.answers["reservation.list"] = answer
    assert ctl("show", "reservation")[1] == (
        "ReservationName=course StartTime=2027-01-15T08:00:00 EndTime=2027-01-15T09:30:00 Duration=01:30:00\n"
        "   Nodes=n[1-2] NodeCnt=2 CoreCnt=6 Features=(null) PartitionName=(null) Flags=DAILY,PURGE_COMP=00:05:00\n"
        "   NodeName=n1 CPUs=4\n"
        "   NodeName=n2 CPUs=2\n"
        "   TRES=cpu=6,mem=1536M,gres/gpu=1,license/matlab=2\n"
        "   Users=-alice,-bob Groups=(null) Accounts=(null) Licenses=matlab:2 State=ACTIVE BurstBuffer=(null)\n"
        "   MaxStartDelay=(null)\n"
        "   Comment=for all\n"
    )
    assert ctl("show", "res", "course", "-o")[1].count("\n") == 1
    assert json.loads(ctl("--json", "show", "reservations")[1])["reservations"][0]["name"] == "course"
    assert hinfo.main(["-T"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "RESV_NAME     STATE           START_TIME             END_TIME     DURATION  NODELIST",
        "course       ACTIVE  2027-01-15T08:00:00  2027-01-15T09:30:00     01:30:00  n[1-2]",
    ]
    peer.answers["reservation.list"] = {"columns": list(row), "rows": []}
    assert ctl("show", "reservation")[1] == "No reservations in the system\n"
