"""The configuration that hcluster writes, and what it reads back."""

from pathlib import Path

import pytest

from helix.cluster.conffile import Shape, check_shape, free_port, new_text, read_facts
from helix.cluster.layout import Layout
from helix.errors import ConfigError


def test_written_configuration_reads_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "My Cluster!")
    layout.root.mkdir()
    layout.conf.write_text(new_text(layout, Shape(nodes=3, cpus=8, memory_mib=2048)))
    facts = read_facts(layout.conf)
    assert facts.nodes == ["n1", "n2", "n3"]
    assert facts.cluster == "my-cluster"
    assert facts.host == "127.0.0.1"
    assert 15000 <= facts.port < 32000
    assert "CPUs=8 RealMemory=2048" in layout.conf.read_text()


def test_one_node_has_a_plain_name(tmp_path: Path) -> None:
    assert "NodeName=n1 CPUs=" in new_text(Layout(tmp_path), Shape(nodes=1))


def test_extra_lines_come_last(tmp_path: Path) -> None:
    assert new_text(Layout(tmp_path), Shape(), extra="KillWait=2").endswith("\nKillWait=2\n")


@pytest.mark.parametrize("shape", [Shape(nodes=0), Shape(nodes=257), Shape(cpus=-1), Shape(memory_mib=-1)])
def test_senseless_shapes_are_refused(shape: Shape) -> None:
    with pytest.raises(ConfigError):
        check_shape(shape)


def test_an_edited_configuration_is_understood(tmp_path: Path) -> None:
    conf = tmp_path / "helix.conf"
    conf.write_text(
        "clustername=Two\nHelixctldHost = head(10.1.2.3)\nHELIXCTLDPORT=7000\nNodeName=DEFAULT CPUs=2\n"
        "NodeName=a[1-2],b CPUs=4\nNodeName=c9\n# NodeName=d1\n"
    )
    facts = read_facts(conf)
    assert (facts.cluster, facts.host, facts.port) == ("Two", "10.1.2.3", 7000)
    assert facts.nodes == ["a1", "a2", "b", "c9"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ClusterName=x\n", "no NodeName"),
        ("NodeName=n[1-\n", "NodeName=n"),
        ("NodeName=n[1-100000000]\n", "NodeName=n"),
        ("NodeName=n1\nHelixctldPort=many\n", "not a number"),
    ],
)
def test_a_broken_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    conf = tmp_path / "helix.conf"
    conf.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_facts(conf)
    assert str(conf) in caught.value.msg


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_facts(tmp_path / "helix.conf")


def test_free_ports_can_be_bound() -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
