"""The cluster-wide keys of slurm.conf (21.08 to 25.05, and older ones still found) that have no effect yet or ever.

They are accepted, so that a slurm.conf is a valid start; `hctl config check` shows the reason given here.  LATER means
that Helix plans the feature, IGNORED that it has no place in Helix.
"""

from __future__ import annotations

from helix.config.key import Key, Status

_ACCOUNTING = "Helix keeps no accounting database in this version."
_GATHER = "Usage is measured by the shepherd; other collectors are not part of this version."
_AUTH = "Helix authenticates with a key pair for each host and needs no authentication plugin."
_BACKUP = "A second controller is not part of this version."
_BURST = "Burst buffers are not supported."
_CRAY = "It concerned Cray or BlueGene systems."
_FED = "Federations are not supported."
_GONE = "Slurm itself has removed it."
_HOOK = "Hooks are not part of this version."
_JOBCOMP = "Job completion plugins are not part of this version."
_MPI = "Steps with MPI are not part of this version."
_POWER = "Power saving is not part of this version."
_PROTO = "Helix has its own protocol, in which this is not a choice."
_SCRON = "scrontab is not part of this version."
_STEP = "Interactive jobs and steps are not part of this version."
_SYSLOG = "Helix logs to a file or to standard error, which the journal of systemd takes."
_SWITCH = "Helix routes nothing through switches and gives out none of their resources."

_LATER: dict[str, str] = {
    **dict.fromkeys(
        (
            "AccountingStorageBackupHost",
            "AccountingStorageExternalHost",
            "AccountingStorageHost",
            "AccountingStorageLoc",
            "AccountingStorageParameters",
            "AccountingStoragePass",
            "AccountingStoragePort",
            "AccountingStorageTRES",
            "AccountingStorageType",
            "AccountingStorageUser",
            "AccountingStoreFlags",
            "AccountingStoreJobComment",
            "MaxDBDMsgs",
            "TrackWCKey",
        ),
        _ACCOUNTING,
    ),
    **dict.fromkeys(
        (
            "AcctGatherEnergyType",
            "AcctGatherFilesystemType",
            "AcctGatherInterconnectType",
            "AcctGatherNodeFreq",
            "AcctGatherProfileType",
            "JobAcctGatherFrequency",
            "JobAcctGatherParams",
            "JobAcctGatherType",
        ),
        _GATHER,
    ),
    **dict.fromkeys(("BackupAddr", "BackupController"), _BACKUP),
    **dict.fromkeys(("BurstBufferParameters", "BurstBufferType"), _BURST),
    "GpuFreqDef": "The frequency of GPUs is not set in this version.",
    **dict.fromkeys(
        (
            "EpilogSlurmctld",
            "EpilogTimeout",
            "HealthCheckNodeState",
            "PrEpParameters",
            "PrEpPlugins",
            "PrologEpilogTimeout",
            "PrologFlags",
            "PrologSlurmctld",
            "PrologTimeout",
            "ResvEpilog",
            "ResvProlog",
            "SrunEpilog",
            "SrunProlog",
            "TaskEpilog",
            "TaskProlog",
            "UnkillableStepProgram",
            "CliFilterPlugins",
            "CliFilterParameters",
            "JobSubmitPlugins",
            "PlugStackConfig",
        ),
        _HOOK,
    ),
    **dict.fromkeys(
        (
            "JobCompHost",
            "JobCompLoc",
            "JobCompParams",
            "JobCompPass",
            "JobCompPassScript",
            "JobCompPort",
            "JobCompType",
            "JobCompUser",
        ),
        _JOBCOMP,
    ),
    **dict.fromkeys(("MpiDefault", "MpiParams"), _MPI),
    **dict.fromkeys(
        (
            "PowerParameters",
            "PowerPlugin",
            "RebootProgram",
            "ResumeFailProgram",
            "ResumeProgram",
            "ResumeRate",
            "ResumeTimeout",
            "SuspendExcNodes",
            "SuspendExcParts",
            "SuspendExcStates",
            "SuspendProgram",
            "SuspendRate",
            "SuspendTime",
            "SuspendTimeout",
        ),
        _POWER,
    ),
    "PriorityParameters": "No built-in plugin has such parameters.",
    **dict.fromkeys(
        ("PrioritySiteFactorParameters", "PrioritySiteFactorPlugin"),
        "The site factor of a job is set with hctl update job ID SiteFactor=N.",
    ),
    "ScronParameters": _SCRON,
    **dict.fromkeys(
        (
            "BcastExclude",
            "BcastParameters",
            "InteractiveStepOptions",
            "KillOnBadExit",
            "LaunchType",
            "MaxStepCount",
            "MaxTasksPerNode",
            "SallocDefaultCommand",
            "SbcastParameters",
            "SrunPortRange",
            "WaitTime",
            "X11Parameters",
            "EioTimeout",
            "TaskPluginParam",
            "CpuFreqDef",
            "CpuFreqGovernors",
        ),
        _STEP,
    ),
    **dict.fromkeys(("RoutePlugin", "SwitchParameters", "SwitchType"), _SWITCH),
    "AllowSpecResourcesUsage": "Specialised cores cannot be overridden by jobs in this version.",
    "CoreSpecPlugin": "Specialised cores are kept free without a plugin.",
    "DependencyParameters": "Dependencies follow sbatch(1); their options are not part of this version.",
    "DisableRootJobs": "Use DisableRootJobs of the partitions.",
    "JobContainerType": "Job containers are not part of this version.",
    "NamespaceType": "Job containers are not part of this version.",
    "NamespacePlugin": "Job containers are not part of this version.",
    "JobFileAppend": "Jobs choose with --open-mode; the default truncates.",
    "LogTimeFormat": "Logs have ISO 8601 times with a zone.",
    "MaxBatchRequeue": "Launch failures in a row hold a job by a built-in limit.",
    "MaxJobId": "Ids have 64 bits and are never used again.",
    "MaxNodeCount": "The number of nodes is that of the configuration.",
    "MCSParameters": "Multi-category security is not part of this version.",
    "MCSPlugin": "Multi-category security is not part of this version.",
    "NodeFeaturesPlugins": "Features that need a reboot are not part of this version.",
    "OverTimeLimit": "Jobs end at their time limit.",
    "PrivateData": "Every user sees the queue in this version.",
    "PropagatePrioProcess": "Jobs start with the priority of helixd.",
    "RequeueExit": "Requeue by exit code is not part of this version.",
    "RequeueExitHold": "Requeue by exit code is not part of this version.",
    "UsePAM": "PAM sessions are not part of this version.",
    "VSizeFactor": "Virtual memory is not limited.",
}

