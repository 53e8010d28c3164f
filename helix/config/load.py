"""Reads a configuration into a `Config`, or refuses it with file, line, the bad value, the valid form and what is near.

    load_config(path) -> Config             a file and what it includes; gres.conf and topology.conf beside it
    parse_config(text, filename) -> Config  pure: no file is read, Include is refused
    default_config() -> Config              needs no file
    config_pairs(config) -> list[(key, text)]   what `hctl show config` prints
    render_config(config) -> str            the inverse; what nodes are sent, and what `Config.hash` is of
    diff_config(old, new) -> list[Change]   what `hctl reconfigure` has to do

10,000 nodes from one line load in about 30 ms.
"""

from __future__ import annotations

import os
from operator import attrgetter
from typing import Any

import msgspec
from blake3 import blake3
from msgspec import Struct

from helix.config.findings import Finding, Severity
from helix.config.keys import NODE_KEYS, PARTITION_KEYS, SETTINGS
from helix.config.model import Config, ControllerHost, NodeConf, PartitionConf, SchedulerParams, SwitchConf
from helix.config.nodes import NodeLine
from helix.config.parse import Parsed, parse_text
from helix.config.read import read_config
from helix.config.resolve import Resolved, resolve
from helix.config.values import format_value
from helix.config.write import format_conf, pack_names
from helix.errors import ConfigError
from helix.hostlist import format_hostlist

WARNINGS_MAX = 100  #: warnings kept
_NODE_FIELDS = NodeConf.__struct_fields__
_SHARED_FIELDS = tuple(name for name in _NODE_FIELDS if name not in ("name", "hostname", "addr", "port"))
_shared_of = attrgetter(*_SHARED_FIELDS)
_PARTITION_FIELDS = tuple(n for n in PartitionConf.__struct_fields__ if n not in ("name", "nodes", "nodes_text"))


class Change(Struct, frozen=True):
    """One difference between two configurations, as texts of the file.

    `key` is a key, `KEY of node|partition NAME`, or `NodeName`/`PartitionName` for what came (old == "") or went.
    """

    key: str
    old: str
    new: str
    reloadable: bool  # `hctl reconfigure` applies it; otherwise the daemons must be restarted


def load_config(path: str | os.PathLike[str]) -> Config:
    """The configuration in the file at `path`.  Raises ConfigError; a missing file has code CONFIG_MISSING."""
    name = os.fspath(path)
    if not os.path.exists(name):
        raise ConfigError(
            f"{name}: no such file", code="CONFIG_MISSING", hint="give another with -f, or make a cluster: hcluster up"
        )
    return _build(read_config(os.path.abspath(name)), name)


def parse_config(text: str, filename: str = "helix.conf") -> Config:
    """The configuration in `text`; `filename` is for messages.  Raises ConfigError."""
    return _build(parse_text(text, filename), filename)


def default_config() -> Config:
    """The configuration without any file: no nodes, no partitions."""
    return parse_config("", "")


def render_config(config: Config) -> str:
    """`config` as a file, without what is at its default; nodes that differ in nothing else share a line."""
    settings = {key.attr: getattr(config, key.attr) for key in SETTINGS if key.attr}
    settings["helixctld_hosts"] = tuple((host.name, host.addr) for host in config.helixctld_hosts)
    if config.may_claim_more and not _claims_more(config):
        settings["helixctld_parameters"] = {**config.helixctld_parameters, "may_claim_more": ""}
    return format_conf(
        settings,
        [_node_line(config, group) for group in _groups(config.nodes)],
        [_partition_line(part) for part in config.partitions],
        [_switch_line(switch) for switch in config.switches],
    )


def config_pairs(config: Config) -> list[tuple[str, str]]:
    """Every setting in force, defaults too, as key and text of the file; by key."""
    pairs = [(key.name, format_value(key, _plain(getattr(config, key.attr)))) for key in SETTINGS if key.attr]
    return sorted(pairs, key=lambda pair: pair[0].lower())


