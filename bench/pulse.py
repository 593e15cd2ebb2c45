"""Whether a gateway answers while it is busy: `/health` at a steady rate, answered or not."""

from __future__ import annotations

import asyncio
import itertools
import time

from bench.http_client import Connection
from bench.processes import BenchError

EVERY = 0.02


class Pulse:
    """Asks every 20 ms while its block runs.

    `latencies_ms`: from the moment at which each question was due to the end of its answer. BenchError at the end of
    the block if one was not answered with 200.
    """

    def __init__(self, url: str) -> None:
        self.latencies_ms: list[float] = []
        self._url = url
        self._free: list[Connection] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None

    async def __aenter__(self) -> Pulse:
        self._beat = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._beat.cancel()
        # Whatever is late now counts most.
        await asyncio.gather(*self._under_way)
        for connection in self._free:
            await connection.close()
        if self._failure is not None and kind is None:
            raise BenchError(f"/health was not answered: {self._failure}")

    async def _run(self) -> None:
        began = time.monotonic()
        for number in itertools.count():
            due = began + number * EVERY
            await asyncio.sleep(due - time.monotonic())
            task = asyncio.create_task(self._ask(due))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _ask(self, due: float) -> None:
        connection = self._free.pop() if self._free else Connection(self._url)
        try:
            await connection.call("GET", "/health")
        except Exception as error:  # noqa: BLE001 - told when the block ends
            self._failure = error
            return
        self.latencies_ms.append((time.monotonic() - due) * 1000)
        self._free.append(connection)
