"""hdiag: the controller's counters (sdiag(1)), grouped by the first part of their names."""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.options import LATER, Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

COMMAND = Command(
    "hdiag",
    "show the controller's counters",
    ["hdiag [OPTION...]"],
    (
        Option("-a --all", "everything (the default)"),
        Option("-r --reset", "set the counters to zero (operators)"),
        Option("--json", "a JSON document"),
        Option("-g --group", "only counters whose names start so: sched, rpc.job", metavar="NAME"),
        Option("-i --sort-by-id", "sort by message id", status=LATER),
        Option("-t --sort-by-time", "sort by time", status=LATER),
        Option("-M --cluster --clusters", "another cluster", metavar="NAME", status=LATER),
    ),
    env=app.COMMON_ENV,
    exits=app.EXIT_STATUSES,
    see_also=("hctl(1)", "hinfo(1)"),
    examples=(("hdiag -g sched", "how the scheduler is doing"), ("hdiag --json", "all of it, for a program")),
)


def render(counters: dict[str, Any], colour: bool = False) -> str:
    """The counters as text: a heading for each group, a line for each counter."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(counters):
        group, dot, rest = name.partition(".")
        groups.setdefault(group if dot else "", []).append((rest if dot else name, _number(counters[name])))
    blocks = []
    for group, rows in groups.items():
        width = max(len(name) for name, _ in rows)
        lines = [f"  {name:<{width}}  {value}" for name, value in rows]
        blocks.append("\n".join([output.paint(group or "general", "bold", colour), *lines]))
    return "\n\n".join(blocks)


def _number(value: Any) -> str:
    if isinstance(value, float) and value != int(value):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, float):
        return str(int(value))
    return output.clean(str(value))


def _body(invocation: app.Invocation) -> int:
    app.refuse_operands(invocation)
    with app.connect() as client:
        if invocation.get("reset"):
            client.call("ctl.diag_reset")
            return 0
        counters = dict(client.call("ctl.diag").get("counters", {}))
    group = invocation.get("group", "")
    if group:
        counters = {name: value for name, value in counters.items() if name.startswith(group)}
    if invocation.get("json"):
        output.put_json("diag", {"counters": counters})
    else:
        sys.stdout.write(render(counters, output.is_coloured(sys.stdout)) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
