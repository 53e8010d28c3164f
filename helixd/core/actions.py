"""What the core wants done.  Data only: `helixd.io` carries it out, in order, appends before spawns before sends."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from helix.wire.messages import LogRead
from helixd.core.step import Step


class Append(Struct, frozen=True):
    """Write `data` (whole records) to the present generation of the steps log."""

    data: bytes


class Spawn(Struct, frozen=True):
    """Describe the step to the forking shepherd."""

    step: Step


class Send(Struct, frozen=True):
    """Tell the controller."""

    message: Any


class Control(Struct, frozen=True):
    """Queue a control signal to a shepherd, if the process is still the one that it was."""

    pid: int
    start: int
    value: int


class Watch(Struct, frozen=True):
    """Tell `shepherd_gone` when this process, which is not a child of ours, ends."""

    step: Step


class CleanUp(Struct, frozen=True):
    """Kill whatever is left of a step whose shepherd is gone, then call `cleaned`."""

    step: Step


class FetchUserEnv(Struct, frozen=True):
    """Run the user's login shell for its environment, then call `user_env`."""

    step: Step


class ReadLog(Struct, frozen=True):
    """Read a file as its user and answer with LogData."""

    request: LogRead
    running: bool
    path: str


class DropGeneration(Struct, frozen=True):
    """Nothing in this generation of the log is needed any more."""

    generation: int


class SyncLog(Struct, frozen=True):
    """Make what shepherds appended durable, soon and together."""


Action = Append | Spawn | Send | Control | Watch | CleanUp | FetchUserEnv | ReadLog | DropGeneration | SyncLog
