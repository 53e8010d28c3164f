"""NodeCore: at most one run of an attempt, ends repeated until acknowledged, and everything bounded."""

from __future__ import annotations

import os
from typing import Any

import pytest

from helix.errors import Denied
from helix.model.job_state import LaunchFailure
from helix.wire import messages as msg
from helixd.core import actions as act
from helixd.core import node_core, steplog, stepspec
from helixd.core.node_core import NodeCore
from helixd.core.step import Phase
from helixd.core.steplog import Ended, Kind, Record, Started

SCRIPT = "s" * 64
ENV = "e" * 64


def make_core(*, blobs: set[str] | None = None, boot_id: str = "boot1") -> NodeCore:
    held = {SCRIPT, ENV} if blobs is None else blobs
    core = NodeCore(
        "n1",
        boot_id,
        has_blob=held.__contains__,
        script_head=lambda path: b"#!/bin/bsh\n",
        strerror=os.strerror,
        script_path=lambda uid, name: f"/scripts/{uid}/{name}",
    )
    core.spool_id = "spool"
    return core


def registered(core: NodeCore, *, epoch: int = 1, t: float = 1000.0) -> NodeCore:
    core.on_registered(
        msg.Registered(epoch=epoch, cluster="c", config="", config_hash="", verify_key=b"", heartbeat_s=5, t_now=t), t
    )
    return core


def launch(job_id: int = 1, attempt: int = 0, **fields: Any) -> msg.Launch:
    defaults = {"node": "n1", "uid": 7, "gid": 7, "script_hash": SCRIPT, "env_hash": ENV, "work_dir": "/w"}
    return msg.Launch(job_id=job_id, attempt=attempt, **{**defaults, **fields})


def send(core: NodeCore, *launches: msg.Launch, t: float = 1001.0, expires: float = 2000.0) -> list[act.Action]:
    credential = msg.Credential(
        audience="n1", cluster="c", epoch=1, nonce=1, t_issued=t, t_expires=expires, launches=list(launches)
    )
    return core.on_credential(credential, t)


def sent(actions: list[act.Action]) -> list[Any]:
    return [action.message for action in actions if isinstance(action, act.Send)]


def spawned(actions: list[act.Action]) -> list[tuple[int, int]]:
    return [action.step.key for action in actions if isinstance(action, act.Spawn)]


def appended(actions: list[act.Action]) -> list[Record]:
    return steplog.scan(b"".join(a.data for a in actions if isinstance(a, act.Append))).records


def started(core: NodeCore, job_id: int = 1, attempt: int = 0, pid: int = 50) -> list[act.Action]:
    return core.on_records([Record(Kind.STARTED, job_id, attempt, Started(pid, pid + 1, 99, 1002.0))], 1002.0)


def ended(core: NodeCore, job_id: int = 1, attempt: int = 0, **fields: Any) -> list[act.Action]:
    body = Ended(0, 0, 0, 0, 1002.0, 1003.0, 0, 0, 0)._replace(**fields)
    return core.on_records([Record(Kind.ENDED, job_id, attempt, body)], 1003.0)


def test_attempt_is_recorded_before_it_is_spawned() -> None:
    actions = send(registered(make_core()), launch())
    assert [type(a) for a in actions] == [act.Append, act.Spawn]
    (record,) = appended(actions)
    assert (record.kind, record.job_id) == (Kind.ATTEMPT, 1)


def test_life_of_a_step() -> None:
    core = registered(make_core())
    send(core, launch())
    (start,) = sent(started(core))
    assert (start.pid, start.stdout) == (51, "/w/slurm-1.out")
    (end,) = sent(ended(core, status=3 << 8, user_us=1_500_000, max_rss_kib=2048))
    assert (end.exit.code, end.user_s, end.max_rss_mib, end.failure) == (3, 1.5, 2.0, "")
    actions = core.on_ack(msg.AckEnded([(1, 0)]), 1004)
    assert appended(actions)[0].kind is Kind.FORGOTTEN
    assert core.steps == {}


