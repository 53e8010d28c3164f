"""The controller, put together: recovery, tables from the configuration, sockets, timers, and an orderly end.

Order at start: lock and recover the journal, replay, take the configured nodes and partitions, check every
invariant, raise the epoch (durable), derive all effects once, listen, say READY.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from typing import Any, cast

from helix import __version__
from helix.blobstore import BlobStore
from helix.config.keys import SETTINGS
from helix.config.model import Config
from helix.errors import ConfigError, HelixError
from helix.model import events as ev
from helix.model.account import Accounts
from helix.model.codec import msgpack_decoder
from helix.sdnotify import notify
from helix.wire.agent import AgentServer
from helix.wire.auth import AllowList, load_or_create_identity
from helix.wire.limits import KeyedBuckets
from helix.wire.loop_socket import new_context
from helix.wire.transport import ControllerEndpoint
from helixctld.core import invariants, timers
from helixctld.core.apply import apply
from helixctld.core.state import State
from helixctld.core.state_save import Persistent
from helixctld.core.usage import decay_event
from helixctld.io.account_config import account_warnings, accounts_of, describe, usage_policy
from helixctld.io.calendar import Calendar
from helixctld.io.commit import Committer
from helixctld.io.debug_flags import set_flags
from helixctld.io.feed import Feed
from helixctld.io.identity import People
from helixctld.io.journal import Journal, JournalDamaged, JournalFailed
from helixctld.io.links import NodeLinks
from helixctld.io.mailer import Mailer
from helixctld.io.planning import Planning
from helixctld.io.relay import Relays
from helixctld.io.serve_accounts import AccountHandlers
from helixctld.io.serve_jobs import JobHandlers
from helixctld.io.serve_nodes import NodeHandlers
from helixctld.io.serve_reservations import ReservationHandlers
from helixctld.io.serve_streams import StreamHandlers
from helixctld.io.service import Service
from helixctld.io.tables import node_records, partition_records, take_shared

log = logging.getLogger("helixctld")

TICK_MAX_S = 60.0  #: the timer never sleeps longer, so that a stepped clock is noticed
FAILED_EXIT = 70


def keys_dir(config: Config) -> str:
    """Where the controller's keys and join tokens are."""
    return os.path.join(config.state_save_location, "keys")


