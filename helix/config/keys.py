"""All keys of all configuration files: the one place that code, check, example files and manual read.

    SETTINGS              cluster-wide keys that Helix reads, in the manual's order, by section
    SLURM_ONLY            cluster-wide keys of slurm.conf without effect
    LINES                 the kinds of lines with several Key=Value, by their first key
    PARAMS                names inside SchedulerParameters and its like
    CGROUP_KEYS GRES_KEYS keys of the other two files (those of topology.conf are lines of helix.conf as well)

`find_setting`, `find_in` look up a name or alias without regard to case; `nearest` is for messages.  Standard library
only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import lru_cache

from helix.config.key import Key, Kind, Status
from helix.config.table_files import BLOCK_KEYS, CGROUP_KEYS, GRES_KEYS, SWITCH_KEYS
from helix.config.table_lines import DOWN_KEYS, FRONTEND_KEYS, NODE_KEYS, NODESET_KEYS, PARTITION_KEYS
from helix.config.table_params import (
    HELIXCTLD_PARAMETERS,
    HELIXD_PARAMETERS,
    SCHEDULER_PARAMETERS,
    SELECT_PARAMETERS,
)
from helix.config.table_preempt import PREEMPT_PARAMETERS
from helix.config.table_settings import SECTIONS, SETTINGS
from helix.config.table_slurm import SLURM_ONLY

__all__ = [
    "BLOCK_KEYS",
    "CGROUP_KEYS",
    "GRES_KEYS",
    "LINES",
    "NODE_KEYS",
    "PARAMS",
    "PARTITION_KEYS",
    "SECTIONS",
    "SELECT_PARAMETERS",
    "SETTINGS",
    "SLURM_ONLY",
    "SWITCH_KEYS",
    "Key",
    "Kind",
    "Status",
    "find_in",
    "find_setting",
    "nearest",
]

#: first key of a line (canonical) -> the keys that may stand on it
LINES: dict[str, tuple[Key, ...]] = {
    "NodeName": NODE_KEYS,
    "PartitionName": PARTITION_KEYS,
    "NodeSet": NODESET_KEYS,
    "DownNodes": DOWN_KEYS,
    "FrontendName": FRONTEND_KEYS,
    "SwitchName": SWITCH_KEYS,
    "BlockName": BLOCK_KEYS,
}

#: key of kind PARAMS -> the names known inside it
PARAMS: dict[str, tuple[Key, ...]] = {
    "SchedulerParameters": SCHEDULER_PARAMETERS,
    "HelixctldParameters": HELIXCTLD_PARAMETERS,
    "HelixdParameters": HELIXD_PARAMETERS,
    "PreemptParameters": PREEMPT_PARAMETERS,
}


@lru_cache(maxsize=32)
def _index(keys: tuple[Key, ...]) -> dict[str, Key]:
    return {name.lower(): key for key in keys for name in (key.name, *key.aliases)}


def find_in(keys: tuple[Key, ...], name: str) -> Key | None:
    """The key of a table with this name or alias, in any case."""
    return _index(keys).get(name.lower())


def find_setting(name: str) -> Key | None:
    """The cluster-wide key with this name or alias, in any case; also one without effect."""
    return find_in(SETTINGS, name) or find_in(SLURM_ONLY, name)


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The candidate most like `name`, in any case; "" when none is near."""
    by_low = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower()[:100], by_low, n=1, cutoff=0.7)
    return by_low[found[0]] if found else ""


def names_of(keys: Sequence[Key]) -> list[str]:
    """Names and aliases of the keys of a table."""
    return [name for key in keys for name in (key.name, *key.aliases)]
