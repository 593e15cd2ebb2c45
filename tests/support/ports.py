"""Ports that stay a test's own while nobody listens on them: between two runs of a server, or before the first."""

from __future__ import annotations

import socket
import sys
import weakref


class HeldPort:
    """A free port of this machine. On Linux nobody else is given it before `close`: who binds a port without listening
    keeps all others from it, and still lets a server with SO_REUSEADDR have it.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, 0))
        self.number = int(held.getsockname()[1])
        # Also when it is forgotten.
        self.close = weakref.finalize(self, held.close)
        if sys.platform != "linux":
            self.close()
