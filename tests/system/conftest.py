"""Fixtures of the system tests: real daemons, real processes, private clusters (helix.cluster.pytest_plugin)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helix.cluster.fixture import TestCluster


@pytest.fixture
def cluster(helix_cluster: TestCluster) -> Iterator[TestCluster]:
    """The session's cluster, with no job left from the test before and none left for the next."""
    _clear(helix_cluster)
    yield helix_cluster
    _clear(helix_cluster)


@pytest.fixture
def workdir(cluster: TestCluster, request: pytest.FixtureRequest) -> Path:
    """An empty directory inside the cluster's, for scripts and outputs; any user may write there."""
    path = cluster.dir / "work" / request.node.name.replace("/", "_").replace("[", "-").rstrip("]")
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o777)
    return path


def _clear(cluster: TestCluster) -> None:
    if cluster.cluster.pid("helixctld") is None:
        cluster.start_controller()
    missing = [node for node in cluster.nodes if cluster.cluster.pid(node) is None]
    for node in missing:
        cluster.start_node(node, wait=False)
    if missing:
        cluster.wait_nodes()
    with cluster.client() as client:
        ids = [job["display_id"].split("_")[0] for job in client.queue(fields=["display_id"])]
        if ids:
            client.cancel(sorted(set(ids)))
            cluster.wait_for(lambda: not client.queue(fields=["display_id"]), "the queue is empty")
