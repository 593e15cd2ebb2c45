"""Rows to put into stores, and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from wahub.domain.event import LoggedEvent
from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId, WorkerId
from wahub.domain.inbox import Address, Received
from wahub.domain.instance import Config, Instance, Observed
from wahub.domain.lease import Lease
from wahub.domain.message import Text
from wahub.domain.outbox import Entry, IdempotencyKey, ItemState, KeyKind
from wahub.domain.webhook import Delivery
from wahub.ports.messages import Filed
from wahub.ports.store import Database, Tx

START = 1_700_000_000.0
SHOP = InstanceId("shop")
WORKER = WorkerId("worker-a")
OTHER_WORKER = WorkerId("worker-b")
TTL = 30.0


class HandClock:
    """Stands still until told otherwise."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        await asyncio.sleep(0)


def make_instance(name: str = "shop", **changes: Any) -> Instance:
    return replace(Instance(InstanceId(name), Config(name), Observed(), START), **changes)


def make_entry(number: int, chat: str = "4915551230001", instance: InstanceId = SHOP, **changes: Any) -> Entry:
    """Entry `number`; its ids are made from it and the instance."""
    entry = Entry(
        id=QueueId(f"{instance}-{number:031d}"),
        instance=instance,
        chat=ChatId.parse(chat),
        content=Text(f"text {number}"),
        message_id=MessageId(f"3EB0{number:018d}"),
        key=IdempotencyKey(f"key-{number}", KeyKind.EXPLICIT, f"hash-{number}"),
        created_at=START,
        next_attempt_at=START,
        joined_at=START,
    )
    return replace(entry, **changes)


def sending(entry: Entry, epoch: int = 1) -> Entry:
    return replace(entry, state=ItemState.SENDING, claimed_epoch=epoch, claimed_at=START)


def unknown(entry: Entry, *, gave_up: bool = False) -> Entry:
    settled_at = START if gave_up else None
    return replace(entry, state=ItemState.UNKNOWN, on_wire=True, claimed_epoch=None, settled_at=settled_at)


def make_delivery(number: int, lane: str = "lifecycle", url: str = "http://localhost/hook", **changes: Any) -> Delivery:
    delivery = Delivery(
        event_id=f"event-{number}",
        instance=SHOP,
        event="ready",
        lane=lane,
        url=url,
        body='{"event":"ready"}',
        sequence=number,
        created_at=START,
        expires_at=START + 1_000,
        next_attempt_at=START,
    )
    return replace(delivery, **changes)


PERSON = Address("4915551230001", None)


def make_received(message_id: str = "3A01", **changes: Any) -> Received:
    received = Received(
        instance=SHOP,
        chat="4915551230001@s.whatsapp.net",
        sender="4915551230001@s.whatsapp.net",
        author=PERSON,
        partner=PERSON,
        message_id=MessageId(message_id),
        from_me=False,
        type="text",
        text="hello",
        timestamp=int(START),
    )
    return replace(received, **changes)


def add_received(tx: Tx, received: Received, now: float) -> bool:
    """Store it as the message of one contact, in the chat with that contact or in its group."""
    key = received.chat if received.in_group else f"c_{received.chat}"
    author = None if received.from_me else f"c_{received.sender}"
    return tx.inbox.add_all([Filed(received, key, author)], now)[0]


def logged(delivery: Delivery) -> LoggedEvent:
    """The event that a delivery posts."""
    return LoggedEvent(
        event_id=delivery.event_id,
        instance=delivery.instance,
        event=delivery.event,
        body=delivery.body,
        sequence=delivery.sequence,
        created_at=delivery.created_at,
        secret_until=delivery.expires_at if delivery.event == "qr" else None,
    )


def add_delivery(tx: Tx, delivery: Delivery) -> Delivery:
    """Log its event and queue it; returns it with its position."""
    placed = replace(delivery, position=tx.events.add_all([logged(delivery)])[0])
    tx.webhooks.add_all([placed])
    return placed


async def add_instance(store: Database, name: str = "shop") -> Instance:
    instance = make_instance(name)
    await store.write(lambda tx: tx.instances.add(instance))
    return instance


async def add_entries(store: Database, *entries: Entry) -> list[Entry]:
    """Add each in a transaction of its own; returns them with their positions."""
    return [await store.write(lambda tx, entry=entry: tx.outbox.add(entry)) for entry in entries]  # type: ignore[misc]


async def claim_lease(store: Database, worker: WorkerId = WORKER, instance: InstanceId = SHOP) -> Lease:
    lease = await store.write(lambda tx: tx.leases.claim(instance, worker, TTL))
    assert lease is not None
    return lease
