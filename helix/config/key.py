"""What one configuration key is: its name, type, unit, default, bounds, and what Helix does with it.

Owns the vocabulary of the tables beside it (`table_*.py`); `helix.config.keys` puts the tables together.  Standard
library only, so that `hctl config check` needs no daemon's libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What Helix does with a key that stands in a file."""

    HONOURED = "honoured"  # read, checked and acted upon
    IGNORED = "accepted_ignored"  # Slurm's; has no effect here, and `doc` says why
    LATER = "later"  # read and checked, but nothing acts upon it in this version


class Kind(StrEnum):
    """How the text of a value is read; `helix.config.values` does it."""

    TEXT = "text"
    PATH = "path"  # absolute path
    INT = "integer"
    BOOL = "yes or no"
    SECONDS = "seconds"  # whole seconds
    INTERVAL = "interval"  # seconds with a fraction
    TIME = "time limit"  # Slurm's time limit; seconds, 0 = unlimited
    MEM = "memory"  # MiB
    BYTES = "size"  # bytes
    LIST = "list"  # comma separated; a tuple
    PARAMS = "parameters"  # comma separated name[=value]; a dict
    CHOICE = "choice"  # one of `choices`, any case
    CHOICES = "choices"  # comma separated, each one of `choices`
    LEVEL = "level"  # log level: a name or Slurm's number
    PORT = "port"  # 0-65535; of a range the first
    HOSTS = "hosts"  # name or name(address), comma separated; a tuple of pairs
    HOSTLIST = "host list"
    SHARING = "sharing"  # NO, YES[:n], FORCE[:n], EXCLUSIVE
    PLUGIN = "plugin"  # family/name
    WEIGHTS = "weights"  # TRES=number, ...; the text, checked (`helix.config.tres` reads it)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # identity is what lookups hash by
class Key:
    """One key of a file.  `doc` is finished prose for the manual (one or more sentences, present tense).

    `default` is text as it would stand in the file; "" = not set.  `attr` is the field of the record in
    `helix.config.model` that gets the value; "" = the value is not kept.
    """

    name: str
    kind: Kind = Kind.TEXT
    default: str = ""
    doc: str
    attr: str = ""
    section: str = ""
    aliases: tuple[str, ...] = ()
    unit: str = ""
    reloadable: bool = True  # `hctl reconfigure` applies a change; otherwise the daemons must be restarted
    status: Status = Status.HONOURED
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    zero: str = ""  # word that stands for 0, such as UNLIMITED
    none: str = ""  # word that stands for "not given", such as NONE; then the value may be None
    example: str = ""  # a telling value, for the example file

    @property
    def form(self) -> str:
        """The valid form in one line, for messages and the manual."""
        if self.kind is Kind.CHOICE:
            return "one of " + ", ".join(self.choices)
        if self.kind is Kind.CHOICES and self.choices:
            return "a comma separated list of " + ", ".join(self.choices)
        text = _FORMS[self.kind]
        if self.minimum is not None and self.maximum is not None:
            text += f" from {self.minimum} to {self.maximum}"
        elif self.minimum is not None:
            text += f" of at least {self.minimum}"
        elif self.maximum is not None:
            text += f" up to {self.maximum}"
        words = [word for word in (self.zero, self.none) if word]
        return text + "".join(f", or {word}" for word in words)


_FORMS = {
    Kind.TEXT: "text",
    Kind.PATH: "an absolute path",
    Kind.INT: "a whole number",
    Kind.BOOL: "YES or NO",
    Kind.SECONDS: "a whole number of seconds",
    Kind.INTERVAL: "a number of seconds",
    Kind.TIME: "minutes, mm:ss, hh:mm:ss, d-hh, d-hh:mm or d-hh:mm:ss, or UNLIMITED",
    Kind.MEM: "a whole number of MiB, or with K, M, G or T",
    Kind.BYTES: "a whole number of bytes, or with K, M, G or T",
    Kind.LIST: "a comma separated list",
    Kind.PARAMS: "a comma separated list of name or name=value",
    Kind.CHOICE: "a word",
    Kind.CHOICES: "a comma separated list",
    Kind.LEVEL: "quiet, fatal, error, info, verbose, debug to debug5, or 0 to 9",
    Kind.PORT: "a port number from 0 to 65535",
    Kind.HOSTS: "host or host(address)",
    Kind.HOSTLIST: "a host list such as n[1-3,07-10]",
    Kind.SHARING: "NO, YES[:jobs], FORCE[:jobs] or EXCLUSIVE",
    Kind.PLUGIN: "family/name",
    Kind.WEIGHTS: "a comma separated list of TRES=number, such as CPU=1.0,Mem=0.25G,GRES/gpu=2.0",
}
