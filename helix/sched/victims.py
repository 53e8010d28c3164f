"""Who makes room for a waiting job: the choice of the victims.  Pure.

`choose` finds a set of jobs whose going lets the waiting job start, as cheaply as it can: the sum over the set of
`Victim.cost`.  It tries several ways (node by node, nodes by the price of a task, all of them less what is not needed),
drops from each, dearest first, every job without which there is still room, and takes the cheapest.  So the result
always suffices and nobody in it is superfluous; for one of up to EXACT_NODES nodes with up to EXACT_MAX jobs on each it
is the best there is.  On more than NODES_MAX nodes the most promising ones are tried alone first.

A chain of parts that start together on different nodes is served in the order of its parts, and in the opposite one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import combinations

from helix.sched.parts_together import together
from helix.sched.place import free_cpus
from helix.sched.preempt import Choice, Need, Place, Victim, enough, tasks_on

NODES_MAX = 512  #: nodes looked at closely; of more that could make room the cheapest
EXACT_MAX = 10  #: victims on a node up to which every subset is tried
EXACT_NODES = 16  #: that many on each of so many nodes; on each of more nodes
EXACT_EACH = 5  #: no more than these


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a chain: what it needs, nodes it may run on, and whom it may ask (None = all victims)."""

    need: Need
    places: Sequence[Place]
    may_ask: frozenset[int] | None = None


