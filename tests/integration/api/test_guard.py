"""Who may call (contract A.0, 0.9)."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api.conftest import Edge

KEY = "s3cret-ключ"
BEARER = {"Authorization": f"Bearer {KEY}".encode()}


@pytest.fixture
def keyed(edge: Edge) -> Edge:
    edge.with_settings(api_key=KEY)
    return edge


PATHS = [
    ("GET", "/instances"),
    ("POST", "/api/v1/instances"),
    ("DELETE", "/instances/x"),
    ("GET", "/no/such/route"),
    ("PATCH", "/instances"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/health/"),
    ("GET", "/"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_a_key_everything_is_401_before_routing(keyed: Edge, method: str, path: str) -> None:
    async with keyed.client() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["status"]) == (401, 401)
    assert "Authorization" in answer.json()["error"]
    assert "X-API-Key" in answer.json()["error"]
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_wrong_key_is_403_before_routing(keyed: Edge, method: str, path: str) -> None:
    async with keyed.client() as client:
        answer = await client.request(method, path, headers={"X-API-Key": "wrong"})
    assert (answer.status_code, answer.json()) == (403, {"error": "Invalid API key", "status": 403})


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (BEARER, 200),
        ({"Authorization": f"bearer  {KEY}".encode()}, 200),
        ({"X-API-Key": KEY.encode()}, 200),
        # The Bearer header decides alone; another scheme leaves it to X-API-Key.
        ({**BEARER, "X-API-Key": "wrong"}, 200),
        ({"Authorization": "Bearer wrong", "X-API-Key": KEY.encode()}, 403),
        ({"Authorization": "Bearer ", "X-API-Key": KEY.encode()}, 401),
        ({"Authorization": "Basic abc", "X-API-Key": KEY.encode()}, 200),
        ({"Authorization": "Basic abc"}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": KEY.encode()[:-1]}, 403),
        ({"X-API-Key": KEY.encode() + b"x"}, 403),
    ],
)
async def test_where_the_key_is_looked_for(keyed: Edge, headers: dict[str, Any], status: int) -> None:
    async with keyed.client(headers=headers) as client:
        assert (await client.get("/instances")).status_code == status


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_health_is_open(keyed: Edge, method: str, path: str) -> None:
    async with keyed.client() as client:
        assert (await client.request(method, path)).status_code == 200


async def test_with_a_key_any_host_and_origin_may_call(keyed: Edge) -> None:
    headers = {**BEARER, "Host": "wa.example.com", "Origin": "https://app.example.com", "Sec-Fetch-Site": "cross-site"}
    async with keyed.client(headers=headers) as client:
        assert (await client.get("/instances")).status_code == 200


LOOPBACK = ["localhost", "LOCALHOST:80", "127.0.0.1", "127.8.9.10:3000", "[::1]", "[::1]:3000"]
FOREIGN = [
    *("example.com", "localhost.example.com", "127.0.0.1.example.com", "0.0.0.0", "192.168.1.4:3000", "[fe80::1]"),
    *("", "localhost:x", "::1", "127.1", "127.0.0.1@example.com"),
]


@pytest.mark.parametrize("host", LOOPBACK)
async def test_without_a_key_loopback_hosts_are_served(edge: Edge, host: str) -> None:
    async with edge.client(headers={"Host": host}) as client:
        assert (await client.get("/instances")).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/instances", "/health"])
async def test_without_a_key_other_hosts_are_refused(edge: Edge, host: str, path: str) -> None:
    async with edge.client(headers={"Host": host}) as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["status"]) == (403, 403)
    assert "Host" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://localhost:3001"}, 403),
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://localhost", "Host": "localhost:80"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "Cross-Site"}, 403),
    ],
)
@pytest.mark.parametrize("open_to_network", [False, True])
async def test_without_a_key_pages_of_other_sites_are_refused(
    edge: Edge, headers: dict[str, str], status: int, open_to_network: bool
) -> None:
    edge.with_settings(open_to_network=open_to_network)
    async with edge.client(headers=headers) as client:
        assert (await client.get("/instances")).status_code == status


async def test_an_open_server_takes_any_host(edge: Edge) -> None:
    edge.with_settings(open_to_network=True)
    async with edge.client(headers={"Host": "wa.example.com"}) as client:
        assert (await client.get("/instances")).status_code == 200


def test_the_key_is_never_shown(keyed: Edge) -> None:
    assert KEY not in repr(keyed.deps)
