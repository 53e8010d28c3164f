"""hqueue: the queue, in squeue(1)'s columns.

Asks for the columns the format and the sort order need, nothing else.  `--iterate` asks again with the cursor of the
last answer, which costs the controller nothing while nothing changes; `--watch` follows the events instead.
"""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.fields import Layout, parse_long, parse_short, parse_sort, sort_rows
from helix.cli.options import ACCEPTED, LATER, Command, Option, count, words
from helix.cli.queue_columns import (
    DEFAULT_FORMAT,
    DEFAULT_SORT,
    LONG_FORMAT,
    QUEUE_FIELDS,
    START_FORMAT,
    START_SORT,
)
from helix.errors import UsageError
from helix.words import STATE_CODES, find_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from helix.cli.fields import Placed, SortKey
    from helix.client import Client

ROWS_MAX = 5_000_000  #: a listing longer than this is refused rather than kept in memory


def parse_states(text: str) -> list[str]:
    """`-t`: names, codes or `all`, comma-separated.  Raises UsageError (STATE_UNKNOWN)."""
    found = []
    for word in words(text):
        if word.lower() == "all":
            return ["all"]
        state = find_state(word)
        if not state:
            from helix.cli.options import nearest

            raise UsageError(
                f"no job state '{word[:40]}'",
                code="STATE_UNKNOWN",
                hint=nearest(word.upper(), STATE_CODES) or "the states are " + ", ".join(STATE_CODES),
            )
        found.append(state)
    return found


#: Options that select jobs; hqueue's table starts with them.
FILTER_OPTIONS = (
    Option("-L --licenses", "only jobs that ask for one of these licences", metavar="NAMES", parse=words),
    Option("-A --account --accounts", "only jobs of these accounts", metavar="NAMES", field="accounts", parse=words),
    Option("-j --jobs --job", "only these jobs", metavar="IDS", field="ids"),
    Option("-n --name --names", "only jobs of these names", metavar="NAMES", field="names", parse=words, env="NAMES"),
    Option("-p --partition --partitions", "only jobs in these partitions", metavar="NAMES", field="partitions",
           parse=words, env="PARTITION"),
    Option("-q --qos", "only jobs of these qualities of service", metavar="NAMES", parse=words, env="QOS"),
    Option("-t --states --state", "only jobs in these states; all: finished ones too", metavar="STATES",
           field="states", parse=parse_states, env="STATES"),
    Option("-u --user --users", "only jobs of these users, by name or number", metavar="NAMES", field="users",
           parse=words, env="USERS"),
    Option("--me", "only my jobs"),
    Option("-w --nodelist --nodes", "only jobs on any of these nodes", metavar="HOSTS", field="nodelist"),
    Option("-R --reservation", "only jobs that run in this reservation or ask for it", metavar="NAME"),
)  # fmt: skip

COMMAND = Command(
    "hqueue",
    "show the jobs in the queue",
    ["hqueue [OPTION...]"],
    (
        *FILTER_OPTIONS,
        Option("-a --all", "jobs in hidden partitions too (nothing is hidden here)", status=ACCEPTED),
        Option("--hide", "leave out hidden partitions (nothing is hidden here)", status=ACCEPTED),
        Option("-r --array", "a line for each array task that waits", env="ARRAY"),
        Option("--array-unique", "one line for each array", status=LATER),
        Option("-h --noheader", "no line of titles"),
        Option("-i --iterate", "show it again every so many seconds", metavar="SECONDS", parse=count),
        Option("--watch", "show it, and again whenever something changes"),
        Option("--json", "a JSON document with every field"),
        Option("-l --long", "more columns"),
        Option("-o --format", "columns by letter: %[[.]width]letter...", metavar="FORMAT", env="FORMAT"),
        Option("-O --Format", "columns by name: name[:[.]width],...", metavar="FORMAT", field="format_long",
               env="FORMAT2"),
        Option("-S --sort", "order: letters of the columns, - for descending", metavar="KEYS", env="SORT"),
        Option("--start", "waiting jobs with their expected start"),
        Option("-P --priority", "a line for each partition a waiting job asked for", status=LATER),
        Option("-s --steps", "job steps instead of jobs", metavar="STEPS", optional=True, status=LATER),
        Option("-M --clusters --cluster", "other clusters", metavar="NAMES", status=LATER),
        Option("--federation", "the whole federation", status=LATER),
        Option("--local", "this cluster only", status=ACCEPTED),
        Option("--sibling", "sibling jobs of the federation", status=LATER),
        Option("--yaml", "a YAML document (use --json)", metavar="VERSION", optional=True, status=LATER),
        Option("-v --verbose", "say on stderr what is asked for"),
    ),
    env=(*app.COMMON_ENV, ("HQUEUE_*, SQUEUE_*", "defaults of options, as shown there")),
    env_prefixes=("HQUEUE_", "SQUEUE_"),
    exits=app.EXIT_STATUSES,
    fields="helix.cli.queue_columns:QUEUE_FIELDS",
    see_also=("hsubmit(1)", "hcancel(1)", "hwhy(1)", "hctl(1)"),
    examples=(
        ("hqueue --me", "my jobs"),
        ('hqueue -t PD -o "%.18i %.8u %r" -S -p', "waiting jobs with their reasons, the next first"),
        ("hqueue -h -j 12 -o %T", "the state of a job, for a script"),
    ),
    short_help=False,
)  # fmt: skip


