"""helixd of one machine: wires core, steps log, forking shepherd, link and agent socket together.

`perform` is the only place where actions become effects: all records of a turn are appended in one write before
anything is spawned, all messages leave in one batch.  A turn with many reports costs one read of the steps log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

from helix.errors import HelixError
from helix.logs import set_level
from helix.model.job_state import LaunchFailure
from helix.wire import messages as msg
from helix.wire.auth import load_or_create_identity
from helixd import probe
from helixd.core import actions as act
from helixd.core.environment import Place, cookie
from helixd.core.node_core import NodeCore
from helixd.core.step import Step
from helixd.io import processes
from helixd.io.as_user import AsUser
from helixd.io.cgroups import find_cgroups, remove_groups, remove_parents
from helixd.io.children import Children
from helixd.io.forker import Forker
from helixd.io.launcher import Launcher, LaunchRefused
from helixd.io.options import Options
from helixd.io.scripts import Blobs, Scripts
from helixd.io.session import Session
from helixd.io.step_files import StepFiles

log = logging.getLogger("helixd.daemon")

READ_PAUSE_S = 0.008  #: while reports come thick, those of so much time are read at once
SYNC_AFTER_S = 0.5  #: ends of one half second are made durable together, unless acknowledged before
CLEAN_S = 30.0  #: for the processes of a lost step to go


class NodeDaemon:
    """Made on the loop's thread, by `helixd.main`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._t_start = time.time()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._t_timer = 0.0
        self._sync_timer: asyncio.TimerHandle | None = None
        self._t_read = 0.0
        self._watched: dict[int, Step] = {}  # pidfd -> step of a shepherd that is no grandchild of ours
        self._config_applied: tuple[object, ...] = ()
        self._tmp_fs = "/tmp"  # noqa: S108 - TmpFS, replaced by the configuration
        self.blobs = Blobs()
        self.scripts = Scripts(options.spool)
        self.files = StepFiles(options.spool)
        self.core = NodeCore(
            options.name,
            probe.boot_id(),
            has_blob=self.blobs.has,
            script_head=self.scripts.head,
            strerror=os.strerror,
            script_path=self.scripts.path_of,
        )
        self.children = Children()
        self.as_user = AsUser(self.children)
        self.launcher = Launcher(self.blobs, self.scripts)
        self.forker = Forker(self.children, options.spool, self._forker_gone)
        self.session = Session(
            name=options.name,
            controller=options.controller,
            controller_key=options.controller_key,
            keys=load_or_create_identity(os.path.join(options.spool, "keys"), signing=False).curve,
            join_token=options.join_token,
            fingerprint=lambda: probe.probe(self._tmp_fs, self._t_start),
            mind=self.core,
            perform=self.perform,
            on_blob=self._on_blob,
            on_config=self._on_config,
            before_beat=self._look_after_unkillable,
        )
        self._do: dict[type[Any], Any] = {
            act.Control: lambda a: processes.send_control(a.pid, a.start, a.value),
            act.Watch: lambda a: self._watch(a.step),
            act.CleanUp: lambda a: self._task(self._clean_up(a.step)),
            act.FetchUserEnv: lambda a: self._task(self._fetch_env(a.step)),
            act.ReadLog: lambda a: self._task(self._read_log(a)),
            act.DropGeneration: lambda a: self.files.drop(a.generation),
            act.SyncLog: lambda a: self._sync_soon(),
        }

    async def start(self) -> None:
        """Take up what the spool says, then connect.  Raises HelixError or OSError."""
        logs = self.files.open_all()
        actions = self.core.load(logs, time.time())
        if not self.core.spool_id:
            self.core.spool_id = os.urandom(8).hex()
        self.files.begin(self.core.generation, b"")
        self.files.append(self.core.host_record())
        log.info("steps known=%d generation=%d", len(self.core.steps), self.core.generation)
        self._place()
        self.forker.start()
        self._loop.add_reader(self.files.watch_fd, self._log_changed)
        self.perform(actions)
        await self.session.start(self._options.socket)

    async def stop(self) -> None:
        """Leave; steps go on without us."""
        await self.session.stop()
        for task in list(self._tasks):
            task.cancel()
        self.forker.close()
        self._loop.remove_reader(self.files.watch_fd)
        for fd in self._watched:
            self._loop.remove_reader(fd)
            os.close(fd)
        try:
            self.files.want_sync()
            self.files.sync()
        except OSError as exc:
            log.error("cannot sync the steps log: %s", exc.strerror)
        self.files.close()
        self.children.close()
        remove_parents(self._group_name())

    # ---- effects ----------------------------------------------------------------------------------------------

    def perform(self, actions: Sequence[act.Action]) -> None:
        """Carry out, records first."""
        if not actions:
            self._plan_tick()
            return
        records = b"".join([a.data for a in actions if type(a) is act.Append])
        refusal = self._append(records) if records else ""
        outgoing: list[Any] = []
        more: list[act.Action] = []
        for action in actions:
            kind = type(action)
            if kind is act.Send:
                outgoing.append(action.message)  # type: ignore[union-attr]
            elif kind is act.Spawn:
                more += self._spawn(action.step, refusal)  # type: ignore[union-attr]
            elif kind is not act.Append:
                self._do[kind](action)
        if outgoing:
            self.session.send(outgoing)
        if more:
            self.perform(more)
        else:
            self._plan_tick()

    def _append(self, records: bytes) -> str:
        """Why nothing may be spawned; "" if all is recorded."""
        try:
            self.files.append(records)
            if self.files.is_full:
                first, actions = self.core.new_generation(self.core.generation + 1, time.time())
                self.files.begin(self.core.generation, first)
                self.perform(actions)
        except OSError as exc:
            log.error("cannot record in %s: %s", self._options.spool, exc.strerror)
            return f"cannot record the launch in {self._options.spool}: {exc.strerror}"
        return ""

    def _spawn(self, step: Step, refusal: str) -> list[act.Action]:
        failure, text = LaunchFailure.SPOOL, refusal
        if not refusal:
            try:
                if self.forker.send(self.launcher.describe(step, self.files.generation)):
                    return []
                failure, text = LaunchFailure.SPAWN, "the forking shepherd is not there or overloaded"
            except LaunchRefused as exc:
                failure, text = exc.failure, exc.text
        return self.core.spawn_failed(step, failure, text, time.time())

    def _plan_tick(self) -> None:
        due = self.core.next_tick()
        if due and (self._timer is None or due < self._t_timer - 0.01):
            if self._timer is not None:
                self._timer.cancel()
            self._t_timer = due
            self._timer = self._loop.call_later(max(0.05, due - time.time()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.perform(self.core.tick(time.time()))

    def _task(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task failed", exc_info=error)

    # ---- reports of shepherds ---------------------------------------------------------------------------------

    def _log_changed(self) -> None:
        now = self._loop.time()
        if now - self._t_read < READ_PAUSE_S:  # under load: let a few more come
            self._loop.remove_reader(self.files.watch_fd)
            self._loop.call_later(READ_PAUSE_S, self._log_read_again)
            return
        self._read_reports()

    def _log_read_again(self) -> None:
        self._loop.add_reader(self.files.watch_fd, self._log_changed)
        self._read_reports()

    def _read_reports(self) -> None:
        try:
            records = self.files.changed()
        except OSError as exc:
            log.error("cannot read the steps log: %s", exc.strerror)
            return
        self._t_read = self._loop.time()
        if records:
            self.perform(self.core.on_records(records, time.time()))

    def _sync_soon(self) -> None:
        self.files.want_sync()
        if self._sync_timer is None:
            self._sync_timer = self._loop.call_later(SYNC_AFTER_S, self._sync)

    def _sync(self) -> None:
        self._sync_timer = None
        try:
            self.files.sync()
        except OSError as exc:
            log.error("cannot sync the steps log: %s", exc.strerror)

    def _forker_gone(self) -> None:
        self._read_reports()
        self.perform(self.core.server_gone(time.time()))

    def _watch(self, step: Step) -> None:
        fd = processes.open_process(step.shepherd_pid, step.shepherd_start)
        if fd < 0:
            self._loop.call_soon(self._shepherd_gone, step)
            return
        self._watched[fd] = step
        self._loop.add_reader(fd, self._watched_ended, fd)

    def _watched_ended(self, fd: int) -> None:
        self._loop.remove_reader(fd)
        os.close(fd)
        self._shepherd_gone(self._watched.pop(fd))

    def _shepherd_gone(self, step: Step) -> None:
        self._read_reports()  # its end, if it told one, was written before it went
        self.perform(self.core.shepherd_gone(step))

    async def _clean_up(self, step: Step) -> None:
        mark = cookie(step.job_id, step.attempt, self.core.spool_id)
        remove_groups(self._group_name(), step.job_id, step.attempt)
        give_up = self._loop.time() + CLEAN_S
        pause, found = 0.005, False
        while left := processes.left_of_step(mark, step.main_pid, step.info.uid):
            if self._loop.time() > give_up:
                log.error("job %d: processes %s of a lost step cannot be killed", step.job_id, left[:10])
                self.core.set_unwell(step.job_id, f"process {left[0]} cannot be killed", left[0])
                break
            found = True
            processes.kill_processes(left)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
        remove_groups(self._group_name(), step.job_id, step.attempt)
        log.warning("job %d attempt %d: %s", step.job_id, step.attempt, step.work_text or "its shepherd is gone")
        self._read_reports()
        self.perform(self.core.cleaned(step, time.time(), found=found))

    def _look_after_unkillable(self) -> None:
        if self.core.unwell and not processes.start_ticks(self.core.unwell_pid):
            log.info("well again: %s is over", self.core.unwell)
            self.core.unwell = ""

    # ---- what the controller sent -----------------------------------------------------------------------------

    def _on_blob(self, message: msg.BlobData) -> None:
        if self.blobs.add(message.hash, message.data):
            self.perform(self.core.on_blob(message.hash))
        else:
            log.error("blob %s does not have the content that its name promises", message.hash[:64])

    def _on_config(self, text: str) -> None:
        from helix.config.load import parse_config

        config = parse_config(text, "the controller's configuration")
        set_level(self._options.log_level or config.helixd_debug)
        self._tmp_fs = config.tmp_fs
        self.launcher.unkillable_s = max(1, config.unkillable_step_timeout_s)
        self.launcher.root_ok = "disable_root_jobs" not in config.helixd_parameters
        self.launcher.affinity = "task/affinity" in config.task_plugin
        confine = "task/cgroup" in config.task_plugin
        wanted = (
            config.proctrack_type == "proctrack/cgroup",
            confine or bool(getattr(config, "constrain_ram_space", False)),
            confine or bool(getattr(config, "constrain_cores", False)),
        )
        if wanted != self._config_applied:
            self._config_applied = wanted
            self.launcher.limit_memory = wanted[1]
            self.launcher.cgroups = find_cgroups(
                self._group_name(), track=wanted[0], limit_memory=wanted[1], limit_cores=wanted[2]
            )
        self._place(config.cluster_name)

    def _group_name(self) -> str:
        """Name of this node's control groups: two clusters on one machine may both have an n1."""
        return f"{self._options.name}.{self.core.spool_id[:8]}"

    def _place(self, cluster: str = "") -> None:
        self.launcher.place = Place(cluster, self._options.socket, self._tmp_fs, self.core.spool_id)

    async def _read_log(self, action: act.ReadLog) -> None:
        self.session.send([await self.as_user.read_log(action.request, action.path, running=action.running)])

    async def _fetch_env(self, step: Step) -> None:
        launch = step.launch
        assert launch is not None
        env, why = None, ""
        try:
            home = self.launcher.home(launch.uid, launch.user)
            env = await self.as_user.login_environment(launch.uid, launch.gid, launch.groups, home)
        except TimeoutError:
            why = "the login shell did not end in time"
        except (OSError, HelixError) as exc:
            why = str(exc)
        self.perform(self.core.user_env(step.key, env, why, time.time()))