class Controller:
    """All parts, as the handlers see them."""

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.config = config
        self.loop = loop
        self.host = socket.gethostname()
        self.pid = os.getpid()
        self.t_start = time.time()
        self.debug_flags: set[str] = set()
        self.log_level = config.helixctld_debug
        self.exit_status = 0
        self._stopped = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due_planned = False
        for text in config.warnings:
            log.warning("%s", text)
        _make_state_dir(config.state_save_location)
        self.journal = Journal.open(config.state_save_location, cluster=config.cluster_name)
        self.people = People(frozenset(config.operators), frozenset(config.administrators))
        self.state = self._recover()
        self.blobs = BlobStore(os.path.join(config.state_save_location, "blobs"))
        self.mailer = Mailer(
            smtp=config.mail_host, program=config.mail_prog, domain=config.mail_domain, cluster=config.cluster_name
        )
        self.committer = Committer(
            loop, self.journal, self.state, self.blobs, self._perform, self._applied, self._journal_failed
        )
        self.committer.snapshot_every = config.journal_snapshot_every
        self._restore_blobs()
        self.feed = Feed(self.state.epoch + 1)
        self.planning = Planning(loop, self.state, self.committer, config)
        keys = keys_dir(config)
        self.identity = load_or_create_identity(keys, signing=True)
        _write_public(os.path.join(keys, "controller.pub"), self.identity.curve.public)
        self.allow = AllowList(self.state.keys)
        self.links = NodeLinks(
            loop=loop,
            state=self.state,
            committer=self.committer,
            blobs=self.blobs,
            people=self.people,
            identity=self.identity,
            allow=self.allow,
            token_file=os.path.join(keys, "join-tokens.json"),
            config=config,
            on_relay=lambda link, message: self.relays.on_relay(link, message),
            on_nodes_changed=lambda: self.planning.wake(),
            on_link_down=lambda link_id: self.relays.drop_link(link_id),
        )
        self.jobs = JobHandlers(self)
        self.nodes = NodeHandlers(self)
        self.calendar = Calendar(loop, self.state, self.committer, lambda: self.config)
        self.reservations = ReservationHandlers(self)
        self.accounts = AccountHandlers(self)
        self.streams = StreamHandlers(self)
        handlers = (self.jobs, self.nodes, self.reservations, self.accounts, self.streams)
        self.service = Service(self.people, {name: call for part in handlers for name, call in part.table.items()})
        self._set_pacing()
        self.relays = Relays(lambda to, m: self.links.send(to, m), self.service.on_frame, self.service.on_close)
        self.set_debug_flags(set(config.debug_flags))
        self.agent = AgentServer(config.helixctld_socket, self.service.on_frame, self.service.on_close)
        self._zmq = new_context()
        self.endpoint: ControllerEndpoint | None = None

    # ---- recovery ----------------------------------------------------------------------------------------------

    def _recover(self) -> State:
        """Snapshot and replay.  Raises ConfigError for records this program cannot read."""
        started = time.perf_counter()
        state = State(self.config.cluster_name)
        recovered = self.journal.recovered
        for note in recovered.notes:
            log.warning("journal: %s", note)
        if recovered.fresh:
            state.next_job_id = max(1, self.config.first_job_id)
        if recovered.snapshot is not None:
            state.thaw(_decoded(Persistent, recovered.snapshot, f"snapshot {recovered.snapshot_seq}"))
            recovered.snapshot = None
        decoder: Any = msgpack_decoder(cast("type[Any]", ev.Event))
        self._replayed_blobs: list[ev.BlobStored] = []
        self._prime_nodes(state)
        state.is_replaying = True
        count = 0
        for seq, payload in self.journal.replay():
            try:
                event: Any = decoder.decode(payload)
            except Exception as exc:
                raise ConfigError(
                    f"journal record {seq} cannot be read by this release ({exc})",
                    code="JOURNAL_VERSION",
                    hint="start the release that wrote it",
                ) from exc
            if isinstance(event, ev.BlobStored):
                self._replayed_blobs.append(event)
            apply(state, event)
            count += 1
        state.is_replaying = False
        state.set_nodes(node_records(self.config))
        state.set_partitions(partition_records(self.config))
        take_shared(state, self.config)
        accounts = accounts_of(self.config)
        state.set_accounts(accounts, usage_policy(self.config))
        self.people.accounts = accounts
        log.info("accounts: %s", describe(accounts))
        for text in account_warnings(self.config, accounts):
            log.warning("%s", text)
        state.rebuild(time.time())
        invariants.check(state)
        log.info(
            "recovered jobs=%d records=%d snapshot=%d seconds=%.2f",
            len(state.jobs),
            count,
            recovered.snapshot_seq,
            time.perf_counter() - started,
        )
        return state

    def _prime_nodes(self, state: State) -> None:
        """Allocations are applied to nodes during the replay: the configured ones must be there."""
        orphans = state.set_nodes(node_records(self.config))
        for name in orphans:
            log.warning("node %s is not in the configuration any more but has jobs", name)
        state.set_partitions(partition_records(self.config))
        take_shared(state, self.config)

    def _restore_blobs(self) -> None:
        """Blob files need no sync of their own: a lost or torn one is written again from the journal."""
        for event in self._replayed_blobs:
            self.blobs.put(event.data)
        self._replayed_blobs.clear()

    # ---- life --------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until `stop`; gives the exit status."""
        self.committer.commit([ev.ControllerStarted(t=time.time(), epoch=self.state.epoch + 1, version=__version__)])
        self.journal.sync()
        if self.state.usage_policy.reset_period == "NOW" and self.state.usage.book:
            self.committer.commit([decay_event(self.state, time.time(), reset=True)])
        config = self.config
        self.endpoint = ControllerEndpoint(
            self._zmq,
            f"tcp://{config.helixctld_addr or '*'}:{config.helixctld_port}",
            self.identity.curve,
            self.allow,
            self.links.on_batch,
            self.links.on_unadmitted,
            self.links.on_down,
            join_open=self.links.join_open,
        )
        self.links.endpoint = self.endpoint
        _write_public(os.path.join(os.path.dirname(config.helixctld_socket), "helixctld.port"), str(self.endpoint.port))
        await self.agent.start()
        for name in ("SIGTERM", "SIGINT"):
            self.loop.add_signal_handler(getattr(signal, name), self.stop)
        self.loop.add_signal_handler(signal.SIGHUP, self._reload)
        self.planning.warm_up(os.path.join(config.state_save_location, "kernels"))
        self._heartbeat()
        self.calendar.start()
        self._plan_due()
        self.planning.wake()
        notify("READY=1")
        log.info(
            "ready cluster=%s epoch=%d port=%d socket=%s nodes=%d",
            self.state.cluster,
            self.state.epoch,
            self.endpoint.port,
            config.helixctld_socket,
            len(self.state.nodes),
        )
        await self._stopped.wait()
        notify("STOPPING=1")
        await self._shut_down()
        return self.exit_status

    async def _shut_down(self) -> None:
        log.info("stopping; running jobs go on")
        await self.agent.stop()
        self.planning.stop()
        self.calendar.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self.endpoint is not None:
            self.endpoint.close()
        self._zmq.destroy(linger=200)
        if not self.exit_status:
            self.committer.close()
        self.mailer.stop()

    def stop(self) -> None:
        """Ask for an orderly end."""
        self._stopped.set()

    def _journal_failed(self, failure: JournalFailed) -> None:
        log.critical("%s; stopping: a restart recovers what the disk really holds", failure.msg)
        self.exit_status = FAILED_EXIT
        self.stop()

    # ---- after every change ------------------------------------------------------------------------------------

    def _applied(self) -> None:
        """Events were applied: tell watchers, look at timers, plan."""
        transitions = self.state.transitions
        if transitions:
            self.state.transitions = []
            for change in transitions:
                self.feed.publish_job(change)
                if change.job.spec.mail_type:
                    self.mailer.on_change(change)
        self._mail_notices()
        if not self._due_planned:
            self._due_planned = True
            self.loop.call_soon(self._plan_due)
        state = self.state
        changed = state.dirty_jobs or state.dirty_nodes or state.dirty_partitions or state.dirty_reservations
        if changed or self.planning.priorities_due_in(time.time()) <= 0:  # usage has decayed
            self.planning.wake()

    def _mail_notices(self) -> None:
        notices, self.state.notices = self.state.notices, []
        for job, word in notices:
            self.mailer.on_notice(job, word)

    def _perform(self, actions: list[Any]) -> None:
        self.links.orders.perform(actions)

    # ---- time --------------------------------------------------------------------------------------------------

    def _plan_due(self) -> None:
        self._due_planned = False
        if self._stopped.is_set():
            return
        now = time.time()
        self.calendar.tick()
        events = timers.due(self.state, now, self.config.min_job_age_s)
        self._mail_notices()
        least_s = 0.01
        if events:
            try:
                self.committer.commit(events)
            except HelixError as exc:  # the queue to a full disk: what is due stays due
                log.warning("what is due waits: %s", exc.msg)
                least_s = 1.0
                self.state.rebuild(now)
        elif self.state.dirty_jobs:
            self.planning.wake()
        again_s = self.planning.priorities_due_in(now)
        if again_s <= 0:
            self.planning.wake()
            again_s = TICK_MAX_S
        due_s = timers.next_due(self.state, self.config.min_job_age_s) - now
        wait = max(least_s, min(TICK_MAX_S, again_s, due_s))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(wait, self._plan_due)

    def _heartbeat(self) -> None:
        if self._stopped.is_set():
            return
        self.links.look_for_silence()
        self.loop.call_later(self.config.heartbeat_interval_s, self._heartbeat)

    # ---- configuration -----------------------------------------------------------------------------------------

    def apply_config(self, config: Config, accounts: Accounts) -> list[str]:
        """Take the live part of a new configuration; gives warnings."""
        for key in SETTINGS:
            if key.attr and not key.reloadable and hasattr(config, key.attr):
                setattr(config, key.attr, getattr(self.config, key.attr))
        self.config = config
        orphans = self.state.set_nodes(node_records(config))
        warnings = [f"node {n} left the configuration but has jobs; it stays DOWN until they are gone" for n in orphans]
        warnings += account_warnings(config, accounts)
        for text in warnings:
            log.warning("%s", text)
        version = self.state.accounts_version
        self.state.set_partitions(partition_records(config))
        take_shared(self.state, config)
        self._set_accounts(accounts, version)
        self.people.operators, self.people.admins = frozenset(config.operators), frozenset(config.administrators)
        self.committer.snapshot_every = config.journal_snapshot_every
        self.links.set_config(config)
        self.planning.set_config(config)
        self._set_pacing()
        return warnings

    def _set_accounts(self, accounts: Accounts, version: int) -> None:
        """Take a new AssocFile: whether waiting jobs may start is another question now.  `version`: of the accounts
        before the partitions were taken, whose QOS may be others."""
        state, policy = self.state, usage_policy(self.config)
        self.people.accounts = accounts
        if accounts != state.accounts or policy != state.usage_policy:
            state.set_accounts(accounts, policy)
        if state.accounts_version != version:
            state.question_all()
        if state.usage_policy.reset_period == "NOW" and state.usage.book:
            self.committer.commit([decay_event(state, time.time(), reset=True)])

    def _set_pacing(self) -> None:
        parameters = self.config.helixctld_parameters
        self.service.buckets = None
        if "rl_enable" in parameters:
            self.service.buckets = KeyedBuckets(
                float(parameters.get("rl_bucket_size") or 30), float(parameters.get("rl_refill_rate") or 2)
            )

    def _reload(self) -> None:
        """SIGHUP: reopen the log file."""
        from helix.logs import reopen_logs

        reopen_logs()
        log.info("log reopened")

    def set_debug_flags(self, flags: set[str]) -> None:
        """Take DebugFlags."""
        self.debug_flags = set_flags(flags)
        self.committer.check_invariants = "Invariants" in self.debug_flags

    # ---- counters ----------------------------------------------------------------------------------------------

    def counters(self) -> dict[str, float | int | str]:
        """For hdiag: flat names."""
        state = self.state
        found: dict[str, float | int | str] = {
            "server.pid": self.pid,
            "server.epoch": state.epoch,
            "server.t_start": self.t_start,
            "server.t_now": time.time(),
            "jobs.total": len(state.jobs),
            "jobs.schedulable": len(state.schedulable),
            "jobs.history": len(state.history),
            "jobs.tokens": len(state.tokens),
            "nodes.total": len(state.nodes),
            "nodes.links": self.links.count,
            "agent.connections": len(self.agent.connections),
            "agent.relayed": self.relays.count,
            "journal.durable_seq": self.journal.durable_seq,
            "journal.last_seq": self.journal.last_seq,
            "journal.records_since_snapshot": self.journal.records_since_snapshot,
            "journal.effects_waiting": self.committer.waiting,
            "mail.dropped": self.mailer.dropped,
            "rpc.refused": self.service.refused,
        }
        for word, count in state.counts.items():
            found[f"jobs.{word.lower()}"] = count
        for prefix, table in (
            ("journal", self.committer.counters),
            ("nodes", self.links.counters),
            ("agent", self.agent.counters),
            ("sched", self.planning.counters()),
        ):
            for name, value in table.items():
                found[f"{prefix}.{name}"] = value
        for name, count in self.service.counters.items():
            found[f"rpc.{name}.count"] = count
            found[f"rpc.{name}.total_us"] = self.service.times_us[name]
        for uid, count in sorted(self.service.by_user.items(), key=lambda kv: -kv[1])[:20]:
            found[f"rpc.user.{uid}.count"] = count
        return found

    def reset_counters(self) -> None:
        """`hdiag --reset`."""
        self.service.reset_counters()
        self.planning.reset_counters()
        for table in (self.committer.counters, self.links.counters):
            for name in table:
                table[name] = 0


def _decoded(kind: Any, data: bytes, what: str) -> Any:
    try:
        return msgpack_decoder(kind).decode(data)
    except Exception as exc:
        raise JournalDamaged(
            f"{what} cannot be read by this release: {exc}", hint="start the release that wrote it"
        ) from exc


def _make_state_dir(path: str) -> None:
    """Raises ConfigError (STATE_UNUSABLE) when there can be no directory."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"StateSaveLocation {path}: {exc.strerror}",
            code="STATE_UNUSABLE",
            hint="it must be a directory that helixctld can make or write",
        ) from exc


def _write_public(path: str, text: str) -> None:
    """A small public file, replaced whole."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    tmp = f"{path}.tmp"
    with open(tmp, "w", encoding="ascii") as file:
        file.write(text + "\n")
    os.replace(tmp, path)
