"""Events in, changed records out.  No effects: what the change calls for is derived by `effects.py`.

`apply(state, event)` is the only writer of records, at run time and at replay alike, so replay reproduces the
state.  A stale event (an attempt that is over) changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappush
from typing import Any

from msgspec.structs import replace

from helix.indexset import IndexSet, parse_indexes
from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import TERMINAL, JobState, Reason
from helix.model.node import NodeBase
from helix.model.reservation import ReservationRecord
from helixctld.core.deadlines import watch_deadline
from helixctld.core.limits import look_at_thresholds
from helixctld.core.mail_marks import set_marks
from helixctld.core.reservation_index import asked, index_job, mark_nodes
from helixctld.core.state import State
from helixctld.core.usage import charge_until, decay


def apply(state: State, event: ev.Event) -> None:
    """Change the records and indexes as `event` says."""
    _TABLE[type(event)](state, event)
    if state.accounts.is_configured:
        for job_id in {getattr(event, "job_id", 0), getattr(event, "array_job_id", 0)} - {0}:
            state.open_jobs.note(job_id, state.jobs.get(job_id))


def _controller_started(state: State, e: ev.ControllerStarted) -> None:
    state.epoch = e.epoch


def _blob_stored(state: State, e: ev.BlobStored) -> None:
    """The shell keeps the bytes; the state remembers that the journal has them."""
    state.blobs.add(e.hash)


def _job_submitted(state: State, e: ev.JobSubmitted) -> None:
    spec = e.spec
    job = JobRecord(
        job_id=e.job_id,
        uid=e.uid,
        gid=e.gid,
        user=e.user,
        group=e.group,
        spec=spec,
        priority=e.priority,
        assoc=e.assoc,
        held="admin" if spec.priority == 0 else "user" if spec.hold else "",
        t_submit=e.t,
        partition=spec.partitions[0] if spec.partitions else state.default_partition,
    )
    if spec.array is not None:
        job.pending = spec.array
        job.array_job_id = e.job_id
    state.add_job(job)
    if spec.token:
        state.remember_token(spec.token, e.job_id, e.t)
    state.tell(job, "", JobState.PENDING, e.t, "submitted")
    watch_deadline(state, job)
    state.look_again(job, e.t)


def _job_started(state: State, e: ev.JobStarted) -> None:
    parent = None
    if e.array_task_id is not None and e.job_id not in state.jobs:
        parent = state.jobs[e.array_job_id]
        job = _split_task(state, parent, e)
    else:
        job = state.jobs[e.job_id]
        if job.array_task_id is not None:
            parent = state.jobs.get(job.array_job_id)
    job.attempt = e.attempt
    job.alloc = e.alloc
    job.partition = e.partition
    job.reservation, job.t_over_run = e.reservation, 0.0
    job.time_limit_s = e.time_limit_s
    job.t_start = e.t
    job.t_end = 0.0
    job.suspended_s = job.t_suspended = 0.0
    job.charged_ms = 0
    job.assoc = e.assoc or job.assoc
    job.suspended_for = ""
    job.t_preempt = job.t_kill = 0.0
    job.preemptor = 0
    job.outcome = None
    job.reason, job.reason_text = Reason.NONE, ""
    if parent is not None and parent.claim is not None and parent.claim.alloc.cores == e.alloc.cores:
        state.drop_claim(parent)
    state.set_job_state(job, JobState.CONFIGURING, e.t, f"start {e.attempt}")
    state.take(job)
    state.schedulable.discard(job.job_id)
    state.dirty_jobs.add(job.job_id)
    if parent is not None:
        parent.tasks_active += 1
        if parent.is_waiting:
            state.look_again(parent, e.t)
    state.wake_dependents(job, e.t)  # `after`


def _split_task(state: State, parent: JobRecord, e: ev.JobStarted) -> JobRecord:
    assert parent.pending is not None
    assert e.array_task_id is not None
    parent.pending = parent.pending.without(e.array_task_id)
    parent.tasks_open += 1
    job = JobRecord(
        job_id=e.job_id,
        uid=parent.uid,
        gid=parent.gid,
        user=parent.user,
        group=parent.group,
        spec=parent.spec,
        priority=parent.priority,
        assoc=parent.assoc,
        t_submit=parent.t_submit,
        t_eligible=parent.t_eligible,
        array_job_id=parent.job_id,
        array_task_id=e.array_task_id,
    )
    state.add_job(job)
    return job


def _job_launched(state: State, e: ev.JobLaunched) -> None:
    job = state.jobs.get(e.job_id)
    if job is None or job.attempt != e.attempt or job.state is not JobState.CONFIGURING:
        return
    if e.t_start:
        job.t_start = e.t_start
    job.stdout_path, job.stderr_path = e.stdout, e.stderr
    state.set_job_state(job, JobState.RUNNING, e.t, "script started")


def _job_ending(state: State, e: ev.JobEnding) -> None:
    job = state.jobs.get(e.job_id)
    if job is None or job.attempt != e.attempt or not job.is_active:
        return
    job.outcome = e.outcome
    job.reason, job.reason_text = e.reason, e.reason_text
    job.killed_by = e.by_uid
    job.requeue_hold = e.requeue_hold
    job.t_kill = 0.0 if e.kill_wait_s is None else e.t + e.kill_wait_s
    if e.preemptor:
        job.preemptor, job.t_preempt = e.preemptor, e.t
        job.preemptions += 1
    if job.state is not JobState.COMPLETING:
        if job.state is JobState.SUSPENDED:
            job.suspended_s += e.t - job.t_suspended
        state.set_job_state(job, JobState.COMPLETING, e.t, f"to end {e.outcome}")
        state.mark_completing(job)


def _job_ended(state: State, e: ev.JobEnded) -> None:
    job = state.jobs.get(e.job_id)
    if job is None or job.attempt != e.attempt or job.is_terminal:
        return
    was_active = job.is_active
    if job.state is JobState.SUSPENDED:
        job.suspended_s += e.t - job.t_suspended
    if was_active:
        state.release(job)
        job.stdout_path = e.stdout or job.stdout_path
        job.stderr_path = e.stderr or job.stderr_path
        if e.t_start:
            job.t_start = e.t_start
        charge_until(state.usage, job, e.t)
        state.usage_charges += 1
    job.exit = e.exit
    job.derived_exit = e.exit
    job.usage = e.usage
    job.reason, job.reason_text = e.reason, e.reason_text
    job.t_end = e.t
    job.outcome = None
    if e.by_uid is not None:
        job.killed_by = e.by_uid
    job.launch_failures = job.launch_failures + 1 if e.launch_failed else 0
    if e.exclude_node and e.exclude_node not in job.excluded_nodes:
        job.excluded_nodes.append(e.exclude_node)
    job.t_over_run = 0.0
    if e.state not in TERMINAL:
        job.reservation = ""
    state.set_job_state(job, e.state, e.t, _ended_cause(e))
    if e.state not in TERMINAL:
        _back_to_queue(state, job, e.held, e.t, e.t_begin)
    else:
        state.schedulable.discard(job.job_id)
    state.dirty_jobs.add(job.job_id)
    if job.array_task_id is not None and (parent := state.jobs.get(job.array_job_id)) is not None:
        if was_active:
            parent.tasks_active -= 1
        if e.state in TERMINAL:
            parent.tasks_open -= 1
            parent.tasks_done += 1
            parent.tasks_failed += e.state is not JobState.COMPLETED
            parent.derived_exit = max(parent.derived_exit, e.exit, key=lambda x: (x.code, x.signal))
        _settle_array(state, parent, e.t)
    state.wake_dependents(job, e.t)


def _ended_cause(e: ev.JobEnded) -> str:
    cause = f"exit {e.exit}"
    if e.reason is not Reason.NONE:
        cause += f", {e.reason}"
    if e.by_uid is not None:
        cause += f", by uid {e.by_uid}"
    return cause


def _back_to_queue(state: State, job: JobRecord, held: str, t: float, t_begin: float) -> None:
    job.alloc = None
    job.attempt += 1
    job.held = held or job.held
    job.requeue_hold = ""
    if t_begin > job.spec.t_begin:
        spec = _copied(job)
        spec.t_begin = t_begin
    if job.reason is not Reason.LAUNCH_FAILED_REQUEUED_HELD:
        job.reason, job.reason_text = Reason.NONE, ""
    job.t_eligible = job.aged_s = 0.0
    state.register_edges(job)
    watch_deadline(state, job)
    state.look_again(job, t)


def _copied(job: JobRecord) -> Any:
    """The job's spec, made its own (array tasks share their array's)."""
    job.spec = replace(job.spec)
    return job.spec


def _settle_array(state: State, parent: JobRecord, t: float) -> None:
    """End the array's own record when nothing of it is left; otherwise look whether more tasks may start."""
    if parent.is_terminal:
        return
    if not parent.pending and not parent.tasks_open:
        if parent.tasks_done == 0:
            end = JobState.CANCELLED
        else:
            end = JobState.FAILED if parent.tasks_failed else JobState.COMPLETED
        parent.t_end = t
        parent.reason, parent.reason_text = Reason.NONE, ""
        if end is JobState.FAILED:  # a PENDING record cannot fail by itself: its tasks did
            parent.exit = parent.derived_exit
        parent.t_start = parent.t_start or t
        state.schedulable.discard(parent.job_id)
        state.dirty_jobs.add(parent.job_id)
        state.set_job_state(parent, end, t, f"{parent.tasks_done} tasks ended, {parent.tasks_failed} failed")
        state.wake_dependents(parent, t)
    elif parent.is_waiting:
        state.look_again(parent, t)


