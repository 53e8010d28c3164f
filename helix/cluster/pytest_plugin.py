"""pytest plugin: private Helix clusters as fixtures, for Helix's own tests and for any project that uses Helix.

    def test_it_runs(helix_cluster):
        job = helix_cluster.run("hsubmit", "--parsable", "--wrap", "echo hello").stdout.strip()

`helix_cluster` is one cluster for the whole session; `helix_cluster_factory(nodes=2, cpus=4, conf_extra="")` makes one
for the test that calls it.  Clusters leave no process; when a test fails, its report shows the daemons' last lines.
Loaded by pytest through the entry point `pytest11`, in every run of every project: imports stay light.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helix.cluster.fixture import TestCluster

#: Clusters that are up: their logs go into the reports of failing tests.
_LIVE: list[TestCluster] = []


@pytest.fixture(scope="session")
def helix_cluster() -> Iterator[TestCluster]:
    """One cluster of two nodes with four CPUs each, shared by the tests of the session."""
    with _directory() as root:
        cluster = _start(root, {})
        try:
            yield cluster
        finally:
            _close(cluster)


@pytest.fixture
def helix_cluster_factory() -> Iterator[Callable[..., TestCluster]]:
    """Makes clusters that live as long as the test.  Arguments: those of `helix.cluster.fixture.TestCluster`."""
    made: list[TestCluster] = []
    with _directory() as root:

        def make(**options: object) -> TestCluster:
            cluster = _start(root / f"c{len(made)}", options)
            made.append(cluster)
            return cluster

        try:
            yield make
        finally:
            for cluster in made:
                _close(cluster)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A short path, because sockets need one; open to other users, whose jobs must get in when root runs this."""
    with tempfile.TemporaryDirectory(prefix="helix-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def _start(root: Path, options: dict[str, object]) -> TestCluster:
    # Here, so that a pytest run without clusters does not pay for it.
    from helix.cluster.fixture import TestCluster

    cluster = TestCluster(root, **options).start()  # type: ignore[arg-type]
    _LIVE.append(cluster)
    return cluster


def _close(cluster: TestCluster) -> None:
    _LIVE.remove(cluster)
    cluster.close()
    left = cluster.leftovers()
    if left:
        raise RuntimeError(f"cluster {cluster.dir} left processes: {left}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the daemons' last lines to the report of a failing test."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for cluster in _LIVE:
            report.sections.append((f"helix cluster {cluster.dir}", cluster.logs()))
