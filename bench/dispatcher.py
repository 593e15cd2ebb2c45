"""The dispatcher: how fast it posts, and whether endpoints that hang hold up those that answer.

The dispatcher runs over SQLite in this process, the receivers in another. What is posted waits in the store before the
clock starts, as after an outage of the receivers: 20 chats per endpoint. The clock stops when everything for endpoints
that answer was taken.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.report import Figure, Result, Verdict
from wahub import telemetry
from wahub.adapters.http_poster import HttpPoster
from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import open_database
from wahub.adapters.system_clock import SystemClock
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, Instance, Observed
from wahub.domain.webhook import WebhookSettings
from wahub.ports.poster import PostResult
from wahub.ports.store import Database, Tx
from wahub.runtime.dispatcher import Dispatcher
from wahub.services import webhook

HEALTHY, HANGING = 80, 20
_CHATS = 20
_DATA = {
    "message": {
        "from": "4915551230001",
        "body": "Guten Tag, ist meine Bestellung schon unterwegs?",
        "text": "Guten Tag, ist meine Bestellung schon unterwegs?",
        "type": "text",
        "timestamp": 1_700_000_000,
        "id": "3EB0C767D26A1B2E5F00",
    }
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Which endpoints there are, and how many events wait for each."""

    healthy: int
    hanging: int
    events: int

    @property
    def wanted(self) -> int:
        return self.healthy * self.events


@dataclass(frozen=True, slots=True)
class Pass:
    """One measurement: posts per second that were taken, and CPU milliseconds of this process for each."""

    rate: float
    cpu_ms: float


async def run(events: int, rounds: int) -> Result:
    """`events`: for each of the hundred endpoints; the single endpoint gets twenty times as many."""
    telemetry.configure("error")  # as little as a gateway logs of webhooks that are taken
    settings = {
        "1 endpoint": Setting(1, 0, events * 20),
        f"{HEALTHY} endpoints": Setting(HEALTHY, 0, events),
        f"{HEALTHY} endpoints beside {HANGING} that hang": Setting(HEALTHY, HANGING, events),
    }
    found: dict[str, list[Pass]] = {name: [] for name in settings}
    async with _receivers() as port:
        for turn in range(rounds):
            # In turn, and every other time the other way round, so that a busy minute of the machine meets all.
            for name in sorted(settings, reverse=bool(turn % 2)):
                found[name].append(await _measure(settings[name], port))
    return _result(found)


def _result(found: dict[str, list[Pass]]) -> Result:
    alone, beside = (found[name] for name in list(found)[1:])
    kept = Figure(tuple(hung.rate / free.rate for free, hung in zip(alone, beside, strict=True)))
    rates = {name: Figure(tuple(one.rate for one in passes)) for name, passes in found.items()}
    costs = {name: Figure(tuple(one.cpu_ms for one in passes)) for name, passes in found.items()}
    table = [("", "posts/s taken", "CPU ms each"), *((name, rates[name].show(), costs[name].show(2)) for name in found)]
    goal = f"{HEALTHY} endpoints beside {HANGING} that hang keep at least 90 % of their rate"
    return Result(
        "Dispatcher",
        table,
        (Verdict(goal, f"{kept.show(2)} of it", kept.median >= 0.9),),
        {"rates": {name: figure.as_json() for name, figure in rates.items()}, "kept": kept.as_json()},
        (f"Load of the machine at the end: {os.getloadavg()[0]:.1f}",),
    )


@asynccontextmanager
async def _receivers() -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.hooks", stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


class _Counting:
    """The poster, and a mark when enough was taken."""

    def __init__(self, inner: HttpPoster, wanted: int) -> None:
        self._inner = inner
        self._left = wanted
        self.enough = asyncio.Event()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> PostResult:
        answer = await self._inner.post(url, body, headers)
        if answer.ok:
            self._left -= 1
            if self._left == 0:
                self.enough.set()
        return answer

    async def close(self) -> None:
        await self._inner.close()


async def _measure(setting: Setting, port: int) -> Pass:
    with tempfile.TemporaryDirectory() as directory:
        clock = SystemClock()
        database = open_database(f"sqlite:///{Path(directory) / 'bench.db'}", clock)
        poster = _Counting(HttpPoster(10.0), setting.wanted)
        try:
            await _fill(database, setting, port, clock.now())
            settings = WebhookSettings(secret="bench-secret")
            dispatcher = Dispatcher(database, poster, clock, LocalWakeup(clock), settings)
            return await _clocked(dispatcher, poster, setting.wanted)
        finally:
            await poster.close()
            await database.close()


async def _fill(database: Database, setting: Setting, port: int, now: float) -> None:
    kinds = ["fine"] * setting.healthy + ["hang"] * setting.hanging
    for number, kind in enumerate(kinds):
        name = InstanceId(f"{kind}-{number}")
        made = Instance(name, Config(name, f"http://127.0.0.1:{port}/{kind}/{number}"), Observed(), now)
        await database.write(partial(_fill_one, made=made, events=setting.events, now=now))


def _fill_one(tx: Tx, made: Instance, events: int, now: float) -> None:
    tx.instances.add(made)
    for number in range(events):
        lane, event_id = f"chat-{number % _CHATS}", f"{made.id}-{number}"
        webhook.emit(tx, made, "message", _DATA, lane=lane, now=now, event_id=event_id)


async def _clocked(dispatcher: Dispatcher, poster: _Counting, wanted: int) -> Pass:
    cpu, began = time.process_time(), time.perf_counter()
    running = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(600):
        await poster.enough.wait()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await dispatcher.stop(deadline=0.0)
    await running
    return Pass(wanted / seconds, cpu / wanted * 1000)
