"""The key table: complete, consistent with the records, and readable."""

from __future__ import annotations

import msgspec
import pytest

from helix.config.key import Key, Kind, Status
from helix.config.keys import (
    CGROUP_KEYS,
    GRES_KEYS,
    LINES,
    NODE_KEYS,
    PARAMS,
    PARTITION_KEYS,
    SECTIONS,
    SETTINGS,
    SLURM_ONLY,
    find_in,
    find_setting,
    names_of,
    nearest,
)
from helix.config.model import Config, ControllerHost, NodeConf, PartitionConf, SchedulerParams
from helix.config.values import default_value, format_value, parse_value

TABLES: dict[str, tuple[Key, ...]] = {
    "settings": SETTINGS,
    "slurm": SLURM_ONLY,
    "cgroup": CGROUP_KEYS,
    "gres": GRES_KEYS,
    **LINES,
    **PARAMS,
}

#: Cluster-wide keys of slurm.conf 22.05 as its manual lists them (names only).
SLURM_22 = """
AccountingStorageTRES AccountingStorageEnforce AccountingStorageExternalHost AccountingStorageHost
AccountingStorageBackupHost AccountingStorageParameters AccountingStoragePass AccountingStoragePort
AccountingStorageType AccountingStorageUser AccountingStoreFlags AcctGatherEnergyType AcctGatherNodeFreq
AcctGatherProfileType AcctGatherInterconnectType AcctGatherFilesystemType AllowSpecResourcesUsage AuthAltTypes
AuthAltParameters AuthInfo AuthType BatchStartTimeout BcastExclude BcastParameters BurstBufferType
CliFilterPlugins ClusterName CommunicationParameters CompleteWait CoreSpecPlugin CpuFreqDef CpuFreqGovernors
CredType DebugFlags DefCPUPerGPU DefMemPerCPU DefMemPerGPU DefMemPerNode DependencyParameters DisableRootJobs
EioTimeout EnforcePartLimits Epilog EpilogMsgTime EpilogSlurmctld FairShareDampeningFactor
FederationParameters FirstJobId GetEnvTimeout GpuFreqDef GresTypes GroupUpdateForce GroupUpdateTime
HealthCheckInterval HealthCheckNodeState HealthCheckProgram InactiveLimit Include InteractiveStepOptions
JobAcctGatherType JobAcctGatherFrequency JobAcctGatherParams JobCompHost JobCompLoc JobCompParams JobCompPass
JobCompPort JobCompType JobCompUser JobContainerType JobFileAppend JobRequeue JobSubmitPlugins KillOnBadExit
KillWait LaunchParameters Licenses LogTimeFormat MailDomain MailProg MaxArraySize MaxBatchRequeue MaxDBDMsgs
MaxJobCount MaxJobId MaxMemPerCPU MaxMemPerNode MaxNodeCount MaxStepCount MaxTasksPerNode MCSParameters
MCSPlugin MessageTimeout MinJobAge MpiDefault MpiParams NodeFeaturesPlugins OverTimeLimit PluginDir
PlugStackConfig PowerParameters PowerPlugin PreemptExemptTime PreemptMode PreemptType PreemptParameters
PrEpParameters PrEpPlugins PriorityCalcPeriod PriorityDecayHalfLife PriorityFavorSmall PriorityFlags
PriorityMaxAge PriorityParameters PrioritySiteFactorParameters PrioritySiteFactorPlugin PriorityType
PriorityUsageResetPeriod PriorityWeightAge PriorityWeightAssoc PriorityWeightFairshare PriorityWeightJobSize
PriorityWeightPartition PriorityWeightQOS PriorityWeightTRES PrivateData ProctrackType Prolog
PrologEpilogTimeout PrologFlags PrologSlurmctld PropagatePrioProcess PropagateResourceLimits
PropagateResourceLimitsExcept RebootProgram ReconfigFlags RequeueExit RequeueExitHold ResumeFailProgram
ResumeProgram ResumeRate ResumeTimeout ResvEpilog ResvOverRun ResvProlog ReturnToService RoutePlugin
SallocDefaultCommand SbcastParameters SchedulerParameters SchedulerTimeSlice SchedulerType ScronParameters
SelectType SelectTypeParameters SlurmctldAddr SlurmctldDebug SlurmctldHost SlurmctldLogFile
SlurmctldParameters SlurmctldPidFile SlurmctldPort SlurmctldPrimaryOffProg SlurmctldPrimaryOnProg
SlurmctldSyslogDebug SlurmctldTimeout SlurmdDebug SlurmdLogFile SlurmdParameters SlurmdPidFile SlurmdPort
SlurmdSpoolDir SlurmdSyslogDebug SlurmdTimeout SlurmdUser SlurmSchedLogFile SlurmSchedLogLevel SlurmUser
SrunEpilog SrunPortRange SrunProlog StateSaveLocation SuspendExcNodes SuspendExcParts SuspendExcStates
SuspendProgram SuspendRate SuspendTime SuspendTimeout SwitchParameters SwitchType TaskEpilog TaskPlugin
TaskPluginParam TaskProlog TCPTimeout TmpFS TopologyParam TopologyPlugin TrackWCKey TreeWidth
UnkillableStepProgram UnkillableStepTimeout UsePAM VSizeFactor WaitTime X11Parameters ControlMachine
ControlAddr BackupController BackupAddr CryptoType FastSchedule TLSType TLSParameters CertmgrType HashPlugin
"""


