"""Write man/man1, man5, man7 and man8 from man/src and the tables in the code.

    python tools/gen_man.py [--check]

A source `NAME.SECTION.md` holds sections (`# DESCRIPTION` ...).  For a command, SYNOPSIS, OPTIONS, ENVIRONMENT, EXIT
STATUS and SEE ALSO come from its `Command`; what the source says under the same heading is added (under OPTIONS: as
more prose for the option it names).  `{{directive}}` on a line of its own is replaced by the table of that name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import man_fields
import man_roff
import man_tables
from generated import ROOT, Generated, TableError, main_for
from man_tables import COMMANDS

from helix import __version__
from helix.expression_names import JOB_ATTRIBUTES, NODE_ATTRIBUTES

SOURCES = ROOT / "man" / "src"
#: The day of the release, not of the build: the same tree always gives the same pages.
DATE = "2026-11-21"
ORDER = (
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "OUTPUT",
    "ENVIRONMENT",
    "FILES",
    "EXIT STATUS",
    "EXAMPLES",
    "SEE ALSO",
)
_DIRECTIVE = re.compile(r"^\{\{([a-z_]+)\}\}$", re.MULTILINE)

DIRECTIVES: dict[str, Callable[[], str]] = {
    "job_states": man_tables.state_list,
    "reasons": man_tables.reason_list,
    "node_states": man_tables.node_state_list,
    "launch_failures": man_tables.launch_failure_list,
    "errors": man_tables.error_list,
    "reservation_flags": man_tables.reservation_flag_list,
    "error_kinds": man_tables.kind_list,
    "config_keys": man_fields.key_list,
    "assoc_lines": man_fields.assoc_list,
    "node_attributes": lambda: man_fields.attribute_list(NODE_ATTRIBUTES),
    "job_attributes": lambda: man_fields.attribute_list(JOB_ATTRIBUTES),
    "helixctld_options": lambda: man_tables.daemon_options("helixctld.main:build_parser"),
    "helixd_options": lambda: man_tables.daemon_options("helixd.io.options:build_parser"),
}


def page_sources() -> list[Path]:
    """The sources of pages, by name."""
    return sorted(path for path in SOURCES.glob("*.?.md"))


def split_name(path: Path) -> tuple[str, str]:
    """`hsubmit.1.md` gives `hsubmit`, `1`."""
    name, section, _ = path.name.rsplit(".", 2)
    return name, section


def sections(text: str) -> dict[str, str]:
    """Heading -> body of a source, in order."""
    found: dict[str, str] = {}
    heading = ""
    inside_fence = False
    for line in text.splitlines():
        if line.startswith("```"):
            inside_fence = not inside_fence
        if line.startswith("# ") and not inside_fence:
            heading = line[2:].strip()
            found[heading] = ""
        elif heading:
            found[heading] += line + "\n"
    return {name: body.strip("\n") for name, body in found.items()}


def option_prose(body: str) -> dict[str, str]:
    """What a source says about options: long name -> prose."""
    found: dict[str, str] = {}
    names: list[str] = []
    last_was_text = False
    for line in body.splitlines():
        if line.startswith("`-"):
            if last_was_text:
                names = []
            names = [*names, line.strip().strip("`")]
            last_was_text = False
        elif line.startswith((":   ", "    ")) and names:
            for name in names:
                found[name] = (found[name] + "\n" if name in found else "") + line[4:]
            last_was_text = True
        elif not line.strip() and names and last_was_text:
            for name in names:
                found[name] += "\n"
        elif line.strip():
            raise TableError(f"under OPTIONS only `--option` and its text may stand, not: {line}")
    return {name: text.strip() for name, text in found.items()}


def command_page(name: str, own: dict[str, str]) -> dict[str, str]:
    """The sections of a command's page."""
    found = man_tables.command(name)
    page = dict(own)
    page["NAME"] = f"{name} - {found.summary}"
    page["SYNOPSIS"] = "\n\n".join(synopsis(line) for line in found.synopsis)
    operands = man_tables.operand_list(found)
    options = man_tables.option_list(found, option_prose(own.get("OPTIONS", "")))
    page["OPTIONS"] = (operands + "\n" if operands else "") + options
    fields = man_fields.field_list(found)
    page["OUTPUT"] = "\n\n".join(part for part in (own.get("OUTPUT", ""), fields) if part)
    page["ENVIRONMENT"] = "\n\n".join(p for p in (own.get("ENVIRONMENT", ""), man_tables.environment_list(found)) if p)
    page["EXIT STATUS"] = man_tables.exit_list(found)
    examples = [f"{sentence_colon(text)}\n\n```sh\n{code}\n```" for code, text in found.examples]
    page["EXAMPLES"] = "\n\n".join(part for part in (own.get("EXAMPLES", ""), *examples) if part)
    also = dict.fromkeys([*found.see_also, "helix(7)"])
    page["SEE ALSO"] = see_also([item for item in also if item != f"{name}(1)"])
    return page


def sentence_colon(text: str) -> str:
    """Text that leads to an example."""
    return man_tables.sentence(text).rstrip(".") + ":"


def synopsis(line: str) -> str:
    """A usage line: words in capitals are what the user fills in."""
    words = []
    for word in line.split(" "):
        marked = re.sub(r"[A-Z][A-Z0-9_]+|(?<![a-zA-Z-])[A-Z](?![a-zA-Z])", lambda m: f"*{m[0]}*", word)
        words.append(marked)
    first = words[0]
    return f"**{first}** " + " ".join(words[1:])


def see_also(items: list[str]) -> str:
    """References, sorted by section and name."""
    unique = sorted({item if "(" in item else f"{item}(1)" for item in items}, key=lambda i: (i[-2], i))
    return ",\n".join(f"**{item.split('(')[0]}**({item.split('(')[1]}" for item in unique)


def build(path: Path) -> str:
    """The whole page for one source."""
    name, section = split_name(path)
    own = sections(path.read_text(encoding="utf-8"))
    page = command_page(name, own) if name in COMMANDS and section == "1" else own
    if "NAME" not in page:
        raise TableError(f"{path.name}: no NAME section")
    if "SEE ALSO" in page and name not in COMMANDS:
        page["SEE ALSO"] = see_also([item.strip() for item in page["SEE ALSO"].replace("\n", " ").split(",")])
    ordered = [heading for heading in ORDER if page.get(heading)]
    extra = [heading for heading in page if heading not in ORDER]
    # Sections of the page's own stand after DESCRIPTION.
    at = ordered.index("DESCRIPTION") + 1 if "DESCRIPTION" in ordered else len(ordered)
    ordered[at:at] = extra
    lines = man_roff.header(name, section, DATE, __version__)
    for heading in ordered:
        lines += man_roff.render(f"# {heading}\n\n" + _DIRECTIVE.sub(_expand, page[heading]))
    return "\n".join(lines) + "\n"


def _expand(match: re.Match[str]) -> str:
    if match[1] not in DIRECTIVES:
        raise TableError(f"no directive {{{{{match[1]}}}}}")
    return DIRECTIVES[match[1]]().rstrip()


def pages() -> list[Generated]:
    """Every page with its place."""
    missing = [name for name in COMMANDS if not (SOURCES / f"{name}.1.md").exists()]
    if missing:
        raise TableError(f"no man/src for {', '.join(missing)}")
    found = []
    for path in page_sources():
        name, section = split_name(path)
        found.append(Generated(ROOT / "man" / f"man{section}" / f"{name}.{section}", build(path)))
    return found


if __name__ == "__main__":
    sys.exit(main_for(pages, owned=["man/man?/*"]))
