"""What a mail about an end says besides the state."""

from __future__ import annotations

from pathlib import Path

from helix.model.job import JobRecord, JobSpec
from helix.model.job_state import JobState, Reason
from helixctld.core.state import Transition
from helixctld.io.mailer import Mailer


def test_a_mail_names_the_job_that_preempted(tmp_path: Path) -> None:
    program = tmp_path / "mail"
    program.write_text(f'#!/bin/sh\necho "$2" > {tmp_path}/subject\ncat > {tmp_path}/body\n')
    program.chmod(0o755)
    words = "preempted by job 8 (user alice, partition urgent)"
    spec = JobSpec(name="j", mail_type=["END"], mail_user="bob")
    job = JobRecord(job_id=7, uid=1, gid=1, spec=spec, state=JobState.PREEMPTED)
    job.reason, job.reason_text = Reason.PREEMPTED, words
    mailer = Mailer(program=str(program), cluster="c")
    mailer.on_change(Transition(job, JobState.COMPLETING, JobState.PREEMPTED, 1.0))
    mailer.stop()
    assert (tmp_path / "subject").read_text() == "Helix Job_id=7 Name=j PREEMPTED, exit code 0:0\n"
    assert (tmp_path / "body").read_text() == (
        f"Job 7 (j) on cluster c: COMPLETING -> PREEMPTED, exit code 0:0\nPreempted: {words}\n"
    )
