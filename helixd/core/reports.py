"""From what a shepherd recorded to what the controller is told.  Pure."""

from __future__ import annotations

from helix.model.job import ExitInfo
from helix.model.job_state import LaunchFailure
from helix.wire.messages import StepEnded
from helixd.core import steplog
from helixd.core.step import Step

_SIGTERM = 15


def exit_of(status: int) -> ExitInfo:
    """`code:signal` of a wait(2) status."""
    return ExitInfo(code=status >> 8 & 0xFF, signal=status & 0x7F)


def lost_text(status: int) -> str:
    """What became of a shepherd; -1 = nobody knows."""
    if status < 0:
        return "the shepherd of the job died; its processes were killed"
    exited = exit_of(status)
    how = f"was killed by signal {exited.signal}" if exited.signal else f"ended with status {exited.code}"
    return f"the shepherd of the job {how}; its processes were killed"


def ended_message(
    step: Step,
    end: steplog.Ended | None,
    now: float,
    failure: LaunchFailure,
    text: str,
    *,
    terminated: bool = False,
) -> StepEnded:
    """The exit record for the controller; without `end` the script never ran (`terminated`: because it was ended)."""
    if end is None:
        return StepEnded(
            job_id=step.job_id,
            attempt=step.attempt,
            node=step.info.node,
            exit=ExitInfo(signal=_SIGTERM) if terminated else ExitInfo(),
            failure=failure,
            failure_text=text,
            t_end=now,
        )
    return StepEnded(
        job_id=step.job_id,
        attempt=step.attempt,
        node=step.info.node,
        exit=ExitInfo() if end.stage else exit_of(end.status),
        failure=failure,
        failure_text=text,
        timed_out=bool(end.flags & steplog.ENDED_TIMED_OUT),
        oom=bool(end.flags & steplog.ENDED_OOM),
        t_start=end.t_start,
        t_end=end.t_end,
        user_s=end.user_us / 1e6,
        system_s=end.system_us / 1e6,
        max_rss_mib=round(end.max_rss_kib / 1024, 1),
        stdout=step.info.stdout,
        stderr=step.info.stderr,
    )


def failed_message(step: Step, failure: LaunchFailure, text: str, now: float) -> StepEnded:
    """The end of a step of which no exit record exists."""
    ended = ended_message(step, None, now, failure, text)
    ended.t_start = step.t_start
    ended.stdout, ended.stderr = step.info.stdout, step.info.stderr
    return ended
