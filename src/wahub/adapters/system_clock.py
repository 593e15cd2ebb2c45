"""The machine's clocks."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Real time (ports/clock.py). `shift`: seconds by which the wall clock is put forward, for tests only."""

    def __init__(self, shift: float = 0.0) -> None:
        self._shift = shift

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self._shift

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that long; zero or less gives way once."""
        await asyncio.sleep(max(seconds, 0.0))
