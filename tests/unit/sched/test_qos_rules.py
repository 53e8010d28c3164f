"""What a QOS says besides its own limits: of its partition, of associations' limits, of promises and reservations."""

from __future__ import annotations

import pytest
from helpers.sched_world import World

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.errors import Denied, LimitExceeded
from helix.model import events as ev
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import Reason
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helix_plugins.sched.backfill import Backfill
from helixctld.core import usage
from helixctld.core.enrol import settle_account
from helixctld.core.submit_limits import require_submit
from helixctld.core.usage import DECAY_ONE, UsagePolicy

ALL = frozenset({"associations", "limits", "qos", "safe"})
USERS = """\
Parent - 'root'
Account - 'physics'{physics}
Parent - 'physics'
User - 'alice'
User - 'bob'
"""


def world(qos: str, physics: str = "", parts: tuple[PartitionRecord, ...] = (), **more: object) -> World:
    """Two nodes of 8 CPUs in `main` and `side`, and what `parts` changes of those."""
    names = [f"n{i + 1}" for i in range(int(str(more.pop("nodes", 2))))]
    records = {
        "main": PartitionRecord(name="main", nodes=names, is_default=True),
        "side": PartitionRecord(name="side", nodes=names),
        **{part.name: part for part in parts},
    }
    for record in records.values():
        record.nodes = names
    w = World(len(names), cpus=8, partitions=list(records.values()), **more)  # type: ignore[arg-type]
    text = "QOS - 'normal'\n" + qos + USERS.format(physics=physics)
    w.state.set_accounts(build_accounts(parse_assoc(text, "f")), UsagePolicy(enforce=ALL))
    return w


def submit(w: World, user: str = "alice", **fields: object) -> JobRecord:
    """As the controller does: settle, check, submit."""
    spec = JobSpec(**{"time_limit_s": 600, **fields})  # type: ignore[arg-type]
    names = spec.partitions or ["main"]
    assoc = settle_account(w.state, spec, user, [w.state.partitions[name] for name in names])
    job_id = w.state.next_job_id
    record = JobRecord(job_id=job_id, uid=7, gid=7, user=user, spec=spec, assoc=assoc, partition=names[0])
    require_submit(w.state, record)
    w.feasibility.check_possible(w.state, spec, names)
    w.do(
        ev.JobSubmitted(t=w.now, job_id=job_id, uid=7, gid=7, user=user, spec=spec, priority=1000 - job_id, assoc=assoc)
    )
    return w.state.jobs[job_id]


def side(**fields: object) -> PartitionRecord:
    return PartitionRecord(name="side", **fields)  # type: ignore[arg-type]


# ---- a partition's QOS -----------------------------------------------------------------------------------------------


def test_limits_of_a_partitions_qos_hold_for_all_its_jobs_and_no_others() -> None:
    w = world("QOS - 'pq':GrpTRES=cpu=4\n", parts=(side(qos="pq"),))
    first = submit(w, tasks=4, partitions=["side"])
    second = submit(w, user="bob", tasks=1, partitions=["side"])
    other = submit(w, tasks=4)
    assert w.run() == [first, other]
    assert second.reason is Reason.QOS_GRP_CPU_LIMIT
    assert second.reason_text == "GrpTRES=cpu=4 of QOS pq"
    w.end(first)
    assert w.run() == [second]


def test_a_partitions_qos_stands_before_the_jobs_unless_that_says_otherwise() -> None:
    for flag, started in (("", 1), (":Flags=OverPartQOS", 3)):
        w = world(f"QOS - 'pq':GrpJobs=1\nQOS - 'high':GrpJobs=3{flag}\n", parts=(side(qos="pq"),))
        jobs = [submit(w, qos="high", partitions=["side"]) for _ in range(4)]
        assert w.run() == jobs[:started]
        assert jobs[-1].reason is Reason.QOS_GRP_JOBS_LIMIT


def test_a_limit_that_stands_back_still_counts_the_job() -> None:
    w = world("QOS - 'pq':GrpJobs=5\nQOS - 'high':GrpJobs=2\n", ":GrpJobs=9", parts=(side(qos="pq"),))
    inside = [submit(w, qos="high", partitions=["side"]) for _ in range(3)]
    assert w.run() == inside  # pq allows five; two of high count for nothing here
    outside = submit(w, qos="high")
    assert w.run() == []  # but three jobs of high run
    assert outside.reason is Reason.QOS_GRP_JOBS_LIMIT
    w.end(inside[0])
    w.end(inside[1])
    assert w.run() == [outside]


