"""One item: its fate and timeline, and what callers decide about it; and keys of an earlier gateway."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.api.conftest import PATIENCE, PHONE, Edge
from tests.integration.api.test_any_body import ANY

from wahub.domain.ids import InstanceId, MessageId, QueueId
from wahub.domain.instance import State
from wahub.domain.outbox import DeliveryMark, Entry, ItemState, Moment, settle
from wahub.ports.wakeup import INSTANCES, WEBHOOKS, deleted_topic, outbox_topic

SEND = "/instances/shop/client/action/send-message"
TEXT = {"chatId": PHONE, "message": "hi"}


async def _new(client: httpx.AsyncClient, edge: Edge, **changes: Any) -> tuple[str, Entry]:
    """An accepted item as the send loop left it, and the path of its request."""
    queue_id = (await client.post(SEND, json=TEXT)).json()["queueId"]
    entry = next(entry for entry in await edge.entries("shop") if entry.id == queue_id)
    changed = dataclasses.replace(entry, **changes)
    await edge.write(lambda tx: tx.outbox.save(changed))
    return f"/instances/shop/request/{queue_id}", changed


def _unknown(edge: Edge, *, given_up: bool = True) -> dict[str, Any]:
    return {
        "state": ItemState.UNKNOWN,
        "on_wire": True,
        "last_error": "timeout",
        "settled_at": edge.clock.now() if given_up else None,
    }


async def test_the_fate_of_a_request(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    path, entry = await _new(client, edge)

    waiting = (await client.get(path)).json()
    assert (waiting["state"], waiting["final"], waiting["delivery"]) == ("queued", False, None)
    assert waiting["nextAttemptAt"].endswith("Z")
    assert [moment["event"] for moment in waiting["timeline"]] == ["accepted"]

    timeline = (Moment(1_700_000_000.0, "attempt"), Moment(1_700_000_000.25, "refused", "500"))
    done = dataclasses.replace(
        settle(entry, ItemState.SENT, 1_700_000_000.0),
        delivery=DeliveryMark.READ,
        timeline=timeline,
        expires_at=float("inf"),
    )
    await edge.write(lambda tx: tx.outbox.save(done))
    answer = await client.get(f"/api/v1{path}")
    shown = answer.json()
    data = shown.pop("data")
    assert shown == {
        "id": entry.id,
        "queueId": entry.id,
        "messageId": entry.message_id,
        "instanceId": "shop",
        "chat": "***5551",
        "type": "message",
        "state": "sent",
        "delivery": "read",
        "priority": "normal",
        "keyKind": "derived",
        "final": True,
        "attempts": 0,
        "reason": None,
        "lastError": None,
        "createdAt": waiting["createdAt"],
        "settledAt": "2023-11-14T22:13:20.000Z",
        "resends": 0,
        "recipientType": "customer",
        "uxTyping": True,
        "sendAt": None,
        "expiresAt": shown["expiresAt"],
        "nextAttemptAt": None,
        "timeline": [
            {"at": "2023-11-14T22:13:20.000Z", "event": "attempt", "detail": None},
            {"at": "2023-11-14T22:13:20.250Z", "event": "refused", "detail": "500"},
        ],
        "status": "success",
    }
    assert {**data, "status": "success"} == shown
    assert PHONE not in answer.text


@pytest.mark.parametrize("queue_id", ["0" * 32, "nothing", "%00", "x" * 5000, "a%2Fb", "%ff"])
@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("DELETE", ""), ("POST", "/resolve"), ("POST", "/retry")])
async def test_an_unknown_request_is_404(
    client: httpx.AsyncClient, edge: Edge, queue_id: str, method: str, tail: str
) -> None:
    await edge.add("shop")
    answer = await client.request(method, f"/instances/shop/request/{queue_id}{tail}")
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert answer.json()["error"].startswith("Request ")


async def test_a_request_of_another_instance_is_404(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    await edge.add("other")
    path, entry = await _new(client, edge)
    for method in ("GET", "DELETE"):
        assert (await client.request(method, path.replace("shop", "other"))).status_code == 404
    found = await edge.read(lambda tx: tx.outbox.get(InstanceId("shop"), entry.id))
    assert found is not None and found.state is ItemState.QUEUED


# --- cancel and retry -------------------------------------------------------------------------------------------------


async def test_cancel_takes_an_item_back_and_frees_its_key(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    path, entry = await _new(client, edge)
    shown = (await client.delete(path)).json()
    assert (shown["state"], shown["data"]["state"], shown["final"]) == ("cancelled", "cancelled", True)
    assert shown["timeline"][-1]["event"] == "cancelled"
    again = await client.delete(path)
    assert (again.status_code, again.json()["status"]) == (409, 409)
    anew = await client.post(SEND, json=TEXT)
    assert (anew.status_code, anew.json()["queueId"] != entry.id) == (202, True)


async def test_cancel_refuses_what_may_be_out(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    path, _ = await _new(client, edge, **_unknown(edge, given_up=False))
    refused = await client.delete(path)
    assert (refused.status_code, "never was on the wire" in refused.json()["error"]) == (409, True)


async def test_retry_sends_again_under_the_same_id(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    path, entry = await _new(client, edge)
    failed = settle(dataclasses.replace(entry, attempts=5), ItemState.FAILED, edge.clock.now(), "why")
    await edge.write(lambda tx: tx.outbox.save(failed))
    await edge.hinted(outbox_topic("shop"))

    shown = (await client.post(f"{path}/retry")).json()
    assert (shown["state"], shown["attempts"], shown["messageId"]) == ("queued", 0, entry.message_id)
    assert await edge.hinted(outbox_topic("shop"))


@pytest.mark.parametrize(("state", "remedy"), [(ItemState.UNKNOWN, "resolve it"), (ItemState.SENT, "new message")])
async def test_retry_refuses_the_rest(client: httpx.AsyncClient, edge: Edge, state: ItemState, remedy: str) -> None:
    await edge.add("shop")
    sent = {"state": state, "settled_at": edge.clock.now(), "delivery": DeliveryMark.SERVER}
    path, _ = await _new(client, edge, **(sent if state is ItemState.SENT else _unknown(edge)))
    refused = await client.post(f"{path}/retry")
    assert (refused.status_code, remedy in refused.json()["error"]) == (409, True)


# --- resolve ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_up", [True, False])
@pytest.mark.parametrize(("word", "state"), [("sent", "sent"), ("failed", "failed"), ("resend", "unknown")])
async def test_resolve(client: httpx.AsyncClient, edge: Edge, word: str, state: str, given_up: bool) -> None:
    await edge.add("shop")
    path, entry = await _new(client, edge, **_unknown(edge, given_up=given_up))
    await edge.hinted(outbox_topic("shop"))
    shown = (await client.post(f"{path}/resolve", json={"as": word})).json()
    assert (shown["state"], shown["final"], shown["messageId"]) == (state, word != "resend", entry.message_id)
    assert (shown["timeline"][-1]["event"], shown["timeline"][-1]["detail"]) == ("resolved", word)
    assert (await edge.hinted(outbox_topic("shop")), await edge.hinted(WEBHOOKS)) == (True, True)


@pytest.mark.parametrize("state", [ItemState.QUEUED, ItemState.FAILED])
async def test_resolve_refuses_a_known_fate(client: httpx.AsyncClient, edge: Edge, state: ItemState) -> None:
    await edge.add("shop")
    settled_at = edge.clock.now() if state is ItemState.FAILED else None
    path, _ = await _new(client, edge, state=state, settled_at=settled_at)
    refused = await client.post(f"{path}/resolve", json={"as": "sent"})
    assert (refused.status_code, "only an item in state unknown" in refused.json()["error"]) == (409, True)


@pytest.mark.parametrize("body", [{}, {"as": None}, {"as": "gone"}, {"as": 1}, {"as": ["sent"]}, {"AS": "sent"}])
async def test_resolve_needs_one_of_three_words(client: httpx.AsyncClient, edge: Edge, body: dict[str, Any]) -> None:
    await edge.add("shop")
    path, _ = await _new(client, edge, **_unknown(edge))
    refused = await client.post(f"{path}/resolve", json=body)
    assert (refused.status_code, "resend or sent or failed" in refused.json()["error"]) == (400, True)
    assert (await client.get(path)).json()["state"] == "unknown"


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=ANY | st.fixed_dictionaries({"as": ANY}))
async def test_resolve_with_any_body(client: httpx.AsyncClient, edge: Edge, body: Any) -> None:
    if await edge.read(lambda tx: tx.instances.get(InstanceId("shop"))) is None:
        await edge.add("shop")
        await _new(client, edge, **_unknown(edge))
    found = await edge.read(lambda tx: tx.outbox.list(InstanceId("shop"), None, 1))
    path = f"/instances/shop/request/{found[0].id}/resolve"
    answer = await client.post(path, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    words = ("resend", "sent", "failed")
    meant = isinstance(body, dict) and isinstance(body.get("as"), str) and body["as"] in words
    assert answer.status_code in ((200, 409) if meant else (400,)), answer.text


# --- a list -----------------------------------------------------------------------------------------------------------


async def test_the_latest_requests(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    sends = [await client.post(SEND, json={**TEXT, "message": f"{number}"}) for number in range(4)]
    ids = [answer.json()["queueId"] for answer in sends]
    await client.delete(f"/instances/shop/request/{ids[1]}")

    async def listed(query: str) -> list[str]:
        answer = await client.get(f"/instances/shop/requests{query}")
        assert answer.status_code == 200 and PHONE not in answer.text
        return [item["queueId"] for item in answer.json()["requests"]]

    assert await listed("") == ids[::-1]
    assert await listed("?limit=2") == [ids[3], ids[2]]
    assert await listed("?state=cancelled") == [ids[1]]
    assert await listed("?state=queued&limit=1") == [ids[3]]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=nan", "state=lost", "state="])
async def test_a_bad_filter_is_named(client: httpx.AsyncClient, edge: Edge, query: str) -> None:
    await edge.add("shop")
    refused = await client.get(f"/instances/shop/requests?{query}")
    assert (refused.status_code, refused.json()["error"].startswith(query.partition("=")[0])) == (400, True)


# --- log out ----------------------------------------------------------------------------------------------------------

LOGOUT = "/instances/shop/client/action/logout"


async def _worker(edge: Edge) -> None:
    """What the supervisor does about a mark."""
    assert await edge.wakeup.wait(INSTANCES, PATIENCE)

    def work(tx: Any) -> None:
        known = tx.instances.get(InstanceId("shop"), for_update=True)
        if known.deleting:
            tx.instances.delete(known.id)
        else:
            seen = dataclasses.replace(known.observed, state=State.NEEDS_QR)
            tx.instances.save(dataclasses.replace(known, unlinking=False, observed=seen))

    await edge.write(work)
    edge.wakeup.notify(deleted_topic("shop"))


async def test_logout_removes_everything(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    shown = (await client.post(LOGOUT)).json()
    assert shown["message"] == "Instance shop logged out and destroyed successfully"
    assert (shown["deleted"], shown["purgedPaths"], shown["status"]) == (True, [], "success")
    assert (await client.get("/instances/shop")).status_code == 404
    none = (await client.post("/instances/none/client/action/logout")).json()
    assert (none["deleted"], none["purged"]) == (False, False)


@pytest.mark.parametrize(
    ("query", "body"),
    [("?keep=1", None), ("?keep=true", None), ("", {"keep": 1}), ("", {"keep": True}), ("", {"keep": "1"})],
)
async def test_logout_may_keep_the_queue(edge: Edge, query: str, body: Any) -> None:
    edge.with_settings(delete_wait=PATIENCE)
    await edge.add("shop")
    async with edge.client() as client:
        path, _ = await _new(client, edge)
        answer, _ = await asyncio.gather(client.post(LOGOUT + query, json=body), _worker(edge))
        shown = answer.json()
        assert (answer.status_code, shown["deleted"], shown["purged"]) == (200, False, True)
        assert "queue is kept" in shown["message"] and "warnings" not in shown
        assert (await client.get(path)).json()["state"] == "queued"
        none = await client.post("/instances/none/client/action/logout?keep=1")
        assert (none.status_code, none.json()["deleted"]) == (200, False)


@pytest.mark.parametrize("body", [{"keep": "yes"}, {"keep": 2}, {"keep": []}, {"keep": 1.5}])
async def test_a_keep_that_is_not_understood_deletes_nothing(
    client: httpx.AsyncClient, edge: Edge, body: dict[str, Any]
) -> None:
    await edge.add("shop")
    refused = await client.post(LOGOUT, json=body)
    assert (refused.status_code, "keep must be 1 or 0" in refused.json()["error"]) == (400, True)
    assert (await client.get("/instances/shop")).status_code == 200


# --- keys of an earlier gateway ---------------------------------------------------------------------------------------

IMPORT = "/instances/shop/idempotency/import"


async def test_an_imported_key_is_a_replay_whatever_the_text(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    now = round(edge.clock.now() * 1000)
    order = {"shop": "s", "orderId": 7, "action": "confirm"}
    records = [
        {
            "idempotencyKey": "k",
            "sentAt": now,
            "queueItemId": "a" * 32,
            "providerMessageId": f"true_{PHONE}@c.us_3EB0AB",
        },
        {"idempotencyKey": "order:s:7:confirm:v1", "sentAt": now},
        {"idempotencyKey": "old", "sentAt": now - 8 * 86_400_000},
        {"idempotencyKey": "k", "sentAt": now},
        {"idempotencyKey": "same ids", "sentAt": now, "queueItemId": "a" * 32, "providerMessageId": "3EB0AB"},
    ]
    first = await client.post(IMPORT, json={"records": records})
    again = await client.post(IMPORT, json={"records": records})
    assert (first.status_code, first.json()["imported"], first.json()["ignored"]) == (200, 3, 2)
    assert (again.json()["imported"], again.json()["ignored"]) == (0, 5)

    explicit = await client.post(SEND, json={**TEXT, "idempotencyKey": "k"})
    ordered = await client.post(SEND, json={**TEXT, **order})
    new = await client.post(SEND, json={**TEXT, "idempotencyKey": "old"})
    assert (explicit.status_code, explicit.json()["queueId"], explicit.json()["idempotent"]) == (200, "a" * 32, True)
    assert explicit.json()["messageId"] == "3EB0AB", "without the phone number that older ids contain"
    assert (ordered.status_code, ordered.json()["messageId"], ordered.json()["keyKind"]) == (200, None, "order")
    assert new.status_code == 202
    found = await edge.read(lambda tx: tx.outbox.find_message(InstanceId("shop"), MessageId("3EB0AB")))
    assert found is not None and found.id == QueueId("a" * 32)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "records is required"),
        ({"records": "x"}, "records must be an array of objects"),
        ({"records": [1]}, "records must be an array of objects"),
        ({"records": [{}] * 501}, "records has too many items: at most 500"),
        ({"records": [{"sentAt": 1}]}, "records[0].idempotencyKey is required"),
        ({"records": [{"idempotencyKey": "k", "sentAt": "x"}]}, "records[0].sentAt must be milliseconds"),
        ({"records": [{"idempotencyKey": "k"}]}, "records[0].sentAt is required"),
    ],
)
async def test_a_bad_import_stores_nothing(
    client: httpx.AsyncClient, edge: Edge, body: dict[str, Any], text: str
) -> None:
    await edge.add("shop")
    good = {"idempotencyKey": "good", "sentAt": round(edge.clock.now() * 1000)}
    refused = await client.post(IMPORT, json=body)
    assert (refused.status_code, text in refused.json()["error"]) == (400, True)
    if isinstance(body.get("records"), list) and len(body["records"]) == 1:
        assert (await client.post(IMPORT, json={"records": [good, *body["records"]]})).status_code == 400
    assert await edge.read(lambda tx: tx.keys.get(InstanceId("shop"), "good")) is None
