"""Licences as pools of the planner (`sources.PoolSource`): one pool a licence, taken while a job is active.

Suspended jobs keep theirs, as in Slurm.
"""

from __future__ import annotations

from collections.abc import Iterable

from helix.licences import parse_licences
from helix.model.job import Allocation, JobRecord
from helix.model.job_state import Reason
from helixctld.core.licences import licences_used
from helixctld.core.state import State
from helixctld.schedule.sources import PoolKey


class LicencePools:
    """The licences of one state."""

    name = "licence"

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def version(self) -> int:
        """Rises with every change of `Licenses=`."""
        return self._state.licences_version

    def wants(self, state: State, job: JobRecord) -> Iterable[tuple[PoolKey, int]]:
        """What the job asks; each task of an array takes as much."""
        if not job.spec.licenses:
            return ()
        return [((self.name, licence), count) for licence, count in parse_licences(job.spec.licenses)]

    def holds(self, state: State, job: JobRecord, alloc: Allocation) -> Iterable[tuple[PoolKey, int]]:
        """The same, while it is active."""
        return self.wants(state, job)

    def total(self, state: State, key: PoolKey) -> int:
        """How many there are; 0 of one that left the configuration."""
        return state.licences.get(key[1], 0)

    def words(self, state: State, key: PoolKey) -> tuple[Reason, str]:
        """Licenses, and how it stands with the licence."""
        used, total = licences_used(state).get(key[1], 0), self.total(state, key)
        return Reason.LICENSES, f"licence {key[1]}: {used} of {total} in use"
