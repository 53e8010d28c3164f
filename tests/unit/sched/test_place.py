"""Which CPUs of a node are given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helix.model.node import NodeRecord
from helix.sched.place import core_width, free_cpus, pick_cpus, socket_cpus


def test_cores_are_given_whole_lowest_first() -> None:
    assert pick_cpus(0b1111, 2, width=1, per_socket=4, cpus=4) == [0, 1]
    assert pick_cpus(0b1011, 2, width=2, per_socket=4, cpus=4) == [0, 1]
    assert pick_cpus(0b1110, 2, width=2, per_socket=4, cpus=4) == [2, 3]
    assert pick_cpus(0b0110, 2, width=2, per_socket=4, cpus=4) is None
    assert pick_cpus(0b1111, 4, width=2, per_socket=4, cpus=4) == [0, 1, 2, 3]


def test_the_tightest_socket_that_is_enough_is_used() -> None:
    two_sockets = 0b1100_1111  # socket 0 has 4 free, socket 1 has 2
    assert pick_cpus(two_sockets, 2, width=1, per_socket=4, cpus=8) == [6, 7]
    assert pick_cpus(two_sockets, 3, width=1, per_socket=4, cpus=8) == [0, 1, 2]
    assert pick_cpus(two_sockets, 5, width=1, per_socket=4, cpus=8) == [0, 1, 2, 3, 6]


@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 2, 4]), st.integers(0, 2**48), st.integers(0, 48))
def test_picked_cpus_are_free_whole_and_as_many_as_asked(
    sockets: int, cores: int, width: int, free: int, ask: int
) -> None:
    cpus = sockets * cores * width
    free &= (1 << cpus) - 1
    count = ask * width
    picked = pick_cpus(free, count, width=width, per_socket=cores * width, cpus=cpus)
    if free_cpus(free, width, cpus) < count:
        assert picked is None
        return
    assert picked is not None
    assert picked == sorted(set(picked))
    assert len(picked) == count
    assert all(free >> cpu & 1 for cpu in picked)
    assert {cpu // width for cpu in picked} == {cpu // width for cpu in picked if cpu % width == 0}
    assert all({c * width + t for t in range(width)} <= set(picked) for c in {cpu // width for cpu in picked})


def test_cpus_configured_as_cores_or_threads() -> None:
    threads = NodeRecord(name="a", cpus=16, sockets=2, cores_per_socket=4, threads_per_core=2)
    assert (core_width(threads), socket_cpus(threads)) == (2, 8)
    cores = NodeRecord(name="b", cpus=8, sockets=2, cores_per_socket=4, threads_per_core=2)
    assert (core_width(cores), socket_cpus(cores)) == (1, 4)
    odd = NodeRecord(name="c", cpus=7, sockets=2, cores_per_socket=4, threads_per_core=2)
    assert (core_width(odd), socket_cpus(odd)) == (1, 7)
