"""A gateway's runtime on a real SQLite file, a scripted engine and a clock that tests move."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tests.fakes.clock import FakeClock
from tests.fakes.engine import FakeEngine, FakeLink
from tests.support.stores import make_store

from wahub.adapters.local_wakeup import LocalWakeup
from wahub.adapters.sql.database import open_database
from wahub.domain.errors import StoreBusyError
from wahub.domain.ids import ChatId, InstanceId, QueueId, WorkerId
from wahub.domain.instance import Config, Instance, State
from wahub.domain.lifecycle import Ask, IncidentKind, Lifecycle
from wahub.domain.message import Text
from wahub.domain.outbox import Entry, ItemState, SendAcked, SendResult
from wahub.domain.pacing import Pace, TypingPolicy
from wahub.domain.restore import RestorePolicy
from wahub.domain.session import CREDS, KeyChanges
from wahub.domain.webhook import Delivery, DeliveryState
from wahub.ports.store import Database, Tx
from wahub.ports.wakeup import INSTANCES, outbox_topic
from wahub.runtime.deps import RuntimeDeps, RuntimeSettings
from wahub.runtime.supervisor import Supervisor
from wahub.services import instance as instances
from wahub.services import lifecycle, outbox
from wahub.services.outbox import QueueLimits, SendRequest, SendRules

BARE = SendRules(pace=Pace(0, 0, 0), typing=TypingPolicy(enabled=False), ask_first=False)
"""No limits, nothing before a send: tests switch on what they look at."""

SHOP = InstanceId("shop")
CHAT = "201111111111"

T = TypeVar("T")


async def eventually(check: Callable[[], Awaitable[bool]], what: str, seconds: float = 30.0) -> None:
    """Wait until `check` says so; fails naming `what` after a real-time deadline."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"not seen in {seconds} s: {what}"
        await asyncio.sleep(0.002)


