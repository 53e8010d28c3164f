"""helixd's parsers and its core against any input: the steps log, descriptions of steps, file names, hostile orders."""

from __future__ import annotations

import os

from hypothesis import example, given, settings
from hypothesis import strategies as st

from helix.errors import HelixError
from helix.wire import messages as msg
from helixd.core import actions as act
from helixd.core import steplog
from helixd.core.environment import Base, Home, Place, base_environment, step_environment
from helixd.core.filenames import PATH_MAX, Names, expand_pattern, letters_of
from helixd.core.node_core import NodeCore
from helixd.core.step import Phase
from helixd.core.steplog import Ended, Kind, Record, Started
from helixd.core.stepspec import StepSpec, encode_spec

ids = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
times = st.floats(0, 2**32, allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

records = st.one_of(
    st.builds(
        lambda j, a, t, e, n: (Record(Kind.ATTEMPT, j, a, steplog.Attempt(n, t, e, stdout=n))),
        ids, u32, times, times, texts,
    ),
    st.builds(lambda j, a, p, s, t: Record(Kind.STARTED, j, a, Started(p, p, s, t)), ids, u32, u32, ids, times),
    st.builds(
        lambda j, a, s, t, n: Record(Kind.ENDED, j, a, Ended(s, 1, 2, 3, t, t, 4, 5, 6, n)),
        ids, u32, st.integers(-(2**31), 2**31 - 1), times, texts,
    ),
    st.builds(lambda j, a, t: Record(Kind.FORGOTTEN, j, a, steplog.Forgotten(t)), ids, u32, times),
)  # fmt: skip


def encoded(record: Record) -> bytes:
    body = record.body
    if isinstance(body, Started):
        return steplog.encode_started(record.kind, record.job_id, record.attempt, body)
    if isinstance(body, Ended):
        return steplog.encode_ended(record.job_id, record.attempt, body)
    assert not isinstance(body, steplog.Lost)
    return steplog.encode(record.kind, record.job_id, record.attempt, body)


@given(st.lists(records, max_size=6), st.integers(0, 2**31))
def test_log_reads_back_however_it_is_cut(wanted: list[Record], cut: int) -> None:
    data = b"".join(map(encoded, wanted))
    at = cut % (len(data) + 1)
    first = steplog.scan(data[:at])
    second = steplog.scan(data[first.consumed :])
    assert first.records + second.records == wanted
    assert first.skipped == second.skipped == 0
    assert first.consumed + second.consumed == len(data)


@given(st.lists(records, min_size=1, max_size=6), st.integers(0, 2**31), st.binary(max_size=60))
def test_damage_costs_only_the_records_it_touches(wanted: list[Record], where: int, junk: bytes) -> None:
    parts = list(map(encoded, wanted))
    k = where % len(parts)
    data = b"".join([*parts[:k], parts[k][:-1], junk, *parts[k + 1 :]])
    found = steplog.scan(data, at_end=True).records
    survivors = wanted[:k] + wanted[k + 1 :]
    assert [r for r in found if r in survivors] == survivors or junk.startswith(parts[k][-1:]) or not junk


@given(st.binary(max_size=400))
def test_any_bytes_are_no_trouble(data: bytes) -> None:
    scan = steplog.scan(data, at_end=True)
    assert scan.consumed == len(data)
    open_end = steplog.scan(data)
    assert 0 <= open_end.consumed <= len(data)


@given(st.lists(texts, max_size=5), st.lists(u32, max_size=5), st.lists(u32, max_size=5), texts)
def test_descriptions_are_padded_and_refuse_nul(
    args: list[str], groups: list[int], cores: list[int], path: str
) -> None:
    spec = StepSpec(
        job_id=1, attempt=2, generation=3, uid=4, gid=5, script=path, env=b"A=b\0", env_count=1, args=args,
        groups=groups, cores=cores, rlimits={"NOFILE": (1, -1), "nonsense": (1, 1)},
    )  # fmt: skip
    try:
        data = encode_spec(spec)
    except ValueError:
        assert "\0" in path or any("\0" in arg for arg in args)
        return
    assert len(data) % 8 == 0
    assert int.from_bytes(data[4:8], "little") == len(data)
    assert "\0" not in path


@given(texts, texts, texts)
def test_file_names_are_bounded_and_hold_no_nul(pattern: str, name: str, user: str) -> None:
    try:
        path = expand_pattern(pattern, letters_of(Names(2**63, name, user, "n1")))
    except HelixError:
        return
    assert "\0" not in path
    assert len(path.encode()) < PATH_MAX


@given(st.binary(max_size=300), texts, texts)
def test_environment_has_as_many_entries_as_it_says(blob: bytes, name: str, account: str) -> None:
    base = base_environment(blob)
    assert base.data.count(b"\0") == base.entries
    launch = msg.Launch(job_id=1, attempt=0, node="n1", uid=1, gid=1, name=name, account=account)
    data, count = step_environment(launch, base, Home(), Place("c", "/s"))
    if "\0" not in name + account:
        assert data.count(b"\0") == count
    assert isinstance(base, Base)


moves = st.one_of(
    st.tuples(st.just("launch"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("start"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("end"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("lost"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("ack"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("terminate"), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
    st.tuples(st.just("tick"), st.integers(1, 40), st.just(0)),
)


@settings(max_examples=200)
@example([("launch", 1, 0), ("launch", 1, 1), ("launch", 1, 2)])
@example([("launch", 1, 0), ("restart", 0, 0), ("launch", 1, 1), ("tick", 2, 0), ("restart", 0, 0)])
@given(st.lists(moves, max_size=40))
def test_no_attempt_is_ever_spawned_twice(history: list[tuple[str, int, int]]) -> None:
    """Launches, reports, acknowledgements and restarts in any order; what helixd would have on disk is kept."""
    log: list[Record] = []
    spawned: list[tuple[int, int]] = []
    now = 1000.0

    def fresh() -> NodeCore:
        core = NodeCore(
            "n1", "boot", has_blob=lambda h: True, script_head=lambda p: b"", strerror=os.strerror,
            script_path=lambda u, h: "/s",
        )  # fmt: skip
        core.load({1: list(log)}, now)
        registered = msg.Registered(
            epoch=1, cluster="c", config="", config_hash="", verify_key=b"", heartbeat_s=5, t_now=now
        )
        take(core, core.on_registered(registered, now))
        return core

    def take(core: NodeCore, actions: list[act.Action]) -> None:
        log.extend(steplog.scan(b"".join(a.data for a in actions if isinstance(a, act.Append))).records)
        for action in actions:
            if isinstance(action, act.Spawn):
                others = [s for s in core.steps.values() if s.job_id == action.step.job_id and s is not action.step]
                assert all(s.phase is Phase.ENDED for s in others)  # never two attempts at a time
                spawned.append(action.step.key)
            elif isinstance(action, act.CleanUp):
                take(core, core.cleaned(action.step, now))

    log.extend(steplog.scan(steplog.encode(Kind.HOST, 0, 0, steplog.Host("boot", 1, "s"))).records)
    core = fresh()
    for what, job_id, attempt in history:
        now += 0.1
        running = (job_id, attempt) in spawned
        if what == "launch":
            launch = msg.Launch(job_id=job_id, attempt=attempt, node="n1", uid=1, gid=1, script_hash="s", env_hash="e")
            credential = msg.Credential(
                audience="n1", cluster="c", epoch=1, nonce=1, t_issued=now, t_expires=9e9, launches=[launch]
            )
            take(core, core.on_credential(credential, now))
        elif what in ("start", "end", "lost") and running:
            body: steplog.Body = Started(9, 10, 11, now)
            if what == "end":
                body = Ended(0, 0, 0, 0, now, now, 0, 0, 0)
            elif what == "lost":
                body = steplog.Lost(9)
            kind = {"start": Kind.STARTED, "end": Kind.ENDED, "lost": Kind.LOST}[what]
            record = Record(kind, job_id, attempt, body)
            log.append(record)
            take(core, core.on_records([record], now))
        elif what == "ack":
            take(core, core.on_ack(msg.AckEnded([(job_id, attempt)]), now))
        elif what == "terminate":
            take(core, core.on_order(msg.TerminateStep(job_id=job_id, attempt=attempt, node="n1"), now))
        elif what == "restart":
            core = fresh()
        elif what == "tick":
            now += job_id
            take(core, core.tick(now))
    assert len(spawned) == len(set(spawned))
