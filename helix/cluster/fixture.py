"""A private cluster for a test: started, broken on purpose, looked at, and gone without a trace.

Owns what tests may do to a cluster.  `helix.cluster.pytest_plugin` makes it a fixture; other test frameworks can use
`TestCluster` as a context manager.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from helix.client import Client
from helix.cluster import processes
from helix.cluster.conffile import Shape
from helix.cluster.lifecycle import CONTROLLER, Cluster
from helix.cluster.reach import NodeView
from helix.errors import Conflict, TimedOut

#: Memory of a test's node, MiB: small enough for many nodes on a small machine.
_NODE_MEMORY_MIB = 1024


class TestCluster:
    """A cluster in a directory of its own.  `controller` and node names (`n1`, `n2` ...) name its daemons."""

    __test__ = False  # not a test class, whatever its name says

    def __init__(
        self,
        root: Path,
        *,
        nodes: int = 2,
        cpus: int = 4,
        memory_mib: int = _NODE_MEMORY_MIB,
        conf_extra: str = "",
        timeout_s: float = 60.0,
    ) -> None:
        """Nothing is started yet.  `conf_extra`: lines added to helix.conf."""
        self.cluster = Cluster.at(root)
        self.timeout_s = timeout_s
        self.shape = Shape(nodes, cpus, memory_mib)
        self.conf_extra = conf_extra
        self._clients: list[Client] = []

    # ---- life -----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Make the cluster and bring it up.  Raises HelixError with the log's last lines when it does not come."""
        self.cluster.create(self.shape, conf_extra=self.conf_extra)
        try:
            self.cluster.up(timeout_s=self.timeout_s)
        except BaseException:
            self.cluster.sweep()
            raise
        return self

    def close(self) -> None:
        """Kill everything of it, quickly: the state directory is thrown away anyway."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.cluster.layout.cookie.exists():
            self.cluster.sweep()

    def leftovers(self) -> list[int]:
        """Processes of the cluster that still live."""
        return self.cluster.members()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- use ------------------------------------------------------------------------------------------------------

    @property
    def dir(self) -> Path:
        """The cluster's directory."""
        return self.cluster.layout.root

    @property
    def nodes(self) -> list[str]:
        """Names of the nodes."""
        return self.cluster.facts().nodes

    @property
    def env(self) -> dict[str, str]:
        """The environment in which commands talk to this cluster."""
        return {**os.environ, **self.cluster.env(), processes.COOKIE_VARIABLE: self.cluster.cookie()}

    def client(self) -> Client:
        """A new connection, closed with the cluster."""
        client = Client(str(self.cluster.layout.controller_socket))
        self._clients.append(client)
        return client

    def run(
        self,
        *argv: str,
        check: bool = True,
        input: str | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Helix (or any other) against the cluster.

        With `check` a status other than 0 raises AssertionError that shows what it printed.
        """
        done = subprocess.run(  # noqa: S603
            list(argv),
            input=input,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd=cwd or self.dir,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL if input is None else None,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(argv)}: status {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
            )
        return done

    def wait_for(self, condition: Callable[[], bool], what: str, *, timeout_s: float | None = None) -> None:
        """Wait until a condition holds.  Raises TimedOut that says `what` did not."""
        limit = self.timeout_s if timeout_s is None else timeout_s
        if not processes.wait_until(condition, timeout_s=limit):
            raise TimedOut(f"after {limit:.0f} s still not: {what}")

    # ---- harm -----------------------------------------------------------------------------------------------------

    @property
    def controller(self) -> int:
        """Process id of helixctld.  Raises Conflict when it does not run."""
        return self._pid(CONTROLLER)

    def node_pid(self, node: str) -> int:
        """Process id of a node's helixd.  Raises Conflict when it does not run."""
        return self._pid(node)

    def kill9_controller(self) -> None:
        """End helixctld as a power cut would, and wait until it is gone."""
        self._kill9(CONTROLLER)

    def kill9_node(self, node: str) -> None:
        """End a node's helixd as a power cut would; its shepherds and jobs go on."""
        self._kill9(node)

    def start_controller(self) -> None:
        """Start helixctld again and wait until it answers."""
        self.cluster.start_controller(timeout_s=self.timeout_s)

    def start_node(self, node: str, *, wait: bool = True) -> None:
        """Start a node's helixd again and, with `wait`, wait until the controller has it back."""
        self.cluster.start_node(node)
        if wait:
            self.wait_nodes([node])

    def wait_nodes(self, nodes: Sequence[str] = ()) -> list[NodeView]:
        """Wait until these nodes (default: all) respond and can take work."""
        return self.cluster.wait_nodes(list(nodes or self.nodes), timeout_s=self.timeout_s)

    def stop_process(self, daemon: str) -> None:
        """SIGSTOP: `helixctld` or a node falls silent, as behind a network that is down."""
        os.kill(self._pid(daemon), signal.SIGSTOP)

    def continue_process(self, daemon: str) -> None:
        """SIGCONT, the end of `stop_process`."""
        os.kill(self._pid(daemon), signal.SIGCONT)

    @contextlib.contextmanager
    def stopped(self, daemon: str) -> Iterator[None]:
        """A daemon is silent for the length of a `with` block."""
        self.stop_process(daemon)
        try:
            yield
        finally:
            self.continue_process(daemon)

    # ---- look -----------------------------------------------------------------------------------------------------

    def logs(self, lines: int = 30) -> str:
        """The last lines of every daemon's log."""
        parts = []
        for path in sorted(self.cluster.layout.log.glob("*.log")):
            parts.append(f"--- {path}")
            parts.extend(processes.tail(path, lines))
        return "\n".join(parts)

    def _pid(self, daemon: str) -> int:
        pid = self.cluster.pid(daemon)
        if pid is None:
            raise Conflict(f"{daemon} of {self.dir} does not run")
        return pid

    def _kill9(self, daemon: str) -> None:
        pid = self._pid(daemon)
        os.kill(pid, signal.SIGKILL)
        if processes.wait_gone([pid], 10.0):
            raise TimedOut(f"{daemon}, process {pid}, does not end on SIGKILL")
