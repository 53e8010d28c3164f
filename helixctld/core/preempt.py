"""Who may be told to make room for whom, on what terms, and the events that say so.  Pure.

The plugin (`preempt/...`) says which job may take the place of which; here are the rules that hold for all of them:
modes, exempt times, priorities that exempt.  `helix.sched.preempt` chooses among those allowed; `Preempting`
(helixctld/schedule) brings the two together after each pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import JobState, Reason
from helix.plugin.families import PreemptPlugin
from helix.sched.preempt import CANCEL, OFF, REQUEUE, SUSPEND, Contender, PreemptRules, Terms
from helixctld.core.reports import may_requeue
from helixctld.core.state import State
from helixctld.core.yielding import note_cores

STARTING_S = 0.2  #: after so long a job that was just started is looked at again: its node will have said that it runs

_MAIN = (OFF, CANCEL, REQUEUE, SUSPEND)


@dataclass(frozen=True, slots=True)
class How:
    """The way in which a job would make room.  `t` > 0: not before then (PreemptExemptTime)."""

    mode: str
    terms: Terms
    t: float = 0.0


def contender(state: State, job: JobRecord, partition: str = "") -> Contender:
    """What plugins see of a job, in `partition` ("" = the one it has)."""
    name = partition or job.partition
    part = state.partitions.get(name)
    qos = state.accounts.qos.get(job.spec.qos) if job.spec.qos else None
    return Contender(
        job_id=job.job_id,
        uid=job.uid,
        account=job.spec.account,
        priority=job.priority,
        partition=name,
        tier=part.priority_tier if part is not None else 0,
        partition_modes=tuple(part.preempt_mode) if part is not None else (),
        partition_grace_s=part.grace_time_s if part is not None else 0,
        qos=job.spec.qos,
        qos_priority=qos.priority if qos is not None else 0,
        qos_preempts=qos.preempt if qos is not None else (),
        qos_modes=qos.preempt_mode if qos is not None else (),
        qos_grace_s=qos.grace_time_s if qos is not None else 0,
        qos_exempt_s=qos.preempt_exempt_time_s if qos is not None else None,
    )


def contenders(state: State, job: JobRecord) -> list[Contender]:
    """What plugins see of a running job: of a heterogeneous one, once for each partition it is in."""
    parts = [spec.partitions[0] for spec in job.spec.components if spec.partitions]
    return [contender(state, job, name) for name in dict.fromkeys([job.partition, *parts])]


def terms_of(plugin: PreemptPlugin, job: Sequence[Contender], rules: PreemptRules) -> Terms:
    """The terms on which a job makes room: the first component's, but a heterogeneous job is protected by any one that
    is, and warned for the longest time."""
    terms = [plugin.terms(part) for part in job]
    if len(terms) == 1:
        return terms[0]
    protected = any(mode_of(each, rules) == OFF for each in terms)
    return replace(
        terms[0],
        modes=(OFF,) if protected else terms[0].modes,
        grace_s=max(each.grace_s for each in terms),
        level=max(each.level for each in terms),
    )


def exempt_until(state: State, job: JobRecord) -> float:
    """From when on a running job may have to make room, epoch seconds."""
    qos = state.accounts.qos.get(job.spec.qos) if job.spec.qos else None
    own = qos.preempt_exempt_time_s if qos is not None else None
    return job.t_start + job.suspended_s + (state.preempt_rules.exempt_s if own is None else own)


def how_to(job: JobRecord, terms: Terms, rules: PreemptRules, now: float) -> How | None:
    """How a running job would make room, apart from who asks; None if it never does."""
    if rules.min_exempt_priority and job.priority >= rules.min_exempt_priority:
        return None
    mode = mode_of(terms, rules)
    if mode == REQUEUE and not may_requeue(job, rules.requeue_default):
        mode = CANCEL
    if mode == OFF or job.state is JobState.COMPLETING or job.yields_cpus:
        return None
    if mode == SUSPEND and job.state is not JobState.RUNNING:
        return How(mode, terms, now + STARTING_S) if job.state is JobState.CONFIGURING else None
    exempt = rules.exempt_s if terms.exempt_s is None else terms.exempt_s
    t = job.t_start + job.suspended_s + exempt
    return How(mode, terms, t if exempt and t > now else 0.0)


def mode_of(terms: Terms, rules: PreemptRules) -> str:
    """The word of PreemptMode in force."""
    return _main(terms.modes) or _main(rules.modes) or OFF


def _main(modes: tuple[str, ...]) -> str:
    return next((word for word in modes if word in _MAIN), "")


def make_room(
    victim: JobRecord, how: How, preemptor: JobRecord, asker: Contender, rules: PreemptRules, now: float
) -> ev.Event:
    """The event that tells a job to make room."""
    if how.mode == SUSPEND:
        return ev.JobSuspended(t=now, job_id=victim.job_id, cause="preempt", yields=True, preemptor=preemptor.job_id)
    by = f"qos {asker.qos}" if asker.qos and asker.qos_preempts else f"partition {asker.partition}"
    own = victim.spec.signal
    return ev.JobEnding(
        t=now,
        job_id=victim.job_id,
        attempt=victim.attempt,
        outcome=JobState.REQUEUED if how.mode == REQUEUE else JobState.PREEMPTED,
        reason=Reason.PREEMPTED,
        reason_text=f"preempted by job {preemptor.display_id} (user {preemptor.user or preemptor.uid}, {by})",
        preemptor=preemptor.job_id,
        kill_wait_s=how.terms.grace_s or None,
        signal=own.signal if own is not None and rules.send_user_signal else 0,
    )


def to_resume(state: State) -> list[JobRecord]:
    """Suspended jobs that can have their CPUs back, all of them together: those suspended first first."""
    if not state.yielding:
        return []
    waiting = [state.jobs[job_id] for job_id in state.yielding if state.jobs[job_id].state is JobState.SUSPENDED]
    waiting.sort(key=lambda job: (-_tier(state, job), job.t_suspended, job.job_id))
    given: dict[str, int] = {}
    back: list[JobRecord] = []
    for job in waiting:
        if state.can_take_back(job, given) and not state.is_claimed(job):
            note_cores(job, given)
            back.append(job)
    return back


def _tier(state: State, job: JobRecord) -> int:
    part = state.partitions.get(job.partition)
    return part.priority_tier if part is not None else 0
