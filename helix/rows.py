"""Light row objects of the Python interface: dictionaries whose keys are also attributes.

A field this version has not heard of is simply there, and one that an older server does not send is missing
(AttributeError names it), so client and server may be a release or two apart.  Standard library only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Self, TypeVar

    R = TypeVar("R", bound="Row")


class Row(dict):  # type: ignore[type-arg]
    """A dictionary with attributes: `row.state` is `row["state"]`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this {type(self).__name__} has no field '{name}'") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.items())})"

    @classmethod
    def from_table(cls, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Self]:
        """One object a row of a columnar answer."""
        return [cls(zip(columns, row, strict=False)) for row in rows]


#: States in which a job is over (helix.model.job_state.TERMINAL, which a command does not import).
ENDED_STATES = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "TIMEOUT",
        "CANCELLED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "DEADLINE",
        "PREEMPTED",
        "BOOT_FAIL",
    }
)


class Job(Row):
    """A row of job.list or job.show; the fields are `helix.wire.methods.JOB_ROW`."""

    __slots__ = ()

    if TYPE_CHECKING:
        job_id: int
        display_id: str
        name: str
        user: str
        partition: str
        state: str
        reason: str
        nodes: str
        exit_code: str

    @property
    def is_over(self) -> bool:
        """True once the state is a final one."""
        return self.get("state") in ENDED_STATES

    @property
    def is_ok(self) -> bool:
        """True if the job is over and did what it should."""
        return self.get("state") == "COMPLETED"


class JobEnd(Job):
    """How a job ended: job_id, display_id, state, exit_code ("code:signal")."""

    __slots__ = ()


class Node(Row):
    """A row of node.list; the fields are `helix.wire.methods.NODE_ROW`."""

    __slots__ = ()

    if TYPE_CHECKING:
        name: str
        state: str
        cpus: int
        cpus_alloc: int
        memory_mib: int


class Partition(Row):
    """A row of partition.list; the fields are `helix.wire.methods.PARTITION_ROW`."""

    __slots__ = ()

    if TYPE_CHECKING:
        name: str
        nodes: str
        state: str
        is_default: bool


class Reservation(Row):
    """A row of reservation.list; the fields are `helix.wire.methods.RESERVATION_ROW`."""

    __slots__ = ()

    if TYPE_CHECKING:
        name: str
        state: str
        t_start: float
        t_end: float
        nodes: str
        flags: list[str]
        users: list[str]


class Event(Row):
    """A state change: cursor, t, kind ("job" or "node"), id, display_id, name, user, old, new, reason, exit_code."""

    __slots__ = ()

    if TYPE_CHECKING:
        cursor: int
        t: float
        kind: str
        id: int
        old: str
        new: str
