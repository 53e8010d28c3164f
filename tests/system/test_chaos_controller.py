"""kill -9 of helixctld at random moments while clients submit and jobs run.

The promise: every acknowledged job exists once, runs once and ends in the right state; a retried submit never makes a
second job.  Each job appends its id to a file, so a second run would show.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

from helix import Client
from helix.errors import HelixError

KILLS = 50
SUBMITTERS = 3


class Submitter(threading.Thread):
    """Submits jobs one after the other, as a user's script would, whatever becomes of the controller."""

    def __init__(self, socket: str, work: Path, number: int, stop: threading.Event) -> None:
        super().__init__(name=f"submitter-{number}")
        self.socket, self.work, self.number, self.stop = socket, work, number, stop
        self.acknowledged: dict[int, int] = {}  # job id -> expected exit code
        self.failure: BaseException | None = None

    def run(self) -> None:
        k = 0
        try:
            with Client(self.socket, connect_s=60) as client:
                while not self.stop.is_set():
                    code = 3 if k % 7 == 0 else 0
                    script = f'#!/bin/sh\necho "$HELIX_JOB_ID" >> {self.work}/ran\nexit {code}\n'
                    job = client.submit(
                        script=script, name=f"s{self.number}-{k}", work_dir=self.work, stdout="/dev/null"
                    )
                    self.acknowledged[job] = code
                    k += 1
                    time.sleep(0.02)
        except BaseException as exc:
            self.failure = exc


def test_kill9_of_the_controller_loses_and_doubles_nothing(helix_cluster_factory):
    cluster = helix_cluster_factory(nodes=2, cpus=8, conf_extra="MinJobAge=3600")
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    work = cluster.dir / "work"
    work.mkdir(mode=0o777)
    stop = threading.Event()
    socket = str(cluster.cluster.layout.controller_socket)
    submitters = [Submitter(socket, work, k, stop) for k in range(SUBMITTERS)]
    for submitter in submitters:
        submitter.start()
    try:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.0, 0.4))  # the random moment; nothing is waited for
            cluster.kill9_controller()
            cluster.start_controller()
    finally:
        stop.set()
        for submitter in submitters:
            submitter.join(60)
    for submitter in submitters:
        assert submitter.failure is None, repr(submitter.failure)
        assert not submitter.is_alive()
    expected = {job: code for s in submitters for job, code in s.acknowledged.items()}
    assert len(expected) == sum(len(s.acknowledged) for s in submitters), "one id was given twice"
    assert len(expected) > KILLS
    with Client(socket) as client:
        ends = {e["job_id"]: e for e in client.wait(sorted(expected), timeout_s=120)}
        for job, code in expected.items():
            assert ends[job]["state"] == ("FAILED" if code else "COMPLETED"), (job, ends[job])
            assert ends[job]["exit_code"] == f"{code}:0"
        known = {j["job_id"] for j in client.queue(states=["all"], fields=["job_id"])}
        assert known == set(expected), "the controller knows other jobs than were acknowledged"
    ran = Counter(int(line) for line in (work / "ran").read_text().split())
    assert ran == Counter(list(expected)), "a job ran twice or never"


def test_resubmitted_token_gives_the_first_job_again(cluster, workdir):
    client = cluster.client()
    args = {"wrap": "true", "work_dir": workdir, "stdout": "/dev/null", "token": "ab" * 16}
    first = client.submit(**args)
    cluster.kill9_controller()
    cluster.start_controller()
    assert client.submit(**args) == first
    assert client.call("job.token", {"token": "ab" * 16})["job_id"] == first
    assert client.call("job.token", {"token": "cd" * 16})["job_id"] == 0


def test_clients_wait_out_a_restart(cluster, workdir):
    """A submit that begins while no controller runs succeeds once there is one."""
    cluster.kill9_controller()
    results: list[object] = []

    def submit() -> None:
        try:
            results.append(cluster.client().submit(wrap="true", work_dir=workdir, stdout="/dev/null"))
        except HelixError as exc:
            results.append(exc)

    thread = threading.Thread(target=submit)
    thread.start()
    cluster.start_controller()
    thread.join(30)
    assert isinstance(results[0], int), results
