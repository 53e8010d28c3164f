"""Nodes that run nothing: every launch starts at once and ends after the time its script declares.

So that one process can stand for 10,000 nodes with 100,000 running jobs.  Pure.  A heap of ends; an end that moved (a
new limit, a suspension, a termination) leaves its old heap entry behind, which is recognised and skipped.  Costs
O(log jobs) a job; one timer.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable

from helix.errors import Denied
from helix.model.job import ExitInfo
from helix.wire import messages as msg
from helixd.core.actions import Action, Send

RUNTIME_DEFAULT_S = 1.0
RUNTIME_MAX_S = 10 * 366 * 86400.0
RESEND_S = 10.0
SLACK_S = 0.02  #: ends due within this time are reported together
RUNTIMES_MAX = 100_000
_DECLARED = re.compile(rb"HELIX_EMULATE_RUNTIME=[\"']?(\d{1,9}(?:\.\d{1,6})?)")
_KILLING = frozenset({1, 2, 9, 15})


def declared_runtime_s(script: bytes) -> float:
    """What `HELIX_EMULATE_RUNTIME=seconds` in a script says; RUNTIME_DEFAULT_S without it."""
    found = _DECLARED.search(script)
    return min(float(found[1]), RUNTIME_MAX_S) if found else RUNTIME_DEFAULT_S


class _Job:
    """A step that pretends to run.  `t_end` 0 = suspended, with `left_s` to go."""

    __slots__ = ("ended", "left_s", "limit_s", "node", "runtime_s", "stdout", "suspended_s", "t_end", "t_start")

    def __init__(self, node: str, t_start: float, runtime_s: float, limit_s: int, stdout: str) -> None:
        self.node = node
        self.t_start = t_start
        self.runtime_s = runtime_s
        self.limit_s = limit_s
        self.stdout = stdout
        self.t_end = 0.0
        self.left_s = 0.0
        self.suspended_s = 0.0
        self.ended: msg.StepEnded | None = None


class EmulatedCore:
    """The steps of many emulated nodes."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.nodes = frozenset(nodes)
        self.epoch = 0
        self.unwell = ""
        self.registered = False
        self.jobs: dict[tuple[int, int], _Job] = {}
        self._heap: list[tuple[float, int, int]] = []
        self._runtimes: dict[str, float] = {}  # script hash -> seconds
        self._held: dict[str, list[msg.Launch]] = {}
        self._unacked: dict[tuple[int, int], float] = {}
        self._t_resend = 0.0

    def registration(self) -> tuple[list[msg.StepKnown], list[msg.StepEnded]]:
        """All steps, and the ends not acknowledged."""
        known = [
            msg.StepKnown(job_id=key[0], attempt=key[1], node=job.node, running=job.ended is None)
            for key, job in self.jobs.items()
        ]
        return known, [job.ended for job in self.jobs.values() if job.ended is not None]

    def on_registered(self, message: msg.Registered, now: float) -> list[Action]:
        """We are members.  Raises Denied (EPOCH_STALE)."""
        if message.epoch < self.epoch:
            raise Denied(f"a controller of epoch {message.epoch}; {self.epoch} has begun", code="EPOCH_STALE")
        self.epoch = message.epoch
        self.registered = True
        self._t_resend = now + RESEND_S
        return [Send(msg.BlobWanted(sorted(self._held)[:64]))] if self._held else []

    def on_credential(self, credential: msg.Credential, now: float) -> list[Action]:
        """Launches."""
        actions: list[Action] = []
        for launch in credential.launches:
            job = self.jobs.get((launch.job_id, launch.attempt))
            if job is not None:
                actions.append(Send(job.ended or self._started(launch.job_id, launch.attempt, job)))
            elif launch.node in self.nodes:
                self._launch(launch, now, actions)
        return actions

    def _launch(self, launch: msg.Launch, now: float, actions: list[Action]) -> None:
        runtime = launch.runtime_emulated_s
        if runtime < 0:
            declared = self._runtimes.get(launch.script_hash)
            if declared is None:
                held = self._held.setdefault(launch.script_hash, [])
                if not held:
                    actions.append(Send(msg.BlobWanted([launch.script_hash])))
                held.append(launch)
                return
            runtime = declared
        key = launch.job_id, launch.attempt
        job = self.jobs[key] = _Job(launch.node, now, runtime, launch.time_limit_s, f"{launch.work_dir}/emulated.out")
        self._schedule(key, job)
        actions.append(Send(self._started(*key, job)))

    @staticmethod
    def _started(job_id: int, attempt: int, job: _Job) -> msg.StepStarted:
        return msg.StepStarted(job_id=job_id, attempt=attempt, node=job.node, t_start=job.t_start, stdout=job.stdout)

    def _schedule(self, key: tuple[int, int], job: _Job) -> None:
        runtime = min(job.runtime_s, job.limit_s) if job.limit_s else job.runtime_s
        job.t_end = job.t_start + job.suspended_s + runtime
        heapq.heappush(self._heap, (job.t_end, *key))

    def on_blob(self, name: str, data: bytes, now: float) -> list[Action]:
        """A script: only its declared run time is kept."""
        if len(self._runtimes) >= RUNTIMES_MAX:
            self._runtimes.clear()
        self._runtimes[name] = declared_runtime_s(data)
        actions: list[Action] = []
        for launch in self._held.pop(name, ()):
            self._launch(launch, now, actions)
        return actions

    def on_order(
        self, order: msg.SignalStep | msg.TerminateStep | msg.SuspendStep | msg.SetTimeLimit, now: float
    ) -> list[Action]:
        """Orders act at once; nobody ignores SIGTERM here."""
        key = order.job_id, order.attempt
        job = self.jobs.get(key)
        actions: list[Action] = []
        if job is None:
            self._unhold(key)
            if isinstance(order, msg.TerminateStep):
                actions.append(Send(msg.StepEnded(job_id=key[0], attempt=key[1], node=order.node, unknown=True)))
        elif job.ended is not None:
            if isinstance(order, msg.TerminateStep):
                actions.append(Send(job.ended))
        elif isinstance(order, msg.TerminateStep):
            self._end(key, job, now, actions, signal=15 if order.kill_wait_s else 9)
        elif isinstance(order, msg.SignalStep):
            if order.signal in _KILLING:
                self._end(key, job, now, actions, signal=order.signal)
        elif isinstance(order, msg.SetTimeLimit):
            job.limit_s = order.time_limit_s
            if job.t_end:
                self._schedule(key, job)
        elif order.resume and not job.t_end:
            job.suspended_s += now - job.left_s
            self._schedule(key, job)
        elif not order.resume and job.t_end:
            job.t_end, job.left_s = 0.0, now  # when it was stopped
        return actions

    def _unhold(self, key: tuple[int, int]) -> None:
        for name, held in list(self._held.items()):
            self._held[name] = [launch for launch in held if (launch.job_id, launch.attempt) != key]
            if not self._held[name]:
                del self._held[name]

    def _end(
        self,
        key: tuple[int, int],
        job: _Job,
        t: float,
        actions: list[Action],
        *,
        signal: int = 0,
        timed_out: bool = False,
    ) -> None:
        job.ended = msg.StepEnded(
            job_id=key[0],
            attempt=key[1],
            node=job.node,
            exit=ExitInfo(signal=signal),
            timed_out=timed_out,
            t_start=job.t_start,
            t_end=t,
            stdout=job.stdout,
        )
        self._unacked[key] = t
        actions.append(Send(job.ended))

    def on_ack(self, message: msg.AckEnded, now: float) -> list[Action]:
        """Forget."""
        for job_id, attempt in message.ended:
            job = self.jobs.get((job_id, attempt))
            if job is not None and job.ended is not None:
                del self.jobs[job_id, attempt]
                self._unacked.pop((job_id, attempt), None)
        return []

    def on_log_read(self, request: msg.LogRead) -> list[Action]:
        """There is no output."""
        return [Send(msg.LogData(req=request.req, error="emulated nodes have no output"))]

    def next_tick(self) -> float:
        """When `tick` has something to do; 0 = nothing waits."""
        times = [self._heap[0][0]] if self._heap else []
        if self._unacked and self.registered:
            times.append(self._t_resend)
        return min(times, default=0.0)

    def tick(self, now: float) -> list[Action]:
        """End what is due, repeat what was not acknowledged."""
        actions: list[Action] = []
        while self._heap and self._heap[0][0] <= now + SLACK_S:
            t_end, job_id, attempt = heapq.heappop(self._heap)
            job = self.jobs.get((job_id, attempt))
            if job is None or job.ended is not None or job.t_end != t_end:
                continue
            self._end(
                (job_id, attempt),
                job,
                t_end,
                actions,
                signal=15 if job.limit_s and job.limit_s < job.runtime_s else 0,
                timed_out=bool(job.limit_s and job.limit_s < job.runtime_s),
            )
        if self._unacked and self.registered and self._t_resend <= now:
            self._t_resend = now + RESEND_S
            for key, t_sent in self._unacked.items():
                ended = self.jobs[key].ended
                if ended is not None and t_sent + RESEND_S <= now:
                    self._unacked[key] = now
                    actions.append(Send(ended))
        return actions
