"""Links between a controller and its nodes, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import zmq

from helix.errors import ConfigError
from helix.wire.auth import AllowList, CurveKeys, new_curve_keys
from helix.wire.loop_socket import new_context
from helix.wire.messages import AckEnded, BlobData, BlobWanted, Heartbeat, Refused, Register
from helix.wire.node_link import NodeLink
from helix.wire.transport import ControllerEndpoint, LinkId, LinkLimits


class World:
    """A controller's endpoint and any number of node links, in one loop but in contexts of their own."""

    def __init__(self, *, join_open: bool = False, **limits: Any) -> None:
        self.keys = new_curve_keys()
        self.members = AllowList()
        self.got: list[tuple[LinkId, Any]] = []
        self.strangers: list[tuple[LinkId, Register]] = []
        self.downs: list[tuple[LinkId, str, str]] = []
        self.join_open = join_open
        self.ctx, self.node_ctx = new_context(), new_context()
        self.links: list[NodeLink] = []
        self.limits = LinkLimits(**limits)
        self.endpoint = self.listen("tcp://127.0.0.1:0")

    def listen(self, addr: str) -> ControllerEndpoint:
        return ControllerEndpoint(
            self.ctx,
            addr,
            self.keys,
            self.members,
            lambda link, messages: self.got.extend((link, m) for m in messages),
            lambda link, register: self.strangers.append((link, register)),
            lambda *down: self.downs.append(down),
            join_open=lambda: self.join_open,
            limits=self.limits,
        )

    def node(self, name: str, keys: CurveKeys | None = None, *, token: str = "", server_key: str = "") -> Node:
        return Node(self, name, keys or new_curve_keys(), token, server_key or self.keys.public)

    def member(self, name: str) -> Node:
        keys = new_curve_keys()
        self.members.admit(name, keys.public)
        return self.node(name, keys)

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, message in self.got if isinstance(message, kind)]

    def close(self) -> None:
        for link in self.links:
            link.close(0)
        self.endpoint.close()
        self.ctx.term()
        self.node_ctx.term()


