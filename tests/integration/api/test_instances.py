"""Instances over HTTP (contract A.1, 0.2, 0.3)."""

from __future__ import annotations

import asyncio
import base64
import io
import re

import httpx
import pytest
import zxingcpp
from PIL import Image
from tests.integration.api.conftest import HOOK, PATIENCE, PHONE, Edge

from wahub.domain.ids import InstanceId
from wahub.domain.instance import State
from wahub.ports.wakeup import INSTANCES, deleted_topic, link_topic

BOTH = ("/instances", "/api/v1/instances")
PAIRING_CODE = "2@abc,def,ghi,jkl"


@pytest.mark.parametrize("base", BOTH)
async def test_create_answers_at_once_and_wakes_the_supervisor(
    client: httpx.AsyncClient, edge: Edge, base: str
) -> None:
    made = await client.post(base, json={"name": "WASP-shop.myshopify.com", "webhook": {"url": HOOK}})

    assert (made.status_code, made.json()) == (
        200,
        {
            "instance": {
                "id": "WASP-shop_myshopify_com",
                "name": "WASP-shop.myshopify.com",
                "status": "initializing",
            },
            "status": "success",
        },
    )
    assert await edge.hinted(INSTANCES)


async def test_create_stores_events_and_typing_from_either_place(client: httpx.AsyncClient, edge: Edge) -> None:
    webhook = {"url": HOOK, "events": ["message", "*"], "typingIndicatorEnabled": False, "applyTypingTo": ["merchant"]}
    await client.post("/instances", json={"name": "inside", "webhook": webhook})
    body = {"name": "top", "webhook": webhook, "typingIndicatorEnabled": True, "applyTypingTo": ["customer"]}
    await client.post("/instances", json=body)

    inside, top = await edge.read(lambda tx: [known.config for known in tx.instances.list()])
    assert inside.webhook_events == ("message", "*")
    assert (inside.typing_enabled, inside.apply_typing_to) == (False, ("merchant",))
    assert (top.typing_enabled, top.apply_typing_to) == (True, ("customer",))


@pytest.mark.parametrize(
    ("state", "status", "message"),
    [
        (State.READY, "ready", "Instance already connected"),
        (State.DISCONNECTED, "initializing", "Reconnection initiated"),
        (State.NEEDS_QR, "qr", "Instance exists with status: needs_qr"),
        (State.CONNECTING, "initializing", "Instance exists with status: connecting"),
        (State.ERROR, "disconnected", "Instance exists with status: error"),
    ],
)
async def test_an_instance_that_exists_is_reported_before_the_webhook_is_looked_at(
    client: httpx.AsyncClient, edge: Edge, state: State, status: str, message: str
) -> None:
    await edge.add("shop", state=state)

    again = await client.post("/instances", json={"name": "shop", "webhook": 7})

    assert (again.status_code, again.json()) == (
        200,
        {"instance": {"id": "shop", "name": "shop", "status": status}, "message": message, "status": "success"},
    )
    assert await edge.hinted(link_topic("shop")) is (state is State.DISCONNECTED)


