"""hctl's verbs about advance reservations: create, update, delete and show, in scontrol's grammar."""

from __future__ import annotations

from helix.cli import app, output
from helix.cli.moments import elapsed_padded, stamp_or
from helix.cli.options import nearest, not_supported
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from helix.cli.show_text import Lines
    from helix.client import Client

SUBJECTS = frozenset({"reservation", "reservationname", "res"})
_LATER = frozenset({"partition", "partitionname", "node", "nodename"})
_FORM = "the form is: create reservation StartTime=now+1hour Duration=60 Nodes=n[1-4] Users=alice"
_TIMES = frozenset({"starttime", "endtime"})
_LISTS = frozenset({"users", "user", "accounts", "account", "groups", "group", "flags", "flag"})


def is_reservation(word: str) -> bool:
    """True for the first word of a command about a reservation: `reservation`, `ReservationName=x`, `res=x`."""
    return word.partition("=")[0].lower() in SUBJECTS


def changes_of(words: list[str]) -> dict[str, str]:
    """`Key=Value` words as the controller takes them.  Raises UsageError.

    The sign of `Users+=a,b` goes in front of every name; moments are read here, in the user's time zone.
    """
    from time import time

    from helix.timefmt import parse_when

    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and key.lower() == "skip":
            found["Skip"] = "1"
            continue
        sign = key[-1:] if key[-1:] in ("+", "-") else ""
        key = key.removesuffix(sign) if sign else key
        if not equals or not key:
            raise UsageError(f"'{word[:60]}' is not Key=Value", hint="quote a value that has spaces")
        low = key.lower()
        if low in (name.lower() for name in found):
            raise UsageError(f"{key} is given twice")
        if sign and low in _LISTS:
            value = ",".join(sign + item for item in value.split(",") if item)
        elif low in _TIMES:
            if sign:
                raise UsageError(f"{key}{sign}=: a moment cannot be added to", hint=f"give {key}=, or Duration{sign}=")
            value = f"@{parse_when(value, time()):.3f}"
        else:
            value = sign + value
        found[key] = value
    return found


def create(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`create reservation Key=Value...`: prints the name."""
    if not words:
        raise UsageError("create what?", hint=_FORM)
    subject, equals, name = words[0].partition("=")
    if subject.lower() not in SUBJECTS:
        if subject.lower() in _LATER:
            raise not_supported(f"create {subject.lower()}")
        hint = nearest(subject.lower(), SUBJECTS) or _FORM
        raise UsageError(f"create: '{subject[:40]}' cannot be created", hint=hint)
    changes = changes_of(words[1:])
    if equals:
        if not name:
            raise UsageError("create: the reservation's name is empty")
        changes = {"ReservationName": name, **changes}
    if not changes:
        raise UsageError("create reservation: nothing is said about it", hint=_FORM)
    reply = client.call("reservation.create", {"changes": changes})
    if invocation.get("json"):
        output.put_json("reservation", {"name": reply.get("name")})
    elif not invocation.get("quiet"):
        output.put(f"Reservation created: {reply.get('name')}")
    return 0


def update(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`update reservation=NAME Key=Value...`."""
    name = words[0].partition("=")[2]
    changes = changes_of(words[1:])
    if not name:
        raise UsageError("update: the reservation's name is empty")
    if not changes:
        raise UsageError(f"update: nothing to change about reservation {name[:60]}")
    client.call("reservation.update", {"name": name, "changes": changes})
    if not invocation.get("quiet") and not invocation.get("json"):
        output.put("Reservation updated.")
    return 0


def delete(client: Client, _invocation: app.Invocation, words: list[str]) -> int:
    """`delete reservation=NAME`, `delete ReservationName=NAME`, `delete reservation NAME`."""
    form = "the form is: delete reservation=NAME"
    if not words:
        raise UsageError("delete what?", hint=form)
    subject, equals, name = words[0].partition("=")
    rest = words[1:]
    if subject.lower() not in SUBJECTS:
        if subject.lower() in _LATER:
            raise not_supported(f"delete {subject.lower()}")
        raise UsageError(f"delete: '{subject[:40]}' cannot be deleted", hint=nearest(subject.lower(), SUBJECTS) or form)
    if not equals and rest:
        name, rest = rest[0], rest[1:]
    if not name:
        raise UsageError("delete: the reservation's name is missing", hint=form)
    if rest:
        raise UsageError(f"unexpected argument '{rest[0][:60]}'", hint=form)
    client.call("reservation.delete", {"name": name})
    return 0


def show(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`show reservation [NAME...]`."""
    from helix.cli.hctl_show import rows_of
    from helix.cli.show_text import layout

    names = [name for word in words for name in word.split(",") if name]
    if names:
        found = [row for name in names for row in rows_of(client, "reservation.list", {"name": name})]
    else:
        found = rows_of(client, "reservation.list", {})
    if invocation.get("json"):
        output.put_json("reservations", {"reservations": found})
        return 0
    if not found:
        output.put("No reservations in the system")
        return 0
    oneliner = bool(invocation.get("oneliner"))
    output.put(("\n" if oneliner else "\n\n").join(layout(reservation_lines(r), oneliner=oneliner) for r in found))
    return 0


def flag_words(r: dict[str, Any]) -> str:
    """The flags as scontrol shows them."""
    shown = [f"PURGE_COMP={elapsed_padded(r['purge_s'])}" if flag == "PURGE_COMP" else flag for flag in r["flags"]]
    return ",".join(shown) or "(null)"


def reservation_lines(r: dict[str, Any]) -> Lines:
    """`scontrol show reservation`."""
    from helix.cli.queue_columns import memory
    from helix.cli.show_text import null

    tres = [f"cpu={r['cpus']}"] if r["cpus"] else []
    if r["parts"]:
        tres.append(f"mem={memory(r['memory_mib'])}")
    tres += [f"gres/{kind}={units}" for kind, units in sorted(r["gres"].items())]
    tres += [f"license/{item.replace(':', '=')}" for item in r["licenses"].split(",") if item]
    return [
        [
            ("ReservationName", r["name"]),
            ("StartTime", stamp_or(r["t_start"], "Unknown")),
            ("EndTime", stamp_or(r["t_end"], "Unknown")),
            ("Duration", elapsed_padded(round(r["t_end"] - r["t_start"]))),
        ],
        [
            ("Nodes", null(r["nodes"])),
            ("NodeCnt", r["node_count"]),
            ("CoreCnt", r["core_count"]),
            ("Features", null(r["features"])),
            ("PartitionName", null(r["partition"])),
            ("Flags", flag_words(r)),
        ],
        *([("NodeName", name), ("CPUs", cpus)] for name, cpus in r["parts"]),
        [("TRES", ",".join(tres) or "(null)")],
        [
            ("Users", null(",".join(r["users"]))),
            ("Groups", null(",".join(r["groups"]))),
            ("Accounts", null(",".join(r["accounts"]))),
            ("Licenses", null(r["licenses"])),
            ("State", r["state"]),
            ("BurstBuffer", "(null)"),
        ],
        [("MaxStartDelay", "(null)")],
        [("Comment", r["comment"])] if r["comment"] else [],
    ]
