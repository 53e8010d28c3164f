"""The asyncio client."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from helix import AsyncClient
from helix.errors import Conflict, NotFound, NotNow, ProtocolError, TimedOut, Unavailable
from helix.wire.codec import encode_error, encode_reply


def run(fake: Any, body: Callable[[AsyncClient], Awaitable[None]], **options: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30), AsyncClient(fake.path, **options) as client:
            await body(client)
        left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        assert left == [], "no task outlives the client"

    asyncio.run(bounded())


def test_many_calls_share_one_connection_and_may_be_answered_out_of_order(fake: Any) -> None:
    waiting: list[Any] = []

    def handler(f: Any, conn: Any, request: Any) -> None:
        waiting.append(request)
        if len(waiting) == 50:
            for held in reversed(waiting):
                f.reply(conn, held, {"job_id": held.i})

    fake.handler = handler

    async def body(client: AsyncClient) -> None:
        ids = await asyncio.gather(*(client.submit(wrap="true") for _ in range(50)))
        assert len(set(ids)) == 50

    run(fake, body)
    fake.stop()
    assert fake.accepted == 1


def test_errors_are_raised_and_busy_is_retried(fake: Any) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if request.m == "job.show":
            f.error(conn, request, NotFound("no", code="JOB_UNKNOWN"))
        elif len(f.args("ping")) < 3:
            f.error(conn, request, NotNow("busy", data={"retry_after_s": 0.01}))
        else:
            f.reply(conn, request, {"ok": 1})

    fake.handler = handler

    async def body(client: AsyncClient) -> None:
        assert await client.ping() == {"ok": 1}
        with pytest.raises(NotFound):
            await client.job(1)

    run(fake, body)


def test_submit_whose_answer_is_lost_makes_one_job(fake: Any) -> None:
    jobs: dict[str, int] = {}

    def handler(f: Any, conn: Any, request: Any) -> None:
        token = f.requests[-1][1]["spec"]["token"]
        job_id = jobs.setdefault(token, len(jobs) + 1)
        if len(f.requests) % 7 == 1:
            f.cut(conn)
        else:
            f.reply(conn, request, {"job_id": job_id})

    fake.handler = handler

    async def body(client: AsyncClient) -> None:
        ids = await client.submit_many([{"wrap": "true"}] * 40, window=4)
        assert sorted(ids) == list(range(1, 41))  # type: ignore[type-var]

    run(fake, body)


def test_not_repeatable_call_whose_answer_is_lost_says_so(fake: Any) -> None:
    fake.handler = lambda f, conn, r: f.cut(conn)

    async def body(client: AsyncClient) -> None:
        with pytest.raises(Unavailable) as caught:
            await client.requeue(1)
        assert caught.value.code == "ANSWER_LOST"
        assert len(fake.requests) == 1

    run(fake, body)


def test_relay_that_loses_its_controller_leaves_open_what_was_done(fake: Any) -> None:
    def handler(f: Any, conn: Any, request: Any) -> None:
        if len(f.args(request.m)) == 1:
            conn.send(encode_error(0, Unavailable("the controller is gone")))
            conn.close()
        else:
            f.reply(conn, request, {"m": request.m})

    fake.handler = handler

    async def body(client: AsyncClient) -> None:
        with pytest.raises(Unavailable, match="the controller is gone") as caught:
            await client.requeue(1)
        assert caught.value.code == "ANSWER_LOST"
        assert (await client.ping())["m"] == "ping"
        assert [frame async for frame in client.stream("job.show")] == [{"m": "job.show"}]

    run(fake, body)


def test_nobody_there_is_unavailable_naming_the_socket(tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(Unavailable, match="nowhere"):
            await AsyncClient(tmp_path / "nowhere", connect_s=0.1).ping()

    asyncio.run(body())


def test_silence_times_out_and_the_connection_serves_on(fake: Any) -> None:
    fake.handler = lambda f, conn, r: None if r.m == "job.why" else f.reply(conn, r, {"ok": 1})

    async def body(client: AsyncClient) -> None:
        with pytest.raises(TimedOut):
            await client.call("job.why", {"ids": ["1"]}, timeout_s=0.1)
        assert await client.ping() == {"ok": 1}

    run(fake, body)


def test_garbage_from_the_server_is_a_protocol_error(fake: Any) -> None:
    fake.handler = lambda f, conn, r: conn.send(b"garbage")

    async def body(client: AsyncClient) -> None:
        with pytest.raises(ProtocolError):
            await client.ping()

    run(fake, body)


def test_listing_wait_events_and_log(fake: Any) -> None:
    text = b"0123456789" * 2

    def handler(f: Any, conn: Any, request: Any) -> None:
        args = f.requests[-1][1]
        if request.m == "job.list":
            f.reply(conn, request, {"columns": ["job_id"], "rows": [[1]]}, {"columns": ["job_id"], "rows": [[2]]})
        elif request.m == "job.wait":
            ids = args["ids"]
            end = {"job_id": int(ids[0]), "display_id": ids[0], "state": "FAILED"}
            conn.send(encode_reply(request.i, end, more=len(ids) > 1))
            if len(ids) > 1:
                conn.close()
        elif request.m == "events.watch":
            at = args["cursor"]
            conn.send(encode_reply(request.i, {"events": [{"cursor": at + 1}], "cursor": at + 1}, more=True))
            conn.close()
        else:
            at = args.get("offset", 0)
            frame = {"data_b64": base64.b64encode(text[at : at + 10]).decode(), "offset": at}
            conn.send(encode_reply(request.i, frame, more=at < 10))
            if at < 10:
                conn.close()

    fake.handler = handler

    async def body(client: AsyncClient) -> None:
        assert [j.job_id for j in await client.queue()] == [1, 2]
        assert [e.display_id for e in await client.wait([7, 8])] == ["7", "8"]
        events = client.events(cursor=3)
        assert [(await anext(events)).cursor for _ in range(3)] == [4, 5, 6]
        await events.aclose()  # type: ignore[attr-defined]
        assert b"".join([piece async for piece in client.log(1, follow=True)]) == text

    run(fake, body)


def test_wait_gives_up_in_time(fake: Any) -> None:
    fake.handler = lambda f, conn, r: None

    async def body(client: AsyncClient) -> None:
        with pytest.raises(TimedOut) as caught:
            await client.wait([1, 2], timeout_s=0.1)
        assert caught.value.data["left"] == ["1", "2"]

    run(fake, body)


def test_compacted_events_are_a_conflict(fake: Any) -> None:
    fake.handler = lambda f, conn, r: f.error(conn, r, Conflict("too old", code="COMPACTED"))

    async def body(client: AsyncClient) -> None:
        with pytest.raises(Conflict):
            await anext(client.events(cursor=1))

    run(fake, body)


def test_both_clients_offer_the_same_methods() -> None:
    from helix import Client

    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
