"""What helixd does with a user's files and shell: only ever in a short-lived process that is that user.

`helix-shepherd --as UID GID GROUPS ...` (native/csrc/as_user.c) changes identity, reads it back, and then reads a file
or becomes a program.  Bounded in size, time and number.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Sequence

from helix.wire.messages import LOG_CHUNK_MAX, LogData, LogRead
from helixd.core.environment import Home
from helixd.io.children import Children
from helixd.io.forker import shepherd_path

READ_S = 10.0
SHELL_S = 10.0
AT_ONCE_MAX = 16
_HEAD = struct.Struct("<iiqq")
_MARK = b"\0helix-environment\0"
_PLAIN_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


class AsUser:
    """Runs the helper; at most AT_ONCE_MAX of them, the others wait their turn."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._program = shepherd_path()
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)

    def _argv(self, uid: int, gid: int, groups: Sequence[int], *rest: str) -> list[str]:
        return [self._program, "--as", str(uid), str(gid), ",".join(map(str, groups)), *rest]

    async def read_log(self, request: LogRead, path: str, *, running: bool) -> LogData:
        """Bytes of an output file.  Failures are told in `error`."""
        answer = LogData(req=request.req, running=running)
        if not path or "\0" in path:
            answer.error = "the node does not know the output file of this job"
            return answer
        limit = max(0, min(request.limit, LOG_CHUNK_MAX))
        argv = self._argv(request.uid, request.gid, request.groups, "--read", path, str(request.offset), str(limit))
        try:
            async with self._slots:
                _, data = await self._children.output_of(argv, {}, timeout_s=READ_S)
        except TimeoutError:
            answer.error = f"{path}: no answer from the file system in {READ_S:.0f} s"
            return answer
        except OSError as exc:
            answer.error = f"{path}: {exc.strerror}"
            return answer
        if len(data) < _HEAD.size:
            answer.error = f"{path}: cannot be read"
            return answer
        error, _, answer.offset, answer.size = _HEAD.unpack_from(data)
        if error:
            answer.error = f"{path}: {os.strerror(error)}"
        else:
            answer.data = data[_HEAD.size :]
        return answer

    async def login_environment(self, uid: int, gid: int, groups: Sequence[int], home: Home) -> bytes:
        """NUL-separated environment of the user's login shell.  Raises OSError or TimeoutError."""
        script = "printf '\\000helix-environment\\000'; exec env -0"
        argv = self._argv(uid, gid, groups, "--run", home.shell, "-l", "-c", script)
        env = {
            **_PLAIN_ENV,
            "HOME": home.directory,
            "USER": home.name,
            "LOGNAME": home.name,
            "SHELL": home.shell,
        }
        async with self._slots:
            status, data = await self._children.output_of(argv, env, timeout_s=SHELL_S)
        _, mark, found = data.rpartition(_MARK)
        if status or not mark:
            raise OSError(5, f"the login shell {home.shell} ended with status {status >> 8}")
        return found
