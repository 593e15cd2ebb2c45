"""The control API: paths, status codes and shapes of spec/sandbox.md section 1, over a network without sockets."""

from __future__ import annotations

import asyncio
import io
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import segno
from tests.unit.sandbox.phone_fakes import FakeNetwork

from wahub.sandbox.control.app import build_control_app
from wahub.sandbox.phone.directory import lid_for
from wahub.sandbox.world import World

ANNA, BEN = "201000000001", "201000000002"
PHONES = "/control/phones"


class Api:
    """Calls the API and checks that every error has the agreed shape."""

    def __init__(self, network: FakeNetwork, http: httpx.AsyncClient) -> None:
        self.network = network
        self.http = http

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        if body is not None:
            options["json"] = body
        response = await self.http.request(method, path, **options)
        assert response.headers["content-type"] == "application/json"
        answer = response.json()
        if response.status_code >= 400:
            assert set(answer) == {"error", "status"}
            assert answer["status"] == response.status_code
        return response.status_code, answer

    async def get(self, path: str) -> Any:
        status, answer = await self.call("GET", path)
        assert status == 200
        return answer

    async def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        return await self.call("POST", path, body)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    network = FakeNetwork()
    world = World(network, trust_root="ab" * 32, ws_url="ws://127.0.0.1:4480/ws/chat")
    transport = httpx.ASGITransport(build_control_app(world), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield Api(network, http)


@pytest.fixture
async def town(api: Api) -> Api:
    for number, name in ((ANNA, "Anna"), (BEN, "Ben")):
        await api.post(PHONES, {"number": number, "name": name})
    return api


async def test_health(api: Api) -> None:
    expected = {"ok": True, "wsUrl": "ws://127.0.0.1:4480/ws/chat", "trustRoot": "ab" * 32}
    assert await api.get("/control/health") == expected


async def test_creating_phones(api: Api) -> None:
    body = {"number": f"+{ANNA[:3]} {ANNA[3:]}", "name": "Anna"}
    anna = {"number": ANNA, "name": "Anna", "jid": f"{ANNA}@s.whatsapp.net", "lid": f"{lid_for(ANNA)}@lid"}
    assert await api.post(PHONES, body) == (201, anna)
    assert await api.post(PHONES, {"number": ANNA, "name": "Other"}) == (200, anna)
    status, ben = await api.post(PHONES, {"number": BEN, "lid": "123456789012345", "business": True})
    assert (status, ben["lid"]) == (201, "123456789012345@lid")
    shown = anna | {"online": True, "devices": []}
    assert await api.get(f"{PHONES}/{ANNA}") == shown
    assert await api.get(f"{PHONES}/%2B{ANNA}") == shown
    assert (await api.get(PHONES))["phones"][0] == shown


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "number"),
        ({"number": 201000000001}, "number"),
        ({"number": "12345"}, "number"),
        ({"number": "1234567890123456"}, "number"),
        ({"number": "٢٠١٠٠٠٠٠٠٠١"}, "number"),
        ({"number": "20-1000000"}, "number"),
        ({"number": ANNA, "name": 5}, "name"),
        ({"number": ANNA, "business": "yes"}, "business"),
        ({"number": ANNA, "lid": "abc"}, "lid"),
        ([], "body"),
    ],
)
async def test_bad_phones_name_the_field(api: Api, body: Any, field: str) -> None:
    status, answer = await api.post(PHONES, body)
    assert status == 400
    assert field in answer["error"]
    assert (await api.get(PHONES))["phones"] == []


async def test_a_lid_belongs_to_one_phone(api: Api) -> None:
    await api.post(PHONES, {"number": ANNA, "lid": "123456789"})
    status, answer = await api.post(PHONES, {"number": BEN, "lid": "123456789"})
    assert status == 409
    assert "lid" in answer["error"]