def test_every_key_of_slurm_conf_is_known() -> None:
    assert [name for name in SLURM_22.split() if name != "Include" and find_setting(name) is None] == []


@pytest.mark.parametrize("table", TABLES)
def test_names_are_unique_and_docs_are_sentences(table: str) -> None:
    keys = TABLES[table]
    names = [name.lower() for name in names_of(keys)]
    assert sorted(names) == sorted(set(names))
    for key in keys:
        assert key.doc.endswith("."), key.name
        assert "  " not in key.doc, key.name
        assert key.doc[0].isupper() or key.doc.startswith(
            ("sched/", "priority/", "--", "hctl", "helixd", "scrontab")
        ), key.name
        assert key.form


def test_a_name_is_either_honoured_or_slurms() -> None:
    assert {n.lower() for n in names_of(SETTINGS)} & {n.lower() for n in names_of(SLURM_ONLY)} == set()
    assert all(key.status is not Status.HONOURED for key in SLURM_ONLY)


def test_every_setting_has_a_section_and_a_field() -> None:
    sections = {name for name, _ in SECTIONS}
    assert all(key.section in sections and key.attr for key in SETTINGS)


@pytest.mark.parametrize("table", TABLES)
def test_defaults_are_valid_and_read_back(table: str) -> None:
    for key in TABLES[table]:
        value = default_value(key)
        if key.default:
            assert parse_value(key, format_value(key, value)) == value, key.name
        if key.example:
            parse_value(key, key.example)


def test_defaults_of_the_records_are_those_of_the_table() -> None:
    config = Config()
    for key in SETTINGS:
        value = default_value(key)
        if key.kind is Kind.HOSTS:
            value = tuple(ControllerHost(*host) for host in value)
        assert getattr(config, key.attr) == value, key.name
    for key in PARAMS["SchedulerParameters"]:
        if key.attr:
            assert getattr(SchedulerParams(), key.attr) == default_value(key), key.name


