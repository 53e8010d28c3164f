"""From a launch to a description for the forking shepherd: files, environment, limits.  About 150 us a job."""

from __future__ import annotations

import pwd
import time

from helix.model.job_state import LaunchFailure
from helix.wire.messages import Launch
from helixd.core import stepspec
from helixd.core.environment import Home, Place, base_environment, step_environment
from helixd.core.step import Step
from helixd.core.stepspec import StepSpec, encode_spec
from helixd.io.cgroups import Cgroups
from helixd.io.scripts import Blobs, Scripts

HOME_S = 600.0  #: how long an answer of the user database is used
HOMES_MAX = 4096


class LaunchRefused(Exception):
    """The step cannot be described; `failure` and the text go to the controller."""

    def __init__(self, failure: LaunchFailure, text: str) -> None:
        super().__init__(text)
        self.failure = failure
        self.text = text


class Launcher:
    """Settings that a change of the configuration replaces are public."""

    def __init__(self, blobs: Blobs, scripts: Scripts) -> None:
        self.place = Place("", "")
        self.cgroups = Cgroups()
        self.limit_memory = False
        self.affinity = False
        self.root_ok = True
        self.unkillable_s = 60
        self._blobs = blobs
        self._scripts = scripts
        self._homes: dict[int, tuple[float, Home]] = {}

    def home(self, uid: int, name: str) -> Home:
        """Directory and shell of a user; "/" and /bin/sh for a uid the user database does not have."""
        now = time.monotonic()
        known = self._homes.get(uid)
        if known is not None and now - known[0] < HOME_S:
            return known[1]
        try:
            entry = pwd.getpwuid(uid)
            home = Home(entry.pw_name, entry.pw_dir or "/", entry.pw_shell or "/bin/sh")
        except KeyError:
            home = Home(name)
        if len(self._homes) >= HOMES_MAX:
            self._homes.clear()
        self._homes[uid] = now, home
        return home

    def describe(self, step: Step, generation: int) -> bytes:
        """The bytes for the forking shepherd.  Raises LaunchRefused."""
        launch = step.launch
        assert launch is not None
        try:
            script = self._scripts.require(
                launch.uid, launch.gid, launch.script_hash, self._blobs.get(launch.script_hash)
            )
        except OSError as exc:
            raise LaunchRefused(LaunchFailure.SPOOL, f"cannot store the script: {exc.strerror}") from exc
        base = self._blobs.base(launch.env_hash)
        if base is None:
            raise LaunchRefused(LaunchFailure.BLOB, "the job's environment is not here")
        if step.user_env is not None:  # what the login shell sets, then what was exported at the submit
            base = base_environment(step.user_env + b"\0" + base.data)
        env, count = step_environment(launch, base, self.home(launch.uid, launch.user), self.place)
        groups = self.cgroups.of_step(step.job_id, step.attempt)
        signal = launch.signal
        spec = StepSpec(
            job_id=step.job_id,
            attempt=step.attempt,
            generation=generation,
            uid=launch.uid,
            gid=launch.gid,
            script=script,
            env=env,
            env_count=count,
            work_dir=launch.work_dir or "/",
            stdin=step.paths[0],
            stdout=step.paths[1],
            stderr=step.paths[2],
            args=launch.args,
            groups=launch.groups,
            cores=launch.cores if self.affinity or groups.cpuset else (),
            rlimits=launch.rlimits,
            flags=self._flags(launch),
            umask=launch.umask,
            mem_bytes=launch.mem_mib << 20 if self.limit_memory else 0,
            limit_s=launch.time_limit_s,
            kill_wait_s=launch.kill_wait_s,
            warn_signal=signal.signal if signal else 0,
            warn_before_s=signal.before_s if signal else 0,
            unkillable_s=self.unkillable_s,
            cgroup_unified=groups.unified,
            cgroup_memory=groups.memory,
            cgroup_cpuset=groups.cpuset,
        )
        try:
            return encode_spec(spec)
        except (ValueError, OverflowError, UnicodeEncodeError) as exc:
            raise LaunchRefused(LaunchFailure.EXEC, f"the job cannot be described: {exc}") from exc

    def _flags(self, launch: Launch) -> int:
        flags = stepspec.APPEND if launch.open_mode == "append" else 0
        if self.root_ok:
            flags |= stepspec.ROOT_OK
        if launch.signal is not None and launch.signal.batch_only:
            flags |= stepspec.WARN_BATCH
        if self.affinity:
            flags |= stepspec.AFFINITY
        return flags
