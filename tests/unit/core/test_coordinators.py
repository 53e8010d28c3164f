"""Coordinators of accounts: what they may do to the jobs of their accounts, and what stays the owner's."""

from __future__ import annotations

import pytest
from helpers.core_builders import ALICE, BOB, Cluster
from msgspec.structs import replace

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.errors import Conflict, Denied
from helix.model.account import Accounts
from helix.model.job import JobRecord
from helixctld.core import requests
from helixctld.core.caller import Caller, require_owner
from helixctld.core.select_jobs import Target
from helixctld.core.update import update_job
from helixctld.core.usage import UsagePolicy

TEXT = """\
QOS - 'normal'
Parent - 'root'
Account - 'physics'
Account - 'arts'
Parent - 'physics'
Account - 'optics'
User - 'bob':Coordinator='physics'
User - 'carol'
Parent - 'optics'
User - 'alice'
"""


def accounts() -> Accounts:
    return build_accounts(parse_assoc(TEXT, "f"))


def coordinator() -> Caller:
    return replace(BOB, coordinates=accounts().coordinated("bob"))


def job(account: str = "optics") -> tuple[Cluster, JobRecord]:
    c = Cluster()
    c.state.set_accounts(accounts(), UsagePolicy())
    return c, c.submit(account=account, assoc=f"{account}:alice")


def update(c: Cluster, record: JobRecord, who: Caller, **changes: str) -> None:
    for event in update_job(c.state, Target(record), who, ALICE, changes, c.now).events:
        c.do(event)


def test_who_coordinates_what() -> None:
    found = accounts()
    assert found.coordinated("bob") == {"physics", "optics"}
    assert found.coordinated("carol") == found.coordinated("nobody") == frozenset()
    assert found != build_accounts(parse_assoc(TEXT.replace(":Coordinator='physics'", ""), "f"))
    faults = parse_assoc(TEXT.replace("Coordinator='physics'", "Coordinator='physic'"), "f").findings.fatal
    assert [(f.key, f.nearest) for f in faults] == [("Coordinator", "physics")]


def test_they_do_what_operators_do_to_jobs_of_their_accounts() -> None:
    c, record = job()
    c.do(*requests.hold(Target(record), coordinator(), False, c.now).events)
    assert record.held == "admin"
    with pytest.raises(Conflict, match="held by an administrator"):
        requests.release(Target(record), ALICE, c.now)
    c.do(*requests.release(Target(record), coordinator(), c.now).events)
    assert record.held == ""
    update(c, record, coordinator(), Nice="-50", TimeLimit="90")
    assert (record.spec.nice, record.spec.time_limit_s) == (-50, 5400)
    update(c, record, coordinator(), Priority="4000")
    assert record.priority == 4000
    c.do(*requests.cancel(c.state, Target(record), coordinator(), c.now).events)
    assert record.state == "CANCELLED"


def test_not_to_jobs_of_other_accounts() -> None:
    c, record = job("arts")
    for act in (
        lambda: requests.hold(Target(record), coordinator(), False, c.now),
        lambda: requests.cancel(c.state, Target(record), coordinator(), c.now),
        lambda: update(c, record, coordinator(), Nice="5"),
    ):
        with pytest.raises(Denied, match="belongs to another user"):
            act()


def test_what_a_job_runs_and_writes_stays_its_owners() -> None:
    _, record = job()
    require_owner(ALICE, record)
    with pytest.raises(Denied, match="belongs to another user"):
        require_owner(coordinator(), record)


def test_owners_may_still_not_raise_what_only_coordinators_may() -> None:
    c, record = job()
    with pytest.raises(Denied, match="coordinator of the account"):
        update(c, record, ALICE, Nice="-50")
    with pytest.raises(Denied, match="coordinator of the account"):
        update(c, record, ALICE, Priority=str(record.priority + 1))
