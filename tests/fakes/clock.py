"""A clock that tests move by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from typing import Any


class FakeClock:
    """Satisfies ports/clock.py. Time passes only in `advance`; `jump` moves the wall clock alone (someone set it)."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._news = asyncio.Event()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Return when the clock was advanced that far; zero or less gives way once.

        Counted from the call, not from the first `await`: what a test advances in between is not lost.
        """
        wake: asyncio.Future[None] | None = None
        if seconds > 0:
            wake = asyncio.get_running_loop().create_future()
            heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), wake))
            self._news.set()
        return self._wait(wake)

    async def _wait(self, wake: asyncio.Future[None] | None) -> None:
        if wake is None:
            await asyncio.sleep(0)
        else:
            await wake

    def advance(self, seconds: float) -> None:
        """Let time pass and wake whoever slept that long. They run when the test next awaits."""
        self._monotonic += seconds
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic + 1e-9:
            _, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; nobody wakes."""
        self._now += seconds

    @property
    def next_wake(self) -> float | None:
        """Seconds until the next sleeper wakes; None when nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] - self._monotonic if self._sleepers else None

    async def someone_sleeps(self) -> float:
        """Wait until somebody sleeps on this clock; returns the seconds until the first of them wakes."""
        while (left := self.next_wake) is None:
            self._news.clear()
            await self._news.wait()
        return left
