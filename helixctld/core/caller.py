"""Who asks, and what they may do: the kernel or the node's key says who, `helix.wire.methods` says what."""

from __future__ import annotations

from msgspec import Struct, field

from helix.errors import Denied, UsageError
from helix.model.job import JobRecord
from helix.wire.methods import METHODS, Method, Role


class Caller(Struct, frozen=True):
    """A user as the kernel named them on their host, with the role the configuration gives them."""

    uid: int
    gid: int
    user: str = ""
    role: Role = Role.USER
    groups: frozenset[str] = field(default_factory=frozenset)  # names, for AllowGroups
    coordinates: frozenset[str] = field(default_factory=frozenset)  # accounts whose jobs they may act on

    @property
    def is_operator(self) -> bool:
        """May act on everybody's jobs."""
        return self.role >= Role.OPERATOR


def require_method(name: str, caller: Caller) -> Method:
    """The row of the table if `caller` may call it; raises UsageError or Denied."""
    method = METHODS.get(name)
    if method is None:
        raise UsageError(f"no method '{name[:80]}'", code="METHOD_UNKNOWN")
    if caller.role is Role.NODE or caller.role < method.role:
        need = method.role.name.lower()
        raise Denied(f"{name} needs the role {need}; {caller.user or caller.uid} is {caller.role.name.lower()}")
    return method


def may_manage(caller: Caller, job: JobRecord) -> bool:
    """True for operators, and for coordinators of the job's account: they may do what its owner may not."""
    return caller.is_operator or (bool(caller.coordinates) and _account_of(job) in caller.coordinates)


def may_touch(caller: Caller, job: JobRecord) -> bool:
    """True for the job's owner, for coordinators of its account and for operators."""
    return caller.uid == job.uid or may_manage(caller, job)


def require_touch(caller: Caller, job: JobRecord) -> None:
    """Raises Denied unless `caller` may end, hold or change `job`."""
    if not may_touch(caller, job):
        raise _not_yours(job)


def is_private_to(caller: Caller, job: JobRecord) -> bool:
    """True for the job's owner and for operators: those who may read its script and its output."""
    return caller.is_operator or caller.uid == job.uid


def require_owner(caller: Caller, job: JobRecord) -> None:
    """Raises Denied unless `caller` may read the script and the output of `job`."""
    if not is_private_to(caller, job):
        raise _not_yours(job)


def _not_yours(job: JobRecord) -> Denied:
    return Denied(f"job {job.display_id} belongs to another user", code="JOB_NOT_YOURS")


def _account_of(job: JobRecord) -> str:
    return job.assoc.partition(":")[0] or job.spec.account
