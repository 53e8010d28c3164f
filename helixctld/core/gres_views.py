"""GRES of jobs and nodes as texts for people, in Slurm's forms: `gpu:a100:2(IDX:0-1)`, `gres/gpu=2`."""

from __future__ import annotations

from collections.abc import Mapping

from helix.gres import count_of, indexes_of, layout_of, parse_gpus, units_of
from helix.model.job import JobRecord, JobSpec
from helix.model.node import NodeRecord
from helixctld.core.gres_use import used_units
from helixctld.core.state import State


def with_indexes(given: Mapping[str, str]) -> str:
    """`gpu:a100:2(IDX:0-1),nvme:1(IDX:0)`."""
    return ",".join(f"{kind}:{count_of(indexes)}(IDX:{indexes})" for kind, indexes in sorted(given.items()))


def per_node(spec: JobSpec) -> str:
    """What is asked on each node, as TresPerNode and squeue's %b show it; "" = nothing."""
    items = [f"gres/{item}" for item in spec.gres.split(",") if item]
    return ",".join([*items, *_gpus(spec.gpus_per_node)])


def per_job(spec: JobSpec) -> str:
    """TresPerJob: `--gpus`."""
    return ",".join(_gpus(spec.gpus))


def per_task(spec: JobSpec) -> str:
    """TresPerTask: `--gpus-per-task`."""
    return ",".join(_gpus(spec.gpus_per_task))


def _gpus(text: str) -> list[str]:
    return [f"gres/{name}:{kind + ':' if kind else ''}{units}" for name, kind, units in parse_gpus(text)]


def given_units(job: JobRecord) -> dict[str, int]:
    """Units by kind that the job has on all its nodes."""
    found: dict[str, int] = {}
    for given in job.alloc.gres if job.alloc is not None else ():
        items = ((kind.partition(":")[0], kind.partition(":")[2], count_of(devices)) for kind, devices in given.items())
        for kind, units in units_of(items).items():
            found[kind] = found.get(kind, 0) + units
    return found


def as_tres(units: Mapping[str, int]) -> str:
    """`gres/gpu=2,gres/gpu:a100=2`; "" for nothing."""
    return ",".join(f"gres/{kind}={count}" for kind, count in sorted(units.items()) if count)


def node_used(state: State, node: NodeRecord) -> str:
    """GresUsed: `gpu:a100:2(IDX:0-1)`, types that nobody uses with `(IDX:N/A)`."""
    if not node.gres:
        return ""
    free = state.gres.free(node)
    texts = []
    for name, parts in layout_of(node.gres).names.items():
        used = layout_of(node.gres).full(name) & ~free.get(name, 0)
        for kind, first, size in parts:
            mine = used & ((1 << size) - 1) << first
            texts.append(f"{kind}:{mine.bit_count()}(IDX:{indexes_of(mine) or 'N/A'})")
    return ",".join(texts)


def node_units(state: State, node: NodeRecord) -> tuple[dict[str, int], dict[str, int]]:
    """Units by kind: configured, in use."""
    units = layout_of(node.gres).units if node.gres else {}
    return units, used_units(node, state.gres.free_units(node))
