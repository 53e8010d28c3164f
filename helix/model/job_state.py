"""Job states, the legal transitions between them, and the reasons a job waits or ended for.

One declared table each; the state machine, the docs and the man pages are held to it.  Words and two-letter codes
are Slurm's (squeue(1), JOB STATE CODES and JOB REASON CODES).  A record is in exactly one state.  Slurm's
base-state-plus-flags is flattened: COMPLETING keeps the outcome beside it (`JobRecord.outcome`).
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job record."""

    PENDING = "PENDING"
    CONFIGURING = "CONFIGURING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETING = "COMPLETING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMEOUT = "TIMEOUT"
    CANCELLED = "CANCELLED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DEADLINE = "DEADLINE"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    SPECIAL_EXIT = "SPECIAL_EXIT"

    @property
    def code(self) -> str:
        """Slurm's two-letter code."""
        return STATE_CODES[self]


STATE_CODES: dict[JobState, str] = {
    JobState.PENDING: "PD",
    JobState.CONFIGURING: "CF",
    JobState.RUNNING: "R",
    JobState.SUSPENDED: "S",
    JobState.COMPLETING: "CG",
    JobState.COMPLETED: "CD",
    JobState.FAILED: "F",
    JobState.TIMEOUT: "TO",
    JobState.CANCELLED: "CA",
    JobState.NODE_FAIL: "NF",
    JobState.OUT_OF_MEMORY: "OOM",
    JobState.DEADLINE: "DL",
    JobState.PREEMPTED: "PR",
    JobState.BOOT_FAIL: "BF",
    JobState.REQUEUED: "RQ",
    JobState.REQUEUE_HOLD: "RH",
    JobState.SPECIAL_EXIT: "SE",
}

#: States in which the job waits in the queue (REQUEUE_HOLD and SPECIAL_EXIT are held).
WAITING = frozenset({JobState.PENDING, JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT})
#: States in which the job owns an allocation.
ACTIVE = frozenset({JobState.CONFIGURING, JobState.RUNNING, JobState.SUSPENDED, JobState.COMPLETING})
#: States that never change again, except by an explicit requeue.
TERMINAL = frozenset(
    {
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.TIMEOUT,
        JobState.CANCELLED,
        JobState.NODE_FAIL,
        JobState.OUT_OF_MEMORY,
        JobState.DEADLINE,
        JobState.PREEMPTED,
        JobState.BOOT_FAIL,
    }
)

_QUEUE_AGAIN = frozenset({JobState.PENDING, JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT})

#: state -> states it may go to.  REQUEUED is an outcome only (shown while COMPLETING), never a state at rest.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset(
        {
            JobState.CONFIGURING,
            JobState.CANCELLED,
            JobState.DEADLINE,
            JobState.COMPLETED,  # an array's own record: its tasks ended
            JobState.FAILED,  # likewise
            JobState.REQUEUE_HOLD,
            JobState.SPECIAL_EXIT,
        }
    ),
    JobState.REQUEUE_HOLD: frozenset({JobState.PENDING, JobState.CANCELLED, JobState.DEADLINE}),
    JobState.SPECIAL_EXIT: frozenset({JobState.PENDING, JobState.CANCELLED, JobState.DEADLINE}),
    JobState.CONFIGURING: frozenset({JobState.RUNNING, JobState.COMPLETING, *TERMINAL, *_QUEUE_AGAIN}),
    JobState.RUNNING: frozenset({JobState.SUSPENDED, JobState.COMPLETING, *TERMINAL, *_QUEUE_AGAIN}),
    JobState.SUSPENDED: frozenset({JobState.RUNNING, JobState.COMPLETING, *TERMINAL, *_QUEUE_AGAIN}),
    JobState.COMPLETING: frozenset({*TERMINAL, *_QUEUE_AGAIN}),
    **dict.fromkeys(TERMINAL, _QUEUE_AGAIN),
    JobState.REQUEUED: frozenset(),
}


def is_legal(old: JobState, new: JobState) -> bool:
    """True if a job may go from `old` to `new`."""
    return new in TRANSITIONS[old]


