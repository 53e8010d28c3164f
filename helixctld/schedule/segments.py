"""Whether blocks have room for the segments of `--segment`, and the words where they have not."""

from __future__ import annotations

import numpy as np

from helix.sched.chain import Chain
from helix.sched.explain import plural
from helix_native.arrays import Flags, Int32


def are_segments(chain: Chain) -> bool:
    """True for a request with --segment: its parts stay in one block each, however long it waits."""
    return all(part.switches == 1 and not part.switch_wait_s for part in chain)


def segments_in(size: int, able: Flags, blocks: Int32) -> int:
    """How many segments of `size` nodes the nodes `able` make.  `blocks`: of each node, -1 = in none."""
    _, counts = np.unique(blocks[able & (blocks >= 0)], return_counts=True)
    return int((counts // size).sum())


def too_few(chain: Chain, able: Flags, blocks: Int32, holders: str) -> str:
    """That the nodes `able` (called `holders`) make fewer segments than asked; "" if they make enough."""
    size = chain[0].nodes_lo
    have = segments_in(size, able, blocks)
    if have >= len(chain):
        return ""
    asked = f"--segment: {plural(len(chain), 'segment')} of {plural(size, 'node')} in one block asked"
    return f"{asked}; {holders} have room for {have}"
