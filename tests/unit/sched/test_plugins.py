"""Plugins are found by name, built-in and foreign alike; priority/basic."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix.errors import ConfigError
from helix.model.job import JobSpec
from helix.plugin.families import PriorityPlugin, SchedPlanner, SelectPlugin
from helix.plugin.registry import available, load_plugin
from helix_plugins.priority.basic import TOP, Basic

MINE = """
class Mine:
    def initial_priority(self, job_id, spec, *, held=False):
        return 7

def plugin():
    return Mine()
"""


def test_built_in_plugins_are_found_through_entry_points() -> None:
    assert isinstance(load_plugin("sched", "sched/fifo"), SchedPlanner)
    assert isinstance(load_plugin("sched", "builtin"), SchedPlanner)
    assert isinstance(load_plugin("priority", "priority/basic"), PriorityPlugin)
    assert isinstance(load_plugin("select", "select/cons_tres"), SelectPlugin)
    assert "fifo" in available("sched")


@pytest.mark.parametrize(
    ("value", "said", "hint"),
    [
        ("sched/fif", "SchedulerType=sched/fif: no plugin 'sched/fif'", "did you mean 'sched/fifo'"),
        ("sched/zzzz", "no plugin", "known: backfill, builtin, fifo"),
        ("priority/basic", "'priority' is another family", "SchedulerType=sched/basic"),
        ("../x", "no plugin|another family", ""),
    ],
)
def test_unknown_plugins_are_refused_with_the_nearest(value: str, said: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_plugin("sched", value)
    assert hint in caught.value.hint


def place(directory: Path, text: str) -> str:
    folder = directory / "priority"
    folder.mkdir(mode=0o755)
    (folder / "mine.py").write_text(text)
    (folder / "mine.py").chmod(0o644)
    return f"/nowhere:{directory}"


def test_a_file_in_a_plugin_directory_is_loaded(tmp_path: Path) -> None:
    plugin = load_plugin("priority", "priority/mine", place(tmp_path, MINE))
    assert plugin.initial_priority(1, JobSpec()) == 7
    assert available("priority", str(tmp_path)) == ["basic", "mine", "multifactor"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('boom')", "cannot be loaded.*boom"),
        ("x = 1", "cannot be loaded"),
        ("def plugin():\n    raise ValueError('late')", "fails to start.*late"),
        ("def plugin():\n    return object()", "is not a PriorityPlugin"),
    ],
)
def test_broken_plugins_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_plugin("priority", "priority/mine", place(tmp_path, text))
    assert caught.value.code == "PLUGIN_BROKEN"


def test_code_that_everybody_may_change_is_not_run(tmp_path: Path) -> None:
    where = place(tmp_path, MINE)
    (tmp_path / "priority" / "mine.py").chmod(0o666)
    with pytest.raises(ConfigError, match="may be written by everybody"):
        load_plugin("priority", "priority/mine", where)


def test_basic_priority_falls_with_each_submit_and_with_nice() -> None:
    basic = Basic()
    assert basic.initial_priority(1, JobSpec()) == TOP - 1
    assert basic.initial_priority(2, JobSpec()) < basic.initial_priority(1, JobSpec())
    assert basic.initial_priority(1, JobSpec(nice=5)) == TOP - 6
    assert basic.initial_priority(10, JobSpec(nice=-5)) == TOP - 5
    assert basic.initial_priority(10, JobSpec(nice=2**33)) == 1
    assert basic.initial_priority(2**40, JobSpec()) == 1


def test_held_and_operator_set_priorities() -> None:
    basic = Basic()
    assert basic.initial_priority(1, JobSpec(priority=0)) == 0
    assert basic.initial_priority(1, JobSpec(), held=True) == 0
    assert basic.initial_priority(1, JobSpec(priority=42, nice=7)) == 42
