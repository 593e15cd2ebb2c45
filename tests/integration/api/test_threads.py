"""Chats and messages over HTTP, from what links reported and the send loop settled."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from typing import Any

import httpx
import pytest
import structlog
from tests.contract.makers import make_entry
from tests.integration.api.conftest import PHONE, Edge

from wahub.domain.ids import InstanceId, MessageId, WorkerId
from wahub.domain.inbox import Address, from_engine
from wahub.domain.instance import State
from wahub.domain.message import Content, Poll, Text
from wahub.domain.outbox import SendAcked, SendPolicy, claim, next_step
from wahub.ports.store import Tx
from wahub.services import contact, inbox
from wahub.services.outbox.record import save

BOTH = ("/instances", "/api/v1/instances")
ANNA, ANNA_LID = "201111111111", "901111111111111"
BEN, BEN_LID = "202222222222", "902222222222222"
GROUP = "120363000000000001@g.us"
SHOP = InstanceId("shop")
DAY = 86_400.0

Json = dict[str, Any]

BY_ADMIN = {"byAdmin": True}
"""What the delete of an admin has beside."""


class People:
    """What comes in and goes out. Times are seconds before the beginning of the test."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.began = int(edge.clock.now()) - 1_000
        self._number = 0

    def body(self, message_id: str, at: int, phone: str | None, lid: str | None, group: bool) -> Json:
        sender = f"{phone}@s.whatsapp.net" if phone else f"{lid}@lid"
        body = {"message_id": message_id, "chat": sender, "chat_phone": phone, "chat_lid": lid}
        if group:
            body = {"message_id": message_id, "chat": GROUP}
        who = {"sender": sender, "sender_phone": phone, "sender_lid": lid, "from_me": False}
        return {**body, **who, "type": "text", "text": message_id, "timestamp": self.began + at}

    async def says(
        self,
        message_id: str,
        at: int,
        *,
        phone: str | None = ANNA,
        lid: str | None = None,
        group: bool = False,
        **more: Any,
    ) -> bool:
        """Somebody writes; with `from_me` it is the account's own phone, in the chat with that somebody."""
        body = {**self.body(message_id, at, phone, lid, group), **more}
        if body["from_me"]:
            body |= {"sender": f"{PHONE}@s.whatsapp.net", "sender_phone": PHONE, "sender_lid": None}
        return await self.take(body)

    async def take(self, body: Json) -> bool:
        self._number += 1
        event_id = f"{self._number:032x}"

        def work(tx: Tx) -> bool:
            lease = tx.leases.claim(SHOP, WorkerId("worker"), 1e9)
            assert lease is not None
            return inbox.ingest(tx, lease, from_engine(SHOP, body), self.edge.clock.now(), event_id)

        return bool(await self.edge.write(work))

    async def hears(self, number: int, at: float, chat: str = ANNA, content: Content | None = None) -> str:
        """The caller writes to somebody, and WhatsApp takes it; returns the id of the message."""
        when = self.began + at
        waiting = make_entry(number, chat, SHOP, created_at=when, content=content or Text(f"sent {number}"))

        def work(tx: Tx) -> str:
            entry = tx.outbox.add(waiting)
            claimed = save(tx, entry, claim(entry, 1, when), when)
            return str(save(tx, claimed, next_step(claimed, SendAcked(), when, SendPolicy()), when).message_id)

        return str(await self.edge.write(work))

    async def are_one(self, phone: str, lid: str) -> None:
        """It is learned that these are one person."""

        def work(tx: Tx) -> None:
            contact.meet(tx, SHOP, Address(phone, lid), None, now=self.edge.clock.now(), seed="0" * 32)

        await self.edge.write(work)


@pytest.fixture
async def people(edge: Edge) -> People:
    await edge.add("shop", lid="777")
    return People(edge)


async def messages(client: httpx.AsyncClient, chat: str = ANNA, **query: Any) -> Json:
    answer = await client.get(f"/instances/shop/chats/{chat}/messages", params=query)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    assert found["status"] == "success"
    return found


async def ids(client: httpx.AsyncClient, chat: str = ANNA, **query: Any) -> list[str]:
    return [message["id"] for message in (await messages(client, chat, **query))["messages"]]


async def chats(client: httpx.AsyncClient, **query: Any) -> Json:
    answer = await client.get("/instances/shop/chats", params=query)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def one(client: httpx.AsyncClient, message_id: str, chat: str = ANNA) -> Json:
    [found] = [found for found in (await messages(client, chat))["messages"] if found["id"] == message_id]
    return dict(found)


