"""When to plan: as soon as something changed that may let a job start, but not so often that planning is all we do.

Pure: every method takes `now` (any monotonic seconds).  A pass may start when something became schedulable or
resources became free; the gap after a pass is at least `SPACING` times what the pass cost the loop, so that under
load changes gather and passes take at most a quarter of the loop; and never more than `GAP_MAX_S`.
"""

from __future__ import annotations

from helix.sched.options import SchedOptions

SPACING = 3.0
GAP_MAX_S = 0.05  #: a quick pass comes within this time of what wakes it, however much passes cost


class Pace:
    """Decides the time of the next pass.  At most one pass is under way."""

    def __init__(self, options: SchedOptions) -> None:
        self.options = options
        self.running = False
        self._wanted_at: float | None = None  # a pass is wanted, not before this time
        self._free_at = float("-inf")  # no pass before this time
        self._full_at: float | None = None  # a pass although nothing happened, while jobs wait

    def wake(self, now: float, *, submit: bool = False) -> None:
        """Something may be able to start; `submit`: because of a new job only (gathered under `defer`)."""
        at = now + self.options.batch_delay_s if submit and self.options.defer else now
        if self._wanted_at is None or at < self._wanted_at:
            self._wanted_at = at

    def due(self, now: float) -> bool:
        """True if a pass should start now."""
        at = self.next_at()
        return at is not None and at <= now

    def next_at(self) -> float | None:
        """When to ask again, None if only an event can make a pass due (or one is under way)."""
        if self.running:
            return None
        times = [t for t in (self._wanted_at, self._full_at) if t is not None]
        return max(min(times), self._free_at) if times else None

    def started(self, now: float) -> None:
        """A pass begins; what happens from now on is for the next."""
        self.running = True
        self._wanted_at = self._full_at = None

    def finished(self, now: float, loop_cost_s: float, *, again_s: float | None, waiting: bool) -> None:
        """A pass is committed.  `loop_cost_s`: time it took from the loop; `again_s`: seconds after which it is to
        be repeated (it stopped short, met conflicts, or failed); `waiting`: jobs are still in the queue."""
        self.running = False
        gap = min(max(SPACING * loop_cost_s, self.options.min_interval_s), max(GAP_MAX_S, self.options.min_interval_s))
        self._free_at = now + gap
        if again_s is not None:
            self.wake(now + again_s)
        self._full_at = now + self.options.interval_s if waiting else None
