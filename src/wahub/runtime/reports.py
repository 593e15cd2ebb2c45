"""Storing the frequent reports of a link: received messages, receipts, late acks.

They are written several at a time: what came while one write was under way shares the next one. A received message is
acknowledged to the engine only after its commit. A write that fails closes the link: what was not acknowledged is
reported again by the next one. A single message that the store refuses stays in the spool and ends no link.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from wahub.domain.errors import InstanceNotFoundError, StaleLeaseError
from wahub.domain.ids import MessageId
from wahub.domain.inbox import Received, from_engine
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Incident, IncidentKind
from wahub.domain.outbox import DeliveryMark
from wahub.ports.engine import Acked, Inbound, Link, LinkEvent, Receipted
from wahub.ports.store import Tx
from wahub.ports.wakeup import MEDIA, WEBHOOKS, outbox_topic, settled_topic
from wahub.runtime import journal
from wahub.runtime.deps import RuntimeDeps
from wahub.services import inbox, media, outbox

log = structlog.get_logger("wahub.runner")

_MARKS = {
    "delivered": DeliveryMark.DELIVERED,
    "inactive": DeliveryMark.DELIVERED,
    "read": DeliveryMark.READ,
    "played": DeliveryMark.PLAYED,
    # A device that asks for a retry, and the account's other devices, prove that the server has the message.
    "retry": DeliveryMark.SERVER,
    "sender": DeliveryMark.SERVER,
}


_Proof = tuple[tuple[MessageId, ...], DeliveryMark]
"""Messages of ours, and what an event proves about them."""


class ReportBatch:
    """The reports of one link on their way to the store."""

    LIMIT = 1_000
    """Reports that may wait before the link is made to wait."""
    GATHERING_S = 0.004
    """When reports come faster than they are written, how long the next write waits for more: a commit costs as much as
    some messages do. One that comes alone waits for nothing."""

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
                try:
                    await self._write(inbound, proofs, self._deps.clock.now())
                except (StaleLeaseError, InstanceNotFoundError):
                    raise
                except Exception as error:  # noqa: BLE001 - told apart there
                    await self._one_by_one(inbound, proofs, error)
                if self._waiting:
                    await asyncio.sleep(self.GATHERING_S)
        except Exception:
            await self._link.close()
            raise

    async def _one_by_one(self, inbound: Sequence[Inbound], proofs: Sequence[_Proof], error: Exception) -> None:
        """A write failed: because of the store, or because of one of its messages.

        One that the store refuses, though it takes others, must not end the link again and again. It is left in the
        engine's spool, told by an incident, and tried again with the next link. Raises `error` when it is the store.
        """
        deps, lease = self._deps, self._lease
        if not inbound:
            raise error
        await self._write((), proofs, deps.clock.now())
        for event in inbound:
            try:
                await self._write([event], (), deps.clock.now())
            except (StaleLeaseError, InstanceNotFoundError):
                raise
            except Exception as refused:  # noqa: BLE001 - whatever is wrong with this message
                await deps.database.write(lambda tx: tx.fence(lease))
                log.error("a message cannot be stored", instance=lease.instance, error=type(refused).__name__)
                await self._tell_refused(type(refused).__name__)

    async def _tell_refused(self, why: str) -> None:
        lease, now = self._lease, self._deps.clock.now()
        incident = Incident(IncidentKind.MESSAGE_REFUSED, f"a received message stays in the spool: {why}", now)

        def work(tx: Tx) -> None:
            tx.fence(lease)
            tx.lifecycles.add_incident(lease.instance, incident)

        await self._deps.database.write(work)

    async def _write(self, inbound: Sequence[Inbound], proofs: Sequence[_Proof], now: float) -> None:
        lease, deps = self._lease, self._deps
        received = [(from_engine(lease.instance, event.body), deps.new_id()) for event in inbound]

        def work(tx: Tx) -> tuple[list[Received], int]:
            new = inbox.ingest_all(tx, lease, received, now) if received else []
            if deps.settings.eager_media:
                for message in new:
                    media.want(tx, message, now)
            return new, sum(outbox.note_proof(tx, lease, ids, mark, now) for ids, mark in proofs)

        if received or proofs:
            new, moved = await deps.database.write(work)
            for message in new:
                journal.received(message)
            if moved:
                deps.wakeup.notify(outbox_topic(lease.instance))
                deps.wakeup.notify(settled_topic(lease.instance))
                deps.wakeup.notify(WEBHOOKS)
        for _ in inbound:
            deps.fault("after_ingest")  # its hits are counted by message
        self._link.ack_inbound(*(event.seq for event in inbound))
        if received:
            deps.wakeup.notify(WEBHOOKS)
            if deps.settings.eager_media:
                deps.wakeup.notify(MEDIA)


def _proof(event: LinkEvent) -> _Proof | None:
    """What an event proves about messages of ours; None if nothing."""
    match event:
        case Acked(message_id, None):
            return (message_id,), DeliveryMark.SERVER
        case Receipted(ids, kind) if kind in _MARKS:
            return ids, _MARKS[kind]
        case _:
            return None
