"""Restart, retry, and what is told of the life of an instance (contract A.1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from tests.contract.makers import add_delivery, add_received, make_received
from tests.integration.api.conftest import HOOK, PHONE, Edge

from wahub.domain.ids import InstanceId
from wahub.domain.instance import State
from wahub.domain.lifecycle import Ask, Incident, IncidentKind
from wahub.domain.times import iso
from wahub.domain.webhook import Delivery, DeliveryState
from wahub.ports.store import Tx
from wahub.ports.wakeup import INSTANCES

BOTH = ("/instances", "/api/v1/instances")
THEN = 1_700_000_000.0
"""Unix seconds."""
THEN_ISO = "2023-11-14T22:13:20.000Z"


# --- restart ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BOTH)
@pytest.mark.parametrize(
    ("body", "kind", "ask"),
    [
        (None, "soft", Ask.SOFT_RESTART),
        ({"type": "soft"}, "soft", Ask.SOFT_RESTART),
        ({"type": "hard"}, "hard", Ask.HARD_RESTART),
        ({"type": None}, "soft", Ask.SOFT_RESTART),
    ],
)
async def test_restart_is_written_down_and_answered_at_once(
    client: httpx.AsyncClient, edge: Edge, base: str, body: Any, kind: str, ask: Ask
) -> None:
    shop = await edge.add("WASP-shop.eu")
    answer = await client.post(f"{base}/WASP-shop.eu/restart", json=body)

    message = f"Restart initiated (type: {kind})"
    expected = {"message": message, "instanceId": shop, "currentState": "ready", "status": "success"}
    assert (answer.status_code, answer.json()) == (200, expected)
    record = await edge.record(shop)
    assert record.asked is ask and record.asked_at is not None
    assert await edge.hinted(INSTANCES)


@pytest.mark.parametrize("body", [{"type": "HARD"}, {"type": "warm"}, {"type": ""}, {"type": 1}, {"type": ["hard"]}])
async def test_another_word_is_refused_by_name(client: httpx.AsyncClient, edge: Edge, body: Any) -> None:
    shop = await edge.add()
    answer = await client.post("/instances/shop/restart", json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": "type must be soft or hard", "status": 400})
    assert (await edge.record(shop)).asked is None


@pytest.mark.parametrize(
    ("state", "text"),
    [(State.NEEDS_QR, "waits for a QR scan"), (State.FAILED_QR_TIMEOUT, "POST /instances/shop/retry")],
)
async def test_what_waits_for_a_scan_is_not_restarted(
    client: httpx.AsyncClient, edge: Edge, state: State, text: str
) -> None:
    shop = await edge.add("shop", state=state)
    answer = await client.post("/instances/shop/restart")
    assert answer.status_code == 400 and text in answer.json()["error"]
    assert (await edge.record(shop)).asked is None


async def test_a_restriction_is_sat_out(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop", state=State.RESTRICTED)
    until = edge.clock.now() + 60
    await edge.remember(shop, restricted_until=until)
    early = await client.post("/instances/shop/restart")
    await edge.remember(shop, restricted_until=edge.clock.now() - 1)
    late = await client.post("/instances/shop/restart")

    assert early.status_code == 400 and iso(until) in early.json()["error"]
    assert (late.status_code, late.json()["currentState"]) == (200, "restricted")


async def test_a_restart_in_error_is_a_retry(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop", state=State.ERROR)
    answer = await client.post("/instances/shop/restart", json={"type": "hard"})
    assert (answer.status_code, answer.json()["currentState"]) == (200, "error")
    assert (await edge.record(shop)).asked is Ask.RETRY


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "restart", {}),
        ("POST", "restart", {"type": "warm"}),
        ("POST", "retry", {}),
        ("GET", "diagnostics", None),
        ("GET", "client/info-raw", None),
        ("GET", "client/qr?format=bmp", None),
        ("POST", "client/pairing-code", {"phone": PHONE}),
        ("POST", "client/pairing-code", {}),
    ],
)
@pytest.mark.parametrize("base", BOTH)
async def test_an_unknown_instance_is_said_first(
    client: httpx.AsyncClient, base: str, method: str, path: str, body: Any
) -> None:
    answer = await client.request(method, f"{base}/nobody/{path}", json=body)
    assert (answer.status_code, answer.json()) == (404, {"error": "Instance nobody not found", "status": 404})


# --- retry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.ERROR, State.FAILED_QR_TIMEOUT])
@pytest.mark.parametrize("base", BOTH)
async def test_retry_out_of_what_has_ended(client: httpx.AsyncClient, edge: Edge, base: str, state: State) -> None:
    shop = await edge.add("shop", state=state)
    answer = await client.post(f"{base}/shop/retry")
    shown = answer.json()
    assert (answer.status_code, shown["instanceId"], shown["status"]) == (200, "shop", "success")
    assert (await edge.record(shop)).asked is Ask.RETRY
    assert await edge.hinted(INSTANCES)


@pytest.mark.parametrize("state", sorted(set(State) - {State.ERROR, State.FAILED_QR_TIMEOUT}))
@pytest.mark.parametrize("path", ["/instances/shop/retry", "/__debug/instances/shop/retry"])
async def test_retry_in_other_states_advises_a_restart(
    client: httpx.AsyncClient, edge: Edge, path: str, state: State
) -> None:
    shop = await edge.add("shop", state=state)
    answer = await client.post(path)
    assert answer.status_code == 400
    assert "restart" in answer.json()["error"] and state in answer.json()["error"]
    assert (await edge.record(shop)).asked is None


# --- diagnostics ------------------------------------------------------------------------------------------------------

FIELDS_OF_THE_CONTRACT = """
    instanceId name state lastLifecycleEvent lastLifecycleEventAt lastEvent lastEventTimestamp
    lastWebhookEvent lastWebhookStatus lastWebhookAt lastWebhookError lastError lastErrorAt lastErrorStack
    readyWatchdogStartAt connectingWatchdogStartAt connectingWatchdogRestartCount qrReceivedDuringRestart
    restartAttempts restartCount queueDepth sendLoopRunning activeForCleanup readySource authenticatedAt readyAt
    authenticatedToReadyMs readyPollAttempts lastReadyPollError listenersAttached fallbackPollEnabled
    fallbackPollIntervalMs lastFallbackPollAt fallbackPollRuns fallbackPollLastError lastIncomingMessageAt
    dedupeCacheSize process