def _job_suspended(state: State, e: ev.JobSuspended) -> None:
    job = state.jobs.get(e.job_id)
    if job is not None and job.state is JobState.RUNNING:
        job.t_suspended = e.t
        job.suspended_for = e.cause
        if e.preemptor:
            job.preemptor, job.t_preempt = e.preemptor, e.t
            job.preemptions += 1
        if e.yields:
            state.yield_cpus(job)
        cause = f"for job {e.preemptor}" if e.preemptor else e.cause or f"by uid {e.by_uid}"
        state.set_job_state(job, JobState.SUSPENDED, e.t, cause)


def _job_resumed(state: State, e: ev.JobResumed) -> None:
    job = state.jobs.get(e.job_id)
    if job is not None and job.state is JobState.SUSPENDED:
        if job.yields_cpus and not state.can_take_back(job):
            return
        job.suspended_s += e.t - job.t_suspended
        job.suspended_for = ""
        if job.yields_cpus:
            state.take_cpus_back(job)
        state.set_job_state(job, JobState.RUNNING, e.t, e.cause or f"by uid {e.by_uid}")


def _job_claimed(state: State, e: ev.JobClaimed) -> None:
    job = state.jobs.get(e.job_id)
    if job is None or not job.is_waiting:
        return
    state.drop_claim(job)
    if e.claim is not None:
        job.claim = e.claim
        state.claims.add(job.job_id)
        state.keep_for_waiting(e.claim.alloc.nodes)
        state.tell(job, job.state, job.state, e.t, f"jobs {', '.join(map(str, e.claim.victims))} make room")
    else:
        state.tell(job, job.state, job.state, e.t, e.why or "no room is made any more")
    state.look_again(job, e.t)


