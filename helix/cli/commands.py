"""The commands there are, for generators of man pages and completion: `load("hsubmit").options` is its table.

Nothing is imported before `load`, so that no command pays for the others.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from helix.cli.fields import Field
    from helix.cli.options import Command

#: Names of the commands whose module is `helix.cli.<name>` with a `COMMAND` in it.
COMMANDS: tuple[str, ...] = (
    "hsubmit",
    "hqueue",
    "hprio",
    "hshare",
    "hcancel",
    "hinfo",
    "hctl",
    "hdiag",
    "hwait",
    "hwhy",
    "hlog",
)


def load(name: str) -> Command:
    """What a command declares about itself.  Raises KeyError for a name not in COMMANDS."""
    if name not in COMMANDS:
        raise KeyError(name)
    command: Command = __import__("helix.cli." + name, fromlist=["COMMAND"]).COMMAND
    return command


def load_fields(command: Command) -> Sequence[Field]:
    """The output fields of a command's --format, empty if it has none."""
    if not command.fields:
        return ()
    module, _, name = command.fields.partition(":")
    table: Sequence[Field] = getattr(__import__(module, fromlist=[name]), name)
    return table
