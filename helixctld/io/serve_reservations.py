"""Handlers of the methods on advance reservations."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from helix.model import events as ev
from helix.wire import methods as m
from helixctld.core import reservations
from helixctld.core.reservation_access import require
from helixctld.core.reservation_views import reservation_rows
from helixctld.io.service import Call, Handler

if TYPE_CHECKING:
    from helixctld.io.daemon import Controller

log = logging.getLogger("helixctld.admin")


class ReservationHandlers:
    """Bound to the controller; `table` is what the service dispatches by."""

    def __init__(self, ctl: Controller) -> None:
        self.ctl = ctl
        self.table: dict[str, Handler] = {
            "reservation.list": self.list_reservations,
            "reservation.create": self.create,
            "reservation.update": self.update,
            "reservation.delete": self.delete,
        }

    def list_reservations(self, call: Call, args: m.NameArgs) -> None:
        """Reservations by start; all, or one by name."""
        state = self.ctl.state
        found = [require(state, args.name)] if args.name else list(state.reservations.values())
        found.sort(key=lambda r: (r.t_start, r.name))
        call.reply({"columns": m.RESERVATION_ROW, "rows": reservation_rows(state, found, call.t)})

    def create(self, call: Call, args: m.ReservationCreateArgs) -> None:
        """Make one; the reply, with its name, leaves when it is durable."""
        self.ctl.committer.require_room()
        event = reservations.create(self.ctl.state, args.changes, call.caller, call.t, self.ctl.people.members)
        self._require_people(event.reservation.users)
        self._commit(call, event, event.reservation.name)

    def update(self, call: Call, args: m.ReservationUpdateArgs) -> None:
        """Change one."""
        self.ctl.committer.require_room()
        old = require(self.ctl.state, args.name)
        event = reservations.update(
            self.ctl.state, args.name, args.changes, call.caller, call.t, self.ctl.people.members
        )
        self._require_people([name for name in event.reservation.users if name not in old.users])
        self._commit(call, event, args.name)

    def delete(self, call: Call, args: m.NameArgs) -> None:
        """Delete one that no job runs in."""
        users_may = "user_resv_delete" in self.ctl.config.helixctld_parameters
        event = reservations.delete(self.ctl.state, args.name, call.caller, call.t, users_may=users_may)
        self._commit(call, event, args.name)

    def _require_people(self, users: list[str]) -> None:
        for name in users:
            self.ctl.people.require_user(name)

    def _commit(self, call: Call, event: ev.Event, name: str) -> None:
        log.info("%s name=%s uid=%d", type(event).__name__, name, call.caller.uid)
        self.ctl.committer.commit([event], after=lambda: call.reply({"name": name}))
        self.ctl.calendar.sync()
