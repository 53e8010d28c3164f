"""An advance reservation: what of which nodes is kept for whom, and when.  Meanings are scontrol(1)'s.

Times are epoch seconds.  A record holds the present occurrence, or the next one while it is inactive; a repeated
reservation moves to its next occurrence when one is over.  Shares are counts: which CPUs of a node they are is decided
as each job starts.
"""

from __future__ import annotations

from msgspec import Struct, field

#: Flags that make a reservation come again.
REPEATS: tuple[str, ...] = ("HOURLY", "DAILY", "WEEKDAY", "WEEKEND", "WEEKLY")
#: Every flag, in the order they are shown, with what it means (the man page is made from this).
RESERVATION_FLAGS: dict[str, str] = {
    "MAINT": "for maintenance: may overlap other reservations, its nodes show MAINT, jobs it keeps out say so",
    "FLEX": "its jobs may start before it, end after it, and use other nodes too",
    "OVERLAP": "may use what other reservations have",
    "IGNORE_JOBS": "jobs that run are not in the way",
    "HOURLY": "again every hour",
    "DAILY": "again every day, at the same time of day",
    "WEEKDAY": "again from Monday to Friday",
    "WEEKEND": "again on Saturday and Sunday",
    "WEEKLY": "again every week",
    "ANY_NODES": "licences only: its jobs may run on any node",
    "STATIC_ALLOC": "the nodes once chosen are never replaced",
    "PART_NODES": "all nodes of the partition, also as the partition changes (with Nodes=ALL)",
    "ALL_NODES": "all nodes of the cluster (set by Nodes=ALL)",
    "SPEC_NODES": "the nodes were named (set by Nodes=)",
    "PURGE_COMP": "goes when it has had no job for so long (PURGE_COMP=TIME, 5 minutes)",
    "MAGNETIC": "draws in the jobs that may use it, without their asking",
    "REPLACE": "nodes that jobs take, and those that go down, are replaced by idle ones",
    "REPLACE_DOWN": "nodes that go down or are drained are replaced (the default)",
    "NO_HOLD_JOBS_AFTER": "jobs that still wait when it is over lose their wish for it and are not held",
    "TIME_FLOAT": "its start moves along with the present (StartTime=now+TIME)",
    "USER_DELETE": "the users and groups it names may delete it",
}
PURGE_DEFAULT_S = 300  #: PURGE_COMP without a time


class Share(Struct, omit_defaults=True, frozen=True):
    """What is reserved of one node; `whole`: all of it, whatever it has."""

    cpus: int = 0
    mem_mib: int = 0
    gres: dict[str, int] = field(default_factory=dict)
    whole: bool = False


class ReservationRecord(Struct, omit_defaults=True, kw_only=True):
    """A reservation as the controller knows it."""

    name: str
    t_start: float
    t_end: float
    active: bool = False  # ReservationStarted was applied and its end was not
    shares: dict[str, Share] = field(default_factory=dict)  # by node, in the cluster's order
    # what was asked, to choose again
    node_count: int = 0
    core_count: int = 0
    tres: dict[str, int] = field(default_factory=dict)  # gres/NAME -> units, mem -> MiB
    features: str = ""
    partition: str = ""
    licenses: dict[str, int] = field(default_factory=dict)
    # who
    users: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    group_users: list[str] = field(default_factory=list)  # members of `groups` when they were named
    users_denied: bool = False  # `users` are those who may not
    accounts_denied: bool = False
    # how
    flags: list[str] = field(default_factory=list)  # in the order of RESERVATION_FLAGS
    purge_s: int = PURGE_DEFAULT_S  # with PURGE_COMP
    clock_s: int = -1  # time of day of the starts of a repeated one, seconds by the clock; -1 = that of t_start
    float_s: float = 0.0  # with TIME_FLOAT: its start is so far ahead of the present
    comment: str = ""
    t_created: float = 0.0
    created_by: str = ""
    t_idle: float = 0.0  # no job in it since; 0 = it has jobs, or never was active

    def has(self, flag: str) -> bool:
        """True if it has the flag."""
        return flag in self.flags

    @property
    def repeats(self) -> str:
        """The flag by which it comes again, "" if it does not."""
        return next((flag for flag in REPEATS if flag in self.flags), "")

    @property
    def nodes(self) -> list[str]:
        """Names of its nodes."""
        return list(self.shares)

    @property
    def is_partial(self) -> bool:
        """True if it holds parts of nodes."""
        return any(not share.whole for share in self.shares.values())

    @property
    def may_overlap(self) -> bool:
        """True if other reservations are not in its way."""
        return self.has("OVERLAP") or self.has("MAINT")
