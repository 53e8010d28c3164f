"""`hsim`: try a workload on a described cluster with the scheduler of helixctld, in virtual time.

Owns the command line and what is printed; the other modules of the package do the work and are imported when needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from helix.cli import app
from helix.cli.app import Invocation
from helix.cli.options import Command, Option, choice, integer
from helix.cli.output import format_columns, put, put_json
from helix.errors import UsageError
from helixctld.sim.policies import POLICIES
from helixctld.sim.words import yielded_words

if TYPE_CHECKING:
    from helixctld.sim.metrics import Result
    from helixctld.sim.runs import Run, Wanted

ACTIONS = ("run", "compare", "pass", "place")
PREDICTIONS = 2000  #: arrivals of a run whose expected start is noted, unless told otherwise
_COUNT = integer(1, 10**9)
_FROM_0 = integer(0, 10**9)

COMMAND = Command(
    "hsim",
    "try a workload on a cluster, in virtual time",
    (
        "hsim run [--conf FILE] [--policy NAME] [OPTION...] TRACE",
        "hsim compare A.conf B.conf --trace TRACE [--runs N]",
        "hsim pass --nodes N --jobs N --running N [--seed N] [--json]",
        "hsim place --trace PODS --cluster NODES [--percent N] [--seed N] [--json]",
    ),
    (
        Option("-f --conf", "run: the cluster, a helix.conf (default: the trace's own processors)", metavar="FILE"),
        Option(
            "-p --policy",
            "run, compare: schedule by this instead of what the configuration says",
            metavar="NAME",
            parse=choice(*POLICIES),
        ),
        Option("--processors", "processors of the machine, if the trace does not say", metavar="N", parse=_COUNT),
        Option("-l --limit", "only the first N jobs", metavar="N", parse=_FROM_0),
        Option("--shake", "move each submit later by up to so many seconds", metavar="SECONDS", parse=_FROM_0),
        Option("--seed", "what chance starts from (default 0)", metavar="N", parse=_FROM_0),
        Option("--predict", f"run: note the start expected at N arrivals (default {PREDICTIONS})", metavar="N",
               parse=_FROM_0),
        Option("--starts", "run: write job number and start second, a line a job", metavar="FILE"),
        Option("--csv", "run: write a line of figures a job", metavar="FILE"),
        Option("--report", "run: write a page with plots", metavar="FILE.html"),
        Option("-t --trace", "compare, place: the workload", metavar="FILE"),
        Option("--runs", "compare: shaken replays of each (default 5)", metavar="N", parse=integer(1, 1000)),
        Option("--cluster", "place: the nodes, as CSV", metavar="FILE"),
        Option("--percent", "place: stop when so much of the GPUs was asked for (default 130)", metavar="N",
               parse=integer(1, 1000)),
        Option("-N --nodes", "pass: nodes of the random cluster", metavar="N", parse=_COUNT),
        Option("-J --jobs", "pass: waiting jobs", metavar="N", parse=_COUNT),
        Option("-R --running", "pass: running jobs", metavar="N", parse=_FROM_0),
        Option("--json", "a JSON document"),
        Option("-q --quiet", "no progress bar"),
    ),
    operands=(
        ("run", "play a workload, and say what came of it"),
        ("compare", "play a workload under two configurations, and say what differs"),
        ("pass", "time one planning pass on a random cluster"),
        ("place", "fill nodes with pods that never end, and say how much of the GPUs is in use"),
        ("TRACE", "SWF, CSV with a header line, or JSON lines of finished jobs; plain or gzip"),
    ),
    env=(("NUMBA_CACHE_DIR", "where compiled kernels are kept, instead of $XDG_CACHE_HOME/helix/kernels"),),
    exits=(
        (0, "done"),
        (1, "a file is not there, or the configuration is wrong"),
        (2, "the command line or the trace is wrong"),
    ),
    see_also=("helix.conf(5)", "helixctld(8)", "hqueue(1)", "hwhy(1)"),
    examples=(
        ("hsim run --policy easy KTH-SP2.swf.gz", "play a log of the Parallel Workloads Archive"),
        ("hsim compare now.conf tried.conf --trace jobs.jsonl", "what would this change do"),
    ),
)  # fmt: skip

#: action -> options that mean something to it.
_SHARED = {"json", "quiet", "seed", "debug"}
_TAKES = {
    "run": {"conf", "policy", "processors", "limit", "shake", "predict", "starts", "csv", "report"},
    "compare": {"policy", "limit", "shake", "trace", "runs"},
    "pass": {"nodes", "jobs", "running"},
    "place": {"trace", "cluster", "percent"},
}


def main(argv: list[str] | None = None) -> int:
    """The program."""
    return app.run(COMMAND, act, argv)


def act(invocation: Invocation) -> int:
    """Do what the command line says; gives the exit status.  Raises HelixError."""
    operands = invocation.operands
    if not operands or operands[0] not in ACTIONS:
        given = f"'{operands[0][:60]}' is not" if operands else "the first word must be"
        raise UsageError(f"{given} one of: {' '.join(ACTIONS)}", hint="see hsim --help")
    action = operands[0]
    for row in COMMAND.options:
        if row.field in invocation.values and row.field not in _TAKES[action] | _SHARED:
            raise UsageError(f"{row.name} means nothing to {action}", hint="see hsim --help")
    return _ACTIONS[action](invocation, operands[1:])


# ---- run -------------------------------------------------------------------------------------------------------------


def _run(invocation: Invocation, operands: list[str]) -> int:
    if len(operands) != 1:
        raise UsageError("run takes one trace", hint="hsim run [OPTION...] TRACE")
    for field in ("starts", "csv", "report"):
        _require_writable(invocation.get(field, ""))
    _warm_up()
    from helixctld.sim.progress import Progress
    from helixctld.sim.runs import play, read_workload

    wanted = _wanted(invocation)
    workload = read_workload(operands[0], wanted)
    with Progress("jobs", len(workload.jobs), quiet=bool(invocation.get("quiet"))) as progress:
        run = play(workload, wanted, progress.tell)
    _write_files(invocation, run)
    for text in run.notes:
        invocation.note(text)
    if invocation.get("json"):
        put_json("sim_run", run.as_dict())
    else:
        put(format_columns(_figures(run)))
    return 0


def _wanted(invocation: Invocation) -> Wanted:
    from helixctld.sim.runs import Wanted

    return Wanted(
        conf=invocation.get("conf", ""),
        policy=invocation.get("policy", ""),
        processors=invocation.get("processors", 0),
        limit=invocation.get("limit", 0),
        shake_s=invocation.get("shake", 0),
        seed=invocation.get("seed", 0),
        predictions=invocation.get("predict", PREDICTIONS),
        keep_nodes=bool(invocation.get("report") or invocation.get("csv")),
    )


def _require_writable(path: str) -> None:
    """Say so now, not after minutes of work."""
    if path:
        parent = Path(path).absolute().parent
        if not parent.is_dir():
            raise UsageError(f"{path}: there is no directory {parent}", code="FILE_UNWRITABLE")
        if Path(path).is_dir() or not os.access(path if Path(path).exists() else parent, os.W_OK):
            raise UsageError(f"{path}: it cannot be written", code="FILE_UNWRITABLE")


def _write_files(invocation: Invocation, run: Run) -> None:
    from helixctld.sim import files

    if path := invocation.get("starts"):
        files.write_starts(path, run.outcome)
    if path := invocation.get("csv"):
        files.write_csv(path, run.outcome)
    if path := invocation.get("report"):
        from helixctld.sim.report import write_report

        write_report(path, run)


def _figures(run: Run) -> list[tuple[str, ...]]:
    result = run.result
    rows: list[tuple[str, ...]] = [
        ("trace", run.workload.source),
        ("machine", f"{run.machine}, policy {run.policy}"),
        ("jobs", f"{result.jobs}"),
        ("mean wait", f"{result.mean_wait_s:.1f} s"),
        ("95 % wait at most", f"{result.p95_wait_s:.0f} s"),
        ("longest wait", f"{result.max_wait_s} s"),
        ("mean bounded slowdown", f"{result.mean_bounded_slowdown:.3f}"),
        ("utilization", f"{result.utilization:.4f}"),
        ("makespan", f"{result.makespan_s} s"),
        ("backfilled", f"{result.backfilled}"),
    ]
    rows.extend(_more_figures(run, result))
    rows.append(("wall time", f"{run.wall_s:.1f} s for {result.passes} passes"))
    rows.append(("hash", result.hash))
    return rows


def _more_figures(run: Run, result: Result) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if fair := result.fairness:
        rows.append(
            (
                "fairness of users",
                f"{fair['jain']:.3f} (Jain's index of {fair['users']:.0f} mean slowdowns); "
                f"worst {fair['worst_to_median']:.1f} times the median",
            )
        )
    if told := result.prediction:
        rows.append(
            (
                "expected starts",
                f"median error {told['median_absolute_error_s']:.0f} s, bias {told['bias_s']:+.0f} s "
                f"({told['jobs']:.0f} waiting arrivals)",
            )
        )
    if cut := result.preemption:
        rows.append(("making room", yielded_words(cut)))
    rows.extend(("lines skipped", f"{count}: {why}") for why, count in run.workload.skipped.most_common())
    rows.extend(("jobs refused", f"{count}: {why}") for why, count in result.refused.items())
    if result.never_started:
        rows.append(("never started", f"{result.never_started}"))
    return rows


# ---- the others ------------------------------------------------------------------------------------------------------


def _compare(invocation: Invocation, operands: list[str]) -> int:
    if len(operands) != 2:
        raise UsageError("compare takes two configurations", hint="hsim compare A.conf B.conf --trace TRACE")
    trace = invocation.get("trace")
    if not trace:
        raise UsageError("compare needs --trace TRACE", hint="see hsim --help")
    _warm_up()
    from helixctld.sim.compare import compare
    from helixctld.sim.progress import Progress

    runs = invocation.get("runs", 5)
    with Progress("runs", 2 * runs, quiet=bool(invocation.get("quiet"))) as progress:
        found = compare(
            operands[0],
            operands[1],
            trace,
            runs=runs,
            limit=invocation.get("limit", 0),
            shake_s=invocation.get("shake", 60),
            seed=invocation.get("seed", 0),
            policy=invocation.get("policy", ""),
            tell=progress.tell,
        )
    if invocation.get("json"):
        put_json("sim_compare", found.as_dict())
    else:
        put(found.text())
    return 0


def _pass(invocation: Invocation, operands: list[str]) -> int:
    if operands:
        raise UsageError(f"unexpected argument '{operands[0][:60]}'", hint="see hsim --help")
    for field in ("nodes", "jobs", "running"):
        if field not in invocation.values:
            raise UsageError(f"pass needs --{field}=N", hint="hsim pass --nodes N --jobs N --running N")
    _warm_up()
    from helixctld.sim.passes import time_pass

    values = invocation.values
    found = time_pass(values["nodes"], values["jobs"], values["running"], invocation.get("seed", 0))
    if invocation.get("json"):
        put_json("sim_pass", found)
    else:
        put(format_columns((name, f"{value:.4f}" if isinstance(value, float) else str(value))
                           for name, value in found.items()))  # fmt: skip
    return 0


def _place(invocation: Invocation, operands: list[str]) -> int:
    if operands:
        raise UsageError(f"unexpected argument '{operands[0][:60]}'", hint="see hsim --help")
    for field in ("trace", "cluster"):
        if not invocation.get(field):
            raise UsageError(f"place needs --{field}=FILE", hint="see hsim --help")
    _warm_up()
    from helixctld.sim.placement import place
    from helixctld.sim.progress import Progress

    with Progress("% of the GPUs asked for", invocation.get("percent", 130), quiet=bool(invocation.get("quiet"))) as p:
        found = place(
            invocation.get("trace"),
            invocation.get("cluster"),
            percent=invocation.get("percent", 130),
            seed=invocation.get("seed", 0),
            tell=p.tell,
        )
    if invocation.get("json"):
        put_json("sim_place", found)
    else:
        put(format_columns((name, f"{value:.4f}" if isinstance(value, float) else str(value))
                           for name, value in found.items()))  # fmt: skip
    return 0


_ACTIONS: dict[str, Callable[[Invocation, list[str]], int]] = {
    "run": _run,
    "compare": _compare,
    "pass": _pass,
    "place": _place,
}


def _warm_up() -> None:
    """Load the compiled kernels, or compile them once into the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault("NUMBA_CACHE_DIR", os.path.join(cache, "helix", "kernels"))
    import helix_native

    helix_native.use_compiled()


if __name__ == "__main__":
    sys.exit(main())
