"""Where a local cluster keeps its things: one directory, and names under it.

Owns the names.  Does not start anything.  The directory may be deeper than the 107 bytes that the kernel takes for the
path of a Unix socket: `helix.wire.frames.reachable_path` sees to that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from helix.errors import Conflict, Denied


@dataclass(frozen=True)
class Layout:
    """The directory of a cluster and everything in it."""

    root: Path

    @property
    def conf(self) -> Path:
        """The configuration; written once, then the user's."""
        return self.root / "helix.conf"

    @property
    def state(self) -> Path:
        """StateSaveLocation: journal, snapshots, blobs, the controller's keys."""
        return self.root / "state"

    @property
    def run(self) -> Path:
        """Sockets, process ids, the controller's port, the join token."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        """One log a daemon."""
        return self.root / "log"

    @property
    def nodes(self) -> Path:
        """One spool directory a node."""
        return self.root / "nodes"

    @property
    def lock(self) -> Path:
        """Held while hcluster starts or stops daemons."""
        return self.root / "lock"

    @property
    def cookie(self) -> Path:
        """The word by which every process of this cluster is known (environment HELIX_CLUSTER_COOKIE)."""
        return self.root / "cookie"

    @property
    def controller_socket(self) -> Path:
        """Where commands reach the controller."""
        return self.run / "helixctld.sock"

    @property
    def controller_key(self) -> Path:
        """The controller's public CURVE key (Z85)."""
        return self.state / "keys" / "controller.pub"

    @property
    def port_file(self) -> Path:
        """Where helixctld writes the port it listens on."""
        return self.run / "helixctld.port"

    @property
    def join_token(self) -> Path:
        """The token that admits this cluster's own nodes."""
        return self.run / "join-token"

    def node_socket(self, node: str) -> Path:
        """Where commands reach that node's relay."""
        return self.run / f"{node}.sock"

    def pid_file(self, daemon: str) -> Path:
        """`daemon` is `helixctld` or a node's name."""
        return self.run / f"{daemon}.pid"

    def log_file(self, daemon: str) -> Path:
        """`daemon` is `helixctld` or a node's name."""
        return self.log / f"{daemon}.log"

    @property
    def exists(self) -> bool:
        """True once a cluster has been made here."""
        return self.conf.exists()


def prepare(root: Path) -> Layout:
    """Make the directories that are missing.

    Raises Denied when a directory cannot be made, and Conflict when something else stands in its place.
    """
    layout = Layout(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        for path, mode in (
            (layout.state, 0o700),
            (layout.run, 0o755),
            (layout.log, 0o755),
            (layout.nodes, 0o755),
        ):
            path.mkdir(mode=mode, exist_ok=True)
    except PermissionError as exc:
        raise Denied(
            f"cannot make {exc.filename}: permission denied",
            hint="name another directory with --dir",
        ) from exc
    except (FileExistsError, NotADirectoryError) as exc:
        raise Conflict(f"{exc.filename} is in the way of the cluster's directory") from exc
    return layout


def checkout_root(start: Path) -> Path | None:
    """The checkout of Helix that `start` lies in, or None."""
    for path in (start, *start.parents):
        if (path / "spool" / "README.md").is_file() and (path / "helixctld").is_dir():
            return path
    return None


def default_dir() -> Path:
    """`spool/cluster` of the checkout one stands in, else `~/.local/state/helix/cluster` (XDG_STATE_HOME honoured)."""
    checkout = checkout_root(Path.cwd())
    if checkout is not None:
        return checkout / "spool" / "cluster"
    base = os.environ.get("XDG_STATE_HOME", "")
    state = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return state / "helix" / "cluster"


def kernel_cache() -> Path:
    """Where the compiled scheduling kernels of all local clusters of this user are kept (`make kernels` fills it)."""
    checkout = checkout_root(Path(__file__).resolve().parent)
    if checkout is not None and os.access(checkout / "spool", os.W_OK):
        return checkout / "spool" / "kernels"
    base = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return cache / "helix" / "kernels"
