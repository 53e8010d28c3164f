"""Node links: who is registered, what they report, and when they have been silent too long.

A link is one helixd: one node, or all emulated nodes of a process.  Heartbeats touch the link only, so ten thousand
emulated nodes cost what one does; silence is looked for once a heartbeat.  What nodes are told about jobs is in
`orders.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from helix.blobstore import BlobStore
from helix.config.load import render_config
from helix.config.model import Config
from helix.errors import Denied, HelixError, NotFound, Unavailable
from helix.hostlist import parse_hostlist
from helix.model import events as ev
from helix.model.job import JobRecord
from helix.model.node import NodeBase
from helix.wire import messages as msg
from helix.wire.auth import AllowList, Identity, JoinTokens
from helix.wire.limits import RateLimit
from helix.wire.transport import ControllerEndpoint, LinkId
from helixctld.core import effects, reports
from helixctld.core.state import State
from helixctld.io.commit import Committer
from helixctld.io.identity import People
from helixctld.io.orders import Orders

log = logging.getLogger("helixctld.links")

SILENT_BEATS = 3  #: heartbeats missed before a node is shown as not responding
LOG_READS_MAX = 256  #: reads of output under way
LOG_READ_TIMEOUT_S = 15.0
SKEW_MAX_S = 10.0  #: a node's clock may differ by this much before it is worth a word
MASS_EVENT_NODES = 20  #: from this many nodes on, a mass event is suspected ...
MASS_EVENT_SHARE = 0.2  #: ... when more than this share falls silent together: a network fault, so nothing is killed


class Link:
    """One connected helixd."""

    def __init__(self, link_id: LinkId, name: str, nodes: list[str], version: str, emulated: bool) -> None:
        self.id = link_id
        self.name = name
        self.nodes = nodes
        self.version = version
        self.emulated = emulated
        self.t_seen = time.time()
        self.load: tuple[float, int] = (0.0, 0)
        self.unwell: dict[str, str] | None = None  # as last told; None = nothing told yet
        self.blobs_sent: OrderedDict[str, None] = OrderedDict()
        self.launches: list[msg.Launch] = []
        self.silent = False


class NodeLinks:
    """All links.  `send` is the transport's; everything runs on the event loop's thread."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        state: State,
        committer: Committer,
        blobs: BlobStore,
        people: People,
        identity: Identity,
        allow: AllowList,
        token_file: str,
        config: Config,
        on_relay: Callable[[Link, msg.Relay], None],
        on_nodes_changed: Callable[[], None],
        on_link_down: Callable[[LinkId], None],
    ) -> None:
        self.endpoint: ControllerEndpoint | None = None  # set once, before anything is received
        self.by_node: dict[str, Link] = {}
        self.runs_as: set[int] = set()  # uids the nodes seen so far can start jobs of; 0 = of everybody
        self.counters = {"registrations": 0, "refused": 0, "launches": 0, "batches": 0, "reports": 0}
        self._loop = loop
        self._state = state
        self._committer = committer
        self._people = people
        self._identity = identity
        self._allow = allow
        self._token_file = token_file
        self._tokens = JoinTokens(token_file)
        self._t_tokens = 0
        self._config = config
        self._config_text = render_config(config)
        self._on_relay = on_relay
        self._on_nodes_changed = on_nodes_changed
        self._on_link_down = on_link_down
        self._links: dict[LinkId, Link] = {}
        self._unlinked: dict[str, float] = {name: time.time() for name in state.nodes}
        self._reads: dict[int, tuple[LinkId, asyncio.Future[msg.LogData]]] = {}
        self._next_read = 1
        self._notes = RateLimit(log)
        self._mass_event = False
        self._rules = self._make_rules()
        self.orders = Orders(
            loop=loop,
            state=state,
            blobs=blobs,
            people=people,
            identity=identity,
            config=config,
            by_node=self.by_node,
            send=self.send,
            counters=self.counters,
        )

    def _make_rules(self) -> reports.RegisterRules:
        return reports.RegisterRules(
            may_claim_more=self._config.may_claim_more,
            return_to_service=self._config.return_to_service,
            requeue_default=self._config.job_requeue,
        )

    def set_config(self, config: Config) -> None:
        """A live change: tell every node."""
        self._config = self.orders.config = config
        self._config_text = render_config(config)
        self._rules = self._make_rules()
        now = time.time()
        self._unlinked = {name: self._unlinked.get(name, now) for name in self._state.nodes if name not in self.by_node}
        for link in self._links.values():
            self.send(link.id, [msg.ConfigUpdate(config=self._config_text, config_hash=config.hash)])
        self._compare_hardware(now)
        for link in list(self._links.values()):
            if any(self._is_stranger(name) for name in link.nodes if self.by_node.get(name) is link):
                assert self.endpoint is not None
                self.endpoint.disconnect(link.id, "its nodes came or went with the configuration: it registers again")

    def _is_stranger(self, name: str) -> bool:
        """True for a node of a link that has left the configuration, or that has come back as a new one."""
        node = self._state.nodes.get(name)
        return node is None or node.fingerprint is None

    def _compare_hardware(self, now: float) -> None:
        """Nodes that registered before the configuration changed are held to it as it is now."""
        events: list[ev.Event] = []
        for name, link in self.by_node.items():
            node = self._state.nodes.get(name)
            if node is None or node.fingerprint is None or link.emulated:
                continue
            found = node.fingerprint
            difference = reports.mismatch(node, found, may_claim_more=self._rules.may_claim_more)
            if difference != (node.reason if node.drain_by_mismatch else ""):
                events.append(
                    ev.NodeRegistered(t=now, node=name, fingerprint=found, skew_s=node.skew_s, mismatch=difference)
                )
        self._committer.commit(events)

    # ---- from nodes --------------------------------------------------------------------------------------------

    def on_batch(self, link_id: LinkId, batch: list[Any]) -> None:
        """Messages of one link, in order."""
        for message in batch:
            try:
                self._on_message(link_id, message)
            except HelixError as exc:
                self._notes.warning(exc.code, time.time(), "%s from %s: %s", type(message).__name__, link_id, exc.msg)

    def _on_message(self, link_id: LinkId, message: Any) -> None:
        now = time.time()
        if isinstance(message, msg.Register):
            self._register(link_id, message, now)
            return
        link = self._links.get(link_id)
        if link is None:  # its registration was refused: what it says is not wanted
            return
        link.t_seen = now
        log.debug("from link=%s %s", link.name, type(message).__name__)
        if link.silent:
            self._speaks_again(link)
        if isinstance(message, msg.StepEnded):
            self.counters["reports"] += 1
            if self._owns(link, message.node):
                change = reports.step_ended(self._state, message, now, requeue_default=self._config.job_requeue)
                self._committer.commit(change.events, change.actions)
        elif isinstance(message, msg.StepStarted):
            self.counters["reports"] += 1
            if self._owns(link, message.node):
                change = reports.step_started(self._state, message, now)
                if change.events or change.actions:
                    self._committer.commit(change.events, change.actions)
        elif isinstance(message, msg.Heartbeat):
            link.load = (message.load, message.free_mem_mib)
            if message.unwell != link.unwell:
                self._health_told(link, message.unwell, now)
        elif isinstance(message, msg.BlobWanted):
            self.orders.send_blobs(link, message.hashes)
        elif isinstance(message, msg.Relay):
            self._on_relay(link, message)
        elif isinstance(message, msg.LogData):
            reader, future = self._reads.get(message.req, (None, None))
            if future is not None and reader == link_id and not future.done():
                future.set_result(message)

    def _health_told(self, link: Link, unwell: dict[str, str], now: float) -> None:
        """Drain nodes in trouble and undo that when it is over; the first heartbeat of a link settles all its nodes."""
        names = link.nodes if link.unwell is None else {*link.unwell, *unwell}
        events: list[ev.Event] = []
        for name in names:
            if self.by_node.get(name) is link and name in self._state.nodes:
                trouble = unwell.get(name, "")
                if trouble:
                    log.warning("node %s: %s", name, trouble)
                events += reports.health_told(self._state.nodes[name], trouble, now)
        self._committer.commit(events)
        link.unwell = dict(unwell)

    def _owns(self, link: Link, node: str) -> bool:
        if self.by_node.get(node) is link:
            return True
        self._notes.warning(("foreign", link.name), time.time(), "link %s reports for node %s", link.name, node)
        return False

    def on_unadmitted(self, link_id: LinkId, r: msg.Register) -> None:
        """An unknown key with a join token: admit it durably, then register it."""
        now = time.time()
        try:
            self._check_register(r)
            if not r.join_token:
                raise Denied(f"this key does not own the name '{r.name[:80]}'", code="KEY_UNKNOWN")
            self._open_tokens().redeem(r.join_token, now)
            replaced = self._allow.admit(r.name, link_id.key)
            if replaced:
                assert self.endpoint is not None
                self.endpoint.disconnect_key(replaced, f"{r.name} joined with another key")
            self._committer.commit(
                [ev.NodeKeyAdmitted(t=now, name=r.name, key=link_id.key)], after=lambda: self._joined(link_id, r)
            )
        except HelixError as exc:
            self._refuse(link_id, r.name, exc)

    def _joined(self, link_id: LinkId, r: msg.Register) -> None:
        log.info("join token accepted name=%s key=%s", r.name, link_id.key)
        assert self.endpoint is not None
        if self.endpoint.admit(link_id, r.name):
            self._register(link_id, r, time.time())

    def join_open(self) -> bool:
        """True while a join token is valid: only then are unknown keys let in to present one."""
        return self._open_tokens().is_open(time.time())

    def _open_tokens(self) -> JoinTokens:
        """The tokens; read again when `helixctld --create-join-token` has written the file."""
        try:
            t = os.stat(self._token_file).st_mtime_ns
        except FileNotFoundError:
            t = 0
        if t != self._t_tokens:
            self._tokens, self._t_tokens = JoinTokens(self._token_file), t
        return self._tokens

    def _refuse(self, link_id: LinkId, name: str, exc: HelixError) -> None:
        self.counters["refused"] += 1
        self._notes.warning(("refused", name[:80]), time.time(), "registration of %s refused: %s", name[:80], exc.msg)
        assert self.endpoint is not None
        self.endpoint.refuse(link_id, msg.Refused(code=exc.code, msg=exc.msg, retry_after_s=10.0))

    def on_down(self, link_id: LinkId, name: str, reason: str) -> None:
        """The connection is gone: its nodes do not respond until they register again."""
        link = self._links.pop(link_id, None)
        if link is None:
            return
        log.warning("link %s is down: %s", name, reason)
        for reader, future in self._reads.values():
            if reader == link_id and not future.done():
                future.set_exception(_out_of_reach(name))
        for node in link.nodes:
            if self.by_node.get(node) is link:
                del self.by_node[node]
                self._unlinked[node] = link.t_seen
                if node in self._state.nodes:
                    self._state.nodes[node].t_last_seen = link.t_seen
                    self._state.set_responding(node, False)
        self._on_link_down(link_id)
        self._on_nodes_changed()

    def _register(self, link_id: LinkId, r: msg.Register, now: float) -> None:
        try:
            nodes = self._check_register(r)
        except HelixError as exc:
            self._refuse(link_id, r.name, exc)
            return
        link = Link(link_id, r.name, nodes, r.version, r.emulated)
        self._links[link_id] = link
        refused: dict[str, str] = {}
        change_events: list[ev.Event] = []
        change_actions: list[effects.Action] = []
        steps: dict[str, list[msg.StepKnown]] = {}
        for step in r.steps:
            steps.setdefault(step.node, []).append(step)
        rules = self._rules
        if r.emulated:
            rules = reports.RegisterRules(
                may_claim_more=True,
                return_to_service=rules.return_to_service,
                requeue_default=rules.requeue_default,
            )
        for k, name in enumerate(nodes):
            if name not in self._state.nodes:
                refused[name] = "not in the configuration"
                continue
            self.by_node[name] = link
            self._unlinked.pop(name, None)
            found = r.nodes[k if len(r.nodes) == len(nodes) else 0]
            found.t_sent = found.t_sent or r.t_sent
            self.runs_as.add(found.runs_as)
            change = reports.node_registered(self._state, name, found, steps.get(name, []), now, rules)
            change_events.extend(change.events)
            change_actions.extend(change.actions)
            self._state.set_responding(name, True)
        self.counters["registrations"] += 1
        if r.t_sent and abs(r.t_sent - now) > SKEW_MAX_S:
            log.warning("clock of link %s differs by %.1f s from the controller's", r.name, r.t_sent - now)
        log.info("registered link=%s nodes=%d version=%s steps=%d", r.name, len(nodes), r.version, len(r.steps))
        try:
            self._committer.commit(change_events, change_actions)
        except HelixError as exc:  # the journal takes no more: the node tries again later
            assert self.endpoint is not None
            self.endpoint.disconnect(link_id, f"its registration cannot be recorded: {exc.msg}")
            return
        self.send(
            link_id,
            [
                msg.Registered(
                    epoch=self._state.epoch,
                    cluster=self._state.cluster,
                    config="" if r.config_hash == self._config.hash else self._config_text,
                    config_hash=self._config.hash,
                    verify_key=self._identity.verify_key,
                    heartbeat_s=self._config.heartbeat_interval_s,
                    t_now=now,
                    refused=refused,
                )
            ],
        )
        self._on_nodes_changed()

    def _check_register(self, r: msg.Register) -> list[str]:
        """The nodes of a registration that makes sense; raises Denied, NotFound or UsageError."""
        nodes = parse_hostlist(r.name)
        if not r.nodes or len(r.nodes) not in (1, len(nodes)):
            raise Denied("a registration needs the fingerprint of its nodes", code="REGISTER_MALFORMED")
        if not any(name in self._state.nodes for name in nodes):
            raise NotFound(
                f"no node '{r.name[:80]}' in the configuration",
                code="NODE_UNKNOWN",
                hint="add it to helix.conf and run: hctl reconfigure",
            )
        return nodes

    # ---- silence -----------------------------------------------------------------------------------------------

    def look_for_silence(self) -> None:
        """Called once a heartbeat: nodes that have been quiet are shown so, then set DOWN after HelixdTimeout."""
        now = time.time()
        quiet_after = SILENT_BEATS * self._config.heartbeat_interval_s
        changed = False
        for link in list(self._links.values()):
            if not link.silent and now - link.t_seen > quiet_after:
                link.silent = True
                log.warning("link %s is silent since %.0f s", link.name, now - link.t_seen)
                for name in link.nodes:
                    if self.by_node.get(name) is link:
                        self._state.nodes[name].t_last_seen = link.t_seen
                        changed |= self._state.set_responding(name, False)
        timeout = self._config.helixd_timeout_s
        lost = [
            name
            for link in self._links.values()
            if link.silent and timeout and now - link.t_seen > timeout
            for name in link.nodes
            if self.by_node.get(name) is link
        ]
        lost += [name for name, since in self._unlinked.items() if timeout and now - since > timeout]
        lost = [n for n in lost if n in self._state.nodes and self._state.nodes[n].base is NodeBase.UP]
        if lost and not self._is_mass_event(lost):
            for name in lost:
                self.node_down(name, f"did not respond for {timeout:.0f} s", now)
            changed = True
        if changed:
            self._on_nodes_changed()

    def _is_mass_event(self, lost: list[str]) -> bool:
        total = len(self._state.nodes)
        mass = total >= MASS_EVENT_NODES and len(lost) > MASS_EVENT_SHARE * total
        if mass and not self._mass_event:
            log.error(
                "%d of %d nodes fell silent together: taken for a network fault; no job is ended or requeued. "
                "Set nodes DOWN by hand if they are really gone: hctl update NodeName=... State=DOWN Reason=...",
                len(lost),
                total,
            )
        self._mass_event = mass
        return mass

    def node_down(self, name: str, text: str, now: float) -> None:
        """Set a node DOWN by silence and end or requeue its jobs."""
        log.error("node %s set DOWN: %s", name, text)
        down: list[ev.Event] = [
            ev.NodeUpdated(t=now, node=name, base=NodeBase.DOWN, reason=text, by="helix", by_silence=True)
        ]
        change = reports.node_lost(self._state, name, text, now, requeue_default=self._config.job_requeue)
        self._committer.commit(down + change.events, change.actions)

    def _speaks_again(self, link: Link) -> None:
        """A silent link that was only slow.  A node already set DOWN has to register first: its jobs were given up."""
        if any(self._state.nodes[n].base is not NodeBase.UP for n in link.nodes if n in self._state.nodes):
            assert self.endpoint is not None
            self.endpoint.disconnect(link.id, "its nodes were set DOWN meanwhile: it has to register again")
            return
        link.silent = False
        for name in link.nodes:
            if self.by_node.get(name) is link:
                self._state.set_responding(name, True)
        log.info("link %s responds again", link.name)
        self._on_nodes_changed()

    def send(self, link_id: LinkId, messages: list[Any]) -> bool:
        """Queue messages; False if the link is down (what it misses is made up when it registers again)."""
        assert self.endpoint is not None
        return self.endpoint.send(link_id, messages)

    # ---- output of jobs ----------------------------------------------------------------------------------------

    async def read_log(self, job: JobRecord, node: str, path: str, offset: int) -> msg.LogData:
        """Bytes of a job's output, read on its node as its user.  Raises Unavailable, NotFound or Denied."""
        link = self.by_node.get(node)
        if link is None or link.silent:
            raise _out_of_reach(node, path)
        if len(self._reads) >= LOG_READS_MAX:
            raise Unavailable("too many outputs are being read", code="TRY_AGAIN", data={"retry_after_s": 1.0})
        req, self._next_read = self._next_read, self._next_read + 1
        future: asyncio.Future[msg.LogData] = self._loop.create_future()
        self._reads[req] = link.id, future
        person = self._people.person(job.uid, job.gid)
        self.send(
            link.id,
            [
                msg.LogRead(
                    req=req,
                    job_id=job.job_id,
                    attempt=job.attempt,
                    node=node,
                    uid=job.uid,
                    gid=job.gid,
                    groups=person.gids,
                    path=path,
                    offset=offset,
                )
            ],
        )
        try:
            return await asyncio.wait_for(future, LOG_READ_TIMEOUT_S)
        except TimeoutError:
            raise Unavailable(f"node {node} did not send the output in time", code="NODE_UNREACHABLE") from None
        finally:
            self._reads.pop(req, None)

    def loads(self) -> dict[str, tuple[float, int]]:
        """Load average and free MiB of each node, as last heard."""
        return {name: link.load for name, link in self.by_node.items()}

    @property
    def count(self) -> int:
        """Links that are registered."""
        return len(self._links)


def _out_of_reach(node: str, path: str = "") -> Unavailable:
    return Unavailable(
        f"node {node}, which has the output, does not respond",
        code="NODE_UNREACHABLE",
        hint=f"if {path or 'the file'} is on a shared file system, read it there",
    )
