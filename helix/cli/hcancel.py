"""hcancel: end jobs, or send them a signal; scancel(1)'s options.

Selecting nothing selects nothing: without ids or a filter it refuses.
"""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.hqueue import FILTER_OPTIONS, job_filter
from helix.cli.options import ACCEPTED, LATER, Command, Option, signal_number
from helix.errors import Denied, HelixError, UsageError, from_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from helix.client import Client

_ENV = {"accounts": "ACCOUNT", "names": "NAME", "partitions": "PARTITION", "qos": "QOS", "states": "STATE",
        "users": "USER"}  # fmt: skip


def _filters() -> list[Option]:
    """hqueue's filters with scancel's spellings and environment names; ids are operands here."""
    rows = []
    for option in FILTER_OPTIONS:
        if option.field == "ids":
            continue
        copy = Option(
            " ".join(option.flags),
            option.help,
            metavar=option.metavar,
            field=option.field,
            parse=option.parse,
            env=_ENV.get(option.field, ""),
        )
        if option.field == "names":
            copy.flags.insert(1, "--jobname")
        rows.append(copy)
    return rows


COMMAND = Command(
    "hcancel",
    "cancel jobs, or send them a signal",
    ["hcancel [OPTION...] JOB...", "hcancel [OPTION...] --user=NAME | --name=NAME | --partition=NAME | ..."],
    (
        *_filters(),
        Option("-s --signal", "send this signal instead of ending the job", metavar="SIGNAL", parse=signal_number,
               env="SIGNAL"),
        Option("-b --batch", "signal the batch script only, not its children", env="BATCH"),
        Option("-f --full", "signal the batch script and all its children", env="FULL"),
        Option("-H --hurry", "do not stage out data", env="HURRY"),
        Option("-i --interactive", "ask before each job", env="INTERACTIVE"),
        Option("-v --verbose", "say what is done", env="VERBOSE"),
        Option("-Q --quiet", "say nothing about jobs that have ended", env="QUIET"),
        Option("-c --cron", "jobs of the crontab too", status=LATER),
        Option("--ctld", "through the controller (always so)", env="CTLD", status=ACCEPTED),
        Option("-M --clusters --cluster", "other clusters", metavar="NAMES", status=LATER),
        Option("--sibling", "sibling jobs of the federation", metavar="CLUSTER", status=LATER),
        Option("--admin-comment", "a remark", metavar="TEXT", status=LATER),
    ),
    operands=(("JOB", "12, 12_3, 12_[1-4,8]; several separated by blanks or commas"),),
    env=(*app.COMMON_ENV, ("HCANCEL_*, SCANCEL_*", "defaults of options, as shown there")),
    env_prefixes=("HCANCEL_", "SCANCEL_"),
    exits=app.EXIT_STATUSES,
    see_also=("hqueue(1)", "hsubmit(1)"),
    examples=(
        ("hcancel 12 13_4 14_[1-9]", "cancel a job, a task, and some tasks"),
        ("hcancel --me --state=PENDING", "all my waiting jobs"),
        ("hcancel -s USR1 --batch 12", "signal the script"),
    ),
)  # fmt: skip

#: The job is over: there is nothing to cancel, which is what was wanted.  scancel keeps quiet about it, too.
ENDED = frozenset({"JOB_OVER", "JOB_FORGOTTEN"})


def kill_error(prog: str, job: str, error: HelixError) -> str:
    """One failed job, in the form scancel's callers know, with what the controller said."""
    if error.code in ENDED:
        text = "Job/step already completing or completed"
    elif error.code == "JOB_UNKNOWN":
        text = "Invalid job id specified"
    elif isinstance(error, Denied):
        text = "Access/permission denied"
    else:
        return f"{prog}: error: Kill job error on job id {job}: {error.msg} ({error.code})"
    return f"{prog}: error: Kill job error on job id {job}: {text} ({error.msg})"


def _confirm(client: Client, chosen: dict[str, Any]) -> list[str]:
    """Ask about each job on the terminal; the ids to go on with."""
    args = {"filter": chosen, "fields": ["display_id", "name", "partition"]}
    rows = [row for frame in client.stream("job.list", args) for row in frame.get("rows", ())]
    agreed = []
    for display, name, partition in rows:
        sys.stdout.write(output.clean(f"Cancel job_id={display} name={name} partition={partition} [y/n]? "))
        sys.stdout.flush()
        answer = sys.stdin.readline()
        if not answer:
            break
        if answer.strip().lower() in ("y", "yes"):
            agreed.append(str(display))
    return agreed


def _failed(invocation: app.Invocation, job: str, error: HelixError) -> int:
    """Report one job; the exit status it amounts to."""
    over = error.code in ENDED and not invocation.get("signal")
    if not over or invocation.get("verbose"):
        quiet = invocation.get("quiet") and error.code in ENDED
        if not quiet:
            sys.stderr.write(output.clean(kill_error(invocation.prog, job, error)) + "\n")
    return 0 if over else error.exit_status


def _cancel(client: Client, invocation: app.Invocation, chosen: dict[str, Any]) -> int:
    args: dict[str, Any] = {"filter": chosen}
    for name in ("signal", "batch", "full", "hurry"):
        if invocation.get(name):
            args[name] = invocation.get(name)
    reply = client.call("job.cancel", args)
    if invocation.get("verbose"):
        verb = f"Signal {invocation.get('signal')} to" if invocation.get("signal") else "Terminating"
        for display in reply.get("signalled", ()):
            invocation.note(f"{verb} job {display}")
    return max(
        (_failed(invocation, str(item.get("id")), from_wire(item)) for item in reply.get("errors", ())), default=0
    )


def _body(invocation: app.Invocation) -> int:
    app.apply_environment(invocation)
    chosen = job_filter(invocation)
    for operand in invocation.operands:
        if "." in operand:
            raise HelixError(f"job step '{operand[:40]}': cancelling steps is not supported yet", code="NOT_SUPPORTED")
    ids = app.split_ids(invocation.operands)
    if ids:
        chosen["ids"] = ids
    if not chosen:
        raise UsageError("nothing says which jobs to cancel", hint="give job ids, or an option such as --me or --name")
    with app.connect() as client:
        if invocation.get("interactive"):
            agreed = _confirm(client, chosen)
            if not agreed:
                return 0
            chosen = {"ids": agreed}
        return _cancel(client, invocation, chosen)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
