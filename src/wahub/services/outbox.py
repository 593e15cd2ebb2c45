"""Sending, as use cases.

Accept, claim, settle, recover. Each function is one transaction's worth of work and never commits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wahub.domain.errors import InstanceNotFoundError, KeyReusedError, NeedsQrError, QueueFullError
from wahub.domain.idempotency import KeyPolicy, OrderRef, Verdict, judge, make_key
from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId, message_id
from wahub.domain.instance import State, accepts_sends
from wahub.domain.lease import Lease
from wahub.domain.message import Content
from wahub.domain.outbox import (
    DeliveryMark,
    Entry,
    ItemState,
    SendPolicy,
    SendResult,
    SendUncertain,
    await_evidence,
    claim,
    next_step,
    note_evidence,
    settle,
)
from wahub.domain.pacing import HOUR, Pace, next_slot
from wahub.ports.store import KeyRecord, Tx


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What a caller wants sent.

    `queue_id` and `entropy` (16 random bytes) are chosen outside, so a re-run changes nothing.
    """

    instance: InstanceId
    chat: ChatId
    content: Content
    queue_id: QueueId
    entropy: bytes
    explicit_key: str | None = None
    order: OrderRef | None = None


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much one instance may have waiting (0 = unlimited), and how long keys live."""

    max_queue: int = 200
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
    instance = tx.instances.get(request.instance, for_update=True)
    if instance is None or instance.deleting:
        raise InstanceNotFoundError(request.instance)
    state = instance.observed.state
    key = make_key(instance.config.name, request.chat, request.content, request.explicit_key, request.order)
    known = tx.keys.get(request.instance, key.value)
    if known is not None:
        entry = tx.outbox.get(request.instance, known.queue_id)
        verdict = judge(key, known.key, entry, now, limits.keys)
        if verdict is Verdict.CONFLICT:
            raise KeyReusedError
        if verdict is Verdict.REPLAY and entry is not None:
            return Accepted(replace(entry, key=known.key), tx.outbox.depth(request.instance), state, replayed=True)
    if not accepts_sends(state):
        raise NeedsQrError(request.instance)
    depth = tx.outbox.depth(request.instance)
    if limits.max_queue and depth >= limits.max_queue:
        raise QueueFullError(limits.max_queue)
    entry = tx.outbox.add(
        Entry(
            id=request.queue_id,
            instance=request.instance,
            chat=request.chat,
            content=request.content,
            message_id=message_id(instance.observed.phone or "", request.entropy),
            key=key,
            created_at=now,
            next_attempt_at=now,
        )
    )
    tx.keys.put(request.instance, KeyRecord(key, entry.id, now))
    return Accepted(entry, depth + 1, state, replayed=False)


@dataclass(frozen=True, slots=True)
class Claimed:
    """An item that is ours to put on the wire now."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to claim before `until` (Unix seconds); None: not before new work comes."""

    until: float | None


def claim_next(tx: Tx, lease: Lease, now: float, pace: Pace) -> Claimed | Idle:
    """Claim the next item that may go out, in order and within the windows.

    The caller sends it as soon as this is committed.
    """
    tx.fence(lease)
    instance = tx.instances.get(lease.instance)
    if instance is None or instance.deleting or instance.observed.state is not State.READY:
        return Idle(None)
    entry = tx.outbox.next_due(lease.instance, now)
    if entry is None:
        return Idle(tx.outbox.next_attempt_at(lease.instance))
    if not pace.unlimited:
        slot = next_slot(tx.keys.claims_since(lease.instance, now - HOUR), now, pace)
        if slot > now:
            return Idle(slot)
        tx.keys.add_claim(lease.instance, now, forget_before=now - HOUR)
    claimed = claim(entry, lease.epoch, now)
    tx.outbox.save(claimed)
    return Claimed(claimed)


def settle_attempt(
    tx: Tx, lease: Lease, queue_id: QueueId, result: SendResult, now: float, policy: SendPolicy
) -> Entry | None:
    """Write down what became of an attempt. None if the item is gone or proof overtook us."""
    tx.fence(lease)
    entry = tx.outbox.get(lease.instance, queue_id)
    if entry is None or entry.state is not ItemState.SENDING or entry.claimed_epoch != lease.epoch:
        return None
    settled = next_step(entry, result, now, policy)
    tx.outbox.save(settled)
    return settled


def recover(tx: Tx, lease: Lease, now: float, policy: SendPolicy) -> int:
    """Take over what an earlier term left on the wire: its fate is unknown. Returns how many there were."""
    tx.fence(lease)
    found = 0
    for entry in tx.outbox.unsettled(lease.instance):
        if entry.state is ItemState.SENDING and entry.claimed_epoch != lease.epoch:
            tx.outbox.save(next_step(entry, SendUncertain("the process died during the send"), now, policy))
            found += 1
    return found


def start_evidence_wait(tx: Tx, lease: Lease, now: float, policy: SendPolicy) -> int:
    """The link is up.

    From `now` on, wait for proof of each unknown item before it is sent again. Returns how many wait.
    """
    tx.fence(lease)
    waiting = 0
    for entry in tx.outbox.unsettled(lease.instance):
        waits = await_evidence(entry, now, policy)
        if waits is not entry:
            tx.outbox.save(waits)
            waiting += 1
    return waiting


def note_proof(tx: Tx, lease: Lease, ids: tuple[MessageId, ...], mark: DeliveryMark, now: float) -> int:
    """An ack without error, or a receipt, came for these ids. Returns how many entries moved."""
    tx.fence(lease)
    moved = 0
    for wanted in ids:
        entry = tx.outbox.find_message(lease.instance, wanted)
        if entry is None:
            continue
        proven = note_evidence(entry, mark, now)
        if proven is not entry:
            tx.outbox.save(proven)
            moved += 1
    return moved


def cancel_waiting(tx: Tx, instance: InstanceId, now: float) -> tuple[QueueId, ...]:
    """Cancel everything that never was on the wire; returns the ids."""
    cancelled = []
    for entry in tx.outbox.unsettled(instance):
        if entry.state in (ItemState.QUEUED, ItemState.HELD) and not entry.on_wire:
            tx.outbox.save(settle(entry, ItemState.CANCELLED, now))
            cancelled.append(entry.id)
    return tuple(cancelled)