def test_end_without_start_is_only_an_end() -> None:
    core = registered(make_core())
    send(core, launch())
    (message,) = sent(ended(core))
    assert isinstance(message, msg.StepEnded)


def test_repeated_launch_is_answered_and_not_run() -> None:
    core = registered(make_core())
    send(core, launch())
    assert send(core, launch()) == []
    started(core)
    assert [type(m) for m in sent(send(core, launch()))] == [msg.StepStarted]
    ended(core)
    assert [type(m) for m in sent(send(core, launch()))] == [msg.StepEnded]
    core.on_ack(msg.AckEnded([(1, 0)]), 1004)
    assert send(core, launch()) == []


def test_older_attempt_is_refused_while_the_newer_is_remembered() -> None:
    core = registered(make_core())
    send(core, launch(attempt=2))
    assert send(core, launch(attempt=1)) == []
    assert core.counters["refused"] == 1


def test_newer_attempt_waits_for_the_older_to_be_killed() -> None:
    core = registered(make_core())
    send(core, launch(attempt=0))
    started(core)
    actions = send(core, launch(attempt=1))
    assert spawned(actions) == []
    assert [a.value >> 56 for a in actions if isinstance(a, act.Control)] == [stepspec.OP_TERMINATE]
    assert spawned(ended(core, attempt=0, status=9)) == [(1, 1)]


def test_launch_waits_for_blobs_and_asks_once() -> None:
    core = registered(make_core(blobs=set()))
    wanted = sent(send(core, launch(1), launch(2)))
    assert sorted(h for m in wanted for h in m.hashes) == [ENV, SCRIPT]
    assert core.on_blob(SCRIPT) == []
    assert sorted(spawned(core.on_blob(ENV))) == [(1, 0), (2, 0)]


def test_blob_that_never_comes_fails_the_step() -> None:
    core = registered(make_core(blobs=set()))
    send(core, launch())
    asked = sent(core.tick(1001 + node_core.BLOB_ASK_S))
    assert [type(m) for m in asked] == [msg.BlobWanted]
    (end,) = [m for m in sent(core.tick(1001 + node_core.BLOB_WAIT_S)) if isinstance(m, msg.StepEnded)]
    assert end.failure is LaunchFailure.BLOB
    assert core.next_tick() == pytest.approx(1061 + node_core.RESEND_S)


def test_user_environment_is_awaited() -> None:
    core = registered(make_core())
    actions = send(core, launch(1, get_user_env=True), launch(2, get_user_env=True))
    assert [type(a) for a in actions] == [act.FetchUserEnv, act.FetchUserEnv]
    assert spawned(core.user_env((1, 0), b"A=b\0", "", 1002)) == [(1, 0)]
    (end,) = sent(core.user_env((2, 0), None, "no shell", 1002))
    assert "no shell" in end.failure_text


def test_end_is_repeated_with_back_off_until_acknowledged() -> None:
    core = registered(make_core())
    send(core, launch())
    ended(core)
    due = core.next_tick()
    assert due == pytest.approx(1003 + node_core.RESEND_S)
    assert len(sent(core.tick(due))) == 1
    assert core.next_tick() - due == pytest.approx(2 * node_core.RESEND_S)
    assert [s.running for s in core.registration()[0]] == [False]
    assert len(core.registration()[1]) == 1
    core.on_ack(msg.AckEnded([(1, 0)]), 1100)
    assert core.next_tick() == 0


def test_orders_before_the_shepherd_is_known_are_kept() -> None:
    core = registered(make_core())
    send(core, launch())
    order = msg.SignalStep(job_id=1, attempt=0, node="n1", signal=10, scope="batch")
    assert core.on_order(order, 1002) == []
    (control,) = [a for a in started(core) if isinstance(a, act.Control)]
    assert (control.pid, control.start, control.value) == (50, 99, 1 << 56 | 10)


