"""The edge on a real store, without the loops: tests say what the links saw by writing it into the store."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import migrate, open_database
from wahub.adapters.system_clock import SystemClock
from wahub.api.app import build_api
from wahub.api.deps import ApiDeps, ApiSettings
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Config, State
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.outbox import Entry
from wahub.ports.clock import Clock
from wahub.ports.store import Database, Tx
from wahub.services import instance

HOOK = "https://hooks.example.com/wahub"
PHONE = "201224885551"
PATIENCE = 30.0
"""Seconds for what comes at once, unless the machine has too much to do."""


class _Apps:
    """Applications that one test after the other has: to make the routes of one takes longer than most tests here.

    All that it does goes to the deps of the test that has it. What it reads when it is made are settings and the kind
    of clock, so those are the same. One that has counted something is not given away again.
    """

    def __init__(self) -> None:
        self._free: dict[tuple[ApiSettings, type[Clock]], list[_App]] = {}

    @contextmanager
    def one(self, deps: ApiDeps) -> Iterator[_App]:
        free = self._free.setdefault((deps.settings, type(deps.clock)), [])
        app = free.pop() if free else _App(deps)
        app.deps.now = deps
        yield app
        if not app.has_counted:
            app.deps.now = None
            free.append(app)


class _Deps:
    """Stands for the deps of the test that has the application."""

    now: ApiDeps | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


class _App:
    """An application; notes whether it did what it remembers: the metrics rise, and the streams are counted."""

    def __init__(self, deps: ApiDeps) -> None:
        self.deps = _Deps()
        self.deps.now = deps
        self.has_counted = False
        self._api = build_api(self.deps)  # type: ignore[arg-type]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].endswith(("/metrics", "/stream")):
            self.has_counted = True
        await self._api(scope, receive, send)


_apps = _Apps()


class _Stopped(SystemClock):
    """A clock whose hands stand; what waits waits as ever. At a whole second, which no rounding on the way changes."""

    def __init__(self) -> None:
        super().__init__()
        self._at = float(int(super().now()))

    def now(self) -> float:
        return self._at


class Edge:
    """The deps of one edge, clients that speak to it, and ways to change what it finds in the store."""

    def __init__(self, database: Database) -> None:
        self.clock: Clock = SystemClock()
        self.wakeup = LocalWakeup(self.clock)
        self.engine_up = True
        self.faults: list[str] = []
        self.deps = ApiDeps(
            database=database,
            clock=self.clock,
            wakeup=self.wakeup,
            settings=ApiSettings(version="1.2.3", delete_wait=0.2, store_patience=PATIENCE),
            engine_healthy=lambda: self.engine_up,
            fault=self.faults.append,
        )

    def with_settings(self, **changes: Any) -> None:
        self.deps = dataclasses.replace(self.deps, settings=dataclasses.replace(self.deps.settings, **changes))

    def stop_the_clock(self) -> None:
        """No time passes for clients made from here on: what they are told of times to come can be compared exactly.

        Making an application takes a busy machine seconds, and those would be missing.
        """
        self.clock = _Stopped()
        self.deps = dataclasses.replace(self.deps, clock=self.clock)

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        """A client of an edge with the present settings."""
        with _apps.one(self.deps) as app:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:3000", **options) as made:
                yield made

    async def write(self, work: Callable[[Tx], Any]) -> Any:
        return await self.deps.database.write(work)

    async def read(self, work: Callable[[Tx], Any]) -> Any:
        return await self.deps.database.read(work)

    async def add(self, name: str = "shop", **seen: Any) -> InstanceId:
        """An instance as its link left it: ready, unless `seen` says otherwise."""
        observed = {"state": State.READY, "phone": PHONE, "display_name": "Shop", **seen}

        def work(tx: Tx) -> InstanceId:
            made = instance.create(tx, Config(name, HOOK), self.clock.now())
            tx.instances.save(dataclasses.replace(made, observed=dataclasses.replace(made.observed, **observed)))
            return made.id

        return await self.write(work)  # type: ignore[no-any-return]

    async def see(self, wanted: InstanceId, **seen: Any) -> None:
        """The link reports something."""

        def work(tx: Tx) -> None:
            known = tx.instances.get(wanted, for_update=True)
            assert known is not None
            tx.instances.save(dataclasses.replace(known, observed=dataclasses.replace(known.observed, **seen)))

        await self.write(work)

    async def remember(self, wanted: InstanceId, **record: Any) -> None:
        """Its worker writes something into its lifecycle record."""

        def work(tx: Tx) -> None:
            tx.lifecycles.save(dataclasses.replace(tx.lifecycles.get(wanted, for_update=True), **record))

        await self.write(work)

    async def record(self, wanted: InstanceId) -> Lifecycle:
        return await self.read(lambda tx: tx.lifecycles.get(wanted))  # type: ignore[no-any-return]

    async def entries(self, wanted: str) -> list[Entry]:
        return list(await self.read(lambda tx: tx.line.unsettled(InstanceId(wanted))))

    async def hinted(self, topic: str) -> bool:
        """Whether a hint was given on the topic and not taken yet."""
        return await self.wakeup.wait(topic, 0)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store with its schema, to copy: migrating takes longer than most tests here."""
    file = tmp_path_factory.mktemp("store") / "wahub.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
async def edge(tmp_path: Path, migrated: Path) -> AsyncIterator[Edge]:
    shutil.copy(migrated, tmp_path / "wahub.db")
    database = open_database(f"sqlite:///{tmp_path}/wahub.db", SystemClock())
    yield Edge(database)
    await database.close()


@pytest.fixture
async def client(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with edge.client() as made:
        yield made
