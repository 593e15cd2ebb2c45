"""Accepting a send: one transaction that finds the item a key already stands for, or stores a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from wahub.domain.errors import InstanceNotFoundError, KeyReusedError, NeedsQrError, QueueFullError
from wahub.domain.idempotency import ANY_PAYLOAD, KeyPolicy, OrderRef, Verdict, judge, make_key
from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId, message_id
from wahub.domain.instance import State, accepts_sends
from wahub.domain.message import Content, Text
from wahub.domain.outbox import (
    Audience,
    DeliveryMark,
    Entry,
    IdempotencyKey,
    ItemState,
    KeyKind,
    Moment,
    Priority,
)
from wahub.ports.store import KeyRecord, Tx
from wahub.services.known import known

ITEM_TTL = 168 * 3_600.0
"""Seconds an item lives when nobody says otherwise (QUEUE_ITEM_TTL_HOURS)."""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What a caller wants sent.

    `queue_id` and `entropy` (16 random bytes) are chosen outside, so a re-run changes nothing. `send_at` is Unix
    seconds, `expires_in` seconds from acceptance.
    """

    instance: InstanceId
    chat: ChatId
    content: Content
    queue_id: QueueId
    entropy: bytes = field(repr=False)
    explicit_key: str | None = None
    order: OrderRef | None = None
    priority: Priority = Priority.NORMAL
    audience: Audience = Audience.CUSTOMER
    send_at: float | None = None
    expires_in: float | None = None
    typing: bool = True


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much one instance may have waiting (0 = unlimited), how long an item and its keys live."""

    max_queue: int = 200
    item_ttl: float = ITEM_TTL
    keys: KeyPolicy = field(default_factory=KeyPolicy)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to a send: the item, new or replayed, and what the reply shows beside it."""

    entry: Entry
    depth: int
    state: State
    replayed: bool


def enqueue(tx: Tx, request: SendRequest, now: float, limits: QueueLimits) -> Accepted:
    """Accept a send, or find the item that already answers it.

    Raises InstanceNotFoundError, NeedsQrError, QueueFullError or KeyReusedError; then nothing is stored.
    """
    # Locked: two equal requests at the same moment must give one item, and the queue must not outgrow its limit.
    instance = known(tx, request.instance, for_update=True)
    state = instance.observed.state
    key = make_key(instance.config.name, request.chat, request.content, request.explicit_key, request.order)
    replayed = _replay(tx, request.instance, key, now, limits.keys)
    if replayed is not None:
        return Accepted(replayed, tx.line.depth(request.instance), state, replayed=True)
    if not accepts_sends(state):
        raise NeedsQrError(request.instance)
    depth = tx.line.depth(request.instance)
    if limits.max_queue and depth >= limits.max_queue:
        raise QueueFullError(limits.max_queue)
    entry = tx.outbox.add(_new_entry(tx, request, key, instance.observed.phone or "", now, limits))
    tx.keys.put(request.instance, KeyRecord(key, entry.id, now))
    return Accepted(entry, depth + 1, state, replayed=False)


def _replay(tx: Tx, instance: InstanceId, key: IdempotencyKey, now: float, policy: KeyPolicy) -> Entry | None:
    """The item that answers this key already; None if the request is new. KeyReusedError for another payload."""
    known = tx.keys.get(instance, key.value)
    if known is None:
        return None
    entry = tx.outbox.get(instance, known.queue_id)
    verdict = judge(key, known.key, entry, now, policy)
    if verdict is Verdict.CONFLICT:
        raise KeyReusedError
    return replace(entry, key=known.key) if verdict is Verdict.REPLAY and entry is not None else None


def _new_entry(tx: Tx, request: SendRequest, key: IdempotencyKey, phone: str, now: float, limits: QueueLimits) -> Entry:
    scheduled = request.send_at is not None and request.send_at > now
    joined_at = (request.send_at or now) if scheduled else now
    if not scheduled:
        # The wall clock may be set back; the order of acceptance must not follow it.
        joined_at = max(now, tx.line.last_joined_at(request.instance))
    life = limits.item_ttl if request.expires_in is None else min(request.expires_in, limits.item_ttl)
    return Entry(
        id=request.queue_id,
        instance=request.instance,
        chat=request.chat,
        content=request.content,
        message_id=message_id(phone, request.entropy),
        key=key,
        created_at=now,
        next_attempt_at=joined_at if scheduled else now,
        priority=request.priority,
        audience=request.audience,
        joined_at=joined_at,
        scheduled=scheduled,
        # A schedule beyond the usual life would never be sent: the life then begins with the schedule.
        expires_at=(joined_at if scheduled and request.expires_in is None else now) + life,
        typing=request.typing,
        timeline=(Moment(now, "accepted"),),
    )


# --- moving over from another gateway ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """A key that an earlier gateway used for a message it sent. `sent_at` is Unix seconds."""

    key: str
    queue_id: QueueId
    sent_at: float
    message_id: str | None = None


def import_keys(tx: Tx, instance: InstanceId, records: Sequence[ImportedKey], now: float) -> int:
    """Make requests with these keys replays, so that nobody is messaged twice. Returns how many were new.

    Keys that are known already, or too old to matter, are left alone. Raises InstanceNotFoundError.
    """
    if tx.instances.get(instance, for_update=True) is None:
        raise InstanceNotFoundError(instance)
    added = 0
    for record in records:
        if now >= record.sent_at + KeyPolicy().kept or tx.keys.get(instance, record.key) is not None:
            continue
        kind = KeyKind.ORDER if record.key.startswith("order:") else KeyKind.EXPLICIT
        key = IdempotencyKey(record.key, kind, ANY_PAYLOAD)
        entry = Entry(
            id=record.queue_id,
            instance=instance,
            # Of the old gateway's message only the key is known; whom it went to and what it said is not.
            chat=ChatId.parse("0"),
            content=Text(""),
            message_id=MessageId(record.message_id or f"imported-{record.queue_id}"),
            key=key,
            created_at=record.sent_at,
            joined_at=record.sent_at,
            state=ItemState.SENT,
            settled_at=record.sent_at,
            delivery=DeliveryMark.SERVER,
        )
        stored = tx.outbox.add(entry.noted(record.sent_at, "imported"))
        tx.keys.put(instance, KeyRecord(key, stored.id, record.sent_at))
        added += 1
    return added