@dataclass(slots=True)
class _Side:
    """A part, and which victims are on which of its nodes, cheapest first."""

    need: Need
    places: dict[int, Place]
    on: dict[int, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Problem:
    """The question."""

    sides: list[_Side]
    victims: dict[int, Victim]

    def fit_of(self, side: _Side, index: int, gone: Iterable[int]) -> int:
        victims = self.victims
        return tasks_on(side.need, side.places[index], [victims[v].shares[index] for v in gone])

    def fits(self, side: _Side, gone: set[int], places: Iterable[int]) -> dict[int, int]:
        return {i: self.fit_of(side, i, [v for v in side.on.get(i, ()) if v in gone]) for i in places}

    def cost_of(self, gone: Iterable[int]) -> int:
        return sum(self.victims[v].cost for v in gone)

    def nodes_for(self, fits: Sequence[dict[int, int]]) -> list[list[int]] | None:
        """Nodes of each part, no node for two; None if there are too few."""
        if len(fits) == 1:
            nodes = enough(self.sides[0].need, fits[0])
            return None if nodes is None else [nodes]
        return together([side.need for side in self.sides], fits)


#: finds victims for one part on nodes not used yet: (problem, side, who goes already, nodes that other parts have);
#: gives who goes besides, and the nodes
_Way = Callable[[_Problem, _Side, set[int], set[int]], tuple[set[int], list[int]] | None]


def choose(need: Need, places: Sequence[Place], victims: Sequence[Victim]) -> Choice | None:
    """`choose_chain` for a request of one part."""
    return choose_chain([Part(need, places)], victims)


def choose_chain(parts: Sequence[Part], victims: Sequence[Victim]) -> Choice | None:
    """The cheapest victims found whose going lets all parts start; None if not even all of them are enough.

    Victims on other nodes than the parts' are not looked at.  A choice without victims means that the job can start as
    things are.
    """
    near = [_promising(part, victims) for part in parts]
    if any(few is not part for few, part in zip(near, parts, strict=True)):
        found = _choose(near, victims)
        if found is not None:
            return found
    return _choose(parts, victims)


def _choose(parts: Sequence[Part], victims: Sequence[Victim]) -> Choice | None:
    problem = _Problem([_Side(part.need, {p.index: p for p in part.places}) for part in parts], {})
    for victim in sorted(victims, key=lambda v: (v.cost, v.job_id)):
        for part, side in zip(parts, problem.sides, strict=True):
            if part.may_ask is not None and victim.job_id not in part.may_ask:
                continue
            for i in (i for i in victim.shares if i in side.places):
                problem.victims[victim.job_id] = victim
                side.on.setdefault(i, []).append(victim.job_id)
    best: tuple[int, list[int], set[int]] | None = None
    for gone in _candidates(problem):
        kept = _without_needless(problem, gone)
        if kept is None:
            continue
        found = (problem.cost_of(kept), sorted(kept), kept)
        if best is None or found[:2] < best[:2]:
            best = found
    if best is None or len(problem.victims) <= NODES_MAX:
        kept = _without_needless(problem, set(problem.victims))
        if kept is not None and (best is None or (problem.cost_of(kept), sorted(kept)) < best[:2]):
            best = problem.cost_of(kept), sorted(kept), kept
    return None if best is None else _placed(problem, best[2], best[0])


def _candidates(problem: _Problem) -> Iterable[set[int]]:
    """Sets of victims that are probably enough."""
    sides = problem.sides
    orders = [sides] if len(sides) == 1 else [sides, sides[::-1]]
    ways: list[_Way] = [_by_node, _by_task] if any(side.need.tasks for side in sides) else [_by_node]
    for order in orders:
        for way in ways:
            gone: set[int] = set()
            used: set[int] = set()
            for side in order:
                others = {i for other in sides if other is not side for i in other.need.must} - side.need.must
                found = way(problem, side, gone, used | others)
                if found is None:
                    break
                gone |= found[0]
                used.update(found[1])
            else:
                yield gone


def _looked_at(problem: _Problem, side: _Side, gone: set[int]) -> list[int]:
    """Nodes of a part that matter when these go: theirs and those that need nobody to go."""
    touched = {i for v in gone for i in problem.victims[v].shares if i in side.places}
    return sorted(touched | {i for i in side.places if i not in side.on or problem.fit_of(side, i, ()) > 0})


def _without_needless(problem: _Problem, gone: set[int]) -> set[int] | None:
    """The reverse pass: dearest first, those without whom there is still room stay.  None if `gone` is too few."""
    fits = [problem.fits(side, gone, _looked_at(problem, side, gone)) for side in problem.sides]
    if problem.nodes_for(fits) is None:
        return None
    kept = set(gone)
    groups = [sorted(gone, key=lambda v: (-problem.victims[v].cost, -v))]
    counts = [_Counts(sum(t > 0 for t in fit.values()), sum(fit.values())) for fit in fits]
    while groups:  # a group that can stay as a whole takes one look; otherwise its halves are looked at in turn
        group = groups.pop()
        trial = _without(problem, set(group), kept, fits, counts)
        if trial is not None and problem.nodes_for(trial[0]) is not None:
            kept.difference_update(group)
            fits, counts = trial
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
    return kept


@dataclass(slots=True)
class _Counts:
    """Of a part: nodes that take any tasks, and tasks that all of them take."""

    nodes: int
    tasks: int


def _without(
    problem: _Problem, group: set[int], kept: set[int], fits: list[dict[int, int]], counts: list[_Counts]
) -> tuple[list[dict[int, int]], list[_Counts]] | None:
    """What nodes take when a group stays; None if that is clearly too little.  Costs as much as the group has nodes."""
    changes: list[dict[int, int]] = []
    after: list[_Counts] = []
    for side, fit, count in zip(problem.sides, fits, counts, strict=True):
        new: dict[int, int] = {}
        left = _Counts(count.nodes, count.tasks)
        for i in {i for v in group for i in problem.victims[v].shares if i in fit}:
            tasks = problem.fit_of(side, i, [w for w in side.on.get(i, ()) if w in kept and w not in group])
            new[i] = tasks
            left.nodes += (tasks > 0) - (fit[i] > 0)
            left.tasks += tasks - fit[i]
            if not tasks and i in side.need.must:
                return None
        if left.nodes < side.need.nodes_lo or left.tasks < side.need.tasks:
            return None
        changes.append(new)
        after.append(left)
    return [fit | new for fit, new in zip(fits, changes, strict=True)], after


def _cheapest_on(problem: _Problem, side: _Side, index: int, gone: set[int], tasks: int) -> tuple[int, set[int]] | None:
    """The cheapest further victims on a node so that it takes `tasks` tasks, and their cost."""
    on = [v for v in side.on.get(index, ()) if v not in gone]
    already = [v for v in side.on.get(index, ()) if v in gone]
    if problem.fit_of(side, index, [*already, *on]) < tasks:
        return None
    if problem.fit_of(side, index, already) >= tasks:
        return 0, set()
    if len(on) <= (EXACT_MAX if len(side.places) <= EXACT_NODES else EXACT_EACH):
        best: tuple[int, set[int]] | None = None
        for count in range(1, len(on) + 1):
            for group in combinations(on, count):
                cost = problem.cost_of(group)
                if (best is None or cost < best[0]) and problem.fit_of(side, index, [*already, *group]) >= tasks:
                    best = cost, set(group)
        return best
    kept = set(on)
    for v in reversed(on):
        if problem.fit_of(side, index, [*already, *(w for w in on if w in kept and w != v)]) >= tasks:
            kept.discard(v)
    return problem.cost_of(kept), kept


def _by_node(problem: _Problem, side: _Side, gone: set[int], used: set[int]) -> tuple[set[int], list[int]] | None:
    """Node after node, each time the one that costs least to take its share (on one node: everything)."""
    need = side.need
    count = max(need.nodes_lo, len(need.must), 1)
    share = max(1, need.task_lo)
    if need.tasks:
        if count * need.task_hi < need.tasks:
            count = -(-need.tasks // need.task_hi)
        share = max(share, -(-need.tasks // count))
    others = [other for other in problem.sides if other is not side]
    prices: dict[int, tuple[int, set[int]]] = {}
    more: set[int] = set()
    for index in sorted(side.places.keys() - used):
        price = _cheapest_on(problem, side, index, gone, share)
        if price is not None:
            prices[index] = price
    chosen: list[int] = []

    def rank(index: int) -> tuple[bool, int, int, int, int]:
        wanted = sum(index in other.places for other in others)
        return index not in need.must, prices[index][0], wanted, side.places[index].weight, index

    heap = [rank(index) for index in prices]
    heapify(heap)
    while len(chosen) < count:
        if not heap:
            return None
        index = heap[0][-1]
        if index not in prices or heap[0][1] != prices[index][0]:  # chosen, or cheaper by now
            heappop(heap)
            continue
        price = prices.pop(index)
        chosen.append(index)
        if price[1]:
            more |= price[1]
            near = {i for v in price[1] for i in problem.victims[v].shares}
            for other in near & prices.keys():
                again = _cheapest_on(problem, side, other, gone | more, share)
                if again is not None:
                    prices[other] = again
                    heappush(heap, rank(other))
    return more, chosen


def _by_task(problem: _Problem, side: _Side, gone: set[int], used: set[int]) -> tuple[set[int], list[int]] | None:
    """Whole nodes, by what a task costs there: for many tasks on nodes of different sizes."""
    need = side.need
    if not need.tasks:
        return _by_node(problem, side, gone, used)
    ranked: list[tuple[bool, float, int]] = []
    for index in sorted(side.places.keys() - used):
        on = side.on.get(index, ())
        tasks = problem.fit_of(side, index, on)
        if tasks:
            cost = problem.cost_of(v for v in on if v not in gone)
            ranked.append((index not in need.must, cost / tasks, index))
    more: set[int] = set()
    fit: dict[int, int] = {}
    for _, _, index in sorted(ranked):
        more.update(side.on.get(index, ()))
        fit[index] = problem.fit_of(side, index, side.on.get(index, ()))
        nodes = enough(need, fit)
        if nodes is not None:
            return more - gone, nodes
    return None


def _promising(part: Part, victims: Sequence[Victim]) -> Part:
    """The part on few nodes: those named, then those with the cheapest CPUs to be had, free ones first."""
    need, places = part.need, part.places
    count = max(NODES_MAX, 2 * max(need.nodes_lo, len(need.must)))
    if len(places) <= count:
        return part
    price = dict.fromkeys((p.index for p in places), 0)
    freed = {p.index: free_cpus(p.free_cores, p.width, p.cpus) for p in places}
    for victim in victims:
        for index, share in victim.shares.items():
            if index in price:
                price[index] += victim.cost
                freed[index] += share.cores.bit_count()
    ranked = sorted(places, key=lambda p: (p.index not in need.must, price[p.index] / (freed[p.index] + 1), p.index))
    return Part(need, ranked[:count], part.may_ask)


def _placed(problem: _Problem, gone: set[int], cost: int) -> Choice | None:
    """Nodes and tasks of a set of victims: nodes where somebody goes first, then by weight and index."""
    touched = {i for v in gone for i in problem.victims[v].shares}
    fits = []
    for side in problem.sides:
        weights = {i: place.weight for i, place in side.places.items()}
        order = sorted(_looked_at(problem, side, gone), key=lambda i: (i not in touched, weights[i], i))
        fits.append(problem.fits(side, gone, order))
    found = problem.nodes_for(fits)
    if found is None:
        return None
    choice = Choice(sorted(gone), [], [], cost)
    for at, (side, fit, nodes) in enumerate(zip(problem.sides, fits, found, strict=True)):
        nodes = sorted(nodes)
        choice.nodes += nodes
        choice.tasks += _shared_out(side.need, fit, nodes)
        choice.part += [at] * len(nodes)
    return choice


def _shared_out(need: Need, fit: dict[int, int], nodes: list[int]) -> list[int]:
    """The tasks of each node."""
    if not need.tasks:
        return [need.task_lo] * len(nodes)
    tasks: list[int] = []
    left = need.tasks
    for place, index in enumerate(nodes):
        tasks.append(min(fit[index], left - (len(nodes) - 1 - place)))
        left -= tasks[-1]
    return tasks
