"""hinfo: partitions and nodes, in sinfo(1)'s columns."""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.fields import parse_long, parse_short, parse_sort
from helix.cli.info_columns import ALL, INFO_FIELDS, LOW, STATE_ORDER, InfoField, compact_state
from helix.cli.options import ACCEPTED, LATER, Command, Option, count, words
from helix.errors import NotFound, UsageError
from helix.words import NODE_STATE_CODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from helix.cli.fields import Placed, SortKey
    from helix.client import Client

    Row = dict[str, Any]

#: (node oriented, long, reasons, summary) -> format and order; sinfo's.
DEFAULT = "%#P %.5a %.10l %.6D %.6t %N"
LONG = "%#P %.5a %.10l %.10s %.4r %.8h %.10g %.6D %.11T %.11i %N"
SUMMARY = "%#P %.5a %.10l %.16F %N"
NODES = "%#N %.6D %.#P %6t"
NODES_LONG = "%#N %.6D %.#P %.11T %.4c %.8z %.6m %.8d %.6w %.8f %20E"
AUTO_WIDTH_MIN = 9  #: of a `%#` field, which is else as wide as its widest value
REASONS = "%20E %9u %19H %N"
REASONS_LONG = "%20E %12U %19H %6t %N"

_SPECIAL_STATES = {
    "drain": ("DRAINED", "DRAINING"),
    "fail": ("FAIL", "FAILING"),
    "alloc": ("ALLOCATED",),
    "all": STATE_ORDER,
}


def parse_node_states(text: str) -> set[str]:
    """`-t`: names, short forms, `drain` and `fail` for both of their kinds, `resp`/`no_respond`.

    Raises UsageError (STATE_UNKNOWN).
    """
    by_code = {code: name for name, code in NODE_STATE_CODES.items()}
    found: set[str] = set()
    for word in words(text):
        low = word.lower().rstrip("*")
        if low in ("no_respond", "noresp"):
            found.add("*")
        elif low in _SPECIAL_STATES:
            found.update(_SPECIAL_STATES[low])
        elif low in by_code:
            found.add(by_code[low])
        elif low.upper() in NODE_STATE_CODES:
            found.add(low.upper())
        else:
            from helix.cli.options import nearest

            raise UsageError(
                f"no node state '{word[:40]}'",
                code="STATE_UNKNOWN",
                hint=nearest(low, [*by_code, *map(str.lower, NODE_STATE_CODES)])
                or "the states are " + ", ".join(NODE_STATE_CODES).lower(),
            )
    return found


COMMAND = Command(
    "hinfo",
    "show partitions and nodes",
    ["hinfo [OPTION...]"],
    (
        Option("-N --Node", "a line for each node instead of each partition and state"),
        Option("-l --long", "more columns"),
        Option("-s --summarize", "a line for each partition"),
        Option("-R --list-reasons", "why nodes are down, drained or failing"),
        Option("-n --nodes", "only these nodes", metavar="HOSTS"),
        Option("-p --partition --partitions", "only these partitions", metavar="NAMES", field="partitions",
               parse=words, env="PARTITION"),
        Option("-t --states --state", "only nodes in these states", metavar="STATES", field="states",
               parse=parse_node_states),
        Option("-d --dead", "only nodes that do not respond"),
        Option("-r --responding", "only nodes that respond"),
        Option("-e --exact", "do not put nodes that differ on one line"),
        Option("-o --format", "columns by letter: %[[.]width]letter...", metavar="FORMAT", env="FORMAT"),
        Option("-O --Format", "columns by name: name[:[.]width],...", metavar="FORMAT", field="format_long"),
        Option("-S --sort", "order: letters of the columns, - for descending", metavar="KEYS", env="SORT"),
        Option("-T --reservation", "advance reservations instead of nodes"),
        Option("-h --noheader", "no line of titles"),
        Option("-i --iterate", "show it again every so many seconds", metavar="SECONDS", parse=count),
        Option("--json", "a JSON document with every field"),
        Option("-a --all", "hidden partitions too", env="ALL"),
        Option("--hide", "leave out hidden partitions (the default)", status=ACCEPTED),
        Option("-b --bg", "Blue Gene blocks", status=LATER),
        Option("-F --future", "future nodes", status=LATER),
        Option("-M --clusters --cluster", "other clusters", metavar="NAMES", status=LATER),
        Option("--federation", "the whole federation", status=LATER),
        Option("--local", "this cluster only", status=ACCEPTED),
        Option("--yaml", "a YAML document (use --json)", metavar="VERSION", optional=True, status=LATER),
        Option("-v --verbose", "accepted", status=ACCEPTED),
    ),
    env=(*app.COMMON_ENV, ("HINFO_*, SINFO_*", "defaults of options, as shown there")),
    env_prefixes=("HINFO_", "SINFO_"),
    exits=app.EXIT_STATUSES,
    fields="helix.cli.info_columns:INFO_FIELDS",
    see_also=("hqueue(1)", "hctl(1)"),
    examples=(
        ("hinfo", "partitions by state of their nodes"),
        ("hinfo -N -l", "a line for each node"),
        ("hinfo -R", "why nodes are out of service"),
        ("hinfo -T", "advance reservations"),
    ),
    short_help=False,
)  # fmt: skip


