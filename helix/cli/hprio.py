"""hprio: what the priorities of waiting jobs are made of, in sprio(1)'s columns.

The terms shown add up exactly to the priority: AGE + ASSOC + FAIRSHARE + JOBSIZE + PARTITION + QOS + the TRES + SITE
+ BOUND - NICE; BOUND is 0 unless the sum lies outside 1 to 4294967294.
"""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.fields import Field, Layout, parse_short, parse_sort, sort_rows
from helix.cli.options import ACCEPTED, LATER, Command, Option, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from helix.client import Client

_PRIORITY_FULL = 4294967295.0  #: %y is a share of this, as squeue's %p
DEFAULT_SORT = "i"
_WIDE = "%.15i %9r"
_USER = " %.8u"
_TAIL = " %.11N"
#: column of a weight -> the field that shows it
_WEIGHED = (
    ("age", " %.10A"), ("assoc", " %.10B"), ("fairshare", " %.10F"), ("jobsize", " %.10J"), ("partition", " %.10P"),
    ("qos", " %.10Q"),
)  # fmt: skip
_NORMAL = {" %.10A": " %.10a", " %.10B": " %.10b", " %.10F": " %.10f", " %.10J": " %.10j", " %.10P": " %.10p",
           " %.10Q": " %.10q", " %20T": " %20t"}  # fmt: skip


def _tres(terms: dict[str, int]) -> str:
    return ",".join(f"{name}={term}" for name, term in terms.items())


def _norm(value: float) -> str:
    return f"{value:.7f}"


def _id_key(display: str, job: int, array: int, task: int | None) -> tuple[int, int]:
    return (array or job, -1 if task is None else task)


#: Fields by sprio's letters.
PRIORITY_FIELDS: tuple[Field, ...] = (
    Field("a", "", "AGE", "norm_age", _norm, help="age factor"),
    Field("A", "", "AGE", "age", help="what the age adds"),
    Field("b", "", "ASSOC", "norm_assoc", _norm, help="association factor"),
    Field("B", "", "ASSOC", "assoc", help="what the association adds"),
    Field("c", "", "CLUSTER", "", lambda: "", help="nothing: there is one cluster"),
    Field("C", "", "ADMIN", "admin", help="the priority, if an operator set it"),
    Field("f", "", "FAIRSHARE", "norm_fairshare", _norm, help="fair-share factor"),
    Field("F", "", "FAIRSHARE", "fairshare", help="what the fair share adds"),
    Field("i", "", "JOBID", "display_id job_id array_job_id array_task_id", lambda i, *_: i, key=_id_key,
          help="job id"),
    Field("j", "", "JOBSIZE", "norm_jobsize", _norm, help="size factor"),
    Field("J", "", "JOBSIZE", "jobsize", help="what the size adds"),
    Field("k", "", "BOUND", "bound", help="what keeping the priority within its bounds added"),
    Field("n", "", "QOSNAME", "qos_name", help="quality of service"),
    Field("N", "", "NICE", "nice", help="nice value, taken away"),
    Field("o", "", "ACCOUNT", "account", help="account"),
    Field("p", "", "PARTITION", "norm_partition", _norm, help="partition factor"),
    Field("P", "", "PARTITION", "partition_term", help="what the partition adds"),
    Field("q", "", "QOS", "norm_qos", _norm, help="QOS factor"),
    Field("Q", "", "QOS", "qos", help="what the QOS adds"),
    Field("r", "", "PARTITION", "partition", help="name of the partition"),
    Field("S", "", "SITE", "site", help="site factor"),
    Field("t", "", "TRES", "norm_tres", _norm, help="TRES factor"),
    Field("T", "", "TRES", "tres", _tres, key=lambda terms: sum(terms.values()), help="what each TRES adds"),
    Field("u", "", "USER", "user", help="user name"),
    Field("y", "", "PRIORITY", "priority", lambda p: f"{p / _PRIORITY_FULL:.14f}",
          help="priority as a share of the greatest"),
    Field("Y", "", "PRIORITY", "priority", help="priority"),
)  # fmt: skip

