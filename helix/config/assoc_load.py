"""From the lines of AssocFile to `helix.model.account.Accounts`, or a refusal that names file and line."""

from __future__ import annotations

from itertools import islice
from typing import Any

from helix.config.assoc_file import ROOT, AssocLine, AssocLines, parse_assoc
from helix.config.findings import Finding, Severity
from helix.config.read import read_file
from helix.errors import ConfigError
from helix.model.account import DEFAULT_QOS, Accounts, Association, Limits, Qos

REMARKS_MAX = 100  #: remarks kept


def load_accounts(path: str) -> Accounts:
    """The accounts of the file at `path`; none for "".  Raises ConfigError that names file and line."""
    if not path:
        return Accounts()
    try:
        text = read_file(path)
    except OSError as error:
        raise ConfigError(
            f"AssocFile {path}: {error.strerror or error}",
            code="CONFIG_MISSING",
            hint="make the file, or remove AssocFile",
        ) from error
    except ValueError as error:
        raise ConfigError(f"AssocFile {path}: {error}", code="CONFIG_INVALID") from error
    return build_accounts(parse_assoc(text, path))


def build_accounts(lines: AssocLines) -> Accounts:
    """The records of lines without fatal findings; raises ConfigError for the first of those."""
    if lines.findings.fatal:
        raise _refusal(lines.findings.fatal)
    known = tuple(dict.fromkeys((*lines.qos, DEFAULT_QOS))) if lines.qos else ()
    root = lines.cluster.values if lines.cluster is not None else {}
    lists: dict[str, tuple[str, ...] | None] = {ROOT: _qos_list(root.get("qos"), None, known)}
    associations = [Association(account=ROOT, qos=lists[ROOT], **_fields(root))]
    for name, line in lines.accounts.items():
        lists[name] = _qos_list(line.values.get("qos"), lists.get(line.parent), known)
        fields = _fields(line.values)
        associations.append(Association(account=name, parent=line.parent, qos=lists[name], **fields))
    default: dict[str, str] = {}
    coordinators: dict[str, tuple[str, ...]] = {}
    for line in lines.users:
        fields = _fields(line.values)
        if named := fields.pop("coordinator", ()):
            coordinators[line.name] = tuple(dict.fromkeys((*coordinators.get(line.name, ()), *named)))
        account = fields.pop("default_account", "") or ""
        if account:
            default.setdefault(line.name, account)
        qos = _qos_list(line.values.get("qos"), lists.get(line.parent), known)
        associations.append(Association(account=line.parent, user=line.name, parent=line.parent, qos=qos, **fields))
    found = [Qos(name=line.name, **_qos_fields(line)) for line in lines.qos.values()]
    if known and DEFAULT_QOS not in lines.qos:
        found.insert(0, Qos(name=DEFAULT_QOS))
    accounts = Accounts(associations, default, found, coordinators)
    odd = (f for f in lines.findings.items if f.severity is Severity.WARNING)
    accounts.remarks = tuple(f"{f.file}:{f.line}: {f.message} ({f.hint})" for f in islice(odd, REMARKS_MAX))
    accounts.first_limit = lines.first_limit
    return accounts


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of the record; those of its limits in one `Limits`."""
    kept = {name: value for name, value in values.items() if value is not None}
    fields = {name: value for name, value in kept.items() if not name.startswith("limits.") and name != "qos"}
    limits = {name[7:]: value for name, value in kept.items() if name.startswith("limits.")}
    if limits:
        fields["limits"] = Limits(**limits)
    return fields


def _qos_fields(line: AssocLine) -> dict[str, Any]:
    fields = _fields(line.values)
    fields["flags"] = frozenset(fields.get("flags", ()))
    fields["preempt_mode"] = tuple(word for word in fields.get("preempt_mode", ()) if word != "CLUSTER")
    return fields


def _qos_list(
    named: tuple[str, ...] | None, above: tuple[str, ...] | None, known: tuple[str, ...]
) -> tuple[str, ...] | None:
    """A QOS list with `+name` and `-name` applied to that of the account above; None = as there."""
    if not named:
        return None
    if not any(name[:1] in "+-" for name in named):
        return tuple(dict.fromkeys(named))
    found = list(above if above is not None else known)
    for name in named:
        word = name.lstrip("+-")
        if name.startswith("-"):
            found = [kept for kept in found if kept != word]
        elif word not in found:
            found.append(word)
    return tuple(found)


def _refusal(fatal: list[Finding]) -> ConfigError:
    first = fatal[0]
    where = f"{first.file}:{first.line}" if first.line else first.file
    more = f"{len(fatal) - 1} more faults" if len(fatal) > 1 else ""
    return ConfigError(
        f"{where}: {first.message}",
        hint="; ".join(part for part in (first.hint, more) if part),
        data={"file": first.file, "line": first.line, "key": first.key, "nearest": first.nearest},
    )
