"""hwhy: why jobs wait, and what would help; the answer of the evaluation the scheduler itself made."""

from __future__ import annotations

import sys

from helix.cli import app, output
from helix.cli.options import Command, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

COMMAND = Command(
    "hwhy",
    "say why jobs wait, per reason and node, and what would help",
    ["hwhy [OPTION...] JOB..."],
    (Option("--json", "a JSON document"),),
    operands=(("JOB", "12, 12_3; several separated by blanks or commas"),),
    env=app.COMMON_ENV,
    exits=app.EXIT_STATUSES,
    see_also=("hqueue(1)", "hsubmit(1)", "hinfo(1)"),
    examples=(("hwhy 12", "why job 12 does not start"),),
    details="The reason that decides comes first; below it how many nodes fail each test, and for how many of them it "
    "is the only one they fail.",
)


def render(job: dict[str, Any], colour: bool) -> str:
    """One job's answer as text."""
    lines = []
    state, reason = str(job.get("state", "")), str(job.get("reason", ""))
    head = f"job {job.get('id')}: {state}"
    if reason and reason != "None":
        head += f", {reason}"
    lines.append(output.paint(head, "bold", colour))
    if job.get("text"):
        lines.append(f"  {job['text']}")
    counts = job.get("counts") or []
    total = job.get("nodes_total", 0)
    if counts:
        lines.append(f"  of {total} nodes:")
        rows = []
        for item in counts:
            nodes, only = int(item.get("nodes", 0)), int(item.get("only", 0))
            note = f"({only} for this alone)" if only and only != nodes else "(all for this alone)" if only else ""
            examples = ", ".join(map(str, item.get("examples") or ()))
            rows.append(
                (
                    f"    {nodes:>6}",
                    str(item.get("text") or item.get("reason", "")),
                    note,
                    f"e.g. {examples}" if examples else "",
                )
            )
        lines.append(output.format_columns(rows))
    if job.get("ahead"):
        ahead = int(job["ahead"])
        lines.append(f"  {ahead} job{'s' if ahead != 1 else ''} ahead of it in the queue")
    lines.extend(_promised(job))
    lines.extend(_expected(job))
    nearest = job.get("nearest")
    if nearest:
        lines.append(f"  closest: {nearest.get('node')}: {nearest.get('lacks')}")
    for advice in job.get("advice") or ():
        lines.append(output.paint(f"  try: {advice}", "cyan", colour))
    return "\n".join(lines)


def _promised(job: dict[str, Any]) -> list[str]:
    """Jobs ahead that are promised a start."""
    from helix.cli.moments import stamp

    return [
        f"  promised first: job {held.get('id')} of {held.get('user')}, on {held.get('nodes')} "
        f"at {stamp(float(int(held.get('t_start', 0))))}"
        for held in job.get("promised") or ()
    ]


def _expected(job: dict[str, Any]) -> list[str]:
    """When and where it is expected to start, and who is there until then."""
    from helix.cli.moments import stamp

    t_expected = float(int(job.get("t_expected") or 0))
    if not t_expected:
        return []
    where = f" on {job['sched_nodes']}" if job.get("sched_nodes") else ""
    lines = [f"  expected start: {stamp(t_expected)}{where}{', promised' if job.get('protected') else ''}"]
    early, late = (float(int(t)) for t in job.get("expected_range") or (t_expected, t_expected))
    if late - early >= 60 and not job.get("protected"):
        lines.append(f"  between {stamp(early)}, if jobs run as long as they usually do, and {stamp(late)}, by limits")
    for held in job.get("waits_for") or ():
        count = int(held.get("nodes", 0))
        nodes = f"{count} node{'s' if count != 1 else ''}"
        until = stamp(float(int(held.get("t_end", 0))))
        who = f"job {held.get('id')} of {held.get('user')}"
        lines.append(f"  held until then: {nodes} by {who}, until {until} at the latest")
    return lines


def _body(invocation: app.Invocation) -> int:
    ids = app.split_ids(app.require_operands(invocation, "a job id is"))
    with app.connect() as client:
        jobs = client.call("job.why", {"ids": ids}).get("jobs", [])
    if invocation.get("json"):
        output.put_json("why", {"jobs": jobs})
        return 0
    colour = output.is_coloured(sys.stdout)
    for at, job in enumerate(jobs):
        if at:
            output.put("")
        # Colours are put around cleaned text: `put` would take them for control characters.
        sys.stdout.write(render(_cleaned(job), colour) + "\n")
    return 0


def _cleaned(value: Any) -> Any:
    """A copy of a JSON value whose texts are safe to print."""
    if isinstance(value, str):
        return output.clean(value).replace("\n", " ")
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
