"""What the janitor does for the event log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from tests.fakes.receiver import receiver
from tests.integration.webhooks.conftest import Bench

from wahub.domain.endpoint import Held, Trouble
from wahub.domain.ids import InstanceId, WorkerId
from wahub.domain.webhook import RETRY_HORIZON
from wahub.runtime import janitor
from wahub.runtime.deps import RuntimeDeps, RuntimeSettings
from wahub.runtime.janitor import Janitor
from wahub.services import webhook

SHOP = InstanceId("shop")


def sweeper(bench: Bench, kept: float | None) -> Janitor:
    settings = RuntimeSettings(WorkerId("worker"), events_kept=kept)
    engine = cast("Any", None)  # it has no part in this
    return Janitor(
        RuntimeDeps(bench.database, engine, bench.clock, bench.wakeup, settings, lambda: "0" * 32, lambda: 0.5)
    )


async def numbers(bench: Bench) -> list[int]:
    return [event.sequence for event in await bench.database.read(lambda tx: tx.events.after(SHOP, 0, 1_000))]


@pytest.mark.parametrize(("kept", "left"), [(3_600.0, [6]), (None, [1, 2, 3, 4, 5, 6])])
async def test_events_are_forgotten_after_their_retention(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, kept: float | None, left: list[int]
) -> None:
    monkeypatch.setattr(janitor, "BATCH", 2)
    shop = await bench.instance("shop", None)
    for _ in range(5):
        await bench.emit(shop)
    bench.clock.advance(3_601)
    await bench.emit(shop)
    await sweeper(bench, kept).sweep()
    assert await numbers(bench) == left


async def test_what_waits_to_be_posted_outlives_a_short_retention(bench: Bench) -> None:
    shop = await bench.instance("shop", "http://127.0.0.1:9/hook")
    await bench.emit(shop)
    bench.clock.advance(60)
    await sweeper(bench, 10.0).sweep()
    assert await numbers(bench) == [1]
    assert len(await bench.pending()) == 1


async def test_a_dead_code_leaves_the_store(bench: Bench) -> None:
    shop = await bench.instance("shop", None)
    await bench.emit(shop, "qr", data={"qr": "picture"}, ttl=60.0)
    clean = sweeper(bench, None)
    await clean.sweep()
    [live] = await bench.database.read(lambda tx: tx.events.after(SHOP, 0, 10))
    assert "picture" in live.body
    bench.clock.advance(61)
    await clean.sweep()
    [dead] = await bench.database.read(lambda tx: tx.events.after(SHOP, 0, 10))
    assert (dead.body, dead.secret_until) == ('{"event":"qr","instanceId":"shop","data":{"error":"expired"}}', None)


async def test_time_runs_out_at_an_endpoint_that_is_held(bench: Bench) -> None:
    async with receiver(answer=lambda _: 410) as there:
        shop = await bench.instance("shop", there.url)
        await bench.emit(shop)
        await bench.start().idle()
        await bench.stop()
        clean = sweeper(bench, None)
        await clean.sweep()
        assert len(await bench.database.read(lambda tx: tx.dead.list(SHOP, 10))) == 0
        bench.clock.advance(RETRY_HORIZON + 1)
        await clean.sweep()
        [dead] = await bench.database.read(lambda tx: tx.dead.list(SHOP, 10))
        assert dead.last_error == "the endpoint was held until its time was over"


async def test_the_trouble_of_an_endpoint_that_nobody_uses_is_forgotten(bench: Bench) -> None:
    old, used, gone = (f"http://127.0.0.1:9/{name}" for name in ("old", "used", "gone"))
    shop = await bench.instance("shop", old)
    await bench.emit(shop)
    moved = replace(shop, config=replace(shop.config, webhook_url=used))
    await bench.database.write(lambda tx: tx.instances.save(moved))
    now = bench.clock.now()
    for url in (old, used, gone):
        held = Trouble(SHOP, url, 20, now, "HTTP 500", Held.PAUSED, now, now + 1e6)
        await bench.database.write(lambda tx, held=held: tx.endpoints.note(held))  # type: ignore[misc]

    async def known() -> list[str]:
        found = await bench.database.read(
            lambda tx: [url for url in (old, used, gone) if tx.endpoints.trouble(SHOP, url) is not None]
        )
        return [url.rpartition("/")[2] for url in found]

    clean = sweeper(bench, None)
    await clean.sweep()
    assert await known() == ["old", "used"], "something waits for the old one still"
    [waiting] = await bench.pending()
    await bench.database.write(lambda tx: webhook.give_up(tx, waiting, "over"))
    bench.clock.advance(janitor.TIDY_EVERY + 1)
    await clean.sweep()
    assert await known() == ["used"]
