"""Jobs, nodes and partitions in scontrol(1)'s `Key=Value` layout, from rows of JOB_ROW, NODE_ROW and PARTITION_ROW.

A record is a list of lines, a line a list of pairs; `layout` joins them indented, or all on one line (--oneliner).
What Helix does not have shows the value Slurm shows when it is not used.
"""

from __future__ import annotations

from helix.cli.moments import elapsed_padded, limit_padded, stamp_or
from helix.cli.queue_columns import memory, reason_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Row = dict[str, Any]
    Lines = list[list[tuple[str, object]]]

#: Files of standard output of jobs that name none (sbatch(1)); the node expands them.
DEFAULT_OUT, DEFAULT_ARRAY_OUT = "slurm-%j.out", "slurm-%A_%a.out"


def layout(lines: Lines, *, oneliner: bool) -> str:
    """The text of a record."""
    joined = [" ".join(f"{key}={value}" for key, value in line).replace("\n", "?") for line in lines if line]
    return " ".join(joined) if oneliner else "\n   ".join(joined)


def null(text: object) -> object:
    """Slurm's word for an absent text."""
    return text or "(null)"


def _yes(flag: object) -> str:
    return "YES" if flag else "NO"


def _state_of(job: Row) -> str:
    return str(job["state"])


def job_lines(job: Row, *, details: bool = False) -> Lines:
    """`scontrol show job`."""
    head: list[tuple[str, object]] = [("JobId", job["job_id"])]
    if job["array_job_id"] or job["array_pending"]:
        head.append(("ArrayJobId", job["array_job_id"] or job["job_id"]))
        if job["array_task_id"] is not None:
            head.append(("ArrayTaskId", job["array_task_id"]))
        elif job["array_pending"]:
            head.append(("ArrayTaskId", job["array_pending"]))
        if job["array_task_id"] is None and job["array_limit"]:
            head.append(("ArrayTaskThrottle", job["array_limit"]))
    if job["het_size"]:
        first = job["het_job_id"]
        head.append(("HetJobId", first))
        head.append(("HetJobOffset", job["het_offset"]))
        head.append(("HetJobIdSet", f"{first}-{first + job['het_size'] - 1}"))
    head.append(("JobName", job["name"]))
    nodes_max = job["nodes_max"]
    count = (
        f"{job['node_count']}-{nodes_max}" if nodes_max > job["node_count"] and not job["nodes"] else job["node_count"]
    )
    resources = f"cpu={job['cpus']}"
    if job["mem_mib"]:
        resources += f",mem={memory(job['mem_mib'])}"
    resources += f",node={job['node_count']},billing={job['cpus']}"
    default_out = DEFAULT_ARRAY_OUT if job["array_job_id"] or job["array_pending"] else DEFAULT_OUT
    stdout = job["stdout"] or f"{job['work_dir']}/{default_out}"
    mem = (
        ("MinMemoryCPU", memory(job["mem_per_cpu_mib"]))
        if job["mem_per_cpu_mib"]
        else ("MinMemoryNode", memory(job["mem_per_node_mib"]))
    )
    lines: Lines = [
        head,
        [
            ("UserId", f"{job['user']}({job['uid']})"),
            ("GroupId", f"{job['group']}({job['gid']})"),
            ("MCS_label", "N/A"),
        ],
        [
            ("Priority", job["priority"]),
            ("Nice", job["nice"]),
            ("Account", null(job["account"])),
            ("QOS", null(job["qos"])),
            *([("WCKey", job["wckey"])] if job["wckey"] else []),
        ],
        [
            ("JobState", _state_of(job)),
            ("Reason", reason_words(job["reason"], job["reason_text"]).replace(" ", "_")),
            ("Dependency", null(job["dependency"])),
        ],
        [
            ("Requeue", int(job["requeue"])),
            ("Restarts", job["attempt"]),
            ("BatchFlag", 1),
            ("Reboot", 0),
            ("ExitCode", job["exit_code"]),
        ],
        [("DerivedExitCode", job["derived_exit_code"])] if details else [],
        [
            ("RunTime", elapsed_padded(job["elapsed_s"])),
            ("TimeLimit", limit_padded(job["time_limit_s"])),
            ("TimeMin", limit_padded(job["time_min_s"] or None, "N/A")),
        ],
        [
            ("SubmitTime", stamp_or(job["t_submit"], "Unknown")),
            ("EligibleTime", stamp_or(job["t_eligible"], "Unknown")),
        ],
        [
            ("StartTime", stamp_or(job["t_start"] or job.get("t_expected") or job["t_begin"], "Unknown")),
            ("EndTime", stamp_or(job["t_end"], "Unknown")),
            ("Deadline", stamp_or(job["t_deadline"], "N/A")),
        ],
        [
            ("PreemptEligibleTime", stamp_or(job["t_preemptable"], "Unknown")),
            ("PreemptTime", stamp_or(job["t_preempt"], "None")),
        ]
        if job.get("t_preemptable") or job.get("t_preempt")
        else [],
        [
            ("SuspendTime", stamp_or(job.get("t_suspended") or 0.0, "None")),
            ("SecsPreSuspend", int(job["suspended_s"])),
        ],
        [("Partition", job["partition"]), ("AllocNode:Sid", f"{job['submit_host']}:0")],
        [("ReqNodeList", null(job["nodelist"])), ("ExcNodeList", null(job["exclude"]))],
        *([[("SchedNodeList", job["sched_nodes"])]] if job.get("sched_nodes") else []),
        [("NodeList", job["nodes"])],
        [("BatchHost", job["batch_host"])] if job["batch_host"] else [],
        [
            ("NumNodes", count),
            ("NumCPUs", job["cpus"]),
            ("NumTasks", job["tasks"]),
            ("CPUs/Task", job["cpus_per_task"]),
            ("ReqB:S:C:T", "0:0:*:*"),
        ],
        [("TRES", _with(resources, job["gres_tres"]))],
        [
            ("Socks/Node", job["sockets_per_node"] or "*"),
            (
                "NtasksPerN:B:S:C",
                f"{job['tasks_per_node']}:0:{job['tasks_per_socket'] or '*'}:{job['tasks_per_core'] or '*'}",
            ),
            ("CoreSpec", "*"),
        ],
    ]
    if details:
        lines.extend(
            [("Nodes", node), ("CPU_IDs", _cpu_ids(cpus)), ("GRES", (job.get("gres_given") or {}).get(node, ""))]
            for node, cpus in (job.get("cores") or {}).items()
        )
    lines += [
        [("MinCPUsNode", max(job["cpus_per_task"], job["cpus_min"])), mem, ("MinTmpDiskNode", memory(job["tmp_mib"]))],
        [("Features", null(job["constraint"])), ("DelayBoot", "00:00:00")],
        [("Prefer", job["prefer"])] if job["prefer"] else [],
        [("Require", job["require"])] if job["require"] else [],
        [("Rank", job["rank"])] if job["rank"] else [],
        [
            ("OverSubscribe", "NO" if job["exclusive"] else "YES" if job["oversubscribe"] else "OK"),
            ("Contiguous", int(job["contiguous"])),
            ("Licenses", null(job["licenses"])),
            ("Network", "(null)"),
        ],
        [("Reservation", job["reservation"])] if job["reservation"] else [],
        [("Command", job["command"])],
        [("WorkDir", job["work_dir"])],
        [("Comment", job["comment"])] if job["comment"] else [],
        [("SegmentSize", job["segment"])] if job["segment"] else [],
        [(_GRES_FLAGS[word], "Yes") for word in job["gres_flags"]],
        [("Switches", f"{job['switches']}@{_switch_wait(job)}")] if job["switches"] else [],
        *([(key, job[field])] for key, field in _TRES_ASKED if job[field]),
        [("StdErr", job["stderr"] or stdout)],
        [("StdIn", job["stdin"] or "/dev/null")],
        [("StdOut", stdout)],
        [("ReasonText", job["reason_text"])] if job["reason_text"] else [],
        [("SubmitLine", job["submit_line"])] if details and job["submit_line"] else [],
    ]
    return lines


