"""What arrives against the sandbox: each type with its details, and where it came from, by number and by LID."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import Watcher, until

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.ports.engine import CaughtUp, Inbound, Mapped

PEER = "15550002222"
OTHER = "15550003333"
PICTURE = b"not really a picture"


async def _say(box: Box, number: str, to: str, **what: Any) -> str:
    return str((await box.post(f"phones/{number}/send", to=to, **what))["messageId"])


async def _lid(box: Box, number: str) -> str:
    return str((await box.get(f"phones/{number}"))["lid"]).removesuffix("@lid")


async def _group(box: Box, account: Account, *members: str, **more: Any) -> str:
    made = await box.post("groups", subject="Ours", owner=members[0], members=[account.number, *members[1:]], **more)
    return str(made["id"])


async def _told(watcher: Watcher, count: int) -> list[dict[str, Any]]:
    """The messages told, without notices of groups."""
    await until(lambda: len(_messages(watcher)) >= count)
    return _messages(watcher)


def _messages(watcher: Watcher) -> list[dict[str, Any]]:
    return [dict(event.body) for event in watcher.all(Inbound) if event.body["type"] not in ("group_update", "call")]


async def test_each_type_has_its_details(account: Account, box: Box) -> None:
    await box.phone(PEER)
    to = account.number
    first = await _say(box, PEER, to, text="first")
    media = {"kind": "image", "base64": base64.b64encode(PICTURE).decode(), "mime": "image/jpeg", "caption": "look"}
    await _say(box, PEER, to, media=media, quote=first)
    voice = {"kind": "audio", "base64": base64.b64encode(PICTURE).decode(), "voice": True}
    await _say(box, PEER, to, media=voice)
    await _say(box, PEER, to, location={"latitude": 52.52, "longitude": -13.405, "name": "Here"})
    await _say(box, PEER, to, contact={"name": "Grace", "phone": OTHER})
    await _say(box, PEER, to, poll={"name": "Which?", "options": ["a", "b"], "selectable": 0})
    await _say(box, PEER, to, reaction={"messageId": first, "emoji": "👍"})
    await _say(box, PEER, to, reaction={"messageId": first, "emoji": ""})
    await _say(box, PEER, to, edit={"messageId": first, "text": "changed"})
    await _say(box, PEER, to, delete={"messageId": first})
    await _say(box, PEER, to, buttonReply={"id": "yes-1", "text": "Yes"})
    await _say(box, PEER, to, listReply={"id": "row-2", "text": "Second"})
    bodies = await _told(account.watcher, 12)
    assert [(body["type"], body["text"], body["target"]) for body in bodies] == [
        ("text", "first", None),
        ("image", "look", None),
        ("audio", None, None),
        ("location", "Here", None),
        ("contact", "Grace", None),
        ("poll", "Which?", None),
        ("reaction", "👍", first),
        ("reaction", "", first),
        ("edit", "changed", first),
        ("delete", None, first),
        ("button_reply", "Yes", None),
        ("list_reply", "Second", None),
    ]
    text, image, audio, location, contact, poll, *_, button, row = [body["details"] for body in bodies]
    assert text == {}
    lid = await _lid(box, PEER)
    quoted = {"messageId": first, "from": PEER, "fromLid": lid, "type": "text", "text": "first"}
    assert image["quoted"] == quoted
    digest = hashlib.sha256(PICTURE).hexdigest()
    assert image["media"].items() >= {
        "kind": "image", "mime": "image/jpeg", "size": len(PICTURE), "sha256": digest, "viewOnce": False,
    }.items()  # fmt: skip
    assert audio["media"].items() >= {"kind": "audio", "voice": True, "fileName": None}.items()
    assert location["location"] == {
        "latitude": "52.52", "longitude": "-13.405", "name": "Here", "address": None, "live": False,
    }  # fmt: skip
    assert [(card["name"], card["phones"]) for card in contact["contacts"]] == [("Grace", [OTHER])]
    assert poll["poll"] == {"name": "Which?", "options": ["a", "b"], "selectable": 0}
    assert button["reply"] == {"id": "yes-1", "text": "Yes"}
    assert row["reply"] == {"id": "row-2", "text": "Second"}


@pytest.mark.parametrize("addressing", ["pn", "lid"])
async def test_a_direct_chat_names_both_addresses(account: Account, box: Box, addressing: str) -> None:
    await box.phone(PEER)
    await _say(box, PEER, account.number, text="hi", addressing=addressing)
    [body] = await _told(account.watcher, 1)
    lid = await _lid(box, PEER)
    jid = f"{lid}@lid" if addressing == "lid" else f"{PEER}@s.whatsapp.net"
    assert (body["chat"], body["sender"], body["from_me"]) == (jid, jid, False)
    assert (body["chat_phone"], body["chat_lid"]) == (body["sender_phone"], body["sender_lid"]) == (PEER, lid)


@pytest.mark.parametrize("addressing", ["pn", "lid"])
async def test_what_the_own_phone_writes_names_the_partner(account: Account, box: Box, addressing: str) -> None:
    await box.phone(PEER)
    await _say(box, account.number, PEER, text="from my phone", addressing=addressing)
    [body] = await _told(account.watcher, 1)
    assert (body["from_me"], body["chat_phone"], body["chat_lid"]) == (True, PEER, await _lid(box, PEER))
    assert (body["sender_phone"], body["sender_lid"]) == (account.number, await _lid(box, account.number))


async def test_a_hidden_person_is_a_lid(account: Account, box: Box) -> None:
    await box.post("phones", number=PEER, name="Hidden", hidden=True)
    await _say(box, PEER, account.number, text="who am I")
    [body] = await _told(account.watcher, 1)
    lid = await _lid(box, PEER)
    assert (body["chat_phone"], body["chat_lid"], body["sender_phone"], body["sender_lid"]) == (None, lid, None, lid)


@pytest.mark.parametrize("addressing", ["lid", "pn"])
async def test_a_group_names_its_writers_and_whom_they_quote(account: Account, box: Box, addressing: str) -> None:
    await box.phone(PEER)
    await box.phone(OTHER)
    group = await _group(box, account, PEER, OTHER, addressing=addressing)
    first = await _say(box, PEER, group, text="who comes?")
    await _told(account.watcher, 1)
    await until(lambda: account.watcher.all(Mapped))
    await box.received(OTHER, 1)
    await _say(box, OTHER, group, text="me", quote=first)
    await box.received(account.number, 2)
    await _say(box, account.number, group, text="me too", quote=first)
    question, answer, own = await _told(account.watcher, 3)
    for body, writer in ((question, PEER), (answer, OTHER), (own, account.number)):
        assert (body["chat"], body["chat_phone"], body["chat_lid"]) == (group, None, None)
        assert (body["sender_phone"], body["sender_lid"]) == (writer, await _lid(box, writer))
    quoted = {
        "messageId": first, "from": PEER, "fromLid": await _lid(box, PEER), "type": "text", "text": "who comes?",
    }  # fmt: skip
    assert answer["details"] == own["details"] == {"quoted": quoted}
    assert own["from_me"] is True


async def test_statuses_are_left_out(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await _say(box, PEER, account.number, text="so that we know each other")
    await _told(account.watcher, 1)
    await _say(box, PEER, "status@broadcast", text="my day")
    await _say(box, PEER, account.number, text="after it")
    assert [body["text"] for body in await _told(account.watcher, 2)][1:] == ["after it"]


async def test_statuses_are_told_when_they_are_wanted(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    watcher = await away.login(await start_engine(box_settings, statuses=True))
    await box.phone(PEER)
    await _say(box, PEER, away.number, text="so that we know each other")
    await _told(watcher, 1)
    await _say(box, PEER, "status@broadcast", text="my day")
    status = (await _told(watcher, 2))[1]
    assert (status["chat"], status["sender_phone"], status["text"]) == ("status@broadcast", PEER, "my day")
    assert (status["chat_phone"], status["chat_lid"]) == (None, None)


async def test_a_number_and_a_lid_that_belong_together_are_told_once_for_each_link(
    account: Account, box: Box, engine: BaileysEngine
) -> None:
    await box.phone(PEER)
    for text in ("one", "two"):
        await _say(box, PEER, account.number, text=text, addressing="lid")
    await _told(account.watcher, 2)
    person = Mapped(PEER, await _lid(box, PEER))
    assert account.watcher.all(Mapped).count(person) == 1
    await account.link.close()
    await account.login(engine)
    await _say(box, PEER, account.number, text="three", addressing="lid")
    await until(lambda: person in account.watcher.seen)


async def test_a_chat_that_moves_to_the_lid_is_told_by_the_own_phone(account: Account, box: Box) -> None:
    """The peer never wrote: nobody but the phone can have said it."""
    await box.phone(PEER)
    await box.fault({"number": account.number}, lidMigration={"number": PEER})
    person = Mapped(PEER, await _lid(box, PEER))
    await until(lambda: person in account.watcher.seen)
    assert _messages(account.watcher) == []


async def test_what_was_announced_and_what_came(account: Account, box: Box, engine: BaileysEngine) -> None:
    await account.watcher.first(CaughtUp)
    await account.link.close()
    await box.phone(PEER)
    for text in ("one", "two", "three"):
        await _say(box, PEER, account.number, text=text)
    watcher = await account.login(engine)
    caught_up = await watcher.first(CaughtUp)
    assert (caught_up.announced, caught_up.received) == (3, 3)
    assert [body["text"] for body in _messages(watcher)] == ["one", "two", "three"]
