"""Linking by a code that is typed into the phone, with the real engine and the sandbox's strict phone."""

from __future__ import annotations

import asyncio
import logging

import pytest
import pytest_asyncio
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until_asked

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.errors import PairingRefusedError
from wahub.domain.ids import ChatId
from wahub.domain.instance import Disconnect, EngineOptions
from wahub.domain.session import CREDS
from wahub.ports.engine import Closed, Paired, QrShown, SendAcked

NUMBER, PEER = "15550001111", "15550002222"


@pytest_asyncio.fixture(loop_scope="session")
async def unpaired(box: Box, engine: BaileysEngine) -> Account:
    """An account whose link shows a QR code."""
    account = Account(box, NUMBER, options=EngineOptions(device_name="A shop of mine"))
    await box.phone(NUMBER)
    await (await account.connect(engine)).first(QrShown)
    return account


async def _type(box: Box, code: str, number: str = NUMBER) -> int:
    return (await box.http.post(f"/control/phones/{number}/pair", json={"code": code})).status_code


async def _logs_in(account: Account, engine: BaileysEngine) -> None:
    """The phone has linked it: it comes back with what was stored, and works."""
    watcher = account.watcher
    assert watcher is not None
    assert (await watcher.first(Paired)).me.phone == NUMBER
    assert (await watcher.first(Closed)).reason is Disconnect.RESTART_REQUIRED
    again = await account.login(engine)
    assert again.all(QrShown) == []
    await account.box.phone(PEER)
    assert await account.send(PEER, "linked") == SendAcked()
    assert (await account.box.get("stats"))["violations"] == []


async def test_a_typed_code_links(
    unpaired: Account, box: Box, engine: BaileysEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "wahub")
    shown = await unpaired.link.pairing_code(NUMBER)
    assert len(shown.code) == 8
    assert 150 < shown.ttl <= 160
    assert await _type(box, shown.code) == 200
    await _logs_in(unpaired, engine)
    assert shown.code not in caplog.text
    assert shown.code not in repr(shown)
    assert shown.code.encode() not in unpaired.vault.values[CREDS]


async def test_asking_again_gives_the_same_code_and_another_number_another(unpaired: Account, box: Box) -> None:
    await box.phone(PEER)
    first, again = await asyncio.gather(unpaired.link.pairing_code(NUMBER), unpaired.link.pairing_code(NUMBER))
    assert first.code == again.code
    other = await unpaired.link.pairing_code(PEER)
    assert other.code != first.code
    assert await _type(box, first.code) == 409
    assert await _type(box, other.code, PEER) == 200
    assert (await unpaired.watcher.first(Paired)).me.phone == PEER


async def test_an_attempt_that_is_broken_off_leaves_no_trace(
    unpaired: Account, box: Box, engine: BaileysEngine
) -> None:
    await unpaired.link.pairing_code(NUMBER)
    await unpaired.link.close()
    assert unpaired.vault.values == {}
    assert unpaired.vault.commits == []
    again = await unpaired.connect(engine)
    await box.post(f"phones/{NUMBER}/scan", qr=(await again.first(QrShown)).text)
    await _logs_in(unpaired, engine)


async def test_a_scan_still_links_after_a_code_was_asked_for(
    unpaired: Account, box: Box, engine: BaileysEngine
) -> None:
    await unpaired.link.pairing_code(NUMBER)
    await box.post(f"phones/{NUMBER}/scan", qr=unpaired.watcher.all(QrShown)[-1].text)
    await _logs_in(unpaired, engine)


async def test_after_a_wrong_code_a_scan_links(unpaired: Account, box: Box, engine: BaileysEngine) -> None:
    shown = await unpaired.link.pairing_code(NUMBER)
    assert await _type(box, _another(shown.code)) == 409
    await box.post(f"phones/{NUMBER}/scan", qr=unpaired.watcher.all(QrShown)[-1].text)
    await _logs_in(unpaired, engine)


async def test_after_a_wrong_code_a_fresh_one_links(unpaired: Account, box: Box, engine: BaileysEngine) -> None:
    shown = await unpaired.link.pairing_code(NUMBER)
    assert await _type(box, _another(shown.code)) == 409
    fresh = await unpaired.link.pairing_code(NUMBER)
    assert fresh.code != shown.code
    assert await _type(box, fresh.code) == 200
    await _logs_in(unpaired, engine)


