"""Handlers of the methods on nodes, partitions, the configuration and the controller itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from helix import __version__
from helix.config.load import config_pairs, diff_config, load_config, render_config
from helix.errors import HelixError, NotFound, UsageError
from helix.hostlist import format_hostlist, parse_hostlist
from helix.logs import set_level
from helix.model.node import NodeBase, NodeRecord, state_word
from helix.wire import methods as m
from helixctld.core import reports, update
from helixctld.core.effects import TerminateJob
from helixctld.core.licences import licence_rows
from helixctld.core.nearest import did_you_mean
from helixctld.core.views import node_rows, partition_rows
from helixctld.io.account_config import accounts_of, describe
from helixctld.io.debug_flags import FLAGS, known_flag
from helixctld.io.service import Call, Handler

if TYPE_CHECKING:
    from helixctld.io.daemon import Controller

log = logging.getLogger("helixctld.admin")


class NodeHandlers:
    """Bound to the controller; `table` is what the service dispatches by."""

    def __init__(self, ctl: Controller) -> None:
        self.ctl = ctl
        self.table: dict[str, Handler] = {
            "ping": self.ping,
            "node.list": self.list_nodes,
            "node.update": self.update_nodes,
            "partition.list": self.list_partitions,
            "partition.update": self.update_partition,
            "licence.list": self.list_licences,
            "topology.show": self.show_topology,
            "config.show": self.show_config,
            "config.reconfigure": self.reconfigure,
            "ctl.diag": self.diag,
            "ctl.diag_reset": self.diag_reset,
            "ctl.debug": self.debug,
            "ctl.shutdown": self.shutdown,
            "ctl.snapshot": self.snapshot,
        }

    def ping(self, call: Call, _args: m.NoArgs) -> None:
        """Who answers."""
        ctl = self.ctl
        call.reply(
            {
                "cluster": ctl.state.cluster,
                "version": __version__,
                "epoch": ctl.state.epoch,
                "host": ctl.host,
                "pid": ctl.pid,
                "t_start": ctl.t_start,
                "t_now": call.t,
                "nodes": len(ctl.state.nodes),
                "jobs": len(ctl.state.jobs),
            }
        )

    # ---- nodes

    def _nodes(self, hosts: str) -> list[NodeRecord]:
        nodes = self.ctl.state.nodes
        if not hosts or hosts.upper() == "ALL":
            return list(nodes.values())
        found = []
        for name in parse_hostlist(hosts):
            if name not in nodes:
                raise NotFound(f"no node '{name}'", code="NODE_UNKNOWN", hint=did_you_mean(name, nodes))
            found.append(nodes[name])
        return found

    def list_nodes(self, call: Call, args: m.NodeListArgs) -> None:
        """Rows of nodes."""
        nodes = self._nodes(args.nodes)
        if args.partitions:
            members: set[str] = set()
            for name in args.partitions:
                partition = self.ctl.state.partitions.get(name)
                if partition is None:
                    hint = did_you_mean(name, self.ctl.state.partitions)
                    raise NotFound(f"no partition '{name}'", code="PARTITION_UNKNOWN", hint=hint)
                members.update(partition.nodes)
            nodes = [n for n in nodes if n.name in members]
        if args.states:
            wanted = {s.upper().rstrip("*") for s in args.states}
            nodes = [n for n in nodes if _node_matches(n, wanted)]
        for node in nodes:
            link = self.ctl.links.by_node.get(node.name)
            if link is not None and link.t_seen > node.t_last_seen:
                node.t_last_seen = link.t_seen
        rows = node_rows(self.ctl.state, nodes, self.ctl.links.loads())
        call.reply({"columns": m.NODE_ROW, "rows": rows})

    def update_nodes(self, call: Call, args: m.NodeUpdateArgs) -> None:
        """Drain, resume or mark nodes; all are checked before any changes."""
        self.ctl.committer.require_room()
        if not args.nodes:
            raise UsageError("no nodes named", code="NOTHING_NAMED")
        nodes = self._nodes(args.nodes)
        changes = [update.update_node(node, call.caller, args.changes, call.t) for node in nodes]
        for node, event in zip(nodes, changes, strict=True):
            self.ctl.committer.commit([event])
            if event.base == NodeBase.DOWN:
                lost = reports.node_lost(
                    self.ctl.state,
                    node.name,
                    f"was set DOWN: {event.reason}",
                    call.t,
                    requeue_default=self.ctl.config.job_requeue,
                )
                self.ctl.committer.commit(lost.events, lost.actions)
                for job_id, attempt in self._steps_on(node, lost):
                    self.ctl.links.orders.perform([TerminateJob(job_id, node.name, attempt, now=True)])
            self.ctl.feed.publish(
                "node", call.t, id=node.name, name=node.name, new=state_word(node), reason=node.reason
            )
        done = [n.name for n in nodes]
        self.ctl.committer.commit((), after=lambda: call.reply({"done": done}))

    def _steps_on(self, node: NodeRecord, lost: Any) -> list[tuple[int, int]]:
        return [(e.job_id, e.attempt) for e in lost.events]

    # ---- partitions

    def list_partitions(self, call: Call, args: m.NameArgs) -> None:
        """Partitions; hidden ones for operators only, unless named."""
        partitions = self.ctl.state.partitions
        if args.name:
            found = partitions.get(args.name)
            if found is None:
                hint = did_you_mean(args.name, partitions)
                raise NotFound(f"no partition '{args.name}'", code="PARTITION_UNKNOWN", hint=hint)
            chosen = [found]
        else:
            chosen = list(partitions.values())
        call.reply({"columns": m.PARTITION_ROW, "rows": partition_rows(self.ctl.state, chosen)})

    def update_partition(self, call: Call, args: m.PartitionUpdateArgs) -> None:
        """Change a partition."""
        self.ctl.committer.require_room()
        partition = self.ctl.state.partitions.get(args.name)
        if partition is None:
            hint = did_you_mean(args.name, self.ctl.state.partitions)
            raise NotFound(f"no partition '{args.name}'", code="PARTITION_UNKNOWN", hint=hint)
        event = update.update_partition(self.ctl.state, partition, args.changes, call.t)
        self.ctl.committer.commit([event], after=lambda: call.reply({"done": [args.name]}))

    # ---- licences and topology

    def list_licences(self, call: Call, args: m.NameArgs) -> None:
        """All licences, or the one named."""
        rows = licence_rows(self.ctl.state)
        if args.name:
            known = [row["name"] for row in rows]
            rows = [row for row in rows if row["name"] == args.name]
            if not rows:
                hint = did_you_mean(args.name, known)
                raise NotFound(f"no licence '{args.name[:80]}'", code="LICENSE_UNKNOWN", hint=hint)
        call.reply({"licences": rows})

    def show_topology(self, call: Call, args: m.NameArgs) -> None:
        """All switches or blocks; of a name: that switch, or those above that node."""
        topology = self.ctl.state.topology
        chosen = topology.switches
        if args.name:
            chosen = [switch for switch in chosen if args.name == switch.name]
            if not chosen and args.name in self.ctl.state.nodes:
                chosen = [switch for switch in topology.switches if args.name in switch.nodes]
            elif not chosen:
                known = [switch.name for switch in topology.switches]
                hint = did_you_mean(args.name, known)
                raise NotFound(f"no switch, block or node '{args.name[:80]}'", code="SWITCH_UNKNOWN", hint=hint)
        rows = [
            {"name": s.name, "level": s.level, "nodes": format_hostlist(s.nodes), "switches": ",".join(s.switches)}
            for s in chosen
        ]
        call.reply({"kind": topology.kind, "switches": rows})

    # ---- configuration

    def show_config(self, call: Call, _args: m.NoArgs) -> None:
        """The configuration in force."""
        config = self.ctl.config
        call.reply({"pairs": config_pairs(config), "text": render_config(config), "hash": config.hash})

    def reconfigure(self, call: Call, _args: m.NoArgs) -> None:
        """Read helix.conf again; apply what can change live, name what needs a restart."""
        new = load_config(self.ctl.config.source)
        self.ctl.planning.require_plugins(new)
        accounts, before = accounts_of(new), self.ctl.state.accounts
        changes = diff_config(self.ctl.config, new)
        warnings = self.ctl.apply_config(new, accounts)
        shown = [({"key": c.key, "old": c.old, "new": c.new}, c.reloadable) for c in changes]
        if accounts != before:
            shown.append(({"key": "AssocFile", "old": describe(before), "new": f"{describe(accounts)}, changed"}, True))
        result = {
            "applied": [change for change, live in shown if live],
            "needs_restart": [change for change, live in shown if not live],
            "warnings": [*new.warnings, *warnings],
        }
        log.info("reconfigured by uid=%d changes=%d", call.caller.uid, len(changes))
        call.reply(result)

    # ---- the controller

    def diag(self, call: Call, _args: m.NoArgs) -> None:
        """All counters, flat."""
        call.reply({"counters": self.ctl.counters()})

    def diag_reset(self, call: Call, _args: m.NoArgs) -> None:
        """Set the counters to zero."""
        self.ctl.reset_counters()
        call.reply({})

    def debug(self, call: Call, args: m.DebugArgs) -> None:
        """Change DebugFlags or the log level until the next restart."""
        flags = set(self.ctl.debug_flags)
        for text in args.flags:
            name = known_flag(text[1:])
            if text[:1] not in ("+", "-") or not name:
                raise UsageError(
                    f"no debug flag '{text[:40]}'", code="FLAG_UNKNOWN", hint=f"+ or - and one of {', '.join(FLAGS)}"
                )
            (flags.add if text[0] == "+" else flags.discard)(name)
        if args.level:
            try:
                set_level(args.level)
            except HelixError:
                raise
            except ValueError as exc:
                raise UsageError(str(exc), code="LEVEL_UNKNOWN") from exc
            self.ctl.log_level = args.level
        self.ctl.set_debug_flags(flags)
        call.reply({"flags": sorted(flags), "level": self.ctl.log_level})

    def shutdown(self, call: Call, _args: m.NoArgs) -> None:
        """Stop; running jobs go on."""
        log.warning("shutdown asked for by uid=%d", call.caller.uid)
        call.reply({})
        self.ctl.stop()

    def snapshot(self, call: Call, _args: m.NoArgs) -> None:
        """Write a snapshot now."""
        self.ctl.committer.snapshot(force=True)
        call.reply({})


def _node_matches(node: NodeRecord, wanted: set[str]) -> bool:
    word = state_word(node)
    names = {word.rstrip("*")}
    if node.drain:
        names.add("DRAIN")
    if not node.responding:
        names |= {"NO_RESPOND", "NORESP"}
    if node.base is NodeBase.DOWN:
        names.add("DOWN")
    if word.rstrip("*") == "ALLOCATED":
        names.add("ALLOC")
    if word.rstrip("*") == "MIXED":
        names.add("MIX")
    if word.rstrip("*") == "COMPLETING":
        names.add("COMP")
    if node.reservations:
        names |= {"MAINT"} if node.maintenance else {"RESERVED", "RESV"}
    return not wanted.isdisjoint(names)
