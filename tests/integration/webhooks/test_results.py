"""Results of attempts share transactions, and none suffers from another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.contract.makers import make_delivery

from wahub.domain.retry import Backoff
from wahub.ports.poster import PostResult
from wahub.runtime import results
from wahub.services import webhook


class Store:
    """Counts its writes; those in which `bad` takes part fail."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.bad: set[str] = set()
        self.gate = asyncio.Event()

    async def write(self, work: Callable[[Any], list[webhook.Noted]]) -> list[webhook.Noted]:
        await self.gate.wait()
        noted = work(None)
        ids = [one.delivery.event_id for one in noted]
        if self.bad.intersection(ids):
            raise RuntimeError("refused")
        self.written.append(ids)
        return noted


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(
        webhook, "note_results", lambda _tx, attempts, _policy: [webhook.Noted(one.delivery) for one in attempts]
    )
    return Store()


async def _note(store: Store, count: int) -> list[webhook.Noted | BaseException]:
    book = results.Results(store, Backoff(1.0, 2.0))  # type: ignore[arg-type]
    notes = [
        asyncio.create_task(book.note(make_delivery(number), PostResult(200), 1.0, 0.5)) for number in range(count)
    ]
    for _ in range(3):
        await asyncio.sleep(0)
    store.gate.set()
    return await asyncio.gather(*notes, return_exceptions=True)


async def test_what_comes_during_a_write_shares_the_next(store: Store) -> None:
    found = await _note(store, 10)
    assert [one.delivery.event_id for one in found if isinstance(one, webhook.Noted)] == [
        f"event-{number}" for number in range(10)
    ]
    assert len(store.written) <= 2


async def test_a_write_is_not_longer_than_it_may_be(store: Store) -> None:
    await _note(store, 200)
    assert sum(map(len, store.written)) == 200
    assert max(map(len, store.written)) <= 64


async def test_one_that_cannot_be_written_fails_alone(store: Store) -> None:
    store.bad = {"event-3"}
    found = await _note(store, 8)
    assert [number for number, one in enumerate(found) if isinstance(one, RuntimeError)] == [3]
    assert sorted(event_id for ids in store.written for event_id in ids) == sorted(
        f"event-{number}" for number in range(8) if number != 3
    )
