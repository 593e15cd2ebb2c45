"""Links that are up and of no use, idle or unheard of: each is ended on evidence, and comes back (contract B.4)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes.engine import FakeLink
from tests.integration.runtime.world import SHOP, World

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Disconnect, State
from wahub.domain.lifecycle import IncidentKind
from wahub.domain.outbox import ItemState, SendAcked, SendUncertain
from wahub.domain.watchdog import MuteEvidence
from wahub.ports.engine import LinkVitals, Probe, Receipted
from wahub.runtime.sender import ACK_TIMEOUT

OTHER_CHAT = "202222222222"
MUTED = ("change_state", {"status": "CONNECTED_MUTE"})
READY = ("ready", {"status": "ready"})
LOST = ("disconnected", {"reason": "timed_out"})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    running = await World(tmp_path).calm().start()
    running.engine_does(lambda link: link.open_up())
    yield running
    await running.stop()


async def ready(world: World) -> FakeLink:
    world.engine_does(lambda _link: None)
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    return link


def unanswered(world: World, link: FakeLink) -> None:
    link.seen = LinkVitals(heard_at=1e9, unanswered_since=world.clock.monotonic())


def unhandled(world: World, link: FakeLink) -> None:
    link.seen = LinkVitals(heard_at=1e9, unhandled_since=world.clock.monotonic())


@pytest.mark.parametrize(
    ("silence", "evidence", "quiet", "found"),
    [
        (unanswered, MuteEvidence.UNANSWERED_PINGS, 44, 56),
        (unhandled, MuteEvidence.UNHANDLED_MESSAGE, 29, 41),
    ],
    ids=["pings", "message"],
)
async def test_a_mute_link_is_told_recycled_and_back(
    world: World, silence: Callable[[World, FakeLink], None], evidence: MuteEvidence, quiet: float, found: float
) -> None:
    link = await ready(world)
    silence(world, link)
    await world.pass_time(quiet)
    assert (await world.state_of(), len(world.engine.links)) == (State.READY, 1)
    await world.pass_time(found - quiet)
    assert link.closed
    assert (await world.state_of(), len(world.engine.links)) == (State.READY, 2)
    assert await world.posted() == [READY, MUTED, LOST, READY]
    assert await world.incidents() == [IncidentKind.CONNECTED_MUTE]
    record = await world.record()
    assert (record.mutes, record.mute_since, record.mute_evidence) == (1, None, None)
    await world.pass_time(600)
    assert len(world.engine.links) == 2


async def test_the_evidence_is_shown_until_it_is_ready_again(world: World) -> None:
    link = await ready(world)
    world.engine_does(lambda _new: None)
    unanswered(world, link)
    await world.pass_time(56)
    record = await world.record()
    assert (record.mute_evidence, record.mutes) == (str(MuteEvidence.UNANSWERED_PINGS), 1)
    assert record.mute_since is not None


async def test_silence_that_ends_in_time_is_no_evidence(world: World) -> None:
    link = await ready(world)
    for _ in range(5):
        unanswered(world, link)
        await world.pass_time(40)
        link.seen = None
        await world.pass_time(10)
    assert (len(world.engine.links), len(await world.posted())) == (1, 1)


async def test_two_sends_without_an_ack_recycle_the_link_and_double_nothing(world: World) -> None:
    link = await ready(world)
    link.answer = lambda *_: SendUncertain(ACK_TIMEOUT)
    proved = await world.send("this one arrived")
    lost = await world.send("this one did not", OTHER_CHAT)
    await world.wire(link, 2)
    await world.rest()
    assert MUTED in await world.posted()
    await world.pass_time(1.1)
    second = world.engine.links[-1]
    assert (await world.state_of(), len(world.engine.links)) == (State.READY, 2)
    second.report(Receipted((proved.message_id,), "delivered", f"{proved.chat}", 0))
    await world.pass_time(30)
    assert (await world.entry(proved.id)).state is ItemState.SENT
    assert (await world.entry(lost.id)).state is ItemState.SENT
    assert [message_id for message_id, _, _ in second.sent] == [lost.message_id], "again under the same id, once"
    assert [one for one in await world.posted() if one[0] != "message_ack"] == [READY, MUTED, LOST, READY]


async def test_one_send_without_an_ack_or_one_answered_between_is_no_evidence(world: World) -> None:
    link = await ready(world)
    answers = itertools.cycle([SendUncertain(ACK_TIMEOUT), SendAcked()])
    link.answer = lambda *_: next(answers)
    for number in range(6):
        await world.send("hello", f"20111111111{number}")
    await world.wire(link, 6)
    await world.pass_time(60)
    assert len(world.engine.links) == 1
    assert MUTED not in await world.posted()


async def test_a_receipt_between_two_sends_shows_that_the_server_listens(world: World) -> None:
    link = await ready(world)
    link.answer = lambda *_: SendUncertain(ACK_TIMEOUT)
    first = await world.send("one")
    await world.wire(link, 1)
    link.report(Receipted((first.message_id,), "delivered", f"{first.chat}", 0))
    await world.rest()
    await world.send("two", OTHER_CHAT)
    await world.wire(link, 2)
    await world.pass_time(5)
    assert (len(world.engine.links), MUTED in await world.posted()) == (1, False)


# --- stale, health, recycled ------------------------------------------------------------------------------------------


async def test_a_link_that_was_not_heard_of_for_five_minutes_is_opened_anew(world: World) -> None:
    link = await ready(world)
    link.seen = LinkVitals(heard_at=world.clock.monotonic())
    await world.pass_time(299)
    assert len(world.engine.links) == 1
    await world.pass_time(3)
    assert (link.closed, len(world.engine.links), await world.state_of()) == (True, 2, State.READY)
    assert (await world.record()).reconnects == 1
    assert await world.posted() == [READY, LOST, READY]
    seen = await world.instance()
    assert seen is not None and seen.observed.last_disconnect_reason == "timed_out"


async def test_a_quiet_account_whose_server_is_heard_of_is_left_alone(world: World) -> None:
    link = await ready(world)
    await world.pass_time(6 * 3_600)
    assert (link.closed, len(world.engine.links)) == (False, 1)
    assert link.probed > 10, "it was asked for a sign of life"


async def test_the_health_check_asks_idle_links_only(world: World) -> None:
    link = await ready(world)
    await world.pass_time(1_201)
    assert (link.probed, (await world.record()).health_checked_at) == (0, world.clock.now() - 1)
    await world.pass_time(1_200)
    assert link.probed == 1
    await world.send("hello")
    await world.wire(link, 1)
    link.report(Receipted((link.sent[0][0],), "delivered", "", 0))
    await world.pass_time(1_200)
    assert link.probed == 1, "not idle any more"


async def test_a_failed_health_check_pauses_and_comes_back(world: World) -> None:
    link = await ready(world)
    await world.pass_time(2_399)
    link.probes = [Probe(logged_in=True, answered=False)]
    await world.pass_time(2)
    assert (await world.state_of(), link.closed) == (State.PAUSED, True)
    assert (await world.record()).pause_reason == "cooldown"
    await world.pass_time(6)
    assert (await world.state_of(), len(world.engine.links)) == (State.READY, 2)
    assert await world.posted() == [READY, LOST, READY]


async def test_links_that_were_idle_for_a_day_are_recycled_at_different_times(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    timers = replace(world.settings.timers, recycle_idle=7_200.0)
    await world.with_settings(timers=timers).start()
    opened = dict[InstanceId, list[float]]()
    began = world.clock.monotonic()

    def opens(link: FakeLink) -> None:
        opened.setdefault(link.spec.instance, []).append(world.clock.monotonic() - began)
        link.open_up()

    world.engine_does(opens)
    names = [InstanceId(name) for name in ("one", "two", "three", "busy")]
    for name in names:
        await world.create(name)
        await world.state_becomes(State.READY, name)
    busy = world.engine.of(names[-1])[0]
    await world.pass_time(7_100)
    assert all(len(times) == 1 for times in opened.values())
    busy.report(Receipted((), "delivered", "", 0))
    await world.pass_time(900)
    times = [opened[name][1] for name in names[:3]]
    assert all(7_200 <= at <= 7_200 * 1.1 + 10 for at in times), times
    assert len(set(times)) == 3, "not all at once"
    assert len(opened[names[-1]]) == 1, "not a quiet moment"
    assert await world.posted(names[0]) == [READY, READY], "nothing was lost"
    await world.stop()


async def test_a_link_is_not_recycled_while_it_sends(tmp_path: Path) -> None:
    world = World(tmp_path).calm()
    timers = replace(world.settings.timers, recycle_idle=100.0)
    await world.with_settings(timers=timers).start()
    link = await world.linked()
    world.engine_does(lambda new: new.open_up())
    link.hold = asyncio.Event()
    sent = await world.send("hello")
    await world.wire(link, 1)
    await world.pass_time(200)
    assert len(world.engine.links) == 1
    link.hold.set()
    await world.item_becomes(sent.id, ItemState.SENT)
    await world.pass_time(60)
    assert len(world.engine.links) == 1, "a day without messages begins with the last one"
    await world.pass_time(60)
    assert len(world.engine.links) == 2
    assert [len(each.sent) for each in world.engine.links] == [1, 0]
    assert await world.state_of() is State.READY
    await world.stop()


async def test_a_phone_that_is_off_changes_nothing(world: World) -> None:
    """Other devices of the account say nothing for an hour: the link answers, so it stays, and sends go out."""
    link = await ready(world)
    await world.pass_time(3_600)
    sent = await world.send("hello")
    await world.item_becomes(sent.id, ItemState.SENT)
    assert (len(world.engine.links), link.closed, await world.state_of()) == (1, False, State.READY)
    assert [name for name, _ in await world.posted()] == ["ready", "message_ack"]


async def test_a_mute_link_of_a_dead_network_is_told_once(world: World) -> None:
    link = await ready(world)
    world.engine_does(lambda new: new.lose_network())
    unanswered(world, link)
    await world.pass_time(600)
    assert await world.posted() == [READY, MUTED, LOST]
    assert await world.state_of() is State.DISCONNECTED
    assert (await world.record(SHOP)).mutes == 1
    seen = await world.instance()
    assert seen is not None and seen.observed.last_disconnect_reason == str(Disconnect.TIMED_OUT)
