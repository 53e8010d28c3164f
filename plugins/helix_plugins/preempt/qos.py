"""`preempt/qos`: jobs take the place of those whose QOS theirs lists in Preempt.

sacctmgr(1), Preempt and PreemptMode of a QOS.  A QOS that lists itself, or has PreemptMode=WITHIN, lets its jobs make
room for its own jobs of a higher priority.
"""

from __future__ import annotations

from helix.sched.preempt import Contender, PreemptRules, Terms


class QosPreemption:
    """The plugin.  Stateless."""

    enabled = True

    def may_preempt(self, preemptor: Contender, victim: Contender, rules: PreemptRules) -> bool:
        """True if the QOS lists the other's, or within one QOS for a higher priority."""
        if not preemptor.qos or not victim.qos:
            return False
        if preemptor.qos != victim.qos:
            return victim.qos in preemptor.qos_preempts
        within = victim.qos in preemptor.qos_preempts or "WITHIN" in (victim.qos_modes or rules.modes)
        return within and preemptor.priority > victim.priority

    def terms(self, job: Contender) -> Terms:
        """The QOS's; jobs of a QOS of lower priority make room first."""
        return Terms(modes=job.qos_modes, grace_s=job.qos_grace_s, exempt_s=job.qos_exempt_s, level=job.qos_priority)