"""


@pytest.mark.parametrize("base", BOTH)
async def test_diagnostics_of_a_new_instance_has_every_field(client: httpx.AsyncClient, base: str) -> None:
    await client.post("/instances", json={"name": "shop", "webhook": {"url": HOOK}})
    answer = await client.get(f"{base}/shop/diagnostics")
    shown = answer.json()
    assert answer.status_code == 200
    assert set(FIELDS_OF_THE_CONTRACT.split()) <= shown.keys()
    assert (shown["state"], shown["status"], shown["queueDepth"], shown["sendLoopRunning"]) == (
        "connecting",
        "success",
        0,
        False,
    )
    assert shown["dedupeCacheSize"] == 0
    assert (shown["connectedMute"], shown["incidents"], shown["restartHistory"]) == (None, [], [])
    assert shown["process"]["memoryUsage"]["rss"] > 1_000_000
    assert shown["process"]["memoryUsage"]["peakRss"] >= 1_000_000
    assert shown["process"]["uptimeSeconds"] >= 0
    assert shown["process"]["eventLoopLagMs"] == 0


async def test_diagnostics_counts_what_guards_against_a_second_copy(client: httpx.AsyncClient, edge: Edge) -> None:
    shop, other = await edge.add("shop"), await edge.add("other")

    def receive(tx: Tx) -> None:
        for number in range(2_003):
            add_received(tx, make_received(f"3EB0{number}", instance=shop), 1.0)
        add_received(tx, make_received("3EB00", instance=other), 1.0)

    await edge.write(receive)
    for name, size in (("shop", 2_000), ("other", 1)):
        assert (await client.get(f"/instances/{name}/diagnostics")).json()["dedupeCacheSize"] == size


async def test_diagnostics_tells_the_record(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add(
        "shop",
        last_event="ready",
        last_event_at=THEN,
        authenticated_at=THEN - 2,
        ready_at=THEN,
        last_error="connection_closed",
        restart_attempts=3,
        last_disconnect_reason="connection_closed",
        last_disconnect_at=THEN,
    )
    record: dict[str, Any] = {
        "ready_watchdog_at": THEN,
        "connecting_watchdog_at": THEN,
        "connecting_watchdog_restarts": 1,
        "qr_received_during_restart": True,
        "restart_count": 4,
        "restarts": (THEN, THEN + 1),
        "last_restart_at": THEN,
        "ready_source": "poll",
        "authenticated_to_ready_ms": 2000,
        "ready_poll_attempts": 2,
        "last_ready_poll_error": "no answer",
        "last_error_at": THEN,
        "paused_until": THEN,
        "pause_reason": "cooldown",
        "restricted_until": THEN,
        "mute_since": THEN,
        "mute_evidence": "unacked_sends",
        "mutes": 5,
        "reconnects": 6,
        "last_gap_at": THEN,
    }
    await edge.remember(shop, **record)
    shown = (await client.get("/instances/shop/diagnostics")).json()

    assert (shown["lastLifecycleEvent"], shown["lastLifecycleEventAt"]) == ("ready", THEN_ISO)
    assert (shown["lastEvent"], shown["lastEventTimestamp"]) == ("ready", THEN_ISO)
    assert (shown["lastError"], shown["lastErrorAt"], shown["lastErrorStack"]) == ("connection_closed", THEN_ISO, None)
    assert (shown["readyWatchdogStartAt"], shown["connectingWatchdogStartAt"]) == (THEN_ISO, THEN_ISO)
    assert (shown["connectingWatchdogRestartCount"], shown["qrReceivedDuringRestart"]) == (1, True)
    assert (shown["restartAttempts"], shown["restartCount"]) == (3, 4)
    assert shown["restartHistory"] == [THEN_ISO, "2023-11-14T22:13:21.000Z"]
    assert (shown["readySource"], shown["readyPollAttempts"], shown["lastReadyPollError"]) == ("poll", 2, "no answer")
    assert (shown["readyAt"], shown["authenticatedToReadyMs"]) == (THEN_ISO, 2000)
    assert (shown["pausedUntil"], shown["pauseReason"], shown["restrictedUntil"]) == (THEN_ISO, "cooldown", THEN_ISO)
    assert shown["connectedMute"] == {"since": THEN_ISO, "evidence": "unacked_sends"}
    assert (shown["mutes"], shown["reconnects"], shown["lastGapAt"]) == (5, 6, THEN_ISO)
    assert (shown["listenersAttached"], shown["activeForCleanup"]) == (True, True)


async def test_diagnostics_tells_the_latest_incidents_newest_first(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop")

    def work(tx: Tx) -> None:
        for number in range(25):
            tx.lifecycles.add_incident(shop, Incident(IncidentKind.CONNECTED_MUTE, f"no. {number}", THEN + number))

    await edge.write(work)
    found = (await client.get("/instances/shop/diagnostics")).json()["incidents"]
    assert [incident["details"] for incident in found] == [f"no. {number}" for number in range(24, 4, -1)]
    assert found[-1] == {"kind": "connected_mute", "details": "no. 5", "at": "2023-11-14T22:13:25.000Z"}


@pytest.mark.parametrize(("error", "status"), [(None, "ok"), ("503", "failed")])
async def test_diagnostics_tells_the_last_webhook(
    client: httpx.AsyncClient, edge: Edge, error: str | None, status: str
) -> None:
    shop = await edge.add("shop")

    def work(tx: Tx) -> None:
        made = Delivery(
            event_id="e" * 32,
            instance=shop,
            event="ready",
            lane="lifecycle",
            url=HOOK,
            body="{}",
            sequence=1,
            created_at=THEN,
            expires_at=THEN + 60,
            next_attempt_at=THEN,
        )
        add_delivery(tx, made)
        (due,) = tx.webhooks.due(THEN, 1)
        state = DeliveryState.DELIVERED if error is None else DeliveryState.PENDING
        tx.webhooks.save_all([dataclasses.replace(due, state=state, attempts=1, attempted_at=THEN, last_error=error)])

    await edge.write(work)
    shown = (await client.get("/instances/shop/diagnostics")).json()
    assert (shown["lastWebhookEvent"], shown["lastWebhookStatus"]) == ("ready", status)
    assert (shown["lastWebhookAt"], shown["lastWebhookError"]) == (THEN_ISO, error)


async def test_no_pairing_code_is_ever_diagnosed(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop", state=State.NEEDS_QR, phone=None, qr="2@the,code")
    await edge.remember(shop, pairing_phone=PHONE, pairing_code="ABCDEFGH", pairing_code_expires_at=THEN)
    text = (await client.get("/instances/shop/diagnostics")).text + (await client.get("/system/status")).text
    assert "ABCDEFGH" not in text and PHONE not in text and "2@the" not in text


# --- the other pages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BOTH)
async def test_info_raw_in_any_state(client: httpx.AsyncClient, edge: Edge, base: str) -> None:
    shop = await edge.add("shop", authenticated_at=THEN - 1, ready_at=THEN)
    await edge.add("new", state=State.ERROR, phone=None, display_name=None, last_error="broken")
    await edge.remember(shop, ready_source="event", authenticated_to_ready_ms=1000)
    linked = (await client.get(f"{base}/shop/client/info-raw")).json()
    broken = (await client.get(f"{base}/new/client/info-raw")).json()

    assert linked == {
        "instanceState": "ready",
        "clientExists": True,
        "clientInfoPresent": True,
        "clientInfo": {"pushname": "Shop", "wid": {"user": PHONE, "_serialized": f"{PHONE}@c.us"}},
        "error": None,
        "readySource": "event",
        "readyAt": THEN_ISO,
        "authenticatedToReadyMs": 1000,
        "readyPollAttempts": 0,
        "lastReadyPollError": None,
        "status": "success",
    }
    assert (broken["clientExists"], broken["clientInfo"], broken["error"]) == (False, None, "broken")


async def test_client_status_tells_the_watchdog_and_the_poll(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop", authenticated_at=THEN, ready_at=THEN)
    record = {"ready_watchdog_at": THEN, "ready_source": "poll", "ready_poll_attempts": 3, "last_ready_poll_error": "x"}
    await edge.remember(shop, **record)
    shown = (await client.get("/instances/shop/client/status")).json()["clientStatus"]
    assert (shown["readyWatchdogStartAt"], shown["readySource"]) == (THEN_ISO, "poll")
    assert (shown["readyPollAttempts"], shown["lastReadyPollError"]) == (3, "x")

    await edge.see(shop, ready_at=None, state=State.DISCONNECTED)
    lost = (await client.get("/instances/shop/client/status")).json()["clientStatus"]
    assert lost["readySource"] is None


async def test_the_status_page_counts_restarts_inside_the_window(client: httpx.AsyncClient, edge: Edge) -> None:
    now = edge.clock.now()
    edge.with_settings(restart_window=60.0)
    shop = await edge.add("shop", state=State.PAUSED, restart_attempts=2)
    restarts = (now - 3600, now - 30, now - 20)
    await edge.remember(
        shop, restarts=restarts, last_restart_at=THEN, pause_reason="restart_limit", last_auth_failure_at=THEN
    )
    async with edge.client() as made:
        shown = (await made.get("/instances/shop/status")).json()
        await edge.remember(shop, pause_reason="cooldown")
        cooling = (await made.get("/instances/shop/status")).json()

    assert shown["reconnection"] == {
        "restartAttempts": 2,
        "lastRestartAt": THEN_ISO,
        "restartHistoryLength": 2,
        "rateLimitExceeded": True,
    }
    assert shown["client"]["lastAuthFailureAt"] == THEN_ISO
    assert cooling["reconnection"]["rateLimitExceeded"] is False


async def test_an_instance_that_is_being_deleted_has_no_life(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop")

    def work(tx: Tx) -> None:
        known = tx.instances.get(InstanceId("shop"), for_update=True)
        assert known is not None
        tx.instances.save(dataclasses.replace(known, deleting=True))

    await edge.write(work)
    assert (await client.post(f"/instances/{shop}/restart")).status_code == 404
    assert (await client.get(f"/instances/{shop}/diagnostics")).status_code == 404
    assert (await edge.record(shop)).asked is None