@pytest.mark.parametrize(
    ("order", "value"),
    [
        (msg.SignalStep(job_id=1, attempt=0, node="n1", signal=15, scope="children"), 1 << 56 | 1 << 8 | 15),
        (msg.TerminateStep(job_id=1, attempt=0, node="n1", kill_wait_s=7), 2 << 56 | 7),
        (msg.SuspendStep(job_id=1, attempt=0, node="n1"), 3 << 56),
        (msg.SuspendStep(job_id=1, attempt=0, node="n1", resume=True), 4 << 56),
        (msg.SetTimeLimit(job_id=1, attempt=0, node="n1", time_limit_s=600), 5 << 56 | 600),
    ],
)
def test_orders_become_control_values(order: Any, value: int) -> None:
    core = registered(make_core())
    send(core, launch())
    started(core)
    assert core.on_order(order, 1002) == [act.Control(50, 99, value)]


def test_terminate_of_unknown_held_and_ended_steps() -> None:
    core = registered(make_core(blobs=set()))
    terminate = msg.TerminateStep(job_id=1, attempt=0, node="n1")
    assert sent(core.on_order(terminate, 1001))[0].unknown
    send(core, launch())
    (end,) = sent(core.on_order(terminate, 1002))
    assert (end.exit.signal, end.unknown) == (15, False)
    assert sent(core.on_order(terminate, 1003)) == [end]
    assert core.on_blob(SCRIPT) == []


def test_exec_failure_names_the_interpreter() -> None:
    core = registered(make_core())
    send(core, launch())
    (end,) = sent(ended(core, stage=steplog.Stage.EXEC, error=2, text="/scripts/x", t_start=0.0))
    assert end.failure is LaunchFailure.EXEC
    assert "/bin/bsh" in end.failure_text


def test_unkillable_process_is_told_and_makes_the_node_unwell() -> None:
    core = registered(make_core())
    send(core, launch())
    (end,) = sent(ended(core, flags=steplog.ENDED_UNKILLABLE, text="process 9 (dd) in state D"))
    assert "process 9 (dd) in state D" in end.failure_text
    assert "process 9" in core.unwell


def test_lost_shepherd_is_cleaned_up_before_it_is_told() -> None:
    core = registered(make_core())
    send(core, launch())
    started(core)
    actions = core.on_records([Record(Kind.LOST, 1, 0, steplog.Lost(9))], 1003)
    assert [type(a) for a in actions] == [act.CleanUp]
    (end,) = sent(core.cleaned(core.steps[1, 0], 1004))
    assert end.failure is LaunchFailure.SHEPHERD_LOST
    assert "signal 9" in end.failure_text


def test_end_that_comes_while_cleaning_up_wins() -> None:
    core = registered(make_core())
    send(core, launch())
    started(core)
    core.shepherd_gone(core.steps[1, 0])
    (end,) = sent(ended(core, status=2 << 8))
    assert end.exit.code == 2
    assert core.cleaned(core.steps[1, 0], 1004) == []


def test_forker_gone_watches_the_living_and_gives_up_on_the_unborn() -> None:
    core = registered(make_core())
    send(core, launch(1), launch(2))
    started(core, 1)
    assert [a.step.job_id for a in core.server_gone(1002) if isinstance(a, act.Watch)] == [1]
    assert core.next_tick() == 1002 + node_core.GRACE_S
    assert [a.step.job_id for a in core.tick(1010) if isinstance(a, act.CleanUp)] == [2]


def test_epochs_only_rise() -> None:
    core = registered(make_core(), epoch=5)
    with pytest.raises(Denied) as refused:
        registered(core, epoch=4)
    assert refused.value.code == "EPOCH_STALE"


@pytest.mark.parametrize(
    ("fields", "failure"),
    [
        ({"node": "n2"}, LaunchFailure.CREDENTIAL),
        ({"stdout": "x" * 5000}, LaunchFailure.STDIO),
        ({"script_hash": ""}, LaunchFailure.BLOB),
    ],
)
def test_impossible_launch_is_refused_by_name(fields: dict[str, Any], failure: LaunchFailure) -> None:
    core = registered(make_core())
    actions = send(core, launch(**fields))
    assert [m.failure for m in sent(actions)] == [failure]
    assert spawned(actions) == []


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_core, "STEPS_MAX", 2)
    actions = send(registered(make_core()), *[launch(k) for k in range(1, 5)])
    assert len(spawned(actions)) == 2
    assert [m.failure for m in sent(actions)] == [LaunchFailure.SPAWN] * 2


