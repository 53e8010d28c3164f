"""What the synchronous and the asyncio client share: where to connect, what to send, when to ask again.

Pure but for the environment and os.urandom.  Standard library only: the commands import this.
"""

from __future__ import annotations

import json
import math
import os

from helix.errors import HelixError, NotNow, ProtocolError, Unavailable, UsageError, from_wire
from helix.rows import Job
from helix.submission import new_token, submit_args
from helix.wire.frames import CLIENT_FRAME_MAX, pack_frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DEFAULT_SOCKETS = ("/run/helix/helixctld.sock", "/run/helix/helixd.sock")
TIMEOUT_S = 60.0  #: for an answer, repeats included
CONNECT_S = 5.0  #: how long to try while nobody answers at all
WINDOW = 128  #: requests on the way at once in `call_many`
START_HINT = "start one with 'hcluster up' or 'systemctl start helixctld', or set HELIX_SOCKET"
NODE_UNREACHABLE = "NODE_UNREACHABLE"  #: the controller answers, a node that it needs does not
_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 5.0
_PAUSE_DOWN_MAX_S = 1.0  #: while nobody answers: a socket on this host, so that trying costs nothing

#: Methods that may be done twice without harm (job.submit because of its token).
REPEATABLE = frozenset(
    {
        "ping",
        "job.submit",
        "job.token",
        "job.list",
        "job.show",
        "job.script",
        "job.why",
        "job.cancel",
        "job.hold",
        "job.release",
        "job.suspend",
        "job.resume",
        "job.priority",
        "account.shares",
        "job.wait",
        "job.log",
        "events.watch",
        "node.list",
        "node.update",
        "partition.list",
        "partition.update",
        "reservation.list",
        "config.show",
        "config.reconfigure",
        "ctl.diag",
        "ctl.debug",
        "ctl.snapshot",
    }
)
#: Streams that are silent until something happens.
ENDLESS = frozenset({"job.wait", "job.log", "events.watch"})


class ConnectionLost(Exception):
    """The connection ended while an answer was due; `args[0]` says how."""


def socket_candidates(given: str | os.PathLike[str] | Sequence[str] | None = None) -> tuple[str, ...]:
    """Sockets to try in order: those given, else HELIX_SOCKET, else the usual ones."""
    if given is None:
        named = os.environ.get("HELIX_SOCKET", "")
        return (named,) if named else DEFAULT_SOCKETS
    if isinstance(given, (str, os.PathLike)):
        return (os.fspath(given),)
    return tuple(given)


def unreachable(tried: Mapping[str, str], why: str = "") -> Unavailable:
    """The error when nobody answers; `tried` is socket -> what happened there."""
    if why:
        return Unavailable(why, hint=START_HINT)
    reasons = "; ".join(f"{path}: {reason}" for path, reason in tried.items())
    return Unavailable(f"no controller can be reached ({reasons})", hint=START_HINT)


