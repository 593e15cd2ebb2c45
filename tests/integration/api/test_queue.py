"""The queue and the status page: what they show, and what people do to a queue as a whole (contract A.1, 0.13)."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import HOOK, PHONE, Edge

from wahub.domain.ids import InstanceId
from wahub.domain.instance import State
from wahub.domain.outbox import Entry, ItemState, settle
from wahub.domain.pacing import Pace, TypingPolicy
from wahub.ports.wakeup import outbox_topic
from wahub.services.outbox import QueueLimits

SEND = "/instances/shop/client/action/send-message"
TEXT = {"chatId": PHONE, "message": "hi"}
QUEUE = "/instances/shop/queue"
STILL = TypingPolicy(enabled=False)


async def _send(client: httpx.AsyncClient, message: str, **extra: Any) -> str:
    answer = await client.post(SEND, json={"chatId": PHONE, "message": message, **extra})
    assert answer.status_code == 202
    return str(answer.json()["queueId"])


async def _change(edge: Edge, queue_id: str, **changes: Any) -> Entry:
    """The send loop writes something about an item."""
    entry = next(entry for entry in await edge.entries("shop") if entry.id == queue_id)
    changed = dataclasses.replace(entry, **changes)
    await edge.write(lambda tx: tx.outbox.save(changed))
    return changed


# --- what it shows ----------------------------------------------------------------------------------------------------


async def test_the_queue_shows_no_text_and_no_chat(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop", state=State.DISCONNECTED)
    first = await _send(client, "one secret", idempotencyKey="k" * 40)
    second = await _send(client, "two", chatId=PHONE + "9")
    late = edge.clock.now() + 60
    await _change(edge, first, attempts=2, next_attempt_at=late, last_error="refused")

    answer = await client.get(QUEUE)

    shown = answer.json()
    assert {name: shown[name] for name in ("depth", "sendLoopRunning", "instanceState", "eligibleCount", "status")} == {
        "depth": 2,
        "sendLoopRunning": False,
        "instanceState": "disconnected",
        "eligibleCount": 1,
        "status": "success",
    }
    item = shown["items"][0]
    assert set(item) == {
        *("id", "type", "state", "priority", "idempotencyKey", "createdAt", "age", "attemptCount", "nextAttemptAt"),
        *("nextAttemptIn", "lastError", "reason", "isEligible"),
    }
    assert (item["id"], item["type"], item["idempotencyKey"]) == (first, "message", "k" * 30 + "...")
    assert (item["attemptCount"], item["lastError"], item["reason"]) == (2, "refused", "retry")
    assert (item["isEligible"], item["priority"]) == (False, "normal")
    assert late * 1000 - 1 <= item["nextAttemptAt"] <= late * 1000 + 2_500
    assert 50_000 < item["nextAttemptIn"] <= 62_500
    assert (shown["items"][1]["id"], shown["items"][1]["isEligible"], shown["items"][1]["reason"]) == (
        second,
        True,
        None,
    )
    assert PHONE not in answer.text and "secret" not in answer.text


async def test_times_follow_from_position_and_windows(edge: Edge) -> None:
    edge.stop_the_clock()
    edge.with_settings(pace=Pace(per_minute=2, per_hour=0, spacing=1.0), typing=STILL)
    shop = await edge.add("shop")
    now = edge.clock.now()
    await edge.write(lambda tx: tx.keys.add_claim(shop, now - 30, forget_before=0))
    async with edge.client() as client:
        for number in range(4):
            await _send(client, f"{number}")
        high = await _send(client, "at once", priority="high")
        shown = (await client.get(QUEUE)).json()

    waits = {item["id"]: item["nextAttemptIn"] / 1000 for item in shown["items"]}
    # One slot of the minute is free; the next opens 30 s later, then those of these sends one by one.
    assert waits.pop(high) == 0
    assert sorted(waits.values()) == pytest.approx([30, 60, 90, 120], abs=0.01)


async def test_the_send_loop_runs_when_a_ready_instance_has_work(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    idle = (await client.get(QUEUE)).json()
    await _send(client, "x")
    busy = (await client.get(QUEUE)).json()
    assert (idle["sendLoopRunning"], idle["items"], busy["sendLoopRunning"]) == (False, [], True)


async def test_reasons(edge: Edge) -> None:
    edge.stop_the_clock()
    await edge.add("shop")
    now = edge.clock.now()
    changes: dict[str, dict[str, Any]] = {
        "outreach_locked": {"next_attempt_at": now + 3_600, "last_error": "outreach_locked"},
        "awaiting_proof": {"state": ItemState.UNKNOWN, "on_wire": True, "next_attempt_at": now + 10},
        "account_changed": {"state": ItemState.HELD, "last_error": "account_changed"},
        "retry": {"next_attempt_at": now + 5, "last_error": "refused by WhatsApp (500)", "attempts": 1},
        "scheduled": {"joined_at": now + 100, "scheduled": True, "next_attempt_at": now + 100},
    }
    wanted = {}
    async with edge.client() as client:
        for number, (reason, change) in enumerate(changes.items()):
            queue_id = await _send(client, reason, chatId=f"{PHONE}{number}")
            await _change(edge, queue_id, **change)
            wanted[queue_id] = reason
        shown = {item["id"]: item for item in (await client.get(QUEUE)).json()["items"]}
        page = (await client.get("/instances/shop/status")).json()

    assert {queue_id: item["reason"] for queue_id, item in shown.items()} == wanted
    held = next(item for item in shown.values() if item["state"] == "held")
    assert (held["nextAttemptAt"], held["nextAttemptIn"], held["isEligible"]) == (None, None, False)
    assert page["queue"]["reason"] == "outreach_locked"


async def test_what_was_given_up_is_in_the_queue_no_more(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    queue_id = await _send(client, "x")
    await _change(edge, queue_id, state=ItemState.UNKNOWN, on_wire=True, settled_at=edge.clock.now())
    shown = (await client.get(QUEUE)).json()
    assert (shown["depth"], shown["items"]) == (0, [])
    assert (await client.get(f"/instances/shop/request/{queue_id}")).json()["reason"] == "fate_unknown"


# --- what people do to it ---------------------------------------------------------------------------------------------


async def test_clear_cancels_what_waits_and_frees_its_keys(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    first = await _send(client, "1")
    await _send(client, "2")
    answer = await client.delete(QUEUE)

    shown = answer.json()
    assert set(shown) == {"message", "cleared", "queueDepth", "droppedFromOutbound", "status"}
    assert (shown["cleared"], shown["queueDepth"], shown["droppedFromOutbound"]) == (2, 0, 0)
    assert (await client.get(f"/instances/shop/request/{first}")).json()["state"] == "cancelled"
    assert await _send(client, "1") != first
    assert (await client.delete(QUEUE)).json()["cleared"] == 1
    assert (await client.delete(QUEUE)).json()["cleared"] == 0


async def test_clear_tells_the_truth_about_what_may_be_out(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    on_wire, unknown = await _send(client, "1"), await _send(client, "2", chatId=PHONE + "9")
    await _send(client, "3")
    await _change(edge, on_wire, state=ItemState.SENDING, claimed_epoch=1, claimed_at=edge.clock.now())
    await _change(edge, unknown, state=ItemState.UNKNOWN, on_wire=True)
    shown = (await client.delete(QUEUE)).json()
    assert (shown["cleared"], shown["queueDepth"]) == (1, 2)
    assert "2 may be out" in shown["message"]


async def test_trigger_lets_retries_go_now(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    queue_id = await _send(client, "1")
    await _change(edge, queue_id, attempts=3, next_attempt_at=edge.clock.now() + 40)
    await edge.hinted(outbox_topic("shop"))
    answer = await client.post(f"{QUEUE}/trigger")

    assert (answer.status_code, answer.json()) == (
        200,
        {
            "success": True,
            "message": "Send loop triggered",
            "queueDepth": 1,
            "sendLoopRunning": True,
            "status": "success",
        },
    )
    (entry,) = await edge.entries("shop")
    assert (entry.next_attempt_at <= edge.clock.now(), entry.attempts) == (True, 3)
    assert await edge.hinted(outbox_topic("shop"))


async def test_trigger_needs_a_ready_instance_and_work(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop")
    empty = await client.post(f"{QUEUE}/trigger")
    await _send(client, "1")
    await edge.see(shop, state=State.DISCONNECTED)
    down = await client.post(f"{QUEUE}/trigger")
    assert (empty.status_code, "empty" in empty.json()["error"]) == (400, True)
    assert (down.status_code, "not ready" in down.json()["error"]) == (400, True)


async def test_release_lets_held_items_go(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    for number in range(2):
        await _change(edge, await _send(client, f"{number}"), state=ItemState.HELD, last_error="account_changed")
    await edge.hinted(outbox_topic("shop"))
    shown = (await client.post(f"{QUEUE}/release")).json()
    again = (await client.post(f"{QUEUE}/release")).json()
    assert (shown["released"], shown["queueDepth"], again["released"]) == (2, 2, 0)
    assert {entry.state for entry in await edge.entries("shop")} == {ItemState.QUEUED}
    assert await edge.hinted(outbox_topic("shop"))


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        ("GET", "queue"),
        ("DELETE", "queue"),
        ("POST", "queue/trigger"),
        ("POST", "queue/release"),
        ("GET", "status"),
        ("GET", "requests"),
        ("POST", "idempotency/import"),
        ("GET", "request/" + "0" * 32),
        ("DELETE", "request/" + "0" * 32),
        ("POST", "request/" + "0" * 32 + "/resolve"),
        ("POST", "request/" + "0" * 32 + "/retry"),
    ],
)
async def test_an_unknown_instance_is_404(client: httpx.AsyncClient, method: str, tail: str) -> None:
    for prefix in ("/instances", "/api/v1/instances"):
        answer = await client.request(method, f"{prefix}/none/{tail}")
        assert (answer.status_code, answer.json()["error"]) == (404, "Instance none not found")


# --- the status page --------------------------------------------------------------------------------------------------


async def test_the_status_page(edge: Edge) -> None:
    edge.with_settings(limits=QueueLimits(max_queue=77), pace=Pace(per_minute=2, per_hour=60, spacing=0))
    shop = await edge.add(
        "shop",
        last_ready_at=1_700_000_000.0,
        last_disconnect_at=1_700_000_100.0,
        last_disconnect_reason="connection_lost",
        last_event="opened",
    )
    now = edge.clock.now()

    def before(tx: Any) -> None:
        for ago in (3_700.0, 1_000.0, 20.0, 10.0):
            tx.keys.add_claim(shop, now - ago, forget_before=0)
        tx.tally.add_disconnect(shop, now - 60)

    await edge.write(before)
    async with edge.client() as client:
        queue_id = await _send(client, "1")
        (entry,) = await edge.entries("shop")
        await edge.write(
            lambda tx: tx.outbox.save(settle(dataclasses.replace(entry, claimed_at=now), ItemState.SENT, now))
        )
        await _send(client, "2")
        answer = await client.get("/instances/shop/status")

    assert queue_id == entry.id
    shown = answer.json()
    created = shown["instance"].pop("createdAt")
    assert created.endswith("Z")
    assert shown == {
        "instance": {"id": "shop", "name": "shop", "state": "ready", "status": "ready"},
        "client": {
            "phoneNumber": PHONE,
            "displayName": "Shop",
            "lastReadyAt": "2023-11-14T22:13:20.000Z",
            "lastDisconnectAt": "2023-11-14T22:15:00.000Z",
            "lastDisconnectReason": "connection_lost",
            "lastAuthFailureAt": None,
            "lastEvent": "opened",
        },
        "queue": {"depth": 1, "sendLoopRunning": True, "maxSize": 77},
        "reconnection": {
            "restartAttempts": 0,
            "lastRestartAt": None,
            "restartHistoryLength": 0,
            "rateLimitExceeded": False,
        },
        "rateLimits": {
            "sendsPerMinute": {"current": 2, "max": 2, "limited": True},
            "sendsPerHour": {"current": 3, "max": 60, "limited": False},
        },
        "counters": {"sent24h": 1, "sent1h": 1, "failures1h": 0, "disconnects1h": 1, "newChats24h": 1},
        "webhook": {"url": HOOK, "events": []},
        "webhookEndpoint": {
            "state": "active",
            "since": None,
            "failures": 0,
            "lastError": None,
            "nextProbeAt": None,
            "deadLetters": 0,
            "ownSecret": False,
        },
        "status": "success",
    }


async def test_an_unlimited_window_limits_nothing(edge: Edge) -> None:
    edge.with_settings(pace=Pace(0, 0, 0))
    shop = await edge.add("shop")
    await edge.write(lambda tx: tx.keys.add_claim(shop, edge.clock.now(), forget_before=0))
    async with edge.client() as client:
        shown = (await client.get(f"/instances/{InstanceId('shop')}/status")).json()
    assert shown["rateLimits"]["sendsPerMinute"] == {"current": 1, "max": 0, "limited": False}
    assert shown["client"]["lastAuthFailureAt"] is None
