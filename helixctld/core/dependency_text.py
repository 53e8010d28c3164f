"""The grammar of `--dependency`: `afterok:12:13,afterany:14_3` (all) or `afterok:12?afterok:13` (any)."""

from __future__ import annotations

from helix.errors import UsageError
from helix.model.job import Dependency, DependencyExpr

KINDS = ("after", "afterok", "afterany", "afternotok", "aftercorr")
TEXT_MAX = 64 << 10
EDGES_MAX = 1024
_FORM = "the form is afterok:12:13,afterany:14_3,singleton or, for any one of them, afterok:12?afterok:13"


def parse_dependency(text: str) -> DependencyExpr:
    """Read an expression; raises UsageError (DEPENDENCY_INVALID) naming the part that cannot be read."""
    if len(text) > TEXT_MAX:
        raise UsageError(f"the dependency is longer than {TEXT_MAX} characters", code="DEPENDENCY_INVALID")
    if "?" in text and "," in text:
        raise UsageError("a dependency uses ',' or '?', not both", code="DEPENDENCY_INVALID", hint=_FORM)
    edges: list[Dependency] = []
    for part in text.split("?" if "?" in text else ","):
        edges.extend(_parse_part(part.strip()))
        if len(edges) > EDGES_MAX:
            raise UsageError(f"more than {EDGES_MAX} dependencies", code="DEPENDENCY_TOO_MANY")
    return DependencyExpr(edges=tuple(edges), any="?" in text)


def _parse_part(part: str) -> list[Dependency]:
    kind, _, rest = part.partition(":")
    kind = kind.lower()
    if kind == "singleton" and not rest:
        return [Dependency("singleton")]
    if kind not in KINDS:
        raise UsageError(f"'{part[:60]}' is not a dependency", code="DEPENDENCY_INVALID", hint=_FORM)
    if not rest:
        raise UsageError(f"'{part[:60]}' names no job", code="DEPENDENCY_INVALID", hint=_FORM)
    return [_parse_edge(kind, item, part) for item in rest.split(":")]


def _parse_edge(kind: str, item: str, part: str) -> Dependency:
    ids, plus, minutes = item.partition("+")
    job, under, task = ids.partition("_")
    delay_s = 0
    if plus:
        if kind != "after" or not _is_number(minutes, 7):
            raise UsageError(f"'{item[:40]}' in '{part[:60]}': +minutes goes with after", code="DEPENDENCY_INVALID")
        delay_s = int(minutes) * 60
    if not _is_number(job, 18) or not int(job):
        raise UsageError(f"'{item[:40]}' in '{part[:60]}' is not a job id", code="DEPENDENCY_INVALID", hint=_FORM)
    if under and task not in ("*",) and not _is_number(task, 9):
        raise UsageError(f"'{item[:40]}' in '{part[:60]}' is not an array task", code="DEPENDENCY_INVALID", hint=_FORM)
    return Dependency(kind, int(job), int(task) if under and task != "*" else None, delay_s)


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits
