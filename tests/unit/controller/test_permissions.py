"""The one table of who may call what, walked whole."""

from __future__ import annotations

import pytest

from helix.errors import Denied, UsageError
from helix.wire.methods import METHODS, Role
from helixctld.core.caller import Caller, require_method

#: The intention, written a second time on purpose: a change of the table must be made here too.
ADMIN_ONLY = {
    "config.reconfigure",
    "ctl.debug",
    "ctl.diag_reset",
    "ctl.shutdown",
    "ctl.snapshot",
    "node.update",
    "partition.update",
}
OPERATOR_ONLY = {"job.resume", "job.suspend", "reservation.create", "reservation.update"}
OWNED = {
    "job.cancel",
    "job.hold",
    "job.log",
    "job.release",
    "job.requeue",
    "job.script",
    "job.top",
    "job.update",
}


def caller(role: Role) -> Caller:
    return Caller(uid=1000, gid=1000, user="u", role=role)


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("role", list(Role))
def test_every_method_for_every_role(name, role):
    need = Role.ADMIN if name in ADMIN_ONLY else Role.OPERATOR if name in OPERATOR_ONLY else Role.USER
    if role is not Role.NODE and role >= need:
        assert require_method(name, caller(role)).name == name
    else:
        with pytest.raises(Denied):
            require_method(name, caller(role))


def test_what_is_not_in_the_table_does_not_exist():
    with pytest.raises(UsageError, match="no method"):
        require_method("job.become_root", caller(Role.ADMIN))


def test_methods_on_jobs_are_marked_as_owned():
    assert {m.name for m in METHODS.values() if m.owned} == OWNED
