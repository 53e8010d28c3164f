"""What the configuration says about accounts, usage, limits and priorities, as the core's values."""

from __future__ import annotations

from helix.config.assoc_file import no_effect
from helix.config.assoc_load import load_accounts
from helix.config.model import Config
from helix.config.tres import NANO, parse_weights
from helix.errors import ConfigError
from helix.model.account import Accounts
from helix.sched.priority import PriorityOptions
from helixctld.core.nearest import did_you_mean
from helixctld.core.usage import UsagePolicy

__all__ = ["account_warnings", "accounts_of", "describe", "priority_options", "usage_policy"]


def accounts_of(config: Config) -> Accounts:
    """The accounts of AssocFile.  Raises ConfigError that names file and line, or a partition whose QOS is missing."""
    accounts = load_accounts(config.assoc_file)
    for partition in config.partitions:
        if partition.qos and partition.qos not in accounts.qos:
            where = f"of {config.assoc_file}" if config.assoc_file else "because there is no AssocFile"
            near = did_you_mean(partition.qos, accounts.qos)
            raise ConfigError(
                f"partition {partition.name}: QOS={partition.qos} is in no QOS line {where}",
                code="CONFIG_INVALID",
                hint=near or f"add the line: QOS - '{partition.qos}', or remove QOS= from the partition",
            )
    return accounts


def account_warnings(config: Config, accounts: Accounts) -> list[str]:
    """What is odd about AssocFile, but not wrong: for the log, and whoever reconfigures."""
    found = list(accounts.remarks)
    if accounts.first_limit and not usage_policy(config).limits:
        message, hint = no_effect(config.assoc_file, accounts.first_limit)
        found.append(f"{message} ({hint})")
    return found


def usage_policy(config: Config) -> UsagePolicy:
    """AccountingStorageEnforce and the keys of usage; what a word implies is added."""
    words = set(config.accounting_storage_enforce)
    if "all" in words:
        words |= {"associations", "limits", "qos", "safe"}
    if "safe" in words:
        words.add("limits")
    if words & {"limits", "qos", "wckeys"}:
        words.add("associations")
    if "none" in words:
        words.clear()
    return UsagePolicy(
        enforce=frozenset(words & {"associations", "limits", "qos", "safe"}),
        half_life_s=config.priority_decay_half_life_s,
        calc_period_s=config.priority_calc_period_s,
        reset_period=config.priority_usage_reset_period,
        flags=frozenset(config.priority_flags),
        dampening=config.fair_share_dampening_factor,
    )


def priority_options(config: Config) -> PriorityOptions:
    """Weights and flags of priority/multifactor."""
    weights = parse_weights(config.priority_weight_tres)
    return PriorityOptions(
        weight_age=config.priority_weight_age,
        weight_assoc=config.priority_weight_assoc,
        weight_fairshare=config.priority_weight_fairshare,
        weight_jobsize=config.priority_weight_job_size,
        weight_partition=config.priority_weight_partition,
        weight_qos=config.priority_weight_qos,
        weight_tres=tuple((name, nano // NANO) for name, nano in weights.items()),
        max_age_s=config.priority_max_age_s,
        favor_small=config.priority_favor_small,
        calc_period_s=config.priority_calc_period_s,
        flags=frozenset(config.priority_flags),
    )


def describe(accounts: Accounts) -> str:
    """How many there are, for logs and hctl reconfigure."""
    if not accounts.is_configured:
        return "no accounts"
    users = sum(1 for a in accounts if a.user)
    return f"{len(accounts) - users} accounts, {users} users of them, {len(accounts.qos)} QOS"
