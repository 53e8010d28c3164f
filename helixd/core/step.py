"""A step as its node knows it."""

from __future__ import annotations

from enum import IntEnum

from helix.wire.messages import Launch, StepEnded, StepStarted
from helixd.core.steplog import Attempt


class Phase(IntEnum):
    """Where a step is; it only goes forward."""

    HELD = 0  # accepted; waits for blobs, for an older attempt to end, or for the user's environment
    SENT = 1  # recorded and described to the forking shepherd
    ALIVE = 2  # its shepherd's process is known
    LOST = 3  # its shepherd is gone; what is left is being killed
    ENDED = 4  # over; the controller has not acknowledged it


class Step:
    """One attempt.  `launch` is None when helixd learned of the step from its log."""

    __slots__ = (
        "attempt",
        "ended",
        "generation",
        "info",
        "job_id",
        "launch",
        "main_pid",
        "never_ran",
        "orders",
        "paths",
        "phase",
        "shepherd_pid",
        "shepherd_start",
        "t_due",
        "t_start",
        "user_env",
        "waits_for",
        "work_text",
    )

    def __init__(self, job_id: int, attempt: int, info: Attempt, launch: Launch | None = None) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.info = info
        self.launch = launch
        self.phase = Phase.HELD
        self.generation = 0
        self.paths = ("/dev/null", info.stdout, info.stderr)
        self.shepherd_pid = 0
        self.shepherd_start = 0
        self.main_pid = 0
        self.t_start = 0.0
        self.t_due = 0.0  # when waiting in this phase is given up; 0 = never
        self.waits_for: set[str] = set()  # blob hashes, "attempt", "env"
        self.orders: list[int] = []  # control values for a shepherd not known yet
        self.user_env: bytes | None = None
        self.work_text = ""  # why it was lost
        self.never_ran = False  # lost before a shepherd said anything of it
        self.ended: StepEnded | None = None

    @property
    def key(self) -> tuple[int, int]:
        """(job id, attempt)."""
        return self.job_id, self.attempt

    def started(self) -> StepStarted:
        """What the controller is told when the script runs."""
        return StepStarted(
            job_id=self.job_id,
            attempt=self.attempt,
            node=self.info.node,
            pid=self.main_pid,
            t_start=self.t_start,
            stdout=self.info.stdout,
            stderr=self.info.stderr,
        )
