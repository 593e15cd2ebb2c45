"""When items leave: windows, spacing, schedule, expiry, priority and backoff, by a clock that tests move."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.runtime.world import SHOP, World

from wahub.domain.instance import Disconnect
from wahub.domain.outbox import ItemState, Priority, SendAcked, SendNotStarted, SendRefused, SendUncertain
from wahub.domain.pacing import HOUR, Pace, TypingPolicy
from wahub.runtime import sender
from wahub.services import outbox

OTHER = "202222222222"


@pytest.fixture
async def paced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The documents' pace, and loops that wake only for what happens, so that hours pass quickly."""
    monkeypatch.setattr(sender, "LOOK_EVERY", 7_200.0)
    world = World(tmp_path).with_rules(pace=Pace(6, 60, 0.5))
    world.settings = replace(world.settings, poll_every=7_200.0, lease_ttl=1e6, lease_renew_every=5e5, sweep_every=30.0)
    yield await world.start()
    await world.stop()


async def test_six_a_minute_and_sixty_an_hour_half_a_second_apart(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link)
    for number in range(63):
        await paced.send(f"text {number}", chat=f"2010000000{number:02}")
    await paced.pass_time(2 * HOUR)
    minute = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    first_hour = [60.0 * number + at for number in range(10) for at in minute]
    assert times == pytest.approx([*first_hour, 3_600.0, 3_600.5, 3_601.0], abs=0.02)


async def test_resends_and_refusals_take_slots_as_well(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link, SendUncertain("no ack"), SendRefused(400), SendAcked())
    for number in range(7):
        await paced.send(f"text {number}", chat=f"2010000000{number:02}")
    await paced.pass_time(61)
    # 0.0 was uncertain, its resend waits from 10 s on for a slot: the window is full.
    assert times == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 60.0, 60.5], abs=0.02)


async def test_no_burst_after_a_lost_link(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link)
    for number in range(10):
        await paced.send(f"text {number}")
    await paced.pass_time(1.2)
    assert len(times) == 3
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await paced.pass_time(5.0)
    second = paced.engine.links[-1]
    assert second is not link
    second.answer = link.answer
    second.open_up()
    await paced.pass_time(70.0)
    inside = [sum(at - 60.0 < other <= at for other in times) for at in times]
    assert max(inside) == 6 and len(times) >= 9
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.499


async def test_no_burst_after_a_death(tmp_path: Path) -> None:
    world = await World(tmp_path).with_rules(pace=Pace(2, 0, 0.0)).start()
    link = await world.linked()
    for number in range(4):
        await world.send(f"text {number}")
    await world.pass_time(1.0)
    assert len(link.sent) == 2
    await world.die()
    await world.start()
    second = await world.engine.next_link()
    times = world.note_times(second)
    second.open_up()
    await world.pass_time(70.0)
    assert times == pytest.approx([59.0, 59.0], abs=0.05), "the windows were stored"
    await world.stop()


async def test_a_scheduled_item_joins_the_line_at_its_time(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link)
    now = paced.clock.now()
    await paced.send("at ninety", send_at=now + 90.0)
    await paced.send("at thirty", send_at=now + 30.0)
    await paced.send("at once")
    await paced.pass_time(100.0)
    assert [content.text for _, _, content in link.sent] == ["at once", "at thirty", "at ninety"]
    assert times == pytest.approx([0.0, 30.0, 90.0], abs=0.02)


async def test_what_joined_before_a_scheduled_item_goes_before_it(paced: World) -> None:
    link = await paced.linked()
    paced.note_times(link, SendRefused(500), SendAcked())
    now = paced.clock.now()
    await paced.send("retried after five seconds")
    await paced.send("scheduled in the meantime", send_at=now + 2.0)
    await paced.pass_time(10.0)
    texts = [content.text for _, _, content in link.sent]
    assert texts == ["retried after five seconds", "retried after five seconds", "scheduled in the meantime"]


async def test_high_priority_overtakes_also_in_its_chat(paced: World) -> None:
    await paced.create()
    for number in range(3):
        await paced.send(f"normal {number}")
    await paced.send("high", priority=Priority.HIGH)
    await paced.send("high elsewhere", chat=OTHER, priority=Priority.HIGH)
    link = await paced.engine.next_link()
    link.open_up()
    await paced.pass_time(5.0)
    texts = [content.text for _, _, content in link.sent]
    assert texts == ["high", "high elsewhere", "normal 0", "normal 1", "normal 2"]


async def test_what_is_over_expires_without_a_link_and_is_told(paced: World) -> None:
    link = await paced.linked()
    link.break_off(Disconnect.BANNED, 403)
    await paced.rest()
    entry = await paced.send("good for a minute", expires_in=60.0)
    kept = await paced.send("good for a week")
    await paced.pass_time(59.0)
    assert (await paced.entry(entry.id)).state is ItemState.QUEUED
    await paced.pass_time(31.0)
    assert (await paced.entry(entry.id)).state is ItemState.EXPIRED
    assert (await paced.entry(kept.id)).state is ItemState.QUEUED
    (told,) = await paced.news("message_expired")
    assert told == {"id": entry.message_id, "queueId": entry.id, "reason": "expired"}
    paced.clock.jump(168 * HOUR)
    await paced.pass_time(31.0)
    assert (await paced.entry(kept.id)).state is ItemState.EXPIRED, "QUEUE_ITEM_TTL_HOURS"