async def test_creating_again_changes_nothing(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop.eu")
    await client.post("/instances", json={"name": "shop_eu", "webhook": {"url": "https://other.example.com"}})

    (known,) = await edge.read(lambda tx: tx.instances.list())
    assert (known.config.name, known.config.webhook_url) == ("shop.eu", HOOK)


async def test_many_creations_at_once_make_one_instance(client: httpx.AsyncClient, edge: Edge) -> None:
    body = {"name": "shop", "webhook": {"url": HOOK}}
    answers = await asyncio.gather(*(client.post("/instances", json=body) for _ in range(8)))

    assert {answer.status_code for answer in answers} <= {200, 400}
    assert all("already exists" in answer.json()["error"] for answer in answers if answer.status_code == 400)
    assert len(await edge.read(lambda tx: tx.instances.list())) == 1


async def test_only_the_official_prefix_creates_without_a_body(client: httpx.AsyncClient, edge: Edge) -> None:
    made = await client.post("/api/v1/instances")
    refused = await client.post("/instances")

    assert made.status_code == 200
    assert re.fullmatch(r"instance-[0-9a-f]{8}", made.json()["instance"]["id"])
    assert (await edge.read(lambda tx: tx.instances.list()))[0].config.webhook_url is None
    assert (refused.status_code, refused.json()) == (400, {"error": "Instance name is required", "status": 400})


@pytest.mark.parametrize("base", BOTH)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"name": None}, "Instance name is required"),
        ({"name": ""}, "Instance name is required"),
        ({"name": 5}, "Instance name is required"),
        ({"name": "x" * 256}, "name is too long"),
        ({"name": "a\0b"}, "name must not contain the NUL character"),
        ({"name": "a"}, "webhook.url is required"),
        ({"name": "a", "webhook": None}, "webhook.url is required"),
        ({"name": "a", "webhook": {}}, "webhook.url is required"),
        ({"name": "a", "webhook": "https://x.example.com"}, "webhook.url"),
        ({"name": "a", "webhook": {"url": 5}}, "webhook.url must be a string"),
        ({"name": "a", "webhook": {"url": "ftp://x.example.com"}}, "webhook.url"),
        ({"name": "a", "webhook": {"url": "http://169.254.169.254/latest"}}, "webhook.url"),
        ({"name": "a", "webhook": {"url": "http://[::ffff:a9fe:a9fe]/"}}, "webhook.url"),
        ({"name": "a", "webhook": {"url": HOOK, "events": "message"}}, "webhook.events must be an array"),
        ({"name": "a", "webhook": {"url": HOOK, "events": [1]}}, "webhook.events must be an array"),
        ({"name": "a", "webhook": {"url": HOOK, "events": [""]}}, "webhook.events must contain"),
        ({"name": "a", "webhook": {"url": HOOK, "events": ["x"] * 101}}, "webhook.events has too many"),
        ({"name": "a", "webhook": {"url": HOOK}, "typingIndicatorEnabled": "true"}, "typingIndicatorEnabled must be"),
        ({"name": "a", "webhook": {"url": HOOK}, "typingIndicatorEnabled": 0}, "typingIndicatorEnabled must be"),
        ({"name": "a", "webhook": {"url": HOOK, "applyTypingTo": ["all"]}}, "webhook.applyTypingTo may contain only"),
    ],
)
async def test_create_refuses_what_is_wrong_and_names_it(
    client: httpx.AsyncClient, edge: Edge, base: str, body: dict[str, object], text: str
) -> None:
    refused = await client.post(base, json=body)

    assert refused.status_code == refused.json()["status"] == 400
    assert text in refused.json()["error"]
    assert set(refused.json()) == {"error", "status"}
    assert await edge.read(lambda tx: tx.instances.list()) == []


async def test_private_targets_are_refused_when_the_operator_says_so(edge: Edge) -> None:
    body = {"name": "a", "webhook": {"url": "http://10.0.0.5/hook"}}
    edge.with_settings(block_private=True)
    async with edge.client() as strict:
        assert (await strict.post("/instances", json=body)).status_code == 400
    edge.with_settings(block_private=False)
    async with edge.client() as lenient:
        assert (await lenient.post("/instances", json=body)).status_code == 200