class Reason(StrEnum):
    """Why a job waits, or ended as it did (squeue(1) JOB REASON CODES)."""

    NONE = "None"
    PRIORITY = "Priority"
    RESOURCES = "Resources"
    DEPENDENCY = "Dependency"
    DEPENDENCY_NEVER = "DependencyNeverSatisfied"
    BEGIN_TIME = "BeginTime"
    HELD_USER = "JobHeldUser"
    HELD_ADMIN = "JobHeldAdmin"
    ARRAY_TASK_LIMIT = "JobArrayTaskLimit"
    PARTITION_DOWN = "PartitionDown"
    PARTITION_INACTIVE = "PartitionInactive"
    PARTITION_NODE_LIMIT = "PartitionNodeLimit"
    PARTITION_TIME_LIMIT = "PartitionTimeLimit"
    REQ_NODE_NOT_AVAIL = "ReqNodeNotAvail"
    NODES_UNAVAILABLE = "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions"
    BAD_CONSTRAINTS = "BadConstraints"
    LICENSES = "Licenses"
    RESERVATION = "Reservation"
    RESERVATION_DELETED = "ReservationDeleted"
    # associations and QOS; `helix.model.limit_reasons` says which limit has which
    INVALID_ACCOUNT = "InvalidAccount"
    INVALID_QOS = "InvalidQOS"
    QOS_NOT_ALLOWED = "QOSNotAllowed"
    QOS_USAGE_THRESHOLD = "QOSUsageThreshold"
    ASSOC_GRP_JOBS_LIMIT = "AssocGrpJobsLimit"
    ASSOC_GRP_WALL_LIMIT = "AssocGrpWallLimit"
    ASSOC_MAX_JOBS_LIMIT = "AssocMaxJobsLimit"
    ASSOC_MAX_WALL_DURATION_PER_JOB_LIMIT = "AssocMaxWallDurationPerJobLimit"
    ASSOC_GRP_CPU_LIMIT = "AssocGrpCpuLimit"
    ASSOC_GRP_MEM_LIMIT = "AssocGrpMemLimit"
    ASSOC_GRP_NODE_LIMIT = "AssocGrpNodeLimit"
    ASSOC_GRP_GRES = "AssocGrpGRES"
    ASSOC_GRP_BILLING = "AssocGrpBilling"
    ASSOC_GRP_LICENSE = "AssocGrpLicense"
    ASSOC_GRP_CPU_MINUTES_LIMIT = "AssocGrpCPUMinutesLimit"
    ASSOC_GRP_MEM_MINUTES = "AssocGrpMemMinutes"
    ASSOC_GRP_NODE_MINUTES = "AssocGrpNodeMinutes"
    ASSOC_GRP_GRES_MINUTES = "AssocGrpGRESMinutes"
    ASSOC_GRP_BILLING_MINUTES = "AssocGrpBillingMinutes"
    ASSOC_GRP_LICENSE_MINUTES = "AssocGrpLicenseMinutes"
    ASSOC_GRP_CPU_RUN_MINUTES_LIMIT = "AssocGrpCPURunMinutesLimit"
    ASSOC_GRP_MEM_RUN_MINUTES = "AssocGrpMemRunMinutes"
    ASSOC_GRP_NODE_RUN_MINUTES = "AssocGrpNodeRunMinutes"
    ASSOC_GRP_GRES_RUN_MINUTES = "AssocGrpGRESRunMinutes"
    ASSOC_GRP_BILLING_RUN_MINUTES = "AssocGrpBillingRunMinutes"
    ASSOC_GRP_LICENSE_RUN_MINUTES = "AssocGrpLicenseRunMinutes"
    ASSOC_MAX_CPU_PER_JOB_LIMIT = "AssocMaxCpuPerJobLimit"
    ASSOC_MAX_MEM_PER_JOB = "AssocMaxMemPerJob"
    ASSOC_MAX_NODE_PER_JOB_LIMIT = "AssocMaxNodePerJobLimit"
    ASSOC_MAX_GRES_PER_JOB = "AssocMaxGRESPerJob"
    ASSOC_MAX_BILLING_PER_JOB = "AssocMaxBillingPerJob"
    ASSOC_MAX_LICENSE_PER_JOB = "AssocMaxLicensePerJob"
    ASSOC_MAX_CPU_PER_NODE = "AssocMaxCpuPerNode"
    ASSOC_MAX_MEM_PER_NODE = "AssocMaxMemPerNode"
    ASSOC_MAX_GRES_PER_NODE = "AssocMaxGRESPerNode"
    ASSOC_MAX_CPU_MINUTES_PER_JOB_LIMIT = "AssocMaxCpuMinutesPerJobLimit"
    ASSOC_MAX_MEM_MINUTES_PER_JOB = "AssocMaxMemMinutesPerJob"
    ASSOC_MAX_NODE_MINUTES_PER_JOB = "AssocMaxNodeMinutesPerJob"
    ASSOC_MAX_GRES_MINUTES_PER_JOB = "AssocMaxGRESMinutesPerJob"
    ASSOC_MAX_BILLING_MINUTES_PER_JOB = "AssocMaxBillingMinutesPerJob"
    ASSOC_MAX_LICENSE_MINUTES_PER_JOB = "AssocMaxLicenseMinutesPerJob"
    QOS_GRP_JOBS_LIMIT = "QOSGrpJobsLimit"
    QOS_GRP_WALL_LIMIT = "QOSGrpWallLimit"
    QOS_MAX_JOBS_PER_USER_LIMIT = "QOSMaxJobsPerUserLimit"
    QOS_MAX_WALL_DURATION_PER_JOB_LIMIT = "QOSMaxWallDurationPerJobLimit"
    QOS_GRP_CPU_LIMIT = "QOSGrpCpuLimit"
    QOS_GRP_MEM_LIMIT = "QOSGrpMemLimit"
    QOS_GRP_NODE_LIMIT = "QOSGrpNodeLimit"
    QOS_GRP_GRES = "QOSGrpGRES"
    QOS_GRP_BILLING = "QOSGrpBilling"
    QOS_GRP_LICENSE = "QOSGrpLicense"
    QOS_GRP_CPU_MINUTES_LIMIT = "QOSGrpCPUMinutesLimit"
    QOS_GRP_MEM_MINUTES = "QOSGrpMemMinutes"
    QOS_GRP_NODE_MINUTES = "QOSGrpNodeMinutes"
    QOS_GRP_GRES_MINUTES = "QOSGrpGRESMinutes"
    QOS_GRP_BILLING_MINUTES = "QOSGrpBillingMinutes"
    QOS_GRP_LICENSE_MINUTES = "QOSGrpLicenseMinutes"
    QOS_GRP_CPU_RUN_MINUTES_LIMIT = "QOSGrpCPURunMinutesLimit"
    QOS_GRP_MEM_RUN_MINUTES = "QOSGrpMemRunMinutes"
    QOS_GRP_NODE_RUN_MINUTES = "QOSGrpNodeRunMinutes"
    QOS_GRP_GRES_RUN_MINUTES = "QOSGrpGRESRunMinutes"
    QOS_GRP_BILLING_RUN_MINUTES = "QOSGrpBillingRunMinutes"
    QOS_GRP_LICENSE_RUN_MINUTES = "QOSGrpLicenseRunMinutes"
    QOS_MAX_CPU_PER_JOB_LIMIT = "QOSMaxCpuPerJobLimit"
    QOS_MAX_MEMORY_PER_JOB = "QOSMaxMemoryPerJob"
    QOS_MAX_NODE_PER_JOB_LIMIT = "QOSMaxNodePerJobLimit"
    QOS_MAX_GRES_PER_JOB = "QOSMaxGRESPerJob"
    QOS_MAX_BILLING_PER_JOB = "QOSMaxBillingPerJob"
    QOS_MAX_LICENSE_PER_JOB = "QOSMaxLicensePerJob"
    QOS_MAX_CPU_PER_NODE = "QOSMaxCpuPerNode"
    QOS_MAX_MEMORY_PER_NODE = "QOSMaxMemoryPerNode"
    QOS_MAX_GRES_PER_NODE = "QOSMaxGRESPerNode"
    QOS_MAX_CPU_MINUTES_PER_JOB_LIMIT = "QOSMaxCpuMinutesPerJobLimit"
    QOS_MAX_MEMORY_MINUTES_PER_JOB = "QOSMaxMemoryMinutesPerJob"
    QOS_MAX_NODE_MINUTES_PER_JOB = "QOSMaxNodeMinutesPerJob"
    QOS_MAX_GRES_MINUTES_PER_JOB = "QOSMaxGRESMinutesPerJob"
    QOS_MAX_BILLING_MINUTES_PER_JOB = "QOSMaxBillingMinutesPerJob"
    QOS_MAX_LICENSE_MINUTES_PER_JOB = "QOSMaxLicenseMinutesPerJob"
    QOS_MAX_CPU_PER_USER_LIMIT = "QOSMaxCpuPerUserLimit"
    QOS_MAX_MEMORY_PER_USER = "QOSMaxMemoryPerUser"
    QOS_MAX_NODE_PER_USER_LIMIT = "QOSMaxNodePerUserLimit"
    QOS_MAX_GRES_PER_USER = "QOSMaxGRESPerUser"
    QOS_MAX_BILLING_PER_USER = "QOSMaxBillingPerUser"
    QOS_MAX_LICENSE_PER_USER = "QOSMaxLicensePerUser"
    QOS_MIN_CPU_NOT_SATISFIED = "QOSMinCpuNotSatisfied"
    QOS_MIN_MEMORY = "QOSMinMemory"
    QOS_MIN_NODE = "QOSMinNode"
    QOS_MIN_GRES = "QOSMinGRES"
    QOS_MIN_BILLING = "QOSMinBilling"
    MAX_JOBS_PER_ACCOUNT = "MaxJobsPerAccount"
    MAX_CPU_PER_ACCOUNT = "MaxCpuPerAccount"
    MAX_MEMORY_PER_ACCOUNT = "MaxMemoryPerAccount"
    MAX_NODE_PER_ACCOUNT = "MaxNodePerAccount"
    MAX_GRES_PER_ACCOUNT = "MaxGRESPerAccount"
    MAX_BILLING_PER_ACCOUNT = "MaxBillingPerAccount"
    MAX_LICENSE_PER_ACCOUNT = "MaxLicensePerAccount"
    LAUNCH_FAILED_REQUEUED_HELD = "launch_failed_requeued_held"
    JOB_LAUNCH_FAILURE = "JobLaunchFailure"
    NON_ZERO_EXIT = "NonZeroExitCode"
    RAISED_SIGNAL = "RaisedSignal"
    NODE_DOWN = "NodeDown"
    TIME_LIMIT = "TimeLimit"
    DEADLINE = "DeadLine"
    OUT_OF_MEMORY = "OutOfMemory"
    PREEMPTED = "Preempted"
    PROLOG = "Prolog"
    CLEANING = "Cleaning"
    INVALID_WORK_DIR = "InvalidWorkDir"
    OUTPUT_UNWRITABLE = "OutputFileUnwritable"
    SYSTEM_FAILURE = "SystemFailure"


class LaunchFailure(StrEnum):
    """What stopped a script before its first instruction; the shepherd's and helixd's vocabulary."""

    NONE = ""
    WORK_DIR = "work_dir"  # cannot enter the working directory
    STDIO = "stdio"  # cannot open stdin, stdout or stderr
    EXEC = "exec"  # execve failed (no interpreter, bad format)
    IDENTITY = "identity"  # cannot become the user
    LIMITS = "limits"  # cannot set a propagated limit
    CGROUP = "cgroup"  # cannot confine the step
    SPAWN = "spawn"  # cannot start the shepherd (no processes, no memory)
    CREDENTIAL = "credential"  # signature, audience or expiry refused
    NOT_STARTED = "not_started"  # helixd was restarted before the script ran; nothing of it ever did
    SHEPHERD_LOST = "shepherd_lost"  # the shepherd died without an exit record
    BLOB = "blob"  # script or environment not to be had
    SPOOL = "spool"  # node's spool directory full or unwritable
    REBOOT = "reboot"  # node's boot id changed while the job was there
