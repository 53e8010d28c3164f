"""hctl's verbs about the controller itself: ping, shutdown, debug, and tools that work on files."""

from __future__ import annotations

import os
import sys

from helix.cli import app, output
from helix.errors import Unavailable, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from helix.client import Client


def ping(client: Client, invocation: app.Invocation, _words: list[str]) -> int:
    """`ping`: exit status 3 when nobody answers."""
    try:
        reply = client.call("ping", timeout_s=10.0)
    except Unavailable as error:
        if invocation.get("json"):
            output.put_json("ping", {"up": False, "error": error.to_wire()})
        else:
            output.put("Helixctld(primary) is DOWN")
            invocation.note(f"{error.msg}\n{error.hint}" if error.hint else error.msg)
        return error.exit_status
    if invocation.get("json"):
        output.put_json("ping", {"up": True, **reply})
    else:
        output.put(f"Helixctld(primary) at {reply.get('host')} is UP")
        if invocation.get("verbose"):
            output.put(
                f"cluster {reply.get('cluster')}, version {reply.get('version')}, epoch {reply.get('epoch')}, "
                f"pid {reply.get('pid')}, {reply.get('nodes')} nodes, {reply.get('jobs')} jobs"
            )
    return 0


def shutdown(client: Client, _invocation: app.Invocation, words: list[str]) -> int:
    """`shutdown`: a snapshot, then the controller stops; jobs go on."""
    if words and words[0].lower() not in ("helixctld", "slurmctld", "controller"):
        raise UsageError(f"shutdown: '{words[0][:40]}' cannot be shut down from here", hint="the form is: shutdown")
    client.call("ctl.shutdown")
    return 0


def snapshot(client: Client, _invocation: app.Invocation, _words: list[str]) -> int:
    """`snapshot`: write the state now."""
    client.call("ctl.snapshot")
    return 0


def debug(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`debug [+Flag|-Flag|LEVEL]...`: change DebugFlags or the level, and say what is in force."""
    flags = [word for word in words if word[:1] in "+-"]
    levels = [word for word in words if word[:1] not in "+-"]
    if len(levels) > 1:
        raise UsageError(f"debug: two levels, '{levels[0][:40]}' and '{levels[1][:40]}'")
    args = {"flags": flags, "level": levels[0] if levels else ""}
    reply = client.call("ctl.debug", args)
    if invocation.get("json"):
        output.put_json("debug", reply)
    elif not invocation.get("quiet"):
        output.put(f"level {reply.get('level')}, flags {','.join(reply.get('flags', ())) or 'none'}")
    return 0


def version(_client: Client, _invocation: app.Invocation, _words: list[str]) -> int:
    """`version`."""
    from helix import __version__

    output.put(f"helix {__version__}")
    return 0


def config(_client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`config check FILE`: key by key what is honoured, ignored, or not known; exit status 1 if it cannot be used."""
    if not words or words[0].lower() != "check" or len(words) > 2:
        raise UsageError("config: the form is: config check [FILE]")
    from helix.config.check import check_config
    from helix.config.findings import FATAL

    path = words[1] if len(words) == 2 else os.environ.get("HELIX_CONF", "/etc/helix/helix.conf")
    findings = check_config(path)
    usable = not any(item.severity in FATAL for item in findings)
    if invocation.get("json"):
        rows = [
            {
                "file": item.file,
                "line": item.line,
                "severity": str(item.severity),
                "key": item.key,
                "message": item.message,
                "nearest": item.nearest,
                "hint": item.hint,
            }
            for item in findings
        ]
        output.put_json("config_check", {"usable": usable, "findings": rows})
        return 0 if usable else 1
    counts: dict[str, int] = {}
    for item in findings:
        counts[str(item.severity)] = counts.get(str(item.severity), 0) + 1
        if invocation.get("quiet") and item.severity not in FATAL:
            continue
        output.put(str(item))
        if item.hint:
            output.put(f"    {item.hint}")
    output.put(f"{path}: " + (", ".join(f"{number} {word}" for word, number in counts.items()) or "nothing in it"))
    return 0 if usable else 1


def journal(_client: Client, _invocation: app.Invocation, words: list[str]) -> int:
    """`journal check|repair DIR`: by helixctld, which owns the format."""
    if len(words) != 2 or words[0].lower() not in ("check", "repair"):
        raise UsageError("journal: the form is: journal check DIR, or journal repair DIR")
    return run_helixctld([f"--journal-{words[0].lower()}", words[1]])


def token(_client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`token create [USES [TTL_SECONDS]]`: a token that admits new nodes."""
    if not words or words[0].lower() != "create" or len(words) > 3:
        raise UsageError("token: the form is: token create [USES [SECONDS]]")
    arguments = ["--create-join-token"]
    for option, value in zip(("--uses", "--ttl"), words[1:], strict=False):
        if not value.isascii() or not value.isdigit():
            raise UsageError(f"token create: '{value[:40]}' is not a number")
        arguments += [option, value]
    if invocation.get("config"):
        arguments += ["-f", str(invocation.get("config"))]
    return run_helixctld(arguments)


def run_helixctld(arguments: list[str]) -> int:
    """Become helixctld: these tools need its libraries, which the commands do not load.  Does not return."""
    sys.stdout.flush()
    # -P: the present directory is no place to import from.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "helixctld.main", *arguments])  # noqa: S606 - no shell
