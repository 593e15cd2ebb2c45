"""What the janitor does for messages: texts go when their time is over, and no second copy is taken for a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.runtime.world import SHOP, World

from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import from_engine
from wahub.domain.thread import END, IDENTITY_KEPT
from wahub.ports.store import Tx
from wahub.runtime import janitor
from wahub.runtime.janitor import TIDY_EVERY, Janitor
from wahub.services import inbox

DAY = 86_400.0
SENDER = "201111111111@s.whatsapp.net"


@pytest.fixture
async def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A store and no loops: tests sweep by themselves, in small batches."""
    monkeypatch.setattr(janitor, "BATCH", 2)
    world = World(tmp_path)
    await world.prepare()
    await world.create()
    await world.create("other")
    yield world
    await world.database.close()


def sweeper(world: World, days: float | None) -> Janitor:
    settings = replace(world.settings, messages_kept=None if days is None else days * DAY)
    return Janitor(replace(world.supervisor._deps, settings=settings))


async def receive(world: World, name: str, owner: InstanceId = SHOP) -> bool:
    """A message comes in now. False: it was there."""
    now = world.clock.now()
    body: dict[str, Any] = {"message_id": name, "chat": SENDER, "sender": SENDER, "timestamp": int(now), "raw": "{}"}
    received = from_engine(owner, {**body, "type": "text", "text": "hello"})

    def work(tx: Tx) -> bool:
        lease = tx.leases.claim(owner, world.settings.worker, 1e9)
        assert lease is not None
        return inbox.ingest(tx, lease, received, now, f"{owner}-{name}-{now}")

    return await world.database.write(work)


async def listed(world: World, owner: InstanceId = SHOP) -> list[str]:
    def look(tx: Tx) -> list[str]:
        chats = tx.threads.heads(owner, (2**53, ""), 10, 0.0)
        return [str(row.message_id) for chat in chats for row in tx.threads.received(owner, chat.key, END, 0, 100)]

    return await world.database.read(look)


async def rows(world: World, *names: str, owner: InstanceId = SHOP) -> list[bool]:
    def look(tx: Tx) -> list[bool]:
        return [bool(tx.inbox.find(owner, MessageId(name))) for name in names]

    return await world.database.read(look)


async def test_a_short_retention_forgets_what_was_said_and_keeps_the_id(quiet: World) -> None:
    clean = sweeper(quiet, 2)
    for name in ("M1", "M2", "M3"):
        await receive(quiet, name)
    await receive(quiet, "M1", InstanceId("other"))
    quiet.clock.advance(DAY)
    await receive(quiet, "M4")
    await clean.sweep()
    assert await listed(quiet) == ["M4", "M3", "M2", "M1"]
    quiet.clock.advance(DAY + 1)
    await clean.sweep()
    assert await listed(quiet) == ["M4"]
    assert await listed(quiet, InstanceId("other")) == []
    assert not await receive(quiet, "M1")
    # What was forgotten later, a sweep later.
    quiet.clock.advance(DAY)
    await clean.sweep()
    assert await listed(quiet) == []
    assert await rows(quiet, "M1", "M4") == [True, True]
    quiet.clock.advance(IDENTITY_KEPT)
    await sweeper(quiet, 2).sweep()
    assert await rows(quiet, "M1", "M2", "M3", "M4") == [False] * 4


async def test_chats_go_with_their_messages(quiet: World) -> None:
    await receive(quiet, "M1")
    quiet.clock.advance(2 * DAY + 1)
    await sweeper(quiet, 2).sweep()
    assert await quiet.database.read(lambda tx: tx.threads.heads(SHOP, (2**53, ""), 10, 0.0)) == []
    # The person is still who they were.
    assert await quiet.database.read(lambda tx: tx.people.by_phone(SHOP, "201111111111")) is not None


async def test_a_long_retention_removes_the_row_with_the_text(quiet: World) -> None:
    await receive(quiet, "M1")
    quiet.clock.advance(40 * DAY)
    clean = sweeper(quiet, 60)
    await clean.sweep()
    assert await listed(quiet) == ["M1"]
    quiet.clock.advance(20 * DAY + 1)
    await clean.sweep()
    assert await rows(quiet, "M1") == [False]


async def test_for_ever_is_for_ever(quiet: World) -> None:
    await receive(quiet, "M1")
    quiet.clock.advance(4_000 * DAY)
    await sweeper(quiet, None).sweep()
    assert await listed(quiet) == ["M1"]


async def test_it_is_done_every_hour_and_not_more_often(quiet: World) -> None:
    clean = sweeper(quiet, 1)
    await clean.sweep()
    await receive(quiet, "M1")
    quiet.clock.advance(DAY + 1)
    await clean.sweep()
    assert await listed(quiet) == []
    await receive(quiet, "M2")
    quiet.clock.advance(TIDY_EVERY - 1)
    quiet.clock.jump(DAY)
    await clean.sweep()
    assert await listed(quiet) == ["M2"]
    quiet.clock.advance(1)
    await clean.sweep()
    assert await listed(quiet) == []
