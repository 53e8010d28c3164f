"""Writes a small journal with every kind of event: `python tests/helpers/golden_journal.py DIR`.

Run once for each released version; what it wrote is committed under tests/golden and must replay for ever.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers.core_builders import ALICE, ROOT, Cluster

from helix.blobstore import blob_hash
from helix.model import events as ev
from helix.model.job import Claim, ExitInfo
from helix.model.job_state import JobState
from helixctld.core import requests, reservation_due, reservations, timers, update
from helixctld.core.select_jobs import Target
from helixctld.io.journal import Journal


def history() -> Cluster:
    """A cluster after a day's work: every event kind, several outcomes."""
    c = Cluster(nodes=2, cpus=4, memory_mib=1000)
    c.do(ev.ControllerStarted(t=c.now, epoch=1, version="0.1.0"))
    c.do(ev.NodeKeyAdmitted(t=c.now, name="n1", key="k" * 40))
    script = b"#!/bin/sh\ntrue\n"
    c.do(ev.BlobStored(t=c.now, hash=blob_hash(script), data=script))
    done = c.start(c.submit(name="done", script_hash=blob_hash(script)))
    c.launch(done)
    c.do(ev.JobEnded(t=c.now, job_id=done.job_id, attempt=0, state=JobState.COMPLETED, usage={"user_s": 1.5}))
    c.now += 400
    c.do(*timers.due(c.state, c.now, 300.0))
    array = c.submit(array="1-9:2%2", name="array")
    task = c.start(array)
    c.launch(task)
    c.do(ev.JobEnded(t=c.now, job_id=task.job_id, attempt=0, state=JobState.FAILED, exit=ExitInfo(code=3)))
    c.do(*requests.cancel(c.state, Target(array, array.pending.take_first(1)[0]), ALICE, c.now).events)
    held = c.submit(name="held", dependency=f"after:{task.job_id}+1")
    c.do(*requests.hold(Target(held), ALICE, True, c.now).events)
    c.do(*requests.release(Target(held), ALICE, c.now).events)
    c.now += 61
    c.do(*timers.due(c.state, c.now, 300.0))
    c.do(*update.update_job(c.state, Target(held), ALICE, ALICE, {"Name": "renamed", "TimeLimit": "10"}, c.now).events)
    running = c.start(c.submit(name="running", requeue=True), cores=(1, 2), mem_mib=100)
    c.launch(running)
    c.do(*requests.suspend(Target(running), ROOT, c.now).events)
    c.do(*requests.resume(c.state, Target(running), ROOT, c.now).events)
    ending = c.start(c.submit(name="ending"), node="n2")
    c.launch(ending)
    c.do(*requests.cancel(c.state, Target(ending), ALICE, c.now).events)
    c.do(*requests.requeue(Target(task), ALICE, c.now, hold_it=True, special=False).events)
    c.do(update.update_node(c.state.nodes["n2"], ROOT, {"State": "DRAIN", "Reason": "disk"}, c.now))
    _newer_kinds(c)
    c.do(update.update_partition(c.state, c.state.partitions["batch"], {"MaxTime": "1-00"}, c.now))
    return c


def _newer_kinds(c: Cluster) -> None:
    """Kinds of events that 0.1.0 did not have."""
    c.do(ev.UsageDecayed(t=c.now, factor=1 << 31))
    victim = c.start(c.submit(name="victim"), cores=(3,), mem_mib=10)
    c.launch(victim)
    c.do(ev.JobSuspended(t=c.now, job_id=victim.job_id, cause="preempt", yields=True))
    c.do(ev.JobResumed(t=c.now, job_id=victim.job_id, cause="preempt"))
    urgent = c.submit(name="urgent")
    claim = Claim(alloc=victim.alloc, partition="batch", victims=[victim.job_id])
    c.do(ev.JobClaimed(t=c.now, job_id=urgent.job_id, claim=claim))
    c.do(
        ev.JobEnding(
            t=c.now, job_id=victim.job_id, attempt=0, outcome=JobState.PREEMPTED, preemptor=urgent.job_id, kill_wait_s=5
        )
    )
    _reservations(c)


def _reservations(c: Cluster) -> None:
    """One that is made, changed, begins and is over, and the job that asked for it."""
    asked = {"ReservationName": "night", "StartTime": "now+1hour", "Duration": "60", "Nodes": "n1", "Users": "alice"}
    asked["Flags"] = "IGNORE_JOBS"
    c.do(reservations.create(c.state, asked, ROOT, c.now, lambda _group: ()))
    c.submit(name="reserved", reservation="night")
    c.do(reservations.update(c.state, "night", {"Duration": "30"}, ROOT, c.now, lambda _group: ()))
    for moment in (3600, 5400):
        c.do(*reservation_due.due(c.state, c.now + moment, 0))


def main() -> None:
    directory = sys.argv[1]
    with Journal.open(directory, cluster="test") as journal:
        journal.append(history().journal)
        journal.sync()


if __name__ == "__main__":
    main()
