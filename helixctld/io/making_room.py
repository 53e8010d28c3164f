"""Preemption and time slices in the daemon: what `helixctld.schedule` finds is committed here.

Called around each pass, on the loop's thread.  Events of one step are applied before the next step looks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from helix.config.keys import PARAMS
from helix.config.model import Config
from helix.config.values import default_value, parse_value
from helix.errors import HelixError
from helix.plugin.registry import load_plugin
from helix.sched.preempt import PreemptRules
from helixctld.core.state import State
from helixctld.io.commit import Committer
from helixctld.schedule.cycle import Cycle
from helixctld.schedule.preempting import Preempting

log = logging.getLogger("helixctld.preempt")

ROUNDS_MAX = 64  #: jobs made room for after one pass


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
    """One controller's preemption."""

    def __init__(self, state: State, committer: Committer, cycle: Cycle, config: Config) -> None:
        """Raises ConfigError for a plugin that does not exist."""
        self._state = state
        self._committer = committer
        self.preempting = Preempting(
            cycle.columns,
            load_plugin("preempt", config.preempt_type, config.plugin_dir),
            preempt_rules(config),
            cycle.select.pick_cpus,
        )

    def set_config(self, config: Config) -> None:
        """A live change of the configuration; the plugin stays."""
        self.preempting.rules = preempt_rules(config)

    def before_pass(self, now: float) -> None:
        """Start jobs whose claims have come free."""
        if not self._state.claims:
            return
        try:
            for events in self.preempting.claims(self._state, now):
                self._committer.commit(events)
        except HelixError as exc:  # the journal takes no more: claims stay, the next pass looks again
            log.warning("claims wait: %s", exc.msg)

    def after_pass(self, now: float, wake_at: Callable[[float], None]) -> None:
        """Let jobs make room for those that still wait, then let suspended ones go on that can.

        `wake_at`: called with the time from which somebody could make room who may not yet (epoch seconds).
        """
        state, preempting = self._state, self.preempting
        passed: set[int] = set()
        try:
            for _ in range(ROUNDS_MAX):
                found = preempting.preempt(state, now, passed)
                if found is None:
                    break
                if not found.events and found.start is None:
                    wake_at(found.t_again)
                    break
                if found.events:
                    log.info("jobs make room: %s", [getattr(event, "job_id", 0) for event in found.events])
                    self._committer.commit(found.events)
                if found.start is not None:
                    self._committer.commit(preempting.start(state, found.start, now))
            if state.yielding and (back := preempting.resumes(state, now)):
                self._committer.commit(back)
        except HelixError as exc:  # as above
            log.warning("preemption waits: %s", exc.msg)
