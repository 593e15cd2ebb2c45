"""The system and debug routes, their guard, and the metrics (contract A.1, G.4)."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.api.conftest import HOOK, PHONE, Edge

from wahub.domain.endpoint import Held, Trouble
from wahub.domain.ids import ChatId, InstanceId, QueueId
from wahub.domain.instance import State
from wahub.domain.lifecycle import Ask, Incident, IncidentKind
from wahub.domain.message import Text
from wahub.domain.restore import RestoreItem, RestoreQueue
from wahub.domain.times import iso
from wahub.ports.store import Tx
from wahub.ports.wakeup import INSTANCES
from wahub.services import instance, outbox, webhook
from wahub.services.outbox import QueueLimits, SendRequest

KEY, SECRET = "the-key", "the-secret"
ADMIN = [
    ("GET", "/system/status"),
    ("GET", "/__debug/system"),
    ("POST", "/system/force-normal"),
    ("GET", "/__debug/env"),
    ("POST", "/__debug/instances/shop/retry"),
]


# --- the guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_a_secret_is_asked_for_on_top_of_the_key(edge: Edge, method: str, path: str) -> None:
    await edge.add("shop", state=State.ERROR)
    edge.with_settings(api_key=KEY, admin_secret=SECRET)
    key = {"X-API-Key": KEY}
    async with edge.client() as client:
        for headers, status in (
            ({}, 401),
            ({"X-Admin-Debug-Secret": SECRET}, 401),
            ({"X-API-Key": "wrong", "X-Admin-Debug-Secret": SECRET}, 403),
            (key, 403),
            ({**key, "X-Admin-Debug-Secret": ""}, 403),
            ({**key, "X-Admin-Debug-Secret": "the-secre"}, 403),
            ({**key, "X-Admin-Debug-Secret": SECRET.upper()}, 403),
        ):
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == status, headers
            assert SECRET not in answer.text
        assert answer.json() == {"error": "Forbidden", "status": 403}
        passed = await client.request(method, path, headers={**key, "X-Admin-Debug-Secret": SECRET})
    assert passed.is_success and passed.json()["status"] == "success"


@pytest.mark.parametrize(("method", "path"), ADMIN)
async def test_without_a_secret_the_key_is_enough(edge: Edge, method: str, path: str) -> None:
    await edge.add("shop", state=State.ERROR)
    edge.with_settings(api_key=KEY)
    async with edge.client() as client:
        assert (await client.request(method, path)).status_code == 401
        assert (await client.request(method, path, headers={"X-API-Key": KEY})).is_success


async def test_the_secret_guards_nothing_else(edge: Edge) -> None:
    await edge.add("shop")
    edge.with_settings(admin_secret=SECRET)
    async with edge.client() as client:
        for path in ("/instances", "/instances/shop/diagnostics", "/metrics", "/health"):
            assert (await client.get(path)).status_code == 200


# --- what the process does --------------------------------------------------------------------------------------------


async def test_system_status(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop", state=State.NEEDS_QR, state_at=1_700_000_000.0, last_error="why")
    now = edge.clock.now()
    await edge.remember(shop, needs_qr_since=now - 100, last_qr_at=now - 10, qr_recovery_attempts=2)
    await edge.add("late", state=State.DISCONNECTED)
    row = RestoreQueue(
        waiting=(RestoreItem("restore", InstanceId("late"), 3),),
        processing=1,
        last_processed_at=1_700_000_000.0,
        free_mb=512.4,
        min_free_mb=100.0,
    )
    edge.deps = dataclasses.replace(edge.deps, restore_queue=lambda: row)
    async with edge.client() as made:
        shown = (await made.get("/system/status")).json()
        again = (await made.get("/__debug/system")).json()

    assert shown.keys() == again.keys()
    assert (shown["mode"], shown["syncingInstanceId"], shown["queuedOutboundCount"]) == ("normal", None, 0)
    assert (shown["queuedOutboundByInstance"], shown["inboundBufferCount"]) == ({}, 0)
    assert shown["since"] <= iso(edge.clock.now())
    assert shown["restoreQueue"] == {
        "queueLength": 1,
        "processing": 1,
        "lastProcessedAt": "2023-11-14T22:13:20.000Z",
        "freeMemMB": 512,
        "minFreeMemMB": 100,
        "queueSummary": [{"type": "restore", "id": "late", "attempts": 3}],
    }
    waiting, late = shown["instances"]
    ages = (waiting.pop("qrAgeSeconds"), waiting.pop("needsQrAgeSeconds"))
    assert 10 <= ages[0] < 70 and 100 <= ages[1] < 160
    assert waiting == {
        "id": "shop",
        "state": "needs_qr",
        "lastError": "why",
        "lastStateChangeAt": "2023-11-14T22:13:20.000Z",
        "needsQrSince": iso(now - 100),
        "lastQrAt": iso(now - 10),
        "qrRecoveryAttempts": 2,
        "restoreAttempts": 0,
    }
    assert (late["id"], late["restoreAttempts"], late["qrAgeSeconds"]) == ("late", 3, None)
    assert [known["id"] for known in shown["perInstanceStates"]] == ["shop", "late"]


async def test_an_empty_row(client: httpx.AsyncClient) -> None:
    row = (await client.get("/system/status")).json()["restoreQueue"]
    assert (row["queueLength"], row["processing"], row["lastProcessedAt"], row["freeMemMB"]) == (0, 0, None, None)


async def test_force_normal(client: httpx.AsyncClient) -> None:
    answer = await client.post("/system/force-normal")
    assert answer.json() == {"mode": "normal", "cooldownMinutes": 30, "status": "success"}


async def test_the_environment_holds_no_secret(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", SECRET)
    answer = await client.get("/__debug/env")
    shown = answer.json()
    assert SECRET not in answer.text
    assert shown["runtimeVersion"].startswith("Python 3.") and shown["executableExists"] is True
    assert shown["totalMemMB"] > 0 and shown["openFileLimit"] > 0
    assert (shown["uid"], shown["gid"]) == (os.getuid(), os.getgid())
    assert re.fullmatch(r"/tmp \d+ \d+ \d+ \d+%", shown["tmpDisk"])


async def test_debug_retry_is_queued(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("WASP-shop.eu", state=State.FAILED_QR_TIMEOUT)
    answer = await client.post("/__debug/instances/WASP-shop.eu/retry")
    shown = answer.json()
    assert (answer.status_code, shown["queued"], shown["instanceId"]) == (202, True, shop)
    assert (await edge.record(shop)).asked is Ask.RETRY
    assert await edge.hinted(INSTANCES)
    assert (await client.post("/__debug/instances/nobody/retry")).status_code == 404


# --- metrics ----------------------------------------------------------------------------------------------------------


async def scrape(client: httpx.AsyncClient) -> dict[str, float]:
    """Each sample with its labels as Prometheus reads it."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def queued(tx: Tx, shop: InstanceId, number: int, now: float) -> None:
    chat = ChatId.parse(PHONE)
    asked = SendRequest(shop, chat, Text(f"hello {number}"), QueueId(f"{number:032x}"), bytes([number] * 16))
    outbox.enqueue(tx, asked, now, QueueLimits())


