"""When to plan, on which thread, and what becomes of a plan.

A pass may start as soon as something became schedulable or resources came free; the pace spaces passes by what the
last one cost.  Small passes run on the loop; larger ones plan on a planner thread (numba releases the GIL) between
`prepare` and `commit`, which run here.  Full passes over a long queue have a thread of their own beside the quick ones
(see `helixctld.schedule.cycle`).  The state may have changed meanwhile: `verify` re-checks capacity at commit.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import helix_native
from helix.config.model import Config
from helix.errors import HelixError
from helix.model.job import JobRecord, JobSpec
from helix.plugin.families import PriorityRecalculator
from helix.plugin.registry import load_plugin
from helix.sched.options import SchedOptions
from helix.sched.plan import Plan
from helix.sched.snapshot import Snapshot
from helix_native.warm import compile_apart, is_cached
from helixctld.core.reserved_ends import end_by_reservation
from helixctld.core.state import State
from helixctld.io.account_config import priority_options
from helixctld.io.beside import Questions
from helixctld.io.commit import Committer
from helixctld.io.making_room import MakingRoom
from helixctld.schedule.admission import Who
from helixctld.schedule.claims import start_with_claim
from helixctld.schedule.cycle import Counters, Cycle, NewReason
from helixctld.schedule.expected import start_by_clock
from helixctld.schedule.feasible import Feasibility
from helixctld.schedule.outlook import Expectation
from helixctld.schedule.priorities import PriorityColumns
from helixctld.schedule.starts import start_events
from helixctld.schedule.why import why
from helixctld.schedule.wiring import sources_of

log = logging.getLogger("helixctld.sched")

SLICE_S = 0.004  #: how long what is left to do before a pass may hold the loop at a time
COLD_MAX_S = 5.0  #: a pass that would take longer without the fast kernels waits until they are loaded


def sched_options(config: Config) -> SchedOptions:
    """What the configuration says about scheduling."""
    options = SchedOptions(
        def_mem_per_cpu_mib=config.def_mem_per_cpu_mib,
        def_mem_per_node_mib=config.def_mem_per_node_mib,
        max_mem_per_cpu_mib=config.max_mem_per_cpu_mib,
        max_mem_per_node_mib=config.max_mem_per_node_mib,
        enforce_part_limits=config.enforce_part_limits,
        resv_over_run_s=None if config.resv_over_run_min is None else 60 * config.resv_over_run_min,
        def_cpu_per_gpu=config.def_cpu_per_gpu,
        def_mem_per_gpu_mib=config.def_mem_per_gpu_mib,
        has_topology=config.topology_plugin != "topology/flat",
        has_blocks=config.topology_plugin == "topology/block",
        keep_near=config.topology_plugin != "topology/flat"
        and "topooptional" not in {word.lower() for word in config.topology_param},
    )
    options = options.with_select(",".join(config.select_type_parameters))
    words = (f"{k}={v}" if v else k for k, v in config.scheduler_parameters.items())
    return options.with_parameters(",".join(words))


class Planning:
    """Drives the scheduling cycle."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: State,
        committer: Committer,
        config: Config,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ConfigError for a plugin that does not exist."""
        self.cycle = Cycle(
            load_plugin("sched", config.scheduler_type, config.plugin_dir),
            load_plugin("select", config.select_type, config.plugin_dir),
            sched_options(config),
            time.perf_counter,
            sources=sources_of(state),
        )
        self.feasibility = Feasibility(self.cycle.columns, self.cycle.outlook)
        self.questions = Questions(loop)
        self.room = MakingRoom(loop, state, committer, self.cycle, config, clock)
        self._kill_wait_s = config.kill_wait_s
        self.priority = load_plugin("priority", config.priority_type, config.plugin_dir)
        if isinstance(self.priority, PriorityRecalculator):
            self.cycle.priorities = PriorityColumns(self.priority, priority_options(config))
        self.reasons_version = 0
        self._loop = loop
        self._state = state
        self._committer = committer
        self._clock = clock
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="planner")
        self._ahead_pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._warming = ThreadPoolExecutor(1, thread_name_prefix="warming")
        self._compiling: list[subprocess.Popen[bytes]] = []  # the process that compiles, once there is one
        self._timer: asyncio.TimerHandle | None = None
        self._ahead_timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def warm_up(self, cache_dir: str) -> None:
        """Load (or compile) the kernels in a thread; until then the numpy reference plans, as far as it can."""
        cache = os.environ.setdefault("NUMBA_CACHE_DIR", cache_dir)
        self._warming.submit(self._warm_up_in_thread, Path(cache))

    def _warm_up_in_thread(self, cache: Path) -> None:
        started = time.perf_counter()
        try:
            if not is_cached(cache):
                log.info("compiling the kernels into %s, once; until then larger passes are slow", cache)
                compile_apart(cache, self._compile_started)
            if self._stopped:
                return
            helix_native.warm_up()
        except Exception:  # boundary: without the fast kernels the reference goes on planning
            log.exception("the fast kernels cannot be loaded; planning goes on without them")
            return
        log.info("kernels ready after %.1f s", time.perf_counter() - started)

    def _compile_started(self, process: subprocess.Popen[bytes]) -> None:
        self._compiling.append(process)
        if self._stopped:  # meanwhile: `stop` did not see it
            process.kill()

    @staticmethod
    def require_plugins(config: Config) -> None:
        """Raises ConfigError for a plugin that does not exist; those in use change with a restart only."""
        for family, value in (
            ("sched", config.scheduler_type),
            ("select", config.select_type),
            ("priority", config.priority_type),
            ("preempt", config.preempt_type),
        ):
            load_plugin(family, value, config.plugin_dir)

    def set_config(self, config: Config) -> None:
        """A live change of the configuration."""
        self.cycle.set_options(sched_options(config))
        self.room.set_config(config)
        self._kill_wait_s = config.kill_wait_s
        if self.cycle.priorities is not None:
            self.cycle.priorities.set_options(priority_options(config))
        self.wake()

    @property
    def recalculates(self) -> bool:
        """True if priorities change while jobs wait: new ones come with the next pass."""
        return self.cycle.priorities is not None

    def priorities_due_in(self, now: float) -> float:
        """Seconds until all priorities are to be made anew; infinity if nobody waits, or where they stay."""
        priorities = self.cycle.priorities
        if priorities is None or not self._state.schedulable:
            return float("inf")
        return priorities.due_in(self._state, now)

    def initial_priority(self, job_id: int, spec: JobSpec) -> int:
        """The priority plugin's word on a job."""
        return int(self.priority.initial_priority(job_id, spec, held=False))

    def require_possible(self, spec: JobSpec, partitions: list[str], who: Who) -> None:
        """Raises Never for a request of `who` that this cluster can never serve."""
        self.feasibility.check_possible(self._state, spec, partitions, who=who)

    async def test_only(self, uid: int, record: JobRecord, now: float) -> dict[str, Any]:
        """When it would start, and where; asked by user `uid`."""
        record.priority = self.initial_priority(self._state.next_job_id, record.spec)
        state, feasibility = self._state, self.feasibility
        return await self.questions.ask(uid, lambda beside: feasibility.test_only(state, record, now, beside))

    def expectation(self, job_id: int) -> Expectation | None:
        """What is foreseen for a waiting job: by the grace time of those that make room for it, by the last full pass,
        or by its begin time or that of its reservation."""
        found = start_with_claim(self._state, job_id, self._kill_wait_s) or self.cycle.expectation(job_id)
        return found if found is not None else start_by_clock(self._state, job_id)

    def end_by_reservation(self, job: JobRecord) -> float:
        """When the reservation a job runs in ends it, epoch seconds; infinity = not."""
        return end_by_reservation(self._state, job, self.cycle.options.resv_over_run_s)

    async def why(self, uid: int, job: JobRecord) -> dict[str, Any]:
        """Why a job waits; see `helixctld.schedule.why`.  Asked by user `uid`."""
        state, cycle = self._state, self.cycle
        return await self.questions.ask(
            uid, lambda beside: why(state, job, cycle.columns, self._clock(), cycle.outlook, beside)
        )

    @property
    def shown_version(self) -> int:
        """Rises when what listings show of waiting jobs has changed: a reason, or an expected start."""
        return self.reasons_version + self.cycle.outlook.version

    # ---- passes ------------------------------------------------------------------------------------------------

    def wake(self, *, submit: bool = False) -> None:
        """Something changed that may let a job start."""
        self.cycle.wake(submit=submit)
        self.poke()

    def poke(self) -> None:
        """Plan when the pace allows."""
        if self._stopped:
            return
        self._poke_ahead()
        if self.cycle.in_flight:
            return
        delay_s = self.cycle.due_in()
        if delay_s is None:
            return
        at = self._loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()  # armed for the periodic pass; something has happened since
        self._timer = self._loop.call_at(at, self._pass)

    def _poke_ahead(self) -> None:
        delay_s = self.cycle.ahead_due_in()
        if delay_s is None:
            return
        at = self._loop.time() + delay_s
        if self._ahead_timer is not None:
            if self._ahead_timer.when() <= at:
                return
            self._ahead_timer.cancel()
        self._ahead_timer = self._loop.call_at(at, self._pass_ahead)

    def _pass_ahead(self) -> None:
        """A full pass beside the quick ones."""
        self._ahead_timer = None
        due_in_s = self.cycle.ahead_due_in()
        if self._stopped or due_in_s is None or due_in_s > 0:
            self.poke()
            return
        if not self._caught_up():
            self._ahead_timer = self._loop.call_at(self._loop.time(), self._pass_ahead)
            return
        snapshot = self._prepared(self.cycle.prepare_ahead, self.cycle.abandon_ahead)
        if snapshot is None:
            return
        future = self._loop.run_in_executor(self._where(snapshot, self._ahead_pool), self.cycle.plan, snapshot)
        future.add_done_callback(self._planned_ahead)

    def _planned_ahead(self, future: asyncio.Future[Plan]) -> None:
        if self._stopped or future.cancelled():
            return
        try:
            reasons = self.cycle.commit_ahead(future.result(), self._state, self._clock())
        except Exception:  # boundary: a fault of a planner plugin, or a plan that makes no sense, costs a pass
            log.exception("the planner failed")
            self.cycle.abandon_ahead()
        else:
            log.debug("full pass reasons=%d ms=%.2f", len(reasons), self.cycle.counters.full_last_ms)
            self._show(reasons)
        self.poke()

    def _pass(self) -> None:
        self._timer = None
        if self._stopped or self.cycle.in_flight:
            return
        if not self.cycle.due():
            self.poke()
            return
        if not self._caught_up():
            self._timer = self._loop.call_at(self._loop.time(), self._pass)  # others on the loop come first
            return
        self.room.before_pass(self._clock())
        snapshot = self._prepared(self.cycle.prepare, self.cycle.abandon)
        if snapshot is None:
            return
        if self.cycle.is_small(snapshot):
            try:
                plan = self.cycle.plan(snapshot)
            except Exception:  # boundary: a fault of a planner plugin costs a pass, not the daemon
                log.exception("the planner failed")
                self.cycle.abandon()
                self.poke()
                return
            self._commit(plan)
            return
        future = self._loop.run_in_executor(self._where(snapshot, self._pool), self.cycle.plan, snapshot)
        future.add_done_callback(self._planned)

    def _caught_up(self) -> bool:
        """Do a slice of what a large change leaves to do; True if a pass may be prepared."""
        enough_at = time.perf_counter() + SLICE_S
        try:
            return self.cycle.catch_up(self._state, self._clock(), lambda: time.perf_counter() >= enough_at)
        except Exception:  # boundary: as in `_prepared`, which will say so
            log.exception("a change could not be taken in slices")
            return True

    def _prepared(self, prepare: Callable[[State, float], Snapshot], abandon: Callable[[], None]) -> Snapshot | None:
        """The snapshot of a pass; None if a plugin failed, which is then left out of the passes to come."""
        try:
            return prepare(self._state, self._clock())
        except Exception:  # boundary: a fault of a priority plugin costs the priorities, not the daemon
            log.exception("a pass could not be prepared; if priorities change, they stay as they are until a restart")
            self.cycle.priorities = None
            abandon()
            self.poke()
            return None

    def _where(self, snapshot: Snapshot, pool: ThreadPoolExecutor) -> ThreadPoolExecutor:
        """The thread for a pass: `pool`, but behind the loading of the kernels for one that is hopeless without."""
        cold = not helix_native.is_warm() and self.cycle.cost_s(snapshot) > COLD_MAX_S
        return self._warming if cold else pool

    def _planned(self, future: asyncio.Future[Plan]) -> None:
        if self._stopped or future.cancelled():
            return
        error = future.exception()
        if error is not None:  # boundary: as above
            log.error("the planner failed: %r", error, exc_info=error)
            self.cycle.abandon()
            self.poke()
            return
        self._commit(future.result())

    def _commit(self, plan: Plan) -> None:
        now = self._clock()
        try:
            accepted, reasons = self.cycle.commit(plan, self._state, now)
        except Exception:  # boundary: a plan that makes no sense costs a pass, not all that would follow
            log.exception("a plan could not be committed")
            self.cycle.abandon()
            self.poke()
            return
        log.debug("pass starts=%d reasons=%d ms=%.2f", len(accepted), len(reasons), self.cycle.counters.cycle_last_ms)
        if accepted:
            try:
                self._committer.commit(start_events(self._state, accepted, now))
            except HelixError as exc:  # the journal takes no more: the jobs wait, the next pass tries again
                log.warning("%d starts wait: %s", len(accepted), exc.msg)
                self._state.dirty_jobs.update(start.job_id for start in accepted)
        self._show(reasons)
        self.room.after_pass(now, self.wake)
        self.poke()

    def _show(self, reasons: list[NewReason]) -> None:
        """Reasons are derived, not journaled: the next pass finds them again."""
        for job_id, reason, text in reasons:
            job = self._state.jobs.get(job_id)
            if job is not None and job.is_waiting:
                job.reason, job.reason_text = reason, text
        if reasons:
            self.reasons_version += 1

    def counters(self) -> dict[str, float]:
        """For hdiag."""
        return {**asdict(self.cycle.counters), **self.room.counters()}

    def reset_counters(self) -> None:
        """`hdiag --reset`."""
        self.cycle.counters = Counters()

    def stop(self) -> None:
        """No more passes; one under way, or kernels that are being loaded, are left to the end of the process."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._ahead_timer is not None:
            self._ahead_timer.cancel()
        self.room.stop()
        self.questions.stop()
        self._ahead_pool.shutdown(wait=False, cancel_futures=True)
        self._warming.shutdown(wait=False, cancel_futures=True)
        for process in self._compiling:
            process.kill()
        self._pool.shutdown(wait=False, cancel_futures=True)
