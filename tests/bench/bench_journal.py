"""Speed of the journal beside the bare system calls, on the file system of the given directory.

Run: python tests/bench/bench_journal.py [DIR]    (default: a temporary directory)
Bars: append + sync in batches of 1,000 at least 200,000 records/s; open + replay more than 500,000 records/s.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from helix.blobstore import BlobStore
from helixctld.io.journal import Journal

RECORD_BYTES = 300
BATCH = 1000
BATCHES = 300


def rate(count: int, work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def bare_commits(path: str, data: bytes, count: int) -> Callable[[], None]:
    def work() -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in range(count):
            os.pwrite(fd, data, number * len(data))
            os.fdatasync(fd)
        os.close(fd)

    return work


def commits(journal: Journal, payloads: list[bytes], count: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(count):
            journal.append(payloads)
            journal.sync()

    return work


def puts(store: BlobStore, scripts: list[bytes]) -> Callable[[], None]:
    def work() -> None:
        for script in scripts:
            store.put(script)

    return work


def snapshot_beside_commits(journal: Journal, state: bytes, payloads: list[bytes]) -> str:
    took: list[float] = []
    done = threading.Event()

    def commit() -> None:
        while not done.is_set():
            start = time.perf_counter()
            journal.append(payloads)
            journal.sync()
            took.append(time.perf_counter() - start)

    thread = threading.Thread(target=commit)
    thread.start()
    start = time.perf_counter()
    journal.snapshot(state, journal.last_seq)
    seconds = time.perf_counter() - start
    done.set()
    thread.join()
    took.sort()
    return (
        f"snapshot of {len(state) >> 20} MiB: {seconds:.3f} s; commits beside it:"
        f" p50 {took[len(took) // 2] * 1e3:.2f} ms, p99 {took[int(len(took) * 0.99)] * 1e3:.2f} ms,"
        f" max {took[-1] * 1e3:.2f} ms"
    )


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as base:
        payloads = [os.urandom(RECORD_BYTES) for _ in range(BATCH)]
        total = BATCH * BATCHES
        bare = rate(total, bare_commits(f"{base}/bare", b"".join(payloads), BATCHES))
        journal = Journal.open(f"{base}/state", cluster="bench")
        ours = rate(total, commits(journal, payloads, BATCHES))
        print(
            f"append+sync, batches of {BATCH}: {ours:,.0f} records/s (bar 200,000); bare {bare:,.0f}; {ours / bare:.2f}"
        )
        bare = rate(500, bare_commits(f"{base}/bare", payloads[0], 500))
        single = rate(500, commits(journal, payloads[:1], 500))
        print(f"append+sync, single records: {single:,.0f} commits/s; bare {bare:,.0f}; {single / bare:.2f}")
        state = os.urandom(100 << 20)
        start = time.perf_counter()
        journal.close()
        opened = Journal.open(f"{base}/state", cluster="bench")
        middle = time.perf_counter()
        count = sum(1 for _ in opened.replay())
        end = time.perf_counter()
        print(
            f"restart, {count:,} records: open {middle - start:.3f} s, replay {end - middle:.3f} s,"
            f" {count / (end - start):,.0f} records/s (bar 500,000)"
        )
        print(snapshot_beside_commits(opened, state, payloads[:20]))
        opened.close()
        start = time.perf_counter()
        Journal.open(f"{base}/state", cluster="bench").close()
        print(f"open with that snapshot: {time.perf_counter() - start:.3f} s")
        store = BlobStore(f"{base}/blobs")
        scripts = [b"#!/bin/sh\n# %d\n/bin/true\n" % number for number in range(1000)]
        new, again = rate(1000, puts(store, scripts)), rate(1000, puts(store, scripts))
        start = time.perf_counter()
        store.fsync_all()
        print(f"blobs: {new:,.0f} new/s, {again:,.0f} known/s, 1,000 synced in {time.perf_counter() - start:.3f} s")


if __name__ == "__main__":
    main()
