"""AssocFile: what it says is taken, what it cannot mean is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts, load_accounts
from helix.config.check import check_config
from helix.config.findings import FATAL
from helix.config.load import load_config
from helix.config.tres import parse_tres, parse_weights
from helix.errors import ConfigError
from helix.model.account import FAIRSHARE_PARENT, Accounts
from helixctld.io.account_config import account_warnings

DUMP = """\
# To edit this file start with a cluster line for the new cluster
Cluster - 'tux':Fairshare=1:QOS='normal,high'
QOS - 'normal'
QOS - 'high':Priority=100:MaxWall=60:Flags=DenyOnLimit:MaxTRESPU=cpu=4:Preempt='normal':GraceTime=30
Parent - 'root'
User - 'root':DefaultAccount='root':AdminLevel='Administrator':Fairshare=1
Account - 'physics':Description='all: of it':Organization='x':Fairshare=10:GrpTRES=cpu=64,mem=4G:MaxWall=01:00:00
Account - 'chemistry':Fairshare=30:QOS='+high'
Parent - 'physics'
Account - 'optics':MaxJobs=5:GrpNodes=2
User - 'alice':DefaultAccount='physics':Fairshare=3:Qos='-high':MaxJobs=-1
Parent - 'optics'
User - 'alice':MaxSubmitJobs=9
User - 'bob':Fairshare=parent:Partition='debug':MaxWallDurationPerJob=30
"""


def accounts(text: str = DUMP) -> Accounts:
    return build_accounts(parse_assoc(text, "assoc.conf"))


def test_a_dump_is_read_as_sacctmgr_means_it() -> None:
    found = accounts()
    assert list(found.associations) == [
        "root", "physics", "chemistry", "optics", "root:root", "physics:alice", "optics:alice", "optics:bob:debug",
    ]  # fmt: skip
    assert found.associations["physics"].limits.grp_tres == {"cpu": 64, "mem": 4096}
    assert found.associations["physics"].limits.max_wall_s == 3600
    assert found.associations["physics"].description == "all: of it"
    assert found.associations["optics"].limits.grp_tres == {"node": 2}
    assert found.associations["optics:bob:debug"].shares == FAIRSHARE_PARENT
    assert found.associations["physics:alice"].limits.max_jobs is None
    high = found.qos["high"]
    assert (high.priority, high.limits.max_wall_s, high.grace_time_s, high.preempt) == (100, 3600, 30, ("normal",))
    assert high.flags == {"DenyOnLimit"}
    assert high.max_tres_per_user == {"cpu": 4}


def test_what_is_inherited() -> None:
    found = accounts()
    assert found.find("optics", "alice") == "optics:alice"
    assert found.find("optics", "bob") == ""
    assert found.find("optics", "bob", "debug") == "optics:bob:debug"
    assert found.inherited("optics:alice", "max_jobs") == 5
    assert found.inherited("optics:alice", "max_wall_s") == 3600
    assert found.inherited("optics:bob:debug", "max_wall_s") == 1800
    assert [a.key for a in found.chain("optics:alice")] == ["optics:alice", "optics", "physics", "root"]
    assert found.account_of("alice") == "physics"
    assert found.account_of("bob") == "optics"
    assert found.account_of("eve") == ""
    assert found.allowed_qos("physics:alice") == ("normal",)
    assert found.allowed_qos("optics:alice") == ("normal", "high")
    assert found.qos_of("optics:alice") == "normal"


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("Acount - 'x'", "no kind of line 'Acount'", "did you mean Account?"),
        ("Account - 'x':Farshare=2", "unknown field 'Farshare' of Account", "did you mean Fairshare?"),
        ("Account - 'x':Fairshare=some", "bad Fairshare='some'", ""),
        ("Account - 'x':GrpTRES=cpus=3", "'cpus' is no TRES", ""),
        ("Account - 'x':GrpJobs=-3", "bad GrpJobs='-3'", ""),
        ("Account - 'a b'", "'a b' is not a name", ""),
        ("Parent - 'optiks'", "no account 'optiks' before this line", "did you mean 'optics'?"),
        ("User - 'eve':DefaultAccount='fysics'", "there is no account 'fysics'", "did you mean 'physics'?"),
        ("User - 'eve':QOS='hihg'", "names QOS 'hihg'", "did you mean 'high'?"),
        ("Account - 'physics'", "Account 'physics' stands at line 7 too", ""),
        ("User - 'alice'", "user 'alice' of account 'optics' stands at line 13 too", ""),
        ("rubbish", "'rubbish' is not a line", ""),
        ("QOS - 'x':Flags=Foo", "bad Flags='Foo'", ""),
    ],
)
def test_a_fault_names_file_line_and_remedy(line: str, what: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        accounts(DUMP + line + "\n")
    assert caught.value.msg.startswith("assoc.conf:15: ")
    assert what in caught.value.msg
    assert hint in caught.value.hint


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.conf: No such file"):
        load_accounts(str(tmp_path / "nowhere.conf"))
    assert len(load_accounts("")) == 1


def test_config_check_reads_the_file_too(tmp_path: Path) -> None:
    conf, assoc = tmp_path / "helix.conf", tmp_path / "assoc.conf"
    conf.write_text(f"ClusterName=tux\nAssocFile={assoc}\nNodeName=n1\nPartitionName=p Nodes=n1 Default=YES\n")
    found = [f for f in check_config(conf) if f.severity in FATAL]
    assert [(f.file, f.line, f.key) for f in found] == [(str(conf), 2, "AssocFile")]
    assoc.write_text(DUMP + "Account - 'x':Farshare=2\n")
    found = [f for f in check_config(conf) if f.severity in FATAL]
    assert [(f.file, f.line, f.nearest) for f in found] == [(str(assoc), 15, "Fairshare")]


def test_a_default_account_its_user_is_not_in_is_told_by_line(tmp_path: Path) -> None:
    text = f"{DUMP}User - 'eve':DefaultAccount='physics'\nUser - 'dan':DefaultAccount='optics'\n"
    (said,) = accounts(text).remarks
    assert said.startswith("assoc.conf:15: user 'eve' is not in account 'physics'")
    assert said.endswith("(add User - 'eve' to account 'physics', or name one of optics)")
    assert accounts().remarks == ()
    conf, assoc = tmp_path / "helix.conf", tmp_path / "assoc.conf"
    conf.write_text(f"AssocFile={assoc}\nAccountingStorageEnforce=limits\n")
    assoc.write_text(text)
    told = [(f.file, f.line, f.key) for f in check_config(conf) if f.severity == "warning"]
    assert told == [(str(assoc), 15, "DefaultAccount")]


@pytest.mark.parametrize(
    ("enforce", "assoc", "at"),
    [
        ("", DUMP, 1),
        ("AccountingStorageEnforce=associations,qos", DUMP, 2),
        ("AccountingStorageEnforce=limits,none", DUMP, 2),
        ("AccountingStorageEnforce=limits", DUMP, 0),
        ("AccountingStorageEnforce=safe", DUMP, 0),
        ("AccountingStorageEnforce=all", DUMP, 0),
        ("", "QOS - 'q':MaxJobsPU=3\n", 1),
        ("", "Account - 'physics':Fairshare=3:MaxJobs=-1\nQOS - 'q':Priority=3\n", 0),
    ],
)
def test_limits_that_nothing_enforces_are_told(tmp_path: Path, enforce: str, assoc: str, at: int) -> None:
    conf, file = tmp_path / "helix.conf", tmp_path / "assoc.conf"
    conf.write_text(f"AssocFile={file}\n{enforce}\n")
    file.write_text(assoc)
    told = [f for f in check_config(conf) if f.severity == "warning" and "have no effect" in f.message]
    assert [f.line for f in told] == ([at] if at else [])
    config = load_config(str(conf))
    said = account_warnings(config, load_accounts(config.assoc_file))
    assert len(said) == bool(at)
    assert not at or "set AccountingStorageEnforce=associations,limits" in said[0]


def test_weights_that_order_nothing_are_told(tmp_path: Path) -> None:
    conf = tmp_path / "helix.conf"
    conf.write_text("PriorityType=priority/multifactor\nPriorityWeightQOS=0\n")
    told = [f for f in check_config(conf) if f.severity == "warning"]
    assert any(f.key == "PriorityType" and "same priority" in f.message for f in told)
    conf.write_text("PriorityType=priority/multifactor\nPriorityWeightFairshare=10\n")
    told = [f for f in check_config(conf) if f.severity == "warning"]
    assert [f.key for f in told] == ["PriorityWeightFairshare"]


def test_tres_and_weights() -> None:
    assert parse_tres("CPU=8,Mem=4G,gres/gpu:a100=2,node=-1") == {"cpu": 8, "mem": 4096, "gres/gpu:a100": 2}
    assert parse_weights("CPU=1.5,Mem=0.25G,GRES/gpu=2") == {
        "cpu": 1_500_000_000,
        "mem": 244_141,
        "gres/gpu": 2 * 10**9,
    }
    for bad in ("cpu", "cpu=x", "gpu=1", "mem=1X"):
        with pytest.raises(ValueError, match=r"."):
            parse_weights(bad)


@given(st.text(max_size=300))
def test_no_text_makes_it_fail(text: str) -> None:
    lines = parse_assoc(text, "f")
    if not lines.findings.fatal:
        build_accounts(lines)


@given(st.lists(st.sampled_from(DUMP.splitlines()), max_size=12), st.text("':=-,\n Qx", max_size=5))
def test_no_order_of_lines_makes_it_fail(lines: list[str], end: str) -> None:
    found = parse_assoc("\n".join(lines) + end, "f")
    if not found.findings.fatal:
        tree = build_accounts(found)
        assert all(tree.chain(a.key)[-1].key == "root" for a in tree)
