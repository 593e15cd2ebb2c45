"""A sandbox for each test, its control API, and real Baileys beside it.

A start of Node with Baileys takes more CPU time than most tests, and linking is the next: so one process serves all
tests, and Alice is linked once (`tests.support.ground`). It lives in one event loop, and so do all tests here.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.integration.sandbox.baileys_client import BaileysClient, node_modules
from tests.support.ground import Ground, ground

from wahub.sandbox.serve import Addresses, SandboxOptions, running

ALICE = "491510000001"


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this directory share a loop; pytest hands over those of others, too."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and asyncio.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session", name="ground")
def the_ground() -> Iterator[Ground]:
    with ground() as found:
        yield found


@contextlib.asynccontextmanager
async def _box(options: SandboxOptions) -> AsyncIterator[Box]:
    async with (
        running(options) as addresses,
        httpx.AsyncClient(base_url=addresses.control_url, timeout=30) as http,
    ):
        yield Box(addresses, http)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_client(ground: Ground) -> AsyncIterator[BaileysClient]:
    if node_modules() is None:
        pytest.skip("Baileys is not installed: set WAHUB_TEST_NODE_MODULES or run `wahub engines install baileys`")
    client = await BaileysClient.spawn(ground.ws_url, ground.trust_root, str(ground.ca_file))
    try:
        yield client
    finally:
        await client.close()


@dataclass(frozen=True)
class Linked:
    """Alice's client, linked once: what the sandbox and the client knew of it then."""

    state: Path
    directory: Path
    device: int


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def linked(ground: Ground, shared_client: BaileysClient, tmp_path_factory: pytest.TempPathFactory) -> Linked:
    base = tmp_path_factory.mktemp("linked")
    async with _box(ground.kept_in(base / "sandbox.db")) as box:
        device = await _scan(box, shared_client, "alice", ALICE, base / "alice", {})
        await shared_client.forget()
    return Linked(base / "sandbox.db", base / "alice", device)


@pytest_asyncio.fixture(loop_scope="session")
async def box(request: pytest.FixtureRequest, ground: Ground, linked: Linked, tmp_path: Path) -> AsyncIterator[Box]:
    """A sandbox without anybody, or with Alice, who has her client, if the test links one."""
    is_there = "link" in request.fixturenames
    async with _box(ground.as_kept(linked.state, tmp_path) if is_there else ground.empty()) as box:
        yield box


@pytest_asyncio.fixture(loop_scope="session")
async def baileys(box: Box, shared_client: BaileysClient) -> AsyncIterator[BaileysClient]:
    """The one process for all tests, without sockets. Its start takes more CPU time than most tests."""
    yield shared_client
    await shared_client.forget()


Link = Callable[..., Awaitable[int]]


@pytest_asyncio.fixture(loop_scope="session")
async def link(box: Box, baileys: BaileysClient, linked: Linked, tmp_path: Path) -> Link:
    """Link a client, if it is not Alice's, and wait until it is logged in; gives the number of its device."""

    async def do(name: str, number: str, **options: Any) -> int:
        if name != "alice":
            return await _scan(box, baileys, name, number, tmp_path / name, options)
        assert number == ALICE
        shutil.copytree(linked.directory, tmp_path / name)
        await _login(baileys, name, tmp_path / name, options)
        return linked.device

    return do


async def _scan(
    box: Box, baileys: BaileysClient, name: str, number: str, directory: Path, options: dict[str, Any]
) -> int:
    """Create a phone, scan the code that a new Baileys socket shows, and wait until it is logged in."""
    await box.post("/control/phones", {"number": number, "name": f"Owner of {name}"})
    await baileys.command("start", name, dir=str(directory), options=options)
    code = (await baileys.expect(name, "qr"))["qr"]
    device = (await box.post(f"/control/phones/{number}/scan", {"qr": code}))["device"]
    assert (await baileys.expect(name, "close"))["code"] == 515
    await _login(baileys, name, directory, options)
    return device["id"] if isinstance(device, dict) else device


async def _login(baileys: BaileysClient, name: str, directory: Path, options: dict[str, Any]) -> None:
    await baileys.command("start", name, dir=str(directory), options=options)
    await baileys.expect(name, "open")
    await baileys.expect(name, "drained")
