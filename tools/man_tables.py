"""The tables of the code as definition lists of man/src: options, output fields, exit statuses, keys, states, errors.

Reads what the programs themselves use; owns no text but a few connecting words.  Prose for a row that has no text of
its own in the code (states, reasons, error codes) is in man/src/words.md; a row without prose, and prose without a
row, are errors.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from typing import Any

from generated import ROOT, TableError

from helix.cli import commands
from helix.cli.app import COMMON_ENV, EXIT_STATUSES
from helix.cli.options import ACCEPTED, LATER, STORED, Command, Option
from helix.cluster import cli as hcluster
from helix.errors import KINDS, HelixError
from helix.model.job_state import STATE_CODES, JobState, LaunchFailure, Reason
from helix.model.reservation import RESERVATION_FLAGS
from helix.words import NODE_STATE_CODES
from helixctld.sim import cli as hsim

WORDS = ROOT / "man" / "src" / "words.md"

#: Commands that have a page, in the order of importance.
COMMANDS = (*commands.COMMANDS, "hcluster", "hsim")

_STATUS_TEXT = {
    STORED: "Kept with the job; nothing uses it yet.",
    ACCEPTED: "Taken for compatibility; it has nothing to do here.",
}


def command(name: str) -> Command:
    """What a command declares about itself."""
    others = {"hcluster": hcluster.COMMAND, "hsim": hsim.COMMAND}
    return others.get(name) or commands.load(name)


def sentence(text: str) -> str:
    """Help text as a sentence: a capital first, a full stop last."""
    text = text.strip()
    if not text:
        return text
    first = text if text.startswith("--") or text[:2].isupper() else text[0].upper() + text[1:]
    return first if first.endswith((".", ":", "!")) else first + "."


def spelling(option: Option) -> str:
    """`-n`, `--ntasks`=*N* in mark-up."""
    shown = ", ".join(f"`{flag}`" for flag in option.flags)
    if not option.metavar:
        return shown
    value = f"*{option.metavar}*" if re.fullmatch(r"[\w:@.%-]+", option.metavar) else option.metavar
    if option.name.startswith("--"):
        return f"{shown}[={value}]" if option.optional else f"{shown}={value}"
    return f"{shown} {value}"


def option_list(found: Command, more: dict[str, str]) -> str:
    """The options of a command; `more` (long name -> prose) is put after the table's own text."""
    unknown = set(more) - {flag for row in found.options for flag in row.flags}
    if unknown:
        raise TableError(f"man/src/{found.name}.1.md speaks of {', '.join(sorted(unknown))}: no such option")
    shown = [row for row in found.options if row.status != LATER]
    parts = []
    for row in shown:
        text = [sentence(row.help)]
        text += [_STATUS_TEXT[row.status]] if row.status in _STATUS_TEXT else []
        if row.env and found.env_prefixes:
            names = " or ".join(f"`{prefix}{row.env}`" for prefix in found.env_prefixes)
            text.append(f"Environment: {names}.")
        body = "\n    ".join(text)
        extra = next((more[flag] for flag in row.flags if flag in more), "")
        if extra:
            body += "\n\n    " + extra.replace("\n", "\n    ")
        parts.append(f"{spelling(row)}\n:   {body}\n")
    later = [row for row in found.options if row.status == LATER]
    if later:
        parts.append("## Not supported yet\n")
        parts.append("These options of Slurm are known and refused by name, never ignored:")
        parts.append(", ".join(f"`{row.name}`" for row in later) + ".\n")
    return "\n".join(parts)


def parser_list(parser: argparse.ArgumentParser) -> str:
    """The options of a daemon, which reads its command line with argparse."""
    parts = []
    for action in parser._actions:
        if action.help is argparse.SUPPRESS:
            continue
        values = action.metavar if isinstance(action.metavar, tuple) else (action.metavar or action.dest.upper(),)
        value = " " + " ".join(f"*{word}*" for word in values) if action.nargs != 0 else ""
        names = ", ".join(f"`{flag}`{value}" for flag in action.option_strings) or value.strip()
        text = sentence(re.sub(r"%\(default\)s", str(action.default), action.help or ""))
        parts.append(f"{names}\n:   {text}\n")
    return "\n".join(parts)


def daemon_options(where: str) -> str:
    """The options of `module:function`, a function that gives an ArgumentParser."""
    module, _, name = where.partition(":")
    parser = getattr(importlib.import_module(module), name)()
    if not isinstance(parser, argparse.ArgumentParser):
        raise TableError(f"{where} gives no ArgumentParser")
    return parser_list(parser)


def operand_list(found: Command) -> str:
    """The operands of a command."""
    return "\n".join(f"*{name}*\n:   {sentence(text)}\n" for name, text in found.operands)


