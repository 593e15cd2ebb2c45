"""A gateway's runtime on a real SQLite file, a scripted engine and a clock that tests move."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tests.fakes.clock import FakeClock
from tests.fakes.engine import FakeEngine, FakeLink

from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import open_database
from wahub.domain.ids import ChatId, InstanceId, QueueId, WorkerId
from wahub.domain.instance import Config, Instance, State
from wahub.domain.message import Text
from wahub.domain.outbox import Entry, ItemState
from wahub.domain.pacing import Pace, TypingPolicy
from wahub.ports.store import Database, Tx
from wahub.ports.wakeup import INSTANCES, outbox_topic
from wahub.runtime.deps import RuntimeDeps, RuntimeSettings
from wahub.runtime.supervisor import Supervisor
from wahub.services import instance as instances
from wahub.services import outbox
from wahub.services.outbox import QueueLimits, SendRequest, SendRules

BARE = SendRules(pace=Pace(0, 0, 0), typing=TypingPolicy(enabled=False), ask_first=False)
"""No limits, nothing before a send: tests switch on what they look at."""

SHOP = InstanceId("shop")
CHAT = "201111111111"

T = TypeVar("T")


async def eventually(check: Callable[[], Awaitable[bool]], what: str, seconds: float = 10.0) -> None:
    """Wait until `check` says so; fails naming `what` after a real-time deadline."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"not seen in {seconds} s: {what}"
        await asyncio.sleep(0.002)


class World:
    """Starts and stops the runtime over one database file; `restart` is a kill and a new start."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self._url = f"sqlite:///{folder / 'wahub.db'}"
        self.restored: list[tuple[int, int]] = []
        self._numbers = itertools.count(1)
        self.settings = RuntimeSettings(
            worker=WorkerId("worker-0"), restore_jitter=(0.0, 0.0), stop_patience=2.0, rules=BARE
        )
        self.farewells: list[tuple[InstanceId, tuple[QueueId, ...]]] = []
        self.database: Database
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> World:
        self.database = open_database(self._url, self.clock)
        self.engine = FakeEngine()
        self.wakeup = LocalWakeup(self.clock)
        self.settings = replace(self.settings, worker=WorkerId(f"worker-{next(self._numbers)}"))
        deps = RuntimeDeps(
            self.database, self.engine, self.clock, self.wakeup, self.settings, self.new_id, lambda: 0.5, self._farewell
        )
        self.supervisor = Supervisor(deps, lambda connected, total: self.restored.append((connected, total)))
        self._task = asyncio.create_task(self.supervisor.run())
        return self

    async def _farewell(self, gone: Instance, cancelled: tuple[QueueId, ...]) -> None:
        self.farewells.append((gone.id, cancelled))

    def with_rules(self, **changes: Any) -> World:
        """Other figures for sending, before the start."""
        self.settings = replace(self.settings, rules=replace(self.settings.rules, **changes))
        return self

    def new_id(self) -> str:
        return f"{next(self._numbers):032x}"

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self.supervisor.stop()
            await self.database.close()
            self._task = None

    async def die(self) -> None:
        """As after kill -9: nothing is finished, nothing is written, only the file remains."""
        me = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not me]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.database.close()
        self._task = None

    # --- what callers do ---------------------------------------------------------------------------------------------

    async def create(self, name: str = "shop") -> Instance:
        config = Config(name, webhook_url="http://127.0.0.1:9/hook", webhook_events=("*",))
        made = await self.database.write(lambda tx: instances.create(tx, config, self.clock.now()))
        self.wakeup.notify(INSTANCES)
        return made

    async def linked(self, name: str = "shop") -> FakeLink:
        """A new instance whose link is open."""
        await self.create(name)
        link = await self.engine.next_link()
        link.open_up()
        await self.state_becomes(State.READY, InstanceId(name))
        return link

    async def send(self, text: str, chat: str = CHAT, wanted: InstanceId = SHOP, **more: Any) -> Entry:
        number = next(self._numbers)
        queue_id = QueueId(f"{number * 0x9E3779B1 % 2**32:08x}{number:024x}")
        request = SendRequest(wanted, ChatId.parse(chat), Text(text), queue_id, number.to_bytes(16, "big"), **more)
        accepted = await self.database.write(lambda tx: outbox.enqueue(tx, request, self.clock.now(), QueueLimits()))
        self.wakeup.notify(outbox_topic(wanted))
        return accepted.entry

    async def act(self, work: Callable[[Tx], T]) -> T:
        """What a route does: one transaction, then a hint to the send loop."""
        done = await self.database.write(work)
        self.wakeup.notify(outbox_topic(SHOP))
        return done

    # --- what tests look at ------------------------------------------------------------------------------------------

    async def instance(self, wanted: InstanceId = SHOP) -> Instance | None:
        return await self.database.read(lambda tx: tx.instances.get(wanted))

    async def entry(self, queue_id: QueueId, wanted: InstanceId = SHOP) -> Entry:
        found = await self.database.read(lambda tx: tx.outbox.get(wanted, queue_id))
        assert found is not None
        return found

    async def events(self, wanted: InstanceId = SHOP) -> list[str]:
        due = await self.database.read(lambda tx: tx.webhooks.due(self.clock.now() + 1e9, 100, ()))
        return [delivery.event for delivery in due if delivery.instance == wanted]

    async def state_becomes(self, state: State, wanted: InstanceId = SHOP) -> Instance:
        async def check() -> bool:
            found = await self.instance(wanted)
            return found is not None and found.observed.state is state

        await eventually(check, f"{wanted} in {state}")
        found = await self.instance(wanted)
        assert found is not None
        return found

    async def item_becomes(self, queue_id: QueueId, state: ItemState) -> Entry:
        async def check() -> bool:
            return (await self.entry(queue_id)).state is state

        await eventually(check, f"item in {state}")
        return await self.entry(queue_id)

    async def wire(self, link: FakeLink, count: int) -> list[str]:
        """The texts that went over a link, once there are `count`."""

        async def check() -> bool:
            return len(link.sent) >= count

        await eventually(check, f"{count} messages on the wire")
        return [content.text for _, _, content in link.sent]
