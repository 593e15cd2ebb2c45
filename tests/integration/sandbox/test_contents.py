"""What phones send as unmodified Baileys reads it, and files both ways over the TLS port."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import pytest_asyncio
from tests.integration.sandbox.baileys_client import BaileysClient
from tests.integration.sandbox.conftest import Box, Link

ALICE, BOB = "491510000001", "491510000002"
FILE = bytes(range(256)) * 300
FILES: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"kind": "image", "mime": "image/png", "caption": "look"}, "imageMessage", {"caption": "look"}),
    ({"kind": "video", "mime": "video/mp4"}, "videoMessage", {}),
    ({"kind": "audio", "mime": "audio/ogg; codecs=opus", "voice": True}, "audioMessage", {"ptt": True}),
    ({"kind": "sticker", "mime": "image/webp"}, "stickerMessage", {}),
    ({"kind": "document", "mime": "text/plain", "fileName": "a.txt"}, "documentMessage", {"fileName": "a.txt"}),
    (
        {"kind": "document", "mime": "text/plain", "fileName": "b.txt", "caption": "with words"},
        "documentMessage",
        {"fileName": "b.txt", "caption": "with words"},
    ),
]


@pytest_asyncio.fixture(loop_scope="session")
async def alice(box: Box, link: Link) -> None:
    await box.post("/control/phones", {"number": BOB})
    await link("alice", ALICE)


async def sent(box: Box, baileys: BaileysClient, **body: Any) -> dict[str, Any]:
    """What Alice's client makes of a message from Bob's phone."""
    message_id = (await box.post(f"/control/phones/{BOB}/send", {"to": ALICE, **body}))["messageId"]
    message = await baileys.expect("alice", "message", lambda m: m["id"] == message_id)
    assert message.get("stub") is None
    return message


@pytest.mark.usefixtures("alice")
async def test_files_from_a_phone(box: Box, baileys: BaileysClient) -> None:
    encoded = base64.b64encode(FILE).decode()
    for media, field, more in FILES:
        message = await sent(box, baileys, media={**media, "base64": encoded})
        part = message["content"][field]
        assert message["media"] == encoded
        assert part["mimetype"] == media["mime"]
        assert {key: part[key] for key in more} == more
        assert int(part["fileLength"]) == len(FILE)
    assert (await box.stats())["violations"] == []


@pytest.mark.usefixtures("alice")
async def test_files_to_a_phone(box: Box, baileys: BaileysClient) -> None:
    encoded = base64.b64encode(FILE).decode()
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("image", {"mimetype": "image/png", "caption": "look"}),
        ("video", {"mimetype": "video/mp4"}),
        ("audio", {"mimetype": "audio/mpeg", "seconds": 3}),
        ("document", {"mimetype": "text/plain", "fileName": "a.txt"}),
        ("sticker", {"mimetype": "image/webp"}),
    ]
    for after, (kind, more) in enumerate(kinds):
        to = f"{BOB}@s.whatsapp.net"
        await baileys.command("media", "alice", to=to, base64=encoded, kind=kind, more=more)
        (shown,) = (await box.get(f"/control/phones/{BOB}/messages?after={after}&wait=15000"))["messages"]
        assert (shown["type"], shown["media"]["mime"], shown["media"]["size"]) == (kind, more["mimetype"], len(FILE))
        file = await box.http.get(f"/control/phones/{BOB}/messages/{shown['messageId']}/media")
        assert (file.status_code, file.content) == (200, FILE)
    assert (await box.stats())["violations"] == []


@pytest.mark.usefixtures("alice")
async def test_a_file_that_cannot_be_had(box: Box, baileys: BaileysClient) -> None:
    await box.post("/control/faults", {"match": {"stanza": "download"}, "do": {"mediaError": {"status": 404}}})
    message = await sent(box, baileys, media={"kind": "image", "base64": base64.b64encode(FILE).decode()})
    assert (message["media"], message["mediaError"]) == (None, 404)
    assert (await box.get("/control/faults"))["faults"] == []


@pytest.mark.usefixtures("alice")
async def test_replies_quotes_edits_and_deletions(box: Box, baileys: BaileysClient) -> None:
    first = (await sent(box, baileys, text="choose"))["id"]
    quote = (await sent(box, baileys, text="quoting", quote=first))["content"]["extendedTextMessage"]
    assert quote["contextInfo"]["stanzaId"] == first
    assert quote["contextInfo"]["quotedMessage"]["conversation"] == "choose"
    button = (await sent(box, baileys, buttonReply={"id": "b1", "text": "Yes"}, quote=first))["content"]
    assert button["buttonsResponseMessage"]["selectedButtonId"] == "b1"
    assert button["buttonsResponseMessage"]["selectedDisplayText"] == "Yes"
    assert button["buttonsResponseMessage"]["contextInfo"]["stanzaId"] == first
    row = (await sent(box, baileys, listReply={"id": "r1", "text": "Row"}))["content"]["listResponseMessage"]
    assert (row["singleSelectReply"]["selectedRowId"], row["title"]) == ("r1", "Row")
    reaction = (await sent(box, baileys, reaction={"messageId": first, "emoji": "❤"}))["content"]["reactionMessage"]
    assert (reaction["key"]["id"], reaction["text"]) == (first, "❤")
    withdrawn = (await sent(box, baileys, reaction={"messageId": first, "emoji": ""}))["content"]["reactionMessage"]
    assert withdrawn["text"] == ""
    await box.post(f"/control/phones/{BOB}/send", {"to": ALICE, "edit": {"messageId": first, "text": "better"}})
    edit = await baileys.expect("alice", "update", lambda event: "better" in str(event["updates"]))
    assert edit["updates"][0]["key"]["id"] == first
    revoked = (await sent(box, baileys, delete={"messageId": first}))["content"]["protocolMessage"]
    assert (revoked["key"]["id"], revoked.get("type", "REVOKE")) == (first, "REVOKE")
    assert (await box.stats())["violations"] == []
