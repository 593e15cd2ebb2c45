"""The row in which instances come back when a worker starts, and in which retries wait their turn (contract B.8).

Promise: never more than `concurrency` starts at a time; a place in the row rests between two of them; nothing starts
while memory is short, for at most `floor_patience`; each instance gets `max_attempts`, later each time. What counts as
failed is a failure of our own (the store, the engine's answer): a server that cannot be reached is left to the runner's
own ladder, for it says nothing about the instance (contract 0.12).

A crash forgets the row; the next start makes it anew from the store.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from wahub.domain.ids import InstanceId
from wahub.domain.restore import RestoreItem, RestoreQueue
from wahub.runtime.deps import RuntimeDeps

log = structlog.get_logger("wahub.restore")

RESTORE, RETRY = "restore", "retry"
_MEMORY_LOOK = 1.0
_IN_A_ROW, _BREATH = 5, 0.1
"""After so many starts, however many places are free, so many seconds for everything else: a hundred instances that do
the same at the same instant would keep callers waiting for as long as all of them take together."""


@dataclass(frozen=True, slots=True)
class _Row:
    item: RestoreItem
    due: float


class Restore:
    """Starts instances a few at a time. `start` returns None, or the name of what failed on our side."""

    def __init__(
        self,
        deps: RuntimeDeps,
        start: Callable[[RestoreItem], Awaitable[str | None]],
        give_up: Callable[[InstanceId, str], Awaitable[None]],
    ) -> None:
        self._deps = deps
        self._policy = deps.settings.restore
        self._start = start
        self._give_up = give_up
        self._rows: list[_Row] = []
        self._news = asyncio.Event()
        self._processing = 0
        self._short_since: float | None = None
        """Since when memory is below the floor, as the starts found it; all of them wait together, not one by one."""
        self._warned = False
        self._last_at: float | None = None
        self._first_round: set[InstanceId] = set()
        self.first_round_over = asyncio.Event()
        """Every instance of the first row was attempted once."""

    def put(self, kind: str, instance: InstanceId) -> None:
        """Add one at the end of the row, if it is not in it."""
        if all(row.item.instance != instance for row in self._rows):
            self._rows.append(_Row(RestoreItem(kind, instance, 0), self._deps.clock.monotonic()))
            self._news.set()

    def drop(self, instance: InstanceId) -> None:
        """It is not to be started any more."""
        self._rows = [row for row in self._rows if row.item.instance != instance]
        self._attempted(instance)

    @property
    def snapshot(self) -> RestoreQueue:
        """The row as it stands."""
        return RestoreQueue(
            waiting=tuple(row.item for row in self._rows),
            processing=self._processing,
            last_processed_at=self._last_at,
            free_mb=self._deps.free_memory_mb(),
            min_free_mb=self._policy.min_free_mb,
        )

    async def run(self, first: list[InstanceId]) -> None:
        """Work the row off, and wait for more; for ever."""
        self._first_round = set(first)
        for instance in first:
            self.put(RESTORE, instance)
        if not first:
            self.first_round_over.set()
        free = asyncio.Semaphore(max(self._policy.concurrency, 1))
        async with asyncio.TaskGroup() as places:
            # One waits for all places: a thousand that are idle would all wake up for each instance.
            for number in itertools.count(1):
                await free.acquire()
                places.create_task(self._place(await self._next(), free))
                if number % _IN_A_ROW == 0:
                    await self._deps.clock.sleep(_BREATH)

    async def _place(self, row: _Row, free: asyncio.Semaphore) -> None:
        clock = self._deps.clock
        began = clock.monotonic()
        self._processing += 1
        try:
            await self._wait_for_memory()
            await self._one(row.item)
        except Exception as error:  # noqa: BLE001 - any fault of the store: it must not end the row
            log.error("a start will be tried again", instance=row.item.instance, error=type(error).__name__)
            self._again(row.item)
        finally:
            self._processing -= 1
            self._last_at = clock.now()
            self._attempted(row.item.instance)
        try:
            if self._rows:
                await clock.sleep(self._rest(clock.monotonic() - began))
        finally:
            free.release()

    def _rest(self, took: float) -> float:
        """A fixed cooldown counts from the end of a start, the jitter from its beginning: hundreds shall fit in."""
        if self._policy.cooldown is not None:
            return self._policy.cooldown
        low, high = self._policy.jitter
        return max(low + (high - low) * self._deps.random() - took, 0.0)

    async def _next(self) -> _Row:
        while True:
            now = self._deps.clock.monotonic()
            for place, row in enumerate(self._rows):
                if row.due <= now:
                    return self._rows.pop(place)
            self._news.clear()
            soonest = min((row.due for row in self._rows), default=None)
            waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._news.wait())]
            if soonest is not None:
                waits.append(asyncio.ensure_future(self._deps.clock.sleep(soonest - now)))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    async def _one(self, item: RestoreItem) -> None:
        failed = await self._start(item)
        if failed is None or item.kind == RETRY:
            return
        attempts = item.attempts + 1
        log.warning("an instance could not be started", instance=item.instance, attempt=attempts, error=failed)
        if attempts >= self._policy.max_attempts:
            await self._give_up(item.instance, f"RESTORE_MAX_ATTEMPTS: {failed}")
            return
        self._again(replace(item, attempts=attempts))

    def _again(self, item: RestoreItem) -> None:
        due = self._deps.clock.monotonic() + self._policy.backoff.delay(max(item.attempts, 1))
        self._rows.append(_Row(item, due))
        self._news.set()

    async def _wait_for_memory(self) -> None:
        clock, floor = self._deps.clock, self._policy.min_free_mb
        while (free := self._deps.free_memory_mb()) is not None and free < floor:
            if self._short_since is None:
                self._short_since = clock.monotonic()
            if clock.monotonic() - self._short_since >= self._policy.floor_patience:
                if not self._warned:
                    self._warned = True
                    log.warning(
                        "memory is short, and the restore goes on all the same", free_mb=round(free), floor_mb=floor
                    )
                return
            await clock.sleep(_MEMORY_LOOK)
        self._short_since, self._warned = None, False

    def _attempted(self, instance: InstanceId) -> None:
        self._first_round.discard(instance)
        if not self._first_round:
            self.first_round_over.set()
