"""Files: encryption as the clients do it, and what a phone refuses to open."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path

import pytest
from tests.unit.sandbox.phone_fakes import FakeNetwork

from wahub.sandbox.model import RefusedError
from wahub.sandbox.phone.content import Media, Text
from wahub.sandbox.phone.media import DamagedMediaError, Sealed, seal, unseal
from wahub.sandbox.phone.phone import Phone
from wahub.sandbox.proto import e2e_pb2
from wahub.sandbox.world import World

ANNA, BEN = "201000000001", "201000000002"
RECORDED = json.loads((Path(__file__).parents[2] / "fixtures" / "media.json").read_text())


@pytest.mark.parametrize("recorded", RECORDED, ids=[recorded["kind"] for recorded in RECORDED])
def test_the_same_bytes_as_baileys_makes(recorded: dict[str, str]) -> None:
    data, key = (base64.b64decode(recorded[name]) for name in ("data", "key"))
    sealed = seal(recorded["kind"], data, key)
    assert base64.b64encode(sealed.body).decode() == recorded["body"]
    assert base64.b64encode(sealed.sha256).decode() == recorded["sha256"]
    assert base64.b64encode(sealed.enc_sha256).decode() == recorded["encSha256"]
    assert unseal(recorded["kind"], sealed) == data


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 5000])
def test_any_size_comes_back(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    assert unseal("video", seal("video", data)) == data


def test_a_key_is_used_once() -> None:
    assert seal("image", b"x").key != seal("image", b"x").key


@pytest.mark.parametrize("change", ["body", "hash", "kind", "plain_hash", "length"])
def test_what_does_not_fit_is_refused(change: str) -> None:
    sealed, kind = seal("image", b"a file"), "image"
    if change == "body":
        body = bytes((sealed.body[0] ^ 1,)) + sealed.body[1:]
        sealed = dataclasses.replace(sealed, body=body, enc_sha256=seal("image", b"").sha256)
    elif change == "hash":
        sealed = dataclasses.replace(sealed, enc_sha256=bytes(32))
    elif change == "kind":
        kind = "audio"
    elif change == "plain_hash":
        sealed = dataclasses.replace(sealed, sha256=bytes(32))
    else:
        sealed = dataclasses.replace(sealed, length=5)
    with pytest.raises(DamagedMediaError):
        unseal(kind, sealed)


def test_a_wrong_mac_is_found_even_if_the_hash_fits() -> None:
    sealed = seal("image", b"a file")
    body = sealed.body[:-1] + bytes((sealed.body[-1] ^ 1,))
    with pytest.raises(DamagedMediaError, match="MAC"):
        unseal("image", Sealed(sealed.key, body, sealed.sha256, _sha256(body), sealed.length))


def _sha256(data: bytes) -> bytes:
    return seal("image", data).sha256


@pytest.fixture
def phones() -> tuple[FakeNetwork, Phone, Phone]:
    network = FakeNetwork()
    world = World(network)
    return network, world.create_phone(ANNA)[0], world.create_phone(BEN)[0]


@pytest.mark.parametrize(
    ("media", "kind", "voice"),
    [
        (Media("image", "image/png", b"i", caption="look"), "image", False),
        (Media("video", "video/mp4", b"v"), "video", False),
        (Media("audio", "audio/ogg", b"a", voice=True), "ptt", True),
        (Media("audio", "audio/mpeg", b"a"), "audio", False),
        (Media("sticker", "image/webp", b"s"), "sticker", False),
        (Media("document", "text/plain", b"d", file_name="d.txt"), "document", False),
        (Media("document", "text/plain", b"d", caption="c", file_name="d.txt"), "document", False),
    ],
)
def test_every_kind(phones: tuple[FakeNetwork, Phone, Phone], media: Media, kind: str, voice: bool) -> None:
    network, anna, ben = phones
    first = anna.send(BEN, Text("first"))
    message_id = anna.send(BEN, media, first)
    (shown,) = ben.state.inbox.after(1)
    assert (shown["type"], shown["text"]) == (media.kind, media.caption or None)
    assert shown["media"] == {
        "kind": media.kind,
        "mime": media.mime,
        "fileName": media.file_name or None,
        "caption": media.caption or None,
        "size": 1,
        "voice": voice,
    }
    assert shown["quote"]["messageId"] == first
    assert ben.open_media(message_id) == (media.mime, media.data)
    stanza = network.sent("message", f"{ANNA}@s.whatsapp.net")[-1]
    assert stanza.attrs["type"] == "media"
    participants = stanza.child("participants")
    assert participants is not None
    assert {node.children[0].attrs["mediatype"] for node in participants.children} == {kind}


def test_a_captioned_document_is_wrapped(phones: tuple[FakeNetwork, Phone, Phone]) -> None:
    _, anna, ben = phones
    message_id = anna.send(BEN, Media("document", "text/plain", b"d", caption="c"))
    message = e2e_pb2.Message.FromString(ben.state.kept[message_id].message)
    assert message.document_with_caption_message.message.document_message.caption == "c"


def test_files_that_are_gone_or_damaged(phones: tuple[FakeNetwork, Phone, Phone]) -> None:
    network, anna, ben = phones
    message_id = anna.send(BEN, Media("image", "image/png", b"picture"))
    path = e2e_pb2.Message.FromString(ben.state.kept[message_id].message).image_message.direct_path
    body = network.media.get(path)
    assert body is not None
    network.media.put(path, body[:-1] + bytes((body[-1] ^ 1,)))
    with pytest.raises(RefusedError) as damaged:
        ben.open_media(message_id)
    network.media.clear()
    with pytest.raises(RefusedError) as gone:
        ben.open_media(message_id)
    text = anna.send(BEN, Text("no file"))
    with pytest.raises(RefusedError) as none:
        ben.open_media(text)
    assert (damaged.value.status, gone.value.status, none.value.status) == (409, 404, 404)