def in_trouble(tx: Tx, shop: InstanceId, other: InstanceId, now: float) -> None:
    """One endpoint paused, another only failing; one dead letter."""
    tx.endpoints.note(Trouble(shop, HOOK, 20, now, "HTTP 500", Held.PAUSED, now, now + 60))
    tx.endpoints.note(Trouble(other, HOOK, 1, now, "HTTP 500"))
    found = tx.instances.get(shop)
    assert found is not None
    webhook.emit(tx, found, "ready", {"status": "ready"}, now=now, event_id="event-1")
    for delivery in tx.webhooks.due(now + 60, 1):
        webhook.give_up(tx, delivery, "over")


async def test_metrics(edge: Edge) -> None:
    shop, other = await edge.add("shop"), await edge.add("other")
    await edge.add("new", state=State.NEEDS_QR, phone=None)
    await edge.remember(shop, mute_since=5.0, mute_evidence="unacked_sends", mutes=2, reconnects=3, restart_count=4)
    await edge.remember(other, mutes=1)
    now = edge.clock.now()
    gone = await edge.add("gone")
    await edge.write(lambda tx: instance.ask_delete(tx, gone))
    await edge.write(lambda tx: [queued(tx, owner, at + 1, now) for at, owner in enumerate((shop, shop, other))])
    await edge.write(lambda tx: in_trouble(tx, shop, other, now))
    told = {"engine_processes": lambda: 2, "engine_heap_bytes": lambda: 70_000_000, "engine_handles": lambda: 9}
    edge.deps = dataclasses.replace(edge.deps, loop_lag_ms=lambda: 12.5, **told)
    async with edge.client() as client:
        seen = await scrape(client)

    assert seen["wahub_instances{state=ready}"] == 2
    assert seen["wahub_instances{state=needs_qr}"] == 1
    assert {f"wahub_instances{{state={state}}}" for state in State} <= seen.keys()
    assert (seen["wahub_connected_mute"], seen["wahub_queue_depth"]) == (1, 3)
    assert (seen["wahub_mutes_total"], seen["wahub_reconnects_total"], seen["wahub_restarts_total"]) == (3, 3, 4)
    assert (seen["wahub_engine_processes"], seen["wahub_event_loop_lag_seconds"]) == (2, 0.0125)
    assert (seen["wahub_engine_heap_bytes"], seen["wahub_engine_handles"]) == (70_000_000, 9)
    assert (seen["wahub_webhook_endpoints_held{reason=paused}"], seen["wahub_dead_letters"]) == (1, 1)
    assert seen["wahub_webhook_endpoints_held{reason=disabled}"] == 0
    assert 1 <= seen["wahub_tasks"] < 50
    assert seen["process_resident_memory_bytes"] > 1_000_000


