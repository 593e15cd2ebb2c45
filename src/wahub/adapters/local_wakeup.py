"""Hints inside one process (ports/wakeup.py).

A hint for which nobody waits is kept until someone does, so a notify between two waits is not lost. Several waiters on
one topic all get it. Everything happens on one event loop; other threads go through `loop.call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
from collections import deque

from wahub.ports.clock import Clock

_KEPT_HINTS = 10_000
"""Topics may carry instance names; beyond this many unclaimed hints the oldest is forgotten: polls find the work."""


class LocalWakeup:
    """Wake-ups for a gateway that is one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._kept: dict[str, None] = {}

    def notify(self, topic: str) -> None:
        """Say that there may be work on the topic. Never blocks, never raises."""
        waiting = self._waiting.pop(topic, None)
        if waiting is not None:
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)
            return
        self._kept[topic] = None
        if len(self._kept) > _KEPT_HINTS:
            del self._kept[next(iter(self._kept))]

    async def wait(self, topic: str, timeout: float) -> bool:
        """Wait for a hint, at most `timeout` seconds of the given clock; True if one came, also if it came before."""
        if topic in self._kept:
            del self._kept[topic]
            return True
        if timeout <= 0:
            return False
        hint: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(topic, deque()).append(hint)
        timer = asyncio.ensure_future(self._clock.sleep(timeout))
        delivered = False
        try:
            await asyncio.wait((hint, timer), return_when=asyncio.FIRST_COMPLETED)
            delivered = hint.done()
            return delivered
        finally:
            timer.cancel()
            if not delivered:
                self._withdraw(topic, hint)

    def _withdraw(self, topic: str, hint: asyncio.Future[None]) -> None:
        if hint.done():
            # The waiter was cancelled at the moment the hint came: the next one shall have it.
            self.notify(topic)
            return
        waiting = self._waiting.get(topic)
        if waiting is not None and hint in waiting:
            waiting.remove(hint)
            if not waiting:
                del self._waiting[topic]
