"""The fields of the lines of AssocFile: `Cluster`, `Account`, `User` and `QOS`.  Names are sacctmgr(1)'s.

`attr` is the field of the record in `helix.model.account`; a leading `limits.` means its `Limits`.  Kinds besides
those of helix.conf: a limit may be -1 (no limit), and those of kind PARAMS are TRES counts.
"""

from __future__ import annotations

from typing import Any

from helix.config.key import Key, Kind, Status

_COUNT: dict[str, Any] = {"kind": Kind.INT, "minimum": 0, "maximum": (1 << 31) - 1}

#: fields that accounts, users and the cluster have
LIMIT_KEYS: tuple[Key, ...] = (
    Key(
        name="Fairshare",
        aliases=("Shares", "RawShares"),
        attr="shares",
        kind=Kind.TEXT,
        default="1",
        doc="Shares among its siblings. Fairshare=parent, for a user: the user's jobs count as the account's.",
    ),
    Key(
        name="Priority",
        attr="priority",
        **_COUNT,
        doc="Priority of its jobs, for PriorityWeightAssoc.",
    ),
    Key(name="GrpJobs", attr="limits.grp_jobs", **_COUNT, doc="Most jobs that run at once, of it and all below it."),
    Key(
        name="GrpSubmitJobs",
        aliases=("GrpSubmit",),
        attr="limits.grp_submit_jobs",
        **_COUNT,
        doc="Most jobs that wait or run at once; each task of an array is one.",
    ),
    Key(
        name="GrpTRES", attr="limits.grp_tres", kind=Kind.PARAMS, doc="Most TRES in use at once, as cpu=64,gres/gpu=4."
    ),
    Key(
        name="GrpTRESMins",
        attr="limits.grp_tres_mins",
        kind=Kind.PARAMS,
        doc="TRES times minutes that may be used in all. What was used decays with PriorityDecayHalfLife, or goes with "
        "PriorityUsageResetPeriod. A job starts only if its whole time limit still fits.",
    ),
    Key(
        name="GrpTRESRunMins",
        attr="limits.grp_tres_run_mins",
        kind=Kind.PARAMS,
        doc="Most TRES times minutes that running jobs may have before them, by their time limits.",
    ),
    Key(
        name="GrpWall",
        attr="limits.grp_wall_s",
        kind=Kind.TIME,
        doc="Wall clock time of jobs in all; decays as GrpTRESMins does.",
    ),
    Key(
        name="MaxJobs",
        attr="limits.max_jobs",
        **_COUNT,
        doc="Most jobs that run at once in one user's association. On an account: of each user in it.",
    ),
    Key(
        name="MaxSubmitJobs",
        aliases=("MaxSubmit",),
        attr="limits.max_submit_jobs",
        **_COUNT,
        doc="Most jobs of one user's association that wait or run at once; each task of an array is one.",
    ),
    Key(
        name="MaxTRESPerJob",
        aliases=("MaxTRES",),
        attr="limits.max_tres_per_job",
        kind=Kind.PARAMS,
        doc="Most TRES of one job.",
    ),
    Key(
        name="MaxTRESPerNode",
        attr="limits.max_tres_per_node",
        kind=Kind.PARAMS,
        doc="Most TRES of one job on each node.",
    ),
    Key(
        name="MaxTRESMinsPerJob",
        aliases=("MaxTRESMins",),
        attr="limits.max_tres_mins_per_job",
        kind=Kind.PARAMS,
        doc="Most TRES times minutes of one job, by its time limit.",
    ),
    Key(
        name="MaxWallDurationPerJob",
        aliases=("MaxWall", "MaxWallDuration"),
        attr="limits.max_wall_s",
        kind=Kind.TIME,
        doc="Longest time limit of a job.",
    ),
    Key(
        name="QOS",
        aliases=("QosLevel", "QOSLevel"),
        attr="qos",
        kind=Kind.LIST,
        doc="QOS that its jobs may have, +name and -name change the list of the account above. Without any list in the "
        "file: all QOS there are.",
    ),
    Key(name="DefaultQOS", attr="default_qos", doc="QOS of jobs that name none."),
)

