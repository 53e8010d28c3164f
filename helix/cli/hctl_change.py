"""hctl's verbs that change jobs, nodes and partitions."""

from __future__ import annotations

import os

from helix.cli import app, hctl_reservation, output
from helix.cli.hctl_reservation import is_reservation
from helix.cli.options import nearest, not_supported
from helix.errors import NotFound, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from helix.client import Client

PAIRS_MAX = 1000  #: Key=Value words in one update

#: First key of an update -> what it is about.
_SUBJECTS = {
    "jobid": "job",
    "job": "job",
    "arrayjobid": "job",
    "nodename": "node",
    "node": "node",
    "partitionname": "partition",
    "partition": "partition",
}
_LATER_SUBJECTS = ("stepid", "frontendname", "slurmctlddebug", "suspendexctime")


def pairs(words: list[str]) -> dict[str, str]:
    """`Key=Value` words; `Key+=Value` and `Key-=Value` become `Key=+Value` and `Key=-Value`.  Raises UsageError."""
    found: dict[str, str] = {}
    if len(words) > PAIRS_MAX:
        raise UsageError(f"more than {PAIRS_MAX} changes")
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.rstrip("+-"):
            raise UsageError(f"'{word[:60]}' is not Key=Value", hint="quote a value that has spaces")
        if key[-1] in "+-":
            key, value = key[:-1], key[-1] + value
        if key.lower() in (known.lower() for known in found):
            raise UsageError(f"{key} is given twice")
        found[key] = value
    return found


