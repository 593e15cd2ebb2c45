"""Random bytes for ids, drawn from the operating system many at a time.

One system call per send is noticeable where such calls are slow (virtual machines, sandboxed containers).
"""

from __future__ import annotations

import os

_DRAWN_AT_ONCE = 4096


class Entropy:
    """A supply of the system's random bytes; each is handed out once. For one thread of one process."""

    def __init__(self) -> None:
        self._left = b""

    def take(self, count: int) -> bytes:
        """`count` fresh random bytes, at most 4096."""
        if len(self._left) < count:
            self._left = os.urandom(_DRAWN_AT_ONCE)
        taken, self._left = self._left[:count], self._left[count:]
        return taken
