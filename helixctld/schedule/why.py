"""Why a job waits, and what would help: the reply of job.why.

The causes are counted by the same filter that the planner uses.  Tells how many jobs are ahead, never whose.  Cost:
about 1 ms, and 1 ms for each change tried for advice, on 10,000 nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helix.errors import UsageError
from helix.hostlist import format_hostlist
from helix.model.job import JobRecord
from helix.model.job_state import JobState, Reason
from helix.model.partition import PartitionRecord
from helix.sched.chain import Chain
from helix.sched.explain import CAUSES, duration_words, plural
from helix.sched.features import format_term
from helix.sched.request import Request, partition_limit
from helix.sched.snapshot import REASONS
from helix.timefmt import format_timestamp
from helix_native.arrays import BAD, FAIL_INELIGIBLE, FAIL_SMALL, PRIORITY, RESOURCES, Flags, unpack_bits
from helixctld.core.deadlines import last_start
from helixctld.core.dependencies import unmet
from helixctld.core.limits import partition_for
from helixctld.core.state import State
from helixctld.core.yielding import suspension_words
from helixctld.schedule.admission import who_of
from helixctld.schedule.advice import Trial, advise
from helixctld.schedule.columns import Columns
from helixctld.schedule.expected import expected
from helixctld.schedule.forecast import Beside, Forecast, at_once
from helixctld.schedule.looking import Looking, gres_masks, look_at, scattered, switch_advice
from helixctld.schedule.nearest import members_of, nearest_node
from helixctld.schedule.outlook import Outlook
from helixctld.schedule.reserved_words import ReservedWords
from helixctld.schedule.segments import are_segments, too_few

EDGES_SHOWN = 5  #: dependencies that are named
EXAMPLES = 3  #: node names given for each cause


def why(
    state: State,
    job: JobRecord,
    columns: Columns | None = None,
    now: float = 0.0,
    outlook: Outlook | None = None,
    beside: Beside = at_once,
) -> dict[str, Any]:
    """One entry of job.why's `jobs`.  `columns`: those of the cycle; without them, own ones are made (slow).
    `now`: epoch seconds, for times to come; `outlook`: what the last full pass foresees."""
    if columns is None:
        columns = Columns()
        columns.peek(state)
    columns.update_cluster(state)
    answer: dict[str, Any] = {
        "id": job.display_id,
        "state": str(job.state),
        "reason": str(job.reason),
        "text": job.reason_text,
        "nodes_total": 0,
        "counts": [],
        "ahead": 0,
        "nearest": None,
        "advice": [],
        **expected(state, job, columns, outlook),
    }
    if not job.is_waiting:
        answer["text"] = job.reason_text or suspension_words(job) or f"the job does not wait: it is {job.state}"
        return answer
    if job.job_id not in state.schedulable:
        answer["text"], answer["advice"] = _not_eligible(state, job, now)
        return answer
    reserved = ReservedWords(state, now)
    if job.spec.reservation:
        answer["text"] = reserved.inside(job)
        answer["advice"] = [f"drop the wish for it: hctl update JobId={job.job_id} Reservation="]
        return answer
    forecast = None
    if outlook is not None and outlook.later is not None:
        forecast = Forecast(state, columns, outlook, columns.shapes.options, job, now, beside)
    looks = [
        _in_partition(state, job, state.partitions[name], columns, forecast)
        for name in (job.spec.partitions or [state.default_partition])
        if name in columns.shapes.index
    ]
    if not looks:
        answer["text"] = "none of its partitions exists any more"
        return answer
    rank = {str(reason): code for code, reason in REASONS.items()}
    best = max(looks, key=lambda look: rank.get(look["reason"], 0))
    answer.update(best)
    if {answer["reason"], job.reason} <= {Reason.RESOURCES, Reason.PRIORITY}:
        answer["reason"] = str(job.reason)  # whichever it is goes by those ahead, as the last pass found them
    if not answer["t_expected"] and (words := _deadline(state, job, now)):
        answer["text"] += f"; {words}"
    if words := reserved.in_the_way(job)[0]:
        if _fits(best):  # nodes are free, but not for this job
            answer["text"] = "reservations leave it too few nodes for its time"
        answer["text"] += f"; {words}"
        answer["reason"] = str(reserved.reason(job, Reason(best["reason"]), "")[0])
    return answer


def _deadline(state: State, job: JobRecord, now: float) -> str:
    """Until when a job with a deadline can start; "" for any other."""
    if not job.spec.t_deadline:
        return ""
    left = duration_words(max(0.0, last_start(state, job) - now))
    return f"to end before its deadline, {format_timestamp(job.spec.t_deadline)}, it must start within {left}"


def _not_eligible(state: State, job: JobRecord, now: float) -> tuple[str, list[str]]:
    """Words and advice for a job that may not start whatever is free."""
    ident = job.display_id.split("_")[0] if job.is_array else job.display_id
    match job.reason:
        case Reason.HELD_USER:
            return "held by its owner", [f"release it: hctl release {ident}"]
        case Reason.HELD_ADMIN:
            return "held by an operator", ["ask an operator to release it"]
        case Reason.LAUNCH_FAILED_REQUEUED_HELD:
            text = job.reason_text or "its launch failed several times"
            return text, [f"look into the launch failures, then: hctl release {ident}"]
        case Reason.BEGIN_TIME:
            begin, wait = format_timestamp(job.spec.t_begin), duration_words(max(0.0, job.spec.t_begin - now))
            return f"not before its begin time, {begin} (in {wait})", [
                f"begin now: hctl update JobId={ident} StartTime=now"
            ]
        case Reason.DEPENDENCY:
            return f"waits for {_edges(state, job, now)}", [
                f"drop the dependency: hctl update JobId={ident} Dependency="
            ]
        case Reason.DEPENDENCY_NEVER:
            return f"its dependency can never be met: {_edges(state, job, now)}", [
                f"cancel it, or: hctl update JobId={ident} Dependency="
            ]
        case Reason.RESERVATION:
            return job.reason_text, [f"drop the wish for it: hctl update JobId={ident} Reservation="]
        case Reason.RESERVATION_DELETED:
            return f"{job.reason_text}, and the job is held", [f"let it run anywhere: hctl release {ident}"]
        case Reason.ARRAY_TASK_LIMIT:
            limit = job.spec.array_limit
            return f"{plural(job.tasks_active, 'task')} of the array run, %{limit} allows {limit}", [
                f"raise the limit: hctl update JobId={ident} ArrayTaskThrottle={2 * limit}"
            ]
    if job.state in (JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT):
        return f"requeued and held ({job.state})", [f"release it: hctl release {ident}"]
    return job.reason_text or f"may not start: {job.reason}", []


def _edges(state: State, job: JobRecord, now: float) -> str:
    """The dependencies that are not met, and how it stands with them."""
    assert job.spec.dependency is not None
    joint = " or " if job.spec.dependency.any else ", "
    return joint.join(unmet(state, job, now, EDGES_SHOWN))


def _in_partition(
    state: State, job: JobRecord, partition: PartitionRecord, columns: Columns, forecast: Forecast | None
) -> dict[str, Any]:
    """The answer for one partition of the job."""
    index = columns.shapes.index[partition.name]
    row = columns.shapes.row_of(state, job.spec, job.excluded_nodes, partition.name, who_of(job))
    try:
        request = columns.shapes.requests[row]
        members = members_of(columns, index)
        look: dict[str, Any] = {
            "nodes_total": int(members.sum()),
            "counts": [],
            "ahead": columns.jobs_ahead(state, job.job_id, partition.name),
            "nearest": None,
            "advice": [],
        }
        if partition.state.upper() in ("DOWN", "INACTIVE"):
            reason = Reason.PARTITION_DOWN if partition.state.upper() == "DOWN" else Reason.PARTITION_INACTIVE
            return {**look, "reason": str(reason), "text": f"partition {partition.name} is {partition.state}"}
        if request is None:
            return {**look, "reason": str(Reason.BAD_CONSTRAINTS), "text": "the request contradicts itself"}
        reason, words = partition_limit(job.spec, request, partition_for(state, job.spec.qos, partition))
        if reason is not Reason.NONE:
            return {**look, "reason": str(reason), "text": words, "advice": _limit_advice(reason, partition)}
        if (short := columns.pools.short(state, job)) >= 0:
            reason, words = columns.pools.words(state, short)
            stands, advice = columns.pools.of_job(state, job, short)
            text = (words or "a limit is reached") + (f": {stands}" if stands else "")
            return {**look, "reason": str(reason), "text": text, "advice": advice}
        return {**look, **_ways(state, job, partition, columns, row, members, look["ahead"], forecast)}
    finally:
        columns.shapes.release(row)


def _ways(
    state: State,
    job: JobRecord,
    partition: PartitionRecord,
    columns: Columns,
    row: int,
    members: Flags,
    ahead: int,
    forecast: Forecast | None,
) -> dict[str, Any]:
    """The answer for the way in which the job would start soonest; of a way with several parts the worst off."""
    rank = {str(reason): code for code, reason in REASONS.items()}
    looks: list[dict[str, Any]] = []
    whole = columns.shapes.requests[row]
    assert whole is not None
    chains = whole.chains
    for head in columns.shapes.heads(row):
        parts = columns.shapes.parts(head)
        found = []
        for at in parts:
            request = columns.shapes.request_of(at)
            assert request is not None
            own = state.partitions.get(request.partition, partition)
            trial = Trial(state, job, own, columns, at, request, forecast if at == head else None)
            mine = members if own is partition else members_of(columns, columns.shapes.index[own.name])
            look = _resources(trial, columns, mine, ahead)
            if len(parts) > 1:
                look["text"] = f"{_part(job, request)}: {look['text']}"
            found.append(look)
        worst = min(found, key=lambda look: (_fits(look), rank.get(look["reason"], 0)))  # one that does not fit
        if len(parts) > 1 and sum(not _fits(look) for look in found) != 1:
            worst["advice"] = []  # what would start one part would not start the job
        if len(parts) > 1 and _fits(worst):
            worst["text"] = "each part of the request would fit now, but not on different nodes at once"
        if len(parts) > 1 and all(map(_fits, found)) and (short := _segments(columns, chains[len(looks)], parts)):
            worst["text"] = short
        looks.append(worst)
    hard = [look for look, chain in zip(looks, chains, strict=True) if not chain[0].soft]
    return max(looks if any(map(_fits, looks)) else hard, key=lambda look: rank.get(look["reason"], 0))


def _segments(columns: Columns, chain: Chain, parts: list[int]) -> str:
    """That free nodes do not make as many segments as --segment asks; "" if they do, or if there are none asked."""
    if not are_segments(chain):
        return ""
    able = look_at(columns).fit_now(parts[0], kept=False) > 0
    return too_few(chain, able, columns.rows.leaves(), "the free nodes of the blocks")


def _fits(look: dict[str, Any]) -> bool:
    """True if what was looked at could start now by itself."""
    return "fits now" in look["text"] or "would fit now" in look["text"]


def _part(job: JobRecord, request: Request) -> str:
    """How a part of a request is called."""
    component = f"component {request.component}, " if job.spec.components else ""
    features = f" with '{_said(request)}'" if _said(request) else ""
    return f"{component}{plural(request.nodes_lo, 'node')}{features}"


def _limit_advice(reason: Reason, partition: PartitionRecord) -> list[str]:
    if reason is Reason.PARTITION_TIME_LIMIT:
        return [f"ask for at most --time={max(1, partition.max_time_s // 60)} (minutes), or another partition"]
    if reason is Reason.PARTITION_NODE_LIMIT:
        bounds = f"{max(1, partition.min_nodes)}-{partition.max_nodes or 'any'}"
        return [f"partition {partition.name} takes {bounds} nodes a job: change --nodes, or the partition"]
    return ["ask for less memory, or another partition"]


def _resources(trial: Trial, columns: Columns, members: Flags, ahead: int) -> dict[str, Any]:
    """The answer where only resources and the queue matter."""
    row, request = trial.row, trial.request
    work = look_at(columns)
    usable = work.usable(row, work.cpus, full=False)
    fit = work.fit_now(row, kept=False)
    chosen = work.select(row, fit, usable)
    look: dict[str, Any] = {"counts": _counts(columns, work, row, request)}
    each = plural(request.task_lo * request.cpus_per_task, "CPU")
    wanted = f"{plural(request.nodes_lo, 'node')} with {each}"
    if request.tasks:
        wanted = f"{plural(request.tasks, 'task')} of {plural(request.cpus_per_task, 'CPU')}"
    where = f"partition {trial.partition.name}"
    if chosen is not None:
        names = format_hostlist(columns.nodes.names[i] for i in chosen[0].tolist())
        if trial.forecast is not None:
            now = trial.forecast.start(row, trial.limit_s, now_only=True)
            if now is not None:
                return {**look, "reason": str(Reason.RESOURCES), "text": f"fits now on {now.where}: about to start"}
            if text := scattered(columns, request, fit):
                return {**look, "reason": str(Reason.RESOURCES), "text": text, "advice": switch_advice(request)}
            limit = f"its limit of {duration_words(trial.limit_s)}" if trial.limit_s else "a job without a time limit"
            text = f"would fit now on {names}, but not for {limit}: nodes are promised to others before that is over"
            return {**look, "reason": str(Reason.PRIORITY), "text": text, "advice": advise(trial, PRIORITY)}
        if ahead:
            text = f"would fit now on {names}, but {plural(ahead, 'job')} in {where} come first and wait for more"
            return {**look, "reason": str(Reason.PRIORITY), "text": text, "advice": trial.other_partitions()}
        return {**look, "reason": str(Reason.RESOURCES), "text": f"fits now on {names}: about to start"}
    code = work.classify(row)
    if code == BAD and columns.shapes.barred_by_sockets(row).any():
        code = RESOURCES  # not for ever
    able = int((fit > 0).sum())
    if request.must and request.nodes_lo <= len(request.must):
        named = columns.nodes.indexes(trial.state, request.must)
        able = int((fit[named] > 0).sum())
    total = look["counts"] and ", ".join(f"{c['text']}: {c['nodes']}" for c in look["counts"][:3])
    detail = f"{able} of {plural(int(members.sum()), 'node')} could take part now" + (f" ({total})" if total else "")
    reason = REASONS[code]
    lead = f"{where} can never serve {wanted}" if code == BAD else f"waits for {wanted} in {where}"
    text = f"{lead}: {detail}"
    near = nearest_node(columns, work, row, request, usable, work.mem, members & work.nodes.up & ~(fit > 0))
    if near is not None:
        look["nearest"] = {"node": near.node, "lacks": near.lacks}
    return {**look, "reason": str(reason), "text": text, "advice": advise(trial, code)}


def _counts(columns: Columns, work: Looking, row: int, request: Request) -> list[dict[str, Any]]:
    """Per cause: nodes it holds for, nodes that nothing else holds back, and examples."""
    masks = work.failure_masks(row)
    named: list[tuple[str, str, Flags]] = []
    for cause, (word, text) in CAUSES.items():
        mask = masks[cause]
        if cause == FAIL_INELIGIBLE:
            met = columns.nodes.meeting(request.constraint)
            named.append(("features", f"without the features of '{_said(request)}'", mask & ~met))
            for text_of, clause_met in _conditions(columns, row, request):
                named.append((*text_of, mask & ~clause_met))
                met &= clause_met
            named.append(("excluded", "excluded", mask & met))
        elif cause == FAIL_SMALL:
            named.extend(_too_small(work, row, request, mask))
        else:
            named.append((word, text, mask))
    named.extend(
        gres_masks(columns, work, row, request, unpack_bits(work.tables.part[work.shapes.part[row]], work.size))
    )
    if request.must:
        wanted = np.zeros(work.size, np.bool_)
        shapes = work.shapes
        at = int(shapes.must_at[row])
        wanted[work.tables.must[at : at + int(shapes.must_n[row])]] = True
        if request.nodes_lo <= len(request.must):
            others = unpack_bits(work.tables.part[shapes.part[row]], work.size) & ~wanted
            named.append(("nodelist", "not in the node list", others))
    lacking = np.sum([mask for _, _, mask in named], axis=0)
    counts: list[dict[str, Any]] = []
    for word, text, mask in named:
        at_nodes = np.flatnonzero(mask)
        if len(at_nodes):
            only = int((mask & (lacking == 1)).sum())
            examples = [columns.nodes.names[i] for i in at_nodes[:EXAMPLES].tolist()]
            counts.append({"reason": word, "text": text, "nodes": len(at_nodes), "only": only, "examples": examples})
    counts.sort(key=lambda c: (-c["only"], -c["nodes"], c["reason"]))
    return counts


def _conditions(columns: Columns, row: int, request: Request) -> list[tuple[tuple[str, str], Flags]]:
    """Clauses of --require, and the nodes' own Admit lines: word and text, and the nodes that meet them."""
    shapes = columns.shapes
    found: list[tuple[tuple[str, str], Flags]] = []
    if request.require:
        try:
            clauses = shapes.attributes.condition(request.require).clauses
        except UsageError as error:
            found.append((("require", error.msg), np.zeros(len(columns.nodes), np.bool_)))
            clauses = ()
        found.extend((("require", f"fail '{clause.text}'"), shapes.attributes.clause(clause)) for clause in clauses)
    if (barred := shapes.barred_by_sockets(row)).any():
        found.append((("sockets", "free CPUs in too few sockets for --ntasks-per-socket"), ~barred))
    for line in shapes.refused(row):
        found.append((("admit", f"admit only jobs with '{line}'"), shapes.admission.admitting((line,))))
    return found


def _too_small(work: Looking, row: int, request: Request, mask: Flags) -> list[tuple[str, str, Flags]]:
    cpus = work.usable(row, work.nodes.cpus.astype(np.int64), full=True)
    need = work.cost(row, request.task_lo)
    memory = np.maximum(need * request.mem_cpu_mib, max(request.mem_node_mib, request.mem_floor_mib))
    return [
        ("too_few_cpus", "fewer CPUs than asked even when empty", mask & (cpus < need)),
        ("too_little_memory", "less memory than asked even when empty", mask & (work.nodes.mem < memory)),
        ("too_little_disk", "less temporary disk than asked", mask & (work.nodes.tmp < request.tmp_mib)),
    ]


def _said(request: Request) -> str:
    return format_term(request.constraint)
