"""The examples of the man pages work: each block marked runnable is run against a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helix.cluster.fixture import TestCluster

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import man_roff  # noqa: E402

EXAMPLES = [
    pytest.param("\n".join(fence.lines), id=f"{path.stem}-{number}")
    for path in sorted((ROOT / "man" / "src").glob("*.?.md"))
    for number, fence in enumerate(man_roff.fences(path.read_text(encoding="utf-8")))
    if "runnable" in fence.info
]


@pytest.mark.parametrize("script", EXAMPLES)
def test_example(script: str, helix_cluster: TestCluster, tmp_path: Path) -> None:
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        path.chmod(0o755)
    helix_cluster.run("bash", "-euo", "pipefail", "-c", script, cwd=tmp_path, timeout_s=90)
