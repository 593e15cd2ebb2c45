"""How a phone's state is stored: named rows, written before anything that depends on them leaves the phone.

What is promised: the rows of one change are handed over and committed before the receipt or the message that follows
from it is submitted, so a crash loses at most a change that nobody outside has seen. Without a journal (the default)
nothing is even serialised.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class Journal(Protocol):
    """A key-value store with one writer. Keys are text, values bytes."""

    def put(self, key: str, value: bytes) -> None:
        """Write a row."""

    def delete(self, key: str) -> None:
        """Remove a row; nothing happens when there is none."""

    def commit(self) -> None:
        """Make everything since the last commit durable, all or nothing."""


def encode(value: Any) -> bytes:
    """Plain values (dict, list, str, bytes, int, bool, None) as bytes."""
    return msgspec.msgpack.encode(value)


def decode(value: bytes) -> Any:
    """Undo `encode`."""
    return msgspec.msgpack.decode(value)
