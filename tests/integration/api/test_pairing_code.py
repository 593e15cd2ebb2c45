"""Pairing by code over HTTP: what is asked, what is waited for, and what is never shown."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from tests.integration.api.conftest import PATIENCE, PHONE, Edge

from wahub.domain.ids import InstanceId
from wahub.domain.instance import State
from wahub.domain.lifecycle import Ask
from wahub.domain.times import iso
from wahub.ports.wakeup import INSTANCES, asked_topic

BOTH = ("/instances", "/api/v1/instances")
PATH = "/instances/shop/client/pairing-code"
CODE = "ABCDEFGH"
OTHER = "12025550199"


@pytest.fixture
async def shop(edge: Edge) -> InstanceId:
    """An instance that waits for a scan."""
    return await edge.add("shop", state=State.NEEDS_QR, phone=None, display_name=None)


async def asked(edge: Edge, shop: InstanceId) -> None:
    """The wish is in the store: the hint follows its transaction."""
    assert await edge.wakeup.wait(INSTANCES, PATIENCE)
    assert (await edge.record(shop)).asked is Ask.PAIRING_CODE


async def give(edge: Edge, shop: InstanceId, ttl: float = 160.0) -> float:
    """The worker answers; returns when the code dies."""
    dies_at = edge.clock.now() + ttl
    await edge.remember(shop, asked=None, pairing_code=CODE, pairing_code_expires_at=dies_at)
    edge.wakeup.notify(asked_topic(shop))
    return dies_at


@pytest.mark.parametrize("base", BOTH)
async def test_the_code_is_waited_for(client: httpx.AsyncClient, edge: Edge, shop: InstanceId, base: str) -> None:
    asking = asyncio.create_task(client.post(f"{base}/shop/client/pairing-code", json={"phone": PHONE}))
    await asked(edge, shop)
    record = await edge.record(shop)
    assert (record.pairing_phone, record.pairing_code) == (PHONE, None)
    assert not asking.done()

    dies_at = await give(edge, shop)
    answer = await asking
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "pairingCode": {"data": {"pairing_code": "ABCD-EFGH"}},
            "code": "ABCD-EFGH",
            "expiresAt": iso(dies_at),
            "status": "success",
        },
    )
    assert answer.headers["cache-control"] == "no-store"


async def test_a_lost_hint_only_costs_time(client: httpx.AsyncClient, edge: Edge, shop: InstanceId) -> None:
    asking = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    await edge.remember(shop, asked=None, pairing_code=CODE, pairing_code_expires_at=edge.clock.now() + 60)
    assert (await asking).json()["code"] == "ABCD-EFGH"


@pytest.mark.parametrize("phone", ["+20 122 488-5551", "(20) 1224885551", "[20]1224885551", f" {PHONE} ", int(PHONE)])
async def test_how_numbers_are_written(client: httpx.AsyncClient, edge: Edge, shop: InstanceId, phone: Any) -> None:
    asking = asyncio.create_task(client.post(PATH, json={"phone": phone}))
    await asked(edge, shop)
    assert (await edge.record(shop)).pairing_phone == PHONE
    await give(edge, shop)
    assert (await asking).status_code == 200


async def test_a_form_will_do(client: httpx.AsyncClient, edge: Edge, shop: InstanceId) -> None:
    asking = asyncio.create_task(client.post(PATH, data={"phone": f"+{PHONE}"}))
    await asked(edge, shop)
    await give(edge, shop)
    assert (await asking).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"phone": None},
        {"phone": ""},
        {"phone": "1234567"},
        {"phone": "1234567890123456"},
        {"phone": "0049 123/4567"},
        {"phone": f"{PHONE}@c.us"},
        {"phone": "٢٠١٢٢٤٨٨٥٥٥١"},
        {"phone": "1" * 41},
        {"phone": 12345678.5},
        {"phone": True},
        {"phone": ["491512345678"]},
    ],
)
async def test_what_is_no_number_is_refused_by_name(
    client: httpx.AsyncClient, edge: Edge, shop: InstanceId, body: dict[str, Any]
) -> None:
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 400 and answer.json()["error"].startswith("phone ")
    given = str(body.get("phone"))
    assert len(given) < 5 or given not in answer.text
    assert (await edge.record(shop)).asked is None


async def test_a_refusal_by_whatsapp_is_told(client: httpx.AsyncClient, edge: Edge, shop: InstanceId) -> None:
    asking = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    await edge.remember(shop, asked=None, pairing_error="WhatsApp refuses the number")
    edge.wakeup.notify(asked_topic(shop))
    answer = await asking
    assert (answer.status_code, answer.json()) == (400, {"error": "WhatsApp refuses the number", "status": 400})


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        ({"state": State.READY, "authenticated_at": 5.0}, "linked already"),
        ({"state": State.ERROR}, "retry first"),
        ({"state": State.FAILED_QR_TIMEOUT}, "retry first"),
    ],
)
async def test_only_what_waits_to_be_linked_gets_a_code(
    client: httpx.AsyncClient, edge: Edge, shop: InstanceId, seen: dict[str, Any], text: str
) -> None:
    await edge.see(shop, **seen)
    answer = await client.post(PATH, json={"phone": PHONE})
    assert answer.status_code == 400 and text in answer.json()["error"]
    assert (await edge.record(shop)).asked is None


async def test_no_answer_in_time_is_503(edge: Edge, shop: InstanceId) -> None:
    edge.with_settings(pairing_wait=0.05)
    async with edge.client() as client:
        answer = await client.post(PATH, json={"phone": PHONE})
    shown = answer.json()
    assert (answer.status_code, shown["status"]) == (503, 503)
    assert "0.05 seconds" in shown["error"] and PHONE not in answer.text
    # The wish stands: the worker may take it up yet.
    assert (await edge.record(shop)).asked is Ask.PAIRING_CODE


async def test_a_code_that_can_still_be_typed_is_given_again(
    client: httpx.AsyncClient, edge: Edge, shop: InstanceId
) -> None:
    await edge.remember(shop, pairing_phone=PHONE, pairing_code=CODE, pairing_code_expires_at=edge.clock.now() + 45)
    answer = await client.post(PATH, json={"phone": PHONE})
    assert (answer.status_code, answer.json()["code"]) == (200, "ABCD-EFGH")
    assert (await edge.record(shop)).asked is None


@pytest.mark.parametrize(("phone", "left"), [(PHONE, 20.0), (OTHER, 120.0)])
async def test_a_code_that_will_not_do_is_replaced(
    client: httpx.AsyncClient, edge: Edge, shop: InstanceId, phone: str, left: float
) -> None:
    await edge.remember(
        shop, pairing_phone=PHONE, pairing_code="OLDOLDOL", pairing_code_expires_at=edge.clock.now() + left
    )
    asking = asyncio.create_task(client.post(PATH, json={"phone": phone}))
    await asked(edge, shop)
    assert (await edge.record(shop)).pairing_code is None
    await give(edge, shop)
    assert (await asking).json()["code"] == "ABCD-EFGH"


async def test_two_callers_for_one_phone_share_a_code(client: httpx.AsyncClient, edge: Edge, shop: InstanceId) -> None:
    first = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    wished_at = (await edge.record(shop)).asked_at
    second = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    assert (await edge.record(shop)).asked_at == wished_at
    await give(edge, shop)
    edge.wakeup.notify(asked_topic(shop))
    assert [(await asking).json()["code"] for asking in (first, second)] == ["ABCD-EFGH"] * 2


async def test_whoever_asks_for_another_phone_wins(client: httpx.AsyncClient, edge: Edge, shop: InstanceId) -> None:
    first = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    second = asyncio.create_task(client.post(PATH, json={"phone": OTHER}))
    await asked(edge, shop)
    refused = await first
    await give(edge, shop)
    assert refused.status_code == 400 and "another phone's code" in refused.json()["error"]
    assert PHONE not in refused.text and OTHER not in refused.text
    assert (await second).json()["code"] == "ABCD-EFGH"


async def test_an_account_that_was_linked_meanwhile_needs_no_code(
    client: httpx.AsyncClient, edge: Edge, shop: InstanceId
) -> None:
    asking = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    await edge.remember(shop, asked=None, pairing_phone=None)
    answer = await asking
    assert answer.status_code == 400 and "does not wait to be linked" in answer.json()["error"]


async def test_an_instance_that_ends_meanwhile_is_told(client: httpx.AsyncClient, edge: Edge, shop: InstanceId) -> None:
    asking = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    await edge.see(shop, state=State.ERROR)
    answer = await asking
    assert answer.status_code == 400 and "retry first" in answer.json()["error"]


async def test_nothing_of_it_is_logged(
    client: httpx.AsyncClient, edge: Edge, shop: InstanceId, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    asking = asyncio.create_task(client.post(PATH, json={"phone": PHONE}))
    await asked(edge, shop)
    await give(edge, shop)
    await asking
    assert PATH in caplog.text
    assert PHONE not in caplog.text and CODE not in caplog.text and "ABCD-EFGH" not in caplog.text
