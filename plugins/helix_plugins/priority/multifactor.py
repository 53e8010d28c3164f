"""`priority/multifactor`: age, fair-share, size, partition, QOS, association and TRES, each with its weight.

The arithmetic is in `helix.sched.priority`; the controller keeps the columns and asks for all of them every
PriorityCalcPeriod, and for new and changed jobs before each pass.
"""

from __future__ import annotations

from helix.model.job import JobSpec
from helix.sched.priority import PRIORITY_MAX, Priorities, PriorityOptions, PriorityScale, PriorityTable, priorities

UNRANKED = 1  #: a job's priority until the factors were looked at, before the next pass


class Multifactor:
    """The plugin.  Stateless."""

    def initial_priority(self, job_id: int, spec: JobSpec, *, held: bool = False) -> int:
        """0 if held or set to 0; what an operator set; else the least, for the moment."""
        if held or spec.priority == 0:
            return 0
        if spec.priority is not None:
            return min(max(1, spec.priority), PRIORITY_MAX)
        return UNRANKED

    def prioritise(self, table: PriorityTable, scale: PriorityScale, options: PriorityOptions) -> Priorities:
        """All rows at once."""
        return priorities(table, scale, options)
