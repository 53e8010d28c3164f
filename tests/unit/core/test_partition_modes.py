"""`hctl update PartitionName=`: what concerns preemption and sharing is read as in helix.conf."""

from __future__ import annotations

import pytest
from helpers.core_builders import Cluster

from helix.errors import UsageError
from helixctld.core import update


def changed(text: str):
    c = Cluster()
    name, _, value = text.partition("=")
    c.do(update.update_partition(c.state, c.state.partitions["batch"], {name: value}, c.now))
    return c.state.partitions["batch"]


def test_values_are_those_of_helix_conf():
    assert changed("PreemptMode=requeue,within").preempt_mode == ["REQUEUE", "WITHIN"]
    assert changed("PreemptMode=").preempt_mode == []
    assert changed("GraceTime=90").grace_time_s == 90
    assert changed("OverSubscribe=force:3").oversubscribe == "FORCE:3"


@pytest.mark.parametrize(
    "text", ["PreemptMode=KILL", "PreemptMode=CANCEL,SUSPEND", "OverSubscribe=MAYBE", "GraceTime=x"]
)
def test_nonsense_is_refused(text):
    with pytest.raises(UsageError):
        changed(text)
