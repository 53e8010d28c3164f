"""The error tree: what can go wrong, with codes that are stable and cross the wire.

Owns the classes, their wire form and the exit status of each kind.  Programs compare `code` or the class, never
the text.  `msg` is one line that names the thing; `hint` says the remedy.  Imported by the commands: stdlib only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing would cost every command 2 ms
    from typing import Any, ClassVar


class HelixError(Exception):
    """Base of every error Helix raises on purpose.

    `code` is UPPER_CASE and stable (documented in helix_errors(7)); `exit_status` is what a command exits with.
    """

    kind: ClassVar[str] = "HelixError"
    default_code: ClassVar[str] = "ERROR"
    exit_status: ClassVar[int] = 1

    def __init__(self, msg: str, *, code: str = "", hint: str = "", data: dict[str, Any] | None = None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.code = code or self.default_code
        self.hint = hint
        self.data = data or {}

    def to_wire(self) -> dict[str, Any]:
        """The `e` object of a refused reply."""
        wire: dict[str, Any] = {"code": self.code, "kind": self.kind, "msg": self.msg}
        if self.hint:
            wire["hint"] = self.hint
        if self.data:
            wire["data"] = self.data
        return wire


class UsageError(HelixError):
    """The request is malformed: an unknown option, an unreadable time, a bad host list."""

    kind = "UsageError"
    default_code = "USAGE"
    exit_status = 2


class ConfigError(HelixError):
    """A configuration file cannot be used; `msg` starts with file:line."""

    kind = "ConfigError"
    default_code = "CONFIG_INVALID"


class NotFound(HelixError):
    """A named job, node, partition or blob does not exist."""

    kind = "NotFound"
    default_code = "NOT_FOUND"


class Denied(HelixError):
    """The caller may not do this."""

    kind = "Denied"
    default_code = "ACCESS_DENIED"
    exit_status = 4


class LimitExceeded(HelixError):
    """A configured or built-in limit would be passed."""

    kind = "LimitExceeded"
    default_code = "LIMIT_EXCEEDED"


class Conflict(HelixError):
    """The thing is in a state that does not allow this."""

    kind = "Conflict"
    default_code = "CONFLICT"


class NotNow(HelixError):
    """Cannot be done now; `data['retry_after_s']` says when to try again."""

    kind = "NotNow"
    default_code = "TRY_AGAIN"


class Never(HelixError):
    """The request can never be satisfied by this cluster as it is configured."""

    kind = "Never"
    default_code = "NODES_NEVER"


class Unavailable(HelixError):
    """The controller (or a node it needs) cannot be reached."""

    kind = "Unavailable"
    default_code = "CONTROLLER_UNREACHABLE"
    exit_status = 3


class TimedOut(HelixError):
    """No answer within the caller's time limit."""

    kind = "TimedOut"
    default_code = "TIMED_OUT"
    exit_status = 5


class ProtocolError(HelixError):
    """The peer sent something that is not the protocol."""

    kind = "ProtocolError"
    default_code = "PROTOCOL"


class InternalError(HelixError):
    """A fault of Helix itself."""

    kind = "InternalError"
    default_code = "INTERNAL"
    exit_status = 70


KINDS: dict[str, type[HelixError]] = {
    cls.kind: cls
    for cls in (
        UsageError,
        ConfigError,
        NotFound,
        Denied,
        LimitExceeded,
        Conflict,
        NotNow,
        Never,
        Unavailable,
        TimedOut,
        ProtocolError,
        InternalError,
    )
}


def from_wire(wire: dict[str, Any]) -> HelixError:
    """The exception a peer's `e` object stands for; an unknown kind becomes a plain HelixError."""
    cls = KINDS.get(str(wire.get("kind", "")), HelixError)
    data = wire.get("data")
    return cls(
        str(wire.get("msg", "unknown error")),
        code=str(wire.get("code", "")),
        hint=str(wire.get("hint", "")),
        data=data if isinstance(data, dict) else None,
    )
