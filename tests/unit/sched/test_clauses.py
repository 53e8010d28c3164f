"""Constraints, conditions and Admit lines that too few nodes can meet are refused, clause by clause."""

from __future__ import annotations

import pytest
from helpers.sched_world import World, node

from helix.errors import Never, UsageError
from helix.model.job import JobSpec
from helix.model.node import Fingerprint
from helix.model.partition import PartitionRecord
from helix.model.topology import topology_of
from helixctld.schedule.admission import NOBODY, Who


def world() -> World:
    """Eight nodes: four with ib and 4 GiB, four of which one has gpu; n8 has gpu and ib; n1 is physics' own."""
    nodes = [
        node("n1", mem=4096, features=["ib"], admit="account == 'physics' or user == 'root'", attrs={"rack": "1"}),
        node("n2", mem=4096, features=["ib"], attrs={"rack": "1"}),
        node("n3", mem=4096, features=["ib"], attrs={"rack": "2"}),
        node("n4", mem=1024, features=["gpu"], gres="gpu:a100:4"),
        node("n5", mem=1024, weight=7),
        node("n6", mem=1024, fingerprint=Fingerprint(arch="aarch64", os="Linux")),
        node("n7", mem=1024),
        node("n8", mem=8192, features=["gpu", "ib"], gres="gpu:a100:2"),
    ]
    return World(nodes)


def refusal(fields: dict[str, object], who: Who = NOBODY) -> tuple[str, str]:
    w = world()
    with pytest.raises(Never) as caught:
        w.feasibility.check_possible(w.state, JobSpec(**fields), ["main"], who=who)  # type: ignore[arg-type]
    return caught.value.msg, caught.value.hint


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"constraint": "gpuu"}, "no node of partition main has feature 'gpuu'; the closest, "),
        ({"constraint": "ib", "nodes_min": 5}, "at most 4 nodes of partition main have 'ib', 5 asked"),
        (
            {"constraint": "ib&gpu", "nodes_min": 2},
            "at most 1 node of partition main has 'ib&gpu', 2 asked (4 meet 'ib'",
        ),
        ({"constraint": "ib&!ib"}, "no node of partition main meets 'ib&!ib' as a whole (4 meet 'ib', 4 meet '!ib')"),
        ({"constraint": "x|y"}, "no node of partition main meets 'x|y'"),
        ({"constraint": "!(ib|!ib)"}, "every node of partition main meets 'ib|!ib', which '!(ib|!ib)' bars"),
        ({"constraint": "[x|gpu]", "nodes_min": 3}, "none of the 2 alternatives can be met: 'x': no node of"),
        ({"constraint": "ib*5"}, "at most 4 nodes of partition main have 'ib', 5 asked"),
        ({"constraint": "gpu*2&ib*4"}, "'gpu*2' and 'ib*4' ask for 6 different nodes; 5 nodes of partition main"),
        (
            {"require": "memory >= 64G"},
            "no node of partition main meets 'memory >= 64G' (--require); the nearest, n8, has",
        ),
        ({"require": "cpus > 0 and weight == 8"}, "'weight == 8' (--require); the nearest, n5, has weight 7"),
        (
            {"require": "memory > 2G and weight > 5"},
            "meets all of --require (4 meet 'memory > 2G', 1 meet 'weight > 5')",
        ),
        ({"require": "gres.gpu >= 2", "nodes_min": 3}, "at most 2 nodes of partition main meet 'gres.gpu >= 2'"),
        ({"require": "attr.rack == 9"}, "no node of partition main meets 'attr.rack == 9'"),
        ({"require": "os == 'BSD'"}, "no node of partition main meets 'os == 'BSD''"),
        ({"nodes_min": 8}, "admit this job: Admit='account == 'physics' or user == 'root''"),
    ],
)
def test_the_clause_that_cannot_be_met_is_named(fields: dict[str, object], said: str) -> None:
    assert said in refusal(fields)[0]


def test_a_misspelt_feature_has_a_hint() -> None:
    assert refusal({"constraint": "gpuu"})[1] == "did you mean 'gpu'?"