@pytest.mark.parametrize(
    ("record", "keys", "derived"),
    [
        (
            NodeConf(name="n", hostname="n", addr="n"),
            NODE_KEYS,
            {"hostname", "addr", "port", "cpus", "sockets", "sockets_per_board"},
        ),
        (
            PartitionConf(name="p"),
            PARTITION_KEYS,
            {"nodes", "allow_groups", "allow_accounts", "allow_qos", "alloc_nodes"},
        ),
    ],
)
def test_fields_of_line_records_are_those_of_the_table(
    record: NodeConf | PartitionConf, keys: tuple[Key, ...], derived: set[str]
) -> None:
    attrs = {key.attr for key in keys if key.attr}
    assert set(record.__struct_fields__) - {"name", "nodes_text"} == attrs - {"sockets_per_board"}
    for key in keys:
        if key.attr and key.attr not in derived:
            assert getattr(record, key.attr) == default_value(key), key.name


def test_every_field_of_config_is_set_by_a_key_or_derived() -> None:
    fields = {field.name for field in msgspec.structs.fields(Config)}
    derived = {"source", "hash", "warnings", "scheduler", "nodes", "partitions", "switches", "may_claim_more"}
    assert fields - derived == {key.attr for key in SETTINGS}


def test_lookup_ignores_case_and_knows_aliases() -> None:
    key = find_setting("slurmctldhost")
    assert key is not None
    assert key.name == "HelixctldHost"
    assert find_in(NODE_KEYS, "FEATURES") is find_in(NODE_KEYS, "feature")
    assert nearest("KilWait", names_of(SETTINGS)) == "KillWait"
    assert nearest("Zzzzz", names_of(SETTINGS)) == ""


@pytest.mark.parametrize(
    ("kind", "extra", "text", "value"),
    [
        (Kind.BOOL, {}, "yes", True),
        (Kind.BOOL, {}, "0", False),
        (Kind.LEVEL, {}, "3", "info"),
        (Kind.LEVEL, {}, "Debug2", "debug2"),
        (Kind.PORT, {}, "6820-6830", 6820),
        (Kind.HOSTS, {}, "a,b(10.0.0.1)", (("a", "a"), ("b", "10.0.0.1"))),
        (Kind.TIME, {}, "1-0", 86400),
        (Kind.INT, {"zero": "UNLIMITED"}, "infinite", 0),
        (Kind.TIME, {"none": "NONE"}, "none", None),
        (Kind.PARAMS, {}, "a,b=1, c=x=y", {"a": "", "b": "1", "c": "x=y"}),
        (Kind.SHARING, {}, "force:4", "FORCE:4"),
        (Kind.CHOICES, {"choices": ("A", "B")}, "b,a", ("B", "A")),
        (Kind.INTERVAL, {}, "0.25", 0.25),
        (Kind.BYTES, {}, "4M", 4 << 20),
    ],
)
def test_kinds_of_values(kind: Kind, extra: dict[str, object], text: str, value: object) -> None:
    key = Key(name="X", doc="X.", kind=kind, **extra)  # type: ignore[arg-type]
    assert parse_value(key, text) == value
    assert parse_value(key, format_value(key, value)) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.BOOL, "maybe"),
        (Kind.LEVEL, "10"),
        (Kind.LEVEL, "loud"),
        (Kind.PORT, "70000"),
        (Kind.PORT, "-1"),
        (Kind.HOSTS, "a b"),
        (Kind.HOSTS, "a("),
        (Kind.TIME, "soon"),
        (Kind.INT, "1.5"),
        (Kind.INT, "1_000"),
        (Kind.INT, "١"),
        (Kind.INT, "9" * 30),
        (Kind.PATH, "relative/path"),
        (Kind.TEXT, "a\x1b[31m"),
        (Kind.PARAMS, "=1"),
        (Kind.SHARING, "SOMETIMES"),
        (Kind.PLUGIN, "fifo"),
        (Kind.PLUGIN, "sched/../x/y"),
        (Kind.INTERVAL, "inf"),
        (Kind.MEM, "lots"),
        (Kind.HOSTLIST, "n[1"),
    ],
)
def test_bad_values_are_refused(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_value(Key(name="X", doc="X.", kind=kind), text)
