"""From entries to meaning: every key looked up, every value read, every cross-reference checked.

`resolve(parsed)` never raises for what a file says; `Resolved.findings` has all remarks, and `load` refuses a
configuration with fatal ones.  Standard library only, so that `hctl config check` needs no daemon's libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helix.config.findings import Findings, Severity
from helix.config.gres_conf import complete_gres
from helix.config.keys import (
    LINES,
    PARAMS,
    SELECT_PARAMETERS,
    SETTINGS,
    SLURM_ONLY,
    Key,
    Kind,
    Status,
    find_in,
    find_setting,
    names_of,
    nearest,
)
from helix.config.nodes import Nodes
from helix.config.parse import Entry, Parsed
from helix.config.partitions import Partitions
from helix.config.table_preempt import modes_problem
from helix.config.topology import FLAT, Topology
from helix.config.values import default_value, parse_value
from helix.errors import UsageError
from helix.licences import parse_configured
from helix.quoting import one_line

#: plugins that come with this version, by key
BUILT_IN: dict[str, tuple[str, ...]] = {
    "SchedulerType": ("sched/backfill", "sched/fifo", "sched/builtin"),
    "PriorityType": ("priority/basic", "priority/multifactor"),
    "SelectType": ("select/cons_tres",),
    "PreemptType": ("preempt/none", "preempt/partition_prio", "preempt/qos"),
    "ProctrackType": ("proctrack/cgroup", "proctrack/linuxproc"),
}
_EXCLUDING = (
    ("DefMemPerCPU", "DefMemPerNode"),
    ("MaxMemPerCPU", "MaxMemPerNode"),
    ("PropagateResourceLimits", "PropagateResourceLimitsExcept"),
)
_HEADS = {name.lower(): name for name in LINES}


@dataclass(slots=True)
class Resolved:
    """What the entries mean.  The keys of `settings` and `scheduler` are fields of `Config` and `SchedulerParams`."""

    settings: dict[str, Any]
    scheduler: dict[str, Any]
    nodes: Nodes
    partitions: Partitions
    topology: Topology
    findings: Findings
    given: dict[str, Entry] = field(default_factory=dict)  # canonical key -> the entry that gave its value


def default_settings() -> dict[str, Any]:
    """The value of every field of `Config` that a key sets, from the key table."""
    return {key.attr: default_value(key) for key in SETTINGS if key.attr}


def default_params(name: str) -> dict[str, Any]:
    """The default of every honoured name inside a key such as SchedulerParameters, by field."""
    return {key.attr: default_value(key) for key in PARAMS[name] if key.attr}


def resolve(parsed: Parsed) -> Resolved:
    """Look up, read and check all entries."""
    findings = Findings()
    for problem in parsed.problems:
        findings.error(problem.file, problem.line, "", problem.message, hint=problem.hint)
    resolved = Resolved(
        settings=default_settings(),
        scheduler=default_params("SchedulerParameters"),
        nodes=Nodes(findings),
        partitions=Partitions(findings),
        topology=Topology(findings),
        findings=findings,
    )
    takers = {
        "NodeName": resolved.nodes.take,
        "DownNodes": resolved.nodes.take_down,
        "PartitionName": resolved.partitions.take,
        "NodeSet": resolved.partitions.take_set,
        "SwitchName": resolved.topology.take,
        "BlockName": resolved.topology.take_block,
    }
    for entry in parsed.entries:
        head = _HEADS.get(entry.pairs[0][0].lower())
        if head == "FrontendName":
            findings.used(entry.file, entry.line, LINES[head][0])
        elif head:
            takers[head](entry)
        else:
            for name, text in entry.pairs:
                _setting(resolved, entry, name, text)
    complete_gres(resolved.nodes, parsed.gres, resolved.settings["gres_types"], findings)
    _finish(resolved)
    return resolved


def _setting(resolved: Resolved, entry: Entry, name: str, text: str) -> None:
    """Take one cluster-wide key."""
    findings = resolved.findings
    key = find_setting(name)
    if key is None:
        _unknown(findings, entry, name)
        return
    before = resolved.given.get(key.name)
    several = key.kind is Kind.HOSTS and before is not None
    if before is not None and not several:
        findings.add(
            entry.file,
            entry.line,
            Severity.WARNING,
            key.name,
            f"{key.name} stands already at {before.file}:{before.line}; the last counts",
        )
    resolved.given[key.name] = entry
    findings.used(entry.file, entry.line, key, as_written=name)
    if not key.attr:
        return
    try:
        value = parse_value(key, text)
    except ValueError as error:
        findings.error(
            entry.file,
            entry.line,
            key.name,
            f"bad {name}='{one_line(text)}': {error}",
            hint=f"{key.name} is {key.form}",
        )
        return
    if several:
        value = (*resolved.settings[key.attr], *value)
    resolved.settings[key.attr] = value
    if key.name in PARAMS:
        _params(resolved, entry, key, value)
    _check_words(findings, entry, key, value)


def _unknown(findings: Findings, entry: Entry, name: str) -> None:
    owner = next((head for head, keys in LINES.items() if find_in(keys, name)), "")
    near = nearest(name, [*names_of(SETTINGS), *names_of(SLURM_ONLY), *LINES])
    if owner:
        hint = f"{name} belongs on a {owner} line"
    elif near:
        hint = f"did you mean {near}?"
    else:
        hint = "remove it, or see helix.conf(5)"
    findings.add(
        entry.file,
        entry.line,
        Severity.UNKNOWN,
        name,
        f"unknown key '{one_line(name)}'",
        nearest="" if owner else near,
        hint=hint,
    )


def _params(resolved: Resolved, entry: Entry, key: Key, given: dict[str, str]) -> None:
    """Read the names inside SchedulerParameters and its like."""
    findings = resolved.findings
    found: dict[str, Any] = {}
    for name, text in given.items():
        inner = find_in(PARAMS[key.name], name)
        if inner is None:
            near = nearest(name, names_of(PARAMS[key.name]))
            findings.add(
                entry.file,
                entry.line,
                Severity.WARNING,
                key.name,
                f"{key.name} has no option '{one_line(name)}'",
                nearest=near,
                hint=f"did you mean {near}?" if near else "it has no effect",
            )
            continue
        if inner.status is not Status.HONOURED:
            findings.used(entry.file, entry.line, inner, where=key.name)
            continue
        try:
            found[inner.attr] = True if inner.kind is Kind.BOOL and not text else parse_value(inner, text)
        except ValueError as error:
            findings.error(
                entry.file,
                entry.line,
                key.name,
                f"bad {inner.name}='{one_line(text)}' in {key.name}: {error}",
                hint=f"{inner.name} is {inner.form}",
            )
    if key.name == "SchedulerParameters":
        resolved.scheduler = {**default_params(key.name), **found}
    elif found.get("may_claim_more") or found.get("config_overrides"):
        resolved.settings["may_claim_more"] = True


def _check_words(findings: Findings, entry: Entry, key: Key, value: Any) -> None:
    """Warn of plugins and flags that this version does not have."""
    built_in = BUILT_IN.get(key.name)
    if built_in and value not in built_in:
        findings.add(
            entry.file,
            entry.line,
            Severity.WARNING,
            key.name,
            f"no plugin '{one_line(value)}' comes with this version",
            nearest=nearest(value, built_in),
            hint=f"those that do: {', '.join(built_in)}; others need PluginDir",
        )
    if key.name == "SelectTypeParameters":
        known = {word.lower() for word in SELECT_PARAMETERS}
        for word in value:
            if word.lower() not in known:
                findings.add(
                    entry.file,
                    entry.line,
                    Severity.WARNING,
                    key.name,
                    f"SelectTypeParameters has no word '{one_line(word)}'",
                    nearest=nearest(word, SELECT_PARAMETERS),
                )
    if key.name == "HelixctldHost" and len(value) > 1:
        findings.add(
            entry.file,
            entry.line,
            Severity.WARNING,
            key.name,
            f"controller '{value[-1][0]}' is not used: a second controller is not part of this version",
        )


def _preemption(resolved: Resolved) -> None:
    """Modes that contradict each other, preemption that never comes, and sharing of CPUs that nothing turns on."""
    settings, findings = resolved.settings, resolved.findings
    modes, entry = settings["preempt_mode"], resolved.given.get("PreemptMode")
    problem = modes_problem(modes)
    if problem and entry is not None:
        findings.error(entry.file, entry.line, "PreemptMode", f"PreemptMode: {problem}")
    vain = _preempts_in_vain(resolved)
    if vain is not None:
        name, message, hint = vain
        at = resolved.given[name]
        findings.add(at.file, at.line, Severity.WARNING, name, message, hint=hint)
    if "GANG" in modes:
        return
    for given in resolved.partitions.given:
        if given.values.get("oversubscribe", "").startswith(("YES", "FORCE")):
            given.warn(
                "OverSubscribe",
                f"OverSubscribe={given.values['oversubscribe']} of partition '{given.head}' is NO without time slices",
                hint="set PreemptMode=GANG (or SUSPEND,GANG)",
            )


def _preempts_in_vain(resolved: Resolved) -> tuple[str, str, str] | None:
    """The key by which preemption was asked for although nobody will ever make room, why, and a hint; None if somebody
    may."""
    settings, given = resolved.settings, resolved.given
    kind, modes = settings["preempt_type"], settings["preempt_mode"]
    ways = "CANCEL", "REQUEUE", "SUSPEND"
    if kind == "preempt/none":
        word = next((word for word in modes if word in ways), "")
        if not word or "PreemptMode" not in given:
            return None
        hint = "set PreemptType=preempt/partition_prio or preempt/qos"
        return "PreemptMode", f"PreemptMode={word} has no effect with PreemptType=preempt/none", hint
    if "PreemptType" not in given:
        return None
    if kind == "preempt/qos" and not settings["assoc_file"]:
        return "PreemptType", "preempt/qos has no effect without AssocFile, which describes the QOS", "set AssocFile"
    if kind != "preempt/partition_prio":
        return None
    partitions = [part.values for part in resolved.partitions.given]
    own = [word for part in partitions for word in part.get("preempt_mode") or ()]
    if not any(word in ways for word in (*modes, *own)):
        hint = "set PreemptMode=CANCEL, REQUEUE or SUSPEND, for the cluster or for partitions"
        return "PreemptType", "with PreemptMode=OFF no job makes room", hint
    tiers = {part.get("priority_tier", 1) for part in partitions}
    if len(tiers) == 1 and "WITHIN" not in (*modes, *own):
        hint = "give those that are to preempt a higher PriorityTier, or set PreemptMode=...,WITHIN"
        return "PreemptType", "all partitions have the same PriorityTier, so no job makes room", hint
    return None


_WEIGHTS = tuple(key for key in SETTINGS if key.name.startswith("PriorityWeight"))


def _priorities(resolved: Resolved) -> None:
    """priority/multifactor without any weight orders by nothing; weights without accounts do nothing."""
    settings, given, findings = resolved.settings, resolved.given, resolved.findings
    entry = given.get("PriorityType")
    weighed = [key for key in _WEIGHTS if settings[key.attr]]
    if settings["priority_type"] == "priority/multifactor" and entry is not None and not weighed:
        findings.add(
            entry.file,
            entry.line,
            Severity.WARNING,
            "PriorityType",
            "priority/multifactor with every PriorityWeight... at 0 gives all jobs the same priority: first come, "
            "first served",
            hint="set PriorityWeightAge, PriorityWeightFairshare or another weight",
        )
    for name in ("PriorityWeightFairshare", "PriorityWeightAssoc", "PriorityWeightQOS", "AccountingStorageEnforce"):
        if name in given and any(key.name == name for key in (*weighed, *_ENFORCE)) and not settings["assoc_file"]:
            at = given[name]
            findings.add(
                at.file,
                at.line,
                Severity.WARNING,
                name,
                f"{name} has no effect without AssocFile",
                hint="set AssocFile",
            )


def _planning(resolved: Resolved) -> None:
    """What no plan can be made with: no nodes, no partition, a window shorter than its steps."""
    settings, given, findings = resolved.settings, resolved.given, resolved.findings
    cluster = given.get("ClusterName")  # otherwise it is not meant to be a whole configuration
    file = cluster.file if cluster is not None else ""
    if cluster is not None and not resolved.nodes.lines and not findings.fatal:
        findings.add(
            file, 0, Severity.WARNING, "NodeName", "there are no nodes: no job can run", hint="add a NodeName line"
        )
    if cluster is not None and not resolved.partitions.given:
        findings.add(
            file,
            0,
            Severity.WARNING,
            "PartitionName",
            "there is no partition: every job is refused",
            hint="add a line such as: PartitionName=main Nodes=ALL Default=YES",
        )
    words = {name.lower(): text for name, text in settings["scheduler_parameters"].items()}
    window, step = words.get("bf_window", ""), words.get("bf_resolution", "")
    if window.isdigit() and step.isdigit() and 60 * int(window) < int(step):
        at = given["SchedulerParameters"]
        findings.error(
            at.file,
            at.line,
            "SchedulerParameters",
            f"bf_window={window} (minutes) is shorter than bf_resolution={step} (seconds): no start could be foreseen",
            hint=f"set bf_window to {-(-int(step) // 60)} or more, or a smaller bf_resolution",
        )


_ENFORCE = tuple(key for key in SETTINGS if key.name == "AccountingStorageEnforce")


def _finish(resolved: Resolved) -> None:
    """Checks that need everything."""
    settings, given, findings = resolved.settings, resolved.given, resolved.findings
    for one, other in _EXCLUDING:
        if one in given and other in given:
            later = max(given[one], given[other], key=lambda entry: entry.line)
            findings.error(
                later.file, later.line, one, f"{one} and {other} exclude each other", hint="give one of them"
            )
    if settings["enforce_part_limits"] == "YES":
        settings["enforce_part_limits"] = "ALL"
    if resolved.scheduler["max_script_size"] and "MaxScriptSize" not in given:
        settings["max_script_bytes"] = resolved.scheduler["max_script_size"]
    settings.setdefault("may_claim_more", False)
    if settings["topology_plugin"] in FLAT:
        settings["topology_plugin"] = "topology/flat"
    for key in ("Licenses", "BlockSizes"):
        if key in given:
            _checked(findings, given[key], key, settings)
    resolved.topology.finish(resolved.nodes, settings["topology_plugin"], given.get("TopologyPlugin"))
    resolved.partitions.finish(resolved.nodes)
    _preemption(resolved)
    _priorities(resolved)
    _planning(resolved)
    for name in resolved.nodes.down:
        if name not in resolved.nodes.known:
            findings.error(
                "", 0, "DownNodes", f"DownNodes names node '{one_line(name)}', which no NodeName line describes"
            )
            break


def _checked(findings: Findings, entry: Entry, key: str, settings: dict[str, Any]) -> None:
    """Lists whose items have a form of their own."""
    try:
        if key == "Licenses":
            parse_configured(settings["licenses"])
        elif not all(text.isdigit() and 0 < int(text) < 1 << 20 for text in settings["block_sizes"]):
            raise UsageError(f"BlockSizes={','.join(settings['block_sizes'])}: not whole numbers", hint="BlockSizes=18")
    except UsageError as error:
        findings.error(entry.file, entry.line, key, error.msg, hint=error.hint)
