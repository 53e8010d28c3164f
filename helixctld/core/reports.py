"""What nodes report, as events: exits, starts, registrations; and what follows when a node falls silent.

Pure.  A report of an attempt that is over changes nothing and is acknowledged, so that the node can forget it.
"""

from __future__ import annotations

from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import JobState, LaunchFailure, Reason
from helix.model.node import Fingerprint, NodeBase, NodeRecord
from helix.wire.messages import StepEnded, StepKnown, StepStarted
from helixctld.core.effects import AckExit, Action, TerminateJob, actions_for, batch_host
from helixctld.core.requests import Change
from helixctld.core.state import State

LAUNCH_FAILURES_MAX = 3  #: launch failures in a row before a job is held: one bad job must not drain a partition
REQUEUE_DELAY_S = 1.0  #: before a requeued job may start again, so that a fault cannot spin

_JOBS_FAULT = {
    LaunchFailure.WORK_DIR: Reason.INVALID_WORK_DIR,
    LaunchFailure.STDIO: Reason.OUTPUT_UNWRITABLE,
    LaunchFailure.EXEC: Reason.JOB_LAUNCH_FAILURE,
}


def step_started(state: State, r: StepStarted, now: float) -> Change:
    """A script runs: the job is RUNNING; or it is not wanted any more and is ended."""
    job = state.jobs.get(r.job_id)
    if job is None or job.attempt != r.attempt or not job.is_active or batch_host(job) != r.node:
        return Change(actions=[TerminateJob(r.job_id, r.node, r.attempt, now=True)])
    if job.state is not JobState.CONFIGURING:
        return Change()
    return Change(
        [ev.JobLaunched(t=now, job_id=r.job_id, attempt=r.attempt, t_start=r.t_start, stdout=r.stdout, stderr=r.stderr)]
    )


def step_ended(state: State, r: StepEnded, now: float, *, requeue_default: bool) -> Change:
    """An attempt is over.  The acknowledgement goes out once the event is durable."""
    ack = AckExit(r.node, r.job_id, r.attempt)
    job = state.jobs.get(r.job_id)
    if job is None or job.attempt != r.attempt or not job.is_active or batch_host(job) != r.node:
        return Change(actions=[ack])
    return Change([ended_event(job, r, now, requeue_default=requeue_default)], [ack])


def ended_event(job: JobRecord, r: StepEnded, now: float, *, requeue_default: bool) -> ev.JobEnded:
    """The end of `job` as its exit record, and what was asked of it before, make it."""
    end = ev.JobEnded(
        t=now,
        job_id=job.job_id,
        attempt=job.attempt,
        state=JobState.FAILED,
        exit=r.exit,
        t_start=r.t_start,
        stdout=r.stdout,
        stderr=r.stderr,
        usage={"user_s": r.user_s, "system_s": r.system_s, "max_rss_mib": r.max_rss_mib},
    )
    if job.outcome is not None:
        _as_asked(job, end)
    elif r.unknown or r.failure is LaunchFailure.REBOOT:
        lost = "the node has no record of it" if r.unknown else "the node was restarted"
        lose(job, end, f"{r.node}: {lost}", requeue_default=requeue_default)
    elif r.failure is not LaunchFailure.NONE:
        _launch_failed(job, r, end, requeue_default=requeue_default)
    elif r.oom:
        end.state, end.reason = JobState.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY
    elif r.timed_out:
        end.state, end.reason = JobState.TIMEOUT, Reason.TIME_LIMIT
    elif r.exit.signal:
        end.reason, end.reason_text = Reason.RAISED_SIGNAL, f"signal {r.exit.signal}"
    elif r.exit.code:
        end.reason = Reason.NON_ZERO_EXIT
    else:
        end.state = JobState.COMPLETED
    return end


