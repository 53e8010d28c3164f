"""What configurations mean: values, node shapes, cross-references, the refusals, and the way back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from helix.config.load import Change, default_config, diff_config, load_config, parse_config, render_config
from helix.config.model import Config, ControllerHost, node_path
from helix.config.write import format_conf
from helix.errors import ConfigError

CLUSTER = """
ClusterName=demo   # comment
SlurmctldHost=head(10.0.0.1)
SlurmctldPort=0
KillWait=5
SchedulerParameters=defer,max_array_tasks=7,max_script_size=1M,bf_window=10
SlurmdSpoolDir=/spool/%n
NodeName=DEFAULT CPUs=8 RealMemory=16G State=UNKNOWN
NodeName=n[1-4] Feature=fast,ssd
NodeName=m[1-2] Sockets=2 CoresPerSocket=2 ThreadsPerCore=2 RealMemory=1024 Weight=5
PartitionName=DEFAULT MaxTime=1-0
PartitionName=main Nodes=n[1-4] Default=YES
PartitionName=all Nodes=ALL MaxTime=UNLIMITED DefaultTime=60 OverSubscribe=EXCLUSIVE AllowGroups=ALL
"""


def refusal(text: str) -> ConfigError:
    """The error that `text` is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "t.conf")
    return caught.value


def test_values_have_types_and_units() -> None:
    config = parse_config(CLUSTER, "demo.conf")
    assert (config.cluster_name, config.source) == ("demo", "demo.conf")
    assert config.helixctld_hosts == (ControllerHost("head", "10.0.0.1"),)
    assert (config.helixctld_host, config.controller_addr, config.helixctld_port) == ("head", "10.0.0.1", 0)
    assert (config.kill_wait_s, config.min_job_age_s, config.heartbeat_interval_s) == (5, 300, 5.0)
    assert (config.scheduler.defer, config.scheduler.max_array_tasks) == (True, 7)
    assert config.max_script_bytes == 1 << 20
    assert config.scheduler_parameters["bf_window"] == "10"
    assert node_path(config.helixd_spool_dir, "n1") == "/spool/n1"


def test_nodes_take_defaults_and_their_shape_is_completed() -> None:
    config = parse_config(CLUSTER)
    assert [node.name for node in config.nodes] == ["n1", "n2", "n3", "n4", "m1", "m2"]
    n1, m2 = config.nodes[0], config.nodes[-1]
    assert (n1.cpus, n1.sockets, n1.cores_per_socket, n1.real_memory_mib) == (8, 8, 1, 16384)
    assert (n1.features, n1.hostname, n1.addr, n1.port) == (("fast", "ssd"), "n1", "n1", 6818)
    assert (m2.cpus, m2.sockets, m2.threads_per_core, m2.real_memory_mib, m2.weight) == (8, 2, 2, 1024, 5)


def test_partitions_take_defaults_and_resolve_their_nodes() -> None:
    config = parse_config(CLUSTER)
    main, everything = config.partitions
    assert (main.nodes, main.max_time_s, main.default_time_s, main.is_default) == (
        ("n1", "n2", "n3", "n4"),
        86400,
        None,
        True,
    )
    assert (len(everything.nodes), everything.nodes_text) == (6, "ALL")
    assert (everything.max_time_s, everything.default_time_s) == (0, 3600)
    assert (everything.oversubscribe, everything.allow_groups) == ("EXCLUSIVE", ())
    assert config.default_partition is main
    assert config.partition("all") is everything


