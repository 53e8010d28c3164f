"""`hctl config check`: everything there is to say about a configuration file, key by key.

    check_config(path) -> list[Finding]   helix.conf or slurm.conf, with gres.conf and topology.conf beside it;
                                          cgroup.conf and gres.conf alone are told by their names

Standard library only: a check needs neither a controller nor the daemons' libraries.
"""

from __future__ import annotations

import os

from helix.config.assoc_file import DEFAULT_QOS, AssocLines, keeps_limits, no_effect, parse_assoc
from helix.config.findings import Finding, Findings, Severity
from helix.config.keys import CGROUP_KEYS, GRES_KEYS, Key, find_in, names_of, nearest
from helix.config.line import Given
from helix.config.parse import Entry, Parsed, read_entries
from helix.config.read import read_config, read_file
from helix.config.resolve import resolve
from helix.config.values import parse_value
from helix.errors import ConfigError
from helix.quoting import one_line

__all__ = ["Finding", "Severity", "check_config"]

_OTHER_FILES: dict[str, tuple[Key, ...]] = {"cgroup.conf": CGROUP_KEYS, "gres.conf": GRES_KEYS}


def check_config(path: str | os.PathLike[str]) -> list[Finding]:
    """All findings, in the order of the lines of each file; one `honoured`, `ignored` or `later` for each key used.

    The file may be used when none is an error or unknown (`findings.FATAL`).  Raises ConfigError (CONFIG_MISSING)
    only when there is no such file.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise ConfigError(f"{name}: no such file", code="CONFIG_MISSING")
    keys = _OTHER_FILES.get(os.path.basename(name))
    path = os.path.abspath(name)
    if keys is None:
        resolved = resolve(read_config(path))
        accounts, of_accounts = _check_accounts(resolved.settings["assoc_file"], resolved.given)
        if accounts is not None:
            _check_partition_qos(resolved.partitions.given, accounts)
            if accounts.first_limit and not keeps_limits(resolved.settings["accounting_storage_enforce"]):
                at = resolved.given.get("AccountingStorageEnforce") or resolved.given["AssocFile"]
                message, hint = no_effect(accounts.file, accounts.first_limit)
                name = "AccountingStorageEnforce"
                resolved.findings.add(at.file, at.line, Severity.WARNING, name, message, hint=hint)
        found = [*resolved.findings.items, *of_accounts]
    else:
        found = _check_other(read_entries(path, read_file), keys)
    order: dict[str, int] = {}
    for finding in found:
        order.setdefault(finding.file, len(order))
    return sorted(found, key=lambda finding: (order[finding.file], finding.line))


def _check_accounts(path: str, given: dict[str, Entry]) -> tuple[AssocLines | None, list[Finding]]:
    """What AssocFile holds (None: it cannot be read), and what there is to say about it."""
    entry = given.get("AssocFile")
    if not path or entry is None:
        return AssocLines(""), []
    try:
        lines = parse_assoc(read_file(path), path)
        return lines, lines.findings.items
    except (OSError, ValueError) as error:
        findings = Findings()
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        findings.error(entry.file, entry.line, "AssocFile", f"AssocFile {one_line(path, 200)}: {why}")
        return None, findings.items


def _check_partition_qos(partitions: list[Given], accounts: AssocLines) -> None:
    """The QOS of partitions are those of AssocFile."""
    known = (*accounts.qos, DEFAULT_QOS) if accounts.qos else ()
    for given in partitions:
        name = given.values.get("qos", "")
        if name and name not in known:
            near = nearest(name, known)
            hint = f"did you mean '{near}'?" if near else f"add to AssocFile: QOS - '{one_line(name)}'"
            given.error("QOS", f"partition {given.head}: no QOS line describes '{one_line(name)}'", hint=hint)


def _check_other(parsed: Parsed, keys: tuple[Key, ...]) -> list[Finding]:
    findings = Findings()
    for problem in parsed.problems:
        findings.error(problem.file, problem.line, "", problem.message, hint=problem.hint)
    for entry in parsed.entries:
        for name, text in entry.pairs:
            key = find_in(keys, name)
            if key is None:
                near = nearest(name, names_of(keys))
                findings.add(
                    entry.file,
                    entry.line,
                    Severity.UNKNOWN,
                    name,
                    f"unknown key '{one_line(name)}'",
                    nearest=near,
                    hint=f"did you mean {near}?" if near else "remove it",
                )
                continue
            findings.used(entry.file, entry.line, key, as_written=name)
            try:
                parse_value(key, text)
            except ValueError as error:
                findings.error(
                    entry.file,
                    entry.line,
                    key.name,
                    f"bad {name}='{one_line(text)}': {error}",
                    hint=f"{key.name} is {key.form}",
                )
    return findings.items
