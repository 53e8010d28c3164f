"""Reservations: the calendar against brute force, and random histories in which nobody may get what is another's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from helpers.core_builders import picture
from helpers.sched_world import World
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from helix.errors import HelixError
from helix.model import events as ev
from helix.model.codec import msgpack_decoder, to_msgpack
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord
from helix.model.reservation import REPEATS, ReservationRecord
from helix.sched.options import SchedOptions
from helix.timefmt import clock_of
from helix.wire.methods import Role
from helix_plugins.sched.backfill import Backfill
from helix_plugins.sched.fifo import Fifo
from helixctld.core import reservation_due, reservations
from helixctld.core.apply import apply
from helixctld.core.caller import Caller
from helixctld.core.reservation_nodes import job_end
from helixctld.core.reservation_text import RESERVATION_KEYS
from helixctld.core.reservation_times import first_start, is_met, meet, next_start, occurrence_after, occurrences
from helixctld.core.state import State
from helixctld.core.state_save import Persistent

ADMIN = Caller(uid=0, gid=0, user="root", role=Role.ADMIN)
T0 = 1_790_000_000.0  # September 2026: the clocks of Berlin change within the weeks after
DAY = 86400.0
_events = msgpack_decoder(ev.Event)  # type: ignore[arg-type]
_persistent = msgpack_decoder(Persistent)


@contextmanager
def zone(name: str) -> Iterator[None]:
    old = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        if old is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = old
        time.tzset()


def record(repeats: str, start: float, length: float) -> ReservationRecord:
    flags = [repeats] if repeats else []
    start = first_start(repeats, start) if repeats else start
    return ReservationRecord(name="r", t_start=start, t_end=start + length, flags=flags, clock_s=clock_of(start))


def listed(r: ReservationRecord, until: float) -> list[tuple[float, float]]:
    """All occurrences, one by one."""
    found = [(r.t_start, r.t_end)]
    while r.repeats and found[-1][0] < until:
        start = next_start(r, found[-1][0])
        found.append((start, start + r.t_end - r.t_start))
    return found


zones = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
records = st.builds(
    record,
    st.sampled_from(["", *REPEATS]),
    st.integers(0, 60 * 24 * 3600).map(lambda s: T0 + s),
    st.integers(60, 3600).map(float),
)


@given(zones, records, st.integers(-10 * 86400, 100 * 86400))
def test_the_next_occurrence_is_the_first_that_ends_later(tz, r, after):
    with zone(tz):
        t = T0 + after
        wanted = next((w for w in listed(r, t + 20 * DAY) if w[1] > t), None)
        assert occurrence_after(r, t) == wanted


@given(
    zones,
    st.sampled_from(["DAILY", "WEEKDAY", "WEEKEND", "WEEKLY"]),
    st.integers(0, 200 * 24).map(lambda h: T0 + 3600 * h),
)
def test_days_keep_their_time_of_day(tz, repeats, start):
    with zone(tz):
        r = record(repeats, start, 60.0)
        after = next_start(r, r.t_start)
        a, b = time.localtime(r.t_start), time.localtime(after)
        # an hour that the change of the clocks leaves out is the hour after it
        assert (b.tm_hour, b.tm_min) == (a.tm_hour, a.tm_min) or b.tm_isdst != a.tm_isdst
        assert 0 < after - r.t_start <= 7 * DAY + 3600
        if repeats == "WEEKDAY":
            assert b.tm_wday < 5
        if repeats == "WEEKEND":
            assert b.tm_wday >= 5
        if repeats == "WEEKLY":
            assert b.tm_wday == a.tm_wday


@settings(deadline=None)
@given(records, records)
def test_two_meet_when_some_of_their_occurrences_do(a, b):
    with zone("UTC"):
        horizon = max(a.t_start, b.t_start) + 15 * DAY
        both = any(x[0] < y[1] and y[0] < x[1] for x in listed(a, horizon) for y in listed(b, horizon))
        assert (meet(a, b, T0) is not None) == both


@given(records, st.integers(0, 90 * 86400), st.integers(1, 3 * 86400))
def test_a_span_is_met_when_an_occurrence_has_part_of_it(r, begin, length):
    with zone("UTC"):
        t = T0 + begin
        met = [w for w in listed(r, t + length) if w[0] < t + length and w[1] > t]
        assert is_met(r, t, t + length, T0) == (met[0] if met else None)
        assert list(occurrences(r, t, t + length, most=1000)) == met


words = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            *[
                "now",
                "now+1hour",
                "-1",
                "+1",
                "infinite",
                "0",
                "1-0",
                "n1",
                "n[1-9]",
                "ALL",
                "+n2",
                "-n1",
                "alice",
                "-alice,bob",
                "1,2",
                "cpu=3",
                "mem=",
                "mem=5G",
                "node=x",
                "gres/gpu=1",
                "license/x=2",
                "DAILY,-DAILY",
                "PURGE_COMP=x",
                "MAINT",
                "TIME_FLOAT",
                "gpu&!x",
                "(a",
                "matlab:3",
                "main",
                "1e9",
                "99999999999",
                "@5",
                "@1.5.5",
            ],
            "\x00",
            "é",
        ]
    ),
)


@settings(deadline=None, max_examples=120)
@example({"partition": "0\n0"}, False)
@given(st.dictionaries(st.sampled_from(sorted(RESERVATION_KEYS)), words, max_size=6), st.booleans())
def test_whatever_is_asked_is_done_or_refused(asked, change):
    w = World(2, 4)
    w.now = T0
    w.do(reservations.create(w.state, {"Nodes": "n1", "Users": "a", "Name": "old"}, ADMIN, T0, lambda _group: ()))
    try:
        if change:
            w.do(reservations.update(w.state, "old", asked, ADMIN, w.now, lambda _group: ()))
        else:
            w.do(reservations.create(w.state, {"Users": "a", **asked}, ADMIN, w.now, lambda _group: ()))
    except HelixError as error:
        assert "\n" not in error.msg  # noqa: PT017 - the error is what is tested, and any will do
    for r in w.state.reservations.values():
        assert r.t_start < r.t_end
        assert set(r.shares) <= w.state.nodes.keys()
        assert bool(r.users or r.accounts or r.groups)


class ReservationMachine(RuleBasedStateMachine):
    """Two nodes of four CPUs; jobs of two users; reservations of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.journal: list[bytes] = []

    @initialize(fifo=st.booleans(), mode=st.sampled_from(["easy", "conservative", "default"]))
    def begin(self, fifo, mode):
        self.w = World(2, 4, options=SchedOptions(def_mem_per_cpu_mib=10, bf_mode=mode))
        self.w.cycle.planner = Fifo() if fifo else Backfill()
        self.w.now = T0

    def do(self, *events):
        for event in events:
            data = to_msgpack(event)
            self.journal.append(data)
            self.w.do(_events.decode(data))

    @rule(
        start=st.sampled_from([0, 0, 0, 0, 1, 5, 30, 47, 120]),
        minutes=st.sampled_from([1, 10, 45, 60, 90, 180]),
        how=st.sampled_from(["NodeCnt=1", "NodeCnt=2", "Nodes=n1", "CoreCnt=2", "CoreCnt=5", "TRES=cpu=3"]),
        flag=st.sampled_from(
            ["", "", "", "FLEX", "MAGNETIC", "HOURLY", "DAILY", "OVERLAP", "MAINT", "IGNORE_JOBS", "NO_HOLD_JOBS_AFTER",
             "PURGE_COMP=10", "REPLACE_DOWN"]
        ),
        user=st.sampled_from(["1000", "1000", "2000"]),
    )  # fmt: skip
    def create(self, start, minutes, how, flag, user):
        key, _, value = how.partition("=")
        asked = {key: value, "StartTime": f"now+{start}minutes", "Duration": str(minutes), "Users": user}
        if flag:
            asked["Flags"] = flag
        try:
            event = reservations.create(self.w.state, asked, ADMIN, self.w.now, lambda _group: ())
        except HelixError as error:
            if error.code not in ("RESERVATION_CONFLICT", "RESERVATION_INVALID", "NODES_NEVER"):
                raise
            if (t := error.data.get("t_fits")) and "Flags" not in asked:
                again = {**asked, "StartTime": f"@{t}"}
                reservations.create(self.w.state, again, ADMIN, self.w.now, lambda _group: ())
            return
        self.do(event)
        self.time_passes(0)

    def some(self, k):
        names = sorted(self.w.state.reservations)
        return names[k % len(names)] if names else ""

    @rule(
        k=st.integers(0, 9),
        change=st.sampled_from(["Duration=+30", "Duration=-20", "Users=+2000", "Nodes=n2", "NodeCnt=1"]),
    )
    def update(self, k, change):
        if name := self.some(k):
            key, _, value = change.partition("=")
            try:
                event = reservations.update(self.w.state, name, {key: value}, ADMIN, self.w.now, lambda _group: ())
            except HelixError:
                return
            self.do(event)

    @rule(k=st.integers(0, 9))
    def delete(self, k):
        if name := self.some(k):
            try:
                self.do(reservations.delete(self.w.state, name, ADMIN, self.w.now))
            except HelixError as error:
                if error.code != "RESERVATION_BUSY":
                    raise

    @rule(
        k=st.integers(0, 9),
        cpus=st.integers(1, 4),
        minutes=st.integers(1, 300),
        asks=st.booleans(),
        whole=st.booleans(),
    )
    def submit(self, k, cpus, minutes, asks, whole):
        name = self.some(k) if asks else ""
        job_id = self.w.state.next_job_id
        spec = JobSpec(cpus_per_task=cpus, time_limit_s=60 * minutes, reservation=name, exclusive=whole)
        self.do(ev.JobSubmitted(t=self.w.now, job_id=job_id, uid=1000, gid=1000, spec=spec, priority=1000))
        if k % 2:
            self.run_a_pass()

    @rule()
    def run_a_pass(self):
        w = self.w
        for _ in range(2):
            accepted, _reasons = w.cycle.run_inline(w.state, w.now)
            w.ticks += 1.0
            for start in accepted:
                self.look_at(start)
                job = w.state.jobs[start.job_id]
                self.do(
                    ev.JobStarted(
                        t=w.now, job_id=job.job_id, attempt=job.attempt, partition=start.partition,
                        reservation=start.reservation, time_limit_s=start.time_limit_s, alloc=start.alloc,
                    )
                )  # fmt: skip

    def look_at(self, start):
        """A start keeps out of what is reserved for others, and inside what is its own."""
        w = self.w
        mine = w.state.reservations.get(start.reservation)
        assert (mine is None) == (start.reservation == "")
        job = w.state.jobs[start.job_id]
        assert bool(job.spec.reservation) <= bool(mine), "it asks for one"
        end = w.now + start.time_limit_s
        if mine is not None and not mine.has("FLEX"):
            assert mine.active
            end = min(end, mine.t_end)
            assert set(start.alloc.nodes) <= mine.shares.keys()
        for name, cpus in zip(start.alloc.nodes, start.alloc.cpus, strict=True):
            node = w.state.nodes[name]
            for r in w.state.reservations.values():
                share = r.shares.get(name)
                if share is None or is_met(r, w.now, end, w.now) is None:
                    continue
                if r is mine:
                    if not share.whole:
                        used = sum(n for j, n in node.jobs.items() if w.state.jobs[j].reservation == r.name)
                        assert used + cpus <= share.cpus
                elif mine is not None and (mine.has("MAINT") or (mine.has("OVERLAP") and not r.has("MAINT"))):
                    continue
                else:
                    assert not share.whole, f"{name} is {r.name}'s"
                    begin = max(w.now, is_met(r, w.now, end, w.now)[0])
                    beside = sum(
                        n for j, n in node.jobs.items()
                        if w.state.jobs[j].reservation != r.name and job_end(w.state.jobs[j], w.now) > begin
                    )  # fmt: skip
                    assert beside + cpus + share.cpus <= node.cpus

    @rule(k=st.integers(0, 20))
    def end(self, k):
        active = sorted(self.w.state.active)
        if active:
            job = self.w.state.jobs[active[k % len(active)]]
            state = job.outcome or "COMPLETED"
            self.do(ev.JobEnded(t=self.w.now, job_id=job.job_id, attempt=job.attempt, state=state))

    @rule(minutes=st.sampled_from([1, 7, 30, 61, 200]))
    def time_passes(self, minutes):
        self.w.now += 60.0 * minutes
        while events := reservation_due.due(self.w.state, self.w.now, 0):
            self.do(*events)
        for job_id in sorted(self.w.state.active):  # limits
            job = self.w.state.jobs[job_id]
            if job_end(job, self.w.now) <= self.w.now:
                state = job.outcome or "TIMEOUT"
                self.do(ev.JobEnded(t=self.w.now, job_id=job_id, attempt=job.attempt, state=state))
        self.do(*reservation_due.replacements(self.w.state, self.w.now))

    @rule(drain=st.booleans(), node=st.sampled_from(["n1", "n2"]))
    def drain(self, drain, node):
        self.do(ev.NodeUpdated(t=self.w.now, node=node, drain=drain))

    @invariant()
    def no_two_have_the_same_cores(self):
        if not hasattr(self, "w"):
            return
        plain = [r for r in self.w.state.reservations.values() if not r.may_overlap]
        for name, node in self.w.state.nodes.items():
            here = [r for r in plain if name in r.shares]
            for a in here:
                meeting = [b for b in here if b is not a and meet(a, b, self.w.now)]
                for b in meeting:
                    taken = sum(node.cpus if r.shares[name].whole else r.shares[name].cpus for r in (a, b))
                    assert taken <= node.cpus, f"{a.name} and {b.name} share {name}"

    @rule()
    def restart(self):
        w = self.w
        state = State("test")
        kept = ("name", "cpus", "sockets", "cores_per_socket", "real_memory_mib", "base")
        records = [type(n)(**{f: getattr(n, f) for f in kept})
                   for n in w.state.nodes.values()]  # fmt: skip
        parts = [PartitionRecord(name="main", nodes=list(w.state.nodes), is_default=True)]
        state.set_nodes(records)
        state.set_partitions(parts)
        for data in self.journal:
            apply(state, _events.decode(data))
        state.rebuild(w.now)
        again = State("test")
        again.thaw(_persistent.decode(to_msgpack(w.state.freeze())))
        again.set_nodes([type(n)(**{f: getattr(n, f) for f in n.__struct_fields__}) for n in w.state.nodes.values()])
        again.set_partitions(parts)
        again.rebuild(w.now)
        for other in (state, again):
            assert other.reservations == w.state.reservations
            assert other.reservation_jobs == w.state.reservation_jobs
            assert {n: (r.reservations, r.maintenance) for n, r in other.nodes.items()} == {
                n: (r.reservations, r.maintenance) for n, r in w.state.nodes.items()
            }
            for key in ("free", "schedulable", "active", "next"):
                assert picture(other)[key] == picture(w.state)[key], key


TestReservationMachine = ReservationMachine.TestCase
TestReservationMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