def _job_held(state: State, e: ev.JobHeld) -> None:
    job = state.jobs.get(e.job_id)
    if job is not None and not job.is_terminal:
        job.held = e.by
        state.drop_claim(job)
        if job.is_waiting:
            if job.t_eligible:  # what it has waited counts, the time it is held does not
                job.aged_s += max(0.0, e.t - job.t_eligible)
                job.t_eligible = 0.0
            state.tell(job, job.state, job.state, e.t, f"held ({e.by}) by uid {e.by_uid}")
            state.look_again(job, e.t)


def _job_released(state: State, e: ev.JobReleased) -> None:
    job = state.jobs.get(e.job_id)
    if job is None or job.is_terminal:
        return
    job.held = ""
    job.launch_failures = 0
    if job.reason in (
        Reason.LAUNCH_FAILED_REQUEUED_HELD,
        Reason.RESERVATION_DELETED,
        Reason.HELD_ADMIN,
        Reason.HELD_USER,
    ):
        job.reason, job.reason_text = Reason.NONE, ""
    if job.spec.priority is not None:  # a release gives the priority back to the plugin, as Slurm's does
        _copied(job).priority = None
        if e.priority is not None:
            job.priority = e.priority
    if job.is_waiting:
        if job.state is not JobState.PENDING:
            state.set_job_state(job, JobState.PENDING, e.t, f"released by uid {e.by_uid}")
        state.look_again(job, e.t)


