"""Time, as something that is passed in, so that tests move it by hand."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Two clocks and one way to wait."""

    def now(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never go back; the base of lease terms."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long on this clock."""
