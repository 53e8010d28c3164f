"""Can a way of a request (see `Request.chains`) be served by an empty cluster, as far as each node goes?"""

from __future__ import annotations

from collections import Counter

import numpy as np

from helix.sched.chain import shortage
from helix_native.reference import Pass


def is_able(work: Pass, parts: list[int], *, down: bool) -> bool:
    """True if the shapes `parts` find different nodes as if no job ran; `down`: also on nodes that are down."""
    masks = []
    for row in parts:
        fit = work.fit_empty(row, down=down)
        if work.select(row, fit, work.usable(row, work.nodes.cpus.astype(np.int64), full=True)) is None:
            return False
        masks.append(fit > 0)
    if len(parts) == 1:
        return True
    kinds = Counter(zip(*(mask.tolist() for mask in masks), strict=True))
    wanted = [max(int(work.shapes.nodes_lo[row]), int(work.shapes.must_n[row])) for row in parts]
    return shortage(wanted, [(count, list(may)) for may, count in kinds.items()]) is None
