"""What the configuration says about scheduling, as one frozen value.

Owns the meaning of `SchedulerParameters` that planners and the pacing of passes honour (slurm.conf(5)); names that are
of no use here are left to the configuration's table, which says what replaces them.  Memory is MiB, times are seconds.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from helix.errors import ConfigError

MODES = ("default", "easy", "easy-sjbf", "conservative", "replan")
STARTS_MAX = 512  #: starts in one pass: about 15 ms of commit, so that a submit never waits long behind it


@dataclass(frozen=True, slots=True)
class SchedOptions:
    """0 means no limit, or not given, unless said otherwise."""

    starts_max: int = STARTS_MAX  # sched_max_job_start
    defer: bool = False  # do not try at each submit
    min_interval_s: float = 2e-6  # sched_min_interval (given in microseconds)
    interval_s: float = 60.0  # sched_interval: a pass at least so often while jobs wait
    batch_delay_s: float = 3.0  # batch_sched_delay: how long `defer` gathers submits
    memory_consumable: bool = True  # SelectTypeParameters with _Memory
    least_loaded: bool = False  # SelectTypeParameters=CR_LLN
    def_mem_per_cpu_mib: int = 0
    def_mem_per_node_mib: int = 0
    max_mem_per_cpu_mib: int = 0
    max_mem_per_node_mib: int = 0
    enforce_part_limits: str = "NO"  # NO, ANY, ALL
    bf_mode: str = "default"  # one of MODES
    bf_protected: int = 1  # how many waiting jobs are promised a start (easy, easy-sjbf, default)
    bf_window_s: int = 7 * 86400  # how far ahead a pass looks
    resv_over_run_s: int | None = 0  # ResvOverRun: jobs run on after their reservation for so long; None = no limit
    bf_resolution_s: int = 60
    bf_interval_s: float = 30.0  # a pass over the whole queue at most so often
    bf_max_job_test: int = 0  # jobs a pass looks at
    bf_max_job_user: int = 0  # of them, of one user
    bf_max_job_part: int = 0  # of one partition
    bf_max_job_user_part: int = 0  # of one user in one partition
    bf_candidates: int = 8  # nodes compared for a later start
    def_cpu_per_gpu: int = 0
    def_mem_per_gpu_mib: int = 0
    max_switch_wait_s: int = 300  # max_switch_wait: --switches is given up after so long at the latest
    has_topology: bool = False  # TopologyPlugin is tree or block
    has_blocks: bool = False  # it is block
    keep_near: bool = False  # and jobs of several nodes span as few switches as possible, asked or not

    def with_parameters(self, text: str) -> SchedOptions:
        """These options with `SchedulerParameters` text applied; raises ConfigError for an unreadable number."""
        changes: dict[str, object] = {}
        for item in text.split(","):
            name, _, value = item.strip().partition("=")
            match name.lower():
                case "defer" | "defer_batch":
                    changes["defer"] = True
                case "sched_max_job_start":
                    changes["starts_max"] = int(_number(name, value)) or STARTS_MAX
                case "sched_min_interval":
                    changes["min_interval_s"] = _number(name, value) / 1e6
                case "max_switch_wait":
                    changes["max_switch_wait_s"] = int(_number(name, value))
                case "sched_interval":
                    changes["interval_s"] = _number(name, value)
                case "bf_mode":
                    changes["bf_mode"] = _mode(value)
                case "bf_protected":
                    changes["bf_protected"] = int(_number(name, value))
                case "bf_window":
                    changes["bf_window_s"] = 60 * int(_number(name, value)) or 60
                case "bf_resolution":
                    changes["bf_resolution_s"] = max(1, int(_number(name, value)))
                case "bf_interval":
                    changes["bf_interval_s"] = max(0.0, _number(name, value))
                case "bf_max_job_start":
                    changes["starts_max"] = int(_number(name, value)) or STARTS_MAX
                case "bf_max_job_test" | "bf_max_job_user" | "bf_max_job_part" | "bf_max_job_user_part":
                    changes[name.lower()] = int(_number(name, value))
                case "batch_sched_delay":
                    changes["batch_delay_s"] = _number(name, value)
        return replace(self, **changes)  # type: ignore[arg-type]

    def with_select(self, text: str) -> SchedOptions:
        """These options with `SelectTypeParameters` text applied (`CR_Core_Memory`, `CR_Core,CR_LLN` ...)."""
        words = {word.strip().upper() for word in text.split(",") if word.strip()}
        changes: dict[str, object] = {"least_loaded": "CR_LLN" in words}
        if any(word.startswith("CR_") and word not in ("CR_LLN", "CR_PACK_NODES") for word in words):
            changes["memory_consumable"] = any(word.endswith("_MEMORY") or word == "CR_MEMORY" for word in words)
        return replace(self, **changes)  # type: ignore[arg-type]


def _mode(value: str) -> str:
    word = value.strip().lower()
    if word in MODES:
        return word
    near = difflib.get_close_matches(word, MODES, 1)
    raise ConfigError(
        f"SchedulerParameters: bf_mode={value!r} is not a mode",
        hint=f"did you mean bf_mode={near[0]}?" if near else f"known: {', '.join(MODES)}",
    )


def _number(name: str, value: str) -> float:
    if value.isascii() and value.isdigit() and len(value) <= 12:
        return float(value)
    raise ConfigError(
        f"SchedulerParameters: {name}={value!r} is not a number",
        hint=f"write {name}=N with N a whole number, 0 or more",
    )
