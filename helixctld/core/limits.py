"""Limits of associations and QOS: what a job takes of those of groups, and what those of one job say of it.

Which limits hold for whom is in `helixctld.core.limit_book`; what is refused at submission for too many open jobs, in
`helixctld.core.submit_limits`.  Minutes are counted in TRES-seconds.  Pure.

Source: slurm.schedmd.com/resource_limits.html, sacctmgr(1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from helix.model.account import Tres
from helix.model.job import Allocation, JobRecord
from helix.model.job_state import Reason
from helix.model.partition import PartitionRecord, loosened
from helix.sched.licences import licences_of
from helix.timefmt import format_time_limit
from helixctld.core.asked import asked_tres, limit_of
from helixctld.core.limit_book import Key, kind_of
from helixctld.core.usage import MILLI, Spent, add_spent, billing_of, fair_shares, qos_key, tres_of

if TYPE_CHECKING:
    from helixctld.core.state import State

AMOUNT_MAX = 1 << 60
FOREVER_S = 1 << 40  #: stands for a job without a time limit, where time is counted


# ---- what a job takes --------------------------------------------------------------------------------------------


def association_of(state: State, job: JobRecord) -> str:
    """The association a job belongs to now: the one it was submitted with, or one that has come since; "" if none."""
    if job.assoc in state.accounts.associations or not state.accounts.is_configured:
        return job.assoc
    return state.accounts.find(job.spec.account or state.accounts.account_of(job.user), job.user, job.partition)


def partitions_of(state: State, job: JobRecord) -> list[str]:
    """The partition a job runs in, or those it may start in."""
    if job.is_waiting:
        return [name for name in job.spec.partitions if name in state.partitions] or [job.partition]
    return [job.partition]


def partition_for(state: State, qos: str, partition: PartitionRecord) -> PartitionRecord:
    """The partition as jobs of a QOS find it: without the limits that flags of the QOS let them pass."""
    flags = state.limit_book.overrides.get(qos)
    return loosened(partition, flags) if flags else partition


def part_qos_of(state: State, job: JobRecord) -> tuple[str, ...]:
    """The QOS of its partitions; of one without any ""."""
    if not state.partition_qos:
        return ("",)
    return tuple(dict.fromkeys(state.partition_qos.get(name, "") for name in partitions_of(state, job)))


def group_limits(state: State, job: JobRecord) -> tuple[Iterable[Key], Iterable[Key]]:
    """The limits of groups that keep a job from starting, and those that only count it.

    A job that may start in several partitions is within the limits of all their QOS.
    """
    if not state.accounts.is_configured:
        return (), ()
    assoc, book = association_of(state, job), state.limit_book
    every = [book.groups(assoc, job.spec.qos, name) for name in part_qos_of(state, job)]
    if len(every) == 1:
        return every[0]
    limiting = dict.fromkeys(key for groups in every for key in groups.limiting)
    return limiting, [key for key in dict.fromkeys(k for g in every for k in g.counted) if key not in limiting]


def counts_of(state: State, job: JobRecord, alloc: Allocation | None = None) -> Tres:
    """All TRES of a job with billing: of an allocation, or the least it asks for."""
    if alloc is None:
        counts = {**asked_tres(job, state), **licence_tres(job)}
    else:
        counts = {**tres_of(alloc), **licence_tres(job)}
    if alloc is not None and alloc.billing_milli >= 0:
        milli = alloc.billing_milli
    else:
        partition = state.partitions.get(job.partition)
        milli = billing_of(counts, partition.tres_billing_weights if partition else "", state.usage_policy.flags)
    counts["billing"] = -(-milli // MILLI)
    return counts


def takes(state: State, job: JobRecord, alloc: Allocation | None = None) -> Iterator[tuple[Key, int]]:
    """What a job takes of each limit of groups that holds for it: waiting, or with an allocation."""
    limiting, _ = group_limits(state, job)
    return amounts(state, job, limiting, alloc)


def is_counted_by(state: State, job: JobRecord, alloc: Allocation) -> Iterator[tuple[Key, int]]:
    """What it takes, while it runs, of limits that another limit stands in for."""
    _, counted = group_limits(state, job)
    return amounts(state, job, counted, alloc)


def amounts(
    state: State, job: JobRecord, groups: Iterable[Key], alloc: Allocation | None = None
) -> Iterator[tuple[Key, int]]:
    """What a job takes of each of these limits."""
    if not groups:
        return
    counts = counts_of(state, job, alloc)
    left_s = remaining_s(state, job)
    qos = state.accounts.qos.get(job.spec.qos)
    factor = 1.0 if qos is None or "UsageFactorSafe" not in qos.flags else qos.usage_factor
    for key in groups:
        kind, tres = kind_of(key), key[4]
        if kind == "jobs":
            yield key, 1
        elif kind == "wall":
            yield key, left_s
        elif counts.get(tres):
            amount = counts[tres] if kind == "tres" else int(counts[tres] * left_s * factor)
            yield key, min(amount, AMOUNT_MAX)


def remaining_s(state: State, job: JobRecord) -> int:
    """What a job may still run by its limit that has not been charged yet, whole seconds rounded up."""
    limit_s = limit_of(job, state) or FOREVER_S
    return max(0, -((job.charged_ms - limit_s * 1000) // 1000)) if job.is_active else limit_s


def total_of(state: State, key: Key) -> int:
    """How much of a limit there is: of minutes, what past use has left."""
    most = state.limit_book.total[key]
    _, owner, name, kind, tres = key
    if kind not in ("mins", "wall"):
        return most
    spent = state.usage.book.get(qos_key(name)) if owner == "qos" else _sums(state).get(name)
    if spent is None:
        return most
    return most - (spent.wall_ms if kind == "wall" else spent.tres.get(tres, 0)) // 1000


def _sums(state: State) -> dict[str, Spent]:
    """What each association that has a limit of minutes has used, with all below it; made anew when the book has
    changed."""
    book = state.limit_book
    if book.sums_mark != state.usage_charges:
        book.sums_mark, book.sums = state.usage_charges, {}
        for key, spent in state.usage.book.items():
            for a in state.accounts.chain(key) or state.accounts.chain(key.partition(":")[0]):
                if a.key in book.minute_owners:
                    add_spent(book.sums.setdefault(a.key, Spent()), spent)
    return book.sums


def licence_tres(job: JobRecord) -> Tres:
    """Licences of a job as TRES."""
    return {f"license/{name}": count for name, count in licences_of(job.spec)}


# ---- limits of one job ----------------------------------------------------------------------------------------------


def gate(state: State, job: JobRecord) -> tuple[Reason, str] | None:
    """What keeps a waiting job from being looked at at all; None if nothing does."""
    accounts, enforce = state.accounts, state.usage_policy.enforce
    if not accounts.is_configured or not enforce:
        return None
    assoc = association_of(state, job)
    if not assoc:
        return Reason.INVALID_ACCOUNT, f"user {job.user or job.uid} is not in account '{job.spec.account}'"
    if "qos" in enforce and job.spec.qos:
        if job.spec.qos not in accounts.qos:
            return Reason.INVALID_QOS, f"there is no QOS '{job.spec.qos}'"
        if job.spec.qos not in accounts.allowed_qos(assoc):
            return Reason.QOS_NOT_ALLOWED, f"{assoc} may not use QOS '{job.spec.qos}'"
    if below := below_threshold(state, job, assoc):
        return Reason.QOS_USAGE_THRESHOLD, below
    return over_limit(state, job, assoc) if "limits" in enforce else None


def below_threshold(state: State, job: JobRecord, assoc: str) -> str:
    """Words for a fair-share factor below the UsageThreshold of a QOS that enforces it; "" if it is not."""
    thresholds = state.limit_book.thresholds
    if not thresholds:
        return ""
    for name in (*part_qos_of(state, job), job.spec.qos):
        if name in thresholds and (factor := share_of(state, assoc)) < thresholds[name]:
            least = f"UsageThreshold={thresholds[name]:g} of QOS {name}"
            return f"the fair-share factor of {assoc}, {factor:.4f}, is below {least}"
    return ""


def share_of(state: State, assoc: str) -> float:
    """The fair-share factor of an association, as of the last decay."""
    book = state.limit_book
    if book.shares is None or book.shares_mark != state.usage_version:
        book.shares = fair_shares(state.accounts, state.usage, state.usage_policy)
        book.shares_mark = state.usage_version
    return book.shares.factor(assoc)


def look_at_thresholds(state: State, now: float) -> None:
    """After fair-share factors changed: look again at waiting jobs that are on the other side of a threshold now."""
    if not state.limit_book.thresholds or not state.usage_policy.enforce:
        return
    for job in list(state.jobs.values()):
        if job.is_waiting and not job.held:
            below = bool(below_threshold(state, job, association_of(state, job)))
            if below != (job.reason is Reason.QOS_USAGE_THRESHOLD):
                state.look_again(job, now)


def over_limit(
    state: State, job: JobRecord, assoc: str, alloc: Allocation | None = None, limit_s: int | None = None
) -> tuple[Reason, str] | None:
    """The first limit of one job that a request (or an allocation) passes in each partition it may start in."""
    first = None
    for part_qos in part_qos_of(state, job):
        over = over_in(state, job, (assoc, part_qos), alloc, limit_s)
        if over is None:
            return None
        first = first or over
    return first


def closed_partitions(state: State, job: JobRecord) -> frozenset[str]:
    """The partitions of a waiting job in which a limit of one job by the partition's QOS keeps it from starting."""
    names = job.spec.partitions
    if len(names) < 2 or not state.partition_qos or not state.usage_policy.limits:
        return frozenset()
    assoc, qos = association_of(state, job), state.partition_qos
    return frozenset(name for name in names if over_in(state, job, (assoc, qos.get(name, ""))) is not None)


