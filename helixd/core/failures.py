"""Why a script did not start, for people: one line that names the thing.

Pure: `strerror` and the script's first bytes are passed in.  The result goes into `StepEnded.failure_text`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from helix.model.job_state import LaunchFailure
from helixd.core.steplog import Ended, Stage

TEXT_MAX = 400
PATH_SHOWN_MAX = 300

_KINDS: dict[int, LaunchFailure] = {
    Stage.SPAWN: LaunchFailure.SPAWN,
    Stage.CGROUP: LaunchFailure.CGROUP,
    Stage.LIMITS: LaunchFailure.LIMITS,
    Stage.IDENTITY: LaunchFailure.IDENTITY,
    Stage.WORK_DIR: LaunchFailure.WORK_DIR,
    Stage.STDIN: LaunchFailure.STDIO,
    Stage.STDOUT: LaunchFailure.STDIO,
    Stage.STDERR: LaunchFailure.STDIO,
    Stage.EXEC: LaunchFailure.EXEC,
}
_WORDS: dict[int, str] = {
    Stage.SPAWN: "cannot start a process for the step",
    Stage.CGROUP: "cannot confine the step",
    Stage.LIMITS: "cannot set a limit",
    Stage.IDENTITY: "cannot become the user",
    Stage.WORK_DIR: "cannot enter the working directory",
    Stage.STDIN: "cannot open the input file",
    Stage.STDOUT: "cannot open the output file",
    Stage.STDERR: "cannot open the error file",
    Stage.EXEC: "cannot execute the script",
}


def describe_failure(end: Ended, head: bytes, strerror: Callable[[int], str]) -> tuple[LaunchFailure, str]:
    """The code and the text of an exit record whose `stage` is not NONE; `head` is the start of the script."""
    kind = _KINDS.get(end.stage, LaunchFailure.SPAWN)
    if end.stage == Stage.EXEC:
        return kind, _exec_text(end, head, strerror)[:TEXT_MAX]
    words = _WORDS.get(end.stage, "cannot start the step")
    return kind, f"{words} {_shortened(end.text)}: {strerror(end.error)}"[:TEXT_MAX]


def _shortened(path: str) -> str:
    """A long path without its middle, so that the error behind it is seen."""
    return path if len(path) <= PATH_SHOWN_MAX else f"{path[: PATH_SHOWN_MAX // 2]}...{path[-PATH_SHOWN_MAX // 2 :]}"


def _exec_text(end: Ended, head: bytes, strerror: Callable[[int], str]) -> str:
    interpreter = interpreter_of(head)
    carriage = "\r" in interpreter
    shown = interpreter.replace("\r", "\\r")
    if end.error == errno.ENOENT and interpreter:
        hint = " (the script has DOS line ends: run dos2unix on it)" if carriage else ""
        return f"the script's interpreter '{shown}' does not exist{hint}"
    if end.error == errno.EACCES and interpreter:
        return f"the script's interpreter '{shown}' may not be executed: {strerror(end.error)}"
    if end.error == errno.ENOEXEC:
        if not interpreter:
            return "the script has no interpreter: its first line must be like #!/bin/sh"
        return f"the script's interpreter '{shown}' is no program this machine can run"
    if end.error == errno.E2BIG:
        return "the job's arguments and environment are longer than this machine allows"
    return f"cannot execute the script {end.text}: {strerror(end.error)}"


def interpreter_of(head: bytes) -> str:
    """The path after `#!`, "" without one."""
    if not head.startswith(b"#!"):
        return ""
    words = head[2:].split(b"\n", 1)[0].strip(b" \t").split(b" ", 1)
    return words[0].split(b"\t", 1)[0].decode("utf-8", "replace")
