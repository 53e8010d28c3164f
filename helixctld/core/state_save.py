"""What a snapshot holds of the state; everything else is derived from it or comes from the configuration."""

from __future__ import annotations

from msgspec import Struct, field

from helix.indexset import IndexSet
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.model.node import NodeBase
from helix.model.reservation import ReservationRecord
from helixctld.core.usage import Usage


class HistoryEntry(Struct, array_like=True, frozen=True):
    """What stays of a forgotten job: enough to resolve a dependency."""

    state: JobState
    code: int = 0
    signal: int = 0
    t_end: float = 0.0
    tasks_ok: IndexSet | None = None  # of an array: forgotten tasks that completed; None = not an array


class NodeKept(Struct, omit_defaults=True, kw_only=True):
    """What of a node outlives a restart (the rest comes from the configuration and the registration)."""

    base: NodeBase = NodeBase.UNKNOWN
    drain: bool = False
    fail: bool = False
    reason: str = ""
    reason_by: str = ""
    t_reason: float = 0.0
    down_by_silence: bool = False
    drain_by_mismatch: bool = False
    drain_by_health: bool = False


class Persistent(Struct, omit_defaults=True, kw_only=True):
    """What a snapshot holds."""

    format: int = 1
    cluster: str = ""
    epoch: int = 0
    next_job_id: int = 1
    jobs: list[JobRecord] = field(default_factory=list)
    nodes: dict[str, NodeKept] = field(default_factory=dict)
    history: dict[int, HistoryEntry] = field(default_factory=dict)
    tokens: dict[str, tuple[int, float]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)
    reservations: list[ReservationRecord] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
