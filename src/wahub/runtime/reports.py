"""Storing the frequent reports of a link: received messages, receipts, late acks.

They are written several at a time: what came while one write was under way shares the next one. A received message is
acknowledged to the engine only after its commit. A write that fails closes the link: what was not acknowledged is
reported again by the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from wahub.domain.ids import MessageId
from wahub.domain.inbox import from_engine
from wahub.domain.lease import Lease
from wahub.domain.outbox import DeliveryMark
from wahub.ports.engine import Acked, Inbound, Link, LinkEvent, Receipted
from wahub.ports.store import Tx
from wahub.ports.wakeup import WEBHOOKS, outbox_topic, settled_topic
from wahub.runtime.deps import RuntimeDeps
from wahub.services import inbox, outbox

_MARKS = {
    "delivered": DeliveryMark.DELIVERED,
    "inactive": DeliveryMark.DELIVERED,
    "read": DeliveryMark.READ,
    "played": DeliveryMark.PLAYED,
    # A device that asks for a retry, and the account's other devices, prove that the server has the message.
    "retry": DeliveryMark.SERVER,
    "sender": DeliveryMark.SERVER,
}


class ReportBatch:
    """The reports of one link on their way to the store."""

    LIMIT = 1_000
    """Reports that may wait before the link is made to wait."""

    def __init__(self, deps: RuntimeDeps, lease: Lease, link: Link) -> None:
        self._deps = deps
        self._lease = lease
        self._link = link
        self._waiting: list[Inbound | Receipted | Acked] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, event: Inbound | Receipted | Acked) -> None:
        """Queue a report; starts a write if none is under way."""
        self._waiting.append(event)
        if self._writing is None or self._writing.done():
            await self._collect()
            self._writing = asyncio.create_task(self._drain())
        elif len(self._waiting) >= self.LIMIT:
            await self.flush()

    async def flush(self) -> None:
        """Wait until everything queued is stored; raises what the write raised."""
        await self._collect()
        await self._drain()

    async def _collect(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _drain(self) -> None:
        try:
            while self._waiting:
                events, self._waiting = self._waiting, []
                inbound = [event for event in events if isinstance(event, Inbound)]
                proofs = [proof for event in events if (proof := _proof(event)) is not None]
                await self._write(inbound, proofs, self._deps.clock.now())
        except Exception:
            await self._link.close()
            raise

    async def _write(
        self, inbound: Sequence[Inbound], proofs: Sequence[tuple[tuple[MessageId, ...], DeliveryMark]], now: float
    ) -> None:
        lease, deps = self._lease, self._deps
        received = [(from_engine(lease.instance, event.body), deps.new_id()) for event in inbound]

        def work(tx: Tx) -> int:
            for message, event_id in received:
                inbox.ingest(tx, lease, message, now, event_id)
            return sum(outbox.note_proof(tx, lease, ids, mark, now) for ids, mark in proofs)

        if received or proofs:
            moved = await deps.database.write(work)
            if moved:
                deps.wakeup.notify(outbox_topic(lease.instance))
                deps.wakeup.notify(settled_topic(lease.instance))
                deps.wakeup.notify(WEBHOOKS)
        for event in inbound:
            deps.fault("after_ingest")
            self._link.ack_inbound(event.seq)
        if received:
            deps.wakeup.notify(WEBHOOKS)


def _proof(event: LinkEvent) -> tuple[tuple[MessageId, ...], DeliveryMark] | None:
    """What an event proves about messages of ours; None if nothing."""
    match event:
        case Acked(message_id, None):
            return (message_id,), DeliveryMark.SERVER
        case Receipted(ids, kind) if kind in _MARKS:
            return ids, _MARKS[kind]
        case _:
            return None