def job_story(job: Row) -> list[str]:
    """The job's story, a line each: when, from, to, why."""
    return [
        f"   {stamp_or(float(t), 'Unknown')} {old or '-'} -> {new}" + (f": {cause}" if cause else "")
        for t, old, new, cause in job.get("story") or ()
    ]


#: what is asked of TRES, as scontrol names it -> field
_GRES_FLAGS = {
    "disable-binding": "GresDisableBind",
    "enforce-binding": "GresEnforceBind",
    "multiple-tasks-per-sharing": "GresMultipleTasksPerSharing",
    "one-task-per-sharing": "GresOneTaskPerSharing",
    "allow-task-sharing": "GresAllowTaskSharing",
}
_TRES_ASKED = (("TresPerJob", "gres_per_job"), ("TresPerNode", "gres_per_node"), ("TresPerTask", "gres_per_task"))


def _switch_wait(job: Row) -> str:
    wait_s = job["switch_wait_s"]
    return "max" if wait_s is None else elapsed_padded(wait_s)


def _with(first: str, more: str) -> str:
    return f"{first},{more}" if more else first


def _cpu_ids(cpus: list[int]) -> str:
    from helix.indexset import IndexSet

    return str(IndexSet.of(cpus))


#: states that scontrol shows as a state and a flag
_NODE_FLAGS = {
    "DRAINED": "IDLE+DRAIN",
    "DRAINING": "MIXED+DRAIN",
    "MAINT": "IDLE+MAINTENANCE",
    "RESERVED": "IDLE+RESERVED",
}


