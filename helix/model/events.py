"""The facts the journal keeps: every change of the controller's truth is one of these, past tense.

`State.apply` is the only reader.  Map-encoded and tagged by class name; a new field always has a default, a removed
one is never reused, so every released journal replays.  `t` is when it happened, epoch seconds.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from helix.model.job import Allocation, Claim, ExitInfo, JobSpec
from helix.model.job_state import JobState, Reason
from helix.model.node import Fingerprint
from helix.model.reservation import ReservationRecord


class _Event(Struct, omit_defaults=True, tag=True, kw_only=True):
    """Base: tagged with the class name."""

    t: float


class ControllerStarted(_Event, kw_only=True):
    """A controller took over the state; credentials of lower epochs are void."""

    epoch: int
    version: str = ""


class BlobStored(_Event, kw_only=True):
    """A script or environment; travels in the journal so that its file needs no sync of its own."""

    hash: str
    data: bytes


class JobSubmitted(_Event, kw_only=True):
    """A request was accepted."""

    job_id: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    spec: JobSpec
    priority: int = 0
    assoc: str = ""


class JobStarted(_Event, kw_only=True):
    """Resources were given.  For an array task `job_id` is the task's new id."""

    job_id: int
    array_job_id: int = 0
    array_task_id: int | None = None
    attempt: int
    partition: str
    reservation: str = ""  # whose nodes they are, "" = none
    assoc: str = ""  # association it is charged to, if it has got one since its submission
    time_limit_s: int = 0
    alloc: Allocation


class JobLaunched(_Event, kw_only=True):
    """The first node confirmed that the script runs."""

    job_id: int
    attempt: int
    t_start: float = 0.0
    stdout: str = ""
    stderr: str = ""


class JobEnding(_Event, kw_only=True):
    """The job is being ended on purpose; the nodes have yet to confirm."""

    job_id: int
    attempt: int
    outcome: JobState
    reason: Reason = Reason.NONE
    reason_text: str = ""
    by_uid: int | None = None
    requeue_hold: str = ""
    preemptor: int = 0  # the job it makes room for
    kill_wait_s: int | None = None  # between SIGTERM and SIGKILL; None = KillWait
    signal: int = 0  # sent instead of the first SIGTERM


class JobEnded(_Event, kw_only=True):
    """The attempt is over and its resources are free.  `state` is terminal, or a waiting state for a requeue."""

    job_id: int
    attempt: int
    state: JobState
    reason: Reason = Reason.NONE
    reason_text: str = ""
    exit: ExitInfo = field(default_factory=ExitInfo)
    t_start: float = 0.0
    held: str = ""  # on a requeue: held by whom
    exclude_node: str = ""  # on a requeue after a launch failure
    launch_failed: bool = False
    t_begin: float = 0.0  # on a requeue: not before
    usage: dict[str, float] = field(default_factory=dict)
    stdout: str = ""
    stderr: str = ""
    by_uid: int | None = None


class JobSuspended(_Event, kw_only=True):
    """All processes of the job are stopped; its time limit stands still.

    `yields`: its CPUs come free for others, its memory and GRES stay its own.
    """

    job_id: int
    by_uid: int = 0
    cause: str = ""  # "" = somebody asked, "preempt", "gang"
    yields: bool = False
    preemptor: int = 0


class JobResumed(_Event, kw_only=True):
    """The job goes on, on the CPUs it had."""

    job_id: int
    by_uid: int = 0
    cause: str = ""  # as of the suspension


class JobClaimed(_Event, kw_only=True):
    """Jobs are being ended for a waiting job; what comes free is kept for it.  None = nothing is kept any more."""

    job_id: int
    claim: Claim | None = None
    why: str = ""  # why it was given up


class JobHeld(_Event, kw_only=True):
    """Held by its owner ("user") or an operator ("admin")."""

    job_id: int
    by: str = "user"
    by_uid: int = 0