def diff_config(old: Config, new: Config) -> list[Change]:
    """What changed, in the manual's order; [] for configurations that mean the same."""
    changes = [
        Change(
            key.name,
            format_value(key, _plain(getattr(old, key.attr))),
            format_value(key, _plain(getattr(new, key.attr))),
            key.reloadable,
        )
        for key in SETTINGS
        if key.attr and getattr(old, key.attr) != getattr(new, key.attr)
    ]
    changes.extend(_diff_nodes(old.nodes, new.nodes))
    changes.extend(_diff_partitions(old.partitions, new.partitions))
    changes.extend(_diff_switches(old.switches, new.switches))
    return changes


def _build(parsed: Parsed, source: str) -> Config:
    resolved = resolve(parsed)
    fatal = resolved.findings.fatal
    if fatal:
        raise _refusal(fatal, source)
    config = Config(
        source=source,
        scheduler=SchedulerParams(**resolved.scheduler),
        **{
            **resolved.settings,
            "helixctld_hosts": tuple(ControllerHost(*host) for host in resolved.settings["helixctld_hosts"]),
        },
    )
    config.nodes = _node_confs(resolved, config.helixd_port)
    config.partitions = [
        PartitionConf(name=line.name, nodes=line.nodes, nodes_text=line.nodes_text, **line.values)
        for line in resolved.partitions.lines
    ]
    config.switches = [SwitchConf(**line) for line in resolved.topology.lines]
    if resolved.partitions.sets:
        # A rendered configuration has no NodeSet lines, so it names the nodes themselves.
        config.partitions = [
            part
            if part.nodes_text.upper() == "ALL"
            else msgspec.structs.replace(part, nodes_text=pack_names(part.nodes))
            for part in config.partitions
        ]
    config.warnings = [_said(f) for f in resolved.findings.items if f.severity is Severity.WARNING][:WARNINGS_MAX]
    config.hash = blake3(render_config(config).encode()).hexdigest()
    return config


def _said(finding: Finding) -> str:
    hint = f" ({finding.hint})" if finding.hint else ""
    where = f"{finding.file}:{finding.line}: " if finding.line else f"{finding.file}: " if finding.file else ""
    return f"{where}{finding.message}{hint}"


def _refusal(fatal: list[Finding], source: str) -> ConfigError:
    first = fatal[0]
    where = f"{first.file}:{first.line}" if first.line else first.file or source
    hint = first.hint
    if len(fatal) > 1:
        more = f"{len(fatal) - 1} more: hctl config check {source}"
        hint = f"{hint}; {more}" if hint else more
    return ConfigError(
        f"{where}: {first.message}",
        hint=hint,
        data={"file": first.file, "line": first.line, "key": first.key, "nearest": first.nearest},
    )


def _node_confs(resolved: Resolved, default_port: int) -> list[NodeConf]:
    nodes: list[NodeConf] = []
    down = resolved.nodes.down
    for line in resolved.nodes.lines:
        nodes.extend(_line_confs(line, default_port))
    if down:
        nodes = [
            msgspec.structs.replace(node, state=down[node.name][0], reason=down[node.name][1] or node.reason)
            if node.name in down
            else node
            for node in nodes
        ]
    return nodes


def _line_confs(line: NodeLine, default_port: int) -> list[NodeConf]:
    shared = line.values
    return [
        NodeConf(name=name, hostname=hostname, addr=addr, port=port or default_port, **shared)
        for name, hostname, addr, port in zip(line.names, line.hostnames, line.addrs, line.ports, strict=True)
    ]


def _groups(nodes: list[NodeConf]) -> list[list[NodeConf]]:
    """Runs of neighbours that share everything but names, addresses and ports."""
    groups: list[list[NodeConf]] = []
    last: object = None
    for node in nodes:
        shared = _shared_of(node)
        if shared != last:
            groups.append([])
            last = shared
        groups[-1].append(node)
    return groups


def _node_line(config: Config, group: list[NodeConf]) -> dict[str, Any]:
    first = group[0]
    line = {name: getattr(first, name) for name in _SHARED_FIELDS}
    names = [node.name for node in group]
    line["name"] = pack_names(names)
    hostnames = [node.hostname for node in group]
    addrs = [node.addr for node in group]
    ports = [node.port for node in group]
    if hostnames != names:
        line["hostname"] = _parallel(hostnames)
    if addrs != hostnames:
        line["addr"] = _parallel(addrs)
    if any(port != config.helixd_port for port in ports):
        line["port"] = str(ports[0]) if len(set(ports)) == 1 else "[" + _port_ranges(ports) + "]"
    return line


