"""The synchronous client against a controller that misbehaves."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

import helix
from helix import calls
from helix.client import Client
from helix.errors import (
    Conflict,
    HelixError,
    LimitExceeded,
    NotFound,
    NotNow,
    ProtocolError,
    TimedOut,
    Unavailable,
    UsageError,
)
from helix.rows import Job
from helix.wire.codec import encode_error, encode_reply


@pytest.fixture
def client(fake: Any) -> Any:
    with Client(fake.path, timeout_s=10, connect_s=5) as made:
        yield made


def test_calls_share_one_connection(fake: Any, client: Client) -> None:
    for _ in range(10):
        client.ping()
    fake.stop()
    assert fake.accepted == 1


def test_error_of_the_server_is_raised_as_its_kind(fake: Any, client: Client) -> None:
    fake.handler = lambda f, c, r: f.error(c, r, NotFound("no job 9", code="JOB_UNKNOWN", hint="look"))
    with pytest.raises(NotFound) as caught:
        client.job(9)
    assert (caught.value.code, caught.value.hint) == ("JOB_UNKNOWN", "look")


def test_unknown_kinds_and_fields_of_a_newer_server_are_harmless(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if request.m == "ping":
            conn.send(b'{"i":%d,"ok":false,"new":1,"e":{"kind":"Fancy","code":"NEW","msg":"m","x":1}}' % request.i)
        else:
            conn.send(b'{"i":%d,"ok":true,"new":1,"r":{"columns":["job_id","new"],"rows":[[1,2]],"x":1}}' % request.i)

    fake.handler = handler
    with pytest.raises(HelixError) as caught:
        client.ping()
    assert caught.value.code == "NEW"
    assert client.queue() == [Job(job_id=1, new=2)]
    with pytest.raises(AttributeError, match="user"):
        _ = client.queue()[0].user


def test_unreachable_names_the_sockets_and_the_remedy(tmp_path: Path) -> None:
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(Unavailable) as caught:
        Client(paths, connect_s=0.2).ping()
    assert all(path in caught.value.msg for path in paths)
    assert "hcluster up" in caught.value.hint
    assert "systemctl start helixctld" in caught.value.hint
    assert caught.value.exit_status == 3


def test_sockets_are_those_given_then_the_environment_then_the_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIX_SOCKET", "/x/y")
    assert Client("/a").socket_paths == ("/a",)
    assert Client().socket_paths == ("/x/y",)
    monkeypatch.delenv("HELIX_SOCKET")
    assert Client().socket_paths == ("/run/helix/helixctld.sock", "/run/helix/helixd.sock")


def test_second_socket_is_used_when_the_first_is_dead(fake: Any, tmp_path: Path) -> None:
    Client([str(tmp_path / "dead"), fake.path]).ping()


def test_client_waits_for_a_controller_that_restarts(fake: Any, client: Client) -> None:
    client.ping()
    fake.stop()
    threading.Timer(0.3, fake.start).start()
    client.ping()


def test_lost_answer_of_a_submit_is_asked_for_again_with_the_same_token(fake: Any, client: Client) -> None:
    jobs: dict[str, int] = {}

    def handler(f: Any, conn: Any, request: Any) -> None:
        token = f.requests[-1][1]["spec"]["token"]
        first = token not in jobs
        job_id = jobs.setdefault(token, len(jobs) + 1)
        if first:
            f.cut(conn)
        else:
            f.reply(conn, request, {"job_id": job_id})

    fake.handler = handler
    assert client.submit(wrap="true") == 1
    assert client.submit(wrap="true") == 2
    assert len(jobs) == 2
    assert len(fake.args("job.submit")) == 4


def test_submit_whose_answer_is_lost_is_asked_for_beyond_the_time_to_connect(fake: Any) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if len(f.requests) < 4:
            f.cut(conn)
        else:
            f.reply(conn, request, {"job_id": 7})

    fake.handler = handler
    assert Client(fake.path, connect_s=0.0, timeout_s=10).submit(wrap="true") == 7


def test_request_that_must_not_be_done_twice_is_not_repeated(fake: Any, client: Client) -> None:
    fake.handler = lambda f, conn, request: f.cut(conn)
    for method in ("job.requeue", "job.update", "ctl.shutdown"):
        with pytest.raises(Unavailable) as caught:
            client.call(method, {})
        assert caught.value.code == "ANSWER_LOST"
        assert len(fake.args(method)) == 1


def test_request_that_a_relay_never_sent_is_repeated_whatever_it_is(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if len(f.requests) == 1:
            f.error(conn, request, Unavailable("the node has no controller", data={"sent": False}))
        else:
            f.reply(conn, request, {})

    fake.handler = handler
    client.requeue(1)
    assert len(fake.requests) == 2


def test_relay_that_loses_its_controller_leaves_open_what_was_done(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if len(f.args(request.m)) == 1:
            conn.send(encode_error(0, Unavailable("the controller is gone")))
            conn.close()
        else:
            f.reply(conn, request, {"job_id": 3, "m": request.m})

    fake.handler = handler
    with pytest.raises(Unavailable, match="the controller is gone") as caught:
        client.requeue(1)
    assert caught.value.code == "ANSWER_LOST"
    assert client.ping()["m"] == "ping", "what may be repeated is"
    assert list(client.stream("job.show", {})) == [{"job_id": 3, "m": "job.show"}]
    assert client.submit_many([{"wrap": "true"}] * 3) == [3, 3, 3]
    assert len(fake.args("job.requeue")) == 1


def test_connection_closed_while_idle_is_not_an_error(fake: Any, client: Client) -> None:
    client.ping()
    fake.stop()
    fake.start()
    client.call("job.requeue", {"ids": ["1"]})
    assert len(fake.args("job.requeue")) == 1


def test_busy_controller_is_asked_again_after_what_it_said(fake: Any) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if len(f.requests) < 3:
            f.error(conn, request, NotNow("busy", data={"retry_after_s": 0.05}))
        else:
            f.reply(conn, request, {"done": 1})

    pauses: list[tuple[str, float]] = []
    fake.handler = handler
    client = Client(fake.path, on_retry=lambda error, pause: pauses.append((error.code, pause)))
    assert client.call("job.requeue", {"ids": ["1"]}) == {"done": 1}
    assert [code for code, _ in pauses] == ["TRY_AGAIN"] * 2
    assert all(pause >= 0.04 for _, pause in pauses)


def test_busy_beyond_the_deadline_is_raised(fake: Any) -> None:
    fake.handler = lambda f, conn, r: f.error(conn, r, NotNow("busy", data={"retry_after_s": 60}))
    with pytest.raises(NotNow):
        Client(fake.path, timeout_s=1).ping()
    assert len(fake.requests) == 1, "who cannot wait so long need not try"


def test_other_not_now_errors_are_not_repeated(fake: Any, client: Client) -> None:
    fake.handler = lambda f, conn, r: f.error(conn, r, NotNow("nodes busy", code="NODES_BUSY"))
    with pytest.raises(NotNow):
        client.ping()
    assert len(fake.requests) == 1


def test_silence_times_out(fake: Any) -> None:
    fake.handler = lambda f, conn, r: None
    with pytest.raises(TimedOut) as caught:
        Client(fake.path, timeout_s=0.2).ping()
    assert caught.value.exit_status == 5
    assert len(fake.requests) == 1


def test_answer_that_comes_too_late_is_not_taken_for_the_next(fake: Any) -> None:
    late: list[Any] = []

    def handler(f: Any, conn: Any, request: Any) -> None:
        if not late:
            late.append((conn, request))
        else:
            f.reply(conn, request, {"n": 2})

    fake.handler = handler
    client = Client(fake.path, timeout_s=0.2)
    with pytest.raises(TimedOut):
        client.ping()
    client.timeout_s = 10
    assert client.ping() == {"n": 2}


def test_refusal_of_the_connection_is_retried(fake: Any) -> None:
    fake.stop()
    fake.limits = fake.limits.__class__(per_uid_max=1)
    fake.start()
    busy: list[Any] = []

    def handler(f: Any, conn: Any, request: Any) -> None:
        if request.m == "job.why":
            busy.append((conn, request))
        else:
            f.reply(conn, request, {"m": request.m})

    fake.handler = handler
    thread = threading.Thread(target=Client(fake.path).call, args=("job.why",))
    thread.start()
    while not busy:
        thread.join(0.01)
    refusals: list[str] = []

    def refused(error: HelixError, pause: float) -> None:
        refusals.append(error.code)
        if busy:
            held = busy.pop()
            fake.from_outside(lambda: fake.reply(*held, {}))

    client = Client(fake.path, timeout_s=20, on_retry=refused)
    assert client.call("job.requeue", {}) == {"m": "job.requeue"}
    assert refusals == ["TRY_AGAIN"]
    thread.join()


@pytest.mark.parametrize(
    "answer", [b"not json", b"[]", b'{"ok":true}', b'{"i":"x","ok":true}', b"[" * 100_000, b"\xff\xff"]
)
def test_garbage_from_the_server_is_a_protocol_error(fake: Any, client: Client, answer: bytes) -> None:
    fake.handler = lambda f, conn, r: conn.send(answer)
    with pytest.raises(ProtocolError):
        client.ping()


def test_what_cannot_be_sent_is_refused_before_it_is(fake: Any, client: Client) -> None:
    with pytest.raises(LimitExceeded):
        client.call("job.submit", {"script": "x" * (9 << 20)})
    with pytest.raises(UsageError) as caught:
        client.call("job.submit", {"script": "\udcff"})
    assert caught.value.code == "NOT_UTF8"
    with pytest.raises(UsageError):
        client.call("x", {"t": float("nan")})
    assert fake.requests == []
    client.ping()


# ---- many at once


def test_many_submits_are_pipelined_and_come_back_in_order(fake: Any, client: Client) -> None:
    waiting: list[Any] = []
    most = 0

    def handler(f: Any, conn: Any, request: Any) -> None:
        nonlocal most
        waiting.append(request)
        most = max(most, len(waiting))
        if len(waiting) == 8 or len(f.requests) == 100:
            for held in reversed(waiting):
                f.reply(conn, held, {"job_id": held.i})
            waiting.clear()

    fake.handler = handler
    ids = client.submit_many([{"wrap": "true"}] * 100, window=8)
    assert ids == sorted(ids)  # type: ignore[type-var]
    assert len(set(ids)) == 100
    assert most == 8
    tokens = [args["spec"]["token"] for args in fake.args("job.submit")]
    assert len(set(tokens)) == 100


def test_many_submits_survive_lost_connections_without_a_second_job(fake: Any, client: Client) -> None:
    jobs: dict[str, int] = {}

    def handler(f: Any, conn: Any, request: Any) -> None:
        token = f.requests[-1][1]["spec"]["token"]
        job_id = jobs.setdefault(token, len(jobs) + 1)
        if len(f.requests) in (50, 120, 121):
            f.cut(conn)
        else:
            f.reply(conn, request, {"job_id": job_id})

    fake.handler = handler
    ids = client.submit_many([{"wrap": "true"}] * 200, window=16)
    assert sorted(ids) == list(range(1, 201))  # type: ignore[type-var]


def test_errors_among_many_stand_in_their_places(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        name = f.requests[-1][1]["spec"]["name"]
        if name == "bad":
            f.error(conn, request, NotFound("no partition"))
        elif name == "busy" and len(f.requests) <= 3:
            f.error(conn, request, NotNow("busy", data={"retry_after_s": 0.01}))
        else:
            f.reply(conn, request, {"job_id": 5})

    fake.handler = handler
    got = client.submit_many([{"wrap": "x", "name": name} for name in ("good", "bad", "busy")])
    assert got[0] == 5
    assert isinstance(got[1], NotFound)
    assert got[2] == 5


def test_many_with_something_not_repeatable_says_which_was_lost(fake: Any, client: Client) -> None:
    cut: list[int] = []

    def handler(f: Any, conn: Any, request: Any) -> None:
        if request.m == "job.requeue" and not cut:
            cut.append(1)
            f.cut(conn)
        else:
            f.reply(conn, request, {"m": request.m})

    fake.handler = handler
    got = client.call_many([("job.requeue", {"ids": ["1"]}), ("ping", {})])
    assert isinstance(got[0], Unavailable)
    assert got[0].code == "ANSWER_LOST"
    assert got[1] == {"m": "ping"}


def test_large_requests_and_large_answers_do_not_block_each_other(fake: Any, client: Client) -> None:
    fake.handler = lambda f, conn, r: f.reply(conn, r, {"x": "y" * 2_000_000})
    got = client.call_many([("job.list", {"pad": "z" * 1_000_000})] * 24)
    assert all(isinstance(answer, dict) and len(answer["x"]) == 2_000_000 for answer in got)


# ---- streams


def test_rows_of_all_frames_are_collected(fake: Any, client: Client) -> None:
    fake.handler = lambda f, conn, r: f.reply(
        conn,
        r,
        {"columns": ["job_id", "state"], "rows": [[1, "RUNNING"], [2, "COMPLETED"]]},
        {"columns": ["job_id", "state"], "rows": [[3, "PENDING"]]},
    )
    jobs = client.queue(users="me", states=["R", "PD"], ids=None)
    assert [(j.job_id, j.is_over) for j in jobs] == [(1, False), (2, True), (3, False)]
    assert fake.requests[-1][1] == {"filter": {"users": ["me"], "states": ["R", "PD"]}}


def test_listing_that_breaks_off_is_read_again_from_the_start(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        frames = [{"columns": ["name"], "rows": [["n1"]]}, {"columns": ["name"], "rows": [["n2"]]}]
        if len(f.requests) == 1:
            conn.send(encode_reply(request.i, frames[0], more=True))
            conn.close()
        else:
            f.reply(conn, request, *frames)

    fake.handler = handler
    assert [n.name for n in client.nodes()] == ["n1", "n2"]


def test_wait_returns_as_jobs_end_and_survives_a_lost_connection(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        ids = f.requests[-1][1]["ids"]
        end = {"job_id": int(ids[0]), "display_id": ids[0], "state": "COMPLETED", "exit_code": "0:0"}
        conn.send(encode_reply(request.i, end, more=len(ids) > 1))
        if len(ids) > 1:
            conn.close()

    fake.handler = handler
    ends = client.wait([1, "2", Job(display_id="3")])
    assert [(e.display_id, e.is_ok) for e in ends] == [("1", True), ("2", True), ("3", True)]
    assert [args["ids"] for args in fake.args("job.wait")] == [["1", "2", "3"], ["2", "3"], ["3"]]


def test_wait_gives_up_in_time_and_says_what_is_left(fake: Any, client: Client) -> None:
    fake.handler = lambda f, conn, r: None
    with pytest.raises(TimedOut) as caught:
        client.wait([1, 2], timeout_s=0.2)
    assert caught.value.data["left"] == ["1", "2"]


def test_events_resume_at_their_cursor(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        at = f.requests[-1][1]["cursor"]
        events = [{"cursor": at + k, "kind": "job", "id": 1, "old": "PENDING", "new": "RUNNING"} for k in (1, 2)]
        conn.send(encode_reply(request.i, {"events": events, "cursor": at + 2}, more=True))
        conn.close()

    fake.handler = handler
    stream = client.events(cursor=10)
    assert [next(stream).cursor for _ in range(6)] == [11, 12, 13, 14, 15, 16]
    assert [args["cursor"] for args in fake.args("events.watch")] == [10, 12, 14]


def test_events_whose_past_is_gone_say_so(fake: Any, client: Client) -> None:
    fake.handler = lambda f, conn, r: f.error(conn, r, Conflict("too old", code="COMPACTED"))
    with pytest.raises(Conflict) as caught:
        next(iter(client.events(cursor=1)))
    assert caught.value.code == "COMPACTED"


def test_log_resumes_where_it_broke(fake: Any, client: Client) -> None:
    text = b"0123456789" * 3

    def handler(f: Any, conn: Any, request: Any) -> None:
        at = f.requests[-1][1].get("offset", 0)
        piece = text[at : at + 10]
        frame = {"data_b64": base64.b64encode(piece).decode(), "offset": at}
        conn.send(encode_reply(request.i, frame, more=at < 20))
        if at < 20:
            conn.close()

    fake.handler = handler
    assert b"".join(client.log(5, follow=True)) == text
    assert [a.get("offset", 0) for a in fake.args("job.log")] == [0, 10, 20]


def test_stream_that_is_left_early_closes_its_connection_and_others_go_on(fake: Any, client: Client) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if request.m == "events.watch":
            conn.send(encode_reply(request.i, {"events": [{"cursor": 1}], "cursor": 1}, more=True))
        else:
            f.reply(conn, request, {"ok": 1})

    fake.handler = handler
    stream = client.events()
    assert next(iter(stream)).cursor == 1
    assert client.ping() == {"ok": 1}, "calls while a stream is being read"
    stream.close()  # type: ignore[attr-defined]
    assert client.ping() == {"ok": 1}


def test_cancel_of_everything_by_mistake_is_refused(client: Client, fake: Any) -> None:
    with pytest.raises(UsageError):
        client.cancel()
    client.cancel([1, "2_3"], signal=10)
    client.cancel(users="me")
    assert fake.args("job.cancel") == [
        {"filter": {"ids": ["1", "2_3"]}, "signal": 10},
        {"filter": {"users": ["me"]}},
    ]


# ---- the pure parts


def test_patience_grows_and_is_jittered_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = calls.Patience(0.0, 100.0, 3.0)
    down = Unavailable("down")
    pauses = [patience.pause(down, 0.0) for _ in range(12)]
    assert all(0.02 <= pause <= 7.6 for pause in pauses)
    assert max(pauses[:2]) < 0.2 < max(pauses[8:])
    with pytest.raises(Unavailable):
        patience.pause(down, 3.0)
    patience.answered()
    assert patience.pause(down, 50.0) < 0.2
    with pytest.raises(Unavailable):
        patience.pause(down, 99.99)
    assert calls.Patience(0.0, None, 0.0).pause(down, 1e9, sent=True) > 0


def test_ids_are_understood_in_all_their_forms() -> None:
    assert calls.id_list(12) == ["12"]
    assert calls.id_list("12,13;14") == ["12", "13", "14"]
    assert calls.id_list("12_[1,3-5]") == ["12_[1,3-5]"]
    assert calls.id_list([1, "2,3", Job(display_id="4_1")]) == ["1", "2", "3", "4_1"]


def test_package_names_its_version_and_loads_clients_when_asked() -> None:
    project = tomllib.loads((Path(helix.__file__).parent.parent / "pyproject.toml").read_text())
    assert helix.__version__ == project["project"]["version"]
    assert helix.Client is Client
    with pytest.raises(AttributeError):
        _ = helix.Nothing  # type: ignore[attr-defined]


def test_importing_the_client_loads_nothing_heavy() -> None:
    code = "import helix.client, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]}
    ).stdout.split()
    heavy = {
        "msgspec",
        "zmq",
        "asyncio",
        "numpy",
        "numba",
        "cryptography",
        "dataclasses",
        "logging",
        "secrets",
        "random",
    }
    assert heavy.isdisjoint(loaded)
