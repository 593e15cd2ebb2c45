"""Session material, as use cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wahub.domain.ids import ChatId, InstanceId, MessageId
from wahub.domain.lease import Lease
from wahub.domain.message import Content
from wahub.domain.session import KeyChanges, KeyName
from wahub.ports.store import Tx


def read(tx: Tx, instance: InstanceId, names: Sequence[KeyName]) -> Mapping[KeyName, bytes]:
    """The stored values; missing names are left out."""
    return tx.sessions.read(instance, names)


def write(tx: Tx, lease: Lease, changes: KeyChanges) -> None:
    """Write under a lease: keys of a term that is over must never overwrite those of the next."""
    tx.fence(lease)
    tx.sessions.write(lease.instance, changes)


def sent_message(tx: Tx, instance: InstanceId, message_id: MessageId) -> tuple[ChatId, Content] | None:
    """What was sent under this id, for a device that could not decrypt it."""
    entry = tx.outbox.find_message(instance, message_id)
    return None if entry is None else (entry.chat, entry.content)
