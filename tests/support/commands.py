"""What tests of commands share: running one, filling its store, and a gateway beside it that has the store."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import open_database
from wahub.adapters.system_clock import SystemClock
from wahub.api.app import build_api
from wahub.api.deps import ApiDeps, ApiSettings
from wahub.ports.store import Tx
from wahub.process import listen, url_of

T = TypeVar("T")

KEY = "the-key-of-this-gateway"


def command(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `wahub …` in an empty environment."""
    return subprocess.run(
        [sys.executable, "-m", "wahub", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def in_store(directory: Path, work: Callable[[Tx], T]) -> T:
    """Run a transaction while no gateway has the store."""

    async def run() -> T:
        database = open_database(f"sqlite:///{directory}/wahub-data/wahub.db", SystemClock())
        try:
            return await database.write(work)
        finally:
            await database.close()

    return asyncio.run(run())


def filled(directory: Path, fill: Callable[[Tx], object]) -> Path:
    """The directory, with a store in its `wahub-data` that `fill` filled."""
    (directory / "wahub-data" / "run").mkdir(parents=True)
    in_store(directory, fill)
    return directory


def without(said: subprocess.CompletedProcess[str], *secrets: str) -> None:
    """A command said none of these."""
    for secret in (KEY, *secrets):
        assert secret not in said.stdout + said.stderr


class Gateway(threading.Thread):
    """The API on a real socket, in a thread that holds the store as a gateway does."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self._listener = listen("127.0.0.1", 0)
        self.url = url_of(self._listener)
        self.up = threading.Event()
        self.server: uvicorn.Server | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        clock = SystemClock()
        database = open_database(f"sqlite:///{self._directory}/wahub-data/wahub.db", clock)
        settings = ApiSettings(version="1.2.3", api_key=KEY)
        app = build_api(ApiDeps(database, clock, LocalWakeup(clock), settings, lambda: True))
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        self.up.set()
        await self.server.serve(sockets=[self._listener])
        await database.close()

    def stop(self) -> None:
        assert self.server is not None
        self.server.should_exit = True
        self.join(20)
        assert not self.is_alive()

    def announce(self) -> None:
        """Say where it is, as a gateway does."""
        line = json.dumps({"event": "listening", "url": self.url})
        (self._directory / "wahub-data" / "run" / "gateway.json").write_text(line)


@contextmanager
def gateway_beside(store: Path, *, announced: bool = True) -> Iterator[Gateway]:
    """A gateway that has the store until the end of the block, and says where it is."""
    running = Gateway(store)
    running.start()
    assert running.up.wait(20)
    if announced:
        running.announce()
    yield running
    running.stop()


def lines(said: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]
