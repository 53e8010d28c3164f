"""Accounts, users, associations and QOS: who may use how much, and whose turn it is.

An association is an account, or a user in an account (in one partition or in all); associations are a tree under the
account `root`.  Its key is `physics`, `physics:alice` or `physics:alice:debug`.  Records are read from AssocFile
(`helix.config.assoc_file`) and replaced whole by `hctl reconfigure`.  Meanings are sacctmgr(1)'s; None and a missing
name in a dictionary mean no limit.  TRES are counted in CPUs (`cpu`), MiB (`mem`), nodes (`node`), units of GRES
(`gres/NAME`) and licences (`license/NAME`); `billing` is what TRESBillingWeights make of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field

ROOT = "root"
FAIRSHARE_PARENT = -1  #: Fairshare=parent: the user shares what the account has
DEFAULT_QOS = "normal"

Tres = dict[str, int]

#: flags of a QOS, as sacctmgr(1) writes them
QOS_FLAGS = (
    "DenyOnLimit",
    "EnforceUsageThreshold",
    "NoDecay",
    "NoReserve",
    "OverPartQOS",
    "PartitionMaxNodes",
    "PartitionMinNodes",
    "PartitionTimeLimit",
    "RequiresReservation",
    "UsageFactorSafe",
)


#: flags that let jobs pass a limit of their partition: MaxNodes, MinNodes, MaxTime
PARTITION_OVERRIDES = frozenset({"PartitionMaxNodes", "PartitionMinNodes", "PartitionTimeLimit"})


class Limits(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """Limits of an association, or those of a QOS that mean the same there.

    Grp... count all jobs of the association and those below it (of the QOS); Max... count those of one user's
    association (of the QOS: one job's), and hold for everybody below an account that has no own.
    """

    grp_jobs: int | None = None  # running
    grp_submit_jobs: int | None = None  # waiting and running; each task of an array is one
    grp_tres: Tres = field(default_factory=dict)  # in use at once
    grp_tres_mins: Tres = field(default_factory=dict)  # TRES times minutes, decaying, of past and running jobs
    grp_tres_run_mins: Tres = field(default_factory=dict)  # TRES times minutes that running jobs may still use
    grp_wall_s: int | None = None  # wall clock time, decaying
    max_jobs: int | None = None
    max_submit_jobs: int | None = None
    max_tres_per_job: Tres = field(default_factory=dict)
    max_tres_per_node: Tres = field(default_factory=dict)
    max_tres_mins_per_job: Tres = field(default_factory=dict)
    max_wall_s: int | None = None  # of one job


NO_LIMITS = Limits()


class Association(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """A node of the tree."""

    account: str
    user: str = ""  # "" = the account itself
    partition: str = ""  # "" = all
    parent: str = ""  # key of the account above; "" = the root
    shares: int = 1  # FAIRSHARE_PARENT = use the parent's
    priority: int | None = None
    limits: Limits = NO_LIMITS
    qos: tuple[str, ...] | None = None  # None = as the parent
    default_qos: str = ""
    description: str = ""

    @property
    def key(self) -> str:
        """How it is named everywhere."""
        return association_key(self.account, self.user, self.partition)


class Qos(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """A quality of service."""

    name: str
    priority: int = 0
    description: str = ""
    flags: frozenset[str] = frozenset()
    preempt: tuple[str, ...] = ()  # QOS whose jobs may be preempted
    preempt_mode: tuple[str, ...] = ()  # words of PreemptMode; () = the cluster's
    preempt_exempt_time_s: int | None = None  # None = the cluster's
    grace_time_s: int = 0
    usage_factor: float = 1.0  # usage is charged times this
    usage_threshold: float | None = None
    limit_factor: float = 1.0  # TRES limits of associations are multiplied by this for its jobs
    limits: Limits = NO_LIMITS
    max_jobs_per_user: int | None = None
    max_submit_per_user: int | None = None
    max_tres_per_user: Tres = field(default_factory=dict)
    max_jobs_per_account: int | None = None
    max_submit_per_account: int | None = None
    max_tres_per_account: Tres = field(default_factory=dict)
    min_tres_per_job: Tres = field(default_factory=dict)


def association_key(account: str, user: str = "", partition: str = "") -> str:
    """`physics`, `physics:alice` or `physics:alice:debug`."""
    return ":".join(part for part in (account, user, partition) if part)


class Accounts:
    """All of it, with what is inherited worked out.  Never changed once made: a new file makes a new one."""

    def __init__(
        self,
        associations: list[Association] | None = None,
        default_account: dict[str, str] | None = None,
        qos: list[Qos] | None = None,
        coordinators: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        """`associations`: each account before what is in it; a missing root is added.  `default_account`: by user;
        `coordinators`: by user the accounts they coordinate."""
        listed = associations or []
        if not any(a.key == ROOT for a in listed):
            listed = [Association(account=ROOT), *listed]
        self.associations: dict[str, Association] = {a.key: a for a in listed}
        self.default_account = default_account or {}
        self.coordinators = coordinators or {}
        self.qos: dict[str, Qos] = {q.name: q for q in qos or []}
        self.users: dict[str, tuple[str, ...]] = {}  # user -> accounts, in the order of the file
        for a in listed:
            if a.user and a.account not in self.users.get(a.user, ()):
                self.users[a.user] = (*self.users.get(a.user, ()), a.account)
        self.is_configured = bool(associations or qos)
        self.remarks: tuple[str, ...] = ()  # what is odd about the file, but not wrong: `file:line: message (remedy)`
        self.first_limit = 0  # the line of its first limit on jobs, 0 = there is none
        self.qos_priority_max = max((q.priority for q in self.qos.values()), default=0)
        self.priority_max = max((a.priority or 0 for a in listed), default=0)
        self._chains: dict[str, tuple[Association, ...]] = {}
        self._coordinated: dict[str, frozenset[str]] = {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Accounts):
            return NotImplemented
        return (self.associations, self.default_account, self.qos, self.coordinators) == (
            other.associations, other.default_account, other.qos, other.coordinators,
        )  # fmt: skip

    __hash__ = None  # type: ignore[assignment]

    def find(self, account: str, user: str, partition: str = "") -> str:
        """The key of the association that a job of `user` in `account` belongs to; "" if there is none."""
        for key in (association_key(account, user, partition) if partition else "", association_key(account, user)):
            if key and key in self.associations:
                return key
        return ""

    def account_of(self, user: str) -> str:
        """The account of a job that names none: the user's default, or the first the user is in; "" if none."""
        return self.default_account.get(user) or next(iter(self.users.get(user, ())), "")

    def coordinated(self, user: str) -> frozenset[str]:
        """The accounts whose jobs `user` may act on: those named as theirs, and all accounts in them."""
        named = self.coordinators.get(user)
        if not named:
            return frozenset()
        found = self._coordinated.get(user)
        if found is None:
            below = (a.account for a in self if not a.user and any(up.account in named for up in self.chain(a.key)))
            found = self._coordinated[user] = frozenset(below)
        return found

    def chain(self, key: str) -> tuple[Association, ...]:
        """The association and the accounts above it, the root last; () for a key there is none of."""
        found = self._chains.get(key)
        if found is None:
            walked = []
            at = self.associations.get(key)
            while at is not None:
                walked.append(at)
                at = self.associations.get(at.parent) if at.key != ROOT else None
            found = self._chains[key] = tuple(walked)
        return found

    def inherited(self, key: str, name: str) -> Any:
        """A Max... limit of an association: its own, or that of the nearest account above that has one."""
        for a in self.chain(key):
            value = getattr(a.limits, name)
            if value is not None:
                return value
        return None

    def inherited_tres(self, key: str, name: str) -> Tres:
        """The same for a limit by TRES, each TRES by itself."""
        found: Tres = {}
        for a in self.chain(key):
            for tres, value in getattr(a.limits, name).items():
                found.setdefault(tres, value)
        return found

    def allowed_qos(self, key: str) -> tuple[str, ...]:
        """The QOS that jobs of an association may have; without any list in the file all there are."""
        for a in self.chain(key):
            if a.qos is not None:
                return a.qos
        return tuple(self.qos)

    def qos_of(self, key: str) -> str:
        """The QOS of a job that names none: DefaultQOS, else `normal`, else the only one; "" if that is not clear."""
        for a in self.chain(key):
            if a.default_qos:
                return a.default_qos
        allowed = self.allowed_qos(key)
        if DEFAULT_QOS in allowed or len(allowed) == 1:
            return DEFAULT_QOS if DEFAULT_QOS in allowed else allowed[0]
        return ""

    def __iter__(self) -> Iterator[Association]:
        return iter(self.associations.values())

    def __len__(self) -> int:
        return len(self.associations)