class Listing:
    """What to ask for and how to show it, from one command line."""

    def __init__(self, invocation: app.Invocation) -> None:
        """Raises UsageError for a format, order or filter that makes no sense."""
        get = invocation.get
        self.start = bool(get("start"))
        self.noheader = bool(get("noheader"))
        self.long = bool(get("long"))
        placed, prefix = self._format(invocation)
        text = get("sort") or (START_SORT if self.start else DEFAULT_SORT)
        self.keys: list[SortKey] = parse_sort(text, QUEUE_FIELDS)
        also = [name for key in self.keys for name in key.field.needs]
        self.layout = Layout(placed, prefix, also)
        self.filter = job_filter(invocation)
        if self.start and "states" not in self.filter:
            self.filter["states"] = ["PENDING"]
        self.expand = bool(get("array"))

    def _format(self, invocation: app.Invocation) -> tuple[list[Placed], str]:
        get = invocation.get
        if get("format_long"):
            return parse_long(get("format_long"), QUEUE_FIELDS), ""
        text = get("format") or (LONG_FORMAT if self.long else START_FORMAT if self.start else DEFAULT_FORMAT)
        return parse_short(text, QUEUE_FIELDS)

    def request(self, fields: Sequence[str], since: str = "") -> dict[str, Any]:
        """Arguments of job.list."""
        args: dict[str, Any] = {"filter": self.filter, "fields": list(fields)}
        if self.expand:
            args["expand_arrays"] = True
        if since:
            args["since"] = since
        return args

    def show(self, rows: list[Any]) -> None:
        """Sort and print the rows."""
        sort_rows(rows, self.keys, self.layout.index)
        if self.long:
            from time import asctime

            output.put(asctime())
        if not self.noheader:
            output.put(self.layout.header())
        step = 5000  # blocks keep the columns of 100,000 rows in the cache
        for at in range(0, len(rows), step):
            output.put_rows(self.layout.render(rows[at : at + step]))


def job_filter(invocation: app.Invocation) -> dict[str, Any]:
    """The JobFilter of the filter options given; an option without a value in it matches nothing to be left out."""
    get = invocation.get
    chosen: dict[str, Any] = {}
    for field in ("accounts", "licenses", "names", "partitions", "qos", "states", "users"):
        if get(field):
            chosen[field] = get(field)
    if get("ids"):
        chosen["ids"] = app.split_ids([get("ids")])
    if get("me"):
        import os

        chosen["users"] = [str(os.getuid())]
    if get("nodelist"):
        chosen["nodelist"] = get("nodelist")
    if get("reservation"):
        chosen["reservation"] = get("reservation")
    return chosen


def fetch(client: Client, args: dict[str, Any]) -> tuple[list[Any], str, bool]:
    """All rows of a job.list, its cursor, and whether the answer was `unchanged`."""
    rows: list[Any] = []
    cursor, unchanged = "", False
    for frame in client.stream("job.list", args):
        rows.extend(frame.get("rows", ()))
        cursor = str(frame.get("cursor", cursor))
        unchanged = bool(frame.get("unchanged"))
        if len(rows) > ROWS_MAX:
            raise UsageError(f"more than {ROWS_MAX} lines", hint="select fewer jobs")
    return rows, cursor, unchanged


def _require_known(client: Client, listing: Listing) -> None:
    """A single job id that stands for nothing is an error, as with squeue -j."""
    ids = listing.filter.get("ids", ())
    if len(ids) == 1:
        client.call("job.show", {"ids": list(ids)})


def _once(client: Client, listing: Listing) -> None:
    rows, _, _ = fetch(client, listing.request(listing.layout.columns))
    if not rows:
        _require_known(client, listing)
    listing.show(rows)


def _json(client: Client, listing: Listing) -> None:
    jobs: list[dict[str, Any]] = []
    cursor = ""
    for frame in client.stream("job.list", listing.request(())):
        names = frame.get("columns", ())
        jobs.extend(dict(zip(names, row, strict=True)) for row in frame.get("rows", ()))
        cursor = str(frame.get("cursor", cursor))
    if not jobs:
        _require_known(client, listing)
    output.put_json("jobs", {"cursor": cursor, "jobs": jobs})


def _iterate(client: Client, listing: Listing, seconds: int) -> None:
    """Print the listing for ever; running times are advanced here while the controller says `unchanged`."""
    import time

    columns = [*listing.layout.columns, *({"state", "elapsed_s"} - set(listing.layout.columns))]
    state, used = columns.index("state"), columns.index("elapsed_s")
    cursor, rows, t_rows = "", [], 0.0
    width = len(listing.layout.columns)
    while True:
        fresh, cursor, unchanged = fetch(client, listing.request(columns, cursor))
        if not unchanged:
            rows, t_rows = fresh, time.monotonic()
        passed = time.monotonic() - t_rows
        aged = [list(row) for row in rows]
        for row in aged:
            if row[state] == "RUNNING":
                row[used] += passed
        if not listing.long:
            output.put(time.asctime())
        listing.show([row[:width] for row in aged])
        output.put("")
        sys.stdout.flush()
        time.sleep(seconds)


def _body(invocation: app.Invocation) -> int:
    app.refuse_operands(invocation)
    app.apply_environment(invocation)
    listing = Listing(invocation)
    if invocation.get("verbose"):
        invocation.note(f"filter {listing.filter}, columns {','.join(listing.layout.columns)}")
    with app.connect() as client:
        if invocation.get("watch"):
            from helix.cli.queue_watch import watch

            watch(client, listing)
        elif invocation.get("json"):
            _json(client, listing)
        elif invocation.get("iterate"):
            _iterate(client, listing, invocation.get("iterate"))
        else:
            _once(client, listing)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
