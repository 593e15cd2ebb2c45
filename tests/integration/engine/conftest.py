"""The engine under test: real Node, real Baileys, files of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wahub.adapters.engines.baileys.engine import BaileysEngine
from wahub.adapters.engines.baileys.install import InstalledEngine, ensure_installed
from wahub.adapters.engines.baileys.settings import BaileysSettings
from wahub.config import load_settings

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
