"""A link of helixd to its controller, and the agent socket beside it: what one node and ten thousand emulated ones have
in common.

Owns registration, heartbeats, the verification of credentials, relayed requests of users.  What to do with launches and
orders is the mind's (`Mind`), how to carry it out `perform`'s.  Between heartbeats and events nothing wakes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from helix import __version__
from helix.errors import HelixError, Unavailable
from helix.model.node import Fingerprint
from helix.wire import messages as msg
from helix.wire.agent import AgentServer, Conn
from helix.wire.auth import CurveKeys, NonceWindow, verify_credential
from helix.wire.codec import decode_request, encode_error
from helix.wire.limits import RateLimit
from helix.wire.loop_socket import new_context
from helix.wire.node_link import NodeLink
from helixd.core.actions import Action
from helixd.probe import load_and_free

log = logging.getLogger("helixd.session")

REFUSED_S = 300.0  #: pause after a refusal that asks for no retry
REGISTER_S = 30.0  #: for the answer to a Register


class Mind(Protocol):
    """What `NodeCore` and `EmulatedCore` offer."""

    epoch: int
    unwell: str
    registered: bool

    def registration(self) -> tuple[list[msg.StepKnown], list[msg.StepEnded]]:
        """Steps and unacknowledged ends."""

    def on_registered(self, message: msg.Registered, now: float) -> list[Action]:
        """We are a member."""

    def on_credential(self, credential: msg.Credential, now: float) -> list[Action]:
        """Launches, verified."""

    def on_order(
        self, order: msg.SignalStep | msg.TerminateStep | msg.SuspendStep | msg.SetTimeLimit, now: float
    ) -> list[Action]:
        """An order for a step."""

    def on_ack(self, message: msg.AckEnded, now: float) -> list[Action]:
        """Ends that need not be repeated."""

    def on_log_read(self, request: msg.LogRead) -> list[Action]:
        """Bytes of an output file are wanted."""


class Session:
    """Made on the loop's thread; `start` begins to connect."""

    def __init__(
        self,
        *,
        name: str,
        controller: str,
        controller_key: str,
        keys: CurveKeys,
        join_token: Callable[[], str],
        fingerprint: Callable[[], Fingerprint],
        mind: Mind,
        perform: Callable[[Sequence[Action]], None],
        on_blob: Callable[[msg.BlobData], None],
        on_config: Callable[[str], None],
        before_beat: Callable[[], None] | None = None,
        emulated: bool = False,
    ) -> None:
        self.name = name
        self.cluster = ""
        self.config_hash = ""
        self.agent: AgentServer | None = None
        self._mind = mind
        self._perform = perform
        self._on_blob = on_blob
        self._on_config = on_config
        self._before_beat = before_beat
        self._fingerprint = fingerprint
        self._join_token = join_token
        self._emulated = emulated
        self._loop = asyncio.get_running_loop()
        self._context = new_context()
        self._link = NodeLink(
            self._context, controller, controller_key, keys, self._on_batch, self._on_up, self._on_down
        )
        self._notes = RateLimit(log)
        self._verify_key: Ed25519PublicKey | None = None
        self._nonces = NonceWindow()
        self._skew_s = 0.0  # controller's clock minus ours
        self._heartbeat_s = 5.0
        self._heartbeat: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._relayed: dict[int, Conn] = {}
        #: connection numbers on the wire do not repeat after a restart: a late answer must not reach a stranger
        self._conn_base = int.from_bytes(os.urandom(6), "little") << 14
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            msg.Registered: self._registered,
            msg.Refused: self._refused,
            msg.ConfigUpdate: self._config_update,
            msg.BlobData: on_blob,
            msg.SignedBatch: self._signed,
            msg.SignalStep: self._order,
            msg.TerminateStep: self._order,
            msg.SuspendStep: self._order,
            msg.SetTimeLimit: self._order,
            msg.AckEnded: lambda message: perform(mind.on_ack(message, time.time())),
            msg.RelayReply: self._relay_reply,
            msg.LogRead: lambda message: perform(mind.on_log_read(message)),
        }

    async def start(self, socket_path: str) -> None:
        """Listen for users, connect to the controller.  Raises Conflict or ConfigError for the socket."""
        if socket_path:
            self.agent = AgentServer(socket_path, self._on_frame, self._on_close)
            await self.agent.start()
        self._link.start()

    async def stop(self) -> None:
        """Close; nothing is told to the controller beyond what is queued."""
        for timer in (self._heartbeat, self._patience):
            if timer is not None:
                timer.cancel()
        if self.agent is not None:
            await self.agent.stop()
        self._link.close()
        self._context.destroy(linger=200)

    def send(self, messages: Sequence[Any]) -> None:
        """Tell the controller.  While there is no membership nothing is kept: registering tells all that matters."""
        if self._mind.registered:
            self._link.send(messages)

    # ---- membership -------------------------------------------------------------------------------------------

    def _on_up(self) -> None:
        self._mind.registered = False
        known, ended = self._mind.registration()
        register = msg.Register(
            name=self.name,
            version=__version__,
            nodes=[self._fingerprint()],
            emulated=self._emulated,
            config_hash=self.config_hash,
            epoch_seen=self._mind.epoch,
            join_token=self._join_token(),
            steps=known,
            t_sent=time.time(),
        )
        self._link.send([register, *ended])
        self._patience = self._loop.call_later(
            REGISTER_S, self._link.reconnect, 1.0, f"no answer to the registration in {REGISTER_S:.0f} s"
        )

    def _on_down(self, reason: str) -> None:
        log.warning("link lost: %s", reason)
        self._mind.registered = False
        for timer in (self._heartbeat, self._patience):
            if timer is not None:
                timer.cancel()
        self._heartbeat = self._patience = None
        error = self._unreachable()
        for conn in list(self._relayed.values()):
            self._answer_all(conn, error)

    def _registered(self, message: msg.Registered) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        now = time.time()
        try:
            actions = self._mind.on_registered(message, now)
        except HelixError as error:
            self._link.reconnect(30.0, error.msg)
            return
        self._link.accepted()
        self.cluster = message.cluster
        self._verify_key = Ed25519PublicKey.from_public_bytes(message.verify_key)
        self._skew_s = message.t_now - now
        self._heartbeat_s = max(0.2, message.heartbeat_s)
        for node, why in list(message.refused.items())[:10]:
            log.error("node %s is not a member: %s", node, why)
        if message.config:
            self._take_config(message.config, message.config_hash)
        self._perform(actions)
        log.info(
            "registered name=%s cluster=%s epoch=%d skew_s=%.3f", self.name, self.cluster, message.epoch, -self._skew_s
        )
        self._beat()

    def _refused(self, message: msg.Refused) -> None:
        pause = message.retry_after_s or REFUSED_S
        if message.code != "NOT_REGISTERED":
            log.error("refused by the controller: %s (%s); next try in about %.1f s", message.msg, message.code, pause)
        self._link.reconnect(pause, f"refused: {message.msg}")

    def _config_update(self, message: msg.ConfigUpdate) -> None:
        self._take_config(message.config, message.config_hash)

    def _take_config(self, text: str, config_hash: str) -> None:
        try:
            self._on_config(text)
        except HelixError as error:
            log.error("the controller's configuration cannot be used: %s", error.msg)
            return
        self.config_hash = config_hash

    def _beat(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        if self._before_beat is not None:
            self._before_beat()
        load, free = load_and_free()
        unwell = {self.name: self._mind.unwell} if self._mind.unwell else {}
        self.send([msg.Heartbeat(t_sent=time.time(), load=round(load, 2), free_mem_mib=free, unwell=unwell)])
        self._heartbeat = self._loop.call_later(self._heartbeat_s, self._beat)

    # ---- from the controller ----------------------------------------------------------------------------------

    def _on_batch(self, batch: list[Any]) -> None:
        for message in batch:
            handler = self._handlers.get(type(message))
            if handler is None:
                self._note("unknown", "a message that is not for nodes: %s", type(message).__name__)
                continue
            try:
                handler(message)
            except HelixError as error:
                self._note(error.code, "%s: %s (%s)", type(message).__name__, error.msg, error.code)

    def _note(self, key: str, text: str, *args: object) -> None:
        self._notes.warning(key, time.monotonic(), text, *args)

    def _signed(self, message: msg.SignedBatch) -> None:
        if self._verify_key is None:
            self._note("early", "a credential before the registration was answered")
            return
        now = time.time()
        credential = verify_credential(
            message,
            self._verify_key,
            audience=self.name,
            cluster=self.cluster,
            epoch_min=self._mind.epoch,
            nonce_seen=self._nonces,
            now=now + self._skew_s,
        )
        self._perform(self._mind.on_credential(credential, now))

    def _order(self, order: Any) -> None:
        self._perform(self._mind.on_order(order, time.time()))

    # ---- users ------------------------------------------------------------------------------------------------

    def _on_frame(self, conn: Conn, frame: bytes) -> None:
        if not self._mind.registered:
            number = 0
            try:
                number = decode_request(frame).i
            except HelixError as error:
                number = int(error.data.get("i", 0))
            conn.send(encode_error(number, self._unreachable()))
            return
        wire_id = self._conn_base + conn.id
        self._relayed[wire_id] = conn
        if not self._link.send([msg.Relay(conn=wire_id, uid=conn.uid, gid=conn.gid, frame=frame)]):
            self._answer_all(conn, self._unreachable())

    def _on_close(self, conn: Conn) -> None:
        if self._relayed.pop(self._conn_base + conn.id, None) is not None:
            self.send([msg.Relay(conn=self._conn_base + conn.id, uid=conn.uid, gid=conn.gid, closed=True)])

    def _relay_reply(self, message: msg.RelayReply) -> None:
        conn = self._relayed.get(message.conn)
        if conn is None:
            self.send([msg.Relay(conn=message.conn, uid=-1, gid=-1, closed=True)])
            return
        for frame in message.frames:
            if not conn.send(frame):
                return
        if message.close:
            conn.close()

    def _answer_all(self, conn: Conn, error: HelixError) -> None:
        """The requests of `conn` that wait get an answer that is for all of them (number 0), and the connection ends:
        nobody knows any more which of them the controller has carried out."""
        conn.send(encode_error(0, error))
        conn.close()

    def _unreachable(self) -> Unavailable:
        why = f": {self._link.last_error}" if self._link.last_error else ""
        return Unavailable(
            f"the controller at {self._link.addr} cannot be reached from {self.name}{why}",
            hint="ask the administrator whether helixctld runs; the command may be repeated",
        )