def _job_requeued(state: State, e: ev.JobRequeued) -> None:
    job = state.jobs.get(e.job_id)
    if job is None or job.is_active:
        return
    new = JobState.SPECIAL_EXIT if e.special else JobState.REQUEUE_HOLD if e.held else JobState.PENDING
    if job.is_waiting:
        if new is not job.state and job.state is JobState.PENDING:
            job.held = e.held
            state.set_job_state(job, new, e.t, f"requeue-held by uid {e.by_uid}")
            state.look_again(job, e.t)
        return
    failed = job.state is not JobState.COMPLETED
    state.set_job_state(job, new, e.t, f"requeued by uid {e.by_uid}")
    job.t_start = job.t_end = 0.0
    if job.array_task_id is not None and (parent := state.jobs.get(job.array_job_id)) is not None:
        parent.tasks_open += 1
        parent.tasks_done -= 1
        parent.tasks_failed -= failed
    _back_to_queue(state, job, e.held, e.t, 0.0)
    state.wake_dependents(job, e.t)  # an aftercorr array waits for it again


def _job_updated(state: State, e: ev.JobUpdated) -> None:
    job = state.jobs.get(e.job_id)
    if job is None:
        return
    old_name = job.spec.name
    if e.spec.dependency != job.spec.dependency:
        job.dependency_met = False
    job.spec = e.spec
    state.drop_claim(job)
    if e.priority is not None:
        job.priority = e.priority
        if job.held == "admin" and e.priority > 0 and e.spec.priority:
            job.held = ""
    if e.spec.priority == 0 and job.is_waiting:
        job.held = "admin"
    if e.assoc is not None:
        job.assoc = e.assoc
    if e.time_limit_s is not None:
        job.time_limit_s = e.time_limit_s
        set_marks(state, job, e.t)
        state.dirty_active.add(job.job_id)
        state.dirty_jobs.add(job.job_id)
    if e.pending is not None and job.pending is not None:
        job.pending = parse_indexes(e.pending) if e.pending else IndexSet()
    if old_name != e.spec.name:
        state.rename(job, old_name, e.t)
    index_job(state, job, e.t)
    if job.is_waiting:
        if e.spec.partitions:
            job.partition = e.spec.partitions[0]
        state.register_edges(job)
        watch_deadline(state, job)
        state.look_again(job, e.t)
    state.tell(job, job.state, job.state, e.t, f"updated by uid {e.by_uid}")


def _dependency_met(state: State, e: ev.DependencyMet) -> None:
    job = state.jobs.get(e.job_id)
    if job is not None and job.is_waiting:
        job.dependency_met = True
        state.look_again(job, e.t)


def _array_tasks_cancelled(state: State, e: ev.ArrayTasksCancelled) -> None:
    job = state.jobs.get(e.job_id)
    if job is None or job.pending is None or job.is_terminal or not e.tasks:
        return
    job.pending = job.pending.difference(parse_indexes(e.tasks))
    job.killed_by = e.by_uid
    state.tell(job, job.state, job.state, e.t, f"tasks {e.tasks} cancelled by uid {e.by_uid}")
    _settle_array(state, job, e.t)