COMMAND = Command(
    "hprio",
    "show what the priorities of waiting jobs are made of",
    ["hprio [OPTION...]"],
    (
        Option("-j --jobs", "only these jobs", metavar="IDS", field="ids"),
        Option("-u --user --users", "only jobs of these users, by name or number", metavar="NAMES", field="users",
               parse=words, env="USERS"),
        Option("-p --partition --partitions", "only jobs in these partitions", metavar="NAMES", field="partitions",
               parse=words),
        Option("-h --noheader", "no line of titles"),
        Option("-l --long", "more columns"),
        Option("-n --norm", "factors from 0 to 1 instead of weighted terms"),
        Option("-o --format", "columns by letter: %[[.]width]letter...", metavar="FORMAT", env="FORMAT"),
        Option("-S --sort", "order: letters of the columns, - for descending", metavar="KEYS"),
        Option("-w --weights", "the configured weights instead of jobs"),
        Option("--json", "a JSON document with every field"),
        Option("-v --verbose", "say on stderr what is asked for"),
        Option("--local", "this cluster only", status=ACCEPTED, env="LOCAL"),
        Option("--federation", "the whole federation", status=LATER, env="FEDERATION"),
        Option("--sibling", "sibling jobs of the federation", status=LATER),
        Option("-M --clusters --cluster", "other clusters", metavar="NAMES", status=LATER),
    ),
    env=(*app.COMMON_ENV, ("HPRIO_*, SPRIO_*", "defaults of options, as shown there")),
    env_prefixes=("HPRIO_", "SPRIO_"),
    exits=app.EXIT_STATUSES,
    fields="helix.cli.hprio:PRIORITY_FIELDS",
    see_also=("hqueue(1)", "hshare(1)", "hctl(1)", "helix.conf(5)"),
    examples=(
        ("hprio -S -Y", "waiting jobs, the first in line first"),
        ("hprio -w", "what counts on this cluster"),
        ('hprio -h -j 12 -o "%Y %A %F"', "of one job, for a script"),
    ),
    short_help=False,
)  # fmt: skip


def default_format(weights: dict[str, Any], *, long: bool, norm: bool) -> str:
    """The columns of the factors that count: sprio leaves out those without a weight."""
    parts = [_WIDE, _USER if long else "", " %.14y" if norm else " %.10Y"]
    if not norm:
        parts.append(" %.10S")
    shown = [text for name, text in _WEIGHED if weights.get(name)]
    if weights.get("tres"):
        shown.append(" %20T")
    if norm:
        shown = [_NORMAL[text] for text in shown]
    tail = "" if norm else _TAIL
    if shown and shown[-1].endswith(("T", "t")):
        shown.insert(-1, tail)
    else:
        shown.append(tail)
    if long and not norm:
        parts.append(" %.10C %.7k")
    return "".join([*parts, *shown])


def fetch(client: Client, args: dict[str, Any]) -> tuple[list[str], list[list[Any]], dict[str, Any]]:
    """Columns, rows and weights."""
    columns: list[str] = []
    rows: list[list[Any]] = []
    weights: dict[str, Any] = {}
    for frame in client.stream("job.priority", args):
        columns = columns or list(frame.get("columns", ()))
        weights = weights or dict(frame.get("weights", {}))
        rows.extend(frame.get("rows", ()))
    return columns, rows, weights


def _weights_row(columns: list[str], weights: dict[str, Any]) -> list[Any]:
    """The weights as a row; the job's own columns are empty."""
    at = {"age": "age", "assoc": "assoc", "fairshare": "fairshare", "jobsize": "jobsize", "partition": "partition_term",
          "qos": "qos", "tres": "tres"}  # fmt: skip
    row: dict[str, Any] = dict.fromkeys(columns, "")
    row.update({column: weights.get(name, 0) for name, column in at.items()}, display_id="Weights", priority=0)
    row["tres"] = weights.get("tres") or {}
    return [row[name] for name in columns]


def _filter(invocation: app.Invocation) -> dict[str, Any]:
    get = invocation.get
    chosen = {name: get(name) for name in ("users", "partitions") if get(name)}
    if get("ids"):
        chosen["ids"] = app.split_ids([get("ids")])
    return chosen


def _body(invocation: app.Invocation) -> int:
    app.refuse_operands(invocation)
    app.apply_environment(invocation)
    get = invocation.get
    keys = parse_sort(get("sort") or DEFAULT_SORT, PRIORITY_FIELDS)
    given = parse_short(get("format"), PRIORITY_FIELDS) if get("format") else None
    chosen = _filter(invocation)
    if get("verbose"):
        invocation.note(f"filter {chosen}")
    with app.connect() as client:
        columns, rows, weights = fetch(client, {"filter": chosen})
        ids = chosen.get("ids", ())
        if not rows and len(ids) == 1:
            client.call("job.show", {"ids": list(ids)})
    if get("json"):
        jobs = [dict(zip(columns, row, strict=True)) for row in rows]
        output.put_json("priorities", {"weights": weights, "jobs": jobs})
        return 0
    long, norm = bool(get("long")), bool(get("norm"))
    if get("weights"):
        rows, long, norm = [_weights_row(columns, weights)], False, False
        shown = default_format(weights, long=False, norm=False).replace(_TAIL, "")
        given = given or parse_short(shown, PRIORITY_FIELDS)
    placed, prefix = given or parse_short(default_format(weights, long=long, norm=norm), PRIORITY_FIELDS)
    layout = Layout(placed, prefix)
    index = {name: at for at, name in enumerate(columns)}
    if not get("weights"):
        sort_rows(rows, keys, index)
    if not get("noheader"):
        output.put(layout.header())
    places = [index[name] for name in layout.columns]
    output.put_rows(layout.render([[row[at] for at in places] for row in rows]))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