class Node:
    """A node that registers whenever its link comes up."""

    def __init__(self, world: World, name: str, keys: CurveKeys, token: str, server_key: str) -> None:
        self.name = name
        self.token = token
        self.got: list[Any] = []
        self.history: list[str] = []
        self.link = NodeLink(
            world.node_ctx,
            f"tcp://127.0.0.1:{world.endpoint.port}",
            server_key,
            keys,
            self.got.extend,
            self.up,
            lambda reason: self.history.append("down"),
        )
        world.links.append(self.link)
        self.link.start()

    def up(self) -> None:
        self.history.append("up")
        self.link.send([Register(name=self.name, version="0", join_token=self.token)])


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def run(body: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def bounded() -> None:
        world = World(**options)
        try:
            async with asyncio.timeout(40):
                await body(world)
        finally:
            world.close()

    asyncio.run(bounded())


def test_member_registers_and_both_sides_talk_in_order() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        (link,) = world.endpoint.links
        assert world.endpoint.name_of(link) == "n1"
        for k in range(1000):
            assert node.link.send([Heartbeat(t_sent=float(k))])
            assert world.endpoint.send(link, [AckEnded([(k, 0)])])
        await until(lambda: len(node.got) == 1000 and len(world.of(Heartbeat)) == 1000)
        assert [m.t_sent for m in world.of(Heartbeat)] == [float(k) for k in range(1000)]
        assert [m.ended[0][0] for m in node.got] == list(range(1000))
        assert world.endpoint.counters["batches_out"] <= 3, "messages of one turn are one batch"

    run(body)


def test_large_messages_pass() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        world.endpoint.send(world.endpoint.links[0], [BlobData("h", bytes(10 << 20))] * 3)
        await until(lambda: len(node.got) == 3)
        assert all(len(m.data) == 10 << 20 for m in node.got)

    run(body)


def test_link_after_a_loss_is_a_new_one_and_registers_again() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        (old,) = world.endpoint.links
        world.endpoint.disconnect(old, "for the test")
        assert [(link, name) for link, name, _ in world.downs] == [(old, "n1")]
        assert not world.endpoint.send(old, [AckEnded([])])
        await until(lambda: world.endpoint.links)
        (new,) = world.endpoint.links
        assert new != old
        assert node.history == ["up", "down", "up"]
        assert len(world.of(Register)) == 2

    run(body)


def test_controller_hears_at_once_that_a_node_went_away() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        node.link.close(0)
        await until(lambda: world.downs, timeout_s=2)
        assert world.endpoint.links == []
        await until(lambda: world.endpoint.connection_count == 0)

    run(body)


def test_node_waits_for_a_controller_that_is_not_there_yet_and_finds_it_again() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        port = world.endpoint.port
        world.endpoint.close()
        await until(lambda: node.history == ["up", "down"])
        assert not node.link.send([Heartbeat(t_sent=0.0)]), "down: the caller keeps what matters"
        await until(lambda: node.link.counters["tries"] >= 3)
        assert node.link.last_error
        world.endpoint = world.listen(f"tcp://127.0.0.1:{port}")
        await until(lambda: world.endpoint.links)
        assert node.history == ["up", "down", "up"]

    run(body)


def test_unknown_key_fails_the_handshake_while_no_token_is_valid() -> None:
    async def body(world: World) -> None:
        node = world.node("n1", token="hxj1-x")
        await until(lambda: "not admit" in node.link.last_error)
        assert node.history == []
        assert world.strangers == []
        assert world.got == []

    run(body)


def test_join_tokens_that_cannot_be_read_refuse_strangers_and_nobody_else() -> None:
    async def body(world: World) -> None:
        def broken() -> bool:
            raise ConfigError("tokens: a secret that others can read")

        world.endpoint._join_open = broken
        stranger = world.node("n2", token="hxj1-x")
        await until(lambda: "not admit" in stranger.link.last_error)
        world.member("n1")
        await until(lambda: world.endpoint.links)

    run(body)


def test_unknown_key_with_a_token_is_admitted_by_the_controller() -> None:
    async def body(world: World) -> None:
        keys = new_curve_keys()
        node = world.node("n1", keys, token="hxj1-good")
        await until(lambda: world.strangers)
        link, register = world.strangers[0]
        assert (link.key, register.join_token) == (keys.public, "hxj1-good")
        assert not world.endpoint.admit(link, "n1"), "its key is not on the list yet"
        world.members.admit("n1", keys.public)
        assert world.endpoint.admit(link, "n1")
        world.endpoint.send(link, [AckEnded([])])
        await until(lambda: node.got)
        node.link.send([Heartbeat(t_sent=1.0)])
        await until(lambda: world.of(Heartbeat))

    run(body, join_open=True)


def test_unknown_key_without_a_token_is_refused_and_disconnected() -> None:
    async def body(world: World) -> None:
        node = world.node("n1")
        await until(lambda: node.got)
        assert isinstance(node.got[0], Refused)
        assert node.got[0].code == "KEY_UNKNOWN"
        assert node.got[0].retry_after_s > 0
        await until(lambda: "down" in node.history)
        assert world.got == []

    run(body, join_open=True)


def test_key_may_not_claim_the_name_of_another() -> None:
    async def body(world: World) -> None:
        victim, keys = world.member("n1"), new_curve_keys()
        await until(lambda: world.endpoint.links)
        world.members.admit("n2", keys.public)
        thief = world.node("n1", keys)
        await until(lambda: thief.got)
        assert thief.got[0].code == "NAME_NOT_OWNED"
        assert [world.endpoint.name_of(link) for link in world.endpoint.links] == ["n1"]
        world.endpoint.send(world.endpoint.links[0], [AckEnded([(1, 1)])])
        await until(lambda: victim.got)

    run(body)


def test_nothing_is_looked_at_before_the_register() -> None:
    async def body(world: World) -> None:
        keys = new_curve_keys()
        world.members.admit("n1", keys.public)
        node = world.node("n1", keys)
        node.up = lambda: node.link.send([Heartbeat(t_sent=1.0)])  # type: ignore[method-assign, assignment]
        node.link._on_up = node.up  # type: ignore[assignment]
        await until(lambda: world.endpoint.counters["dropped"])
        assert world.got == []
        await until(lambda: "down" in node.history)

    run(body, register_s=1.0)


def test_stranger_that_talks_too_much_is_not_listened_to_and_then_disconnected() -> None:
    async def body(world: World) -> None:
        node = world.node("n1", token="hxj1-x")
        await until(lambda: world.strangers)
        for _ in range(50):
            node.link.send([BlobWanted(["x" * 1000])])
            node.link.flush()
        node.link.send([BlobWanted(["x" * (1 << 20)])])
        await until(lambda: world.endpoint.counters["dropped"] >= 50)
        assert len(world.strangers) <= 3
        assert world.got == []
        await until(lambda: "down" in node.history)

    run(body, join_open=True, register_s=1.0)


def test_garbage_from_a_member_ends_its_link() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        assert node.link._socket is not None
        node.link._socket.send([b"\x01\x91garbage"])
        await until(lambda: world.downs)
        await until(lambda: node.history.count("up") == 2)

    run(body)


def test_newer_version_is_refused_by_name() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        assert node.link._socket is not None
        node.link._socket.send([b"\x07\x90"])
        await until(lambda: any(isinstance(m, Refused) for m in node.got))
        refused = next(m for m in node.got if isinstance(m, Refused))
        assert refused.code == "VERSION"
        assert "version 7" in refused.msg

    run(body)


def test_revoked_key_loses_its_link() -> None:
    async def body(world: World) -> None:
        node = world.member("n1")
        await until(lambda: world.endpoint.links)
        key = world.members.revoke("n1")
        world.endpoint.disconnect_key(key)
        await until(lambda: "not admit" in node.link.last_error)
        assert world.endpoint.links == []

    run(body)


def test_peer_that_does_not_read_is_cut_within_limits() -> None:
    async def body(world: World) -> None:
        keys = new_curve_keys()
        world.members.admit("n1", keys.public)
        ctx: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        sock = ctx.socket(zmq.DEALER)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.RCVHWM, 1)
        sock.setsockopt(zmq.RCVBUF, 1 << 16)
        sock.setsockopt(zmq.CURVE_SERVERKEY, world.keys.public.encode())
        sock.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
        sock.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        sock.connect(f"tcp://127.0.0.1:{world.endpoint.port}")
        from helix.wire.codec import encode_batches

        sock.send(encode_batches([Register(name="n1", version="0")])[0])
        await until(lambda: world.endpoint.links)
        (link,) = world.endpoint.links
        sent = 0
        while world.endpoint.send(link, [BlobData("h", bytes(1 << 20))]):
            sent += 1
            assert sent < 200, "memory for a peer that does not read must be bounded"
            await asyncio.sleep(0)
        assert world.downs[0][1] == "n1"
        assert world.endpoint.counters["cut"] == 1
        sock.close(0)
        ctx.term()

    run(body, queue_batches=4, backlog_max=4 << 20)


