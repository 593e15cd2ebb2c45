"""A running sandbox on free ports, its control API, and real Baileys beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.integration.sandbox.baileys_client import BaileysClient, node_modules

from wahub.sandbox.serve import Addresses, SandboxOptions, running


@dataclass
class Box:
    """What a test needs of a running sandbox."""

    addresses: Addresses
    http: httpx.AsyncClient

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(path, json=body)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else {}

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def stats(self) -> dict[str, Any]:
        return await self.get("/control/stats")


@pytest_asyncio.fixture
async def box() -> AsyncIterator[Box]:
    async with (
        running(SandboxOptions(port=0)) as addresses,
        httpx.AsyncClient(base_url=addresses.control_url, timeout=30) as http,
    ):
        yield Box(addresses, http)


@pytest_asyncio.fixture
async def baileys(box: Box) -> AsyncIterator[BaileysClient]:
    if node_modules() is None:
        pytest.skip("Baileys is not installed: set WAHUB_TEST_NODE_MODULES or run `wahub engines install baileys`")
    client = await BaileysClient.spawn(box.addresses.ws_url, box.addresses.trust_root, box.addresses.ca_file)
    try:
        yield client
    finally:
        await client.close()


Link = Callable[..., Awaitable[int]]


@pytest_asyncio.fixture
async def link(box: Box, baileys: BaileysClient, tmp_path: Path) -> Link:
    """Create a phone, scan the code that a new Baileys socket shows, and wait until it is logged in."""

    async def do(name: str, number: str, **options: Any) -> int:
        await box.post("/control/phones", {"number": number, "name": f"Owner of {name}"})
        directory = str(tmp_path / name)
        await baileys.command("start", name, dir=directory, options=options)
        code = (await baileys.expect(name, "qr"))["qr"]
        device = (await box.post(f"/control/phones/{number}/scan", {"qr": code}))["device"]
        assert (await baileys.expect(name, "close"))["code"] == 515
        await baileys.command("start", name, dir=directory, options=options)
        await baileys.expect(name, "open")
        await baileys.expect(name, "drained")
        return device["id"] if isinstance(device, dict) else device

    return do
