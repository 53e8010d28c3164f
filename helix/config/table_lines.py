"""The keys of node, partition and other lines that hold several Key=Value."""

from __future__ import annotations

from helix.config.key import Key, Kind, Status
from helix.config.table_preempt import MODES

NODE_STATES = ("UNKNOWN", "DOWN", "DRAIN", "FAIL", "FAILING", "FUTURE", "CLOUD", "IDLE")
PARTITION_STATES = ("UP", "DOWN", "DRAIN", "INACTIVE")

NODE_KEYS: tuple[Key, ...] = (
    Key(
        name="NodeName",
        kind=Kind.HOSTLIST,
        doc="Names of the nodes the line describes, as a host list: NodeName=n[01-64]. NodeName=DEFAULT sets what the "
        "lines after it need not repeat. A name becomes part of paths and has only letters, digits, _ . and -.",
    ),
    Key(
        name="NodeHostname",
        attr="hostname",
        kind=Kind.HOSTLIST,
        reloadable=False,
        doc="What gethostname(2) returns on the nodes, when it is not NodeName: as many names as NodeName has, or one "
        "name for all of them (several nodes on one host, for tests).",
    ),
    Key(
        name="NodeAddr",
        attr="addr",
        reloadable=False,
        doc="Addresses of the nodes, as many as NodeName has names, or one for all. The default is NodeHostname.",
    ),
    Key(
        name="Port",
        attr="port",
        reloadable=False,
        doc="Port of helixd on the nodes, one or a range with a port for each node. The default is HelixdPort.",
    ),
    Key(
        name="CPUs",
        attr="cpus",
        kind=Kind.INT,
        aliases=("Procs",),
        minimum=1,
        maximum=65535,
        doc="CPUs of a node that jobs may have: Sockets x CoresPerSocket x ThreadsPerCore, or one a core. The default "
        "is that product.",
    ),
    Key(
        name="Boards",
        attr="boards",
        kind=Kind.INT,
        default="1",
        minimum=1,
        maximum=1024,
        doc="Baseboards of a node.",
    ),
    Key(
        name="SocketsPerBoard",
        attr="sockets_per_board",
        kind=Kind.INT,
        minimum=1,
        maximum=1024,
        doc="Sockets on each board; Sockets and SocketsPerBoard exclude each other.",
    ),
    Key(
        name="Sockets",
        attr="sockets",
        kind=Kind.INT,
        minimum=1,
        maximum=65535,
        doc="Processor sockets of a node. The default follows from CPUs, CoresPerSocket and ThreadsPerCore, and is 1 "
        "for each board without CPUs.",
    ),
    Key(
        name="CoresPerSocket",
        attr="cores_per_socket",
        kind=Kind.INT,
        default="1",
        minimum=1,
        maximum=65535,
        doc="Cores in each socket.",
    ),
    Key(
        name="ThreadsPerCore",
        attr="threads_per_core",
        kind=Kind.INT,
        default="1",
        minimum=1,
        maximum=1024,
        doc="Hardware threads of each core.",
    ),
    Key(
        name="RealMemory",
        attr="real_memory_mib",
        kind=Kind.MEM,
        default="1",
        unit="MiB",
        minimum=1,
        doc="Memory of a node. A node that registers with less is drained with the difference as reason.",
    ),
    Key(
        name="MemSpecLimit",
        attr="mem_spec_limit_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        status=Status.LATER,
        doc="Part of RealMemory kept for the system; jobs cannot have it.",
    ),
    Key(
        name="CoreSpecCount",
        attr="core_spec_count",
        kind=Kind.INT,
        default="0",
        minimum=0,
        maximum=65535,
        status=Status.LATER,
        doc="Cores kept for the system; jobs cannot have them. The cores with the highest numbers are kept.",
    ),
    Key(
        name="TmpDisk",
        attr="tmp_disk_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        doc="Space in TmpFS.",
    ),
    Key(
        name="Weight",
        attr="weight",
        kind=Kind.INT,
        default="1",
        minimum=0,
        maximum=(1 << 32) - 2,
        doc="Nodes with less weight are given out first.",
    ),
    Key(
        name="Feature",
        attr="features",
        kind=Kind.LIST,
        aliases=("Features",),
        doc="Words that jobs may ask for with --constraint.",
    ),
    Key(
        name="Attr",
        attr="attrs",
        kind=Kind.PARAMS,
        example="rack=7,cooling=water",
        doc="Attributes that --require and --rank of hsubmit may name as attr.NAME, comma-separated: Attr=rack=7. An "
        "attribute is a number if every node that has it gives one, and a text otherwise.",
    ),
    Key(
        name="Admit",
        attr="admit",
        example="account == 'physics' or time_limit <= 2h",
        doc="A condition over the job (see helix-expressions(7)), in double quotes. Only jobs for which it is true may "
        "use the nodes; the default takes all.",
    ),
    Key(
        name="Gres",
        attr="gres",
        example="gpu:a100:4,nvme:1",
        doc="Generic resources of a node as name[:type][:count], comma-separated: Gres=gpu:a100:4,nvme:1. GresTypes "
        "lists the names. Lines of gres.conf may add types and must have at least as many units.",
    ),
    Key(
        name="State",
        attr="state",
        kind=Kind.CHOICE,
        default="UNKNOWN",
        choices=NODE_STATES,
        doc="State of a node that the controller does not know yet: UNKNOWN until it registers, DOWN, DRAIN or FAIL "
        "to keep it out of use, FUTURE for a node that does not exist yet. IDLE means UNKNOWN. A node that is known "
        "keeps the state it has.",
    ),
    Key(name="Reason", attr="reason", doc="Why the node is DOWN, DRAIN or FAIL."),
    Key(name="BcastAddr", status=Status.IGNORED, doc="Helix distributes files over the connection of its daemons."),
    Key(name="CPUSpecList", attr="cpu_spec_list", status=Status.LATER, doc="CPUs kept for the system, by number."),
    Key(name="CpuBind", status=Status.LATER, doc="How tasks are bound unless the job says it."),
    Key(name="RestrictedCoresPerGPU", status=Status.LATER, doc="Cores of each GPU that only its jobs may have."),
    Key(name="Topology", status=Status.LATER, doc="Place of a node in the network; topology.conf gives it."),
    Key(name="TRESWeights", status=Status.IGNORED, doc="No plugin of Helix weighs nodes by TRES."),
)

