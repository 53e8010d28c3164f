"""How long jobs run, against what they asked for: learnt from ended jobs, by user and job name.

For predictions and the order of candidates only; what is promised goes by limits.  A job is expected to run as long as
the last jobs of its user and name did (their median), else the share of its limit that the last jobs of its user used,
else the share that all last jobs did.  Deterministic; no clock.  Cost: about 2 us a job learnt; estimates are numpy.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import numpy as np
from numpy.typing import NDArray

from helix_native.ahead_arrays import NEVER
from helix_native.arrays import Int32, Int64

KEPT = 5  #: last runs kept of a user and name, and of a user
ALL_KEPT = 101  #: last runs kept of everybody
GROUPS_MAX = 200_000  #: pairs of user and name; later ones go by their user alone
RECENT = 2  #: last runs of a user whose mean orders candidates
LEAST_RUN_S = 1

Float64 = NDArray[np.float64]


class RunTimes:
    """A group is a user and job name; group numbers are never given to others."""

    def __init__(self) -> None:
        self.version = 0  # rises with each job learnt
        self._group: dict[tuple[int, str], int] = {}
        self._user: dict[int, int] = {}
        self._runs: dict[int, deque[float]] = {}  # group -> seconds
        self._shares: dict[int, deque[float]] = {}  # user number -> run / limit
        self._recent: dict[int, deque[float]] = {}  # user number -> seconds
        self._all: deque[float] = deque(maxlen=ALL_KEPT)
        self._run_of: Float64 = np.zeros(64)  # by group; 0 = nothing known
        self._user_of: Int32 = np.zeros(64, np.int32)  # by group
        self._share_of: Float64 = np.zeros(64)  # by user number; 0 = nothing known
        self._recent_of: Float64 = np.zeros(64)  # by user number; 0 = nothing known
        self._share = 0.0  # median of `_all`; -1 = to be found when it is needed

    def group(self, uid: int, name: str) -> int:
        """The group of a job."""
        key = (uid, name)
        if key not in self._group and len(self._group) >= GROUPS_MAX:
            key = (uid, "")
        found = self._group.get(key)
        if found is None:
            found = self._group[key] = len(self._group)
            user = self._user.setdefault(uid, len(self._user))
            if found >= len(self._run_of):
                self._run_of = np.concatenate([self._run_of, np.zeros_like(self._run_of)])
                self._user_of = np.concatenate([self._user_of, np.zeros_like(self._user_of)])
            if user >= len(self._share_of):
                self._share_of = np.concatenate([self._share_of, np.zeros_like(self._share_of)])
                self._recent_of = np.concatenate([self._recent_of, np.zeros_like(self._recent_of)])
            self._user_of[found] = user
        return found

    def learn(self, uid: int, name: str, run_s: float, limit_s: int) -> None:
        """A job ran for `run_s` seconds; `limit_s` 0 = it had no limit."""
        group = self.group(uid, name)
        runs = self._runs.setdefault(group, deque(maxlen=KEPT))
        runs.append(max(run_s, LEAST_RUN_S))
        self._run_of[group] = median(runs)
        self.version += 1
        user = int(self._user_of[group])
        recent = self._recent.setdefault(user, deque(maxlen=RECENT))
        recent.append(runs[-1])
        self._recent_of[user] = sum(recent) / len(recent)
        if limit_s:
            shares = self._shares.setdefault(user, deque(maxlen=KEPT))
            share = min(1.0, max(run_s, LEAST_RUN_S) / limit_s)
            shares.append(share)
            self._all.append(share)
            self._share_of[user] = sum(shares) / len(shares)
            self._share = -1.0

    def estimates(self, groups: Int32, limits: Int64) -> Int64:
        """How long jobs of these groups with these limits (0 or NEVER = none) will probably run, seconds; never longer
        than the limit, NEVER where nothing is known of a job without limit."""
        bound = np.where((limits > 0) & (limits < NEVER), limits, NEVER)
        if not self.version:
            return bound.astype(np.int64)
        if self._share < 0:
            self._share = median(self._all)
        by_user = self._share_of[self._user_of[groups]]
        share = np.where(by_user > 0, by_user, self._share if self._share > 0 else 1.0)
        by_limit = np.where(bound < NEVER, np.ceil(bound * share), float(NEVER))
        run = self._run_of[groups]
        found = np.where(run > 0, np.ceil(run), by_limit)
        return np.clip(found, LEAST_RUN_S, bound).astype(np.int64)

    def recent(self, groups: Int32, limits: Int64) -> Int64:
        """How long the last jobs of the users of these groups ran (mean of two), seconds; at most the limit (0 or NEVER
        = none), which also stands where nothing is known."""
        bound = np.where((limits > 0) & (limits < NEVER), limits, NEVER)
        run = self._recent_of[self._user_of[groups]]
        return np.where(run > 0, np.minimum(np.ceil(run), bound), bound).astype(np.int64)
