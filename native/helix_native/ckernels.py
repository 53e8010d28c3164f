"""System calls of Linux that Python 3.11 does not offer.  Errors are raised as OSError."""

from __future__ import annotations

import os

from helix_native._ckernels import lib


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def pidfd_queue(pidfd: int, signal: int, value: int) -> None:
    """Queue `signal` with a 64-bit value to the process of `pidfd` (pidfd_send_signal(2) with SI_QUEUE)."""
    _checked(lib.hx_pidfd_queue(pidfd, signal, value))


def inotify_init() -> int:
    """A non-blocking inotify descriptor (inotify_init1(2)); the caller closes it."""
    return _checked(lib.hx_inotify_init())


def inotify_watch_modify(fd: int, path: str) -> int:
    """Tell `fd` of every write to the file at `path`; returns the watch's number."""
    return _checked(lib.hx_inotify_watch(fd, os.fsencode(path)))


def become_subreaper() -> None:
    """Orphans below this process become its children (PR_SET_CHILD_SUBREAPER)."""
    _checked(lib.hx_become_subreaper())


def reserve(fd: int, size: int) -> None:
    """Reserve disk space for the first `size` bytes of a file without making it longer (fallocate(2))."""
    _checked(lib.hx_reserve(fd, size))
