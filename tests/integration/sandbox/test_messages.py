"""Messages between unmodified Baileys and the sandbox's phones, end to end encrypted."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box, Link

ALICE = "491510000001"
BOB = "491510000002"
CAROL = "491510000003"
TEXTS = ["plain", "سلام عليكم", "👩‍👩‍👧‍👦 family", "long " * 800, " spaces \n and lines "]


async def arrived(box: Box, number: str, count: int) -> list[dict[str, Any]]:
    """The phone's inbox once it holds that many messages (or the wait is over)."""
    messages: list[dict[str, Any]] = []
    while len(messages) < count:
        after = messages[-1]["seq"] if messages else 0
        more = (await box.get(f"/control/phones/{number}/messages?after={after}&wait=15000"))["messages"]
        if not more:
            break
        messages += more
    return messages


async def test_texts_to_a_phone_arrive_in_order(box: Box, baileys: BaileysClient, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)

    for index, text in enumerate(TEXTS):
        await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text=text, id=f"3EB0TEST{index}")
        await baileys.expect("alice", "ack", lambda ack, index=index: ack["id"] == f"3EB0TEST{index}")

    inbox = await arrived(box, BOB, len(TEXTS))
    assert [message["text"] for message in inbox] == TEXTS
    assert [message["messageId"] for message in inbox] == [f"3EB0TEST{index}" for index in range(len(TEXTS))]
    assert {message["from"] for message in inbox} == {ALICE}
    assert not any(message["duplicate"] for message in inbox)
    copies = await arrived(box, ALICE, len(TEXTS))
    assert [copy["fromMe"] for copy in copies] == [True] * len(TEXTS)
    await baileys.expect("alice", "receipt", lambda r: r["id"] == "3EB0TEST0" and r["from"].startswith(BOB))
    assert (await box.stats())["violations"] == []


async def test_texts_from_a_phone_arrive_in_order(box: Box, baileys: BaileysClient, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)

    ids = [(await box.post(f"/control/phones/{BOB}/send", {"to": ALICE, "text": text}))["messageId"] for text in TEXTS]

    for message_id, text in zip(ids, TEXTS, strict=True):
        message = await baileys.expect("alice", "message", lambda m, message_id=message_id: m["id"] == message_id)
        assert message["text"] == text
        assert message["key"]["remoteJid"] == f"{BOB}@s.whatsapp.net"
        assert message["key"]["fromMe"] is False
    assert (await box.stats())["violations"] == []


async def test_a_conversation_goes_back_and_forth(box: Box, baileys: BaileysClient, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)
    for turn in range(5):
        await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text=f"ping {turn}", id=f"PING{turn}")
        await baileys.expect("alice", "ack", lambda ack, turn=turn: ack["id"] == f"PING{turn}")
        assert (await arrived(box, BOB, turn + 1))[-1]["text"] == f"ping {turn}"
        await box.post(f"/control/phones/{BOB}/send", {"to": ALICE, "text": f"pong {turn}"})
        await baileys.expect("alice", "message", lambda m, turn=turn: m["text"] == f"pong {turn}")
    stats = await box.stats()
    assert stats["messages"]["undecryptable"] == 0
    assert stats["violations"] == []


async def test_messages_wait_for_a_client_that_was_away(
    box: Box, baileys: BaileysClient, link: Link, tmp_path: Path
) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)
    await baileys.command("end", "alice")
    await baileys.expect("alice", "close")
    ids = [
        (await box.post(f"/control/phones/{BOB}/send", {"to": ALICE, "text": f"while away {index}"}))["messageId"]
        for index in range(20)
    ]

    await baileys.command("start", "alice", dir=str(tmp_path / "alice"))
    await baileys.expect("alice", "open")

    got = [await baileys.expect("alice", "message") for _ in ids]
    assert [message["id"] for message in got] == ids
    await baileys.expect("alice", "drained")
    await baileys.command("end", "alice")
    await baileys.expect("alice", "close")
    await baileys.command("start", "alice", dir=str(tmp_path / "alice"))
    await baileys.expect("alice", "open")
    await baileys.expect("alice", "drained")
    assert baileys.seen("alice", "message") == []


async def test_messages_wait_for_a_phone_that_is_off(box: Box, baileys: BaileysClient, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)
    await box.post(f"/control/phones/{BOB}/online", {"online": False})
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="later", id="LATER")
    await baileys.expect("alice", "ack", lambda ack: ack["id"] == "LATER")
    assert await box.get(f"/control/phones/{BOB}/messages?after=0") == {"messages": []}

    await box.post(f"/control/phones/{BOB}/online", {"online": True})

    assert [message["text"] for message in await arrived(box, BOB, 1)] == ["later"]


