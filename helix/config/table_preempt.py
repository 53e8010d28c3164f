"""The keys of preemption and time slicing, and the names known inside PreemptParameters.

Names, units and defaults are slurm.conf(5)'s; where they differ, the doc says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from helix.config.key import Key, Kind, Status

#: words of PreemptMode; at most one of the first four, with or without the last two
MODES = ("OFF", "CANCEL", "REQUEUE", "SUSPEND", "GANG", "WITHIN")

PREEMPT_SETTINGS: tuple[Key, ...] = (
    Key(
        name="PreemptType",
        attr="preempt_type",
        kind=Kind.PLUGIN,
        default="preempt/none",
        section="sched",
        reloadable=False,
        doc="Plugin that decides which jobs may take the place of which running ones. preempt/none: none; "
        "preempt/partition_prio: jobs of a partition with a higher PriorityTier; preempt/qos: jobs whose QOS lists the "
        "other's in Preempt.",
    ),
    Key(
        name="PreemptMode",
        attr="preempt_mode",
        kind=Kind.CHOICES,
        default="OFF",
        choices=MODES,
        section="sched",
        example="SUSPEND,GANG",
        doc="What becomes of a job that makes room: OFF protects it; CANCEL ends it; REQUEUE puts it back into the "
        "queue, or ends it if it may not run twice; SUSPEND stops it until its CPUs are free again, while it keeps its "
        "memory. GANG besides turns on time slicing in partitions with OverSubscribe=FORCE or YES. WITHIN lets jobs of "
        "one QOS, or of one partition, make room for each other by priority. Partitions and QOS may say otherwise.",
    ),
    Key(
        name="PreemptExemptTime",
        attr="preempt_exempt_time_s",
        kind=Kind.TIME,
        none="-1",
        section="sched",
        doc="Jobs make room only after they have run for this long; -1 or 0: at any time. A QOS may set its own.",
    ),
    Key(
        name="PreemptParameters",
        attr="preempt_parameters",
        kind=Kind.PARAMS,
        section="sched",
        example="youngest_first,suspend_grace_time=2",
        doc="Options of preemption as name or name=value. The names known are listed under PREEMPTPARAMETERS.",
    ),
    Key(
        name="SchedulerTimeSlice",
        attr="scheduler_time_slice_s",
        kind=Kind.SECONDS,
        default="30",
        unit="seconds",
        minimum=1,
        maximum=65533,
        section="sched",
        doc="With PreemptMode=GANG: how long jobs that share CPUs run before it is the turn of others.",
    ),
)

PREEMPT_PARAMETERS: tuple[Key, ...] = (
    Key(
        name="min_exempt_priority",
        attr="min_exempt_priority",
        kind=Kind.INT,
        default="0",
        minimum=0,
        maximum=4_294_967_295,
        doc="Jobs of this priority or a higher one never make room; 0: no such limit.",
    ),
    Key(
        name="youngest_first",
        attr="youngest_first",
        kind=Kind.BOOL,
        default="NO",
        doc="Of several choices the one whose jobs started last is taken, whatever CPUs they use. Otherwise the one "
        "that loses the least CPU time is.",
    ),
    Key(
        name="strict_order",
        attr="strict_order",
        kind=Kind.BOOL,
        default="NO",
        doc="No job makes room as long as jobs of lower priority could instead, however much work that loses.",
    ),
    Key(
        name="send_user_signal",
        attr="send_user_signal",
        kind=Kind.BOOL,
        default="NO",
        doc="A job that is to end and was submitted with --signal gets that signal first instead of SIGTERM.",
    ),
    Key(
        name="suspend_grace_time",
        attr="suspend_grace_s",
        kind=Kind.SECONDS,
        default="2",
        unit="seconds",
        minimum=0,
        maximum=3600,
        doc="A job that is suspended gets SIGTSTP. Its processes are stopped at once, or, if one of them catches "
        "SIGTSTP, after this time.",
    ),
    Key(
        name="reorder_count",
        status=Status.IGNORED,
        doc="The set of jobs is always reduced to those without which there would be no room.",
    ),
    Key(
        name="reclaim_licenses",
        status=Status.LATER,
        doc="Jobs make room for nodes only, not for licences, in this version.",
    ),
)


def modes_problem(words: Iterable[str]) -> str:
    """What is wrong with the words of a PreemptMode, "" if nothing is."""
    given = {word.upper() for word in words}
    main = [word for word in MODES[:4] if word in given]
    if len(main) > 1:
        return f"{main[0]} and {main[1]} exclude each other"
    if "OFF" in given and "WITHIN" in given:
        return "OFF and WITHIN exclude each other"
    return ""
