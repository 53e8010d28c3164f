"""Account, association and QOS of a request: defaults filled in, what the user may not have refused by name."""

from __future__ import annotations

from collections.abc import Sequence

from helix.errors import Denied, NotFound
from helix.model.job import JobSpec
from helix.model.partition import PartitionRecord
from helixctld.core.nearest import did_you_mean
from helixctld.core.state import State


def settle_account(state: State, spec: JobSpec, user: str, partitions: Sequence[PartitionRecord]) -> str:
    """Fill in `spec.account` and `spec.qos` if they are open; gives the key of the association, "" if there is none.

    `partitions`: those the job may use; the first decides where an association is for one partition.  Raises NotFound
    and Denied as far as AccountingStorageEnforce says.
    """
    accounts, enforce = state.accounts, state.usage_policy.enforce
    if not accounts.is_configured:
        return ""
    if not spec.account:
        spec.account = accounts.account_of(user)
    assoc = accounts.find(spec.account, user, partitions[0].name if partitions else "")
    if not assoc and "associations" in enforce:
        raise _not_in(state, spec.account, user)
    if not spec.qos:
        spec.qos = accounts.qos_of(assoc) if accounts.qos else ""
    elif spec.qos not in accounts.qos:
        raise NotFound(f"no QOS '{spec.qos[:80]}'", code="QOS_UNKNOWN", hint=did_you_mean(spec.qos, accounts.qos))
    if "qos" in enforce and assoc:
        allowed = accounts.allowed_qos(assoc)
        if spec.qos and spec.qos not in allowed:
            raise Denied(f"{assoc} may not use QOS '{spec.qos}'", code="QOS_DENIED", hint=_list(allowed))
        if not spec.qos and accounts.qos:
            raise Denied(f"{assoc} has no default QOS", code="QOS_DENIED", hint=f"use --qos; {_list(allowed)}")
    if "qos" in enforce:
        _require_reservation(state, spec, partitions)
    return assoc


def _require_reservation(state: State, spec: JobSpec, partitions: Sequence[PartitionRecord]) -> None:
    """Raises Denied for a job of a QOS with RequiresReservation that names no reservation."""
    if spec.reservation:
        return
    for name in (spec.qos, *(p.qos for p in partitions)):
        qos = state.accounts.qos.get(name)
        if qos is not None and "RequiresReservation" in qos.flags:
            raise Denied(
                f"QOS '{name}' is for jobs in a reservation",
                code="QOS_DENIED",
                hint="add --reservation=NAME (hctl show reservation lists them), or use another QOS",
            )


def require_qos(partition: PartitionRecord, qos: str) -> None:
    """Raises Denied when AllowQos or DenyQos shuts the QOS out."""
    if partition.allow_qos and qos not in partition.allow_qos:
        raise Denied(f"partition '{partition.name}' is for the QOS {', '.join(partition.allow_qos)}", code="QOS_DENIED")
    if qos and qos in partition.deny_qos:
        raise Denied(f"partition '{partition.name}' takes no jobs of QOS '{qos}'", code="QOS_DENIED")


def _not_in(state: State, account: str, user: str) -> NotFound | Denied:
    accounts = state.accounts
    mine = accounts.users.get(user, ())
    hint = f"accounts of {user}: {', '.join(mine[:20])}" if mine else "ask an administrator for an account"
    if not account:
        return Denied(f"user '{user}' is in no account", code="ACCOUNT_DENIED", hint=hint)
    if account not in accounts.associations or ":" in account:
        near = did_you_mean(account, mine or [a.account for a in accounts if not a.user])
        return NotFound(f"no account '{account[:80]}'", code="ACCOUNT_UNKNOWN", hint=near or hint)
    return Denied(f"user '{user}' is not in account '{account}'", code="ACCOUNT_DENIED", hint=hint)


def _list(names: Sequence[str] | dict[str, object]) -> str:
    return f"known: {', '.join(list(names)[:20])}" if names else "there are none"