def encode_call(i: int, method: str, args: Mapping[str, Any] | None) -> bytes:
    """A request, framed.  Raises UsageError (NOT_UTF8), LimitExceeded (FRAME_TOO_LARGE)."""
    request = {"v": 1, "i": i, "m": method, "a": args or {}}
    try:
        payload = json.dumps(request, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as exc:
        bad = exc.object[max(0, exc.start - 20) : exc.end + 20]
        raise UsageError(f"not UTF-8 text: {bad!r}", code="NOT_UTF8") from exc
    except ValueError as exc:
        raise UsageError(f"{method}: {exc}", code="BAD_ARGUMENT") from exc
    return pack_frame(payload, CLIENT_FRAME_MAX)


def decode_answer(frame: bytes) -> dict[str, Any]:
    """A reply.  Raises ProtocolError (REPLY_MALFORMED)."""
    try:
        answer = json.loads(frame)
    except (ValueError, RecursionError) as exc:
        raise ProtocolError(f"a reply that cannot be decoded: {exc}", code="REPLY_MALFORMED") from exc
    if not isinstance(answer, dict) or not isinstance(answer.get("i"), int):
        raise ProtocolError("a reply without a number", code="REPLY_MALFORMED")
    return answer


def result_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The `r` of a reply, or its error raised."""
    if answer.get("ok") is True:
        result = answer.get("r")
        return result if isinstance(result, dict) else {}
    error = answer.get("e")
    raise from_wire(error if isinstance(error, dict) else {})


def raise_of_connection(answer: Mapping[str, Any]) -> None:
    """Raise what a reply numbered 0 says: it concerns the connection, and so every request on it.

    Of a relay that lost its controller nobody knows what was carried out: that is ConnectionLost.
    """
    try:
        result_of(answer)
    except Unavailable as error:
        raise ConnectionLost(error.msg) from error


class Patience:
    """Decides whether and when to try again: exponential back-off with jitter, within two deadlines.

    `connect_s` bounds trying while nobody answers; after a request was sent and its answer lost, only `timeout_s`
    does, because by then it may have been acted upon and the caller must be told.
    """

    __slots__ = ("_attempt", "_connect_s", "_down_since", "deadline")

    def __init__(self, now: float, timeout_s: float | None, connect_s: float) -> None:
        self.deadline = None if timeout_s is None else now + timeout_s
        self._connect_s = connect_s
        self._attempt = 0
        self._down_since: float | None = None

    def answered(self) -> None:
        """Somebody is there: start anew."""
        self._attempt = 0
        self._down_since = None

    def held(self, for_s: float) -> None:
        """A connection was there for so long before it broke: what went wrong before it is over."""
        self._down_since = None
        if for_s > _PAUSE_MAX_S:
            self._attempt = 0

    def left_s(self, now: float) -> float | None:
        """Seconds until the deadline (None: there is none); never negative."""
        return None if self.deadline is None else max(0.0, self.deadline - now)

    def pause(self, error: HelixError, now: float, *, sent: bool = False) -> float:
        """How long to wait before the next try; raises `error` when there shall be none."""
        left_s, longest_s = math.inf, _PAUSE_MAX_S
        if isinstance(error, Unavailable) and not sent:
            longest_s = _PAUSE_DOWN_MAX_S
            if self._down_since is None:
                self._down_since = now
            left_s = self._down_since + self._connect_s - now
            if left_s <= 0:
                raise error
        spread = 0.5 + os.urandom(1)[0] / 255  # 0.5 to 1.5: clients that failed together come back apart
        # the last try is made when `connect_s` is over, not some seconds later
        pause: float = min(min(longest_s, _PAUSE_FIRST_S * 2.0**self._attempt) * spread, left_s)
        self._attempt = min(self._attempt + 1, 16)
        hint = error.data.get("retry_after_s")
        if isinstance(hint, int | float) and not isinstance(hint, bool) and 0 < hint < 3600:
            pause = max(pause, hint * (0.9 + spread / 5))
        if self.deadline is not None and now + pause > self.deadline:
            raise error
        return pause


def is_worth_repeating(error: HelixError, method: str, *, sent: bool) -> bool:
    """True if asking again may help and cannot do harm."""
    if isinstance(error, NotNow):
        return error.code == "TRY_AGAIN"  # the server says that it did nothing
    # A relay says {"sent": false} when the request never left its host.
    return (
        isinstance(error, Unavailable)
        and (not sent or method in REPEATABLE or error.data.get("sent") is False)
        and error.code not in ("ANSWER_LOST", NODE_UNREACHABLE)
    )


def awaits_node(error: HelixError, follow: bool) -> bool:
    """True if output that is being followed comes from a node that may come back: however long that takes."""
    return follow and error.code == NODE_UNREACHABLE


def may_have_arrived(error: HelixError, method: str) -> bool:
    """True for a submit whose answer is missing: it is asked about to the end, so that its user is told the id."""
    return method == "job.submit" and error.data.get("sent") is not False


def answer_lost(method: str, why: str) -> Unavailable:
    """The connection broke after the request was sent."""
    if method in REPEATABLE:
        return Unavailable(f"the connection broke before the answer to {method} came ({why})", hint=START_HINT)
    return Unavailable(
        f"the connection broke before the answer to {method} came ({why})",
        code="ANSWER_LOST",
        hint="it may have been done: look before you repeat it",
    )


def job_filter(jobs: Any, criteria: Mapping[str, Any]) -> dict[str, Any]:
    """A JobFilter: single values become lists, what is None or empty is left out."""
    fields: dict[str, Any] = {}
    for name, value in {"ids": jobs, **criteria}.items():
        if value is None or value == "":
            continue
        if name == "ids":
            fields[name] = id_list(value)
        elif name in ("nodelist", "reservation"):
            fields[name] = value
        else:
            fields[name] = id_list(value) if isinstance(value, str | int) else [str(item) for item in value]
    return fields


def id_list(value: Any) -> list[str]:
    """Job ids (or names) as the list of texts the methods take: 12, "12_3", "12,13", [12, job]."""
    if isinstance(value, str):
        return [word for word in value.replace(";", ",").split(",") if word] if "[" not in value else [value]
    if isinstance(value, Job):
        return [str(value["display_id"])]
    if isinstance(value, int):
        return [str(value)]
    return [word for item in value for word in id_list(item)]


def many_args(job: Mapping[str, Any]) -> dict[str, Any]:
    """The `a` of job.submit for one entry of `submit_many`."""
    if isinstance(job.get("spec"), dict) and "script" in job and isinstance(job.get("env"), list):
        spec = dict(job["spec"])
        spec.setdefault("token", new_token())
        return {**job, "spec": spec}
    options = dict(job)
    return submit_args(options.pop("script", None), options)


def cancel_args(jobs: Any, signal: int, criteria: Mapping[str, Any]) -> dict[str, Any]:
    """The `a` of job.cancel.  Raises UsageError if nothing is selected: that would be everything."""
    selected = job_filter(jobs, criteria)
    if not selected:
        raise UsageError("nothing says which jobs to cancel", code="USAGE", hint="give ids, users=, partitions=, ...")
    return {"filter": selected, "signal": signal} if signal else {"filter": selected}


def list_args(jobs: Any, fields: Sequence[str], criteria: Mapping[str, Any]) -> dict[str, Any]:
    """The `a` of job.list."""
    args: dict[str, Any] = {}
    rest = dict(criteria)
    if rest.pop("expand_arrays", False):
        args["expand_arrays"] = True
    selected = job_filter(jobs, rest)
    if selected:
        args["filter"] = selected
    if fields:
        args["fields"] = list(fields)
    return args


def watch_args(cursor: int, nodes: bool, criteria: Mapping[str, Any]) -> dict[str, Any]:
    """The `a` of events.watch."""
    args: dict[str, Any] = {"cursor": cursor}
    selected = job_filter(None, criteria)
    if selected:
        args["filter"] = selected
    if nodes:
        args["nodes"] = True
    return args


def log_args(job: str, follow: bool, stream: str, offset: int, attempt: int) -> dict[str, Any]:
    """The `a` of job.log."""
    args: dict[str, Any] = {"id": job, "stream": stream}
    if offset:
        args["offset"] = offset
    if follow:
        args["follow"] = True
    if attempt >= 0:
        args["attempt"] = attempt
    return args
