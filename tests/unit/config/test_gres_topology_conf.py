"""gres.conf, topology.conf and Licenses: what files say, what daemons get, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix.config.check import check_config
from helix.config.findings import Severity
from helix.config.load import diff_config, load_config, parse_config, render_config
from helix.errors import ConfigError

CONF = """
ClusterName=x
GresTypes=gpu,nvme
Licenses=matlab:10,ansys
TopologyPlugin=topology/tree
NodeName=n[1-4] CPUs=4 Gres=gpu:4,nvme:2
NodeName=n5 CPUs=4 Gres=gpu:a100:2
PartitionName=main Nodes=ALL Default=YES
"""
GRES = """
NodeName=n[2-3] Name=gpu Type=a100 File=/dev/nvidia[0-1]
NodeName=n[2-3] Name=gpu Type=v100 Count=2
Name=nvme Count=2
AutoDetect=off
"""
TOPOLOGY = """
SwitchName=s1 Nodes=n[1-2]
SwitchName=s2 Nodes=n[3-5] LinkSpeed=100
SwitchName=top Switches=s[1-2]
"""


def write(folder: Path, conf: str = CONF, gres: str = "", topology: str = "") -> Path:
    for name, text in (("gres.conf", gres), ("topology.conf", topology)):
        if text:
            (folder / name).write_text(text)
    path = folder / "helix.conf"
    path.write_text(conf)
    return path


def test_files_beside_helix_conf_are_read_and_travel_with_it(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, gres=GRES, topology=TOPOLOGY))
    assert {node.name: node.gres for node in config.nodes} == {
        "n1": "gpu:4,nvme:2",
        "n2": "gpu:a100:2,gpu:v100:2,nvme:2",
        "n3": "gpu:a100:2,gpu:v100:2,nvme:2",
        "n4": "gpu:4,nvme:2",
        "n5": "gpu:a100:2",
    }
    assert [(s.name, s.nodes, s.switches) for s in config.switches] == [
        ("s1", ("n1", "n2"), ()),
        ("s2", ("n3", "n4", "n5"), ()),
        ("top", (), ("s1", "s2")),
    ]
    assert parse_config(render_config(config)).hash == config.hash
    assert not {f.severity for f in check_config(tmp_path / "helix.conf")} & {Severity.ERROR, Severity.UNKNOWN}


def test_changes_of_devices_licences_and_switches_are_named(tmp_path: Path) -> None:
    old = load_config(write(tmp_path, gres=GRES, topology=TOPOLOGY))
    new = load_config(
        write(
            tmp_path,
            CONF.replace("matlab:10", "matlab:12").replace("gpu:a100:2", "gpu:a100:3"),
            topology=TOPOLOGY.replace("n[1-2]", "n1").replace("n[3-5]", "n[2-5]"),
        )
    )
    changes = {change.key: (change.old, change.new) for change in diff_config(old, new)}
    assert changes == {
        "Licenses": ("matlab:10,ansys", "matlab:12,ansys"),
        "Gres of node n5": ("gpu:a100:2", "gpu:a100:3"),
        "SwitchName s1": ("n[1-2]", "n1"),
        "SwitchName s2": ("n[3-5]", "n[2-5]"),
    }


@pytest.mark.parametrize(
    ("conf", "gres", "topology", "words"),
    [
        (CONF.replace("GresTypes=gpu,nvme\n", ""), "", "", "'gpu' is not one of GresTypes="),
        (CONF, "Name=gpu Count=3", "", "node n1: Gres=gpu:4, but gres.conf has 3"),
        (CONF, "Name=gpu Colour=red", "", "unknown key 'Colour' in gres.conf"),
        (CONF, "Type=a100", "", "a line of gres.conf has no Name"),
        (CONF, "Name=fpga Count=1", "", "'fpga' is not one of GresTypes"),
        (CONF.replace("gpu:4,", "gpu:4:4:4,"), "", "", "more than name, type and count"),
        (CONF.replace("matlab:10", "mat lab"), "", "", "is not Key=Value"),
        (CONF.replace("matlab:10", "matlab:x"), "", "", "'matlab:x' is not a licence"),
        (CONF, "", "", "TopologyPlugin=topology/tree, but there is no SwitchName line"),
        (CONF, "", "SwitchName=s1 Nodes=n[1-9]", "names node 'n6'"),
        (CONF, "", "SwitchName=s1 Nodes=n[1-2]\nSwitchName=s2 Nodes=n[2-3]", "node 'n2' is in both 's1' and 's2'"),
        (CONF, "", "SwitchName=s1 Switches=s2\nSwitchName=s2 Switches=s1", "is below itself"),
        (CONF, "", "SwitchName=s1 Switches=s9", "no switch 's9'"),
        (CONF, "", "SwitchName=s1", "neither Nodes nor Switches"),
        (CONF, "", "KillWait=3", "'KillWait' is no key of topology.conf"),
    ],
)
def test_what_is_refused_names_the_thing(tmp_path: Path, conf: str, gres: str, topology: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, conf, gres, topology))
    assert words in caught.value.msg


def test_blocks(tmp_path: Path) -> None:
    conf = CONF.replace("topology/tree", "topology/block")
    config = load_config(
        write(tmp_path, conf, topology="BlockName=b1 Nodes=n[1-2]\nBlockName=b2 Nodes=n[3-4]\nBlockSizes=2")
    )
    assert [(s.name, s.is_block) for s in config.switches] == [("b1", True), ("b2", True)]
    assert config.block_sizes == ("2",)
    assert parse_config(render_config(config)).hash == config.hash
