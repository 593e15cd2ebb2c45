"""Dead letters, test posts, secrets, and what is told of an endpoint."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from tests.contract.makers import add_delivery, make_delivery
from tests.integration.api.conftest import HOOK, Edge

from wahub.domain.endpoint import FOREVER, Held, Secrets, Trouble
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance
from wahub.domain.webhook import Delivery, DeliveryState
from wahub.ports.wakeup import WEBHOOKS
from wahub.services import instance
from wahub.services.instance import ConfigChange
from wahub.services.webhook import Tried

SHOP = InstanceId("shop")
SECRET = "own-secret-of-this-shop"


async def bury(edge: Edge, *numbers: int, event: str = "message", url: str = HOOK) -> None:
    for number in numbers:
        dead = make_delivery(
            number, url=url, event=event, state=DeliveryState.DEAD, attempts=30, attempted_at=5.0, last_error="HTTP 500"
        )
        await edge.write(lambda tx, dead=dead: add_delivery(tx, dead))


async def due(edge: Edge) -> list[Delivery]:
    return list(await edge.read(lambda tx: tx.webhooks.due(1e12, 10)))


async def test_dead_letters_are_listed_and_replayed(edge: Edge, client: httpx.AsyncClient) -> None:
    await edge.add("shop")
    await bury(edge, 1, 2, 3, url="http://127.0.0.1:9/old")
    listed = (await client.get("/instances/shop/webhooks/dead?limit=2")).json()
    assert [letter["eventId"] for letter in listed["dead"]] == ["event-3", "event-2"]
    assert listed["total"] == 3
    assert listed["dead"][0]["lastError"] == "HTTP 500"
    assert listed["dead"][0]["attempts"] == 30
    one = await client.post("/instances/shop/webhooks/dead/event-2/replay")
    assert (one.status_code, one.json()["replayed"]) == (202, 1)
    assert await edge.hinted(WEBHOOKS)
    [waits] = await due(edge)
    assert (waits.event_id, waits.attempts, waits.url) == ("event-2", 0, HOOK), "to the URL that is set now"
    rest = await client.post("/api/v1/instances/shop/webhooks/dead/replay")
    assert rest.json()["replayed"] == 2
    assert (await client.get("/instances/shop/webhooks/dead")).json()["dead"] == []
    assert (await client.post("/instances/shop/webhooks/dead/replay")).json()["replayed"] == 0
    assert (await client.post("/instances/shop/webhooks/dead/event-2/replay")).status_code == 404


async def test_a_password_in_the_url_is_refused_and_one_that_was_stored_is_not_shown(
    edge: Edge, client: httpx.AsyncClient
) -> None:
    inside = "https://user:hunter2@hooks.example.com/x"
    await edge.add("shop")
    for method, path in (("POST", "/instances"), ("PUT", "/instances/shop")):
        refused = await client.request(method, path, json={"name": "other", "webhook": {"url": inside}})
        assert refused.status_code == 400
        assert "webhook.url" in refused.json()["error"]
        assert "WEBHOOK_AUTH_TOKEN" in refused.json()["error"]
        assert "hunter2" not in refused.text
    # From a time when it was taken.
    await edge.write(lambda tx: instance.update(tx, SHOP, ConfigChange(webhook_url=inside)))
    await bury(edge, 1, url=inside)
    masked = "https://***@hooks.example.com/x"
    paths = ("/instances", "/instances/shop", "/instances/shop/status", "/instances/shop/webhooks/dead")
    for path in (*paths, "/instances/shop/diagnostics", "/instances/shop/client/info-raw"):
        shown = await client.get(path)
        assert shown.status_code == 200
        assert "hunter2" not in shown.text, path
        assert (masked in shown.text) == (path in paths), path
    await client.put("/instances/shop", json={"name": "renamed"})
    await client.post("/instances/shop/webhooks/dead/event-1/replay")
    [waits] = await due(edge)
    assert waits.url == inside


async def test_a_pairing_code_stays_dead(edge: Edge, client: httpx.AsyncClient) -> None:
    await edge.add("shop")
    await bury(edge, 1, event="qr")
    assert (await client.post("/instances/shop/webhooks/dead/event-1/replay")).status_code == 409
    assert (await client.post("/instances/shop/webhooks/dead/replay")).json()["replayed"] == 0
    assert await due(edge) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "webhooks/dead"), ("POST", "webhooks/dead/replay"), ("POST", "webhooks/dead/x/replay"),
     ("POST", "webhook/test")],
)  # fmt: skip
async def test_an_unknown_instance(client: httpx.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, f"/instances/nobody/{path}")).status_code == 404


async def endpoint(client: httpx.AsyncClient) -> dict[str, Any]:
    """The same in all three places."""
    shown = (await client.get("/instances/shop")).json()["instance"]["webhookEndpoint"]
    assert (await client.get("/instances/shop/status")).json()["webhookEndpoint"] == shown
    assert (await client.get("/instances/shop/diagnostics")).json()["webhookEndpoint"] == shown
    return dict(shown)


async def test_trouble_is_shown_and_a_new_url_or_a_replay_ends_it(edge: Edge, client: httpx.AsyncClient) -> None:
    await edge.add("shop")
    assert await endpoint(client) == {
        "state": "active", "since": None, "failures": 0, "lastError": None, "nextProbeAt": None, "deadLetters": 0,
        "ownSecret": False,
    }  # fmt: skip
    gone = Trouble(SHOP, HOOK, 1, 5.0, "HTTP 410", Held.DISABLED, 6.0, FOREVER)
    await edge.write(lambda tx: tx.endpoints.note(gone))
    shown = await endpoint(client)
    assert (shown["state"], shown["since"], shown["lastError"]) == ("disabled", "1970-01-01T00:00:06.000Z", "HTTP 410")
    assert shown["nextProbeAt"] is None
    await client.put("/instances/shop", json={"webhook": {"events": ["*"]}})
    assert (await endpoint(client))["state"] == "disabled", "not by another change"
    await client.put("/instances/shop", json={"webhook": {"url": HOOK}})
    assert (await endpoint(client))["state"] == "active"
    paused = Trouble(SHOP, HOOK, 20, 5.0, "HTTP 500", Held.PAUSED, 1_000.0, 2_000.0)
    await edge.write(lambda tx: tx.endpoints.note(paused))
    await bury(edge, 1)
    shown = await endpoint(client)
    assert (shown["state"], shown["nextProbeAt"], shown["deadLetters"]) == ("paused", "1970-01-01T00:33:20.000Z", 1)
    await client.post("/instances/shop/webhooks/dead/replay")
    assert (await endpoint(client))["state"] == "active"
    failing = Trouble(SHOP, HOOK, 3, 5.0, "HTTP 500")
    await edge.write(lambda tx: tx.endpoints.note(failing))
    assert (await endpoint(client))["state"] == "failing"


# --- secrets ----------------------------------------------------------------------------------------------------------


async def secrets(edge: Edge) -> Secrets:
    return await edge.read(lambda tx: tx.endpoints.secrets(SHOP))


async def test_a_secret_is_taken_and_never_shown(edge: Edge, client: httpx.AsyncClient) -> None:
    made = await client.post("/instances", json={"name": "shop", "webhook": {"url": HOOK, "secret": SECRET}})
    assert made.status_code == 200
    assert await secrets(edge) == Secrets(SECRET)
    pages = [made, *[await client.get(f"/instances{path}") for path in ("", "/shop", "/shop/status")]]
    pages.append(await client.get("/instances/shop/diagnostics"))
    assert all(SECRET not in page.text for page in pages)
    assert (await endpoint(client))["ownSecret"] is True


async def test_a_secret_is_rotated_with_an_overlap(edge: Edge, client: httpx.AsyncClient) -> None:
    edge.with_settings(secret_overlap=3_600.0)
    async with edge.client() as client:
        await client.post("/instances", json={"name": "shop", "webhook": {"url": HOOK, "secret": SECRET}})
        await client.put("/instances/shop", json={"webhook": {"secret": "another-secret"}})
        rotated = await secrets(edge)
        now = edge.clock.now()
        assert rotated.live(None, now) == ("another-secret", SECRET)
        assert rotated.previous_until == pytest.approx(now + 3_600, abs=60)
        await client.put("/instances/shop", json={"webhook": {"secret": "another-secret"}})
        assert await secrets(edge) == rotated, "the same again ends no overlap"
        await client.put("/instances/shop", json={"webhook": {"secret": ""}})
        back = await secrets(edge)
        assert back.live("common", now) == ("common", "another-secret")


@pytest.mark.parametrize(
    "secret", ["whsec_!!!", "whsec_", "x" * 513, 7], ids=["no base64", "nothing after the prefix", "long", "a number"]
)
async def test_a_secret_that_cannot_be_used_is_refused_without_showing_it(
    edge: Edge, client: httpx.AsyncClient, secret: Any
) -> None:
    await edge.add("shop")
    answer = await client.put("/instances/shop", json={"webhook": {"secret": secret}})
    assert answer.status_code == 400
    if isinstance(secret, str) and len(secret) > 8:
        assert secret[6:] not in answer.text
    assert await secrets(edge) == Secrets()


# --- a test post ------------------------------------------------------------------------------------------------------


async def test_a_test_post_tells_what_the_receiver_said(edge: Edge) -> None:
    await edge.add("shop")
    asked: list[tuple[str, str]] = []

    async def post(known: Instance, event_id: str) -> Tried:
        asked.append((known.id, event_id))
        return Tried(event_id, 500, "HTTP 500", 0.0421)

    edge.deps = dataclasses.replace(edge.deps, post_test=post)
    async with edge.client() as client:
        answer = await client.post("/instances/shop/webhook/test")
    told = answer.json()
    assert answer.status_code == 200
    assert asked == [("shop", told["eventId"])]
    assert (told["ok"], told["httpStatus"], told["latencyMs"], told["error"]) == (False, 500, 42, "HTTP 500")
    assert told["data"]["httpStatus"] == 500
    assert told["status"] == "success"


async def test_nobody_posts_where_no_gateway_runs(edge: Edge, client: httpx.AsyncClient) -> None:
    await edge.add("shop")
    assert (await client.post("/instances/shop/webhook/test")).status_code == 409


async def test_without_a_url_there_is_nothing_to_post_to(edge: Edge, client: httpx.AsyncClient) -> None:
    made = (await client.post("/api/v1/instances")).json()["instance"]["id"]
    for path in ("webhook/test", "webhooks/dead/replay"):
        answer = await client.post(f"/instances/{made}/{path}")
        assert answer.status_code == 400
        assert "webhook.url" in answer.json()["error"]
