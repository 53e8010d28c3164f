"""The smallest single change to a request that would let it start now, or sooner, found by trying.

Each trial runs the planner's own filter and choice on what is free, with one term of the request changed; where the
planner looks ahead, what would fit is also planned against running jobs and promises (`Forecast`), so that the advice
is what a pass would do.  Numbers (time, memory, CPUs, tasks, nodes) are searched by halving, so the advice names the
largest that will do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helix.gres import own_units
from helix.model.job import JobRecord
from helix.model.partition import PartitionRecord
from helix.sched.explain import duration_words, format_mib, limit_option, plural
from helix.sched.features import EVERY
from helix.sched.request import Request, partition_limit, time_limit_s
from helix_native.arrays import BAD, REQUIRED_DOWN, UNAVAILABLE, Int64, ShapeArrays, TableArrays, pack_bits, unpack_bits
from helixctld.core.limits import partition_for
from helixctld.core.state import State
from helixctld.schedule.admission import who_of
from helixctld.schedule.columns import Columns
from helixctld.schedule.forecast import Forecast, Found
from helixctld.schedule.looking import Looking, look_at, wanted_gres

ADVICE_MAX = 4
PARTITIONS_MAX = 16  #: other partitions tried
SOONER_S = 300  #: least gain worth telling, and a tenth of the wait
_M, _H, _D = 60, 3600, 86400
#: time limits tried, shortest first
LIMITS_S = (
    *(5 * _M, 10 * _M, 15 * _M, 30 * _M, 1 * _H, 2 * _H, 3 * _H, 4 * _H, 6 * _H, 8 * _H, 12 * _H, 18 * _H),
    *(1 * _D, 2 * _D, 3 * _D, 5 * _D, 7 * _D, 14 * _D),
)


class Trial:
    """Tries changed requests of one job in one partition against what is free now."""

    def __init__(
        self,
        state: State,
        job: JobRecord,
        partition: PartitionRecord,
        columns: Columns,
        row: int,
        request: Request,
        forecast: Forecast | None = None,
    ) -> None:
        """`row`: the request's, first of its parts; `forecast`: None if the planner does not look ahead."""
        self.state = state
        self.job = job
        self.partition = partition
        self.columns = columns
        self.request = request
        self.row = row
        shapes, self.tables = columns.shapes.freeze() if forecast is None else forecast.hold(row)[:2]
        self.gres = wanted_gres(columns)[row : row + 1]
        self.shape = ShapeArrays._make(column[row : row + 1] for column in shapes)
        self.forecast = forecast
        self.limit_s = time_limit_s(job.spec, partition)
        self.now = "it would fit now" if forecast is None else "it would start now"

    def fits(self, tables: TableArrays | None = None, gres: Int64 | None = None, **changes: Any) -> bool:
        """True if the request with these columns changed would find nodes now.  `gres`: units by kind.  [1, G]"""
        copies = {name: np.array([value], getattr(self.shape, name).dtype) for name, value in changes.items()}
        gres = self.gres if gres is None else gres
        work = Looking(self.columns, self.shape._replace(**copies), tables or self.tables, gres)
        if work.select(0, work.fit_now(0, kept=False), work.usable(0, work.cpus, full=False)) is None:
            return False
        if self.forecast is None:
            return True
        units = None if gres is self.gres else gres
        return bool(self.forecast.start(self.row, self.limit_s, now_only=True, tables=tables, gres=units, **changes))

    @property
    def is_behind(self) -> bool:
        """True if somebody waits before it in its partition."""
        return self.columns.jobs_ahead(self.state, self.job.job_id, self.partition.name) > 0

    def largest(self, low: int, high: int, fits: Callable[[int], bool]) -> int:
        """The largest number in [low, high] that fits, 0 if `low` does not.  `fits` is monotone."""
        if high < low or not fits(low):
            return 0
        while low < high:
            middle = (low + high + 1) // 2
            if fits(middle):
                low = middle
            else:
                high = middle - 1
        return low

    def with_eligible(self, *, features: bool = True, exclusion: bool = True, condition: bool = True) -> TableArrays:
        """Tables in which the shape's row of eligibility drops the constraint, the exclusion or --require."""
        size = len(self.columns.nodes)
        allowed = unpack_bits(self.tables.part[self.shape.part[0]], size)
        if condition and self.request.require:
            allowed &= self.columns.shapes.attributes.satisfying(self.request.require)
        allowed &= self.columns.shapes.admission.admitting(self.columns.shapes.refused(self.row))
        if features:
            allowed &= self.columns.nodes.meeting(self.request.constraint)
        if exclusion:
            allowed[self.columns.nodes.indexes(self.state, self.request.exclude)] = False
        table = self.tables.elig.copy()
        bits = pack_bits(allowed)
        table[self.shape.elig[0]] = 0  # rows of reservations are for others
        table[self.shape.elig[0], : len(bits)] = bits
        return self.tables._replace(elig=table)

    def other_partitions(self) -> list[str]:
        """Partitions open to everybody in which the job would start now."""
        spec, found = self.job.spec, []
        own = set(spec.partitions or [self.state.default_partition])
        for other in list(self.state.partitions.values())[:PARTITIONS_MAX]:
            closed = (
                other.hidden
                or other.root_only
                or other.allow_groups
                or other.allow_accounts
                or other.deny_accounts
                or other.allow_qos
                or other.deny_qos
            )
            if other.name in own or closed or other.state.upper() != "UP":
                continue
            row = self.columns.shapes.row_of(self.state, spec, self.job.excluded_nodes, other.name, who_of(self.job))
            try:
                request = self.columns.shapes.requests[row]
                if request is None or partition_limit(spec, request, partition_for(self.state, spec.qos, other))[1]:
                    continue
                if self.forecast is not None:
                    if self.forecast.start(row, time_limit_s(spec, other), now_only=True):
                        found.append(f"with --partition={other.name} it would start now")
                    continue
                if self.columns.jobs_ahead(self.state, 0, other.name):
                    continue
                work = look_at(self.columns)
                usable = work.usable(row, work.cpus, full=False)
                if work.select(row, work.fit_now(row, kept=False), usable) is not None:
                    found.append(f"with --partition={other.name} it would start now")
            finally:
                self.columns.shapes.release(row)
        return found


