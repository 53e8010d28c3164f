"""A planner that fails, or whose plan makes no sense, costs a pass; the next one starts the jobs."""

from __future__ import annotations

PLANNER = '''
from dataclasses import replace

from helix_plugins.sched.fifo import Fifo


class Broken(Fifo):
    """Its first two plans that start something are of no use."""

    plans = 0

    def plan(self, snapshot, options, now, rng):
        plan = super().plan(snapshot, options, now, rng)
        if not len(plan.start_job):
            return plan
        Broken.plans += 1
        if Broken.plans == 1:
            return replace(plan, ptr=plan.ptr[:0])
        if Broken.plans == 2:
            raise RuntimeError("no plan today")
        return plan


plugin = Broken
'''


def test_jobs_start_after_plans_that_are_of_no_use(helix_cluster_factory, tmp_path):
    place = tmp_path / "plugins" / "sched"
    place.mkdir(parents=True)
    (place / "broken.py").write_text(PLANNER)
    cluster = helix_cluster_factory(
        nodes=1, cpus=1, conf_extra=f"PluginDir={place.parent}\nSchedulerType=sched/broken\n"
    )
    cluster.run("hsubmit", "--wait", "-o", "/dev/null", "--wrap", "true", cwd=tmp_path)
    logs = cluster.logs()
    assert "a plan could not be committed" in logs
    assert "no plan today" in logs
