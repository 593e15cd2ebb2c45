"""Who is there and who types, against the sandbox: only for those who ask, and only what WhatsApp tells."""

from __future__ import annotations

import pytest_asyncio
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until, until_asked

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.domain.instance import EngineOptions
from wahub.ports.engine import Inbound, PresenceSeen, SendAcked

PEER = "15550002222"
OTHER = "15550003333"


@pytest_asyncio.fixture(loop_scope="session")
async def online(box: Box, engine: BaileysEngine) -> Account:
    """A linked account that its owner wants to be available."""
    account = Account(box, "15550001111", options=EngineOptions(mark_online=True))
    await account.pair(engine)
    for number in (PEER, OTHER):
        await box.phone(number)
    # Until then nobody is told to it.
    await until_asked(lambda: _said(box, account, "available"))
    return account


async def _subscribed(box: Box, account: Account) -> list[str]:
    """Whom our device subscribed to."""
    return [attrs["to"] for attrs in await _said(box, account, "subscribe")]


async def _said(box: Box, account: Account, kind: str) -> list[dict[str, str]]:
    """The presences of that kind that our device sent."""
    return [
        entry["stanza"]["attrs"]
        for entry in await box.trace(account.number, "presence")
        if entry["direction"] == "in" and entry["stanza"]["attrs"].get("type") == kind
    ]


async def _write(box: Box, account: Account, number: str, count: int = 1, **more: str) -> None:
    before = len(account.watcher.all(Inbound))
    for _ in range(count):
        await box.post(f"phones/{number}/send", to=account.number, text="hello", **more)
    await account.watcher.first(Inbound, after=before + count - 1)


async def _show(box: Box, number: str, state: str, **more: str) -> None:
    await box.post(f"phones/{number}/presence", state=state, **more)


def _states(account: Account) -> list[str]:
    return [seen.state for seen in account.watcher.all(PresenceSeen)]


async def test_who_writes_is_watched(online: Account, box: Box) -> None:
    online.link.watch(True)
    await _write(box, online, PEER, 3)
    await until_asked(lambda: _subscribed(box, online))
    # The first word of it is how things stand.
    await online.watcher.first(PresenceSeen)
    await _show(box, PEER, "available")
    for state in ("composing", "recording", "paused"):
        await _show(box, PEER, state, to=online.number)
    await _show(box, PEER, "unavailable")
    await online.watcher.first(PresenceSeen, after=5)
    assert _states(online) == ["unavailable", "available", "composing", "recording", "paused", "unavailable"]
    person = f"{PEER}@s.whatsapp.net"
    lid = (await box.get(f"phones/{PEER}"))["lid"].removesuffix("@lid")
    for seen in online.watcher.all(PresenceSeen):
        assert (seen.chat, seen.sender, seen.sender_phone, seen.sender_lid) == (person, person, PEER, lid)
        assert (seen.last_seen is not None) == (seen.state == "unavailable")
    assert await _subscribed(box, online) == [person]
    assert (await box.get("stats"))["violations"] == []


async def test_whom_we_write_to_is_watched_under_that_address(online: Account, box: Box) -> None:
    online.link.watch(True)
    lid = (await box.get(f"phones/{PEER}"))["lid"]
    assert await online.send(lid, "hello") == SendAcked()
    assert await online.send(OTHER, "hello") == SendAcked()
    await until_asked(lambda: _has(box, online, 2))
    assert await _subscribed(box, online) == [lid, f"{OTHER}@s.whatsapp.net"]
    await online.watcher.first(PresenceSeen, after=1)
    assert {seen.sender for seen in online.watcher.all(PresenceSeen)} == {lid, f"{OTHER}@s.whatsapp.net"}


async def _has(box: Box, account: Account, count: int) -> bool:
    return len(await _subscribed(box, account)) >= count


async def test_typing_in_groups(online: Account, box: Box) -> None:
    online.link.watch(True)
    members = [online.number, OTHER]
    group = (await box.post("groups", subject="Our group", owner=PEER, members=members))["id"]
    await online.watcher.first(Inbound)
    await _show(box, OTHER, "composing", to=group)
    seen = await online.watcher.first(PresenceSeen)
    lid = (await box.get(f"phones/{OTHER}"))["lid"]
    assert (seen.chat, seen.sender, seen.sender_lid, seen.state) == (group, lid, lid.removesuffix("@lid"), "composing")
    assert await _subscribed(box, online) == []


async def test_nobody_is_watched_unasked(online: Account, box: Box) -> None:
    await _write(box, online, PEER)
    online.link.watch(True)
    online.link.watch(False)
    await _write(box, online, PEER)
    await _show(box, PEER, "composing", to=online.number)
    # What was told before this has arrived by now.
    await _write(box, online, OTHER)
    assert _states(online) == []
    assert await _subscribed(box, online) == []


async def test_an_account_that_is_not_online_sees_who_comes_but_not_who_types(account: Account, box: Box) -> None:
    await box.phone(PEER)
    account.link.watch(True)
    await _write(box, account, PEER)
    await until_asked(lambda: _subscribed(box, account))
    await account.watcher.first(PresenceSeen)
    await _show(box, PEER, "composing", to=account.number)
    await _show(box, PEER, "available")
    await until(lambda: "available" in _states(account))
    assert _states(account) == ["unavailable", "available"]
    trace = [entry for entry in await box.trace(account.number, "presence") if entry["direction"] == "in"]
    # To watch others is no reason to be shown as online.
    assert {entry["stanza"]["attrs"].get("type") for entry in trace if entry["deviceId"]} <= {
        "subscribe",
        "unavailable",
    }
