"""What must be durable before what: outbound commit, frame; inbound spool, commit, receipt. And crashes in between."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box, new_message_id
from tests.integration.engine.waiting import spooled, until, until_asked

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.domain.ids import ChatId
from wahub.domain.instance import Disconnect
from wahub.domain.message import Text
from wahub.domain.session import KeyName
from wahub.ports.engine import CaughtUp, Closed, Inbound, Opened, SendAcked, SendNotStarted

PEER = "15550002222"
LONG_ENOUGH_MS = 400
"""For what must not happen: much longer than it takes when it does happen."""

UNORDERED = """
import { DEFAULT_CONNECTION_CONFIG } from 'baileys';
export const orderedRepository = () => DEFAULT_CONNECTION_CONFIG.makeSignalRepository;
"""


@pytest.fixture
def without_order(box_settings: BaileysSettings, tmp_path: Path) -> Path:
    """The side process with Baileys' own repository instead of ours."""
    directory = tmp_path / "unordered"
    shutil.copytree(box_settings.directory, directory)
    (directory / "node_modules").symlink_to(box_settings.directory.parent / "node_modules")
    (directory / "repository.mjs").write_text(UNORDERED)
    return directory


async def _frame_while_keys_wait(account: Account, box: Box, patience_ms: int = LONG_ENOUGH_MS) -> bool:
    """Whether the message reaches its phone while the key store has not answered."""
    await box.phone(PEER)
    assert await account.send(PEER, "warm") == SendAcked()
    lid = (await box.get(f"phones/{PEER}"))["lid"].removesuffix("@lid")
    # Without our repository the first message's own keys may still be on their way.
    await until(lambda: KeyName("session", f"{lid}_1.0") in account.vault.values)
    account.vault.waiting.clear()
    account.vault.gate.clear()
    sending = asyncio.create_task(account.send(PEER, "ordered?"))
    await account.vault.until_a_write_waits()
    before = len((await box.get(f"phones/{PEER}/messages?after=1&wait={patience_ms}"))["messages"])
    account.vault.gate.set()
    assert await sending == SendAcked()
    await box.received(PEER, 2)
    return before > 0


async def test_the_keys_are_committed_before_the_frame_leaves(account: Account, box: Box) -> None:
    assert not await _frame_while_keys_wait(account, box)


async def test_without_our_repository_the_frame_leaves_first(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings, without_order: Path
) -> None:
    """The test above can fail: this is what it would see. If this fails, Baileys has changed its order."""
    engine = await start_engine(box_settings, directory=without_order)
    await away.login(engine)
    assert await _frame_while_keys_wait(away, box, 20_000)


@pytest.mark.parametrize("harm", ["broken", "fenced"])
async def test_a_write_that_fails_keeps_the_message_off_the_wire(account: Account, box: Box, harm: str) -> None:
    await box.phone(PEER)
    assert await account.send(PEER, "warm") == SendAcked()
    setattr(account.vault, harm, True)
    result = await account.send(PEER, "must not leave")
    assert isinstance(result, SendNotStarted)
    assert result.link_lost
    closed = await account.watcher.first(Closed)
    assert closed.reason is (Disconnect.TERM_EXPIRED if harm == "fenced" else Disconnect.UNKNOWN)
    assert (await box.get(f"phones/{PEER}/messages?after=1&wait={LONG_ENOUGH_MS}"))["messages"] == []


async def test_pairing_is_confirmed_only_when_the_credentials_are_stored(engine: BaileysEngine, box: Box) -> None:
    account = Account(box, "15550001111")
    account.vault.gate.clear()
    pairing = asyncio.create_task(account.pair(engine))
    await account.vault.until_a_write_waits()
    await asyncio.sleep(LONG_ENOUGH_MS / 1000)
    assert (await box.get(f"phones/{account.number}"))["devices"] == []
    account.vault.gate.set()
    await (await pairing).first(Opened)


async def _receipts(box: Box, account: Account, message_id: str) -> list[str]:
    """What our device said about the message; the account's phone, device 0, sends receipts of its own."""
    return [
        entry["stanza"]["attrs"].get("type", "delivered")
        for entry in await box.trace(account.number, "receipt")
        if entry["direction"] == "in" and entry["deviceId"] and entry["stanza"]["attrs"]["id"] == message_id
    ]


async def _wait_receipts(box: Box, account: Account, message_id: str) -> list[str]:
    await until_asked(lambda: _receipts(box, account, message_id))
    return await _receipts(box, account, message_id)


async def test_the_message_is_spooled_before_its_keys_and_both_before_its_receipt(account: Account, box: Box) -> None:
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    spool = account.spool
    account.vault.waiting.clear()
    account.vault.gate.clear()
    sent = await box.post(f"phones/{PEER}/send", to=account.number, text="spool me")
    await account.vault.until_a_write_waits()
    await _let_other_writes_pass(account, lambda: list(spool.glob("*")))
    [path] = spool.iterdir()
    assert b"spool me" in path.read_bytes()
    await asyncio.sleep(LONG_ENOUGH_MS / 1000)
    assert await _receipts(box, account, sent["messageId"]) == []
    # The gateway may hear of it before: it would know a second copy.
    account.vault.gate.set()
    assert (await account.watcher.first(Inbound)).body["text"] == "spool me"
    assert await _wait_receipts(box, account, sent["messageId"]) == ["inactive"]