class JobReleased(_Event, kw_only=True):
    """No longer held; a requeue-held job is pending again."""

    job_id: int
    priority: int | None = None  # the plugin's word, after a priority that had been set
    by_uid: int = 0


class JobRequeued(_Event, kw_only=True):
    """A finished job goes back to the queue."""

    job_id: int
    by_uid: int = 0
    held: str = ""
    special: bool = False


class JobUpdated(_Event, kw_only=True):
    """A new spec and, where given, a new priority or limit of the present attempt."""

    job_id: int
    spec: JobSpec
    priority: int | None = None
    time_limit_s: int | None = None
    pending: str | None = None  # array's own record: what is left to start
    assoc: str | None = None  # another association, after a change of account or partition
    by_uid: int = 0


class DependencyMet(_Event, kw_only=True):
    """Time made the last edge hold (`after:id+minutes`); what events make hold needs no event of its own."""

    job_id: int


class ArrayTasksCancelled(_Event, kw_only=True):
    """Tasks that had not started will not."""

    job_id: int
    tasks: str  # index set
    by_uid: int = 0


class JobsForgotten(_Event, kw_only=True):
    """Finished jobs left the table (MinJobAge); a compact history stays."""

    job_ids: list[int]


class NodeRegistered(_Event, kw_only=True):
    """A node joined or came back, with its hardware as found."""

    node: str
    fingerprint: Fingerprint
    skew_s: float = 0.0
    mismatch: str = ""  # exact difference from the configuration; drains


class NodeUpdated(_Event, kw_only=True):
    """An admin, or the controller, changed a node's standing.  None = unchanged."""

    node: str
    base: str | None = None
    drain: bool | None = None
    fail: bool | None = None
    reason: str | None = None
    by: str = ""
    by_silence: bool = False
    by_health: bool = False
    changes: dict[str, Any] = field(default_factory=dict)  # weight, features


class PartitionUpdated(_Event, kw_only=True):
    """An admin changed a partition until the next reconfigure."""

    name: str
    changes: dict[str, Any]


class ReservationCreated(_Event, kw_only=True):
    """An advance reservation was made."""

    reservation: ReservationRecord


class ReservationUpdated(_Event, kw_only=True):
    """It is another now: changed on request, moved to its next occurrence, or given other nodes."""

    reservation: ReservationRecord
    cause: str = ""  # "changed", "next", "nodes"
    by_uid: int | None = None
    over_run_s: int | None = None  # "next": jobs in the occurrence that is over run on for so long; None = as they like


class ReservationStarted(_Event, kw_only=True):
    """Its time has come."""

    name: str


class ReservationDeleted(_Event, kw_only=True):
    """It is gone: deleted, over, or purged because nobody used it."""

    name: str
    cause: str = ""  # "deleted", "over", "idle"
    by_uid: int | None = None
    over_run_s: int | None = None  # jobs that run in it run on for so long; None = as they like


class UsageDecayed(_Event, kw_only=True):
    """What associations and QOS have used becomes less, and running jobs are charged up to now."""

    factor: int  # what is left, of 2**32
    keep: list[str] = field(default_factory=list)  # keys of the book that do not decay
    reset: bool = False


class NodeKeyAdmitted(_Event, kw_only=True):
    """A link's CURVE public key (Z85) was admitted by a join token."""

    name: str
    key: str


Event = (
    ControllerStarted
    | BlobStored
    | JobSubmitted
    | JobStarted
    | JobLaunched
    | JobEnding
    | JobEnded
    | JobSuspended
    | JobResumed
    | JobClaimed
    | JobHeld
    | JobReleased
    | JobRequeued
    | JobUpdated
    | DependencyMet
    | ArrayTasksCancelled
    | JobsForgotten
    | NodeRegistered
    | NodeUpdated
    | PartitionUpdated
    | NodeKeyAdmitted
    | UsageDecayed
    | ReservationCreated
    | ReservationUpdated
    | ReservationStarted
    | ReservationDeleted
)