# --- one message ------------------------------------------------------------------------------------------------------


async def test_a_received_message_in_full(client: httpx.AsyncClient, people: People) -> None:
    details = {
        "media": {"kind": "image", "mime": "image/jpeg", "size": 7},
        "quoted": {"messageId": "M0", "from": PHONE, "type": "text", "text": "before"},
    }
    await people.says("M/1", 0, lid=ANNA_LID, push_name="Anna", type="image", details=details)
    contact_id = (await chats(client))["chats"][0]["contactId"]
    assert (await messages(client))["messages"] == [
        {
            "id": "M/1",
            "chatId": f"{ANNA}@c.us",
            "from": ANNA,
            "fromLid": ANNA_LID,
            "contactId": contact_id,
            "author": None,
            "fromMe": False,
            "name": "Anna",
            "type": "image",
            "text": "M/1",
            "timestamp": people.began,
            "state": None,
            "delivery": None,
            "queueId": None,
            "editedAt": None,
            "revokedAt": None,
            "reactions": [],
            "media": {**details["media"], "url": "/instances/shop/messages/M%2F1/media"},
            "quoted": details["quoted"],
        }
    ]


async def test_what_we_sent_and_what_our_phone_sent(client: httpx.AsyncClient, people: People) -> None:
    sent = await people.hears(1, 10.5)
    await people.says("OWN", 11, from_me=True, push_name="ignored")
    own, ours = (await messages(client))["messages"]
    who = {"from": PHONE, "fromLid": "777", "contactId": None, "author": None, "fromMe": True, "name": "Shop"}
    for shown in (own, ours):
        assert {name: shown[name] for name in who} == who
    assert (own["id"], own["text"], own["state"], own["delivery"], own["queueId"]) == ("OWN", "OWN", None, None, None)
    assert (ours["id"], ours["text"], ours["timestamp"]) == (sent, "sent 1", people.began + 10)
    assert (ours["state"], ours["delivery"], ours["queueId"]) == ("sent", "server", make_entry(1, instance=SHOP).id)


async def test_what_was_done_to_a_message_is_in_it(client: httpx.AsyncClient, people: People) -> None:
    await people.says("R1", 1, type="reaction", target="M1", text="🎉", from_me=True)
    await people.says("M1", 0)
    await people.says("E1", 2, type="edit", target="M1", text="better")
    await people.says("R2", 3, type="reaction", target="M1", text="👍")
    await people.says("R3", 4, type="reaction", target="M1", text="❤")
    [shown] = (await messages(client))["messages"]
    assert (shown["text"], shown["type"], shown["editedAt"] is not None, shown["revokedAt"]) == (
        "better",
        "text",
        True,
        None,
    )
    assert [(found["from"], found["emoji"], found["timestamp"]) for found in shown["reactions"]] == [
        (PHONE, "🎉", people.began + 1),
        (ANNA, "❤", people.began + 4),
    ]
    assert [found["contactId"] for found in shown["reactions"]] == [None, shown["contactId"]]
    await people.says("D1", 5, type="delete", target="M1", text="")
    [shown] = (await messages(client))["messages"]
    assert (shown["text"], shown["editedAt"], shown["reactions"]) == (None, None, [])
    assert shown["revokedAt"].endswith("Z")


async def test_what_a_stranger_does_to_an_id_of_another_chat_changes_nothing(
    client: httpx.AsyncClient, people: People
) -> None:
    await people.says("M1", 0)
    for number, kind in enumerate(("edit", "delete", "reaction")):
        await people.says(f"X{number}", 1, phone=BEN, type=kind, target="M1", text="forged")
    assert (await one(client, "M1"))["text"] == "M1"
    assert (await one(client, "M1"))["reactions"] == []


async def test_votes_on_our_poll(client: httpx.AsyncClient, people: People) -> None:
    poll = await people.hears(1, 0, content=Poll("Order 7?", ("Confirm", "Cancel"), True, b"s" * 32))
    vote = {"type": "vote", "target": poll, "poll_id": poll}
    await people.says("V1", 1, options=["Cancel"], **vote)
    shown = await one(client, poll)
    assert (shown["type"], shown["text"]) == ("poll", "Order 7?")
    assert shown["poll"] == {"name": "Order 7?", "options": ["Confirm", "Cancel"], "selectable": 0}
    [voted] = shown["votes"]
    assert (voted["voter"], voted["selectedOptions"], voted["timestamp"]) == (ANNA, ["Cancel"], people.began + 1)
    assert "unreadable" not in voted
    await people.says("V2", 2, options=None, **vote)
    assert [(found["selectedOptions"], found["unreadable"]) for found in (await one(client, poll))["votes"]] == [
        ([], True)
    ]
    await people.says("V3", 3, options=[], **vote)
    assert (await one(client, poll))["votes"] == []