async def test_texts_arrive_with_all_fields(town: Api) -> None:
    status, answer = await town.post(f"{PHONES}/{ANNA}/send", {"to": f"+{BEN}", "text": "مرحبا"})
    assert status == 202
    assert (await town.get(f"{PHONES}/{BEN}/messages"))["messages"] == [
        {
            "seq": 1,
            "messageId": answer["messageId"],
            "from": ANNA,
            "chat": ANNA,
            "fromMe": False,
            "type": "text",
            "text": "مرحبا",
            "poll": None,
            "media": None,
            "timestamp": "2023-11-14T22:13:20.000Z",
            "deviceId": 0,
            "duplicate": False,
        }
    ]
    assert (await town.get(f"{PHONES}/{BEN}/messages?after=1"))["messages"] == []
    assert (await town.get(f"{PHONES}/{BEN}/messages?after=1&wait=20"))["messages"] == []


async def test_waiting_for_a_message(town: Api) -> None:
    waiting = asyncio.create_task(town.get(f"{PHONES}/{BEN}/messages?after=0&wait=30000"))
    while not town.network.phones[BEN].state.inbox._waiting:  # type: ignore[attr-defined]  # noqa: ASYNC110
        await asyncio.sleep(0)
    await town.post(f"{PHONES}/{ANNA}/send", {"to": BEN, "text": "now"})
    assert [message["text"] for message in (await waiting)["messages"]] == ["now"]


async def test_every_kind_of_content(town: Api) -> None:
    send = f"{PHONES}/{ANNA}/send"
    first = (await town.post(send, {"to": BEN, "text": "first"}))[1]["messageId"]
    bodies: list[dict[str, Any]] = [
        {"text": "quoted", "quote": first},
        {"text": "quoted too", "quote": {"messageId": first}},
        {"location": {"latitude": 30, "longitude": 31.5, "name": "Here"}},
        {"contact": {"name": "Cy", "phone": "+20 1000000003"}},
        {"contact": {"name": "Di", "vcard": "BEGIN:VCARD\nEND:VCARD"}},
        {"reaction": {"messageId": first, "emoji": "\U0001f600"}},
        {"reaction": {"messageId": first, "emoji": ""}},
        {"edit": {"messageId": first, "text": "changed"}},
        {"delete": {"messageId": first}},
    ]
    for body in bodies:
        assert (await town.post(send, {"to": BEN} | body))[0] == 202, body
    got = (await town.get(f"{PHONES}/{BEN}/messages?after=1"))["messages"]
    kinds = ["text", "text", "location", "contact", "contact", "reaction", "reaction", "edit", "delete"]
    assert [message["type"] for message in got] == kinds
    assert got[0]["quote"] == {"messageId": first, "text": "first"}
    assert "waid=201000000003:+201000000003" in got[3]["contact"]["vcard"]
    assert got[7]["text"] == "changed"


async def test_a_file_arrives_and_can_be_fetched(town: Api) -> None:
    file = bytes(range(256)) * 3
    media = {
        "kind": "document",
        "mime": "text/csv",
        "fileName": "a.csv",
        "caption": "see",
        "base64": b64encode(file).decode(),
    }
    message_id = (await town.post(f"{PHONES}/{ANNA}/send", {"to": BEN, "media": media}))[1]["messageId"]
    (shown,) = (await town.get(f"{PHONES}/{BEN}/messages"))["messages"]
    assert (shown["type"], shown["text"]) == ("document", "see")
    assert shown["media"] == {
        "kind": "document", "mime": "text/csv", "fileName": "a.csv", "caption": "see", "size": 768, "voice": False,
    }  # fmt: skip
    for number in (ANNA, BEN):
        response = await town.http.get(f"{PHONES}/{number}/messages/{message_id}/media")
        assert (response.status_code, response.content) == (200, file)
        assert response.headers["content-type"].startswith("text/csv")
    assert (await town.http.get(f"{PHONES}/{BEN}/messages/NONE/media")).status_code == 404


