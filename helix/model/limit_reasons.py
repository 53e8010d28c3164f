"""Which reason a job shows that a limit of its association or QOS keeps waiting: Slurm's words, built by its rules.

    grp("Assoc", "cpu")             AssocGrpCpuLimit         GrpTRES
    minutes("QOS", "mem")           QOSGrpMemMinutes         GrpTRESMins; run_minutes: GrpTRESRunMins
    per_job, per_node, minutes_per_job, per_user, per_account, least

Source: slurm.schedmd.com/job_reason_codes.html.
"""

from __future__ import annotations

from helix.model.job_state import Reason

_WORDS = {"cpu": "Cpu", "mem": "Mem", "node": "Node", "gres": "GRES", "billing": "Billing", "license": "License"}


def _word(tres: str) -> str:
    return _WORDS.get(tres.partition("/")[0], "GRES")


def _long(owner: str, word: str) -> str:
    """QOS limits that are not of groups say Memory."""
    return "Memory" if word == "Mem" and owner == "QOS" else word


def grp(owner: str, tres: str) -> Reason:
    """GrpTRES of `owner`, Assoc or QOS."""
    word = _word(tres)
    return Reason(f"{owner}Grp{word}{'Limit' if word in ('Cpu', 'Mem', 'Node') else ''}")


def minutes(owner: str, tres: str, *, run: bool = False) -> Reason:
    """GrpTRESMins, or GrpTRESRunMins."""
    word = _word(tres)
    shown, end = ("CPU", "Limit") if word == "Cpu" else (word, "")
    return Reason(f"{owner}Grp{shown}{'Run' if run else ''}Minutes{end}")


def per_job(owner: str, tres: str) -> Reason:
    """MaxTRESPerJob."""
    word = _word(tres)
    return Reason(f"{owner}Max{_long(owner, word)}PerJob{'Limit' if word in ('Cpu', 'Node') else ''}")


def per_node(owner: str, tres: str) -> Reason:
    """MaxTRESPerNode; of CPUs, memory and GRES."""
    word = _word(tres)
    return Reason(f"{owner}Max{_long(owner, word if word in ('Cpu', 'Mem') else 'GRES')}PerNode")


def minutes_per_job(owner: str, tres: str) -> Reason:
    """MaxTRESMinsPerJob."""
    word = _word(tres)
    return Reason(f"{owner}Max{_long(owner, word)}MinutesPerJob{'Limit' if word == 'Cpu' else ''}")


def per_user(tres: str) -> Reason:
    """MaxTRESPerUser of a QOS."""
    word = _word(tres)
    return Reason(f"QOSMax{_long('QOS', word)}PerUser{'Limit' if word in ('Cpu', 'Node') else ''}")


def per_account(tres: str) -> Reason:
    """MaxTRESPerAccount of a QOS."""
    return Reason(f"Max{_long('QOS', _word(tres))}PerAccount")


def least(tres: str) -> Reason:
    """MinTRESPerJob of a QOS."""
    word = _word(tres)
    if word == "Cpu":
        return Reason.QOS_MIN_CPU_NOT_SATISFIED
    return Reason(f"QOSMin{_long('QOS', 'GRES' if word == 'License' else word)}")
