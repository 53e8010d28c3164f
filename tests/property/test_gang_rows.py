"""Time slices: nobody shares a CPU within a slice, everybody's turn comes, and nobody is kept off for nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from helixctld.core.gang import Member, matrix, next_row

masks = st.dictionaries(st.sampled_from(["n1", "n2", "n3"]), st.integers(1, 15), min_size=1, max_size=3)


@st.composite
def gangs(draw):
    count = draw(st.integers(0, 8))
    return [Member(i + 1, draw(masks), draw(st.sampled_from([0.0, 1.0, 2.0, 3.0]))) for i in range(count)]


def meet(one, other):
    return any(one.get(node, 0) & mask for node, mask in other.items())


@given(gangs(), st.one_of(st.just({}), masks))
@settings(max_examples=300, deadline=None)
def test_a_row_has_no_conflict_and_no_gap(members, blocked):
    by_id = {m.job_id: m for m in members}
    row = next_row(members, blocked)
    cores = [by_id[j].cores for j in row]
    assert not any(meet(a, b) for k, a in enumerate(cores) for b in cores[:k])
    assert not any(meet(a, blocked) for a in cores)
    for member in members:
        if member.job_id not in row:
            assert meet(member.cores, blocked) or any(meet(member.cores, other) for other in cores)
    waiting = [m for m in members if m.since and not meet(m.cores, blocked)]
    if waiting:
        assert min(waiting, key=lambda m: (m.since, m.job_id)).job_id in row


@given(gangs())
@settings(max_examples=200, deadline=None)
def test_everybodys_turn_comes(members):
    rows = matrix(members, {})
    assert {j for row in rows for j in row} == {m.job_id for m in members}
    assert len(rows) <= len(members)
    for member in members:  # nobody waits for more slices than there are jobs it meets
        met = sum(meet(member.cores, other.cores) for other in members if other is not member)
        first = next(k for k, row in enumerate(rows) if member.job_id in row)
        assert first <= met


def test_rows_of_a_matrix():
    whole, left, right = {"n1": 15}, {"n1": 3}, {"n1": 12}
    rows = matrix([Member(1, whole), Member(2, left, 5.0), Member(3, right, 6.0)], {})
    assert rows == [[2, 3], [1]]
    rows = matrix([Member(1, whole, 1.0), Member(2, left), Member(3, {"n2": 1})], {})
    assert rows == [[1, 3], [2, 3]]  # the job in nobody's way is in both
