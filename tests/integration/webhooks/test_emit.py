"""Queueing an event with the change that caused it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.integration.webhooks.conftest import Bench

from wahub.domain.event import LoggedEvent
from wahub.domain.ids import InstanceId
from wahub.domain.webhook import RETRY_HORIZON
from wahub.services import webhook

URL = "http://127.0.0.1:9/hook"


async def test_an_event_is_queued_with_a_sequence_without_gaps(bench: Bench) -> None:
    shop = await bench.instance("shop", URL, "message")
    now = bench.clock.now()
    await bench.emit(shop, lane="a")
    await bench.emit(shop, "disconnected")  # not wanted: in the log only
    await bench.emit(shop, "ready")
    heads = {head.lane: head for head in await bench.pending()}
    assert heads.keys() == {"a", "lifecycle"}
    assert (heads["a"].sequence, heads["lifecycle"].sequence) == (1, 3)
    assert heads["a"].url == URL
    assert heads["a"].body == '{"event":"message","instanceId":"shop","data":{"n":"event-1"}}'
    assert (heads["a"].next_attempt_at, heads["a"].expires_at) == (now, now + RETRY_HORIZON)


@pytest.mark.parametrize(
    ("url", "events", "event", "queued"),
    [
        (URL, (), "message", True),
        (URL, (), "message_unknown", False),
        (URL, ("*",), "message_unknown", True),
        (URL, ("message",), "qr", False),
        (URL, ("message",), "authenticated", True),
        (None, (), "ready", False),
    ],
)
async def test_only_what_is_wanted(
    bench: Bench, url: str | None, events: tuple[str, ...], event: str, queued: bool
) -> None:
    shop = await bench.instance("shop", url, *events)
    said = await bench.database.write(
        lambda tx: webhook.emit(tx, shop, event, {}, now=bench.clock.now(), event_id="e1")
    )
    assert said is queued
    assert len(await bench.pending()) == int(queued)


async def test_a_change_of_url_applies_to_the_next_event(bench: Bench) -> None:
    shop = await bench.instance("shop", URL)
    await bench.emit(shop, lane="a")
    moved = replace(shop, config=replace(shop.config, webhook_url="http://127.0.0.1:9/other"))
    await bench.emit(moved, lane="a")
    assert [head.url for head in await bench.pending()] == [URL, "http://127.0.0.1:9/other"]


async def test_a_transaction_that_fails_queues_nothing(bench: Bench) -> None:
    shop = await bench.instance("shop", URL)
    with pytest.raises(ValueError, match="float"):
        await bench.emit(shop, data={"x": 1.5})
    assert await bench.pending() == []
    await bench.emit(shop)
    assert [head.sequence for head in await bench.pending()] == [1]


async def test_a_qr_supersedes_the_one_before_of_the_same_instance_only(bench: Bench) -> None:
    shop, other = await bench.instance("shop", URL), await bench.instance("other", URL)
    await bench.emit(shop, "qr", ttl=60.0)
    kept = await bench.emit(other, "qr", ttl=60.0)
    latest = await bench.emit(shop, "qr", ttl=20.0)
    heads = await bench.pending()
    assert {head.event_id for head in heads} == {kept, latest}
    assert {head.event_id: head.expires_at - bench.clock.now() for head in heads} == {kept: 60.0, latest: 20.0}


async def log_of(bench: Bench, name: str = "shop") -> list[LoggedEvent]:
    return list(await bench.database.read(lambda tx: tx.events.after(InstanceId(name), 0, 100)))


async def test_every_event_is_in_the_log_wanted_or_not(bench: Bench) -> None:
    shop, mute = await bench.instance("shop", URL, "message"), await bench.instance("mute", None)
    await bench.emit(shop, lane="a")
    await bench.emit(shop, "message_ack", lane="a")
    await bench.emit(mute)
    assert [(event.sequence, event.event) for event in await log_of(bench)] == [(1, "message"), (2, "message_ack")]
    [unheard] = await log_of(bench, "mute")
    assert (unheard.sequence, unheard.body) == (1, '{"event":"message","instanceId":"mute","data":{"n":"event-3"}}')
    [posted] = await bench.pending()
    assert posted.body == (await log_of(bench))[0].body


async def test_presence_takes_no_number_and_is_not_in_the_log(bench: Bench) -> None:
    shop, mute = await bench.instance("shop", URL, "*"), await bench.instance("mute", URL)
    await bench.emit(shop, "presence", lane="a")
    await bench.emit(mute, "presence", lane="a")
    await bench.emit(shop, lane="a")
    assert [event.sequence for event in await log_of(bench)] == [1]
    assert await log_of(bench, "mute") == []
    assert [(head.event, head.sequence) for head in await bench.pending()] == [("presence", 0)]


@pytest.mark.parametrize("next_event", ["qr", "authenticated"])
async def test_the_log_forgets_a_code_once_another_event_killed_it(bench: Bench, next_event: str) -> None:
    shop = await bench.instance("shop", URL)
    await bench.emit(shop, "qr", data={"qr": "picture-1"}, ttl=60.0)
    [code] = await log_of(bench)
    assert "picture-1" in code.body
    assert code.secret_until == bench.clock.now() + 60
    await bench.emit(shop, next_event, data={"qr": "picture-2"}, ttl=60.0)
    assert [head.event for head in await bench.pending()] == [next_event], "and it is not posted any more"
    [code, _] = await log_of(bench)
    assert code.body == '{"event":"qr","instanceId":"shop","data":{"error":"expired"}}'
