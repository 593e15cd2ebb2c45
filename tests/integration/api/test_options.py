"""What a send may ask for beside its text: time, life, priority, audience, typing; and polls (contract A.1, C)."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import PHONE, Edge

from wahub.domain.instance import State
from wahub.domain.message import Poll
from wahub.domain.outbox import Audience, ItemState, Priority, settle
from wahub.domain.pacing import Pace
from wahub.ports.wakeup import outbox_topic
from wahub.services.outbox import QueueLimits

SEND = "/instances/shop/client/action/send-message"
POLL = "/instances/shop/client/action/create-poll"
TEXT = {"chatId": PHONE, "message": "hi"}
ASK = {"chatId": PHONE, "caption": "Order 7?", "options": ["Confirm", "Cancel"], "multipleAnswers": False}
BOTH = pytest.mark.parametrize(("path", "body"), [(SEND, TEXT), (POLL, ASK)])
DAY = 86_400.0


# --- polls ------------------------------------------------------------------------------------------------------------


async def test_a_poll_is_stored_with_its_secret(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    answer = await client.post(POLL, json=ASK)
    other = await client.post(POLL, json={**ASK, "caption": "Order 8?"})

    first, second = await edge.entries("shop")
    assert (answer.status_code, answer.json()["queueId"], other.status_code) == (202, first.id, 202)
    assert answer.json()["data"]["queueDepth"] == 1
    assert isinstance(first.content, Poll) and isinstance(second.content, Poll)
    assert (first.content.caption, first.content.options) == ("Order 7?", ("Confirm", "Cancel"))
    assert len(first.content.secret) == 32 and first.content.secret != second.content.secret
    assert await edge.hinted(outbox_topic("shop"))
    assert (await client.get(f"/instances/shop/request/{first.id}")).json()["type"] == "poll"


@pytest.mark.parametrize(
    ("given", "several"),
    [({}, False), (True, True), (False, False), ("true", False), (1, False), (None, False), ([True], False)],
)
async def test_only_a_literal_true_allows_several_answers(
    client: httpx.AsyncClient, edge: Edge, given: Any, several: bool
) -> None:
    await edge.add("shop")
    extra = {} if given == {} else {"multipleAnswers": given}
    without = {name: value for name, value in ASK.items() if name != "multipleAnswers"}
    assert (await client.post(POLL, json={**without, **extra})).status_code == 202
    (entry,) = await edge.entries("shop")
    assert isinstance(entry.content, Poll) and entry.content.multiple is several


@pytest.mark.parametrize("names", [("options[]", "options[]"), ("options[0]", "options[1]")])
async def test_a_poll_as_a_form(client: httpx.AsyncClient, edge: Edge, names: tuple[str, str]) -> None:
    await edge.add("shop")
    pairs = [("chatId", PHONE), ("caption", "c"), ("multipleAnswers", "true"), (names[0], "a"), (names[1], "b")]
    form = str(httpx.QueryParams(pairs))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post(POLL, content=form, headers=kind)).status_code == 202
    (entry,) = await edge.entries("shop")
    assert isinstance(entry.content, Poll)
    assert (entry.content.options, entry.content.multiple) == (("a", "b"), True)


FEW = "options array with at least 2 items is required"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "chatId is required"),
        ({"caption": "c", "options": ["a", "b"]}, "chatId is required"),
        ({"chatId": "nobody"}, "caption is required"),
        ({**ASK, "caption": ""}, "caption is required"),
        ({**ASK, "caption": 7}, "caption must be a string"),
        ({"chatId": "nobody", "caption": "c"}, FEW),
        ({**ASK, "options": []}, FEW),
        ({**ASK, "options": ["a"]}, FEW),
        ({**ASK, "options": "a,b"}, FEW),
        ({**ASK, "options": {"0": "a", "1": "b"}}, FEW),
        ({**ASK, "chatId": "nobody"}, "Invalid chatId format"),
        ({**ASK, "options": ["a", ""]}, "options must contain strings of 1 to 255 characters"),
        ({**ASK, "options": ["a", "b\0"]}, "options must contain strings"),
        ({**ASK, "options": ["a", "x" * 256]}, "options must contain strings of 1 to 255"),
        ({**ASK, "options": ["a", 2]}, "options must be an array of strings"),
        ({**ASK, "options": ["a", None]}, "options must be an array of strings"),
        ({**ASK, "options": ["a", "b", "a"]}, "options must differ"),
        ({**ASK, "options": [str(number) for number in range(13)]}, "options has too many items: at most 12"),
    ],
)
async def test_a_bad_poll_is_refused_in_the_documented_order(
    client: httpx.AsyncClient, edge: Edge, body: dict[str, Any], text: str
) -> None:
    await edge.add("shop")
    refused = await client.post(POLL, json=body)
    assert (refused.status_code, refused.json()["status"]) == (400, 400)
    assert text in refused.json()["error"]
    assert await edge.entries("shop") == []
    assert (await client.post("/instances/none/client/action/create-poll", json=body)).status_code == 404


async def test_twelve_options_are_taken(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    assert (await client.post(POLL, json={**ASK, "options": [str(at) for at in range(12)]})).status_code == 202


@pytest.mark.parametrize("action", [{}, {"action": "confirmPoll"}, {"action": "something"}])
async def test_a_poll_of_an_order_has_the_documented_key(
    client: httpx.AsyncClient, edge: Edge, action: dict[str, str]
) -> None:
    await edge.add("shop")
    await client.post(POLL, json={**ASK, "shop": "s.myshopify.com", "orderId": 7, **action})
    (entry,) = await edge.entries("shop")
    assert entry.key.value == "order:s.myshopify.com:7:confirmPoll:v1"
    again = await client.post(POLL, json={**ASK, "caption": "other", "shop": "s.myshopify.com", "orderId": "7"})
    assert (again.status_code, again.json()["queueId"], again.json()["keyKind"]) == (202, entry.id, "order")


async def test_the_derived_key_of_a_poll_is_the_documented_hash(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("WASP-shop.example")
    path = "/instances/WASP-shop.example/client/action/create-poll"
    first = await client.post(path, json=ASK)
    several = await client.post(path, json={**ASK, "multipleAnswers": True})

    payload = {"type": "poll", "chatId": f"{PHONE}@c.us", "caption": "Order 7?", "options": ["Confirm", "Cancel"]}
    digest = hashlib.sha256(json.dumps(payload, separators=(",", ":")).encode()).hexdigest()[:16]
    (entry,) = await edge.entries("WASP-shop_example")
    assert entry.key.value == f"poll:WASP-shop.example:{digest}:v1"
    assert several.json()["queueId"] == first.json()["queueId"], "multipleAnswers is not part of the key"


# --- every row of the table, for both ---------------------------------------------------------------------------------


@BOTH
async def test_the_rows_of_the_response_table(edge: Edge, path: str, body: dict[str, Any]) -> None:
    """From the first request to the last: 202 new, 202 again, 409, 429, 400 with QR, 200 replay even then, 404."""
    edge.with_settings(limits=QueueLimits(max_queue=1))
    shop = await edge.add("shop")
    keyed = {**body, "idempotencyKey": "k"}
    async with edge.client() as client:
        new = await client.post(path, json=keyed)
        again = await client.post(path, json=keyed)
        conflict = await client.post(path, json={**keyed, "chatId": PHONE + "9"})
        full = await client.post(path, json={**body, "idempotencyKey": "k2"})
        (entry,) = await edge.entries("shop")
        await edge.write(lambda tx: tx.outbox.save(settle(entry, ItemState.SENT, edge.clock.now())))
        await edge.see(shop, state=State.NEEDS_QR)
        sent = await client.post(path, json=keyed)
        scan = await client.post(path, json={**body, "idempotencyKey": "k2"})
        unknown = await client.post(path.replace("shop", "none"), json=body)

    assert (new.status_code, new.json()["status"], new.json()["alreadyQueued"]) == (202, "success", False)
    assert (again.status_code, again.json()["queueId"]) == (202, new.json()["queueId"])
    assert (again.json()["alreadyQueued"], again.json()["queueDepth"]) == (True, 1)
    assert (conflict.status_code, conflict.json()["status"]) == (409, 409)
    assert (full.status_code, full.json()["error"]) == (429, "Queue full. Maximum queue size (1) reached.")
    assert (sent.status_code, sent.json()["messageId"], sent.json()["idempotent"]) == (200, entry.message_id, True)
    assert (scan.status_code, "QR" in scan.json()["error"]) == (400, True)
    assert unknown.status_code == 404


async def test_retry_after_is_when_the_head_leaves(edge: Edge) -> None:
    edge.stop_the_clock()
    edge.with_settings(limits=QueueLimits(max_queue=1), pace=Pace(per_minute=1, per_hour=0, spacing=0))
    shop = await edge.add("shop")
    now = edge.clock.now()
    await edge.write(lambda tx: tx.keys.add_claim(shop, now - 20, forget_before=0))
    async with edge.client() as client:
        await client.post(SEND, json=TEXT)
        full = await client.post(SEND, json={**TEXT, "message": "2"})
        (entry,) = await edge.entries("shop")
        await client.delete(f"/instances/shop/request/{entry.id}")
        later = datetime.fromtimestamp(now + 500, UTC).isoformat()
        await client.post(SEND, json={**TEXT, "sendAt": later})
        scheduled = await client.post(SEND, json={**TEXT, "message": "2"})

    assert (full.status_code, full.headers["retry-after"]) == (429, "40")
    assert scheduled.headers["retry-after"] == "500"


# --- when, how long, for whom -----------------------------------------------------------------------------------------


@BOTH
async def test_what_is_not_given_has_its_default(
    client: httpx.AsyncClient, edge: Edge, path: str, body: dict[str, Any]
) -> None:
    await edge.add("shop")
    await client.post(path, json=body)
    (entry,) = await edge.entries("shop")
    assert (entry.priority, entry.audience, entry.typing, entry.scheduled) == (
        Priority.NORMAL,
        Audience.CUSTOMER,
        True,
        False,
    )
    assert entry.expires_at == pytest.approx(entry.created_at + 7 * DAY)


@BOTH
async def test_what_is_given_is_stored(client: httpx.AsyncClient, edge: Edge, path: str, body: dict[str, Any]) -> None:
    await edge.add("shop")
    extra = {"priority": "high", "recipientType": "merchant", "uxTyping": False, "expiresIn": 90.5}
    assert (await client.post(path, json={**body, **extra})).status_code == 202
    (entry,) = await edge.entries("shop")
    assert (entry.priority, entry.audience, entry.typing) == (Priority.HIGH, Audience.MERCHANT, False)
    assert entry.expires_at == pytest.approx(entry.created_at + 90.5)


def _spellings(at: float) -> list[Any]:
    moment = datetime.fromtimestamp(at, UTC)
    cairo = moment.astimezone(timezone(timedelta(hours=2)))
    return [round(at * 1000), moment.isoformat(), moment.isoformat().replace("+00:00", "Z"), cairo.isoformat()]


@pytest.mark.parametrize("spelling", range(4))
async def test_a_scheduled_message(client: httpx.AsyncClient, edge: Edge, spelling: int) -> None:
    await edge.add("shop")
    at = round(edge.clock.now() + 30 * DAY)
    answer = await client.post(SEND, json={**TEXT, "sendAt": _spellings(at)[spelling]})

    (entry,) = await edge.entries("shop")
    assert (answer.status_code, entry.scheduled, entry.joined_at) == (202, True, at)
    shown = (await client.get(f"/instances/shop/request/{entry.id}")).json()
    assert (shown["sendAt"], shown["nextAttemptAt"]) == (shown["nextAttemptAt"], shown["sendAt"])
    assert datetime.fromisoformat(shown["sendAt"]).timestamp() == at
    assert shown["reason"] == "scheduled"


async def test_a_form_schedules_too(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    at = round(edge.clock.now() + 60)
    form = {**TEXT, "sendAt": str(at * 1000), "expiresIn": "120", "uxTyping": "false", "priority": "high"}
    assert (await client.post(SEND, data=form)).status_code == 202
    (entry,) = await edge.entries("shop")
    assert (entry.joined_at, entry.typing, entry.priority) == (at, False, Priority.HIGH)


@pytest.mark.parametrize("given", ["2001-01-01T00:00:00Z", 1_000_000_000_000, None])
async def test_a_time_in_the_past_is_now(client: httpx.AsyncClient, edge: Edge, given: Any) -> None:
    await edge.add("shop")
    assert (await client.post(SEND, json={**TEXT, "sendAt": given})).status_code == 202
    (entry,) = await edge.entries("shop")
    assert (entry.scheduled, entry.joined_at) == (False, pytest.approx(entry.created_at))


IN_A_YEAR = "sendAt is more than a year ahead"
SHAPE = "sendAt must be milliseconds since 1970, or ISO 8601 with its zone"


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"sendAt": "tomorrow"}, SHAPE),
        ({"sendAt": ""}, SHAPE),
        ({"sendAt": "2030-01-01T00:00:00"}, "its zone is missing"),
        ({"sendAt": "2030-01-01"}, "its zone is missing"),
        ({"sendAt": True}, SHAPE),
        ({"sendAt": [1]}, SHAPE),
        ({"sendAt": 1_900_000_000}, "too small for milliseconds"),
        ({"sendAt": -1}, "too small for milliseconds"),
        ({"sendAt": 10**18}, SHAPE),
        ({"sendAt": 9_000_000_000_000}, IN_A_YEAR),
        ({"sendAt": "9999-12-31T23:59:59-14:00"}, IN_A_YEAR),
        ({"expiresIn": 0}, "expiresIn must be more than 0 and at most 604800 seconds"),
        ({"expiresIn": -5}, "expiresIn must be more than 0"),
        ({"expiresIn": 604_801}, "expiresIn must be more than 0 and at most 604800"),
        ({"expiresIn": "60"}, "expiresIn must be a number of seconds"),
        ({"expiresIn": True}, "expiresIn must be a number of seconds"),
        ({"priority": "urgent"}, "priority must be normal or high"),
        ({"priority": 1}, "priority must be normal or high"),
        ({"recipientType": "friend"}, "recipientType must be customer or merchant"),
        ({"uxTyping": "yes"}, "uxTyping must be true or false"),
        ({"orderId": 7, "shop": "s", "action": []}, "action must be a string"),
    ],
)
@BOTH
async def test_what_cannot_be_meant_is_refused(
    client: httpx.AsyncClient, edge: Edge, path: str, body: dict[str, Any], extra: dict[str, Any], text: str
) -> None:
    await edge.add("shop")
    refused = await client.post(path, json={**body, **extra})
    assert (refused.status_code, text in refused.json()["error"]) == (400, True), refused.text
    assert await edge.entries("shop") == []


async def test_a_life_that_ends_before_its_schedule_is_refused(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    at = round((edge.clock.now() + 3_600) * 1000)
    early = await client.post(SEND, json={**TEXT, "sendAt": at, "expiresIn": 60})
    enough = await client.post(SEND, json={**TEXT, "sendAt": at, "expiresIn": 3_700})
    assert (early.status_code, "expiresIn ends before sendAt" in early.json()["error"]) == (400, True)
    assert enough.status_code == 202


async def test_the_longest_life_is_the_operators(edge: Edge) -> None:
    edge.with_settings(limits=QueueLimits(item_ttl=3_600.0))
    await edge.add("shop")
    async with edge.client() as client:
        assert (await client.post(SEND, json={**TEXT, "expiresIn": 3_601})).status_code == 400
        assert (await client.post(SEND, json={**TEXT, "expiresIn": 3_600})).status_code == 202