def test_several_nodes_on_one_host() -> None:
    config = parse_config("NodeName=e[0-2] NodeHostname=localhost NodeAddr=127.0.0.1 Port=7001-7003 CPUs=2")
    assert [(n.hostname, n.addr, n.port) for n in config.nodes] == [
        ("localhost", "127.0.0.1", port) for port in (7001, 7002, 7003)
    ]
    assert [n.addr for n in parse_config("NodeName=a[0-1] NodeAddr=fe80::1,fe80::2").nodes] == ["fe80::1", "fe80::2"]


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("NodeName=n", (1, 1, 1, 1)),
        ("NodeName=n CPUs=4", (4, 4, 1, 1)),
        ("NodeName=n CPUs=8 CoresPerSocket=2 ThreadsPerCore=2", (8, 2, 2, 2)),
        ("NodeName=n Sockets=2 CoresPerSocket=4", (8, 2, 4, 1)),
        ("NodeName=n Boards=2 SocketsPerBoard=2 CoresPerSocket=3", (12, 4, 3, 1)),
        ("NodeName=n CPUs=8 Sockets=2 CoresPerSocket=4 ThreadsPerCore=2", (8, 2, 4, 2)),
        ("NodeName=n Procs=2", (2, 2, 1, 1)),
    ],
)
def test_shape_of_a_node(line: str, shape: tuple[int, int, int, int]) -> None:
    node = parse_config(line).nodes[0]
    assert (node.cpus, node.sockets, node.cores_per_socket, node.threads_per_core) == shape


def test_node_sets_and_down_nodes() -> None:
    config = parse_config(
        "NodeName=a[1-2] Feature=gpu\nNodeName=b[1-2]\nNodeSet=g Feature=gpu\nNodeSet=two Nodes=b2\n"
        'PartitionName=p Nodes=g,two\nDownNodes=a2 Reason="broken fan" State=DRAIN\n'
    )
    assert config.partitions[0].nodes == ("a1", "a2", "b2")
    assert [(n.state, n.reason) for n in config.nodes] == [
        ("UNKNOWN", ""),
        ("DRAIN", "broken fan"),
        ("UNKNOWN", ""),
        ("UNKNOWN", ""),
    ]
    assert parse_config(render_config(config)).hash == config.hash


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("KilWait=3", "t.conf:1: unknown key 'KilWait'", "did you mean KillWait?"),
        ("\n\nKillWait=soon", "t.conf:3: bad KillWait='soon': it is not a whole number", "a whole number of seconds"),
        ("KillWait=-1", "bad KillWait='-1': -1 is below 0", "from 0 to 65533"),
        ("HelixctldPort=99999", "bad HelixctldPort='99999'", "port number"),
        ("StateSaveLocation=here", "it is not absolute", "an absolute path"),
        ("ReturnToService=3", "3 is above 2", "from 0 to 2"),
        ("RealMemory=5", "unknown key 'RealMemory'", "belongs on a NodeName line"),
        ("DefMemPerCPU=1\nDefMemPerNode=2", "t.conf:2: DefMemPerCPU and DefMemPerNode exclude each other", ""),
        ("NodeName=n Cpu=3", "unknown key 'Cpu' on a node line", "did you mean CPUs?"),
        ("NodeName=n[1-3", "']' is missing", "the form is"),
        ("NodeName=ALL", "ALL is not a name for nodes", ""),
        ("NodeName=../x", "is not a host name", ""),
        ("NodeName=n1\nNodeName=n[0-2]", "t.conf:2: node 'n1' is described twice", ""),
        ("NodeName=n,n", "node 'n' is described twice", ""),
        ("NodeName=n CPUs=5 Sockets=2 CoresPerSocket=2", "CPUs=5 is neither", "write CPUs=4"),
        ("NodeName=n Sockets=1 SocketsPerBoard=1", "exclude each other", ""),
        ("NodeName=n CPUs=0", "bad CPUs='0': 0 is below 1", ""),
        ("NodeName=n CPUs=2 CoreSpecCount=2", "leaves no core", ""),
        ("NodeName=n RealMemory=10 MemSpecLimit=10", "leaves no memory", ""),
        ("NodeName=n State=SLEEPY", "bad State='SLEEPY'", "one of UNKNOWN, DOWN"),
        ("NodeName=n[1-3] NodeAddr=a,b", "NodeAddr has 2 names for 3 nodes", ""),
        ("NodeName=n[1-3] Port=1-2", "is not one port, or one for each of 3", ""),
        ("PartitionName=p Nodes=n1", "partition 'p' names node 'n1', which no NodeName line", "add a NodeName"),
        ("NodeName=node1\nPartitionName=p Nodes=nod1", "names node 'nod1'", "did you mean 'node1'?"),
        ("PartitionName=p\nPartitionName=p", "partition 'p' is described twice", ""),
        ("PartitionName=a Default=YES\nPartitionName=b Default=YES", "t.conf:2: partitions 'a' and 'b' both say", ""),
        ("PartitionName=p MinNodes=3 MaxNodes=2", "MinNodes=3 of partition 'p' is above MaxNodes=2", ""),
        ("PartitionName=p MaxTime=10 DefaultTime=20", "longer than its MaxTime", ""),
        ("PartitionName=p MaxTime=10 DefaultTime=UNLIMITED", "longer than its MaxTime", ""),
        ("PartitionName=gpu\nPartitionName=p Alternate=gpuu", "there is no partition 'gpuu'", "did you mean 'gpu'?"),
        ("PartitionName=a,b", "is not a name for a partition", ""),
        ("PartitionName=p OverSubscribe=MAYBE", "bad OverSubscribe='MAYBE'", "NO, YES[:jobs]"),
        ("PartitionName=p MaxTime=never", "bad MaxTime='never'", "minutes, mm:ss"),
        ("DownNodes=x", "DownNodes names node 'x'", ""),
        ("SchedulerParameters=sched_interval=often", "bad sched_interval='often' in SchedulerParameters", "seconds"),
        ("just words", "t.conf:1: 'just words' is not Key=Value", "quote a value"),
        ("Include x.conf", "cannot include", ""),
    ],
)
def test_refusals_name_the_place_the_value_and_the_remedy(text: str, message: str, hint: str) -> None:
    error = refusal(text)
    assert message in str(error)
    assert hint in error.hint
    assert error.msg.startswith("t.conf:") or message.startswith("DownNodes")
    assert error.msg.isprintable()


