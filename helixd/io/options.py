"""The command line of helixd, checked."""

from __future__ import annotations

import argparse
import logging
import os
import socket
from collections.abc import Sequence

from msgspec import Struct

from helix import __version__
from helix.errors import HelixError, NotFound, UsageError
from helix.hostlist import format_hostlist, parse_hostlist
from helix.wire.auth import read_join_token

log = logging.getLogger("helixd.options")

EMULATED_MAX = 100_000


class Options(Struct, frozen=True):
    """What helixd is told on its command line; all else comes from the controller."""

    name: str  # one node, or a host list with `emulate`
    controller: str
    controller_key: str
    spool: str
    socket: str
    join_token_file: str = ""
    emulate: int = 0
    log_file: str = ""
    log_level: str = ""
    pid_file: str = ""

    def join_token(self) -> str:
        """The token in the file; "" if there is no such file (the key may have been admitted otherwise)."""
        if not self.join_token_file:
            return ""
        try:
            return read_join_token(self.join_token_file)
        except NotFound:
            return ""
        except HelixError as error:
            log.error("%s", error.msg)
            return ""


def build_parser() -> argparse.ArgumentParser:
    """The options, as helixd(8) documents them."""
    parser = argparse.ArgumentParser(
        prog="helixd", description="The node daemon of Helix.  Its configuration comes from the controller."
    )
    add = parser.add_argument
    add("-f", "--config", default="", metavar="FILE", help="helix.conf to take addresses and paths not given here from")
    add("--name", default="", help="name of this node (with --emulate: host list of the nodes); default: the host's")
    add("--controller", default="", metavar="tcp://HOST:PORT", help="where helixctld listens for nodes")
    add("--controller-key", required=True, metavar="KEY", help="public key of the controller, or a file with it")
    add("--join-token-file", default="", metavar="FILE", help="token that admits this node's key the first time")
    add("--spool", default="", metavar="DIR", help="directory of keys, steps log and scripts")
    add("--socket", default="", metavar="PATH", help="agent socket for users' commands")
    add("--emulate", type=int, default=0, metavar="N", help="emulate N nodes; nothing is run")
    add("--log-file", default="", metavar="FILE", help="default: standard error")
    add("--log-level", default="", metavar="LEVEL", help="overrides the configuration's HelixdDebug")
    add("--pid-file", default="", metavar="FILE", help="where to write the process number")
    add("-V", "--version", action="version", version=f"helixd {__version__}")
    return parser


def parse_options(argv: Sequence[str]) -> Options:
    """Raises UsageError; exits for --help and --version as argparse does."""
    args = build_parser().parse_args(_joined(argv))
    args.name = args.name or socket.gethostname().partition(".")[0]
    if args.config:
        _fill_from(args, args.config)
    for option in ("controller", "spool"):
        if not getattr(args, option):
            raise UsageError(f"--{option} is needed, or a helix.conf with -f", code="OPTION_MISSING")
    names = parse_hostlist(args.name, limit=EMULATED_MAX)
    if args.emulate:
        if args.emulate == 1 or len(names) == args.emulate:
            name = args.name
        elif len(names) == 1:
            name = f"{args.name}[0-{args.emulate - 1}]"
        else:
            raise UsageError(f"--name stands for {len(names)} nodes, --emulate says {args.emulate}")
    elif len(names) != 1:
        raise UsageError(f"--name {args.name} stands for {len(names)} nodes", hint="one helixd serves one node")
    else:
        name = format_hostlist(names)
    if not args.controller.startswith(("tcp://", "ipc://")):
        raise UsageError(f"--controller {args.controller}: the form is tcp://HOST:PORT")
    key = args.controller_key
    if os.path.isfile(key):
        with open(key, encoding="ascii", errors="replace") as file:
            key = file.read(1024).strip()
    return Options(
        name=name,
        controller=args.controller,
        controller_key=key,
        spool=os.path.abspath(args.spool),
        socket=os.path.abspath(args.socket) if args.socket else "",
        join_token_file=args.join_token_file,
        emulate=args.emulate,
        log_file=args.log_file,
        log_level=args.log_level,
        pid_file=args.pid_file,
    )


def _fill_from(args: argparse.Namespace, path: str) -> None:
    """Take what was not given from a helix.conf.  Raises ConfigError."""
    from helix.config.load import load_config
    from helix.config.model import node_path

    config = load_config(path)
    args.controller = args.controller or f"tcp://{config.controller_addr}:{config.helixctld_port}"
    args.spool = args.spool or node_path(config.helixd_spool_dir, args.name)
    args.socket = args.socket or node_path(config.helixd_socket, args.name)
    args.log_file = args.log_file or node_path(config.helixd_log_file, args.name)
    args.pid_file = args.pid_file or node_path(config.helixd_pid_file, args.name)


def _joined(argv: Sequence[str]) -> list[str]:
    """`--controller-key KEY` as one word: a key may begin with a dash."""
    words = list(argv)
    if "--controller-key" in words[:-1]:
        at = words.index("--controller-key")
        words[at : at + 2] = [f"--controller-key={words[at + 1]}"]
    return words
