"""What nodes are told about jobs: launches, signals, time limits and ends.

Launches of a loop turn go to a link as one signed credential, with the scripts and environments it has not had yet.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from helix.blobstore import BlobStore
from helix.config.model import Config
from helix.errors import HelixError
from helix.model.job_state import JobState
from helix.wire import messages as msg
from helix.wire.auth import Identity, sign_credential
from helix.wire.transport import LinkId
from helixctld.core import effects
from helixctld.core.state import State
from helixctld.io.identity import People
from helixctld.io.launcher import launch_of

if TYPE_CHECKING:
    from helixctld.io.links import Link

log = logging.getLogger("helixctld.links")

CREDENTIAL_LIFE_S = 120.0  #: a launch that has not reached its node by then is void
BLOBS_SENT_MAX = 4096  #: hashes remembered per link as sent
SUSPEND_GRACE_S = 2  #: PreemptParameters=suspend_grace_time, if it is not given


class Orders:
    """Turns actions into messages.  A node without a link is told when it registers: see `reports.node_registered`."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        state: State,
        blobs: BlobStore,
        people: People,
        identity: Identity,
        config: Config,
        by_node: Mapping[str, Link],
        send: Callable[[LinkId, list[Any]], bool],
        counters: dict[str, int],
    ) -> None:
        self.config = config  # set anew after a live change
        self._loop = loop
        self._state = state
        self._blobs = blobs
        self._people = people
        self._identity = identity
        self._by_node = by_node  # of the links
        self._send = send
        self._counters = counters  # of the links
        self._nonce = 0
        self._to_launch: list[Link] = []

    def perform(self, actions: list[effects.Action]) -> None:
        """Send what the actions call for.  A node without a link gets it when it registers."""
        acks: dict[LinkId, list[tuple[int, int]]] = {}
        for action in actions:
            if isinstance(action, effects.LaunchJob):
                self._launch(action.job_id)
            elif isinstance(action, effects.AckExit):
                if (link := self._by_node.get(action.node)) is not None:
                    acks.setdefault(link.id, []).append((action.job_id, action.attempt))
            elif isinstance(action, effects.TerminateJob):
                self._to_node(
                    action.node,
                    msg.TerminateStep(
                        job_id=action.job_id,
                        attempt=action.attempt,
                        node=action.node,
                        kill_wait_s=self._kill_wait_s(action),
                        signal=action.signal,
                    ),
                )
            else:
                self._to_job(action)
        for link_id, ended in acks.items():
            self._send(link_id, [msg.AckEnded(ended)])

    def _kill_wait_s(self, action: effects.TerminateJob) -> int:
        if action.now:
            return 0
        if action.t_kill:
            return max(1, math.ceil(action.t_kill - time.time()))
        return self.config.kill_wait_s

    def _to_job(self, action: effects.SignalJob | effects.SuspendJob | effects.SetTimeLimit) -> None:
        job = self._state.jobs.get(action.job_id)
        if job is None or not job.is_active:
            return
        node = effects.batch_host(job)
        if isinstance(action, effects.SignalJob):
            self._to_node(
                node,
                msg.SignalStep(
                    job_id=job.job_id, attempt=job.attempt, node=node, signal=action.signal, scope=action.scope
                ),
            )
        elif isinstance(action, effects.SuspendJob):
            self._to_node(
                node,
                msg.SuspendStep(
                    job_id=job.job_id,
                    attempt=job.attempt,
                    node=node,
                    resume=action.resume,
                    grace_s=int(self.config.preempt_parameters.get("suspend_grace_time") or SUSPEND_GRACE_S),
                ),
            )
        else:
            self._to_node(
                node,
                msg.SetTimeLimit(job_id=job.job_id, attempt=job.attempt, node=node, time_limit_s=job.time_limit_s),
            )

    def _to_node(self, node: str, message: Any) -> None:
        link = self._by_node.get(node)
        if link is not None:
            if link.launches:  # an order about a job must not overtake its launch
                self._flush_launches()
            self._send(link.id, [message])

    def _launch(self, job_id: int) -> None:
        job = self._state.jobs.get(job_id)
        if job is None or job.state is not JobState.CONFIGURING:
            return
        link = self._by_node.get(effects.batch_host(job))
        if link is None:
            return
        if not link.launches:
            self._to_launch.append(link)
            if len(self._to_launch) == 1:
                self._loop.call_soon(self._flush_launches)
        link.launches.append(
            launch_of(job, self._people, self.config.kill_wait_s, self._state.nodes, self._state.topology)
        )

    def _flush_launches(self) -> None:
        links, self._to_launch = self._to_launch, []
        now = time.time()
        for link in links:
            launches, link.launches = link.launches, []
            out: list[Any] = []
            for launch in launches:
                for blob in (launch.script_hash, launch.env_hash):
                    if blob and blob not in link.blobs_sent:
                        out.append(self._blob(link, blob))
            self._nonce += 1
            credential = msg.Credential(
                audience=link.name,
                cluster=self._state.cluster,
                epoch=self._state.epoch,
                nonce=self._nonce,
                t_issued=now,
                t_expires=now + CREDENTIAL_LIFE_S,
                launches=launches,
            )
            assert self._identity.signing is not None
            out.append(sign_credential(credential, self._identity.signing))
            self._send(link.id, [m for m in out if m is not None])
            self._counters["launches"] += len(launches)
            log.debug("launch link=%s jobs=%s", link.name, [launch.job_id for launch in launches])
            self._counters["batches"] += 1

    def _blob(self, link: Link, blob: str) -> msg.BlobData | None:
        link.blobs_sent[blob] = None
        if len(link.blobs_sent) > BLOBS_SENT_MAX:
            link.blobs_sent.popitem(last=False)
        try:
            return msg.BlobData(blob, self._blobs.get(blob))
        except HelixError as exc:
            log.error("blob %s: %s", blob, exc.msg)
            return None

    def send_blobs(self, link: Link, hashes: list[str]) -> None:
        """Send the scripts and environments that a node lacks."""
        found = [self._blob(link, h) for h in hashes[:64]]
        self._send(link.id, [b for b in found if b is not None])
