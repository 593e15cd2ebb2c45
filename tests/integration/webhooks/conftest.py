"""A dispatcher over a real SQLite store and real HTTP, on a clock that tests move."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.clock import FakeClock

from wahub.adapters.http_poster import HttpPoster
from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import open_database
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, Instance, Observed
from wahub.domain.webhook import Delivery, WebhookSettings
from wahub.ports.poster import Poster, PostResult
from wahub.ports.store import Database
from wahub.ports.wakeup import WEBHOOKS
from wahub.runtime.dispatcher import Dispatcher
from wahub.services import webhook

PATIENCE = 60.0
"""Seconds that a real POST may take: an answer that a busy machine gives late is no failed attempt."""


@dataclass
class Bench:
    """What a test needs to let events happen and to see what became of them."""

    database: Database
    clock: FakeClock
    wakeup: LocalWakeup
    poster: Poster
    dispatcher: Dispatcher | None = None
    running: asyncio.Task[None] | None = None
    settings: WebhookSettings = field(default_factory=lambda: WebhookSettings(timeout=PATIENCE))
    ids: Any = field(default_factory=lambda: map("event-{}".format, itertools.count(1)))

    async def instance(self, name: str, url: str | None, *events: str) -> Instance:
        made = Instance(InstanceId(name), Config(name, url, events), Observed(), self.clock.now())
        await self.database.write(lambda tx: tx.instances.add(made))
        return made

    async def emit(self, instance: Instance, event: str = "message", *, hint: bool = True, **options: Any) -> str:
        """Queue an event; returns its id."""
        event_id = next(self.ids)
        data = options.pop("data", {"n": event_id})
        now = self.clock.now()
        await self.database.write(
            lambda tx: webhook.emit(tx, instance, event, data, now=now, event_id=event_id, **options)
        )
        if hint:
            self.wakeup.notify(WEBHOOKS)
        return event_id

    async def pending(self) -> list[Delivery]:
        """The heads of all lanes, whenever they are due."""
        return list(await self.database.read(lambda tx: tx.webhooks.due(1e12, 10_000)))

    def start(self, database: Database | None = None, poster: Poster | None = None) -> Dispatcher:
        self.dispatcher = Dispatcher(
            database or self.database,
            poster or self.poster,
            self.clock,
            self.wakeup,
            self.settings,
            unit=lambda: 0.5,
        )
        self.running = asyncio.create_task(self.dispatcher.run())
        return self.dispatcher

    async def stop(self, deadline: float = 5.0) -> None:
        if self.dispatcher is not None and self.running is not None:
            await self.dispatcher.stop(deadline)
            await self.running
            self.dispatcher = self.running = None


class Counting:
    """A poster that answers nothing until told otherwise, and counts."""

    def __init__(self) -> None:
        self.at_once = self.most = self.posts = 0
        self.answer: PostResult = PostResult(None, "down")
        self.alone: int | None = None
        """The post with this number comes alone; those after it end once eight run."""
        self.eight = asyncio.Event()

    async def post(self, *_: Any) -> PostResult:
        self.posts += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if self.at_once == 8:
            self.eight.set()
        if self.alone is not None and self.posts > self.alone:
            # The slot of the one that came alone is free when its result is saved: some begin before the eighth.
            await asyncio.wait([asyncio.ensure_future(self.eight.wait())], timeout=PATIENCE)
        for _ in range(50):
            # Long enough for those that may begin with it.
            await asyncio.sleep(0)
        self.at_once -= 1
        return self.answer

    async def close(self) -> None: ...


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock()
    database = open_database(f"sqlite:///{tmp_path}/wahub.db", clock)
    poster = HttpPoster(PATIENCE)
    made = Bench(database, clock, LocalWakeup(clock), poster)
    try:
        yield made
    finally:
        await made.stop(deadline=1.0)
        await poster.close()
        await database.close()