def _jobs_forgotten(state: State, e: ev.JobsForgotten) -> None:
    ended_ok: dict[int, list[int]] = {}
    ended_bad: dict[int, list[int]] = {}
    for job_id in e.job_ids:
        job = state.jobs.get(job_id)
        if job is not None and job.is_terminal:
            if job.array_task_id is not None:
                kind = ended_ok if job.state is JobState.COMPLETED else ended_bad
                kind.setdefault(job.array_job_id, []).append(job.array_task_id)
            state.forget_job(job_id)
            state.dependents.pop(job_id, None)
    for array_id, tasks in ended_ok.items():
        if (parent := state.jobs.get(array_id)) is not None:
            parent.forgotten_ok = (parent.forgotten_ok or IndexSet()).union(IndexSet.of(tasks))
        elif (past := state.history.get(array_id)) is not None:
            known = (past.tasks_ok or IndexSet()).union(IndexSet.of(tasks))
            state.history[array_id] = replace(past, tasks_ok=known)
    for array_id, tasks in ended_bad.items():
        if (parent := state.jobs.get(array_id)) is not None:
            parent.forgotten_bad = (parent.forgotten_bad or IndexSet()).union(IndexSet.of(tasks))


def _node_registered(state: State, e: ev.NodeRegistered) -> None:
    node = state.nodes.get(e.node)
    if node is None:
        return
    node.fingerprint = e.fingerprint
    node.skew_s = e.skew_s
    node.t_last_seen = e.t
    if node.base in (NodeBase.UNKNOWN, NodeBase.FUTURE) or (node.base is NodeBase.DOWN and node.down_by_silence):
        node.base = NodeBase.UP
        if node.down_by_silence or not node.drain:
            node.down_by_silence = False
            if not node.drain:
                node.reason = node.reason_by = ""
    if e.mismatch:
        if not node.drain or node.drain_by_mismatch:
            node.drain, node.drain_by_mismatch = True, True
            node.reason, node.reason_by, node.t_reason = e.mismatch, "helix", e.t
    elif node.drain_by_mismatch:
        node.drain = node.drain_by_mismatch = False
        node.reason = node.reason_by = ""
    state.dirty_nodes.add(e.node)


def _node_updated(state: State, e: ev.NodeUpdated) -> None:
    node = state.nodes.get(e.node)
    if node is None:
        return
    if e.base is not None:
        node.base = NodeBase(e.base)
        node.down_by_silence = e.by_silence
    if e.drain is not None:
        node.drain = e.drain
        node.drain_by_mismatch = False
        node.drain_by_health = e.drain and e.by_health
    if e.fail is not None:
        node.fail = e.fail
    if e.reason is not None:
        node.reason, node.reason_by, node.t_reason = e.reason, e.by, e.t
    if "weight" in e.changes:
        node.weight = int(e.changes["weight"])
    if "features" in e.changes:
        node.features = list(e.changes["features"])
    state.dirty_nodes.add(e.node)


def _partition_updated(state: State, e: ev.PartitionUpdated) -> None:
    partition = state.partitions.get(e.name)
    if partition is None:
        return
    if e.changes.get("is_default"):
        for other in state.partitions.values():
            other.is_default = False
    for name, value in e.changes.items():
        setattr(partition, name, value)
    state.dirty_partitions = True
    if "qos" in e.changes and state.take_partition_qos():
        state.question_all()


def _usage_decayed(state: State, e: ev.UsageDecayed) -> None:
    decay(state, e)
    look_at_thresholds(state, e.t)


def _reservation_created(state: State, e: ev.ReservationCreated) -> None:
    r = e.reservation
    state.reservations[r.name] = replace(r)
    _reservation_changed(state, r.name, r.shares, e.t)


