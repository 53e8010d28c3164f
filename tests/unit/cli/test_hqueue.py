"""hqueue: squeue's columns to the character, filters, order, repetition, events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helix.cli import hqueue
from helix.cli.fields import Layout, parse_short
from helix.cli.queue_columns import QUEUE_FIELDS
from helix.errors import NotFound
from helix.model.job_state import STATE_CODES, TERMINAL, WAITING
from helix.wire.methods import JOB_ROW
from helix.words import LIVE_STATES, TERMINAL_STATES, WAITING_STATES
from helix.words import STATE_CODES as WORDS

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def queue(peer: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run hqueue; gives (exit status, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        status = hqueue.main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run


PENDING = {"state": "PENDING", "reason": "Resources", "nodes": "", "t_start": 0.0, "t_end": 0.0, "elapsed_s": 0.0}


def test_state_words_equal_the_model() -> None:
    assert dict(STATE_CODES) == WORDS
    assert TERMINAL_STATES == TERMINAL
    assert WAITING_STATES == WAITING
    assert set(LIVE_STATES) | set(TERMINAL_STATES) | {"REQUEUED"} == set(WORDS)


def test_every_field_needs_only_columns_there_are() -> None:
    for field in QUEUE_FIELDS:
        assert set(field.needs) <= set(JOB_ROW), field.names


def test_all_of_squeues_letters() -> None:
    letters = "aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsStTuUvVwWxXyYzZ"
    assert {field.letter for field in QUEUE_FIELDS if field.letter} == set(letters)


def test_default_listing_is_squeues(queue: Any, peer: Any) -> None:
    peer.jobs(
        {"job_id": 12, "display_id": "12"},
        {
            **PENDING,
            "job_id": 13,
            "display_id": "13_[4-9%2]",
            "array_pending": "4-9",
            "array_limit": 2,
            "name": "a-long-job-name",
            "user": "bob-the-builder",
            "node_count": 128,
        },
        {**PENDING, "job_id": 14, "display_id": "14", "partition": "batch", "elapsed_s": 0.0, "reason": "JobHeldUser"},
        {
            "job_id": 15,
            "display_id": "15",
            "elapsed_s": 93784.0,
            "nodes": "n[1-2]",
            "node_count": 2,
            "state": "COMPLETING",
        },
    )
    status, out, _ = queue()
    assert status == 0
    assert out == (GOLDEN / "hqueue_default.txt").read_text()
    assert peer.args("job.list")["filter"] == {}


def test_asks_only_for_what_it_shows(queue: Any, peer: Any) -> None:
    peer.jobs({})
    queue("-h", "-o", "%i %T")
    fields = peer.args("job.list")["fields"]
    assert "submit_line" not in fields
    assert set(fields) == {
        "display_id", "job_id", "array_job_id", "array_task_id", "state", "partition", "priority",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("format_text", "line"),
    [
        ("%i", "12"),
        ("%T|%t", "RUNNING|R"),
        ("[%.6i]", "[    12]"),
        ("[%-6i]", None),
        ("[%6i]", "[12    ]"),
        ("%.3P", "deb"),
        ("%M %l %L", "1:01 1:00:00 58:59"),
        ("%A %F %K", "12 12 N/A"),
        ("%S %V %e", "2027-01-15T08:00:10 2027-01-15T08:00:00 2027-01-15T09:00:10"),
        ("%C %D %m %c", "2 1 2G 2"),
        ("%u %U %g %G", "alice 1000 staff 50"),
        ("%a %E %k %q %w %W", "(null) (null) (null) (null) (null) (null)"),
        ("%Q %p", "4294901757 0.99998474074527"),
        ("%R %N %B", "n1 n1 n1"),
        ("%h %O %z %b %X %v", "OK 0 *:*:* N/A N/A (null)"),
        ("%o %Z", "/home/alice/job.sh /home/alice"),
        ("100%%", "100%"),
    ],
)
def test_format_letters(queue: Any, peer: Any, format_text: str, line: str | None) -> None:
    peer.jobs({})
    status, out, err = queue("-h", "-o", format_text)
    if line is None:
        assert status == 2
        assert "no field '%-6i]'" in err
    else:
        assert out == line + "\n"


def test_time_left_is_cut_by_an_end_before_the_limit(queue: Any, peer: Any) -> None:
    """A reservation may end a job earlier; what the controller says of the end counts."""
    peer.jobs(
        {"t_start": 1000.0, "t_end": 1600.0, "elapsed_s": 100.0, "time_limit_s": 3600},
        {"t_start": 1000.0, "t_end": 1600.0, "elapsed_s": 100.0, "time_limit_s": 0},
        {"t_start": 1000.0, "t_end": 0.0, "elapsed_s": 100.0, "time_limit_s": 0},
        {"t_start": 1000.0, "t_end": 4650.0, "elapsed_s": 100.0, "time_limit_s": 3600, "suspended_s": 50.0},
    )
    assert queue("-h", "-o", "%L", "-S", "L")[1].split() == ["8:20", "8:20", "58:20", "UNLIMITED"]


def test_long_names(queue: Any, peer: Any) -> None:
    peer.jobs({})
    assert queue("-h", "-O", "jobid:6,name:.8,state")[1] == "12        wrapRUNNING             \n"
    assert queue("-h", "-O", "JobArrayID:|,UserName:|")[1] == "12|alice|\n"
    status, _, err = queue("-O", "jobidd")
    assert status == 2
    assert "did you mean 'jobid'?" in err


def test_all_fields_can_be_shown(queue: Any, peer: Any) -> None:
    peer.jobs({}, PENDING)
    assert len(queue("-o", "%all")[1].splitlines()) == 3
    assert len(queue("-O", "all")[1].splitlines()) == 3


def test_order(queue: Any, peer: Any) -> None:
    peer.jobs(
        {"job_id": 1, "display_id": "1", "partition": "b", "priority": 5},
        {**PENDING, "job_id": 2, "display_id": "2", "partition": "a", "priority": 1},
        {**PENDING, "job_id": 3, "display_id": "3", "partition": "a", "priority": 9},
        {"job_id": 4, "display_id": "4", "partition": "a", "priority": 3},
        {"job_id": 30, "display_id": "5_2", "array_job_id": 5, "array_task_id": 2, "partition": "c"},
    )

    def ids(*words: str) -> list[str]:
        return queue("-h", "-o", "%i", *words)[1].split()

    assert ids() == ["3", "2", "4", "1", "5_2"]
    assert ids("-S", "i") == ["1", "2", "3", "4", "5_2"]
    assert ids("-S", "-i") == ["5_2", "4", "3", "2", "1"]
    assert ids("--sort=t,-p") == ["3", "2", "5_2", "1", "4"]
    assert queue("-S", "%")[0] == 2


def test_filters(queue: Any, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.jobs({})
    monkeypatch.setattr("os.getuid", lambda: 4711)
    queue(
        "-u",
        "a,b",
        "-t",
        "pd,RUNNING",
        "-p",
        "x",
        "-n",
        "j",
        "-A",
        "acc",
        "-q",
        "high",
        "-w",
        "n[1-2]",
        "-j",
        "1,2_[3,4]",
    )
    assert peer.args("job.list")["filter"] == {
        "users": ["a", "b"],
        "states": ["PENDING", "RUNNING"],
        "partitions": ["x"],
        "names": ["j"],
        "accounts": ["acc"],
        "qos": ["high"],
        "nodelist": "n[1-2]",
        "ids": ["1", "2_[3,4]"],
    }
    queue("--me", "--states=all", "-r")
    assert peer.args("job.list")["filter"] == {"users": ["4711"], "states": ["all"]}
    assert peer.args("job.list")["expand_arrays"] is True


def test_environment_gives_defaults(queue: Any, peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.jobs({})
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SQUEUE_USERS", "carol")
    assert queue("-h")[1] == "12\n"
    assert peer.args("job.list")["filter"] == {"users": ["carol"]}
    assert queue("-h", "-o", "%u")[1] == "alice\n"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["-t", "runing"], "did you mean 'RUNNING'?"),
        (["-j", "x"], "invalid job id 'x'"),
        (["-o", "%1234567i"], "is above"),
        (["extra"], "unexpected argument 'extra'"),
        (["-s"], "--steps is not supported yet"),
        (["-i", "0"], "not between 1"),
        (["--yaml"], "--yaml is not supported yet"),
    ],
)
def test_refusals(queue: Any, words: list[str], part: str) -> None:
    status, out, err = queue(*words)
    assert (status, out) == (2, "")
    assert part in err


def test_one_unknown_job_is_an_error(queue: Any, peer: Any) -> None:
    peer.jobs()
    peer.answers["job.show"] = NotFound("no job 99", code="JOB_UNKNOWN")
    status, out, err = queue("-h", "-j", "99")
    assert (status, out) == (1, "")
    assert "no job 99 (JOB_UNKNOWN)" in err
    assert queue("-h", "-j", "98,99")[0] == 0


def test_control_characters_of_names_do_not_reach_the_terminal(queue: Any, peer: Any) -> None:
    peer.jobs({"name": "a\x1b[31mb\nc"})
    assert "\x1b" not in queue("-h", "-o", "%j")[1]


def test_long_and_start(queue: Any, peer: Any) -> None:
    peer.jobs(PENDING)
    out = queue("-l")[1].splitlines()
    assert (
        out[1] == "             JOBID PARTITION     NAME     USER    STATE       TIME TIME_LIMI  NODES NODELIST(REASON)"
    )
    out = queue("--start")[1].splitlines()
    assert out[1].split() == ["12", "debug", "wrap", "alice", "PD", "N/A", "1", "(null)", "(Resources)"]
    assert peer.args("job.list")["filter"]["states"] == ["PENDING"]
    soon = {**PENDING, "job_id": 13, "t_expected": 1_800_000_000.4, "sched_nodes": "n[1-2]"}
    peer.jobs(PENDING, soon)
    _, first, second = queue("--start", "-o", "%i %S %Y")[1].splitlines()  # the job that nothing is known of is last
    assert second.split()[1:] == ["N/A", "(null)"]
    assert first.split()[2] == "n[1-2]"
    assert first.split()[1].startswith("2027-01-")


def test_json_is_versioned_and_raw(queue: Any, peer: Any) -> None:
    peer.jobs({})
    document = json.loads(queue("--json")[1])
    assert document["helix"] == {"format": "jobs", "version": 1}
    assert document["cursor"] == "7.1"
    assert document["jobs"][0]["time_limit_s"] == 3600
    assert peer.args("job.list")["fields"] == []


def test_iterate_asks_with_the_cursor_and_ages_running_jobs(
    queue: Any, peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer.jobs({"elapsed_s": 59.0})
    first = peer.answers["job.list"]
    clock = iter((1000.0, 1000.0, 1002.5))
    monkeypatch.setattr("time.monotonic", lambda: next(clock, 1002.5))
    pauses = iter((None,))

    def pause(_seconds: float) -> None:
        if next(pauses, "stop") == "stop":
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", pause)
    peer.answers["job.list"] = lambda a: {"unchanged": True, "cursor": "7.1"} if a.get("since") else first(a)
    status, out, _ = queue("-h", "-i", "5", "-o", "%M")
    assert status == 130
    assert peer.args("job.list")["since"] == "7.1"
    times = [line for line in out.splitlines() if line.count(":") == 1]
    assert times[0] == "0:59"
    assert times[1] in ("0:59", "1:01")


def test_watch_follows_events_without_listing_again(queue: Any, peer: Any) -> None:
    peer.jobs({"job_id": 12, "display_id": "12"})
    listing = peer.answers["job.list"]
    changed = iter(
        [{"job_id": 12, "display_id": "12", "state": "COMPLETING"}],
    )

    def rows(args: dict[str, Any]) -> Any:
        if args["filter"].get("ids"):
            record = next(changed, None)
            if record is None:
                return [{"columns": args["fields"], "rows": [], "cursor": "9.1"}]
            peer.jobs(record)
            answer = peer.answers["job.list"](args)
            peer.answers["job.list"] = rows
            return answer
        return listing(args)

    peer.answers["job.list"] = rows
    event = {
        "cursor": 8,
        "kind": "job",
        "id": 12,
        "display_id": "12",
        "old": "RUNNING",
        "new": "COMPLETING",
        "reason": "",
    }
    ended = {**event, "cursor": 9, "old": "COMPLETING", "new": "COMPLETED"}

    def events(args: dict[str, Any]) -> Any:
        if args["cursor"] == 7:
            return [{"events": [], "cursor": 7}, {"events": [event, ended], "cursor": 9}]
        raise OSError  # the second connection: the peer goes away

    peer.answers["events.watch"] = events
    import helix.client

    def give_up(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    original = helix.client.Client._pause
    helix.client.Client._pause = give_up  # type: ignore[method-assign]
    try:
        status, out, _ = queue("--watch", "-h", "-o", "%i %T")
    finally:
        helix.client.Client._pause = original  # type: ignore[method-assign]
    assert status == 130
    assert out.splitlines() == ["12 RUNNING", "12 COMPLETING", "12 COMPLETING -> COMPLETED"]
    assert sum(1 for name, args in peer.calls if name == "job.list" and not args["filter"].get("ids")) == 1


def test_rendering_does_not_depend_on_the_rows_kind() -> None:
    layout = Layout(*parse_short("%.4i|%j", QUEUE_FIELDS))
    row = {"display_id": "1", "job_id": 1, "array_job_id": 0, "array_task_id": None, "name": "x%sy"}
    assert layout.render([tuple(row[c] for c in layout.columns)]) == "   1|x%sy"
    assert layout.render([]) == ""
