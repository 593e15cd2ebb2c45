"""The event log over HTTP: pages, and streams that go on where they were."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from tests.integration.api.conftest import PATIENCE, Edge

from wahub.api import events as module
from wahub.api.app import build_api
from wahub.domain.ids import InstanceId
from wahub.ports.store import Tx
from wahub.ports.wakeup import EVENTS
from wahub.services import webhook

BOTH = ("/instances", "/api/v1/instances")


async def emit(edge: Edge, name: str, *events: str, ttl: float | None = None, **data: Any) -> None:
    """Log events as services do, and hint as the dispatcher does."""

    def work(tx: Tx) -> None:
        known = tx.instances.get(InstanceId(name))
        assert known is not None
        for event in events:
            event_id = f"{name}-{tx.events.span(known.id).newest + 1}"
            webhook.emit(tx, known, event, data, now=edge.clock.now(), event_id=event_id, ttl=ttl)

    await edge.write(work)
    edge.wakeup.notify(EVENTS)


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", BOTH)
async def test_a_page_tells_what_happened_and_where_to_go_on(
    edge: Edge, client: httpx.AsyncClient, prefix: str
) -> None:
    await edge.add("shop")
    await emit(edge, "shop", "message", message={"text": "سلام 😀", "timestamp": 2**53 - 1})
    await emit(edge, "shop", "message_ack", "ready")
    answer = await client.get(f"{prefix}/shop/events", params={"limit": 2})
    page = answer.json()
    assert answer.status_code == 200
    assert [(event["sequence"], event["event"], event["eventId"]) for event in page["events"]] == [
        (1, "message", "shop-1"),
        (2, "message_ack", "shop-2"),
    ]
    assert page["events"][0]["data"] == {"message": {"text": "سلام 😀", "timestamp": 2**53 - 1}}
    assert page["events"][0]["createdAt"].endswith("Z")
    assert (page["next"], page["oldest"], page["newest"], page["gap"], page["status"]) == (2, 1, 3, False, "success")
    rest = (await client.get(f"{prefix}/shop/events", params={"after": page["next"]})).json()
    assert [event["sequence"] for event in rest["events"]] == [3]
    nothing = (await client.get(f"{prefix}/shop/events", params={"after": rest["next"]})).json()
    assert (nothing["events"], nothing["next"], nothing["gap"]) == ([], 3, False)


async def test_what_is_kept_no_more_is_told_as_a_gap(edge: Edge, client: httpx.AsyncClient) -> None:
    await edge.add("shop")
    await emit(edge, "shop", "a", "b")
    await edge.write(lambda tx: tx.events.forget(edge.clock.now() + 1, 0, 10))
    empty = (await client.get("/instances/shop/events")).json()
    assert (empty["events"], empty["next"], empty["oldest"], empty["gap"]) == ([], 2, 3, True)
    await emit(edge, "shop", "c")
    page = (await client.get("/instances/shop/events?after=1")).json()
    assert ([event["event"] for event in page["events"]], page["oldest"], page["gap"]) == (["c"], 3, True)
    assert (await client.get("/instances/shop/events?after=2")).json()["gap"] is False
    # A number of an instance that was deleted, and is there again under the same name.
    foreign = (await client.get("/instances/shop/events?after=99")).json()
    assert (foreign["events"], foreign["next"], foreign["gap"]) == ([], 2, True)


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=1.5", "limit=0", "limit=1001", "limit=y"])
async def test_a_wrong_number_is_named(edge: Edge, client: httpx.AsyncClient, query: str) -> None:
    await edge.add("shop")
    answer = await client.get(f"/instances/shop/events?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]


@pytest.mark.parametrize("path", ["events", "events/stream"])
async def test_an_unknown_instance_has_no_log(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/instances/nobody/{path}")).status_code == 404


async def test_a_dead_code_is_not_shown(edge: Edge, client: httpx.AsyncClient) -> None:
    await edge.add("shop")
    await emit(edge, "shop", "qr", ttl=60.0, qr="picture")
    assert "picture" in (await client.get("/instances/shop/events")).text
    await edge.add("late")
    await emit(edge, "late", "qr", ttl=0.0, qr="picture")
    page = await client.get("/instances/late/events")
    assert page.json()["events"][0]["data"] == {"error": "expired"}


# --- streams ----------------------------------------------------------------------------------------------------------


@dataclass
class Said:
    """One event of a stream."""

    id: str
    event: str
    data: dict[str, Any]


@dataclass
class Follower:
    """Reads a stream in the background of a test."""

    response: httpx.Response
    said: list[Said] = field(default_factory=list)
    pings: int = 0

    def __post_init__(self) -> None:
        self._lines = self.response.aiter_lines()

    async def take(self, count: int) -> list[Said]:
        """The next events."""
        found: list[Said] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                block = await self._block()
                if "data" in block:
                    found.append(Said(block.get("id", ""), block.get("event", "message"), json.loads(block["data"])))
        self.said += found
        return found

    async def ping(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while ": ping" not in await self._raw():
                pass

    async def ended(self) -> None:
        """The stream is over."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(StopAsyncIteration, httpx.RemoteProtocolError):
                while True:
                    await anext(self._lines)

    async def _block(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in await self._raw() if not line.startswith(":"))

    async def _raw(self) -> list[str]:
        lines = []
        while (line := await anext(self._lines)) != "":
            lines.append(line)
        return lines


