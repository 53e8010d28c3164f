"""Finds the plugin a configuration names: entry points `helix.plugins.<family>`, then the directories of PluginDir.

Built-in plugins register exactly as a stranger's package does, in its own `pyproject.toml`:

    [project.entry-points."helix.plugins.sched"]
    mine = "my_package.mine:Mine"

The object named is called without arguments and gives the plugin.  In a PluginDir the file is `<family>/<name>.py`
and its callable is named `plugin`.  A directory that others may write to is refused: its code runs as the daemon.
"""

from __future__ import annotations

import difflib
import importlib.util
import stat
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from helix.errors import ConfigError
from helix.plugin.families import FAMILIES

GROUP = "helix.plugins."
#: configuration key of each family, for messages
KEYS = {"sched": "SchedulerType", "priority": "PriorityType", "select": "SelectType", "preempt": "PreemptType"}


def load_plugin(family: str, value: str, plugin_dirs: str = "") -> Any:
    """The plugin that `value` (`fifo` or `sched/fifo`) names.

    `plugin_dirs` is PluginDir: directories separated by colons.  Raises ConfigError for an unknown name (with the
    nearest), for one that cannot be imported, and for an object that is not of the family.
    """
    key = KEYS.get(family, family)
    prefix, slash, rest = value.strip().partition("/")
    name = rest if slash else prefix
    if slash and prefix != family:
        raise ConfigError(
            f"{key}={value}: '{prefix}' is another family of plugins",
            code="PLUGIN_UNKNOWN",
            hint=f"write {key}={family}/{name}",
        )
    factory = _from_entry_points(family, name, key) or _from_dirs(family, name, key, plugin_dirs)
    if factory is None:
        known = available(family, plugin_dirs)
        near = difflib.get_close_matches(name, known, 1, 0.5)
        raise ConfigError(
            f"{key}={value}: no plugin '{family}/{name}'",
            code="PLUGIN_UNKNOWN",
            hint=f"did you mean '{family}/{near[0]}'?" if near else f"known: {', '.join(known) or 'none'}",
        )
    try:
        plugin = factory()
    except Exception as error:  # a plugin call: whatever it raises is the plugin's fault, and named so
        raise ConfigError(
            f"{key}={value}: plugin '{family}/{name}' fails to start: {error!r}", code="PLUGIN_BROKEN"
        ) from error
    if not isinstance(plugin, FAMILIES[family]):
        raise ConfigError(
            f"{key}={value}: '{family}/{name}' is not a {FAMILIES[family].__name__}", code="PLUGIN_BROKEN"
        )
    return plugin


def available(family: str, plugin_dirs: str = "") -> list[str]:
    """Names of all plugins of a family, sorted."""
    names = {point.name for point in entry_points(group=GROUP + family)}
    for directory in _dirs(plugin_dirs):
        names.update(path.stem for path in (directory / family).glob("*.py") if not path.name.startswith("_"))
    return sorted(names)


def _from_entry_points(family: str, name: str, key: str) -> Callable[[], Any] | None:
    for point in entry_points(group=GROUP + family, name=name):
        try:
            loaded: Callable[[], Any] = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{key}: plugin '{family}/{name}' ({point.value}) cannot be imported: {error}", code="PLUGIN_BROKEN"
            ) from error
        return loaded
    return None


def _dirs(plugin_dirs: str) -> list[Path]:
    return [Path(part) for part in plugin_dirs.split(":") if part.strip()]


def _from_dirs(family: str, name: str, key: str, plugin_dirs: str) -> Callable[[], Any] | None:
    if not name.isidentifier():
        return None
    for directory in _dirs(plugin_dirs):
        path = directory / family / f"{name}.py"
        if not path.is_file():
            continue
        for place in (directory, path.parent, path):
            if place.stat().st_mode & stat.S_IWOTH:
                raise ConfigError(
                    f"{key}: {place} may be written by everybody, its code is not run",
                    code="PLUGIN_UNSAFE",
                    hint=f"chmod o-w {place}",
                )
        spec = importlib.util.spec_from_file_location(f"helix_plugin_{family}_{name}", path)
        if spec is None or spec.loader is None:
            return None
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            loaded: Callable[[], Any] = module.plugin
        except Exception as error:  # a plugin call: its module may raise anything
            raise ConfigError(f"{key}: {path} cannot be loaded: {error!r}", code="PLUGIN_BROKEN") from error
        return loaded
    return None
