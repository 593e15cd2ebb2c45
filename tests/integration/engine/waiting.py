"""Waiting for what happens in other processes, always with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tests.support.folders import files_below, size_of

from wahub.ports.engine import Link, LinkEvent

PATIENCE = 30.0
"""Seconds. Nothing takes so long; on a busy machine, a start of Node with Baileys takes a good part of it."""

T = TypeVar("T", bound=LinkEvent)


async def until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        await asyncio.sleep(0.01)


async def until_asked(ask: Callable[[], Awaitable[object]], timeout: float = PATIENCE) -> None:
    """Ask until the answer is yes."""
    deadline = time.monotonic() + timeout
    while not await ask():
        assert time.monotonic() < deadline, "what was asked for did not happen"
        await asyncio.sleep(0.01)


def spooled(spool: Path) -> list[Path]:
    """The files of an account's spool in which anything stands."""
    return [path for path in files_below(spool) if size_of(path)]


def is_running(pid: int) -> bool:
    """Whether the process lives; one that only waits to be reaped by its parent does not."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.parent.parent.is_dir() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


class Watcher:
    """Collects a link's events and waits for one of a kind."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.seen: list[LinkEvent] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._collect())

    async def _collect(self) -> None:
        async for event in self.link.events():
            self.seen.append(event)
            self._more.set()

    def all(self, kind: type[T]) -> list[T]:
        return [event for event in self.seen if isinstance(event, kind)]

    async def first(self, kind: type[T], timeout: float = PATIENCE, *, after: int = 0) -> T:
        """The event number `after` of that kind, counted from 0."""
        async with asyncio.timeout(timeout):
            while len(found := self.all(kind)) <= after:
                self._more.clear()
                await self._more.wait()
        return found[after]
