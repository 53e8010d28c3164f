"""Node lines: from texts to checked lines.  Source of rules: slurm.conf(5), NODE CONFIGURATION.

A `NodeLine` keeps one line's nodes together, so that a line of 10,000 names is checked once.  Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from helix.config.findings import Findings, Severity
from helix.config.line import Given, LineReader
from helix.config.parse import Entry
from helix.config.table_lines import DOWN_KEYS, NODE_KEYS
from helix.errors import UsageError
from helix.expression import compile_condition
from helix.expression_names import JOB_SCHEMA
from helix.hostlist import is_host_name, parse_hostlist
from helix.quoting import one_line

MAX_NODES = 100_000  #: most nodes of a cluster
_ATTR_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_PER_NODE = frozenset({"hostname", "addr", "port", "sockets_per_board"})  # set for each node, or only used here


@dataclass(slots=True)
class NodeLine:
    """Nodes that differ only in the parallel lists; the keys of `values` are fields of `NodeConf`."""

    names: list[str]
    hostnames: list[str]
    addrs: list[str]
    ports: list[int]  # 0 = HelixdPort
    values: dict[str, Any]
    file: str = ""  # where the line stands
    at: int = 0


@dataclass(slots=True)
class Nodes:
    """All nodes seen so far."""

    findings: Findings
    lines: list[NodeLine] = field(default_factory=list)
    known: dict[str, None] = field(default_factory=dict)  # names in order; also those of faulty lines
    down: dict[str, tuple[str, str]] = field(default_factory=dict)  # DownNodes: name -> state, reason
    reader: LineReader = field(init=False)
    down_reader: LineReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = LineReader(NODE_KEYS, "a node line", self.findings)
        self.down_reader = LineReader(DOWN_KEYS, "a DownNodes line", self.findings)

    def take(self, entry: Entry) -> None:
        """Read a NodeName line."""
        given = self.reader.read(entry, may_default=True)
        if given is None:
            return
        names = self._names(given)
        if not names:
            return
        complete = self._shape(given)
        parallel = self._parallel(given, len(names))
        if not complete or parallel is None or given.faulty:
            return
        hostnames, addrs, ports = parallel
        values = {name: value for name, value in given.values.items() if name not in _PER_NODE}
        hostnames = hostnames or names
        self.lines.append(NodeLine(names, hostnames, addrs or hostnames, ports, values, entry.file, entry.line))

    def take_down(self, entry: Entry) -> None:
        """Read a DownNodes line."""
        given = self.down_reader.read(entry)
        if given is None or given.faulty:
            return
        try:
            names = parse_hostlist(given.head, limit=MAX_NODES)
        except UsageError as error:
            given.error("DownNodes", error.msg, hint=error.hint)
            return
        state = given.texts.get("State", "").upper() or "DOWN"
        self.down.update(dict.fromkeys(names, (state, given.texts.get("Reason", ""))))

    def _names(self, given: Given) -> list[str]:
        """The line's new names; [] when it has none, with the fault noted."""
        if given.head.upper() == "ALL":
            given.error("NodeName", "ALL is not a name for nodes", hint="ALL stands for all nodes of a partition")
            return []
        try:
            names = parse_hostlist(given.head, limit=MAX_NODES)
        except UsageError as error:
            given.error("NodeName", error.msg, hint=error.hint)
            return []
        if not names:
            given.error("NodeName", "NodeName has no name", hint="NodeName=n[1-4]")
        bad = next((name for name in names if not is_host_name(name)), None)
        if bad is not None:
            given.error("NodeName", f"'{one_line(bad)}' is not a host name")
            return []
        fresh: set[str] = set()
        for name in names:
            if name in self.known or name in fresh:
                given.error("NodeName", f"node '{name}' is described twice", hint="remove it from one of the lines")
                return []
            fresh.add(name)
        if len(self.known) + len(names) > MAX_NODES:
            given.error("NodeName", f"more than {MAX_NODES} nodes")
            return []
        self.known.update(dict.fromkeys(names))
        return names

    def _shape(self, given: Given) -> bool:
        """Complete sockets and CPUs as slurm.conf(5) says, and check what belongs together."""
        values = given.values
        if given.faulty:
            return False
        boards, cores, threads = values["boards"], values["cores_per_socket"], values["threads_per_core"]
        sockets, cpus = values["sockets"], values["cpus"]
        if values["sockets_per_board"]:
            if sockets:
                given.error(
                    "SocketsPerBoard", "Sockets and SocketsPerBoard exclude each other", hint="give one of them"
                )
                return False
            sockets = boards * values["sockets_per_board"]
        if not sockets:
            sockets = cpus // (cores * threads) if cpus and cpus % (cores * threads) == 0 else boards
        product = sockets * cores * threads
        cpus = cpus or product
        if cpus not in (product, sockets * cores):
            given.error(
                "CPUs",
                f"CPUs={cpus} is neither Sockets x CoresPerSocket x ThreadsPerCore ({sockets} x {cores} x {threads} = "
                f"{product}) nor one a core ({sockets * cores})",
                hint=f"write CPUs={product}, or leave it out",
            )
            return False
        values["sockets"], values["cpus"] = sockets, cpus
        if not self._expressions(given):
            return False
        if values["core_spec_count"] >= sockets * cores:
            given.error("CoreSpecCount", f"CoreSpecCount={values['core_spec_count']} leaves no core to jobs")
            return False
        if values["mem_spec_limit_mib"] and values["mem_spec_limit_mib"] >= values["real_memory_mib"]:
            given.error("MemSpecLimit", f"MemSpecLimit={values['mem_spec_limit_mib']} leaves no memory to jobs")
            return False
        if values["state"] == "IDLE":
            given.warn("State", "State=IDLE is taken as UNKNOWN: a node is IDLE when it has registered")
            values["state"] = "UNKNOWN"
        elif values["state"] == "CLOUD":
            given.add(
                Severity.LATER, "State", "State=CLOUD is taken as UNKNOWN: power saving is not part of this version"
            )
        return True

    def _expressions(self, given: Given) -> bool:
        """Check Attr and Admit."""
        bad = next((name for name in given.values["attrs"] if not _ATTR_NAME.fullmatch(name)), None)
        if bad is not None:
            given.error("Attr", f"'{one_line(bad)}' is not a name for an attribute", hint="letters, digits and _")
            return False
        if not given.values["admit"]:
            return True
        try:
            compile_condition(given.values["admit"], JOB_SCHEMA, "Admit")
        except UsageError as error:
            given.error("Admit", error.msg, hint=error.hint)
            return False
        return True

    def _parallel(self, given: Given, count: int) -> tuple[list[str], list[str], list[int]] | None:
        """Host names, addresses and ports, one for each node; [] where not given."""
        hostnames = self._spread(given, "NodeHostname", count)
        addrs = self._spread(given, "NodeAddr", count)
        ports = self._ports(given, count)
        if hostnames is None or addrs is None or ports is None:
            return None
        return hostnames, addrs, ports

    def _spread(self, given: Given, key: str, count: int) -> list[str] | None:
        text = given.texts.get(key, "")
        if not text:
            return []
        if ":" in text or "%" in text:  # an IPv6 address, which is no host list
            found = [part.strip() for part in text.split(",")]
        else:
            try:
                found = parse_hostlist(text, limit=MAX_NODES)
            except UsageError as error:
                given.error(key, error.msg, hint=error.hint)
                return None
        if len(found) == 1:
            return found * count
        if len(found) != count:
            given.error(key, f"{key} has {len(found)} names for {count} nodes", hint="give as many, or one for all")
            return None
        return found

    def _ports(self, given: Given, count: int) -> list[int] | None:
        text = given.texts.get("Port", "")
        if not text:
            return [0] * count
        try:
            words = parse_hostlist(text if text.startswith("[") else f"[{text}]", limit=MAX_NODES)
        except UsageError as error:
            given.error("Port", error.msg, hint="one port, or a range with a port for each node")
            return None
        ports = [int(word) for word in words]
        if any(port > 65535 for port in ports) or len(ports) not in (1, count):
            given.error("Port", f"Port={one_line(text)} is not one port, or one for each of {count} nodes")
            return None
        return ports * count if len(ports) == 1 else ports