def over_in(
    state: State,
    job: JobRecord,
    who: tuple[str, str],
    alloc: Allocation | None = None,
    limit_s: int | None = None,
) -> tuple[Reason, str] | None:
    """The same where one QOS of a partition holds.  `who`: the association, and that QOS."""
    assoc, part_qos = who
    limits = state.limit_book.per_job(assoc, job.spec.qos, part_qos)
    if limits.is_empty:
        return None
    counts = counts_of(state, job, alloc)
    wanted_s = limit_of(job, state) if limit_s is None else limit_s
    if limits.wall_s and (wanted_s == 0 or wanted_s > limits.wall_s):
        return limits.wall_reason, (
            f"the time limit {format_time_limit(wanted_s)} is longer than MaxWall={format_time_limit(limits.wall_s)}"
        )
    for tres, (most, reason) in limits.most.items():
        if counts.get(tres, 0) > most:
            return reason, f"{counts[tres]} {tres} are more than MaxTRESPerJob={tres}={most}"
    for tres, (most, reason) in limits.minutes.items():
        used = counts.get(tres, 0) * (wanted_s or FOREVER_S)
        if used > most * 60:
            return reason, f"{used // 60} minutes of {tres} are more than MaxTRESMinsPerJob={tres}={most}"
    for tres, (count, reason) in limits.least.items():
        if counts.get(tres, 0) < count:
            return reason, f"{counts.get(tres, 0)} {tres} are fewer than MinTRESPerJob={tres}={count}"
    nodes = max(1, counts.get("node", 1))
    for tres, (most, reason) in limits.on_node.items():
        here = -(-counts.get(tres, 0) // nodes) if alloc is None else _largest_share(alloc, tres)
        if here > most:
            return reason, f"{here} {tres} on a node are more than MaxTRESPerNode={tres}={most}"
    return None


def _largest_share(alloc: Allocation, tres: str) -> int:
    if tres == "cpu":
        return max(alloc.cpus, default=0)
    if tres == "mem":
        return max(alloc.mem_mib, default=0)
    shares = [Allocation(nodes=[name], cores=[[]], mem_mib=[0], gres=alloc.gres[at : at + 1])
              for at, name in enumerate(alloc.nodes)]  # fmt: skip
    return max((tres_of(share).get(tres, 0) for share in shares), default=0)