async def test_two_companions_of_one_account_and_a_peer_all_see_a_message(
    box: Box, baileys: BaileysClient, link: Link
) -> None:
    await link("alice", ALICE)
    await link("bob", BOB)
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="before the tablet", id="BEFORE")
    await baileys.expect("bob", "message", lambda m: m["id"] == "BEFORE")

    await link("tablet", BOB)
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="after the tablet", id="AFTER")

    for name in ("bob", "tablet"):
        message = await baileys.expect(name, "message", lambda m: m["id"] == "AFTER")
        assert message["text"] == "after the tablet"
    await baileys.command("send", "tablet", to=f"{ALICE}@s.whatsapp.net", text="answer", id="ANSWER")
    assert (await baileys.expect("alice", "message", lambda m: m["id"] == "ANSWER"))["text"] == "answer"
    copy = await baileys.expect("bob", "message", lambda m: m["id"] == "ANSWER")
    assert copy["text"] == "answer"
    assert copy["key"]["fromMe"] is True
    assert copy["key"]["remoteJid"] == f"{ALICE}@s.whatsapp.net"
    assert (await box.stats())["violations"] == []


async def test_read_receipts_and_typing_reach_the_other_side(box: Box, baileys: BaileysClient, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="read me", id="READ")
    await arrived(box, BOB, 1)
    await box.post(f"/control/phones/{BOB}/read", {"messageId": "READ"})
    await baileys.expect("alice", "receipt", lambda r: r["id"] == "READ" and r.get("type") == "read")

    await baileys.command("presence", "alice", type="composing", to=f"{BOB}@s.whatsapp.net")
    await baileys.command("presence", "alice", type="paused", to=f"{BOB}@s.whatsapp.net")
    await baileys.command("call", "alice", tag="who", method="onWhatsApp", args=[BOB, CAROL])
    who = (await baileys.expect("alice", "result"))["value"]
    assert [entry["jid"] for entry in who] == [f"{BOB}@s.whatsapp.net"]
    events = (await box.get(f"/control/phones/{BOB}/presence?after=0"))["events"]
    assert [event["state"] for event in events if event["from"] == ALICE] == ["composing", "paused"]


async def test_a_message_without_ack_and_one_refused(box: Box, baileys: BaileysClient, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)
    match = {"number": BOB, "stanza": "message"}
    await box.post("/control/faults", {"match": match, "do": {"noAck": {}}, "times": 1})
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="no ack", id="NOACK")
    assert (await arrived(box, BOB, 1))[0]["messageId"] == "NOACK"
    await box.post("/control/faults", {"match": {**match, "nth": 1}, "do": {"ackError": {"code": 463}}, "times": 1})
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="refused", id="REFUSED")
    assert (await baileys.expect("alice", "ack", lambda a: a["id"] == "REFUSED"))["error"] == "463"
    await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="fine", id="FINE")
    assert "error" not in await baileys.expect("alice", "ack", lambda a: a["id"] == "FINE")
    assert [message["messageId"] for message in await arrived(box, BOB, 2)] == ["NOACK", "FINE"]
    assert [ack["id"] for ack in baileys.seen("alice", "ack")] == []
    assert (await box.get("/control/faults"))["faults"] == []


async def test_a_second_message_under_one_id_is_shown_as_a_duplicate(
    box: Box, baileys: BaileysClient, link: Link
) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)
    for _ in range(2):
        await baileys.command("send", "alice", to=f"{BOB}@s.whatsapp.net", text="again", id="SAME")
        await baileys.expect("alice", "ack", lambda ack: ack["id"] == "SAME")
    assert [message["duplicate"] for message in await arrived(box, BOB, 2)] == [False, True]
    assert (await box.stats())["messages"]["duplicates"] == 1


async def test_a_corrupted_message_is_asked_for_again(box: Box, baileys: BaileysClient, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)
    body = {"match": {"number": ALICE, "stanza": "message"}, "do": {"corrupt": {}}, "times": 1}
    await box.post("/control/faults", body)
    sent = await box.post(f"/control/phones/{BOB}/send", {"to": ALICE, "text": "twice"})
    message = await baileys.expect("alice", "message", lambda m: m["id"] == sent["messageId"] and m["text"])
    assert message["text"] == "twice"
    assert (await box.stats())["messages"]["undecryptable"] == 1


async def test_media_goes_up_and_comes_down(box: Box, baileys: BaileysClient, link: Link) -> None:
    await link("alice", ALICE)
    await link("bob", BOB)
    picture = base64.b64encode(bytes(range(256)) * 64).decode()
    await baileys.command("media", "alice", to=f"{BOB}@s.whatsapp.net", base64=picture)
    assert (await baileys.expect("bob", "message"))["media"] == picture