class Line:
    """The nodes that share a line; `node` is one of them, None for a partition without nodes."""

    __slots__ = ("node", "nodes", "partition", "place")

    def __init__(self, partition: Row, node: Row | None, place: int) -> None:
        self.partition = partition
        self.node = node
        self.nodes: list[Row] = [node] if node else []
        self.place = place  #: of the partition in the configuration

    def cell(self, field: InfoField, exact: bool) -> str:
        """The text of one field."""
        if field.kind == ALL:
            return str(field.value(self.partition, self.nodes))
        value = field.value(self.partition, self.node)
        if field.kind == LOW and not exact and len(self.nodes) > 1:
            values = [field.value(self.partition, node) for node in self.nodes]
            low = min(values)
            return f"{low}+" if max(values) != low else str(low)
        return str(value)

    def rank(self, field: InfoField, by_place: bool) -> Any:
        """What sorting by a field compares."""
        if field.letter == "P" and by_place:
            return self.place
        if field.letter == "N":
            from helix.hostlist import host_sort_key

            return host_sort_key(self.node["name"]) if self.node else ()
        if field.kind == ALL:
            return field.value(self.partition, self.nodes)
        return field.rank(self.partition, self.node)


class View:
    """What to show, from one command line."""

    def __init__(self, invocation: app.Invocation) -> None:
        """Raises UsageError for a format or order that makes no sense."""
        get = invocation.get
        self.by_node, self.long = bool(get("Node")), bool(get("long"))
        self.reasons, self.summary = bool(get("list_reasons")), bool(get("summarize"))
        self.exact = bool(get("exact"))
        self.noheader = bool(get("noheader"))
        self.states: set[str] = get("states") or set()
        self.dead, self.responding = bool(get("dead")), bool(get("responding"))
        self.hidden = bool(get("all"))
        self.partitions: list[str] = get("partitions") or []
        self.prefix = ""
        if get("format_long"):
            self.placed: list[Placed] = parse_long(get("format_long"), INFO_FIELDS)
        else:
            self.placed, self.prefix = parse_short(get("format") or self._format(), INFO_FIELDS)
        order = get("sort") or ("N" if self.by_node else "-H" if self.reasons else "#P,-t")
        self.by_place = "#P" in order
        self.keys: list[SortKey] = parse_sort(order, INFO_FIELDS)

    def _format(self) -> str:
        if self.summary:
            return SUMMARY
        if self.reasons:
            return REASONS_LONG if self.long else REASONS
        if self.by_node:
            return NODES_LONG if self.long else NODES
        return LONG if self.long else DEFAULT

    @property
    def fields(self) -> list[InfoField]:
        """The fields of the format."""
        return [item.field for item in self.placed if isinstance(item.field, InfoField)]

    def wants(self, node: Row) -> bool:
        """True if the node passes the filters."""
        word = str(node["state"])
        silent = word.endswith("*")
        if (self.dead and not silent) or (self.responding and silent):
            return False
        if self.reasons and not node["reason"]:
            return False
        return not self.states or word.rstrip("*") in self.states or (silent and "*" in self.states)

    def lines(self, partitions: Sequence[Row], nodes: Sequence[Row]) -> list[Line]:
        """Nodes gathered into lines, in order."""
        same = [f for f in self.fields if f.kind not in (ALL, LOW) or (f.kind == LOW and self.exact)]
        filtered = bool(self.states or self.dead or self.responding or self.reasons)
        members: dict[str, list[Row]] = {}
        for node in nodes:
            if self.wants(node):
                for name in node["partitions"] or [""]:
                    members.setdefault(name, []).append(node)
        found: dict[tuple[Any, ...], Line] = {}
        for place, part in enumerate(partitions):
            if self.partitions and part["name"] not in self.partitions:
                continue
            if part["hidden"] and not self.hidden and not self.partitions:
                continue
            mine = members.get(part["name"], ())
            if not mine and not filtered and not self.by_node:
                found[("", place)] = Line(part, None, place)
            for node in mine:
                key = (
                    "" if self.reasons else place,
                    node["name"] if self.by_node else "",
                    *(str(field.value(part, node)) for field in same),
                )
                line = found.get(key)
                if line is None:
                    found[key] = Line(part, node, place)
                elif not self.reasons or all(other["name"] != node["name"] for other in line.nodes):
                    line.nodes.append(node)
        lines = list(found.values())
        for order in reversed(self.keys):
            if isinstance(order.field, InfoField):
                lines.sort(key=self._rank_by(order.field), reverse=order.reverse)
        return lines

    def _rank_by(self, field: InfoField) -> Callable[[Line], Any]:
        return lambda line: line.rank(field, self.by_place)

    def render(self, lines: Sequence[Line]) -> str:
        """Titles and lines as text."""
        table = [[line.cell(field, self.exact) for field in self.fields] for line in lines]
        if not self.noheader:
            table.insert(0, [field.title for field in self.fields])
        template = [self.prefix.replace("%", "%%")]
        for at, item in enumerate(self.placed):
            if item.auto:
                item.width = max([AUTO_WIDTH_MIN, *(len(row[at]) for row in table)])
            template.append(item.template())
        line = "".join(template)
        return "\n".join(line % tuple(row) for row in table)


