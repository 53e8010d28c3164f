"""The stream of events: every change once and in order, resumed by cursor, and COMPACTED when that is impossible."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from helpers.cluster_jobs import blocker, finish, run_job, submit, wait_state

from helix.errors import Conflict

NULL = ("-o", "/dev/null")


def now_cursor(client) -> int:
    """The cursor of the present."""
    return int(client.call("events.watch")["cursor"])


def until(events, job: int, new: str) -> list[dict]:
    """Events of a stream up to one."""
    found = []
    for event in events:
        found.append(event)
        if event["id"] == job and event["new"] == new:
            return found
    raise AssertionError("the stream ended")


def test_the_life_of_a_job(cluster, workdir):
    with cluster.client() as client:
        cursor = now_cursor(client)
        job = run_job(cluster, workdir, "exit 3", "-J", "lived", *NULL)["job_id"]
        events = until(client.events(cursor), job, "FAILED")
    mine = [event for event in events if event["id"] == job]
    path = [mine[0]["old"], *(event["new"] for event in mine)]
    assert path[:2] == ["", "PENDING"]
    assert path[-1] == "FAILED"
    assert all(a["new"] == b["old"] for a, b in itertools.pairwise(mine) if b["old"] != b["new"])
    cursors = [event["cursor"] for event in events]
    assert cursors == sorted(set(cursors))
    last = mine[-1]
    assert (last["kind"], last["name"], last["exit_code"], last["reason"]) == ("job", "lived", "3:0", "NonZeroExitCode")
    assert all(event["t"] <= time.time() for event in events)


def test_a_reader_that_comes_back_misses_nothing(cluster, workdir):
    with cluster.client() as client:
        cursor = now_cursor(client)
        first = run_job(cluster, workdir, "true", *NULL)["job_id"]
        seen = until(client.events(cursor), first, "COMPLETED")
        second = run_job(cluster, workdir, "true", *NULL)["job_id"]
        rest = until(client.events(seen[-1]["cursor"]), second, "COMPLETED")
        whole = until(client.events(cursor), second, "COMPLETED")
    assert [*seen, *rest] == whole


def test_a_listing_gives_the_cursor_to_go_on_from(cluster, workdir):
    job = submit(cluster, workdir, blocker(workdir / "go"), *NULL)
    wait_state(cluster, job, "RUNNING")
    with cluster.client() as client:
        answer = client.call("job.list", {"fields": ["job_id", "state"]})
        (workdir / "go").touch()
        finish(cluster, job)
        events = until(client.events(int(answer["cursor"].split(".")[0])), job, "COMPLETED")
        assert answer["rows"] == [[job, "RUNNING"]]
        assert next(event["old"] for event in events if event["id"] == job) == "RUNNING"
        again = client.call("job.list", {"fields": ["job_id"], "since": answer["cursor"]})
        assert "unchanged" not in again
        same = client.call("job.list", {"fields": ["job_id"], "since": again["cursor"]})
        assert same == {"unchanged": True, "cursor": again["cursor"]}


def test_filters(cluster, workdir):
    with cluster.client() as client:
        cursor = now_cursor(client)
        wanted = run_job(cluster, workdir, "true", "-J", "wanted", *NULL)["job_id"]
        other = run_job(cluster, workdir, "true", "-J", "other", *NULL)["job_id"]
        by_name = until(client.events(cursor, names=["wanted"]), wanted, "COMPLETED")
        by_id = until(client.events(cursor, ids=[other]), other, "COMPLETED")
        by_state = until(client.events(cursor, states=["COMPLETED"]), other, "COMPLETED")
    assert {event["id"] for event in by_name} == {wanted}
    assert {event["id"] for event in by_id} == {other}
    assert [event["id"] for event in by_state] == [wanted, other]


def test_nodes_are_told_of_when_asked_for(cluster):
    with cluster.client() as client:
        cursor = now_cursor(client)
        cluster.run("hctl", "update", "NodeName=n2", "State=DRAIN", "Reason=look")
        cluster.run("hctl", "update", "NodeName=n2", "State=RESUME")
        found = []
        for event in client.events(cursor, nodes=True):
            if event["kind"] == "node":
                found.append((event["id"], event["new"], event["reason"]))
            if len(found) == 2:
                break
    assert found == [("n2", "DRAINED", "look"), ("n2", "IDLE", "")]


def test_a_cursor_of_another_life_of_the_controller_is_compacted(cluster, workdir):
    with cluster.client() as client:
        cursor = now_cursor(client)
        cluster.kill9_controller()
        cluster.start_controller()
        with pytest.raises(Conflict) as caught:
            next(client.events(cursor))
        assert caught.value.code == "COMPACTED"
        present = caught.value.data["cursor"]
        job = run_job(cluster, workdir, "true", *NULL)["job_id"]
        assert until(client.events(present), job, "COMPLETED")
        for wrong in (1, present + 10**9):
            with pytest.raises(Conflict):
                next(client.events(wrong))


def test_many_readers_see_the_same(cluster, workdir):
    with cluster.client() as client:
        cursor = now_cursor(client)
        specs = [{"wrap": "true", "work_dir": workdir, "stdout": "/dev/null", "mem": 100}] * 30
        jobs = client.submit_many(specs)
        found: dict[int, list[int]] = {}

        def read(number: int) -> None:
            with cluster.client() as mine:
                left = set(jobs)
                found[number] = []
                for event in mine.events(cursor):
                    found[number].append(event["cursor"])
                    if event["new"] == "COMPLETED":
                        left.discard(event["id"])
                    if not left:
                        return

        threads = [threading.Thread(target=read, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(found) == 8
    shortest = min(map(len, found.values()))
    assert shortest >= 30 * 3
    assert {tuple(cursors[:shortest]) for cursors in found.values()} == {tuple(found[0][:shortest])}


def test_through_a_node(cluster, workdir):
    """A reader on a member host gets the events relayed."""
    from helix.client import Client

    with Client(str(cluster.cluster.layout.node_socket("n1"))) as client:
        cursor = now_cursor(client)
        job = run_job(cluster, workdir, "true", *NULL)["job_id"]
        assert until(client.events(cursor), job, "COMPLETED")
