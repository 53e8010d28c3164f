"""Preemption and time slices in the daemon: what `helixctld.schedule` finds is committed here.

Called around each pass, on the loop's thread.  Events of one step are applied before the next step looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

from helix.config.keys import PARAMS
from helix.config.model import Config
from helix.config.values import default_value, parse_value
from helix.errors import HelixError
from helix.model import events as ev
from helix.plugin.registry import load_plugin
from helix.sched.preempt import PreemptRules
from helixctld.core.state import State
from helixctld.io.commit import Committer
from helixctld.schedule.cycle import Cycle
from helixctld.schedule.room import Room

log = logging.getLogger("helixctld.preempt")


def preempt_rules(config: Config) -> PreemptRules:
    """What the configuration says about preemption and time slices."""
    texts = {name.lower(): text for name, text in config.preempt_parameters.items()}
    found: dict[str, Any] = {}
    for key in PARAMS["PreemptParameters"]:
        if not key.attr or key.attr not in PreemptRules.__slots__:
            continue
        text = texts.get(key.name.lower())
        found[key.attr] = default_value(key) if text is None else text == "" or parse_value(key, text)
    return PreemptRules(
        modes=config.preempt_mode,
        exempt_s=config.preempt_exempt_time_s or 0,
        time_slice_s=config.scheduler_time_slice_s,
        requeue_default=config.job_requeue,
        **found,
    )


class MakingRoom:
    """One controller's preemption and time slices."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: State,
        committer: Committer,
        cycle: Cycle,
        config: Config,
        clock: Callable[[], float],
    ) -> None:
        """Raises ConfigError for a plugin that does not exist."""
        self.room = Room(
            cycle.columns,
            load_plugin("preempt", config.preempt_type, config.plugin_dir),
            preempt_rules(config),
            cycle.select.pick_cpus,
            cycle.outlook,
            cycle.timer,
        )
        self._loop = loop
        self._state = state
        state.preempt_rules = self.room.rules
        self._committer = committer
        self._clock = clock
        self._slice: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None

    def set_config(self, config: Config) -> None:
        """A live change of the configuration; the plugin stays."""
        self._state.preempt_rules = self.room.rules = preempt_rules(config)

    def stop(self) -> None:
        """No more slices."""
        for timer in (self._slice, self._again):
            if timer is not None:
                timer.cancel()

    def before_pass(self, now: float) -> None:
        """Start jobs whose claims have come free."""
        self._commit_all(self.room.before_pass(self._state, now))

    def after_pass(self, now: float, wake: Callable[[], None]) -> None:
        """Let jobs make room for those that still wait, then let suspended ones go on that can.

        `wake`: called when somebody could make room who may not yet.
        """
        self._commit_all(self.room.after_pass(self._state, now))
        if self.room.t_again:
            if self._again is not None:
                self._again.cancel()
            self._again = self._loop.call_later(max(0.01, self.room.t_again - self._clock()), wake)
        self._begin_slice()

    def _commit_all(self, steps: Iterator[list[ev.Event]]) -> None:
        try:
            for events in steps:
                log.debug("room: %s", [(type(event).__name__, getattr(event, "job_id", 0)) for event in events])
                self._committer.commit(events)
        except HelixError as exc:  # the journal takes no more: they wait, the next pass tries again
            log.warning("nobody makes room: %s", exc.msg)

    def _begin_slice(self) -> None:
        if self._slice is None and (slice_s := self.room.slice_s(self._state)):
            self._slice = self._loop.call_later(slice_s, self._end_slice)

    def _end_slice(self) -> None:
        """Others' turn."""
        self._slice = None
        if events := self.room.end_slice(self._state, self._clock()):
            self._commit_all(iter([events]))
        self._begin_slice()

    def counters(self) -> dict[str, int]:
        """For hdiag."""
        return self.room.counters
