"""Reading the keys of messages that an earlier gateway sent, as records that the store can take.

Of a record the key counts, and when it was sent; the ids are kept where they can be. WhatsApp Web libraries write
message ids as `true_<chat>_<id>`: only the id is kept, because receipts name it, and the chat is a phone number.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from wahub.api.body import Fields
from wahub.domain.errors import InvalidFieldError
from wahub.domain.ids import InstanceId, MessageId, QueueId
from wahub.ports.store import Tx
from wahub.services.outbox import ImportedKey

MOST_RECORDS = 500
MAX_KEY = 1_024
_MAX_ID = 255

_QUEUE_ID = re.compile(r"[0-9a-f]{32}")
_SERIALIZED = re.compile(r"(?:true|false)_[^_]*_([^_]+)(?:_.*)?")
_MESSAGE_ID = re.compile(r"[0-9A-Za-z.-]{1,64}")


def read_records(fields: Fields, instance: InstanceId, now: float) -> tuple[ImportedKey, ...]:
    """The `records` of a body: `{idempotencyKey, sentAt (epoch ms), queueItemId?, providerMessageId?}` each."""
    if "records" not in fields.values:
        raise InvalidFieldError("records is required: an array of objects")
    return tuple(_record(found, instance, now) for found in fields.objects("records", MOST_RECORDS))


def _record(found: Fields, instance: InstanceId, now: float) -> ImportedKey:
    key = found.text("idempotencyKey", MAX_KEY)
    if not key:
        raise InvalidFieldError(f"{found.prefix}idempotencyKey is required")
    sent_at = found.number("sentAt", "milliseconds since 1970")
    if sent_at is None or sent_at < 0:
        raise InvalidFieldError(f"{found.prefix}sentAt is required: milliseconds since 1970")
    queue_id = found.text("queueItemId", _MAX_ID) or ""
    return ImportedKey(
        key=key,
        queue_id=QueueId(queue_id) if _QUEUE_ID.fullmatch(queue_id) else _made_id(instance, key),
        # A clock that was wrong then must not make a key live for ever.
        sent_at=min(sent_at / 1000, now),
        message_id=_bare(found.text("providerMessageId", _MAX_ID) or ""),
    )


def _bare(provider_id: str) -> str | None:
    match = _SERIALIZED.fullmatch(provider_id)
    bare = match[1] if match else provider_id
    return bare if _MESSAGE_ID.fullmatch(bare) else None


def _made_id(instance: InstanceId, key: str) -> QueueId:
    """The same for the same record, so that a second import finds what the first one stored."""
    return QueueId(hashlib.sha256(f"import\0{instance}\0{key}".encode()).hexdigest()[:32])


def storable(tx: Tx, instance: InstanceId, records: Sequence[ImportedKey]) -> list[ImportedKey]:
    """The records without ids that are taken: by another record or by an item of ours. Their keys matter more."""
    queue_ids: set[str] = set()
    message_ids: set[str] = set()
    found = []
    for given in records:
        record = given
        if record.queue_id in queue_ids or tx.outbox.get(instance, record.queue_id) is not None:
            record = replace(record, queue_id=_made_id(instance, record.key))
        if record.message_id is not None and (
            record.message_id in message_ids
            or tx.outbox.find_message(instance, MessageId(record.message_id)) is not None
        ):
            record = replace(record, message_id=None)
        queue_ids.add(record.queue_id)
        message_ids.add(record.message_id or "")
        found.append(record)
    return found
