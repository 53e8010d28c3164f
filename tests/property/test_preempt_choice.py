"""The choice of who makes room: it suffices, nobody is superfluous, and on small cases it is the best there is."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from helix.sched.preempt import Need, Place, Share, Victim, enough, tasks_on
from helix.sched.victims import Part, choose, choose_chain

CPUS = 4


@st.composite
def clusters(draw, victims_max: int = 6):
    """Nodes of four CPUs with jobs on them, some on two nodes, and what is left free."""
    count = draw(st.integers(1, 3))
    places = [Place(i, CPUS, 1, 100, 0b1111, 100, weight=draw(st.integers(0, 1))) for i in range(count)]
    victims = []
    for job_id in range(1, draw(st.integers(0, victims_max)) + 1):
        shares = {}
        for i in draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2)):
            place = places[i]
            cores = [c for c in range(CPUS) if place.free_cores >> c & 1]
            mem = draw(st.integers(0, 40))
            if not cores or place.free_mem_mib < mem:
                continue
            n = draw(st.integers(1, len(cores)))
            mask = sum(1 << c for c in cores[:n])
            place.free_cores &= ~mask
            place.free_mem_mib -= mem
            place.taken |= mask
            shares[i] = Share(mask, mem if draw(st.booleans()) else 0)
        if shares:
            victims.append(Victim(job_id, draw(st.integers(1, 30)), shares))
    if draw(st.booleans()):  # a job that nobody may move
        place = places[draw(st.integers(0, count - 1))]
        place.taken |= place.free_cores
        place.free_cores = 0
    return places, victims


@st.composite
def needs(draw):
    kind = draw(st.sampled_from(["nodes", "tasks", "whole", "named", "neighbours"]))
    lo = draw(st.integers(1, 3))
    fields = {"mem_node_mib": draw(st.sampled_from([0, 10, 60]))}
    if kind == "tasks":
        tasks = draw(st.integers(1, 8))
        return Need(nodes_lo=1, tasks=tasks, task_hi=tasks, cpus_per_task=draw(st.integers(1, 2)), **fields)
    fields["cpus_per_task"] = draw(st.integers(1, CPUS))
    if kind == "whole":
        return Need(nodes_lo=lo, exclusive=True, **fields)
    if kind == "named":
        return Need(nodes_lo=lo, must=frozenset({draw(st.integers(0, 2))}), **fields)
    return Need(nodes_lo=lo, contiguous=kind == "neighbours", **fields)


def fits(need, places, victims, gone):
    """Whether the job can start when `gone` go, by the plain definition."""
    fit = {
        p.index: tasks_on(need, p, [v.shares[p.index] for v in victims if v.job_id in gone and p.index in v.shares])
        for p in places
    }
    return enough(need, fit) is not None


def best_cost(need, places, victims):
    """By trying every subset."""
    ids = [v.job_id for v in victims]
    cost = {v.job_id: v.cost for v in victims}
    subsets = (set(group) for n in range(len(ids) + 1) for group in combinations(ids, n))
    return min((sum(cost[v] for v in s) for s in subsets if fits(need, places, victims, s)), default=None)


@given(clusters(), needs())
@settings(max_examples=400, deadline=None)
def test_it_suffices_and_nobody_is_superfluous(cluster, need):
    places, victims = cluster
    found = choose(need, places, victims)
    best = best_cost(need, places, victims)
    if best is None:
        assert found is None
        return
    assert found is not None
    gone = set(found.victims)
    assert gone <= {v.job_id for v in victims}
    assert fits(need, places, victims, gone)
    assert not any(fits(need, places, victims, gone - {v}) for v in gone)
    assert found.cost == sum(v.cost for v in victims if v.job_id in gone) >= best
    if need.nodes_lo == 1 and not need.tasks and len(need.must) <= 1:
        assert found.cost == best
    assert len(found.nodes) == len(found.tasks) >= max(need.nodes_lo, 1)
    for index, tasks in zip(found.nodes, found.tasks, strict=True):
        shares = [v.shares[index] for v in victims if v.job_id in gone and index in v.shares]
        assert 1 <= tasks <= tasks_on(need, places[index], shares)
    assert not need.tasks or sum(found.tasks) == need.tasks


@given(clusters(), needs(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_input_changes_nothing(cluster, need, random):
    places, victims = cluster
    first = choose(need, places, victims)
    random.shuffle(places)
    random.shuffle(victims)
    assert choose(need, places, victims) == first


def many(nodes: int, jobs: int):
    """Full nodes of `jobs` one-CPU jobs each; later jobs are dearer."""
    places = [Place(i, jobs, 1, 1000, 0, 1000, taken=(1 << jobs) - 1) for i in range(nodes)]
    return places, [
        Victim(i * jobs + c, 1 + i * jobs + c, {i: Share(1 << c)}) for i in range(nodes) for c in range(jobs)
    ]


def test_large_clusters_are_looked_at_where_it_is_cheap():
    places, victims = many(2000, 4)
    found = choose(Need(nodes_lo=3, task_lo=2, task_hi=2), places, victims)
    assert (found.nodes, found.victims) == ([0, 1, 2], [0, 1, 4, 5, 8, 9])


def test_nodes_outside_the_promising_ones_are_found_too():
    places, victims = many(1200, 2)
    found = choose(Need(must=frozenset({1100})), places, victims)
    assert found.nodes == [1100]
    found = choose(Need(nodes_lo=700, contiguous=True, cpus_per_task=2), places, victims)
    assert len(found.victims) == 1400


@st.composite
def chains(draw):
    """Two or three parts, each for one or two nodes of some."""
    parts = []
    for _ in range(draw(st.integers(2, 3))):
        fields = {"cpus_per_task": draw(st.integers(1, CPUS)), "mem_node_mib": draw(st.sampled_from([0, 10, 60]))}
        if draw(st.booleans()):
            tasks = draw(st.integers(1, 3))
            fields |= {"tasks": tasks, "task_hi": tasks, "cpus_per_task": 1}
        need = Need(nodes_lo=1 if "tasks" in fields else draw(st.integers(1, 2)), **fields)
        parts.append((need, draw(st.sets(st.integers(0, 3), min_size=1)), draw(st.sampled_from([None, 2, 3]))))
    return parts


@st.composite
def wide_clusters(draw):
    """Four full nodes, some jobs on two of them."""
    places = [Place(i, CPUS, 1, 100, 0, 100, taken=(1 << CPUS) - 1) for i in range(4)]
    victims = []
    for i in range(4):
        left = CPUS
        while left and len(victims) < 7:
            n = draw(st.integers(1, left))
            mask = ((1 << n) - 1) << (CPUS - left)
            left -= n
            if victims and i and i - 1 in victims[-1].shares and len(victims[-1].shares) == 1 and draw(st.booleans()):
                victims[-1].shares[i] = Share(mask)
            else:
                victims.append(Victim(len(victims) + 1, draw(st.integers(1, 30)), {i: Share(mask)}))
    return places, victims


def ways_of(need, able):
    """Sets of nodes that would do for one part."""
    hi = need.tasks or need.nodes_lo
    for count in range(need.nodes_lo, hi + 1):
        for group in combinations(sorted(able), count):
            if not need.tasks or sum(able[i] for i in group) >= need.tasks:
                yield set(group)


def chain_fits(parts, gone):
    """Whether all parts find different nodes when `gone` go, by trying everything."""

    def seat(at, used):
        if at == len(parts):
            return True
        part = parts[at]
        able = {}
        for place in part.places:
            shares = [
                v.shares[place.index]
                for v in gone
                if place.index in v.shares and (part.may_ask is None or v.job_id in part.may_ask)
            ]
            tasks = tasks_on(part.need, place, shares)
            if tasks and place.index not in used:
                able[place.index] = tasks
        return any(seat(at + 1, used | group) for group in ways_of(part.need, able))

    return seat(0, set())


@given(wide_clusters(), chains())
@settings(max_examples=300, deadline=None)
def test_parts_of_a_chain_are_made_room_for_together(cluster, asked):
    places, victims = cluster
    parts = [
        Part(
            need,
            [places[i] for i in sorted(nodes)],
            None if every is None else frozenset(v.job_id for v in victims if v.job_id % every),
        )
        for need, nodes, every in asked
    ]
    found = choose_chain(parts, victims)
    subsets = (set(group) for n in range(len(victims) + 1) for group in combinations(range(len(victims)), n))
    costs = [sum(victims[i].cost for i in s) for s in subsets if chain_fits(parts, [victims[i] for i in sorted(s)])]
    if found is None:  # spread evenly over as few nodes as may be, tasks may find no room although others would do
        assert not costs or any(part.need.tasks for part in parts)
        return
    gone = [v for v in victims if v.job_id in found.victims]
    assert chain_fits(parts, gone)
    assert found.cost == sum(v.cost for v in gone) >= min(costs)
    assert found.cost <= 4 * min(costs) + 30  # near the best there is
    if not any(part.need.tasks for part in parts):
        assert not any(chain_fits(parts, [w for w in gone if w is not v]) for v in gone)
    assert len(set(found.nodes)) == len(found.nodes) == len(found.part) == len(found.tasks)
    for at, part in enumerate(parts):
        mine = [(i, t) for i, t, p in zip(found.nodes, found.tasks, found.part, strict=True) if p == at]
        assert len(mine) >= part.need.nodes_lo
        assert {i for i, _ in mine} <= {p.index for p in part.places}
        if part.need.tasks:
            assert sum(t for _, t in mine) == part.need.tasks
