"""The send loop and the fate of items, on the real services and a real SQLite file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.fakes.engine import ME
from tests.integration.runtime.world import World

from wahub.domain.instance import Disconnect
from wahub.domain.outbox import ItemState, SendAcked, SendRefused, SendUncertain
from wahub.domain.pacing import Pace
from wahub.ports.engine import Acked, CaughtUp, Opened, Receipted


async def test_items_leave_in_order_each_under_the_id_of_its_acceptance(world: World) -> None:
    link = await world.linked()
    entries = [await world.send(f"text {number}") for number in range(20)]
    assert await world.wire(link, 20) == [f"text {number}" for number in range(20)]
    assert [sent_id for sent_id, _, _ in link.sent] == [entry.message_id for entry in entries]
    await world.item_becomes(entries[-1].id, ItemState.SENT)


async def test_what_was_queued_before_the_link_opened_goes_out_then(world: World) -> None:
    await world.create()
    link = await world.engine.next_link()
    entry = await world.send("early")
    link.open_up()
    assert await world.wire(link, 1) == ["early"]
    await world.item_becomes(entry.id, ItemState.SENT)


async def test_an_unproven_send_goes_out_again_under_its_id_only_after_the_wait(world: World) -> None:
    link = await world.linked()
    answers = iter([SendUncertain("no ack"), SendAcked()])
    link.answer = lambda *_: next(answers)
    entry = await world.send("maybe")
    waiting = await world.item_becomes(entry.id, ItemState.UNKNOWN)
    assert waiting.next_attempt_at == world.clock.now() + 10.0
    other = await world.send("to another chat", chat="202222222222")
    link.answer = lambda *_: SendAcked()
    await world.item_becomes(other.id, ItemState.SENT)
    assert len(link.sent) == 2
    await world.pass_time(10.1)
    done = await world.item_becomes(entry.id, ItemState.SENT)
    assert done.resends == 1
    assert [sent_id for sent_id, _, _ in link.sent].count(entry.message_id) == 2


async def test_a_late_ack_or_a_receipt_settles_an_unproven_send_without_a_resend(world: World) -> None:
    link = await world.linked()
    link.answer = lambda *_: SendUncertain("no ack")
    first = await world.send("one", chat="201111111111")
    second = await world.send("two", chat="202222222222")
    await world.item_becomes(first.id, ItemState.UNKNOWN)
    await world.item_becomes(second.id, ItemState.UNKNOWN)
    link.report(Acked(first.message_id, None), Receipted((second.message_id,), "delivered", "202222222222@c.us", 1))
    await world.item_becomes(first.id, ItemState.SENT)
    done = await world.item_becomes(second.id, ItemState.SENT)
    assert done.delivery == "delivered"
    await world.pass_time(60.0)
    assert len(link.sent) == 2


async def test_a_death_during_a_send_leaves_it_unknown_and_it_is_sent_again_after_the_drain(tmp_path: Path) -> None:
    world = await World(tmp_path).start()
    link = await world.linked()
    link.hold = asyncio.Event()
    entry = await world.send("on the wire")
    await world.wire(link, 1)
    await world.die()
    await world.start()
    second = await world.engine.next_link()
    second.report(Opened(ME))
    assert (await world.item_becomes(entry.id, ItemState.UNKNOWN)).on_wire
    await world.pass_time(15.0)
    assert second.sent == []  # not before the offline queue is drained and the wait is over
    second.report(CaughtUp(0))
    await world.pass_time(9.9)
    assert second.sent == []
    await world.pass_time(0.2)
    assert [sent_id for sent_id, _, _ in second.sent] == [entry.message_id]
    await world.item_becomes(entry.id, ItemState.SENT)
    await world.stop()


async def test_a_refusal_for_good_fails_the_item_and_the_next_one_goes_on(world: World) -> None:
    link = await world.linked()
    link.answer = lambda _id, _chat, content: SendRefused(400) if content.text == "bad" else SendAcked()
    bad = await world.send("bad")
    good = await world.send("good")
    assert (await world.item_becomes(bad.id, ItemState.FAILED)).last_error == "refused by WhatsApp (400)"
    await world.item_becomes(good.id, ItemState.SENT)


async def test_a_lost_link_costs_no_attempt(world: World) -> None:
    link = await world.linked()
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)
    entry = await world.send("later")
    await world.pass_time(1.1)
    assert len(world.engine.links) == 2
    world.engine.links[-1].open_up()
    await world.pass_time(2.0)
    done = await world.entry(entry.id)
    assert (done.state, done.attempts) == (ItemState.SENT, 0)


async def test_the_minute_window_and_the_spacing_hold(tmp_path: Path) -> None:
    world = await World(tmp_path).with_rules(pace=Pace(per_minute=3, per_hour=100, spacing=0.5)).start()
    link = await world.linked()
    times = world.note_times(link)
    for number in range(5):
        await world.send(f"text {number}", chat=f"20{number}0000000")
    await world.pass_time(70.0)
    assert times == pytest.approx([0.0, 0.5, 1.0, 60.0, 60.5], abs=0.02)
    await world.stop()
