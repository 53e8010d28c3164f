"""Limits of associations and QOS: Slurm's reasons, what is refused at submission, who stands in for whom."""

from __future__ import annotations

import pytest
from helpers.sched_world import World

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.errors import Denied, LimitExceeded, NotFound
from helix.model import events as ev
from helix.model.account import Accounts
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState, Reason
from helixctld.core import usage
from helixctld.core.enrol import settle_account
from helixctld.core.submit_limits import require_submit
from helixctld.core.usage import UsagePolicy

ALL = frozenset({"associations", "limits", "qos", "safe"})


def accounts(physics: str = "", alice: str = "", qos: str = "") -> Accounts:
    text = f"""\
QOS - 'normal'{qos}
QOS - 'high':Priority=10
Parent - 'root'
Account - 'physics'{physics}
Parent - 'physics'
Account - 'optics'
User - 'alice'{alice}
User - 'bob'
Parent - 'optics'
User - 'carol'
"""
    return build_accounts(parse_assoc(text, "f"))


def world(physics: str = "", alice: str = "", qos: str = "", **shape: int) -> World:
    w = World(**{"nodes": 2, "cpus": 8, **shape})
    w.state.set_accounts(accounts(physics, alice, qos), UsagePolicy(enforce=ALL))
    return w


def submit(w: World, user: str = "alice", refuse: bool = False, **fields: object) -> JobRecord:
    """As the controller does: settle, check, submit."""
    spec = JobSpec(**{"time_limit_s": 600, **fields})  # type: ignore[arg-type]
    main = w.state.partitions["main"]
    assoc = settle_account(w.state, spec, user, [main])
    job_id = w.state.next_job_id
    record = JobRecord(job_id=job_id, uid=7, gid=7, user=user, spec=spec, assoc=assoc, partition="main")
    require_submit(w.state, record)
    assert not refuse
    w.do(
        ev.JobSubmitted(t=w.now, job_id=job_id, uid=7, gid=7, user=user, spec=spec, priority=1000 - job_id, assoc=assoc)
    )
    return w.state.jobs[job_id]


@pytest.mark.parametrize(
    ("physics", "alice", "qos", "fields", "reason"),
    [
        (":GrpTRES=cpu=5", "", "", {"tasks": 3}, Reason.ASSOC_GRP_CPU_LIMIT),
        (":GrpTRES=node=1", "", "", {"tasks": 3}, Reason.ASSOC_GRP_NODE_LIMIT),
        (":GrpTRES=mem=40", "", "", {"tasks": 3, "mem_per_cpu_mib": 10}, Reason.ASSOC_GRP_MEM_LIMIT),
        (":GrpJobs=1", "", "", {}, Reason.ASSOC_GRP_JOBS_LIMIT),
        ("", ":MaxJobs=1", "", {}, Reason.ASSOC_MAX_JOBS_LIMIT),
        (":MaxJobs=1", "", "", {}, Reason.ASSOC_MAX_JOBS_LIMIT),
        ("", "", ":GrpTRES=cpu=5", {"tasks": 3}, Reason.QOS_GRP_CPU_LIMIT),
        ("", "", ":MaxTRESPU=cpu=5", {"tasks": 3}, Reason.QOS_MAX_CPU_PER_USER_LIMIT),
        ("", "", ":MaxJobsPU=1", {}, Reason.QOS_MAX_JOBS_PER_USER_LIMIT),
        ("", "", ":MaxTRESPA=cpu=5", {"tasks": 3}, Reason.MAX_CPU_PER_ACCOUNT),
        ("", "", ":GrpJobs=1", {}, Reason.QOS_GRP_JOBS_LIMIT),
        (":GrpTRESRunMins=cpu=15", "", "", {}, Reason.ASSOC_GRP_CPU_RUN_MINUTES_LIMIT),
        (":GrpTRESMins=cpu=15", "", "", {}, Reason.ASSOC_GRP_CPU_MINUTES_LIMIT),
        (":GrpTRESMins=billing=15", "", "", {}, Reason.ASSOC_GRP_BILLING_MINUTES),
        (":GrpWall=15", "", "", {}, Reason.ASSOC_GRP_WALL_LIMIT),
        ("", "", ":GrpTRESMins=node=15", {}, Reason.QOS_GRP_NODE_MINUTES),
    ],
)
def test_a_group_limit_lets_one_run_and_the_next_wait(
    physics: str, alice: str, qos: str, fields: dict[str, object], reason: Reason
) -> None:
    w = world(physics, alice, qos)
    first, second = submit(w, **fields), submit(w, **fields)
    assert w.run() == [first]
    assert second.reason is reason
    assert second.reason_text
    w.now += 10
    w.end(first)
    assert w.run() == [second]


