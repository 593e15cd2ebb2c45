"""Presence, typing and calls: who is told, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.unit.sandbox.network_client import Client, settle

from wahub.sandbox.control.app import build_control_app
from wahub.sandbox.model import LID_SERVER
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.node import Node
from wahub.sandbox.phone.content import Text
from wahub.sandbox.world import World

ANNA, BEN, CY = "201000000001", "201000000002", "201000000003"


class Town:
    """Anna with a client, Ben and Cy, and the control API."""

    def __init__(self, http: httpx.AsyncClient, world: World) -> None:
        self.http = http
        self.world = world
        self.client = Client(world.network)  # type: ignore[arg-type]

    def link(self) -> None:
        self.client.register()
        self.world.phone(ANNA).scan(self.client.request())
        self.client.accept()
        self.client.log_in()
        self.client.send(Node("presence", {"type": "available", "name": "Anna"}))
        self.client.got.clear()

    def lid(self, number: str) -> str:
        return f"{self.world.phone(number).lid}@lid"

    async def post(self, path: str, body: Any, status: int = 200) -> Any:
        response = await self.http.post(f"/control/phones/{path}", json=body)
        assert response.status_code == status, response.text
        return response.json()

    async def calls(self, number: str) -> list[tuple[str, str, bool]]:
        await settle()
        events = (await self.http.get(f"/control/phones/{number}/calls?after=0")).json()["events"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        return [(event["from"], event["state"], event["video"]) for event in events]


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    world = World(Network(keys_from_seed("live")))
    for number in (ANNA, BEN, CY):
        world.create_phone(number)
    transport = httpx.ASGITransport(build_control_app(world), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        town = Town(http, world)
        town.link()
        yield town


async def test_a_subscriber_is_told_in_the_space_it_asked_in(town: Town) -> None:
    for address in (f"{BEN}@s.whatsapp.net", town.lid(CY)):
        town.client.send(Node("presence", {"type": "subscribe", "to": address}))
    await town.post(f"{BEN}/presence", {"state": "available"})
    await town.post(f"{CY}/presence", {"state": "available"})
    await town.post(f"{BEN}/presence", {"state": "unavailable"})
    told = [(stanza.attrs["from"], stanza.attrs["type"]) for stanza in town.client.all("presence")]
    ben, cy = f"{BEN}@s.whatsapp.net", town.lid(CY)
    assert told == [
        (ben, "unavailable"), (cy, "unavailable"), (ben, "available"), (cy, "available"), (ben, "unavailable"),
    ]  # fmt: skip
    assert "last" in town.client.all("presence")[-1].attrs


@pytest.mark.parametrize(
    ("state", "tag", "attrs"),
    [("composing", "composing", {}), ("recording", "composing", {"media": "audio"}), ("paused", "paused", {})],
)
async def test_typing_in_a_chat_and_in_a_group(town: Town, state: str, tag: str, attrs: dict[str, str]) -> None:
    await town.post(f"{BEN}/presence", {"state": state, "to": ANNA})
    shown = town.client.take("chatstate")
    assert shown.attrs == {"from": f"{BEN}@s.whatsapp.net"}
    assert (shown.children[0].tag, shown.children[0].attrs) == (tag, attrs)
    group = str(town.world.network.create_group("Club", ANNA, [BEN, CY], LID_SERVER)["id"])
    await town.post(f"{BEN}/presence", {"state": state, "to": group})
    assert town.client.take("chatstate").attrs == {"from": group, "participant": town.lid(BEN)}
    await settle()
    events = town.world.phone(CY).state.presence.after(0)
    assert [(event["from"], event["chat"], event["state"]) for event in events] == [(BEN, group, state)]


async def test_a_call_that_nobody_answers(town: Town) -> None:
    call_id = (await town.post(f"{BEN}/call", {"to": ANNA, "video": True}, 202))["callId"]
    offer = town.client.take("call")
    assert offer.attrs["from"] == f"{BEN}@s.whatsapp.net"
    (what,) = offer.children
    assert (what.tag, what.attrs["call-id"], what.attrs["call-creator"]) == ("offer", call_id, offer.attrs["from"])
    assert what.child("video") is not None
    await town.post(f"{BEN}/hangup", {"callId": call_id, "as": "timeout"})
    (end,) = town.client.take("call").children
    assert (end.tag, end.attrs["call-id"], end.attrs["reason"]) == ("terminate", call_id, "timeout")
    assert await town.calls(ANNA) == [(BEN, "offer", True), (BEN, "timeout", False)]
    await town.post(f"{BEN}/hangup", {"callId": call_id}, 404)


async def test_a_client_declines(town: Town) -> None:
    call_id = (await town.post(f"{BEN}/call", {"to": ANNA, "addressing": "lid"}, 202))["callId"]
    offer = town.client.take("call")
    assert (offer.attrs["from"], offer.children[0].attrs["caller_pn"]) == (town.lid(BEN), f"{BEN}@s.whatsapp.net")
    reject = Node("reject", {"call-id": call_id, "call-creator": town.lid(BEN), "count": "0"})
    town.client.send(Node("call", {"to": town.lid(BEN), "id": "R1"}, [reject]))
    ack = town.client.take("ack").attrs
    assert (ack["id"], ack["class"], "error" in ack) == ("R1", "call", False)
    assert await town.calls(BEN) == [(ANNA, "reject", False)]
    await town.post(f"{BEN}/hangup", {"callId": call_id}, 404)


async def test_a_call_waits_for_a_client_that_is_away(town: Town) -> None:
    assert town.client.session is not None
    town.client.session.close()
    await town.post(f"{BEN}/call", {"to": ANNA}, 202)
    town.client.got.clear()
    town.client.log_in(prekeys=0)
    offer = town.client.take("call")
    assert offer.children[0].tag == "offer"
    town.client.send(Node("ack", {"class": "call", "id": offer.attrs["id"], "to": offer.attrs["from"]}))
    town.client.session.close()
    town.client.log_in(prekeys=0)
    assert town.client.all("call") == []


@pytest.mark.parametrize("children", [[], [Node("dance", {"call-id": "1"})], [Node("offer")]])
async def test_what_is_no_call(town: Town, children: list[Node]) -> None:
    town.client.send(Node("call", {"to": f"{BEN}@s.whatsapp.net", "id": "R1"}, children))
    assert town.client.take("ack").attrs["error"] == "400"
    assert [entry["kind"] for entry in town.world.network.stats()["violations"]] == ["call"]
    assert await town.calls(BEN) == []


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("presence", {"state": "asleep"}, 400, "state"),
        ("presence", {"state": "composing"}, 400, "to"),
        ("presence", {"state": "composing", "to": "209999999999"}, 404, "to"),
        ("call", {}, 400, "to"),
        ("call", {"to": BEN}, 400, "to"),
        ("call", {"to": "209999999999"}, 404, "to"),
        ("call", {"to": ANNA, "video": "yes"}, 400, "video"),
        ("hangup", {"callId": "x", "as": "sulk"}, 400, "as"),
        ("hangup", {}, 400, "callId"),
        ("hangup", {"callId": "x"}, 404, "callId"),
    ],
)
async def test_refusals(town: Town, path: str, body: Any, status: int, field: str) -> None:
    assert field in (await town.post(f"{BEN}/{path}", body, status))["error"]


async def test_a_phone_that_is_off_does_nothing(town: Town) -> None:
    town.world.set_online(town.world.phone(BEN), False)
    await town.post(f"{BEN}/call", {"to": ANNA}, 409)
    await town.post(f"{BEN}/presence", {"state": "available"}, 409)
    town.world.phone(CY).send(ANNA, Text("x"))
    assert town.client.take("message").attrs["from"] == f"{CY}@s.whatsapp.net"
