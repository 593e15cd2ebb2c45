"""What becomes of items: before the claim, without proof, by a caller's word, and with their instance."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.engine import ME, FakeLink
from tests.integration.runtime.world import CHAT, SHOP, World, eventually

from wahub.domain.errors import NotCancellableError, NotUnknownError
from wahub.domain.ids import ChatId
from wahub.domain.instance import Disconnect, State
from wahub.domain.manage import Verdict
from wahub.domain.outbox import (
    Audience,
    DeliveryMark,
    ItemState,
    Moment,
    Priority,
    SendAcked,
    SendNotStarted,
    SendRefused,
    SendUncertain,
)
from wahub.domain.pacing import Pace, TypingPolicy, typing_time
from wahub.ports.engine import OwnIdentity, Paired, Receipted
from wahub.ports.wakeup import INSTANCES
from wahub.services import instance as instances
from wahub.services import outbox

OTHER = "202222222222"
GROUP = "120363000000000001@g.us"
DAY = 86_400.0
TYPING = TypingPolicy()


async def shop(folder: Path, **rules: Any) -> tuple[World, FakeLink]:
    """A linked shop with these rules."""
    world = await World(folder).with_rules(**rules).start()
    return world, await world.linked()


# --- typing -----------------------------------------------------------------------------------------------------------


async def test_somebody_types_before_each_message_and_no_longer_after_it(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, typing=TYPING)
    entry = await world.send("hello")
    await world.rest()
    assert link.typed == [(entry.chat, True)] and link.sent == []
    assert (await world.entry(entry.id)).state is ItemState.QUEUED, "claimed only after typing"
    took = typing_time(entry.id, TYPING)
    assert 0.6 <= took <= 1.8
    await world.pass_time(took - 0.01)
    assert link.sent == []
    await world.pass_time(0.02)
    assert len(link.sent) == 1
    assert link.typed == [(entry.chat, True), (entry.chat, False)]
    await world.stop()


@pytest.mark.parametrize(
    ("more", "chat"),
    [({"typing": False}, CHAT), ({"audience": Audience.MERCHANT}, CHAT), ({}, GROUP)],
    ids=["caller says no", "a merchant", "a group"],
)
async def test_nobody_types_where_nobody_should(tmp_path: Path, more: dict[str, Any], chat: str) -> None:
    world, link = await shop(tmp_path, typing=TYPING)
    await world.send("hello", chat=chat, **more)
    await world.rest()
    assert len(link.sent) == 1 and link.typed == []
    await world.stop()


async def test_the_instance_may_switch_typing_off_or_on_for_merchants(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, typing=TYPING)
    change = instances.ConfigChange(apply_typing_to=("customer", "merchant"))
    await world.act(lambda tx: instances.update(tx, SHOP, change))
    await world.send("to a merchant", audience=Audience.MERCHANT)
    await world.pass_time(2.0)
    assert len(link.typed) == 2
    await world.act(lambda tx: instances.update(tx, SHOP, instances.ConfigChange(typing_enabled=False)))
    await world.send("quietly")
    await world.rest()
    assert len(link.sent) == 2 and len(link.typed) == 2
    await world.stop()


async def test_typing_that_cannot_be_shown_does_not_keep_the_message(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, typing=TYPING)
    link.types = False
    await world.send("hello")
    await world.pass_time(2.5)
    assert len(link.sent) == 1
    await world.stop()


async def test_typing_ends_also_after_a_failed_send(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, typing=TYPING)
    link.answer = lambda *_: SendRefused(400)
    entry = await world.send("nonsense")
    await world.pass_time(2.0)
    assert (await world.entry(entry.id)).state is ItemState.FAILED
    assert [typing for _, typing in link.typed] == [True, False]
    await world.stop()


async def test_typing_ends_when_its_item_is_cancelled_meanwhile(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, typing=TYPING)
    entry = await world.send("never mind")
    await world.rest()
    await world.act(lambda tx: outbox.cancel(tx, SHOP, entry.id, world.clock.now()))
    await world.pass_time(2.0)
    assert link.sent == []
    assert link.typed == [(entry.chat, True), (entry.chat, False)]
    await world.stop()


async def test_typing_ends_in_a_chat_that_is_overtaken_meanwhile(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, typing=TYPING)
    slow = await world.send("normal")
    await world.rest()
    urgent = await world.send("high", chat=OTHER, priority=Priority.HIGH)
    await world.pass_time(6.0)
    assert [content.text for _, _, content in link.sent] == ["high", "normal"]
    for chat in (slow.chat, urgent.chat):
        states = [typing for where, typing in link.typed if where == chat]
        assert states == [True, False] * (len(states) // 2), "never two in a row, and off in the end"
    await world.stop()


async def test_the_window_is_looked_at_before_the_typing(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, typing=TYPING, pace=Pace(1, 0, 0))
    await world.send("one")
    await world.send("two")
    await world.pass_time(59.0)
    assert len(link.sent) == 1 and len(link.typed) == 2, "nobody types for an item that must wait for its slot"
    await world.pass_time(5.0)
    assert len(link.sent) == 2
    await world.stop()


# --- who is on WhatsApp -----------------------------------------------------------------------------------------------


async def test_a_number_that_is_not_on_whatsapp_fails_at_once_and_is_remembered_for_an_hour(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, ask_first=True, typing=TYPING)
    link.who = lambda _chat: False
    first = await world.send("anybody there?")
    await world.rest()
    done = await world.entry(first.id)
    assert (done.state, done.last_error) == (ItemState.FAILED, "not_on_whatsapp")
    second = await world.send("anybody there now?")
    await world.rest()
    assert (await world.entry(second.id)).state is ItemState.FAILED
    assert len(link.asked) == 1 and link.sent == [] and link.typed == []
    assert [one["reason"] for one in await world.news("message_failed")] == ["not_on_whatsapp"] * 2
    link.who = lambda _chat: True
    world.clock.jump(3_601.0)
    third = await world.send("and now?")
    await world.pass_time(2.0)
    assert (await world.entry(third.id)).state is ItemState.SENT
    assert len(link.asked) == 2
    await world.stop()


async def test_a_number_that_is_there_is_asked_for_again_after_thirty_days(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, ask_first=True)
    for pause, asked in ((0.0, 1), (29 * DAY, 1), (2 * DAY, 2)):
        world.clock.jump(pause)
        entry = await world.send(f"after {pause}")
        await world.rest()
        assert (await world.entry(entry.id)).state is ItemState.SENT
        assert len(link.asked) == asked
    await world.stop()


async def test_no_answer_means_send_and_is_not_remembered(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, ask_first=True)
    link.who = lambda _chat: None
    for text in ("one", "two"):
        await world.send(text)
        await world.rest()
    assert len(link.sent) == 2 and len(link.asked) == 2
    await world.stop()


async def test_groups_hidden_identities_and_what_may_be_out_are_not_asked_about(tmp_path: Path) -> None:
    world, link = await shop(tmp_path, ask_first=True)
    await world.send("to a group", chat=GROUP)
    await world.send("to a hidden one", chat="333333333333@lid")
    await world.rest()
    assert len(link.sent) == 2 and link.asked == []
    await world.stop()


# --- unknown ----------------------------------------------------------------------------------------------------------


async def test_an_unknown_item_holds_back_its_chat_and_priority_only(world: World) -> None:
    link = await world.linked()
    link.answer = lambda _id, _chat, content: SendUncertain("no ack") if content.text == "maybe" else SendAcked()
    await world.send("maybe")
    await world.send("behind it")
    await world.send("elsewhere", chat=OTHER)
    await world.send("high in its chat", priority=Priority.HIGH)
    await world.pass_time(1.0)
    assert sorted(content.text for _, _, content in link.sent) == ["elsewhere", "high in its chat", "maybe"]
    link.answer = lambda *_: SendAcked()
    await world.pass_time(10.0)
    assert [content.text for _, _, content in link.sent][-2:] == ["maybe", "behind it"]


async def test_after_five_resends_the_caller_is_told_and_decides(world: World) -> None:
    link = await world.linked()
    times = world.note_times(link, SendUncertain("no ack"))
    entries = [await world.send("maybe"), await world.send("behind it")]
    await world.pass_time(200.0)
    assert times[:6] == pytest.approx([0.0, 10.0, 20.0, 30.0, 40.0, 50.0], abs=0.05)
    assert len({sent_id for sent_id, _, _ in link.sent[:6]}) == 1, "always the same id"
    assert len(link.sent) == 12, "what stood behind it had its turn"
    told = await world.news("message_unknown")
    assert [one["queueId"] for one in told] == [entry.id for entry in entries]
    assert told[0] == {"id": entries[0].message_id, "queueId": entries[0].id, "reason": "no ack", "resends": 5}
    assert (await world.entry(entries[0].id)).gave_up
    with pytest.raises(NotCancellableError):
        await world.act(lambda tx: outbox.cancel(tx, SHOP, entries[0].id, world.clock.now()))


async def given_up(world: World, link: FakeLink) -> Any:
    world.note_times(link, SendUncertain("no ack"))
    entry = await world.send(f"maybe {world.new_id()}")
    await world.pass_time(100.0)
    return entry


async def resolve(world: World, queue_id: Any, verdict: Verdict) -> None:
    await world.act(lambda tx: outbox.resolve(tx, SHOP, queue_id, verdict, world.clock.now()))
    await world.rest()


async def test_resolve_as_sent_and_as_failed(world: World) -> None:
    link = await world.linked()
    for verdict, state in ((Verdict.SENT, ItemState.SENT), (Verdict.FAILED, ItemState.FAILED)):
        entry = await given_up(world, link)
        sent = len(link.sent)
        await resolve(world, entry.id, verdict)
        assert (await world.entry(entry.id)).state is state
        with pytest.raises(NotUnknownError):
            await resolve(world, entry.id, verdict)
        await world.pass_time(60.0)
        assert len(link.sent) == sent


async def test_resolve_as_resend_sends_once_more_under_the_same_id(world: World) -> None:
    link = await world.linked()
    entry = await given_up(world, link)
    link.sent.clear()
    await resolve(world, entry.id, Verdict.RESEND)
    await world.pass_time(60.0)
    assert [sent_id for sent_id, _, _ in link.sent] == [entry.message_id], "once, then the caller decides again"
    assert len(await world.news("message_unknown")) == 2
    link.answer = lambda *_: SendAcked()
    await resolve(world, entry.id, Verdict.RESEND)
    assert (await world.entry(entry.id)).state is ItemState.SENT


async def test_the_window_of_resends_begins_with_the_first_try_not_with_the_acceptance(world: World) -> None:
    link = await world.linked()
    times = world.note_times(link, SendUncertain("no ack"))
    await world.send("for next week", send_at=world.clock.now() + 6 * DAY)
    world.clock.jump(6 * DAY)
    await world.pass_time(100.0)
    assert len(times) == 6


# --- receipts ---------------------------------------------------------------------------------------------------------


async def test_marks_move_forward_only_and_each_is_told_once(world: World) -> None:
    link = await world.linked()
    entry = await world.send("hello")
    await world.rest()
    for kind in ("delivered", "read", "delivered", "sender", "played", "read"):
        link.report(Receipted((entry.message_id,), kind, f"{CHAT}@c.us", 1))
        await world.rest()
    told = await world.news("message_ack")
    assert [one["delivery"] for one in told] == ["server", "delivered", "read", "played"]
    assert all((one["id"], one["queueId"]) == (entry.message_id, entry.id) for one in told)
    assert [one["at"] for one in told] == [int(world.clock.now())] * 4
    assert (await world.entry(entry.id)).delivery is DeliveryMark.PLAYED


async def test_an_item_with_a_full_timeline_is_settled_and_told_like_any_other(world: World) -> None:
    link = await world.linked()
    link.hold = asyncio.Event()
    entry = await world.send("long story")
    await world.wire(link, 1)

    def fill(tx: Any) -> None:
        found = tx.outbox.get(SHOP, entry.id)
        tx.outbox.save(replace(found, timeline=tuple(Moment(float(number), "noted") for number in range(60))))

    await world.database.write(fill)
    link.hold.set()
    await world.rest()
    for kind in ("delivered", "read", "played"):
        link.report(Receipted((entry.message_id,), kind, f"{CHAT}@c.us", 1))
        await world.rest()
    assert [one["delivery"] for one in await world.news("message_ack")] == ["server", "delivered", "read", "played"]
    assert not link.closed


# --- faults of the store ----------------------------------------------------------------------------------------------


async def test_an_outcome_that_could_not_be_stored_does_not_keep_its_chat_for_ever(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings = replace(world.settings, stop_patience=0.05)
    await world.start()
    link = await world.linked()
    link.hold = asyncio.Event()
    entry = await world.send("on the wire")
    await world.wire(link, 1)
    world.database.failing = True
    link.break_off(Disconnect.CONNECTION_CLOSED, 428)

    async def closed() -> bool:
        return world.supervisor._runners[SHOP]._link is None

    await eventually(closed, "the link given up while the store fails")
    world.database.failing = False

    async def known() -> bool:
        await world.pass_time(1.0)
        return (await world.entry(entry.id)).state is ItemState.UNKNOWN

    await eventually(known, "the item taken as unknown")
    assert world.engine.links[-1].spec.epoch == link.spec.epoch, "within the same term"
    await world.stop()


async def test_a_passing_fault_of_the_store_loses_no_outcome(world: World) -> None:
    link = await world.linked()
    link.hold = asyncio.Event()
    entry = await world.send("on the wire")
    await world.wire(link, 1)
    world.database.failing = True
    link.hold.set()
    await world.pass_time(5.0)
    world.database.failing = False
    await world.pass_time(5.0)
    assert (await world.entry(entry.id)).state is ItemState.SENT
    assert len(link.sent) == 1


# --- another account, logout, delete ----------------------------------------------------------------------------------


async def pair_with(world: World, link: FakeLink, phone: str) -> FakeLink:
    """The credentials die, and somebody scans with this phone."""
    link.break_off(Disconnect.LOGGED_OUT, 401)
    pairing = await world.engine.next_link()
    pairing.report(Paired(OwnIdentity(phone, None, "Shop")))
    pairing.break_off(Disconnect.RESTART_REQUIRED, 515)
    return await world.engine.next_link()


async def test_another_number_holds_the_queue_until_somebody_releases_it(world: World) -> None:
    link = await world.linked()
    link.answer = lambda *_: SendUncertain("no ack")
    maybe = await world.send("maybe out", chat=OTHER)
    await world.item_becomes(maybe.id, ItemState.UNKNOWN)
    link.answer = lambda *_: SendNotStarted("link_lost", link_lost=True)
    waiting = await world.send("waiting")
    await world.rest()
    fresh = await pair_with(world, link, "209876543210")
    fresh.report()
    fresh.open_up()
    await world.pass_time(30.0)
    assert fresh.sent == []
    held = await world.entry(waiting.id)
    assert (held.state, held.last_error) == (ItemState.HELD, "account_changed")
    assert (await world.act(lambda tx: tx.lifecycles.get(SHOP))).account_since > 0
    assert (await world.entry(maybe.id)).gave_up, "from the new number it can be neither proved nor repeated"
    assert await world.news("queue_held") == [{"queueIds": [waiting.id], "reason": "account_changed"}]
    assert await world.act(lambda tx: outbox.release(tx, SHOP, world.clock.now())) == 1
    await world.rest()
    assert (await world.entry(waiting.id)).state is ItemState.SENT
    assert [sent_id for sent_id, _, _ in fresh.sent] == [waiting.message_id]


async def test_the_same_number_again_goes_on_with_the_queue(world: World) -> None:
    link = await world.linked()
    link.answer = lambda *_: SendNotStarted("link_lost", link_lost=True)
    waiting = await world.send("waiting")
    await world.rest()
    fresh = await pair_with(world, link, ME.phone)
    fresh.open_up()
    await world.pass_time(5.0)
    assert (await world.entry(waiting.id)).state is ItemState.SENT
    assert await world.news("queue_held") == []


async def test_logout_with_keep_unlinks_and_leaves_the_queue(world: World) -> None:
    link = await world.linked()
    waiting = await world.send("for later", send_at=world.clock.now() + 60.0)
    await world.database.write(lambda tx: instances.ask_unlink(tx, SHOP))
    world.wakeup.notify(INSTANCES)
    await world.engine.next_link()
    assert link.logged_out
    await world.state_becomes(State.NEEDS_QR)
    assert (await world.entry(waiting.id)).state is ItemState.QUEUED
    fresh = world.engine.links[-1]
    fresh.open_up()
    await world.state_becomes(State.READY)
    await world.pass_time(61.0)
    assert (await world.entry(waiting.id)).state is ItemState.SENT
    assert len(fresh.sent) == 1


async def test_delete_cancels_what_waits_and_says_so_once(world: World) -> None:
    link = await world.linked()
    link.answer = lambda *_: SendUncertain("no ack")
    maybe = await world.send("maybe out")
    await world.item_becomes(maybe.id, ItemState.UNKNOWN)
    waiting = [await world.send("waiting"), await world.send("for later", send_at=world.clock.now() + 60.0)]
    assert await world.database.write(lambda tx: instances.ask_delete(tx, SHOP))
    world.wakeup.notify(INSTANCES)

    async def gone() -> bool:
        return await world.instance() is None

    await eventually(gone, "the instance gone")
    assert link.logged_out
    ((who, cancelled),) = world.farewells
    assert who == SHOP and sorted(cancelled) == sorted(entry.id for entry in waiting)


async def test_delete_waits_for_the_item_on_the_wire(world: World) -> None:
    link = await world.linked()
    link.hold = asyncio.Event()
    await world.send("on the wire")
    await world.wire(link, 1)
    await world.database.write(lambda tx: instances.ask_delete(tx, SHOP))
    world.wakeup.notify(INSTANCES)
    await world.rest()
    assert not link.logged_out
    link.hold.set()

    async def gone() -> bool:
        return await world.instance() is None

    await eventually(gone, "the instance gone")
    assert world.farewells == [(SHOP, ())]


async def test_release_cancel_and_trigger(world: World) -> None:
    link = await world.linked()
    world.note_times(link, SendRefused(500), SendAcked())
    slow = await world.send("retried")
    scheduled = await world.send("scheduled", chat=OTHER, send_at=world.clock.now() + 60.0)
    await world.rest()
    assert await world.act(lambda tx: outbox.trigger(tx, SHOP, world.clock.now())) == 2
    await world.rest()
    assert (await world.entry(slow.id)).state is ItemState.SENT, "a waiting retry goes now"
    assert (await world.entry(scheduled.id)).state is ItemState.QUEUED, "a scheduled one keeps its time"
    await world.act(lambda tx: outbox.cancel(tx, SHOP, scheduled.id, world.clock.now()))
    await world.pass_time(61.0)
    assert len(link.sent) == 2
    assert (await world.entry(scheduled.id)).state is ItemState.CANCELLED
    await world.act(lambda tx: outbox.retry(tx, SHOP, scheduled.id, world.clock.now()))
    await world.rest()
    assert (await world.entry(scheduled.id)).state is ItemState.SENT
    assert link.sent[-1][0] == scheduled.message_id and link.sent[-1][1] == ChatId.parse(OTHER)
