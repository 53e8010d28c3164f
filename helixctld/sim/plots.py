"""The plots of a report, as SVG texts that need nothing outside themselves.  matplotlib without a display."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from helix_native.arrays import Int64
from helixctld.sim.metrics import Floats, Table
from helixctld.sim.runs import Run

POINTS = 2000  #: points of a curve over time
BARS_MAX = 4000  #: bars of the Gantt chart; the window shrinks until it holds no more
LANES_MAX = 64  #: nodes of the Gantt chart
DAY_S = 86_400

mpl.rcParams["svg.hashsalt"] = "helix"  # equal plots are equal texts


def svg(draw: Callable[[Any], None], *, height: float = 3.2) -> str:
    """What `draw` makes of empty axes, as an SVG element."""
    figure = Figure(figsize=(10, height), layout="constrained")
    draw(figure.subplots())
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "hsim"})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def step_curve(times: Int64, changes: Int64) -> tuple[Int64, Int64]:
    """Times at which a count changes, ascending, and the count from then on."""
    order = np.argsort(times, kind="stable")
    at, total = times[order], np.cumsum(changes[order])
    last = np.append(at[1:] != at[:-1], True)
    return at[last], total[last]


def mean_over(at: Int64, value: Int64, bins: Int64) -> Floats:
    """The mean of a step curve in each of the bins (edges ascending); 0 before its first time."""
    area = np.concatenate([[0.0], np.cumsum(value[:-1] * np.diff(at).astype(np.float64))])
    place = np.searchsorted(at, bins, "right") - 1
    inside = place >= 0
    total = np.where(inside, area[place] + value[place] * (bins - at[place]), 0.0)
    means: Floats = np.diff(total) / np.maximum(1, np.diff(bins))
    return means


def _bins(table: Table) -> Int64:
    first, last = int(table.submit.min()), int(table.end.max())
    edges = np.linspace(first, max(last, first + 1), min(POINTS, max(2, last - first)) + 1)
    return np.unique(edges.astype(np.int64))


def utilisation(table: Table, cpus: int) -> str:
    """CPUs in use over time, share of the machine."""
    stopped = table.cpus[table.pauses[:, 0]]
    times = [table.start, table.end, table.pauses[:, 1], table.pauses[:, 2]]
    at, used = step_curve(np.concatenate(times), np.concatenate([table.cpus, -table.cpus, -stopped, stopped]))
    bins = _bins(table)
    means = mean_over(at, used, bins) / cpus

    def draw(axes: Any) -> None:
        axes.fill_between((bins[:-1] - bins[0]) / DAY_S, means, step="post", color="#4878a8")
        axes.set(xlabel="days", ylabel="CPUs in use", ylim=(0, 1.02), title="Utilisation")

    return svg(draw)


def queue_length(table: Table) -> str:
    """Waiting jobs over time."""
    ones = np.ones(len(table.start), np.int64)
    at, waiting = step_curve(np.concatenate([table.submit, table.start]), np.concatenate([ones, -ones]))
    bins = _bins(table)
    means = mean_over(at, waiting, bins)

    def draw(axes: Any) -> None:
        axes.plot((bins[:-1] - bins[0]) / DAY_S, means, color="#a85848", linewidth=0.8)
        axes.set(xlabel="days", ylabel="waiting jobs", title="Queue length")
        axes.set_ylim(bottom=0)

    return svg(draw)


def wait_by_size(table: Table) -> str:
    """Waits of jobs by the power of two of their CPUs: quartiles, and the mean as a dot."""
    sizes = np.floor(np.log2(np.maximum(1, table.cpus))).astype(np.int64)
    present = np.unique(sizes)
    groups: list[NDArray[Any]] = [table.wait[sizes == size] / 3600 for size in present]
    labels = [f"{1 << int(k)}" if k == 0 else f"{1 << int(k)}-{(2 << int(k)) - 1}" for k in present]

    def draw(axes: Any) -> None:
        axes.boxplot(groups, showfliers=False, whis=(5, 95))
        axes.plot(np.arange(1, len(groups) + 1), [group.mean() for group in groups], "o", color="#a85848")
        axes.set_xticks(
            np.arange(1, len(groups) + 1), [f"{x}\n{len(g)} jobs" for x, g in zip(labels, groups, strict=True)]
        )
        axes.set(xlabel="CPUs", ylabel="wait, hours", title="Wait by size (5, 25, 50, 75, 95 %; dot: mean)")
        axes.tick_params(axis="x", labelsize=7)

    return svg(draw)


def gantt(run: Run, table: Table) -> str:
    """Which jobs ran where, in the busiest stretch that can be drawn; colours are users."""
    lanes, starts = lanes_of(run, table)
    bars = _window(table, starts)

    def draw(axes: Any) -> None:
        for k in bars.tolist():
            left, width = table.start[k] / 3600, table.run[k] / 3600
            colour = _colour(table.user[k] or str(k))
            for low, high in lanes[k]:
                axes.broken_barh([(left, width)], (low, high - low), facecolors=colour, linewidth=0)
        labels = starts
        if labels:
            axes.set_yticks(np.arange(len(labels)) + 0.5, labels, fontsize=6)
        if len(bars):
            axes.set_xlim(table.start[bars].min() / 3600, table.end[bars].max() / 3600)
        axes.set(xlabel="hours of the trace", ylabel="" if labels else "CPUs", title="Jobs on nodes, by user")

    return svg(draw, height=5.5)


def lanes_of(run: Run, table: Table) -> tuple[list[list[tuple[float, float]]], list[str]]:
    """For each job the stretches of the vertical axis it takes, and the labels of the lanes.

    Nodes are lanes, the first LANES_MAX of them; a machine of one node has its CPUs as the axis, each job on the lowest
    that are free.
    """
    where = [run.outcome.nodes[k] for k in table.place.tolist()]
    names = list(dict.fromkeys(name for nodes in where for name in nodes))
    if len(names) > 1:
        lane = {name: k for k, name in enumerate(sorted(names, key=_natural)[:LANES_MAX])}
        return [[(lane[n], lane[n] + 0.9) for n in nodes if n in lane] for nodes in where], list(lane)
    return _stacked(table), []


def _natural(name: str) -> tuple[str, int]:
    head = name.rstrip("0123456789")
    tail = name[len(head) :]
    return head, int(tail) if tail else -1


def _stacked(table: Table) -> list[list[tuple[float, float]]]:
    """Each job on the lowest CPUs that are free when it starts."""
    events = sorted(
        [(int(t), 0, k) for k, t in enumerate(table.end)] + [(int(t), 1, k) for k, t in enumerate(table.start)]
    )
    free: list[tuple[float, float]] = [(0.0, float("inf"))]
    taken: list[list[tuple[float, float]]] = [[] for _ in range(len(table.end))]
    for _, kind, k in events:
        if kind == 0:
            free = _joined(sorted(free + taken[k]))
            continue
        need = float(table.cpus[k])
        while need > 0:
            low, high = free.pop(0)
            use = min(need, high - low)
            taken[k].append((low, low + use))
            need -= use
            if low + use < high:
                free.insert(0, (low + use, high))
    return taken


def _joined(stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for low, high in stretches:
        if out and out[-1][1] == low:
            out[-1] = (out[-1][0], high)
        else:
            out.append((low, high))
    return out


def _window(table: Table, labels: list[str]) -> Int64:
    """The jobs of the stretch that is drawn: up to BARS_MAX in a row of starts, with the most CPU seconds."""
    order = np.argsort(table.start, kind="stable")
    most = BARS_MAX // 4 if not labels else BARS_MAX // 2
    if len(order) <= most:
        return order
    work = np.cumsum((table.cpus * table.run)[order].astype(np.float64))
    spans = np.maximum(1, table.start[order][most - 1 :] - table.start[order][: len(order) - most + 1])
    rate = (work[most - 1 :] - np.concatenate([[0.0], work[: len(order) - most]])) / spans
    first = int(np.argmax(rate))
    return order[first : first + most]


def _colour(word: str) -> str:
    """The same colour for the same user in every report."""
    number = zlib.crc32(word.encode())
    return f"#{60 + number % 160:02x}{60 + number // 160 % 160:02x}{60 + number // 25_600 % 160:02x}"
