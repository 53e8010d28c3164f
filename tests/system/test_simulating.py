"""hsim as a process: what a script that calls it sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.swf_traces import random_jobs, write_swf

pytestmark = pytest.mark.timeout(300)  # the kernels may have to be compiled first


def hsim(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "helixctld.sim.cli", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=250, check=False)


def test_a_trace_is_played_and_played_again(tmp_path: Path) -> None:
    write_swf(tmp_path / "t.swf", random_jobs(9, 80, 8), 8)
    first, second = (
        hsim("run", "--policy", "conservative", "--json", "--starts", name, "t.swf", cwd=tmp_path)
        for name in ("a.txt", "b.txt")
    )
    assert (first.returncode, first.stderr) == (0, ""), first.stderr  # no progress bar where nobody watches
    assert json.loads(first.stdout)["jobs"] == 80
    assert json.loads(first.stdout)["hash"] == json.loads(second.stdout)["hash"]
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


def test_what_is_wrong_is_one_line_and_a_status(tmp_path: Path) -> None:
    missing = hsim("run", "none.swf", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.strip().endswith("none.swf: there is no such trace (TRACE_MISSING)")
    write_swf(tmp_path / "t.swf", [(0, 5, 10, 1)], 4)
    locked = tmp_path / "file"
    locked.mkdir()
    refused = hsim("run", "--csv", locked, "t.swf", cwd=tmp_path)
    assert refused.returncode == 2
    assert "cannot be written (FILE_UNWRITABLE)" in refused.stderr
    assert os.listdir(locked) == []