async def test_a_group_names_who_wrote(client: httpx.AsyncClient, people: People) -> None:
    await people.says("M1", 0, lid=ANNA_LID, group=True, push_name="Anna")
    await people.says("M2", 1, phone=None, lid=BEN_LID, group=True)
    await people.says("M3", 2, group=True, from_me=True)
    await people.says("D1", 3, lid=ANNA_LID, group=True, type="delete", target="M2", text="", details=BY_ADMIN)
    await people.says("D2", 3, lid=ANNA_LID, group=True, type="delete", target="M3", text="")
    await people.says("E1", 3, lid=ANNA_LID, group=True, type="edit", target="M3", text="forged")
    shown = (await messages(client, GROUP))["messages"]
    assert [(found["id"], found["author"], found["from"], found["fromLid"], found["text"]) for found in shown] == [
        ("M3", PHONE, PHONE, "777", "M3"),
        ("M2", BEN_LID, BEN_LID, BEN_LID, None),
        ("M1", ANNA, ANNA, ANNA_LID, "M1"),
    ]
    assert {found["chatId"] for found in shown} == {GROUP}
    assert await ids(client) == []


# --- one chat, whatever its address -----------------------------------------------------------------------------------


async def test_a_person_under_a_number_and_a_lid_is_one_chat(client: httpx.AsyncClient, people: People) -> None:
    await people.says("M1", 0, phone=ANNA)
    first = (await chats(client))["chats"][0]["contactId"]
    await people.says("M2", 1, phone=None, lid=ANNA_LID)
    sent = await people.hears(3, 2.5, f"{ANNA_LID}@lid")
    second = (await chats(client))["chats"][0]["contactId"]
    assert first != second
    await people.says("R1", 3, phone=None, lid=ANNA_LID, type="reaction", target="M1", text="👍")
    await people.says("R2", 4, phone=ANNA, type="reaction", target="M1", text="❤")
    await people.are_one(ANNA, ANNA_LID)
    [shown] = (await chats(client))["chats"]
    assert (shown["chatId"], shown["phone"], shown["lid"]) == (f"{ANNA}@c.us", ANNA, ANNA_LID)
    assert shown["contactId"] == first
    for name in (ANNA, f"+{ANNA}", f"{ANNA}@c.us", f"{ANNA_LID}@lid", first, second):
        assert await ids(client, name) == [sent, "M2", "M1"]
    # What both did before it was known that they are one, one of them did.
    found = await one(client, "M1")
    assert [(reaction["from"], reaction["emoji"]) for reaction in found["reactions"]] == [(ANNA, "❤")]


async def test_names_of_chats(client: httpx.AsyncClient, people: People) -> None:
    assert (await messages(client, "4915550000000"))["messages"] == []
    assert (await messages(client, "120363000000000009@g.us"))["messages"] == []
    unknown = await client.get("/instances/shop/chats/c_00000000000000000000/messages")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "Contact c_00000000000000000000 not found")
    for name in ("nobody", "@lid", "x@g.us", "%20"):
        refused = await client.get(f"/instances/shop/chats/{name}/messages")
        assert (refused.status_code, refused.json()["error"]) == (400, "Invalid chatId format")


@pytest.mark.parametrize("prefix", BOTH)
async def test_an_unknown_instance(client: httpx.AsyncClient, people: People, prefix: str) -> None:
    for path in ("chats", f"chats/{ANNA}/messages", "chats/nobody/messages"):
        answer = await client.get(f"{prefix}/nobody/{path}")
        assert (answer.status_code, answer.json()["error"]) == (404, "Instance nobody not found")
        assert (await client.get(f"{prefix}/shop/chats")).status_code == 200


# --- pages ------------------------------------------------------------------------------------------------------------


