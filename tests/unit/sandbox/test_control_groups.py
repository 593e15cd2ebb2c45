"""Groups in the control API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from wahub.sandbox.control.app import build_control_app
from wahub.sandbox.network.network import Network
from wahub.sandbox.network.trust import keys_from_seed
from wahub.sandbox.world import World

ANNA, BEN, CY = "201000000001", "201000000002", "201000000003"
GROUPS = "/control/groups"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    world = World(Network(keys_from_seed("groups")))
    for number in (ANNA, BEN, CY):
        world.create_phone(number, lid=f"9{number}")
    transport = httpx.ASGITransport(build_control_app(world), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield http


def member(number: str, *, admin: bool = False) -> dict[str, Any]:
    return {"number": number, "lid": f"9{number}@lid", "admin": admin}


async def test_a_group_from_its_beginning(http: httpx.AsyncClient) -> None:
    created = await http.post(GROUPS, json={"subject": "Club", "owner": ANNA, "members": [BEN]})
    group = created.json()
    assert created.status_code == 201
    assert group["id"].endswith("@g.us")
    members = [member(ANNA, admin=True), member(BEN)]
    expected = {"id": group["id"], "subject": "Club", "owner": ANNA, "addressing": "lid", "members": members}
    assert group == expected
    one = f"{GROUPS}/{group['id']}"
    assert (await http.get(one)).json() == (await http.get(one.removesuffix("@g.us"))).json() == expected
    assert (await http.get(GROUPS)).json() == {"groups": [expected]}
    changed = await http.post(f"{one}/members", json={"add": [CY], "remove": [BEN], "by": ANNA})
    assert changed.json()["members"] == [member(ANNA, admin=True), member(CY)]
    promoted = await http.post(f"{one}/members", json={"promote": [CY]})
    assert promoted.json()["members"][1] == member(CY, admin=True)
    renamed = await http.post(one, json={"subject": "Team", "by": CY})
    assert (renamed.status_code, renamed.json()["subject"]) == (200, "Team")
    assert (await http.post(GROUPS, json={"subject": "N", "owner": BEN, "members": [CY], "addressing": "pn"})).json()[
        "addressing"
    ] == "pn"


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("", {"owner": ANNA, "members": [BEN]}, 400, "subject"),
        ("", {"subject": "x", "members": [BEN]}, 400, "owner"),
        ("", {"subject": "x", "owner": ANNA}, 400, "members"),
        ("", {"subject": "x", "owner": ANNA, "members": ["x"]}, 400, "members"),
        ("", {"subject": "x", "owner": ANNA, "members": [], "addressing": "x"}, 400, "addressing"),
        ("", {"subject": "x", "owner": ANNA, "members": ["209999999999"]}, 404, "phone"),
        ("", {"subject": "x", "owner": "209999999999", "members": []}, 404, "phone"),
        ("/1203@g.us/members", {"add": [BEN]}, 404, "group"),
        ("/1203@g.us", {"subject": "x"}, 404, "group"),
        ("/{id}/members", {}, 400, "add"),
        ("/{id}/members", {"add": "x"}, 400, "add"),
        ("/{id}/members", {"add": [CY], "by": BEN}, 403, "admin"),
        ("/{id}", {"subject": "x", "by": BEN}, 403, "admin"),
        ("/{id}", {}, 400, "subject"),
    ],
)
async def test_what_is_refused(http: httpx.AsyncClient, path: str, body: Any, status: int, field: str) -> None:
    group = (await http.post(GROUPS, json={"subject": "Club", "owner": ANNA, "members": [BEN]})).json()
    answer = await http.post(GROUPS + path.replace("{id}", group["id"]), json=body)
    assert answer.status_code == status
    assert field in answer.json()["error"]
    assert (await http.get(GROUPS)).json() == {"groups": [group]}
    assert (await http.get(f"{GROUPS}/1203")).status_code == 404
