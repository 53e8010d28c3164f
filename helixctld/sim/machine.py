"""The simulated cluster: a real `State` and `Cycle`, from a `helix.conf` or from a number of processors.

A number of processors is one node of interchangeable CPUs, whose memory does not count.  A `helix.conf` gives its
nodes (all of them up, unless it says DOWN or DRAIN), partitions, plugins and SchedulerParameters; nothing is started
and nothing of the paths in it is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from helix.config.load import default_config, load_config
from helix.config.model import Config
from helix.errors import ConfigError, UsageError
from helix.model.node import NodeBase, NodeRecord
from helix.model.partition import PartitionRecord
from helix.plugin.families import PriorityPlugin, PriorityRecalculator
from helix.plugin.registry import load_plugin
from helix.sched.options import SchedOptions
from helixctld.core.state import State
from helixctld.io.account_config import accounts_of, priority_options, usage_policy
from helixctld.io.planning import sched_options
from helixctld.io.tables import node_records, partition_records, take_shared
from helixctld.schedule.cycle import Cycle
from helixctld.schedule.priorities import PriorityColumns
from helixctld.schedule.wiring import sources_of
from helixctld.sim.making_room import SimRoom, room_of_config
from helixctld.sim.policies import POLICIES

POOL = "pool"  #: name of the node and the partition of a number of processors
STARTS_MAX = 8192  #: in one pass; what is left over starts in the next, at the same second
HORIZON_S = 1 << 34  #: longer than any queue of a trace takes
MEMORY_LIMIT_S = 300  #: simulated seconds a finished job stays in the tables


@dataclass(slots=True)
class Machine:
    """What the engine drives."""

    state: State
    cycle: Cycle
    priority: PriorityPlugin
    cpus: int  # of all nodes that take jobs
    label: str
    by_node: bool  # requests keep their nodes and memory
    notes: tuple[str, ...] = ()
    #: interchangeable CPUs, and nothing is promised but to the first: a pass that can start nothing changes nothing
    is_hopeless_when_full: bool = False
    is_fifo: bool = False  # nobody overtakes
    room: SimRoom | None = None  # preemption and time slices, where the configuration has them


def machine_of_pool(processors: int, policy: str, timer: Callable[[], float]) -> Machine:
    """`processors` interchangeable CPUs, planned to the second and without a horizon."""
    if processors <= 0:
        raise UsageError(
            "the trace does not say how many processors its machine has",
            code="MACHINE_UNKNOWN",
            hint="describe the machine in a file and name it with --conf, or say --processors=N",
        )
    config = with_policy(default_config(), policy or "default")
    config.select_type_parameters = ("CR_CPU",)
    node = NodeRecord(name=POOL, cpus=processors, cores_per_socket=processors, real_memory_mib=1)
    partition = PartitionRecord(name=POOL, nodes=[POOL], is_default=True)
    machine = _assemble(config, [node], [partition], timer, exact=True)
    machine.label = f"{processors} processors"
    machine.is_fifo = config.scheduler_type in ("sched/fifo", "sched/builtin")
    machine.is_hopeless_when_full = machine.is_fifo or machine.cycle.options.bf_mode != "conservative"
    return machine


def machine_of_config(path: str | Path, policy: str, timer: Callable[[], float]) -> Machine:
    """The cluster that a `helix.conf` describes; `policy` ("" = its own) replaces how it schedules.

    Raises ConfigError, also for a cluster that can never start a job.
    """
    config = with_policy(load_config(path), policy)
    nodes, partitions = node_records(config), partition_records(config)
    if not nodes:
        raise ConfigError(f"{path}: no nodes: nothing can be planned", hint="add a NodeName line")
    if not partitions:
        raise ConfigError(f"{path}: no partitions: no job could be submitted", hint="add a PartitionName line")
    machine = _assemble(config, nodes, partitions, timer, exact=False)
    if machine.cpus == 0:
        raise ConfigError(
            f"{path}: every node is DOWN, FUTURE or drained: nothing can be planned", hint="change State= of a node"
        )
    machine.label, machine.by_node = str(path), True
    machine.notes = _doubts(config)
    return machine


def with_policy(config: Config, policy: str) -> Config:
    """The configuration with a policy of hsim's in place of its scheduler; unchanged for ""."""
    if not policy:
        return config
    chosen = POLICIES.get(policy)
    if chosen is None:
        raise UsageError(f"no policy '{policy[:60]}'", code="POLICY_UNKNOWN", hint=f"one of: {', '.join(POLICIES)}")
    config.scheduler_type = chosen.scheduler
    config.scheduler_parameters = {**config.scheduler_parameters, **chosen.parameters}
    return config


def _assemble(
    config: Config,
    nodes: list[NodeRecord],
    partitions: list[PartitionRecord],
    timer: Callable[[], float],
    *,
    exact: bool,
) -> Machine:
    state = State(config.cluster_name)
    for node in nodes:
        node.responding = True
        if node.base is NodeBase.UNKNOWN:
            node.base = NodeBase.UP
    state.set_nodes(nodes)
    state.set_partitions(partitions)
    take_shared(state, config)
    options = replace(sched_options(config), starts_max=STARTS_MAX)
    if exact:
        options = exact_options(options)
    state.set_accounts(accounts_of(config), usage_policy(config))
    cycle = Cycle(
        load_plugin("sched", config.scheduler_type, config.plugin_dir),
        load_plugin("select", config.select_type, config.plugin_dir),
        options,
        timer,
        sources=sources_of(state) if _has_more(state) else None,
    )
    priority = load_plugin("priority", config.priority_type, config.plugin_dir)
    if isinstance(priority, PriorityRecalculator):
        cycle.priorities = PriorityColumns(priority, priority_options(config))
    cpus = sum(n.cpus for n in nodes if n.base is NodeBase.UP and not n.drain and not n.fail)
    return Machine(state, cycle, priority, cpus, "", by_node=False, room=room_of_config(config, state, cycle))


def _has_more(state: State) -> bool:
    """True if something besides CPUs and memory is counted: limits, licences, devices, switches."""
    devices = any(node.gres for node in state.nodes.values())
    return state.accounts.is_configured or devices or bool(state.licences) or bool(state.topology.leaves)


def exact_options(options: SchedOptions) -> SchedOptions:
    """Planned to the second, without a horizon; the memory of a pool does not count."""
    return replace(options, bf_resolution_s=1, bf_window_s=HORIZON_S)


def _doubts(config: Config) -> tuple[str, ...]:
    """What a configuration says that makes a run mean little."""
    weights = [getattr(config, name) for name in Config.__struct_fields__ if name.startswith("priority_weight")]
    if config.priority_type.endswith("multifactor") and weights and not any(map(bool, weights)):
        return ("every PriorityWeight is 0: all jobs have the same priority and start in the order of their submit",)
    return ()
