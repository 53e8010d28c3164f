"""What a submitted heterogeneous job may be; see `helix.model.hetjob`."""

from __future__ import annotations

from helix.errors import HelixError, NotFound, UsageError
from helix.hostlist import parse_hostlist
from helix.model.hetjob import COMPONENTS_MAX, completed
from helix.model.job import JobSpec
from helixctld.core.caller import Caller
from helixctld.core.enrol import require_qos
from helixctld.core.nearest import did_you_mean
from helixctld.core.state import State
from helixctld.core.submit import check_spec, require_accounts, require_devices, require_partitions


def settle_components(state: State, spec: JobSpec, owner: Caller) -> JobSpec:
    """The spec with complete components; raises as `check_request` does, naming the component."""
    if not spec.components:
        return spec
    if len(spec.components) >= COMPONENTS_MAX:
        raise UsageError(f"more than {COMPONENTS_MAX} components", code="HETJOB_INVALID")
    if spec.array is not None:
        raise UsageError("a heterogeneous job cannot be an array", code="HETJOB_INVALID")
    whole = completed(spec)
    for at, (given, part) in enumerate(zip(spec.components, whole.components, strict=True), 1):
        try:
            if given.components:
                raise UsageError("components inside a component", code="HETJOB_INVALID")
            if len(part.partitions) > 1:
                raise UsageError(
                    f"several partitions ({','.join(part.partitions)[:80]})",
                    code="HETJOB_INVALID",
                    hint="a component after the first names one partition",
                )
            _check(state, part, owner)
        except HelixError as error:
            raise error.__class__(f"component {at}: {error.msg}", code=error.code, hint=error.hint) from error
    return whole


def _check(state: State, part: JobSpec, owner: Caller) -> None:
    check_spec(part)
    for hosts in (part.nodelist, part.exclude):
        for name in parse_hostlist(hosts) if hosts else ():
            if name not in state.nodes:
                raise NotFound(f"no node '{name}'", code="NODE_UNKNOWN", hint=did_you_mean(name, state.nodes))
    require_devices(state, part)
    (partition,) = require_partitions(state, part.partitions, owner)
    require_accounts(partition, part.account)
    require_qos(partition, part.qos)
    part.partitions = [partition.name]