# ---- restart -------------------------------------------------------------------------------------------------------


def logged(*actions: list[act.Action]) -> list[Record]:
    return [record for batch in actions for record in appended(batch)]


def restarted(records: list[Record], core: NodeCore, *, boot_id: str = "boot1") -> tuple[NodeCore, list[act.Action]]:
    fresh = make_core(boot_id=boot_id)
    host = steplog.scan(core.host_record()).records
    return fresh, fresh.load({1: host + records}, 1100.0)


def test_restart_takes_up_running_and_ended_steps() -> None:
    core = registered(make_core())
    records = logged(send(core, launch(1), launch(2), launch(3)))
    records += [Record(Kind.STARTED, 1, 0, Started(50, 51, 99, 1002.0))]
    records += [Record(Kind.ENDED, 2, 0, Ended(4 << 8, 0, 0, 0, 1.0, 2.0, 0, 0, 0))]
    fresh, actions = restarted(records, core)
    assert [(type(a), a.step.job_id) for a in actions] == [(act.Watch, 1)]  # type: ignore[union-attr]
    known, ends = fresh.registration()
    assert {(s.job_id, s.running) for s in known} == {(1, True), (2, False), (3, True)}
    assert [(e.job_id, e.exit.code, e.stdout) for e in ends] == [(2, 4, "/w/slurm-2.out")]
    registered(fresh)
    assert send(fresh, launch(3)) == []  # recorded, so it is not run, whatever became of it
    assert [a.step.job_id for a in fresh.tick(1103) if isinstance(a, act.CleanUp)] == [3]


def test_tombstones_survive_until_the_credential_expires() -> None:
    core = registered(make_core())
    records = logged(send(core, launch(), expires=2000))
    ended(core)
    records += logged(core.on_ack(msg.AckEnded([(1, 0)]), 1004))
    fresh, _ = restarted(records, core)
    assert spawned(send(registered(fresh), launch())) == []
    late = make_core()
    late.load({1: steplog.scan(core.host_record()).records + records}, 2001.0)
    assert late.steps == {}
    assert spawned(send(registered(late, t=2001), launch(), t=2002, expires=3000)) == [(1, 0)]


def test_reboot_ends_what_ran_and_voids_older_credentials() -> None:
    core = registered(make_core())
    records = logged(send(core, launch()))
    fresh, _ = restarted(records, core, boot_id="boot2")
    (end,) = fresh.registration()[1]
    assert end.failure is LaunchFailure.REBOOT
    with pytest.raises(Denied):
        send(fresh, launch(2))
    registered(fresh, t=1500)
    with pytest.raises(Denied) as refused:
        send(fresh, launch(2), t=1499)
    assert refused.value.code == "CREDENTIAL_STALE"
    assert spawned(send(fresh, launch(2), t=1501)) == [(2, 0)]


def test_generations_are_dropped_when_empty() -> None:
    core = registered(make_core())
    send(core, launch(1))
    first, actions = core.new_generation(2, 1002)
    assert actions == []
    assert steplog.scan(first).records[0].kind is Kind.HOST
    send(core, launch(2))
    ended(core, 1)
    dropped = [a for a in core.on_ack(msg.AckEnded([(1, 0)]), 1004) if isinstance(a, act.DropGeneration)]
    assert [a.generation for a in dropped] == [1]
    first, _ = core.new_generation(3, 1005)
    assert [r.kind for r in steplog.scan(first).records] == [Kind.HOST, Kind.FORGOTTEN]


def test_log_of_a_step_is_found_without_a_path() -> None:
    core = registered(make_core())
    send(core, launch())
    started(core)
    request = msg.LogRead(req=1, job_id=1, attempt=0, node="n1", uid=7, gid=7)
    assert core.on_log_read(request) == [act.ReadLog(request, True, "/w/slurm-1.out")]
    assert core.steps[1, 0].phase is Phase.ALIVE
