"""Bring a local cluster up and down: one controller and one node daemon a node, all real processes.

Owns the order of things and what is waited for.  `up` on an existing directory starts what is down and keeps all
state; nothing is ever started twice.  Every wait has a limit, and ends at once when the process waited for is gone.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from helix.cluster import processes
from helix.cluster.conffile import NODES_MAX, Facts, Shape, check_shape, new_text, read_facts
from helix.cluster.layout import Layout, kernel_cache, prepare
from helix.cluster.reach import NodeView, active_jobs, end_jobs, node_views, ping
from helix.errors import Conflict, HelixError, LimitExceeded, NotFound, TimedOut, Unavailable

CONTROLLER = "helixctld"
_NODE_UP = frozenset({"IDLE", "MIXED", "ALLOCATED", "COMPLETING"})
_TOKEN_TTL_S = 600
_CREATE_S = 60.0
#: Variables that describe a job or another cluster; a daemon must not inherit them.
_NOT_FOR_DAEMONS = ("HELIX_", "SLURM_", "HBATCH_", "SBATCH_")


@dataclass(frozen=True)
class DaemonStatus:
    """One daemon of the cluster; `pid` is None when it does not run."""

    name: str
    pid: int | None


@dataclass
class Cluster:
    """A local cluster in a directory.  `say` is told, in a line each, what is being done."""

    layout: Layout
    say: Callable[[str], None] = lambda _line: None
    python: str = sys.executable
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    # ---- making and reading ---------------------------------------------------------------------------------------

    @classmethod
    def at(cls, root: Path, say: Callable[[str], None] = lambda _line: None) -> Cluster:
        """The cluster of that directory, which may not exist yet."""
        return cls(Layout(Path(os.path.abspath(root))), say)

    def create(self, shape: Shape | None = None, *, conf_extra: str = "") -> bool:
        """Write the configuration unless there is one; True if it was written.

        Raises ConfigError for a shape that makes no sense, Conflict for one that differs from what is there.
        """
        if shape is not None:
            check_shape(shape)
        prepare(self.layout.root)
        with processes.turn(self.layout.lock, _CREATE_S):
            if not self.layout.cookie.exists():
                _write_private(self.layout.cookie, secrets.token_hex(16) + "\n")
            if self.layout.exists:
                return False
            _write_whole(self.layout.conf, new_text(self.layout, shape or Shape(), extra=conf_extra))
        return True

    def require(self) -> None:
        """Raises NotFound when no cluster was ever made here."""
        if not self.layout.exists or not self.layout.cookie.exists():
            raise NotFound(
                f"no cluster in {self.layout.root}", code="CLUSTER_UNKNOWN", hint="make one: hcluster up --dir DIR"
            )

    def facts(self) -> Facts:
        """Address and nodes, from the configuration."""
        return read_facts(self.layout.conf)

    def cookie(self) -> str:
        """The word all processes of this cluster carry in their environment."""
        return self.layout.cookie.read_text(encoding="ascii").strip()

    def env(self) -> dict[str, str]:
        """What a shell needs to use this cluster: HELIX_SOCKET, HELIX_CONF and PATH."""
        path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
        bin_dir = str(Path(self.python).parent)
        if path[0] != bin_dir:
            path = [bin_dir, *(p for p in path if p != bin_dir)]
        return {
            "HELIX_SOCKET": str(self.layout.controller_socket),
            "HELIX_CONF": str(self.layout.conf),
            "PATH": ":".join(path),
        }

    def pid(self, daemon: str) -> int | None:
        """The process of a daemon (`helixctld` or a node's name), None when it does not run."""
        child = self._children.get(daemon)
        if child is not None and child.poll() is not None:
            del self._children[daemon]
        try:
            return processes.read_pid(self.layout.pid_file(daemon), self.cookie())
        except FileNotFoundError:
            return None

    def status(self) -> list[DaemonStatus]:
        """The controller and every configured node."""
        return [DaemonStatus(name, self.pid(name)) for name in (CONTROLLER, *self.facts().nodes)]

    # ---- up -------------------------------------------------------------------------------------------------------

    def up(self, *, timeout_s: float = 60.0) -> list[NodeView]:
        """Start what is down and wait until every node is usable; gives the nodes.

        Raises Unavailable, with the reason and the last lines of the log, when a daemon ends or a node does not come.
        """
        self.require()
        prepare(self.layout.root)
        facts = self.facts()
        if len(facts.nodes) > NODES_MAX:
            raise LimitExceeded(
                f"{self.layout.conf} has {len(facts.nodes)} nodes; one machine runs at most {NODES_MAX} node daemons",
                hint="helixd --emulate shows more nodes",
            )
        with processes.turn(self.layout.lock, timeout_s):
            down = [node for node in facts.nodes if self.pid(node) is None]
            if down:
                self._make_join_token(uses=len(down))
            if self.pid(CONTROLLER) is None:
                self.start_controller(timeout_s=timeout_s)
            for node in down:
                self.start_node(node)
            # Whoever has the next turn must find them.
            processes.wait_until(
                lambda: all(self.pid(node) for node in down),
                timeout_s=timeout_s,
                unless=lambda: self._lost(down) is not None,
            )
        return self.wait_nodes(facts.nodes, timeout_s=timeout_s)

    def start_controller(self, *, timeout_s: float = 60.0) -> int:
        """Start helixctld and wait until it answers; gives its process id."""
        facts = self.facts()
        self.layout.port_file.unlink(missing_ok=True)
        self._spawn(
            CONTROLLER,
            "helixctld.main",
            "-f",
            str(self.layout.conf),
            "--log-file",
            str(self.layout.log_file(CONTROLLER)),
            "--pid-file",
            str(self.layout.pid_file(CONTROLLER)),
        )
        self.say(f"starting helixctld of cluster {facts.cluster}")
        self._wait_for(CONTROLLER, lambda: ping(self.layout.controller_socket), timeout_s, "does not answer")
        pid = self.pid(CONTROLLER)
        if pid is None:
            raise self._failure(CONTROLLER, "ended right after it answered")
        return pid

    def start_node(self, node: str) -> None:
        """Start the helixd of a node; `wait_nodes` tells when it is a member."""
        spool = self.layout.nodes / node
        spool.mkdir(mode=0o755, exist_ok=True)
        facts = self.facts()
        self._spawn(
            node,
            "helixd.main",
            "--name",
            node,
            "--controller",
            f"tcp://{facts.host}:{self._port(facts)}",
            "--controller-key",
            str(self.layout.controller_key),
            "--join-token-file",
            str(self.layout.join_token),
            "--spool",
            str(spool),
            "--socket",
            str(self.layout.node_socket(node)),
            "--log-file",
            str(self.layout.log_file(node)),
            "--pid-file",
            str(self.layout.pid_file(node)),
        )
        self.say(f"starting helixd of {node}")

    def wait_nodes(self, nodes: list[str], *, timeout_s: float) -> list[NodeView]:
        """Wait until these nodes respond and can take work, or were set aside by an administrator.

        Raises Unavailable as soon as a daemon is gone or a node is set aside for what it registered; TimedOut.
        """
        views: dict[str, NodeView] = {}

        def all_settled() -> bool:
            views.update({view.name: view for view in self.views()})
            return all(node in views and _is_settled(views[node]) for node in nodes)

        def is_lost() -> bool:
            return self._lost(nodes) is not None

        settled = processes.wait_until(all_settled, timeout_s=timeout_s, unless=is_lost)
        lost = self._lost(nodes)
        if lost is not None:
            raise self._failure(lost, "ended")
        if not settled:
            late = next(node for node in nodes if node not in views or not _is_settled(views[node]))
            state = f"is {views[late].state}" if late in views else "is not known to the controller"
            why = f" ({views[late].reason})" if late in views and views[late].reason else ""
            raise TimedOut(f"node {late} {state}{why} after {timeout_s:.0f} s", hint=self._log_hint(late))
        unfit = [views[node] for node in nodes if views[node].by_controller]
        if unfit:
            first = unfit[0]
            raise Unavailable(
                f"node {first.name} is {first.state}: {first.reason}",
                code="NODE_UNFIT",
                hint=f"correct its line in {self.layout.conf}, then: hctl reconfigure",
            )
        return [views[node] for node in nodes]

    # ---- down -----------------------------------------------------------------------------------------------------

    def down(self, *, keep_jobs: bool = False, timeout_s: float = 60.0) -> list[str]:
        """Stop all daemons; without `keep_jobs` end the running jobs first.  Gives what had to be killed.

        Pending jobs stay in the queue, and the next `up` goes on with them.
        """
        self.require()
        with processes.turn(self.layout.lock, timeout_s):
            return self._down(keep_jobs, timeout_s)

    def _down(self, keep_jobs: bool, timeout_s: float) -> list[str]:
        if not keep_jobs and self.pid(CONTROLLER) is not None:
            self._end_jobs(timeout_s)
        pids = {name: pid for name, pid in ((s.name, s.pid) for s in self.status()) if pid is not None}
        nodes = [pid for name, pid in pids.items() if name != CONTROLLER]
        self.say(f"stopping {len(pids)} daemons")
        killed = processes.stop(nodes, timeout_s=timeout_s)
        if CONTROLLER in pids:
            # Last, so that it records what the nodes still had to tell.
            killed += processes.stop([pids[CONTROLLER]], timeout_s=timeout_s)
        names = {pid: name for name, pid in pids.items()}
        forced = [names[pid] for pid in killed]
        if not keep_jobs:
            forced += [f"process {pid}" for pid in self.sweep()]
        for name in pids:
            self.layout.pid_file(name).unlink(missing_ok=True)
        return forced

    def members(self) -> list[int]:
        """Every living process of the cluster: daemons, shepherds, and what is known to be theirs."""
        return sorted({*processes.find_by_cookie(self.cookie()), *processes.find_shepherds(self.layout.nodes)})

    def sweep(self) -> list[int]:
        """Kill every process of the cluster and what runs below it; gives their ids."""
        swept: list[int] = []
        while left := self.members():
            family = [pid for pid in processes.with_descendants(left) if pid not in (os.getpid(), os.getppid())]
            processes.send(family, 9)
            processes.wait_gone(family, 10.0)
            swept += family
            if len(swept) > 1_000_000:
                raise Conflict("processes of the cluster come faster than they can be killed")
        return swept

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _end_jobs(self, timeout_s: float) -> None:
        try:
            count = end_jobs(self.layout.controller_socket)
            if count:
                self.say(f"ending {count} running jobs")
            if not processes.wait_until(
                lambda: not active_jobs(self.layout.controller_socket),
                timeout_s=timeout_s,
                unless=lambda: self.pid(CONTROLLER) is None,
            ):
                self.say("some jobs have not ended in time; they will be killed")
        except HelixError as exc:
            self.say(f"could not end the jobs through the controller: {exc.msg}")

    def _spawn(self, daemon: str, module: str, *args: str) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_FOR_DAEMONS)}
        env[processes.COOKIE_VARIABLE] = self.cookie()
        env.setdefault("NUMBA_CACHE_DIR", str(kernel_cache()))
        self._children[daemon] = processes.spawn(
            [self.python, "-m", module, *args], env=env, log_file=self.layout.log_file(daemon), cwd=self.layout.root
        )

    def _make_join_token(self, uses: int) -> None:
        argv = [self.python, "-m", "helixctld.main", "-f", str(self.layout.conf), "--create-join-token"]
        argv += ["--uses", str(uses), "--ttl", str(_TOKEN_TTL_S)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
        if done.returncode or not done.stdout.strip():
            raise Unavailable(f"helixctld made no join token: {done.stderr.strip() or 'it printed nothing'}")
        _write_private(self.layout.join_token, done.stdout.strip().splitlines()[-1] + "\n")

    def _port(self, facts: Facts) -> int:
        if facts.port:
            return facts.port
        try:
            return int(self.layout.port_file.read_text(encoding="ascii"))
        except (OSError, ValueError) as exc:
            raise Unavailable(f"{self.layout.port_file} does not say which port helixctld listens on") from exc

    def views(self) -> list[NodeView]:
        """The nodes as the controller sees them; none while it cannot be reached."""
        try:
            return node_views(self.layout.controller_socket)
        except Unavailable:
            return []

    def _lost(self, nodes: list[str]) -> str | None:
        """The first daemon, started by this process, that has ended."""
        for name in (CONTROLLER, *nodes):
            child = self._children.get(name)
            if child is not None and child.poll() is not None:
                return name
        return None

    def _wait_for(self, daemon: str, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        child = self._children[daemon]
        if processes.wait_until(condition, timeout_s=timeout_s, unless=lambda: child.poll() is not None):
            return
        if child.poll() is not None:
            raise self._failure(daemon, f"ended with status {child.returncode}")
        raise self._failure(daemon, f"{what} after {timeout_s:.0f} s")

    def _failure(self, daemon: str, what: str) -> Unavailable:
        name = daemon if daemon == CONTROLLER else f"helixd of {daemon}"
        return Unavailable(f"{name} {what}", code="DAEMON_FAILED", hint=self._log_hint(daemon))

    def _log_hint(self, daemon: str) -> str:
        log = self.layout.log_file(daemon)
        lines = processes.tail(log, 10)
        if not lines:
            return f"{log} is empty"
        return "\n".join([f"last lines of {log}:", *("  " + line for line in lines)])


def _is_settled(view: NodeView) -> bool:
    """True if the node is usable, or set aside on purpose, and talks to the controller."""
    if view.state in _NODE_UP:
        return True
    return (not view.state.endswith("*") and view.state not in ("UNKNOWN", "DOWN")) or view.by_admin


def _write_private(path: Path, text: str) -> None:
    """A file only its owner may read, whole or not at all."""
    _write_whole(path, text, mode=0o600)


def _write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    scratch.rename(path)
