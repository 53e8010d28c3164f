"""When jobs stop waiting for `--switches`: by themselves, so that a pass is due then and looks at them again.

Pure; numpy over requests and queue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from helix.sched.snapshot import Snapshot
from helix_native.ahead_arrays import NEVER, NeedArrays
from helix_native.arrays import Flags, Int64


def waits(needs: NeedArrays) -> Int64 | None:
    """How long a request waits for so few switches, seconds, its later parts included; 0 = it does not, or for ever.
    None = no request does.  [S]"""
    own = np.where((needs.switches > 0) & (needs.switch_wait_s < NEVER), needs.switch_wait_s, 0)
    if not own.any():
        return None
    for head in np.flatnonzero(needs.chunk >= 0).tolist():
        part = int(needs.chunk[head])
        while part >= 0:
            own[head] = max(own[head], own[part])
            part = int(needs.chunk[part])
    return own


def next_end(snapshot: Snapshot, since: NDArray[np.float64]) -> float:
    """When the next such wait ends, epoch seconds; infinity = none goes on.  `since`: when jobs became eligible.
    [J]"""
    wait_s = waits(snapshot.needs)
    if wait_s is None:
        return float("inf")
    asked = wait_s[snapshot.queue.shape]
    ends = since[snapshot.queue.job] + asked
    return float(ends[(asked > 0) & (ends > snapshot.t)].min(initial=float("inf")))


def ended_since(snapshot: Snapshot, old: Snapshot) -> Flags | None:
    """Entries whose wait has ended since `old`, whose slots are the same jobs' where generations agree; None = none
    has.  [E]"""
    wait_s = waits(snapshot.needs)
    if wait_s is None:
        return None
    job, asked = snapshot.queue.job, wait_s[snapshot.queue.shape]
    before = np.zeros(len(snapshot.jobs.waited_s), np.int64)
    count = min(len(before), len(old.jobs.waited_s))
    before[:count] = old.jobs.waited_s[:count]
    ended: Flags = (asked > 0) & (snapshot.jobs.waited_s[job] >= asked) & (before[job] < asked)
    return ended
