"""`--dependency`: does it hold now, later, or never?

Edges resolve against the table and then the history of forgotten jobs, so an edge to a job that ended long ago is
decided as it would have been at the time.  Source of meanings: sbatch(1) `--dependency`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from helix.errors import Conflict, NotFound
from helix.model.job import Dependency, DependencyExpr, JobRecord
from helix.model.job_state import JobState

if TYPE_CHECKING:
    from helixctld.core.state import State


class Verdict(Enum):
    """What an edge, or all of them together, come to."""

    MET = 1
    WAIT = 2
    NEVER = 3


def evaluate(state: State, job: JobRecord, now: float) -> tuple[Verdict, float]:
    """The verdict on `job`'s whole expression, and when to look again if only time is missing (0 = not by time)."""
    expr = job.spec.dependency
    assert expr is not None
    again = 0.0
    verdicts = []
    for edge in expr.edges:
        verdict, t = _edge(state, job, edge, now)
        verdicts.append(verdict)
        if t:
            again = min(again, t) if again else t
    if not verdicts:
        return Verdict.MET, 0.0
    if expr.any:
        if Verdict.MET in verdicts:
            return Verdict.MET, 0.0
        return (Verdict.WAIT if Verdict.WAIT in verdicts else Verdict.NEVER), again
    if Verdict.NEVER in verdicts:
        return Verdict.NEVER, 0.0
    return (Verdict.WAIT if Verdict.WAIT in verdicts else Verdict.MET), again


def unmet(state: State, job: JobRecord, now: float, limit: int) -> list[str]:
    """The first `limit` edges that are not met, each with what it waits for: `afterok:12 (job 12 is RUNNING)`."""
    expr = job.spec.dependency
    found: list[str] = []
    for edge in expr.edges if expr is not None else ():
        verdict, t = _edge(state, job, edge, now)
        if verdict is Verdict.MET:
            continue
        if len(found) == limit:
            return [*found, "..."]
        if edge.kind == "singleton":
            found.append(f"singleton (an earlier job named '{job.spec.name[:80]}' is not over)")
            continue
        target, past = _target(state, edge, job), state.history.get(edge.job_id)
        if isinstance(target, JobRecord):
            what = f"is {target.state}" + (f", {round(t - now)} s are left" if t else "")
        else:
            what = f"ended {past.state}" if target is None and past is not None else "waits"
        task = f"_{edge.task_id}" if edge.task_id is not None else ""
        found.append(f"{format_dependency(DependencyExpr((edge,)))} (job {edge.job_id}{task} {what})")
    return found


def _edge(state: State, job: JobRecord, edge: Dependency, now: float) -> tuple[Verdict, float]:
    if edge.kind == "singleton":
        peers = state.singletons.get((job.uid, job.spec.name), set())
        own = {job.job_id, job.array_job_id}
        earlier = any(peer < job.job_id and peer not in own for peer in peers)
        return (Verdict.WAIT if earlier else Verdict.MET), 0.0
    if edge.kind == "aftercorr" and job.pending is not None:
        return _corr_array(state, job, edge), 0.0
    target = _target(state, edge, job)
    if target is None:
        return _by_history(state, edge, job), 0.0
    if isinstance(target, str):  # a task that has not started: only waiting
        return Verdict.WAIT, 0.0
    return _by_record(target, edge, now)


def _target(state: State, edge: Dependency, job: JobRecord) -> JobRecord | str | None:
    """The record an edge points to; "pending" for an array task that has not started; None if forgotten."""
    task = edge.task_id
    if edge.kind == "aftercorr" and task is None and job.array_task_id is not None:
        task = job.array_task_id
    parent = state.jobs.get(edge.job_id)
    if task is None:
        return parent
    task_job = state.array_tasks.get(edge.job_id, {}).get(task)
    if task_job is not None:
        return state.jobs[task_job]
    if parent is not None and parent.pending is not None and task in parent.pending:
        return "pending"
    return parent if parent is not None and parent.pending is None else None


def _by_record(target: JobRecord, edge: Dependency, now: float) -> tuple[Verdict, float]:
    if edge.kind == "after":
        begun = target.is_terminal or (not target.is_waiting if target.pending is None else not target.pending)
        if not begun:
            return Verdict.WAIT, 0.0
        t = (target.t_start or target.t_end or now) + edge.delay_s
        return (Verdict.MET, 0.0) if t <= now else (Verdict.WAIT, t)
    if not target.is_terminal:
        return Verdict.WAIT, 0.0
    return _by_outcome(edge.kind, target.state is JobState.COMPLETED and not target.tasks_failed), 0.0


