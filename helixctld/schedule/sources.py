"""What the planner's columns take from others: pools, kinds of GRES, topology, scores, checks of a start.

Each protocol is implemented where its subject lives and handed to `Columns` in a `Sources`; the columns call it for
what changed and hold the numbers.  See docs/internals/scheduling.md.  Implementations are pure and quick: they are
called once a changed job or node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from helix.model.job import Allocation, JobRecord
from helix.model.job_state import Reason
from helix.model.node import NodeRecord
from helix.sched.request import Request
from helix_native.arrays import Int32
from helixctld.core.state import State

#: names a pool: the word of its source first, then whatever tells its pools apart
PoolKey = tuple[str, ...]


class PoolSource(Protocol):
    """Counts for the whole cluster that a running job takes from: licences, limits of associations and QOS."""

    @property
    def name(self) -> str:
        """First word of its keys."""

    @property
    def version(self) -> int:
        """Rises when a total, or what jobs take, may have changed: everything is asked again."""

    def wants(self, state: State, job: JobRecord) -> Iterable[tuple[PoolKey, int]]:
        """What one start of a waiting job (one task of an array) takes of which pools."""

    def holds(self, state: State, job: JobRecord, alloc: Allocation) -> Iterable[tuple[PoolKey, int]]:
        """What `job` takes while it runs with `alloc`; for a running job, and for a start that is being committed."""

    def total(self, state: State, key: PoolKey) -> int:
        """How much there is."""

    def words(self, state: State, key: PoolKey) -> tuple[Reason, str]:
        """The reason of a job that this pool keeps waiting, and a line for people."""


@runtime_checkable
class CountingPoolSource(PoolSource, Protocol):
    """A source some of whose pools count jobs that they do not keep from starting."""

    def counts(self, state: State, job: JobRecord, alloc: Allocation) -> Iterable[tuple[PoolKey, int]]:
        """What `job` takes besides what it `holds`, while it runs."""


@runtime_checkable
class MovingPoolSource(PoolSource, Protocol):
    """A source some of whose totals change by themselves; they are asked for before each pass and each commit."""

    def is_moving(self, key: PoolKey) -> bool:
        """True for such a pool."""


@runtime_checkable
class TellingPoolSource(PoolSource, Protocol):
    """A source that can say how a waiting job stands with one of its pools."""

    def of_job(self, state: State, key: PoolKey, used: int, amount: int) -> tuple[str, list[str]]:
        """What is in use of the pool and what the job asks of it, and advice.  `used`, `amount`: as `total` counts."""


class GresSource(Protocol):
    """Kinds of generic resources that are counted by node."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The columns; when they change, everything is read again."""

    def capacity(self, node: NodeRecord) -> Sequence[int]:
        """Units of each kind the node has."""

    def free(self, state: State, node: NodeRecord) -> Sequence[int]:
        """Units of each kind that no job has now."""

    def asked(self, request: Request) -> Sequence[int]:
        """Units of each kind the request wants on each node."""

    def lacking(self, request: Request) -> str:
        """A kind that the request wants and that has no column because no node has it; "" if there is none."""

    def held(self, job: JobRecord, alloc: Allocation, place: int) -> Sequence[int]:
        """Units of each kind `alloc` has on its node number `place`."""

    def give(self, state: State, job: JobRecord, alloc: Allocation, taken: dict[str, object]) -> str:
        """Fill in what a start that is being committed gets (device numbers); what is missing, in words, if not all is
        there any more.  `taken`: this source's own notes of what earlier starts of the same commit were given."""


class NoGres:
    """A cluster without GRES."""

    kinds: tuple[str, ...] = ()

    def capacity(self, node: NodeRecord) -> Sequence[int]:
        """Nothing."""
        return ()

    def free(self, state: State, node: NodeRecord) -> Sequence[int]:
        """Nothing."""
        return ()

    def asked(self, request: Request) -> Sequence[int]:
        """Nothing."""
        return ()

    def lacking(self, request: Request) -> str:
        """The first kind that is wanted."""
        return next((kind for kind, _ in request.gres), "")

    def held(self, job: JobRecord, alloc: Allocation, place: int) -> Sequence[int]:
        """Nothing."""
        return ()

    def give(self, state: State, job: JobRecord, alloc: Allocation, taken: dict[str, object]) -> str:
        """Nothing to give, nothing missing."""
        return ""


#: leaf switch (or block) of a node as a small number, -1 = none
SwitchOf = Callable[[NodeRecord], int]
#: the score of each node under a rank expression, lower is taken first.  (expression, nodes in row order) -> [N]
ScoreOf = Callable[[str, Sequence[NodeRecord]], Int32]
#: a last check of a start at its commit: why not, "" if it may.  (state, job, partition, limit_s, allocation, now)
StartCheck = Callable[[State, JobRecord, str, int, Allocation, float], str]


def no_switch(node: NodeRecord) -> int:
    """A cluster without topology."""
    return -1


@dataclass(slots=True)
class Sources:
    """All of them.  Registered before the first update; `Columns.reload_sources` after a change of the lists."""

    pools: list[PoolSource] = field(default_factory=list)
    gres: GresSource = field(default_factory=NoGres)
    switch_of: SwitchOf = no_switch
    score_of: ScoreOf | None = None
    checks: list[StartCheck] = field(default_factory=list)