def node_lines(node: Row) -> Lines:
    """`scontrol show node`."""
    features = ",".join(node["features"]) or "(null)"
    silent = str(node["state"]).endswith("*")
    word = str(node["state"]).rstrip("*")
    state = _NODE_FLAGS.get(word, word)
    if node["reservations"] and word not in ("MAINT", "RESERVED"):
        state += "+MAINTENANCE" if node["maintenance"] else "+RESERVED"
    state += "*" if silent else ""
    lines: Lines = [
        [("NodeName", node["name"]), ("Arch", null(node["arch"])), ("CoresPerSocket", node["cores_per_socket"])],
        [
            ("CPUAlloc", node["cpus_alloc"]),
            ("CPUEfctv", node["cpus"]),
            ("CPUTot", node["cpus"]),
            ("CPULoad", f"{node['cpu_load']:.2f}"),
        ],
        [("AvailableFeatures", features)],
        [("ActiveFeatures", features)],
        [("Attr", ",".join(f"{name}={text}" for name, text in node["attrs"].items()))] if node["attrs"] else [],
        [("Admit", node["admit"])] if node["admit"] else [],
        [("Gres", null(node["gres"]))],
        [("GresUsed", node["gres_used"])] if node["gres_used"] else [],
        [
            ("NodeAddr", node["addr"] or node["name"]),
            ("NodeHostName", node["hostname"] or node["name"]),
            ("Version", null(node["version"])),
        ],
        [("OS", " ".join(text for text in (node["os"], node["kernel"]) if text))] if node["os"] else [],
        [
            ("RealMemory", node["memory_mib"]),
            ("AllocMem", node["mem_alloc_mib"]),
            ("FreeMem", node["free_mem_mib"]),
            ("Sockets", node["sockets"]),
            ("Boards", node["boards"]),
        ],
        [
            ("State", state),
            ("ThreadsPerCore", node["threads_per_core"]),
            ("TmpDisk", node["tmp_mib"]),
            ("Weight", node["weight"]),
            ("Owner", "N/A"),
            ("MCS_label", "N/A"),
        ],
        [("Partitions", ",".join(node["partitions"]))] if node["partitions"] else [],
        [
            ("BootTime", stamp_or(node["t_boot"], "None")),
            ("HelixdStartTime", stamp_or(node["t_helixd_start"], "None")),
        ],
        [("LastSeenTime", stamp_or(node["t_last_seen"], "None")), ("ClockSkew", f"{node['skew_s']:.3f}")],
        [
            (
                "CfgTRES",
                _with(f"cpu={node['cpus']},mem={memory(node['memory_mib'])},billing={node['cpus']}", node["gres_tres"]),
            )
        ],
        [
            (
                "AllocTRES",
                _with(f"cpu={node['cpus_alloc']},mem={memory(node['mem_alloc_mib'])}", node["gres_tres_alloc"])
                if node["cpus_alloc"] or node["gres_tres_alloc"]
                else "",
            )
        ],
    ]
    if node["reason"]:
        lines.append([("Reason", f"{node['reason']} [{node['reason_by']}@{stamp_or(node['t_reason'], 'Unknown')}]")])
    return lines


