"""Frames on a Unix socket: a 4-byte little-endian length, then that many bytes of UTF-8 JSON.

Owns the framing, its limits, the version rule, and how a socket path that is too long for the kernel is reached.
Standard library only: the commands import it.  A reader holds at most one frame's limit plus one read; every byte is
copied once or twice, whatever the sizes of the pieces it came in.
"""

from __future__ import annotations

import os

from helix.errors import LimitExceeded, ProtocolError

API_VERSION = 1  #: "v" of requests this side writes
API_OLDEST = 1  #: the oldest "v" still answered
HEADER_BYTES = 4
CLIENT_FRAME_MAX = 8 << 20  #: largest frame a client may send
SERVER_FRAME_MAX = 16 << 20  #: largest frame a server may send
_PATH_MAX = 107  # bytes in sockaddr_un.sun_path, less the final NUL; unix(7)
_MORE = b'"more":true}'


class FrameReader:
    """Cuts a stream into frames.  After an error the stream is lost: close it."""

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int = CLIENT_FRAME_MAX) -> None:
        """`limit`: largest payload accepted, bytes."""
        self.limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete; 0 between frames."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and return the frames it completes, in order.

        Raises ProtocolError (FRAME_TOO_LARGE, FRAME_EMPTY) on a bad header, as soon as the header is there and
        before anything is kept for it.  Good frames before it are returned first; the next call, which may be
        `feed(b"")`, raises.
        """
        buffer = self._buffer
        held = len(buffer)
        if held:
            buffer += data
            view: bytes | bytearray = buffer
        else:
            view = data
        frames: list[bytes] = []
        at, size = 0, len(view)
        while size - at >= HEADER_BYTES:
            length = int.from_bytes(view[at : at + HEADER_BYTES], "little")
            if length > self.limit or length == 0:
                if frames:
                    break
                raise self._bad(length)
            end = at + HEADER_BYTES + length
            if end > size:
                break
            frames.append(bytes(view[at + HEADER_BYTES : end]))
            at = end
        if held:
            del buffer[:at]
        elif at < size:
            buffer += data[at:]
        return frames

    def _bad(self, length: int) -> ProtocolError:
        if length == 0:
            return ProtocolError("empty frame", code="FRAME_EMPTY", hint="is the peer speaking Helix's protocol?")
        return ProtocolError(
            f"a frame of {length} bytes was announced; at most {self.limit} are accepted",
            code="FRAME_TOO_LARGE",
            hint="send less at once",
        )


def pack_frame(payload: bytes, limit: int = SERVER_FRAME_MAX) -> bytes:
    """`payload` with its length before it.  Raises LimitExceeded (FRAME_TOO_LARGE) above `limit` bytes."""
    length = len(payload)
    if length > limit:
        raise LimitExceeded(
            f"a message of {length} bytes is larger than {limit}", code="FRAME_TOO_LARGE", hint="send less at once"
        )
    if not length:
        raise ProtocolError("an empty frame cannot be sent", code="FRAME_EMPTY")
    return length.to_bytes(HEADER_BYTES, "little") + payload


def is_last_frame(payload: bytes) -> bool:
    """True unless the reply says that more frames of the same answer follow.

    Replies are written with "more" as their last key, so that relays need not parse them.
    """
    return not payload.endswith(_MORE)


def check_version(version: object, *, oldest: int = API_OLDEST, newest: int = API_VERSION) -> None:
    """Refuse what this side cannot speak: ProtocolError (VERSION) naming both versions."""
    if not isinstance(version, int) or isinstance(version, bool):
        raise ProtocolError("the message carries no protocol version", code="VERSION", hint='send "v": 1')
    if version > newest:
        raise ProtocolError(
            f"the peer speaks protocol version {version}; this side knows {oldest} to {newest}",
            code="VERSION",
            hint="upgrade this side, or use a client of its release",
        )
    if version < oldest:
        raise ProtocolError(
            f"the peer speaks protocol version {version}; this side needs at least {oldest}",
            code="VERSION",
            hint="upgrade the peer",
        )


class reachable_path:  # noqa: N801 - a context manager that reads as a function
    """`with reachable_path(path) as name:` gives a name short enough for bind and connect.

    The kernel takes 107 bytes; a longer path is reached through an open directory (`/proc/self/fd/N/name`).
    Raises OSError if the directory is not there, LimitExceeded if the last part alone is too long.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _PATH_MAX:
            return self._path
        folder, name = os.path.split(self._path)
        self._fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        short = f"/proc/self/fd/{self._fd}/{name}"
        if len(os.fsencode(short)) > _PATH_MAX:
            os.close(self._fd)
            raise LimitExceeded(f"socket name '{name}' is too long", code="PATH_TOO_LONG")
        return short

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
