"""Sends over HTTP: what is accepted, what is refused in which order, and replays (contract A.1, 0.3, 0.4)."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import PHONE, Edge

from wahub.domain.idempotency import KeyPolicy
from wahub.domain.instance import State
from wahub.domain.outbox import Entry, ItemState, settle
from wahub.ports.wakeup import outbox_topic
from wahub.services.outbox import QueueLimits

SEND = "/instances/shop/client/action/send-message"
OFFICIAL = f"/api/v1{SEND}"
TEXT = {"chatId": PHONE, "message": "مرحبا 👋"}


@pytest.mark.parametrize("path", [SEND, OFFICIAL])
async def test_a_send_is_stored_before_202(client: httpx.AsyncClient, edge: Edge, path: str) -> None:
    await edge.add("shop")

    answer = await client.post(path, json=TEXT)

    (entry,) = await edge.entries("shop")
    fields = {
        "queued": True,
        "queueId": entry.id,
        "alreadyQueued": False,
        "message": "Message queued",
        "instanceState": "ready",
        "queueDepth": 1,
    }
    assert (answer.status_code, answer.json()) == (202, {**fields, "data": fields, "status": "success"})
    assert "idempotency-replayed" not in answer.headers
    assert (str(entry.chat), entry.content.text, entry.state) == (f"{PHONE}@c.us", "مرحبا 👋", ItemState.QUEUED)
    assert entry.message_id.startswith("3EB0")
    assert await edge.hinted(outbox_topic("shop"))
    assert edge.faults == ["after_accept"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("+20 122 488-5551", "201224885551@c.us"),
        ("201224885551@c.us", "201224885551@c.us"),
        ("201224885551@s.whatsapp.net", "201224885551@c.us"),
        ("120363021234567890@g.us", "120363021234567890@g.us"),
        ("201224885551-1400000000@g.us", "201224885551-1400000000@g.us"),
        ("123456789012345@lid", "123456789012345@lid"),
    ],
)
async def test_chat_ids_are_kept_or_reduced_to_digits(
    client: httpx.AsyncClient, edge: Edge, given: str, kept: str
) -> None:
    await edge.add("shop")
    assert (await client.post(SEND, json={"chatId": given, "message": "x"})).status_code == 202
    assert str((await edge.entries("shop"))[0].chat) == kept


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "chatId is required"),
        ({"message": "x"}, "chatId is required"),
        ({"chatId": "", "message": ""}, "chatId is required"),
        ({"chatId": None}, "chatId is required"),
        ({"chatId": 201224885551, "message": "x"}, "chatId must be a string"),
        ({"chatId": "x" * 129, "message": "x"}, "chatId is too long"),
        # The documented order: the message is missed before the form of chatId is looked at.
        ({"chatId": "nobody"}, "message is required"),
        ({"chatId": PHONE, "message": ""}, "message is required"),
        ({"chatId": PHONE, "message": None}, "message is required"),
        ({"chatId": PHONE, "message": ["x"]}, "message must be a string"),
        ({"chatId": PHONE, "message": "x" * 65_537}, "message is too long: at most 65536 characters"),
        ({"chatId": PHONE, "message": "a\0b"}, "message must not contain the NUL character"),
        ({"chatId": "nobody", "message": "x"}, "Invalid chatId format"),
        ({"chatId": "@c.us", "message": "x"}, "Invalid chatId format"),
        ({"chatId": "friends@g.us", "message": "x"}, "Invalid chatId format"),
        ({"chatId": "1202", "message": "x"}, "Invalid chatId format"),
        ({"chatId": "+1202555010201234@c.us", "message": "x"}, "Invalid chatId format"),
        ({**TEXT, "uxTyping": "yes"}, "uxTyping must be true or false"),
        ({**TEXT, "uxTyping": 1}, "uxTyping must be true or false"),
        ({**TEXT, "idempotencyKey": ""}, "idempotencyKey must not be empty"),
        ({**TEXT, "idempotencyKey": {}}, "idempotencyKey must be a string"),
        ({**TEXT, "idempotencyKey": "k" * 256}, "idempotencyKey is too long"),
        ({**TEXT, "idempotencyKey": "k\0"}, "idempotencyKey must not contain"),
        ({**TEXT, "shop": "s", "orderId": [1], "action": "a"}, "orderId must be a string"),
        ({**TEXT, "shop": True, "orderId": 1, "action": "a"}, "shop must be a string"),
    ],
)
async def test_a_bad_send_is_refused_in_the_documented_order(
    client: httpx.AsyncClient, edge: Edge, body: dict[str, Any], text: str
) -> None:
    await edge.add("shop")
    refused = await client.post(SEND, json=body)

    assert (refused.status_code, refused.json()["status"]) == (400, 400)
    assert text in refused.json()["error"]
    assert await edge.entries("shop") == []
    # The instance is looked for first.
    assert (await client.post("/instances/none/client/action/send-message", json=body)).status_code == 404


async def test_the_longest_message_is_taken_in_its_longest_spelling(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    message = r"\ud83d\ude00" * 65_536
    spelled = f'{{"chatId":"{PHONE}","message":"{message}"}}'
    assert (await client.post(SEND, content=spelled)).status_code == 202
    assert (await edge.entries("shop"))[0].content.text == "😀" * 65_536


@pytest.mark.parametrize("state", [State.NEEDS_QR, State.FAILED_QR_TIMEOUT])
async def test_an_instance_that_waits_for_a_scan_refuses(client: httpx.AsyncClient, edge: Edge, state: State) -> None:
    await edge.add("shop", state=state)
    refused = await client.post(SEND, json=TEXT)
    assert refused.status_code == 400
    assert "QR" in refused.json()["error"]


@pytest.mark.parametrize("state", [State.CONNECTING, State.DISCONNECTED, State.PAUSED, State.RESTRICTED, State.ERROR])
async def test_every_other_state_accepts(client: httpx.AsyncClient, edge: Edge, state: State) -> None:
    await edge.add("shop", state=state)
    answer = await client.post(SEND, json=TEXT)
    assert (answer.status_code, answer.json()["instanceState"]) == (202, state)


async def test_a_full_queue_refuses_new_messages_but_still_replays(edge: Edge) -> None:
    edge.with_settings(limits=QueueLimits(max_queue=2))
    await edge.add("shop")
    async with edge.client() as client:
        first = await client.post(SEND, json={**TEXT, "message": "1"})
        await client.post(SEND, json={**TEXT, "message": "2"})
        full = await client.post(SEND, json={**TEXT, "message": "3"})
        again = await client.post(SEND, json={**TEXT, "message": "1"})

    assert full.status_code == 429
    assert full.headers["retry-after"] == "1"
    assert full.json() == {"error": "Queue full. Maximum queue size (2) reached.", "status": 429}
    assert (again.status_code, again.json()["queueId"]) == (202, first.json()["queueId"])


# --- idempotency ------------------------------------------------------------------------------------------------------

ORDER = {"shop": "s.myshopify.com", "orderId": 5_512_345_678_901, "action": "confirm"}


@pytest.mark.parametrize(
    ("extra", "kind"),
    [({}, "derived"), ({"idempotencyKey": "k1"}, "explicit"), (ORDER, "order"), ({**ORDER, "orderId": "A1"}, "order")],
)
async def test_the_same_request_again_is_a_replay(
    client: httpx.AsyncClient, edge: Edge, extra: dict[str, Any], kind: str
) -> None:
    await edge.add("shop")
    first = await client.post(SEND, json={**TEXT, **extra})
    again = await client.post(OFFICIAL, json={**TEXT, **extra})

    assert again.status_code == 202
    assert again.headers["idempotency-replayed"] == "true"
    body = again.json()
    assert (body["queueId"], body["queueDepth"]) == (first.json()["queueId"], 1)
    assert (body["alreadyQueued"], body["idempotent"], body["keyKind"]) == (True, True, kind)
    assert body["data"]["keyKind"] == kind
    assert len(await edge.entries("shop")) == 1
    assert edge.faults == ["after_accept"]


async def test_a_sent_message_is_replayed_with_200_and_its_id(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    await client.post(SEND, json=TEXT)
    (entry,) = await edge.entries("shop")
    await _store(edge, settle(entry, ItemState.SENT, edge.clock.now()))

    again = await client.post(SEND, json=TEXT)

    fields = {
        "messageId": entry.message_id,
        "queueId": entry.id,
        "instanceState": "ready",
        "queueDepth": 0,
        "idempotent": True,
        "keyKind": "derived",
    }
    assert (again.status_code, again.json()) == (200, {**fields, "data": fields, "status": "success"})
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("state", [ItemState.SENDING, ItemState.UNKNOWN])
async def test_on_the_wire_or_unknown_is_still_202(client: httpx.AsyncClient, edge: Edge, state: ItemState) -> None:
    await edge.add("shop")
    await client.post(SEND, json=TEXT)
    (entry,) = await edge.entries("shop")
    sending = dataclasses.replace(entry, state=ItemState.SENDING, claimed_epoch=1, claimed_at=edge.clock.now())
    unknown = dataclasses.replace(entry, state=ItemState.UNKNOWN, on_wire=True)
    await _store(edge, sending if state is ItemState.SENDING else unknown)

    again = await client.post(SEND, json=TEXT)
    assert (again.status_code, again.json()["queueId"]) == (202, entry.id)


@pytest.mark.parametrize("state", [ItemState.FAILED, ItemState.CANCELLED, ItemState.EXPIRED])
async def test_what_was_never_sent_is_accepted_anew(client: httpx.AsyncClient, edge: Edge, state: ItemState) -> None:
    await edge.add("shop")
    await client.post(SEND, json={**TEXT, "idempotencyKey": "k"})
    (entry,) = await edge.entries("shop")
    await _store(edge, settle(entry, state, edge.clock.now(), "why"))

    again = await client.post(SEND, json={**TEXT, "idempotencyKey": "k"})
    assert (again.status_code, again.json()["alreadyQueued"]) == (202, False)
    assert again.json()["queueId"] != entry.id


async def test_an_explicit_key_for_another_payload_is_a_conflict(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    await client.post(SEND, json={**TEXT, "idempotencyKey": "k"})
    other = await client.post(SEND, json={**TEXT, "message": "other", "idempotencyKey": "k"})

    assert (other.status_code, other.json()["status"]) == (409, 409)
    assert len(await edge.entries("shop")) == 1


async def test_an_order_key_is_a_replay_whatever_the_text(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    first = await client.post(SEND, json={**TEXT, **ORDER})
    other = await client.post(SEND, json={**TEXT, **ORDER, "message": "other words"})
    assert (other.status_code, other.json()["queueId"]) == (202, first.json()["queueId"])


async def test_an_incomplete_order_is_keyed_by_its_text(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    await client.post(SEND, json={**TEXT, "shop": "s", "orderId": 1})
    other = await client.post(SEND, json={**TEXT, "message": "other", "shop": "s", "orderId": 1})
    assert other.json()["alreadyQueued"] is False


async def test_the_header_is_a_key_too(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    key = {"Idempotency-Key": "k"}
    first = await client.post(SEND, json=TEXT, headers=key)
    both = await client.post(SEND, json={**TEXT, "idempotencyKey": "k"}, headers=key)
    differ = await client.post(SEND, json={**TEXT, "idempotencyKey": "other"}, headers=key)
    empty = await client.post(SEND, json=TEXT, headers={"Idempotency-Key": ""})

    assert both.json()["queueId"] == first.json()["queueId"]
    assert (differ.status_code, differ.json()["status"]) == (400, 400)
    assert "idempotencyKey" in differ.json()["error"]
    assert empty.status_code == 400


async def test_a_derived_key_dies_after_its_time(edge: Edge) -> None:
    edge.with_settings(limits=QueueLimits(keys=KeyPolicy(derived=0)))
    await edge.add("shop")
    async with edge.client() as client:
        first = await client.post(SEND, json=TEXT)
        unsettled = await client.post(SEND, json=TEXT)
        (entry,) = await edge.entries("shop")
        await _store(edge, settle(entry, ItemState.SENT, edge.clock.now()))
        after = await client.post(SEND, json=TEXT)

    assert unsettled.json()["queueId"] == first.json()["queueId"]
    assert (after.status_code, after.json()["alreadyQueued"]) == (202, False)


async def test_many_equal_requests_at_once_give_one_item(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    answers = await asyncio.gather(*(client.post(SEND, json=TEXT) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["queueId"] for answer in answers}) == 1
    assert [answer.json()["alreadyQueued"] for answer in answers].count(False) == 1


async def _store(edge: Edge, entry: Entry) -> None:
    await edge.write(lambda tx: tx.outbox.save(entry))
