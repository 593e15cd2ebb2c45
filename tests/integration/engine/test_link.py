"""Links against the sandbox: real Baileys, real encryption, real Node."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box, new_message_id
from tests.integration.engine.waiting import spooled, until

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.instance import Disconnect
from wahub.domain.session import CREDS
from wahub.ports.engine import (
    Acked,
    CaughtUp,
    Closed,
    Inbound,
    Opened,
    QrShown,
    Receipted,
    SendAcked,
    SendNotStarted,
    SendRefused,
    SendUncertain,
)

PEER = "15550002222"


async def test_pairs_logs_in_and_catches_up(engine: BaileysEngine, box: Box) -> None:
    account = Account(box, "15550001111")
    await account.pair(engine)
    opened = await account.watcher.first(Opened)
    assert opened.me.phone == account.number
    assert opened.me.lid
    await account.watcher.first(CaughtUp)
    assert [type(event) for event in account.watcher.seen] == [Opened, CaughtUp]
    assert CREDS in account.vault.values


async def test_a_text_goes_out_and_is_acked(account: Account, box: Box) -> None:
    await box.phone(PEER)
    for number, text in enumerate(["مرحبا 👋", "x" * 4000, "plain"]):
        identity = new_message_id()
        assert await account.send(PEER, text, identity) == SendAcked()
        message = (await box.received(PEER, number + 1))[-1]
        assert (message["messageId"], message["text"]) == (identity, text)
    assert account.watcher.all(Acked) == []
    await until(lambda: {receipt.kind for receipt in account.watcher.all(Receipted)} == {"delivered", "sender"})
    assert {receipt.chat for receipt in account.watcher.all(Receipted)} == {f"{PEER}@s.whatsapp.net"}
    assert (await box.get("stats"))["violations"] == []


async def test_a_text_comes_in_with_its_sender(account: Account, box: Box) -> None:
    await box.phone(PEER)
    sent = await box.post(f"phones/{PEER}/send", to=account.number, text="hello 👋")
    inbound = await account.watcher.first(Inbound)
    body = inbound.body
    assert (body["message_id"], body["type"], body["text"]) == (sent["messageId"], "text", "hello 👋")
    assert (body["sender_phone"], body["from_me"]) == (PEER, False)
    assert body["sender_lid"]
    assert body["push_name"] == "Person 22"
    assert abs(body["timestamp"] - time.time()) < 60


async def test_messages_are_reported_in_the_order_they_came(account: Account, box: Box) -> None:
    """The first of a new contact has more to do than those that follow at its heels."""
    await box.phone(PEER)
    texts = [f"number {number}" for number in range(20)]
    for text in texts:
        await box.post(f"phones/{PEER}/send", to=account.number, text=text)
    await account.watcher.first(Inbound, after=19)
    assert [event.body["text"] for event in account.watcher.all(Inbound)] == texts


async def test_own_phone_s_messages_are_marked(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await box.post(f"phones/{account.number}/send", to=PEER, text="from the phone")
    body = (await account.watcher.first(Inbound)).body
    assert (body["from_me"], body["text"], body["sender_phone"]) == (True, "from the phone", account.number)


async def test_an_unacknowledged_message_is_replayed_until_it_is(
    account: Account, box: Box, engine: BaileysEngine
) -> None:
    await box.phone(PEER)
    await box.post(f"phones/{PEER}/send", to=account.number, text="keep me")
    first = await account.watcher.first(Inbound)
    await account.link.close()
    again = await account.login(engine)
    replayed = await again.first(Inbound)
    assert replayed == first
    account.link.ack_inbound(replayed.seq)
    await until(lambda: not spooled(account.spool))
    await account.link.close()
    third = await account.login(engine)
    await third.first(CaughtUp)
    assert third.all(Inbound) == []


async def test_what_came_while_away_is_reported_before_caught_up(
    account: Account, box: Box, engine: BaileysEngine
) -> None:
    await box.phone(PEER)
    await account.link.close()
    for number in range(5):
        await box.post(f"phones/{PEER}/send", to=account.number, text=f"offline {number}")
    watcher = await account.login(engine)
    await watcher.first(CaughtUp)
    texts = [event.body["text"] for event in watcher.seen if isinstance(event, Inbound)]
    assert texts == [f"offline {number}" for number in range(5)]
    assert watcher.seen.index(watcher.all(CaughtUp)[0]) > watcher.seen.index(watcher.all(Inbound)[-1])


async def test_comes_back_after_the_process_is_killed(away: Account, box: Box, own_engine: BaileysEngine) -> None:
    await box.phone(PEER)
    await away.login(own_engine)
    os.kill(own_engine.pids[0], signal.SIGKILL)
    assert (await away.watcher.first(Closed)).reason is Disconnect.ENGINE_DIED
    await away.login(own_engine)
    assert await away.send(PEER, "again") == SendAcked()


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ({"streamError": {"code": 515}}, Disconnect.RESTART_REQUIRED),
        ({"streamError": {"code": 503}}, Disconnect.UNAVAILABLE),
        ({"streamError": {"code": 500}}, Disconnect.BAD_SESSION),
        ({"replaced": {}}, Disconnect.REPLACED),
        ({"drop": {}}, Disconnect.CONNECTION_CLOSED),
    ],
)
async def test_why_links_end(account: Account, box: Box, do: dict[str, dict[str, object]], reason: Disconnect) -> None:
    device = (await box.get(f"phones/{account.number}"))["devices"][0]["id"]
    await box.post(f"phones/{account.number}/devices/{device}/inject", fault=do)
    assert (await account.watcher.first(Closed)).reason is reason


async def test_removed_on_the_phone(account: Account, box: Box, engine: BaileysEngine) -> None:
    device = (await box.get(f"phones/{account.number}"))["devices"][0]["id"]
    assert (await box.http.delete(f"/control/phones/{account.number}/devices/{device}")).status_code < 300
    assert (await account.watcher.first(Closed)).reason is Disconnect.LOGGED_OUT
    again = await account.connect(engine)
    assert (await again.first(Closed)).reason is Disconnect.LOGGED_OUT


async def test_logout_unlinks_at_the_server(account: Account, box: Box) -> None:
    await account.link.logout()
    assert account.watcher.link.closed
    await until(lambda: account.watcher.all(Closed))
    assert account.watcher.all(Closed)[0].reason is Disconnect.LOGGED_OUT
    assert (await box.get(f"phones/{account.number}"))["devices"] == []


async def test_banned_at_login(account: Account, box: Box, engine: BaileysEngine) -> None:
    await account.link.close()
    await box.fault({"number": account.number, "stanza": "login"}, failure={"reason": 403})
    assert (await (await account.connect(engine)).first(Closed)).reason is Disconnect.BANNED


async def test_codes_that_run_out(start_engine: StartEngine, box: Box, box_settings: BaileysSettings) -> None:
    engine = await start_engine(box_settings, qr_first_ms=300, qr_next_ms=100)
    watcher = await Account(box, "15550003333").connect(engine)
    assert (await watcher.first(Closed)).reason is Disconnect.QR_EXPIRED
    shown = watcher.all(QrShown)
    assert [code.ttl for code in shown] == [0.3] + [0.1] * (len(shown) - 1)
    assert len({code.text for code in shown}) == len(shown) > 1


async def test_ack_errors_and_silence(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    # What is answered, and all that goes before a message, must not take so long on a busy machine.
    await away.login(await start_engine(box_settings, ack_timeout=3))
    await box.phone(PEER)
    assert await away.send(PEER, "warm") == SendAcked()
    await box.fault({"stanza": "message"}, ackError={"code": 463})
    assert await away.send(PEER, "locked") == SendRefused(463)
    await box.fault({"stanza": "message"}, noAck={})
    assert await away.send(PEER, "silence") == SendUncertain("ack_timeout")
    await box.fault({"stanza": "message"}, lateAck={"ms": 4000})
    late = new_message_id()
    assert await away.send(PEER, "late", late) == SendUncertain("ack_timeout")
    await until(lambda: Acked(late, None) in away.watcher.seen)


async def test_nobody_there_is_permanent(account: Account) -> None:
    result = await account.send("15559999999", "anybody?")
    assert result == SendNotStarted("not_on_whatsapp", permanent=True)


async def test_a_send_when_the_connection_breaks_is_uncertain(account: Account, box: Box) -> None:
    await box.phone(PEER)
    assert await account.send(PEER, "warm") == SendAcked()
    await box.fault({"stanza": "message"}, noAck={})
    sending = asyncio.create_task(account.send(PEER, "gone?"))
    await box.received(PEER, 2)
    device = (await box.get(f"phones/{account.number}"))["devices"][0]["id"]
    await box.post(f"phones/{account.number}/devices/{device}/inject", fault={"drop": {}})
    assert await sending == SendUncertain("link_closed")


async def test_the_process_dies_during_a_send(away: Account, box: Box, own_engine: BaileysEngine) -> None:
    await box.phone(PEER)
    await away.login(own_engine)
    await box.fault({"stanza": "message"}, noAck={})
    sending = asyncio.create_task(away.send(PEER, "gone?"))
    await box.received(PEER, 1)
    os.kill(own_engine.pids[0], signal.SIGKILL)
    assert await sending == SendUncertain("engine_died")


async def test_an_expired_term_sends_nothing(away: Account, box: Box, own_engine: BaileysEngine) -> None:
    """The process is frozen over the end of the term: the send that waits in its pipe must not leave when it wakes."""
    await box.phone(PEER)
    # For the login and the first message on a busy machine.
    await away.login(own_engine, term=6)
    assert await away.send(PEER, "in time") == SendAcked()
    pid = own_engine.pids[0]
    os.kill(pid, signal.SIGSTOP)
    sending = asyncio.create_task(away.send(PEER, "too late"))
    await asyncio.sleep(away.link.spec.trusted_until - time.monotonic() + 0.1)
    os.kill(pid, signal.SIGCONT)
    result = await sending
    assert isinstance(result, SendNotStarted)
    assert result.link_lost
    assert (await away.watcher.first(Closed)).reason is Disconnect.TERM_EXPIRED
    assert [message["text"] for message in await box.received(PEER, 1)] == ["in time"]
    assert (await box.get("stats"))["messages"]["accepted"] == 1
