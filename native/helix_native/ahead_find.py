"""A start of one key: now, or the earliest later one; its shares are staged, not entered.  Compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from helix_native.ahead_keys import (
    K_ABLE,
    K_CLASS,
    K_FIRST,
    K_FLAT,
    K_LEAST,
    K_LENGTH,
    K_NEAR,
    K_ORDER,
    K_READY,
    K_SAMPLE,
    K_SHAPE,
    K_TARGET,
    SLOW,
    TREE,
    prepare,
    read_log,
    slot_of,
)
from helix_native.ahead_load import pack
from helix_native.ahead_order import best_of, take_whole, whole_order
from helix_native.ahead_place import stage, stage_slow
from helix_native.ahead_rows import (
    ASK_LEAST,
    ASK_WHOLE,
    amounts_of,
    gap_of,
    part_key,
    rows_later,
    rows_now,
    set_minima,
    sets_now,
    spare_of,
)
from helix_native.ahead_slow import WINDOW, choose_slow
from helix_native.ahead_steps import FAR, entry_of
from helix_native.ahead_tree import busy_at, find_whole
from helix_native.compiling import borrowing, inlined


@borrowing
def ready(k: Any, ground: Any, steps: Any, orders: Any, keys: Any, log: Any, logged: Any, work: Any, sc: Any) -> None:
    """Make the key's line, or bring its bounds up to date with the log."""
    if keys.table[k, K_READY] == 0:
        tree_max = work.leaves - 2 - work.window if work.leaves > 0 else np.int64(-1)
        prepare(k, ground, steps, orders.parts, keys, tree_max, sc)
    read_log(k, keys, log, logged)


@inlined
def _ranks(row: Any, ask: Any, kinds: Any, ground: Any, orders: Any) -> Any:
    if ask[ASK_WHOLE]:
        return orders.wholes[whole_order(orders, ground, kinds, row[K_ORDER], ask[ASK_LEAST])]
    return orders.parts[row[K_ORDER]]


@borrowing
def _take_free(k: Any, begin: Any, length: Any, ground: Any, orders: Any, keys: Any, work: Any) -> Any:
    """Rows for whole nodes, of those not in `acc`, into `rows`; how many."""
    row, ask = keys.table[k], keys.ask[k]
    order = whole_order(orders, ground, ground.gres_of.shape[1], row[K_ORDER], ask[ASK_LEAST])
    acc, before, after = work.acc, work.before, work.after
    for w in range(len(acc)):
        acc[w] = ~acc[w]
    before[:] = np.uint64(0)
    after[:] = np.uint64(0)
    if begin > 0:
        busy_at(work.full, work.leaves, work.top, begin - 1, before)
    if length < FAR:
        busy_at(work.full, work.leaves, work.top, begin + length, after)
    return take_whole(acc, before, after, row[K_TARGET], orders, order, work.rows, work.sort_keys)


@borrowing
def _order_rows(
    count: Any, target: Any, ask: Any, gres: Any, order: Any, ground: Any, steps: Any, begin: Any, end: Any, work: Any
) -> Any:
    """Bring the best `target` of the rows found for a later start to the front; how many."""
    rows, sort_keys, value = work.rows, work.sort_keys, ground.value
    words = len(ground.guard)
    for i in range(count):
        r = rows[i]
        if ask[ASK_WHOLE]:
            gap = gap_of(
                steps.pt, steps.pr, steps.off[r], steps.cnt[r], words, begin, end, value[0], ground.cap[r, 0],
                ground.empty_now[r],
            )  # fmt: skip
            sort_keys[i] = np.int64(order[r]) << 2 | gap
        else:
            at = entry_of(steps.pt, steps.off[r], steps.cnt[r], begin)
            spare = spare_of(steps.pr, at, words, len(gres), ground.word, ground.shift, value)
            sort_keys[i] = part_key(ask, np.int64(order[r]), spare, steps.pr[at * words] & value[0], ground.width[r])
    return best_of(sort_keys, rows, count, target)