async def test_totals_do_not_fall_when_an_instance_is_deleted(edge: Edge) -> None:
    shop, other = await edge.add("shop"), await edge.add("other")
    await edge.remember(shop, mutes=5)
    await edge.remember(other, mutes=1)
    async with edge.client() as client:
        assert (await scrape(client))["wahub_mutes_total"] == 6
        await edge.write(lambda tx: tx.instances.delete(shop))
        assert (await scrape(client))["wahub_mutes_total"] == 6
        await edge.remember(other, mutes=3)
        again = await edge.add("shop")
        await edge.remember(again, mutes=1)
        assert (await scrape(client))["wahub_mutes_total"] == 9


async def test_incidents_are_counted_by_kind(edge: Edge) -> None:
    """True over restarts of the gateway, for the counts lie with the instances."""
    shop, other = await edge.add("shop"), await edge.add("other")

    async def happens(to: InstanceId, kind: IncidentKind) -> None:
        await edge.write(lambda tx: tx.lifecycles.add_incident(to, Incident(kind, "why", edge.clock.now())))

    for to, kind in ((shop, IncidentKind.BANNED), (shop, IncidentKind.BANNED), (other, IncidentKind.REPLACED)):
        await happens(to, kind)
    banned, replaced = "wahub_incidents_total{kind=banned}", "wahub_incidents_total{kind=connection_replaced}"
    async with edge.client() as client:
        seen = await scrape(client)
        assert (seen[banned], seen[replaced]) == (2, 1)
        assert {f"wahub_incidents_total{{kind={kind}}}" for kind in IncidentKind} <= seen.keys()
        await edge.write(lambda tx: tx.instances.delete(shop))
        await happens(other, IncidentKind.BANNED)
        seen = await scrape(client)
        assert (seen[banned], seen[replaced]) == (3, 1)
    async with edge.client() as later:
        # Another process counts what it finds.
        assert (await scrape(later))[replaced] == 1


async def test_metrics_name_nobody(edge: Edge) -> None:
    await edge.add("WASP-private-name", phone=PHONE)
    async with edge.client() as client:
        text = (await client.get("/metrics")).text
    assert "wahub_instances" in text
    assert "private-name" not in text and PHONE not in text and HOOK not in text


async def test_metrics_ask_for_the_key(edge: Edge) -> None:
    edge.with_settings(api_key=KEY)
    headers: dict[str, Any] = {"Authorization": f"Bearer {KEY}"}
    async with edge.client() as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers=headers)).status_code == 200