async def test_pages_of_both_directions_go_back_in_time(client: httpx.AsyncClient, people: People) -> None:
    expected: list[str] = []
    for number in range(12):
        if number % 3 == 1:
            expected.append(await people.hears(number, number / 2))
        else:
            await people.says(f"M{number}", number // 2)
            expected.append(f"M{number}")
        await people.says(f"R{number}", number, type="reaction", target=expected[-1], text="👍")
    whole = await ids(client)
    assert sorted(whole) == sorted(expected)
    for limit in (1, 2, 5, 11, 12):
        first = await ids(client)
        seen, cursor = list[str](), None
        while True:
            page = await messages(client, limit=limit, **({"cursor": cursor} if cursor else {}))
            assert len(page["messages"]) <= limit
            seen += [message["id"] for message in page["messages"]]
            cursor = page["next"]
            if cursor is None:
                break
            # Whatever comes meanwhile moves nothing.
            await people.says(f"NEW{limit}-{len(seen)}", 500)
        assert seen == first


async def test_a_cursor_is_one_word(client: httpx.AsyncClient, people: People) -> None:
    for number in range(3):
        await people.hears(number, number / 3)
        await people.says(f"M{number}", number)
    for path in ("chats", f"chats/{ANNA}/messages"):
        await people.says("B1", 9, phone=BEN)
        answer = await client.get(f"/instances/shop/{path}", params={"limit": 1})
        cursor = answer.json()["next"]
        assert cursor
        assert httpx.QueryParams({"cursor": cursor}).get("cursor") == cursor
        assert not set(cursor) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


async def test_a_cursor_is_of_its_chat_however_that_is_named(client: httpx.AsyncClient, people: People) -> None:
    for number in range(3):
        await people.says(f"A{number}", number, lid="77001")
        await people.says(f"B{number}", number, phone=BEN)
        await people.says(f"G{number}", number, group=True)
    (anna,) = [chat for chat in (await chats(client))["chats"] if chat["phone"] == ANNA]
    names = (ANNA, f"+{ANNA}@c.us", "77001@lid", anna["contactId"])
    for name in names:
        answer = await client.get(f"/instances/shop/chats/{name}/messages", params={"limit": 1})
        cursor = answer.json()["next"]
        assert ANNA not in base64.urlsafe_b64decode(cursor + "==").decode()
        for other in names:
            page = await client.get(f"/instances/shop/chats/{other}/messages", params={"limit": 1, "cursor": cursor})
            assert [message["id"] for message in page.json()["messages"]] == ["A1"]
        for other in (BEN, GROUP, "4990000000"):
            refused = await client.get(f"/instances/shop/chats/{other}/messages", params={"cursor": cursor})
            assert refused.status_code == 400
            assert refused.json()["error"].startswith("cursor belongs to another chat")


async def test_a_cursor_outlives_that_its_person_is_known_better(client: httpx.AsyncClient, people: People) -> None:
    """One who was known by number and, apart from it, by LID turns out to be one person: other contact, same chat."""
    for number in range(2):
        await people.says(f"N{number}", number)
    await people.says("L0", 0, phone=None, lid="77001")
    answer = await client.get(f"/instances/shop/chats/{ANNA}/messages", params={"limit": 1})
    await people.says("BOTH", 5, lid="77001")
    for name in (ANNA, "77001@lid"):
        page = await client.get(f"/instances/shop/chats/{name}/messages", params={"cursor": answer.json()["next"]})
        assert page.status_code == 200
        assert [message["id"] for message in page.json()["messages"]][-1] in ("N0", "L0")


def packed(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


BAD_CURSORS = {
    "empty": "",
    "words": "not a cursor",
    "no base64": "!!!!",
    "no JSON": base64.urlsafe_b64encode(b"hello").decode(),
    "a number": packed(),
    "too short": packed(1),
    "too long": packed(1.0, True, 1, "", 1),
    "wrong types": packed("1", "x", "y", "z"),
    "not whole": packed(1.0, True, 1.5, ""),
    "below nothing": packed(-1.0, True, 1, ""),
    "too large": packed(1e300, True, 1, ""),
    "larger than any column": packed(1.0, True, 10**40, ""),
    "no number at all": packed(float("nan"), True, 1, ""),
    "of no chat": packed(1.0, True, 1, ""),
    "of an earlier version": packed(1.0, True, 1),
    "NUL": packed(1, "\0"),
    "half a surrogate": packed(1, "\ud800"),
    "deep": base64.urlsafe_b64encode(b"[" * 700).decode(),
    "long": "A" * 3_000,
    "not ASCII": "ü",
}


@pytest.mark.parametrize("cursor", BAD_CURSORS.values(), ids=BAD_CURSORS.keys())
@pytest.mark.parametrize("path", ["chats", f"chats/{ANNA}/messages"], ids=["chats", "messages"])
async def test_a_bad_cursor(client: httpx.AsyncClient, people: People, path: str, cursor: str) -> None:
    answer = await client.get(f"/instances/shop/{path}", params={"cursor": cursor})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("cursor ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "201"), ("limit", "2.5"), ("limit", "many"), ("after", "-1"), ("after", "1.5")],
)
async def test_a_bad_number(client: httpx.AsyncClient, people: People, name: str, value: str) -> None:
    answer = await client.get(f"/instances/shop/chats/{ANNA}/messages", params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{name} must be ")


async def test_after_leaves_out_what_was_said_until_then(client: httpx.AsyncClient, people: People) -> None:
    await people.says("M1", 10)
    early, late = await people.hears(1, 10.9), await people.hears(2, 11.2)
    await people.says("M2", 11)
    assert await ids(client, after=people.began + 10) == [late, "M2"]
    assert await ids(client, after=people.began + 9) == [late, "M2", early, "M1"]
    assert await ids(client, after=people.began + 11) == []


async def test_ours_are_shown_as_long_as_those_of_others(edge: Edge, client: httpx.AsyncClient, people: People) -> None:
    old = await people.hears(1, -2 * DAY)
    await people.says("M1", 0)
    assert await ids(client) == ["M1", old]
    edge.with_settings(messages_kept=DAY)
    async with edge.client() as shorter:
        assert await ids(shorter) == ["M1"]
    edge.with_settings(messages_kept=None)
    async with edge.client() as for_ever:
        assert await ids(for_ever) == ["M1", old]


# --- chats ------------------------------------------------------------------------------------------------------------


async def test_chats_with_their_last_message(client: httpx.AsyncClient, people: People) -> None:
    await people.edge.write(lambda tx: tx.chats.set_title(SHOP, GROUP, "Team"))
    await people.says("M1", 0, push_name="Anna")
    await people.says("M2", 2, group=True)
    sent = await people.hears(3, 3, BEN)
    await people.says("R1", 9, type="reaction", target="M1", text="👍")
    found = (await chats(client))["chats"]
    assert [chat["chatId"] for chat in found] == [f"{BEN}@c.us", GROUP, f"{ANNA}@c.us"]
    assert found[0]["lastMessage"] == {"id": sent, "type": "text", "text": "sent 3", "fromMe": True}
    assert (found[0]["phone"], found[0]["lid"], found[0]["isGroup"]) == (BEN, None, False)
    assert found[1] == {
        "chatId": GROUP,
        "contactId": None,
        "isGroup": True,
        "name": "Team",
        "phone": None,
        "lid": None,
        "lastMessageAt": found[1]["lastMessageAt"],
        "lastMessage": {"id": "M2", "type": "text", "text": "M2", "fromMe": False},
    }
    assert found[1]["lastMessageAt"].endswith(".000Z")
    assert (found[2]["name"], found[2]["lastMessage"]["id"]) == ("Anna", "M1")


async def test_a_last_message_is_shown_as_it_is_now(client: httpx.AsyncClient, people: People) -> None:
    await people.says("M1", 0)
    await people.says("M2", 1, phone=BEN)
    sent = await people.hears(3, 2, "203333333333")
    await people.says("E1", 3, type="edit", target="M1", text="better")
    await people.says("E2", 3, phone=BEN, type="delete", target="M2", text="")
    await people.says("E3", 3, phone="203333333333", type="delete", target=sent, text="")
    found = {chat["phone"]: chat["lastMessage"] for chat in (await chats(client))["chats"]}
    assert {phone: last["text"] for phone, last in found.items()} == {
        ANNA: "better",
        BEN: None,
        "203333333333": "sent 3",
    }
    assert found[BEN] == {"id": "M2", "type": "text", "text": None, "fromMe": False}
    await people.says("E4", 4, phone="203333333333", type="delete", target=sent, text="", from_me=True)
    assert (await chats(client))["chats"][0]["lastMessage"]["text"] is None


async def test_pages_of_chats(client: httpx.AsyncClient, people: People) -> None:
    for number in range(7):
        await people.says(f"M{number}", number // 2, phone=f"20500000000{number}")
    whole = [chat["chatId"] for chat in (await chats(client))["chats"]]
    assert len(whole) == 7
    seen: list[str] = []
    page = await chats(client, limit=3)
    while True:
        seen += [chat["chatId"] for chat in page["chats"]]
        if page["next"] is None:
            break
        page = await chats(client, limit=3, cursor=page["next"])
    assert seen == whole


async def test_a_group_in_which_nothing_was_said(client: httpx.AsyncClient, people: People) -> None:
    await people.edge.write(lambda tx: tx.chats.set_title(SHOP, GROUP, "Team"))
    [chat] = (await chats(client))["chats"]
    assert (chat["name"], chat["lastMessageAt"], chat["lastMessage"]) == ("Team", None, None)


async def test_another_number_begins_with_nothing(edge: Edge, client: httpx.AsyncClient, people: People) -> None:
    await people.says("M1", 0)
    await people.hears(1, 1)
    since = people.began + 10

    def link_another(tx: Tx) -> None:
        tx.lifecycles.save(replace(tx.lifecycles.get(SHOP, for_update=True), account_since=since))

    await edge.write(link_another)
    assert (await chats(client))["chats"] == []
    assert await ids(client) == []
    await people.says("M2", 20)
    assert [chat["lastMessage"]["id"] for chat in (await chats(client))["chats"]] == ["M2"]
    assert await ids(client) == ["M2"]


async def test_another_instance_sees_nothing_of_it(edge: Edge, client: httpx.AsyncClient, people: People) -> None:
    await edge.add("other")
    await people.says("M1", 0)
    await people.hears(1, 1)
    assert (await client.get("/instances/other/chats")).json()["chats"] == []
    assert (await client.get(f"/instances/other/chats/{ANNA}/messages")).json()["messages"] == []


# --- what is missing --------------------------------------------------------------------------------------------------


async def test_diagnostics_tell_what_could_not_be_read(edge: Edge, client: httpx.AsyncClient, people: People) -> None:
    shown = (await client.get("/instances/shop/diagnostics")).json()["inbound"]
    nothing = {"count": 0, "latestAt": None, "ids": []}
    assert shown == {"caughtUp": False, "caughtUpAt": None, "lastGapAt": None, "unreadable": nothing}

    def miss(tx: Tx) -> None:
        for number in range(12):
            name = MessageId(f"M{number:02d}")
            tx.missed.add(SHOP, name, f"{ANNA}@s.whatsapp.net", f"{ANNA}@s.whatsapp.net", "undecryptable", number)

    await edge.write(miss)
    await people.says("M11", 0)
    await edge.remember(SHOP, caught_up_at=1_700_000_000.0, last_gap_at=1_700_000_001.0)
    shown = (await client.get("/instances/shop/diagnostics")).json()["inbound"]
    assert (shown["caughtUp"], shown["caughtUpAt"], shown["lastGapAt"]) == (
        True,
        "2023-11-14T22:13:20.000Z",
        "2023-11-14T22:13:21.000Z",
    )
    assert shown["unreadable"] == {
        "count": 11,
        "latestAt": "1970-01-01T00:00:10.000Z",
        "ids": [f"M{number:02d}" for number in range(10, 0, -1)],
    }
    assert ANNA not in json.dumps(shown)
    await edge.see(SHOP, state=State.DISCONNECTED)
    assert not (await client.get("/instances/shop/diagnostics")).json()["inbound"]["caughtUp"]
    assert "wahub_inbound_unreadable 11.0" in (await client.get("/metrics")).text


async def test_the_description_has_both_routes(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    for path in ("/instances/{instance}/chats", "/instances/{instance}/chats/{chat}/messages"):
        names = [parameter["name"] for parameter in paths[path]["get"]["parameters"]]
        assert {"instance", "limit", "cursor"} <= set(names)


@pytest.mark.parametrize(
    ("chat", "shown"),
    [
        (ANNA, "***1111"),
        (f"{ANNA}@c.us", "***1111"),
        ("+20 111-111-1112", "***1112"),
        ("%32%30%31%31%31%31%31%31%31%31%31%33", "***1113"),
        ("20.111.111.1114%0a", "***1114"),
        ("c_00000000000000abcdef", "***cdef"),
        ("12", "****"),
    ],
)
async def test_no_number_reaches_the_log_however_it_is_spelled(
    client: httpx.AsyncClient, people: People, caplog: pytest.LogCaptureFixture, chat: str, shown: str
) -> None:
    caplog.set_level(logging.INFO)
    with structlog.testing.capture_logs() as logs:
        await client.get(f"/instances/shop/chats/{chat}/messages")
    [line] = [log["event"] for log in logs if "GET" in log["event"]]
    assert line.endswith(f" GET /instances/shop/chats/{shown}/messages")
