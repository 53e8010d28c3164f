"""The cluster-wide keys of priorities, usage and limits, part of `SETTINGS`.  Names and defaults: slurm.conf(5)."""

from __future__ import annotations

from typing import Any

from helix.config.key import Key, Kind

#: words of AccountingStorageEnforce
ENFORCE_WORDS = ("associations", "limits", "qos", "safe", "all", "none", "wckeys", "nojobs", "nosteps")

PRIORITY_FLAGS = (
    "ACCRUE_ALWAYS",
    "CALCULATE_RUNNING",
    "DEPTH_OBLIVIOUS",
    "FAIR_TREE",
    "INCR_ONLY",
    "MAX_TRES",
    "MAX_TRES_GRES",
    "NO_FAIR_TREE",
    "NO_NORMAL_ALL",
    "NO_NORMAL_ASSOC",
    "NO_NORMAL_PART",
    "NO_NORMAL_QOS",
    "NO_NORMAL_TRES",
    "SMALL_RELATIVE_TO_TIME",
)
RESET_PERIODS = ("NONE", "NOW", "DAILY", "WEEKLY", "MONTHLY", "QUARTERLY", "YEARLY")
_WEIGHT: dict[str, Any] = {
    "kind": Kind.INT,
    "default": "0",
    "minimum": 0,
    "maximum": (1 << 32) - 1,
    "section": "priority",
}

PRIORITY_KEYS: tuple[Key, ...] = (
    Key(
        name="PriorityType",
        attr="priority_type",
        kind=Kind.PLUGIN,
        default="priority/basic",
        section="priority",
        reloadable=False,
        doc="Plugin that orders the queue. priority/basic is first come, first served, shifted by nice values; "
        "priority/multifactor adds up the factors whose weights are set below.",
    ),
    Key(
        name="AssocFile",
        attr="assoc_file",
        kind=Kind.PATH,
        section="priority",
        example="/etc/helix/assoc.conf",
        doc="File of accounts, users, their associations and QOS, in the form of sacctmgr dump; see "
        "helix-assoc.conf(5). hctl reconfigure reads it again. Without it there are no accounts: everybody may use any "
        "account name, and the fair-share factor is 0. Helix's own key.",
    ),
    Key(
        name="AccountingStorageEnforce",
        attr="accounting_storage_enforce",
        kind=Kind.CHOICES,
        choices=ENFORCE_WORDS,
        section="priority",
        example="associations,limits,qos",
        doc="What of AssocFile is enforced. associations: a job must belong to one; limits: and stay within the limits "
        "of associations and QOS; qos: and have a QOS its association may have; safe: as limits, and a job under a "
        "limit of TRES times minutes starts only if it can end by its time limit before the limit is reached (which "
        "Helix always asks). all is all of these. The others are accepted and have no effect.",
    ),
    Key(
        name="PriorityFlags",
        attr="priority_flags",
        kind=Kind.CHOICES,
        choices=PRIORITY_FLAGS,
        section="priority",
        doc="How priorities are made. ACCRUE_ALWAYS: age counts from submission, also while a job is held or waits "
        "for another. CALCULATE_RUNNING: the factors of running jobs are kept up to date too. FAIR_TREE (the default) "
        "ranks users by the tree of accounts, NO_FAIR_TREE makes the factor 2^(-usage/shares), DEPTH_OBLIVIOUS makes "
        "that less dependent on the depth of the tree. INCR_ONLY: the priority of a job never falls. MAX_TRES bills "
        "the largest TRES of a node instead of the sum, MAX_TRES_GRES that of CPUs and memory plus the GRES. "
        "NO_NORMAL_ASSOC, _PART, _QOS, _TRES and _ALL multiply the value itself with its weight, not its share of the "
        "largest. SMALL_RELATIVE_TO_TIME: the size factor is CPUs divided by the time limit.",
    ),
    Key(name="PriorityWeightAge", attr="priority_weight_age", **_WEIGHT, doc="Weight of the time a job has waited."),
    Key(
        name="PriorityWeightAssoc",
        attr="priority_weight_assoc",
        **_WEIGHT,
        doc="Weight of the Priority of the job's association.",
    ),
    Key(
        name="PriorityWeightFairshare",
        attr="priority_weight_fairshare",
        **_WEIGHT,
        example="100000",
        doc="Weight of the fair-share factor of the job's association.",
    ),
    Key(
        name="PriorityWeightJobSize",
        attr="priority_weight_job_size",
        **_WEIGHT,
        doc="Weight of the job's size: the mean of its share of the nodes and its share of the CPUs.",
    ),
    Key(
        name="PriorityWeightPartition",
        attr="priority_weight_partition",
        **_WEIGHT,
        doc="Weight of the partition's PriorityJobFactor.",
    ),
    Key(
        name="PriorityWeightQOS", attr="priority_weight_qos", **_WEIGHT, doc="Weight of the Priority of the job's QOS."
    ),
    Key(
        name="PriorityWeightTRES",
        attr="priority_weight_tres",
        kind=Kind.WEIGHTS,
        section="priority",
        example="CPU=1000,Mem=2000,GRES/gpu=3000",
        doc="Weights of the job's share of the partition, by TRES.",
    ),
    Key(
        name="PriorityMaxAge",
        attr="priority_max_age_s",
        kind=Kind.TIME,
        default="7-00:00:00",
        section="priority",
        minimum=1,
        maximum=86400 * 3650,
        doc="Time of waiting at which the age factor is 1.",
    ),
    Key(
        name="PriorityFavorSmall",
        attr="priority_favor_small",
        kind=Kind.BOOL,
        default="NO",
        section="priority",
        doc="Whether small jobs get the larger size factor.",
    ),
    Key(
        name="PriorityDecayHalfLife",
        attr="priority_decay_half_life_s",
        kind=Kind.TIME,
        default="7-00:00:00",
        section="priority",
        minimum=0,
        maximum=86400 * 3650,
        doc="Time after which usage counts half. 0: usage does not decay (see PriorityUsageResetPeriod).",
    ),
    Key(
        name="PriorityCalcPeriod",
        attr="priority_calc_period_s",
        kind=Kind.TIME,
        default="5",
        section="priority",
        minimum=1,
        maximum=86400,
        doc="How often usage decays, the usage of running jobs is charged and all priorities are made anew. Jobs that "
        "are new or changed get theirs at once.",
    ),
    Key(
        name="PriorityUsageResetPeriod",
        attr="priority_usage_reset_period",
        kind=Kind.CHOICE,
        choices=RESET_PERIODS,
        default="NONE",
        section="priority",
        doc="When all usage is set to 0: at midnight of every day, of Sunday, of the first of the month, of the "
        "quarter or of the year, by the controller's clock; NOW once, at the next start or hctl reconfigure.",
    ),
    Key(
        name="FairShareDampeningFactor",
        attr="fair_share_dampening_factor",
        kind=Kind.INT,
        default="1",
        section="priority",
        minimum=1,
        maximum=1_000_000,
        doc="Divides the exponent of the classic fair-share factor, 2^(-usage/shares/factor).",
    ),
)
