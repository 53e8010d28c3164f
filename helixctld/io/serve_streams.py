"""Handlers that answer in several frames: listings, waiting for jobs, watching events, following output."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from helix.errors import NotFound
from helix.model.hetjob import component_records
from helix.model.job import JobRecord
from helix.model.job_state import Reason
from helix.wire import methods as m
from helixctld.core.caller import require_owner
from helixctld.core.effects import batch_host
from helixctld.core.select_jobs import parse_job_id, parse_states, resolve, select
from helixctld.core.state import Transition
from helixctld.core.views import SHOW_ONLY, job_getters
from helixctld.io.service import Call, Handler

if TYPE_CHECKING:
    from helixctld.io.daemon import Controller

ROWS_PER_FRAME = 1000
EXPAND_MAX = 100_000  #: rows that `hqueue --array` may make of waiting tasks
STARTING_S = 3.0  #: how long output is waited for that is asked for, not followed, while a job starts
NEVER_STARTED = frozenset({Reason.INVALID_WORK_DIR, Reason.OUTPUT_UNWRITABLE, Reason.JOB_LAUNCH_FAILURE})
FOLLOW_POLL_S = 0.25  #: between reads of a file that is being followed


class StreamHandlers:
    """Bound to the controller; `table` is what the service dispatches by."""

    def __init__(self, ctl: Controller) -> None:
        self.ctl = ctl
        self.table: dict[str, Handler] = {
            "job.list": self.list_jobs,
            "job.wait": self.wait,
            "job.log": self.log,
            "events.watch": self.watch,
        }

    async def list_jobs(self, call: Call, args: m.JobListArgs) -> None:
        """Rows in frames of `ROWS_PER_FRAME`; other requests are served between the frames."""
        fields = tuple(args.fields) or tuple(f for f in m.JOB_ROW if f not in SHOW_ONLY)
        getters = job_getters(fields, self.ctl.planning.expectation, self.ctl.planning.end_by_reservation)
        cursor = f"{self.ctl.feed.cursor}.{self.ctl.planning.shown_version}"
        if args.since and args.since == cursor:
            call.reply({"unchanged": True, "cursor": cursor})
            return
        records = (part for job in select(self.ctl.state, args.filter) for part in component_records(job))
        jobs: Iterable[JobRecord] = records
        if args.expand_arrays:
            jobs = islice(_expanded(jobs), EXPAND_MAX)
        rows: list[list[Any]] = []
        now = call.t
        # the selection is a snapshot of ids; a job that ends meanwhile is shown as it then is
        for job in jobs:
            rows.append([getter(job, now) for getter in getters])
            if len(rows) == ROWS_PER_FRAME:
                call.reply({"columns": fields, "rows": rows, "cursor": cursor}, more=True)
                rows = []
                await asyncio.sleep(0)
                if call.conn.is_congested:
                    await call.conn.drain()
                if not call.conn.is_open:
                    return
        call.reply({"columns": fields, "rows": rows, "cursor": cursor})

    async def wait(self, call: Call, args: m.WaitArgs) -> None:
        """A frame for each job as it ends.  Jobs that have been forgotten answer from the history."""
        state, ended = self.ctl.state, asyncio.Queue[dict[str, Any]]()
        waiting: set[int] = set()
        stops = []

        def listen(change: Transition) -> None:
            if change.job.job_id in waiting:
                waiting.discard(change.job.job_id)
                ended.put_nowait(_end_of(change.job))

        results: list[dict[str, Any]] = []
        for text in args.ids:
            job_id, tasks = parse_job_id(text)
            past = state.history.get(job_id)
            if job_id not in state.jobs and past is not None and tasks is None:
                results.append(
                    {
                        "job_id": job_id,
                        "display_id": text,
                        "state": past.state,
                        "exit_code": f"{past.code}:{past.signal}",
                    }
                )
                continue
            for target in resolve(state, text):
                if tasks is None and target.job.array_task_id is not None and target.job.job_id != job_id:
                    continue  # of an array the record itself, which ends when the last task has
                if target.job.is_terminal:
                    results.append(_end_of(target.job))
                else:
                    waiting.add(target.job.job_id)
        try:
            for job_id in waiting:
                stops.append(self.ctl.feed.on_end(job_id, listen))
            for k, result in enumerate(results):
                call.reply(result, more=bool(waiting) or k + 1 < len(results))
            left = len(waiting)
            while left:
                result = await ended.get()
                left -= 1
                if not call.reply(result, more=left > 0):
                    return
            if not results and not stops:
                raise NotFound("no jobs to wait for", code="JOB_UNKNOWN")
        finally:
            for stop in stops:
                stop()

    async def watch(self, call: Call, args: m.WatchArgs) -> None:
        """Events after the cursor, for ever."""
        feed, cursor = self.ctl.feed, args.cursor or self.ctl.feed.cursor
        keep = _event_filter(args)
        feed.after(cursor)  # one that was never given out would wait for ever
        call.reply({"events": [], "cursor": cursor}, more=True)
        while call.conn.is_open:
            await feed.changed(cursor)
            events, cursor = feed.after(cursor)
            wanted = [e for e in events if keep(e)]
            if wanted:
                call.reply({"events": wanted, "cursor": cursor}, more=True)
            if call.conn.is_congested:
                await call.conn.drain()

    async def log(self, call: Call, args: m.LogArgs) -> None:
        """A job's output, read on its node as its user, from `offset` on."""
        job = self._log_job(args.id)
        require_owner(call.caller, job)
        if args.attempt not in (-1, job.attempt):
            raise NotFound(
                f"attempt {args.attempt} of job {job.display_id} wrote to the same files as attempt {job.attempt}",
                code="ATTEMPT_UNKNOWN",
                hint="with --open-mode=append the file holds the output of all attempts",
            )
        offset = args.offset
        while True:
            if job.is_waiting or not (job.stdout_path or job.is_active):
                if not args.follow or job.is_terminal:
                    raise NotFound(
                        f"job {job.display_id} has no output yet: it is {job.state}"
                        if not job.is_terminal
                        else f"job {job.display_id} never started: it has no output"
                        + (f" ({job.reason_text})" if job.reason_text else ""),
                        code="NO_OUTPUT",
                    )
                await self._next_change(args.follow)
                continue
            if job.state == "CONFIGURING":
                if not args.follow and time.time() > call.t + STARTING_S:
                    raise NotFound(
                        f"job {job.display_id} has no output yet: its script is being started", code="NO_OUTPUT"
                    )
                await self._next_change(args.follow)
                continue
            if job.is_terminal and job.reason in NEVER_STARTED:
                raise NotFound(
                    f"job {job.display_id} never started: it has no output ({job.reason_text})", code="NO_OUTPUT"
                )
            path = job.stderr_path if args.stream == "stderr" else job.stdout_path
            running = job.is_active
            node = batch_host(job)
            data = await self.ctl.links.read_log(job, node, path or job.stdout_path, offset)
            if data.error:
                raise NotFound(f"{node}: {data.error}", code="OUTPUT_UNREADABLE", hint=job.reason_text)
            offset = data.offset + len(data.data)
            at_end = offset >= data.size
            more = not at_end or (args.follow and running)
            frame = {
                "data_b64": base64.b64encode(data.data).decode(),
                "offset": data.offset,
                "size": data.size,
                "attempt": job.attempt,
                "running": running,
                "node": node,
                "path": path,
            }
            if (data.data or not more) and not call.reply(frame, more=more):
                return
            if not more:
                return
            if at_end:
                await asyncio.sleep(FOLLOW_POLL_S)
            if call.conn.is_congested:
                await call.conn.drain()
            if not call.conn.is_open:
                return

    def _log_job(self, text: str) -> JobRecord:
        return next((t.job for t in resolve(self.ctl.state, text) if t.tasks is None), None) or self._not_started(text)

    def _not_started(self, text: str) -> JobRecord:
        raise NotFound(f"job {text} has no output yet: it is PENDING", code="NO_OUTPUT")

    async def _next_change(self, follow: bool) -> None:
        """Until something has changed; without `follow` no longer than STARTING_S."""
        cursor = self.ctl.feed.cursor
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ctl.feed.changed(cursor), None if follow else STARTING_S)
        await asyncio.sleep(0.01)


def _end_of(job: JobRecord) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "display_id": job.display_id if not job.is_array else str(job.job_id),
        "state": job.state,
        "exit_code": str(job.derived_exit if job.is_array else job.exit),
        "reason": job.reason,
        "reason_text": job.reason_text,
    }


def _expanded(jobs: Any) -> Any:
    """One copy of an array's own record per waiting task."""
    for job in jobs:
        if job.pending is None:
            yield job
            continue
        for task in job.pending:
            yield replace(job, array_task_id=task, pending=None)


def _event_filter(args: m.WatchArgs) -> Any:
    f = args.filter
    ids = {parse_job_id(text)[0] for text in f.ids}
    states = parse_states(f.states) if f.states else None
    users, names, partitions = set(f.users), set(f.names), set(f.partitions)

    def keep(event: dict[str, Any]) -> bool:
        if event["kind"] != "job":
            return args.nodes
        if ids and event["id"] not in ids and event["array_job_id"] not in ids:
            return False
        if users and event["user"] not in users and str(event["uid"]) not in users:
            return False
        if names and event["name"] not in names:
            return False
        if partitions and event["partition"] not in partitions:
            return False
        return states is None or event["new"] in states

    return keep
