"""Licences as pools of the planner (`sources.PoolSource`): one pool a licence, taken while a job is active.

What an active reservation holds of a licence is a pool of its own, for its jobs; the others share the rest.  Suspended
jobs keep theirs, as in Slurm.
"""

from __future__ import annotations

from collections.abc import Iterable

from helix.model.job import Allocation, JobRecord
from helix.model.job_state import Reason
from helix.sched.licences import licences_of
from helixctld.core.licences import licences_reserved
from helixctld.core.state import State
from helixctld.schedule.sources import PoolKey


class LicencePools:
    """The licences of one state.  Keys: ("licence", name) or ("licence", name, reservation)."""

    name = "licence"

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def version(self) -> int:
        """Another one with every change of `Licenses=` and of what active reservations hold."""
        reservations = self._state.reservations.values()
        held = tuple((r.name, *r.licenses.items()) for r in reservations if r.active and r.licenses)
        return hash((self._state.licences_version, held)) if held else self._state.licences_version

    def wants(self, state: State, job: JobRecord) -> Iterable[tuple[PoolKey, int]]:
        """What the job asks; each task of an array takes as much."""
        asked = licences_of(job.spec)
        if not asked:
            return ()
        inside = job.reservation if job.is_active else job.spec.reservation
        return [(self._key(state, licence, inside), count) for licence, count in asked]

    def holds(self, state: State, job: JobRecord, alloc: Allocation) -> Iterable[tuple[PoolKey, int]]:
        """The same, while it is active."""
        return self.wants(state, job)

    def total(self, state: State, key: PoolKey) -> int:
        """How many there are for the jobs of the pool; 0 of a licence that left the configuration."""
        if len(key) > 2:
            reservation = state.reservations.get(key[2])
            return reservation.licenses.get(key[1], 0) if reservation is not None else 0
        return max(0, state.licences.get(key[1], 0) - licences_reserved(state).get(key[1], 0))

    def words(self, state: State, key: PoolKey) -> tuple[Reason, str]:
        """Licenses, and which; how many are in use may be another number by the time it is read."""
        if len(key) > 2:
            where, total = f"{key[1]} of reservation {key[2]}", self.total(state, key)
            return Reason.LICENSES, f"too few licences {where} are free, of {total}"
        words = f"too few licences {key[1]} are free, of {state.licences.get(key[1], 0)}"
        holders = [r.name for r in state.reservations.values() if r.active and key[1] in r.licenses]
        if holders:
            words += f", {licences_reserved(state)[key[1]]} of them kept by reservation {', '.join(holders)}"
        return Reason.LICENSES, words

    def _key(self, state: State, licence: str, inside: str) -> PoolKey:
        for name in inside.split(",") if inside else ():
            reservation = state.reservations.get(name)
            if reservation is not None and reservation.active and licence in reservation.licenses:
                return self.name, licence, name
        return self.name, licence
