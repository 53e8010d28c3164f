"""What associations have used: charged exactly once, decaying, the same after every kind of restart."""

from __future__ import annotations

import pytest
from helpers.core_builders import Cluster

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.model import events as ev
from helix.model.job import Allocation, JobRecord, JobSpec
from helix.model.job_state import JobState
from helixctld.core import timers, usage
from helixctld.core.usage import DECAY_ONE, Spent, UsagePolicy, billing_milli, decay_factor, fair_shares

FILE = """\
QOS - 'normal'
QOS - 'kept':Flags=NoDecay
Parent - 'root'
Account - 'physics':Fairshare=1
Account - 'chemistry':Fairshare=3
Parent - 'physics'
User - 'alice':Fairshare=1
User - 'bob':Fairshare=1
Parent - 'chemistry'
User - 'carol':Fairshare=1
"""


def cluster(**policy: object) -> Cluster:
    c = Cluster(nodes=2, cpus=4, memory_mib=1000)
    c.state.set_accounts(build_accounts(parse_assoc(FILE, "f")), UsagePolicy(**policy))  # type: ignore[arg-type]
    return c


def submit(c: Cluster, assoc: str, qos: str = "normal", **fields: object) -> JobRecord:
    spec = JobSpec(account=assoc.partition(":")[0], qos=qos, **fields)  # type: ignore[arg-type]
    job_id = c.state.next_job_id
    c.do(ev.JobSubmitted(t=c.now, job_id=job_id, uid=1, gid=1, user="bob", spec=spec, assoc=assoc))
    return c.state.jobs[job_id]


def end(c: Cluster, job: JobRecord, state: JobState = JobState.COMPLETED) -> None:
    c.do(ev.JobEnded(t=c.now, job_id=job.job_id, attempt=job.attempt, state=state))


def test_a_job_is_charged_when_it_ends() -> None:
    c = cluster()
    job = c.start(submit(c, "physics:bob"), cores=(0, 1), mem_mib=100)
    c.now += 10
    end(c, job)
    spent = c.state.usage.book["physics:bob"]
    assert spent == Spent(20_000, 10_000, {"billing": 20_000, "cpu": 20_000, "mem": 1_000_000, "node": 10_000})
    assert c.state.usage.book["qos=normal"] == spent


def test_decays_charge_running_jobs_once_and_halve_what_is_old() -> None:
    c = cluster(half_life_s=100)
    job = c.start(submit(c, "physics:bob"))
    c.do(*usage.due(c.state, c.now))
    assert c.state.usage.t == c.now
    c.now += 100
    c.do(usage.decay_event(c.state, c.now))
    assert c.state.usage.book["physics:bob"].raw == 100_000
    c.now += 100
    c.do(usage.decay_event(c.state, c.now))
    assert c.state.usage.book["physics:bob"].raw == 150_000
    c.now += 10
    end(c, job)
    assert c.state.usage.book["physics:bob"].raw == 160_000


