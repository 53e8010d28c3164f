"""The journal in real processes: SIGKILL at random moments, a disk that is really full, really read-only, two openers.

Disks of a few MiB are tmpfs mounts in a private mount namespace of the child process, so nothing stays behind.
"""

import json
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from helixctld.io.journal import Journal, JournalLocked
from helixctld.io.journal_fsck import check

PRELUDE = """
import errno, json, os, subprocess, sys
from helixctld.io import journal as module
from helixctld.io.journal import *
where = sys.argv[1]
def mount(*options):
    subprocess.run(["mount", *options, where], check=True)
"""

WRITER = """
import random
module.SEGMENT_BYTES_MAX = 20_000
rng = random.Random(sys.argv[2])
journal = Journal.open(where, cluster="c1")
number = journal.last_seq
while True:
    batch = []
    for _ in range(rng.randint(1, 20)):
        number += 1
        batch.append(b"%d " % number * rng.randint(1, 60))
    journal.append(batch)
    seq = journal.sync()
    os.write(1, b"%d\\n" % seq)
    if rng.random() < 0.1:
        journal.snapshot(b"%d" % seq, seq)
"""


def child(code: str, *args: object, wrap: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*wrap, sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def namespace() -> tuple[str, ...]:
    """The command prefix that may mount a tmpfs for itself alone, or nothing."""
    for wrap in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        probe = [*wrap, "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return wrap
    return ()


NAMESPACE = namespace()
needs_mount = pytest.mark.skipif(not NAMESPACE, reason="this system lets the test mount no tmpfs, not even for itself")


def on_small_disk(code: str, where: Path, size: str = "4m") -> Any:
    """Run `code` with `where` a fresh tmpfs of `size`; what it prints as JSON."""
    mount = f"mount('-t', 'tmpfs', '-o', 'size={size},mode=0700', 'none')\n"
    process = child(mount + textwrap.dedent(code), where, wrap=NAMESPACE)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def test_sigkill_at_random_moments_loses_nothing_acknowledged(tmp_path: Path) -> None:
    state, rng, acknowledged = tmp_path / "state", random.Random(1), 0
    for round_number in range(40):
        writer = child(WRITER, state, round_number)
        assert writer.stdout is not None
        lines = rng.randint(1, 120)
        for _ in range(lines):
            line = writer.stdout.readline()
            assert line, writer.stderr and writer.stderr.read()
            acknowledged = int(line)
        writer.send_signal(signal.SIGKILL)
        rest, _ = writer.communicate()
        acknowledged = max([acknowledged, *map(int, rest.split("\n")[:-1])])
        assert check(str(state)).ok
        with Journal.open(str(state), cluster="c1") as journal:
            seq = journal.recovered.snapshot_seq
            assert seq == int(journal.recovered.snapshot or b"0")
            for found, payload in journal.replay():
                assert found == seq + 1
                assert payload.split()[0] == b"%d" % found
                seq = found
            assert seq >= acknowledged, f"round {round_number}"
            assert seq == journal.last_seq
    assert acknowledged > 1000


def test_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    holder = child("journal = Journal.open(where, cluster='c1'); print('open', flush=True); input()", tmp_path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(JournalLocked, match=f"pid {holder.pid}"):
            Journal.open(str(tmp_path), cluster="c1")
        assert f"pid {holder.pid}" in check(str(tmp_path)).in_use_by
    finally:
        holder.kill()
        holder.communicate()
    Journal.open(str(tmp_path), cluster="c1").close()


@needs_mount
def test_full_disk_loses_nothing_and_recovers_by_itself(tmp_path: Path) -> None:
    result = on_small_disk(
        """
        journal = Journal.open(where, cluster="c1")
        record, seen = b"x" * 65536, []
        while not journal.low_space:
            journal.append([record])
            journal.sync()
        at_low_space = journal.durable_seq
        try:
            while True:
                journal.append([record])
                journal.sync()
        except JournalFull as exc:
            seen.append(exc.code)
        at_full = journal.durable_seq
        journal.append([b"queued while full"])
        try:
            journal.sync()
        except JournalFull as exc:
            seen.append(exc.code)
        durable_while_full = journal.durable_seq
        journal.append([b"also queued"])
        mount("-o", "remount,size=12m")
        journal._reserve._next_try = 0.0
        after = journal.sync()
        last, low = journal.last_seq, journal.low_space
        journal.close()
        with Journal.open(where, cluster="c1") as journal:
            found = [payload for _, payload in journal.replay()]
        print(json.dumps({
            "seen": seen, "at_low_space": at_low_space, "at_full": at_full, "while_full": durable_while_full,
            "after": after, "last": last, "low": low, "found": len(found), "tail": [p.decode() for p in found[-2:]],
        }))
        """,
        tmp_path,
    )
    assert result["seen"] == ["JOURNAL_FULL", "JOURNAL_FULL"]
    assert result["at_full"] - result["at_low_space"] >= 10, "the reserve gave room for more records"
    assert result["while_full"] == result["at_full"]
    assert result["after"] == result["last"] == result["found"] == result["at_full"] + 3
    assert not result["low"]
    assert result["tail"] == ["queued while full", "also queued"]


@needs_mount
def test_killed_on_a_full_disk_and_started_on_it(tmp_path: Path) -> None:
    result = on_small_disk(
        """
        reader, writer = os.pipe()
        if os.fork() == 0:
            import signal
            journal = Journal.open(where, cluster="c1")
            try:
                while True:
                    journal.append([b"x" * 10_000])
                    journal.sync()
            except JournalFull:
                os.write(writer, b"%d" % journal.durable_seq)
            filler = os.open(os.path.join(where, "filler"), os.O_WRONLY | os.O_CREAT)
            try:
                while True:
                    os.write(filler, b"x")
            except OSError:
                os.kill(os.getpid(), signal.SIGKILL)
        durable = int(os.read(reader, 20))
        os.wait()
        journal = Journal.open(where, cluster="c1")
        found, low = sum(1 for _ in journal.replay()), journal.low_space
        journal.append([b"more"])
        try:
            journal.sync()  # what still fits into the segment's last page may succeed
        except JournalFull:
            print("full", file=sys.stderr)
        os.unlink(os.path.join(where, "filler"))
        mount("-o", "remount,size=12m")
        print(json.dumps([durable, found, low, journal.sync()]))
        """,
        tmp_path,
    )
    durable, found, low, after = result
    assert found == durable
    assert low
    assert after == durable + 1


@needs_mount
def test_disk_that_becomes_read_only_is_final_and_a_start_on_it_is_refused(tmp_path: Path) -> None:
    result = on_small_disk(
        """
        journal = Journal.open(where, cluster="c1")
        journal.append([b"kept"])
        journal.close()
        mount("-o", "remount,ro")
        try:
            Journal.open(where, cluster="c1")
        except JournalUnusable as exc:
            refusal = [exc.code, exc.msg, exc.hint]
        mount("-o", "remount,rw")
        with Journal.open(where, cluster="c1") as journal:
            print(json.dumps([refusal, [p.decode() for _, p in journal.replay()]]))
        """,
        tmp_path,
    )
    (code, message, hint), kept = result
    assert code == "JOURNAL_UNUSABLE"
    assert str(tmp_path) in message
    assert "Read-only" in message
    assert "writable" in hint
    assert kept == ["kept"]


@needs_mount
def test_snapshot_without_room_leaves_the_older_one(tmp_path: Path) -> None:
    result = on_small_disk(
        """
        journal = Journal.open(where, cluster="c1")
        journal.append([b"1"])
        journal.snapshot(b"small", 1)
        journal.append([b"2"])
        try:
            journal.snapshot(bytes(8 << 20), 2)
            code = "none"
        except JournalFull as exc:
            code = exc.code
        journal.append([b"3"])
        seq = journal.sync()
        journal.close()
        with Journal.open(where, cluster="c1") as journal:
            state = journal.recovered.snapshot.decode()
            print(json.dumps([code, seq, state, [p.decode() for _, p in journal.replay()]]))
        """,
        tmp_path,
    )
    assert result == ["JOURNAL_FULL", 3, "small", ["2", "3"]]
