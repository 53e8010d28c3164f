"""Licences: what jobs have of them, and whether a request can ever have them.  Pure."""

from __future__ import annotations

from typing import Any

from helix.errors import Never, NotFound
from helix.model.job import JobSpec
from helix.sched.licences import licences_of
from helixctld.core.nearest import did_you_mean
from helixctld.core.state import State


def licences_used(state: State) -> dict[str, int]:
    """Name -> how many the ACTIVE jobs have; derived from their specs.  O(active jobs)."""
    used: dict[str, int] = {}
    for job_id in state.active:
        for name, count in licences_of(state.jobs[job_id].spec):
            used[name] = used.get(name, 0) + count
    return used


def licences_reserved(state: State) -> dict[str, int]:
    """Name -> how many active reservations hold, used or not."""
    held: dict[str, int] = {}
    for reservation in state.reservations.values():
        for name, count in reservation.licenses.items() if reservation.active else ():
            held[name] = held.get(name, 0) + count
    return held


def require_licences(state: State, spec: JobSpec) -> None:
    """Raises NotFound (LICENSE_UNKNOWN), or Never (LICENSES_NEVER) for more than there are."""
    for name, count in licences_of(spec):
        total = state.licences.get(name)
        if total is None:
            hint = did_you_mean(name, state.licences) if state.licences else "helix.conf has no Licenses="
            raise NotFound(f"no licence '{name}'", code="LICENSE_UNKNOWN", hint=hint)
        if count > total:
            raise Never(
                f"{count} licences {name} are asked, there are {total}", code="LICENSES_NEVER", hint="ask for fewer"
            )


def licence_rows(state: State) -> list[dict[str, Any]]:
    """What `hctl show licenses` prints, by name; also licences that jobs have and the configuration has not."""
    used, reserved = licences_used(state), licences_reserved(state)
    return [
        {"name": name, "total": (total := state.licences.get(name, 0)), "used": (n := used.get(name, 0)),
         "free": max(0, total - n), "reserved": reserved.get(name, 0)}
        for name in sorted({*state.licences, *used})
    ]  # fmt: skip
