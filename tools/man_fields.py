"""Output fields and configuration keys as definition lists of man/src."""

from __future__ import annotations

from collections.abc import Iterable

from man_tables import sentence

from helix.cli.commands import load_fields
from helix.cli.options import Command
from helix.config.key import Key, Status
from helix.config.keys import LINES, PARAMS, SECTIONS, SETTINGS, SLURM_ONLY
from helix.config.table_assoc import ASSOC_LINES
from helix.expression_names import Attribute


def field_list(command: Command) -> str:
    """The output fields of a command: the letter of --format and the names of --Format."""
    rows = load_fields(command)
    if not rows:
        return ""
    parts = ["Fields of `--format` (a letter after `%`) and `--Format` (a name):\n"]
    for row in rows:
        letter = [f"`%{row.letter}`"] if row.letter else []
        names = [f"`{name}`" for name in row.names]
        parts.append(f"{', '.join(letter + names)}\n:   {sentence(row.help or row.title)}\n")
    return "\n".join(parts)


def attribute_list(rows: Iterable[Attribute]) -> str:
    """The attributes of expressions."""
    shown = [(f"`{row.name}`*NAME*" if row.name.endswith(".") else f"`{row.name}`", row) for row in rows]
    return "\n".join(f"{name} ({row.kind})\n:   {sentence(row.doc)}\n" for name, row in shown)


_LINES = {
    "NodeName": "NODE LINES",
    "PartitionName": "PARTITION LINES",
    "NodeSet": "NODE SET LINES",
    "DownNodes": "DOWN NODES LINES",
    "FrontendName": "FRONTEND LINES",
    "SwitchName": "SWITCH LINES",
    "BlockName": "BLOCK LINES",
}


def key_list() -> str:
    """All keys of helix.conf, section by section, as further sections of the page."""
    parts = ["# CLUSTER KEYS\n"]
    for name, title in SECTIONS:
        rows = [key for key in SETTINGS if key.section == name]
        if rows:
            parts.append(f"## {title}\n")
            parts += [_key(key) for key in rows]
    for first, keys in LINES.items():
        parts.append(f"# {_LINES[first]}\n")
        parts += [_key(key) for key in keys]
    for name, keys in PARAMS.items():
        parts.append(f"# {name.upper()}\n")
        parts.append(f"Names inside `{name}`, separated by commas.\n")
        parts += [_key(key) for key in keys]
    parts.append("# KEYS OF SLURM WITHOUT EFFECT\n")
    parts.append("These are known, so that a slurm.conf can be read, and have no effect:\n")
    parts += [f"`{key.name}`\n:   {_wrapped(key.doc)}\n" for key in SLURM_ONLY]
    return "\n".join(parts)


def assoc_list() -> str:
    """The lines of AssocFile and their fields, as further sections of the page; those of the root are an account's."""
    parts = []
    for word, keys in ASSOC_LINES.items():
        parts.append(f"# {word.upper()} LINES\n")
        parts.append(f"{keys[0].doc}\n")
        if word == "Cluster":
            parts.append("Its fields are those of an account.\n")
        else:
            parts += [_key(key) for key in keys[1:]]
    return "\n".join(parts)


def _wrapped(text: str) -> str:
    """Prose on lines of their own, one a sentence, so that no line of the page is endless."""
    words = " ".join(text.split())
    return words.replace(". ", ".\n    ")


def _key(key: Key) -> str:
    facts = []
    if key.default:
        facts.append(f"Default: `{key.default}`" + (f" {key.unit}." if key.unit and key.default != "0" else "."))
    elif key.unit:
        facts.append(f"In {key.unit}.")
    if key.aliases:
        facts.append("Also: " + ", ".join(f"`{alias}`" for alias in key.aliases) + ".")
    if key.status is Status.IGNORED:
        facts.append("Read and without effect.")
    elif key.status is Status.LATER:
        facts.append("Read and checked; nothing acts upon it yet.")
    elif not key.reloadable:
        facts.append("A change needs a restart.")
    tail = ("\n    " + "\n    ".join(facts)) if facts else ""
    return f"`{key.name}` ({key.form})\n:   {_wrapped(key.doc)}{tail}\n"
