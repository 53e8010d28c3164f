"""hinfo: sinfo's lines, grouping, states and filters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helix.cli import hinfo
from helix.cli.info_columns import INFO_FIELDS, STATE_ORDER, compact_state, state_rank
from helix.words import NODE_STATE_CODES

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def info(peer: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run hinfo; gives (exit status, stdout, stderr)."""
    peer.partitions({}, {"name": "batch", "is_default": False, "max_time_s": 86400, "nodes": "n[1-2]", "state": "DOWN"})
    both = {"partitions": ["debug", "batch"]}
    peer.nodes(
        {"name": "n1", **both, "state": "MIXED", "cpus_alloc": 1},
        {"name": "n2", **both},
        {"name": "n3", "cpus": 8, "memory_mib": 16000},
        {"name": "n4", "state": "DOWN*", "reason": "Not responding", "reason_by": "helix", "t_reason": 1.8e9},
    )

    def run(*words: str) -> tuple[int, str, str]:
        status = hinfo.main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_default_listing_is_sinfos(info: Any) -> None:
    assert info()[1] == (GOLDEN / "hinfo_default.txt").read_text()


def test_node_listing_is_sinfos(info: Any) -> None:
    assert info("-N")[1] == (GOLDEN / "hinfo_nodes.txt").read_text()


def test_summary_and_reasons(info: Any) -> None:
    assert info("-s")[1] == (
        "PARTITION AVAIL  TIMELIMIT   NODES(A/I/O/T) NODELIST\n"
        "debug*       up   infinite          1/2/1/4 n[1-4]\n"
        "batch      down 1-00:00:00          1/1/0/2 n[1-2]\n"
    )
    assert info("-R")[1] == (
        "REASON               USER      TIMESTAMP           NODELIST\n"
        "Not responding       helix     2027-01-15T08:00:00 n4\n"
    )


def test_nodes_that_differ_share_a_line_unless_exact(info: Any) -> None:
    assert info("-h", "-p", "debug", "-t", "idle", "-o", "%D %c %m %N")[1] == "2 4+ 8000+ n[2-3]\n"
    assert info("-h", "-e", "-p", "debug", "-t", "idle", "-o", "%D %c %m %N")[1] == "1 4 8000 n2\n1 8 16000 n3\n"


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["-p", "debug", "-o", "%C"], "1/15/4/20\n"),
        (["-p", "debug", "-o", "%A %F"], "1/2 1/2/1/4\n"),
        (["-p", "batch", "-o", "%P %a %l %L %s %g %p %h"], "batch down 1-00:00:00 n/a 1-infinite all 1 NO\n"),
        (["-d", "-o", "%n %T"], "n1 down*\n"),
        (["-n", "n1", "-p", "debug", "-O", "nodelist:5,statelong:.10"], None),
        (["-t", "down", "-o", "%N"], "n4\n"),
        (["-t", "no_respond", "-o", "%N"], "n4\n"),
        (["-p", "batch", "-o", "%t %N", "-S", "-t"], "mix n1\nidle n2\n"),
        (["-p", "batch", "-o", "%t %N", "-S", "t"], "idle n2\nmix n1\n"),
    ],
)
def test_formats_and_filters(info: Any, words: list[str], out: str | None) -> None:
    status, text, err = info("-h", *words)
    assert status == 0, err
    if out is not None:
        assert text == out


def test_nodes_filter_is_the_controllers(info: Any, peer: Any) -> None:
    info("-n", "n[1-2]")
    assert peer.args("node.list") == {"nodes": "n[1-2]"}


def test_partition_without_nodes_has_a_line(info: Any, peer: Any) -> None:
    peer.partitions({"name": "empty", "is_default": False})
    peer.nodes()
    assert info("-h")[1].split() == ["empty", "up", "infinite", "0", "n/a"]


def test_hidden_partitions(info: Any, peer: Any) -> None:
    peer.partitions({}, {"name": "secret", "is_default": False, "hidden": True})
    assert "secret" not in info()[1]
    assert "secret" in info("-a")[1]
    assert "secret" in info("-p", "secret")[1]


def test_json(info: Any) -> None:
    document = json.loads(info("--json")[1])
    assert document["helix"]["format"] == "info"
    assert [part["name"] for part in document["partitions"]] == ["debug", "batch"]
    assert document["nodes"][3]["state_compact"] == "down*"


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (["-p", "debgu"], 1, "no partition 'debgu' (PARTITION_UNKNOWN)\ndid you mean 'debug'?"),
        (["-t", "idel"], 2, "did you mean 'idle'?"),
        (["n1"], 2, "unexpected argument 'n1'"),
        (["-o", "%Q"], 2, "no field '%Q'"),
    ],
)
def test_refusals(info: Any, words: list[str], status: int, part: str) -> None:
    got, _, err = info(*words)
    assert got == status
    assert part in err


def test_states_have_a_code_and_a_rank() -> None:
    assert set(STATE_ORDER) == set(NODE_STATE_CODES)
    assert compact_state("DRAINING*") == "drng*"
    assert state_rank("IDLE*") > state_rank("FAILING")


def test_all_of_sinfos_letters() -> None:
    assert {f.letter for f in INFO_FIELDS if f.letter} == set("aAbBcCdDeEfFgGhHiIlLmMnNoOpPrRsStTuUvVwXYzZ")
