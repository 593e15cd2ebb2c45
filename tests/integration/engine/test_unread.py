"""Messages that cannot be read: told once, had again from their sender or from the own phone, and never told twice."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import spooled, until

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.instance import Disconnect
from wahub.ports.engine import CaughtUp, Closed, Inbound, Missed

PEER = "15550002222"
OTHER = "15550003333"


async def _say(box: Box, number: str, to: str, **what: Any) -> str:
    return str((await box.post(f"phones/{number}/send", to=to, **what))["messageId"])


async def _corrupt(box: Box, account: Account, nth: int = 1, times: int = 1) -> None:
    """For our device only: the phone of the account gets its copy as it is."""
    await box.fault({"number": account.number, "stanza": "message", "nth": nth}, times, corrupt={})


def _texts(account: Account) -> list[str]:
    assert account.watcher is not None
    return [event.body["text"] for event in account.watcher.all(Inbound) if event.body["type"] == "text"]


async def test_it_is_told_and_comes_again_from_its_sender(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    await _corrupt(box, account, times=2)
    message = await _say(box, PEER, account.number, text="again, please")
    before = int(time.time())
    event = await account.watcher.first(Inbound)
    assert (event.body["message_id"], event.body["text"]) == (message, "again, please")
    [missed] = account.watcher.all(Missed)
    assert (missed.message_id, missed.why) == (message, "undecryptable")
    assert missed.chat == missed.sender == event.body["chat"]
    assert abs(missed.at - before) < 60


async def test_in_a_group_it_is_told_once_too(account: Account, box: Box) -> None:
    await box.phone(PEER)
    made = await box.post("groups", subject="Ours", owner=PEER, members=[account.number])
    await _say(box, PEER, made["id"], text="the first brings the key")
    await until(lambda: _texts(account) == ["the first brings the key"])
    await _corrupt(box, account)
    message = await _say(box, PEER, made["id"], text="again, please")
    await until(lambda: _texts(account)[1:] == ["again, please"])
    assert [(missed.message_id, missed.chat) for missed in account.watcher.all(Missed)] == [(message, made["id"])]


async def test_the_own_phone_sends_what_its_sender_does_not(account: Account, box: Box) -> None:
    """Baileys asks the phone some seconds after it asked the sender, who does not answer here."""
    await box.phone(PEER)
    made = await box.post("groups", subject="Ours", owner=PEER, members=[account.number])
    await _say(box, PEER, account.number, text="before")
    await _say(box, PEER, made["id"], text="before, in the group")
    await until(lambda: len(_texts(account)) == 2)
    await box.fault({"number": PEER}, times=2, noRetry={})
    await _corrupt(box, account, times=2)
    direct = await _say(box, PEER, account.number, text="to you alone")
    group = await _say(box, PEER, made["id"], text="to all")
    await until(lambda: len(account.watcher.all(Missed)) == 2)
    await until(lambda: len(_texts(account)) == 4, timeout=20)
    bodies = {event.body["message_id"]: event.body for event in account.watcher.all(Inbound)[-2:]}
    lid = str((await box.get(f"phones/{PEER}"))["lid"])
    assert bodies[direct]["text"] == "to you alone"
    assert (bodies[direct]["sender_phone"], bodies[direct]["chat_phone"]) == (PEER, PEER)
    assert (bodies[group]["text"], bodies[group]["chat"], bodies[group]["sender"]) == ("to all", made["id"], lid)
    assert (await box.get("stats"))["violations"] == []


async def test_a_resent_message_survives_the_process(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    engine = await start_engine(box_settings, fault="after_spool")
    await away.login(engine)
    await box.phone(PEER)
    await away.watcher.first(CaughtUp)
    await box.fault({"number": PEER}, noRetry={})
    await _corrupt(box, away)
    message = await _say(box, PEER, away.number, text="from my phone")
    assert (await away.watcher.first(Closed, timeout=20)).reason is Disconnect.ENGINE_DIED
    assert away.watcher.all(Inbound) == []
    watcher = await away.login(engine)
    event = await watcher.first(Inbound)
    assert (event.body["message_id"], event.body["text"], event.body["sender_phone"]) == (
        message,
        "from my phone",
        PEER,
    )
    await watcher.first(CaughtUp)
    assert _texts(away) == ["from my phone"]


async def test_a_second_copy_is_no_gap(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    await box.fault({"number": account.number, "stanza": "message"}, duplicate={})
    await _say(box, PEER, account.number, text="once")
    await until(lambda: _texts(account) == ["once"])
    await _say(box, PEER, account.number, text="after")
    await until(lambda: _texts(account) == ["once", "after"])
    assert account.watcher.all(Missed) == []


@pytest.mark.parametrize("written_by", ["status", "own phone"])
async def test_what_nobody_would_hear_of_is_no_gap(account: Account, box: Box, written_by: str) -> None:
    await box.phone(PEER)
    await _say(box, PEER, account.number, text="so that we know each other")
    await until(lambda: _texts(account))
    await _corrupt(box, account)
    if written_by == "status":
        await _say(box, PEER, "status@broadcast", text="my day")
    else:
        await box.fault({"number": account.number}, lidMigration={"number": PEER})
    await _say(box, PEER, account.number, text="after it")
    await until(lambda: "after it" in _texts(account))
    assert account.watcher.all(Missed) == []


async def test_what_another_account_left_is_not_told_as_ours(box: Box, away: Account, engine: BaileysEngine) -> None:
    """The instance was linked to another number before its last message was stored."""
    await away.login(engine)
    await box.phone(PEER)
    message = await _say(box, PEER, away.number, text="to the old number")
    await away.watcher.first(Inbound)
    await away.link.close()
    other = Account(box, OTHER)
    await other.pair(engine)
    await other.link.close()
    away.spool.rename(other.spool)
    watcher = await other.login(engine)
    await watcher.first(CaughtUp)
    assert watcher.all(Inbound) == []
    [missed] = watcher.all(Missed)
    assert (missed.message_id, missed.why) == (message, "other_account")
    assert [path.suffix for path in other.spool.iterdir()] == [".foreign"]
    await _say(box, PEER, OTHER, text="to the new number")
    assert (await watcher.first(Inbound)).body["text"] == "to the new number"


@pytest.mark.parametrize("key", [b"another key", None], ids=["another key", "no key"])
async def test_what_waits_in_the_spool_under_a_lost_key_is_missed_and_told_when_the_key_is_back(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings, key: bytes | None
) -> None:
    engine = await start_engine(box_settings, encryption_key=b"the right key")
    await away.login(engine)
    await box.phone(PEER)
    message = await _say(box, PEER, away.number, text="nobody stored me")
    # What is not acknowledged stays in the spool.
    await away.watcher.first(Inbound)
    await away.link.close()
    for _ in range(2):
        await engine.stop()
        engine = await start_engine(box_settings, encryption_key=key)
        watcher = await away.login(engine)
        await watcher.first(CaughtUp)
        [missed] = watcher.all(Missed)
        assert (missed.message_id, missed.chat, missed.sender, missed.why) == (message, "", "", "undecryptable")
        assert abs(missed.at - time.time()) < 120
        assert watcher.all(Inbound) == []
        await away.link.close()
    await engine.stop()
    watcher = await away.login(await start_engine(box_settings, encryption_key=b"the right key"))
    told = await watcher.first(Inbound)
    assert (told.body["message_id"], told.body["text"]) == (message, "nobody stored me")
    assert watcher.all(Missed) == []
    away.link.ack_inbound(told.seq)
    await until(lambda: not spooled(away.spool))
