"""The edge behind a real server: what only bytes on a socket can show."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from tests.integration.api.conftest import PATIENCE, PHONE, Edge

from wahub.api.app import build_api


@pytest.fixture
async def address(edge: Edge) -> AsyncIterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(build_api(edge.deps), http="httptools", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    server.capture_signals = __import__("contextlib").nullcontext  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve(sockets=[listener]))
    yield listener.getsockname()[:2]
    server.should_exit = True
    await running


async def test_a_client_is_served(edge: Edge, address: tuple[str, int]) -> None:
    await edge.add("b/shop")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", timeout=PATIENCE) as client:
        sent = await client.post(
            "/instances/b%2Fshop/client/action/send-message", json={"chatId": PHONE, "message": "hi"}
        )
        assert sent.status_code == 202
        assert (await client.get(f"/instances/b_shop/request/{sent.json()['queueId']}")).json()["state"] == "queued"
        assert (await client.head("/health")).status_code == 200
        docs = await client.get("/openapi.json")

    paths = docs.json()["paths"]
    assert set(paths["/instances/{instance}"]) == {"get", "put", "delete"}
    assert "/api/v1/instances/{instance}/client/action/send-message" in paths
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /instances HTTP/1.0\r\n\r\n", b"403"),  # no Host at all
        (b"GET /instances HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", b"403"),
        (b"GET /instances/%zz/client/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /instances/a%00b%0d%0a HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"GET /../instances HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"POST /instances HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", b"4"),
    ],
)
async def test_odd_requests_get_a_clear_answer(address: tuple[str, int], request_bytes: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request_bytes)
    line = await asyncio.wait_for(reader.readline(), PATIENCE)
    writer.close()
    assert line.split(b" ")[1].startswith(status)


async def test_a_caller_that_goes_away_leaves_nothing_behind(edge: Edge, address: tuple[str, int]) -> None:
    await edge.add("shop")
    _, writer = await asyncio.open_connection(*address)
    head = b"POST /instances/shop/client/action/send-message HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    writer.write(head + b'{"chatId"')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{address[1]}", timeout=PATIENCE) as client:
        assert (await client.get("/instances/shop/queue")).json()["depth"] == 0
