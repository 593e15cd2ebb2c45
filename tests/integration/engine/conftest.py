"""The engine under test: real Node, real Baileys.

A start of its process takes more CPU time than most tests, and linking an account is the next: so there is one process
for all tests that neither end it nor need it otherwise, and an account that was linked once. Each test has a sandbox
of its own (`tests.support.ground`), accounts of its own, and with them a spool of its own. What is shared lives in one
event loop, and so do all tests here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.integration.engine.network import Account, Box
from tests.integration.engine.vault import MemoryVault
from tests.integration.engine.waiting import until
from tests.support.ground import Ground, ground

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.install import InstalledEngine, ensure_installed
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.config import load_settings
from wahub.domain.session import KeyName
from wahub.ports.engine import CaughtUp
from wahub.sandbox.serve import SandboxOptions, running

StartEngine = Callable[..., Awaitable[BaileysEngine]]
NUMBER = "15550001111"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this directory share a loop; pytest hands over those of others, too."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and asyncio.iscoroutinefunction(getattr(item, "obj", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def installed() -> InstalledEngine:
    return ensure_installed(load_settings().cache_dir, print)


@pytest.fixture(scope="session", name="ground")
def the_ground() -> Iterator[Ground]:
    with ground() as found:
        yield found


def _settings(installed: InstalledEngine, directory: Path) -> BaileysSettings:
    return BaileysSettings(
        node=installed.node,
        directory=installed.directory,
        run_dir=directory / "run",
        spool_dir=directory / "spool",
        wa_url="ws://127.0.0.1:9/ws/chat",
    )


def _to_the_sandbox(settings: BaileysSettings, ground: Ground) -> BaileysSettings:
    return replace(settings, wa_url=ground.ws_url, trust_root=ground.trust_root, ca_file=ground.ca_file)


@pytest.fixture
def engine_settings(installed: InstalledEngine, tmp_path: Path) -> BaileysSettings:
    return _settings(installed, tmp_path)


@pytest.fixture
def box_settings(engine_settings: BaileysSettings, ground: Ground) -> BaileysSettings:
    """Settings that point an engine of the test's own at the sandbox."""
    return _to_the_sandbox(engine_settings, ground)


@pytest_asyncio.fixture(loop_scope="session")
async def start_engine(engine_settings: BaileysSettings) -> AsyncIterator[StartEngine]:
    """Starts engines with changed settings; all are stopped at the end."""
    engines: list[BaileysEngine] = []

    async def start(settings: BaileysSettings | None = None, **changes: Any) -> BaileysEngine:
        engine = BaileysEngine(replace(settings or engine_settings, **changes))
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    for engine in engines:
        await engine.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_engine(
    installed: InstalledEngine, ground: Ground, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BaileysEngine]:
    settings = _to_the_sandbox(_settings(installed, tmp_path_factory.mktemp("engine")), ground)
    # What so many tests leave in its memory is no reason to replace it in the middle of one.
    engine = BaileysEngine(replace(settings, most_memory_mb=4_000))
    await engine.start()
    yield engine
    await engine.stop()


@dataclass(frozen=True)
class Linked:
    """An account that was linked once: what the sandbox and the key vault knew of it then."""

    state: Path
    keys: Mapping[KeyName, bytes]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def linked(shared_engine: BaileysEngine, ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Linked:
    state = tmp_path_factory.mktemp("linked") / "sandbox.db"
    async with _box(ground.kept_in(state)) as box:
        account = Account(box, NUMBER)
        await (await account.pair(shared_engine)).first(CaughtUp)
        await account.link.close()
    return Linked(state, dict(account.vault.values))


@contextlib.asynccontextmanager
async def _box(options: SandboxOptions) -> AsyncIterator[Box]:
    async with (
        running(options) as addresses,
        httpx.AsyncClient(base_url=addresses.control_url, timeout=30) as http,
    ):
        yield Box(addresses, http)


@pytest_asyncio.fixture(loop_scope="session")
async def box(request: pytest.FixtureRequest, ground: Ground, linked: Linked, tmp_path: Path) -> AsyncIterator[Box]:
    """A sandbox without anybody, or with the account and nobody else if the test asks for it."""
    is_there = "away" in request.fixturenames
    async with _box(ground.as_kept(linked.state, tmp_path) if is_there else ground.empty()) as box:
        yield box


@contextlib.asynccontextmanager
async def lent(shared: BaileysEngine) -> AsyncIterator[BaileysEngine]:
    """For one test, which leaves no link behind and the process as it was."""
    await until(lambda: shared.pids)
    before = shared.pids
    yield shared
    links = [link for slot in shared._slots.values() for link in slot.links.values()]
    await asyncio.gather(*(link.close() for link in links))
    assert shared.pids == before, "a test that ends the process needs one of its own"


@pytest_asyncio.fixture(loop_scope="session")
async def engine(box: Box, shared_engine: BaileysEngine) -> AsyncIterator[BaileysEngine]:
    """With the process that is there for all."""
    async with lent(shared_engine) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="session")
async def own_engine(box: Box, start_engine: StartEngine, box_settings: BaileysSettings) -> BaileysEngine:
    """With a process that the test may end."""
    return await start_engine(box_settings)


@pytest.fixture
def away(box: Box, linked: Linked) -> Account:
    """A linked account that is not logged in."""
    return Account(box, NUMBER, vault=MemoryVault(linked.keys))


@pytest_asyncio.fixture(loop_scope="session")
async def account(away: Account, engine: BaileysEngine) -> Account:
    """A linked account, logged in."""
    await away.login(engine)
    return away
