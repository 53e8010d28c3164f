"""A quick pass over a long queue looks at a few of the jobs that are alike, and starts what the whole pass would."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from helpers.sched_world import World, node

import helix.sched.alike
import helix.sched.fitting
from helix.model import events as ev
from helix.model.partition import PartitionRecord
from helix.sched.options import SchedOptions
from helix_plugins.sched.backfill import Backfill


@pytest.mark.parametrize("mode", ["default", "easy"])
@pytest.mark.parametrize("seed", range(8))
def test_the_same_jobs_start(mode: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    jobs = [
        {
            "cpus_per_task": rng.choice([1, 2, 3]),
            "nodes_min": rng.choice([1, 1, 2]),
            "time_limit_s": rng.choice([600, 7200]),
            "licenses": rng.choice(["", "", "x"]),
            "time_min_s": rng.choice([0, 0, 300]),
        }
        for _ in range(60)
    ]
    starts = []
    for few in (10, 10**9):
        monkeypatch.setattr(helix.sched.alike, "FEW", few)
        monkeypatch.setattr(helix.sched.alike, "ENOUGH", 2)
        w = World(3, 8, options=SchedOptions(def_mem_per_cpu_mib=10, bf_mode=mode), planner=Backfill())
        w.state.set_licences({"x": 2})
        for fields in jobs:
            w.submit(**fields)
        order = []
        for turn in range(6):
            ran = w.begin(w.cycle.run_inline(w.state, w.now, full=False)[0])
            order.append(sorted((job.job_id, tuple(w.where(job)), job.time_limit_s) for job in ran))
            active = [w.state.jobs[job_id] for job_id in sorted(w.state.active)]
            for job in active[turn % 3 :: 3]:
                w.end(job)
            w.submit(**jobs[turn])
        starts.append(order)
    assert starts[0] == starts[1]
    assert sum(map(len, starts[0])) > 10


@pytest.mark.parametrize("seed", range(12))
def test_leaving_out_what_cannot_start_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    gpus, promises, unreserving = rng.choice([0, 4]), rng.choice([1, 1, 3]), rng.random() < 0.3

    def request() -> dict[str, object]:
        found: dict[str, object] = {
            "cpus_per_task": rng.choice([1, 2, 3, 8, 16]),
            "nodes_min": rng.choice([1, 1, 2, 4]),
            "exclusive": rng.random() < 0.2,
            "nodelist": rng.choice(["", "", "", "n1", "n3"]),
            "partitions": rng.choice([["main"], ["main"], ["side"], ["main", "side"]]),
            "time_limit_s": rng.choice([600, 7200, 36000]),
            "licenses": rng.choice(["", "", "x"]),
            "mem_per_node_mib": rng.choice([None, None, 900]),
        }
        if gpus and rng.random() < 0.4:
            found["gres"] = f"gpu:{rng.choice([1, 3])}"
        return found

    first = [request() for _ in range(50)]
    moves = [(rng.choice(["submit", "end", "end", "hold", "down"]), rng.random(), request()) for _ in range(25)]
    histories = []
    monkeypatch.setattr(helix.sched.fitting, "HEADS", 1)
    monkeypatch.setattr(helix.sched.fitting, "EACH", 1)
    for few in (0, 10**9):
        monkeypatch.setattr(helix.sched.alike, "FEW", few)
        records = [node(f"n{i + 1}", 16, gres=f"gpu:{gpus}" if gpus and i < 2 else "") for i in range(4)]
        names = [record.name for record in records]
        parts = [
            PartitionRecord(name="main", nodes=names, is_default=True),
            PartitionRecord(name="side", nodes=names[2:], priority_tier=2),
        ]
        options = SchedOptions(def_mem_per_cpu_mib=10, bf_protected=promises)
        w = World(records, partitions=parts, options=options, planner=Backfill())
        w.state.set_licences({"x": 2})
        for fields in first:
            w.submit(**fields)
        history, left_out, looked = [], 0, w.cycle.planner
        for word, share, fields in moves:
            active, waiting = sorted(w.state.active), sorted(w.state.schedulable)
            if word == "submit":
                w.submit(**fields)
            elif word == "end" and active:
                w.end(w.state.jobs[active[int(share * len(active))]])
            elif word == "hold" and waiting:
                w.do(ev.JobHeld(t=w.now, job_id=waiting[int(share * len(waiting))]))
            elif word == "down":
                w.do(ev.PartitionUpdated(t=w.now, name="side", changes={"state": "DOWN" if share < 0.5 else "UP"}))
            w.cycle._past = None  # else little is left to leave out
            w.ticks += 1.0
            snapshot = w.cycle.prepare(w.state, w.now, full=False)
            if unreserving:
                snapshot = replace(snapshot, no_reserve=snapshot.job_id % 3 == 1)
            plan = looked.plan(snapshot, options, w.now, w.cycle.rng)
            left_out += snapshot.depth - plan.counters["tested"] if few == 0 else 0
            promised = sorted(plan.later.slot[plan.later.protected].tolist()) if few == 0 else None
            ran = w.begin(w.cycle.commit(plan, w.state, w.now)[0])
            history.append(sorted((job.job_id, tuple(w.where(job))) for job in ran))
            assert promised is None or len(promised) <= promises
        histories.append(history)
        assert (left_out > 100) is (few == 0)
    assert histories[0] == histories[1]
    assert sum(map(len, histories[0])) > 5


@pytest.mark.parametrize("seed", range(12))
def test_looking_only_at_what_changed_starts_the_same_jobs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)

    def request() -> dict[str, object]:
        return {
            "cpus_per_task": rng.choice([1, 2, 3, 8]),
            "nodes_min": rng.choice([1, 1, 2]),
            "nodelist": rng.choice(["", "", "n1", "n3"]),
            "time_limit_s": rng.choice([600, 7200, 36000]),
            "licenses": rng.choice(["", "", "", "x"]),
        }

    first = [request() for _ in range(25)]
    moves = [(rng.choice(["submit", "submit", "end", "wait", "hold"]), rng.random(), request()) for _ in range(30)]
    histories = []
    for few in (0, 10**9):
        monkeypatch.setattr(helix.sched.alike, "FEW", few)
        w = World(3, 8, options=SchedOptions(def_mem_per_cpu_mib=10), planner=Backfill())
        w.state.set_licences({"x": 2})
        for fields in first:
            w.submit(**fields)
        history, used = [], 0
        for word, share, fields in moves:
            active, waiting = sorted(w.state.active), sorted(w.state.schedulable)
            if word == "submit":
                w.submit(**fields)
            elif word == "end" and active:
                w.end(w.state.jobs[active[int(share * len(active))]])
            elif word == "hold" and waiting:
                w.do(ev.JobHeld(t=w.now, job_id=waiting[int(share * len(waiting))]))
            else:
                w.now += 200 * share
            for _ in range(2):
                w.ticks += 1.0
                used += w.cycle._past is not None
                assert w.cycle._past is None or w.cycle._past.snapshot.past is None  # they would pile up
                ran = w.begin(w.cycle.run_inline(w.state, w.now, full=False)[0])
                history.append(sorted((job.job_id, tuple(w.where(job))) for job in ran))
        histories.append(history)
        assert bool(used) is (few == 0)
    assert histories[0] == histories[1]
    assert sum(map(len, histories[0])) > 5