#: older names of a limit by TRES -> the limit and the TRES
OLD_NAMES: dict[str, tuple[str, str]] = {
    "grpcpus": ("GrpTRES", "cpu"),
    "grpmem": ("GrpTRES", "mem"),
    "grpnodes": ("GrpTRES", "node"),
    "grpcpumins": ("GrpTRESMins", "cpu"),
    "grpcpurunmins": ("GrpTRESRunMins", "cpu"),
    "maxcpus": ("MaxTRESPerJob", "cpu"),
    "maxcpusperjob": ("MaxTRESPerJob", "cpu"),
    "maxnodes": ("MaxTRESPerJob", "node"),
    "maxnodesperjob": ("MaxTRESPerJob", "node"),
    "maxcpumins": ("MaxTRESMinsPerJob", "cpu"),
    "maxcpuminsperjob": ("MaxTRESMinsPerJob", "cpu"),
    "maxcpusperuser": ("MaxTRESPerUser", "cpu"),
    "maxnodesperuser": ("MaxTRESPerUser", "node"),
}

_TEXT_KEYS: tuple[Key, ...] = (
    Key(name="Description", attr="description", doc="What it is for."),
    Key(name="Organization", doc="Whose it is; only kept in the file.", status=Status.LATER),
)

CLUSTER_KEYS: tuple[Key, ...] = (
    Key(name="Cluster", doc="Name of the cluster; what follows are fields of the root of the tree."),
    *LIMIT_KEYS,
    Key(name="Classification", doc="Only kept in the file.", status=Status.LATER),
)
PARENT_KEYS: tuple[Key, ...] = (
    Key(name="Parent", doc="The account that the lines after it are in, until the next Parent line."),
)
ACCOUNT_KEYS: tuple[Key, ...] = (
    Key(name="Account", doc="An account in the account of the Parent line before it (root if there is none)."),
    *_TEXT_KEYS,
    *LIMIT_KEYS,
)
USER_KEYS: tuple[Key, ...] = (
    Key(name="User", doc="A user in the account of the Parent line before it. A user may be in several accounts."),
    Key(name="DefaultAccount", attr="default_account", doc="Account of the user's jobs that name none."),
    Key(
        name="Partition",
        attr="partition",
        doc="The association holds for jobs in this partition only.",
    ),
    Key(
        name="AdminLevel",
        kind=Kind.CHOICE,
        choices=("None", "Operator", "Administrator"),
        status=Status.LATER,
        doc="Roles come from Operators and Administrators of helix.conf.",
    ),
    Key(
        name="Coordinator",
        aliases=("Coordinators",),
        attr="coordinator",
        kind=Kind.LIST,
        doc="Accounts that the user coordinates, with all accounts in them: may cancel, hold, release, requeue and "
        "change their jobs as an operator may, also their priority and nice value.",
    ),
    Key(name="DefaultWCKey", status=Status.LATER, doc="Workload characterization keys are only shown."),
    *_TEXT_KEYS,
    *LIMIT_KEYS,
)
_NOT_OF_QOS = ("Fairshare", "QOS", "DefaultQOS", "Priority", "MaxJobs", "MaxSubmitJobs")
QOS_KEYS: tuple[Key, ...] = (
    Key(name="QOS", doc="A quality of service."),
    *_TEXT_KEYS,
    Key(name="Priority", attr="priority", default="0", **_COUNT, doc="Priority of its jobs, for PriorityWeightQOS."),
    Key(
        name="Flags",
        attr="flags",
        kind=Kind.CHOICES,
        choices=(
            "DenyOnLimit",
            "EnforceUsageThreshold",
            "NoDecay",
            "NoReserve",
            "OverPartQOS",
            "PartitionMaxNodes",
            "PartitionMinNodes",
            "PartitionTimeLimit",
            "RequiresReservation",
            "UsageFactorSafe",
        ),
        doc="DenyOnLimit refuses at submission what could never start by itself: by limits of one job, or by limits of "
        "groups. EnforceUsageThreshold lets jobs wait while UsageThreshold is not met. NoDecay keeps the usage that "
        "GrpTRESMins and GrpWall of the QOS count from decaying and from PriorityUsageResetPeriod. NoReserve: its jobs "
        "start when they fit and are never promised a start, so they delay nobody; large ones may wait for ever. "
        "OverPartQOS puts its limits before those of the partition's QOS. PartitionMaxNodes, PartitionMinNodes and "
        "PartitionTimeLimit let its jobs pass MaxNodes, MinNodes and MaxTime of their partition. RequiresReservation "
        "refuses jobs that name no reservation. UsageFactorSafe applies UsageFactor to the limits by time too.",
    ),
    Key(name="Preempt", attr="preempt", kind=Kind.LIST, doc="QOS whose jobs it may preempt."),
    Key(
        name="PreemptMode",
        attr="preempt_mode",
        kind=Kind.CHOICES,
        choices=("CLUSTER", "CANCEL", "REQUEUE", "SUSPEND", "GANG", "WITHIN", "OFF"),
        doc="How jobs of this QOS are preempted; the cluster's PreemptMode when not given.",
    ),
    Key(
        name="PreemptExemptTime",
        attr="preempt_exempt_time_s",
        kind=Kind.TIME,
        doc="How long a job runs before it may be preempted.",
    ),
    Key(
        name="GraceTime",
        attr="grace_time_s",
        kind=Kind.SECONDS,
        default="0",
        minimum=0,
        maximum=86400 * 30,
        unit="seconds",
        doc="Time between the notice of preemption and its signal.",
    ),
    Key(
        name="UsageFactor",
        attr="usage_factor",
        kind=Kind.INTERVAL,
        default="1",
        doc="What usage is multiplied by before it is charged; 0 charges nothing.",
    ),
    Key(
        name="UsageThreshold",
        attr="usage_threshold",
        kind=Kind.INTERVAL,
        doc="Least fair-share factor, from 0 to 1, of an association whose jobs may start with it, where the QOS has "
        "the flag EnforceUsageThreshold: others wait with the reason QOSUsageThreshold. Factors change every "
        "PriorityCalcPeriod.",
    ),
    Key(
        name="LimitFactor",
        attr="limit_factor",
        kind=Kind.INTERVAL,
        default="1",
        doc="What GrpTRES, MaxTRESPerJob and MaxTRESPerNode of associations are multiplied by for its jobs; not those "
        "of a QOS.",
    ),
    *(key for key in LIMIT_KEYS if key.name not in _NOT_OF_QOS),
    Key(
        name="MaxJobsPerUser",
        aliases=("MaxJobsPU", "MaxJobs"),
        attr="max_jobs_per_user",
        **_COUNT,
        doc="Most jobs of a user that run at once with it.",
    ),
    Key(
        name="MaxSubmitJobsPerUser",
        aliases=("MaxSubmitPU", "MaxSubmitJobsPU", "MaxSubmitJobs", "MaxSubmit"),
        attr="max_submit_per_user",
        **_COUNT,
        doc="Most jobs of a user that wait or run at once with it.",
    ),
    Key(
        name="MaxTRESPerUser",
        aliases=("MaxTRESPU",),
        attr="max_tres_per_user",
        kind=Kind.PARAMS,
        doc="Most TRES of a user in use at once with it.",
    ),
    Key(
        name="MaxJobsPerAccount",
        aliases=("MaxJobsPA",),
        attr="max_jobs_per_account",
        **_COUNT,
        doc="Most jobs of an account that run at once with it.",
    ),
    Key(
        name="MaxSubmitJobsPerAccount",
        aliases=("MaxSubmitPA", "MaxSubmitJobsPA"),
        attr="max_submit_per_account",
        **_COUNT,
        doc="Most jobs of an account that wait or run at once with it.",
    ),
    Key(
        name="MaxTRESPerAccount",
        aliases=("MaxTRESPA",),
        attr="max_tres_per_account",
        kind=Kind.PARAMS,
        doc="Most TRES of an account in use at once with it.",
    ),
    Key(
        name="MinTRESPerJob",
        aliases=("MinTRES",),
        attr="min_tres_per_job",
        kind=Kind.PARAMS,
        doc="Least TRES of one job.",
    ),
)

#: first word of a line -> the fields that may stand on it
ASSOC_LINES: dict[str, tuple[Key, ...]] = {
    "Cluster": CLUSTER_KEYS,
    "Parent": PARENT_KEYS,
    "Account": ACCOUNT_KEYS,
    "User": USER_KEYS,
    "QOS": QOS_KEYS,
}