async def test_replies_to_buttons_and_lists(town: Api) -> None:
    send = f"{PHONES}/{ANNA}/send"
    first = (await town.post(send, {"to": BEN, "text": "choose"}))[1]["messageId"]
    for kind in ("buttonReply", "listReply"):
        await town.post(send, {"to": BEN, kind: {"id": "opt-1", "text": "One"}, "quote": first})
    for shown, kind in zip(
        (await town.get(f"{PHONES}/{BEN}/messages?after=1"))["messages"], ("button", "list"), strict=True
    ):
        assert (shown["type"], shown["text"]) == (f"{kind}_reply", "One")
        assert (shown["reply"], shown["quote"]["messageId"]) == ({"id": "opt-1", "text": "One"}, first)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"text": "x"}, 400, "to"),
        ({"to": "abc", "text": "x"}, 400, "to"),
        ({"to": "209999999999", "text": "x"}, 404, "to"),
        ({"to": "123@g.us", "text": "x"}, 404, "to"),
        ({"to": "12/3@g.us", "text": "x"}, 400, "to"),
        ({"to": BEN}, 400, "text"),
        ({"to": BEN, "text": ""}, 400, "text"),
        ({"to": BEN, "text": 5}, 400, "text"),
        ({"to": BEN, "text": "x" * 70_000}, 400, "text"),
        ({"to": BEN, "text": "x", "location": {}}, 400, "exactly one"),
        ({"to": BEN, "text": "x", "quote": 5}, 400, "quote"),
        ({"to": BEN, "text": "x", "quote": "NONE"}, 404, "messageId"),
        ({"to": BEN, "location": {"latitude": 91, "longitude": 0}}, 400, "location.latitude"),
        ({"to": BEN, "location": {"latitude": 1, "longitude": "2"}}, 400, "location.longitude"),
        ({"to": BEN, "contact": {"name": "x"}}, 400, "contact.phone"),
        ({"to": BEN, "contact": "x"}, 400, "contact"),
        ({"to": BEN, "reaction": {"emoji": "x"}}, 400, "reaction.messageId"),
        ({"to": BEN, "edit": {"messageId": "x"}}, 400, "edit.text"),
        ({"to": BEN, "delete": {}}, 400, "delete.messageId"),
        ({"to": BEN, "poll": {"options": ["a", "b"]}}, 400, "poll.name"),
        ({"to": BEN, "poll": {"name": "x"}}, 400, "poll.options"),
        ({"to": BEN, "poll": {"name": "x", "options": ["a"]}}, 400, "poll.options"),
        ({"to": BEN, "poll": {"name": "x", "options": ["a", "a"]}}, 400, "poll.options"),
        ({"to": BEN, "poll": {"name": "x", "options": ["a", "b"], "selectable": 3}}, 400, "poll.selectable"),
        ({"to": BEN, "media": {"kind": "film", "base64": "eA=="}}, 400, "media.kind"),
        ({"to": BEN, "media": {"kind": "image"}}, 400, "media.base64"),
        ({"to": BEN, "media": {"kind": "image", "base64": "%"}}, 400, "media.base64"),
        ({"to": BEN, "media": {"kind": "audio", "base64": "eA==", "caption": "x"}}, 400, "media.caption"),
        ({"to": BEN, "media": {"kind": "image", "base64": "eA==", "voice": True}}, 400, "media.voice"),
        ({"to": BEN, "media": {"kind": "image", "base64": "eA==", "mime": 5}}, 400, "media.mime"),
        ({"to": BEN, "buttonReply": {"text": "Yes"}}, 400, "buttonReply.id"),
        ({"to": BEN, "listReply": {"id": "r1"}}, 400, "listReply.text"),
    ],
)
async def test_bad_sends_name_the_field(town: Api, body: Any, status: int, field: str) -> None:
    got, answer = await town.post(f"{PHONES}/{ANNA}/send", body)
    assert got == status
    assert field in answer["error"]
    assert (await town.get(f"{PHONES}/{BEN}/messages"))["messages"] == []


def qr_text(ref: str) -> str:
    keys = ",".join(b64encode(bytes(32)).decode() for _ in range(3))
    return f"https://wa.me/settings/linked_devices#{ref},{keys},chrome"


