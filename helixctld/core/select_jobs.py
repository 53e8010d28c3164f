"""From what a user typed to records: job ids (`12`, `12_3`, `12_[1-5]`) and filters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from helix.errors import NotFound, UsageError
from helix.hostlist import parse_hostlist
from helix.indexset import IndexSet, parse_indexes
from helix.model.hetjob import COMPONENTS_MAX
from helix.model.job import JobRecord
from helix.model.job_state import STATE_CODES, JobState
from helix.sched.licences import licences_of
from helix.wire.methods import JobFilter
from helixctld.core.reservation_index import asked
from helixctld.core.state import State

_BY_CODE = {code: state for state, code in STATE_CODES.items()}
_STARTS = frozenset("0123456789")


class Target(Struct, frozen=True):
    """A record, or with `tasks` only those not yet started tasks of an array's own record."""

    job: JobRecord
    tasks: IndexSet | None = None


def parse_job_id(text: str) -> tuple[int, IndexSet | None]:
    """`12`, `12_3` or `12_[1-5,9]` as job id and task indexes; raises UsageError (JOB_ID_INVALID).

    `12+1`, a component of a heterogeneous job, stands for the whole of it.
    """
    head, sep, tail = text.strip().partition("_")
    leader, plus, offset = head.partition("+")
    if plus and not sep and offset.isascii() and offset.isdigit():
        head = leader
    if not head.isascii() or not head.isdigit() or len(head) > 18 or (sep and not tail):
        raise UsageError(
            f"'{text[:40]}' is not a job id", code="JOB_ID_INVALID", hint="a job id is 12, 12_3 or 12_[1-5]"
        )
    if not sep:
        return int(head), None
    try:
        return int(head), parse_indexes(tail)
    except UsageError as exc:
        raise UsageError(f"'{text[:40]}' is not a job id: {exc.msg}", code="JOB_ID_INVALID") from exc


def resolve(state: State, text: str) -> list[Target]:
    """Every record that `text` names: an array's id stands for its own record and all started tasks.

    Raises NotFound (JOB_UNKNOWN) or UsageError.
    """
    job_id, tasks = parse_job_id(text)
    if tasks is None:
        job = state.jobs.get(job_id) or _leader(state, job_id)
        if job is None:
            raise unknown_job(state, text, job_id)
        if not job.is_array:
            return [Target(job)]
        return [Target(job), *(Target(task) for task in state.tasks_of(job_id))]
    started = state.array_tasks.get(job_id, {})
    found = [Target(state.jobs[started[index]]) for index in started if index in tasks]
    parent = state.jobs.get(job_id)
    if parent is not None and parent.pending is not None:
        waiting = parent.pending.intersection(tasks)
        if waiting:
            found.append(Target(parent, waiting))
    if not found:
        raise unknown_job(state, text, job_id)
    return found


def _leader(state: State, job_id: int) -> JobRecord | None:
    """The heterogeneous job that `job_id` is a component's id of."""
    for offset in range(1, COMPONENTS_MAX):
        job = state.jobs.get(job_id - offset)
        if job is not None:
            return job if len(job.spec.components) >= offset else None
    return None


def unknown_job(state: State, text: str, job_id: int) -> NotFound:
    """The error for an id without a record; a forgotten job is named as such."""
    past = state.history.get(job_id)
    if past is not None:
        return NotFound(
            f"job {text} ended ({past.state}) and left the controller's table",
            code="JOB_FORGOTTEN",
            hint="finished jobs stay for MinJobAge seconds",
        )
    return NotFound(f"no job {text}", code="JOB_UNKNOWN", hint="hqueue lists the jobs")


def parse_states(names: Iterable[str]) -> frozenset[JobState] | None:
    """Long or two-letter names; None for `all`.  Raises UsageError (STATE_UNKNOWN)."""
    states = set()
    for name in names:
        word = name.strip().upper()
        if word == "ALL":
            return None
        if word in _BY_CODE:
            states.add(_BY_CODE[word])
        elif word in JobState.__members__:
            states.add(JobState[word])
        else:
            known = ", ".join(str(s) for s in JobState)
            raise UsageError(f"no job state '{name[:40]}'", code="STATE_UNKNOWN", hint=f"the states are {known}")
    return frozenset(states)


def select(state: State, f: JobFilter) -> Iterator[JobRecord]:
    """Records that meet every criterion of the filter, in id order; unknown ids are left out.

    Without `states` only open jobs are given, as squeue does.
    """
    states: frozenset[JobState] | None
    states = parse_states(f.states) if f.states else frozenset()
    users, names, accounts = frozenset(f.users), frozenset(f.names), frozenset(f.accounts)
    partitions, qos = frozenset(f.partitions), frozenset(f.qos)
    nodes = frozenset(parse_hostlist(f.nodelist)) if f.nodelist else frozenset()
    licences = frozenset(f.licenses)
    plain = not (users or names or accounts or partitions or qos or nodes or licences or f.reservation)
    for job in _candidates(state, f.ids):
        if states is not None:
            if states:
                if job.state not in states and not (job.outcome is not None and job.outcome in states):
                    continue
            elif job.is_terminal:
                continue
        if job.pending is not None and not job.pending and not job.is_terminal:
            continue  # all tasks of the array have started: they are shown, not it
        if plain:
            yield job
            continue
        if users and job.user not in users and str(job.uid) not in users:
            continue
        if names and job.spec.name not in names:
            continue
        if accounts and job.spec.account not in accounts:
            continue
        if qos and job.spec.qos not in qos:
            continue
        if partitions and job.partition not in partitions and partitions.isdisjoint(job.spec.partitions):
            continue
        if nodes and (job.alloc is None or nodes.isdisjoint(job.alloc.nodes)):
            continue
        if licences and licences.isdisjoint(name for name, _ in licences_of(job.spec)):
            continue
        if f.reservation and f.reservation not in (asked(job) if job.is_waiting else (job.reservation,)):
            continue
        yield job


def _candidates(state: State, ids: list[str]) -> Iterable[JobRecord]:
    if not ids:
        return list(state.jobs.values())
    found: dict[int, JobRecord] = {}
    for text in ids:
        try:
            for target in resolve(state, text):
                found[target.job.job_id] = target.job
        except NotFound:
            continue
    return found.values()
