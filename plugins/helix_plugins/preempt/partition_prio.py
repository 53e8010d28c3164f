"""`preempt/partition_prio`: jobs of partitions with a higher PriorityTier take the place of those of a lower one.

slurm.conf(5), PreemptType.  With PreemptMode=WITHIN on a partition, its jobs also make room for its own jobs of a
higher priority.
"""

from __future__ import annotations

from helix.sched.preempt import Contender, PreemptRules, Terms


class PartitionPrio:
    """The plugin.  Stateless."""

    enabled = True

    def may_preempt(self, preemptor: Contender, victim: Contender, rules: PreemptRules) -> bool:
        """True for a higher tier, or within the partition for a higher priority."""
        if preemptor.tier != victim.tier:
            return preemptor.tier > victim.tier
        within = "WITHIN" in (victim.partition_modes or rules.modes)
        return within and preemptor.partition == victim.partition and preemptor.priority > victim.priority

    def terms(self, job: Contender) -> Terms:
        """The partition's; lower tiers make room first."""
        return Terms(modes=job.partition_modes, grace_s=job.partition_grace_s, level=job.tier)
