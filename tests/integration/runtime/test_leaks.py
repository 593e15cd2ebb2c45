"""What hundreds of links, outages and deleted instances leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
from tests.fakes.engine import FakeLink
from tests.integration.runtime.world import SHOP, World, eventually

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Disconnect, State
from wahub.domain.lifecycle import Ask
from wahub.ports.wakeup import INSTANCES
from wahub.runtime.ending import Endings
from wahub.runtime.reports import ReportBatch
from wahub.runtime.runner import Runner
from wahub.runtime.sender import Sender
from wahub.runtime.serving import Serving
from wahub.runtime.sight import LinkFacts
from wahub.runtime.turns import Turns
from wahub.runtime.watch import Watch
from wahub.services import instance as instances

RECONNECTS = 200
MANY = [InstanceId(f"shop-{number:02}") for number in range(12)]
OF_A_LINK = {Runner, Serving, Sender, Watch, Turns, Endings, LinkFacts, ReportBatch}


def alive() -> Counter[str]:
    """Objects of the runtime that something still refers to."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in OF_A_LINK)


def sizes(world: World, *more: object) -> dict[str, int]:
    """How much is in each collection that outlives a link."""
    supervisor = world.supervisor
    reach = supervisor._reach
    keepers = [supervisor, reach, *reach._routes.values(), supervisor._leaser, supervisor._restore, world.wakeup, *more]
    return {
        f"{type(keeper).__name__}.{name}": len(value)
        for keeper in keepers
        for name, value in _attributes(keeper)
        # Bounded by itself: hints that nobody waits for are kept until there are too many.
        if isinstance(value, Iterable) and hasattr(value, "__len__") and name != "_kept"
    }


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    if is_dataclass(thing):
        yield from ((field.name, getattr(thing, field.name)) for field in fields(thing))
    else:
        yield from vars(thing).items()


def left(world: World, *more: object) -> tuple[int, Counter[str], dict[str, int]]:
    """Tasks, objects, and what is in the collections."""
    return len(asyncio.all_tasks()), alive(), sizes(world, *more)


@pytest.fixture
async def patient(world: World, tmp_path: Path) -> World:
    """A world in which links may be lost as often as they like, without a pause."""
    await world.stop()
    world.settings = replace(world.settings, reconnect=replace(world.settings.reconnect, restarts=0))
    return await world.start()


async def lose_and_return(world: World, link: FakeLink) -> FakeLink:
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.state_becomes(State.DISCONNECTED)
    await world.pass_time(1.1)
    again = await world.engine.next_link()
    again.open_up()
    await world.state_becomes(State.READY)
    # The fake keeps its links, and with them what their vaults refer to.
    world.engine.links.remove(link)
    return again


async def test_two_hundred_reconnects_leave_nothing_behind(patient: World) -> None:
    link = await patient.linked()
    for _ in range(3):
        link = await lose_and_return(patient, link)
    await patient.rest()
    runner = patient.supervisor._runners[SHOP]
    before = left(patient, runner, runner.turns)
    for _ in range(RECONNECTS):
        link = await lose_and_return(patient, link)
    await patient.rest()
    assert left(patient, runner, runner.turns) == before


async def test_outages_that_hit_all_leave_nothing_behind(patient: World) -> None:
    patient.engine.on_open = FakeLink.open_up
    for name in MANY:
        await patient.create(name)

    async def all_ready() -> bool:
        found = await patient.database.read(lambda tx: tx.instances.list())
        return len(found) == len(MANY) and all(known.observed.state is State.READY for known in found)

    async def outage(attempts: int) -> None:
        patient.engine.on_open = FakeLink.lose_network
        for link in list(patient.engine.links):
            link.lose_network()
        for _ in range(attempts):
            await patient.pass_time(10.0)
        patient.engine.on_open = FakeLink.open_up
        for _ in range(60):
            await patient.pass_time(10.0)
        await eventually(all_ready, "all ready again")
        patient.engine.links[:] = [link for link in patient.engine.links if not link.closed]

    await eventually(all_ready, "all ready")
    await outage(1)
    await patient.rest()
    before = left(patient)
    for _ in range(5):
        await outage(3)
    await patient.rest()
    assert left(patient) == before
    assert not patient.supervisor._reach.cut


async def test_instances_that_are_deleted_leave_nothing_behind(patient: World) -> None:
    patient.engine.on_open = FakeLink.open_up

    async def live_and_die(name: InstanceId) -> None:
        await patient.create(name)
        await patient.state_becomes(State.READY, name)
        for asked in (Ask.SOFT_RESTART, Ask.HARD_RESTART):
            await patient.pass_time(1.0)
            links = len(patient.engine.of(name))
            await patient.ask(asked, name)
            await eventually(lambda links=links: _more_links(patient, name, links), "a restart")
            await patient.state_becomes(State.READY, name)
        assert await patient.database.write(lambda tx: instances.ask_delete(tx, name))
        patient.wakeup.notify(INSTANCES)
        await eventually(lambda: _gone(patient, name), "the instance gone")
        patient.engine.links.clear()

    await live_and_die(MANY[0])
    await _round(patient)
    before = left(patient)
    for name in MANY[1:]:
        await live_and_die(name)
    await _round(patient)
    assert left(patient) == before


async def _more_links(world: World, name: InstanceId, than: int) -> bool:
    return len(world.engine.of(name)) > than


async def _gone(world: World, name: InstanceId) -> bool:
    return await world.instance(name) is None


async def _round(world: World) -> None:
    """Let the supervisor look once more."""
    await world.pass_time(world.settings.poll_every + 0.1)
    await world.rest()
