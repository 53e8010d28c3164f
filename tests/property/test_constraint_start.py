"""Jobs with constraints start on nodes that meet them, and start whenever there is a choice of nodes that does."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

from helpers.sched_world import World, node
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.sched.features import meets, parse_constraint
from helix_plugins.sched.backfill import Backfill
from helix_plugins.sched.fifo import Fifo

NAMES = "abc"
names = st.sampled_from(["a", "b", "c", "!a", "(a|b)", "(b&c)"])
constraints = st.one_of(
    st.lists(names, min_size=1, max_size=3).map(lambda words: f"[{'|'.join(words)}]"),
    st.lists(st.tuples(names, st.integers(1, 2)), min_size=1, max_size=2).map(
        lambda parts: "&".join(f"{word}*{count}" for word, count in parts)
    ),
    st.tuples(names, names).map(lambda words: f"{words[0]}&[{words[1]}*1|c*2]"),
    st.tuples(names, names).map("|".join),
)
clusters = st.lists(st.tuples(st.frozensets(st.sampled_from(NAMES)), st.booleans()), min_size=1, max_size=5)


def is_served(constraint: str, nodes: tuple[frozenset[str], ...]) -> bool:
    """True if these nodes, all of them, meet the constraint: by trying every order."""
    for alternative in parse_constraint(constraint).alternatives:
        wanted = [part.term for part in alternative.parts for _ in range(part.count)]
        if all(meets(each, alternative.every) for each in nodes) and any(
            all(meets(each, term) for each, term in zip(order, wanted, strict=True))
            for order in permutations(nodes, len(wanted))
        ):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(clusters, constraints, st.integers(1, 3), st.booleans(), st.sampled_from([Backfill, Fifo]))
def test_a_job_starts_where_it_can_and_only_there(
    cluster: list[tuple[frozenset[str], bool]],
    constraint: str,
    count: int,
    tasks: bool,
    planner: type[Backfill] | type[Fifo],
) -> None:
    records = [node(f"n{i + 1}", 1, features=sorted(features)) for i, (features, _) in enumerate(cluster)]
    world = World(records, planner=planner())
    for i, (_, busy) in enumerate(cluster):
        if busy:
            world.submit(nodelist=f"n{i + 1}")
            world.run()
    fields: dict[str, Any] = {"tasks": count} if tasks else {}
    job = world.submit(constraint=constraint, nodes_min=count, nodes_max=0, **fields)
    started = world.run()
    features = {f"n{i + 1}": has for i, (has, _) in enumerate(cluster)}
    free = [has for has, busy in cluster if not busy]
    sizes = range(count, len(free) + 1)
    able = [size for size in sizes if any(is_served(constraint, chosen) for chosen in combinations(free, size))]
    if started:
        assert started == [job]
        nodes = world.where(job)
        assert len(set(nodes)) == len(nodes) >= count
        assert is_served(constraint, tuple(features[name] for name in nodes))
    else:
        assert not able
