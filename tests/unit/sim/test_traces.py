"""Traces are read as documented; broken lines are counted by what is wrong, and files that are none are refused."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from helix.errors import HelixError
from helixctld.sim.trace import read_trace
from helixctld.sim.workload import Workload

LINE = "{n} {submit} -1 {run} {alloc} -1 -1 {asked} {limit} -1 1 {user} 1 {program} -1 -1 -1 -1"


def swf(tmp_path: Path, *lines: str, name: str = "trace.swf") -> Workload:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_trace(path)


def line(n: int, **fields: int) -> str:
    values = {"submit": 0, "run": 5, "alloc": 1, "asked": 1, "limit": 9, "user": 3, "program": -1, **fields}
    return LINE.format(n=n, **values)


def test_swf_fields_become_jobs_by_the_rules(tmp_path: Path) -> None:
    found = swf(
        tmp_path,
        "; MaxProcs: 64",
        line(1, submit=7, run=0, asked=4),
        line(2, submit=3, run=50, asked=-1, alloc=6, limit=20, program=8),
        line(3, submit=3, run=50, asked=100, limit=-1, user=-1),
    )
    assert found.processors == 64
    jobs = [(j.number, j.submit_s, j.run_s, j.spec.time_limit_s, j.spec.tasks, j.cpus, j.user) for j in found.jobs]
    assert jobs == [
        (2, 3, 20, 20, 6, 6, "user3"),  # cut at its request; allocated processors where none were asked
        (3, 3, 50, 50, 64, 64, ""),  # no request: the run time; no more than the machine has
        (1, 7, 1, 9, 4, 4, "user3"),  # a run of 0 counts as 1; later submits come later
    ]
    assert found.jobs[0].spec.name == "program8"


def test_broken_swf_lines_are_counted(tmp_path: Path) -> None:
    found = swf(
        tmp_path,
        "; MaxProcs: 4",
        line(1),
        "1 2 3",
        line(2).replace(" 9 ", " nine "),
        line(3, run=-1),
        line(4, asked=0, alloc=0),
        line(5, submit=-1),
        line(6, run=1 << 60),
        line(7).replace(" 5 ", " nan ", 1),
        "",
        line(8),
    )
    assert [job.number for job in found.jobs] == [1, 8]
    assert found.skipped == Counter(
        {
            "too few fields": 1,
            "not a number": 2,
            "no run time": 1,
            "no processors": 1,
            "no submit time": 1,
            "a number out of range": 1,
        }
    )


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "anything"
    path.write_bytes(gzip.compress(f"; MaxProcs: 4\n{line(1)}\n".encode()))
    assert len(read_trace(path).jobs) == 1
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(HelixError, match="broken gzip") as caught:
        read_trace(path)
    assert caught.value.code == "TRACE_UNREADABLE"


CSV = """\
# MaxCpus: 96
job_id,submit,wait,run,req_time,nodes,cpus,gpus,mem_mb,user,queue,spec
0,0,0,100,86400,1,64,0,65536,62,q,1:ppn=64:x86_64:cl_big#excl
1,5,0,200,100,2,8,0,1000,7,q,2:ppn=4
2,6,0,30,-1,-1,-1,4,-1,-1,vc1,
3,x,0,30,-1,1,1,0,-1,-1,q,
4,8,0,-1,-1,1,1,0,-1,-1,q,
5,8,0,1,-1,1,-1,-1,-1,-1,q,
6,9
"""


def test_csv_traces_are_processors_or_nodes(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(CSV, encoding="utf-8")
    pool = read_trace(path)
    assert pool.processors == 96
    assert [(j.number, j.spec.tasks, j.run_s, j.spec.time_limit_s, j.user) for j in pool.jobs] == [
        (0, 64, 100, 86400, "user62"),
        (1, 8, 100, 100, "user7"),
        (2, 4, 30, 30, "vc1"),
    ]
    assert pool.skipped == Counter({"not a number": 1, "no run time": 1, "no processors": 1, "too few fields": 1})
    first, second, _ = (job.spec for job in read_trace(path, by_node=True).jobs)
    assert (first.nodes_min, first.tasks_per_node, first.exclusive, first.constraint) == (1, 64, True, "cl_big")
    assert (second.nodes_min, second.nodes_max, second.tasks, second.mem_per_node_mib) == (2, 2, 8, 500)


def test_history_of_finished_jobs_is_a_trace(tmp_path: Path) -> None:
    rows = [
        {
            "job_id": 7,
            "t_submit": 1000.0,
            "t_start": 1010.0,
            "t_end": 1100.0,
            "cpus": 4,
            "time_limit_s": 60,
            "user": "a",
        },
        {"t_submit": 990, "elapsed_s": 5.5, "tasks": 2, "cpus_per_task": 3, "nodes_min": 2, "partition": "x,y"},
        {"t_submit": 995, "cpus": 1},
        {"t_submit": "soon", "cpus": 1, "elapsed_s": 4},
        {"t_submit": 5, "elapsed_s": 4},
    ]
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join([*map(json.dumps, rows), "{", "[1]"]), encoding="utf-8")
    found = read_trace(path)
    assert [(j.submit_s, j.run_s, j.spec.time_limit_s, j.cpus, j.user) for j in found.jobs] == [
        (0, 5, 5, 6, ""),
        (10, 60, 60, 4, "a"),
    ]
    assert found.skipped == Counter(
        {"not a number": 1, "no run time": 1, "no processors": 1, "not JSON": 1, "not a JSON object": 1}
    )
    spec = read_trace(path, by_node=True).jobs[0].spec
    assert (spec.nodes_min, spec.tasks, spec.cpus_per_task, spec.partitions) == (2, 2, 3, ["x", "y"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("hello\nworld\n", "it is no trace"),
        ("; MaxProcs: 4\n", "no job in it"),
        ("; MaxProcs: 4\n1 2 3\n", "no job in it (1 line: too few fields)"),
        ("# a comment\nname,size\na,1\n", "its header line has no column 'submit'"),
        ('{"a": 1}\n', "no job in it (1 line: no submit time)"),
        ("\x00\x01\x02\xff", "it is no trace"),
    ],
)
def test_files_that_are_no_traces_are_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "x"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(HelixError) as caught:
        read_trace(path)
    assert words in caught.value.msg
    assert "\n" not in caught.value.msg
    assert caught.value.hint


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(HelixError, match="there is no such trace") as caught:
        read_trace(tmp_path / "none")
    assert caught.value.code == "TRACE_MISSING"


def test_shaking_moves_submits_and_repeats_by_its_seed(tmp_path: Path) -> None:
    found = swf(tmp_path, *(line(n, submit=10 * n) for n in range(50)))
    once, again, other = (found.shaken(60, seed) for seed in (1, 1, 2))
    assert once.jobs == again.jobs != other.jobs
    by_number = {job.number: job.submit_s for job in once.jobs}
    assert all(0 <= by_number[job.number] - job.submit_s <= 60 for job in found.jobs)
    assert [job.submit_s for job in once.jobs] == sorted(by_number.values())
    assert found.shaken(0, 1) is found
