"""`Prefer: wait=N`: the answer waits for the send loop, and never longer than asked (RFC 7240)."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import PATIENCE, PHONE, Edge

from wahub.api.prefer import wanted_wait
from wahub.domain.ids import InstanceId
from wahub.domain.outbox import Entry, ItemState, settle
from wahub.ports.wakeup import outbox_topic, settled_topic

SEND = "/instances/shop/client/action/send-message"
POLL = "/instances/shop/client/action/create-poll"
TEXT: dict[str, Any] = {"chatId": PHONE, "message": "hi"}
ASK: dict[str, Any] = {"chatId": PHONE, "caption": "c", "options": ["a", "b"]}
WAIT = {"Prefer": "wait=20"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        (["wait=5"], 5),
        (["WAIT = 5"], 5),
        (['wait="5"'], 5),
        (["wait=5; foo=bar"], 5),
        (["respond-async, wait=5"], 5),
        (["respond-async", "wait=5"], 5),
        (["wait=5, wait=9"], 5),
        (["wait=0"], 0),
        (["wait=31"], 30),
        (["wait=" + "9" * 900], 30),
        (["wait"], None),
        (["wait=soon, wait=5"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["waiting=5"], None),
        (['foo="a, wait=5"'], None),
        (['foo="a\\", wait=5"'], None),
        (['"' * 1_000], None),
        (["x" * 2_000 + ", wait=5"], None),
    ],
)
def test_reading_the_preference(headers: list[str], seconds: int | None) -> None:
    assert wanted_wait(headers) == seconds


async def _settle(edge: Edge, state: ItemState, reason: str | None = None, *, hint: bool = True) -> Entry:
    """What the send loop does, as soon as there is an item."""
    assert await edge.wakeup.wait(outbox_topic("shop"), PATIENCE)
    (entry,) = await edge.entries("shop")
    await edge.write(lambda tx: tx.outbox.save(settle(entry, state, edge.clock.now(), reason)))
    if hint:
        edge.wakeup.notify(settled_topic("shop"))
    return entry


@pytest.mark.parametrize("hint", [True, False])
@pytest.mark.parametrize(("path", "body"), [(SEND, TEXT), (POLL, ASK)])
async def test_200_once_it_is_sent(
    client: httpx.AsyncClient, edge: Edge, path: str, body: dict[str, Any], hint: bool
) -> None:
    await edge.add("shop")
    answer, entry = await asyncio.gather(
        client.post(path, json=body, headers=WAIT), _settle(edge, ItemState.SENT, hint=hint)
    )
    fields = {"messageId": entry.message_id, "queueId": entry.id, "instanceState": "ready", "queueDepth": 0}
    assert (answer.status_code, answer.json()) == (200, {**fields, "data": fields, "status": "success"})
    assert answer.headers["preference-applied"] == "wait=20"
    assert "idempotency-replayed" not in answer.headers


@pytest.mark.parametrize("state", [ItemState.FAILED, ItemState.EXPIRED, ItemState.CANCELLED])
async def test_400_if_it_ends_without_being_sent(client: httpx.AsyncClient, edge: Edge, state: ItemState) -> None:
    await edge.add("shop")
    answer, entry = await asyncio.gather(
        client.post(SEND, json=TEXT, headers=WAIT), _settle(edge, state, "not_on_whatsapp")
    )
    text = f"Message {state}: not_on_whatsapp"
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": text, "status": 400, "queueId": entry.id, "state": state},
    )


async def test_202_when_the_time_is_over(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    started = time.monotonic()
    answer = await client.post(SEND, json=TEXT, headers={"Prefer": "wait=1"})
    assert 1 <= time.monotonic() - started < 15
    assert (answer.status_code, answer.json()["queued"]) == (202, True)
    assert answer.headers["preference-applied"] == "wait=1"


async def test_a_fate_that_stays_unknown_ends_the_wait(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")

    async def give_up() -> None:
        assert await edge.wakeup.wait(outbox_topic("shop"), PATIENCE)
        (entry,) = await edge.entries("shop")
        lost = dataclasses.replace(entry, state=ItemState.UNKNOWN, on_wire=True, settled_at=edge.clock.now())
        await edge.write(lambda tx: tx.outbox.save(lost))

    started = time.monotonic()
    answer, _ = await asyncio.gather(client.post(SEND, json=TEXT, headers=WAIT), give_up())
    assert (answer.status_code, time.monotonic() - started < 20) == (202, True)


async def test_a_replay_may_wait_too(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    first = await client.post(SEND, json=TEXT)
    again, entry = await asyncio.gather(client.post(SEND, json=TEXT, headers=WAIT), _settle(edge, ItemState.SENT))
    assert (again.status_code, again.json()["messageId"]) == (200, entry.message_id)
    assert (again.json()["idempotent"], again.json()["queueId"]) == (True, first.json()["queueId"])
    assert again.headers["idempotency-replayed"] == "true"


async def test_many_wait_at_once(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    waiting = [client.post(SEND, json=TEXT, headers=WAIT) for _ in range(20)]
    *answers, _ = await asyncio.gather(*waiting, _settle(edge, ItemState.SENT))
    assert {answer.status_code for answer in answers} == {200}  # type: ignore[attr-defined]


async def test_an_instance_that_goes_away_ends_the_wait(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")

    async def delete() -> None:
        assert await edge.wakeup.wait(outbox_topic("shop"), PATIENCE)
        await edge.write(lambda tx: tx.instances.delete(InstanceId("shop")))

    answer, _ = await asyncio.gather(client.post(SEND, json=TEXT, headers=WAIT), delete())
    assert answer.status_code == 202
