"""hwhy where the planner looks ahead: what is expected, who has it, and advice that is true."""

from __future__ import annotations

import re
from typing import Any

import pytest
from helpers.sched_world import World, node

from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.partition import PartitionRecord
from helix.model.reservation import ReservationRecord, Share
from helix.sched.explain import duration_words, limit_option
from helix.sched.options import SchedOptions
from helix.timefmt import parse_time_limit
from helix_plugins.sched.backfill import Backfill
from helixctld.schedule.forecast import later_spans

HOUR = 3600


def world(nodes: Any = 2, cpus: int = 4, **kwargs: Any) -> World:
    return World(nodes, cpus, options=SchedOptions(def_mem_per_cpu_mib=10), planner=Backfill(), **kwargs)


def blocked(w: World, promised_in_h: int = 3) -> tuple[JobRecord, JobRecord]:
    """n1 is taken for some hours, then both nodes are promised; n2 is free until then."""
    hog = w.submit(cpus_per_task=4, time_limit_s=promised_in_h * HOUR)
    w.run()
    big = w.submit(nodes_min=2, nodes_max=2, cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    return hog, big


def follow(w: World, job: JobRecord, options: dict[str, Any]) -> None:
    """Submit the job again with these changes some seconds later: it starts."""
    fields = {name: getattr(job.spec, name) for name in job.spec.__struct_fields__}
    fields |= options
    w.now += 20
    again = w.submit(**fields)
    assert again in w.run()


def test_a_shorter_limit_starts_in_the_hole() -> None:
    w = world()
    hog, big = blocked(w)
    job = w.submit(cpus_per_task=4, time_limit_s=5 * HOUR)
    w.run()
    answer = w.why(job)
    assert answer["reason"] == "Priority"
    assert "would fit now on n2, but not for its limit of 5 h" in answer["text"]
    found = re.match(r"with --time=(\S+) it would start now in a backfill hole on n2", answer["advice"][0])
    assert found
    limit_s = parse_time_limit(found[1])
    assert 2.5 * HOUR < limit_s < 3 * HOUR
    assert answer["expected_range"][1] == pytest.approx(w.now + 4 * HOUR, abs=120)
    assert [held["id"] for held in answer["waits_for"]] == [hog.display_id]
    assert answer["waits_for"][0]["t_end"] == w.now + 3 * HOUR
    assert [held["id"] for held in answer["promised"]] == [big.display_id]
    follow(w, job, {"time_limit_s": limit_s})


def test_the_promised_job_sees_its_promise() -> None:
    w = world()
    _, big = blocked(w)
    answer = w.why(big)
    assert (answer["protected"], answer["sched_nodes"]) == (True, "n[1-2]")
    assert answer["t_expected"] == pytest.approx(w.now + 3 * HOUR, abs=60)
    assert answer["promised"] == []
    assert answer["advice"] == ["with --nodes=1 it would start now (1 node)"]
    follow(w, big, {"nodes_min": 1, "nodes_max": 1})


def test_another_partition() -> None:
    parts = [
        PartitionRecord(name="main", nodes=["n1"], is_default=True),
        PartitionRecord(name="other", nodes=["n2"]),
    ]
    w = world(partitions=parts)
    w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    job = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.run()
    assert "with --partition=other it would start now" in w.why(job)["advice"]
    follow(w, job, {"partitions": ["other"]})


def test_fewer_cpus_only_where_that_would_really_start() -> None:
    w = world([node("n1", 8), node("n2", 4)])
    w.submit(cpus_per_task=6, time_limit_s=2 * HOUR, nodelist="n1")
    w.run()
    w.submit(cpus_per_task=8, time_limit_s=HOUR)
    w.run()
    job = w.submit(cpus_per_task=5, time_limit_s=HOUR)
    w.run()
    advice = w.why(job)["advice"]
    assert "with --cpus-per-task=4 it would start now" in advice
    follow(w, job, {"cpus_per_task": 4})


def test_sooner_where_nothing_starts_now() -> None:
    w = world(nodes=1)
    w.submit(cpus_per_task=4, time_limit_s=2 * HOUR)
    w.run()
    w.submit(cpus_per_task=3, time_limit_s=6 * HOUR)
    w.submit(cpus_per_task=4, time_limit_s=6 * HOUR)
    job = w.submit(cpus_per_task=1, time_limit_s=8 * HOUR)
    w.run()
    assert w.why(job)["advice"] == ["with --time=04:00:00 it would start in 2 h, 12 h sooner"]


def test_a_job_about_to_start_and_a_job_in_a_passed_over_place() -> None:
    w = world()
    job = w.submit(cpus_per_task=4, time_limit_s=HOUR)
    w.cycle.columns.update(w.state)
    w.cycle.run_inline(w.state, w.now)
    assert "fits now on n1: about to start" in w.why(job)["text"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (1.2, "2 s"), (600, "10 min"), (601, "11 min"), (12000, "3 h 20 min"), (7200, "2 h"),
     (90000 * 2, "2 days 2 h"), (86400 * 7, "7 days")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words


def test_limits_as_options() -> None:
    assert [limit_option(s) for s in (60, 7200, 90061)] == ["00:01:00", "02:00:00", "1-01:01:01"]


def test_promises_on_rows_that_have_other_numbers_now() -> None:
    """A reservation that ends gives the nodes of the others other rows, until the next full pass."""
    w = World(2, planner=Backfill())
    for name, on, flags in (("a", "n1", []), ("m", "n2", ["MAGNETIC"])):
        share = {on: Share(cpus=4, mem_mib=1000, whole=True)}
        r = ReservationRecord(name=name, t_start=w.now, t_end=w.now + 9000, shares=share, users=["1000"], flags=flags)
        w.do(ev.ReservationCreated(t=w.now, reservation=r), ev.ReservationStarted(t=w.now, name=name))
    running = w.submit(cpus_per_task=4, time_limit_s=600)
    w.submit(cpus_per_task=4, time_limit_s=600)
    assert w.run() == [running]
    assert w.run() == []
    columns = w.cycle.columns
    before = later_spans(w.cycle.outlook, columns, w.now, -1, None)
    assert before is not None
    assert before.row.tolist() == [3]
    w.do(ev.ReservationDeleted(t=w.now, name="a"))
    columns.update(w.state)
    after = later_spans(w.cycle.outlook, columns, w.now, -1, None)
    assert columns.rows.count == 3
    assert after is not None
    assert after.row.tolist() == [2]
