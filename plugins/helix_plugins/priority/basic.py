"""`priority/basic`: first in, first out.  As Slurm's: a counter that falls with each submit, less the nice value."""

from __future__ import annotations

from helix.model.job import JobSpec

TOP = 4294901760  #: Slurm's first priority; it falls by one a job
PRIORITY_MAX = (1 << 32) - 2  #: largest an operator may set, as in Slurm


class Basic:
    """The plugin.  Stateless: the job id is the counter."""

    def initial_priority(self, job_id: int, spec: JobSpec, *, held: bool = False) -> int:
        """0 if held or set to 0; what an operator set; else TOP - job id - nice, at least 1.

        Ids beyond TOP all get 1: such jobs stay in order by submit time and id.
        """
        if held or spec.priority == 0:
            return 0
        if spec.priority is not None:
            return min(max(1, spec.priority), PRIORITY_MAX)
        return min(max(1, TOP - job_id - spec.nice), PRIORITY_MAX)
