"""What is free over time, as the look-ahead specification keeps it: step functions over slots, in plain numpy.

A slot is `resolution_s` seconds; slot 0 begins now.  Ends are rounded up to slots, begins down, so that nothing is
ever thought free that is not.  FAR stands for every slot that no plan reaches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from helix_native.arrays import Int64

FAR = 1 << 30  #: slots; for ever


def slots_up(seconds: int, resolution_s: int) -> int:
    """Slots that `seconds` seconds take, rounded up; at most FAR."""
    return min(FAR, -(-seconds // resolution_s))


def slots_down(seconds: int, resolution_s: int) -> int:
    """The slot that second lies in; at most FAR."""
    return min(FAR, seconds // resolution_s)


class Steps:
    """Amounts of several kinds that are free, constant from `times[i]` to `times[i + 1]`, the last one for ever."""

    def __init__(self, free: Int64) -> None:
        self.times = [0]
        self.free = [free.astype(np.int64)]

    def _split(self, t: int) -> int:
        at = bisect_left(self.times, t)
        if at == len(self.times) or self.times[at] != t:
            self.times.insert(at, t)
            self.free.insert(at, self.free[at - 1].copy())
        return at

    def take(self, begin: int, end: int, amounts: Int64) -> None:
        """Take `amounts` in [begin, end), which must not be empty; negative amounts give back."""
        first = self._split(begin)
        last = len(self.times) if end >= FAR else self._split(end)
        for i in range(first, last):
            self.free[i] = self.free[i] - amounts
        for i in (last, first):  # equal neighbours are one step
            if 0 < i < len(self.times) and (self.free[i] == self.free[i - 1]).all():
                del self.times[i], self.free[i]

    def clear(self, begin: int, end: int) -> None:
        """Nothing is free in [begin, end)."""
        if begin >= end:
            return
        first = self._split(begin)
        last = len(self.times) if end >= FAR else self._split(end)
        for i in range(first, last):
            self.free[i] = np.zeros_like(self.free[i])

    def clamp(self) -> None:
        """What is less than nothing becomes nothing."""
        self.free = [np.maximum(free, 0) for free in self.free]

    def at(self, t: int) -> Int64:
        """What is free in slot t."""
        return self.free[bisect_right(self.times, t) - 1]

    def low(self, begin: int, end: int) -> Int64:
        """The least that is free in [begin, end), kind by kind."""
        first = bisect_right(self.times, begin) - 1
        last = max(first + 1, bisect_left(self.times, end))
        least: Int64 = np.minimum.reduce(self.free[first:last])
        return least

    def holds(self, begin: int, end: int, amounts: Int64) -> bool:
        """Whether `amounts` are free throughout [begin, end)."""
        return bool((self.low(begin, end) >= amounts).all())

    def longest(self, begin: int, end: int, amounts: Int64) -> int:
        """The last slot up to which `amounts` are free from `begin` on, at most `end`."""
        for i in range(bisect_right(self.times, begin) - 1, len(self.times)):
            if self.times[i] >= end:
                break
            if (self.free[i] < amounts).any():
                return max(begin, self.times[i])
        return end
