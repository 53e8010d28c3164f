"""How long the priorities of a long queue take: `python tests/bench/bench_priority.py`.

Prints, for 100,000 waiting jobs of 1,000 users in 50 accounts: reading all of them, one pass over the table (the
arithmetic alone), a whole beat of PriorityCalcPeriod with the new order of the queue, and the fair-share tree.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers.sched_world import World

from helix.config.assoc_file import parse_assoc
from helix.config.assoc_load import build_accounts
from helix.model import events as ev
from helix.model.job import JobSpec
from helix.sched.priority import PriorityOptions
from helix_plugins.priority.multifactor import Multifactor
from helixctld.core.apply import apply
from helixctld.core.usage import Spent, UsagePolicy, fair_shares
from helixctld.schedule.priorities import PriorityColumns

JOBS, USERS, ACCOUNTS = 100_000, 1000, 50


def timed(call: Callable[[], object], times: int = 5) -> float:
    """Median of some calls, in milliseconds of the processor."""
    took = []
    for _ in range(times):
        began = time.process_time()
        call()
        took.append((time.process_time() - began) * 1e3)
    return statistics.median(took)


def accounts_text() -> str:
    """Users spread over accounts."""
    lines = ["QOS - 'normal'", "QOS - 'high':Priority=10"]
    lines += [f"Account - 'a{k}':Fairshare={1 + k % 7}" for k in range(ACCOUNTS)]
    for k in range(ACCOUNTS):
        lines.append(f"Parent - 'a{k}'")
        lines += [f"User - 'u{u}':Fairshare={1 + u % 3}" for u in range(k, USERS, ACCOUNTS)]
    return "\n".join(lines)


def main() -> None:
    world = World(nodes=100, cpus=64, check=False)
    state = world.state
    state.set_accounts(build_accounts(parse_assoc(accounts_text(), "f")), UsagePolicy())
    for user in range(USERS):
        state.usage.book[f"a{user % ACCOUNTS}:u{user}"] = Spent(raw=user * 977 % 100_003)
    for k in range(JOBS):
        user = k * 31 % USERS
        spec = JobSpec(
            tasks=1 + k % 64, nice=k % 11, qos="high" if k % 9 == 0 else "normal", account=f"a{user % ACCOUNTS}"
        )
        assoc = f"{spec.account}:u{user}"
        apply(
            state,
            ev.JobSubmitted(
                t=k * 0.01, job_id=k + 1, uid=user, gid=1, user=f"u{user}", spec=spec, priority=1, assoc=assoc
            ),
        )
    options = PriorityOptions(1000, 1000, 100_000, 1000, 1000, 10_000, (("cpu", 100), ("mem", 100)))
    columns = PriorityColumns(Multifactor(), options)
    began = time.process_time()
    first = columns.update(state, 2000.0)
    print(f"read {JOBS:,} jobs and give them their first priorities: {(time.process_time() - began) * 1e3:.0f} ms")
    queue = world.cycle.columns.queue
    world.cycle.columns.update(state)
    queue.set_priorities(first)
    queue.freeze()
    rows = np.arange(JOBS)
    pass_ms = timed(lambda: columns.plugin.prioritise(columns._table(rows), columns._scale, options))
    print(f"one pass over the table: {pass_ms:.1f} ms")
    now = [3000.0]

    def beat() -> None:
        now[0] += 1000.0
        queue.set_priorities(columns.update(state, now[0]))
        queue.freeze()

    print(f"a beat: all priorities, records and the order of the queue: {timed(beat):.0f} ms")
    shares = timed(lambda: fair_shares(state.accounts, state.usage, state.usage_policy))
    print(f"the fair-share tree of {len(state.accounts):,} associations: {shares:.1f} ms")


if __name__ == "__main__":
    main()
