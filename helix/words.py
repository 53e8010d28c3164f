"""The words of the job states for programs that must not import the model (which needs msgspec).

Plain tables, equal to `helix.model.job_state` (a test holds them together).  Standard library only.
"""

from __future__ import annotations

#: Long state name -> Slurm's compact code, in the order states are sorted by.
STATE_CODES: dict[str, str] = {
    "PENDING": "PD",
    "CONFIGURING": "CF",
    "RUNNING": "R",
    "SUSPENDED": "S",
    "COMPLETING": "CG",
    "COMPLETED": "CD",
    "FAILED": "F",
    "TIMEOUT": "TO",
    "CANCELLED": "CA",
    "NODE_FAIL": "NF",
    "OUT_OF_MEMORY": "OOM",
    "DEADLINE": "DL",
    "PREEMPTED": "PR",
    "BOOT_FAIL": "BF",
    "REQUEUED": "RQ",
    "REQUEUE_HOLD": "RH",
    "SPECIAL_EXIT": "SE",
}

#: States of jobs that are in the queue or on nodes: what hqueue lists unless told otherwise.
LIVE_STATES: tuple[str, ...] = (
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "SUSPENDED",
    "COMPLETING",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
)
WAITING_STATES = frozenset({"PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT"})
TERMINAL_STATES = frozenset(
    {
        "COMPLETED",
        "FAILED",
        "TIMEOUT",
        "CANCELLED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "DEADLINE",
        "PREEMPTED",
        "BOOT_FAIL",
    }
)
#: Words people use for a state besides its name and code (squeue(1), scancel(1)).
STATE_ALIASES: dict[str, str] = {"CANCELED": "CANCELLED", "COMPLETE": "COMPLETED"}

#: Long node state -> sinfo's compact form; a `*` (not responding) is carried over.
NODE_STATE_CODES: dict[str, str] = {
    "ALLOCATED": "alloc",
    "COMPLETING": "comp",
    "DOWN": "down",
    "DRAINED": "drain",
    "DRAINING": "drng",
    "FAIL": "fail",
    "FAILING": "failg",
    "FUTURE": "futr",
    "IDLE": "idle",
    "MAINT": "maint",
    "MIXED": "mix",
    "RESERVED": "resv",
    "UNKNOWN": "unk",
}


def find_state(word: str) -> str:
    """The long name of a job state given by name, code or alias in any case; "" if there is none."""
    upper = word.strip().upper()
    if upper in STATE_CODES:
        return upper
    if upper in STATE_ALIASES:
        return STATE_ALIASES[upper]
    for name, code in STATE_CODES.items():
        if code == upper:
            return name
    return ""
