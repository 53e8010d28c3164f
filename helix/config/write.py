"""Configuration files from values: the inverse of `parse` and `resolve`, without comments.

`format_conf` takes plain values and needs only the standard library, so that commands may write files with it;
`helix.config.load.render_config` uses it for a `Config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from helix.config.keys import BLOCK_KEYS, NODE_KEYS, PARTITION_KEYS, SECTIONS, SETTINGS, SWITCH_KEYS, Key, Kind
from helix.config.values import default_value, format_value
from helix.hostlist import format_hostlist, parse_hostlist

_BARE_UNSAFE = frozenset(" \t#\\")


def format_conf(
    settings: Mapping[str, Any],
    nodes: Iterable[Mapping[str, Any]] = (),
    partitions: Iterable[Mapping[str, Any]] = (),
    switches: Iterable[Mapping[str, Any]] = (),
) -> str:
    """The text of a helix.conf.

    `settings`: values by field of `Config` (`kill_wait_s`); those equal to the default are left out.  `nodes` and
    `partitions`: one mapping a line, values by field of `NodeConf` and `PartitionConf`, with `name` (for nodes a host
    list) and, for partitions, `nodes` as text.  `switches`: likewise, with `is_block` for blocks.  Raises ValueError
    for a field there is no key for, and for a value that cannot stand in a file.
    """
    lines = format_settings(settings)
    lines.extend(_format_line("NodeName", NODE_KEYS, node) for node in nodes)
    lines.extend(_format_line("PartitionName", PARTITION_KEYS, partition) for partition in partitions)
    for switch in switches:
        values = {name: value for name, value in switch.items() if name != "is_block"}
        block = switch.get("is_block")
        lines.append(_format_line("BlockName" if block else "SwitchName", BLOCK_KEYS if block else SWITCH_KEYS, values))
    return "\n".join(lines) + "\n"


def format_settings(settings: Mapping[str, Any]) -> list[str]:
    """One `Key=Value` line for each setting that is not at its default, in the manual's order."""
    by_attr = {key.attr: key for key in SETTINGS if key.attr}
    unknown = settings.keys() - by_attr.keys()
    if unknown:
        raise ValueError(f"no key sets {', '.join(sorted(unknown))}")
    order = [key for section, _ in SECTIONS for key in SETTINGS if key.section == section and key.attr in settings]
    return [
        f"{key.name}={_quoted(format_value(key, settings[key.attr]))}"
        for key in order
        if settings[key.attr] != default_value(key)
    ]


def pack_names(names: Sequence[str]) -> str:
    """A host list of exactly these names in this order, folded where that keeps the order."""
    folded = format_hostlist(names)
    return folded if parse_hostlist(folded, limit=len(names)) == list(names) else ",".join(names)


def _format_line(head: str, keys: tuple[Key, ...], values: Mapping[str, Any]) -> str:
    table = _defaults(keys)
    unknown = values.keys() - table.keys() - {"name"}
    if unknown:
        raise ValueError(f"no key of a {head} line sets {', '.join(sorted(unknown))}")
    parts = [f"{head}={_quoted(str(values['name']))}"]
    for attr, (key, default) in table.items():
        value = values.get(attr, default)
        if value == default or (key.kind is Kind.LIST and not value):
            continue
        text = value if key.kind is Kind.HOSTLIST else format_value(key, value)
        if text:
            parts.append(f"{key.name}={_quoted(text)}")
    return " ".join(parts)


@lru_cache(maxsize=8)
def _defaults(keys: tuple[Key, ...]) -> dict[str, tuple[Key, Any]]:
    """Field -> key and default value."""
    return {key.attr: (key, default_value(key)) for key in keys if key.attr}


def _quoted(text: str) -> str:
    if '"' in text or not text.isprintable():
        raise ValueError(f"a value with quotes or control characters cannot stand in a file: {text[:60]!r}")
    return f'"{text}"' if not text or _BARE_UNSAFE & set(text) else text