@pytest.mark.parametrize(
    ("physics", "qos", "fields", "text", "advice"),
    [
        (":GrpTRES=cpu=4", "", {"tasks": 3},
         "GrpTRES=cpu=4 of association physics: 3 of 4 in use, it asks 3", []),
        (":GrpTRES=mem=40", "", {"tasks": 3, "mem_per_cpu_mib": 10},
         "GrpTRES=mem=40M of association physics: 30M of 40M in use, it asks 30M", []),
        (":GrpJobs=1", "", {}, "GrpJobs=1 of association physics: 1 of 1 in use, it asks 1", []),
        ("", ":MaxTRESPU=cpu=4", {"tasks": 3},
         "MaxTRESPerUser=cpu=4 of QOS and user normal:alice: 3 of 4 in use, it asks 3", []),
        (":GrpTRESRunMins=cpu=15", "", {},
         "GrpTRESRunMins=cpu=15 of association physics: 10 of 15 minutes in use, it asks 10", []),
        (":GrpWall=15", "", {},
         "GrpWall=15 of association physics, 15 minutes are left: running jobs may take 10 of them, it asks 10", []),
    ],
)  # fmt: skip
def test_hwhy_says_how_much_of_a_limit_is_in_use(
    physics: str, qos: str, fields: dict[str, object], text: str, advice: list[str]
) -> None:
    w = world(physics, qos=qos)
    first, second = submit(w, **fields), submit(w, **fields)
    assert w.run() == [first]
    answer = w.why(second)
    assert (answer["text"], answer["advice"], answer["reason"]) == (text, advice, second.reason)


@pytest.mark.parametrize(
    ("physics", "fields", "text", "advice"),
    [
        (":GrpTRES=cpu=4", {"tasks": 8}, "it asks 8, the limit is 4: it never starts", ["ask for at most 4"]),
        (":GrpJobs=0", {}, "it asks 1, the limit is 0: it never starts", []),
        (":GrpTRESMins=cpu=15", {"tasks": 2}, "it asks 20 minutes, the limit is 15: it never starts",
         ["ask for at most 15 minutes (--time)"]),
        (":GrpWall=15", {"time_limit_s": 0}, "the job has no time limit: it never starts", ["give it a --time"]),
    ],
)  # fmt: skip
def test_hwhy_says_that_a_request_beyond_a_limit_never_starts(
    physics: str, fields: dict[str, object], text: str, advice: list[str]
) -> None:
    w = world(physics)
    job = submit(w, **fields)
    assert w.run() == []
    answer = w.why(job)
    assert answer["text"].endswith(text)
    assert answer["advice"] == advice


def test_who_is_limited_by_what() -> None:
    """A limit of an account holds for those below it together; others go on past the waiting one."""
    w = world(physics=":GrpTRES=cpu=4")
    jobs = [submit(w, user, tasks=2) for user in ("alice", "carol", "bob")]
    assert w.run() == jobs[:2]
    assert jobs[2].reason is Reason.ASSOC_GRP_CPU_LIMIT
    w.end(jobs[1])
    assert w.run() == [jobs[2]]


def test_the_limit_of_the_qos_stands_in_for_that_of_the_association() -> None:
    w = world(physics=":GrpTRES=cpu=2", qos=":GrpTRES=cpu=6")
    jobs = [submit(w, tasks=3) for _ in range(3)]
    assert w.run() == jobs[:2]
    assert jobs[2].reason is Reason.QOS_GRP_CPU_LIMIT
    other = submit(w, qos="high", tasks=3)
    assert w.run() == []
    assert other.reason is Reason.ASSOC_GRP_CPU_LIMIT


@pytest.mark.parametrize(
    ("physics", "qos", "fields", "reason"),
    [
        (":MaxWall=5", "", {}, Reason.ASSOC_MAX_WALL_DURATION_PER_JOB_LIMIT),
        (":MaxWall=5", "", {"time_limit_s": 0}, Reason.ASSOC_MAX_WALL_DURATION_PER_JOB_LIMIT),
        ("", ":MaxWall=5", {}, Reason.QOS_MAX_WALL_DURATION_PER_JOB_LIMIT),
        (":MaxTRESPerJob=cpu=2", "", {"tasks": 3}, Reason.ASSOC_MAX_CPU_PER_JOB_LIMIT),
        ("", ":MaxTRESPerJob=node=1", {"nodes_min": 2}, Reason.QOS_MAX_NODE_PER_JOB_LIMIT),
        (":MaxTRESPerNode=cpu=2", "", {"tasks": 3}, Reason.ASSOC_MAX_CPU_PER_NODE),
        (":MaxTRESMinsPerJob=cpu=9", "", {}, Reason.ASSOC_MAX_CPU_MINUTES_PER_JOB_LIMIT),
        ("", ":MinTRESPerJob=cpu=2", {}, Reason.QOS_MIN_CPU_NOT_SATISFIED),
    ],
)
def test_limits_of_one_job_hold_it_or_refuse_it(
    physics: str, qos: str, fields: dict[str, object], reason: Reason
) -> None:
    w = world(physics, qos=qos)
    job = submit(w, **fields)
    assert w.run() == []
    assert job.reason is reason
    w.state.set_accounts(accounts(), UsagePolicy(enforce=ALL))
    w.state.look_again(job, w.now)
    assert w.run() == [job]
    strict = world(physics, qos=f"{qos}:Flags=DenyOnLimit")
    with pytest.raises(LimitExceeded) as caught:
        submit(strict, **fields)
    assert str(reason) in caught.value.msg
    assert caught.value.code == "JOB_LIMIT"


