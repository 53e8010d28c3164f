"""Could this cluster ever serve a request?  Asked at submit, against configured capacity, not against what is free.

*Never* is an error and names the node that comes closest; *not now* is no concern of this module but for
`test_only`.  Verdicts are remembered for equal requests until the cluster changes, so that a submit costs 5 us.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import replace

from helix.errors import HelixError, LimitExceeded, Never, NotFound
from helix.hostlist import format_hostlist
from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import Reason
from helix.model.partition import PartitionRecord
from helix.quoting import one_line
from helix.sched.explain import duration_words, format_mib, plural
from helix.sched.request import Request, partition_limit, shape_key, time_limit_s
from helix.sched.snapshot import REASONS
from helix.sched.sockets import Seats
from helix_native.ahead_arrays import NEVER
from helix_native.arrays import Flags, Int64
from helixctld.core.limits import partition_for
from helixctld.core.reservation_index import asked
from helixctld.core.state import State
from helixctld.schedule.admission import NOBODY, Who, who_of
from helixctld.schedule.clauses import Words, blame_condition, blame_constraint, blame_preference
from helixctld.schedule.columns import Columns
from helixctld.schedule.forecast import Beside, Forecast, at_once
from helixctld.schedule.looking import look_at
from helixctld.schedule.nearest import Nearest, members_of, nearest_node
from helixctld.schedule.outlook import Outlook
from helixctld.schedule.reservation_columns import is_open
from helixctld.schedule.segments import are_segments, too_few
from helixctld.schedule.ways import is_able

VERDICTS_MAX = 4096  #: remembered verdicts; all are forgotten when there are more


class Feasibility:
    """Answers from the columns of a cycle (or its own, made with `Columns.peek`)."""

    def __init__(self, columns: Columns, outlook: Outlook | None = None) -> None:
        """`outlook`: what the last full pass foresees, for `test_only`."""
        self.columns = columns
        self.outlook = outlook or Outlook()
        self._version: tuple[int, int] = (-1, -1)
        self._verdicts: dict[object, HelixError | None] = {}

    def check_possible(
        self,
        state: State,
        spec: JobSpec,
        partitions: list[str],
        *,
        excluded: list[str] | None = None,
        who: Who = NOBODY,
    ) -> None:
        """Return if at least one of `partitions` (every one with EnforcePartLimits=ALL) could serve `spec`.

        Raises Never (NODES_NEVER) with the nearest node, NotFound (NODE_UNKNOWN), LimitExceeded
        (PARTITION_TIME_LIMIT, PARTITION_NODE_LIMIT, as EnforcePartLimits says) or UsageError.  `who`: whose job it is.
        """
        self.columns.update_cluster(state)
        if spec.components:
            self._check_components(state, spec, partitions, who)
        attributes = self.columns.shapes.attributes
        if spec.require.strip():
            attributes.condition(spec.require.strip())
        if spec.rank.strip():
            attributes.rank(spec.rank.strip())
        if spec.prefer.strip() and (blame := blame_preference(self.columns.nodes, spec.prefer)) is not None:
            raise Never(f"--prefer: {blame[0]}", code="PREFER_NEVER", hint=blame[1] or "leave it out")
        if self._version != self.columns.cluster_version or len(self._verdicts) > VERDICTS_MAX:
            self._verdicts.clear()
            self._version = self.columns.cluster_version
        enforce = self.columns.shapes.options.enforce_part_limits.upper()
        key = shape_key(spec, excluded or [])
        first: HelixError | None = None
        for name in partitions:
            error = self._verdict(state, spec, name, key, excluded or [], enforce, who)
            if error is None and enforce != "ALL":
                return
            if error is not None and enforce == "ALL":
                raise error
            first = first or error
        if first is not None:
            raise first

    def _check_components(self, state: State, spec: JobSpec, partitions: list[str], who: Who) -> None:
        """Each component of a heterogeneous job must be possible by itself."""
        alone = replace(spec, components=[])
        for at, part in enumerate([alone, *spec.components]):
            try:
                self.check_possible(state, part, part.partitions if at else partitions, who=who)
            except HelixError as error:
                found = error.__class__(f"component {at}: {error.msg}", code=error.code, hint=error.hint)
                raise found from error

    def _verdict(
        self, state: State, spec: JobSpec, name: str, key: object, excluded: list[str], enforce: str, who: Who
    ) -> HelixError | None:
        partition = state.partitions[name]
        refused = self.columns.shapes.all_refused(spec, name, who)
        full = (name, key, spec.time_limit_s, enforce, refused, state.limit_book.overrides.get(spec.qos))
        if full in self._verdicts:
            return self._verdicts[full]
        request = self.columns.shapes.request_for(spec, partition)
        reason, words = partition_limit(spec, request, partition_for(state, spec.qos, partition))
        error: HelixError | None = None
        if reason is Reason.BAD_CONSTRAINTS:
            error = Never(words, hint="ask for less memory, or another partition")
        elif reason is not Reason.NONE and enforce in ("ANY", "ALL", "YES"):
            code = "PARTITION_TIME_LIMIT" if reason is Reason.PARTITION_TIME_LIMIT else "PARTITION_NODE_LIMIT"
            error = LimitExceeded(words, code=code, hint="see hinfo for each partition's limits")
        elif reason is not Reason.PARTITION_NODE_LIMIT:
            error = self._never(state, spec, request, partition, excluded, who)
        self._verdicts[full] = error
        return error

    def _never(
        self, state: State, spec: JobSpec, request: Request, partition: PartitionRecord, excluded: list[str], who: Who
    ) -> HelixError | None:
        columns = self.columns
        for name in (*request.must, *request.exclude):
            if name not in state.nodes:
                return NotFound(f"no node '{name}'", code="NODE_UNKNOWN", hint="see hinfo -N for the nodes there are")
        row = columns.shapes.row_of(state, spec, excluded, partition.name, who)
        try:
            work = look_at(columns, lasting=True)
            scattered = ""
            for head, chain in zip(columns.shapes.heads(row), request.chains, strict=True):
                if chain[0].soft or not is_able(work, columns.shapes.parts(head), down=True):
                    continue
                if not spec.segment or not are_segments(chain):
                    return None
                able = work.fit_empty(head, down=True) > 0
                scattered = too_few(chain, able, columns.rows.leaves(), f"the blocks of partition {partition.name}")
                if not scattered:
                    return None
            if scattered:
                return Never(scattered, hint="use smaller segments, or fewer nodes")
            if spec.components:
                nodes = min(sum(part.nodes_lo for part in chain) for chain in request.chains)
                return Never(
                    f"its components ask for {plural(nodes, 'node')}, each for nodes of its own: there are not so many "
                    "that can serve them",
                    hint="components do not share nodes; ask for fewer, or for less of each",
                )
            fit = work.fit_empty(row, down=True)
            cpus = work.usable(row, work.nodes.cpus.astype(np.int64), full=True)
            members = members_of(columns, columns.shapes.index[partition.name])
            if request.seats is not None and (words := _too_few_sockets(request.seats, columns, members, partition)):
                return Never(words, hint="allow more tasks on a socket, or ask for more nodes")
            for name in request.must:
                if not members[state.nodes[name].index]:
                    return Never(f"node {name} is not in partition {partition.name}", hint="see hinfo for its nodes")
            shut = np.zeros_like(members)
            shut[columns.nodes.indexes(state, request.exclude)] = True
            if members.any() and not (members & ~shut).any():
                words = f"--exclude leaves no node of partition {partition.name}"
                return Never(words, hint="exclude fewer nodes, or use another partition")
            near = nearest_node(columns, work, row, request, cpus, work.nodes.mem, members & ~shut & ~(fit > 0))
            blame = self._clause(state, spec, request, partition, members, who)
            if blame is not None:
                closest = f"; the closest, {near.node}, {near.lacks}" if near is not None and near.lacks else ""
                return Never(blame[0] + closest, hint=blame[1])
            named = np.zeros_like(members)
            named[columns.nodes.indexes(state, request.must)] = True
            unable = named & ~(fit > 0)
            own = nearest_node(columns, work, row, request, cpus, work.nodes.mem, unable)
            if own is not None and own.lacks:
                words = f"node {own.node} of --nodelist cannot serve the request: it {own.lacks}"
                return Never(words, hint="name other nodes, or leave out --nodelist")
            left_out = int((members & shut).sum())
            words = _words(request, partition, columns, fit, cpus, near, members, left_out)
            return Never(words, hint=f"ask for less, or see hinfo -N -l -p {partition.name} for what its nodes have")
        finally:
            columns.shapes.release(row)

    def _clause(
        self, state: State, spec: JobSpec, request: Request, partition: PartitionRecord, members: Flags, who: Who
    ) -> Words | None:
        """The clause that too few nodes can meet, and a hint; None if it is not that."""
        nodes, shapes = self.columns.nodes, self.columns.shapes
        among, where = members.copy(), f"partition {partition.name}"
        among[nodes.indexes(state, request.exclude)] = False
        if not among.any():
            return None
        least = min(sum(part.nodes_lo for part in chain) for chain in request.chains)
        blame = blame_constraint(nodes, request, among, where) if spec.constraint.strip() else None
        if blame is None and request.require:
            blame = blame_condition(shapes.attributes, request.require, least, among, where)
        if request.must and len(request.must) >= least:
            named = np.zeros_like(among)
            named[nodes.indexes(state, request.must)] = True
            among, where = among & named, "--nodelist"
        refused = shapes.admission.refused(spec, partition, who)
        able = among & shapes.admission.admitting(refused)
        if blame is None and int(able.sum()) < least <= int(among.sum()):  # with those that refuse it would be enough
            lines = dict.fromkeys(nodes.records[i].admit for i in np.flatnonzero(among & ~able).tolist())
            text = "Admit=" + " and Admit=".join(f"'{one_line(line)}'" for line in [*lines][:3])
            blame = f"too few nodes of {where} admit this job: {text} of the others is not met", ""
        return blame

    # ---- hsubmit --test-only -------------------------------------------------------------------------------------

    def test_only(self, state: State, record: JobRecord, now: float, beside: Beside = at_once) -> dict[str, Any]:
        """What would become of `record` if it were submitted at `now`: the reply of job.submit with test_only.

        `check_possible` must have passed.
        """
        columns = self.columns
        columns.update_cluster(state)
        names = record.spec.partitions or [state.default_partition]
        if record.spec.reservation and (later := self._until_reserved(state, record, names[0])) is not None:
            return later
        answers = [self._test(state, record, state.partitions[name], now, beside) for name in names]
        return min(answers, key=lambda answer: answer["t_start"] or float("inf"))

    def _until_reserved(self, state: State, record: JobRecord, partition: str) -> dict[str, Any] | None:
        """The answer for a job none of whose reservations has begun; None if one has."""
        found = [state.reservations[name] for name in asked(record) if name in state.reservations]
        if not found or any(is_open(r) for r in found):
            return None
        first = min(found, key=lambda r: r.t_start)
        return {
            "test": True,
            "nodes": format_hostlist(first.shares),
            "cpus": self.columns.shapes.request_for(record.spec, state.partitions[partition]).cpus_total,
            "partition": partition,
            "now": False,
            "t_start": first.t_start,
            "job_id": state.next_job_id,
            "reason": str(Reason.RESERVATION),
            "msg": f"would wait for reservation {first.name}",
        }

    def _test(
        self, state: State, record: JobRecord, partition: PartitionRecord, now: float, beside: Beside
    ) -> dict[str, Any]:
        columns = self.columns
        request = columns.shapes.request_for(record.spec, partition)
        answer: dict[str, Any] = {
            "test": True,
            "nodes": "",
            "cpus": request.cpus_total,
            "partition": partition.name,
            "now": False,
            "t_start": 0.0,
            "job_id": state.next_job_id,
            "reason": "",
            "msg": "",
        }
        reason, words = partition_limit(record.spec, request, partition_for(state, record.spec.qos, partition))
        if reason is not Reason.NONE:
            return {**answer, "reason": str(reason), "msg": words}
        if partition.state.upper() in ("DOWN", "INACTIVE"):
            reason = Reason.PARTITION_DOWN if partition.state.upper() == "DOWN" else Reason.PARTITION_INACTIVE
            return {**answer, "reason": str(reason), "msg": f"partition {partition.name} is {partition.state}"}
        reservations = columns.rows.reservations
        inside = next((name for name in asked(record) if reservations.may_serve(name, record)), "")
        row = columns.shapes.row_of(state, record.spec, record.excluded_nodes, partition.name, who_of(record), inside)
        try:
            ahead = columns.jobs_ahead(state, record.job_id, partition.name)
            limit_s = time_limit_s(record.spec, partition)
            if (left := reservations.closes(now).get(inside, NEVER)) < NEVER:
                limit_s = min(limit_s or left, left)
            forecast = Forecast(state, columns, self.outlook, columns.shapes.options, record, now, beside)
            found = forecast.start(row, limit_s, now_only=True)
            if ahead and self.outlook.later is None:  # the planner does not look ahead: nobody overtakes
                words = f"{plural(ahead, 'job')} in partition {partition.name} wait before it"
                answer["nodes"] = "" if found is None else found.where
                return {**answer, "reason": str(Reason.PRIORITY), "msg": words}
            found = found or forecast.start(row, limit_s, all_ahead=True)
            if found is None:
                work = look_at(columns)
                window = duration_words(columns.shapes.options.bf_window_s)
                words = f"no start is in sight within {window}"
                return {**answer, "reason": str(REASONS[work.classify(row)]), "msg": words}
            answer.update(nodes=found.where, cpus=found.cpus, t_start=now + found.wait_s, now=found.wait_s == 0)
            if not found.wait_s:
                return {**answer, "msg": f"would start now on {found.where}"}
            reason = Reason.PRIORITY if ahead else Reason.RESOURCES
            return {**answer, "reason": str(reason), "msg": f"would start in {duration_words(found.wait_s)}"}
        finally:
            columns.shapes.release(row)


def _too_few_sockets(seats: Seats, columns: Columns, members: Flags, partition: PartitionRecord) -> str:
    """That no node takes as many tasks as --ntasks-per-socket allows each socket; "" if one does."""
    records = [columns.nodes.records[i] for i in np.flatnonzero(members).tolist()]
    takes = [(seats.on_empty(node), node.name) for node in records]
    most, name = max(takes, default=(seats.least, ""))
    if most >= seats.least:
        return ""
    return (
        f"no node of partition {partition.name} takes {plural(seats.least, 'task')} with at most "
        f"{seats.task.per_socket} on a socket; the best, {name}, takes {most}"
    )


def _words(
    request: Request,
    partition: PartitionRecord,
    columns: Columns,
    fit: Int64,
    cpus: Int64,
    near: Nearest | None,
    members: Flags,
    left_out: int,
) -> str:
    """The message of a Never.  `left_out`: how many nodes of the partition are excluded."""
    fitting, tasks_fitting = int((fit > 0).sum()), int(fit.sum())
    where = f"partition {partition.name}"
    if not members.any():
        return f"{where} has no nodes"
    need = request.task_lo * request.cpus_per_task
    largest = int(np.argmax(np.where(members, cpus, -1)))
    most_mem = np.where(members, columns.nodes.freeze().mem, -1)
    if cpus[largest] < need:
        return (
            f"no node of {where} has {need} CPUs; the largest, {columns.nodes.names[largest]}, has {int(cpus[largest])}"
        )
    memory = max(request.mem_node_mib or request.mem_cpu_mib * need, request.mem_floor_mib)
    if memory > most_mem.max():
        return (
            f"no node of {where} has {format_mib(memory)} of memory; the largest, "
            f"{columns.nodes.names[int(np.argmax(most_mem))]}, has {format_mib(int(most_mem.max()))}"
        )
    closest = f"; the closest, {near.node}, {near.lacks}" if near is not None and near.lacks else ""
    if not fitting:
        return f"no node of {where} can serve the request{closest}"
    if fitting < request.nodes_lo:
        excluded = f" ({plural(left_out, 'node')} excluded)" if left_out else ""
        if fitting == int(members.sum()) - left_out:
            there = f"{plural(fitting, 'node')}{' left' if left_out else ''}{excluded}"
            return f"{where} has {there}, {request.nodes_lo} are asked"
        can = f"only {plural(fitting, 'node')} of {where} can serve the request{excluded}"
        return f"{can}, {request.nodes_lo} are asked{closest}"
    if request.tasks > tasks_fitting:
        return f"all nodes of {where} together take {tasks_fitting} tasks of this request, {request.tasks} are asked"
    if request.contiguous:
        return f"{where} has no {plural(request.nodes_lo, 'neighbouring node')} that can serve the request"
    most = f" on at most {plural(request.nodes_hi, 'node')}" if request.nodes_hi else ""
    return f"{where} cannot serve the request{most}{closest}"


def check_possible(state: State, record_or_spec: JobRecord | JobSpec, partitions: list[str], columns: Columns) -> None:
    """See `Feasibility.check_possible`, which remembers its verdicts; this does not."""
    spec = record_or_spec.spec if isinstance(record_or_spec, JobRecord) else record_or_spec
    Feasibility(columns).check_possible(state, spec, partitions)
