"""Calls, presence and status posts as unmodified Baileys takes them."""

from __future__ import annotations

from typing import Any

import pytest_asyncio
from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box, Link

ALICE, BOB = "491510000001", "491510000002"
BOB_PN = f"{BOB}@s.whatsapp.net"


@pytest_asyncio.fixture(loop_scope="session")
async def bob_lid(box: Box, link: Link) -> str:
    """Alice's client is linked; Bob's LID."""
    lid = (await box.post("/control/phones", {"number": BOB}))["lid"]
    await link("alice", ALICE)
    return str(lid)


async def test_calls(box: Box, baileys: BaileysClient, bob_lid: str) -> None:
    async def heard(call_id: str, status: str) -> dict[str, Any]:
        def fits(event: dict[str, Any]) -> bool:
            return (event["value"][0]["id"], event["value"][0]["status"]) == (call_id, status)

        return dict((await baileys.expect("alice", "call", fits))["value"][0])

    one = (await box.post(f"/control/phones/{BOB}/call", {"to": ALICE, "video": True}))["callId"]
    offer = await heard(one, "offer")
    assert (offer["from"], offer["chatId"], offer["isVideo"], offer["isGroup"]) == (BOB_PN, BOB_PN, True, False)
    await box.post(f"/control/phones/{BOB}/hangup", {"callId": one, "as": "timeout"})
    assert (await heard(one, "timeout"))["isVideo"] is True

    two = (await box.post(f"/control/phones/{BOB}/call", {"to": ALICE, "addressing": "lid"}))["callId"]
    offer = await heard(two, "offer")
    assert (offer["from"], offer["callerPn"], offer["isVideo"]) == (bob_lid, BOB_PN, False)
    await baileys.command("call", "alice", method="rejectCall", args=[two, bob_lid])
    await baileys.expect("alice", "result")
    events = (await box.get(f"/control/phones/{BOB}/calls?after=0"))["events"]
    assert [(event["callId"], event["from"], event["state"]) for event in events] == [(two, ALICE, "reject")]
    assert (await box.stats())["violations"] == []


async def test_presence_of_contacts(box: Box, baileys: BaileysClient, bob_lid: str) -> None:
    async def seen(chat: str, state: str) -> None:
        def fits(event: dict[str, Any]) -> bool:
            presence = event["presence"]
            states = [shown["lastKnownPresence"] for shown in presence["presences"].values()]
            return presence["id"] == chat and states == [state]

        await baileys.expect("alice", "presence", fits)

    # By hand, for Baileys says so only once it knows its own name.
    available = {"tag": "presence", "attrs": {"type": "available", "name": "Alice"}}
    await baileys.command("node", "alice", node=available)
    await baileys.command("subscribe", "alice", to=BOB_PN)
    await seen(BOB_PN, "unavailable")
    for state in ("available", "unavailable"):
        await box.post(f"/control/phones/{BOB}/presence", {"state": state})
        await seen(BOB_PN, state)
    for state, shown in (("composing", "composing"), ("recording", "recording"), ("paused", "available")):
        await box.post(f"/control/phones/{BOB}/presence", {"state": state, "to": ALICE})
        await seen(BOB_PN, shown)
    group = (await box.post("/control/groups", {"subject": "Club", "owner": BOB, "members": [ALICE]}))["id"]
    await box.post(f"/control/phones/{BOB}/presence", {"state": "composing", "to": group})
    await seen(group, "composing")
    await baileys.command("presence", "alice", type="composing", to=group)
    await baileys.command("call", "alice", method="groupMetadata", args=[group])
    await baileys.expect("alice", "result")
    events = (await box.get(f"/control/phones/{BOB}/presence?after=0"))["events"]
    assert (events[-1]["from"], events[-1]["chat"], events[-1]["state"]) == (ALICE, group, "composing")


async def test_status_posts(box: Box, baileys: BaileysClient, bob_lid: str) -> None:
    async def post(text: str, to: str) -> dict[str, Any]:
        message_id = (await box.post(f"/control/phones/{BOB}/send", {"to": to, "text": text}))["messageId"]
        return await baileys.expect("alice", "message", lambda m: m["id"] == message_id and m.get("content"))

    await post("hello", ALICE)
    for text in ("my day", "my evening"):
        message = await post(text, "status@broadcast")
        key = message["key"]
        assert (message["text"], key["remoteJid"], key["participant"]) == (text, "status@broadcast", BOB_PN)
        assert key["fromMe"] is False
    options = {"statusJidList": [BOB_PN, f"{ALICE}@s.whatsapp.net"]}
    arguments = ["status@broadcast", {"text": "from a client"}, options]
    await baileys.command("call", "alice", method="sendMessage", args=arguments)
    shown = (await box.get(f"/control/phones/{BOB}/messages?after=0&wait=15000"))["messages"]
    assert [(message["chat"], message["from"], message["text"]) for message in shown] == [
        ("status@broadcast", ALICE, "from a client")
    ]
    stats = await box.stats()
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 0)
