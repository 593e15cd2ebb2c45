"""Phones and the real, unmodified Baileys: every kind of content, retries, sessions begun from both sides at once."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
import segno
from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box

ANNA, BEN = "201000000001", "201000000002"
BEN_JID = f"{BEN}@s.whatsapp.net"


class Town:
    """A sandbox with Anna and Ben; Anna's companion is a real Baileys."""

    def __init__(self, http: httpx.AsyncClient, baileys: BaileysClient, directory: Path) -> None:
        self.http = http
        self.baileys = baileys
        self.directory = directory
        self._seen = {ANNA: 0, BEN: 0}

    async def post(self, path: str, body: dict[str, Any], status: int) -> Any:
        response = await self.http.post(f"/control/phones{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    async def link(self, name: str = "anna", number: str = ANNA) -> None:
        """Pair a Baileys by the picture of its QR code and wait until it is open."""
        await self.baileys.command("start", name, dir=str(self.directory / name))
        picture = io.BytesIO()
        segno.make((await self.baileys.expect(name, "qr"))["qr"]).save(picture, kind="png", scale=5)
        png = base64.b64encode(picture.getvalue()).decode()
        assert (await self.post(f"/{number}/scan", {"png": png}, 200))["device"] >= 1
        await self.baileys.expect(name, "close", lambda event: event["code"] == 515)
        await self.baileys.command("start", name, dir=str(self.directory / name))
        await self.baileys.expect(name, "open")

    async def send(self, number: str, to: str, **content: Any) -> str:
        return str((await self.post(f"/{number}/send", {"to": to, **content}, 202))["messageId"])

    async def next_message(self, number: str) -> dict[str, Any]:
        """The next message that a phone shows."""
        url = f"/control/phones/{number}/messages?after={self._seen[number]}&wait=15000"
        messages = (await self.http.get(url)).json()["messages"]
        assert messages, "the phone shows nothing new"
        self._seen[number] += 1
        return dict(messages[0])

    async def stats(self) -> dict[str, Any]:
        return dict((await self.http.get("/control/stats")).json())


@pytest_asyncio.fixture(loop_scope="session")
async def town(box: Box, baileys: BaileysClient, tmp_path: Path) -> Town:
    town = Town(box.http, baileys, tmp_path)
    for number, name in ((ANNA, "Anna"), (BEN, "Ben")):
        await town.post("", {"number": number, "name": name}, 201)
    return town


async def test_texts_copies_receipts_and_presence(town: Town) -> None:
    await town.link()
    text = "مرحبا \U0001f600 " + "x" * 4000
    await town.baileys.command("send", "anna", to=BEN_JID, text=text, id="OUT1")
    received = await town.next_message(BEN)
    assert (received["messageId"], received["text"], received["from"]) == ("OUT1", text, ANNA)
    copy = await town.next_message(ANNA)
    assert (copy["fromMe"], copy["chat"], copy["text"], copy["deviceId"]) == (True, BEN, text, 1)
    await town.baileys.expect("anna", "receipt", lambda event: event["id"] == "OUT1")
    await town.post(f"/{BEN}/read", {"messageId": "OUT1"}, 200)
    await town.baileys.expect("anna", "receipt", lambda event: event["id"] == "OUT1" and event.get("type") == "read")

    answer = await town.send(BEN, ANNA, text="answer")
    got = await town.baileys.expect("anna", "message", lambda event: event["id"] == answer)
    assert (got["text"], got["key"]["fromMe"]) == ("answer", False)
    own = await town.send(ANNA, BEN, text="from my phone")
    got = await town.baileys.expect("anna", "message", lambda event: event["id"] == own)
    assert (got["text"], got["key"]["fromMe"], got["key"]["remoteJid"]) == ("from my phone", True, BEN_JID)
    assert (await town.next_message(BEN))["text"] == "from my phone"

    await town.baileys.command("presence", "anna", type="composing", to=BEN_JID)
    await town.baileys.command("send", "anna", to=BEN_JID, text="after typing")
    assert (await town.next_message(BEN))["text"] == "after typing"
    events = (await town.http.get(f"/control/phones/{BEN}/presence")).json()["events"]
    assert (events[-1]["from"], events[-1]["state"]) == (ANNA, "composing")
    assert (await town.stats())["violations"] == []


async def test_every_kind_of_content_both_ways(town: Town) -> None:
    await town.link()
    question = await town.send(BEN, ANNA, text="question")
    key = (await town.baileys.expect("anna", "message", lambda event: event["id"] == question))["key"]
    place = {"degreesLatitude": 30.5, "degreesLongitude": 31.5, "name": "Cairo"}
    sent: list[tuple[dict[str, Any], str]] = [
        ({"location": place}, "location"),
        ({"contacts": {"displayName": "Cy", "contacts": [{"displayName": "Cy", "vcard": "BEGIN:VCARD"}]}}, "contact"),
        ({"poll": {"name": "Come?", "values": ["yes", "no"], "selectableCount": 1}}, "poll"),
        ({"react": {"text": "\U0001f44d", "key": key}}, "reaction"),
    ]
    for content, kind in sent:
        await town.baileys.command("call", "anna", tag=kind, method="sendMessage", args=[BEN_JID, content])
        assert (await town.next_message(BEN))["type"] == kind

    from_phone: list[dict[str, Any]] = [
        {"text": "quoting", "quote": question},
        {"location": {"latitude": 1, "longitude": 2}},
        {"contact": {"name": "Di", "phone": "201000000009"}},
        {"reaction": {"messageId": question, "emoji": "\U0001f44d"}},
    ]
    for content in from_phone:
        message_id = await town.send(BEN, ANNA, **content)
        got = await town.baileys.expect("anna", "message", lambda event, wanted=message_id: event["id"] == wanted)
        assert got.get("stub") is None
    await town.send(BEN, ANNA, edit={"messageId": question, "text": "better question"})
    await town.baileys.expect("anna", "update", lambda event: "better question" in str(event["updates"]))
    await town.send(BEN, ANNA, delete={"messageId": question})
    stats = await town.stats()
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 0)