async def test_scanning(town: Api) -> None:
    scan = f"{PHONES}/{ANNA}/scan"
    town.network.refs = {"one", "two", "three"}
    assert await town.post(scan, {"qr": qr_text("one")}) == (200, {"device": 1})
    picture = io.BytesIO()
    segno.make(qr_text("two")).save(picture, kind="png", scale=4)
    encoded = b64encode(picture.getvalue()).decode()
    assert await town.post(scan, {"png": encoded}) == (200, {"device": 2})
    segno.make(qr_text("three")).save(picture := io.BytesIO(), kind="png", scale=3)
    url = "data:image/png;base64," + b64encode(picture.getvalue()).decode()
    assert await town.post(scan, {"png": url}) == (200, {"device": 3})
    assert (await town.post(scan, {"qr": qr_text("one")}))[0] == 409
    assert (await town.post(f"{PHONES}/209999999999/scan", {"qr": qr_text("x")}))[0] == 404
    devices = (await town.get(f"{PHONES}/{ANNA}"))["devices"]
    assert devices[0] == {
        "id": 1, "platform": "chrome", "connected": True, "pairedAt": "2026-01-02T03:04:05.678Z", "lastSeenAt": None,
    }  # fmt: skip
    assert await town.call("DELETE", f"{PHONES}/{ANNA}/devices/3") == (200, {"ok": True})
    for unknown in ("9", "x", "-1", "0"):
        assert (await town.call("DELETE", f"{PHONES}/{ANNA}/devices/{unknown}"))[0] == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "qr"),
        ({"qr": "x", "png": "y"}, "png"),
        ({"qr": "rubbish"}, "qr"),
        ({"png": "!!"}, "png"),
        ({"qr": 5}, "qr"),
    ],
)
async def test_unreadable_scans(town: Api, body: Any, field: str) -> None:
    status, answer = await town.post(f"{PHONES}/{ANNA}/scan", body)
    assert status == 400
    assert field in answer["error"]
    assert "rubbish" not in answer["error"]


@pytest.mark.parametrize(
    "body", [{}, {"code": 12345678}, {"code": "ABCD-EFG"}, {"code": "ABCD_EFGH"}, {"code": "ÄBCDEFGH"}]
)
async def test_unreadable_codes(town: Api, body: Any) -> None:
    status, answer = await town.post(f"{PHONES}/{ANNA}/pair", body)
    assert status == 400
    assert "code" in answer["error"]
    assert "ABCD" not in answer["error"]


async def test_codes_that_nobody_shows(town: Api) -> None:
    assert (await town.post(f"{PHONES}/{ANNA}/pair", {"code": "abcd-efgh"}))[0] == 409
    assert (await town.post(f"{PHONES}/209999999999/pair", {"code": "ABCDEFGH"}))[0] == 404


async def test_phone_off(town: Api) -> None:
    online = f"{PHONES}/{BEN}/online"
    assert await town.post(online, {"online": False}) == (200, {"online": False})
    assert (await town.get(f"{PHONES}/{BEN}"))["online"] is False
    await town.post(f"{PHONES}/{ANNA}/send", {"to": BEN, "text": "later"})
    assert (await town.get(f"{PHONES}/{BEN}/messages"))["messages"] == []
    for call, body in (
        ("scan", {"qr": qr_text("r")}),
        ("pair", {"code": "ABCDEFGH"}),
        ("send", {"to": ANNA, "text": "x"}),
        ("read", {"messageId": "x"}),
    ):
        assert (await town.post(f"{PHONES}/{BEN}/{call}", body))[0] == 409
    await town.post(online, {"online": True})
    assert len((await town.get(f"{PHONES}/{BEN}/messages"))["messages"]) == 1
    assert (await town.post(online, {"online": "yes"}))[0] == 400


async def test_read(town: Api) -> None:
    message_id = (await town.post(f"{PHONES}/{ANNA}/send", {"to": BEN, "text": "x"}))[1]["messageId"]
    assert await town.post(f"{PHONES}/{BEN}/read", {"messageId": message_id}) == (200, {"ok": True})
    assert town.network.sent("receipt", f"{BEN}@s.whatsapp.net")[-1].attrs["type"] == "read"
    assert (await town.post(f"{PHONES}/{BEN}/read", {"messageId": "NONE"}))[0] == 404
    assert (await town.post(f"{PHONES}/{BEN}/read", {}))[0] == 400


async def test_presence(town: Api) -> None:
    assert await town.get(f"{PHONES}/{ANNA}/presence?after=0") == {"events": []}


