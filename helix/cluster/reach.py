"""What hcluster asks of a running controller, through `helix.client`.

Every call is short: a controller that does not answer within `_ANSWER_S` counts as not there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from helix.client import Client
from helix.errors import HelixError, Unavailable
from helix.words import LIVE_STATES, WAITING_STATES

_ANSWER_S = 10.0
_ACTIVE = [state for state in LIVE_STATES if state not in WAITING_STATES]


@dataclass(frozen=True)
class NodeView:
    """A node as the controller sees it; `reason` and who gave it are empty for a healthy one."""

    name: str
    state: str
    reason: str = ""
    reason_by: str = ""

    @property
    def is_set_aside(self) -> bool:
        """Drained, down or failing, and somebody said why."""
        return self.state.rstrip("*") in ("DRAINED", "DRAINING", "DOWN", "FAIL", "FAILING") and bool(self.reason)

    @property
    def by_controller(self) -> bool:
        """Set aside by the controller: what the node registered does not fit its configuration, or it was silent."""
        return self.is_set_aside and self.reason_by == "helix"

    @property
    def by_admin(self) -> bool:
        """Set aside by a person."""
        return self.is_set_aside and self.reason_by not in ("", "helix")


def _client(socket: Path) -> Client:
    return Client(str(socket), timeout_s=_ANSWER_S, connect_s=0.0)


def ping(socket: Path) -> bool:
    """True if a controller answers there."""
    try:
        with _client(socket) as client:
            client.ping()
    except HelixError:
        return False
    return True


def node_views(socket: Path) -> list[NodeView]:
    """All nodes.  Raises Unavailable and the like."""
    with _client(socket) as client:
        return [
            NodeView(row["name"], row["state"], row.get("reason") or "", row.get("reason_by") or "")
            for row in client.nodes()
        ]


def job_counts(socket: Path) -> dict[str, int]:
    """State -> number of jobs that are not over (an array that waits counts as one).  Raises Unavailable."""
    with _client(socket) as client:
        return dict(Counter(str(job["state"]) for job in client.queue(fields=["state"])))


def active_jobs(socket: Path) -> list[str]:
    """Display ids of the jobs that have resources; none when the controller is gone."""
    try:
        with _client(socket) as client:
            rows = client.queue(fields=["display_id", "state"], states=_ACTIVE)
    except Unavailable:
        return []
    return [str(row["display_id"]) for row in rows]


def end_jobs(socket: Path) -> int:
    """Keep new jobs from starting, then cancel those that have resources; gives how many.

    Partitions are set DOWN, which lasts until the controller starts again.  Raises HelixError.
    """
    with _client(socket) as client:
        for row in client.partitions():
            if row["state"] == "UP":
                client.call("partition.update", {"name": row["name"], "changes": {"State": "DOWN"}})
        ids = [str(row["display_id"]) for row in client.queue(fields=["display_id"], states=_ACTIVE)]
        for at in range(0, len(ids), 1000):
            client.cancel(ids[at : at + 1000])
        return len(ids)