_IGNORED: dict[str, str] = {
    **dict.fromkeys(
        (
            "AuthAltParameters",
            "AuthAltTypes",
            "AuthInfo",
            "AuthType",
            "CertgenParameters",
            "CertgenType",
            "CertmgrParameters",
            "CertmgrType",
            "CredType",
            "CryptoType",
            "HashPlugin",
            "JobCredentialPrivateKey",
            "JobCredentialPublicCertificate",
            "TLSParameters",
            "TLSType",
        ),
        _AUTH,
    ),
    **dict.fromkeys(
        (
            "CommunicationParameters",
            "DataParserParameters",
            "HttpParserType",
            "KeepAliveTime",
            "MetricsType",
            "TCPTimeout",
            "TreeWidth",
            "UrlParserType",
            "EpilogMsgTime",
            "MaxMessageSize",
        ),
        _PROTO,
    ),
    **dict.fromkeys(("FederationParameters",), _FED),
    **dict.fromkeys(("SlurmctldSyslogDebug", "SlurmdSyslogDebug", "SlurmSchedLogFile", "SlurmSchedLogLevel"), _SYSLOG),
    **dict.fromkeys(("SlurmctldPrimaryOffProg", "SlurmctldPrimaryOnProg"), _BACKUP),
    **dict.fromkeys(("ExtSensorsFreq", "ExtSensorsType"), _GONE),
    **dict.fromkeys(
        (
            "AcctGatherInfinibandType",
            "CacheGroups",
            "CheckpointType",
            "DefaultStorageHost",
            "DefaultStorageLoc",
            "DefaultStoragePass",
            "DefaultStoragePort",
            "DefaultStorageType",
            "DefaultStorageUser",
            "DynAllocPort",
            "FastSchedule",
            "GroupUpdateForce",
            "GroupUpdateTime",
            "JobCheckpointDir",
            "LicensesUsed",
            "MemLimitEnforce",
            "NoHoldOnPrologFail",
            "PriorityWeightWCKey",
            "SchedulerAuth",
            "SchedulerPort",
            "SchedulerRootFilter",
            "SlurmctldPlugstack",
            "SlurmdPlugstack",
        ),
        "Slurm has removed it, or Helix has no counterpart.",
    ),
    "GetEnvTimeout": "--get-user-env has a built-in time limit.",
    "ReconfigFlags": "hctl reconfigure keeps the states of nodes and partitions that were set by hand.",
    "SlurmdUser": "helixd runs as the user who starts it, usually root.",
    "SlurmctldStandaloneMode": _CRAY,
    "SluidParameters": "Ids have 64 bits and are never used again.",
}

SLURM_ONLY: tuple[Key, ...] = tuple(
    sorted(
        [Key(name=name, doc=why, status=Status.LATER) for name, why in _LATER.items()]
        + [Key(name=name, doc=why, status=Status.IGNORED) for name, why in _IGNORED.items()],
        key=lambda key: key.name.lower(),
    )
)
