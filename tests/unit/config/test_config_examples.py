"""The files under etc/: fresh, usable, and true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helix.config.check import Severity, check_config
from helix.config.load import default_config, load_config, parse_config

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "etc" / "examples").glob("*.conf"))


def test_files_are_those_of_the_table() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "gen_config.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_lines_of_helix_conf_are_the_defaults() -> None:
    text = (ROOT / "etc" / "helix.conf").read_text()
    settings = [
        line[1:] for line in text.splitlines() if line.startswith("#") and "=" in line and not line.startswith("# ")
    ]
    settings = [line for line in settings if not line.startswith(("NodeName=", "PartitionName="))]
    assert len(settings) > 50
    single = [line for line in settings if not line.startswith(("DefMemPer", "MaxMemPer", "PropagateResource"))]
    assert parse_config("\n".join(single)).hash == default_config().hash


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_load_without_a_remark(path: Path) -> None:
    config = load_config(path)
    assert config.nodes
    assert config.default_partition is not None
    assert {finding.severity for finding in check_config(path)} == {Severity.HONOURED}


@pytest.mark.parametrize("name", ["helix.conf", "cgroup.conf", "gres.conf", "topology.conf"])
def test_commented_files_have_no_faults(name: str) -> None:
    assert check_config(ROOT / "etc" / name) == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