def _forgotten_task(state: State, array_id: int, task: int | None) -> bool | None:
    """Whether a task that left the table completed; None if it is not known to have ended."""
    if task is None:
        return None
    parent = state.jobs.get(array_id)
    if parent is None:
        past = state.history.get(array_id)
        return None if past is None or past.tasks_ok is None else task in past.tasks_ok
    if parent.forgotten_ok is not None and task in parent.forgotten_ok:
        return True
    return False if parent.forgotten_bad is not None and task in parent.forgotten_bad else None


def _by_history(state: State, edge: Dependency, job: JobRecord) -> Verdict:
    task = job.array_task_id if edge.kind == "aftercorr" and edge.task_id is None else edge.task_id
    ok = _forgotten_task(state, edge.job_id, task)
    if ok is not None:
        return Verdict.MET if edge.kind == "after" else _by_outcome(edge.kind, ok)
    past = state.history.get(edge.job_id)
    if past is None:  # older than the history: it certainly ended, how is not known
        return Verdict.MET if edge.kind in ("after", "afterany") else Verdict.NEVER
    return Verdict.MET if edge.kind == "after" else _by_outcome(edge.kind, past.state is JobState.COMPLETED)


def _by_outcome(kind: str, ok: bool) -> Verdict:
    if kind == "afterany":
        return Verdict.MET
    if kind == "afternotok":
        return Verdict.NEVER if ok else Verdict.MET
    return Verdict.MET if ok else Verdict.NEVER  # afterok, aftercorr


def _corr_array(state: State, job: JobRecord, edge: Dependency) -> Verdict:
    """An array waits on its corresponding tasks one by one: MET as soon as one of them may start."""
    if ready_tasks(state, job, limit=1):
        return Verdict.MET
    target = state.jobs.get(edge.job_id)
    return Verdict.NEVER if target is None or target.is_terminal else Verdict.WAIT


def ready_tasks(state: State, job: JobRecord, limit: int = 0) -> list[int]:
    """Task indexes of an `aftercorr` array whose counterparts ended well, lowest first."""
    assert job.pending is not None
    assert job.spec.dependency is not None
    edges = [e for e in job.spec.dependency.edges if e.kind == "aftercorr"]
    found: list[int] = []
    for index in job.pending:
        if all(_counterpart_ok(state, edge, index) for edge in edges):
            found.append(index)
            if limit and len(found) >= limit:
                break
    return found


def _counterpart_ok(state: State, edge: Dependency, index: int) -> bool:
    task_job = state.array_tasks.get(edge.job_id, {}).get(index)
    if task_job is not None:
        return state.jobs[task_job].state is JobState.COMPLETED
    if (ok := _forgotten_task(state, edge.job_id, index)) is not None:
        return ok
    target = state.jobs.get(edge.job_id)
    if target is not None:  # a task that never ran did not end well, whatever the array came to
        return not target.is_array and target.state is JobState.COMPLETED
    past = state.history.get(edge.job_id)
    return past is not None and past.state is JobState.COMPLETED


def require_known(state: State, expr: DependencyExpr) -> None:
    """Refuse an edge to a job that never was."""
    for edge in expr.edges:
        if not edge.job_id or edge.kind == "singleton":
            continue
        if edge.job_id not in state.jobs and edge.job_id not in state.history:
            raise NotFound(
                f"dependency on unknown job {edge.job_id}",
                code="DEPENDENCY_UNKNOWN",
                hint="hqueue --states=all shows the jobs the controller knows",
            )


def require_acyclic(state: State, job_id: int, expr: DependencyExpr) -> None:
    """Refuse edges that would make `job_id` wait for itself, directly or through others."""
    todo = [e.job_id for e in expr.edges if e.job_id]
    seen: set[int] = set()
    while todo:
        current = todo.pop()
        if current == job_id:
            raise Conflict(f"job {job_id} would depend on itself", code="DEPENDENCY_CIRCULAR")
        if current in seen:
            continue
        seen.add(current)
        other = state.jobs.get(current)
        if other is not None and other.is_waiting and other.spec.dependency is not None:
            todo.extend(e.job_id for e in other.spec.dependency.edges if e.job_id)


def format_dependency(expr: DependencyExpr | None) -> str:
    """As Slurm prints it: `afterok:12,afterany:13_4`."""
    if expr is None:
        return ""
    parts = []
    for e in expr.edges:
        if e.kind == "singleton":
            parts.append("singleton")
            continue
        task = f"_{e.task_id}" if e.task_id is not None else ""
        delay = f"+{e.delay_s // 60}" if e.delay_s else ""
        parts.append(f"{e.kind}:{e.job_id}{task}{delay}")
    return ("?" if expr.any else ",").join(parts)