PARTITION_KEYS: tuple[Key, ...] = (
    Key(
        name="PartitionName",
        doc="Name of the partition. PartitionName=DEFAULT sets what the lines after it need not repeat.",
    ),
    Key(
        name="Nodes",
        attr="nodes",
        kind=Kind.HOSTLIST,
        doc="Nodes of the partition as a host list, names of NodeSet lines, or ALL.",
    ),
    Key(
        name="Default",
        attr="is_default",
        kind=Kind.BOOL,
        default="NO",
        doc="Whether jobs that name no partition go here. One partition at most says YES.",
    ),
    Key(
        name="State",
        attr="state",
        kind=Kind.CHOICE,
        default="UP",
        choices=PARTITION_STATES,
        doc="UP takes and starts jobs; DOWN takes but does not start; DRAIN starts but does not take; INACTIVE "
        "neither.",
    ),
    Key(
        name="MaxTime",
        attr="max_time_s",
        kind=Kind.TIME,
        default="UNLIMITED",
        unit="seconds",
        zero="UNLIMITED",
        doc="Longest time limit of a job.",
    ),
    Key(
        name="DefaultTime",
        attr="default_time_s",
        kind=Kind.TIME,
        unit="seconds",
        zero="UNLIMITED",
        none="NONE",
        doc="Time limit of a job that gives none. NONE, the default, stands for MaxTime.",
    ),
    Key(
        name="MinNodes",
        attr="min_nodes",
        kind=Kind.INT,
        default="0",
        minimum=0,
        maximum=1_000_000,
        doc="Fewest nodes of a job.",
    ),
    Key(
        name="MaxNodes",
        attr="max_nodes",
        kind=Kind.INT,
        default="UNLIMITED",
        minimum=0,
        maximum=1_000_000,
        zero="UNLIMITED",
        doc="Most nodes of a job.",
    ),
    Key(
        name="MaxCPUsPerNode",
        attr="max_cpus_per_node",
        kind=Kind.INT,
        default="UNLIMITED",
        minimum=0,
        maximum=65535,
        zero="UNLIMITED",
        doc="Most CPUs of each node that jobs of this partition have together.",
    ),
    Key(
        name="AllowGroups",
        attr="allow_groups",
        kind=Kind.LIST,
        default="ALL",
        doc="Groups whose members may use the partition; ALL for everybody. root always may.",
    ),
    Key(
        name="AllowAccounts",
        attr="allow_accounts",
        kind=Kind.LIST,
        default="ALL",
        doc="Accounts whose jobs may use the partition; ALL for each.",
    ),
    Key(
        name="DenyAccounts",
        attr="deny_accounts",
        kind=Kind.LIST,
        doc="Accounts whose jobs may not use the partition; has no effect beside AllowAccounts.",
    ),
    Key(
        name="AllowQos",
        attr="allow_qos",
        kind=Kind.LIST,
        default="ALL",
        doc="Qualities of service that may be used in the partition; ALL for each.",
    ),
    Key(
        name="DenyQos",
        attr="deny_qos",
        kind=Kind.LIST,
        doc="Qualities of service that may not be used in the partition; has no effect beside AllowQos.",
    ),
    Key(
        name="OverSubscribe",
        attr="oversubscribe",
        kind=Kind.SHARING,
        default="NO",
        aliases=("Shared",),
        doc="Whether jobs may share nodes: EXCLUSIVE gives each job whole nodes; NO shares nodes but no CPU; FORCE "
        "lets as many jobs as the number after a colon says (4 without one) take turns on each CPU; YES does so for "
        "jobs submitted with --oversubscribe. They take turns by time slices, so FORCE and YES need PreemptMode=GANG "
        "and are NO without it; memory must be enough for all of them.",
    ),
    Key(
        name="ExclusiveUser",
        attr="exclusive_user",
        kind=Kind.BOOL,
        default="NO",
        doc="Whether a node is given to the jobs of one user at a time.",
    ),
    Key(
        name="PriorityTier",
        attr="priority_tier",
        kind=Kind.INT,
        default="1",
        minimum=0,
        maximum=65533,
        doc="Jobs of a partition with a higher tier are considered before those of a lower one.",
    ),
    Key(
        name="PriorityJobFactor",
        attr="priority_job_factor",
        kind=Kind.INT,
        default="1",
        minimum=0,
        maximum=65533,
        doc="Weight of the partition in the priority of a job.",
    ),
    Key(
        name="DefMemPerCPU",
        attr="def_mem_per_cpu_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        zero="UNLIMITED",
        doc="As the cluster-wide key; replaces it for this partition.",
    ),
    Key(
        name="DefMemPerNode",
        attr="def_mem_per_node_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        zero="UNLIMITED",
        doc="As the cluster-wide key; replaces it for this partition.",
    ),
    Key(
        name="MaxMemPerCPU",
        attr="max_mem_per_cpu_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        zero="UNLIMITED",
        doc="As the cluster-wide key; replaces it for this partition.",
    ),
    Key(
        name="MaxMemPerNode",
        attr="max_mem_per_node_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        zero="UNLIMITED",
        doc="As the cluster-wide key; replaces it for this partition.",
    ),
    Key(
        name="Hidden",
        attr="hidden",
        kind=Kind.BOOL,
        default="NO",
        doc="Whether the partition and its jobs are left out of hinfo and hqueue unless asked for.",
    ),
    Key(
        name="RootOnly",
        attr="root_only",
        kind=Kind.BOOL,
        default="NO",
        doc="Whether only root and HelixUser may submit to the partition.",
    ),
    Key(
        name="DisableRootJobs",
        attr="disable_root_jobs",
        kind=Kind.BOOL,
        default="NO",
        doc="Whether root may not run jobs here.",
    ),
    Key(
        name="GraceTime",
        attr="grace_time_s",
        kind=Kind.SECONDS,
        default="0",
        unit="seconds",
        minimum=0,
        maximum=86400 * 30,
        doc="How long a job of this partition that has to end for another may go on after SIGCONT and SIGTERM, before "
        "SIGKILL; 0: for KillWait.",
    ),
    Key(
        name="PreemptMode",
        attr="preempt_mode",
        kind=Kind.CHOICES,
        choices=MODES,
        example="REQUEUE",
        doc="What becomes of jobs of this partition that make room, as the cluster's PreemptMode, which holds for "
        "partitions that say nothing.",
    ),
    Key(
        name="LLN",
        attr="lln",
        kind=Kind.BOOL,
        default="NO",
        doc="Whether the least loaded nodes are given out first.",
    ),
    Key(
        name="AllocNodes",
        attr="alloc_nodes",
        kind=Kind.LIST,
        default="ALL",
        status=Status.LATER,
        doc="Hosts from which jobs may be submitted to the partition.",
    ),
    Key(
        name="Alternate",
        attr="alternate",
        status=Status.LATER,
        doc="Partition that jobs go to while this one is DOWN, DRAIN or INACTIVE.",
    ),
    Key(
        name="QOS",
        attr="qos",
        doc="QOS of AssocFile whose limits hold for all jobs of the partition together. They stand before those of the "
        "job's own QOS, unless that has the flag OverPartQOS. A job that names several partitions keeps within the "
        "group limits of all their QOS.",
    ),
    Key(
        name="TRESBillingWeights",
        attr="tres_billing_weights",
        kind=Kind.WEIGHTS,
        example="CPU=1.0,Mem=0.25G,GRES/gpu=2.0",
        doc="What a job of the partition is charged for each of its TRES, a second; the sum is its billing TRES (see "
        "MAX_TRES of PriorityFlags). Mem=0.25G is a quarter for each GiB. Without it, one for each CPU.",
    ),
    Key(
        name="ReqResv",
        attr="req_resv",
        kind=Kind.BOOL,
        default="NO",
        status=Status.LATER,
        doc="Whether jobs must name a reservation.",
    ),
    Key(name="SuspendTime", attr="suspend_time", status=Status.LATER, doc="Idle time before a node is powered down."),
    Key(name="SuspendTimeout", status=Status.LATER, doc="Time a node may take to power down."),
    Key(name="ResumeTimeout", status=Status.LATER, doc="Time a node may take to power up."),
    Key(name="PowerDownOnIdle", status=Status.LATER, doc="Whether nodes are powered down as soon as they are idle."),
    Key(name="OverTimeLimit", status=Status.LATER, doc="Time a job may run beyond its limit."),
    Key(name="DefCpuPerGPU", status=Status.LATER, doc="CPUs for each GPU of a job that asks for none."),
    Key(name="DefMemPerGPU", status=Status.LATER, doc="Memory for each GPU of a job that asks for none."),
    Key(name="JobDefaults", status=Status.LATER, doc="Defaults of jobs that use GPUs."),
    Key(name="MaxCPUsPerSocket", status=Status.LATER, doc="Most CPUs of each socket jobs have together."),
    Key(name="SelectTypeParameters", status=Status.LATER, doc="What is given out in this partition."),
    Key(name="CpuBind", status=Status.LATER, doc="How tasks are bound unless the job says it."),
    Key(name="Topology", status=Status.LATER, doc="Topology used in this partition."),
    Key(name="Priority", status=Status.IGNORED, doc="Slurm replaced it by PriorityTier and PriorityJobFactor."),
    Key(name="ExclusiveTopo", status=Status.LATER, doc="Whether a block of the topology is given to one job."),
)

NODESET_KEYS: tuple[Key, ...] = (
    Key(name="NodeSet", doc="Name of a set of nodes that Nodes= of a partition may use."),
    Key(name="Nodes", kind=Kind.HOSTLIST, doc="Nodes of the set."),
    Key(name="Feature", doc="A feature; nodes that have it belong to the set."),
)

DOWN_KEYS: tuple[Key, ...] = (
    Key(name="DownNodes", kind=Kind.HOSTLIST, doc="Nodes that are not usable now, without editing their own line."),
    Key(name="Reason", doc="Why."),
    Key(
        name="State",
        kind=Kind.CHOICE,
        default="DOWN",
        choices=("DOWN", "DRAIN", "FAIL", "FAILING", "FUTURE", "UNKNOWN"),
        doc="State the nodes get, as State= of a node line.",
    ),
)

FRONTEND_KEYS: tuple[Key, ...] = tuple(
    Key(name=name, status=Status.IGNORED, doc="Front end nodes existed for Cray and BlueGene systems.")
    for name in (
        "FrontendName",
        "FrontendAddr",
        "AllowGroups",
        "AllowUsers",
        "DenyGroups",
        "DenyUsers",
        "Port",
        "Reason",
        "State",
    )
)
