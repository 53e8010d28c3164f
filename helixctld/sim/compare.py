"""What a change of configuration would do to a workload: the same shaken replays under both, and how sure that is.

Each of `runs` replays moves the submits by its own seed, the same for both sides, so that differences are of pairs.
The interval is a bootstrap: replays are drawn with replacement, and in each the jobs in blocks of consecutive arrivals
(the waits of neighbours are alike), RESAMPLES times; 2.5 % and 97.5 % of the resampled differences bound it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from helix.cli.output import format_columns
from helixctld.sim.metrics import Floats, table_of
from helixctld.sim.runs import Run, Wanted, play, read_workload

RESAMPLES = 1000
BLOCKS = 40
PER_JOB = ("mean_wait_s", "p95_wait_s", "mean_bounded_slowdown")
PER_RUN = ("max_wait_s", "utilization", "makespan_s", "backfilled")


@dataclass(frozen=True, slots=True)
class Difference:
    """One row: means over the replays, and b - a with the bounds of its interval."""

    a: float
    b: float
    difference: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """The interval does not hold 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two configurations on one workload."""

    a: str
    b: str
    trace: str
    runs: int
    shake_s: int
    seed: int
    jobs: int
    rows: dict[str, Difference]

    def as_dict(self) -> dict[str, Any]:
        """The body of the JSON document."""
        return {
            "a": self.a,
            "b": self.b,
            "trace": self.trace,
            "runs": self.runs,
            "shake_s": self.shake_s,
            "seed": self.seed,
            "jobs": self.jobs,
            "differences": {
                name: {"a": d.a, "b": d.b, "difference": d.difference, "low": d.low, "high": d.high,
                       "certain": d.certain}
                for name, d in self.rows.items()
            },
        }  # fmt: skip

    def text(self) -> str:
        """A table for people."""
        rows: list[tuple[str, ...]] = [("", "A", "B", "B - A", "95 % of the time", "")]
        for name, d in self.rows.items():
            verdict = "" if d.certain else "no clear difference"
            rows.append((name, _plain(d.a), _plain(d.b), f"{d.difference:+.6g}", f"{d.low:+.6g} to {d.high:+.6g}",
                         verdict))  # fmt: skip
        head = f"A: {self.a}\nB: {self.b}\n{self.runs} replays of {self.jobs} jobs, submits shaken by {self.shake_s} s"
        return f"{head}\n\n{format_columns(rows)}"


def _plain(value: float) -> str:
    return f"{value:.6g}"


def compare(
    conf_a: str,
    conf_b: str,
    trace: str,
    *,
    runs: int,
    limit: int = 0,
    shake_s: int = 60,
    seed: int = 0,
    policy: str = "",
    tell: Callable[[int], None] | None = None,
) -> Comparison:
    """Play `trace` `runs` times on each of two configurations."""
    sides: list[list[Run]] = [[], []]
    for turn in range(runs):
        for side, conf in enumerate((conf_a, conf_b)):
            wanted = Wanted(conf=conf, policy=policy, limit=limit, shake_s=shake_s, seed=seed + turn)
            sides[side].append(play(read_workload(trace, wanted), wanted))
            if tell is not None:
                tell(2 * turn + side + 1)
    rows = differences(sides[0], sides[1], seed)
    return Comparison(conf_a, conf_b, trace, runs, shake_s, seed, sides[0][0].result.jobs, rows)


def differences(a: list[Run], b: list[Run], seed: int) -> dict[str, Difference]:
    """One row a figure; `a` and `b` are replays of the same workloads, pair by pair."""
    rng = np.random.default_rng(seed)
    tables = [[_columns(run) for run in side] for side in (a, b)]
    drawn = [_resample(tables, rng) for _ in range(RESAMPLES)]
    rows: dict[str, Difference] = {}
    for name in (*PER_JOB, *PER_RUN):
        means = [float(np.mean([getattr(run.result, name) for run in side])) for side in (a, b)]
        if name in PER_JOB:
            spread = np.array([sample[name] for sample in drawn])
        else:
            pairs = np.array(
                [float(getattr(y.result, name)) - float(getattr(x.result, name)) for x, y in zip(a, b, strict=True)]
            )
            spread = pairs[rng.integers(0, len(pairs), (RESAMPLES, len(pairs)))].mean(axis=1)
        low, high = np.percentile(spread, [2.5, 97.5])
        rows[name] = Difference(means[0], means[1], means[1] - means[0], float(low), float(high))
    return rows


def _columns(run: Run) -> tuple[Floats, Floats]:
    """Wait and bounded slowdown of every job of the workload; NaN for one that did not run."""
    table = table_of(run.outcome)
    wait = np.full(len(run.outcome.jobs), np.nan)
    slowdown = np.full(len(run.outcome.jobs), np.nan)
    wait[table.place], slowdown[table.place] = table.wait, table.slowdown
    return wait, slowdown


def _resample(tables: list[list[tuple[Floats, Floats]]], rng: np.random.Generator) -> dict[str, float]:
    """The differences of one draw of replays and blocks."""
    runs = len(tables[0])
    picked = rng.integers(0, runs, runs)
    waits: list[list[Floats]] = [[], []]
    slowdowns: list[list[Floats]] = [[], []]
    for run in picked.tolist():
        count = len(tables[0][run][0])
        bounds = np.linspace(0, count, min(BLOCKS, count) + 1).astype(np.int64)
        blocks = rng.integers(0, len(bounds) - 1, len(bounds) - 1)
        places = np.concatenate([np.arange(bounds[k], bounds[k + 1]) for k in blocks.tolist()])
        for side in (0, 1):
            waits[side].append(tables[side][run][0][places])
            slowdowns[side].append(tables[side][run][1][places])
    wait = [np.concatenate(columns) for columns in waits]
    slowdown = [np.concatenate(columns) for columns in slowdowns]
    return {
        "mean_wait_s": float(np.nanmean(wait[1]) - np.nanmean(wait[0])),
        "p95_wait_s": float(np.nanpercentile(wait[1], 95) - np.nanpercentile(wait[0], 95)),
        "mean_bounded_slowdown": float(np.nanmean(slowdown[1]) - np.nanmean(slowdown[0])),
    }
