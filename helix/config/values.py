"""Texts of configuration values and what they mean.

`parse_value(key, text)` reads by the key's kind and bounds; `format_value(key, value)` is its inverse.  Bad values
raise ValueError whose text says what is wrong; the caller adds file, line, key and the valid form.  Standard library
only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from helix.config.key import Key, Kind
from helix.config.tres import parse_weights
from helix.errors import UsageError
from helix.hostlist import parse_hostlist, split_hostlist
from helix.quoting import one_line
from helix.sizes import format_bytes, parse_bytes, parse_mem_mib
from helix.timefmt import format_time_limit, parse_time_limit

LEVELS = ("quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5")
MAX_LIST_ITEMS = 10_000  #: most items a list value may have
_YES = frozenset({"yes", "y", "true", "t", "up", "1", "on"})
_NO = frozenset({"no", "n", "false", "f", "down", "0", "off"})
_UNLIMITED = frozenset({"UNLIMITED", "INFINITE"})
_INT = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_HOST = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.\-]*)(?:\(([^()\s]{1,253})\))?", re.ASCII)
_PLUGIN = re.compile(r"[a-z][a-z0-9_]*/[A-Za-z0-9_.\-]+", re.ASCII)
_SHARING = re.compile(r"(NO|EXCLUSIVE|YES(?::[0-9]{1,5})?|FORCE(?::[0-9]{1,5})?)", re.ASCII)


def parse_value(key: Key, text: str) -> Any:
    """The value `text` gives `key`; an empty text is the default.  Raises ValueError."""
    text = text.strip()
    if not text:
        return default_value(key)
    if not text.isprintable():
        raise ValueError("it has unprintable characters")
    upper = text.upper()
    if key.none and upper == key.none:
        return None
    if key.zero and (upper == key.zero or (key.zero in _UNLIMITED and upper in _UNLIMITED)):
        return 0
    try:
        value = _PARSERS[key.kind](key, text)
    except UsageError as error:
        raise ValueError(error.msg) from error
    if value in ((), {}):  # nothing but commas
        return default_value(key)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if key.minimum is not None and value < key.minimum:
            raise ValueError(f"{value} is below {key.minimum}")
        if key.maximum is not None and value > key.maximum:
            raise ValueError(f"{value} is above {key.maximum}")
    return value


def default_value(key: Key) -> Any:
    """What a key has when it is not set."""
    if key.default:
        return parse_value(key, key.default)
    if key.none:
        return None
    if key.kind in _EMPTY_TUPLES:
        return ()
    if key.kind is Kind.PARAMS:
        return {}
    if key.kind is Kind.BOOL:
        return False
    return "" if key.kind in _TEXTS else 0


def format_value(key: Key, value: Any) -> str:
    """`value` as it stands in a file, without quotes; reads back as the same value."""
    if value is None:
        return key.none
    if key.zero and value == 0 and not isinstance(value, bool):
        return key.zero
    if key.kind is Kind.BOOL:
        return "YES" if value else "NO"
    if key.kind is Kind.TIME:
        return format_time_limit(value)
    if key.kind is Kind.BYTES:
        return format_bytes(value)
    if key.kind is Kind.INTERVAL:
        return f"{value:g}"
    if key.kind is Kind.PARAMS:
        return ",".join(f"{name}={val}" if val else name for name, val in value.items())
    if key.kind is Kind.HOSTS:
        return ",".join(name if addr == name else f"{name}({addr})" for name, addr in value)
    if key.kind in _EMPTY_TUPLES:
        return ",".join(value)
    return str(value)


def parse_params(text: str) -> dict[str, str]:
    """`a,b=1,c=x` as a dict; a name without `=` has the value "".  The last of equal names counts."""
    found: dict[str, str] = {}
    for item in _items(text):
        name, _, value = item.partition("=")
        if not name.strip():
            raise ValueError(f"'{one_line(item)}' has no name")
        found[name.strip()] = value.strip()
    return found


def _items(text: str) -> list[str]:
    items = [item.strip() for item in text.split(",") if item.strip()]
    if len(items) > MAX_LIST_ITEMS:
        raise ValueError(f"more than {MAX_LIST_ITEMS} items")
    return items


def _text(key: Key, text: str) -> str:
    del key
    return text


def _path(key: Key, text: str) -> str:
    del key
    if not text.startswith("/"):
        raise ValueError("it is not absolute")
    return text


def _int(key: Key, text: str) -> int:
    del key
    if not _INT.fullmatch(text):
        raise ValueError("it is not a whole number")
    return int(text)


def _bool(key: Key, text: str) -> bool:
    del key
    low = text.lower()
    if low not in _YES and low not in _NO:
        raise ValueError("it is neither YES nor NO")
    return low in _YES


def _interval(key: Key, text: str) -> float:
    del key
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("it is not a number of seconds")
    return float(text)


def _list(key: Key, text: str) -> tuple[str, ...]:
    del key
    return tuple(_items(text))


def _choice(key: Key, text: str) -> str:
    for choice in key.choices:
        if choice.lower() == text.lower():
            return choice
    raise ValueError("it is not a valid word")


def _choices(key: Key, text: str) -> tuple[str, ...]:
    return tuple(_choice(key, item) for item in _items(text))


def _level(key: Key, text: str) -> str:
    del key
    low = text.lower()
    if low in LEVELS:
        return low
    if low.isascii() and low.isdigit() and int(low[:4]) < len(LEVELS):
        return LEVELS[int(low)]
    raise ValueError("it is not a log level")


def _port(key: Key, text: str) -> int:
    del key
    match = _PORTS.fullmatch(text)
    if not match or any(int(part) > 65535 for part in match.groups() if part):
        raise ValueError("it is not a port number")
    return int(match[1])


def _hosts(key: Key, text: str) -> tuple[tuple[str, str], ...]:
    del key
    hosts: list[tuple[str, str]] = []
    for item in _items(text):
        match = _HOST.fullmatch(item)
        if not match:
            raise ValueError(f"'{one_line(item)}' is not a host")
        hosts.append((match[1], match[2] or match[1]))
    return tuple(hosts)


def _hostlist(key: Key, text: str) -> str:
    del key
    if text.upper() != "ALL":
        split_hostlist(text)
        parse_hostlist(text)
    return text


def _sharing(key: Key, text: str) -> str:
    del key
    if not _SHARING.fullmatch(text.upper()):
        raise ValueError("it is not a way of sharing")
    return text.upper()


def _weights(key: Key, text: str) -> str:
    del key
    parse_weights(text)
    return text


def _plugin(key: Key, text: str) -> str:
    del key
    if not _PLUGIN.fullmatch(text):
        raise ValueError("it is not family/name")
    return text


_PARSERS: dict[Kind, Callable[[Key, str], Any]] = {
    Kind.TEXT: _text,
    Kind.PATH: _path,
    Kind.INT: _int,
    Kind.BOOL: _bool,
    Kind.SECONDS: _int,
    Kind.INTERVAL: _interval,
    Kind.TIME: lambda _, text: parse_time_limit(text),
    Kind.MEM: lambda _, text: parse_mem_mib(text),
    Kind.BYTES: lambda _, text: parse_bytes(text),
    Kind.LIST: _list,
    Kind.PARAMS: lambda _, text: parse_params(text),
    Kind.CHOICE: _choice,
    Kind.CHOICES: _choices,
    Kind.LEVEL: _level,
    Kind.PORT: _port,
    Kind.HOSTS: _hosts,
    Kind.HOSTLIST: _hostlist,
    Kind.SHARING: _sharing,
    Kind.PLUGIN: _plugin,
    Kind.WEIGHTS: _weights,
}
_EMPTY_TUPLES = frozenset({Kind.LIST, Kind.CHOICES, Kind.HOSTS})
_TEXTS = frozenset(
    {Kind.TEXT, Kind.PATH, Kind.CHOICE, Kind.LEVEL, Kind.HOSTLIST, Kind.SHARING, Kind.PLUGIN, Kind.WEIGHTS}
)
