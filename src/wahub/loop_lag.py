"""How late the event loop is: a heartbeat that measures how much later than asked it wakes up."""

from __future__ import annotations

import asyncio
from collections import deque

_EVERY = 0.5
_REMEMBERED = 20
"""Beats: ten seconds."""


class LoopLag:
    """The lag of the loop that runs `run`."""

    def __init__(self) -> None:
        self._late: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def worst_ms(self) -> float:
        """The longest delay of the last ten seconds, in milliseconds; 0 before the first beat."""
        return round(max(self._late, default=0.0) * 1000, 1)

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY
            await asyncio.sleep(_EVERY)
            self._late.append(max(loop.time() - due, 0.0))
