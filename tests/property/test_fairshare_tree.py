"""Fair-share factors: in bounds, monotone in usage and shares, by the tree."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix.sched.fairshare import PARENT, Shares, Tree, classic, fair_tree


def methods() -> list[object]:
    return [fair_tree, classic, lambda tree: classic(tree, depth_oblivious=True), lambda tree: classic(tree, 5)]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Accounts below accounts, users below them; usage of an account is that of what is in it."""
    parent, is_user = [-1], [False]
    for _ in range(draw(st.integers(0, 14))):
        parent.append(draw(st.sampled_from([row for row, user in enumerate(is_user) if not user])))
        is_user.append(draw(st.booleans()))
    size = len(parent)
    shares = [draw(st.sampled_from([0, 1, 1, 2, 10, PARENT] if user else [0, 1, 1, 2, 10])) for user in is_user]
    usage = [draw(st.sampled_from([0, 0, 1, 5, 1000, 1 << 60])) if user else 0 for user in is_user]
    for row in range(size - 1, 0, -1):
        usage[parent[row]] += usage[row]
    return Tree(parent, shares, usage, is_user)


@given(trees())
def test_factors_lie_between_0_and_1(tree: Tree) -> None:
    for method in methods():
        found: Shares = method(tree)  # type: ignore[operator]
        assert all(0.0 <= factor <= 1.0 and math.isfinite(factor) for factor in found.factor)
        assert len(found.factor) == len(tree.parent)


@given(trees())
def test_fair_tree_ranks_users_without_gaps(tree: Tree) -> None:
    users = [row for row, user in enumerate(tree.is_user) if user]
    factor = fair_tree(tree).factor
    ranks = sorted((round(factor[row] * len(users)) for row in users), reverse=True)
    for place, rank in enumerate(ranks):  # the best has the whole; equals share a rank, the next starts after them
        assert rank == len(users) - place or rank == ranks[place - 1]


@given(trees())
def test_an_account_that_is_served_better_ranks_all_its_users_first(tree: Tree) -> None:
    found = fair_tree(tree)
    top = [row for row, above in enumerate(tree.parent) if above == 0]

    def users(row: int) -> list[int]:
        return [r for r, user in enumerate(tree.is_user) if user and row in _path(tree, r)]

    for one in top:
        for other in top:
            if found.level_fs[one] > found.level_fs[other]:
                least = min((found.factor[r] for r in users(one)), default=2.0)
                assert all(found.factor[r] < least for r in users(other))


def _path(tree: Tree, row: int) -> list[int]:
    path = [row]
    while tree.parent[path[-1]] >= 0:
        path.append(tree.parent[path[-1]])
    return path


@pytest.mark.parametrize("dampening", [1, 3])
def test_the_classic_formula(dampening: int) -> None:
    """The example of priority_multifactor.html in small: two accounts, users with and without usage."""
    tree = Tree([-1, 0, 0, 1, 1], [1, 60, 40, 1, 3], [100, 25, 75, 25, 0], [False, False, False, True, True])
    found = classic(tree, dampening)
    assert found.norm_shares == pytest.approx([1.0, 0.6, 0.4, 0.15, 0.45])
    assert found.norm_usage == pytest.approx([1.0, 0.25, 0.75, 0.25, 0.0])
    assert found.effective_usage[3:] == pytest.approx([0.25, 0.25 * 0.75])
    assert found.factor[4] == pytest.approx(2 ** (-(0.1875 / 0.45) / dampening))


def test_more_use_is_never_served_sooner() -> None:
    for method in methods():
        last = 2.0
        for used in (0, 10, 100, 10_000):
            tree = Tree([-1, 0, 0], [1, 1, 1], [used + 100, used, 100], [False, True, True])
            factor = method(tree).factor[1]  # type: ignore[operator]
            assert factor <= last
            last = factor


def test_users_that_share_with_their_account_have_its_factor() -> None:
    tree = Tree([-1, 0, 1, 1], [1, 1, PARENT, PARENT], [9, 9, 9, 0], [False, False, True, True])
    found = classic(tree)
    assert found.factor[1] == found.factor[2] == found.factor[3]


def ranks_of(tree: Tree) -> dict[int, int]:
    """Fair Tree again, with fractions: rank of each user, 0 first; equals share a rank."""

    def children(row: int) -> list[int]:
        return [child for child, above in enumerate(tree.parent) if above == row]

    def level(row: int) -> tuple[int, Fraction]:
        """Shares over usage among siblings; (1, ...) where nothing was used, which is above all fractions."""
        if row == 0:
            return 1, Fraction(0)
        if tree.shares[row] == PARENT:
            return level(tree.parent[row])
        siblings = children(tree.parent[row])
        shares = sum(tree.shares[s] for s in siblings if tree.shares[s] != PARENT)
        used = sum(tree.usage[s] for s in siblings)
        if not tree.shares[row]:
            return 0, Fraction(0)
        if not tree.usage[row]:
            return 1, Fraction(0)
        return 0, Fraction(tree.shares[row], shares) / Fraction(tree.usage[row], used)

    ranks: dict[int, int] = {}

    def walk(rows: list[int]) -> None:
        for equal in sorted({level(row) for row in rows}, reverse=True):
            group = [row for row in rows if level(row) == equal]
            first = len(ranks)
            ranks.update((row, first) for row in group if tree.is_user[row])
            walk([child for row in group if not tree.is_user[row] for child in children(row)])

    walk(children(0))
    return ranks


@st.composite
def small_trees(draw: st.DrawFn) -> Tree:
    """Few different numbers, so that many rows are equal in their level."""
    tree = draw(trees())
    usage = [draw(st.sampled_from([0, 1, 2, 3, 6, 9, 12])) if user else 0 for user in tree.is_user]
    for row in range(len(usage) - 1, 0, -1):
        usage[tree.parent[row]] += usage[row]
    shares = [s if s == PARENT else draw(st.sampled_from([0, 1, 2, 3, 6])) for s in tree.shares]
    return Tree(tree.parent, shares, usage, tree.is_user)


@given(st.one_of(small_trees(), trees()))
@settings(max_examples=150)
def test_the_order_is_that_of_a_plain_implementation(tree: Tree) -> None:
    users = sum(tree.is_user)
    factor = fair_tree(tree).factor
    assert {row: factor[row] for row in ranks_of(tree)} == {
        row: (users - rank) / users for row, rank in ranks_of(tree).items()
    }