def _reservation_updated(state: State, e: ev.ReservationUpdated) -> None:
    old = state.reservations.get(e.reservation.name)
    if old is None:
        return
    r = state.reservations[old.name] = replace(e.reservation)
    if not r.active:
        r.t_idle = 0.0
        if old.active:
            _let_over_run(state, old, e.t, e.over_run_s)
    _reservation_changed(state, r.name, old.shares.keys() | r.shares.keys(), e.t)


def _reservation_started(state: State, e: ev.ReservationStarted) -> None:
    r = state.reservations.get(e.name)
    if r is not None:
        r.active = True
        r.t_idle = 0.0 if e.name in state.reservation_jobs else e.t
        _reservation_changed(state, e.name, r.shares, e.t)


def _reservation_deleted(state: State, e: ev.ReservationDeleted) -> None:
    """Jobs that wait for it lose their wish for it; unless they wished for others too, they are held."""
    r = state.reservations.pop(e.name, None)
    if r is None:
        return
    if r.active:
        _let_over_run(state, r, e.t, e.over_run_s)
    for job_id in sorted(state.reservation_jobs.get(e.name, ())):
        job = state.jobs[job_id]
        if not job.is_waiting:
            continue
        left = [name for name in asked(job) if name != e.name]
        _copied(job).reservation = ",".join(left)
        index_job(state, job, e.t)
        if not left and not r.has("NO_HOLD_JOBS_AFTER") and not job.held and job.state is JobState.PENDING:
            job.held = "user"
            job.reason, job.reason_text = Reason.RESERVATION_DELETED, f"reservation {e.name} is gone"
        state.tell(job, job.state, job.state, e.t, f"reservation {e.name} is gone ({e.cause or 'deleted'})")
        state.look_again(job, e.t)
    _reservation_changed(state, e.name, r.shares, e.t)


def _reservation_changed(state: State, name: str, nodes: Iterable[str], t: float) -> None:
    mark_nodes(state, nodes)
    for job_id in sorted(state.reservation_jobs.get(name, ())):
        if (job := state.jobs[job_id]).is_waiting:
            state.look_again(job, t)
    state.dirty_reservations = True
    state.calendar_version += 1


def _let_over_run(state: State, r: ReservationRecord, t: float, over_run_s: int | None) -> None:
    """Its time is over: what runs in it is ended after ResvOverRun."""
    if over_run_s is None or r.has("FLEX"):
        return
    for job_id in sorted(state.reservation_jobs.get(r.name, ())):
        job = state.jobs[job_id]
        if job.is_active and job.reservation == r.name:
            job.t_over_run = t + over_run_s
            heappush(state.over_run, (job.t_over_run, job_id))


def _key_admitted(state: State, e: ev.NodeKeyAdmitted) -> None:
    state.keys[e.name] = e.key


_TABLE: dict[type, Callable[[State, Any], None]] = {
    ev.ControllerStarted: _controller_started,
    ev.BlobStored: _blob_stored,
    ev.JobSubmitted: _job_submitted,
    ev.JobStarted: _job_started,
    ev.JobLaunched: _job_launched,
    ev.JobEnding: _job_ending,
    ev.JobEnded: _job_ended,
    ev.JobSuspended: _job_suspended,
    ev.JobResumed: _job_resumed,
    ev.JobClaimed: _job_claimed,
    ev.JobHeld: _job_held,
    ev.JobReleased: _job_released,
    ev.JobRequeued: _job_requeued,
    ev.JobUpdated: _job_updated,
    ev.DependencyMet: _dependency_met,
    ev.ArrayTasksCancelled: _array_tasks_cancelled,
    ev.JobsForgotten: _jobs_forgotten,
    ev.NodeRegistered: _node_registered,
    ev.NodeUpdated: _node_updated,
    ev.PartitionUpdated: _partition_updated,
    ev.NodeKeyAdmitted: _key_admitted,
    ev.UsageDecayed: _usage_decayed,
    ev.ReservationCreated: _reservation_created,
    ev.ReservationUpdated: _reservation_updated,
    ev.ReservationStarted: _reservation_started,
    ev.ReservationDeleted: _reservation_deleted,
}