def _unlimited(number: int) -> object:
    return number or "UNLIMITED"


def _listed(names: list[str]) -> str:
    return ",".join(names) or "ALL"


def _memory_limit(kind: str, per_cpu: int, per_node: int) -> tuple[str, object]:
    if per_cpu:
        return f"{kind}MemPerCPU", per_cpu
    return f"{kind}MemPerNode", _unlimited(per_node)


def partition_lines(part: Row) -> Lines:
    """`scontrol show partition`."""
    accounts = (
        ("DenyAccounts", ",".join(part["deny_accounts"]))
        if part["deny_accounts"]
        else ("AllowAccounts", _listed(part["allow_accounts"]))
    )
    qos = ("DenyQos", ",".join(part["deny_qos"])) if part["deny_qos"] else ("AllowQos", _listed(part["allow_qos"]))
    return [
        [("PartitionName", part["name"])],
        [("AllowGroups", _listed(part["allow_groups"])), accounts, qos],
        [("AllocNodes", "ALL"), ("Default", _yes(part["is_default"])), ("QoS", part["qos"] or "N/A")],
        [
            ("DefaultTime", limit_padded(part["default_time_s"])),
            ("DisableRootJobs", _yes(part["disable_root_jobs"])),
            ("ExclusiveUser", _yes(part["exclusive_user"])),
            ("GraceTime", part["grace_time_s"]),
            ("Hidden", _yes(part["hidden"])),
        ],
        [
            ("MaxNodes", _unlimited(part["max_nodes"])),
            ("MaxTime", limit_padded(part["max_time_s"])),
            ("MinNodes", part["min_nodes"]),
            ("LLN", "NO"),
            ("MaxCPUsPerNode", _unlimited(part["max_cpus_per_node"])),
        ],
        [("Nodes", null(part["nodes"]))],
        [
            ("PriorityJobFactor", part["priority_job_factor"]),
            ("PriorityTier", part["priority_tier"]),
            ("RootOnly", _yes(part["root_only"])),
            ("ReqResv", "NO"),
            ("OverSubscribe", part["oversubscribe"]),
        ],
        [("OverTimeLimit", "NONE"), ("PreemptMode", part["preempt_mode"])],
        [
            ("State", part["state"]),
            ("TotalCPUs", part["total_cpus"]),
            ("TotalNodes", part["total_nodes"]),
            ("SelectTypeParameters", "NONE"),
        ],
        [("JobDefaults", "(null)")],
        [
            _memory_limit("Def", part["def_mem_per_cpu_mib"], part["def_mem_per_node_mib"]),
            _memory_limit("Max", part["max_mem_per_cpu_mib"], part["max_mem_per_node_mib"]),
        ],
        [
            (
                "TRES",
                f"cpu={part['total_cpus']},mem={memory(part['total_memory_mib'])},"
                f"node={part['total_nodes']},billing={part['total_cpus']}",
            )
        ],
    ]
