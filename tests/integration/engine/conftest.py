"""The engine under test: real Node, real Baileys, files of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.engine.network import Account, Box

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.install import InstalledEngine, ensure_installed
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.config import load_settings
from wahub.sandbox.serve import SandboxOptions, running

StartEngine = Callable[..., Awaitable[BaileysEngine]]


@pytest.fixture(scope="session")
def installed() -> InstalledEngine:
    return ensure_installed(load_settings().cache_dir, print)


@pytest.fixture
def engine_settings(installed: InstalledEngine, tmp_path: Path) -> BaileysSettings:
    return BaileysSettings(
        node=installed.node,
        directory=installed.directory,
        run_dir=tmp_path / "run",
        spool_dir=tmp_path / "spool",
        wa_url="ws://127.0.0.1:9/ws/chat",
        lock_timeout=10.0,
    )


@pytest.fixture
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


@pytest.fixture
async def box() -> AsyncIterator[Box]:
    async with (
        running(SandboxOptions(port=0)) as addresses,
        httpx.AsyncClient(base_url=addresses.control_url, timeout=30) as http,
    ):
        yield Box(addresses, http)


@pytest.fixture
def box_settings(engine_settings: BaileysSettings, box: Box) -> BaileysSettings:
    """Settings that point the engine at the sandbox."""
    return replace(
        engine_settings,
        wa_url=box.addresses.ws_url,
        trust_root=box.addresses.trust_root,
        ca_file=Path(box.addresses.ca_file),
        ack_timeout=5.0,
    )


@pytest.fixture
async def engine(start_engine: StartEngine, box_settings: BaileysSettings) -> BaileysEngine:
    return await start_engine(box_settings)


@pytest.fixture
async def account(box: Box, engine: BaileysEngine) -> Account:
    """A linked account, logged in."""
    account = Account(box, "15550001111")
    await account.pair(engine)
    return account