def test_one_job_limits_of_a_partitions_qos_close_that_partition_only() -> None:
    w = world("QOS - 'pq':MaxWall=5\n", parts=(side(qos="pq"),))
    long = submit(w, partitions=["side", "main"])
    stuck = submit(w, partitions=["side"])
    assert w.run() == [long]
    assert long.partition == "main"
    assert stuck.reason is Reason.QOS_MAX_WALL_DURATION_PER_JOB_LIMIT
    w.do(ev.PartitionUpdated(t=w.now, name="side", changes={"qos": ""}))
    assert w.run() == [stuck]


def test_a_job_of_several_partitions_keeps_within_the_limits_of_all() -> None:
    w = world("QOS - 'pq':GrpJobs=1\n", parts=(side(qos="pq"),))
    submit(w, partitions=["side"])
    both = submit(w, partitions=["main", "side"])
    assert both not in w.run()
    assert both.reason is Reason.QOS_GRP_JOBS_LIMIT


def test_open_jobs_are_counted_for_the_partitions_qos() -> None:
    w = world("QOS - 'pq':GrpSubmitJobs=2:MaxSubmitJobsPU=1\n", parts=(side(qos="pq"),))
    submit(w, partitions=["side"])
    submit(w)
    with pytest.raises(LimitExceeded, match="MaxSubmitJobsPerUser of QOS pq=1: 1 jobs"):
        submit(w, partitions=["side"])
    submit(w, user="bob", partitions=["side"])
    w.do(ev.PartitionUpdated(t=w.now, name="side", changes={"qos": ""}))
    submit(w, partitions=["side"])


def test_minutes_are_charged_to_both() -> None:
    w = world("QOS - 'pq':GrpTRESMins=cpu=15\n", parts=(side(qos="pq"),))
    job = submit(w, partitions=["side"])
    w.run()
    assert job.alloc is not None
    usage.bill(w.state, job, "side", job.alloc)
    w.now += 599
    w.end(job)
    book = w.state.usage.book
    assert book["qos=pq"].tres["cpu"] == book["qos=normal"].tres["cpu"] == 600_000
    waiting = submit(w, partitions=["side"])
    w.run()
    assert (waiting.reason, waiting.reason_text) == (
        Reason.QOS_GRP_CPU_MINUTES_LIMIT, "GrpTRESMins=cpu=15 of QOS pq, 5 minutes are left",
    )  # fmt: skip


# ---- LimitFactor -----------------------------------------------------------------------------------------------------


def test_limit_factor_lets_a_qos_have_more_of_what_all_count() -> None:
    w = world("QOS - 'big':LimitFactor=2\n", ":GrpTRES=cpu=4:MaxTRESPerJob=cpu=3")
    plain = submit(w, tasks=3)
    big = [submit(w, tasks=2, qos="big"), submit(w, tasks=4, qos="big")]
    assert w.run() == [plain, big[0]]
    assert w.run() == []
    assert big[1].reason is Reason.ASSOC_GRP_CPU_LIMIT  # 3 + 2 + 4 of 8
    assert big[1].reason_text == "GrpTRES=cpu=8 (LimitFactor=2) of association physics"
    more = submit(w, tasks=1)
    w.run()
    assert more.reason is Reason.ASSOC_GRP_CPU_LIMIT  # 5 of 4 are in use: big counts too
    w.end(plain)
    assert w.run() == [big[1]]
    wide = submit(w, tasks=7, qos="big")
    assert wide.reason is Reason.ASSOC_MAX_CPU_PER_JOB_LIMIT


# ---- flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "part", "fields"),
    [
        ("PartitionMaxNodes", side(max_nodes=1), {"nodes_min": 2}),
        ("PartitionMinNodes", side(min_nodes=2), {"nodes_min": 1, "nodes_max": 1}),
        ("PartitionTimeLimit", side(max_time_s=60), {"time_limit_s": 600}),
    ],
)
def test_flags_let_jobs_pass_a_limit_of_their_partition(
    flag: str, part: PartitionRecord, fields: dict[str, object]
) -> None:
    w = world(f"QOS - 'free':Flags={flag}\n", parts=(part,))
    jobs = [submit(w, partitions=["side"], **fields, qos=qos) for qos in ("normal", "free")]
    assert w.run() == jobs[1:]
    assert jobs[0].reason in (Reason.PARTITION_NODE_LIMIT, Reason.PARTITION_TIME_LIMIT)
    assert w.why(jobs[0])["reason"] == str(jobs[0].reason)
    text = "QOS - 'normal':Flags={}\n" + USERS.format(physics="")
    w.state.set_accounts(build_accounts(parse_assoc(text.format(flag), "f")), UsagePolicy(enforce=ALL))
    w.end(jobs[1])
    assert w.run() == jobs[:1]  # a changed flag is a changed request


