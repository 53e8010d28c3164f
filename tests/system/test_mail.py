"""--mail-type and --mail-user, to a small SMTP server that is in the test."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, submit, wait_state, wait_text

from helix.cluster.fixture import TestCluster

NULL = ("-o", "/dev/null")


class _Session(socketserver.StreamRequestHandler):
    """One connection of the simplest SMTP (RFC 5321) there is."""

    server: Post

    def handle(self) -> None:
        self._say(b"220 test")
        to: list[str] = []
        while line := self.rfile.readline(1000):
            word = line[:4].upper()
            if word == b"RCPT":
                to.append(line.decode().split("<", 1)[1].split(">", 1)[0])
            if word == b"DATA":
                self._say(b"354 go on")
                lines: list[bytes] = []
                while (text := self.rfile.readline(10_000)) not in (b".\r\n", b""):
                    lines.append(text)
                mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                assert isinstance(mail, EmailMessage)
                self.server.take(to, mail)
                to = []
            if word == b"QUIT":
                self._say(b"221 bye")
                return
            self._say(b"250 ok")

    def _say(self, text: bytes) -> None:
        self.wfile.write(text + b"\r\n")


class Post(socketserver.ThreadingTCPServer):
    """Keeps what is sent."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self._lock = threading.Lock()

    def take(self, to: list[str], mail: EmailMessage) -> None:
        """A mail has come."""
        with self._lock:
            self.mails.append((to, mail))

    def subjects(self) -> list[str]:
        """Of all mails, in the order they came."""
        with self._lock:
            return [str(mail["Subject"]) for _, mail in self.mails]


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    """A mail server."""
    with Post() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def mailing(post: Post, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """A cluster that sends mail there."""
    conf = f"MailHost=127.0.0.1:{post.server_address[1]}\nMailDomain=example.org\nKillWait=1\n"
    with TestCluster(tmp_path_factory.mktemp("mail") / "c", nodes=1, cpus=4, conf_extra=conf) as cluster:
        yield cluster


@pytest.fixture
def work(mailing: TestCluster, post: Post, request: pytest.FixtureRequest) -> Path:
    """An empty directory, and no mail from the test before."""
    path = mailing.dir / "work" / request.node.name
    path.mkdir(parents=True)
    post.mails.clear()
    return path


def wait_mails(cluster: TestCluster, post: Post, count: int) -> list[str]:
    """Wait until so many mails have come."""
    cluster.wait_for(lambda: len(post.mails) >= count, f"{count} mails have come", timeout_s=15)
    return post.subjects()


def nothing_more(cluster: TestCluster, post: Post, work: Path, count: int) -> None:
    """Whatever a job causes is sent before what a later job causes."""
    finish(cluster, submit(cluster, work, "true", "-J", "fence", "--mail-type=END", *NULL))
    assert len(wait_mails(cluster, post, count + 1)) == count + 1, post.subjects()


def test_begin_and_end(mailing, post, work):
    job = submit(mailing, work, "true", "-J", "short", "--mail-type=BEGIN,END", "--mail-user=ada@example.com", *NULL)
    finish(mailing, job)
    begin, end = wait_mails(mailing, post, 2)
    assert begin == f"Helix Job_id={job} Name=short RUNNING"
    assert end == f"Helix Job_id={job} Name=short COMPLETED, exit code 0:0"
    to, mail = post.mails[0]
    assert to == ["ada@example.com"]
    assert mail["To"] == "ada@example.com"
    assert mail["From"] == "helix@example.org"
    assert f"Job {job}" in mail.get_content()


def test_fail_only_for_failures(mailing, post, work):
    finish(mailing, submit(mailing, work, "true", "--mail-type=FAIL", *NULL))
    job = submit(mailing, work, "exit 7", "--mail-type=FAIL", *NULL)
    finish(mailing, job)
    assert wait_mails(mailing, post, 1) == [f"Helix Job_id={job} Name=job.sh FAILED, exit code 7:0"]
    nothing_more(mailing, post, work, 1)


def test_the_user_and_the_domain_are_the_default_address(mailing, post, work):
    job = submit(mailing, work, "true", "--mail-type=END", *NULL)
    finish(mailing, job)
    wait_mails(mailing, post, 1)
    with mailing.client() as client:
        assert post.mails[0][0] == [f"{client.job(job)['user']}@example.org"]


def test_time_limit_and_requeue(mailing, post, work):
    job = submit(mailing, work, "exec sleep 60", "-t0:01", "--mail-type=TIME_LIMIT", *NULL)
    finish(mailing, job)
    assert "TIMEOUT" in wait_mails(mailing, post, 1)[0]
    post.mails.clear()
    body = f"echo x >> up; {blocker(work / 'go')}"
    job = submit(mailing, work, body, "--mail-type=REQUEUE", *NULL)
    wait_text(mailing, work / "up")
    wait_state(mailing, job, "RUNNING")
    mailing.run("hctl", "requeue", str(job))
    assert "PENDING" in wait_mails(mailing, post, 1)[0]
    (work / "go").touch()
    finish(mailing, job)
    nothing_more(mailing, post, work, 1)


def test_shares_of_the_time_limit_and_hopeless_dependencies(mailing, post, work):
    kinds = "--mail-type=TIME_LIMIT_50,TIME_LIMIT_90"
    job = submit(mailing, work, "exec sleep 60", "-t0:02", "-J", "long", kinds, *NULL)
    finish(mailing, job)
    assert wait_mails(mailing, post, 2) == [
        f"Helix Job_id={job} Name=long reached {share}% of its time limit" for share in (50, 90)
    ]
    post.mails.clear()
    waits = submit(mailing, work, "true", "-J", "late", f"-dafterok:{job}", "--mail-type=INVALID_DEPEND", *NULL)
    assert wait_mails(mailing, post, 1) == [f"Helix Job_id={waits} Name=late dependency can never hold"]
    mailing.run("hcancel", str(waits))
    nothing_more(mailing, post, work, 1)


def test_an_array_sends_one_mail_and_its_tasks_if_asked(mailing, post, work):
    body = "exit $((SLURM_ARRAY_TASK_ID - 1))"
    array = submit(mailing, work, body, "-a1-2", "-J", "two", "--mail-type=BEGIN,END", *NULL)
    finish(mailing, array)
    assert wait_mails(mailing, post, 2) == [
        f"Helix Job_id={array} Name=two RUNNING",
        f"Helix Job_id={array} Name=two FAILED, exit code 1:0",
    ]
    nothing_more(mailing, post, work, 2)
    post.mails.clear()
    array = submit(mailing, work, "true", "-a1-2", "--mail-type=END,ARRAY_TASKS", *NULL)
    finish(mailing, array)
    subjects = wait_mails(mailing, post, 2)
    assert {f"Job_id={array}_1", f"Job_id={array}_2"} <= {subject.split()[1] for subject in subjects}


def test_without_mail_type_nothing_is_sent(mailing, post, work):
    finish(mailing, submit(mailing, work, "exit 1", "--mail-user=ada@example.com", *NULL))
    finish(mailing, submit(mailing, work, "exit 1", "--mail-type=NONE", *NULL))
    nothing_more(mailing, post, work, 0)


def test_a_name_cannot_add_headers(mailing, post, work):
    with mailing.client() as client:
        job = client.submit(
            wrap="true",
            name="x\r\nBcc: all@example.com\r\n\r\nbody",
            mail_type=["END"],
            mail_user="ada@example.com",
            work_dir=work,
            stdout="/dev/null",
        )
        client.wait(job, timeout_s=30)
    ada = ["ada@example.com"]
    mailing.wait_for(lambda: any(to == ada for to, _ in post.mails), "the mail is there")
    mail = next(mail for to, mail in post.mails if to == ada)
    assert mail["Bcc"] is None


def test_a_mail_server_that_is_gone_holds_up_no_job(mailing, post, work):
    conf = mailing.cluster.layout.conf
    text = conf.read_text()
    conf.write_text(text.replace(f"MailHost=127.0.0.1:{post.server_address[1]}", "MailHost=127.0.0.1:1"))
    mailing.kill9_controller()
    mailing.start_controller()
    try:
        for _ in range(3):
            assert finish(mailing, submit(mailing, work, "true", "--mail-type=ALL", *NULL))["state"] == "COMPLETED"
        log = mailing.cluster.layout.log_file("helixctld")
        mailing.wait_for(lambda: "was not sent" in log.read_text(), "the log tells of it")
    finally:
        conf.write_text(text)
        mailing.kill9_controller()
        mailing.start_controller()