async def test_faults(town: Api) -> None:
    body = {"match": {"number": ANNA, "stanza": "message", "nth": 1}, "do": {"drop": {}}, "times": 2}
    assert await town.post("/control/faults", body) == (201, {"id": "f1"})
    assert (await town.get("/control/faults"))["faults"] == [{"id": "f1", **body}]
    assert await town.call("DELETE", "/control/faults/f1") == (200, {"ok": True})
    assert (await town.call("DELETE", "/control/faults/f1"))[0] == 404
    for wrong, field in (({"do": 1}, "do"), ({"match": [], "do": {}}, "match"), ({"do": {}, "times": -1}, "times")):
        status, answer = await town.post("/control/faults", wrong)
        assert status == 400
        assert field in answer["error"]
    assert (await town.post(f"{PHONES}/{ANNA}/devices/4/inject", {"fault": {"drop": {}}}))[0] == 200
    assert town.network.injected == [(ANNA, 4, {"drop": {}})]


async def test_stats_trace_and_reset(town: Api) -> None:
    assert (await town.get("/control/stats"))["connections"] == 0
    assert (await town.get(f"/control/trace?number={ANNA}&after=7"))["stanzas"] == [{"seq": 8, "number": ANNA}]
    assert (await town.call("GET", "/control/trace?number=x"))[0] == 400
    assert await town.post("/control/reset") == (200, {"ok": True})
    assert (await town.get(PHONES))["phones"] == []
    assert (await town.call("GET", f"{PHONES}/{ANNA}"))[0] == 404


@pytest.mark.parametrize("query", ["after=-1", "after=x", "wait=1.5", "wait=", "after=9999999999999999"])
async def test_bad_queries(town: Api, query: str) -> None:
    status, answer = await town.call("GET", f"{PHONES}/{ANNA}/messages?{query}")
    assert status == 400
    assert query.partition("=")[0] in answer["error"]


async def test_polls_and_votes(town: Api) -> None:
    poll = {"name": "Come?", "options": ["yes", "no"], "selectable": 1}
    status, sent = await town.post(f"{PHONES}/{ANNA}/send", {"to": BEN, "poll": poll})
    assert status == 202
    [shown] = (await town.get(f"{PHONES}/{BEN}/messages"))["messages"]
    assert (shown["type"], shown["text"], shown["poll"]) == ("poll", "Come?", poll)
    status, vote = await town.post(f"{PHONES}/{BEN}/vote", {"pollId": sent["messageId"], "options": ["yes"]})
    assert status == 202
    [seen] = (await town.get(f"{PHONES}/{ANNA}/messages"))["messages"]
    assert (seen["messageId"], seen["type"], seen["vote"]) == (vote["messageId"], "vote", {"pollId": sent["messageId"]})


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"options": []}, 400, "pollId"),
        ({"pollId": "NONE", "options": []}, 404, "pollId"),
        ({"pollId": "TEXT", "options": []}, 400, "pollId"),
        ({"pollId": "POLL"}, 400, "options"),
        ({"pollId": "POLL", "options": ["maybe"]}, 400, "maybe"),
        ({"pollId": "POLL", "options": ["yes", "no"]}, 400, "allows 1"),
        ({"pollId": "POLL", "options": [], "addressing": "x"}, 400, "addressing"),
    ],
)
async def test_bad_votes_name_the_field(town: Api, body: Any, status: int, field: str) -> None:
    ids = {}
    for name, content in (("TEXT", {"text": "x"}), ("POLL", {"poll": {"name": "x", "options": ["yes", "no"]}})):
        ids[name] = (await town.post(f"{PHONES}/{ANNA}/send", {"to": BEN, **content}))[1]["messageId"]
    if "pollId" in body:
        body = {**body, "pollId": ids.get(body["pollId"], body["pollId"])}
    got, answer = await town.post(f"{PHONES}/{BEN}/vote", body)
    assert got == status
    assert field in answer["error"]


async def test_errors_of_the_edge(api: Api) -> None:
    assert (await api.call("GET", "/control/nothing"))[0] == 404
    assert (await api.call("PUT", PHONES))[0] == 405
    status, answer = await api.call("POST", PHONES, content=b"{not json")
    assert (status, answer["error"]) == (400, "the body is not valid JSON")
    assert (await api.call("POST", PHONES, content=b"\xff\xfe"))[0] == 400
    api.network.stats = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    assert (await api.call("GET", "/control/stats"))[0] == 500