def test_busy_port_is_refused_by_name() -> None:
    async def body(world: World) -> None:
        port, world.ctx2 = world.endpoint.port, new_context()  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match=str(port)) as caught:
            ControllerEndpoint(
                world.ctx2,  # type: ignore[attr-defined]
                f"tcp://127.0.0.1:{port}",
                world.keys,
                world.members,
                lambda *_: None,
                lambda *_: None,
                lambda *_: None,
            )
        assert caught.value.code == "BIND_FAILED"
        world.ctx2.term()  # type: ignore[attr-defined]

    run(body)


def test_malformed_controller_key_is_refused() -> None:
    async def body(world: World) -> None:
        with pytest.raises(ConfigError, match="nonsense"):
            world.node("n1", server_key="nonsense")

    run(body)


_FIRST_ID = """
import zmq
from helix.wire.transport import _seed_rand
_seed_rand()
c = zmq.Context(); r = c.socket(zmq.ROUTER); r.bind("inproc://x")
d = c.socket(zmq.DEALER); d.connect("inproc://x"); d.send(b"")
print(r.recv_multipart()[0].hex())
"""


def test_routing_ids_cannot_be_guessed_from_another_run() -> None:
    first = {
        subprocess.run([sys.executable, "-c", _FIRST_ID], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert len(first) == 3
