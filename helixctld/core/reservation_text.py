"""scontrol's words for a reservation (`StartTime=`, `Users+=`, `Flags=` ...), read into what is asked.

`Asked.read` takes a whole `create` or `update`; it changes nothing but the record it was given.  Errors name the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from helix.errors import NotFound, UsageError
from helix.hostlist import format_hostlist, parse_hostlist
from helix.licences import parse_licences
from helix.model.reservation import PURGE_DEFAULT_S, REPEATS, RESERVATION_FLAGS, ReservationRecord
from helix.quoting import one_line
from helix.sched.features import parse_constraint
from helix.sizes import parse_mem_mib
from helix.timefmt import parse_time_limit, parse_when
from helixctld.core.nearest import did_you_mean
from helixctld.core.state import State

YEAR_S = 365 * 86400  #: an infinite reservation lasts so long, as Slurm's
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-@:]{0,63}", re.ASCII)
LIST_MAX = 1000  #: users, accounts or groups of one reservation
TEXT_MAX = 1024
COUNT_MAX = 1 << 31
_ALIASES = {"NO_HOLD_JOBS": "NO_HOLD_JOBS_AFTER", "NO_HOLD_JOBS_AFTER_END": "NO_HOLD_JOBS_AFTER", "PURGE": "PURGE_COMP"}
#: Flags that are read off the request and cannot be given.
_DERIVED = ("ALL_NODES", "SPEC_NODES")


def invalid(text: str, hint: str = "") -> UsageError:
    """A request that makes no sense."""
    return UsageError(text, code="RESERVATION_INVALID", hint=hint)


class Asked:
    """A `create` (on an empty record) or `update` (on a copy) as it was read."""

    def __init__(self, state: State, record: ReservationRecord, now: float, *, update: bool) -> None:
        self.state = state
        self.r = record
        self.now = now
        self.update = update
        self.start: float | None = None
        self.end: float | None = None
        self.duration_s: float | None = None
        self.names: list[str] | None = None  # nodes by name
        self.all_nodes = False
        self.cores: list[int] = []
        self.counted = False  # NodeCnt, CoreCnt, TRES, Features or Partition was given
        self.skip = False
        self.groups_changed = False

    def read(self, changes: dict[str, str]) -> None:
        """Take every key.  Raises UsageError or NotFound."""
        for name, text in changes.items():
            key = name.lower()
            reader = _KEYS.get(key)
            if reader is None:
                raise UsageError(
                    f"a reservation has no field '{name[:40]}'", code="FIELD_UNKNOWN", hint=did_you_mean(key, _KEYS)
                )
            if len(text) > 64 * TEXT_MAX:
                raise invalid(f"{name} is too long")
            reader(self, text.strip())

    # ---- one reader a key; `text` may begin with + or - for `Key+=` and `Key-=`

    def name_it(self, text: str) -> None:
        """ReservationName."""
        if not self.update:
            if not NAME.fullmatch(text):
                raise invalid(f"'{one_line(text)}' is not a name for a reservation", "letters, digits and _.-@:")
            self.r.name = text

    def start_time(self, text: str) -> None:
        """StartTime."""
        self.start = moment(text, self.now)

    def end_time(self, text: str) -> None:
        """EndTime."""
        self.end = moment(text, self.now)

    def duration(self, text: str) -> None:
        """Duration: minutes, or any of the forms of a time limit; `infinite` is a year."""
        sign = text[:1] if text[:1] in ("+", "-") and self.update else ""
        length = float(parse_time_limit(text.removeprefix(sign)) or YEAR_S)
        if sign:
            length = self.r.t_end - self.r.t_start + (length if sign == "+" else -length)
        if length <= 0:
            raise invalid("Duration: nothing would be left of it")
        self.duration_s = length

    def nodes(self, text: str) -> None:
        """Nodes: a host list, or ALL; `+=` and `-=` add and take away."""
        sign = text[:1] if text[:1] in ("+", "-") and self.update else ""
        body = text.removeprefix(sign)
        if not body:
            self.names = []
            return
        if body.upper() == "ALL":
            self.all_nodes, names = True, []
        else:
            names = list(dict.fromkeys(parse_hostlist(body)))
            for name in names:
                if name not in self.state.nodes:
                    raise NotFound(
                        f"no node '{one_line(name)}'", code="NODE_UNKNOWN", hint=did_you_mean(name, self.state.nodes)
                    )
        if sign == "+":
            names = [*self.r.shares, *(name for name in names if name not in self.r.shares)]
        elif sign == "-":
            gone = set(names)
            if missing := gone - self.r.shares.keys():
                raise invalid(f"reservation '{self.r.name}' does not have {format_hostlist(sorted(missing))}")
            names = [name for name in self.r.shares if name not in gone]
        self.names = names

    def node_count(self, text: str) -> None:
        """NodeCnt."""
        self.r.node_count = self._count(text, "NodeCnt", len(self.r.shares))
        self.counted = True

    def core_count(self, text: str) -> None:
        """CoreCnt: one number, or one for each node of Nodes."""
        numbers = [self._count(part, "CoreCnt", 0) for part in text.split(",")]
        self.cores = numbers
        self.r.core_count = sum(numbers)
        self.r.tres.pop("cpu", None)
        self.counted = True

    def tres(self, text: str) -> None:
        """TRES=cpu=,mem=,node=,gres/NAME=,license/NAME=."""
        self.r.tres = {}
        for item in filter(None, text.split(",")):
            kind, _, number = item.partition("=")
            name = kind.strip().lower()
            if name == "node":
                self.node_count(number)
            elif name == "mem":
                self.r.tres["mem"] = parse_mem_mib(number)
            elif name == "cpu":
                self.r.tres["cpu"], self.r.core_count = self._count(number, "TRES=cpu", 0), 0
            elif name.startswith("gres/") and name != "gres/":
                self.r.tres[kind.strip()] = self._count(number, f"TRES={name}", 0)
            elif name.startswith("license/"):
                self.licenses(f"{kind.strip().partition('/')[2]}:{number}")
            else:
                raise invalid(f"TRES: '{one_line(item)}' cannot be reserved", "cpu, mem, node, gres/NAME, license/NAME")
        self.counted = True

    def features(self, text: str) -> None:
        """Features."""
        if text and not parse_constraint(text).is_plain:
            raise invalid(f"Features={one_line(text)}: brackets and counts are not for reservations")
        self.r.features = text
        self.counted = True

    def partition(self, text: str) -> None:
        """PartitionName."""
        if text and text not in self.state.partitions:
            hint = did_you_mean(text, self.state.partitions)
            raise NotFound(f"no partition '{one_line(text)}'", code="PARTITION_UNKNOWN", hint=hint)
        self.r.partition = text
        self.counted = True

    def licenses(self, text: str) -> None:
        """Licenses: name:count,..."""
        self.r.licenses = dict(parse_licences(text))

    def users(self, text: str) -> None:
        """Users."""
        self.r.users, self.r.users_denied = self._listed(text, self.r.users, self.r.users_denied, "Users")

    def accounts(self, text: str) -> None:
        """Accounts."""
        self.r.accounts, self.r.accounts_denied = self._listed(
            text, self.r.accounts, self.r.accounts_denied, "Accounts"
        )

    def groups(self, text: str) -> None:
        """Groups."""
        names, denied = self._listed(text, self.r.groups, False, "Groups")
        if denied:
            raise invalid("Groups: a group cannot be kept out; leave it away")
        self.r.groups = names
        self.groups_changed = True

    def flags(self, text: str) -> None:
        """Flags: added to those it has in an update, `-=` takes away."""
        found = set(self.r.flags)
        for item in filter(None, text.split(",")):
            sign = item[:1] if item[:1] in ("+", "-") else ""
            word, _, value = item.removeprefix(sign).partition("=")
            flag = _ALIASES.get(word.strip().upper(), word.strip().upper())
            if flag == "SKIP" and self.update:
                self.skip = True
                continue
            if flag not in RESERVATION_FLAGS or flag in _DERIVED:
                hint = did_you_mean(flag, RESERVATION_FLAGS) or "flags: " + ", ".join(RESERVATION_FLAGS)
                raise UsageError(
                    f"'{one_line(item)}' is no flag of a reservation", code="RESERVATION_INVALID", hint=hint
                )
            if sign == "-":
                found.discard(flag)
                continue
            if flag in REPEATS and sign != "-":
                others = found.intersection(REPEATS) - {flag}
                if others and not self.update:
                    raise invalid(f"{min(others)} and {flag} do not go together")
                found -= others
            if flag == "PURGE_COMP":
                self.r.purge_s = parse_time_limit(value) if value else PURGE_DEFAULT_S
            elif value:
                raise invalid(f"flag {flag} takes no value")
            found.add(flag)
        self.r.flags = [flag for flag in RESERVATION_FLAGS if flag in found]

    def comment(self, text: str) -> None:
        """Comment."""
        if len(text) > TEXT_MAX or not (text.isprintable() or not text):
            raise invalid(f"the comment is longer than {TEXT_MAX} characters or cannot be printed")
        self.r.comment = text

    def skip_one(self, _text: str) -> None:
        """The next occurrence is left out (update of a repeated one)."""
        if not self.update:
            raise invalid("Skip is for the update of a repeated reservation")
        self.skip = True

    def _count(self, text: str, key: str, old: int) -> int:
        """A number of at least 1; `+2` and `-2` change the old one in an update."""
        body = text.strip()
        sign = body[:1] if body[:1] in ("+", "-") and self.update and old else ""
        digits = body.removeprefix(sign)
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 10:
            raise invalid(f"{key}={one_line(text)}: not a whole number")
        number = int(digits)
        if sign:
            number = old + (number if sign == "+" else -number)
        if not 1 <= number < COUNT_MAX:
            raise invalid(f"{key}={number}: must be at least 1")
        return number

    def _listed(self, text: str, old: list[str], denied: bool, key: str) -> tuple[list[str], bool]:
        """A list of names, and whether it is of those kept out.

        Created: all names with `-` in front, or none.  Updated: plain names replace the list; `+name` and `-name`
        let in and keep out, which is to add to one kind of list and to take from the other.
        """
        items = list(dict.fromkeys(item.strip() for item in text.split(",") if item.strip()))
        if len(items) > LIST_MAX:
            raise invalid(f"{key}: more than {LIST_MAX} names")
        signs = {item[0] if item[0] in "+-" else "" for item in items}
        names = [item.lstrip("+-") for item in items]
        if not all(names):
            raise invalid(f"{key}: a name is missing")
        if not self.update or signs <= {""}:
            if len(signs) > 1 or "+" in signs:
                raise invalid(f"{key}: put - in front of all names, or of none")
            return names, signs == {"-"}
        if "" in signs:
            raise invalid(f"{key}: put + or - in front of all names, or of none")
        found = list(old)
        for item, name in zip(items, names, strict=True):
            keep_out = item[0] == "-"
            if not found:
                denied = keep_out
            if keep_out == denied:
                found += [name] * (name not in found)
            elif name in found:
                found.remove(name)
            else:
                raise invalid(f"{key}: '{one_line(name)}' is not in the list of reservation '{self.r.name}'")
        return found, denied and bool(found)


def moment(text: str, now: float) -> float:
    """A time as Slurm writes it, or `@` and epoch seconds (what hctl makes of it)."""
    if text.startswith("@") and text[1:].replace(".", "", 1).isdigit() and len(text) < 20:
        return float(text[1:])
    return parse_when(text, now)


def _refused(key: str) -> Callable[[Asked, str], None]:
    def refuse(_asked: Asked, _text: str) -> None:
        raise UsageError(f"{key} of reservations is not supported", code="NOT_SUPPORTED")

    return refuse


_KEYS: dict[str, Callable[[Asked, str], None]] = {
    "reservationname": Asked.name_it,
    "reservation": Asked.name_it,
    "name": Asked.name_it,
    "starttime": Asked.start_time,
    "endtime": Asked.end_time,
    "duration": Asked.duration,
    "nodes": Asked.nodes,
    "nodecnt": Asked.node_count,
    "nodecount": Asked.node_count,
    "corecnt": Asked.core_count,
    "corecount": Asked.core_count,
    "tres": Asked.tres,
    "features": Asked.features,
    "feature": Asked.features,
    "partitionname": Asked.partition,
    "partition": Asked.partition,
    "licenses": Asked.licenses,
    "users": Asked.users,
    "user": Asked.users,
    "accounts": Asked.accounts,
    "account": Asked.accounts,
    "groups": Asked.groups,
    "group": Asked.groups,
    "flags": Asked.flags,
    "flag": Asked.flags,
    "maxstartdelay": _refused("MaxStartDelay"),
    "comment": Asked.comment,
    "skip": Asked.skip_one,
    "burstbuffer": _refused("BurstBuffer"),
    "watts": _refused("Watts"),
}
RESERVATION_KEYS = tuple(_KEYS)
