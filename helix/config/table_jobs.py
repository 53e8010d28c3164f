"""The keys about jobs as a whole: how many, how large, how long they are remembered.

Names, units and defaults are slurm.conf(5)'s; where they differ, the doc says so.
"""

from __future__ import annotations

from helix.config.key import Key, Kind

JOB_SETTINGS: tuple[Key, ...] = (
    Key(
        name="MinJobAge",
        attr="min_job_age_s",
        kind=Kind.SECONDS,
        default="300",
        unit="seconds",
        section="jobs",
        minimum=0,
        maximum=86400 * 365,
        doc="How long a job that is over stays in the controller's memory and in hqueue.",
    ),
    Key(
        name="ResvOverRun",
        attr="resv_over_run_min",
        kind=Kind.INT,
        default="0",
        unit="minutes",
        section="jobs",
        minimum=0,
        maximum=65535,
        none="UNLIMITED",
        doc="How long a job that runs in an advance reservation may run on when the reservation is over. UNLIMITED "
        "leaves it to its time limit.",
    ),
    Key(
        name="MaxJobCount",
        attr="max_job_count",
        kind=Kind.INT,
        default="1000000",
        section="jobs",
        minimum=1,
        maximum=100_000_000,
        doc="How many job records the controller keeps at once; a submission beyond it is refused. An array counts as "
        "one until its tasks start. Slurm's default is 10000.",
    ),
    Key(
        name="MaxArraySize",
        attr="max_array_size",
        kind=Kind.INT,
        default="1000001",
        section="jobs",
        minimum=0,
        maximum=4_000_001,
        doc="One more than the largest index of an array. 0 refuses arrays. Slurm's default is 1001.",
    ),
    Key(
        name="MaxScriptSize",
        attr="max_script_bytes",
        kind=Kind.BYTES,
        default="4M",
        unit="bytes",
        section="jobs",
        minimum=1,
        maximum=6 << 20,
        doc="Largest batch script. Helix's own key; SchedulerParameters=max_script_size, Slurm's name, sets the same.",
    ),
    Key(
        name="FirstJobId",
        attr="first_job_id",
        kind=Kind.INT,
        default="1",
        section="jobs",
        minimum=1,
        maximum=1 << 53,
        reloadable=False,
        doc="Id of the first job of a new cluster. Ids only grow and are never used again.",
    ),
    Key(
        name="JobRequeue",
        attr="job_requeue",
        kind=Kind.BOOL,
        default="1",
        section="jobs",
        doc="Whether a batch job goes back to the queue when its node fails, unless it says otherwise itself.",
    ),
    Key(
        name="EnforcePartLimits",
        attr="enforce_part_limits",
        kind=Kind.CHOICE,
        choices=("NO", "ANY", "ALL", "YES"),
        default="NO",
        section="jobs",
        doc="Whether a submission beyond a partition's limits is refused: by one of its partitions (ANY, the job must "
        "fit one), by each of them (ALL, also written YES), or never (NO, the job waits).",
    ),
    Key(
        name="DefMemPerCPU",
        attr="def_mem_per_cpu_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        section="jobs",
        zero="UNLIMITED",
        doc="Memory for each CPU of a job that asks for none. UNLIMITED (or 0) gives it all memory of its nodes. "
        "Excludes DefMemPerNode.",
    ),
    Key(
        name="DefMemPerNode",
        attr="def_mem_per_node_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        section="jobs",
        zero="UNLIMITED",
        doc="Memory on each node of a job that asks for none. UNLIMITED (or 0) gives it all memory of its nodes. "
        "Excludes DefMemPerCPU.",
    ),
    Key(
        name="DefCPUPerGPU",
        attr="def_cpu_per_gpu",
        kind=Kind.INT,
        default="0",
        section="jobs",
        minimum=0,
        maximum=65535,
        doc="Least CPUs for each GPU of a node, for jobs that do not say --cpus-per-gpu.",
    ),
    Key(
        name="DefMemPerGPU",
        attr="def_mem_per_gpu_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        section="jobs",
        doc="Memory for each GPU of a node, for jobs with GPUs that ask for no memory. 0 leaves it to DefMemPerCPU or "
        "DefMemPerNode.",
    ),
    Key(
        name="MaxMemPerCPU",
        attr="max_mem_per_cpu_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        section="jobs",
        zero="UNLIMITED",
        doc="Most memory a job may have for each CPU; one that asks for more gets more CPUs. Excludes MaxMemPerNode.",
    ),
    Key(
        name="MaxMemPerNode",
        attr="max_mem_per_node_mib",
        kind=Kind.MEM,
        default="0",
        unit="MiB",
        section="jobs",
        zero="UNLIMITED",
        doc="Most memory a job may have on a node. Excludes MaxMemPerCPU.",
    ),
    Key(
        name="ReturnToService",
        attr="return_to_service",
        kind=Kind.INT,
        default="0",
        section="jobs",
        minimum=0,
        maximum=2,
        doc="When a DOWN node that registers again becomes usable: never by itself (0), when it was DOWN because it "
        "did not respond (1), or whenever its registration is valid (2).",
    ),
)
