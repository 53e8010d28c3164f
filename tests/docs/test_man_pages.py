"""Pages and tables hold each other: every option, key, state, reason and error is in its page, and nothing else is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from helix.cli.options import LATER
from helix.config.keys import LINES, PARAMS, SETTINGS
from helix.model.job_state import JobState, Reason

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import gen_man  # noqa: E402
import man_tables  # noqa: E402

SECTIONS = (
    "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "OUTPUT", "ENVIRONMENT", "EXIT STATUS", "EXAMPLES", "SEE ALSO",
)  # fmt: skip
SOURCES = gen_man.page_sources()


def page(name: str, section: str) -> str:
    """A committed page as plain text: no macros, no fonts."""
    text = (ROOT / "man" / f"man{section}" / f"{name}.{section}").read_text(encoding="utf-8")
    for old, new in (("\\fB", ""), ("\\fI", ""), ("\\fR", ""), ("\\-", "-"), ("\\&", ""), ("\\e", "\\")):
        text = text.replace(old, new)
    return text.replace("\\(aq", "'").replace("\\(ti", "~").replace("\\(dq", '"').replace("\\(ga", "`")


@pytest.mark.parametrize("name", sorted(man_tables.COMMANDS))
def test_every_option_is_in_the_page(name: str) -> None:
    text = page(name, "1")
    for row in man_tables.command(name).options:
        for flag in row.flags if row.status != LATER else [row.name]:
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text), f"{flag} is not in {name}(1)"


@pytest.mark.parametrize("name", sorted(man_tables.COMMANDS))
def test_every_option_the_prose_speaks_of_exists(name: str) -> None:
    source = (ROOT / "man" / "src" / f"{name}.1.md").read_text(encoding="utf-8")
    own = {flag for row in man_tables.command(name).options for flag in row.flags}
    known = {flag for other in man_tables.COMMANDS for row in man_tables.command(other).options for flag in row.flags}
    prose = re.sub(r"```.*?```", "", source, flags=re.DOTALL)
    for flag in re.findall(r"`(--[a-z][\w-]*)", prose):
        assert flag in own, f"{name}(1) speaks of {flag}, which {name} does not have"
    # Examples may call other commands, but no option that none of them has.
    for fence in gen_man.man_roff.fences(source):
        for line in fence.lines:
            if re.search(r"\bh(submit|queue|cancel|info|ctl|diag|wait|why|log|cluster)\b", line):
                for flag in re.findall(r"(?<![\w-])(--[a-z][\w-]*)", line):
                    assert flag in known, f"{name}(1), example: no command has {flag}"


@pytest.mark.parametrize("name", sorted(man_tables.COMMANDS))
def test_command_pages_have_all_sections_in_order(name: str) -> None:
    found = re.findall(r'^\.SH "?([A-Z ]+?)"?$', page(name, "1"), flags=re.MULTILINE)
    assert [heading for heading in found if heading in SECTIONS] == list(SECTIONS)


def test_every_key_is_in_its_page() -> None:
    text = page("helix.conf", "5")
    tables = [SETTINGS, *LINES.values(), *PARAMS.values()]
    for key in (key for table in tables for key in table):
        assert re.search(rf"^{re.escape(key.name)} \(", text, flags=re.MULTILINE), key.name
        for alias in key.aliases:
            assert alias in text, alias


def test_every_state_and_reason_is_in_its_page() -> None:
    text = page("helix", "7")
    for word in (*JobState, *Reason):
        assert re.search(rf"^{re.escape(str(word))}( \(\w+\))?$", text, flags=re.MULTILINE), word


def test_every_error_code_is_in_its_page() -> None:
    text = page("helix_errors", "7")
    for code in man_tables.error_codes():
        assert re.search(rf"^{code}\b", text, flags=re.MULTILINE), code


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_references_to_pages_lead_somewhere(source: Path) -> None:
    pages = {path.name.removesuffix(".md") for path in SOURCES}
    foreign = {"scontrol", "sbatch", "squeue", "sinfo", "scancel", "slurm.conf", "strftime", "systemd.service"}
    for name, section in re.findall(r"\b([a-z][\w.-]*)\(([1-8])\)", source.read_text(encoding="utf-8")):
        assert name in foreign or f"{name}.{section}" in pages, f"{source.name}: {name}({section})"


def test_examples_for_every_command_are_run_somewhere() -> None:
    for name in man_tables.COMMANDS:
        source = (ROOT / "man" / "src" / f"{name}.1.md").read_text(encoding="utf-8")
        runnable = [fence for fence in gen_man.man_roff.fences(source) if "runnable" in fence.info]
        assert runnable or name == "hcluster", f"{name}(1) has no runnable example"
