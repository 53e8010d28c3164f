"""`hqueue --watch`: the listing, kept true by events instead of by asking again.

The listing is fetched once; after that only jobs that changed are asked for.  On a terminal the screen is drawn anew;
elsewhere the lines of changed jobs are appended.  When the controller no longer has the events in between (COMPACTED)
the listing is fetched again, which is always right.
"""

from __future__ import annotations

import sys

from helix.cli import output
from helix.cli.fields import sort_rows
from helix.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from helix.cli.hqueue import Listing
    from helix.client import Client

_HOME_AND_CLEAR = "\033[H\033[2J"


def watch(client: Client, listing: Listing) -> None:
    """Follow until interrupted."""
    board = Board(client, listing)
    while True:
        cursor = board.load()
        try:
            _follow(client, board, cursor)
        except Conflict as error:
            if error.code != "COMPACTED":
                raise


def _follow(client: Client, board: Board, cursor: int) -> None:
    events = client.events(cursor, **board.criteria)
    for event in events:
        board.changed(event)


class Board:
    """The rows on display, by job."""

    def __init__(self, client: Client, listing: Listing) -> None:
        self._client = client
        self._listing = listing
        self._columns = [*listing.layout.columns, *({"job_id"} - set(listing.layout.columns))]
        self._id = self._columns.index("job_id")
        self._rows: dict[int, list[Any]] = {}
        self._screen = sys.stdout.isatty()
        #: An event names its job; which of the other criteria it meets is settled by asking for its row.
        self.criteria: dict[str, Any] = {
            name: value for name, value in listing.filter.items() if name in ("ids", "names")
        }

    def load(self) -> int:
        """Fetch everything, show it, and return the cursor to follow from."""
        from helix.cli.hctl_change import list_cursor
        from helix.cli.hqueue import fetch

        rows, cursor, _ = fetch(self._client, self._listing.request(self._columns))
        self._rows = {row[self._id]: row for row in rows}
        self._draw()
        return list_cursor(cursor)

    def changed(self, event: dict[str, Any]) -> None:
        """A job changed: fetch its row, or forget it when it is no longer part of the listing.

        A task that starts changes its array's own row too.
        """
        from helix.cli.hqueue import fetch

        job_id = int(event.get("id", 0))
        wanted = {job_id, int(event.get("array_job_id", 0)) or job_id}
        args = self._listing.request(self._columns)
        args["filter"] = {**args["filter"], "ids": [str(k) for k in sorted(wanted)]}
        found = {row[self._id]: row for row in fetch(self._client, args)[0] if row[self._id] in wanted}
        for k in wanted - found.keys():
            self._rows.pop(k, None)
        self._rows.update(found)
        rows = [found[job_id]] if job_id in found else []
        if self._screen:
            self._draw()
        elif rows:
            output.put_rows(self._render(rows))
        else:
            reason = event.get("reason", "")
            why = f" {reason}" if reason not in ("", "None") else ""
            output.put(f"{event.get('display_id', job_id)} {event.get('old', '')} -> {event.get('new', '')}{why}")
        sys.stdout.flush()

    def _render(self, rows: list[Any]) -> str:
        width = len(self._listing.layout.columns)
        return self._listing.layout.render([row[:width] for row in rows])

    def _draw(self) -> None:
        width = len(self._listing.layout.columns)
        rows = [row[:width] for row in self._rows.values()]
        if self._screen:
            import shutil

            sys.stdout.write(_HOME_AND_CLEAR)
            height = shutil.get_terminal_size().lines - (0 if self._listing.noheader else 1) - 2
            sort_rows(rows, self._listing.keys, self._listing.layout.index)
            hidden = len(rows) - height
            if hidden > 0:
                self._listing.show(rows[:height])
                output.put(f"... and {hidden} more")
                sys.stdout.flush()
                return
        self._listing.show(rows)
        sys.stdout.flush()
