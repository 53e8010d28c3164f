"""The keys of preemption and time slices: what is read, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix.config.check import Severity, check_config
from helix.config.load import parse_config
from helix.errors import ConfigError
from helix.sched.preempt import PreemptRules
from helixctld.io.making_room import preempt_rules

NODES = "NodeName=n1 CPUs=2 RealMemory=100\nPartitionName=p Nodes=ALL Default=YES"


def rules(text: str) -> PreemptRules:
    return preempt_rules(parse_config(f"{text}\n{NODES}\n"))


def test_nothing_makes_room_unless_told() -> None:
    found = rules("")
    assert (found.modes, found.exempt_s, found.gang, found.time_slice_s) == (("OFF",), 0, False, 30)


def test_everything_is_read() -> None:
    found = rules(
        "PreemptMode=suspend,gang\nPreemptExemptTime=00:05:00\nSchedulerTimeSlice=5\nJobRequeue=0\n"
        "PreemptParameters=youngest_first,strict_order,min_exempt_priority=7,send_user_signal,suspend_grace_time=9"
    )
    assert found == PreemptRules(
        modes=("SUSPEND", "GANG"),
        exempt_s=300,
        min_exempt_priority=7,
        youngest_first=True,
        strict_order=True,
        send_user_signal=True,
        time_slice_s=5,
        requeue_default=False,
    )
    assert rules("PreemptExemptTime=-1").exempt_s == 0


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("PreemptMode=CANCEL,REQUEUE", "CANCEL and REQUEUE exclude each other"),
        ("PreemptMode=OFF,WITHIN", "OFF and WITHIN exclude each other"),
        ("PreemptMode=STOP", "bad PreemptMode='STOP'"),
        ("SchedulerTimeSlice=0", "0 is below 1"),
        ("PreemptParameters=min_exempt_priority=x", "bad min_exempt_priority='x'"),
        ("PartitionName=q Nodes=ALL PreemptMode=SUSPEND,CANCEL", "of partition 'q': CANCEL and SUSPEND exclude"),
    ],
)
def test_contradictions_are_refused(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(text)
    assert part in caught.value.msg


def test_sharing_without_slices_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "helix.conf"
    for mode, severities in (("SUSPEND", [Severity.WARNING]), ("SUSPEND,GANG", [])):
        path.write_text(f"PreemptMode={mode}\n{NODES} OverSubscribe=FORCE:2\n")
        found = [f for f in check_config(path) if f.key == "OverSubscribe" and f.severity is not Severity.HONOURED]
        assert [f.severity for f in found] == severities


@pytest.mark.parametrize(
    ("text", "key", "part"),
    [
        ("PreemptMode=CANCEL", "PreemptMode", "no effect with PreemptType=preempt/none"),
        ("PreemptMode=GANG", "", ""),
        ("PreemptType=preempt/qos\nPreemptMode=CANCEL", "PreemptType", "no effect without AssocFile"),
        ("PreemptType=preempt/partition_prio", "PreemptType", "PreemptMode=OFF no job makes room"),
        ("PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE", "PreemptType", "the same PriorityTier"),
        ("PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE,WITHIN", "", ""),
        (
            "PreemptType=preempt/partition_prio\nPartitionName=q Nodes=ALL PriorityTier=2 PreemptMode=REQUEUE",
            "",
            "",
        ),
        ("PreemptType=preempt/partition_pri", "PreemptType", "no plugin 'preempt/partition_pri' comes"),
    ],
)
def test_preemption_that_never_comes_is_warned_of(text: str, key: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "helix.conf"
    path.write_text(f"{text}\n{NODES}\n")
    found = [f for f in check_config(path) if f.severity is Severity.WARNING]
    assert [f.key for f in found] == ([key] if key else [])
    assert part in "".join(f"{f}" for f in found)
