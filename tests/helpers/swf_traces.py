"""Workloads drawn by chance, as SWF files."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

from helpers.plain_schedulers import Job


def random_jobs(seed: int, count: int, processors: int) -> list[Job]:
    """A queue that grows and drains, with many ties: submits, limits and ends often fall on the same second."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    t = 0
    for _ in range(count):
        t += rng.choice((0, 0, 1, 5, 30, 30, 120))
        limit = rng.choice((30, 60, 60, 120, 300, 900))
        run = limit if rng.random() < 0.3 else rng.randint(1, limit)
        jobs.append((t, run, limit, rng.choice((1, 1, 2, processors // 3, processors // 2, processors))))
    return jobs


def write_swf(path: Path, jobs: list[Job], processors: int) -> Path:
    """A trace with these jobs, numbered from 1 on; gzip if the name says so."""
    lines = [f"; MaxProcs: {processors}"]
    for number, (submit, run, limit, count) in enumerate(jobs, 1):
        lines.append(f"{number} {submit} -1 {run} {count} -1 -1 {count} {limit} -1 1 {number % 7} 1 -1 -1 -1 -1 -1")
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path