async def test_a_companion_that_lost_its_sessions_gets_the_message_after_its_retry(town: Town) -> None:
    await town.link()
    await town.send(BEN, ANNA, text="one")
    await town.baileys.expect("anna", "message", lambda event: event["text"] == "one")
    await town.baileys.command("send", "anna", to=BEN_JID, text="two")
    assert (await town.next_message(BEN))["text"] == "two"
    await town.send(BEN, ANNA, text="three")
    await town.baileys.expect("anna", "message", lambda event: event["text"] == "three")
    for session in (town.directory / "anna").glob("session-*"):
        session.unlink()
    lost = await town.send(BEN, ANNA, text="needs a retry")
    got = await town.baileys.expect("anna", "message", lambda event: event["text"] == "needs a retry")
    assert got["id"] == lost
    assert (await town.stats())["messages"]["undecryptable"] >= 1


async def test_both_sides_begin_at_once_and_everything_arrives(town: Town) -> None:
    await town.link()
    wanted = []
    for turn in range(4):
        await town.baileys.command("send", "anna", to=BEN_JID, text=f"c{turn}", id=f"ID{turn}")
        wanted.append(await town.send(BEN, ANNA, text=f"b{turn}"))
    for message_id in wanted:
        await town.baileys.expect("anna", "message", lambda event, i=message_id: event["id"] == i and event["text"])
    shown = set()
    while len(shown) < 4:
        shown.add((await town.next_message(BEN))["text"])
    assert shown == {"c0", "c1", "c2", "c3"}
    assert (await town.stats())["violations"] == []


async def test_two_linked_accounts_and_a_second_companion(town: Town) -> None:
    await town.link()
    await town.link("ben", BEN)
    await town.link("anna2", ANNA)
    await town.baileys.command("send", "anna", to=BEN_JID, text="to everybody", id="ALL1")
    for name in ("ben", "anna2"):
        got = await town.baileys.expect(name, "message", lambda event: event["id"] == "ALL1")
        assert got["text"] == "to everybody"
    assert (await town.next_message(BEN))["text"] == "to everybody"
    devices = (await town.http.get(f"/control/phones/{ANNA}")).json()["devices"]
    assert [device["connected"] for device in devices] == [True, True]
    phone_message = await town.send(ANNA, BEN, text="from the phone")
    for name in ("anna", "anna2", "ben"):
        await town.baileys.expect(name, "message", lambda event: event["id"] == phone_message)