def environment_list(found: Command) -> str:
    """The variables a command reads."""
    rows = [*found.env, *COMMON_ENV]
    seen: set[str] = set()
    parts = []
    for name, text in rows:
        if name not in seen:
            seen.add(name)
            parts.append(f"`{name}`\n:   {sentence(text)}\n")
    if found.env_prefixes:
        names = " and ".join(f"`{prefix}`*NAME*" for prefix in found.env_prefixes)
        parts.append(
            f"Most options can be given as {names}; the names stand with the options. The command line wins over the "
            "environment, and the environment over the lines of the script.\n"
        )
    return "\n".join(parts)


def exit_list(found: Command) -> str:
    """Exit statuses: the command's own, then those all commands share."""
    own = dict(found.exits)
    rows = sorted({**dict(EXIT_STATUSES), **own}.items())
    return "\n".join(f"{status}\n:   {sentence(text)}\n" for status, text in rows)


def words(section: str) -> dict[str, str]:
    """term -> prose of one section of man/src/words.md."""
    found: dict[str, str] = {}
    inside = False
    term = ""
    for line in WORDS.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            inside = line[2:].strip() == section
        elif inside and line.startswith("`"):
            term = line.strip().strip("`")
            if term in found:
                raise TableError(f"{WORDS.name}: {term} stands twice in {section}")
        elif inside and line.startswith(":   ") and term:
            found[term] = line[4:].strip()
        elif inside and line.startswith("    ") and term:
            found[term] += "\n    " + line.strip()
    return found


def _matched(section: str, rows: list[str]) -> dict[str, str]:
    prose = words(section)
    missing, extra = set(rows) - set(prose), set(prose) - set(rows)
    if missing:
        raise TableError(f"man/src/{WORDS.name}, {section}: nothing on {', '.join(sorted(missing))}")
    if extra:
        raise TableError(f"man/src/{WORDS.name}, {section}: not in the code: {', '.join(sorted(extra))}")
    return {row: prose[row] for row in rows}


def job_states() -> dict[str, str]:
    """Job state -> meaning, in table order."""
    return _matched("job states", [str(state) for state in JobState])


def reasons() -> dict[str, str]:
    """Reason -> meaning, in table order."""
    return _matched("reasons", [str(reason) for reason in Reason])


def launch_failures() -> dict[str, str]:
    """Launch failure -> meaning."""
    return _matched("launch failures", [str(failure) for failure in LaunchFailure if failure.value])


def node_states() -> dict[str, str]:
    """Node state -> meaning."""
    return _matched("node states", list(NODE_STATE_CODES))


def state_list() -> str:
    """Job states with their codes."""
    return "\n".join(f"`{name}` ({STATE_CODES[JobState(name)]})\n:   {text}\n" for name, text in job_states().items())


def reason_list() -> str:
    """Reasons."""
    return "\n".join(f"`{name}`\n:   {text}\n" for name, text in reasons().items())


def reservation_flag_list() -> str:
    """Flags of advance reservations."""
    return "\n".join(f"`{flag}`\n:   {text[0].upper()}{text[1:]}.\n" for flag, text in RESERVATION_FLAGS.items())


def node_state_list() -> str:
    """Node states with their compact forms."""
    return "\n".join(f"`{name}` ({NODE_STATE_CODES[name]})\n:   {text}\n" for name, text in node_states().items())


def launch_failure_list() -> str:
    """Launch failures."""
    return "\n".join(f"`{name}`\n:   {text}\n" for name, text in launch_failures().items())


def error_codes() -> dict[str, set[str]]:
    """Error code -> the kinds it is raised as.

    Collected from the source: `Kind(..., code="CODE")`, defaults, and other constants that a `code` is given or is
    compared with.
    """
    found: dict[str, set[str]] = {}
    kinds: list[type[HelixError]] = [*KINDS.values(), HelixError]
    for kind in kinds:
        found.setdefault(kind.default_code, set()).add(kind.kind)
    for top in ("helix", "helixctld", "helixd", "plugins"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    for keyword in node.keywords:
                        if keyword.arg == "code":
                            for code in _codes_in(keyword.value):
                                found.setdefault(code, set()).add(name if name in KINDS else "")
                elif isinstance(node, ast.Compare) and getattr(node.left, "attr", "") == "code":
                    for code in (code for other in node.comparators for code in _codes_in(other)):
                        found.setdefault(code, set())
    return found


def _codes_in(node: ast.expr) -> list[str]:
    """The codes among the constants of an expression."""
    values: list[Any] = [leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)]
    return [value for value in values if _is_code(value)]


def _is_code(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Z][A-Z0-9_]{2,}", value) is not None


def error_list() -> str:
    """Error codes, each with its kind and meaning."""
    codes = error_codes()
    prose = _matched("errors", sorted(codes))
    parts = []
    for code, text in prose.items():
        kinds = ", ".join(sorted(kind for kind in codes[code] if kind))
        parts.append(f"`{code}`" + (f" ({kinds})" if kinds else "") + f"\n:   {text}\n")
    return "\n".join(parts)


def kind_list() -> str:
    """The kinds of errors and the exit status of each."""
    return "\n".join(
        f"`{kind.kind}` (exit status {kind.exit_status})\n:   {(kind.__doc__ or '').strip().splitlines()[0]}\n"
        for kind in KINDS.values()
    )
