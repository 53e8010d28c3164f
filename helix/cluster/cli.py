"""`hcluster`: a whole cluster on this machine in one command.

Owns the command line and what is printed; `lifecycle` does the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helix.cli.app import Invocation, run
from helix.cli.options import Command, Option, choice, count, integer
from helix.cli.output import put, put_json
from helix.cluster.conffile import Shape
from helix.cluster.layout import default_dir
from helix.cluster.lifecycle import CONTROLLER, Cluster
from helix.cluster.reach import job_counts
from helix.cluster.shellenv import SHELLS, format_env, guess_shell
from helix.errors import HelixError, UsageError
from helix.sizes import parse_mem_mib

ACTIONS = ("up", "down", "status", "env", "keygen")

COMMAND = Command(
    "hcluster",
    "run a whole Helix cluster on this machine",
    (
        "hcluster up [--nodes=N] [--cpus=C] [--memory=SIZE] [--dir=DIR]",
        "hcluster down [--keep-jobs] [--dir=DIR]",
        "hcluster status [--json] [--dir=DIR]",
        "hcluster env [--shell=SHELL] [--dir=DIR]",
        "hcluster keygen FILE",
    ),
    (
        Option("--dir", "the cluster's directory", metavar="DIR"),
        Option("-n --nodes", "how many nodes a new cluster gets (default 4)", metavar="N", parse=count),
        Option("-c --cpus", "CPUs of each node of a new cluster (default: this machine's)", metavar="C", parse=count),
        Option(
            "-m --memory",
            "memory of each node of a new cluster, in MiB or with a suffix (default: this machine's, shared out)",
            metavar="SIZE",
            parse=parse_mem_mib,
        ),
        Option("--timeout", "seconds to wait for daemons (default 60)", metavar="SECONDS", parse=integer(1, 86400)),
        Option("--keep-jobs", "down: leave running jobs alone; the next up finds them again"),
        Option("--shell", "env: bash, zsh or fish (default: from $SHELL)", metavar="SHELL", parse=choice(*SHELLS)),
        Option("--json", "status: print JSON"),
        Option("-q --quiet", "say nothing but errors"),
    ),
    operands=(
        ("up", "start what is down of the cluster, making it first if need be, and wait until all nodes are idle"),
        ("down", "end the running jobs and stop all daemons; everything else is kept"),
        ("status", "say which daemons run, how the nodes are and how many jobs there are"),
        ("env", "print shell commands that make the cluster the one the commands talk to"),
        ("keygen", "make a CURVE key pair in FILE and print its public key, for a node that is to have no join token"),
    ),
    env=(
        ("HELIX_CLUSTER_DIR", "the cluster's directory, as --dir"),
        ("SHELL", "the shell that env prints for, by default"),
        ("XDG_STATE_HOME", "where the default directory is, instead of ~/.local/state"),
    ),
    exits=(
        (0, "done; for status: every daemon runs"),
        (1, "failed; for status: a daemon is down"),
        (2, "the command line is wrong"),
        (3, "a daemon did not start"),
        (5, "a node was not ready in time"),
    ),
    see_also=("helix.conf(5)", "helixctld(8)", "helixd(8)", "hinfo(1)", "hsubmit(1)"),
)


def main(argv: list[str] | None = None) -> int:
    """The program."""
    return run(COMMAND, act, argv)


def act(invocation: Invocation) -> int:
    """Do what the command line says; gives the exit status.  Raises HelixError."""
    values, operands = invocation.values, invocation.operands
    if not operands or operands[0] not in ACTIONS:
        given = f"'{operands[0]}' is not" if operands else "the first word must be"
        raise UsageError(f"{given} one of: {' '.join(ACTIONS)}", hint="see hcluster --help")
    action, rest = operands[0], operands[1:]
    _check_options(action, values)
    if action == "keygen":
        return _keygen(rest)
    if rest:
        raise UsageError(f"'{rest[0]}' is one word too many", hint="see hcluster --help")
    return _ACTIONS[action](_cluster(values), values)


#: action -> options that mean something to it.
_TAKES = {
    "up": {"dir", "nodes", "cpus", "memory", "timeout", "quiet"},
    "down": {"dir", "keep_jobs", "timeout", "quiet"},
    "status": {"dir", "json"},
    "env": {"dir", "shell"},
    "keygen": set[str](),
}


def _check_options(action: str, values: dict[str, Any]) -> None:
    for row in COMMAND.options:
        if row.field in values and row.field not in _TAKES[action] | {"debug"}:
            raise UsageError(f"{row.name} means nothing to {action}", hint="see hcluster --help")


def _cluster(values: dict[str, Any]) -> Cluster:
    root = Path(values.get("dir") or os.environ.get("HELIX_CLUSTER_DIR") or default_dir())
    quiet = values.get("quiet", False)
    return Cluster.at(root, say=(lambda line: None) if quiet else _say)


def _up(cluster: Cluster, values: dict[str, Any]) -> int:
    asked = {key: values[key] for key in ("nodes", "cpus", "memory") if key in values}
    shape = Shape(asked.get("nodes", 4), asked.get("cpus", 0), asked.get("memory", 0))
    made = cluster.create(shape)
    if not made and "nodes" in asked and len(cluster.facts().nodes) != asked["nodes"]:
        raise UsageError(
            f"{cluster.layout.conf} already says {len(cluster.facts().nodes)} nodes, not {asked['nodes']}",
            hint="change its NodeName line, or name another directory with --dir",
        )
    views = cluster.up(timeout_s=values.get("timeout", 60))
    if not values.get("quiet"):
        idle = sum(view.state == "IDLE" for view in views)
        put(f"{len(views)} nodes, {idle} idle; state in {cluster.layout.root}")
        others = [view for view in views if view.state != "IDLE"]
        for view in others[:20]:
            put(f"  {view.name}: {view.state}" + (f" ({view.reason})" if view.reason else ""))
        put(f'Use it from a shell:  eval "$(hcluster env --dir {cluster.layout.root})"')
    return 0


def _down(cluster: Cluster, values: dict[str, Any]) -> int:
    forced = cluster.down(keep_jobs=values.get("keep_jobs", False), timeout_s=values.get("timeout", 60))
    for name in forced:
        _say(f"{name} did not end by itself and was killed")
    return 0


def _status(cluster: Cluster, values: dict[str, Any]) -> int:
    cluster.require()
    daemons = cluster.status()
    running = any(d.name == CONTROLLER and d.pid is not None for d in daemons)
    nodes: dict[str, str] = {}
    jobs: dict[str, int] = {}
    trouble = ""
    if running:
        try:
            nodes = {view.name: view.state for view in cluster.views()}
            jobs = job_counts(cluster.layout.controller_socket)
        except HelixError as exc:
            trouble = exc.msg
    if values.get("json"):
        report = {
            "dir": str(cluster.layout.root),
            "daemons": {d.name: d.pid for d in daemons},
            "nodes": nodes,
            "jobs": jobs,
            "trouble": trouble,
        }
        put_json("cluster-status", report)
    else:
        put(f"cluster {cluster.facts().cluster} in {cluster.layout.root}")
        for daemon in daemons:
            pid = f"pid {daemon.pid}" if daemon.pid else "down"
            put(f"  {daemon.name:<12} {pid:<14} {nodes.get(daemon.name, '')}".rstrip())
        if running and not trouble:
            put("jobs: " + (", ".join(f"{n} {state}" for state, n in sorted(jobs.items())) or "none"))
        if trouble:
            put(f"the controller does not answer: {trouble}")
    return 0 if all(d.pid for d in daemons) and not trouble else 1


def _env(cluster: Cluster, values: dict[str, Any]) -> int:
    cluster.require()
    shell = values.get("shell") or guess_shell(os.environ.get("SHELL", ""))
    put(format_env(cluster.env(), shell))
    return 0


def _keygen(rest: list[str]) -> int:
    # Here, because it loads ZeroMQ, which no other action needs.
    from helix.wire.auth import load_or_create_curve_keys

    if len(rest) != 1:
        raise UsageError("keygen needs one FILE", hint="hcluster keygen FILE")
    put(load_or_create_curve_keys(rest[0]).public)
    return 0


_ACTIONS: dict[str, Callable[[Cluster, dict[str, Any]], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "env": _env,
}


def _say(line: str) -> None:
    print(f"hcluster: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
