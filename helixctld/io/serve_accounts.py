"""Handlers of priorities and shares: what priorities are made of, who has used what, and hctl top."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from helix.errors import Conflict, Denied, LimitExceeded, NotFound
from helix.model.account import FAIRSHARE_PARENT, Accounts
from helix.model.job import JobRecord
from helix.sched.priority import ONE, TERMS
from helix.wire import methods as m
from helixctld.core import limits
from helixctld.core.caller import require_touch
from helixctld.core.nearest import did_you_mean
from helixctld.core.select_jobs import select
from helixctld.core.top import move_to_top, waiting_of
from helixctld.core.usage import FairShares, fair_shares
from helixctld.io.service import Call, Handler
from helixctld.schedule.priorities import PriorityColumns

if TYPE_CHECKING:
    from helixctld.io.daemon import Controller

ROWS_PER_FRAME = 1000
TOP_MAX = 1000  #: jobs in one hctl top


class AccountHandlers:
    """Bound to the controller; `table` is what the service dispatches by."""

    def __init__(self, ctl: Controller) -> None:
        self.ctl = ctl
        self.table: dict[str, Handler] = {
            "job.priority": self.priorities,
            "job.top": self.top,
            "account.shares": self.shares,
        }

    async def priorities(self, call: Call, args: m.PriorityArgs) -> None:
        """Rows in frames; the first has the weights."""
        columns = self.ctl.planning.cycle.priorities
        if columns is None:
            raise Conflict(
                f"{self.ctl.config.priority_type} has no factors",
                code="PRIORITY_PLAIN",
                hint="set PriorityType=priority/multifactor in helix.conf to have them",
            )
        columns.begin(self.ctl.state, call.t)
        if columns.is_behind:  # all are being made anew, in slices: those there are will do
            self.ctl.planning.wake()
        else:
            self.ctl.planning.cycle.refresh_priorities(self.ctl.state, call.t)
        options = columns.options
        weights = dict(
            zip(
                TERMS[:-1],
                (options.weight_age, options.weight_assoc, options.weight_fairshare, options.weight_jobsize,
                 options.weight_partition, options.weight_qos),
                strict=True,
            )
        )  # fmt: skip
        head = {"columns": m.PRIORITY_ROW, "weights": {**weights, "tres": dict(options.weight_tres)}}
        jobs = iter([job for job in select(self.ctl.state, args.filter) if job.is_waiting and not job.held])
        while True:
            batch = list(islice(jobs, ROWS_PER_FRAME))
            more = len(batch) == ROWS_PER_FRAME
            call.reply({**head, "rows": _priority_rows(columns, batch)}, more=more)
            if not more or not call.conn.is_open:
                return
            head = {}
            await asyncio.sleep(0)
            if call.conn.is_congested:
                await call.conn.drain()

    def top(self, call: Call, args: m.JobIdsArgs) -> None:
        """Put jobs before the others of their user."""
        ctl = self.ctl
        if not call.caller.is_operator and not ctl.config.scheduler.enable_user_top:
            raise Denied("hctl top is for operators here", hint="SchedulerParameters=enable_user_top lets users")
        if len(args.ids) > TOP_MAX:
            raise LimitExceeded(f"more than {TOP_MAX} job ids in one request", code="TOO_MANY_IDS")
        ctl.committer.require_room()
        jobs = list({job.job_id: job for text in args.ids for job in waiting_of(ctl.state, text)}.values())
        for job in jobs:
            require_touch(call.caller, job)
        events = move_to_top(ctl.state, jobs, call.caller.uid, call.t)
        done = [job.display_id for job in jobs]
        ctl.committer.commit(events, after=lambda: call.reply({"done": done, "errors": []}))

    def shares(self, call: Call, args: m.SharesArgs) -> None:
        """The tree, or the part of it that was asked for."""
        state = self.ctl.state
        accounts = state.accounts
        if not accounts.is_configured:
            raise Conflict(
                "there are no accounts", code="NO_ACCOUNTS", hint="AssocFile in helix.conf names a file of them"
            )
        for name in args.accounts:
            if name not in accounts.associations:
                names = [a.account for a in accounts if not a.user]
                raise NotFound(f"no account '{name[:80]}'", code="ACCOUNT_UNKNOWN", hint=did_you_mean(name, names))
        for name in args.users:
            if name not in accounts.users:
                raise NotFound(
                    f"no user '{name[:80]}' in any account",
                    code="USER_UNKNOWN",
                    hint=did_you_mean(name, accounts.users),
                )
        found = fair_shares(accounts, state.usage, state.usage_policy)
        run = _run_minutes(self.ctl, found)
        wanted = _wanted(accounts, args, call.caller.user)
        rows = [_share_row(accounts, found, run, row) for row, key in enumerate(found.keys) if key in wanted]
        call.reply({"columns": m.SHARE_ROW, "rows": rows, "fair_tree": bool(found.shares.level_fs)})


def _priority_rows(columns: PriorityColumns, jobs: list[JobRecord]) -> list[list[Any]]:
    known, found = columns.factors(job.job_id for job in jobs)
    at = {job_id: row for row, job_id in enumerate(known)}
    names = [name for name, _ in columns.options.weight_tres]
    terms, factors, tres = found.terms.tolist(), found.factors.tolist(), found.tres.tolist()
    priority, bound = found.priority.tolist(), found.bound.tolist()
    rows = []
    for job in jobs:
        row = at.get(job.job_id)
        spec = job.spec
        head = [job.job_id, job.display_id, job.array_job_id, job.array_task_id, job.user or str(job.uid), spec.account,
                spec.qos, ",".join(spec.partitions) or job.partition]  # fmt: skip
        if row is None:
            if spec.priority is not None:
                rows.append([*head, job.priority, job.priority, 0, *[0] * 6, {}, 0, 0, *[0.0] * 7])
            continue
        shown = terms[row][:-1]
        by_tres = {name: term for name, term in zip(names, tres[row], strict=True) if term}
        norm = [round(factor / ONE, 7) if factor <= ONE else float(factor) for factor in factors[row]]
        rows.append([*head, priority[row], 0, spec.site_factor, *shown, by_tres, spec.nice, bound[row], *norm])
    return rows


def _wanted(accounts: Accounts, args: m.SharesArgs, caller: str) -> set[str]:
    """Keys of the associations to show."""
    if args.all and not args.accounts and not args.users:
        return set(accounts.associations)
    users = set(args.users) if args.users or args.accounts or args.all else {caller}
    wanted = {"root"}
    for a in accounts:
        in_account = not args.accounts or any(above.account in args.accounts for above in accounts.chain(a.key))
        chosen = (not users or a.user in users or args.all) if a.user else bool(args.accounts)
        if in_account and chosen:
            wanted.update(above.key for above in accounts.chain(a.key))
    return wanted


def _run_minutes(ctl: Controller, found: FairShares) -> list[dict[str, int]]:
    """TRES-seconds that running jobs of each subtree may still use."""
    state = ctl.state
    run: list[dict[str, int]] = [{} for _ in found.keys]
    for job_id in state.active:
        job = state.jobs[job_id]
        row = found.row.get(job.assoc)
        if row is None or job.alloc is None or not job.time_limit_s:
            continue
        left_s = limits.remaining_s(state, job)
        for name, count in limits.counts_of(state, job, job.alloc).items():
            run[row][name] = run[row].get(name, 0) + count * left_s
    for row in range(len(run) - 1, 0, -1):
        above = run[found.tree.parent[row]]
        for name, count in run[row].items():
            above[name] = above.get(name, 0) + count
    return run


def _share_row(accounts: Accounts, found: FairShares, run: list[dict[str, int]], row: int) -> list[Any]:
    a, shares, spent = accounts.associations[found.keys[row]], found.shares, found.spent[row]
    level = shares.level_fs[row] if shares.level_fs else None
    return [
        a.account,
        a.user,
        a.partition,
        _depth(found, row),
        a.shares if a.shares != FAIRSHARE_PARENT else -1,
        shares.norm_shares[row],
        spent.raw // 1000,
        shares.norm_usage[row],
        shares.effective_usage[row],
        shares.factor[row],
        level if level is not None and math.isfinite(level) else None,
        a.limits.grp_tres_mins,
        _minutes(spent.tres.items(), 60_000),
        _minutes(run[row].items(), 60),
    ]


def _minutes(items: Iterable[tuple[str, int]], unit: int) -> dict[str, int]:
    return {name: count // unit for name, count in sorted(items)}


def _depth(found: FairShares, row: int) -> int:
    depth = 0
    while row > 0:
        row = found.tree.parent[row]
        depth += 1
    return depth
