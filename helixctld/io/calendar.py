"""The calendar of reservations on the wall clock: APScheduler calls when one begins, ends, comes again or is purged.

Each reservation has at most one entry, for the next moment that `reservation_due.moment_of` names; what then happens
is decided by the pure core and journaled.  The controller's own tick asks too, so that a stepped clock does no harm.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from helix.config.model import Config
from helix.errors import HelixError
from helixctld.core import reservation_due
from helixctld.core.state import State
from helixctld.io.commit import Committer

log = logging.getLogger("helixctld.calendar")

_OVER_RUN = "over run"  # entries that are not reservations have a space in their name
_REPLACE = "replace nodes"
_ROUNDS_MAX = 100  #: events that follow at once from those before
_FAR_S = 366 * 86400.0  #: moments further away are looked at again by then


class Calendar:
    """Owns the scheduler; everything runs on the event loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: State,
        committer: Committer,
        config: Callable[[], Config],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`config` gives the configuration in force."""
        self._state = state
        self._committer = committer
        self._config = config
        self._clock = clock
        self._entries: dict[str, float] = {}  # what is in the scheduler: name -> moment
        self._scheduler = AsyncIOScheduler(event_loop=loop, timezone=UTC)
        self._looking = False
        self._seen = -1  # the version of the calendar that the entries are of
        self._next = 0.0  # the first of their moments
        logging.getLogger("apscheduler").setLevel(logging.WARNING)

    def start(self) -> None:
        """Begin; the loop runs."""
        self._scheduler.start()
        self.look()

    def stop(self) -> None:
        """No more calls."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def tick(self) -> None:
        """Something changed, or time went by: cheap while there is nothing to do."""
        if self._seen != self._state.calendar_version or self._clock() >= self._next:
            self.look()

    def look(self) -> None:
        """Do what is due, then enter what comes next."""
        if self._looking or not self._scheduler.running:
            return
        self._looking = True
        try:
            over_run_min = self._config().resv_over_run_min
            over_run_s = None if over_run_min is None else 60 * over_run_min
            for _ in range(_ROUNDS_MAX):
                now = self._clock()
                if reservation_due.next_due(self._state) > now:
                    break
                events = reservation_due.due(self._state, now, over_run_s)
                for event in events:
                    log.info("%s %s", type(event).__name__, getattr(event, "name", ""))
                self._committer.commit(events)
        except HelixError as exc:  # the queue to a full disk: what is due stays due
            log.warning("what is due for reservations waits: %s", exc.msg)
            self._state.rebuild(self._clock())
        finally:
            self._looking = False
        self.sync()

    def sync(self) -> None:
        """Make the scheduler's entries those that the state calls for."""
        if not self._scheduler.running:
            return
        wanted = {r.name: reservation_due.moment_of(r) for r in self._state.reservations.values()}
        if self._state.over_run:
            wanted[_OVER_RUN] = self._state.over_run[0][0]
        limit = self._clock() + _FAR_S
        wanted = {name: min(t, limit) for name, t in wanted.items() if t != float("inf")}
        for name in self._entries.keys() - wanted.keys():
            self._drop(name)
        for name, t in wanted.items():
            if self._entries.get(name) != t:
                self._enter(name, t)
        self._entries = wanted
        self._seen = self._state.calendar_version
        self._next = min(wanted.values(), default=float("inf"))
        replacing = self._scheduler.get_job(_REPLACE) is not None
        if reservation_due.wants_replacements(self._state) != replacing:
            if replacing:
                self._drop(_REPLACE)
            else:
                every = IntervalTrigger(seconds=int(reservation_due.REPLACE_EVERY_S), timezone=UTC)
                self._scheduler.add_job(self._replace, every, id=_REPLACE, coalesce=True, misfire_grace_time=None)

    def _enter(self, name: str, t: float) -> None:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=t)
        self._scheduler.add_job(
            self._due, DateTrigger(at, timezone=UTC), id=name, replace_existing=True, coalesce=True,
            misfire_grace_time=None,
        )  # fmt: skip

    def _drop(self, name: str) -> None:
        try:
            self._scheduler.remove_job(name)
        except JobLookupError:  # a date has been called and is gone by itself
            log.debug("entry %s is gone already", name)

    async def _due(self) -> None:
        """Called by the scheduler; a coroutine, so that it runs on the loop and not in a thread."""
        self.look()

    async def _replace(self) -> None:
        try:
            self._committer.commit(reservation_due.replacements(self._state, self._clock()))
        except HelixError as exc:
            log.warning("replacing nodes of reservations waits: %s", exc.msg)
        self.sync()
