"""A request whose constraint has alternatives or node counts, as chains of plain requests.

A chain's parts start together on different nodes.  `a*2&b*4` with six nodes is a chain of two parts; nodes beyond the
counts form a last part.  Tasks are shared out evenly over the nodes of all parts.  Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from helix.errors import UsageError
from helix.sched.features import ALTERNATIVES_MAX, EVERY, AllOf, Alternative, Constraint, Term, meets

if TYPE_CHECKING:
    from helix.sched.request import Request

Chain = tuple["Request", ...]
SEGMENTS_MAX = 256  #: parts of a request with --segment


def chains_of(request: Request, constraint: Constraint) -> tuple[Chain, ...]:
    """The ways to serve `request` under `constraint`, in the order written; each has at least one part.

    Raises UsageError: NODE_COUNT_INVALID if every alternative counts more nodes than the request allows,
    CONSTRAINT_UNSUPPORTED for counts together with --contiguous.
    """
    counted = max((alternative.nodes for alternative in constraint.alternatives), default=0)
    if counted and request.contiguous:
        raise UsageError(
            f"constraint '{constraint.text}': node counts do not go together with --contiguous",
            code="CONSTRAINT_UNSUPPORTED",
            hint="leave one of them out",
        )
    chains = [_chain(request, alternative) for alternative in constraint.alternatives]
    found = tuple(chain for chain in chains if chain)
    if not found:
        least = min(alternative.nodes for alternative in constraint.alternatives)
        raise UsageError(
            f"constraint '{constraint.text}' counts {least} nodes, --nodes allows {request.nodes_hi}",
            code="NODE_COUNT_INVALID",
            hint="ask for more nodes or count fewer",
        )
    return found


def _chain(request: Request, alternative: Alternative) -> Chain:
    """The parts of one alternative; () if it counts more nodes than are allowed."""
    counted = alternative.nodes
    if not counted:
        return (replace(request, constraint=alternative.every, alternatives=()),)
    if request.nodes_hi and counted > request.nodes_hi:
        return ()
    nodes = max(request.nodes_lo, counted)
    tasks = max(request.tasks, nodes) if request.tasks else 0
    sizes = [(part.count, both(alternative.every, part.term)) for part in alternative.parts]
    if nodes > counted:
        sizes.append((nodes - counted, alternative.every))
    parts, at = [], 0
    for place, (count, term) in enumerate(sizes):
        last = place == len(sizes) - 1 and nodes > counted
        share = shared(tasks, nodes, at, count)
        most = (request.nodes_hi - counted if request.nodes_hi else 0) if last else count
        part = replace(
            request,
            nodes_lo=count,
            nodes_hi=most,
            grow=request.grow and last,
            tasks=share,
            task_hi=min(request.task_hi, share) if share else request.task_hi,
            constraint=term,
            must=() if place else request.must,
            alternatives=(),
        )
        parts.append(part)
        at += count
    return tuple(parts)


def segmented(chain: Chain, size: int) -> Chain:
    """A chain of one part, cut into segments of `size` nodes: each a part that stays below one switch (in one block).

    Raises UsageError (SEGMENT_INVALID) if the nodes are not a fixed number that `size` divides.
    """
    (request,) = chain
    nodes = request.nodes_lo
    if request.nodes_hi not in (nodes, 0) or (request.tasks and not request.nodes_hi):
        raise UsageError(
            "--segment needs a fixed number of nodes", code="SEGMENT_INVALID", hint="say how many: --nodes=N"
        )
    if nodes % size:
        raise UsageError(
            f"--segment={size} does not divide {nodes} nodes",
            code="SEGMENT_INVALID",
            hint="ask for a multiple of the segment: --nodes",
        )
    if nodes // size > SEGMENTS_MAX:
        raise UsageError(
            f"{nodes // size} segments are more than {SEGMENTS_MAX}", code="SEGMENT_INVALID", hint="use larger segments"
        )
    parts = []
    for at in range(0, nodes, size):
        share = shared(request.tasks, nodes, at, size) if request.tasks else 0
        parts.append(
            replace(
                request,
                nodes_lo=size,
                nodes_hi=size,
                grow=False,
                tasks=share,
                task_hi=min(request.task_hi, share) if share else request.task_hi,
                switches=1,
                switch_wait_s=0,
                alternatives=(),
            )
        )
    return tuple(parts)


def both(every: Term, term: Term) -> Term:
    """The term of nodes that meet the two."""
    if every == EVERY:
        return term
    return every if term == EVERY else AllOf((every, term))


def shared(tasks: int, nodes: int, at: int, count: int) -> int:
    """Tasks of nodes `at` to `at + count - 1` when `tasks` are shared evenly over `nodes`, the first taking more."""
    base, more = divmod(tasks, nodes)
    return base * count + max(0, min(more, at + count) - min(more, at))


def joined(requests: Sequence[Request]) -> Request:
    """The request of a heterogeneous job: every part of every component, as one chain.

    Alternatives of components are combined, at most ALTERNATIVES_MAX of the combinations in the order written.  Whole
    nodes are for all or for none.  What is not of the chain is the first component's.
    """
    first = requests[0]
    if len(requests) == 1:
        return first
    exclusive = any(request.exclusive for request in requests)
    own = [
        [
            tuple(
                replace(part, component=at, partition=request.partition, exclusive=exclusive, alternatives=())
                for part in chain
            )
            for chain in request.chains
        ]
        for at, request in enumerate(requests)
    ]
    chains = tuple(
        tuple(itertools.chain.from_iterable(ways))
        for ways in itertools.islice(itertools.product(*own), ALTERNATIVES_MAX)
    )
    limit = next((request for request in requests if request.limit), first)
    return replace(first, exclusive=exclusive, alternatives=chains, limit=limit.limit, limit_text=limit.limit_text)


def place_required(chain: Chain, features_of: Callable[[str], Collection[str]]) -> Chain | None:
    """The chain with each required node in a part whose term it meets; None if there is no such way."""
    placed: list[Request] = []
    for component in dict.fromkeys(part.component for part in chain):
        own = _placed(tuple(part for part in chain if part.component == component), features_of)
        if own is None:
            return None
        placed.extend(own)
    return tuple(placed)


def _placed(chain: Chain, features_of: Callable[[str], Collection[str]]) -> Chain | None:
    """`place_required` for the parts of one component, of which the first holds all required nodes."""
    required = chain[0].must
    if not required or len(chain) == 1:
        return chain
    rooms = [part.nodes_hi or len(required) for part in chain]
    able = [[meets(features_of(name), part.constraint) for part in chain] for name in required]
    part_of = match(able, rooms)
    if part_of is None:
        return None
    placed = [
        replace(part, must=tuple(name for name, at in zip(required, part_of, strict=True) if at == i))
        for i, part in enumerate(chain)
    ]
    return tuple(placed)


def match(able: Sequence[Sequence[bool]], rooms: Sequence[int]) -> list[int] | None:
    """A part for each item, so that no part has more than its room; None if there is none (augmenting paths)."""
    part_of = [-1] * len(able)
    held: list[list[int]] = [[] for _ in rooms]

    def seat(item: int, seen: set[int]) -> bool:
        for part, good in enumerate(able[item]):
            if not good or part in seen:
                continue
            seen.add(part)
            if len(held[part]) < rooms[part]:
                held[part].append(item)
                part_of[item] = part
                return True
            for other in list(held[part]):
                if seat(other, seen):
                    held[part].remove(other)
                    held[part].append(item)
                    part_of[item] = part
                    return True
        return False

    return part_of if all(seat(item, set()) for item in range(len(able))) else None


def shortage(wanted: Sequence[int], classes: Sequence[tuple[int, Sequence[bool]]]) -> tuple[list[int], int] | None:
    """Parts that together want more nodes than can serve any of them, and how many can; None if all can be served.

    `wanted`: nodes of each part.  `classes`: (nodes, which parts each may serve).  Maximum flow by augmenting paths
    between parts and classes; what the last search reached is a set that violates Hall's condition.
    """
    found = _flow(wanted, classes)
    return found if isinstance(found, tuple) else None


def allotted(wanted: Sequence[int], classes: Sequence[tuple[int, Sequence[bool]]]) -> list[list[int]] | None:
    """How many nodes of each class are for each part, [class][part]; None if not all parts can be served."""
    found = _flow(wanted, classes)
    return None if isinstance(found, tuple) else found


def _flow(
    wanted: Sequence[int], classes: Sequence[tuple[int, Sequence[bool]]]
) -> tuple[list[int], int] | list[list[int]]:
    """What `shortage` says, or else what `allotted` says."""
    flow = [[0] * len(wanted) for _ in classes]
    left = [count for count, _ in classes]
    for part, count in enumerate(wanted):
        got = 0
        while got < count:
            path, reached = _path(part, flow, left, classes)
            if not path:
                parts = sorted(reached)
                able = sum(count for count, may in classes if any(may[p] for p in parts))
                return parts, able
            amount = min(count - got, left[path[-1][1]])
            for at in range(len(path) - 1):  # nodes of a class that another part gives up
                amount = min(amount, flow[path[at][1]][path[at + 1][0]])
            for at, (taker, place) in enumerate(path):
                flow[place][taker] += amount
                if at + 1 < len(path):
                    flow[place][path[at + 1][0]] -= amount
            left[path[-1][1]] -= amount
            got += amount
    return flow


def _path(
    part: int, flow: list[list[int]], left: list[int], classes: Sequence[tuple[int, Sequence[bool]]]
) -> tuple[list[tuple[int, int]], set[int]]:
    """A chain of (part, class it takes from) that ends at a class with nodes left; and the parts looked at."""
    came: dict[int, tuple[int, int]] = {}  # part -> (part that wants its nodes, the class they are of)
    seen, order = {part}, [part]
    for taker in order:
        for place, (_, may) in enumerate(classes):
            if not may[taker]:
                continue
            if left[place] > 0:
                path = [(taker, place)]
                at = taker
                while at != part:
                    path.insert(0, came[at])
                    at = came[at][0]
                return path, seen
            for other, amount in enumerate(flow[place]):
                if amount > 0 and other not in seen:
                    seen.add(other)
                    order.append(other)
                    came[other] = (taker, place)
    return [], seen
