"""Token buckets, for callers and for log lines.  Time is passed in (monotonic seconds): nothing here reads a clock."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable


class TokenBucket:
    """`burst` tokens at most, `rate` more each second.  Starts full."""

    __slots__ = ("_t", "_tokens", "burst", "rate")

    def __init__(self, burst: float, rate: float) -> None:
        if burst <= 0 or rate <= 0:
            raise ValueError("burst and rate must be positive")
        self.burst = float(burst)
        self.rate = float(rate)
        self._tokens = self.burst
        self._t: float | None = None

    def take(self, now: float, n: float = 1.0) -> float:
        """Take `n` tokens and return 0.0; or take nothing and return in how many seconds they will be there.

        A clock that steps back adds nothing.  `n` above `burst` is granted when the bucket is full, so a large
        request is delayed and never starved.
        """
        if self._t is not None and now > self._t:
            self._tokens = min(self.burst, self._tokens + (now - self._t) * self.rate)
        if self._t is None or now > self._t:
            self._t = now
        need = min(n, self.burst)
        if self._tokens >= need:
            self._tokens -= n  # may go below zero for n > burst: paid back before the next grant
            return 0.0
        return (need - self._tokens) / self.rate


class KeyedBuckets:
    """A bucket per key (a uid, an address).  At most `keys_max` are kept; the least recently used are forgotten."""

    __slots__ = ("_buckets", "burst", "keys_max", "rate")

    def __init__(self, burst: float, rate: float, keys_max: int = 4096) -> None:
        self.burst = burst
        self.rate = rate
        self.keys_max = keys_max
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def take(self, key: Hashable, now: float, n: float = 1.0) -> float:
        """As `TokenBucket.take`, from the bucket of `key`."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self.keys_max:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = TokenBucket(self.burst, self.rate)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now, n)

    def __len__(self) -> int:
        return len(self._buckets)


class RateLimit:
    """Log lines that cannot fill a disk: per key a burst, then one now and then with the number left out."""

    __slots__ = ("_buckets", "_log", "_silent", "suppressed")

    def __init__(self, log: logging.Logger, burst: float = 5, rate: float = 0.1, keys_max: int = 256) -> None:
        """`burst` lines a key at once, then `rate` a second."""
        self._log = log
        self._buckets = KeyedBuckets(burst, rate, keys_max)
        self._silent: OrderedDict[Hashable, int] = OrderedDict()
        self.suppressed = 0  #: lines left out so far, all keys

    def warning(self, key: Hashable, now: float, message: str, *args: object) -> bool:
        """Log at WARNING unless `key` has had its share.  True if the line was written."""
        if self._buckets.take(key, now) > 0:
            self.suppressed += 1
            if key not in self._silent and len(self._silent) >= self._buckets.keys_max:
                self._silent.popitem(last=False)
            self._silent[key] = self._silent.get(key, 0) + 1
            return False
        left_out = self._silent.pop(key, 0)
        if left_out:
            self._log.warning(message + " (%d more like this were not logged)", *args, left_out)
        else:
            self._log.warning(message, *args)
        return True
