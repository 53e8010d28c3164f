"""helixd's entry point: command line, spool, signals, the loop."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Protocol

from helix import __version__
from helix.errors import ConfigError, Conflict, HelixError, UsageError
from helix.logs import reopen_logs, setup_logging
from helix.sdnotify import notify
from helixd.io.options import Options, parse_options

log = logging.getLogger("helixd.main")


class _Daemon(Protocol):
    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """Leave."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status.  Jobs go on after it."""
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
        os.umask(0o022)
        lock = _lock_spool(options.spool)
        setup_logging("helixd", options.log_file, options.log_level or "info")
        if options.pid_file:
            _write_pid(options.pid_file)
    except UsageError as error:
        return _say(error, UsageError.exit_status)
    except HelixError as error:
        return _say(error, error.exit_status)
    except OSError as error:
        print(f"helixd: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1
    try:
        asyncio.run(_run(options))
    except HelixError as error:
        log.error("%s (%s)", error.msg, error.code)
        return _say(error, error.exit_status)
    except OSError as error:
        log.error("%s: %s", error.filename or "start", error.strerror)
        print(f"helixd: {error.filename or 'start'}: {error.strerror}", file=sys.stderr)
        return 1
    finally:
        if options.pid_file:
            with contextlib.suppress(OSError):
                os.unlink(options.pid_file)
        os.close(lock)
    return 0


def _say(error: HelixError, status: int) -> int:
    hint = f"\n{error.hint}" if error.hint else ""
    print(f"helixd: {error.msg} ({error.code}){hint}", file=sys.stderr)
    return status


def _lock_spool(spool: str) -> int:
    """Make the spool if it is missing and take it.  Raises Conflict (SPOOL_IN_USE), ConfigError."""
    try:
        os.makedirs(spool, mode=0o755, exist_ok=True)
        fd = os.open(os.path.join(spool, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise ConfigError(f"{spool}: {exc.strerror}", code="SPOOL_UNUSABLE", hint="name another --spool") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(fd)
        raise Conflict(f"another helixd uses the spool {spool}", code="SPOOL_IN_USE") from exc
    return fd


def _write_pid(path: str) -> None:
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    os.replace(fresh, path)


def _daemon(options: Options) -> _Daemon:
    if options.emulate:
        from helixd.io.emulated import EmulatedDaemon

        return EmulatedDaemon(options)
    from helixd.io.daemon import NodeDaemon

    return NodeDaemon(options)


async def _run(options: Options) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, _reopen)
    daemon = _daemon(options)
    await daemon.start()
    log.info("helixd started version=%s name=%s pid=%d", __version__, options.name, os.getpid())
    notify(f"READY=1\nSTATUS=serving {options.name}")
    await stopping.wait()
    notify("STOPPING=1")
    log.info("stopping; jobs go on")
    await daemon.stop()


def _reopen() -> None:
    try:
        reopen_logs()
    except OSError as exc:
        log.error("cannot open the log again: %s", exc.strerror)


if __name__ == "__main__":
    sys.exit(main())
