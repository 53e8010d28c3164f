"""hwait: return when jobs have ended, with their exit status; told by the controller, not by asking again."""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.hsubmit import wait_status
from helix.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from helix.client import Client

COMMAND = Command(
    "hwait",
    "wait until jobs have ended",
    ["hwait [OPTION...] JOB..."],
    (
        Option("--any", "return when the first of them has ended"),
        Option("-t --timeout", "give up after this time (exit status 5): minutes, mm:ss, hh:mm:ss, or with s: 30s",
               metavar="TIME", parse=lambda text: _timeout(text)),
        Option("-q --quiet", "print nothing"),
        Option("--json", "a JSON object for each job, a line each"),
    ),
    operands=(("JOB", "12, 12_3, 12_[1-4]; several separated by blanks or commas"),),
    env=app.COMMON_ENV,
    exits=(*app.EXIT_STATUSES, (0, "all jobs completed; otherwise the highest of their exit codes, 1 for a job that a "
           "signal or the system ended")),
    see_also=("hsubmit(1)", "hqueue(1)", "hlog(1)"),
    examples=(
        ("hwait 12 13", "until both have ended"),
        ("hwait --any --timeout 1:00:00 12 13", "until one has, an hour at most"),
    ),
)  # fmt: skip


def _timeout(text: str) -> float:
    """Seconds."""
    body = text.strip()
    if body[-1:] == "s" and body[:-1].isascii() and body[:-1].isdigit() and len(body) < 12:
        return float(body[:-1])
    from helix.timefmt import parse_time_limit

    return float(parse_time_limit(body))


def _ends(client: Client, ids: list[str], timeout_s: float | None, invocation: app.Invocation) -> Any:
    for end in client.wait_each(ids, timeout_s):
        if invocation.get("json"):
            import json

            sys.stdout.write(json.dumps(dict(end), ensure_ascii=False) + "\n")
        elif not invocation.get("quiet"):
            output.put(f"{end.get('display_id', end.get('job_id'))} {end.get('state')} {end.get('exit_code', '0:0')}")
        sys.stdout.flush()
        yield end
        if invocation.get("any"):
            return


def _body(invocation: app.Invocation) -> int:
    ids = app.split_ids(app.require_operands(invocation, "a job id is"))
    with app.connect() as client:
        return wait_status(_ends(client, ids, invocation.get("timeout") or None, invocation))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
