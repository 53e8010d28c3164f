"""Time to read an expression and to evaluate it on all nodes, with columns that are already there.

Run: python tests/bench/bench_expressions.py [NODES]    (default: 10,000)
Bar: a condition on 10,000 nodes takes well under 1 ms; patterns over as many distinct names as nodes are the exception.
"""

import sys
import time
from collections.abc import Callable

from helix.model.node import Fingerprint, NodeBase, NodeRecord
from helix.model.partition import PartitionRecord
from helix.model.topology import Topology
from helix.sched.expression_columns import rank_rows, true_rows
from helixctld.core.state import State
from helixctld.schedule.node_attributes import NodeAttributes
from helixctld.schedule.node_columns import NodeColumns

CONDITIONS = (
    "cpus >= 32",
    "cpus >= 32 and memory >= 64G and features has ib and arch == 'x86_64'",
    "(cpus > 64 or gres.gpu:a100 >= 2) and not features has gpu and memory/cpus >= 2G",
    "attr.rack in (1, 2, 3) and 'batch' in partitions",
    "arch =~ 'x86*'",
    "name in ('n17', 'n18')",
    "name =~ 'n1*7'",
)
RANKS = ("-weight", "memory/cpus - 10*weight", "if(features has ib, 1, 0)")


def nodes(count: int) -> NodeColumns:
    state = State("bench")
    state.set_nodes(
        [
            NodeRecord(
                name=f"n{i}", cpus=(32, 64, 128)[i % 3], real_memory_mib=1 << (16 + i % 4), base=NodeBase.UP,
                responding=True, features=["ib"] * (i % 2) + ["gpu"] * (i % 5 == 0), weight=i % 7,
                gres="gpu:a100:4" if i % 5 == 0 else "", attrs={"rack": str(i // 40)},
                fingerprint=Fingerprint(arch="x86_64" if i % 9 else "aarch64", os="Linux"),
            )
            for i in range(count)
        ]
    )  # fmt: skip
    columns = NodeColumns()
    columns.reload(state)
    return columns


def best(work: Callable[[], object], rounds: int = 20) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    columns = nodes(count)
    attributes = NodeAttributes(columns)
    attributes.take_partitions([PartitionRecord(name="batch", nodes=columns.names)], Topology())
    print(f"{count} nodes; microseconds: read, columns made the first time, evaluated with columns at hand")
    for text in CONDITIONS:
        start = time.perf_counter()
        found = attributes.condition(text)
        read = time.perf_counter() - start
        start = time.perf_counter()
        attributes.satisfying(text)
        first = time.perf_counter() - start
        again = best(lambda found=found: true_rows(found.program, attributes.column, count))
        print(f"  {text:<84} {read * 1e6:7.0f} {first * 1e6:9.0f} {again * 1e6:7.0f}")
    for text in RANKS:
        start = time.perf_counter()
        found = attributes.rank(text)
        read = time.perf_counter() - start
        start = time.perf_counter()
        attributes.ranked(text)
        first = time.perf_counter() - start
        again = best(lambda found=found: rank_rows(found.program, attributes.column, count))
        print(f"  {text:<84} {read * 1e6:7.0f} {first * 1e6:9.0f} {again * 1e6:7.0f}")


if __name__ == "__main__":
    main()
