"""Time slices: jobs that share CPUs take turns, whole jobs on all their nodes at once.  Pure.

The jobs of partitions with OverSubscribe=FORCE[:n], and those of OverSubscribe=YES[:n] submitted with --oversubscribe,
are rows of a matrix: jobs of one row run together because no two of them have a CPU in common.  A row begins with the
job that has waited longest and takes whoever fits, longest waiting first, then those that run already; so everybody's
turn comes, and a job that is in nobody's way is in more than one row.  Nothing is kept between slices: who has waited
how long is in the records, and a restart goes on with the next row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.job_state import JobState
from helix.model.partition import PartitionRecord
from helixctld.core.state import State
from helixctld.core.yielding import core_mask

DEFAULT_SHARE = 4  #: jobs on a CPU with FORCE or YES without a number, as in Slurm


@dataclass(frozen=True, slots=True)
class Member:
    """A job that takes turns.  `since`: when it last stopped running; 0.0 = it runs."""

    job_id: int
    cores: Mapping[str, int]  # node -> mask
    since: float = 0.0


def jobs_a_cpu(partition: PartitionRecord) -> int:
    """How many jobs may share a CPU of the partition; 1 = none."""
    word, _, count = partition.oversubscribe.upper().partition(":")
    if word not in ("FORCE", "YES"):
        return 1
    return max(1, int(count)) if count.isdigit() else DEFAULT_SHARE


def takes_turns(job: JobRecord, partition: PartitionRecord | None) -> bool:
    """True if a job shares its CPUs there."""
    if partition is None or jobs_a_cpu(partition) < 2:
        return False
    return partition.oversubscribe.upper().startswith("FORCE") or job.spec.oversubscribe


def next_row(members: Iterable[Member], blocked: Mapping[str, int]) -> list[int]:
    """Who runs in the next slice, in the order taken.  `blocked`: node -> cores that others have."""
    order = sorted(members, key=lambda m: (m.since == 0.0, m.since, m.job_id))
    taken = dict(blocked)
    row: list[int] = []
    for member in order:
        if any(taken.get(node, 0) & mask for node, mask in member.cores.items()):
            continue
        row.append(member.job_id)
        for node, mask in member.cores.items():
            taken[node] = taken.get(node, 0) | mask
    return row


def matrix(members: Iterable[Member], blocked: Mapping[str, int]) -> list[list[int]]:
    """The rows of the coming slices until everybody has run: what `next_row` gives slice after slice."""
    left = {m.job_id: m for m in members}
    now = max((m.since for m in left.values()), default=0.0)
    unserved = set(left)
    rows: list[list[int]] = []
    while unserved:
        row = next_row(left.values(), blocked)
        if not unserved & set(row):
            break  # the rest is kept off by others
        unserved -= set(row)
        rows.append(row)
        now += 1.0
        left = {m.job_id: Member(m.job_id, m.cores, 0.0 if m.job_id in row else m.since or now) for m in left.values()}
    return rows


def members_of(state: State) -> list[Member]:
    """The jobs that take turns: those that run and can be stopped, and those whose turn it is not."""
    found = []
    for job_id in state.active:
        job = state.jobs[job_id]
        if not takes_turns(job, state.partitions.get(job.partition)) or job.alloc is None:
            continue
        waits = job.state is JobState.SUSPENDED and job.yields_cpus
        if waits or job.state is JobState.RUNNING:
            found.append(Member(job_id, cores_of(job), job.t_suspended if waits else 0.0))
    return found


def cores_of(job: JobRecord) -> dict[str, int]:
    """The cores of a job: node -> mask; all of its nodes' if it has them whole."""
    assert job.alloc is not None
    if job.alloc.whole:
        return dict.fromkeys(job.alloc.nodes, -1)
    return {name: core_mask(cores) for name, cores in zip(job.alloc.nodes, job.alloc.cores, strict=True)}


def turn(state: State, now: float) -> list[ev.Event]:
    """The events of the end of a slice: first who stops, then who goes on; [] if nobody waits for a turn."""
    members = members_of(state)
    if not any(member.since for member in members):
        return []
    ours = {member.job_id for member in members}
    blocked: dict[str, int] = {}
    for job_id in state.active - ours:
        job = state.jobs[job_id]
        if job.alloc is not None and not job.yields_cpus:
            for name, mask in cores_of(job).items():
                blocked[name] = blocked.get(name, 0) | mask
    for claimer in state.claims:
        claim = state.jobs[claimer].claim
        if claim is not None:
            for name, cores in zip(claim.alloc.nodes, claim.alloc.cores, strict=True):
                blocked[name] = blocked.get(name, 0) | (-1 if claim.alloc.whole else core_mask(cores))
    row = set(next_row(members, blocked))
    stop = [m.job_id for m in members if not m.since and m.job_id not in row]
    go_on = [m.job_id for m in members if m.since and m.job_id in row]
    return [
        *(ev.JobSuspended(t=now, job_id=j, cause="gang", yields=True) for j in sorted(stop)),
        *(ev.JobResumed(t=now, job_id=j, cause=state.jobs[j].suspended_for) for j in sorted(go_on)),
    ]


def someone_waits(state: State) -> bool:
    """True if a job waits for its turn, so that slices must end."""
    for job_id in state.yielding:
        job = state.jobs[job_id]
        if job.state is JobState.SUSPENDED and takes_turns(job, state.partitions.get(job.partition)):
            return True
    return False