def advise(trial: Trial, code: int) -> list[str]:
    """At most ADVICE_MAX changes, each of which alone would do."""
    found: list[str] = []
    for attempt in (_time, _partition, _memory, _cpus, _gres, _nodes, _whole, _placement):
        found.extend(attempt(trial))
        if len(found) >= ADVICE_MAX:
            break
    found = found[:ADVICE_MAX] or _sooner(trial)
    if not found and code in (UNAVAILABLE, REQUIRED_DOWN):
        found.append("nodes it needs are down or drained: see hinfo -R for why")
    if not found and code == BAD:
        found.append("cancel it and ask for what the partition has: see hinfo -N -l")
    return found


def _time(trial: Trial) -> list[str]:
    """A shorter time limit, with which the job would be over before something that is promised begins."""
    forecast, limit = trial.forecast, trial.limit_s
    rungs = [rung for rung in LIMITS_S if not limit or rung < limit]
    if forecast is None or not rungs:
        return []
    margin = forecast.options.bf_resolution_s  # a job that is submitted anew is a little later
    place = trial.largest(
        1, len(rungs), lambda n: bool(forecast.start(trial.row, rungs[n - 1] + margin, now_only=True))
    )
    if not place:
        return []
    found = forecast.start(trial.row, limit, now_only=True, least_s=rungs[place - 1] + margin)
    if found is None:
        return []
    best = max(rungs[place - 1], (found.limit_s - margin) // 60 * 60)
    hole = "in a backfill hole " if trial.is_behind else ""
    return [f"with --time={limit_option(best)} it would start now {hole}on {found.where}"]


def _sooner(trial: Trial) -> list[str]:
    """Where no change lets it start now: the one that brings the start forward most."""
    forecast, request = trial.forecast, trial.request
    if forecast is None:
        return []
    row, limit = trial.row, trial.limit_s
    as_is = forecast.start(row, limit, all_ahead=True)
    tries: list[tuple[str, Found | None]] = []
    half = limit // 2 // 60 * 60
    if half >= 60:
        tries.append((f"with --time={limit_option(half)}", forecast.start(row, half, all_ahead=True)))
    nodes = request.nodes_lo // 2
    if nodes >= max(1, len(request.must)) and not request.tasks:
        fewer = forecast.start(row, limit, all_ahead=True, nodes_lo=nodes, nodes_hi=nodes, grow=False)
        tries.append((f"with --nodes={nodes}", fewer))
    if request.must:
        tries.append(("without --nodelist", forecast.start(row, limit, all_ahead=True, must_n=0)))
    if request.constraint != EVERY:
        tables = trial.with_eligible(features=False)
        tries.append(("without --constraint", forecast.start(row, limit, all_ahead=True, tables=tables)))
    good = [(found.wait_s, said) for said, found in tries if found is not None and _is_sooner(found, as_is)]
    if not good:
        return []
    wait_s, said = min(good)
    gain = "" if as_is is None else f", {duration_words(as_is.wait_s - wait_s)} sooner"
    return [f"{said} it would start in {duration_words(wait_s)}{gain}"]


def _is_sooner(found: Found, as_is: Found | None) -> bool:
    return as_is is None or found.wait_s <= as_is.wait_s - max(SOONER_S, as_is.wait_s // 10)


def _partition(trial: Trial) -> list[str]:
    return trial.other_partitions()


def _memory(trial: Trial) -> list[str]:
    request = trial.request
    free = int(trial.columns.nodes.freeze().free_mem.max(initial=0))
    if request.mem_all or request.mem_node_mib:
        most = min(free, request.mem_node_mib - 1) if request.mem_node_mib else free
        size = trial.largest(1, most, lambda m: trial.fits(mem_all=False, mem_cpu=0, mem_node=m))
        return [f"with --mem={_memory_option(size)} {trial.now}"] if size else []
    if request.mem_cpu_mib > 1:
        size = trial.largest(1, request.mem_cpu_mib - 1, lambda m: trial.fits(mem_cpu=m))
        return [f"with --mem-per-cpu={_memory_option(size)} {trial.now}"] if size else []
    return []


def _memory_option(mib: int) -> str:
    return format_mib(mib) if mib % 1024 == 0 and "." not in format_mib(mib) else f"{mib}M"


def _cpus(trial: Trial) -> list[str]:
    request, found = trial.request, []
    if request.cpus_per_task > 1:
        cpus = trial.largest(1, request.cpus_per_task - 1, lambda c: trial.fits(cpt=c))
        if cpus:
            found.append(f"with --cpus-per-task={cpus} {trial.now}")
    if request.tasks > 1:
        lo = request.nodes_lo
        tasks = trial.largest(lo, request.tasks - 1, lambda t: trial.fits(tasks=t, task_hi=min(t, request.task_hi)))
        if tasks:
            found.append(f"with --ntasks={tasks} {trial.now}")
    elif not request.tasks and request.task_lo > 1:
        tasks = trial.largest(1, request.task_lo - 1, lambda t: trial.fits(task_lo=t, task_hi=t))
        if tasks:
            found.append(f"with --ntasks-per-node={tasks} {trial.now}")
    return found


def _nodes(trial: Trial) -> list[str]:
    request = trial.request
    least = max(1, len(request.must))
    if request.tasks or request.nodes_lo <= least:
        return []
    count = trial.largest(least, request.nodes_lo - 1, lambda n: trial.fits(nodes_lo=n, nodes_hi=n, grow=False))
    return [f"with --nodes={count} {trial.now} ({plural(count, 'node')})"] if count else []


def _whole(trial: Trial) -> list[str]:
    found = []
    if trial.job.spec.exclusive and trial.fits(exclusive=False):
        found.append(f"without --exclusive {trial.now}")
    if trial.request.contiguous and trial.fits(contiguous=False):
        found.append(f"without --contiguous {trial.now}")
    return found


def _gres(trial: Trial) -> list[str]:
    """Fewer devices, where --gres or --gpus-per-node names one kind."""
    spec, own = trial.job.spec, own_units(dict(trial.request.gres))
    kinds = trial.columns.sources.gres.kinds
    other = spec.gpus or spec.gpus_per_task or spec.gpus_per_socket
    if len(own) != 1 or other or bool(spec.gres) == bool(spec.gpus_per_node):
        return []
    (kind, wanted), *_ = own.items()

    def with_units(count: int) -> Int64:
        fewer = trial.gres.copy()
        for column in (kinds.index(kind), kinds.index(kind.partition(":")[0])):
            fewer[0, column] = count
        return fewer

    if kind not in kinds:
        return []
    count = trial.largest(1, wanted - 1, lambda units: trial.fits(gres=with_units(units)))
    if count:
        shown = f"--gres={kind}:{count}" if spec.gres else f"--gpus-per-node={f'{kind}:{count}'.removeprefix('gpu:')}"
        return [f"with {shown} {trial.now}"]
    if trial.fits(gres=with_units(0)):
        return [f"without {'--gres' if spec.gres else '--gpus-per-node'} {trial.now}"]
    return []


def _placement(trial: Trial) -> list[str]:
    request, found = trial.request, []
    if request.must and trial.fits(must_n=0):
        found.append(f"without --nodelist {trial.now}")
    if request.constraint != EVERY and trial.fits(trial.with_eligible(features=False)):
        found.append(f"without --constraint {trial.now}")
    if request.require and trial.fits(trial.with_eligible(condition=False)):
        found.append(f"without --require {trial.now}")
    if request.exclude and trial.fits(trial.with_eligible(exclusion=False)):
        found.append(f"without --exclude {trial.now}")
    return found
