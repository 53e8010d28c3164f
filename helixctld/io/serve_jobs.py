"""Handlers of the methods on jobs that answer once: submit, show, cancel, update, hold, requeue, why."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from helix.errors import Conflict, Denied, HelixError, LimitExceeded, NotFound, UsageError
from helix.model import events as ev
from helix.model.hetjob import component_records
from helix.model.job import JobRecord, JobSpec
from helix.model.partition import PartitionRecord
from helix.wire import methods as m
from helixctld.core import requests, update
from helixctld.core.caller import Caller, is_private_to, may_touch, require_owner
from helixctld.core.effects import Action
from helixctld.core.enrol import require_qos, settle_account
from helixctld.core.hetjob import settle_components
from helixctld.core.preempt import exempt_until
from helixctld.core.select_jobs import Target, parse_job_id, resolve, select
from helixctld.core.state import TOKEN_LIFE_S
from helixctld.core.submit import check_request, check_script, require_accounts
from helixctld.core.submit_limits import require_submit
from helixctld.core.views import job_dict
from helixctld.io.service import Call, Handler
from helixctld.schedule.admission import Who, who_of

if TYPE_CHECKING:
    from helixctld.io.daemon import Controller

IDS_MAX = 10_000  #: job ids in one request


class JobHandlers:
    """Bound to the controller; `table` is what the service dispatches by."""

    def __init__(self, ctl: Controller) -> None:
        self.ctl = ctl
        self.table: dict[str, Handler] = {
            "job.submit": self.submit,
            "job.token": self.token,
            "job.show": self.show,
            "job.script": self.script,
            "job.why": self.why,
            "job.cancel": self.cancel,
            "job.update": self.update,
            "job.hold": self.hold,
            "job.release": self.release,
            "job.requeue": self.requeue,
            "job.suspend": self.suspend,
            "job.resume": self.resume,
        }

    # ---- submit

    def submit(self, call: Call, args: m.SubmitArgs) -> Coroutine[Any, Any, None] | None:
        """Accept a job; the reply leaves when it is durable.  A known token gives the first id again."""
        ctl, spec = self.ctl, args.spec
        known = ctl.state.tokens.get(spec.token) if spec.token else None
        if known is not None and call.t - known[1] < TOKEN_LIFE_S:
            job_id = known[0]
            ctl.committer.commit((), after=lambda: call.reply({"job_id": job_id, "warnings": []}))
            return None
        owner = self._owner(call.caller, args)
        self._require_runnable(owner)
        spec.rlimits = self._propagated(spec.rlimits)
        blobs = self._blobs(args, call.caller)
        partitions = check_request(ctl.state, spec, call.caller, owner, call.t)
        assoc = settle_account(ctl.state, spec, owner.user, partitions)
        for partition in partitions:
            require_accounts(partition, spec.account)
            require_qos(partition, spec.qos)
        spec = settle_components(ctl.state, spec, owner)
        self._limits(spec)
        group = ctl.people.group_name(owner.gid)
        ctl.planning.require_possible(spec, [p.name for p in partitions], Who(owner.user, owner.uid, group))
        record = JobRecord(job_id=0, uid=owner.uid, gid=owner.gid, user=owner.user, group=group, spec=spec, assoc=assoc)
        record.partition = partitions[0].name
        require_submit(ctl.state, record)
        if args.test_only:
            return self._test(call, record)
        ctl.committer.require_room()
        job_id = ctl.state.next_job_id
        events: list[ev.Event] = []
        for name, data in blobs:
            ctl.blobs.put(data)
            events.append(ev.BlobStored(t=call.t, hash=name, data=data))
        events.append(
            ev.JobSubmitted(
                t=call.t,
                job_id=job_id,
                uid=owner.uid,
                gid=owner.gid,
                user=owner.user,
                group=group,
                spec=spec,
                priority=self._priority(job_id, spec),
                assoc=assoc,
            )
        )
        reply = {"job_id": job_id, "warnings": []}
        ctl.committer.commit(events, after=lambda: call.reply(reply))
        return None

    async def _test(self, call: Call, record: JobRecord) -> None:
        call.reply({"test": True, **await self.ctl.planning.test_only(call.caller.uid, record, call.t)})

    def _propagated(self, rlimits: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """The user's resource limits as far as PropagateResourceLimits(Except) lets them through."""
        conf = self.ctl.config
        if conf.propagate_resource_limits_except:
            barred = {name.upper() for name in conf.propagate_resource_limits_except}
            return {} if "ALL" in barred else {k: v for k, v in rlimits.items() if k.upper() not in barred}
        wanted = {name.upper() for name in conf.propagate_resource_limits}
        if "ALL" in wanted:
            return rlimits
        return {k: v for k, v in rlimits.items() if k.upper() in wanted}

    def _require_runnable(self, owner: Caller) -> None:
        """Refuse a job that no node could start: a helixd that is not root becomes nobody else."""
        runs_as = self.ctl.links.runs_as
        if runs_as and 0 not in runs_as and owner.uid not in runs_as:
            raise Denied(
                f"the nodes run unprivileged and start jobs of uid {', '.join(map(str, sorted(runs_as)))} only",
                code="CLUSTER_UNPRIVILEGED",
                hint="helixd has to run as root to start jobs of several users",
            )

    def _owner(self, caller: Caller, args: m.SubmitArgs) -> Caller:
        if not args.user and not args.group:
            return caller
        if caller.uid != 0:
            raise Denied("--uid and --gid are for root", code="UID_DENIED")
        person = self.ctl.people.require_user(args.user) if args.user else self.ctl.people.person(caller.uid)
        gid = self.ctl.people.require_group(args.group) if args.group else person.gid
        return self.ctl.people.caller(person.uid, gid)

    def _blobs(self, args: m.SubmitArgs, caller: Caller) -> list[tuple[str, bytes]]:
        """Hashes into the spec; the blobs that are new."""
        from helix.blobstore import blob_hash

        spec, journaled = args.spec, self.ctl.state.blobs
        new: list[tuple[str, bytes]] = []
        if args.script:
            check_script(args.script, self._script_max())
            data = args.script.encode("utf-8", "surrogateescape")
            spec.script_hash = blob_hash(data)
            if spec.script_hash not in journaled:
                new.append((spec.script_hash, data))
        elif spec.script_hash:
            self._require_own_script(spec.script_hash, caller)
        else:
            raise UsageError("a job needs a script", code="SCRIPT_INVALID", hint="name a file, or use --wrap")
        env = "\0".join(args.env).encode("utf-8", "surrogateescape")
        env_max = self.ctl.config.scheduler.max_submit_env_bytes
        if len(env) > env_max:
            raise LimitExceeded(
                f"the environment is {len(env)} bytes; max_submit_env is {env_max}",
                code="ENV_TOO_LARGE",
                hint="export less: --export=NONE or --export=NAME,NAME",
            )
        if any("=" not in item for item in args.env):
            raise UsageError("an environment entry without '='", code="BAD_ARGUMENT")
        spec.env_hash = blob_hash(env)
        if spec.env_hash not in journaled:
            new.append((spec.env_hash, env))
        return new

    def _script_max(self) -> int:
        config = self.ctl.config
        return config.scheduler.max_script_size or config.max_script_bytes

    def _require_own_script(self, name: str, caller: Caller) -> None:
        """A stored script may be named only by someone who has a job with it: scripts are private."""
        mine = any(j.spec.script_hash == name and is_private_to(caller, j) for j in self.ctl.state.jobs.values())
        if not mine or not self.ctl.blobs.has(name):
            raise NotFound("no stored script with that hash", code="SCRIPT_UNKNOWN")

    def _limits(self, spec: JobSpec) -> None:
        conf, state = self.ctl.config, self.ctl.state
        if len(state.jobs) >= conf.max_job_count:
            raise LimitExceeded(
                f"the controller holds {len(state.jobs)} jobs; MaxJobCount is {conf.max_job_count}",
                code="MAX_JOB_COUNT",
                hint="wait until jobs have ended",
            )
        if len(spec.submit_line) > conf.scheduler.max_submit_line_bytes:
            raise LimitExceeded(
                f"the command line is longer than max_submit_line_size ({conf.scheduler.max_submit_line_bytes})",
                code="FIELD_TOO_LONG",
            )
        if spec.array is not None and spec.array:
            tasks_max = conf.scheduler.max_array_tasks
            if tasks_max and len(spec.array) > tasks_max:
                raise LimitExceeded(
                    f"the array has {len(spec.array)} tasks; max_array_tasks is {tasks_max}", code="ARRAY_TOO_LARGE"
                )
            if spec.array.last >= conf.max_array_size:
                raise LimitExceeded(
                    f"array index {spec.array.last} is not below MaxArraySize ({conf.max_array_size})",
                    code="ARRAY_TOO_LARGE",
                )
        elif spec.array is not None:
            raise UsageError("the array has no tasks", code="ARRAY_INVALID")

    def _priority(self, job_id: int, spec: JobSpec) -> int:
        if spec.priority is not None:
            return spec.priority
        return self.ctl.planning.initial_priority(job_id, spec)

    def token(self, call: Call, args: m.JobTokenArgs) -> None:
        """The id an earlier submit was given, once durable."""
        known = self.ctl.state.tokens.get(args.token)
        job_id = known[0] if known is not None else 0
        self.ctl.committer.commit((), after=lambda: call.reply({"job_id": job_id}))

    # ---- looking

    def show(self, call: Call, args: m.JobIdsArgs) -> None:
        """Everything about some jobs (all, without ids)."""
        if args.ids:
            jobs = [t.job for text in _bounded(args.ids) for t in resolve(self.ctl.state, text)]
            jobs = list({j.job_id: j for j in jobs}.values())
            alone = len(jobs) > 1
            jobs = [j for j in jobs if not (alone and j.is_array and not j.pending)]
        else:
            jobs = list(select(self.ctl.state, m.JobFilter(states=["all"])))[:IDS_MAX]
        lookup = self.ctl.planning.expectation
        jobs = [part for job in jobs for part in component_records(job)]
        rows = [job_dict(j, call.t, lookup, self.ctl.planning.end_by_reservation) for j in jobs]
        for job, row in zip(jobs, rows, strict=True):
            if job.is_active:
                row["t_preemptable"] = exempt_until(self.ctl.state, job)
        call.reply({"jobs": rows})

    def script(self, call: Call, args: m.JobIdsArgs) -> None:
        """Batch scripts, for their owners."""
        scripts: dict[str, str] = {}
        for text in _bounded(args.ids):
            job = resolve(self.ctl.state, text)[0].job
            require_owner(call.caller, job)
            data = self.ctl.blobs.get(job.spec.script_hash)
            scripts[str(job.job_id)] = data.decode("utf-8", "surrogateescape")
        call.reply({"scripts": scripts})

    async def why(self, call: Call, args: m.JobIdsArgs) -> None:
        """Why jobs wait."""
        jobs = [resolve(self.ctl.state, text)[0].job for text in _bounded(args.ids)]
        call.reply({"jobs": [await self.ctl.planning.why(call.caller.uid, job) for job in jobs]})

    # ---- changing

    def cancel(self, call: Call, args: m.CancelArgs) -> None:
        """Cancel or signal.  Ids that do not exist are errors of their own; the rest goes on."""
        targets, errors = self._cancel_targets(args.filter, call.caller)
        if not 0 <= args.signal <= 64:
            raise UsageError(f"no signal {args.signal}", code="BAD_ARGUMENT")
        scope = "batch" if args.batch else "all" if args.full or not args.signal else "children"
        if args.signal == requests.SIGKILL and not args.batch:
            scope = "all"

        def one(target: Target) -> requests.Change:
            if args.signal and (args.signal != requests.SIGKILL or args.batch):
                return requests.signal(target, call.caller, args.signal, scope)
            return requests.cancel(self.ctl.state, target, call.caller, call.t, at_once=args.signal == requests.SIGKILL)

        done = self._change(targets, one, errors)
        result = {"matched": len(targets), "signalled": done, "errors": errors}
        self.ctl.committer.commit((), after=lambda: call.reply(result))

    def _cancel_targets(self, f: m.JobFilter, caller: Caller) -> tuple[list[Target], list[dict[str, Any]]]:
        errors: list[dict[str, Any]] = []
        only_ids = replace(f, ids=[]) == m.JobFilter()
        if f.ids and only_ids:
            targets = []
            for text in _bounded(f.ids):
                try:
                    targets.extend(resolve(self.ctl.state, text))
                except HelixError as exc:
                    errors.append(_error(text, exc))
            quiet = len(targets) > 1  # an array: its tasks that are over are no errors
            return [t for t in targets if not (quiet and t.job.is_terminal)], errors
        if only_ids:
            raise UsageError("no jobs named", code="NOTHING_NAMED", hint="give job ids or a filter such as --user")
        wanted = [parse_job_id(text) for text in _bounded(f.ids)]
        targets = [Target(job) for job in select(self.ctl.state, f) if may_touch(caller, job)]
        if wanted:
            keep = {t.job.job_id for text in f.ids for t in _resolve_quietly(self.ctl.state, text)}
            targets = [t for t in targets if t.job.job_id in keep]
        return targets, errors

    def update(self, call: Call, args: m.JobUpdateArgs) -> None:
        """`hctl update job`."""

        def one(target: Target) -> requests.Change:
            owner = self.ctl.people.caller(target.job.uid, target.job.gid)
            change = update.update_job(self.ctl.state, target, call.caller, owner, args.changes, call.t)
            self._recheck(target.job, change)
            return change

        self._on_ids(call, args.ids, one)

    def _recheck(self, job: JobRecord, change: requests.Change) -> None:
        """A changed request must still be possible."""
        for event in change.events:
            if isinstance(event, ev.JobUpdated) and job.is_waiting:
                names = event.spec.partitions or [self.ctl.state.default_partition]
                partitions = [self.ctl.state.partitions[n] for n in names if n in self.ctl.state.partitions]
                self.ctl.planning.require_possible(event.spec, [p.name for p in partitions], who_of(job))
                self._settle_again(job, event, partitions)
                moved = event.spec.nice != job.spec.nice and not self.ctl.planning.recalculates
                if event.priority is None and moved and job.spec.priority is None:
                    event.priority = self._priority(job.job_id, event.spec)

    def _settle_again(self, job: JobRecord, event: ev.JobUpdated, partitions: list[PartitionRecord]) -> None:
        """Another account, QOS or partition may mean another association, and they or no reservation may be refused."""
        spec, old = event.spec, job.spec
        if (spec.account, spec.qos, spec.partitions, spec.reservation) == (
            old.account, old.qos, old.partitions, old.reservation,
        ):  # fmt: skip
            return
        assoc = settle_account(self.ctl.state, spec, job.user, partitions)
        event.assoc = assoc if assoc != job.assoc else None
        for partition in partitions:
            require_accounts(partition, spec.account)
            require_qos(partition, spec.qos)

    def hold(self, call: Call, args: m.HoldArgs) -> None:
        """Hold jobs."""
        self._on_ids(call, args.ids, lambda t: requests.hold(t, call.caller, args.user, call.t))

    def release(self, call: Call, args: m.JobIdsArgs) -> None:
        """Release held jobs.  A priority that had been set is the plugin's again."""

        def one(target: Target) -> requests.Change:
            change = requests.release(target, call.caller, call.t)
            for event in change.events:
                if isinstance(event, ev.JobReleased) and target.job.spec.priority is not None:
                    spec = replace(target.job.spec, priority=None)
                    event.priority = self.ctl.planning.initial_priority(target.job.job_id, spec)
            return change

        self._on_ids(call, args.ids, one)

    def requeue(self, call: Call, args: m.RequeueArgs) -> None:
        """Put jobs back."""
        self._on_ids(
            call,
            args.ids,
            lambda t: requests.requeue(t, call.caller, call.t, hold_it=args.hold, special=args.special),
        )

    def suspend(self, call: Call, args: m.JobIdsArgs) -> None:
        """Stop running jobs."""
        self._on_ids(call, args.ids, lambda t: requests.suspend(t, call.caller, call.t))

    def resume(self, call: Call, args: m.JobIdsArgs) -> None:
        """Continue suspended jobs."""
        self._on_ids(call, args.ids, lambda t: requests.resume(self.ctl.state, t, call.caller, call.t))

    def _on_ids(self, call: Call, ids: list[str], one: Callable[[Target], requests.Change]) -> None:
        self.ctl.committer.require_room()
        errors: list[dict[str, Any]] = []
        targets: list[Target] = []
        for text in _bounded(ids):
            try:
                found = resolve(self.ctl.state, text)
            except HelixError as exc:
                errors.append(_error(text, exc))
                continue
            kept = [t for t in found if not (len(found) > 1 and (t.job.is_terminal or _is_spent(t.job)))]
            if not kept:
                errors.append(_error(text, Conflict(f"all of job {text} is over", code="JOB_OVER")))
            targets.extend(kept)
        done = self._change(targets, one, errors)
        result = {"done": done, "errors": errors}
        self.ctl.committer.commit((), after=lambda: call.reply(result))

    def _change(
        self, targets: Iterable[Target], one: Callable[[Target], requests.Change], errors: list[dict[str, Any]]
    ) -> list[str]:
        """Apply `one` to each target; a refusal is noted and the others go on."""
        done: list[str] = []
        for target in targets:
            shown = f"{target.job.job_id}_[{target.tasks}]" if target.tasks else target.job.display_id
            try:
                change = one(target)
            except HelixError as exc:
                errors.append(_error(shown, exc))
                continue
            actions: list[Action] = change.actions
            if change.events or actions:
                self.ctl.committer.commit(change.events, actions)
            done.append(shown)
        return done


def _is_spent(job: JobRecord) -> bool:
    """An array's own record with nothing left to start."""
    return job.pending is not None and not job.pending


def _bounded(ids: list[str]) -> list[str]:
    if len(ids) > IDS_MAX:
        raise LimitExceeded(f"more than {IDS_MAX} job ids in one request", code="TOO_MANY_IDS")
    return ids


def _resolve_quietly(state: Any, text: str) -> list[Target]:
    try:
        return resolve(state, text)
    except NotFound:
        return []


def _error(text: str, exc: HelixError) -> dict[str, Any]:
    return {"id": text, **exc.to_wire()}