class Served:
    """The edge behind a real server."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.stopping = False
        edge.deps = dataclasses.replace(edge.deps, stopping=lambda: self.stopping)
        self.listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            build_api(edge.deps), http="httptools", lifespan="off", log_config=None, timeout_graceful_shutdown=5
        )
        self.server = uvicorn.Server(config)
        self.server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        self.address: tuple[str, int] = self.listener.getsockname()[:2]

    @contextlib.asynccontextmanager
    async def follow(self, path: str, last: str | None = None) -> AsyncIterator[Follower]:
        headers = {} if last is None else {"Last-Event-ID": last}
        url = f"http://127.0.0.1:{self.address[1]}{path}"
        async with (
            httpx.AsyncClient(timeout=PATIENCE) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            follower = Follower(response)
            await follower._raw()  # the greeting: from here on nothing is missed
            yield follower


@pytest.fixture
async def served(edge: Edge) -> AsyncIterator[Served]:
    made = Served(edge)
    running = asyncio.create_task(made.server.serve(sockets=[made.listener]))
    yield made
    made.stopping = made.server.should_exit = True
    await running


async def test_a_stream_tells_what_happens_from_now_on(edge: Edge, served: Served) -> None:
    await edge.add("shop")
    await emit(edge, "shop", "before")
    async with served.follow("/instances/shop/events/stream") as stream:
        await emit(edge, "shop", "message", text="hi")
        [said] = await stream.take(1)
        assert (said.id, said.event) == ("2", "message")
        assert said.data.pop("createdAt")
        assert said.data == {
            "instanceId": "shop",
            "sequence": 2,
            "eventId": "shop-2",
            "event": "message",
            "data": {"text": "hi"},
        }


async def test_a_stream_resumes_without_gap_or_double(edge: Edge, served: Served) -> None:
    for name in ("shop", "other"):
        await edge.add(name)
    await emit(edge, "shop", *["a"] * 150)
    await emit(edge, "other", *["b"] * 150)
    await emit(edge, "shop", *["c"] * 150)
    seen: list[str] = []
    last = "shop:1"
    for count in (1, 120, 200, 128):
        async with served.follow("/events/stream", last) as stream:
            seen += [said.id for said in await stream.take(count)]
            last = seen[-1]
    assert [int(mark.rpartition(":")[2]) for mark in seen] == list(range(2, 451)), "the ids carry the position"
    assert [mark.rpartition(":")[0] for mark in seen] == [
        *(f"shop:{n}" for n in range(2, 151)),
        *(f"other:{n}" for n in range(1, 151)),
        *(f"shop:{n}" for n in range(151, 301)),
    ]
    async with served.follow("/api/v1/instances/shop/events/stream", "298") as stream:
        assert [said.id for said in await stream.take(2)] == ["299", "300"]
        await emit(edge, "shop", "d")
        assert [said.id for said in await stream.take(1)] == ["301"]
    async with served.follow("/instances/shop/events/stream?after=299") as stream:
        assert [said.id for said in await stream.take(2)] == ["300", "301"]


async def test_streams_are_filtered_by_instance_and_event(edge: Edge, served: Served) -> None:
    for name in ("shop", "other", "third"):
        await edge.add(name)
    path = "/events/stream?instance=shop,other&event=message&event=ready"
    async with served.follow(path) as stream, served.follow("/instances/third/events/stream?event=ready") as third:
        for name in ("third", "other", "shop"):
            await emit(edge, name, "message", "qr", "ready")
        assert [said.id for said in await stream.take(4)] == ["other:1:4", "other:3:6", "shop:1:7", "shop:3:9"]
        assert [said.id for said in await third.take(1)] == ["3"]


async def test_what_is_kept_no_more_is_told_in_the_stream(edge: Edge, served: Served) -> None:
    await edge.add("shop")
    await emit(edge, "shop", "a", "b")
    await edge.write(lambda tx: tx.events.forget(edge.clock.now() + 1, 0, 10))
    await emit(edge, "shop", "c")
    async with served.follow("/instances/shop/events/stream", "1") as stream:
        # The greeting was read up to its end; the gap comes next.
        gap, kept = await stream.take(2)
        assert (gap.event, gap.data) == ("gap", {"instanceId": "shop", "after": 1, "oldest": 3})
        assert kept.id == "3"
    async with served.follow("/events/stream", "shop:1") as stream:
        gap, kept = await stream.take(2)
        assert (gap.event, gap.data) == ("gap", {"instanceId": "shop", "after": 1, "oldest": 3})
        assert kept.id == "shop:3:3"


async def heard(served: Served, last: str, path: str = "/events/stream", *, until: str) -> list[str | dict[str, Any]]:
    """What somebody who comes back is told first, up to that id; gaps as their data."""
    found: list[str | dict[str, Any]] = []
    async with served.follow(path, last) as stream:
        while until not in found:
            (said,) = await stream.take(1)
            found.append(said.data if said.event == "gap" else said.id)
    return found


async def test_a_deleted_instance_is_no_gap_of_the_others(edge: Edge, served: Served) -> None:
    for name in ("shop", "gone"):
        await edge.add(name)
    await emit(edge, "shop", "a")
    await emit(edge, "gone", "b", "c")
    await emit(edge, "shop", "d")
    await emit(edge, "gone", "e")
    await edge.write(lambda tx: tx.instances.delete(InstanceId("gone")))
    async with served.follow("/events/stream", "gone:3:5") as stream:
        await emit(edge, "shop", "f")
        assert [said.id for said in await stream.take(1)] == ["shop:3:6"]
    assert await heard(served, "gone:1:2", until="shop:3:6") == ["shop:2:4", "shop:3:6"]
    # It is there again, and counts anew.
    await edge.add("gone")
    await emit(edge, "gone", "g")
    assert await heard(served, "gone:3:5", until="gone:1:7") == ["shop:3:6", "gone:1:7"]


async def test_what_retention_took_is_a_gap_only_of_those_who_had_not_seen_it(edge: Edge, served: Served) -> None:
    for name in ("shop", "other", "young"):
        await edge.add(name)
    await emit(edge, "other", "a")
    await emit(edge, "shop", "b", "c")
    await emit(edge, "other", "d")
    await edge.write(lambda tx: tx.events.forget(edge.clock.now() + 1, 0, 10))
    for name in ("young", "shop", "other"):
        await emit(edge, name, "new")
    kept = ["young:1:5", "shop:3:6", "other:3:7"]
    shop, other = {"instanceId": "shop", "oldest": 3}, {"instanceId": "other", "oldest": 3}

    async def told(last: str, path: str = "/events/stream") -> list[str | dict[str, Any]]:
        return await heard(served, last, path, until="other:3:7" if "shop" not in path else "shop:3:6")

    assert await told("other:2:4") == kept, "all that went was seen"
    assert await told("shop:2:3") == [{**other, "after": None}, *kept]
    assert await told("shop:1:2") == [{**other, "after": None}, {**shop, "after": 1}, *kept]
    assert await told("shop:2:3", "/events/stream?instance=shop") == ["shop:3:6"]
    assert await told("young:1:5") == kept[1:]
    # Ids of earlier versions, and what people write by hand: the log of that instance begins there.
    assert await told("young:0") == kept
    assert await told("other:2") == kept
    assert await told("shop:2") == [{**other, "after": None}, *kept]
    assert await told("shop:0") == [{**shop, "after": 0}, {**other, "after": None}, *kept]
    assert await told("nobody:4") == [{"instanceId": "nobody", "after": 4, "oldest": None}, *kept]


@pytest.mark.parametrize("last", ["shop:9:99", "shop:9:2", "other:1:1"])
async def test_an_id_of_another_database_is_told_everything(edge: Edge, served: Served, last: str) -> None:
    """Its position would be a lie: restored from an older copy, the log has other events there, or none yet."""
    await edge.add("shop")
    await emit(edge, "shop", "a", "b", "c")
    owner, number, _ = last.split(":")
    gap = {"instanceId": owner, "after": int(number), "oldest": None}
    assert await heard(served, last, until="shop:3:3") == [gap, "shop:1:1", "shop:2:2", "shop:3:3"]


async def test_a_hole_behind_the_oldest_is_a_gap(edge: Edge, served: Served) -> None:
    """What still has to be delivered is kept while later events go."""
    await edge.add("shop")
    await emit(edge, "shop", "ready")
    await emit(edge, "shop", "a", "b")
    await edge.write(lambda tx: tx.events.forget(edge.clock.now() + 1, 0, 10))
    await emit(edge, "shop", "c")
    path, gap = "/instances/shop/events/stream", {"instanceId": "shop", "oldest": 1}
    assert await heard(served, "0", path, until="4") == [{**gap, "after": 0}, "1", "4"]
    assert await heard(served, "1", path, until="4") == [{**gap, "after": 1}, "4"]
    assert await heard(served, "3", path, until="4") == ["4"]
    assert await heard(served, "shop:1:1", until="shop:4:4") == [{**gap, "after": 1}, "shop:4:4"]
    assert await heard(served, "shop:3:3", until="shop:4:4") == ["shop:4:4"]


async def test_a_log_that_begins_at_its_first_number_has_no_gap(edge: Edge, served: Served) -> None:
    await edge.add("shop")
    await emit(edge, "shop", "a", "b")
    assert await heard(served, "0", "/instances/shop/events/stream", until="2") == ["1", "2"]
    assert await heard(served, "shop:0", until="shop:2:2") == ["shop:1:1", "shop:2:2"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("/events/stream?after=1", "after"),
        ("/events/stream?after=x", "after"),
        ("/events/stream?event=mesage", "event"),
        ("/events/stream?event=ready,presence", "event"),
        ("/events/stream?instance=shop,nobody", "instance"),
        ("/instances/shop/events/stream?after=x", "after"),
        ("/instances/shop/events/stream?event=nothing", "event"),
        ("/instances/shop/events/stream?instance=other", "instance"),
    ],
)
async def test_a_wrong_word_of_a_stream_is_named(edge: Edge, client: httpx.AsyncClient, query: str, named: str) -> None:
    for name in ("shop", "other"):
        await edge.add(name)
    answer = await client.get(query)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"{named} ")


async def test_who_comes_back_goes_on_though_an_instance_of_theirs_was_deleted(edge: Edge, served: Served) -> None:
    await edge.add("shop")
    await emit(edge, "shop", "ready", "ready")
    path = "/events/stream?instance=shop,gone&event=*"
    assert await heard(served, "shop:1:1", path, until="shop:2:2") == ["shop:2:2"]


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/events/stream", "7"),
        ("/events/stream", "shop:x"),
        ("/events/stream", "shop:1:x"),
        ("/events/stream", "shop:1:2:3"),
        ("/instances/shop/events/stream", "a:7"),
    ],
)
async def test_an_id_that_is_none_is_refused(edge: Edge, client: httpx.AsyncClient, path: str, last: str) -> None:
    await edge.add("shop")
    answer = await client.get(path, headers={"Last-Event-ID": last})
    assert answer.status_code == 400
    assert "Last-Event-ID" in answer.json()["error"]


async def test_a_quiet_stream_says_that_it_is_there(
    edge: Edge, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PING_EVERY", 0.0)
    monkeypatch.setattr(module, "_LOOK_EVERY", 0.02)
    await edge.add("shop")
    async with served.follow("/instances/shop/events/stream") as stream:
        await stream.ping()


async def test_a_stream_ends_with_its_instance_and_with_the_gateway(edge: Edge, served: Served) -> None:
    await edge.add("shop")
    async with served.follow("/instances/shop/events/stream") as stream, served.follow("/events/stream") as all_of_it:
        await edge.write(lambda tx: tx.instances.delete(InstanceId("shop")))
        edge.wakeup.notify(EVENTS)
        await stream.ended()
        served.stopping = served.server.should_exit = True
        await all_of_it.ended()


async def test_a_reader_that_does_not_read_is_cut_off(
    edge: Edge, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEND_PATIENCE", 0.2)
    await edge.add("shop")
    routes = next(
        cell.cell_contents.__self__
        for route in served.server.config.app.routes  # type: ignore[union-attr]
        if getattr(route, "path", "") == "/events/stream"
        for cell in route.endpoint.__closure__
    )
    with socket.create_connection(served.address) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(b"GET /events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(30):
            while not routes.streams:
                await emit(edge, "shop", "message")
            while routes.streams:
                await emit(edge, "shop", *["message"] * 50, text="x" * 20_000)
    assert routes.streams == set()


async def test_there_are_only_so_many_streams(edge: Edge, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_STREAMS", 1)
    async with served.follow("/events/stream"), httpx.AsyncClient(timeout=PATIENCE) as client:
        refused = await client.get(f"http://127.0.0.1:{served.address[1]}/events/stream")
        assert refused.status_code == 429
