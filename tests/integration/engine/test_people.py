"""Who is on WhatsApp, who sees us type, and what a send costs in queries."""

from __future__ import annotations

import time

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box, new_message_id
from tests.integration.engine.waiting import PATIENCE, until

from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.ids import ChatId
from wahub.ports.engine import Acked, SendAcked, SendNotStarted, SendRefused, SendUncertain

PEER = "15550002222"
NOBODY = "15559999999"


async def _states(box: Box, count: int) -> list[str]:
    """What the peer's phone saw of us, once there is that much."""
    deadline = time.monotonic() + PATIENCE
    while True:
        events = (await box.get(f"phones/{PEER}/presence?after=0"))["events"]
        if len(events) >= count:
            return [event["state"] for event in events]
        assert time.monotonic() < deadline, events


async def test_typing_is_seen_and_ends(account: Account, box: Box) -> None:
    await box.phone(PEER)
    chat = ChatId.parse(PEER)
    assert await account.send(PEER, "so that we know each other") == SendAcked()
    assert await account.link.show_typing(chat, True) is True
    assert await account.link.show_typing(chat, True) is True
    assert await account.link.show_typing(chat, False) is True
    assert await _states(box, 5) == ["available", "composing", "composing", "paused", "unavailable"]
    assert (await box.get("stats"))["violations"] == []


async def test_available_until_the_last_chat_stops(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await box.phone("15550003333")
    assert await account.send(PEER, "so that we know each other") == SendAcked()
    for number, typing in ((PEER, True), ("15550003333", True), (PEER, False), ("15550003333", False)):
        assert await account.link.show_typing(ChatId.parse(number), typing)
    assert await _states(box, 4) == ["available", "composing", "paused", "unavailable"]
    trace = [entry["stanza"]["attrs"] for entry in await box.trace(account.number, "presence")]
    # Without a push name the number stands for it.
    assert [attrs.get("name") for attrs in trace if attrs.get("type") == "available"][:1] == [account.number]


async def test_what_a_lost_link_answers(account: Account) -> None:
    await account.link.close()
    assert await account.link.show_typing(ChatId.parse(PEER), True) is False
    assert await account.link.exists(ChatId.parse(PEER)) is None


async def test_who_exists(account: Account, box: Box) -> None:
    await box.phone(PEER)
    assert await account.link.exists(ChatId.parse(PEER)) is True
    assert await account.link.exists(ChatId.parse(NOBODY)) is False
    await box.fault({"number": PEER}, notOnWhatsApp={})
    assert await account.link.exists(ChatId.parse(PEER)) is False
    assert await account.link.exists(ChatId.parse(PEER)) is True
    assert await account.link.exists(ChatId.parse((await box.get(f"phones/{PEER}"))["lid"])) is None


async def test_no_answer_is_no_answer(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await account.settled()
    await box.fault({"number": account.number, "stanza": "iq"}, dropStanza={})
    started = time.monotonic()
    assert await account.link.exists(ChatId.parse(PEER)) is None
    assert 4 < time.monotonic() - started < PATIENCE
    assert await account.link.exists(ChatId.parse(PEER)) is True


async def test_who_is_hidden_gets_nothing(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await box.fault({"number": PEER}, times=0, notOnWhatsApp={})
    assert await account.send(PEER, "anybody?") == SendNotStarted("not_on_whatsapp", permanent=True)
    assert (await box.get("stats"))["messages"]["accepted"] == 0


async def test_a_group_that_the_account_is_not_in_any_more_refuses_for_good(account: Account, box: Box) -> None:
    for number in (PEER, "15550003333"):
        await box.phone(number)
    members = [account.number, "15550003333"]
    group = str((await box.post("groups", subject="Ours", owner=PEER, members=members))["id"])
    assert await account.send(group, "hello") == SendAcked()
    await box.post(f"groups/{group}/members", remove=[account.number])
    for text in ("still there?", "and now?"):
        assert await account.send(group, text) == SendNotStarted("not_in_group", permanent=True)
    assert await account.send("120363000000000009@g.us", "nobody") == SendNotStarted("group_not_found", permanent=True)
    await box.post(f"groups/{group}/members", add=[account.number])
    assert await account.send(group, "back") == SendAcked()
    assert [message["text"] for message in await box.received(PEER, 2)] == ["hello", "back"]
    # Nothing was put on the wire that WhatsApp would refuse.
    assert (await box.get("stats"))["violations"] == []


async def _questions(box: Box, account: Account) -> int:
    asked = await box.trace(account.number, "iq")
    return sum(entry["direction"] == "in" and entry["stanza"]["attrs"].get("xmlns") == "usync" for entry in asked)


async def test_a_send_asks_once_for_the_devices_and_never_again(account: Account, box: Box) -> None:
    await box.phone(PEER)
    before = await _questions(box, account)
    assert await account.send(PEER, "one") == SendAcked()
    first = await _questions(box, account)
    assert first - before == 1
    for text in ("two", "three"):
        assert await account.send(PEER, text) == SendAcked()
    assert await _questions(box, account) == first


@pytest.mark.parametrize("code", [400, 429, 463, 479, 500])
async def test_every_refusal_has_its_code_and_the_link_goes_on(account: Account, box: Box, code: int) -> None:
    await box.phone(PEER)
    await box.fault({"number": PEER}, ackError={"code": code})
    assert await account.send(PEER, "refused") == SendRefused(code)
    assert await account.send(PEER, "taken") == SendAcked()
    assert [message["text"] for message in await box.received(PEER, 1)] == ["taken"]


async def test_lost_late_and_dropped(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    """A lost ack was delivered, a late one is evidence, of a dropped message the phone knows nothing."""
    # What is answered, and all that goes before a message, must not take so long on a busy machine.
    await away.login(await start_engine(box_settings, ack_timeout=3))
    await box.phone(PEER)
    assert await away.send(PEER, "so that we know each other") == SendAcked()
    lost, late, dropped = (new_message_id() for _ in range(3))
    await box.fault({"number": PEER}, noAck={})
    assert await away.send(PEER, "lost", lost) == SendUncertain("ack_timeout")
    await box.fault({"number": PEER}, lateAck={"ms": 4000})
    assert await away.send(PEER, "late", late) == SendUncertain("ack_timeout")
    await until(lambda: Acked(late, None) in away.watcher.seen)
    await box.fault({"number": PEER}, dropStanza={})
    assert await away.send(PEER, "dropped", dropped) == SendUncertain("ack_timeout")
    assert [message["messageId"] for message in await box.received(PEER, 3)][1:] == [lost, late]
    assert away.watcher.all(Acked) == [Acked(late, None)]
