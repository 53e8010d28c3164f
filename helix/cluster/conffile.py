"""The configuration of a local cluster: written once by `hcluster up`, afterwards the user's to edit.

Owns the text of a new `helix.conf` and the few facts hcluster needs back from an existing one.  Meanings of the keys
are helix.conf(5)'s.
"""

from __future__ import annotations

import os
import random
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from helix.cluster.layout import Layout
from helix.errors import ConfigError, HelixError, NotNow
from helix.hostlist import parse_hostlist

#: Below the range from which Linux gives ports to outgoing connections (32768-60999, ip(7)), so that nobody takes the
#: port while the cluster is down.
_PORTS = range(15000, 32000)
#: Node daemons that `hcluster up` runs on one machine.
NODES_MAX = 256


@dataclass(frozen=True)
class Shape:
    """What a new cluster looks like; memory in MiB a node."""

    nodes: int = 4
    cpus: int = 0  # 0 = as many as the machine has
    memory_mib: int = 0  # 0 = the machine's, shared out evenly

    def node_names(self) -> str:
        """The host list of the nodes."""
        return "n1" if self.nodes == 1 else f"n[1-{self.nodes}]"


@dataclass(frozen=True)
class Facts:
    """What an existing configuration says."""

    cluster: str
    host: str
    port: int
    nodes: list[str]


def machine_memory_mib() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now.

    Raises NotNow when a hundred tries find none.
    """
    for _ in range(100):
        port = random.choice(_PORTS)  # noqa: S311  (no secret)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NotNow("no free TCP port between 15000 and 32000 on 127.0.0.1")


def check_shape(shape: Shape) -> None:
    """Refuse sizes that make no sense on one machine.

    Raises ConfigError.
    """
    if not 1 <= shape.nodes <= NODES_MAX:
        raise ConfigError(
            f"--nodes: {shape.nodes} is not between 1 and {NODES_MAX}", hint="helixd --emulate shows more nodes"
        )
    if not 0 <= shape.cpus <= 65536:
        raise ConfigError(f"--cpus: {shape.cpus} is not between 1 and 65536")
    if shape.memory_mib < 0:
        raise ConfigError(f"--memory: {shape.memory_mib} MiB is less than nothing")


def new_text(layout: Layout, shape: Shape, *, extra: str = "") -> str:
    """The helix.conf of a new cluster.  `extra` lines come last and so win over the ones before."""
    cpus = shape.cpus or os.cpu_count() or 1
    memory = shape.memory_mib or max(256, machine_memory_mib() // shape.nodes)
    lines = [
        "# Written once by `hcluster up`; yours to edit. See helix.conf(5); `hctl reconfigure` applies changes.",
        f"ClusterName={_cluster_name(layout.root)}",
        "HelixctldHost=localhost(127.0.0.1)",
        f"HelixctldPort={free_port()}",
        f"HelixctldSocket={layout.controller_socket}",
        f"StateSaveLocation={layout.state}",
        f"HelixdSpoolDir={layout.nodes}/%n",
        "# The nodes share one machine, and may claim more than it has.",
        "HelixdParameters=config_overrides",
        f"NodeName={shape.node_names()} CPUs={cpus} RealMemory={memory} State=UNKNOWN",
        "# A job that does not say what memory it needs gets this much a CPU, not the whole node's.",
        f"DefMemPerCPU={max(1, memory // cpus)}",
        "PartitionName=batch Nodes=ALL Default=YES MaxTime=UNLIMITED State=UP",
    ]
    return "\n".join(lines) + "\n" + (extra.rstrip() + "\n" if extra else "")


def read_facts(conf: Path) -> Facts:
    """What the configuration of an existing cluster says of its address and nodes.

    Raises ConfigError when it cannot be read or names no nodes.
    """
    try:
        text = conf.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{conf}: cannot be read: {exc}") from exc
    values = dict(re.findall(r"(?mi)^\s*(ClusterName|HelixctldHost|HelixctldPort)\s*=\s*(\S+)", text))
    values = {key.lower(): value for key, value in values.items()}
    nodes: list[str] = []
    for names in re.findall(r"(?mi)^\s*NodeName\s*=\s*(\S+)", text):
        if names.lower() == "default":
            continue
        try:
            nodes.extend(parse_hostlist(names))
        except HelixError as exc:
            raise ConfigError(f"{conf}: NodeName={names}: {exc.msg}") from exc
    if not nodes:
        raise ConfigError(f"{conf}: no NodeName line", hint="remove the directory to make a new cluster")
    host = re.sub(r"^.*\((.*)\)$", r"\1", values.get("helixctldhost", "127.0.0.1"))
    try:
        port = int(values.get("helixctldport", "0"))
    except ValueError as exc:
        raise ConfigError(f"{conf}: HelixctldPort={values['helixctldport']}: not a number") from exc
    return Facts(cluster=values.get("clustername", "cluster"), host=host, port=port, nodes=nodes)


def _cluster_name(root: Path) -> str:
    """A name from the directory's: letters, digits, `-` and `_`, at most 40."""
    name = re.sub(r"[^a-z0-9_-]+", "-", root.name.lower()).strip("-")[:40]
    return name or "cluster"