def _parallel(values: list[str]) -> str:
    if len(set(values)) == 1:
        return values[0]
    return ",".join(values) if any(":" in value or "%" in value for value in values) else pack_names(values)


def _port_ranges(ports: list[int]) -> str:
    runs: list[list[int]] = []
    for port in ports:
        if runs and port == runs[-1][1] + 1:
            runs[-1][1] = port
        else:
            runs.append([port, port])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def _partition_line(part: PartitionConf) -> dict[str, Any]:
    line = {name: getattr(part, name) for name in _PARTITION_FIELDS}
    return {**line, "name": part.name, "nodes": part.nodes_text}


def _switch_line(switch: SwitchConf) -> dict[str, Any]:
    line: dict[str, Any] = {"name": switch.name, "nodes": pack_names(switch.nodes), "is_block": switch.is_block}
    return {**line, "switches": ",".join(switch.switches)} if switch.switches else line


def _claims_more(config: Config) -> bool:
    return "may_claim_more" in config.helixctld_parameters or "config_overrides" in config.helixd_parameters


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], ControllerHost):
        return tuple((host.name, host.addr) for host in value)
    return value


def _diff_nodes(old: list[NodeConf], new: list[NodeConf]) -> list[Change]:
    before = {node.name: node for node in old}
    after = {node.name: node for node in new}
    changes: list[Change] = []
    went = format_hostlist(name for name in before if name not in after)
    came = format_hostlist(name for name in after if name not in before)
    if went:
        changes.append(Change("NodeName", went, "", True))
    if came:
        changes.append(Change("NodeName", "", came, True))
    # Nodes that change alike are one change: a line of 10,000 nodes is.
    alike: dict[tuple[str, str, str, bool], list[str]] = {}
    for name, node in after.items():
        was = before.get(name)
        if was is None or was == node:
            continue
        for key in NODE_KEYS:
            if key.attr in _NODE_FIELDS and getattr(was, key.attr) != getattr(node, key.attr):
                texts = format_value(key, getattr(was, key.attr)), format_value(key, getattr(node, key.attr))
                alike.setdefault((key.name, *texts, key.reloadable), []).append(name)
    for (key_name, was_text, is_text, reloadable), names in alike.items():
        changes.append(Change(f"{key_name} of node {format_hostlist(names)}", was_text, is_text, reloadable))
    return changes


def _diff_partitions(old: list[PartitionConf], new: list[PartitionConf]) -> list[Change]:
    before = {part.name: part for part in old}
    after = {part.name: part for part in new}
    changes = [Change("PartitionName", name, "", True) for name in before if name not in after]
    changes.extend(Change("PartitionName", "", name, True) for name in after if name not in before)
    for name, part in after.items():
        was = before.get(name)
        if was is None or was == part:
            continue
        if was.nodes != part.nodes:
            texts = format_hostlist(was.nodes), format_hostlist(part.nodes)
            changes.append(Change(f"Nodes of partition {name}", *texts, True))
        changes.extend(
            Change(
                f"{key.name} of partition {name}",
                format_value(key, getattr(was, key.attr)),
                format_value(key, getattr(part, key.attr)),
                key.reloadable,
            )
            for key in PARTITION_KEYS
            if key.attr in _PARTITION_FIELDS and getattr(was, key.attr) != getattr(part, key.attr)
        )
    return changes


def _diff_switches(old: list[SwitchConf], new: list[SwitchConf]) -> list[Change]:
    before = {switch.name: switch for switch in old}
    after = {switch.name: switch for switch in new}
    changes: list[Change] = []
    for name in (*before, *(name for name in after if name not in before)):
        was, now = before.get(name), after.get(name)
        if was != now:
            kind = "BlockName" if (was or now).is_block else "SwitchName"  # type: ignore[union-attr]
            before_text, after_text = (
                ",".join((format_hostlist(s.nodes), *s.switches)).strip(",") if s else "" for s in (was, now)
            )
            changes.append(Change(f"{kind} {name}", before_text, after_text, True))
    return changes