@pytest.mark.parametrize(
    "fields",
    [
        {"constraint": "[x|ib]", "nodes_min": 4, "account": "physics"},
        {"constraint": "gpu*2&ib*3", "account": "physics"},
        {"constraint": "ib*3&gpu*2", "account": "physics"},
        {"constraint": "gpu*1&ib*1", "nodelist": "n[4,8]"},
        {"require": "gres.gpu:a100 >= 4 or attr.rack == 2", "nodes_min": 2},
        {"require": "arch == 'aarch64' and not defined(attr.rack)"},
        {"require": "'main' in partitions and name in ('n1', 'n2', 'n3')", "nodes_min": 2},
        {"nodes_min": 8, "account": "physics"},
        {"rank": "-weight"},
    ],
)
def test_what_can_be_met_is_let_through(fields: dict[str, object]) -> None:
    w = world()
    w.feasibility.check_possible(w.state, JobSpec(**fields), ["main"])  # type: ignore[arg-type]


def test_whose_job_it_is_counts() -> None:
    w = world()
    w.feasibility.check_possible(w.state, JobSpec(nodes_min=8), ["main"], who=Who(user="root"))
    with pytest.raises(Never):
        w.feasibility.check_possible(w.state, JobSpec(nodes_min=8), ["main"], who=Who(user="alice"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"require": "memory >"}, "--require 'memory >': the end where a value was expected .column 8"),
        ({"require": "cpus"}, "it is a number, not a condition"),
        ({"require": "attr.row == 1"}, "no attribute 'attr.row' .column 1"),
        ({"require": "attr.rack == 'a'"}, "a number compared with a text .column 11"),
        ({"rank": "features"}, "--rank 'features': it is a set of texts, not a number"),
    ],
)
def test_expressions_that_cannot_be_read_are_refused(fields: dict[str, str], said: str) -> None:
    w = world()
    with pytest.raises(UsageError, match=said) as caught:
        w.feasibility.check_possible(w.state, JobSpec(**fields), ["main"])  # type: ignore[arg-type]
    assert caught.value.code == "EXPRESSION_INVALID"


def test_a_condition_follows_the_nodes() -> None:
    w = world()
    spec = JobSpec(require="features has new")
    with pytest.raises(Never):
        w.feasibility.check_possible(w.state, spec, ["main"])
    w.update_node("n5", changes={"features": ["new"]})
    w.feasibility.check_possible(w.state, spec, ["main"])


def test_hwhy_counts_the_nodes_that_fail_only_a_clause() -> None:
    w = world()
    job = w.submit(require="memory >= 4G and attr.rack == 2", nodes_min=2)
    found = {(c["reason"], c["text"]): (c["nodes"], c["only"]) for c in w.why(job)["counts"]}
    assert found == {
        ("require", "fail 'memory >= 4G'"): (4, 0),
        ("require", "fail 'attr.rack == 2'"): (7, 2),
        ("admit", "admit only jobs with 'account == 'physics' or user == 'root''"): (1, 0),
    }
    answer = w.why(job)
    assert answer["reason"] == "BadConstraints"
    assert answer["nearest"] == {"node": "n2", "lacks": "fails 'attr.rack == 2'"}


def test_hwhy_looks_at_every_alternative_and_part() -> None:
    w = world()
    assert "fits now on n[4,8]" in w.why(w.submit(constraint="[x|gpu]", nodes_min=2))["text"]
    text = w.why(w.submit(constraint="gpu*2&ib*4", account="physics"))["text"]
    assert text == "each part of the request would fit now, but not on different nodes at once"
    text = w.why(w.submit(constraint="gpu*3&ib*1", account="physics"))["text"]
    assert text.startswith("3 nodes with 'gpu': partition main can never serve 3 nodes with 1 CPU")


def test_advice_names_the_condition() -> None:
    w = world()
    assert "without --require it would fit now" in w.why(w.submit(require="cpus > 100"))["advice"]


