"""From sbatch's words to a job specification."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helix.errors import UsageError
from helix.submission import parse_dependency, parse_signal_spec, signal_number, submit_args
from helix.wire.codec import decode_args
from helix.wire.methods import SubmitArgs


def spec(**options: Any) -> dict[str, Any]:
    args = submit_args("#!/bin/sh\n", options)
    decoded = decode_args(msgspec.Raw(json.dumps(args).encode()), SubmitArgs, "job.submit")
    assert decoded.script == "#!/bin/sh\n"
    result = args["spec"]
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"partition": "a,b"}, {"partitions": ["a", "b"]}),
        ({"partition": ["a"]}, {"partitions": ["a"]}),
        ({"nodes": 2}, {"nodes_min": 2, "nodes_max": 2}),
        ({"nodes": "2-4"}, {"nodes_min": 2, "nodes_max": 4}),
        ({"ntasks": 8, "ntasks_per_node": 4}, {"tasks": 8, "tasks_per_node": 4}),
        ({"mem": "4G"}, {"mem_per_node_mib": 4096}),
        ({"mem": 100}, {"mem_per_node_mib": 100}),
        ({"mem": 0}, {"mem_all": True}),
        ({"mem": "0"}, {"mem_all": True}),
        ({"mem_per_cpu": "1G"}, {"mem_per_cpu_mib": 1024}),
        ({"time": "1:30:00"}, {"time_limit_s": 5400}),
        ({"time_limit": 10}, {"time_limit_s": 600}),
        ({"time_limit": timedelta(hours=2)}, {"time_limit_s": 7200}),
        ({"time_min": "30"}, {"time_min_s": 1800}),
        ({"begin": 1e9}, {"t_begin": 1e9}),
        ({"begin": datetime(2030, 1, 1, tzinfo=UTC)}, {"t_begin": 1893456000.0}),
        ({"array": "1-10:3%2"}, {"array": "1-10:3", "array_limit": 2}),
        ({"array": range(4)}, {"array": "0-3"}),
        ({"array": "0-3%2", "array_limit": 1}, {"array_limit": 1}),
        ({"dependency": "afterok:3"}, {"dependency": {"edges": [{"kind": "afterok", "job_id": 3}]}}),
        ({"signal": "B:USR1@120"}, {"signal": {"signal": 10, "before_s": 120, "batch_only": True}}),
        ({"mail_type": "end,fail"}, {"mail_type": ["END", "FAIL"]}),
        ({"nodelist": ["n1", "n2"]}, {"nodelist": "n1,n2"}),
        ({"output": "o", "error": "e", "input": "i"}, {"stdout": "o", "stderr": "e", "stdin": "i"}),
        ({"rlimits": {"NOFILE": (1, 2)}}, {"rlimits": {"NOFILE": [1, 2]}}),
        ({"args": [1, "x y"]}, {"args": ["1", "x y"]}),
        ({"spec": {"name": "z", "nice": 5}}, {"name": "z", "nice": 5}),
    ],
)
def test_words_are_translated(options: dict[str, Any], expected: dict[str, Any]) -> None:
    got = spec(**options)
    assert {name: got.get(name) for name in expected} == expected


def test_what_is_not_given_is_not_sent() -> None:
    got = spec()
    assert set(got) == {"name", "script_name", "work_dir", "submit_host", "token"}
    assert got["work_dir"] == os.getcwd()
    assert len(got["token"]) == 32


def test_every_submit_has_a_token_of_its_own() -> None:
    assert spec()["token"] != spec()["token"]
    assert spec(token="mine")["token"] == "mine"


def test_script_is_read_from_a_file_and_names_the_job(tmp_path: Path) -> None:
    path = tmp_path / "job.sh"
    path.write_bytes(b"#!/bin/sh\r\necho \xc3\xa9\n")
    args = submit_args(path, {})
    assert args["script"] == "#!/bin/sh\r\necho \u00e9\n"
    assert args["spec"]["name"] == "job.sh"
    assert args["spec"]["script_name"] == str(path)


def test_wrapped_command_becomes_a_script() -> None:
    args = submit_args(None, {"wrap": "echo 'a b'"})
    assert args["script"].startswith("#!/bin/sh\n")
    assert "\necho 'a b'\n" in args["script"]
    assert args["spec"]["name"] == "wrap"


def test_environment_is_ours_unless_given_and_leaves_out_what_cannot_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELIX_TEST_VALUE", "x")
    os.environb[b"HELIX_TEST_BYTES"] = b"\xff"
    try:
        env = submit_args("#!/bin/sh\n", {})["env"]
    finally:
        del os.environb[b"HELIX_TEST_BYTES"]
    assert "HELIX_TEST_VALUE=x" in env
    assert not any(entry.startswith("HELIX_TEST_BYTES") for entry in env)
    assert submit_args("#!/bin/sh\n", {"env": {"A": "1"}})["env"] == ["A=1"]
    assert submit_args("#!/bin/sh\n", {"env": {}})["env"] == []


def test_on_behalf_of_passes_through() -> None:
    args = submit_args("#!/bin/sh\n", {"uid": 1000, "gid": "users", "test_only": True})
    assert (args["user"], args["group"], args["test_only"]) == ("1000", "users", True)


@pytest.mark.parametrize(
    "options",
    [
        {"nodes": "x"},
        {"nodes": "2-"},
        {"nodes": -1},
        {"mem": "many"},
        {"time": "soon"},
        {"array": "5-1"},
        {"array": []},
        {"dependency": "sometime"},
        {"signal": "B:"},
        {"name": "a", "job_name": "b"},
    ],
)
def test_malformed_option_is_a_usage_error(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        submit_args("#!/bin/sh\n", options)


def test_unknown_option_is_a_type_error_naming_it() -> None:
    with pytest.raises(TypeError, match="partitoin"):
        submit_args("#!/bin/sh\n", {"partitoin": "x"})


@pytest.mark.parametrize(("script", "wrap"), [(None, None), ("#!/bin/sh\n", "x")])
def test_script_or_wrapped_command_exactly_one(script: str | None, wrap: str | None) -> None:
    with pytest.raises(UsageError):
        submit_args(script, {"wrap": wrap})


def test_unreadable_or_binary_script_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\x7fELF\xff\xfe")
    for name in ("nothing", "binary"):
        with pytest.raises(UsageError, match=name):
            submit_args(tmp_path / name, {})


@pytest.mark.parametrize(
    ("text", "edges", "is_any"),
    [
        ("afterok:1:2", [("afterok", 1), ("afterok", 2)], False),
        ("afterok:1?afterany:2", [("afterok", 1), ("afterany", 2)], True),
        ("AfterOK:1,singleton", [("afterok", 1), ("singleton", 0)], False),
    ],
)
def test_dependencies_are_read(text: str, edges: list[tuple[str, int]], is_any: bool) -> None:
    got = parse_dependency(text)
    assert [(e["kind"], e.get("job_id", 0)) for e in got["edges"]] == edges
    assert got.get("any", False) is is_any


def test_dependency_details() -> None:
    assert parse_dependency("after:5+10")["edges"] == [{"kind": "after", "job_id": 5, "delay_s": 600}]
    assert parse_dependency("aftercorr:5_7")["edges"] == [{"kind": "aftercorr", "job_id": 5, "task_id": 7}]
    assert parse_dependency("afterok:5_*")["edges"] == [{"kind": "afterok", "job_id": 5}]


@pytest.mark.parametrize(
    "text",
    ["", "afterok", "afterok:", "afterok:0", "afterok:x", "afterok:1+5", "after:1+", "a:1,b:2?c:3", "afterok:1_x"],
)
def test_malformed_dependency_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_dependency(text)
    assert caught.value.code == "DEPENDENCY_INVALID"


def test_signals() -> None:
    assert [signal_number(word) for word in ("USR1", "sigterm", "9", "0", "65", "NOPE", "")] == [
        10,
        15,
        9,
        None,
        None,
        None,
        None,
    ]
    assert parse_signal_spec("TERM") == {"signal": 15}


def test_components_of_a_heterogeneous_job() -> None:
    args = submit_args(
        None, {"wrap": "true", "ntasks": 1, "components": [{"partition": "gpu", "mem": "2G"}, {"nodes": "2-4"}]}
    )
    assert args["spec"]["components"] == [
        {"partitions": ["gpu"], "mem_per_node_mib": 2048},
        {"nodes_min": 2, "nodes_max": 4},
    ]
    with pytest.raises(TypeError, match="no option 'nods'"):
        submit_args(None, {"wrap": "true", "components": [{"nods": 2}]})
