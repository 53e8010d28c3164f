"""The page of a run: one HTML file with its figures and plots in it, nothing to be fetched from anywhere."""

from __future__ import annotations

from html import escape

from helixctld.sim.metrics import Result, table_of
from helixctld.sim.plots import gantt, queue_length, utilisation, wait_by_size
from helixctld.sim.runs import Run
from helixctld.sim.words import yielded_words

_STYLE = """
body { font: 15px/1.5 sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .2em 1em .2em 0; text-align: left; border-bottom: 1px solid #ddd; vertical-align: top }
svg { width: 100%; height: auto }
"""


def write_report(path: str, run: Run) -> None:
    """Write the page; the same run gives the same page."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(page(run))


def page(run: Run) -> str:
    """The HTML text."""
    title = f"{run.workload.source}: policy {run.policy} on {run.machine}"
    parts = [
        "<!DOCTYPE html>",
        f"<html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        _table(_figures(run)),
    ]
    parts.extend(f"<p>Note: {escape(note)}.</p>" for note in run.notes)
    if run.result.jobs:
        table = table_of(run.outcome)
        parts.append(utilisation(table, run.machine_cpus))
        parts.append(queue_length(table))
        parts.append(wait_by_size(table))
        if run.wanted.keep_nodes:
            parts.append(gantt(run, table))
    parts.append("</html>\n")
    return "\n".join(parts)


def _figures(run: Run) -> list[tuple[str, str]]:
    result = run.result
    rows = [
        ("Jobs that ran", str(result.jobs)),
        ("Mean wait", f"{result.mean_wait_s:.1f} s"),
        ("95 % waited at most", f"{result.p95_wait_s:.0f} s"),
        ("Longest wait", f"{result.max_wait_s} s"),
        ("Mean bounded slowdown (10 s)", f"{result.mean_bounded_slowdown:.3f}"),
        ("Utilization", f"{result.utilization:.4f}"),
        ("Makespan", f"{result.makespan_s} s"),
        ("Started ahead of a waiting job", str(result.backfilled)),
        *_optional(result),
        ("Submits shaken by", f"{run.wanted.shake_s} s, seed {run.wanted.seed}"),
        ("Hash of the schedule", result.hash),
    ]
    rows.extend((f"Lines skipped: {why}", str(count)) for why, count in run.workload.skipped.most_common())
    rows.extend((f"Jobs refused: {why}", str(count)) for why, count in result.refused.items())
    if result.never_started:
        rows.append(("Jobs that never started", str(result.never_started)))
    return rows


def _optional(result: Result) -> list[tuple[str, str]]:
    rows = []
    if fair := result.fairness:
        rows.append(
            (
                "Fairness of users",
                f"Jain's index {fair['jain']:.3f} over the mean slowdowns of {fair['users']:.0f} users; median "
                f"{fair['median_user_slowdown']:.2f}, worst {fair['worst_user_slowdown']:.2f}",
            )
        )
    if told := result.prediction:
        rows.append(
            (
                "Expected starts told at arrival",
                f"{told['jobs']:.0f} jobs that had to wait (median {told['median_wait_s']:.0f} s): "
                f"median absolute error {told['median_absolute_error_s']:.0f} s, "
                f"90 % within {told['p90_absolute_error_s']:.0f} s, bias "
                f"{told['bias_s']:+.0f} s (real less told)",
            )
        )
    if cut := result.preemption:
        rows.append(("Jobs that made room for others", yielded_words(cut)))
    return rows


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "\n".join(f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows)
    return f"<table>\n{cells}\n</table>"
