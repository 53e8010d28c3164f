"""What a request means: Slurm's defaults for nodes, tasks, CPUs and memory."""

from __future__ import annotations

from typing import Any

import pytest

from helix.errors import ConfigError, UsageError
from helix.model.job import JobSpec
from helix.model.job_state import Reason
from helix.model.partition import PartitionRecord
from helix.sched.options import STARTS_MAX, SchedOptions
from helix.sched.request import Request, normalise, partition_limit, shape_key, time_limit_s

PART = PartitionRecord(name="main")
OPTIONS = SchedOptions(def_mem_per_cpu_mib=10)


def request(part: PartitionRecord = PART, options: SchedOptions = OPTIONS, **fields: Any) -> Request:
    return normalise(JobSpec(**fields), part, options)


def test_nothing_given_is_one_task_of_one_cpu_on_one_node() -> None:
    r = request()
    assert (r.nodes_lo, r.nodes_hi, r.tasks, r.task_lo, r.cpus_per_task) == (1, 0, 0, 1, 1)
    assert r.cpus_total == r.tasks_total == 1
    assert r.mem_cpu_mib == 10


def test_nodes_alone_give_one_task_a_node() -> None:
    r = request(nodes_min=3, nodes_max=3)
    assert (r.nodes_lo, r.nodes_hi, r.tasks, r.tasks_total, r.grow) == (3, 3, 0, 3, False)


def test_tasks_alone_take_as_few_nodes_as_needed() -> None:
    r = request(tasks=10)
    assert (r.nodes_lo, r.nodes_hi, r.tasks, r.task_lo, r.task_hi, r.grow) == (1, 0, 10, 1, 10, False)


def test_node_range_grows_unless_the_minimum_is_preferred() -> None:
    assert request(nodes_min=2, nodes_max=5).grow
    assert not request(nodes_min=2, nodes_max=5, use_min_nodes=True).grow


def test_tasks_per_node_without_tasks_are_exact() -> None:
    r = request(nodes_min=2, nodes_max=2, tasks_per_node=4)
    assert (r.tasks, r.task_lo, r.task_hi, r.tasks_total) == (0, 4, 4, 8)


def test_tasks_per_node_with_tasks_is_a_maximum_and_raises_the_node_count() -> None:
    r = request(tasks=10, tasks_per_node=4)
    assert (r.nodes_lo, r.task_lo, r.task_hi) == (3, 1, 4)


def test_more_nodes_than_tasks_are_cut_to_the_tasks() -> None:
    r = request(nodes_min=8, nodes_max=8, tasks=3)
    assert (r.nodes_lo, r.nodes_hi, r.tasks) == (3, 3, 3)


def test_node_list_raises_the_node_count_and_every_named_node_gets_a_task() -> None:
    r = request(nodelist="n[1-3]")
    assert r.must == ("n1", "n2", "n3")
    assert r.nodes_lo == 3
    r = request(nodelist="n[1-3]", tasks=1)
    assert (r.nodes_lo, r.tasks) == (3, 3)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nodes_min": 1, "nodes_max": 1, "nodelist": "n[1-3]"}, "names 3 nodes"),
        ({"nodes_min": 1, "nodes_max": 1, "tasks": 8, "tasks_per_node": 4}, "need 2 nodes"),
        ({"nodes_min": 3, "nodes_max": 2}, "at most 2"),
        ({"nodelist": "n1", "exclude": "n[1-2]"}, "both required and excluded"),
    ],
)
def test_counts_that_contradict_each_other_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        request(**fields)
    assert caught.value.code == "NODE_COUNT_INVALID"


def test_memory_defaults_come_from_the_partition_then_the_cluster_then_all_of_the_node() -> None:
    part = PartitionRecord(name="p", def_mem_per_node_mib=77)
    assert request(part).mem_node_mib == 77
    assert request(part, mem_per_cpu_mib=5).mem_cpu_mib == 5
    assert request().mem_cpu_mib == 10
    assert request(options=SchedOptions()).mem_all
    assert request(mem_all=True).mem_all