def _as_asked(job: JobRecord, end: ev.JobEnded) -> None:
    """The outcome was decided when the job was told to end."""
    assert job.outcome is not None
    end.reason, end.reason_text, end.by_uid = job.reason, job.reason_text, job.killed_by
    if job.outcome is not JobState.REQUEUED:
        end.state = job.outcome
        return
    end.state = {"hold": JobState.REQUEUE_HOLD, "special": JobState.SPECIAL_EXIT}.get(
        job.requeue_hold, JobState.PENDING
    )
    end.held = (job.held or "user") if job.requeue_hold else ""
    end.t_begin = end.t + REQUEUE_DELAY_S


def _launch_failed(job: JobRecord, r: StepEnded, end: ev.JobEnded, *, requeue_default: bool) -> None:
    text = f"{r.node}: {r.failure_text or r.failure}"
    if r.failure in _JOBS_FAULT:
        end.reason, end.reason_text = _JOBS_FAULT[r.failure], text
        if not end.exit.code and not end.exit.signal:
            end.exit = type(end.exit)(code=1)
        return
    if r.failure is LaunchFailure.NOT_STARTED:  # nothing ran: even --no-requeue loses nothing
        end.state, end.t_begin = JobState.PENDING, end.t + REQUEUE_DELAY_S
        end.reason_text = text
        return
    if r.failure is LaunchFailure.SHEPHERD_LOST:
        end.reason, end.reason_text = Reason.SYSTEM_FAILURE, text
        return
    if not may_requeue(job, requeue_default):
        end.reason, end.reason_text = Reason.JOB_LAUNCH_FAILURE, text
        return
    end.state, end.launch_failed, end.exclude_node = JobState.PENDING, True, r.node
    end.t_begin = end.t + REQUEUE_DELAY_S
    if job.launch_failures + 1 >= LAUNCH_FAILURES_MAX:
        end.held = "admin"
        end.reason, end.reason_text = Reason.LAUNCH_FAILED_REQUEUED_HELD, text


def may_requeue(job: JobRecord, requeue_default: bool) -> bool:
    """True if the job may run a second time."""
    return requeue_default if job.spec.requeue is None else job.spec.requeue


def lose(job: JobRecord, end: ev.JobEnded, text: str, *, requeue_default: bool) -> None:
    """The node is gone or has forgotten: NODE_FAIL, or back to the queue."""
    if may_requeue(job, requeue_default):
        end.state, end.t_begin = JobState.PENDING, end.t + REQUEUE_DELAY_S
    else:
        end.state = JobState.NODE_FAIL
    end.reason, end.reason_text = Reason.NODE_DOWN, text


def lost_job(job: JobRecord, text: str, now: float, *, requeue_default: bool) -> ev.JobEnded:
    """The end of a job whose node died."""
    end = ev.JobEnded(t=now, job_id=job.job_id, attempt=job.attempt, state=JobState.NODE_FAIL)
    if job.outcome is not None:
        _as_asked(job, end)
    else:
        lose(job, end, text, requeue_default=requeue_default)
    return end


def mismatch(node: NodeRecord, found: Fingerprint, *, may_claim_more: bool) -> str:
    """The exact difference between configuration and hardware that drains a node; "" if it has enough.

    `may_claim_more`: several daemons share one machine and may claim more than it has (multiple-slurmd style).
    """
    if may_claim_more:
        return ""
    parts = []
    if found.cpus < node.cpus:
        parts.append(f"CPUs: configured {node.cpus}, found {found.cpus}")
    if found.real_memory_mib < node.real_memory_mib:
        parts.append(f"RealMemory: configured {node.real_memory_mib} MiB, found {found.real_memory_mib} MiB")
    if found.tmp_disk_mib < node.tmp_disk_mib:
        parts.append(f"TmpDisk: configured {node.tmp_disk_mib} MiB, found {found.tmp_disk_mib} MiB")
    return "; ".join(parts)


