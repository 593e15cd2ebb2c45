"""What tests of commands share: running one, filling its store, and a gateway beside it that has the store."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from tests.support.forks import Fork
from tests.support.processes import Command, environment

from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import open_database
from wahub.adapters.system_clock import SystemClock
from wahub.api.app import build_api
from wahub.api.deps import ApiDeps, ApiSettings
from wahub.ports.store import Tx
from wahub.process import listen, url_of

T = TypeVar("T")
Run = Callable[..., subprocess.CompletedProcess[str]]

KEY = "the-key-of-this-gateway"
PATIENCE = 120.0
"""Seconds for a command to end. To load a program took a machine that ran ten at once a minute."""


def command(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `wahub …` in an empty environment. It has a process, but no imports of its own (see forks.py)."""
    with tempfile.TemporaryDirectory(prefix="wahub-test-") as kept:
        out, err = Path(kept) / "out", Path(kept) / "err"
        running = Fork(arguments, directory, _environment(directory, environment), out, err)
        try:
            code = running.wait(PATIENCE)
        finally:
            running.send_signal(signal.SIGKILL)
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def started(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same as a person starts it, at ten times the cost: once for each kind of thing that a command does."""
    return subprocess.run(
        [sys.executable, "-m", "wahub", *arguments],
        cwd=directory,
        env=_environment(directory, environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def _environment(directory: Path, more: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(directory), **more}


class Forked(Command):
    """A running `wahub …` command like any other, but for its imports (see forks.py)."""

    def __init__(self, name: str, arguments: list[str], directory: Path, settings: Mapping[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.out = directory / f"{name}.out"
        self.err = directory / f"{name}.err"
        self._process = Fork(arguments, directory, environment(**settings), self.out, self.err)
        self.pid = self._process.pid

    def _release_keeper(self) -> None:
        """It has none: the process that forks keeps it."""


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
