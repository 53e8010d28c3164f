"""Who a uid is: names, groups and role, from the system's user database, remembered for a while.

The look-ups may block (LDAP): they are kept for `TTL_S`, and a uid that is unknown is kept too.
"""

from __future__ import annotations

import grp
import os
import pwd
import time

from helix.errors import NotFound
from helix.model.account import Accounts
from helix.wire.methods import Role
from helixctld.core.caller import Caller

TTL_S = 300.0
CACHE_MAX = 10_000


class Person:
    """One entry of the user database."""

    __slots__ = ("gid", "gids", "groups", "home", "t", "uid", "user")

    def __init__(self, uid: int, gid: int, user: str, home: str, gids: list[int], groups: frozenset[str]) -> None:
        self.uid, self.gid, self.user, self.home = uid, gid, user, home
        self.gids, self.groups = gids, groups
        self.t = time.monotonic()


class People:
    """The cache.  `operators` and `admins` are user names; root and the daemon's own user are admins.  `accounts`, set
    with each AssocFile, says who coordinates which."""

    def __init__(self, operators: frozenset[str] = frozenset(), admins: frozenset[str] = frozenset()) -> None:
        self.operators = operators
        self.admins = admins
        self.accounts = Accounts()
        self._own_uid = os.geteuid()
        self._by_uid: dict[int, Person] = {}
        self._group_names: dict[int, str] = {}

    def person(self, uid: int, gid: int = -1) -> Person:
        """What is known of `uid`; one without an entry gets its number as name and `gid` as only group."""
        known = self._by_uid.get(uid)
        if known is not None and time.monotonic() - known.t < TTL_S:
            return known
        if len(self._by_uid) >= CACHE_MAX:
            self._by_uid.clear()
        person = _look_up(uid, gid)
        self._by_uid[uid] = person
        return person

    def group_name(self, gid: int) -> str:
        """Name of a group, or its number."""
        name = self._group_names.get(gid)
        if name is None:
            name = self._group_names[gid] = _group_name(gid)
        return name

    def caller(self, uid: int, gid: int) -> Caller:
        """The caller with their role."""
        person = self.person(uid, gid)
        return Caller(
            uid=uid,
            gid=gid,
            user=person.user,
            role=self.role_of(uid, person.user),
            groups=person.groups,
            coordinates=self.accounts.coordinated(person.user),
        )

    def role_of(self, uid: int, user: str) -> Role:
        """ADMIN for root, the daemon's own user and configured admins; OPERATOR as configured; else USER."""
        if uid in (0, self._own_uid) or user in self.admins:
            return Role.ADMIN
        return Role.OPERATOR if user in self.operators else Role.USER

    def require_user(self, name: str) -> Person:
        """The person called `name` (or with that decimal uid); raises NotFound (USER_UNKNOWN)."""
        try:
            entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        except (KeyError, OverflowError):
            raise NotFound(f"no user '{name[:80]}'", code="USER_UNKNOWN") from None
        return self.person(entry.pw_uid, entry.pw_gid)

    def members(self, group: str) -> list[str]:
        """Names of the users of a group, also of those whose first group it is.  Raises NotFound (GROUP_UNKNOWN)."""
        entry = grp.getgrgid(self.require_group(group))
        return sorted({*entry.gr_mem, *(person.pw_name for person in pwd.getpwall() if person.pw_gid == entry.gr_gid)})

    def require_group(self, name: str) -> int:
        """The gid of a group by name or number; raises NotFound (GROUP_UNKNOWN)."""
        try:
            return grp.getgrgid(int(name)).gr_gid if name.isdigit() else grp.getgrnam(name).gr_gid
        except (KeyError, OverflowError):
            raise NotFound(f"no group '{name[:80]}'", code="GROUP_UNKNOWN") from None


def _look_up(uid: int, gid: int) -> Person:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Person(uid, gid, str(uid), "/", [gid] if gid >= 0 else [], frozenset())
    gids = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Person(uid, entry.pw_gid, entry.pw_name, entry.pw_dir, gids, frozenset(map(_group_name, gids)))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
