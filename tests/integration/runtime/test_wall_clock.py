"""Somebody sets the wall clock an hour forward or back: nothing is lost, and nothing ends that need not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes.engine import ME, FakeLink
from tests.integration.runtime.world import World

from wahub.domain.instance import Disconnect, State
from wahub.domain.lifecycle import Ask
from wahub.domain.outbox import ItemState
from wahub.ports.engine import LinkVitals, Paired, Probe, QrShown

HOUR = 3_600.0

pytestmark = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    running = await World(tmp_path).start()
    yield running
    await running.stop()


def hangs(link: FakeLink) -> None:
    link.probes = [Probe(logged_in=False, answered=True)]


async def test_while_it_is_ready(world: World, jump: float) -> None:
    link = await world.linked()
    await world.pass_time(100)
    world.clock.jump(jump)
    await world.pass_time(290)
    assert (await world.state_of(), link.closed, len(world.engine.links)) == (State.READY, False, 1)
    assert link.spec.epoch == 1
    sent = await world.send("hello")
    await world.item_becomes(sent.id, ItemState.SENT)
    assert [name for name, _ in await world.posted()] == ["ready", "message_ack"]


async def test_while_its_link_says_nothing(world: World, jump: float) -> None:
    link = await world.linked()
    link.seen = LinkVitals(heard_at=world.clock.monotonic())
    await world.pass_time(100)
    world.clock.jump(jump)
    await world.pass_time(195)
    assert len(world.engine.links) == 1
    await world.pass_time(10)
    assert (link.closed, len(world.engine.links)) == (True, 2), "still after five minutes"


async def test_while_an_item_is_on_the_wire(world: World, jump: float) -> None:
    link = await world.linked()
    link.hold = asyncio.Event()
    sent = await world.send("hello")
    await world.wire(link, 1)
    world.clock.jump(jump)
    link.hold.set()
    await world.item_becomes(sent.id, ItemState.SENT)
    assert len(link.sent) == 1


async def test_while_it_waits_for_its_next_attempt(world: World, jump: float) -> None:
    link = await world.linked()
    world.engine_does(lambda new: new.break_off(Disconnect.UNAVAILABLE, 503))
    link.break_off(Disconnect.UNAVAILABLE, 503)
    await world.pass_time(31 + 10)
    count = len(world.engine.links)
    world.clock.jump(jump)
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(19)
    assert len(world.engine.links) == count, "neither sooner"
    await world.pass_time(2)
    assert await world.state_of() is State.READY, "nor later"


async def test_while_it_is_paused(world: World, jump: float) -> None:
    link = await world.linked()
    link.break_off(Disconnect.REPLACED, 440)
    await world.pass_time(20)
    world.clock.jump(jump)
    world.engine_does(lambda new: new.open_up())
    await world.pass_time(39)
    assert len(world.engine.links) == 1
    await world.pass_time(2)
    assert await world.state_of() is State.READY


async def test_while_it_is_made_ready(world: World, jump: float) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0), Paired(ME))
    world.engine_does(hangs)
    link.break_off(Disconnect.RESTART_REQUIRED, 515)
    await world.pass_time(2)
    world.clock.jump(jump)
    await world.pass_time(30)
    assert await world.state_of() is State.CONNECTING
    assert await world.news("ready_timeout") == []
    second = world.engine.links[-1]
    assert second.probed > 0
    await world.pass_time(560)
    assert await world.news("ready_timeout") == []
    await world.pass_time(15)
    [data] = await world.news("ready_timeout")
    assert 599_000 <= data["elapsedMs"] <= 608_000, "at its time by the clock that nobody sets"


async def test_while_it_waits_for_a_scan(world: World, jump: float) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(QrShown("code", 60.0))
    await world.state_becomes(State.NEEDS_QR)
    await world.pass_time(30)
    world.clock.jump(jump)
    await world.pass_time(20)
    assert (len(world.engine.links), link.closed) == (1, False), "its code is not stale"
    await world.pass_time(60)
    assert len(world.engine.links) == 2, "now it is"


async def test_while_a_restart_is_under_way(world: World, jump: float) -> None:
    await world.linked()
    world.engine_does(hangs)
    await world.ask(Ask.SOFT_RESTART)
    await world.pass_time(20)
    world.clock.jump(jump)
    await world.pass_time(30)
    assert (await world.record()).connecting_watchdog_restarts == 0
    assert len(world.engine.links) == 2
    world.engine.links[-1].open_up()
    await world.rest()
    assert await world.state_of() is State.READY