async def test_an_item_whose_time_is_over_is_not_sent_when_the_link_comes_back(paced: World) -> None:
    await paced.create()
    link = await paced.engine.next_link()
    late = await paced.send("too late", expires_in=1.0)
    await paced.send("in time")
    paced.clock.jump(2.0)  # no sweep has seen it yet
    link.open_up()
    await paced.pass_time(0.5)
    assert [content.text for _, _, content in link.sent] == ["in time"]
    assert (await paced.entry(late.id)).state is ItemState.EXPIRED


async def test_server_errors_are_retried_after_5_10_20_40_seconds_then_failed(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link, SendRefused(503))
    entry = await paced.send("unlucky")
    await paced.pass_time(80.0)
    assert times == pytest.approx([0.0, 5.0, 15.0, 35.0, 75.0], abs=0.02)
    done = await paced.entry(entry.id)
    assert (done.state, done.attempts) == (ItemState.FAILED, 5)
    (told,) = await paced.news("message_failed")
    assert told == {"id": entry.message_id, "queueId": entry.id, "reason": "refused by WhatsApp (503)"}
    await paced.pass_time(HOUR)
    assert len(times) == 5


async def test_429_is_retried_and_400_is_final(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link, SendRefused(429), SendAcked())
    await paced.send("slow down")
    await paced.pass_time(10.0)
    assert times == pytest.approx([0.0, 5.0], abs=0.02)
    paced.note_times(link, SendRefused(400))
    entry = await paced.send("nonsense", chat=OTHER)
    await paced.pass_time(HOUR)
    assert (await paced.entry(entry.id)).state is ItemState.FAILED
    assert len(link.sent) == 3


async def test_a_retry_holds_back_its_chat_only(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link, SendRefused(500), SendAcked())
    await paced.send("first")
    await paced.send("second")
    await paced.send("elsewhere", chat=OTHER)
    await paced.pass_time(10.0)
    assert [content.text for _, _, content in link.sent] == ["first", "elsewhere", "first", "second"]
    assert times == pytest.approx([0.0, 0.5, 5.0, 5.5], abs=0.02)


async def test_the_outreach_lock_defers_an_hour_doubling_and_costs_no_attempt(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link, SendRefused(463), SendRefused(463), SendRefused(463), SendAcked())
    entry = await paced.send("cold call")
    await paced.pass_time(1.0)
    waiting = await paced.entry(entry.id)
    assert (waiting.state, waiting.attempts, waiting.last_error) == (ItemState.QUEUED, 0, "outreach_locked")
    other = await paced.send("to a friend", chat=OTHER)
    times.clear()
    link.answer = lambda _id, chat, _content: SendAcked() if chat.user == OTHER else SendRefused(463)
    await paced.pass_time(1.0)
    assert (await paced.entry(other.id)).state is ItemState.SENT, "other chats go on"
    times = paced.note_times(link, SendRefused(463), SendRefused(463), SendAcked())
    await paced.pass_time(8 * HOUR)
    assert times == pytest.approx([HOUR - 2, 3 * HOUR - 2, 7 * HOUR - 2], abs=0.1)
    assert (await paced.entry(entry.id)).state is ItemState.SENT


async def test_a_locked_item_expires_in_the_end(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link, SendRefused(463))
    entry = await paced.send("cold call", expires_in=4 * HOUR)
    await paced.pass_time(5 * HOUR)
    assert times == pytest.approx([0.0, HOUR, 3 * HOUR], abs=0.1)
    done = await paced.entry(entry.id)
    assert (done.state, done.last_error) == (ItemState.EXPIRED, "outreach_locked")


async def test_a_new_link_does_not_shorten_the_lock_of_an_item_that_may_be_out(paced: World) -> None:
    link = await paced.linked()
    paced.note_times(link, SendUncertain("no ack"), SendRefused(463))
    entry = await paced.send("cold call")
    await paced.pass_time(11.0)
    assert (await paced.entry(entry.id)).last_error == "outreach_locked"
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    await paced.pass_time(2.0)
    second = paced.engine.links[-1]
    second.open_up()
    await paced.pass_time(HOUR - 60)
    assert second.sent == []
    await paced.pass_time(60.0)
    assert len(second.sent) == 1


async def test_a_link_that_says_it_is_lost_uses_up_no_slots(paced: World) -> None:
    link = await paced.linked()
    times = paced.note_times(link, SendNotStarted("link_lost", link_lost=True))
    for number in range(6):
        await paced.send(f"text {number}", chat=f"2010000000{number:02}")
    await paced.rest()
    assert len(times) <= 2, "the loop waits instead of trying one chat after the other"
    entries = await paced.database.read(lambda tx: tx.line.unsettled(SHOP))
    assert [entry.attempts for entry in entries] == [0] * 6


async def test_the_times_that_the_queue_shows_are_kept(paced: World) -> None:
    link = await paced.linked()
    rules = paced.settings.rules
    paced.note_times(link, SendAcked())
    for number in range(9):
        await paced.send(f"text {number}", chat=f"2010000000{number % 3:02}")
    await paced.pass_time(1.2)

    view = await paced.database.read(
        lambda tx: outbox.overview(tx, SHOP, paced.clock.now(), rules.pace, TypingPolicy(enabled=False))
    )
    said = {item.entry.id: item.next_attempt_at for item in view.items}
    assert len(said) == 6
    await paced.pass_time(70.0)
    for queue_id, at in said.items():
        assert (await paced.entry(queue_id)).claimed_at == pytest.approx(at, abs=0.05)
