"""`hctl show ...`: jobs, nodes, partitions, the configuration, host lists."""

from __future__ import annotations

import os
import sys

from helix.cli import app, output
from helix.cli.options import nearest, not_supported
from helix.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from helix.client import Client

    Shower = Callable[[Client, app.Invocation, list[str]], int]

HOST_TEXT_MAX = 8 << 20  #: bytes read for `show hostlist FILE`
LATER = (
    "assoc_mgr",
    "bbstat",
    "burstbuffer",
    "dwstat",
    "federation",
    "frontend",
    "powercap",
    "step",
    "steps",
)


def show(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`show ENTITY [NAME...]`."""
    if not words:
        raise UsageError("show what?", hint="one of " + ", ".join(ENTITIES))
    word, rest = words[0], words[1:]
    # `show job=12` and `show job 12` are the same.
    name, equals, value = word.partition("=")
    if equals:
        rest = [value, *rest]
    low = name.lower()
    shower = ENTITIES.get(low) or ENTITIES.get(low.rstrip("s"))
    if shower is None:
        if low in LATER or low.rstrip("s") in LATER:
            raise not_supported(f"show {low}")
        raise UsageError(
            f"show: there is no '{name[:40]}' to show",
            hint=nearest(low, ENTITIES) or "there are " + ", ".join(ENTITIES),
        )
    return shower(client, invocation, rest)


def _put_records(records: list[str], oneliner: bool) -> None:
    output.put(("\n" if oneliner else "\n\n").join(records))


def show_jobs(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """All jobs, or those named."""
    from helix.cli.show_text import job_lines, job_story, layout

    for word in words:
        if "." in word:
            raise not_supported(f"showing a step ('{word[:40]}')")
    jobs = client.call("job.show", {"ids": app.split_ids(words)}).get("jobs", [])
    if invocation.get("json"):
        output.put_json("jobs", {"jobs": jobs})
        return 0
    if not jobs:
        output.put("No jobs in the system")
        return 0
    oneliner, details = bool(invocation.get("oneliner")), bool(invocation.get("details"))
    records = []
    for job in jobs:
        text = layout(job_lines(job, details=details), oneliner=oneliner)
        if details and not oneliner:
            text = "\n".join([text, *job_story(job)])
        records.append(text)
    _put_records(records, oneliner)
    return 0


def rows_of(client: Client, method: str, args: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a columnar answer."""
    rows: list[dict[str, Any]] = []
    for frame in client.stream(method, args):
        names = frame.get("columns", ())
        rows.extend(dict(zip(names, row, strict=True)) for row in frame.get("rows", ()))
    return rows


def show_nodes(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """All nodes, or those of host lists."""
    from helix.cli.show_text import layout, node_lines

    nodes = rows_of(client, "node.list", {"nodes": ",".join(words)} if words else {})
    if invocation.get("json"):
        output.put_json("nodes", {"nodes": nodes})
        return 0
    oneliner = bool(invocation.get("oneliner"))
    _put_records([layout(node_lines(node), oneliner=oneliner) for node in nodes], oneliner)
    return 0


def show_partitions(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """All partitions, or those named."""
    from helix.cli.show_text import layout, partition_lines

    if words:
        names = [name for word in words for name in word.split(",") if name]
        parts = [row for name in names for row in rows_of(client, "partition.list", {"name": name})]
    else:
        parts = [row for row in rows_of(client, "partition.list", {}) if invocation.get("all") or not row.get("hidden")]
    if invocation.get("json"):
        output.put_json("partitions", {"partitions": parts})
        return 0
    oneliner = bool(invocation.get("oneliner"))
    _put_records([layout(partition_lines(part), oneliner=oneliner) for part in parts], oneliner)
    return 0


def show_config(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """The configuration in force."""
    if words:
        raise UsageError(f"unexpected argument '{words[0][:60]}'")
    reply = client.call("config.show")
    if invocation.get("json"):
        output.put_json("config", {"pairs": dict(reply.get("pairs", ())), "hash": reply.get("hash", "")})
        return 0
    from time import time

    from helix.cli.moments import stamp

    output.put(f"Configuration data as of {stamp(time())}")
    pairs = [(str(key), str(value)) for key, value in reply.get("pairs", ())]
    width = max((len(key) for key, _ in pairs), default=0)
    output.put_rows("\n".join(f"{key:<{width}} = {value}".rstrip() for key, value in pairs))
    return 0


def show_hostnames(_client: Client, _invocation: app.Invocation, words: list[str]) -> int:
    """The names of a host list, a line each; without one, of the job's nodes."""
    from helix.hostlist import parse_hostlist

    text = ",".join(words)
    if not text:
        text = os.environ.get("HELIX_JOB_NODELIST") or os.environ.get("SLURM_JOB_NODELIST") or ""
        if not text:
            raise UsageError("a host list is missing", hint="inside a job SLURM_JOB_NODELIST is used")
    output.put_rows("\n".join(parse_hostlist(text)))
    return 0


def _host_names(words: list[str]) -> list[str]:
    """Names given as a host list, in a file (a path), or on standard input (`-`)."""
    from helix.hostlist import parse_hostlist

    if not words:
        raise UsageError("names are missing", hint="give names, an absolute path, or - for standard input")
    text = ",".join(words)
    if text == "-":
        text = sys.stdin.read(HOST_TEXT_MAX + 1)
    elif text.startswith("/"):
        with open(text, encoding="utf-8", errors="replace") as file:
            text = file.read(HOST_TEXT_MAX + 1)
    if len(text) > HOST_TEXT_MAX:
        raise UsageError(f"the list is longer than {HOST_TEXT_MAX} bytes")
    return parse_hostlist(",".join(text.split()))


def show_hostlist(_client: Client, _invocation: app.Invocation, words: list[str]) -> int:
    """Names as a host list."""
    from helix.hostlist import format_hostlist

    output.put(format_hostlist(_host_names(words)))
    return 0


def show_daemons(client: Client, _invocation: app.Invocation, _words: list[str]) -> int:
    """Which daemon answers here."""
    output.put("helixctld" if client.call("ping") else "")
    return 0


def show_reservations(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """All reservations, or those named."""
    from helix.cli.hctl_reservation import show

    return show(client, invocation, words)


def show_licences(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """All licences, or those named."""
    names = [name for word in words for name in word.split(",") if name] or [""]
    rows = [row for name in names for row in client.call("licence.list", {"name": name})["licences"]]
    if invocation.get("json"):
        output.put_json("licenses", {"licenses": rows})
        return 0
    if not rows:
        output.put("No licenses configured in the cluster")
        return 0
    fields = (("Total", "total"), ("Used", "used"), ("Free", "free"), ("Reserved", "reserved"))
    joint = " " if invocation.get("oneliner") else "\n    "
    for row in rows:
        counts = " ".join(f"{key}={row[field]}" for key, field in fields)
        output.put(f"LicenseName={row['name']}{joint}{counts} Remote=no")
    return 0


def show_topology(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """Switches or blocks: all, those named, or those above a node."""
    names = [name.removeprefix("node=") for word in words for name in word.split(",") if name] or [""]
    replies = [client.call("topology.show", {"name": name}) for name in names]
    rows = [row for reply in replies for row in reply["switches"]]
    if invocation.get("json"):
        output.put_json("topology", {"kind": replies[0]["kind"], "switches": rows})
        return 0
    if not rows:
        output.put("No topology information available")
        return 0
    head = "BlockName" if replies[0]["kind"] == "block" else "SwitchName"
    for row in rows:
        below = f" Switches={row['switches']}" if row["switches"] else ""
        level = "" if head == "BlockName" else f" Level={row['level']} LinkSpeed=1"
        output.put(f"{head}={row['name']}{level} Nodes={row['nodes']}{below}")
    return 0


ENTITIES: dict[str, Shower] = {
    "job": show_jobs,
    "node": show_nodes,
    "partition": show_partitions,
    "reservation": show_reservations,
    "res": show_reservations,
    "license": show_licences,
    "lic": show_licences,
    "topology": show_topology,
    "topo": show_topology,
    "config": show_config,
    "hostnames": show_hostnames,
    "hostname": show_hostnames,
    "hostlist": show_hostlist,
    "hostlistsorted": show_hostlist,
    "daemons": show_daemons,
}


def write_script(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`write batch_script JOB [FILE|-]`."""
    if not words or words[0].lower() not in ("batch_script", "batch"):
        raise UsageError("write what?", hint="the form is: write batch_script JOB [FILE|-]")
    if not 2 <= len(words) <= 3:
        raise UsageError("write batch_script needs a job id and perhaps a file")
    job = app.require_job_id(words[1])
    scripts = client.call("job.script", {"ids": [job]}).get("scripts", {})
    if not scripts:
        raise NotFound(f"job {job} has no batch script", code="SCRIPT_UNKNOWN")
    text = str(next(iter(scripts.values())))
    target = words[2] if len(words) == 3 else f"slurm-{job}.sh"
    if target == "-":
        # A script goes out as it is: it is the user's own.
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    if not invocation.get("quiet"):
        output.put(f"batch script for job {job} written to {target}")
    return 0
