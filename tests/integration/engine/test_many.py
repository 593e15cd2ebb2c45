"""Many links: nothing stays behind when one ends, and links to one person do not get into each other's way."""

from __future__ import annotations

import asyncio

import pytest
from tests.integration.engine.conftest import StartEngine
from tests.integration.engine.network import Account, Box
from tests.integration.engine.waiting import until

from wahub.adapters.engines.baileys import process, wire
from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.ports.engine import CaughtUp, Inbound, SendAcked

PEER = "15550002222"
CYCLES = 50


async def _vitals(engine: BaileysEngine) -> wire.Pong:
    """Fresh ones, once all links are gone."""
    before = engine.vitals[0].n
    await until(lambda: engine.vitals[0].n > before + 1 and engine.vitals[0].links == 0)
    return engine.vitals[0]


async def test_closed_links_leave_nothing_behind(
    start_engine: StartEngine, away: Account, box_settings: BaileysSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PING_SECONDS", 0.02)
    engine = await start_engine(box_settings)
    await away.login(engine)
    await until(lambda: engine.vitals)

    async def cycles(count: int) -> tuple[wire.Pong, int]:
        """The last vitals, and the least heap seen: what is left when garbage was just collected."""
        least = engine.vitals[0].heap
        for _ in range(count):
            await away.login(engine)
            await away.link.close()
            least = min(least, engine.vitals[0].heap)
        last = await _vitals(engine)
        return last, min(least, last.heap)

    await cycles(10)
    early, early_heap = await cycles(CYCLES // 2)
    late, late_heap = await cycles(CYCLES // 2)
    assert late.handles <= early.handles + 3
    # A socket that stays behind keeps about 2 MB (docs/benchmarks.md).
    assert late_heap - early_heap < CYCLES // 2 * 500_000


async def test_accounts_write_to_one_person_at_once(engine: BaileysEngine, box: Box) -> None:
    """Each keeps its own ratchet with the same address; and the person answers all while they write."""
    accounts = [Account(box, f"1555000111{number}") for number in range(4)]
    for account in accounts:
        await account.pair(engine)
        await account.watcher.first(CaughtUp)
    await box.phone(PEER)

    async def talk(account: Account) -> None:
        for number in range(10):
            assert await account.send(PEER, f"{account.number} {number}") == SendAcked()
            await box.post(f"phones/{PEER}/send", to=account.number, text=f"answer {number}")

    await asyncio.gather(*(talk(account) for account in accounts))
    texts = [message["text"] for message in await box.received(PEER, 40)]
    for account in accounts:
        assert [text for text in texts if text.startswith(account.number)] == [
            f"{account.number} {number}" for number in range(10)
        ]
        await account.watcher.first(Inbound, after=9)
        answers = [event.body["text"] for event in account.watcher.all(Inbound)]
        assert answers == [f"answer {number}" for number in range(10)]
    stats = await box.get("stats")
    assert (stats["violations"], stats["messages"]["undecryptable"]) == ([], 0)