def _rows(client: Client, method: str, args: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for frame in client.stream(method, args):
        names = frame.get("columns", ())
        rows.extend(dict(zip(names, row, strict=True)) for row in frame.get("rows", ()))
    return rows


def fetch(client: Client, invocation: app.Invocation) -> tuple[list[Row], list[Row]]:
    """Partitions in configuration order, and nodes.  Raises NotFound for a partition that does not exist."""
    partitions = _rows(client, "partition.list", {})
    known = [part["name"] for part in partitions]
    for name in invocation.get("partitions") or ():
        if name not in known:
            from helix.cli.options import nearest

            raise NotFound(f"no partition '{name[:80]}'", code="PARTITION_UNKNOWN", hint=nearest(name, known))
    args = {"nodes": invocation.get("nodes")} if invocation.get("nodes") else {}
    return partitions, _rows(client, "node.list", args)


def _show(client: Client, invocation: app.Invocation, view: View) -> None:
    partitions, nodes = fetch(client, invocation)
    if invocation.get("json"):
        shown = [node for node in nodes if view.wants(node)]
        for node in shown:
            node["state_compact"] = compact_state(node["state"])
        output.put_json("info", {"partitions": partitions, "nodes": shown})
        return
    if invocation.get("nodes"):
        # Partitions without any of the named nodes are of no interest.
        mine = {name for node in nodes for name in node["partitions"]}
        partitions = [part for part in partitions if part["name"] in mine]
    text = view.render(view.lines(partitions, nodes))
    if invocation.get("long") or invocation.get("iterate"):
        from time import asctime

        output.put(asctime())
    output.put_rows(text)


def _show_reservations(client: Client, invocation: app.Invocation) -> None:
    """`-T`: sinfo's columns, as wide as the longest name."""
    from helix.cli.moments import elapsed_padded, stamp_or

    found = _rows(client, "reservation.list", {})
    if invocation.get("json"):
        output.put_json("reservations", {"reservations": found})
        return
    if not found:
        output.put("No reservations in the system")
        return
    table = [
        (r["name"], r["state"], stamp_or(r["t_start"], "Unknown"), stamp_or(r["t_end"], "Unknown"),
         elapsed_padded(round(r["t_end"] - r["t_start"])), r["nodes"] or "(null)")
        for r in found
    ]  # fmt: skip
    if not invocation.get("noheader"):
        table.insert(0, ("RESV_NAME", "STATE", "START_TIME", "END_TIME", "DURATION", "NODELIST"))
    width = max(len(row[0]) for row in table)
    lines = (f"{n:<{width}}  {s:>8}  {a:>19}  {b:>19}  {d:>11}  {hosts}" for n, s, a, b, d, hosts in table)
    output.put_rows("\n".join(lines))


def _body(invocation: app.Invocation) -> int:
    app.refuse_operands(invocation)
    app.apply_environment(invocation)
    view = View(invocation)
    seconds = invocation.get("iterate")
    with app.connect() as client:
        while True:
            if invocation.get("reservation"):
                _show_reservations(client, invocation)
            else:
                _show(client, invocation, view)
            if not seconds:
                return 0
            from time import sleep

            output.put("")
            sys.stdout.flush()
            sleep(seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
