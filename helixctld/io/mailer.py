"""`--mail-type`: a word to the user when a job begins, ends, fails or is requeued.  Off until configured.

Mail goes to an SMTP server (HelixMailHost) or through MailProg, from a worker thread with a bounded queue; a mail
that cannot be sent is logged and dropped: mail never holds up a job.
"""

from __future__ import annotations

import logging
import queue
import smtplib
import subprocess
import threading
from email.message import EmailMessage

from msgspec.structs import replace

from helix.model.job import JobRecord
from helix.model.job_state import TERMINAL, JobState, Reason
from helixctld.core.mail_marks import INVALID_DEPEND, MARKS
from helixctld.core.state import Transition

log = logging.getLogger("helixctld.mail")

QUEUE_MAX = 10_000
TIMEOUT_S = 20.0
NEVER_STARTED = frozenset({Reason.INVALID_WORK_DIR, Reason.OUTPUT_UNWRITABLE, Reason.JOB_LAUNCH_FAILURE})
#: words of --mail-type that no change of state answers to -> what the mail says
NOTICES = {
    **{word: f"reached {share}% of its time limit" for word, share in MARKS.items()},
    INVALID_DEPEND: "dependency can never hold",
}
_FAILED = frozenset({"FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "TIMEOUT", "BOOT_FAIL", "CANCELLED"})


def mail_kinds(change: Transition) -> frozenset[str]:
    """The --mail-type words that a change of state answers to."""
    new, old = change.new, change.old
    if new == JobState.RUNNING:
        return frozenset({"BEGIN", "ALL"}) if old == JobState.CONFIGURING else frozenset()
    if new in TERMINAL and new != old:
        kinds = {"END", "ALL"}
        if new in _FAILED:
            kinds.add("FAIL")
        if new == JobState.TIMEOUT:
            kinds.add("TIME_LIMIT")
        return frozenset(kinds)
    if new in (JobState.PENDING, JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT) and old and new != old:
        return frozenset({"REQUEUE", "ALL"})
    return frozenset()


def _begins_array(change: Transition) -> bool:
    """True for the start of an array's first task, which stands for the array's own."""
    job = change.job
    first = job.spec.array is not None and job.spec.array.first == job.array_task_id
    return first and job.attempt == 0 and change.new == JobState.RUNNING


class Mailer:
    """Sends in its own thread.  With neither host nor program it does nothing."""

    def __init__(self, *, smtp: str = "", program: str = "", domain: str = "", cluster: str = "") -> None:
        self.smtp, self.program, self.domain, self.cluster = smtp, program, domain, cluster
        self.dropped = 0
        self._queue: queue.Queue[EmailMessage | None] = queue.Queue(QUEUE_MAX)
        self._thread: threading.Thread | None = None

    @property
    def is_on(self) -> bool:
        """True if mail is configured."""
        return bool(self.smtp or self.program)

    def on_change(self, change: Transition) -> None:
        """Queue a mail if the job asked for one.  An array tells of itself, its tasks with ARRAY_TASKS only."""
        if not self.is_on or not change.job.spec.mail_type:
            return
        if change.old == JobState.CONFIGURING and change.new in TERMINAL and change.job.reason not in NEVER_STARTED:
            # so short that its node told of start and end at once
            self._tell(replace(change, new=JobState.RUNNING))
            change = replace(change, old=JobState.RUNNING)
        self._tell(change)

    def on_notice(self, job: JobRecord, word: str) -> None:
        """Queue a mail that no change of state brings: TIME_LIMIT_80 and the like, INVALID_DEPEND."""
        wanted = set(job.spec.mail_type)
        if not self.is_on or (word not in wanted and not (word == INVALID_DEPEND and "ALL" in wanted)):
            return
        if job.array_task_id is not None and "ARRAY_TASKS" not in wanted:
            return
        self._post(job, NOTICES[word], whole_array=False)

    def _tell(self, change: Transition) -> None:
        job, wanted = change.job, set(change.job.spec.mail_type)
        if job.array_task_id is not None and "ARRAY_TASKS" not in wanted and not _begins_array(change):
            return
        if wanted.isdisjoint(mail_kinds(change)):
            return
        # of an array its own exit is always 0:0
        ended = f", exit code {job.derived_exit if job.is_array else job.exit}" if change.new in TERMINAL else ""
        text = f"{change.old} -> {change.new}{ended}"
        if change.new in TERMINAL and job.reason_text:
            text += f"\n{job.reason}: {job.reason_text}"
        self._post(job, f"{change.new}{ended}", text, whole_array="ARRAY_TASKS" not in wanted)

    def _post(self, job: JobRecord, what: str, text: str = "", *, whole_array: bool) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mail", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(self._message(job, what, text or what, whole_array=whole_array))
        except queue.Full:
            self.dropped += 1

    def _message(self, job: JobRecord, what: str, text: str, *, whole_array: bool) -> EmailMessage:
        to = job.spec.mail_user or job.user
        if "@" not in to and self.domain:
            to = f"{to}@{self.domain}"
        mail = EmailMessage()
        name = "".join(c for c in job.spec.name if c.isprintable())[:200]
        ident = str(job.array_job_id) if job.array_job_id and whole_array else job.display_id
        mail["Subject"] = f"Helix Job_id={ident} Name={name} {what}"
        mail["To"] = "".join(c for c in to if c.isprintable())
        mail["From"] = f"helix@{self.domain or 'localhost'}"
        mail.set_content(f"Job {ident} ({name}) on cluster {self.cluster}: {text}\n")
        return mail

    def _run(self) -> None:
        while (mail := self._queue.get()) is not None:
            try:
                self._send(mail)
            except (OSError, smtplib.SMTPException, subprocess.SubprocessError) as exc:
                self.dropped += 1
                log.warning("mail to %s was not sent: %s", mail["To"], exc)

    def _send(self, mail: EmailMessage) -> None:
        if self.smtp:
            host, _, port = self.smtp.partition(":")
            with smtplib.SMTP(host, int(port or 25), timeout=TIMEOUT_S) as server:
                server.send_message(mail)
            return
        if self.program.endswith("sendmail"):
            argv, data = [self.program, "-t", "-oi"], mail.as_bytes()
        else:
            argv, data = [self.program, "-s", mail["Subject"], mail["To"]], mail.get_content().encode()
        subprocess.run(argv, input=data, timeout=TIMEOUT_S, check=True, stdout=subprocess.DEVNULL)  # noqa: S603

    def stop(self) -> None:
        """Let the queued mails go, for a moment."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(5.0)
