"""`helixctld`: the command line of the controller."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
import time
from typing import NoReturn

from helix import __version__
from helix.config.load import load_config
from helix.errors import ConfigError, HelixError, InternalError
from helix.logs import setup_logging

log = logging.getLogger("helixctld")


def build_parser() -> argparse.ArgumentParser:
    """The options, as helixctld(8) documents them."""
    parser = argparse.ArgumentParser(prog="helixctld", description="The Helix controller.")
    parser.add_argument("-f", "--config", default=os.environ.get("HELIX_CONF", "/etc/helix/helix.conf"), metavar="FILE")
    parser.add_argument("-D", "--foreground", action="store_true", help="stay in the foreground (always the case)")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="log more")
    parser.add_argument("--log-file", default="", metavar="FILE", help="log there instead of HelixctldLogFile")
    parser.add_argument("--pid-file", default="", metavar="FILE", help="write the process id there")
    parser.add_argument("--journal-check", metavar="DIR", help="examine a journal, change nothing, and exit")
    parser.add_argument("--journal-repair", metavar="DIR", help="keep the longest good part of a journal, and exit")
    parser.add_argument(
        "--create-join-token", action="store_true", help="print a token that admits new nodes, and exit"
    )
    parser.add_argument("--uses", type=int, default=1, metavar="N", help="joins the token is good for (1)")
    parser.add_argument("--ttl", type=int, default=3600, metavar="SECONDS", help="life of the token (3600)")
    parser.add_argument("--admit-key", nargs=2, metavar=("NAME", "Z85KEY"), help="pre-place a node's key, and exit")
    parser.add_argument("-V", "--version", action="version", version=f"helix {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the controller, or one of its offline tools; gives the exit status."""
    args = build_parser().parse_args(argv)
    try:
        if args.journal_check or args.journal_repair:
            return _fsck(args.journal_check or args.journal_repair, repair=bool(args.journal_repair))
        config = load_config(args.config)
        if args.create_join_token:
            return _create_token(config, args.uses, args.ttl)
        if args.admit_key:
            return _admit_key(config, *args.admit_key)
        level = ("info", "debug")[min(args.verbose, 1)] if args.verbose else config.helixctld_debug
        setup_logging("helixctld", args.log_file or config.helixctld_log_file, level)
        _serve(config, args.pid_file or config.helixctld_pid_file)
    except HelixError as exc:
        print(f"helixctld: {exc.msg} ({exc.code})", file=sys.stderr)
        if exc.hint:
            print(exc.hint, file=sys.stderr)
        log.critical("%s (%s) %s", exc.msg, exc.code, exc.hint)
        return exc.exit_status
    except OSError as exc:  # a log or socket that cannot be made
        log.critical("%s: %s", exc.filename, exc.strerror, exc_info=True)
        print(f"helixctld: {exc.filename or 'cannot start'}: {exc.strerror} (OS_ERROR)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as exc:  # boundary: the daemon's main
        log.critical("internal error", exc_info=True)
        print(f"helixctld: internal error: {type(exc).__name__}: {exc} (INTERNAL)", file=sys.stderr)
        return InternalError.exit_status


def _serve(config: object, pid_file: str) -> NoReturn:
    from helix.config.model import Config
    from helixctld.io.daemon import Controller

    assert isinstance(config, Config)

    async def run() -> int:
        # What is recovered lives on: the collector need not walk it, neither now, again and again while it grows, nor
        # later.  What comes after is looked at in small parts: one collection over the records of 100,000 jobs would
        # stop the loop for half a second, one over 100,000 objects takes 20 ms.
        gc.collect()
        gc.disable()
        controller = Controller(config, asyncio.get_running_loop())
        gc.freeze()
        gc.set_threshold(10_000, 10, 1_000)
        gc.enable()
        if pid_file:
            _write_pid(pid_file)
        return await controller.run()

    status = asyncio.run(run())
    # Everything is durable and closed.  The planner's thread may still compile kernels: nobody waits for it.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _write_pid(path: str) -> None:
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as exc:
        raise ConfigError(
            f"pid file {path}: {exc.strerror}", code="PID_FILE_UNUSABLE", hint="see HelixctldPidFile"
        ) from exc


def _fsck(directory: str, *, repair: bool) -> int:
    from helixctld.io import journal_fsck

    report = journal_fsck.repair(directory) if repair else journal_fsck.check(directory)
    print(journal_fsck.render(report))
    return 0 if report.ok else 1


def _create_token(config: object, uses: int, ttl_s: int) -> int:
    from helix.config.model import Config
    from helix.wire.auth import JoinTokens
    from helixctld.io.daemon import keys_dir

    assert isinstance(config, Config)
    folder = keys_dir(config)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    tokens = JoinTokens(os.path.join(folder, "join-tokens.json"))
    print(tokens.create(time.time(), ttl_s=ttl_s, uses=uses))
    return 0


def _admit_key(config: object, name: str, key: str) -> int:
    from helix.config.model import Config
    from helix.model import events as ev
    from helix.model.codec import to_msgpack
    from helix.wire.auth import is_curve_key
    from helixctld.io.journal import Journal

    assert isinstance(config, Config)
    if not is_curve_key(key):
        raise HelixError(f"'{key}' is not a CURVE public key", code="KEY_MALFORMED", hint="hcluster keygen makes one")
    with Journal.open(config.state_save_location, cluster=config.cluster_name) as journal:
        journal.append([to_msgpack(ev.NodeKeyAdmitted(t=time.time(), name=name, key=key))])
        journal.sync()
    print(f"{name} may join with key {key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
