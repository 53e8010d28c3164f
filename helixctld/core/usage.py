"""What associations and QOS have used: charged while jobs run and when they end, decaying, part of the truth.

Whole numbers only, so that a replay comes to the same.  A book entry counts TRES times milliseconds: of each TRES, of
wall clock time, and `raw` of billing units (TRESBillingWeights; CPUs without).  A job's charge up to a moment is

    elapsed_ms not charged yet * amount * usage factor in thousandths / 1000, rounded down

with what its allocation says of it, so a later change of the configuration changes no charge.  `UsageDecayed` comes
every PriorityCalcPeriod: first what is in the book decays, value * factor >> 32 with the factor in the event, then the
running jobs are charged up to now.  A reset is a decay with the factor 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct, field

from helix.config.tres import parse_weights
from helix.gres import mask_of
from helix.model import events as ev
from helix.model.account import Accounts
from helix.model.job import Allocation, JobRecord
from helix.model.job_state import JobState
from helix.sched.fairshare import Shares, Tree, classic, fair_tree
from helix.timefmt import next_period

if TYPE_CHECKING:
    from helixctld.core.state import State

DECAY_ONE = 1 << 32  #: a decay factor of 1
MILLI = 1000


class Spent(Struct, array_like=True):
    """One association's or QOS's use, in units times milliseconds."""

    raw: int = 0
    wall_ms: int = 0
    tres: dict[str, int] = field(default_factory=dict)


class Usage(Struct, omit_defaults=True, kw_only=True):
    """The book.  Keys are those of associations, and `qos=NAME`."""

    t: float = 0.0  # of the last decay
    t_reset: float = 0.0  # of the last reset, or of the first decay
    book: dict[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsagePolicy:
    """What the configuration says about usage and limits."""

    enforce: frozenset[str] = frozenset()  # associations, limits, qos, safe
    half_life_s: int = 7 * 86400  # 0 = usage does not decay
    calc_period_s: int = 300
    reset_period: str = "NONE"
    flags: frozenset[str] = frozenset()  # PriorityFlags
    dampening: int = 1

    @property
    def limits(self) -> bool:
        """Whether limits are kept."""
        return "limits" in self.enforce


def qos_key(name: str) -> str:
    """Key of a QOS in the book."""
    return f"qos={name}"


def tres_of(alloc: Allocation) -> dict[str, int]:
    """TRES of an allocation, without billing."""
    counts = {"cpu": sum(alloc.cpus), "mem": sum(alloc.mem_mib), "node": len(alloc.nodes)}
    for kind, units in gres_of(alloc).items():
        counts[kind] = units
    return counts


def gres_of(alloc: Allocation) -> dict[str, int]:
    """`gres/NAME` (and `gres/NAME:TYPE`) -> units on all nodes."""
    counts: dict[str, int] = {}
    for given in alloc.gres:
        for kind, devices in given.items():
            units = mask_of(devices).bit_count()
            name, colon, _ = kind.partition(":")
            for word in (name, kind) if colon else (name,):
                counts[f"gres/{word}"] = counts.get(f"gres/{word}", 0) + units
    return counts


@lru_cache(maxsize=1024)
def _costs(weights: str) -> dict[str, int]:
    return parse_weights(weights)


def billing_milli(alloc: Allocation, weights: str, flags: frozenset[str] = frozenset()) -> int:
    """Thousandths of billing units that an allocation costs a second; `weights` is TRESBillingWeights."""
    return billing_of(tres_of(alloc), weights, flags)


def billing_of(counts: dict[str, int], weights: str, flags: frozenset[str] = frozenset()) -> int:
    """The same for counts of TRES."""
    if not weights:
        return counts.get("cpu", 0) * MILLI
    costs = _costs(weights)
    parts = {name: counts.get(name, 0) * nano for name, nano in costs.items()}
    gres = sum(cost for name, cost in parts.items() if name.startswith("gres/"))
    if "MAX_TRES_GRES" in flags:
        total = max((cost for name, cost in parts.items() if not name.startswith("gres/")), default=0) + gres
    elif "MAX_TRES" in flags:
        total = max(parts.values(), default=0)
    else:
        total = sum(parts.values())
    return total // 1_000_000


def bill(state: State, job: JobRecord, partition: str, alloc: Allocation) -> None:
    """Write into a new allocation what it will be charged by."""
    record = state.partitions.get(partition)
    weights = record.tres_billing_weights if record is not None else ""
    if weights:
        alloc.billing_milli = billing_milli(alloc, weights, state.usage_policy.flags)
    alloc.part_qos = state.partition_qos.get(partition, "")
    qos = state.accounts.qos.get(job.spec.qos)
    if qos is not None and qos.usage_factor != 1.0:
        alloc.usage_factor_milli = round(qos.usage_factor * MILLI)


# ---- applied events ------------------------------------------------------------------------------------------------


def charge_until(usage: Usage, job: JobRecord, t: float) -> None:
    """Charge what the present attempt has run since it was charged last, suspensions left out."""
    delta = _elapsed(usage, job, t)
    if delta:
        sums: _Sums = {}
        _gather(sums, job, delta)
        _enter(usage.book, sums)


_Sums = dict[tuple[str, str, str], Spent]  #: by association, QOS and QOS of the partition


def _elapsed(usage: Usage, job: JobRecord, t: float) -> int:
    """Milliseconds to be charged now; they count as charged from here on."""
    if not job.assoc or job.alloc is None or not job.t_start:
        return 0
    elapsed_ms = int((t - job.t_start - job.suspended_s) * 1000.0)
    delta = elapsed_ms - job.charged_ms
    if delta <= 0:
        return 0
    job.charged_ms = elapsed_ms
    if not usage.book:  # nothing was there to decay since
        usage.t = t
    return delta


def _gather(sums: _Sums, job: JobRecord, delta: int) -> None:
    """Add a job's charge to those of the same owners: each job's is rounded by itself, so their order is all one."""
    alloc = job.alloc
    assert alloc is not None
    owners = (job.assoc, job.spec.qos, alloc.part_qos)
    spent = sums.get(owners)
    if spent is None:
        spent = sums[owners] = Spent()
    factor = alloc.usage_factor_milli
    counts = tres_of(alloc)
    billing = alloc.billing_milli if alloc.billing_milli >= 0 else counts["cpu"] * MILLI
    spent.raw += delta * billing * factor // (MILLI * MILLI)
    spent.wall_ms += delta
    tres = spent.tres
    for name, count in counts.items():
        if count:
            tres[name] = tres.get(name, 0) + delta * count * factor // MILLI


def _enter(book: dict[str, Spent], sums: _Sums) -> None:
    """Put charges into the book: of the association, and once for each QOS."""
    for (assoc, qos, part_qos), sum_ in sums.items():
        for key in (assoc, *map(qos_key, dict.fromkeys(filter(None, (qos, part_qos))))):
            spent = book.setdefault(key, Spent(tres={"billing": 0}))
            add_spent(spent, sum_)
            spent.tres["billing"] = spent.raw


def decay(state: State, e: ev.UsageDecayed) -> None:
    """The event: decay, then charge the running jobs up to now."""
    usage = state.usage
    if e.factor < DECAY_ONE:
        for key in list(usage.book):
            if key in e.keep:
                continue
            spent = usage.book[key]
            spent.raw = spent.raw * e.factor >> 32
            spent.wall_ms = spent.wall_ms * e.factor >> 32
            spent.tres = {name: left for name, n in spent.tres.items() if (left := n * e.factor >> 32)}
            if not spent.raw and not spent.wall_ms and not spent.tres:
                del usage.book[key]
    sums: _Sums = {}
    for job_id in sorted(state.active):
        job = state.jobs[job_id]
        delta = _elapsed(usage, job, job.t_suspended if job.state is JobState.SUSPENDED else e.t)
        if delta:
            _gather(sums, job, delta)
    _enter(usage.book, sums)
    usage.t = e.t
    if e.reset or not usage.t_reset:
        usage.t_reset = e.t
    if state.limit_book.counts_minutes:  # what running jobs may still use is less now
        state.dirty_minutes.update(state.active)
    state.usage_version += 1
    state.usage_charges += 1


# ---- what is due ---------------------------------------------------------------------------------------------------


def next_due(state: State) -> float:
    """When `due` has something; infinity while nothing is used and nobody runs."""
    if not state.accounts.is_configured or not (state.usage.book or state.active):
        return float("inf")
    return state.usage.t + state.usage_policy.calc_period_s


def due(state: State, now: float) -> list[ev.Event]:
    """The decay that time calls for."""
    if now < next_due(state):
        return []
    return [decay_event(state, now)]


def decay_event(state: State, now: float, *, reset: bool = False) -> ev.UsageDecayed:
    """The event of this moment; `reset`: all usage goes."""
    usage, policy = state.usage, state.usage_policy
    if policy.reset_period not in ("NONE", "NOW") and usage.t_reset:
        reset = reset or now >= next_period(usage.t_reset, policy.reset_period)
    keep = [qos_key(q.name) for q in state.accounts.qos.values() if "NoDecay" in q.flags]
    if reset:
        return ev.UsageDecayed(t=now, factor=0, keep=keep, reset=True)
    passed_s = max(0.0, now - usage.t) if usage.t else 0.0
    return ev.UsageDecayed(t=now, factor=decay_factor(passed_s, policy.half_life_s), keep=keep)


def decay_factor(passed_s: float, half_life_s: int) -> int:
    """0.5^(passed / half-life) as a whole number of DECAY_ONE."""
    return round(DECAY_ONE * 0.5 ** (passed_s / half_life_s)) if half_life_s else DECAY_ONE


# ---- fair share ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FairShares:
    """The tree as it stands: one row an association, `keys[row]`."""

    keys: list[str]
    row: dict[str, int]
    tree: Tree
    shares: Shares
    spent: list[Spent]  # of the subtree

    def factor(self, key: str) -> float:
        """The fair-share factor of an association; 0 for none."""
        at = self.row.get(key)
        return self.shares.factor[at] if at is not None else 0.0


def fair_shares(accounts: Accounts, usage: Usage, policy: UsagePolicy) -> FairShares:
    """Factors of all associations from what the book says."""
    keys, row = _tree_order(accounts)
    spent = [Spent() for _ in keys]
    for key, own in usage.book.items():
        if key.startswith("qos="):
            continue
        at = row.get(key, row.get(key.partition(":")[0], -1))  # an association that is gone: its account keeps it
        if at >= 0:
            add_spent(spent[at], own)
    parent = [-1] * len(keys)
    for at in range(len(keys) - 1, 0, -1):
        parent[at] = row[accounts.associations[keys[at]].parent]
        add_spent(spent[parent[at]], spent[at])
    found = [accounts.associations[key] for key in keys]
    tree = Tree(parent, [a.shares for a in found], [s.raw for s in spent], [bool(a.user) for a in found])
    flags = policy.flags
    if "NO_FAIR_TREE" in flags or ("DEPTH_OBLIVIOUS" in flags and "FAIR_TREE" not in flags):
        shares = classic(tree, policy.dampening, depth_oblivious="DEPTH_OBLIVIOUS" in flags)
    else:
        shares = fair_tree(tree)
    return FairShares(keys, row, tree, shares, spent)


def _tree_order(accounts: Accounts) -> tuple[list[str], dict[str, int]]:
    """Keys in depth-first order, users of an account before the accounts in it; the root first."""
    below: dict[str, list[str]] = {}
    for a in accounts:
        if a.key != "root":
            below.setdefault(a.parent, []).append(a.key)
    keys: list[str] = []
    stack = ["root"]
    while stack:
        key = stack.pop()
        keys.append(key)
        children = [] if accounts.associations[key].user else below.get(key, [])
        stack.extend(sorted(children, key=lambda k: (not accounts.associations[k].user, k), reverse=True))
    return keys, {key: at for at, key in enumerate(keys)}


def add_spent(to: Spent, other: Spent) -> None:
    """Add to a sum."""
    to.raw += other.raw
    to.wall_ms += other.wall_ms
    for name, count in other.tres.items():
        to.tres[name] = to.tres.get(name, 0) + count
