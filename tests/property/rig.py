"""The real services on a real SQLite file, driven one transaction at a time, and the other end of the wire.

`Server` is what WhatsApp did: which ids it took. It is the witness; nothing here models the outbox itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.fakes.clock import FakeClock

from wahub.adapters.sql.database import open_database
from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId, WorkerId
from wahub.domain.instance import Config, Disconnect, Stage
from wahub.domain.lease import Lease
from wahub.domain.message import Text
from wahub.domain.outbox import Entry, Priority
from wahub.domain.reconnect import Ended, ReconnectPolicy
from wahub.ports.engine import OwnIdentity
from wahub.ports.store import Database, Tx
from wahub.services import instance as instances
from wahub.services import lifecycle, outbox
from wahub.services.outbox import Claimed, Idle, Prepared, QueueLimits, SendRequest, SendRules

T = TypeVar("T")

ME = OwnIdentity(phone="201234567890", lid=None, name="Shop")
LIMITS = QueueLimits(max_queue=40, item_ttl=3 * 86_400.0)
FOR_EVER = 1e12
UNLIMITED = ReconnectPolicy(restarts=0)
"""A lease term that no test outlives; terms end here by being claimed anew."""


@dataclass(slots=True)
class Server:
    """What the other end of the wire knows."""

    taken: set[MessageId] = field(default_factory=set)
    """Ids that it took at least once."""

    def takes(self, message_id: MessageId) -> None:
        self.taken.add(message_id)


class Rig:
    """A store, a clock and a loop, shared by many examples; each example has an instance of its own."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self._runner = asyncio.Runner()
        self._numbers = itertools.count(1)
        self._database: Database = self._runner.run(self._open(folder))

    async def _open(self, folder: Path) -> Database:
        return open_database(f"sqlite:///{folder / 'wahub.db'}", self.clock)

    def close(self) -> None:
        self._runner.run(self._database.close())
        self._runner.close()

    @property
    def now(self) -> float:
        return self.clock.now()

    def write(self, work: Callable[[Tx], T]) -> T:
        return self._runner.run(self._database.write(work))

    def read(self, work: Callable[[Tx], T]) -> T:
        return self._runner.run(self._database.read(work))

    def new_shop(self, rules: SendRules) -> Shop:
        """An instance whose link is up."""
        name = f"shop-{next(self._numbers)}"
        config = Config(name, webhook_url="http://127.0.0.1:9/hook", webhook_events=("*",))
        made = self.write(lambda tx: instances.create(tx, config, self.now))
        shop = Shop(self, made.id, rules)
        shop.start_worker()
        shop.open_link()
        return shop

    def new_number(self) -> int:
        return next(self._numbers)


@dataclass(slots=True)
class Shop:
    """One instance and its worker's work, step by step."""

    rig: Rig
    id: InstanceId
    rules: SendRules
    lease: Lease = field(init=False)
    old_leases: list[Lease] = field(default_factory=list)
    linked: bool = False

    # --- the worker --------------------------------------------------------------------------------------------------

    def start_worker(self) -> int:
        """A (new) process takes the instance over; returns how many items it found on the wire."""
        if hasattr(self, "lease"):
            self.old_leases.append(self.lease)
        lease = self.rig.write(lambda tx: tx.leases.claim(self.id, WorkerId("worker"), FOR_EVER))
        assert lease is not None
        self.lease = lease
        if self.linked:
            self.close_link(Disconnect.ENGINE_DIED)
        return self.rig.write(lambda tx: outbox.recover(tx, lease, self.rig.now, self.rules.policy))

    def open_link(self) -> None:
        """Logged in, and the offline queue is drained."""
        now, number = self.rig.now, self.rig.new_number()

        def work(tx: Tx) -> None:
            lifecycle.attempt(tx, self.lease, now, slow=False)
            lifecycle.opened(tx, self.lease, ME, now, f"opened-{number}")
            outbox.start_evidence_wait(tx, self.lease, now, self.rules.policy)

        self.rig.write(work)
        self.linked = True

    def close_link(self, reason: Disconnect) -> None:
        now, number = self.rig.now, self.rig.new_number()
        ended = Ended(reason, Stage.OPEN, now, 0.5)
        self.rig.write(lambda tx: lifecycle.closed(tx, self.lease, ended, "", UNLIMITED, f"closed-{number}"))
        self.linked = False

    def claim(self, on_prepare: Callable[[outbox.Prepare], bool | None]) -> Claimed | Idle:
        """What the send loop does for one round up to the wire; `on_prepare` lets time pass and says who exists."""
        prepared: Prepared | None = None
        while True:
            step = self.rig.write(
                lambda tx, prepared=prepared: outbox.claim_next(tx, self.lease, self.rig.now, self.rules, prepared)
            )
            if not isinstance(step, outbox.Prepare):
                return step
            exists = on_prepare(step)
            prepared = Prepared(step.entry.id, asked=step.ask, exists=exists if step.ask else None)

    def settle(self, queue_id: QueueId, result: Any, lease: Lease | None = None) -> Entry | None:
        """What became of an attempt."""
        term = lease or self.lease
        return self.rig.write(
            lambda tx: outbox.settle_attempt(tx, term, queue_id, result, self.rig.now, self.rules.policy)
        )

    # --- callers -----------------------------------------------------------------------------------------------------

    def request(self, chat: str, text: str, **more: Any) -> SendRequest:
        number = self.rig.new_number()
        return SendRequest(
            self.id, ChatId.parse(chat), Text(text), QueueId(f"{number * 2654435761 % 2**128:032x}"),
            number.to_bytes(16, "big"), **more,
        )  # fmt: skip

    def send(self, chat: str, text: str, priority: Priority = Priority.NORMAL, **more: Any) -> outbox.Accepted:
        request = self.request(chat, text, priority=priority, **more)
        return self.rig.write(lambda tx: outbox.enqueue(tx, request, self.rig.now, LIMITS))

    # --- looking -----------------------------------------------------------------------------------------------------

    def entry(self, queue_id: QueueId) -> Entry:
        found = self.rig.read(lambda tx: tx.outbox.get(self.id, queue_id))
        assert found is not None
        return found

    def entries(self) -> list[Entry]:
        """All of them, oldest first."""
        found = self.rig.read(lambda tx: tx.outbox.list(self.id, None, 10_000))
        return sorted(found, key=lambda entry: entry.position)


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    """A rig that is closed in the end."""
    rig = Rig(folder)
    try:
        yield rig
    finally:
        rig.close()