def test_memory_per_cpu_over_the_limit_takes_more_cpus() -> None:
    r = request(PartitionRecord(name="p", max_mem_per_cpu_mib=100), mem_per_cpu_mib=250)
    assert (r.cpus_per_task, r.mem_cpu_mib) == (3, 84)
    r = request(PartitionRecord(name="p", max_mem_per_cpu_mib=100), mem_per_node_mib=250)
    assert (r.cpus_min, r.mem_node_mib) == (3, 250)


def test_memory_that_is_not_given_out_only_asks_for_nodes_that_have_it() -> None:
    r = request(options=SchedOptions(memory_consumable=False), mem_per_node_mib=500)
    assert (r.mem_floor_mib, r.mem_node_mib, r.mem_cpu_mib, r.mem_all) == (500, 0, 0, False)


def test_partition_limits() -> None:
    part = PartitionRecord(name="p", min_nodes=2, max_nodes=4, max_time_s=3600, max_mem_per_node_mib=100)

    def limit(**fields: Any) -> Reason:
        spec = JobSpec(**{"time_limit_s": 60, **fields})
        return partition_limit(spec, normalise(spec, part, OPTIONS), part)[0]

    assert request(part).nodes_lo == 2
    assert limit() is Reason.NONE
    assert limit(nodes_min=4, nodes_max=4) is Reason.NONE
    assert limit(nodes_min=5, nodes_max=5) is Reason.PARTITION_NODE_LIMIT
    assert limit(nodes_min=1, nodes_max=1) is Reason.PARTITION_NODE_LIMIT
    assert limit(time_limit_s=3600) is Reason.NONE
    assert limit(time_limit_s=3601) is Reason.PARTITION_TIME_LIMIT
    assert limit(time_limit_s=0) is Reason.PARTITION_TIME_LIMIT
    assert limit(mem_per_node_mib=101) is Reason.BAD_CONSTRAINTS


def test_time_limit_defaults() -> None:
    assert time_limit_s(JobSpec(), PartitionRecord(name="p", max_time_s=100)) == 100
    assert time_limit_s(JobSpec(), PartitionRecord(name="p", max_time_s=100, default_time_s=30)) == 30
    assert time_limit_s(JobSpec(time_limit_s=7), PartitionRecord(name="p", max_time_s=100)) == 7


def test_every_field_of_a_request_is_in_the_shape_key() -> None:
    changes: dict[str, Any] = {
        "nodes_min": 2, "nodes_max": 9, "use_min_nodes": True, "spread_job": True, "tasks": 5, "tasks_per_node": 3,
        "cpus_per_task": 2, "mem_per_node_mib": 9, "mem_per_cpu_mib": 9, "mem_all": True, "tmp_mib": 3,
        "exclusive": True, "contiguous": True, "constraint": "a", "nodelist": "n1", "exclude": "n2",
    }  # fmt: skip
    keys = {shape_key(JobSpec(), []), shape_key(JobSpec(), ["n1"])}
    for name, value in changes.items():
        keys.add(shape_key(JobSpec(**{name: value}), []))
    assert len(keys) == len(changes) + 2
    assert shape_key(JobSpec(name="x", time_limit_s=5), []) in keys


def test_scheduler_parameters() -> None:
    options = SchedOptions().with_parameters("defer,sched_min_interval=2000,bf_window=9,sched_max_job_start=7")
    assert (options.defer, options.min_interval_s, options.starts_max) == (True, 0.002, 7)
    assert SchedOptions().with_parameters("").starts_max == STARTS_MAX
    with pytest.raises(ConfigError, match="sched_interval='x' is not a number"):
        SchedOptions().with_parameters("sched_interval=x")


@pytest.mark.parametrize(
    ("text", "memory", "least"),
    [("", True, False), ("CR_Core", False, False), ("CR_CPU_Memory,CR_LLN", True, True), ("CR_LLN", True, True)],
)
def test_select_parameters(text: str, memory: bool, least: bool) -> None:
    options = SchedOptions().with_select(text)
    assert (options.memory_consumable, options.least_loaded) == (memory, least)
