"""What a job asks of licences.  Pure."""

from __future__ import annotations

from helix.licences import parse_licences
from helix.model.hetjob import specs_of
from helix.model.job import JobSpec


def licences_of(spec: JobSpec) -> tuple[tuple[str, int], ...]:
    """(Name, count) by name; of a heterogeneous job what its components ask together.  Raises UsageError."""
    if not spec.components:
        return parse_licences(spec.licenses) if spec.licenses else ()
    return parse_licences(",".join(part.licenses for part in specs_of(spec)))
