"""LIDs, moved chats, deliveries out of order and unreadable ones, as unmodified Baileys takes them."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from typing import Any

import pytest_asyncio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box, Link

from wahub.sandbox.phone.polls import vote_key
from wahub.sandbox.proto import e2e_pb2

ALICE, BOB, HIDDEN = "491510000001", "491510000002", "491510000009"
BOB_PN = f"{BOB}@s.whatsapp.net"


class Town:
    """Alice's client, Bob's phone, and somebody whose number nobody knows."""

    def __init__(self, box: Box, baileys: BaileysClient) -> None:
        self.box = box
        self.baileys = baileys
        self.lids: dict[str, str] = {}

    async def send(self, number: str, to: str = ALICE, **content: Any) -> str:
        return str((await self.box.post(f"/control/phones/{number}/send", {"to": to, **content}))["messageId"])

    async def heard(self, message_id: str) -> dict[str, Any]:
        return await self.baileys.expect("alice", "message", lambda m: m["id"] == message_id and m.get("content"))

    async def say(self, to: str, message_id: str) -> None:
        await self.baileys.command("send", "alice", to=to, text=f"text of {message_id}", id=message_id)
        await self.baileys.expect("alice", "ack", lambda ack: ack["id"] == message_id and "error" not in ack)

    async def shown(self, number: str, message_id: str) -> dict[str, Any]:
        after = 0
        while True:
            url = f"/control/phones/{number}/messages?after={after}&wait=15000"
            messages = (await self.box.get(url))["messages"]
            assert messages, "the phone shows nothing new"
            for message in messages:
                if message["messageId"] == message_id:
                    return dict(message)
            after = messages[-1]["seq"]


@pytest_asyncio.fixture(loop_scope="session")
async def town(box: Box, baileys: BaileysClient, link: Link) -> Town:
    town = Town(box, baileys)
    for number in (ALICE, BOB, HIDDEN):
        phone = await box.post("/control/phones", {"number": number, "hidden": number == HIDDEN})
        town.lids[number] = phone["lid"]
    await link("alice", ALICE)
    return town


async def test_somebody_known_by_lid_alone(town: Town) -> None:
    lid = town.lids[HIDDEN]
    message = await town.heard(await town.send(HIDDEN, text="guess who"))
    assert (message["text"], message["key"]["remoteJid"]) == ("guess who", lid)
    assert message["key"].get("remoteJidAlt") is None
    await town.say(lid, "ANSWER")
    assert (await town.shown(HIDDEN, "ANSWER"))["text"] == "text of ANSWER"
    await town.box.post(f"/control/phones/{HIDDEN}/read", {"messageId": "ANSWER"})
    receipt = await town.baileys.expect("alice", "receipt", lambda r: r["id"] == "ANSWER" and r.get("type") == "read")
    assert receipt["from"] == lid
    await town.baileys.command("call", "alice", method="onWhatsApp", args=[HIDDEN])
    assert (await town.baileys.expect("alice", "result"))["value"] == []
    stats = await town.box.stats()
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 0)


async def test_a_chat_moves_from_number_to_lid(town: Town) -> None:
    before = await town.heard(await town.send(BOB, text="by number"))
    assert before["key"]["remoteJid"] == BOB_PN
    await town.say(BOB_PN, "BEFORE")
    fault = {"match": {"number": ALICE}, "do": {"lidMigration": {"number": BOB}}}
    await town.box.post("/control/faults", fault)
    after = await town.heard(await town.send(BOB, text="by LID"))
    assert (after["key"]["remoteJid"], after["key"]["remoteJidAlt"]) == (town.lids[BOB], BOB_PN)
    for message_id, to in (("BY-LID", town.lids[BOB]), ("BY-NUMBER", BOB_PN)):
        await town.say(to, message_id)
        shown = await town.shown(BOB, message_id)
        assert (shown["chat"], shown["from"], shown["text"]) == (ALICE, ALICE, f"text of {message_id}")
    own = await town.heard(await town.send(ALICE, to=BOB, text="from her own phone"))
    assert (own["key"]["fromMe"], own["key"]["remoteJid"]) == (True, town.lids[BOB])
    stats = await town.box.stats()
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 0)


async def test_a_poll_of_a_client_is_voted_on_before_and_after_the_move(town: Town) -> None:
    poll = {"name": "Come?", "values": ["yes", "no"], "selectableCount": 1}
    await town.baileys.command("say", "alice", to=BOB_PN, content={"poll": poll}, id="POLL")
    secret = b64decode((await town.baileys.expect("alice", "sent", lambda event: event["id"] == "POLL"))["secret"])
    await town.shown(BOB, "POLL")
    numbers = (f"{ALICE}@s.whatsapp.net", BOB_PN)
    lids = (town.lids[ALICE], town.lids[BOB])
    for options, addressing, (creator, voter) in (
        (["yes"], "pn", numbers), (["no"], "lid", lids), ([], "lid", lids),
    ):  # fmt: skip
        body = {"pollId": "POLL", "options": options, "addressing": addressing}
        vote_id = (await town.box.post(f"/control/phones/{BOB}/vote", body))["messageId"]
        message = await town.heard(vote_id)
        assert message["key"]["remoteJid"] == voter
        vote = message["content"]["pollUpdateMessage"]["vote"]
        sealed, iv = b64decode(vote["encPayload"]), b64decode(vote["encIv"])
        plain = AESGCM(vote_key(secret, "POLL", creator, voter)).decrypt(iv, sealed, f"POLL\0{voter}".encode())
        chosen = list(e2e_pb2.PollVoteMessage.FromString(plain).selected_options)
        assert chosen == [hashlib.sha256(option.encode()).digest() for option in options]


async def test_out_of_order_twice_and_unreadable(town: Town) -> None:
    await town.heard(await town.send(BOB, text="first"))

    async def arm(do: dict[str, Any], times: int = 1) -> None:
        match = {"number": ALICE, "deviceId": 1, "stanza": "message"}
        await town.box.post("/control/faults", {"match": match, "do": do, "times": times})

    await arm({"reorder": {"ms": 20_000}})
    one, two = [await town.send(BOB, text=text) for text in ("one", "two")]
    order = [await town.baileys.expect("alice", "message", lambda m: m["id"] in (one, two)) for _ in range(2)]
    assert [message["text"] for message in order] == ["two", "one"]
    await arm({"duplicate": {}})
    twice = await town.send(BOB, text="twice")
    await town.heard(twice)
    await arm({"corrupt": {}}, times=3)
    unreadable = await town.send(BOB, text="the fourth try")
    assert (await town.heard(unreadable))["text"] == "the fourth try"
    assert [message["id"] for message in town.baileys.seen("alice", "message") if message.get("content")] == []
    stats = await town.box.stats()
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 1)
    # Three times the unreadable one; the second copy of the duplicate was not waiting for an ack any more.
    assert stats["messages"]["nacked"] == 3
