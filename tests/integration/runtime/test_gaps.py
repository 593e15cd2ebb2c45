"""What did not come in is found, written down, and told by one alert per burst."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.clock import FakeClock
from tests.fakes.engine import ME
from tests.integration.runtime.world import SHOP, World, eventually

from wahub.domain.gap import BURST
from wahub.domain.ids import MessageId
from wahub.domain.instance import Disconnect, State
from wahub.domain.lifecycle import IncidentKind
from wahub.ports.engine import CaughtUp, Inbound, Missed, Opened
from wahub.ports.threads import Unreadable

SENDER = "201111111111@s.whatsapp.net"
THEN = int(FakeClock().now())
"""Unix seconds; what is older than messages are kept would be forgotten at once."""
GAP = IncidentKind.MESSAGES_MISSED


def missed(name: str, at: int = THEN) -> Missed:
    return Missed(MessageId(name), SENDER, SENDER, "undecryptable", at)


def message(name: str) -> dict[str, Any]:
    body = {"message_id": name, "chat": SENDER, "sender": SENDER, "from_me": False, "timestamp": 1, "type": "text"}
    return {**body, "text": "hello"}


async def unreadable(world: World) -> Unreadable:
    return await world.database.read(lambda tx: tx.missed.unreadable(SHOP, 10))


async def becomes_unreadable(world: World, *names: str) -> None:
    async def check() -> bool:
        return set((await unreadable(world)).ids) == set(names)

    await eventually(check, f"unreadable: {names}")


async def test_what_cannot_be_read_is_written_down_once(world: World) -> None:
    link = await world.linked()
    link.report(missed("M1"), missed("M2", THEN + 1), missed("M1"))
    await becomes_unreadable(world, "M1", "M2")
    await world.rest()
    assert await unreadable(world) == Unreadable(2, THEN + 1.0, (MessageId("M2"), MessageId("M1")))
    assert (await world.record()).last_gap_at == world.clock.now()
    assert await world.incidents() == [GAP]


async def test_one_that_comes_after_all_is_not_missing_any_more(world: World) -> None:
    link = await world.linked()
    link.report(missed("M1"), missed("M2"), Inbound(1, message("M1")))
    await becomes_unreadable(world, "M2")
    link.report(missed("M1"))
    await world.rest()
    assert (await unreadable(world)).ids == ("M2",)


async def test_one_of_which_only_the_id_is_known(world: World) -> None:
    """A file of the spool that could not be read, and then with its key."""
    link = await world.linked()
    nameless = [Missed(MessageId(name), "", "", "undecryptable", THEN) for name in ("M1", "spool:1700000000000000")]
    link.report(*nameless, *nameless)
    await becomes_unreadable(world, "M1", "spool:1700000000000000")
    await world.rest()
    assert await world.incidents() == [GAP]
    link.report(Inbound(1, message("M1")), *nameless)
    await becomes_unreadable(world, "spool:1700000000000000")


async def test_bursts_that_lie_apart_alert_again(world: World) -> None:
    link = await world.linked()
    for number in range(3):
        link.report(missed(f"A{number}"))
        await world.pass_time(BURST - 1)
    assert await world.incidents() == [GAP]
    await world.pass_time(2)
    link.report(missed("B1"))
    await becomes_unreadable(world, "A0", "A1", "A2", "B1")
    await world.rest()
    assert await world.incidents() == [GAP, GAP]


@pytest.mark.parametrize(
    ("announced", "received", "alerts"),
    [(None, 0, []), (0, 0, []), (3, 3, []), (2, 3, []), (3, 1, [GAP])],
    ids=["unsaid", "nothing", "all", "more", "fewer"],
)
async def test_what_was_announced_and_did_not_come_is_a_gap(
    world: World, announced: int | None, received: int, alerts: list[IncidentKind]
) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(Opened(ME), CaughtUp(5, announced, received))
    await world.state_becomes(State.READY)
    await world.rest()
    record = await world.record()
    assert (record.caught_up_at, record.last_gap_at is not None) == (world.clock.now(), bool(alerts))
    assert await world.incidents() == alerts


async def test_an_instance_is_caught_up_when_its_link_says_so(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    link.report(Opened(ME))
    await world.state_becomes(State.READY)
    assert (await world.record()).caught_up_at is None
    link.report(CaughtUp(1, 1, 1))
    await world.rest()
    assert (await world.record()).caught_up_at == world.clock.now()
    world.engine_does(lambda new: new.report(Opened(ME)))
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await world.pass_time(5)
    assert (await world.state_of(), (await world.record()).caught_up_at) == (State.READY, None)


async def test_a_queue_that_was_empty_before_the_link_opened(world: World) -> None:
    """The server may say so first."""
    await world.create()
    link = await world.engine.next_link()
    link.report(CaughtUp(0, 0, 0), Opened(ME))
    await world.state_becomes(State.READY)
    assert (await world.record()).caught_up_at == world.clock.now()
