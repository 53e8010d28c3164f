"""The documents: links lead somewhere, and what they tell people to type exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import man_tables  # noqa: E402

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "spool" / "README.md"]
_COMMAND = re.compile(r"(?:^|[|;(&]|\$\()\s*(h(?:submit|queue|cancel|info|ctl|diag|wait|why|log|cluster))\b([^|;)\n]*)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_options_in_code_blocks_exist(path: Path) -> None:
    for block in re.findall(r"```sh\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.splitlines():
            for name, words in _COMMAND.findall(line.split("#")[0]):
                options = {flag for row in man_tables.command(name).options for flag in row.flags}
                for flag in re.findall(r"(?<![\w'-])(--[a-z][\w-]*|-[A-Za-z](?![\w-]))", re.sub(r"'[^']*'", "", words)):
                    assert flag in options, f"{path.relative_to(ROOT)}: {name} has no {flag}: {line}"
