"""The keys of cgroup.conf, gres.conf and topology.conf.

Helix does not read cgroup.conf in this version; its table makes `hctl config check` and the example files complete.
"""

from __future__ import annotations

from helix.config.key import Key, Kind, Status

_LATER = Status.LATER
_GONE = Key(name="", doc="Slurm itself has removed it.", status=Status.IGNORED)

CGROUP_KEYS: tuple[Key, ...] = (
    Key(
        name="CgroupPlugin",
        default="autodetect",
        status=_LATER,
        doc="Version of the control group interface. Helix uses version 2 only.",
    ),
    Key(
        name="CgroupMountpoint",
        kind=Kind.PATH,
        default="/sys/fs/cgroup",
        status=_LATER,
        doc="Where the control group file system is.",
    ),
    Key(
        name="ConstrainCores",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether a job can use only the cores it was given.",
    ),
    Key(
        name="ConstrainRAMSpace",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether a job can use only the memory it was given.",
    ),
    Key(
        name="ConstrainSwapSpace",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether a job's swap space is limited.",
    ),
    Key(
        name="ConstrainDevices",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether a job can open only the devices it was given.",
    ),
    Key(
        name="AllowedRAMSpace",
        kind=Kind.INT,
        default="100",
        unit="percent",
        status=_LATER,
        doc="Memory limit in percent of the memory given.",
    ),
    Key(
        name="AllowedSwapSpace",
        kind=Kind.INT,
        default="0",
        unit="percent",
        status=_LATER,
        doc="Swap limit in percent of the memory given.",
    ),
    Key(
        name="MaxRAMPercent",
        default="100",
        unit="percent",
        status=_LATER,
        doc="Upper bound of a job's memory limit, in percent of the node's memory.",
    ),
    Key(
        name="MaxSwapPercent",
        default="100",
        unit="percent",
        status=_LATER,
        doc="Upper bound of a job's swap limit, in percent of the node's memory.",
    ),
    Key(
        name="MinRAMSpace",
        kind=Kind.MEM,
        default="30",
        unit="MiB",
        status=_LATER,
        doc="Lower bound of a job's memory limit.",
    ),
    Key(name="MemorySwappiness", status=_LATER, doc="Swappiness of a job's control group."),
    Key(
        name="IgnoreSystemd",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether the control group is made without asking systemd.",
    ),
    Key(
        name="IgnoreSystemdOnFailure",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether the control group is made by hand when systemd does not answer.",
    ),
    Key(
        name="EnableControllers",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether missing controllers are enabled from the root of the hierarchy down.",
    ),
    Key(
        name="SystemdTimeout",
        kind=Kind.INT,
        default="1000",
        unit="milliseconds",
        status=_LATER,
        doc="How long to wait for systemd.",
    ),
    Key(
        name="SignalChildrenProcesses",
        kind=Kind.BOOL,
        default="NO",
        status=_LATER,
        doc="Whether signals go to all processes of a step rather than to the tasks.",
    ),
    Key(name="EnableExtraControllers", status=_LATER, doc="Further controllers to enable."),
    Key(name="CgroupSlice", status=_LATER, doc="Slice of systemd that the steps are put under."),
    *(
        Key(name=name, doc=_GONE.doc, status=_GONE.status)
        for name in (
            "AllowedDevicesFile",
            "AllowedKmemSpace",
            "CgroupAutomount",
            "CgroupReleaseAgentDir",
            "ConstrainKmemSpace",
            "MaxKmemPercent",
            "MinKmemSpace",
            "TaskAffinity",
        )
    ),
)

GRES_KEYS: tuple[Key, ...] = (
    Key(
        name="Name",
        attr="name",
        example="gpu",
        doc="Name of the resource: gpu, shard, nic or another word; GresTypes in helix.conf lists it. A line adds to "
        "what Gres= of the node lines says: how many units of which type there are. The node's Gres= says how many "
        "jobs get.",
    ),
    Key(name="Type", attr="type", example="a100", doc="Type of the resource, for requests such as gpu:a100:2."),
    Key(
        name="File",
        attr="file",
        example="/dev/nvidia[0-3]",
        doc="Device files, as a host list: one unit each. They are counted; jobs are not kept from devices of other "
        "jobs in this version.",
    ),
    Key(name="Count", attr="count", doc="How many units there are: by default one for each device file, or 1."),
    Key(name="Cores", status=_LATER, example="0-15", doc="Cores next to the devices."),
    Key(name="Links", status=_LATER, doc="Links to the other devices, one number for each."),
    Key(name="AutoDetect", status=_LATER, example="nvml", doc="How devices are found: nvml, rsmi, nvidia, off."),
    Key(
        name="NodeName",
        attr="nodes",
        doc="Nodes the line is for, as a host list; without it, all that have the resource.",
    ),
    Key(name="Flags", status=_LATER, doc="Flags of the resource, such as CountOnly."),
    Key(name="MultipleFiles", attr="files", doc="Device files that together make one unit."),
    Key(name="Ignore", status=Status.IGNORED, doc="Slurm itself has removed it."),
)

SWITCH_KEYS: tuple[Key, ...] = (
    Key(name="SwitchName", example="leaf1", doc="Name of a switch."),
    Key(name="Nodes", attr="nodes", kind=Kind.HOSTLIST, doc="Nodes at the switch; only a leaf of the tree has nodes."),
    Key(name="Switches", attr="switches", doc="Switches below it, as a host list."),
    Key(name="LinkSpeed", status=_GONE.status, doc="Slurm does not use it either."),
)

BLOCK_KEYS: tuple[Key, ...] = (
    Key(name="BlockName", example="b1", doc="Name of a block of nodes."),
    Key(name="Nodes", attr="nodes", kind=Kind.HOSTLIST, doc="Nodes of the block."),
)
