"""Journals of earlier versions replay: the sample of each released version is kept under tests/golden."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.core_builders import Cluster
from helpers.golden_journal import history

from helix.model import events as ev
from helix.model.codec import msgpack_decoder
from helix.model.job_state import JobState
from helixctld.core import invariants
from helixctld.core.apply import _TABLE, apply
from helixctld.io.journal import Journal

GOLDEN = Path(__file__).parents[2] / "golden"
SAMPLES = sorted(path.name for path in GOLDEN.glob("journal-*"))
_events = msgpack_decoder(ev.Event)  # type: ignore[arg-type]


@pytest.mark.parametrize("sample", SAMPLES)
def test_sample_replays(sample, tmp_path):
    shutil.copytree(GOLDEN / sample, tmp_path / "state")
    for path in (tmp_path / "state").iterdir():
        path.chmod(0o600)
    (tmp_path / "state").chmod(0o700)
    c = Cluster(nodes=2, cpus=4, memory_mib=1000)
    state = c._empty()
    with Journal.open(str(tmp_path / "state"), cluster="test") as journal:
        for _, payload in journal.replay():
            apply(state, _events.decode(payload))
    state.rebuild(5000.0)
    invariants.check(state)
    by_name = {job.spec.name: job for job in state.jobs.values() if job.array_task_id is None}
    assert state.history[1].state is JobState.COMPLETED
    assert by_name["running"].state is JobState.RUNNING
    assert by_name["running"].alloc.cores == [[1, 2]]
    assert (by_name["ending"].state, by_name["ending"].outcome) == (JobState.COMPLETING, JobState.CANCELLED)
    assert (by_name["renamed"].spec.time_limit_s, by_name["renamed"].dependency_met) == (600, True)
    assert str(by_name["array"].pending) == "5-9:2"
    assert (state.nodes["n2"].drain, state.nodes["n2"].reason) == (True, "disk")
    assert state.partitions["batch"].max_time_s == 86400
    assert len(state.keys) == 1


def test_there_is_a_sample():
    assert "journal-0.1.0" in SAMPLES


def test_the_sample_has_every_kind_of_event():
    kinds = {type(_events.decode(data)) for data in history().journal}
    assert kinds == set(_TABLE)
