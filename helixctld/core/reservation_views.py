"""Reservations as rows: the raw fields of `RESERVATION_ROW`.  Commands format them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from helix.hostlist import format_hostlist
from helix.model.reservation import ReservationRecord
from helix.sched.place import core_width
from helix.wire.methods import RESERVATION_ROW
from helixctld.core.reservation_times import window
from helixctld.core.state import State


def reservation_rows(state: State, reservations: Iterable[ReservationRecord], now: float) -> list[list[Any]]:
    """Rows of `RESERVATION_ROW`."""
    return [[row[name] for name in RESERVATION_ROW] for row in (_row(state, r, now) for r in reservations)]


def _row(state: State, r: ReservationRecord, now: float) -> dict[str, Any]:
    t_start, t_end = window(r, now)
    cpus = cores = mem_mib = 0
    for name, share in r.shares.items():
        node = state.nodes.get(name)
        if node is not None:
            mine = node.cpus if share.whole else share.cpus
            cpus += mine
            cores += mine // core_width(node)
            mem_mib += node.real_memory_mib if share.whole else share.mem_mib
    gres: dict[str, int] = {}
    for share in r.shares.values():
        for kind, units in share.gres.items():
            gres[kind] = gres.get(kind, 0) + units
    jobs = [state.jobs[job_id] for job_id in sorted(state.reservation_jobs.get(r.name, ()))]
    return {
        "name": r.name,
        "state": "ACTIVE" if r.active else "INACTIVE",
        "t_start": t_start,
        "t_end": t_end,
        "nodes": format_hostlist(r.shares),
        "node_count": len(r.shares),
        "core_count": cores,
        "cpus": cpus,
        "memory_mib": mem_mib,
        "parts": [[name, share.cpus] for name, share in r.shares.items()] if r.is_partial else [],
        "gres": gres,
        "licenses": ",".join(f"{name}:{count}" for name, count in r.licenses.items()),
        "features": r.features,
        "partition": r.partition,
        "flags": r.flags,
        "purge_s": r.purge_s,
        "users": [f"-{name}" for name in r.users] if r.users_denied else r.users,
        "accounts": [f"-{name}" for name in r.accounts] if r.accounts_denied else r.accounts,
        "groups": r.groups,
        "comment": r.comment,
        "created_by": r.created_by,
        "t_created": r.t_created,
        "jobs_running": [job.job_id for job in jobs if job.is_active],
        "jobs_waiting": [job.job_id for job in jobs if not job.is_active],
    }
