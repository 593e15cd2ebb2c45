"""Changes of groups, calls and presence, from the link to the webhook and the store."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fakes.engine import ME, FakeLink
from tests.integration.runtime.world import SHOP, World, eventually

from wahub.domain.instance import State
from wahub.ports.engine import Inbound, PresenceSeen

GROUP = "120363000000000001@g.us"
ANA = "201111111111"
ANA_LID = "900111111111111"
BEN = {"phone": "202222222222", "lid": "900222222222222"}


def notice(number: int, kind: str, details: dict[str, Any], **changes: Any) -> Inbound:
    sender = f"{ANA_LID}@lid"
    body = {
        "message_id": f"{number}",
        "chat": GROUP,
        "chat_phone": None,
        "chat_lid": None,
        "sender": sender,
        "sender_phone": ANA,
        "sender_lid": ANA_LID,
        "from_me": False,
        "push_name": "Ana",
        "timestamp": 1_700_000_000 + number,
        "type": kind,
        "text": None,
        "target": None,
        "details": details,
        "raw": None,
        **changes,
    }
    return Inbound(number, body)


def change(number: int, action: str, **more: Any) -> Inbound:
    changes = {name: more.pop(name) for name in [*more] if name in ("sender", "sender_phone", "sender_lid", "from_me")}
    said = {"action": action, "participants": [], "subject": None, **more}
    return notice(number, "group_update", {"group": said}, **changes)


def call(number: int, status: str, **changes: Any) -> Inbound:
    said = {"callId": "CALL1", "status": status, "video": False, "group": False, "reason": None}
    direct = {"chat": f"{ANA_LID}@lid", "chat_phone": ANA, "chat_lid": ANA_LID}
    return notice(number, "call", {"call": said}, **direct, **changes)


async def _acked(link: FakeLink, *numbers: int) -> None:
    async def check() -> bool:
        return link.acked == [*numbers]

    await eventually(check, f"acks of {numbers}")


async def _lanes(world: World, event: str) -> list[str]:
    due = await world.database.read(lambda tx: tx.webhooks.due(world.clock.now() + 1e9, 100, ()))
    return [delivery.lane for delivery in due if delivery.event == event]


# --- groups -----------------------------------------------------------------------------------------------------------


async def test_a_change_of_a_group_is_told_once(world: World) -> None:
    link = await world.linked()
    link.report(change(1, "add", participants=[BEN], reason=None), change(1, "add", participants=[BEN], reason=None))
    await _acked(link, 1, 1)
    assert await _lanes(world, "group_update") == [GROUP]
    [told] = await world.news("group_update")
    contact = told["group"].pop("contactId")
    assert contact.startswith("c_")
    assert told == {
        "group": {
            "from": ANA,
            "id": "1",
            "timestamp": 1_700_000_001,
            "fromLid": ANA_LID,
            "name": "Ana",
            "fromMe": False,
            "author": ANA,
            "authorLid": ANA_LID,
            "chat": GROUP,
            "chatLid": None,
            "chatId": GROUP,
            "isGroup": True,
            "action": "add",
            "participants": [BEN],
            "subject": None,
            "reason": None,
        }
    }


async def test_what_we_changed_ourselves_is_told_as_ours(world: World) -> None:
    link = await world.linked()
    ours = {"sender": f"{ME.lid}@lid", "sender_phone": ME.phone, "sender_lid": ME.lid, "from_me": True}
    link.report(change(1, "promote", participants=[BEN], **ours))
    await _acked(link, 1)
    [told] = [data["group"] for data in await world.news("group_update")]
    assert (told["from"], told["fromLid"], told["fromMe"], told["contactId"]) == (ME.phone, ME.lid, True, None)


async def test_a_change_by_nobody_makes_no_contact_of_the_group(world: World) -> None:
    link = await world.linked()
    link.report(change(1, "locked", enabled=True, sender=GROUP, sender_phone=None, sender_lid=None))
    await _acked(link, 1)
    [told] = [data["group"] for data in await world.news("group_update")]
    assert (told["from"], told["contactId"], told["author"], told["enabled"]) == ("", None, "", True)
    assert await world.database.read(lambda tx: tx.people.by_phone(SHOP, GROUP.partition("@")[0])) is None


async def test_a_group_is_called_by_its_last_subject(world: World) -> None:
    link = await world.linked()
    link.report(
        change(1, "create", subject="Old", isNew=True), change(2, "subject", subject="New"), change(3, "locked")
    )
    await _acked(link, 1, 2, 3)
    assert await _titles(world) == ["New"]
    link.report(notice(4, "text", {}, text="hello"))
    await _acked(link, 1, 2, 3, 4)
    assert await _titles(world) == ["New"]


async def _titles(world: World) -> list[str | None]:
    heads = await world.database.read(lambda tx: tx.threads.heads(SHOP, (2**53, ""), 10, 0.0))
    return [head.title for head in heads]


# --- calls ------------------------------------------------------------------------------------------------------------


async def test_calls_are_told_in_the_lane_of_the_caller(world: World) -> None:
    link = await world.linked()
    link.report(call(1, "offer"), call(2, "timeout"))
    await _acked(link, 1, 2)
    [lane] = await _lanes(world, "call")
    rang, missed = [data["call"] for data in await world.news("call")]
    assert (rang["status"], missed["status"], rang["callId"]) == ("offer", "timeout", missed["callId"])
    assert (rang["from"], rang["fromLid"], rang["chatId"]) == (ANA, ANA_LID, f"{ANA}@c.us")
    assert rang["contactId"] == lane
    assert (rang["author"], rang["isGroup"]) == (None, False)


async def test_notices_are_no_messages(world: World) -> None:
    link = await world.linked()
    link.report(change(1, "create", subject="Ours", isNew=True), call(2, "offer"))
    await _acked(link, 1, 2)
    assert await world.news("message") == []


# --- presence ---------------------------------------------------------------------------------------------------------

TYPES = PresenceSeen(f"{ANA}@s.whatsapp.net", f"{ANA}@s.whatsapp.net", ANA, ANA_LID, "composing")


async def _told_presence(world: World, count: int) -> list[dict[str, Any]]:
    async def check() -> bool:
        return len(await world.news("presence")) >= count

    await eventually(check, f"{count} presence events")
    return [data["presence"] for data in await world.news("presence")]


async def test_presence_goes_to_the_webhook_and_not_to_the_log(world: World) -> None:
    link = await world.linked()
    assert link.watched == [True]
    before = await world.database.read(lambda tx: tx.events.span(SHOP))
    link.report(TYPES)
    [told] = await _told_presence(world, 1)
    assert (told["from"], told["fromLid"], told["contactId"], told["state"]) == (ANA, ANA_LID, None, "composing")
    assert (told["chat"], told["chatId"], told["lastSeen"]) == (ANA, f"{ANA}@c.us", None)
    assert await world.database.read(lambda tx: tx.events.span(SHOP)) == before
    assert await world.database.read(lambda tx: tx.people.by_phone(SHOP, ANA)) is None


async def test_who_wrote_is_named_by_the_contact(world: World) -> None:
    link = await world.linked()
    link.report(change(1, "locked"))
    await _acked(link, 1)
    known = await world.database.read(lambda tx: tx.people.by_lid(SHOP, ANA_LID))
    assert known is not None
    in_group = PresenceSeen(GROUP, f"{ANA_LID}@lid", None, ANA_LID, "recording")
    gone = PresenceSeen(f"{ANA_LID}@lid", f"{ANA_LID}@lid", None, ANA_LID, "unavailable", 1_700_000_000)
    link.report(in_group)
    await _told_presence(world, 1)
    link.report(gone)
    group, direct = await _told_presence(world, 2)
    assert (group["contactId"], group["author"], group["chatId"], group["isGroup"]) == (known.id, ANA, GROUP, True)
    assert (direct["contactId"], direct["from"], direct["lastSeen"]) == (known.id, ANA, 1_700_000_000)
    assert direct["author"] is None


async def test_a_link_watches_while_the_webhook_wants_it(world: World) -> None:
    link = await world.linked()
    for changes in (
        {"webhook_events": ("message",)},
        {"webhook_events": ("message", "presence")},
        {"webhook_url": None},
        {"typing_enabled": False},
    ):
        await world.reconfigure(**changes)
        await world.rest()
    assert link.watched == [True, False, True, False]
    link.report(TYPES)
    await world.rest()
    assert await world.news("presence") == []


async def test_the_next_link_knows_what_changed_meanwhile(world: World) -> None:
    await world.linked()
    await world.reconfigure(webhook_events=("message",))
    await world.rest()
    await world.reconfigure(webhook_events=("presence",))
    await world.rest()
    link = await _next_link(world)
    assert link.watched == [True]
    await world.reconfigure(webhook_events=())
    await world.rest()
    assert (await _next_link(world)).watched == []


async def _next_link(world: World) -> FakeLink:
    world.engine.links[-1].lose_network()
    opening = asyncio.create_task(world.engine.next_link())
    while not opening.done():
        await world.pass_time(1)
    opening.result().open_up()
    await world.state_becomes(State.READY)
    return opening.result()


async def test_presence_that_cannot_be_stored_ends_no_link(world: World) -> None:
    link = await world.linked()
    world.database.failing = True
    link.report(TYPES)
    await world.rest()
    world.database.failing = False
    link.report(TYPES)
    assert len(await _told_presence(world, 1)) == 1
    assert not link.closed
