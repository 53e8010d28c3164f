"""AssocFile: accounts, users, associations and QOS as `sacctmgr dump` writes them.

    Cluster - 'tux':Fairshare=1:QOS='normal,high'
    QOS - 'high':Priority=100:MaxWall=60
    Parent - 'root'
    Account - 'physics':Description='all of physics':Fairshare=10:GrpTRES=cpu=64
    Parent - 'physics'
    User - 'alice':DefaultAccount='physics':Fairshare=3

One line each: what it is, ` - `, its name, then `:Field=value`.  Values may stand in quotes; `#` starts a comment.
`parse_assoc(text, filename)` never raises for what a file says: `AssocLines.findings` has all remarks with file and
line.  Standard library only, so that `hctl config check` can read it; `helix.config.assoc_load` makes the records.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from helix.config.findings import Findings, Severity
from helix.config.key import Key, Kind, Status
from helix.config.keys import find_in, names_of, nearest
from helix.config.table_assoc import ASSOC_LINES, OLD_NAMES
from helix.config.tres import parse_tres
from helix.config.values import parse_value
from helix.quoting import one_line

MAX_LINES = 1_000_000
MAX_LINE_CHARS = 64 << 10
MAX_DEPTH = 64  #: accounts inside one another
ROOT = "root"
DEFAULT_QOS = "normal"  #: is there without a line where there is any QOS

_HEAD = re.compile(r"(?P<word>[A-Za-z]+)\s*-\s*(?:'(?P<one>[^']*)'|\"(?P<two>[^\"]*)\"|(?P<bare>[^\s:'\"]+))\s*")
_FIELD = re.compile(r":\s*(?P<name>[A-Za-z][A-Za-z0-9]*)\s*=\s*")
_NAME = re.compile(r"[A-Za-z0-9_.@+\-]{1,100}", re.ASCII)


@dataclass(slots=True)
class AssocLine:
    """A line that could be read: `values` by field of the record."""

    line: int
    name: str
    parent: str  # account it stands in; "" for Cluster and QOS
    values: dict[str, Any]


@dataclass(slots=True)
class AssocLines:
    """What a file holds, by kind of line and in its order; accounts stand before what is in them."""

    file: str
    findings: Findings = field(default_factory=Findings)
    cluster: AssocLine | None = None
    accounts: dict[str, AssocLine] = field(default_factory=dict)
    users: list[AssocLine] = field(default_factory=list)
    qos: dict[str, AssocLine] = field(default_factory=dict)

    @property
    def first_limit(self) -> int:
        """The line of the first limit on jobs; 0 = there is none."""
        lines = [*filter(None, [self.cluster]), *self.accounts.values(), *self.users, *self.qos.values()]
        return min((line.line for line in lines if _limits(line)), default=0)


def no_effect(file: str, line: int) -> tuple[str, str]:
    """Message and hint where AccountingStorageEnforce lets limits be; `line`: see `AssocLines.first_limit`."""
    return (
        f"the limits in AssocFile {one_line(file, 200)} (the first in line {line}) have no effect: "
        "AccountingStorageEnforce does not say limits",
        "set AccountingStorageEnforce=associations,limits",
    )


def keeps_limits(enforce: Collection[str]) -> bool:
    """Whether these words of AccountingStorageEnforce make limits count."""
    return "none" not in enforce and not {"limits", "safe", "all"}.isdisjoint(enforce)


def _limits(line: AssocLine) -> bool:
    return any(
        value is not None and name.startswith(("limits.", "max_", "min_tres")) for name, value in line.values.items()
    )


def parse_assoc(text: str, filename: str) -> AssocLines:
    """Everything in `text`; see the module."""
    found = AssocLines(filename)
    reader = _Reader(found)
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        found.findings.error(filename, 0, "", f"more than {MAX_LINES} lines")
        return found
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#"):
            reader.take(number, stripped)
    reader.finish()
    return found


class _Reader:
    """Lines in, in order; the account of the last Parent line is the one the next lines are in."""

    def __init__(self, found: AssocLines) -> None:
        self.found = found
        self.parent = ROOT
        self.seen: dict[tuple[str, str, str], int] = {}  # (account, user, partition) -> line

    def error(self, line: int, key: str, message: str, *, near: str = "", hint: str = "") -> None:
        """Note a fault."""
        if near and not hint:
            hint = f"did you mean '{near}'?"
        self.found.findings.error(self.found.file, line, key, message, nearest=near, hint=hint)

    def take(self, number: int, line: str) -> None:
        """Read one line."""
        match = _HEAD.match(line) if len(line) <= MAX_LINE_CHARS else None
        if match is None:
            form = "a line is: Account - 'name':Field=value:Field=value"
            self.error(number, "", f"'{one_line(line)}' is not a line of an association file", hint=form)
            return
        word = next((known for known in ASSOC_LINES if known.lower() == match["word"].lower()), "")
        if not word:
            near = nearest(match["word"], ASSOC_LINES)
            hint = f"did you mean {near}?" if near else f"the lines are {', '.join(ASSOC_LINES)}"
            self.error(number, match["word"], f"no kind of line '{one_line(match['word'])}'", near=near, hint=hint)
            return
        name = next(part for part in (match["one"], match["two"], match["bare"]) if part is not None)
        if not _NAME.fullmatch(name):
            self.error(number, word, f"'{one_line(name)}' is not a name", hint="letters, digits and _ . @ + -")
            return
        texts = self._fields(number, word, line, match.end())
        if texts is None:
            return
        self.found.findings.used(self.found.file, number, ASSOC_LINES[word][0])
        values = self._values(number, word, texts)
        if values is not None:
            self._keep(number, word, name, values)

    def _fields(self, number: int, word: str, line: str, at: int) -> dict[str, str] | None:
        """Canonical field -> text; None if the line cannot be used."""
        keys = ASSOC_LINES[word]
        texts: dict[str, str] = {}
        good = True
        while at < len(line):
            match = _FIELD.match(line, at)
            if match is None:
                self.error(
                    number,
                    word,
                    f"'{one_line(line[at:])}' is not :Field=value",
                    hint="quote a value that holds a colon",
                )
                return None
            text, at = _value(line, match.end())
            old = OLD_NAMES.get(match["name"].lower())
            if old is not None and find_in(keys, old[0]) is not None:
                limit, tres = old
                texts[limit] = ",".join(part for part in (texts.get(limit, ""), f"{tres}={text}") if part)
                continue
            key = find_in(keys, match["name"])
            if key is None or key is keys[0]:
                near = nearest(match["name"], [*names_of(keys[1:]), *OLD_NAMES])
                self.found.findings.add(
                    self.found.file,
                    number,
                    Severity.UNKNOWN,
                    match["name"],
                    f"unknown field '{one_line(match['name'])}' of {word}",
                    nearest=near,
                    hint=f"did you mean {near}?" if near else "remove it, or quote the value it is part of",
                )
                good = False
                continue
            texts[key.name] = text
        return texts if good else None

    def _values(self, number: int, word: str, texts: dict[str, str]) -> dict[str, Any] | None:
        values: dict[str, Any] = {}
        good = True
        for name, text in texts.items():
            key = find_in(ASSOC_LINES[word], name)
            assert key is not None
            if key.status is not Status.HONOURED:
                self.found.findings.used(self.found.file, number, key, where=word)
                continue
            try:
                values[key.attr] = _read(key, text)
            except ValueError as error:
                self.error(number, key.name, f"bad {key.name}='{one_line(text)}': {error}", hint=_form(key))
                good = False
        return values if good else None

    def _keep(self, number: int, word: str, name: str, values: dict[str, Any]) -> None:
        found = self.found
        if word == "Parent":
            if name != ROOT and name not in found.accounts:
                near = nearest(name, found.accounts)
                self.error(
                    number,
                    word,
                    f"no account '{name}' before this line",
                    near=near,
                    hint="" if near else "add its line",
                )
            self.parent = name
        elif word == "Cluster":
            found.cluster = AssocLine(number, name, "", values)
        elif word == "QOS":
            self._once(number, word, name, found.qos.get(name))
            found.qos[name] = AssocLine(number, name, "", values)
        elif word == "Account":
            if name == ROOT:
                self.error(number, word, "the account root is the Cluster line's", hint="write its fields there")
            self._once(number, word, name, found.accounts.get(name))
            found.accounts[name] = AssocLine(number, name, self.parent, values)
            if self._depth(name) > MAX_DEPTH:
                self.error(number, word, f"account '{name}' is more than {MAX_DEPTH} accounts deep")
        else:
            mark = (self.parent, name, values.get("partition", ""))
            if mark in self.seen:
                self.error(
                    number, word, f"user '{name}' of account '{self.parent}' stands at line {self.seen[mark]} too"
                )
            self.seen[mark] = number
            found.users.append(AssocLine(number, name, self.parent, values))

    def _once(self, number: int, word: str, name: str, before: AssocLine | None) -> None:
        if before is not None:
            self.error(
                number, word, f"{word} '{name}' stands at line {before.line} too", hint="remove one of the lines"
            )

    def _depth(self, account: str) -> int:
        depth = 0
        while account != ROOT and account in self.found.accounts and depth <= MAX_DEPTH:
            account = self.found.accounts[account].parent
            depth += 1
        return depth

    def finish(self) -> None:
        """Checks that need everything: QOS and accounts that are named but not there."""
        found = self.found
        for word, lines in (
            ("Cluster", [found.cluster] if found.cluster else []),
            ("Account", list(found.accounts.values())),
            ("User", found.users),
            ("QOS", list(found.qos.values())),
        ):
            for line in lines:
                self._require_qos(word, line)
        accounts_of: dict[str, list[str]] = {}
        for line in found.users:
            accounts_of.setdefault(line.name, []).append(line.parent)
        for line in found.users:
            account = line.values.get("default_account", "")
            if account and account != ROOT and account not in found.accounts:
                near = nearest(account, found.accounts)
                self.error(line.line, "DefaultAccount", f"there is no account '{one_line(account)}'", near=near)
            elif account and account not in accounts_of[line.name]:
                self._warn_not_in(line, account, accounts_of[line.name])
            for account in line.values.get("coordinator", ()):
                if account != ROOT and account not in found.accounts:
                    near = nearest(account, found.accounts)
                    self.error(line.line, "Coordinator", f"there is no account '{one_line(account)}'", near=near)

    def _warn_not_in(self, line: AssocLine, account: str, own: list[str]) -> None:
        """A default account that refuses each job that names no account."""
        self.found.findings.add(
            self.found.file,
            line.line,
            Severity.WARNING,
            "DefaultAccount",
            f"user '{line.name}' is not in account '{one_line(account)}': with AccountingStorageEnforce=associations "
            "their jobs are refused unless they name another account",
            hint=f"add User - '{line.name}' to account '{one_line(account)}', or name one of {', '.join(own[:5])}",
        )

    def _require_qos(self, word: str, line: AssocLine) -> None:
        values, known = line.values, self.found.qos
        named = [values["default_qos"]] if values.get("default_qos") else []
        named += [name.lstrip("+-") for name in (*values.get("qos", ()), *values.get("preempt", ()))]
        for name in named:
            if name not in known and name != DEFAULT_QOS:
                near = nearest(name, known)
                self.error(
                    line.line,
                    "QOS",
                    f"{word} '{line.name}' names QOS '{one_line(name)}', which no QOS line describes",
                    near=near,
                    hint="" if near else f"add: QOS - '{one_line(name)}'",
                )


def _value(line: str, at: int) -> tuple[str, int]:
    """The text of a value that begins at `at`, and where it ends; quotes protect colons."""
    if line[at : at + 1] in ("'", '"'):
        end = line.find(line[at], at + 1)
        if end >= 0:
            return line[at + 1 : end].strip(), end + 1
    match = _FIELD.search(line, at)
    end = match.start() if match else len(line)
    return line[at:end].strip().strip("'\""), end


def _read(key: Key, text: str) -> Any:
    """The value of a field; -1 stands for no limit (None)."""
    if key.name == "Fairshare":
        if text.lower() == "parent":
            return -1
        if not (text.isascii() and text.isdigit() and int(text[:12]) < 1 << 31):
            raise ValueError("it is neither a whole number nor parent")
        return int(text)
    if key.kind is Kind.PARAMS:
        return parse_tres(text)
    if key.name == "LimitFactor" and text.strip("0.") == "" and text:
        raise ValueError("it would let nobody run; -1 is no factor")
    if text == "-1" or (not text and not key.default and key.kind is not Kind.LIST):
        return "" if key.kind is Kind.TEXT else None
    if key.kind is Kind.TIME and text.upper() in ("UNLIMITED", "INFINITE", "NONE"):
        return None
    return parse_value(key, text)


def _form(key: Key) -> str:
    if key.kind is Kind.INTERVAL:
        return f"{key.name} is a number such as 0.5, or -1 for none"
    if key.kind is Kind.PARAMS:
        return f"{key.name} is as cpu=8,mem=4G,gres/gpu=1; quote it if it holds a colon"
    return f"{key.name} is {key.form}"
