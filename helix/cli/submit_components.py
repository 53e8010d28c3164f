"""Heterogeneous jobs: the options of each component, from `:` on the command line and `hetjob` lines of the script.

Components are numbered from 0.  What a component may set for itself are the nodes it wants and what it wants of them;
the rest belongs to the whole job and is given with the first.  As in Slurm, --mem, --exclude and --distribution go on
to the components after; all else starts afresh.
"""

from __future__ import annotations

from helix.cli.options import Given, Parser, read_values
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: values a component has of its own, by the names under which options file them
OWN = frozenset(
    (
        "partitions", "nodes", "use_min_nodes", "spread_job", "tasks", "tasks_per_node", "tasks_per_core",
        "tasks_per_socket", "cpus_per_task", "mem",
        "mem_per_cpu_mib", "tmp_mib", "exclusive", "oversubscribe", "contiguous", "constraint", "prefer", "require",
        "rank",
        "nodelist", "exclude", "gres", "gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket",
        "cpus_per_gpu", "mem_per_gpu_mib", "gres_flags", "switches", "segment",
        "sockets_per_node", "cores_per_socket", "threads_per_core",
        "cpus_min", "extra_node_info", "ntasks_per_gpu", "tres_per_task", "distribution",
    )
)  # fmt: skip
_CARRIED = ("mem", "exclude", "distribution")
#: values that only hsubmit itself uses: they may stand anywhere
_COMMAND = frozenset(("wrap", "parsable", "quiet", "verbose", "wait", "test_only", "ignore_pbs", "debug"))


def split_components(words: Sequence[str], parser: Parser) -> tuple[list[list[Given]], list[str]]:
    """The options of each component, and the operands after the last.  Raises UsageError."""
    found: list[list[Given]] = []
    rest = list(words)
    while True:
        given, operands = parser.split(rest, permute=False)
        found.append(given)
        if not operands or operands[0] != ":":
            return found, operands
        rest = operands[1:]


def read_components(
    header: Sequence[Sequence[Given]], environment: Sequence[Given], command_line: Sequence[Sequence[Given]]
) -> list[dict[str, Any]]:
    """The values of each component, the whole job's with the first.  Raises UsageError naming what is out of place."""
    count = max(len(header), len(command_line), 1)
    found: list[dict[str, Any]] = []
    for at in range(count):
        own = [*(header[at] if at < len(header) else ()), *(command_line[at] if at < len(command_line) else ())]
        carried = {name: found[-1][name] for name in _CARRIED if found and name in found[-1]}
        given = [*(header[at] if at < len(header) else ()), *environment]
        values = read_values([*given, *(command_line[at] if at < len(command_line) else ())], carried)
        if found:
            _require_own(at, own, values, found[0])
        found.append(values)
    return found


def _require_own(at: int, given: Sequence[Given], values: dict[str, Any], first: dict[str, Any]) -> None:
    for item in given:
        name = item.option.field
        if name in OWN or values.get(name) == first.get(name):
            continue
        if name not in _COMMAND:
            raise UsageError(
                f"component {at}: {item.option.name} is for the whole job",
                code="HETJOB_INVALID",
                hint="give it before the first ':' (in a script: before the first hetjob line)",
            )
        first[name] = values[name]