async def test_list_is_bare_on_one_prefix_and_an_object_on_the_other(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("b.shop", last_error="connection_closed", state=State.DISCONNECTED)
    await edge.add("a", state=State.NEEDS_QR, phone=None)

    bare, official = await client.get("/instances"), await client.get("/api/v1/instances")

    assert bare.json() == [
        {
            "id": "b_shop",
            "name": "b.shop",
            "status": "disconnected",
            "phoneNumber": PHONE,
            "webhookUrl": HOOK,
            "webhookEvents": [],
            "lastError": "connection_closed",
        },
        {"id": "a", "name": "a", "status": "qr", "webhookUrl": HOOK, "webhookEvents": []},
    ]
    assert official.json() == {"instances": bare.json(), "status": "success"}
    assert (await client.get("/instances/")).json() == bare.json()


@pytest.mark.parametrize("base", BOTH)
@pytest.mark.parametrize("spelling", ["b.shop%2Feu", "b_shop_eu", "b.shop/eu".replace("/", "%2f")])
async def test_both_spellings_of_an_id_address_the_instance(
    client: httpx.AsyncClient, edge: Edge, base: str, spelling: str
) -> None:
    await edge.add("b.shop/eu")

    found = await client.get(f"{base}/{spelling}")
    status = await client.get(f"{base}/{spelling}/client/status")

    assert found.json()["instance"]["id"] == status.json()["clientStatus"]["instanceId"] == "b_shop_eu"
    assert found.json()["status"] == "success"


async def test_a_name_outside_the_basic_plane_gives_two_underscores(client: httpx.AsyncClient, edge: Edge) -> None:
    assert await edge.add("shop😀") == "shop__"
    assert (await client.get("/instances/shop%F0%9F%98%80")).status_code == 200


async def test_put_changes_only_what_is_supplied(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")

    renamed = await client.put("/instances/shop", json={"name": "Other name"})
    assert renamed.json() == {
        "instance": {"id": "shop", "name": "Other name", "status": "ready"},
        "status": "success",
    }
    await client.put("/instances/shop", json={"webhook": {"events": ["message"]}})
    (known,) = await edge.read(lambda tx: tx.instances.list())
    assert (known.id, known.config.name) == ("shop", "Other name")
    assert (known.config.webhook_url, known.config.webhook_events) == (HOOK, ("message",))

    await client.put("/instances/shop", json={"webhook": {"url": "https://new.example.com", "events": []}})
    (known,) = await edge.read(lambda tx: tx.instances.list())
    assert (known.config.webhook_url, known.config.webhook_events) == ("https://new.example.com", ())
    assert (await client.put("/instances/shop")).status_code == 200


async def test_put_has_data_for_an_official_client(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    answer = (await client.put("/api/v1/instances/shop", json={"name": "n"})).json()

    assert answer["data"]["instance"] == answer["instance"] == {"id": "shop", "name": "n", "status": "ready"}
    assert answer["status"] == "success"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"name": []}, "name must be a string"),
        ({"webhook": []}, "webhook"),
        ({"webhook": {"url": ""}}, "webhook.url"),
        ({"webhook": {"url": "http://metadata.google.internal/"}}, "webhook.url"),
        ({"webhook": {"events": {}}}, "webhook.events"),
        ({"typingIndicatorEnabled": 1}, "typingIndicatorEnabled"),
        ({"applyTypingTo": "customer"}, "applyTypingTo"),
    ],
)
async def test_put_refuses_what_is_wrong(
    client: httpx.AsyncClient, edge: Edge, body: dict[str, object], text: str
) -> None:
    await edge.add("shop")
    before = await edge.read(lambda tx: tx.instances.list())
    refused = await client.put("/instances/shop", json=body)

    assert refused.status_code == 400
    assert text in refused.json()["error"]
    assert await edge.read(lambda tx: tx.instances.list()) == before
    assert (await client.put("/instances/none", json=body)).status_code == 404


@pytest.mark.parametrize("base", BOTH)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PUT", ""),
        ("GET", "/qr"),
        ("GET", "/client/qr"),
        ("GET", "/client/status"),
        ("GET", "/client/me"),
        ("GET", "/queue"),
        ("GET", f"/request/{'0' * 32}"),
        ("POST", "/client/action/send-message"),
    ],
)
async def test_an_unknown_instance_is_404_everywhere(
    client: httpx.AsyncClient, base: str, method: str, path: str
) -> None:
    answer = await client.request(method, f"{base}/no.such{path}")
    assert (answer.status_code, answer.json()) == (404, {"error": "Instance no_such not found", "status": 404})


