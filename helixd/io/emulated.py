"""helixd --emulate: one process and one link that stand for many nodes; nothing is run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence

from msgspec.structs import replace

from helix.hostlist import parse_hostlist
from helix.wire import messages as msg
from helix.wire.auth import load_or_create_identity
from helixd import probe
from helixd.core import actions as act
from helixd.core.emulation import EmulatedCore
from helixd.io.options import EMULATED_MAX, Options
from helixd.io.scripts import is_blob
from helixd.io.session import Session

PACE_S = 0.02  #: least time between two looks at the heap


class EmulatedDaemon:
    """Made on the loop's thread, by `helixd.main`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._t_timer = 0.0
        found = probe.probe(t_helixd_start=time.time())
        self._fingerprint = replace(found, boot_id="", hostname=f"{found.hostname}/emulated")
        self.core = EmulatedCore(parse_hostlist(options.name, limit=EMULATED_MAX))
        self.session = Session(
            name=options.name,
            controller=options.controller,
            controller_key=options.controller_key,
            keys=load_or_create_identity(os.path.join(options.spool, "keys"), signing=False).curve,
            join_token=options.join_token,
            fingerprint=lambda: replace(self._fingerprint, t_sent=time.time()),
            mind=self.core,
            perform=self.perform,
            on_blob=self._on_blob,
            on_config=lambda text: None,
            emulated=True,
        )

    async def start(self) -> None:
        """Connect."""
        await self.session.start(self._options.socket)

    async def stop(self) -> None:
        """Disconnect."""
        if self._timer is not None:
            self._timer.cancel()
        await self.session.stop()

    def perform(self, actions: Sequence[act.Action]) -> None:
        """There is nothing but messages."""
        messages = [action.message for action in actions if isinstance(action, act.Send)]
        if messages:
            self.session.send(messages)
        due = self.core.next_tick()
        if due and (self._timer is None or due < self._t_timer - PACE_S):
            if self._timer is not None:
                self._timer.cancel()
            self._t_timer = due
            self._timer = self._loop.call_later(max(PACE_S, due - time.time()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.perform(self.core.tick(time.time()))

    def _on_blob(self, message: msg.BlobData) -> None:
        if is_blob(message.hash, message.data):
            self.perform(self.core.on_blob(message.hash, message.data, time.time()))
