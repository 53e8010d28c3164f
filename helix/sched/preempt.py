"""Which running jobs make room for a waiting one: rules that plugins answer by, and the choice of the victims.  Pure.

`choose` finds a set of jobs whose going lets the waiting job start, as cheaply as it can: the sum over the set of
`Victim.cost`.  It tries three ways (node by node, nodes by the price of a task, all of them less what is not needed),
drops from each, dearest first, every job without which there is still room, and takes the cheapest.  So the result
always suffices and nobody in it is superfluous; for one node with up to EXACT_MAX jobs on each node it is the best
there is.  On more than NODES_MAX nodes the most promising ones are tried alone first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from helix.sched.place import free_cpus

NODES_MAX = 512  #: nodes looked at closely; of more that could make room the cheapest
EXACT_MAX = 10  #: victims on a node up to which every subset is tried
PENALTY = 600  #: what the loss of one more job counts, in CPU seconds

OFF, CANCEL, REQUEUE, SUSPEND = "OFF", "CANCEL", "REQUEUE", "SUSPEND"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreemptRules:
    """What the configuration says of preemption and time slicing."""

    modes: tuple[str, ...] = (OFF,)  # words of PreemptMode
    exempt_s: int = 0  # a job makes room after it has run for so long
    min_exempt_priority: int = 0  # from this priority on none makes room; 0 = no such limit
    youngest_first: bool = False
    strict_order: bool = False
    send_user_signal: bool = False
    time_slice_s: int = 30
    requeue_default: bool = True  # JobRequeue

    @property
    def gang(self) -> bool:
        """True if jobs that share CPUs take turns."""
        return "GANG" in self.modes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What a plugin sees of a job, waiting or running."""

    job_id: int
    uid: int = 0
    account: str = ""
    priority: int = 0
    partition: str = ""
    tier: int = 1  # PriorityTier of the partition
    partition_modes: tuple[str, ...] = ()  # words of its PreemptMode, () = the cluster's
    partition_grace_s: int = 0
    qos: str = ""
    qos_priority: int = 0
    qos_preempts: tuple[str, ...] = ()  # QOS whose jobs it may take the place of
    qos_modes: tuple[str, ...] = ()
    qos_grace_s: int = 0
    qos_exempt_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms a job makes room."""

    modes: tuple[str, ...] = ()  # words of PreemptMode, () = the cluster's
    grace_s: int = 0  # between the warning and SIGKILL, 0 = KillWait
    exempt_s: int | None = None  # None = the cluster's
    level: int = 0  # jobs of a lower level make room first


@dataclass(frozen=True, slots=True)
class Share:
    """What comes free on a node when a job makes room: cores as a mask, MiB, units of each kind of GRES."""

    cores: int
    mem_mib: int = 0
    gres: tuple[int, ...] = ()
    room: int = 0  # CPUs that count against MaxCPUsPerNode of the waiting job's partition


@dataclass(frozen=True, slots=True)
class Victim:
    """A job that may make room.  `cost` >= 1."""

    job_id: int
    cost: int
    shares: Mapping[int, Share]  # by node index


@dataclass(slots=True)
class Place:
    """A node as it is for the waiting job before anybody makes room."""

    index: int
    cpus: int  # configured
    width: int  # CPUs in a core
    mem_mib: int  # configured
    free_cores: int  # mask
    free_mem_mib: int
    taken: int = 0  # cores of jobs, whoever they are; `exclusive` needs none of them left
    free_gres: tuple[int, ...] = ()
    room: int | None = None  # what MaxCPUsPerNode leaves, None = no limit
    weight: int = 0  # lower is taken first


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the waiting job needs; names as in `helix.sched.request.Request`."""

    nodes_lo: int = 1
    nodes_hi: int = 0  # 0 = no bound
    tasks: int = 0  # 0 = task_lo on each node
    task_lo: int = 1
    task_hi: int = 1
    cpus_per_task: int = 1
    cpus_min: int = 0
    mem_node_mib: int = 0
    mem_cpu_mib: int = 0
    mem_all: bool = False
    exclusive: bool = False
    gres: tuple[int, ...] = ()  # on each node
    must: frozenset[int] = frozenset()  # nodes it names
    contiguous: bool = False

    def cost(self, tasks: int, width: int) -> int:
        """CPUs that `tasks` tasks take, in whole cores."""
        cpus = max(tasks * self.cpus_per_task, self.cpus_min)
        return -(-cpus // width) * width


@dataclass(slots=True)
class Choice:
    """Who makes room (job ids, ascending) and what the job gets: nodes by index, ascending, with their tasks."""

    victims: list[int]
    nodes: list[int]
    tasks: list[int]
    cost: int = 0


def tasks_on(need: Need, place: Place, shares: Iterable[Share]) -> int:
    """Tasks the node takes when these shares come free; 0 if it cannot be part."""
    cores, mem, taken, room = place.free_cores, place.free_mem_mib, place.taken, place.room
    gres = list(place.free_gres)
    for share in shares:
        cores |= share.cores
        taken &= ~share.cores
        mem += share.mem_mib
        if room is not None:
            room += share.room
        for kind, units in enumerate(share.gres):
            gres[kind] += units
    if need.exclusive and taken:
        return 0
    cpus = free_cpus(cores, place.width, place.cpus)
    if room is not None and not need.exclusive:
        cpus = max(0, min(cpus, room)) // place.width * place.width
    if need.exclusive and cpus < place.cpus // place.width * place.width:
        return 0
    least = need.cost(need.task_lo, place.width)
    if cpus < least or any(has < want for has, want in zip(gres, need.gres, strict=False)):
        return 0
    tasks = cpus // need.cpus_per_task
    if need.mem_all:
        if mem < place.mem_mib:
            return 0
    elif need.mem_node_mib:
        if mem < need.mem_node_mib:
            return 0
    elif need.mem_cpu_mib:
        by_mem = mem // need.mem_cpu_mib // place.width * place.width
        if by_mem < least:
            return 0
        tasks = min(tasks, by_mem // need.cpus_per_task)
    tasks = min(tasks, need.task_hi)
    return tasks if tasks >= need.task_lo else 0


def enough(need: Need, fit: Mapping[int, int]) -> list[int] | None:
    """Nodes on which the job can start given the tasks each takes (0 or no entry: none), in the order of `fit`."""
    able = [index for index, tasks in fit.items() if tasks > 0]
    if not need.must <= set(able):
        return None
    lo = max(need.nodes_lo, len(need.must))
    hi = need.nodes_hi or len(able)
    if need.tasks:
        hi = min(hi, need.tasks)
    if lo > min(hi, len(able)):
        return None
    if need.contiguous:
        return _neighbours(need, fit, lo, hi)
    order = [i for i in able if i in need.must] + [i for i in able if i not in need.must]
    if not need.tasks:
        return order[:lo]
    for ranked in (order, sorted(order, key=lambda i: (i not in need.must, -fit[i]))):
        total = 0
        for count, index in enumerate(ranked[:hi], 1):
            total += fit[index]
            if total >= need.tasks and count >= lo:
                return ranked[:count]
    return None


def _neighbours(need: Need, fit: Mapping[int, int], lo: int, hi: int) -> list[int] | None:
    for first in sorted(i for i, tasks in fit.items() if tasks > 0):
        run: list[int] = []
        total = 0
        index = first
        while fit.get(index, 0) > 0 and len(run) < hi:
            run.append(index)
            total += fit[index]
            index += 1
            if len(run) >= lo and total >= need.tasks and need.must <= set(run):
                return run
    return None


@dataclass(slots=True)
class _Problem:
    """The question, and which victims are on which node."""

    need: Need
    places: dict[int, Place]
    victims: dict[int, Victim]
    on: dict[int, list[int]] = field(default_factory=dict)  # node -> victims there, cheapest first

    def fit_of(self, index: int, gone: Iterable[int]) -> int:
        victims = self.victims
        return tasks_on(self.need, self.places[index], [victims[v].shares[index] for v in gone])

    def fits(self, gone: set[int], places: Iterable[int]) -> dict[int, int]:
        return {i: self.fit_of(i, [v for v in self.on.get(i, ()) if v in gone]) for i in places}

    def cost_of(self, gone: Iterable[int]) -> int:
        return sum(self.victims[v].cost for v in gone)


def choose(need: Need, places: Sequence[Place], victims: Sequence[Victim]) -> Choice | None:
    """The cheapest victims found whose going lets the job start; None if not even all of them are enough.

    `places`: the nodes the job may run on; victims elsewhere are not looked at.  A choice without victims means that
    the job can start as things are.
    """
    wanted = max(NODES_MAX, 2 * max(need.nodes_lo, len(need.must)))
    if len(places) > wanted:
        found = _choose(need, _promising(need, places, victims, wanted), victims)
        if found is not None:
            return found
    return _choose(need, places, victims)


def _choose(need: Need, places: Sequence[Place], victims: Sequence[Victim]) -> Choice | None:
    problem = _Problem(need, {p.index: p for p in places}, {})
    for victim in sorted(victims, key=lambda v: (v.cost, v.job_id)):
        here = [i for i in victim.shares if i in problem.places]
        if here:
            problem.victims[victim.job_id] = victim
            for i in here:
                problem.on.setdefault(i, []).append(victim.job_id)
    best: tuple[int, list[int], set[int]] | None = None
    for way in (_by_node, _by_task, _all):
        if way is _all and best is not None and len(problem.victims) > NODES_MAX:
            break
        gone = way(problem)
        if gone is None:
            continue
        kept = _without_needless(problem, gone)
        if kept is None:
            continue
        found = (problem.cost_of(kept), sorted(kept), kept)
        if best is None or found[:2] < best[:2]:
            best = found
    return None if best is None else _placed(problem, best[2], best[0])


def _looked_at(problem: _Problem, gone: set[int]) -> list[int]:
    """Nodes that matter when these go: theirs and those that need nobody to go."""
    touched = {i for v in gone for i in problem.victims[v].shares if i in problem.places}
    return sorted(touched | {i for i in problem.places if i not in problem.on or problem.fit_of(i, ()) > 0})


def _without_needless(problem: _Problem, gone: set[int]) -> set[int] | None:
    """The reverse pass: dearest first, those without whom there is still room stay.  None if `gone` is too few."""
    nodes = _looked_at(problem, gone)
    fit = problem.fits(gone, nodes)
    if enough(problem.need, fit) is None:
        return None
    kept = set(gone)
    groups = [sorted(gone, key=lambda v: (-problem.victims[v].cost, -v))]
    while groups:  # a group that can stay as a whole takes one look; otherwise its halves are looked at in turn
        group = groups.pop()
        trial = dict(fit)
        stay = kept.difference(group)
        for i in {i for v in group for i in problem.victims[v].shares if i in fit}:
            trial[i] = problem.fit_of(i, [w for w in problem.on[i] if w in stay])
        if enough(problem.need, trial) is not None:
            kept, fit = stay, trial
        elif len(group) > 1:
            half = len(group) // 2
            groups += [group[half:], group[:half]]
    return kept


def _cheapest_on(problem: _Problem, index: int, gone: set[int], tasks: int) -> tuple[int, set[int]] | None:
    """The cheapest further victims on a node so that it takes `tasks` tasks, and their cost."""
    on = [v for v in problem.on.get(index, ()) if v not in gone]
    already = [v for v in problem.on.get(index, ()) if v in gone]
    if problem.fit_of(index, [*already, *on]) < tasks:
        return None
    if problem.fit_of(index, already) >= tasks:
        return 0, set()
    if len(on) <= EXACT_MAX:
        best: tuple[int, set[int]] | None = None
        for count in range(1, len(on) + 1):
            for group in combinations(on, count):
                cost = problem.cost_of(group)
                if (best is None or cost < best[0]) and problem.fit_of(index, [*already, *group]) >= tasks:
                    best = cost, set(group)
        return best
    kept = set(on)
    for v in reversed(on):
        if problem.fit_of(index, [*already, *(w for w in on if w in kept and w != v)]) >= tasks:
            kept.discard(v)
    return problem.cost_of(kept), kept


def _by_node(problem: _Problem) -> set[int] | None:
    """Node after node, each time the one that costs least to take its share (on one node: everything)."""
    need = problem.need
    count = max(need.nodes_lo, len(need.must), 1)
    share = max(1, need.task_lo)
    if need.tasks:
        if count * need.task_hi < need.tasks:
            count = -(-need.tasks // need.task_hi)
        share = max(share, -(-need.tasks // count))
    prices: dict[int, tuple[int, set[int]]] = {}
    gone: set[int] = set()
    for index in sorted(problem.places):
        price = _cheapest_on(problem, index, gone, share)
        if price is not None:
            prices[index] = price
    chosen = 0
    while chosen < count:
        named = [i for i in prices if i in need.must]
        if not prices:
            return None
        index = min(named or prices, key=lambda i: (prices[i][0], problem.places[i].weight, i))
        price = prices.pop(index)
        chosen += 1
        if price[1]:
            gone |= price[1]
            near = {i for v in price[1] for i in problem.victims[v].shares}
            for other in near & prices.keys():
                again = _cheapest_on(problem, other, gone, share)
                if again is not None:
                    prices[other] = again
    return gone


def _all(problem: _Problem) -> set[int]:
    return set(problem.victims)


def _promising(need: Need, places: Sequence[Place], victims: Sequence[Victim], count: int) -> list[Place]:
    """`count` nodes: those named, then those with the cheapest CPUs to be had, free ones first."""
    price = dict.fromkeys((p.index for p in places), 0)
    freed = {p.index: free_cpus(p.free_cores, p.width, p.cpus) for p in places}
    for victim in victims:
        for index, share in victim.shares.items():
            if index in price:
                price[index] += victim.cost
                freed[index] += share.cores.bit_count()
    ranked = sorted(places, key=lambda p: (p.index not in need.must, price[p.index] / (freed[p.index] + 1), p.index))
    return ranked[:count]


def _by_task(problem: _Problem) -> set[int] | None:
    """Whole nodes, by what a task costs there: for many tasks on nodes of different sizes."""
    need = problem.need
    if not need.tasks:
        return None
    ranked: list[tuple[bool, float, int]] = []
    for index in sorted(problem.places):
        on = problem.on.get(index, ())
        tasks = problem.fit_of(index, on)
        if tasks:
            ranked.append((index not in need.must, problem.cost_of(on) / tasks, index))
    gone: set[int] = set()
    fit: dict[int, int] = {}
    for _, _, index in sorted(ranked):
        gone.update(problem.on.get(index, ()))
        fit[index] = problem.fit_of(index, problem.on.get(index, ()))
        if enough(need, fit) is not None:
            return gone
    return None


def _placed(problem: _Problem, gone: set[int], cost: int) -> Choice | None:
    """Nodes and tasks of a set of victims: nodes where somebody goes first, then by weight and index."""
    need = problem.need
    touched = {i for v in gone for i in problem.victims[v].shares}
    order = sorted(_looked_at(problem, gone), key=lambda i: (i not in touched, problem.places[i].weight, i))
    fit = problem.fits(gone, order)
    nodes = enough(need, fit)
    if nodes is None:
        return None
    nodes = sorted(nodes)
    if not need.tasks:
        return Choice(sorted(gone), nodes, [need.task_lo] * len(nodes), cost)
    tasks: list[int] = []
    left = need.tasks
    for place, index in enumerate(nodes):
        tasks.append(min(fit[index], left - (len(nodes) - 1 - place)))
        left -= tasks[-1]
    return Choice(sorted(gone), nodes, tasks, cost)


def work_cost(cpus: int, ran_s: float, level: int, *, loses: bool, rules: PreemptRules) -> int:
    """What it costs that a job makes room: the CPU seconds it loses (CPUs alone where it is only stopped), more for
    jobs of a higher level, and a penalty for each job.  With youngest_first, the seconds it has run.  `level`: dense,
    from 0."""
    if rules.youngest_first:
        base = int(max(0.0, ran_s)) + 1
    else:
        base = PENALTY + (int(cpus * max(0.0, ran_s)) if loses else cpus)
    if rules.strict_order:
        return base << (48 * level) if level < 16 else base << (48 * 16)
    return base * (1 + level)