def test_whole_nodes_count_whole() -> None:
    w = world(physics=":MaxTRESPerJob=cpu=4")
    job = submit(w, exclusive=True)
    assert w.run() == []
    assert job.job_id in w.state.schedulable
    small = submit(w)
    assert w.run() == [small]


def test_submit_limits_count_waiting_and_running_tasks() -> None:
    w = world(alice=":MaxSubmitJobs=3", physics=":GrpSubmitJobs=5")
    first = submit(w)
    w.run()
    array = submit(w, array=_indexes(2), tasks=16)
    with pytest.raises(LimitExceeded, match="MaxSubmitJobs of physics:alice=3: 3 jobs wait or run already"):
        submit(w)
    submit(w, "bob")
    with pytest.raises(LimitExceeded, match="GrpSubmitJobs of physics=5"):
        submit(w, "bob", array=_indexes(2))
    w.end(first)
    submit(w, "alice")
    w.do(ev.ArrayTasksCancelled(t=w.now, job_id=array.job_id, tasks="0-1"))
    there = w.state.open_jobs
    assert (there.of_association("physics:alice"), there.of_association("physics")) == (1, 2)
    assert (there.of_qos("normal"), there.of_qos("normal", user="bob"), there.of_qos("high")) == (2, 1, 0)
    before = {scope: count for scope, count in there.count.items() if count}
    w.state.set_accounts(w.state.accounts, w.state.usage_policy)
    assert w.state.open_jobs.count == before


def _indexes(count: int) -> object:
    from helix.indexset import IndexSet

    return IndexSet.span(0, count - 1)


def test_accounts_and_qos_are_filled_in_or_refused_by_name() -> None:
    w = world()
    spec = JobSpec()
    assert settle_account(w.state, spec, "carol", []) == "optics:carol"
    assert (spec.account, spec.qos) == ("optics", "normal")
    for user, fields, kind, code, hint in (
        ("carol", {"account": "optiks"}, NotFound, "ACCOUNT_UNKNOWN", "optics"),
        ("carol", {"account": "physics"}, Denied, "ACCOUNT_DENIED", "accounts of carol: optics"),
        ("eve", {}, Denied, "ACCOUNT_DENIED", "ask an administrator"),
        ("carol", {"qos": "hihg"}, NotFound, "QOS_UNKNOWN", "high"),
    ):
        with pytest.raises(kind) as caught:
            settle_account(w.state, JobSpec(**fields), user, [])
        assert (caught.value.code, hint in caught.value.hint) == (code, True)
    w.state.set_accounts(accounts(alice=":QOS=normal"), UsagePolicy(enforce=ALL))
    with pytest.raises(Denied, match="physics:alice may not use QOS 'high'"):
        settle_account(w.state, JobSpec(qos="high"), "alice", [])
    w.state.set_accounts(accounts(), UsagePolicy())
    free = JobSpec(account="anything")
    assert settle_account(w.state, free, "eve", []) == ""
    assert free.account == "anything"


def test_a_job_whose_association_goes_waits_and_comes_back() -> None:
    w = world(nodes=1, cpus=1)
    running, job = submit(w, "bob"), submit(w, "carol")
    assert w.run() == [running]
    w.state.set_accounts(build_accounts(parse_assoc("QOS - 'normal'\nAccount - 'physics'", "f")), w.state.usage_policy)
    w.state.look_again(job, w.now)
    w.end(running)
    assert w.run() == []
    assert job.reason is Reason.INVALID_ACCOUNT
    w.state.set_accounts(accounts(), w.state.usage_policy)
    w.state.look_again(job, w.now)
    assert w.run() == [job]


def test_minutes_that_were_used_are_gone_until_they_decay() -> None:
    w = world(physics=":GrpTRESMins=cpu=25")
    job = submit(w, tasks=1)
    assert w.run() == [job]
    w.now += 600 - 1
    w.end(job)
    again, third = submit(w), submit(w)
    assert w.run() == [again]
    assert third.reason is Reason.ASSOC_GRP_CPU_MINUTES_LIMIT
    w.now += 200
    w.end(again, JobState.FAILED)
    assert w.run() == [third]
    w.do(ev.UsageDecayed(t=w.now, factor=usage.DECAY_ONE))
    late = submit(w)
    assert w.run() == []
    w.do(ev.UsageDecayed(t=w.now, factor=0, reset=True))
    assert w.run() == [late]
