"""Questions that plan: their Python runs on the loop's turns, their plans beside it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers.sched_world import World

from helix.errors import NotNow, UsageError
from helix_plugins.sched.backfill import Backfill
from helixctld.io import beside
from helixctld.io.beside import Questions
from helixctld.schedule.forecast import Beside, Changed
from helixctld.schedule.why import why


def ask(*questions: Callable[[Beside], Any], uid: int = -1) -> list[Any]:
    """Answers, or what was raised in place of them; asked by `uid`, -1 = each by another user."""

    async def run() -> list[Any]:
        asking = Questions(asyncio.get_running_loop())
        try:
            return await asyncio.gather(
                *(asking.ask(uid if uid >= 0 else i, q) for i, q in enumerate(questions)), return_exceptions=True
            )
        finally:
            asking.stop()

    return asyncio.run(run())


def test_an_answer_is_what_it_would_be_at_once() -> None:
    w = World(2, planner=Backfill())
    for _ in range(2):
        w.submit(exclusive=True, time_limit_s=600)
    w.run()
    job = w.submit(nodes_min=2, time_limit_s=3600)
    w.run()
    state, cycle = w.state, w.cycle
    (found,) = ask(lambda turn: why(state, job, cycle.columns, w.now, cycle.outlook, turn))
    assert found == w.why(job)
    assert "waits for 2 nodes" in found["text"]


def test_the_loop_goes_on_while_a_plan_is_made() -> None:
    went_on = threading.Event()

    def question(turn: Beside) -> bool:
        asyncio_loop.call_soon_threadsafe(went_on.set)
        assert not went_on.is_set()  # the loop waits for this turn
        return bool(turn(lambda: went_on.wait(30)))

    async def run() -> bool:
        nonlocal asyncio_loop
        asyncio_loop = asyncio.get_running_loop()
        asking = Questions(asyncio_loop)
        try:
            return await asking.ask(0, question)
        finally:
            asking.stop()

    asyncio_loop: asyncio.AbstractEventLoop
    assert asyncio.run(run())


def test_turns_of_several_questions_never_overlap() -> None:
    inside: list[int] = []

    def question(number: int) -> Callable[[Beside], int]:
        def run(turn: Beside) -> int:
            for _ in range(20):
                assert not inside
                inside.append(number)
                assert inside == [number]
                inside.clear()
                turn(lambda: None)
            return number

        return run

    assert ask(*map(question, range(6))) == list(range(6))


def test_too_many_are_told_to_try_again() -> None:
    found = ask(*[lambda turn: turn(lambda: 1)] * (beside.QUESTIONS_MAX + 3))
    refused = [answer for answer in found if answer != 1]
    assert len(refused) == 3
    assert all(isinstance(error, NotNow) and error.code == "TRY_AGAIN" for error in refused)
    assert "32 questions about starts" in refused[0].msg


def test_one_user_does_not_take_the_places_of_all() -> None:
    found = ask(*[lambda turn: turn(lambda: 1)] * (beside.OF_ONE_MAX + 2), uid=1000)
    refused = [answer for answer in found if answer != 1]
    assert len(refused) == 2
    assert all(isinstance(error, NotNow) and "8 questions of yours" in error.msg for error in refused)


def test_a_question_is_asked_again_when_the_cluster_changed() -> None:
    asked: list[int] = []

    def question(turn: Beside) -> int:
        asked.append(turn(lambda: 1))
        if len(asked) < beside.ATTEMPTS:
            raise Changed
        return len(asked)

    assert ask(question) == [beside.ATTEMPTS]

    def never(turn: Beside) -> int:
        raise Changed

    (error,) = ask(never)
    assert isinstance(error, NotNow)


def test_a_plan_for_nodes_that_are_gone_is_not_an_answer() -> None:
    w = World(2, planner=Backfill())
    w.submit(exclusive=True, time_limit_s=600)
    w.run()
    job = w.submit(nodes_min=2, time_limit_s=3600)
    w.run()

    def meanwhile(plan: Callable[[], Any]) -> Any:
        result = plan()
        w.state.set_nodes([node for node in w.state.nodes.values() if node.name == "n1"])
        w.cycle.columns.update_cluster(w.state)
        return result

    with pytest.raises(Changed):
        w.feasibility.test_only(w.state, job, w.now, meanwhile)


def test_faults_of_a_question_are_its_askers() -> None:
    def question(turn: Beside) -> None:
        turn(lambda: None)
        raise UsageError("no such thing", code="BAD_ARGUMENT")

    (error,) = ask(question)
    assert isinstance(error, UsageError)


def test_a_stop_ends_questions_under_way() -> None:
    async def run() -> NotNow:
        asking = Questions(asyncio.get_running_loop())
        planning, stopped = threading.Event(), threading.Event()

        def plan() -> None:
            planning.set()
            stopped.wait(30)

        task = asyncio.ensure_future(asking.ask(0, lambda turn: turn(plan)))
        await asyncio.get_running_loop().run_in_executor(None, planning.wait, 30)
        asking.stop()
        stopped.set()
        with pytest.raises(NotNow, match="stopping") as refused:
            await task
        with pytest.raises(NotNow):
            await asking.ask(0, lambda turn: 1)
        return refused.value

    assert asyncio.run(run()).code == "TRY_AGAIN"
