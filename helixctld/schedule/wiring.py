"""All that takes part in planning besides nodes, CPUs and memory, put together for one state.

One line a subject; the daemon and the simulator both call it.
"""

from __future__ import annotations

from helixctld.core.state import State
from helixctld.schedule.gres_source import NodeGres
from helixctld.schedule.licence_pools import LicencePools
from helixctld.schedule.limit_pools import LimitPools, check_limits
from helixctld.schedule.sources import Sources


def sources_of(state: State) -> Sources:
    """The sources of `state`'s columns."""
    return Sources(
        pools=[LicencePools(state), LimitPools(state)],
        gres=NodeGres(state),
        checks=[check_limits],
        switch_of=lambda node: state.topology.leaf_of.get(node.name, -1),
    )
