"""Lines with several Key=Value: looks up the keys of one kind of line, applies its DEFAULT lines, reads the values.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helix.config.findings import Findings, Severity
from helix.config.key import Key
from helix.config.keys import find_in, names_of, nearest
from helix.config.parse import Entry
from helix.config.values import parse_value
from helix.quoting import one_line


@dataclass(slots=True)
class Given:
    """What one line gives: its first value, the texts of its keys (defaults applied), and the values by field."""

    entry: Entry
    head: str
    texts: dict[str, str]  # canonical key -> text
    values: dict[str, Any]  # field of the record -> value; all fields of the table
    findings: Findings
    faulty: bool = False

    def add(self, severity: Severity, key: str, message: str, *, nearest: str = "", hint: str = "") -> None:
        """Note a remark about the line."""
        self.findings.add(self.entry.file, self.entry.line, severity, key, message, nearest=nearest, hint=hint)

    def warn(self, key: str, message: str, *, hint: str = "") -> None:
        """Note a warning about the line."""
        self.add(Severity.WARNING, key, message, hint=hint)

    def error(self, key: str, message: str, *, nearest: str = "", hint: str = "") -> None:
        """Note that the line cannot be used."""
        self.faulty = True
        self.add(Severity.ERROR, key, message, nearest=nearest, hint=hint)


@dataclass(slots=True)
class LineReader:
    """Reads lines of one kind; remembers their DEFAULT lines, and values read before (lines repeat themselves)."""

    keys: tuple[Key, ...]
    where: str  # "a node line"
    findings: Findings
    defaults: dict[str, str] = field(default_factory=dict)
    cache: dict[tuple[str, str], Any] = field(default_factory=dict)

    def read(self, entry: Entry, *, may_default: bool = False) -> Given | None:
        """The line's keys and values; None for a DEFAULT line, which is remembered."""
        head = entry.pairs[0][1].strip()
        given = Given(entry, head, {}, {}, self.findings)
        for name, text in entry.pairs[1:]:
            self._take(given, name, text)
        self.findings.used(entry.file, entry.line, self.keys[0])
        if may_default and head.upper() == "DEFAULT":
            self._values(given)
            if not given.faulty:
                self.defaults.update(given.texts)
            return None
        given.texts = {**self.defaults, **given.texts}
        self._values(given)
        return given

    def _take(self, given: Given, name: str, text: str) -> None:
        entry = given.entry
        key = find_in(self.keys, name)
        if key is None or key is self.keys[0]:
            given.faulty = True
            near = nearest(name, names_of(self.keys[1:]))
            given.add(
                Severity.UNKNOWN,
                name,
                f"unknown key '{one_line(name)}' on {self.where}",
                nearest=near,
                hint=f"did you mean {near}?" if near else "remove it",
            )
            return
        if key.name in given.texts:
            given.warn(key.name, f"{key.name} stands twice on the line; the last counts")
        given.texts[key.name] = text.strip()
        self.findings.used(entry.file, entry.line, key, where=self.where, as_written=name)

    def _values(self, given: Given) -> None:
        for key in self.keys[1:]:
            if not key.attr:
                continue
            text = given.texts.get(key.name, "")
            mark = (key.name, text)
            if mark not in self.cache:
                try:
                    self.cache[mark] = parse_value(key, text)
                except ValueError as error:
                    given.error(
                        key.name, f"bad {key.name}='{one_line(text)}': {error}", hint=f"{key.name} is {key.form}"
                    )
                    continue
            given.values[key.attr] = self.cache[mark]
