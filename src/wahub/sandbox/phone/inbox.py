"""What a phone saw, numbered from 1 and never forgotten before a reset; readers may wait for what comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class SeenLog(Generic[T]):
    """An append-only list. Entry number n (from 1) is the n-th that was appended."""

    __slots__ = ("_entries", "_waiting")

    def __init__(self, entries: Iterable[T] = ()) -> None:
        self._entries: list[T] = list(entries)
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_seq(self) -> int:
        """The number that the next entry gets."""
        return len(self._entries) + 1

    def append(self, entry: T) -> int:
        """Add an entry, wake everybody who waits, and return its number."""
        self._entries.append(entry)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
        return len(self._entries)

    def after(self, seq: int) -> list[T]:
        """Entries with a number greater than `seq`, oldest first."""
        return self._entries[max(seq, 0) :]

    async def wait_after(self, seq: int, seconds: float) -> list[T]:
        """Like `after`, but waits up to `seconds` for the first such entry; empty when none came."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while len(self._entries) <= seq:
            left = deadline - loop.time()
            if left <= 0:
                break
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiting.add(waiter)
            try:
                await asyncio.wait_for(waiter, left)
            except TimeoutError:
                break
            finally:
                self._waiting.discard(waiter)
        return self.after(seq)
