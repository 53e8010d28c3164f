"""hctl: look into and change a cluster; scontrol(1)'s verbs.  This file is the table of verbs."""

from __future__ import annotations

import sys

from helix.cli import app
from helix.cli.options import ACCEPTED, LATER, Command, Option, nearest, not_supported
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Verb:
    """A row: what is typed, how its arguments look, what it does, and `module:function` that does it."""

    __slots__ = ("does", "form", "help", "names")

    def __init__(self, names: str, form: str, help: str, does: str) -> None:
        self.names = names.split()
        self.form = form
        self.help = help
        self.does = does


VERBS: tuple[Verb, ...] = (
    Verb("show", "show job|node|partition [NAME]", "everything about jobs, nodes or partitions", "hctl_show:show"),
    Verb("show", "show reservation [NAME]", "advance reservations", "hctl_show:show"),
    Verb("show", "show config", "the configuration in force", "hctl_show:show"),
    Verb("show", "show hostnames [HOSTS]", "the names a host list stands for, a line each", "hctl_show:show"),
    Verb("show", "show hostlist|hostlistsorted NAMES|/FILE|-", "names as a host list", "hctl_show:show"),
    Verb("update", "update JobId=|NodeName=|PartitionName=NAME KEY=VALUE...", "change a job, nodes, or a partition",
         "hctl_change:update"),
    Verb("update", "update reservation=NAME KEY=VALUE...|skip", "change an advance reservation", "hctl_change:update"),
    Verb("create", "create reservation[=NAME] KEY=VALUE...", "keep nodes or licences for some users, for a time",
         "hctl_reservation:create"),
    Verb("delete", "delete reservation=NAME", "delete an advance reservation", "hctl_reservation:delete"),
    Verb("hold", "hold JOB...", "keep waiting jobs from starting", "hctl_change:hold"),
    Verb("uhold", "uhold JOB...", "the same, and their owner may release them", "hctl_change:uhold"),
    Verb("release", "release JOB...", "let held jobs start", "hctl_change:release"),
    Verb("top", "top JOB...", "before the other waiting jobs of the same user", "hctl_change:top"),
    Verb("requeue", "requeue JOB...", "put running or finished jobs back into the queue", "hctl_change:requeue"),
    Verb("requeuehold", "requeuehold [State=SpecialExit] JOB...", "the same, and hold them",
         "hctl_change:requeue_hold"),
    Verb("suspend", "suspend JOB...", "stop running jobs for a while", "hctl_change:suspend"),
    Verb("resume", "resume JOB...", "continue suspended jobs", "hctl_change:resume"),
    Verb("wait_job", "wait_job JOB", "until the job has started", "hctl_change:wait_job"),
    Verb("write", "write batch_script JOB [FILE|-]", "a job's script, to slurm-JOB.sh", "hctl_show:write_script"),
    Verb("reconfigure", "reconfigure", "read helix.conf again and apply what can change live",
         "hctl_change:reconfigure"),
    Verb("ping", "ping", "does the controller answer?", "hctl_admin:ping"),
    Verb("debug setdebug setdebugflags", "debug [+FLAG|-FLAG|LEVEL]...", "change DebugFlags or the log level",
         "hctl_admin:debug"),
    Verb("snapshot", "snapshot", "write the controller's state now", "hctl_admin:snapshot"),
    Verb("shutdown", "shutdown", "stop the controller; jobs go on", "hctl_admin:shutdown"),
    Verb("config", "config check [FILE]", "what a helix.conf or slurm.conf means here, key by key",
         "hctl_admin:config"),
    Verb("journal", "journal check|repair DIR", "examine or mend a journal (controller stopped)",
         "hctl_admin:journal"),
    Verb("token", "token create [USES [SECONDS]]", "a token that admits new nodes", "hctl_admin:token"),
    Verb("version", "version", "the version", "hctl_admin:version"),
)  # fmt: skip

#: Verbs of scontrol that a later part of the system serves.
LATER_VERBS = (
    "abort", "bbstat", "cancel_reboot", "cluster", "dwstat", "errnumstr", "fsdampeningfactor",
    "getaddrs", "getent", "gethost", "listjobs", "listpids", "liststeps", "notify", "pidinfo", "power", "reboot",
    "schedloglevel", "takeover",
)  # fmt: skip

COMMAND = Command(
    "hctl",
    "look into and change a cluster",
    ["hctl [OPTION...] VERB [ARGUMENT...]"],
    (
        Option("-a --all", "hidden partitions too"),
        Option("-d --details", "show job: CPUs, submit line and story too"),
        Option("-f --config", "configuration file for the tools that need one", metavar="FILE"),
        Option("--hide", "leave out hidden partitions (the default)", status=ACCEPTED),
        Option("--json", "a JSON document"),
        Option("--local", "this cluster only", status=ACCEPTED),
        Option("-o --oneliner", "a line for each record"),
        Option("-Q --quiet", "print nothing but results"),
        Option("-v --verbose", "say more"),
        Option("-F --future", "future nodes", status=LATER),
        Option("--federation", "the whole federation", status=LATER),
        Option("-M --cluster --clusters", "another cluster", metavar="NAME", status=LATER),
        Option("--sibling", "sibling jobs of the federation", status=LATER),
        Option("-u --uid", "as another user", metavar="UID", status=LATER),
        Option("--yaml", "a YAML document (use --json)", metavar="VERSION", optional=True, status=LATER),
    ),
    operands=tuple((verb.form, verb.help) for verb in VERBS),
    stop_words=frozenset({"debug", "setdebug", "setdebugflags"}),
    env=(*app.COMMON_ENV, ("HELIX_CONF", "configuration file of `config check` and `token create`")),
    exits=app.EXIT_STATUSES,
    see_also=("hinfo(1)", "hqueue(1)", "hdiag(1)", "helix.conf(5)", "helixctld(8)"),
    examples=(
        ("hctl show job 12", "everything about a job"),
        ("hctl update JobId=12 TimeLimit=2:00:00", "change its time limit"),
        ('hctl update NodeName=n[1-4] State=DRAIN Reason="new disk"', "take nodes out of service"),
        ("hctl create reservation StartTime=09:00 Duration=120 Nodes=n[1-4] Users=alice", "keep nodes for a user"),
        ("hctl config check /etc/slurm/slurm.conf", "what a slurm.conf would mean here"),
    ),
)


def find_verb(word: str) -> Verb:
    """The verb a word or an unambiguous beginning of one stands for.  Raises UsageError."""
    low = word.lower()
    table = {name: verb for verb in VERBS for name in verb.names}
    if low in table:
        return table[low]
    if low in LATER_VERBS:
        raise not_supported(low)
    found = {verb.names[0]: verb for name, verb in table.items() if name.startswith(low)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise UsageError(f"'{word[:40]}' is ambiguous", hint="it may be " + ", ".join(sorted(found)))
    raise UsageError(f"no command '{word[:40]}'", hint=nearest(low, [*table, *LATER_VERBS]) or "see hctl --help")


def _body(invocation: app.Invocation) -> int:
    words = app.require_operands(invocation, "a command is")
    verb = find_verb(words[0])
    module_name, _, function_name = verb.does.partition(":")
    module = __import__("helix.cli." + module_name, fromlist=[function_name])
    with app.connect() as client:
        return int(getattr(module, function_name)(client, invocation, words[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