def test_a_reservation_is_required() -> None:
    w = world("QOS - 'resv':Flags=RequiresReservation\n", parts=(side(qos="resv"),))
    for fields in ({"qos": "resv"}, {"partitions": ["side"]}):
        with pytest.raises(Denied, match="QOS 'resv' is for jobs in a reservation") as refused:
            submit(w, **fields)
        assert "--reservation" in refused.value.hint


def test_deny_on_limit_of_a_partitions_qos() -> None:
    w = world("QOS - 'pq':GrpTRES=cpu=4:MaxWall=20:Flags=DenyOnLimit\n", parts=(side(qos="pq"),))
    with pytest.raises(LimitExceeded, match="5 cpu are more than the limit 4 of QOS pq"):
        submit(w, tasks=5, partitions=["side"])
    with pytest.raises(LimitExceeded, match="MaxWall"):
        submit(w, time_limit_s=3600, partitions=["side"])
    submit(w, tasks=5, partitions=["side", "main"])  # main takes it


def test_a_job_waits_while_its_factor_is_below_the_threshold() -> None:
    w = world("QOS - 'fair':UsageThreshold=0.6:Flags=EnforceUsageThreshold\n")
    used = submit(w)
    w.run()
    w.now += 1000
    w.end(used)
    w.do(ev.UsageDecayed(t=w.now, factor=DECAY_ONE))
    heavy, light = submit(w, qos="fair"), submit(w, user="bob", qos="fair")
    assert w.run() == [light]
    assert heavy.reason is Reason.QOS_USAGE_THRESHOLD
    assert heavy.reason_text == (
        "the fair-share factor of physics:alice, 0.5000, is below UsageThreshold=0.6 of QOS fair"
    )
    w.end(light)
    w.do(ev.UsageDecayed(t=w.now, factor=0, reset=True))
    assert w.run() == [heavy]


def test_no_decay_outlives_a_reset() -> None:
    w = world("QOS - 'kept':Flags=NoDecay\n")
    for qos in ("kept", "normal"):
        job = submit(w, qos=qos)
        w.run()
        w.now += 100
        w.end(job)
    w.do(usage.decay_event(w.state, w.now, reset=True))
    assert set(w.state.usage.book) == {"qos=kept"}


# ---- NoReserve -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["default", "easy", "easy-sjbf", "conservative", "replan"])
def test_no_reserve_delays_nobody(mode: str) -> None:
    options = SchedOptions(def_mem_per_cpu_mib=10, bf_mode=mode)
    w = world("QOS - 'standby':Flags=NoReserve\n", nodes=3, planner=Backfill(), options=options)
    running = [submit(w, nodes_min=1, exclusive=True, time_limit_s=3600) for _ in range(2)]
    assert w.run() == running
    wide = submit(w, nodes_min=2, exclusive=True, qos="standby")  # waits for the running ones
    small = submit(w, nodes_min=1, exclusive=True, qos="standby", time_limit_s=7 * 3600)
    assert w.run() == [small]  # would have to stand back for a promise to `wide`
    w.end(small)
    plain = submit(w, nodes_min=1, exclusive=True, time_limit_s=7 * 3600)
    assert w.run() == [plain]
    for job in (*running, plain):
        w.end(job)
    assert w.run() == [wide]


@pytest.mark.parametrize("mode", ["default", "conservative"])
def test_others_are_promised_their_start_all_the_same(mode: str) -> None:
    options = SchedOptions(def_mem_per_cpu_mib=10, bf_mode=mode)
    w = world("QOS - 'standby':Flags=NoReserve\n", nodes=2, planner=Backfill(), options=options)
    running = submit(w, nodes_min=1, exclusive=True, time_limit_s=3600)
    assert w.run() == [running]
    wide = submit(w, nodes_min=2, exclusive=True)
    late = submit(w, nodes_min=1, exclusive=True, qos="standby", time_limit_s=7 * 3600)
    short = submit(w, nodes_min=1, exclusive=True, qos="standby", time_limit_s=600)
    assert w.run() == [short]
    assert (wide.state, late.state) == ("PENDING", "PENDING")
