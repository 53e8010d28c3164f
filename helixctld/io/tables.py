"""What is configured (nodes, partitions, licences, topology) as the core's records."""

from __future__ import annotations

from helix.config.model import Config
from helix.licences import parse_configured
from helix.model.node import NodeBase, NodeRecord
from helix.model.partition import PartitionRecord
from helix.model.topology import topology_of
from helixctld.core.state import State


def node_records(config: Config) -> list[NodeRecord]:
    """One record a configured node, in configuration order."""
    records = []
    for index, node in enumerate(config.nodes):
        record = NodeRecord(
            name=node.name,
            index=index,
            addr=node.addr,
            cpus=node.cpus,
            sockets=node.sockets,
            cores_per_socket=node.cores_per_socket,
            threads_per_core=node.threads_per_core,
            real_memory_mib=node.real_memory_mib,
            tmp_disk_mib=node.tmp_disk_mib,
            weight=node.weight,
            features=list(node.features),
            attrs=dict(node.attrs),
            admit=node.admit,
            gres=node.gres,
        )
        state = node.state.upper()
        if state in ("DOWN", "FUTURE"):
            record.base = NodeBase[state]
        elif state in ("DRAIN", "FAIL"):
            setattr(record, state.lower(), True)
        if state in ("DOWN", "DRAIN", "FAIL"):
            record.reason, record.reason_by = node.reason or "set in helix.conf", "helix.conf"
        records.append(record)
    return records


def take_shared(state: State, config: Config) -> None:
    """Give the state what belongs to no single node or partition: licences and topology."""
    state.set_licences(parse_configured(config.licenses))
    kind = config.topology_plugin.removeprefix("topology/")
    lines = [
        (switch.name, switch.nodes, switch.switches)
        for switch in config.switches
        if switch.is_block is (kind == "block")
    ]
    state.set_topology(topology_of(kind, lines if kind != "flat" else []))


def partition_records(config: Config) -> list[PartitionRecord]:
    """One record a configured partition; `Nodes=ALL` is expanded."""
    names = [f for f in PartitionRecord.__struct_fields__ if f != "nodes"]
    records = []
    for partition in config.partitions:
        record = PartitionRecord(name=partition.name, nodes=list(partition.nodes))
        for name in names:
            if hasattr(partition, name):
                setattr(record, name, getattr(partition, name))
        records.append(record)
    return records