def _another(code: str) -> str:
    return ("A" if code[0] != "A" else "B") + code[1:]


async def test_it_is_confirmed_only_when_the_credentials_are_stored(
    unpaired: Account, box: Box, engine: BaileysEngine
) -> None:
    shown = await unpaired.link.pairing_code(NUMBER)
    unpaired.vault.gate.clear()
    typing = asyncio.create_task(_type(box, shown.code))
    await unpaired.vault.until_a_write_waits()
    await asyncio.wait([typing], timeout=0.4)
    assert (await box.get(f"phones/{NUMBER}"))["devices"] == []
    unpaired.vault.gate.set()
    assert await typing == 200
    await _logs_in(unpaired, engine)


async def test_whatsapp_refuses_the_number(unpaired: Account, engine: BaileysEngine, box: Box) -> None:
    """And the QR code goes on."""
    with pytest.raises(PairingRefusedError, match=r"^refused_\d+$"):
        await unpaired.link.pairing_code("15559999999")
    await box.post(f"phones/{NUMBER}/scan", qr=unpaired.watcher.all(QrShown)[-1].text)
    await _logs_in(unpaired, engine)


async def test_no_code_without_a_qr_code(account: Account, engine: BaileysEngine, box: Box) -> None:
    for wrong in ("", "+1555", "1@g.us", "\u0661\u0662"):
        with pytest.raises(PairingRefusedError, match="not_a_number"):
            await account.link.pairing_code(wrong)
    with pytest.raises(PairingRefusedError, match="not_waiting"):
        await account.link.pairing_code(account.number)
    await account.link.close()
    with pytest.raises(PairingRefusedError, match="link_lost"):
        await account.link.pairing_code(account.number)
    await box.fault({}, handshakeSilent={})
    early = Account(box, PEER)
    await early.connect(engine)
    with pytest.raises(PairingRefusedError, match="not_waiting"):
        await early.link.pairing_code(PEER)


async def test_a_code_ends_with_its_round(start_engine: StartEngine, box: Box, box_settings: BaileysSettings) -> None:
    # In its last second no code is given: a busy machine must not come so late.
    engine = await start_engine(box_settings, qr_first_ms=4_500, qr_next_ms=100)
    account = Account(box, NUMBER)
    await box.phone(NUMBER)
    watcher = await account.connect(engine)
    await watcher.first(QrShown)
    assert (await account.link.pairing_code(NUMBER)).ttl <= 5
    assert (await watcher.first(Closed)).reason is Disconnect.QR_EXPIRED
    assert account.vault.values == {}


async def test_a_scan_at_the_last_moment_links(
    start_engine: StartEngine, box: Box, box_settings: BaileysSettings
) -> None:
    """The round of codes ends while what the phone confirmed is being stored."""
    engine = await start_engine(box_settings, qr_first_ms=2500, qr_next_ms=50)
    account = Account(box, NUMBER)
    await box.phone(NUMBER)
    watcher = await account.connect(engine)
    shown = await watcher.first(QrShown)
    account.vault.gate.clear()
    scanning = asyncio.create_task(box.post(f"phones/{NUMBER}/scan", qr=shown.text))
    await asyncio.wait_for(account.vault.waiting.wait(), 20)
    await asyncio.sleep(3.0)
    account.vault.gate.set()
    await scanning
    await _logs_in(account, engine)


async def test_an_account_may_stay_online(box: Box, engine: BaileysEngine) -> None:
    """Available from the login on, also after it has typed to somebody."""
    account = Account(box, NUMBER, options=EngineOptions(mark_online=True))
    await account.pair(engine)
    await box.phone(PEER)

    async def says(kind: str) -> bool:
        stanzas = [
            entry["stanza"]["attrs"] for entry in await box.trace(NUMBER, "presence") if entry["direction"] == "in"
        ]
        return kind in [attrs.get("type") for attrs in stanzas]

    await until_asked(lambda: says("available"))
    chat = ChatId.parse(PEER)
    assert await account.link.show_typing(chat, True)
    assert await account.link.show_typing(chat, False)
    assert await account.send(PEER, "typed") == SendAcked()
    assert not await says("unavailable")