def test_switches_can_be_named() -> None:
    w = World(4)
    with pytest.raises(Never):
        w.feasibility.check_possible(w.state, JobSpec(require="defined(switch)"), ["main"])
    w.state.set_topology(
        topology_of("tree", [("s1", ("n1", "n2"), ()), ("s2", ("n3",), ()), ("top", (), ("s1", "s2"))])
    )
    w.state.set_nodes(list(w.state.nodes.values()))
    w.feasibility.check_possible(w.state, JobSpec(require="switch =~ 's*'", nodes_min=3), ["main"])
    with pytest.raises(Never, match="at most 2 nodes of partition main meet 'switch == 's1''"):
        w.feasibility.check_possible(w.state, JobSpec(require="switch == 's1'", nodes_min=3), ["main"])


@pytest.mark.parametrize(
    ("admit", "fields", "admitted"),
    [
        ("time_limit <= 2h", {"time_limit_s": 7200}, True),
        ("time_limit <= 2h", {"time_limit_s": 0}, False),  # no limit is above every number
        ("time_limit <= 2h", {}, False),
        ("nodes >= 2 and tasks == 8 and cpus == 16", {"nodes_min": 2, "tasks": 8, "cpus_per_task": 2}, True),
        ("memory > 100", {"mem_per_node_mib": 200}, True),
        ("memory > 100", {"mem_all": True}, False),  # not known
        ("not (memory > 100)", {"mem_all": True}, False),
        ("memory == 40", {"mem_per_cpu_mib": 10, "tasks_per_node": 2, "cpus_per_task": 2}, True),
        ("exclusive or array", {"exclusive": True}, True),
        ("exclusive or array", {}, False),
        ("user in ('alice', 'bob') and group != 'guests' and uid > 999", {}, True),
        ("account == ''", {}, True),
        ("partition == 'main' and qos =~ '*high'", {"qos": "very-high"}, True),
        ("no such thing", {}, False),  # a line that cannot be read admits nobody
    ],
)
def test_what_admit_may_ask_of_a_job(admit: str, fields: dict[str, object], admitted: bool) -> None:
    w = World([node("n1", 16), node("n2", 16), node("n3", 16, admit=admit)])
    partition = w.state.partitions["main"]
    admission = w.cycle.columns.shapes.admission
    w.cycle.columns.update(w.state)
    who = Who(user="alice", uid=1000, group="staff")
    refused = admission.refused(JobSpec(**fields), partition, who)  # type: ignore[arg-type]
    assert refused == (() if admitted else (admit,))
    assert admission.admitting(refused).tolist() == [True, True, admitted]


def test_jobs_that_the_same_lines_refuse_share_a_row() -> None:
    w = World([node("n1", 16), node("n2", 16, admit="user == 'root'")])
    columns = w.cycle.columns
    columns.update(w.state)
    rows = {name: columns.shapes.row_of(w.state, JobSpec(), [], "main", Who(user=name)) for name in ("a", "b", "root")}
    assert rows["a"] == rows["b"] != rows["root"]


def test_jobs_follow_a_changed_admit_line() -> None:
    w = World([node("n1", 2, admit="account == 'x'")])
    job = w.submit(account="y")
    assert w.run() == []
    w.state.set_nodes([node("n1", 2, admit="account == 'y'")])
    assert w.run() == [job]


def test_admit_lines_are_blamed_only_for_nodes_they_keep_from_a_job() -> None:
    records = [node("n1"), node("n2"), node("n3", admit="account == 'physics'")]
    main = PartitionRecord(name="main", nodes=["n1", "n2"], is_default=True)
    w = World(records, partitions=[main, PartitionRecord(name="all", nodes=["n1", "n2", "n3"])])
    for fields, partition, words in (
        ({"nodes_min": 3}, "main", "partition main has 2 nodes, 3 are asked"),
        ({"nodes_min": 3}, "all", "too few nodes of partition all admit this job: Admit='account == 'physics''"),
        ({"nodelist": "n3"}, "all", "too few nodes of --nodelist admit this job: Admit='account == 'physics''"),
    ):
        with pytest.raises(Never) as caught:
            w.feasibility.check_possible(w.state, w.submit(**fields).spec, [partition])
        assert caught.value.msg.startswith(words)