class Watched:
    """A store that knows whether somebody waits for it, and that fails when told to."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self.failing = False
        self.writes = 0
        """So many are over; while there is no new one, nothing reads differently."""
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        return self._busy > 0

    async def idle(self) -> None:
        """Wait until nobody waits for it."""
        await self._idle.wait()

    async def write(self, work: Callable[[Tx], T]) -> T:
        if self.failing:
            raise StoreBusyError("a test says so")
        try:
            return await self._counted(self._store.write(work))
        finally:
            self.writes += 1

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._counted(self._store.read(work))

    async def _counted(self, asked: Awaitable[T]) -> T:
        self._busy += 1
        self._idle.clear()
        try:
            return await asked
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def close(self) -> None:
        await self._store.close()


def watch_threads() -> set[asyncio.Future[Any]]:
    """What this loop has handed to threads from now on and is not back yet."""
    loop, away = asyncio.get_running_loop(), set[asyncio.Future[Any]]()
    hand_over = loop.run_in_executor

    def noted(*arguments: Any) -> asyncio.Future[Any]:
        future = hand_over(*arguments)
        away.add(future)
        future.add_done_callback(away.discard)
        return future

    loop.run_in_executor = noted  # type: ignore[method-assign, assignment]
    return away


class World:
    """Starts and stops the runtime over one database file; `restart` is a kill and a new start."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self._file = folder / "wahub.db"
        self._url = f"sqlite:///{self._file}"
        self.restored: list[tuple[int, int]] = []
        self._numbers = itertools.count(1)
        self.settings = RuntimeSettings(
            worker=WorkerId("worker-0"), restore=RestorePolicy(jitter=(0.0, 0.0)), delete_patience=20.0, rules=BARE
        )
        # Both patiences are of the real clock: what takes long here is the machine, and must not be given up for it.
        self._posted: list[Delivery] = []
        self._does: Callable[[FakeLink], None] = lambda _link: None
        self.farewells: list[tuple[InstanceId, tuple[QueueId, ...]]] = []
        self.database: Watched
        self._task: asyncio.Task[None] | None = None
        self._away = watch_threads()

    async def while_down(self, work: Callable[[Tx], T]) -> T:
        """What was written last before the process died, and nobody acted on."""
        store = open_database(self._url, self.clock)
        try:
            return await store.write(work)
        finally:
            await store.close()

    async def start(self) -> World:
        await self.prepare()
        self.run()
        return self

    async def prepare(self) -> None:
        """All but the loops: HTTP answers already, the engine is not up yet."""
        make_store(self._file)
        self.database = Watched(open_database(self._url, self.clock))
        self.engine = FakeEngine(self.clock.monotonic)
        self.engine.on_open = self._does
        self.wakeup = LocalWakeup(self.clock)
        self.settings = replace(self.settings, worker=WorkerId(f"worker-{next(self._numbers)}"))
        deps = RuntimeDeps(
            self.database, self.engine, self.clock, self.wakeup, self.settings, self.new_id, lambda: 0.5, self._farewell
        )
        self.supervisor = Supervisor(deps, lambda connected, total: self.restored.append((connected, total)))

    def run(self) -> None:
        """The engine is up: the loops begin."""
        self._task = asyncio.create_task(self.supervisor.run())

    async def _farewell(self, gone: Instance, cancelled: tuple[QueueId, ...]) -> None:
        self.farewells.append((gone.id, cancelled))

    def with_rules(self, **changes: Any) -> World:
        """Other figures for sending, before the start."""
        self.settings = replace(self.settings, rules=replace(self.settings.rules, **changes))
        return self

    def with_settings(self, **changes: Any) -> World:
        """Other figures of the runtime, before the start."""
        self.settings = replace(self.settings, **changes)
        return self

    def calm(self) -> World:
        """Fewer idle ticks, before the start: for tests in which hours pass."""
        return self.with_settings(poll_every=300.0, sweep_every=300.0, lease_ttl=1_000.0, lease_renew_every=300.0)

    def engine_does(self, does: Callable[[FakeLink], None]) -> None:
        """What every new link does by itself from now on, also after a restart."""
        self._does = self.engine.on_open = does

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

    # --- time --------------------------------------------------------------------------------------------------------

    async def rest(self) -> None:
        """Let everything happen that happens at this instant of the clock."""
        # What the loop has yet to run says it exactly; to let it turn a few dozen times costs a system call for each.
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        calm = 0
        while calm < 3:
            if self._away:
                await asyncio.wait(self._away, return_when=asyncio.FIRST_COMPLETED)
            await self.database.idle()
            await asyncio.sleep(0)
            calm = 0 if self.database.busy or self._away or ready else calm + 1

    async def pass_time(self, seconds: float) -> None:
        """Let so much time pass, waking each sleeper at its moment."""
        end = self.clock.monotonic() + seconds
        while True:
            await self.rest()
            left = end - self.clock.monotonic()
            if left <= 1e-9:
                return
            wake = self.clock.next_wake
            self.clock.advance(left if wake is None else min(left, max(wake, 1e-3)))

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
        await link.vault.write(KeyChanges({CREDS: b"{}"}))
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

    async def ask(self, what: Ask, wanted: InstanceId = SHOP) -> None:
        """What the routes `restart` and `retry` do."""
        await self.database.write(lambda tx: lifecycle.ask(tx, wanted, what, self.clock.now()))
        self.wakeup.notify(INSTANCES)

    async def reconfigure(self, wanted: InstanceId = SHOP, **changes: Any) -> None:
        """What the route that updates an instance does."""

        def work(tx: Tx) -> None:
            found = tx.instances.get(wanted, for_update=True)
            assert found is not None
            tx.instances.save(replace(found, config=replace(found.config, **changes)))

        await self.database.write(work)
        self.wakeup.notify(INSTANCES)

    async def ask_code(self, phone: str, wanted: InstanceId = SHOP) -> None:
        """What the route `pairing-code` does."""
        await self.database.write(lambda tx: lifecycle.ask_pairing_code(tx, wanted, phone, self.clock.now()))
        self.wakeup.notify(INSTANCES)

    # --- what tests look at ------------------------------------------------------------------------------------------

    # A read sees a commit before the loop hears of it. So whoever waited for something to be stored is told when all
    # else of this instant has happened, too: the next line may move the clock, or let the store fail.

    async def instance(self, wanted: InstanceId = SHOP) -> Instance | None:
        return await self.database.read(lambda tx: tx.instances.get(wanted))

    async def state_of(self, wanted: InstanceId = SHOP) -> State:
        found = await self.instance(wanted)
        assert found is not None
        return found.observed.state

    async def record(self, wanted: InstanceId = SHOP) -> Lifecycle:
        return await self.database.read(lambda tx: tx.lifecycles.get(wanted))

    async def incidents(self, wanted: InstanceId = SHOP) -> list[IncidentKind]:
        """Oldest first. Whatever wrote one down must have left it counted in the record."""
        found, record = await self.database.read(
            lambda tx: (tx.lifecycles.incidents(wanted, 100), tx.lifecycles.get(wanted))
        )
        assert dict(record.incidents) == Counter(incident.kind for incident in found)
        return [incident.kind for incident in reversed(found)]

    async def keeps_session(self, wanted: InstanceId = SHOP) -> bool:
        """Whether the session material that `linked` stored is still there."""
        return bool(await self.database.read(lambda tx: tx.sessions.read(wanted, [CREDS])))

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
        await self.rest()
        found = await self.instance(wanted)
        assert found is not None
        return found

    async def item_becomes(self, queue_id: QueueId, state: ItemState) -> Entry:
        async def check() -> bool:
            return (await self.entry(queue_id)).state is state

        await eventually(check, f"item in {state}")
        await self.rest()
        return await self.entry(queue_id)

    def note_times(self, link: FakeLink, *answers: SendResult) -> list[float]:
        """When each message goes on the wire from now on, in seconds; the last answer is given for ever."""
        start, times, left = self.clock.now(), list[float](), list(answers or (SendAcked(),))

        def answer(*_: object) -> SendResult:
            times.append(round(self.clock.now() - start, 3))
            return left.pop(0) if len(left) > 1 else left[0]

        link.answer = answer
        return times

    async def news(self, event: str, wanted: InstanceId = SHOP) -> list[dict[str, Any]]:
        """The data of the webhooks of that name so far, oldest first. Takes what is due out of the queue."""
        return [data for name, data in await self.posted(wanted) if name == event]

    async def posted(self, wanted: InstanceId = SHOP) -> list[tuple[str, dict[str, Any]]]:
        """Name and data of all webhooks so far, oldest first. Takes what is due out of the queue."""

        def take(tx: Tx) -> list[Delivery]:
            # Only the first of each lane is due at a time.
            found: list[Delivery] = []
            while due := tx.webhooks.due(self.clock.now() + 1e9, 1_000, ()):
                for delivery in due:
                    tx.webhooks.save_all([replace(delivery, state=DeliveryState.DELIVERED)])
                found += due
            return found

        self._posted += await self.database.write(take)
        found = sorted(self._posted, key=lambda delivery: delivery.position)
        return [
            (delivery.event, json.loads(delivery.body)["data"]) for delivery in found if delivery.instance == wanted
        ]

    async def wire(self, link: FakeLink, count: int) -> list[str]:
        """The texts that went over a link, once there are `count`."""

        async def check() -> bool:
            return len(link.sent) >= count

        await eventually(check, f"{count} messages on the wire")
        await self.rest()
        return [content.text for _, _, content in link.sent]
