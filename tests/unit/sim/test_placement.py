"""Pods with shares of GPUs: a part comes from one device, and nothing is given twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import helix_native
from helix.errors import HelixError
from helix.model.node import NodeBase, NodeRecord
from helixctld.sim.placement import Placing, Pod, place, read_nodes, read_pods

NODES = "# a comment\nsn,cpu_milli,memory_mib,gpu,model\nc0,32000,1000,0,\ng0,20000,10000,2,T4\ng1,20000,10000,1,A10\n"
PODS = "job_id,cpu_milli,gpus,gpu_milli,mem_mb\n0,1000,1,600,10\n1,1000,1,1000,10\n2,1000,x,1000,10\n3,1000,1\n"


@pytest.fixture(scope="module", autouse=True)
def _reference() -> Iterator[None]:
    """A handful of pods: compiling for them would take longer."""
    compiled, helix_native._compiled = helix_native._compiled, None
    yield
    helix_native._compiled = compiled


def machine(*gpus: int) -> Placing:
    nodes = [
        NodeRecord(name=f"g{k}", cpus=20_000, cores_per_socket=20_000, real_memory_mib=10_000, base=NodeBase.UP,
                   responding=True)
        for k in range(len(gpus))
    ]  # fmt: skip
    return Placing(nodes, {f"g{k}": count for k, count in enumerate(gpus)})


def test_parts_share_a_device_as_long_as_it_has_room() -> None:
    placing = machine(2)
    parts = [Pod(1000, 10, 1, milli) for milli in (600, 300, 500, 500)]
    assert [placing.arrive(pod, k + 1) for k, pod in enumerate(parts)] == [True, True, True, True]
    assert placing.devices.allocated == 1900
    assert not placing.arrive(Pod(1000, 10, 1, 200), 9)  # 100 are left on one device
    assert placing.arrive(Pod(1000, 10, 1, 100), 10)
    assert placing.arrive(Pod(1000, 10, 0, 0), 11)  # none asked for


def test_several_gpus_are_whole_ones_of_one_node() -> None:
    placing = machine(2, 2)
    assert placing.arrive(Pod(1000, 10, 1, 400), 1)
    assert placing.arrive(Pod(1000, 10, 2, 1000), 2)
    assert not placing.arrive(Pod(1000, 10, 2, 1000), 3)
    assert placing.arrive(Pod(1000, 10, 1, 1000), 4)
    assert placing.devices.allocated == 3400


def test_cpus_and_memory_count_too() -> None:
    placing = machine(4)
    assert placing.arrive(Pod(15_000, 10, 1, 1000), 1)
    assert not placing.arrive(Pod(6_000, 10, 1, 1000), 2)
    assert not placing.arrive(Pod(1_000, 9_991, 1, 1000), 3)
    assert placing.arrive(Pod(5_000, 9_990, 1, 1000), 4)


def test_files_are_read_and_played(tmp_path: Path) -> None:
    nodes, pods = tmp_path / "nodes.csv", tmp_path / "pods.csv"
    nodes.write_text(NODES, encoding="utf-8")
    pods.write_text(PODS, encoding="utf-8")
    skipped: Counter[str] = Counter()
    records, gpus = read_nodes(str(nodes), skipped)
    assert (gpus, [n.name for n in records]) == ({"g0": 2, "g1": 1}, ["g0", "g1"])
    assert len(read_pods(str(pods), skipped)) == 2
    assert skipped == Counter({"not a number": 1, "too few fields": 1})
    found = place(str(pods), str(nodes), seed=1)
    assert found == place(str(pods), str(nodes), seed=1)
    assert (found["nodes"], found["gpus"]) == (2, 3)
    assert found["asked_share"] >= 1.3
    assert 0.5 < found["allocated_share"] <= 1
    with pytest.raises(HelixError, match="no column 'sn'"):
        place(str(pods), str(pods))