def node_registered(
    state: State, name: str, found: Fingerprint, steps: list[StepKnown], now: float, conf: RegisterRules
) -> Change:
    """A node joined or came back: take its hardware, then make both sides agree on its jobs."""
    node = state.nodes[name]
    change = Change()
    skew = found.t_sent - now if found.t_sent else 0.0
    difference = mismatch(node, found, may_claim_more=conf.may_claim_more)
    rebooted = (
        node.fingerprint is not None
        and node.fingerprint.boot_id != found.boot_id
        and bool(node.fingerprint.boot_id and found.boot_id)
    )
    change.events.append(
        ev.NodeRegistered(t=now, node=name, fingerprint=found, skew_s=round(skew, 3), mismatch=difference)
    )
    if (
        node.base is NodeBase.DOWN
        and not node.down_by_silence
        and conf.return_to_service == 2
        and node.reason_by == "helix"
    ):
        change.events.append(ev.NodeUpdated(t=now, node=name, base=NodeBase.UP, reason="", by="helix"))
    known = {(s.job_id, s.attempt): s for s in steps}
    for (job_id, attempt), step in known.items():
        job = state.jobs.get(job_id)
        if job is None or job.attempt != attempt or not job.is_active or batch_host(job) != name:
            if step.running:
                change.actions.append(TerminateJob(job_id, name, attempt, now=True))
            else:
                change.actions.append(AckExit(name, job_id, attempt))
    for job_id in list(node.jobs):
        job = state.jobs[job_id]
        if batch_host(job) != name:
            continue
        _reconcile_job(job, known.get((job_id, job.attempt)), change, now, rebooted, conf)
    return change


def health_told(node: NodeRecord, trouble: str, now: float) -> list[ev.Event]:
    """A heartbeat's word on a node: trouble drains it, the end of the trouble undoes that drain and no other."""
    if trouble and not node.drain:
        return [ev.NodeUpdated(t=now, node=node.name, drain=True, by_health=True, reason=trouble[:1024], by="helix")]
    if not trouble and node.drain_by_health:
        return [ev.NodeUpdated(t=now, node=node.name, drain=False, reason="", by="helix")]
    return []


class RegisterRules:
    """What the configuration says about registrations."""

    def __init__(self, *, may_claim_more: bool, return_to_service: int, requeue_default: bool) -> None:
        self.may_claim_more = may_claim_more
        self.return_to_service = return_to_service
        self.requeue_default = requeue_default


def _reconcile_job(
    job: JobRecord, step: StepKnown | None, change: Change, now: float, rebooted: bool, conf: RegisterRules
) -> None:
    if step is None:
        if job.state is JobState.CONFIGURING and not rebooted:
            change.actions.extend(actions_for(job))  # the launch may never have reached the node
        else:
            lost = "the node was restarted" if rebooted else "the node has no record of the job"
            change.events.append(lost_job(job, f"{batch_host(job)}: {lost}", now, requeue_default=conf.requeue_default))
    elif step.running:
        if job.state is JobState.CONFIGURING:
            change.events.append(ev.JobLaunched(t=now, job_id=job.job_id, attempt=job.attempt))
        else:
            change.actions.extend(actions_for(job))


def node_lost(state: State, name: str, text: str, now: float, *, requeue_default: bool) -> Change:
    """A node was silent for too long, or an admin set it DOWN: its jobs end or go back to the queue.

    A job that runs on several nodes and was submitted with --no-kill goes on while its first node lives.
    """
    change = Change()
    for job_id in list(state.nodes[name].jobs):
        job = state.jobs[job_id]
        host = batch_host(job)
        if job.spec.no_kill and host != name:
            continue
        change.events.append(lost_job(job, f"node {name} {text}", now, requeue_default=requeue_default))
        if host != name:
            change.actions.append(TerminateJob(job_id, host, job.attempt))
    return change


__all__ = ["Action", "RegisterRules", "mismatch", "node_lost", "node_registered", "step_ended", "step_started"]
