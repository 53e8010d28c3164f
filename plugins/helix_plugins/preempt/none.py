"""`preempt/none`: nobody makes room."""

from __future__ import annotations

from helix.sched.preempt import Contender, PreemptRules, Terms


class NoPreemption:
    """The plugin.  Stateless."""

    enabled = False

    def may_preempt(self, preemptor: Contender, victim: Contender, rules: PreemptRules) -> bool:
        """Never."""
        return False

    def terms(self, job: Contender) -> Terms:
        """Those of a cluster without preemption."""
        return Terms(modes=("OFF",))
