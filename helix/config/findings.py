"""What there is to say about a line of a configuration file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from helix.config.key import Key, Status


class Severity(StrEnum):
    """How a finding counts.  A configuration with ERROR or UNKNOWN is not used."""

    HONOURED = "honoured"
    IGNORED = "ignored"  # accepted, without effect
    LATER = "later"  # accepted, without effect in this version
    WARNING = "warning"
    UNKNOWN = "unknown"  # no such key
    ERROR = "error"


FATAL = frozenset({Severity.ERROR, Severity.UNKNOWN})
_OF_STATUS = {
    Status.HONOURED: Severity.HONOURED,
    Status.IGNORED: Severity.IGNORED,
    Status.LATER: Severity.LATER,
}
MAX_FINDINGS = 10_000  #: findings kept


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark.  `line` counts from 1 (0: the file as a whole); `nearest` is the key or name that may be meant."""

    file: str
    line: int
    severity: Severity
    key: str
    message: str
    nearest: str = ""
    hint: str = ""  # the valid form, or the remedy

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


@dataclass(slots=True)
class Findings:
    """Collects remarks; the `honoured` kind once for each key."""

    items: list[Finding] = field(default_factory=list)
    seen: set[tuple[str, str]] = field(default_factory=set)

    def add(
        self, file: str, line: int, severity: Severity, key: str, message: str, *, nearest: str = "", hint: str = ""
    ) -> None:
        """Note a remark, up to MAX_FINDINGS."""
        if len(self.items) < MAX_FINDINGS:
            self.items.append(Finding(file, line, severity, key, message, nearest, hint))

    def error(self, file: str, line: int, key: str, message: str, *, nearest: str = "", hint: str = "") -> None:
        """Note something that keeps the configuration from being used."""
        self.add(file, line, Severity.ERROR, key, message, nearest=nearest, hint=hint)

    def used(self, file: str, line: int, key: Key, *, where: str = "", as_written: str = "") -> None:
        """Note that `key` stands in the file, and what Helix does with it; once for each key and kind of line."""
        mark = (where, key.name)
        if mark in self.seen:
            return
        self.seen.add(mark)
        name = f"{key.name} of {where}" if where else key.name
        if as_written and as_written.lower() != key.name.lower():
            name = f"{as_written} ({name})"
        message = f"{name} is honoured" if key.status is Status.HONOURED else f"{name} has no effect: {key.doc}"
        self.add(file, line, _OF_STATUS[key.status], key.name, message)

    @property
    def fatal(self) -> list[Finding]:
        """Those that keep the configuration from being used, in order."""
        return [item for item in self.items if item.severity in FATAL]