def test_a_refusal_counts_the_other_faults() -> None:
    error = refusal("KilWait=3\nKillWait=x\nNope=1")
    assert error.hint == "did you mean KillWait?; 2 more: hctl config check t.conf"
    assert error.data == {"file": "t.conf", "line": 1, "key": "KilWait", "nearest": "KillWait"}


def test_a_faulty_node_line_does_not_make_its_partition_faulty() -> None:
    assert "CPUs" in refusal("PartitionName=p Nodes=n1\nNodeName=n1 CPUs=3 Sockets=2").msg


def test_number_of_nodes_is_bounded() -> None:
    assert "more than" in refusal("NodeName=n[1-100001]").msg
    assert "more than" in refusal("NodeName=n[1-60000]\nNodeName=m[1-60000]").msg


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "helix.conf"
    with pytest.raises(ConfigError, match="no such file") as caught:
        load_config(path)
    assert caught.value.code == "CONFIG_MISSING"
    (tmp_path / "nodes.conf").write_text("NodeName=n1\n")
    path.write_text("Include nodes.conf\nPartitionName=p Nodes=n1\n")
    config = load_config(path)
    assert (config.source, len(config.nodes)) == (str(path), 1)
    (tmp_path / "nodes.conf").write_text("NodeName=n1 CPUs=x\n")
    with pytest.raises(ConfigError, match=r"nodes\.conf:1: bad CPUs='x'"):
        load_config(path)


@pytest.mark.parametrize("text", ["HelixctldHost=,", "TaskPlugin=,,", 'HelixctldHost=""', "SchedulerParameters=,"])
def test_a_list_of_nothing_is_the_default(text: str) -> None:
    assert parse_config(text).hash == default_config().hash


def test_default_configuration_needs_no_file() -> None:
    config = default_config()
    assert (config.nodes, config.partitions, config.helixd_timeout_s) == ([], [], 300)
    assert config.hash == default_config().hash != ""
    assert config.consumes_memory


def test_rendered_configuration_means_the_same() -> None:
    config = parse_config(CLUSTER)
    back = parse_config(render_config(config))
    assert back.nodes == config.nodes
    assert back.hash == config.hash
    assert diff_config(config, back) == []
    assert "NodeName=n[1-4] CPUs=8" in render_config(config)


