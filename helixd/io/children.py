"""helixd's own children: the forking shepherd, readers of users' files, orphans of shepherds that were killed.

One SIGCHLD handler reaps them all; `spawn` starts one and calls back at its end.  A step's shepherd is no child of
helixd but of the forking shepherd, so this is not on the path of a job.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from helix_native import ckernels

OUTPUT_MAX = 4 << 20


class Children:
    """Made on the loop's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: dict[int, Callable[[int], None]] = {}
        ckernels.become_subreaper()
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    def spawn(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        file_actions: Sequence[tuple[int, ...]],
        on_end: Callable[[int], None],
    ) -> int:
        """Start a program; `on_end` gets its wait(2) status.  Returns the pid.  Raises OSError."""
        pid = os.posix_spawn(argv[0], list(argv), dict(env), file_actions=list(file_actions), setsigmask=[])
        self._ended[pid] = on_end
        return pid

    async def output_of(
        self, argv: Sequence[str], env: Mapping[str, str], *, timeout_s: float, limit: int = OUTPUT_MAX
    ) -> tuple[int, bytes]:
        """(wait status, standard output) of a program.

        Raises TimeoutError, and OSError if it cannot be started or says more than `limit` bytes; it is killed then,
        with its process group.
        """
        ours, theirs = os.pipe()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        done: asyncio.Future[int] = self._loop.create_future()
        chunks: list[bytes] = []

        def ended(status: int) -> None:
            if not done.done():
                done.set_result(status)

        try:
            actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, theirs, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
            pid = self.spawn(argv, env, actions, ended)
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
            os.close(null)
        os.set_blocking(ours, False)
        eof = asyncio.Event()
        size = 0

        def readable() -> None:
            nonlocal size
            with contextlib.suppress(BlockingIOError):
                data = os.read(ours, 1 << 18)
                size += len(data)
                chunks.append(data)
                if not data or size > limit:
                    self._loop.remove_reader(ours)
                    eof.set()

        self._loop.add_reader(ours, readable)
        try:
            async with asyncio.timeout(timeout_s):
                await eof.wait()
                if size > limit:
                    raise OSError(7, "too much output")
                return await done, b"".join(chunks)
        finally:
            self._loop.remove_reader(ours)
            os.close(ours)
            if not done.done():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            on_end = self._ended.pop(pid, None)
            if on_end is not None:
                on_end(status)

    def close(self) -> None:
        """Reap no more."""
        self._loop.remove_signal_handler(signal.SIGCHLD)