@pytest.mark.parametrize("path", ["/instances//client/qr", "/api/v1/instances//client/status", "/instances//queue"])
async def test_an_empty_id_is_told_as_such(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid instance ID", "status": 400})
    assert (await client.delete("/instances/")).status_code == 400


# --- delete -----------------------------------------------------------------------------------------------------------


async def test_delete_waits_until_the_worker_removed_everything(client: httpx.AsyncClient, edge: Edge) -> None:
    edge.with_settings(delete_wait=PATIENCE)
    await edge.add("shop")

    async def worker() -> None:
        assert await edge.wakeup.wait(INSTANCES, PATIENCE)
        assert (await edge.read(lambda tx: tx.instances.get(InstanceId("shop")))).deleting
        await edge.write(lambda tx: tx.instances.delete(InstanceId("shop")))
        edge.wakeup.notify(deleted_topic("shop"))

    async with edge.client() as patient:
        work = asyncio.create_task(worker())
        answer = await patient.delete("/instances/shop")
    await work

    assert (answer.status_code, answer.json()) == (
        200,
        {
            "message": "Instance shop deleted successfully",
            "deleted": True,
            "purged": True,
            "purgedPaths": [],
            "status": "success",
        },
    )


async def test_delete_says_so_when_the_worker_takes_its_time(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop")
    answer = await client.delete("/instances/shop")

    assert answer.status_code == 200
    assert (answer.json()["deleted"], answer.json()["purged"]) == (True, False)
    assert len(answer.json()["warnings"]) == 1
    # From now on it is gone for everyone, and its name is not free yet.
    assert (await client.get("/instances/shop")).status_code == 404
    assert (await client.get("/instances")).json() == []
    again = await client.post("/instances", json={"name": "shop", "webhook": {"url": HOOK}})
    assert again.status_code == 400
    assert "already exists" in again.json()["error"]
    sending = await client.post("/instances/shop/client/action/send-message", json={"chatId": PHONE, "message": "late"})
    assert sending.status_code == 404


async def test_delete_of_what_does_not_exist_is_no_error(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/instances/none")

    assert answer.status_code == 200
    assert answer.json() == {
        "message": "Instance none does not exist: nothing to delete",
        "deleted": False,
        "purged": False,
        "purgedPaths": [],
        "status": "success",
    }


# --- what the link does -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["client/qr", "qr"])
async def test_the_qr_picture_reads_as_the_pairing_code(client: httpx.AsyncClient, edge: Edge, path: str) -> None:
    later = edge.clock.now() + 30
    await edge.add("shop", state=State.NEEDS_QR, phone=None, qr=PAIRING_CODE, qr_expires_at=later)

    answer = await client.get(f"/instances/shop/{path}")

    assert answer.status_code == 200
    assert answer.json()["status"] == "success"
    assert answer.headers["cache-control"] == "no-store"
    picture = base64.b64decode(answer.json()["qrCode"]["data"]["qr_code"], validate=True)
    assert zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))[0].text == PAIRING_CODE


@pytest.mark.parametrize("base", BOTH)
@pytest.mark.parametrize("path", ["client/qr", "qr"])
@pytest.mark.parametrize(
    ("form", "kind"), [("png", "image/png"), ("svg", "image/svg+xml"), ("text", "text/plain; charset=utf-8")]
)
async def test_the_qr_code_in_other_forms(
    client: httpx.AsyncClient, edge: Edge, base: str, path: str, form: str, kind: str
) -> None:
    await edge.add("shop", state=State.NEEDS_QR, phone=None, qr=PAIRING_CODE, qr_expires_at=edge.clock.now() + 60)
    answer = await client.get(f"{base}/shop/{path}", params={"format": form})

    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert answer.headers["cache-control"] == "no-store"
    if form == "png":
        assert zxingcpp.read_barcode(Image.open(io.BytesIO(answer.content))).text == PAIRING_CODE
    elif form == "svg":
        assert b"<svg" in answer.content and b"</svg>" in answer.content
        assert PAIRING_CODE not in answer.text
    else:
        assert answer.text == PAIRING_CODE


async def test_another_form_of_the_qr_code_is_refused(client: httpx.AsyncClient, edge: Edge) -> None:
    await edge.add("shop", state=State.NEEDS_QR, phone=None, qr=PAIRING_CODE, qr_expires_at=edge.clock.now() + 60)
    answer = await client.get("/instances/shop/client/qr?format=PNG")
    assert (answer.status_code, answer.json()["error"]) == (400, "format must be png or svg or text")


@pytest.mark.parametrize("form", ["png", "svg", "text"])
async def test_no_code_is_404_in_every_form(client: httpx.AsyncClient, edge: Edge, form: str) -> None:
    await edge.add("shop", qr=None)
    answer = await client.get("/instances/shop/client/qr", params={"format": form})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


@pytest.mark.parametrize("seen", [{"qr": None}, {"qr": PAIRING_CODE, "qr_expires_at": 5.0}])
async def test_no_qr_or_a_dead_one_is_404(client: httpx.AsyncClient, edge: Edge, seen: dict[str, object]) -> None:
    await edge.add("shop", state=State.NEEDS_QR, **seen)
    answer = await client.get("/instances/shop/client/qr")

    text = "QR code not available yet. Please wait a few seconds."
    assert (answer.status_code, answer.json()) == (404, {"error": text, "status": 404})


async def test_status_of_a_ready_instance(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop", authenticated_at=1_700_000_000.0, ready_at=1_700_000_001.5, last_event="ready")
    await edge.remember(shop, ready_source="event", authenticated_to_ready_ms=1500)
    await client.post("/instances/shop/client/action/send-message", json={"chatId": PHONE, "message": "hi"})

    answer = await client.get("/instances/shop/client/status")

    assert answer.json() == {
        "clientStatus": {
            "instanceStatus": "ready",
            "instanceId": "shop",
            "data": {"phoneNumber": PHONE, "formattedNumber": f"+{PHONE}"},
            "state": "ready",
            "queueDepth": 1,
            "lastEvent": "ready",
            "lastDisconnectReason": None,
            "restartAttempts": 0,
            "readyWatchdogMs": 600_000,
            "readyWatchdogStartAt": None,
            "authenticatedAt": "2023-11-14T22:13:20.000Z",
            "readySource": "event",
            "readyAt": "2023-11-14T22:13:21.500Z",
            "authenticatedToReadyMs": 1500,
            "readyPollAttempts": 0,
            "lastReadyPollError": None,
        },
        "status": "success",
    }


@pytest.mark.parametrize(
    ("state", "public"),
    [
        (State.CONNECTING, "initializing"),
        (State.NEEDS_QR, "qr"),
        (State.DISCONNECTED, "disconnected"),
        (State.ERROR, "disconnected"),
        (State.FAILED_QR_TIMEOUT, "disconnected"),
        (State.RESTRICTED, "restricted"),
        (State.PAUSED, "paused"),
    ],
)
async def test_status_of_all_other_states(client: httpx.AsyncClient, edge: Edge, state: State, public: str) -> None:
    await edge.add("shop", state=state, phone=None, last_error="why")
    shown = (await client.get("/instances/shop/client/status")).json()["clientStatus"]

    assert (shown["instanceStatus"], shown["state"], shown["data"]) == (public, state, {})
    assert (shown["lastError"], shown["readySource"], shown["readyAt"]) == ("why", None, None)


async def test_me_needs_a_ready_instance(client: httpx.AsyncClient, edge: Edge) -> None:
    shop = await edge.add("shop")
    answer = await client.get("/instances/shop/client/me")
    data = {"displayName": "Shop", "contactId": PHONE, "formattedNumber": f"+{PHONE}", "profilePicUrl": None}
    assert answer.json() == {"me": {"data": data}, "status": "success"}

    await edge.see(shop, state=State.DISCONNECTED)
    refused = await client.get("/instances/shop/client/me")
    text = "Instance is not connected. Current state: disconnected"
    assert (refused.status_code, refused.json()) == (400, {"error": text, "status": 400})
