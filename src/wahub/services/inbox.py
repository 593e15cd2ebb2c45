"""Receiving, as a use case: store a message once and queue what callers get to see of it."""

from __future__ import annotations

from wahub.domain.ids import ChatId
from wahub.domain.inbox import Received
from wahub.domain.lease import Lease
from wahub.ports.store import Tx
from wahub.services import webhook


def ingest(tx: Tx, lease: Lease, received: Received, now: float, event_id: str) -> bool:
    """Store a message and its webhook in one transaction; a second arrival changes nothing. True if it was new."""
    tx.fence(lease)
    if not tx.inbox.add(received, now):
        return False
    instance = tx.instances.get(lease.instance)
    if instance is not None and not received.from_me:
        event, data = (
            ("vote_update", {"vote": _vote_data(received)})
            if received.vote
            else (
                "message",
                {"message": _message_data(received)},
            )
        )
        webhook.emit(tx, instance, event, data, lane=received.chat, now=now, event_id=event_id)
    return True


def _vote_data(received: Received) -> dict[str, object]:
    """The shape of contract D.4: option names in the order of the poll, none when the vote was withdrawn."""
    assert received.vote is not None
    return {
        "voter": _digits(received),
        "selectedOptions": list(received.vote.options),
        "timestamp": received.timestamp,
        "pollMessageId": received.vote.poll_id,
    }


def _message_data(received: Received) -> dict[str, object]:
    """The shape of contract D.4."""
    return {
        "from": _digits(received),
        "body": received.text,
        "text": received.text,
        "type": received.type,
        "timestamp": received.timestamp,
        "id": received.message_id,
    }


def _digits(received: Received) -> str:
    """Who sent it: phone digits where known, else the digits of the hidden identity."""
    return received.sender_phone or ChatId.from_jid(received.sender).user
