"""sd_notify(3) without libsystemd: a datagram to the socket that systemd names in NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Tell systemd `state`, such as "READY=1" or "STOPPING=1" or "STATUS=...".

    False when not started by systemd, or when it does not listen: never an error.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or path[0] not in "@/":
        return False
    address = "\0" + path[1:] if path[0] == "@" else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)
    except OSError:
        return False
    return True
