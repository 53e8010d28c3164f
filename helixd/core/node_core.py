"""The node daemon's mind: which steps there are, what is done for each message and each report.

Pure: every method takes what happened and the time and returns actions (`helixd.core.actions`).  Invariants: a step is
recorded (Append) before it is spawned; (job id, attempt) is spawned at most once, however often its launch arrives, for
as long as its credential is valid; an end is repeated until it is acknowledged; of one job at most one attempt has
processes.  Costs O(1) a message, but for the rare scans of `tick`.

At most once after a loss of power needs no sync before a spawn: when the boot id has changed, credentials issued before
this boot's first registration are refused (both times are the controller's clock).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from helix.errors import Denied, UsageError
from helix.model.job_state import LaunchFailure
from helix.wire import messages as msg
from helixd.core import steplog, stepspec
from helixd.core.actions import (
    Action,
    Append,
    CleanUp,
    Control,
    DropGeneration,
    FetchUserEnv,
    ReadLog,
    Send,
    Spawn,
    SyncLog,
    Watch,
)
from helixd.core.failures import describe_failure
from helixd.core.filenames import Names, stdio_paths
from helixd.core.reports import ended_message, failed_message, lost_text
from helixd.core.step import Phase, Step
from helixd.core.steplog import Attempt, Kind

STEPS_MAX = 20_000  #: live and unacknowledged steps
TOMBSTONES_MAX = 100_000
BLOB_WAIT_S = 60.0
BLOB_ASK_S = 5.0
GRACE_S = 2.0  #: for a shepherd that was forked when its parent died to say that it lives
ENV_WAIT_S = 20.0
RESEND_S = 10.0
RESEND_MAX_S = 60.0
ORDERS_MAX = 64
KILL_WAIT_MAX_S = 86400 * 30  #: GraceTime may be that long


class NodeCore:
    """One node's steps."""

    def __init__(
        self,
        node: str,
        boot_id: str,
        *,
        has_blob: Callable[[str], bool],
        script_head: Callable[[str], bytes],
        strerror: Callable[[int], str],
        script_path: Callable[[int, str], str],
    ) -> None:
        self.node = node
        self.boot_id = boot_id
        self.spool_id = ""
        self.epoch = 0
        self.valid_from = -1.0  #: credentials issued before are refused; -1 = set by the next registration
        self.registered = False
        self.generation = 1
        self.steps: dict[tuple[int, int], Step] = {}
        self.counters = {"launches": 0, "repeats": 0, "refused": 0, "started": 0, "ended": 0, "lost": 0}
        self.unwell = ""  #: what is wrong with the node, for heartbeats; "" = well
        self.unwell_pid = 0  #: the process that cannot be killed; when it is gone the node is well again
        self._attempts: dict[int, int] = {}  # job id -> newest attempt among steps and tombstones
        self._tombs: OrderedDict[tuple[int, int], float] = OrderedDict()  # -> when the credential expires
        self._waiting: dict[str, set[tuple[int, int]]] = {}  # blob hash -> steps held for it
        self._due: dict[tuple[int, int], Step] = {}  # exactly the steps with t_due set
        self._unacked: dict[tuple[int, int], float] = {}  # when it was last sent
        self._in_generation: dict[int, int] = {}
        self._t_asked = 0.0
        self._t_resend = 0.0
        self._resend_s = RESEND_S
        self._has_blob = has_blob
        self._script_head = script_head
        self._script_path = script_path
        self._strerror = strerror

    # ---- membership -------------------------------------------------------------------------------------------

    def registration(self) -> tuple[list[msg.StepKnown], list[msg.StepEnded]]:
        """What goes with a Register: all steps known, and the ends not acknowledged."""
        known = [
            msg.StepKnown(
                job_id=step.job_id,
                attempt=step.attempt,
                node=self.node,
                running=step.phase is not Phase.ENDED,
                pid=step.main_pid,
            )
            for step in self.steps.values()
        ]
        return known, [step.ended for step in self.steps.values() if step.ended is not None]

    def on_registered(self, message: msg.Registered, now: float) -> list[Action]:
        """We are a member.  Raises Denied (EPOCH_STALE) for a controller that another one has replaced."""
        if message.epoch < self.epoch:
            raise Denied(
                f"a controller of epoch {message.epoch}; epoch {self.epoch} has begun",
                code="EPOCH_STALE",
                hint="stop the old helixctld",
            )
        self.registered = True
        if self.valid_from < 0:
            self.valid_from = message.t_now
        self._t_asked = 0.0
        self._resend_s = RESEND_S
        self._t_resend = now + RESEND_S
        actions: list[Action] = []
        if message.epoch > self.epoch:
            self.epoch = message.epoch
            actions.append(Append(self.host_record()))
        if self._waiting:
            actions.append(self._ask_blobs(now))
        return actions

    def host_record(self) -> bytes:
        """The HOST record of the present state."""
        return steplog.encode(Kind.HOST, 0, 0, steplog.Host(self.boot_id, self.epoch, self.spool_id))

    # ---- launching --------------------------------------------------------------------------------------------

    def on_credential(self, credential: msg.Credential, now: float) -> list[Action]:
        """The launches of a verified credential.  Raises Denied (CREDENTIAL_STALE) for one from before a reboot."""
        if not self.registered or credential.t_issued < self.valid_from:
            raise Denied("a credential from before this node registered", code="CREDENTIAL_STALE")
        actions: list[Action] = []
        for launch in credential.launches:
            self._launch(launch, credential.t_expires, now, actions)
        return actions

    def _launch(self, launch: msg.Launch, t_expires: float, now: float, actions: list[Action]) -> None:
        key = launch.job_id, launch.attempt
        self.counters["launches"] += 1
        if key in self.steps or key in self._tombs:
            self._repeat(key, actions)
            return
        newest = self._attempts.get(launch.job_id, -1)
        if launch.attempt < newest:
            self.counters["refused"] += 1
            return
        refusal = self._refusal(launch)
        paths = ("", "", "")
        if not refusal:
            try:
                paths = stdio_paths(launch.stdin, launch.stdout, launch.stderr, launch.work_dir, _names(launch))
            except UsageError as error:
                refusal = (LaunchFailure.STDIO, error.msg)
        info = Attempt(
            launch.node,
            now,
            t_expires,
            launch.uid,
            self._script_path(launch.uid, launch.script_hash),
            paths[1],
            paths[2],
        )
        step = Step(launch.job_id, launch.attempt, info, launch)
        step.paths = paths
        self._attempts[launch.job_id] = launch.attempt
        self.steps[key] = step
        self._count(step, self.generation)
        if refusal:
            self._fail(step, *refusal, now, actions)
            return
        self._hold(step, newest, now, actions)
        if not step.waits_for and step.phase is Phase.HELD:
            self._start(step, actions)

    def _refusal(self, launch: msg.Launch) -> tuple[LaunchFailure, str] | None:
        if launch.node != self.node:
            return LaunchFailure.CREDENTIAL, f"a launch for node '{launch.node}' came to '{self.node}'"
        if len(self.steps) >= STEPS_MAX:
            return LaunchFailure.SPAWN, f"the node has {STEPS_MAX} steps already"
        if not launch.script_hash:
            return LaunchFailure.BLOB, "the job has no script"
        return None

    def _hold(self, step: Step, older: int, now: float, actions: list[Action]) -> None:
        """Note what the step must wait for."""
        launch = step.launch
        assert launch is not None
        for blob in {launch.script_hash, launch.env_hash}:
            if blob and not self._has_blob(blob):
                step.waits_for.add(blob)
                fresh = blob not in self._waiting
                self._waiting.setdefault(blob, set()).add(step.key)
                if fresh:
                    actions.append(Send(msg.BlobWanted([blob])))
                    self._t_asked = now
        before = self.steps.get((step.job_id, older))
        if before is not None and self._is_beside_another(step):
            step.waits_for.add("attempt")
        if launch.get_user_env:
            step.waits_for.add("env")
            actions.append(FetchUserEnv(step))
        if step.waits_for:
            self._set_due(step, now + BLOB_WAIT_S)
        if before is not None and before.phase is not Phase.ENDED:  # one that is held ends at once, and may free `step`
            self._order(before, stepspec.control_value(stepspec.OP_TERMINATE, 0), now, actions)

    def _is_beside_another(self, step: Step) -> bool:
        """True if another attempt of the step's job has not ended."""
        return any(
            other.job_id == step.job_id and other is not step and other.phase is not Phase.ENDED
            for other in self.steps.values()
        )

    def _start(self, step: Step, actions: list[Action]) -> None:
        step.phase = Phase.SENT
        self._set_due(step, 0.0)
        self._count(step, self.generation)
        actions.append(Append(steplog.encode(Kind.ATTEMPT, step.job_id, step.attempt, step.info)))
        actions.append(Spawn(step))

    def _ready(self, step: Step, what: str, actions: list[Action]) -> None:
        step.waits_for.discard(what)
        if not step.waits_for and step.phase is Phase.HELD:
            self._start(step, actions)

    def on_blob(self, blob: str) -> list[Action]:
        """A script or environment has arrived."""
        actions: list[Action] = []
        for key in self._waiting.pop(blob, set()):
            step = self.steps.get(key)
            if step is not None:
                self._ready(step, blob, actions)
        return actions

    def user_env(self, key: tuple[int, int], env: bytes | None, why: str, now: float) -> list[Action]:
        """The answer to FetchUserEnv; None and the reason if it could not be had."""
        actions: list[Action] = []
        step = self.steps.get(key)
        if step is not None and step.phase is Phase.HELD:
            if env is None:
                self._fail(step, LaunchFailure.EXEC, f"--get-user-env: {why}", now, actions)
            else:
                step.user_env = env
                self._ready(step, "env", actions)
        return actions

    def spawn_failed(self, step: Step, failure: LaunchFailure, text: str, now: float) -> list[Action]:
        """The step could not be recorded or described; nothing of it runs."""
        actions: list[Action] = []
        if step.phase in (Phase.HELD, Phase.SENT):
            self._fail(step, failure, text, now, actions)
        return actions

    def _repeat(self, key: tuple[int, int], actions: list[Action]) -> None:
        """Answer a repeated launch with what is known."""
        self.counters["repeats"] += 1
        step = self.steps.get(key)
        if step is None:  # its end is durable at the controller: the launch is an old message, or a replay
            return
        if step.ended is not None:
            actions.append(Send(step.ended))
        elif step.main_pid and step.t_start:
            actions.append(Send(step.started()))

    # ---- orders -----------------------------------------------------------------------------------------------

    def on_order(
        self, order: msg.SignalStep | msg.TerminateStep | msg.SuspendStep | msg.SetTimeLimit, now: float
    ) -> list[Action]:
        """An order for one step."""
        actions: list[Action] = []
        key = order.job_id, order.attempt
        step = self.steps.get(key)
        if step is None:
            if isinstance(order, msg.TerminateStep):
                gone = msg.StepEnded(job_id=order.job_id, attempt=order.attempt, node=order.node, unknown=True)
                actions.append(Send(gone))
        elif step.ended is not None:
            if isinstance(order, msg.TerminateStep):
                actions.append(Send(step.ended))
        else:
            self._order(step, _control(order), now, actions)
        return actions

    def _order(self, step: Step, value: int, now: float, actions: list[Action]) -> None:
        if step.phase is Phase.HELD:
            if value >> 56 == stepspec.OP_TERMINATE:
                self._end(step, ended_message(step, None, now, LaunchFailure.NONE, "", terminated=True), actions)
            elif value >> 56 == stepspec.OP_SET_LIMIT and step.launch is not None:
                step.launch.time_limit_s = value & 0xFFFFFFFF
        elif step.phase is Phase.SENT:
            if len(step.orders) < ORDERS_MAX:
                step.orders.append(value)
        elif step.phase is Phase.ALIVE:
            actions.append(Control(step.shepherd_pid, step.shepherd_start, value))

    def on_log_read(self, request: msg.LogRead) -> list[Action]:
        """Bytes of an output file are wanted.  Without a path, those of the step's standard output."""
        step = self.steps.get((request.job_id, request.attempt))
        running = step is not None and step.phase is not Phase.ENDED
        path = request.path or (step.info.stdout if step is not None else "")
        return [ReadLog(request, running, path)]

    # ---- reports ----------------------------------------------------------------------------------------------

    def on_records(self, records: list[steplog.Record], now: float) -> list[Action]:
        """What shepherds appended."""
        actions: list[Action] = []
        for record in records:
            step = self.steps.get((record.job_id, record.attempt))
            if step is None or step.phase is Phase.ENDED:
                continue
            body = record.body
            if isinstance(body, steplog.Started):
                self._born(step, record.kind, body, actions)
            elif isinstance(body, steplog.Ended):
                self._ended(step, body, now, actions)
            elif isinstance(body, steplog.Lost):
                step.work_text = lost_text(body.status)
                self._lost(step, actions)
        return actions

    def _born(self, step: Step, kind: Kind, body: steplog.Started, actions: list[Action]) -> None:
        fresh = step.phase < Phase.ALIVE
        step.phase = max(step.phase, Phase.ALIVE)
        step.shepherd_pid, step.shepherd_start = body.shepherd_pid, body.shepherd_start
        step.main_pid = body.main_pid
        self._set_due(step, 0.0)
        if kind is Kind.STARTED and not step.t_start:
            step.t_start = body.t_start
            self.counters["started"] += 1
            actions.append(Send(step.started()))
        if fresh:
            actions.extend(Control(step.shepherd_pid, step.shepherd_start, value) for value in step.orders)
            step.orders.clear()

    def _ended(self, step: Step, body: steplog.Ended, now: float, actions: list[Action]) -> None:
        failure, text = LaunchFailure.NONE, ""
        if body.stage:
            head = self._script_head(step.info.script) if body.stage == steplog.Stage.EXEC else b""
            failure, text = describe_failure(body, head, self._strerror)
        elif body.flags & steplog.ENDED_UNKILLABLE:
            text = f"{body.text} cannot be killed"
            words = body.text.split(" ", 2)
            self.set_unwell(step.job_id, text, int(words[1]) if len(words) > 1 and words[1].isdigit() else 0)
        self._end(step, ended_message(step, body, now, failure, text), actions)
        actions.append(SyncLog())

    def set_unwell(self, job_id: int, text: str, pid: int) -> None:
        """Something of a job is left that cannot be killed: tell it with every heartbeat until it is gone."""
        self.unwell, self.unwell_pid = f"job {job_id}: {text}", pid

    def _lost(self, step: Step, actions: list[Action]) -> None:
        if step.phase < Phase.LOST:
            step.phase = Phase.LOST
            self._set_due(step, 0.0)
            self.counters["lost"] += 1
            actions.append(CleanUp(step))

    def cleaned(self, step: Step, now: float, *, found: bool = False) -> list[Action]:
        """Nothing is left of a lost step.  `found`: some process of it had to be ended."""
        actions: list[Action] = []
        if step.phase is Phase.LOST:
            never = step.never_ran and not found
            failure = LaunchFailure.NOT_STARTED if never else LaunchFailure.SHEPHERD_LOST
            self._fail(step, failure, step.work_text or lost_text(-1), now, actions)
        return actions

    def shepherd_gone(self, step: Step) -> list[Action]:
        """A watched shepherd ended.  Call after reading the log: the end, if there is one, was written before."""
        actions: list[Action] = []
        if step.phase < Phase.LOST:
            self._lost(step, actions)
        return actions

    def server_gone(self, now: float) -> list[Action]:
        """The process that forks shepherds died: its shepherds live on, but must be watched now."""
        actions: list[Action] = []
        for step in self.steps.values():
            if step.phase is Phase.SENT:
                self._set_due(step, now + GRACE_S)
            elif step.phase is Phase.ALIVE:
                actions.append(Watch(step))
        return actions

    def _fail(self, step: Step, failure: LaunchFailure, text: str, now: float, actions: list[Action]) -> None:
        self._end(step, failed_message(step, failure, text, now), actions)

    def _end(self, step: Step, ended: msg.StepEnded, actions: list[Action]) -> None:
        step.phase = Phase.ENDED
        step.ended = ended
        step.launch = None
        self._set_due(step, 0.0)
        for blob in step.waits_for:
            self._waiting.get(blob, set()).discard(step.key)
        self.counters["ended"] += 1
        if not self._unacked:
            self._resend_s = RESEND_S
            self._t_resend = ended.t_end + RESEND_S
        self._unacked[step.key] = ended.t_end
        actions.append(Send(ended))
        newest = self.steps.get((step.job_id, self._attempts.get(step.job_id, -1)))
        if newest is not None and newest is not step and not self._is_beside_another(newest):
            self._ready(newest, "attempt", actions)

    def on_ack(self, message: msg.AckEnded, now: float) -> list[Action]:
        """Ends that are durable at the controller."""
        data: list[bytes] = []
        emptied: set[int] = set()
        for job_id, attempt in message.ended:
            step = self.steps.get((job_id, attempt))
            if step is None or step.phase is not Phase.ENDED:
                continue
            del self.steps[step.key]
            self._unacked.pop(step.key, None)
            self._bury(step.key, step.info.t_expires, now)
            data.append(steplog.encode(Kind.FORGOTTEN, job_id, attempt, steplog.Forgotten(step.info.t_expires)))
            emptied.add(step.generation)
            self._in_generation[step.generation] -= 1
        actions: list[Action] = []
        if data:
            actions.append(Append(b"".join(data)))
        actions.extend(self._drop(emptied))
        return actions

    def _bury(self, key: tuple[int, int], t_expires: float, now: float) -> None:
        self._tombs[key] = t_expires
        while self._tombs:
            oldest = next(iter(self._tombs))
            if self._tombs[oldest] > now and len(self._tombs) <= TOMBSTONES_MAX:
                break
            del self._tombs[oldest]
            if self._attempts.get(oldest[0]) == oldest[1] and oldest not in self.steps:
                del self._attempts[oldest[0]]

    # ---- generations of the log -------------------------------------------------------------------------------

    def _count(self, step: Step, generation: int) -> None:
        if step.generation:
            self._in_generation[step.generation] -= 1
        step.generation = generation
        self._in_generation[generation] = self._in_generation.get(generation, 0) + 1

    def _drop(self, candidates: set[int]) -> list[Action]:
        done = [g for g in candidates if g != self.generation and not self._in_generation.get(g, 0)]
        for generation in done:
            self._in_generation.pop(generation, None)
        return [DropGeneration(generation) for generation in sorted(done)]

    def new_generation(self, generation: int, now: float) -> tuple[bytes, list[Action]]:
        """Records that a new generation begins with, and which old ones are empty."""
        before, self.generation = self.generation, generation
        tombs = [
            steplog.encode(Kind.FORGOTTEN, key[0], key[1], steplog.Forgotten(t_expires))
            for key, t_expires in self._tombs.items()
            if t_expires > now
        ]
        return self.host_record() + b"".join(tombs), self._drop({before, *self._in_generation})

    # ---- restart ----------------------------------------------------------------------------------------------

    def load(self, logs: dict[int, list[steplog.Record]], now: float) -> list[Action]:
        """Take up what the logs say (generation -> records); call once, before anything else."""
        host: steplog.Host | None = None
        actions: list[Action] = []
        for generation in sorted(logs):
            self.generation = max(self.generation, generation)
            for record in logs[generation]:
                if isinstance(record.body, steplog.Host):
                    host = record.body
                    self.epoch, self.spool_id = max(self.epoch, host.epoch), host.spool_id or self.spool_id
                else:
                    self._recall(record, generation, now)
        rebooted = host is None or host.boot_id != self.boot_id
        self.valid_from = -1.0 if rebooted else 0.0
        for step in list(self.steps.values()):
            if step.phase is Phase.ENDED:
                continue
            if rebooted:
                self._fail(step, LaunchFailure.REBOOT, "the node was restarted while the job was there", now, actions)
            elif step.phase is Phase.SENT:
                self._set_due(step, now + GRACE_S)
            else:
                actions.append(Watch(step))
        actions.extend(self._drop(set(logs)))
        return [action for action in actions if not isinstance(action, Send)]  # they go with the registration

    def _recall(self, record: steplog.Record, generation: int, now: float) -> None:
        key = record.job_id, record.attempt
        body = record.body
        if isinstance(body, steplog.Forgotten):
            step = self.steps.pop(key, None)
            if step is not None:
                self._in_generation[step.generation] -= 1
                self._unacked.pop(key, None)
            if body.t_expires > now:
                self._attempts[record.job_id] = max(record.attempt, self._attempts.get(record.job_id, -1))
                self._bury(key, body.t_expires, now)
            elif self._attempts.get(record.job_id) == record.attempt:
                del self._attempts[record.job_id]
        elif isinstance(body, Attempt):
            if key not in self.steps and key not in self._tombs:
                step = self.steps[key] = Step(record.job_id, record.attempt, body)
                step.phase = Phase.SENT
                self._attempts[record.job_id] = max(record.attempt, self._attempts.get(record.job_id, -1))
                self._count(step, generation)
        else:
            self.on_records([record], now)
            step = self.steps.get(key)
            if step is not None and step.phase is Phase.LOST:
                self.cleaned(step, now)

    # ---- time -------------------------------------------------------------------------------------------------

    def _set_due(self, step: Step, t_due: float) -> None:
        if step.t_due != t_due:
            step.t_due = t_due
            if t_due:
                self._due[step.key] = step
            else:
                self._due.pop(step.key, None)

    def next_tick(self) -> float:
        """When `tick` has something to do; 0 = not before something happens."""
        times = [step.t_due for step in self._due.values()]
        if self._unacked and self.registered:
            times.append(self._t_resend)
        if self._waiting and self.registered:
            times.append(self._t_asked + BLOB_ASK_S)
        return min(times, default=0.0)

    def tick(self, now: float) -> list[Action]:
        """Give up on what was waited for too long; repeat what was not answered."""
        actions: list[Action] = []
        for step in [s for s in self._due.values() if s.t_due <= now]:
            if step.phase is Phase.HELD:
                missing = ", ".join(sorted(step.waits_for))
                self._fail(step, LaunchFailure.BLOB, f"waited {BLOB_WAIT_S:.0f} s in vain for {missing}", now, actions)
            elif step.phase is Phase.SENT:
                step.work_text = "helixd was restarted before the script ran"
                step.never_ran = True
                self._lost(step, actions)
        self._waiting = {blob: keys for blob, keys in self._waiting.items() if keys}
        if not self.registered:
            return actions
        if self._waiting and self._t_asked + BLOB_ASK_S <= now:
            actions.append(self._ask_blobs(now))
        if self._unacked and self._t_resend <= now:
            for key, t_sent in self._unacked.items():
                ended = self.steps[key].ended
                if ended is not None and t_sent + RESEND_S <= now:
                    self._unacked[key] = now
                    actions.append(Send(ended))
            self._resend_s = min(self._resend_s * 2, RESEND_MAX_S)
            self._t_resend = now + self._resend_s
        return actions

    def _ask_blobs(self, now: float) -> Action:
        self._t_asked = now
        return Send(msg.BlobWanted(sorted(self._waiting)[:64]))


def _names(launch: msg.Launch) -> Names:
    return Names(launch.job_id, launch.name, launch.user, launch.node, launch.array_job_id, launch.array_task_id)


def _control(order: msg.SignalStep | msg.TerminateStep | msg.SuspendStep | msg.SetTimeLimit) -> int:
    """The order as the value of a control signal."""
    if isinstance(order, msg.SignalStep):
        scope = stepspec.SCOPES.get(order.scope, stepspec.SCOPES["all"])
        return stepspec.control_value(stepspec.OP_SIGNAL, (order.signal & 0xFF) | scope << 8)
    if isinstance(order, msg.TerminateStep):
        wait_s = max(0, min(order.kill_wait_s, KILL_WAIT_MAX_S))
        return stepspec.control_value(stepspec.OP_TERMINATE, wait_s | (order.signal & 0xFF) << 32)
    if isinstance(order, msg.SuspendStep):
        if order.resume:
            return stepspec.control_value(stepspec.OP_RESUME)
        return stepspec.control_value(stepspec.OP_SUSPEND, max(0, min(order.grace_s, 86400)))
    return stepspec.control_value(stepspec.OP_SET_LIMIT, max(0, min(order.time_limit_s, 0xFFFFFFFF)))