async def _let_other_writes_pass(account: Account, reached: Callable[[], object]) -> None:
    """Let single writes through (a new contact's mapping comes first) until the message's own is the one that waits."""
    for _ in range(20):
        if reached():
            return
        account.vault.waiting.clear()
        account.vault.gate.set()
        await asyncio.sleep(0)
        account.vault.gate.clear()
        await account.vault.until_a_write_waits()
    raise AssertionError("the message was never spooled")


async def test_a_spool_that_cannot_be_written_acknowledges_nothing(
    account: Account, box: Box, engine: BaileysEngine
) -> None:
    await box.phone(PEER)
    await account.watcher.first(CaughtUp)
    in_the_way = account.spool
    in_the_way.write_text("a file where the directory should be")
    sent = await box.post(f"phones/{PEER}/send", to=account.number, text="not lost")
    closed = await account.watcher.first(Closed)
    assert (closed.reason, closed.detail) == (Disconnect.UNKNOWN, "spool_failed")
    assert await _receipts(box, account, sent["messageId"]) == []
    in_the_way.unlink()
    watcher = await account.login(engine)
    assert (await watcher.first(Inbound)).body["text"] == "not lost"


@pytest.mark.parametrize(
    ("point", "first_contact"),
    [("after_spool", False), ("after_key_commit", True), ("after_key_commit", False), ("after_receipt", False)],
)
async def test_a_received_message_survives_a_crash(
    start_engine: StartEngine,
    box: Box,
    away: Account,
    box_settings: BaileysSettings,
    point: str,
    first_contact: bool,
) -> None:
    engine = await start_engine(box_settings, fault=f"{point}:{1 if first_contact else 2}")
    await away.login(engine)
    await away.watcher.first(CaughtUp)
    await box.phone(PEER)
    if not first_contact:
        await box.post(f"phones/{PEER}/send", to=away.number, text="before")
        away.link.ack_inbound((await away.watcher.first(Inbound)).seq)
        # Else the process may die before it has taken that in, and tells the message again.
        await until(lambda: not spooled(away.spool))
    sent = await box.post(f"phones/{PEER}/send", to=away.number, text="survive")
    assert (await away.watcher.first(Closed)).reason is Disconnect.ENGINE_DIED
    watcher = await away.login(engine)
    await watcher.first(CaughtUp)
    received = [event.body["text"] for event in watcher.all(Inbound)]
    assert received == ["survive"]
    receipts = await _wait_receipts(box, away, sent["messageId"])
    assert "retry" not in receipts
    assert "inactive" in receipts
    stats = await box.get("stats")
    assert stats["violations"] == []
    # The ratchet still works, both ways.
    await box.post(f"phones/{PEER}/send", to=away.number, text="after")
    assert (await watcher.first(Inbound, after=1)).body["text"] == "after"
    assert await away.send(PEER, "and back") == SendAcked()


async def test_after_wire_the_message_is_out(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    engine = await start_engine(box_settings, fault="after_wire")
    await away.login(engine)
    await box.phone(PEER)
    identity = new_message_id()
    await away.send(PEER, "out", identity)
    assert (await away.watcher.first(Closed)).reason is Disconnect.ENGINE_DIED
    assert (await box.received(PEER, 1))[0]["messageId"] == identity
    await away.login(engine)
    assert await away.send(PEER, "out", identity) == SendAcked()
    assert (await box.received(PEER, 2))[1]["duplicate"]


async def test_the_spool_is_encrypted_when_there_is_a_key(
    start_engine: StartEngine, box: Box, away: Account, box_settings: BaileysSettings
) -> None:
    engine = await start_engine(box_settings, encryption_key=b"a key of any length")
    await away.login(engine)
    await box.phone(PEER)
    await box.post(f"phones/{PEER}/send", to=away.number, text="hidden words")
    await away.watcher.first(Inbound)
    [path] = away.spool.iterdir()
    assert b"hidden words" not in path.read_bytes()
    assert away.number.encode() not in path.read_bytes()
    await engine.stop()
    engine = await start_engine(box_settings, encryption_key=b"a key of any length")
    assert (await (await away.login(engine)).first(Inbound)).body["text"] == "hidden words"
    path.write_bytes(path.read_bytes()[:-1])
    await away.link.close()
    await (await away.login(engine)).first(CaughtUp)
    # A file that ends too early: not even the messages in it can be told apart.
    assert [file.suffix for file in path.parent.iterdir()] == [".damaged"]


async def test_a_device_that_asks_again_gets_the_message_from_the_store(
    account: Account, box: Box, engine: BaileysEngine
) -> None:
    """The side process has forgotten it (restarted); the phone's copy was damaged on the way."""
    await box.phone(PEER)
    assert await account.send(PEER, "warm") == SendAcked()
    identity = new_message_id()
    account.vault.sent[identity] = (ChatId.parse(PEER), Text("once more"))
    await box.post(f"phones/{PEER}/online", online=False)
    await box.fault({"number": PEER, "stanza": "message"}, corrupt={})
    assert await account.send(PEER, "once more", identity) == SendAcked()
    await account.link.close()
    await account.login(engine)
    await box.post(f"phones/{PEER}/online", online=True)
    assert (await box.received(PEER, 2))[1]["text"] == "once more"
