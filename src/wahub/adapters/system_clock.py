"""The machine's clocks."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Real time (ports/clock.py)."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait that long; zero or less gives way once."""
        await asyncio.sleep(max(seconds, 0.0))
