"""`check_config`: key by key, with file, line and what is near."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helix.config.check import Finding, Severity, check_config
from helix.config.findings import FATAL
from helix.config.load import load_config
from helix.errors import ConfigError
from helixctld.io.account_config import accounts_of

SLURM_CONF = """\
# as a site has it
ClusterName=linux
ControlMachine=head
SlurmUser=slurm
AuthType=auth/munge
SchedulerType=sched/backfill
SchedulerParameters=bf_window=1440,defer,sched_intervall=3
AccountingStorageType=accounting_storage/slurmdbd
MaxJobCont=5
NodeName=c[1-2] RealMemory=1000 CPUs=4 State=IDLE Gres=gpu:2
PartitionName=normal Nodes=c[1-2] OverSubscribe=FORCE:2
"""


def check(tmp_path: Path, text: str, name: str = "slurm.conf") -> list[Finding]:
    """Findings of a file with this text."""
    path = tmp_path / name
    path.write_text(text)
    return check_config(path)


def test_says_of_every_key_what_becomes_of_it(tmp_path: Path) -> None:
    found = check(tmp_path, SLURM_CONF)
    by_key = {(f.key, f.severity) for f in found}
    assert {
        ("ClusterName", Severity.HONOURED),
        ("HelixctldHost", Severity.HONOURED),
        ("HelixUser", Severity.LATER),
        ("AuthType", Severity.IGNORED),
        ("SchedulerType", Severity.HONOURED),
        ("AccountingStorageType", Severity.LATER),
        ("MaxJobCont", Severity.UNKNOWN),
        ("RealMemory", Severity.HONOURED),
        ("Gres", Severity.ERROR),
        ("State", Severity.WARNING),
        ("OverSubscribe", Severity.WARNING),
    } <= by_key
    unknown = next(f for f in found if f.severity is Severity.UNKNOWN)
    assert (unknown.line, unknown.nearest) == (9, "MaxJobCount")
    assert "ControlMachine" in next(f for f in found if f.key == "HelixctldHost").message
    assert [f.line for f in found] == sorted(f.line for f in found)
    assert {f.key for f in found if f.severity in FATAL} == {"MaxJobCont", "Gres"}


def test_shows_all_faults_at_once(tmp_path: Path) -> None:
    found = check(tmp_path, "KillWait=x\njunk\nMinJobAge=y\nPartitionName=p Nodes=n1\n")
    assert [f.line for f in found if f.severity is Severity.ERROR] == [1, 2, 3, 4]
    assert str(found[1]).startswith(f"{tmp_path}/slurm.conf:1: error: bad KillWait='x'")


def test_repeated_keys_and_unused_controllers_are_warned_of(tmp_path: Path) -> None:
    found = check(tmp_path, "KillWait=1\nKillWait=2\nSlurmctldHost=a\nSlurmctldHost=b\n")
    warnings = [f.message for f in found if f.severity is Severity.WARNING]
    assert len(warnings) == 2
    assert "slurm.conf:1; the last counts" in warnings[0]
    assert "'b' is not used" in warnings[1]


def test_other_files_are_told_by_their_names(tmp_path: Path) -> None:
    found = check(tmp_path, "ConstrainCores=yes\nConstrainRamSpac=yes\nCgroupAutomount=yes\n", "cgroup.conf")
    assert [(f.line, f.severity, f.nearest) for f in found] == [
        (1, Severity.LATER, ""),
        (2, Severity.UNKNOWN, "ConstrainRAMSpace"),
        (3, Severity.IGNORED, ""),
    ]
    found = check(tmp_path, "NodeName=n1 Name=gpu File=/dev/nvidia[0-3] Typ=a\n", "gres.conf")
    assert [f.severity for f in found][-1] is Severity.UNKNOWN


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        check_config(tmp_path / "none.conf")


def test_needs_the_standard_library_only(tmp_path: Path) -> None:
    path = tmp_path / "slurm.conf"
    path.write_text(SLURM_CONF)
    code = f"import sys; from helix.config.check import check_config; check_config({str(path)!r}); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in run.stdout.split()} & {"msgspec", "blake3", "zmq", "numpy"}


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("PartitionName=a Nodes=ALL Default=YES\n", "NodeName", "there are no nodes"),
        ("NodeName=n1 CPUs=1\n", "PartitionName", "there is no partition"),
        ("NodeName=n1 CPUs=1\nPartitionName=a Default=YES\n", "Nodes", "partition 'a' has no nodes"),
        ("NodeName=n1 CPUs=1\nPartitionName=a Nodes=ALL Default=YES MinNodes=2\n", "MinNodes", "above the 1 nodes"),
    ],
)
def test_what_nothing_can_be_planned_with_is_said(tmp_path: Path, text: str, key: str, words: str) -> None:
    path = tmp_path / "helix.conf"
    path.write_text("ClusterName=x\nSlurmctldHost=h\n" + text)
    (found,) = (f for f in check_config(path) if f.severity is Severity.WARNING and f.key == key)
    assert words in found.message
    assert found.hint
    assert any(words in text for text in load_config(path).warnings)


def test_a_window_shorter_than_its_steps_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "helix.conf"
    lines = "ClusterName=x\nSlurmctldHost=h\nSchedulerParameters=bf_window=5,bf_resolution=600\n"
    path.write_text(lines + "NodeName=n1 CPUs=1\nPartitionName=a Nodes=ALL Default=YES\n")
    with pytest.raises(ConfigError, match=r"bf_window=5 \(minutes\) is shorter than bf_resolution=600") as refused:
        load_config(path)
    assert "set bf_window to 10 or more" in refused.value.hint


@pytest.mark.parametrize(
    ("qos", "accounts", "remedy"), [("hgih", True, "did you mean 'high'?"), ("high", False, "add")]
)
def test_the_qos_of_a_partition_is_one_of_assoc_file(tmp_path: Path, qos: str, accounts: bool, remedy: str) -> None:
    path, assoc = tmp_path / "helix.conf", tmp_path / "assoc.conf"
    assoc.write_text("QOS - 'high'\n")
    line = f"AssocFile={assoc}\n" if accounts else ""
    nodes = f"NodeName=n1 CPUs=1\nPartitionName=a Nodes=ALL Default=YES QOS={qos}\n"
    path.write_text("ClusterName=x\nSlurmctldHost=h\n" + line + nodes)
    (found,) = (f for f in check_config(path) if f.severity is Severity.ERROR)
    assert (found.key, remedy in found.hint) == ("QOS", True)
    with pytest.raises(ConfigError, match=f"QOS={qos} is in no QOS line"):
        accounts_of(load_config(path))
