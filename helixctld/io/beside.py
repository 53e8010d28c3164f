"""Questions that plan (hwhy, hsubmit --test-only): their kernels run beside the loop, the rest of them on its turns.

A question runs on a thread of its own that works only while the loop waits for it, as if it were called there, so it
may read the state and the columns; for each plan it gives the loop back and takes its next turn when the plan is made.
A turn takes a few milliseconds, a plan as long as it likes.  `Forecast` says `Changed` where a plan was made for a
cluster that has changed meanwhile: the question is asked again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from helix.errors import NotNow
from helixctld.schedule.forecast import Beside, Changed

T = TypeVar("T")

THREADS = 2  #: questions answered at a time
QUESTIONS_MAX = 32  #: that wait or are being answered
OF_ONE_MAX = 8  #: of one user
ATTEMPTS = 3
RETRY_S = 1.0


class Questions:
    """Asks them; one of these a daemon."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="asking")
        self._open: dict[_Turns, int] = {}  # -> uid of who asks
        self._stopped = False

    async def ask(self, uid: int, question: Callable[[Beside], T]) -> T:
        """The answer for user `uid`.  Raises what the question raises, and NotNow (TRY_AGAIN) where too many are being
        answered, for that user or at all, or the cluster does not stand still."""
        if self._stopped or len(self._open) >= QUESTIONS_MAX:
            raise _not_now(f"{len(self._open)} questions about starts are being answered already")
        own = sum(who == uid for who in self._open.values())
        if own >= OF_ONE_MAX:
            raise _not_now(f"{own} questions of yours about starts are being answered already")
        turns = _Turns(self._loop)
        self._open[turns] = uid
        try:
            for _ in range(ATTEMPTS):
                try:
                    return await self._loop.run_in_executor(self._pool, turns.run, question)
                except Changed:
                    continue
        finally:
            del self._open[turns]
        raise _not_now("nodes and limits are changing too quickly to plan for one job")

    def stop(self) -> None:
        """No more questions; those under way end at their next turn."""
        self._stopped = True
        for turns in self._open:
            turns.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Turns:
    """The baton between the loop and the thread of one question."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._mine = threading.Event()  # the thread may go on
        self._given_back = threading.Event()  # the loop may
        self._cancelled = False

    def run(self, question: Callable[[Beside], T]) -> T:
        """The whole question; on its thread."""
        self._take()
        try:
            return question(self._beside)
        finally:
            self._given_back.set()

    def cancel(self) -> None:
        """Let the thread end; on the loop, which gives no more turns."""
        self._cancelled = True
        self._mine.set()

    def _beside(self, plan: Callable[[], Any]) -> Any:
        """Make a plan while the loop goes on."""
        self._given_back.set()
        try:
            return plan()
        finally:
            self._take()

    def _take(self) -> None:
        if not self._cancelled:
            self._loop.call_soon_threadsafe(self._give)
            self._mine.wait()
        self._mine.clear()
        if self._cancelled:
            raise _not_now("the controller is stopping")

    def _give(self) -> None:
        """A turn; on the loop, until the thread gives it back."""
        if self._cancelled:
            return
        self._given_back.clear()
        self._mine.set()
        self._given_back.wait()


def _not_now(why: str) -> NotNow:
    return NotNow(
        why, code="TRY_AGAIN", hint="the commands wait and try again by themselves", data={"retry_after_s": RETRY_S}
    )
