"""hshare: shares, usage and fair-share factors of associations, in sshare(1)'s columns."""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.options import LATER, Command, Option, nearest, words
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class Column:
    """A column: its name in --format, title, width, and how the value of a row (a dict) is shown."""

    __slots__ = ("left", "name", "show", "title", "width")

    def __init__(self, name: str, title: str, width: int, show: Callable[[dict[str, Any]], str], left: bool = False):
        self.name = name
        self.title = title
        self.width = width
        self.show = show
        self.left = left


def _six(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{row[name]:.6f}"


def _pairs(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: ",".join(f"{tres}={count}" for tres, count in row[name].items())


def _account(row: dict[str, Any]) -> str:
    return f"{' ' * row['depth']}{row['account']}"


def _level(row: dict[str, Any]) -> str:
    return "inf" if row["level_fs"] is None else f"{row['level_fs']:.6f}"


COLUMNS: tuple[Column, ...] = (
    Column("Account", "Account", 20, _account, left=True),
    Column("User", "User", 10, lambda row: row["user"]),
    Column("Partition", "Partition", 12, lambda row: row["partition"]),
    Column("RawShares", "RawShares", 10, lambda row: "parent" if row["raw_shares"] < 0 else str(row["raw_shares"])),
    Column("NormShares", "NormShares", 11, _six("norm_shares")),
    Column("RawUsage", "RawUsage", 11, lambda row: str(row["raw_usage"])),
    Column("NormUsage", "NormUsage", 11, _six("norm_usage")),
    Column("EffectvUsage", "EffectvUsage", 13, _six("effectv_usage")),
    Column("FairShare", "FairShare", 10, lambda row: f"{row['fairshare']:.6f}" if row["fairshare_shown"] else ""),
    Column("LevelFS", "LevelFS", 10, _level),
    Column("GrpTRESMins", "GrpTRESMins", 30, _pairs("grp_tres_mins")),
    Column("GrpTRESRaw", "GrpTRESRaw", 30, _pairs("grp_tres_raw")),
    Column("TRESRunMins", "TRESRunMins", 30, _pairs("tres_run_mins")),
)
_SHORT = ("Account", "User", "RawShares", "NormShares", "RawUsage", "EffectvUsage", "FairShare")
_LONG = ("Account", "User", "RawShares", "NormShares", "RawUsage", "NormUsage", "EffectvUsage", "FairShare", "LevelFS",
         "GrpTRESMins", "TRESRunMins")  # fmt: skip

COMMAND = Command(
    "hshare",
    "show shares, usage and fair-share factors of accounts and users",
    ["hshare [OPTION...]"],
    (
        Option("-a --all", "all users (otherwise: me)"),
        Option("-A --accounts", "only these accounts and what is in them", metavar="NAMES", parse=words),
        Option("-u --users --user", "only these users", metavar="NAMES", parse=words),
        Option("-U --Users", "users only, without the accounts above them", field="users_only"),
        Option("-l --long", "normalised usage, limits and running minutes too"),
        Option("-m --partition", "the partitions of associations that have one", field="partition"),
        Option("-n --noheader", "no lines of titles"),
        Option("-o --format", "columns by name: name[%width],... (a negative width: to the left)", metavar="NAMES"),
        Option("-p --parsable", "columns ended by |"),
        Option("-P --parsable2", "columns with | between them"),
        Option("-e --helpformat", "the names for --format"),
        Option("--json", "a JSON document"),
        Option("-v --verbose", "say on stderr what is asked for"),
        Option("-M --clusters --cluster", "other clusters", metavar="NAMES", status=LATER),
    ),
    env=app.COMMON_ENV,
    exits=app.EXIT_STATUSES,
    see_also=("hprio(1)", "hqueue(1)", "helix.conf(5)", "helix-assoc.conf(5)"),
    examples=(
        ("hshare -a", "everybody"),
        ("hshare -l -A physics -a", "an account and its users, with limits"),
        ("hshare -nPU -o Account,FairShare", "my factors, for a script"),
    ),
)


def choose(text: str) -> list[tuple[Column, int]]:
    """`--format`: columns with their widths, negative for left-justified.  Raises UsageError (FORMAT_INVALID)."""
    by_name = {column.name.lower(): column for column in COLUMNS}
    chosen = []
    for word in words(text):
        name, percent, width = word.partition("%")
        column = by_name.get(name.strip().lower())
        if column is None:
            near = nearest(name.strip().lower(), by_name)
            raise UsageError(
                f"--format: no column '{name.strip()[:40]}'",
                code="FORMAT_INVALID",
                hint=near or "the columns are " + ", ".join(c.name for c in COLUMNS),
            )
        digits = width.removeprefix("-")
        if percent and not (digits.isascii() and digits.isdigit() and 0 < int(digits[:5]) <= 10_000):
            raise UsageError(f"--format: '{word[:40]}' has no width from 1 to 10000", code="FORMAT_INVALID")
        chosen.append((column, int(width) if percent else -column.width if column.left else column.width))
    return chosen


def render(
    rows: list[dict[str, Any]], chosen: list[tuple[Column, int]], *, header: bool, delimiter: str, end: str
) -> str:
    """The lines: columns of their widths, or joined by `delimiter`."""
    lines = []
    if delimiter:
        table = [[column.title for column, _ in chosen]] if header else []
        # The depth of an account is shown by spaces, which mean something to programs as well (sshare does it too).
        table += [[column.show(row) for column, _ in chosen] for row in rows]
        return "\n".join(delimiter.join(cells) + end for cells in table)
    if header:
        lines.append(" ".join(_cell(column.title, width) for column, width in chosen) + " ")
        lines.append(" ".join("-" * abs(width) for _, width in chosen) + " ")
    lines += [" ".join(_cell(column.show(row), width) for column, width in chosen) + " " for row in rows]
    return "\n".join(lines)


def _cell(text: str, width: int) -> str:
    room = abs(width)
    if len(text) > room:
        text = text[: room - 1] + "+"
    return text.ljust(room) if width < 0 else text.rjust(room)


def _chosen(invocation: app.Invocation) -> list[tuple[Column, int]]:
    get = invocation.get
    names = list(_LONG if get("long") else _SHORT)
    if get("partition"):
        names.insert(2, "Partition")
    return choose(get("format") or ",".join(names))


def _body(invocation: app.Invocation) -> int:
    app.refuse_operands(invocation)
    get = invocation.get
    if get("helpformat"):
        output.put("\n".join(column.name for column in COLUMNS))
        return 0
    chosen = _chosen(invocation)
    args: dict[str, Any] = {name: get(name) for name in ("accounts", "users") if get(name)}
    if get("all"):
        args["all"] = True
    if get("verbose"):
        invocation.note(f"asked for {args or 'the caller'}")
    with app.connect() as client:
        reply = client.call("account.shares", args)
    rows = [dict(zip(reply["columns"], row, strict=True)) for row in reply["rows"]]
    for row in rows:  # with Fair Tree the factor is a rank of users; accounts have none of their own
        row["fairshare_shown"] = bool(row["user"]) or not reply.get("fair_tree")
    if get("users_only"):
        rows = [{**row, "depth": 0} for row in rows if row["user"]]
    if get("json"):
        output.put_json("shares", {"shares": [{k: v for k, v in r.items() if k != "fairshare_shown"} for r in rows]})
        return 0
    delimiter = "|" if get("parsable") or get("parsable2") else ""
    end = "|" if get("parsable") and not get("parsable2") else ""
    output.put_rows(render(rows, chosen, header=not get("noheader"), delimiter=delimiter, end=end))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