def update(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`update JobId=12 TimeLimit=30`, `update job 12 TimeLimit=30`, and so for nodes and partitions."""
    form = "the form is: update JobId=12 TimeLimit=30:00, or NodeName=, PartitionName="
    if not words:
        raise UsageError("update what?", hint=form)
    if "=" not in words[0]:
        if len(words) < 2:
            raise UsageError(f"update {words[0][:40]}: a name is missing", hint=form)
        words = [f"{words[0]}={words[1]}", *words[2:]]
    if is_reservation(words[0]):
        return hctl_reservation.update(client, invocation, words)
    changes = pairs(words)
    first = next(iter(changes))
    # The subject may stand anywhere in scontrol; `Partition=` is one only when nothing else is.
    subject_key = next(
        (key for key in changes if key.lower() in ("jobid", "nodename", "partitionname")),
        first,
    )
    if subject_key.lower() in _LATER_SUBJECTS:
        raise not_supported(f"update {subject_key}")
    kind = _SUBJECTS.get(subject_key.lower())
    if kind is None:
        raise UsageError(
            f"update: '{subject_key[:40]}' is not a job, node or partition",
            hint=nearest(subject_key.lower(), _SUBJECTS) or form,
        )
    name = changes.pop(subject_key)
    if not name:
        raise UsageError(f"update: {subject_key} is empty")
    if not changes:
        raise UsageError(f"update: nothing to change about {kind} {name[:60]}", hint=form)
    if kind == "job":
        reply = client.call("job.update", {"ids": app.split_ids([name]), "changes": changes})
        return app.report_done(invocation, reply, bool(invocation.get("quiet")))
    if kind == "node":
        client.call("node.update", {"nodes": name, "changes": changes})
    else:
        client.call("partition.update", {"name": name, "changes": changes})
    return 0


def job_ids(client: Client, words: list[str]) -> list[str]:
    """Ids as typed; `name=N` or `jobname=N` stands for one's own jobs of that name."""
    ids: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            ids.extend(app.split_ids([word]))
            continue
        if key.lower() in ("jobid", "job"):
            ids.extend(app.split_ids([value]))
            continue
        if key.lower() not in ("name", "jobname"):
            raise UsageError(f"'{word[:60]}' is not a job id", hint="the forms are 12, 12_3 and jobname=NAME")
        chosen = {"names": [value], "users": [str(os.getuid())]}
        args = {"filter": chosen, "fields": ["job_id"]}
        rows = [row for frame in client.stream("job.list", args) for row in frame.get("rows", ())]
        if not rows:
            raise NotFound(f"you have no job named '{value[:60]}'", code="JOB_UNKNOWN")
        ids.extend(str(row[0]) for row in rows)
    if not ids:
        raise UsageError("a job id is missing")
    return ids


def _on_jobs(
    client: Client, invocation: app.Invocation, words: list[str], method: str, more: dict[str, Any] | None = None
) -> int:
    reply = client.call(method, {"ids": job_ids(client, words), **(more or {})})
    if invocation.get("verbose"):
        for display in reply.get("done", ()):
            invocation.note(f"{method.removeprefix('job.')} {display}")
    return app.report_done(invocation, reply, bool(invocation.get("quiet")))


def hold(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`hold JOB...`."""
    return _on_jobs(client, invocation, words, "job.hold")


def uhold(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`uhold JOB...`: a hold that the owner may release."""
    return _on_jobs(client, invocation, words, "job.hold", {"user": True})


def release(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`release JOB...`."""
    return _on_jobs(client, invocation, words, "job.release")


def top(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`top JOB...`."""
    return _on_jobs(client, invocation, words, "job.top")


def requeue(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`requeue JOB...`."""
    return _on_jobs(client, invocation, words, "job.requeue")


def requeue_hold(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`requeuehold [State=SpecialExit] JOB...`."""
    special, rest = False, []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.lower() == "state":
            if value.lower() not in ("specialexit", "special_exit", "se"):
                raise UsageError(f"requeuehold: '{value[:40]}' is not SpecialExit")
            special = True
        else:
            rest.append(word)
    return _on_jobs(client, invocation, rest, "job.requeue", {"special": True} if special else {"hold": True})


def suspend(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`suspend JOB...`."""
    return _on_jobs(client, invocation, words, "job.suspend")


def resume(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`resume JOB...`."""
    return _on_jobs(client, invocation, words, "job.resume")


def wait_job(client: Client, _invocation: app.Invocation, words: list[str]) -> int:
    """`wait_job JOB`: until its nodes are ready and its script has started; told by events."""
    from helix.words import WAITING_STATES

    if len(words) != 1:
        raise UsageError("wait_job needs one job id")
    (job,) = app.split_ids(words)
    args = {"filter": {"ids": [job], "states": ["all"]}, "fields": ["state"]}
    while True:
        states: list[str] = []
        cursor = ""
        for frame in client.stream("job.list", args):
            states.extend(str(row[0]) for row in frame.get("rows", ()))
            cursor = str(frame.get("cursor", cursor))
        if not states:
            client.call("job.show", {"ids": [job]})
            return 1
        if not all(state in WAITING_STATES or state == "CONFIGURING" for state in states):
            return 0 if all(state in ("RUNNING", "COMPLETING", "COMPLETED", "SUSPENDED") for state in states) else 1
        for _event in client.events(list_cursor(cursor), ids=[job.partition("_")[0]]):
            break


def list_cursor(cursor: str) -> int:
    """The position in the stream of events that a listing's cursor (`position.version`) stands for; 0 = from now."""
    position = cursor.partition(".")[0]
    return int(position) if position.isascii() and position.isdigit() else 0


def reconfigure(client: Client, invocation: app.Invocation, words: list[str]) -> int:
    """`reconfigure`: what was applied, and what needs a restart."""
    if words:
        raise UsageError(f"unexpected argument '{words[0][:60]}'")
    reply = client.call("config.reconfigure")
    if invocation.get("json"):
        output.put_json("reconfigure", reply)
        return 0
    if invocation.get("quiet"):
        return 0
    for item in reply.get("applied", ()):
        output.put(f"applied: {item['key']}: {item['old']} -> {item['new']}")
    for item in reply.get("needs_restart", ()):
        output.put(f"needs a restart: {item['key']}: {item['old']} -> {item['new']}")
    for text in reply.get("warnings", ()):
        invocation.note(f"warning: {text}")
    if not reply.get("applied") and not reply.get("needs_restart"):
        output.put("nothing has changed")
    return 0
