"""hlog: a job's output, from any host, without a shared file system.

The controller relays it from the node.  With `-f` it goes on until the job has ended; a connection that breaks is
resumed at the byte where it broke.  The bytes are printed as they are: they are the job's own.
"""

from __future__ import annotations

import sys

from helix.cli import app
from helix.cli.options import Command, Option, integer
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from helix.client import Client

TAIL_BLOCK = 65_536  #: how much is fetched first when looking for the last lines; grows fourfold
TAIL_BYTES_MAX = 64 << 20  #: lines are looked for in at most this much of the end


def _tail(text: str) -> tuple[str, int]:
    """`-n`: lines, or bytes with `c` or K, M, G: ("lines" | "bytes", how many)."""
    body = text.strip()
    if body.isascii() and body.isdigit():
        return "lines", integer(0, 1 << 31)(body)
    if body[-1:] in "cC":
        return "bytes", integer(0, 1 << 40)(body[:-1])
    from helix.sizes import parse_bytes

    return "bytes", parse_bytes(body)


COMMAND = Command(
    "hlog",
    "print the output of a job, from any host",
    ["hlog [OPTION...] JOB[_TASK][.ATTEMPT]"],
    (
        Option("-f --follow", "go on until the job has ended"),
        Option("-e --stderr", "standard error instead of standard output"),
        Option("-n --tail", "only the last so many lines; bytes with c, K, M or G", metavar="N", parse=_tail),
        Option("-v --verbose", "say on stderr which file and attempt it is"),
    ),
    operands=(("JOB", "12, 12_3; 12.0 is the first attempt of a requeued job, no attempt the latest"),),
    env=app.COMMON_ENV,
    exits=app.EXIT_STATUSES,
    see_also=("hsubmit(1)", "hqueue(1)", "hwait(1)"),
    examples=(("hlog -f 12", "follow a job"), ("hlog -n 20 -e 12_3", "the last 20 lines of a task's standard error")),
)


def split_attempt(text: str) -> tuple[str, int]:
    """`12_3.1` as the job id and the attempt (-1: the latest)."""
    job, dot, attempt = text.partition(".")
    if dot and not (attempt.isascii() and attempt.isdigit() and len(attempt) < 10):
        raise UsageError(f"'{text[:40]}': '{attempt[:20]}' is not an attempt", hint="the form is 12_3.0")
    return app.require_job_id(job), int(attempt) if dot else -1


def _tail_offset(client: Client, job: str, stream: str, attempt: int, lines: int) -> int:
    """The offset (negative: from the end) at which the last `lines` lines begin."""
    block = TAIL_BLOCK
    while True:
        data = b"".join(client.log(job, stream=stream, offset=-block, attempt=attempt))
        at = len(data)
        wanted = lines + (1 if data.endswith(b"\n") else 0)
        for _ in range(wanted):
            at = data.rfind(b"\n", 0, at)
            if at < 0:
                break
        if at >= 0:
            return at + 1 - len(data)
        if len(data) < block or block >= TAIL_BYTES_MAX:
            return -len(data)
        block *= 4


def _copy(pieces: Iterable[bytes]) -> None:
    write, flush = sys.stdout.buffer.write, sys.stdout.buffer.flush
    for piece in pieces:
        write(piece)
        flush()


def _body(invocation: app.Invocation) -> int:
    (operand,) = app.require_operands(invocation, "a job id is", at_most=1)
    job, attempt = split_attempt(operand)
    stream = "stderr" if invocation.get("stderr") else "stdout"
    follow = bool(invocation.get("follow"))
    unit, number = invocation.get("tail", ("", 0))
    with app.connect() as client:
        if invocation.get("verbose") or attempt >= 0:
            args = {"id": job, "stream": stream, "offset": -1, "attempt": attempt}
            frame = client.call("job.log", args)
            if invocation.get("verbose"):
                invocation.note(f"{frame.get('node')}:{frame.get('path')}, attempt {frame.get('attempt')}")
            if attempt not in (-1, frame.get("attempt")):
                invocation.note(f"attempt {attempt} has no file of its own: this is attempt {frame.get('attempt')}")
        offset = 0
        if unit == "lines" and number:
            offset = _tail_offset(client, job, stream, attempt, number)
        elif unit == "bytes":
            offset = -number
        if unit and not offset and not follow:
            return 0
        _copy(client.log(job, follow=follow, stream=stream, offset=offset, attempt=attempt))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return app.run(COMMAND, _body, argv)


if __name__ == "__main__":
    sys.exit(main())
