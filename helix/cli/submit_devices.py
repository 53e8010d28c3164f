"""`--ntasks-per-gpu` and `--tres-per-task`, in terms of the options that a request has.  Source: sbatch(1)."""

from __future__ import annotations

from helix.cli.options import not_supported
from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def tres_per_task(text: str) -> tuple[int, str]:
    """CPUs (0 = not given) and GPUs ("" = none) of `cpu=4,gres/gpu:a100=1`.  Raises UsageError for other TRES."""
    from helix.cli.options import count

    cpus, gpus = 0, []
    for item in text.split(","):
        name, _, number = item.strip().replace("=", ":").rpartition(":")
        if name == "cpu":
            cpus = count(number)
        elif name == "gres/gpu" or name.startswith("gres/gpu:"):
            kind = name.partition(":")[2]
            gpus.append(f"{kind}:{count(number)}" if kind else str(count(number)))
        else:
            raise not_supported(f"--tres-per-task={item.strip()[:40]}")
    return cpus, ",".join(gpus)


def add_tasks(values: dict[str, Any], spec: dict[str, Any]) -> None:
    """Put what the two options say into the spec.  Raises UsageError where they contradict others."""
    if "tres_per_task" in values:
        cpus, gpus = values["tres_per_task"]
        for option, field, value in (
            ("--cpus-per-task", "cpus_per_task", cpus),
            ("--gpus-per-task", "gpus_per_task", gpus),
        ):
            if value and field in spec:
                raise UsageError(f"--tres-per-task and {option} say the same thing twice", code="OPTION_INVALID")
            if value:
                spec[field] = value
    if "ntasks_per_gpu" not in values:
        return
    if any(field in spec for field in ("tasks", "tasks_per_node", "gpus_per_task")):
        raise UsageError(
            "--ntasks-per-gpu derives the tasks from the GPUs",
            code="OPTION_INVALID",
            hint="leave out --ntasks, --ntasks-per-node and --gpus-per-task, or leave out --ntasks-per-gpu",
        )
    from helix.gres import parse_gpus, parse_gres

    each = values["ntasks_per_gpu"]
    items = [*parse_gres(spec.get("gres", "")), *parse_gpus(spec.get("gpus_per_node", ""))]
    on_node = sum(units for name, _, units in items if name == "gpu")
    in_all = sum(units for _, _, units in parse_gpus(spec.get("gpus", "")))
    if bool(on_node) == bool(in_all):
        raise UsageError("--ntasks-per-gpu needs the GPUs, of each node or of the whole job", code="OPTION_INVALID",
                         hint="add --gres=gpu:N, --gpus-per-node or --gpus")  # fmt: skip
    spec.update({"tasks_per_node": each * on_node} if on_node else {"tasks": each * in_all})
