"""A progress bar on standard error, for people: nothing is shown unless that is a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

WIDTH = 30
EVERY_S = 0.2


class Progress:
    """`tell(done)` redraws at most every EVERY_S seconds; the line is wiped at the end."""

    def __init__(self, what: str, total: int, *, quiet: bool = False) -> None:
        self.what = what
        self.total = max(1, total)
        self.shown = not quiet and sys.stderr.isatty()
        self._began = self._drawn = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def tell(self, done: int) -> None:
        """So many are done."""
        now = time.monotonic()
        if not self.shown or now - self._drawn < EVERY_S:
            return
        self._drawn = now
        share = min(1.0, done / self.total)
        left_s = (now - self._began) * (1 - share) / share if share else 0.0
        bar = "#" * int(share * WIDTH)
        sys.stderr.write(f"\r[{bar:<{WIDTH}}] {share:4.0%} {done}/{self.total} {self.what}, {left_s:.0f} s left\033[K")
        sys.stderr.flush()