def test_a_decay_rounds_each_job_by_itself() -> None:
    """Whether many are charged at once or one by one, as they end, comes to the same."""
    spent = []
    for at_once in (True, False):
        c = cluster(half_life_s=0)
        jobs = []
        for cores in ((0, 1, 2), (3,)):
            job = submit(c, "physics:bob", qos="kept")
            c.start(job, cores=cores)
            assert job.alloc is not None
            job.alloc.usage_factor_milli, job.alloc.part_qos, job.alloc.billing_milli = 333, "normal", 1001
            jobs.append(job)
        c.now += 0.007
        if at_once:
            c.do(usage.decay_event(c.state, c.now))
        for job in jobs:
            end(c, job)
        spent.append(c.state.usage.book)
    assert spent[0] == spent[1]
    assert set(spent[0]) == {"physics:bob", "qos=kept", "qos=normal"}
    ms = jobs[0].charged_ms
    assert spent[0]["qos=kept"].raw == 2 * (ms * 1001 * 333 // 10**6)
    assert spent[0]["qos=kept"].tres["cpu"] == 3 * ms * 333 // 1000 + ms * 333 // 1000


def test_suspended_time_is_free() -> None:
    c = cluster()
    job = c.start(submit(c, "physics:bob"))
    c.launch(job)
    c.now += 10
    c.do(ev.JobSuspended(t=c.now, job_id=job.job_id))
    c.now += 50
    c.do(usage.decay_event(c.state, c.now))
    assert c.state.usage.book["physics:bob"].wall_ms == 10_000
    c.do(ev.JobResumed(t=c.now, job_id=job.job_id))
    c.now += 5
    end(c, job)
    assert c.state.usage.book["physics:bob"].wall_ms == 15_000


def test_a_requeued_attempt_is_charged_and_the_next_anew() -> None:
    c = cluster()
    job = c.start(submit(c, "physics:bob"))
    c.now += 10
    end(c, job, JobState.PENDING)
    c.start(job)
    c.now += 7
    end(c, job)
    assert c.state.usage.book["physics:bob"].wall_ms == 17_000


def test_usage_survives_replay_and_snapshot() -> None:
    c = cluster(half_life_s=77)
    first = c.start(submit(c, "physics:bob"), cores=(0, 1, 2))
    second = c.start(submit(c, "chemistry:carol", "kept"), node="n2")
    for step in (13.37, 55.5, 3.001):
        c.now += step
        c.do(usage.decay_event(c.state, c.now))
    c.now += 1.5
    end(c, first)
    assert c.state.usage.book["qos=kept"].raw > c.state.usage.book["chemistry:carol"].raw
    replayed = c.replayed().usage
    assert replayed == c.state.usage
    assert c.restarted().usage == c.state.usage
    assert c.restarted().jobs[second.job_id].charged_ms == second.charged_ms


def test_resets_and_idle_time() -> None:
    c = cluster(reset_period="DAILY")
    assert usage.due(c.state, c.now) == []
    assert timers.next_due(c.state, 300.0) == float("inf")
    job = c.start(submit(c, "physics:bob"))
    c.do(*usage.due(c.state, c.now))
    c.now += 60
    end(c, job)
    assert c.state.usage.book
    c.now += 2 * 86400
    event = usage.decay_event(c.state, c.now)
    assert (event.factor, event.reset) == (0, True)
    c.do(event)
    assert not c.state.usage.book
    assert usage.decay_event(c.state, c.now + 1).factor <= DECAY_ONE


def test_nothing_decays_for_the_time_before_it_was_used() -> None:
    c = cluster(half_life_s=100)
    c.do(ev.UsageDecayed(t=c.now, factor=DECAY_ONE))
    c.now += 10_000
    job = c.start(submit(c, "physics:bob"))
    c.now += 10
    end(c, job)
    assert usage.decay_event(c.state, c.now).factor == DECAY_ONE


@pytest.mark.parametrize(
    ("weights", "flags", "milli"),
    [
        ("", (), 6000),
        ("CPU=1.5,Mem=1G", (), 9000 + 2000),
        ("CPU=1.5,Mem=1G,gres/gpu=10", (), 9000 + 2000 + 20000),
        ("CPU=1.5,Mem=1G,gres/gpu=10", ("MAX_TRES",), 20000),
        ("CPU=1.5,Mem=1G,gres/gpu=10", ("MAX_TRES_GRES",), 29000),
        ("node=1", (), 2000),
    ],
)
def test_billing(weights: str, flags: tuple[str, ...], milli: int) -> None:
    alloc = Allocation(
        nodes=["a", "b"], cores=[[0, 1, 2], [0, 1, 2]], mem_mib=[1024, 1024], gres=[{"gpu:a100": "0-1"}, {}]
    )
    assert billing_milli(alloc, weights, frozenset(flags)) == milli


def test_decay_factor() -> None:
    assert decay_factor(0, 100) == DECAY_ONE
    assert decay_factor(100, 100) == DECAY_ONE // 2
    assert decay_factor(1e9, 100) == 0
    assert decay_factor(1e9, 0) == DECAY_ONE


def test_shares_follow_the_tree_and_keep_what_left_it() -> None:
    c = cluster()
    book = {"physics:alice": Spent(raw=10), "physics:gone": Spent(raw=30), "qos=normal": Spent(raw=99)}
    c.state.usage.book = book
    found = fair_shares(c.state.accounts, c.state.usage, UsagePolicy())
    assert found.keys[:2] == ["root", "chemistry"]
    assert found.spent[found.row["physics"]].raw == 40
    assert found.factor("chemistry:carol") > found.factor("physics:bob") > found.factor("physics:alice")
    classic = fair_shares(c.state.accounts, c.state.usage, UsagePolicy(flags=frozenset({"NO_FAIR_TREE"})))
    assert classic.factor("physics:bob") > classic.factor("physics:alice")
    assert classic.factor("nobody") == 0.0
