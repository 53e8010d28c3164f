"""hprio's rows for random configurations, and usage that decays over gaps of any length."""

from __future__ import annotations

import math

from helpers.sched_world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.model import events as ev
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord
from helix.sched.priority import PRIORITY_MAX, PriorityOptions
from helix.wire.methods import PRIORITY_ROW
from helix_plugins.priority.multifactor import Multifactor
from helixctld.core import usage
from helixctld.core.usage import Spent, UsagePolicy, decay_factor
from helixctld.io.serve_accounts import _priority_rows
from helixctld.schedule.priorities import PriorityColumns

FLAGS = ("ACCRUE_ALWAYS", "INCR_ONLY", "NO_NORMAL_ALL", "NO_NORMAL_ASSOC", "NO_NORMAL_PART", "NO_NORMAL_QOS",
         "NO_NORMAL_TRES", "SMALL_RELATIVE_TO_TIME", "DEPTH_OBLIVIOUS", "NO_FAIR_TREE")  # fmt: skip
WEIGHT = st.sampled_from([0, 1, 7, 1000, 99_999, (1 << 32) - 1])
TEXT = """\
QOS - 'normal'
QOS - 'high':Priority=70
Parent - 'root'
Account - 'a':Priority=3:Fairshare=4
Account - 'b'
Parent - 'a'
User - 'u'
User - 'v':Fairshare=parent
Parent - 'b'
User - 'w':Priority=9
"""


@st.composite
def options(draw: st.DrawFn) -> PriorityOptions:
    return PriorityOptions(
        *[draw(WEIGHT) for _ in range(6)],
        weight_tres=tuple((name, draw(WEIGHT)) for name in draw(st.sampled_from([(), ("cpu",), ("cpu", "mem")]))),
        max_age_s=draw(st.sampled_from([1, 3600, 604_800])),
        favor_small=draw(st.booleans()),
        flags=frozenset(draw(st.lists(st.sampled_from(FLAGS), max_size=4))),
    )


@given(
    options(),
    st.lists(
        st.tuples(
            st.sampled_from(["a:u", "a:v", "b:w", ""]),
            st.sampled_from(["normal", "high", ""]),
            st.integers(1, 12),
            st.sampled_from([-(1 << 31) + 3, -500, 0, 3, 10_000, (1 << 31) - 3]),
            st.sampled_from([-70, 0, 12_345]),
            st.sampled_from([["main"], ["side"], ["side", "main"]]),
            st.sampled_from([None, 60, 90_000]),
            st.sampled_from([None, None, None, 77]),
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.integers(0, 10**6), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_the_columns_of_hprio_add_up_to_the_priority(
    chosen: PriorityOptions, jobs: list[tuple[str, str, int, int, int, list[str], int | None, int | None]],
    gaps: list[int],
) -> None:  # fmt: skip
    parts = [
        PartitionRecord(name="main", nodes=["n1", "n2"], is_default=True),
        PartitionRecord(name="side", nodes=["n2"], priority_job_factor=30),
    ]
    w = World(2, partitions=parts, check=False)
    w.state.set_accounts(build_accounts(parse_assoc(TEXT, "f")), UsagePolicy(flags=chosen.flags))
    w.state.usage.book.update({"a:u": Spent(raw=5000), "b:w": Spent(raw=70_000)})
    columns = PriorityColumns(Multifactor(), chosen)
    for job_id, (assoc, qos, cpus, nice, site, names, limit_s, fixed) in enumerate(jobs, 1):
        spec = JobSpec(account=assoc.partition(":")[0], qos=qos, cpus_per_task=cpus, nice=nice, site_factor=site,
                       partitions=names, time_limit_s=limit_s, priority=fixed)  # fmt: skip
        w.do(ev.JobSubmitted(t=w.now, job_id=job_id, uid=1, gid=1, spec=spec, priority=fixed or 1, assoc=assoc))
    for gap_s in (0, *gaps):
        w.now += gap_s
        columns.update(w.state, w.now)
    rows = _priority_rows(columns, list(w.state.jobs.values()))
    assert len(rows) == len(jobs)
    for values in rows:
        row = dict(zip(PRIORITY_ROW, values, strict=True))
        job = w.state.jobs[row["job_id"]]
        names = ("site", "age", "assoc", "fairshare", "jobsize", "partition_term", "qos", "bound", "admin")
        total = sum(row[name] for name in names) + sum(row["tres"].values()) - row["nice"]
        assert total == row["priority"] == job.priority
        assert 1 <= row["priority"] <= PRIORITY_MAX


@given(
    st.integers(0, 1 << 60),
    st.sampled_from([3600, 86400, 7 * 86400, 365 * 86400]),
    st.lists(st.floats(1, 400 * 86400), min_size=1, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_decay_over_any_gaps_is_that_over_all_of_the_time(before: int, half_life_s: int, gaps: list[float]) -> None:
    w = World(1, check=False)
    w.state.set_accounts(build_accounts(parse_assoc(TEXT, "f")), UsagePolicy(half_life_s=half_life_s))
    w.state.usage.t = w.now
    w.state.usage.book["a:u"] = Spent(raw=before, wall_ms=before, tres={"cpu": before})
    for gap_s in gaps:
        w.now += gap_s
        w.do(usage.decay_event(w.state, w.now))
    left = w.state.usage.book.get("a:u", Spent()).raw
    exact = before * 0.5 ** (sum(gaps) / half_life_s)
    # the factor is rounded to a part of 2^32, and each step down to a whole number
    slack = len(gaps) * (1 + before / (1 << 32)) + exact * 1e-9
    assert abs(left - exact) <= slack
    assert decay_factor(sum(gaps), 0) == usage.DECAY_ONE
    assert math.isclose(decay_factor(half_life_s, half_life_s) / usage.DECAY_ONE, 0.5)