@borrowing
def find_now(k: Any, ground: Any, steps: Any, orders: Any, keys: Any, shares: Any, at: Any, work: Any, sc: Any) -> Any:
    """Stage the shares of a start now of key `k`; how many, 0 = it cannot start now."""
    row = keys.table[k]
    if row[K_FIRST] > 0:
        return np.int64(0)
    s, length = row[K_SHAPE], row[K_LENGTH]
    count = np.int64(0)
    if row[K_CLASS] == SLOW:
        count, then = choose_slow(
            s, row[K_NEAR] == 1, ground, steps, orders.parts, np.int64(0), min(np.int64(FAR), length), WINDOW,
            work.barred, length, work.window, sc,
        )  # fmt: skip
        if count > 0:
            stage_slow(shares, at, count, s, ground, sc)
        else:
            row[K_FIRST] = max(np.int64(1), min(then, work.window))
        return count
    if row[K_ABLE] < row[K_LEAST]:
        row[K_FIRST] = FAR
        return count
    ask, gres = keys.ask[k], ground.gres_of[s]
    if row[K_CLASS] == TREE:
        for w in range(len(work.acc)):
            work.before[w] = ~keys.able[k, w] | work.barred[w]
        found = find_whole(
            work.full, work.part, work.leaves, work.top, work.before, row[K_LEAST], np.int64(0), length, np.int64(1),
            work.acc, work.after,
        )  # fmt: skip
        if found == 0:
            count = _take_free(k, np.int64(0), length, ground, orders, keys, work)
    else:
        if row[K_FLAT]:
            amounts_of(ask, gres, ground.cap, ground.whole, ground.width, row[K_SAMPLE], work.amounts)
            pack(work.amounts, ground.word, ground.shift, work.need)
        if row[K_FLAT] and row[K_ORDER] == 0 and len(work.sets) > 0:
            count = sets_now(
                ask, gres, ground, steps, length, keys.alive[k], work.barred, row[K_LEAST], row[K_TARGET], work.sets,
                work.members, work.tiers, work.cpus_most, work.rows, work.need,
            )  # fmt: skip
        else:
            count = rows_now(
                ask, gres, ground, steps, length, keys.alive[k],
                work.idle if ask[ASK_WHOLE] else work.some, work.barred,
                _ranks(row, ask, len(gres), ground, orders), row[K_LEAST], row[K_TARGET], row[K_FLAT] == 1,
                work.sort_keys, work.rows, work.amounts, work.need,
            )  # fmt: skip
    if count > 0:
        stage(shares, at, work.rows, count, ask, gres, ground, work.amounts)
    else:
        row[K_FIRST] = 1
    return count


@borrowing
def find_later(
    k: Any, t: Any, stop: Any, ground: Any, steps: Any, orders: Any, keys: Any, shares: Any, at: Any, work: Any, sc: Any
) -> Any:
    """The earliest start of key `k` in [t, stop), FAR if none; stages its shares, `found[0]` of them."""
    row = keys.table[k]
    learn = t <= row[K_FIRST]  # else the start is bounded by the job, which says nothing of others
    t = max(np.int64(t), row[K_FIRST])
    window = work.window
    stop = min(np.int64(stop), window)
    if t >= stop:
        return np.int64(FAR)
    s, length = row[K_SHAPE], row[K_LENGTH]
    if row[K_CLASS] == SLOW:
        while t < stop:
            count, then = choose_slow(
                s, row[K_NEAR] == 1, ground, steps, orders.parts, t, min(np.int64(FAR), t + length), WINDOW,
                work.barred, length, window, sc,
            )  # fmt: skip
            if count > 0:
                stage_slow(shares, at, count, s, ground, sc)
                work.found[0] = count
                break
            t = then
        if learn:
            row[K_FIRST] = t
        return t if t < stop else np.int64(FAR)
    if row[K_ABLE] < row[K_LEAST]:
        row[K_FIRST] = FAR
        return np.int64(FAR)
    ask, gres = keys.ask[k], ground.gres_of[s]
    wanted = np.int64(0)
    if row[K_CLASS] == TREE:
        for w in range(len(work.acc)):
            work.before[w] = ~keys.able[k, w]
        start = find_whole(
            work.full, work.part, work.leaves, work.top, work.before, row[K_LEAST], t, length, stop, work.acc,
            work.after,
        )  # fmt: skip
    else:
        wanted = np.int64(len(ground.up)) if ask[ASK_WHOLE] else max(np.int64(work.candidates), row[K_TARGET])
        if row[K_FLAT]:
            amounts_of(ask, gres, ground.cap, ground.whole, ground.width, row[K_SAMPLE], work.amounts)
            pack(work.amounts, ground.word, ground.shift, work.need)
        slot = slot_of(k, keys)
        bounds, minima = keys.bounds[slot], keys.minima[slot]
        if not learn:
            for r in range(len(bounds)):
                work.bounds[r] = max(bounds[r], np.int32(t))
            bounds, minima = work.bounds, work.minima
            set_minima(bounds, minima)
        start = rows_later(
            ask, gres, ground, steps, length, bounds, minima, row[K_LEAST], wanted, t, stop, window, row[K_FLAT] == 1,
            work.rows, work.amounts, work.need, work.found,
        )  # fmt: skip
    if learn:
        row[K_FIRST] = start if start < FAR else (np.int64(FAR) if stop >= window else stop)
    if start >= FAR:
        return np.int64(FAR)
    if row[K_CLASS] == TREE:
        count = _take_free(k, start, length, ground, orders, keys, work)
    else:
        ranks = _ranks(row, ask, len(gres), ground, orders)
        end = min(np.int64(FAR), start + length)
        count = _order_rows(work.found[0], row[K_TARGET], ask, gres, ranks, ground, steps, start, end, work)
    stage(shares, at, work.rows, count, ask, gres, ground, work.amounts)
    work.found[0] = count
    return start
