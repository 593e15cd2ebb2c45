"""Writing down what became of attempts to post, several in one transaction.

What came while one write was under way shares the next one: handing a transaction to the store's thread and back costs
more than most transactions do. Each result still stands or falls alone: if a common write fails, they are written one
by one, and only those that fail again are told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from wahub.domain.retry import Backoff
from wahub.domain.webhook import Answer, Delivery
from wahub.ports.store import Database
from wahub.services import webhook

_MOST_TOGETHER = 64
"""A long transaction would keep others waiting."""


@dataclass(frozen=True, slots=True)
class _Result:
    attempt: webhook.Attempt
    noted: asyncio.Future[webhook.Noted]


class Results:
    """What waits to be written down."""

    def __init__(self, database: Database, policy: Backoff) -> None:
        self._database = database
        self._policy = policy
        self._waiting: list[_Result] = []
        self._writing: asyncio.Task[None] | None = None

    async def note(self, delivery: Delivery, answer: Answer, now: float, unit: float) -> webhook.Noted:
        """Write it down; returns what it did once that is durable. `unit` is random in [0, 1)."""
        noted: asyncio.Future[webhook.Noted] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Result(webhook.Attempt(delivery, answer, now, unit), noted))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._drain())
        return await noted

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
            try:
                await self._write(batch)
            except Exception as error:  # noqa: BLE001 - told to those who wait
                if len(batch) == 1:
                    _fail(batch[0], error)
                else:
                    await self._one_by_one(batch)

    async def _one_by_one(self, batch: Sequence[_Result]) -> None:
        for result in batch:
            try:
                await self._write([result])
            except Exception as error:  # noqa: BLE001 - told to who waits
                _fail(result, error)

    async def _write(self, batch: Sequence[_Result]) -> None:
        attempts, policy = [result.attempt for result in batch], self._policy
        written = await self._database.write(lambda tx: webhook.note_results(tx, attempts, policy))
        for result, noted in zip(batch, written, strict=True):
            if not result.noted.done():
                result.noted.set_result(noted)


def _fail(result: _Result, error: Exception) -> None:
    if not result.noted.done():
        result.noted.set_exception(error)
