"""What did not come in, as use cases: written down, so that `GET …/diagnostics` tells it and an incident alerts."""

from __future__ import annotations

from dataclasses import replace

from wahub.domain import gap
from wahub.domain.ids import MessageId
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Incident, IncidentKind, Lifecycle
from wahub.ports.store import Tx


def missed(
    tx: Tx, lease: Lease, message_id: MessageId, chat: str, sender: str, why: str, at: float, now: float
) -> bool:
    """A message came that cannot be read. Nothing if that was known, or it is here after all. True: an alert is due."""
    tx.fence(lease)
    if not tx.missed.add(lease.instance, message_id, chat, sender, why, at):
        return False
    return _note(tx, _record(tx, lease), now, f"a message could not be read: {why}")


def caught_up(tx: Tx, lease: Lease, announced: int | None, received: int, now: float) -> bool:
    """All that waited at the server was reported. If messages of it are missing, it is a gap; True: an alert is due."""
    tx.fence(lease)
    record = replace(_record(tx, lease), caught_up_at=now)
    absent = gap.of_queue(announced, received)
    if absent:
        return _note(tx, record, now, f"{absent} of {announced} messages that waited at WhatsApp did not come")
    tx.lifecycles.save(record)
    return False


def not_caught_up(tx: Tx, lease: Lease) -> None:
    """A new link: what waits for it is still to come."""
    tx.fence(lease)
    record = _record(tx, lease)
    if record.caught_up_at is not None:
        tx.lifecycles.save(replace(record, caught_up_at=None))


def _record(tx: Tx, lease: Lease) -> Lifecycle:
    return tx.lifecycles.get(lease.instance, for_update=True)


def _note(tx: Tx, record: Lifecycle, now: float, text: str) -> bool:
    noted, begins = gap.note(record, now)
    tx.lifecycles.save(noted)
    if begins:
        tx.lifecycles.add_incident(noted.instance, Incident(IncidentKind.MESSAGES_MISSED, text, now))
    return begins