def test_hash_is_of_the_meaning_not_of_the_text() -> None:
    one = parse_config("KillWait=30\nNodeName=n1 CPUs=2\nNodeName=n2 CPUs=2\n")
    assert one.hash == parse_config("# same\nNodeName=n[1-2] CPUs=2", "other.conf").hash
    assert one.hash != parse_config("NodeName=n[1-2] CPUs=3").hash


def test_order_of_nodes_survives_rendering() -> None:
    config = parse_config("NodeName=b2,a1,b1 NodeAddr=x,y,z Port=[5,4,9] CPUs=2")
    back = parse_config(render_config(config))
    assert [(n.name, n.addr, n.port) for n in back.nodes] == [("b2", "x", 5), ("a1", "y", 4), ("b1", "z", 9)]


def test_claiming_more_than_there_is() -> None:
    assert not parse_config("").may_claim_more
    for text in ("HelixctldParameters=may_claim_more", "SlurmdParameters=config_overrides"):
        config = parse_config(text)
        assert config.may_claim_more
        assert parse_config(render_config(config)).may_claim_more
    assert parse_config(render_config(Config(may_claim_more=True))).may_claim_more


def test_changes_say_what_needs_a_restart() -> None:
    new = CLUSTER.replace("KillWait=5", "KillWait=9").replace("SlurmctldPort=0", "SlurmctldPort=7000")
    new = new.replace("n[1-4] Feature=fast,ssd", "n[1-3] Feature=fast").replace("Nodes=n[1-4]", "Nodes=n[1-3]")
    new = new.replace("Weight=5", "Weight=6") + "PartitionName=extra\nNodeName=x\n"
    changes = diff_config(parse_config(CLUSTER), parse_config(new))
    assert changes == [
        Change("HelixctldPort", "0", "7000", False),
        Change("KillWait", "5", "9", True),
        Change("NodeName", "n4", "", True),
        Change("NodeName", "", "x", True),
        Change("Feature of node n[1-3]", "fast,ssd", "fast", True),
        Change("Weight of node m[1-2]", "5", "6", True),
        Change("PartitionName", "", "extra", True),
        Change("Nodes of partition main", "n[1-4]", "n[1-3]", True),
        Change("Nodes of partition all", "m[1-2],n[1-4]", "m[1-2],n[1-3],x", True),
    ]


def test_files_can_be_written_without_the_daemons_libraries() -> None:
    text = format_conf(
        {"cluster_name": "it", "kill_wait_s": 30, "helixctld_port": 0, "debug_flags": ("Journal",)},
        [{"name": "n[1-4]", "cpus": 4, "real_memory_mib": 100, "reason": "new one"}],
        [{"name": "main", "nodes": "ALL", "is_default": True, "max_time_s": 0}],
    )
    assert text == (
        'ClusterName=it\nHelixctldPort=0\nDebugFlags=Journal\nNodeName=n[1-4] CPUs=4 RealMemory=100 Reason="new one"\n'
        "PartitionName=main Nodes=ALL Default=YES\n"
    )
    with pytest.raises(ValueError, match="no key sets kill_wait"):
        format_conf({"kill_wait": 3})
    with pytest.raises(ValueError, match="cannot stand in a file"):
        format_conf({"cluster_name": 'a"b'})


@pytest.mark.parametrize(
    ("pattern", "path"), [("/s/%n", "/s/n1"), ("/%h/%n", "/host/n1"), ("/a%%b", "/a%b"), ("/plain", "/plain")]
)
def test_paths_of_nodes(pattern: str, path: str) -> None:
    assert node_path(pattern, "n1", "host.example") == path


def test_paths_of_nodes_know_two_letters() -> None:
    with pytest.raises(ValueError, match="neither %n nor %h"):
        node_path("/%x", "n1")


def test_ten_thousand_nodes_load_fast() -> None:
    started = time.process_time()
    config = parse_config("NodeName=e[0-9999] CPUs=64 RealMemory=256000\nPartitionName=main Nodes=ALL Default=YES\n")
    assert len(config.nodes) == len(config.partitions[0].nodes) == 10_000
    assert time.process_time() - started < 0.5
