"""What people and callers do to items that are already in the outbox."""

from __future__ import annotations

from dataclasses import replace

from wahub.domain import manage as rules
from wahub.domain.errors import (
    NotReadyError,
    NotRetryableError,
    QueueEmptyError,
    RequestNotFoundError,
)
from wahub.domain.ids import InstanceId, QueueId
from wahub.domain.instance import Instance, State
from wahub.domain.manage import Verdict
from wahub.domain.outbox import Entry, ItemState
from wahub.ports.store import Tx
from wahub.services.known import known
from wahub.services.outbox.record import save

ACCOUNT_CHANGED = "account_changed"


def cancel(tx: Tx, instance: InstanceId, queue_id: QueueId, now: float) -> Entry:
    """Take one item back. Its key may be used again. Raises RequestNotFoundError, NotCancellableError."""
    entry = _find(tx, instance, queue_id)
    return save(tx, entry, rules.cancel(entry, now), now)


def retry(tx: Tx, instance: InstanceId, queue_id: QueueId, now: float) -> Entry:
    """Try one item again now, under its id. Raises RequestNotFoundError, NotRetryableError."""
    entry = _find(tx, instance, queue_id)
    known = tx.keys.get(instance, entry.key.value)
    if known is not None and known.queue_id != entry.id:
        # A failed item's key is free for the same message; to send both would double it.
        raise NotRetryableError(entry.id, entry.state, known.queue_id)
    return save(tx, entry, rules.retry(entry, now), now)


def resolve(tx: Tx, instance: InstanceId, queue_id: QueueId, verdict: Verdict, now: float) -> Entry:
    """End an unknown fate by the caller's word. Raises RequestNotFoundError, NotUnknownError."""
    entry = _find(tx, instance, queue_id)
    return save(tx, entry, rules.resolve(entry, verdict, now), now)


def cancel_waiting(tx: Tx, instance: InstanceId, now: float) -> tuple[QueueId, ...]:
    """Cancel everything that never was on the wire; returns the ids."""
    cancelled = []
    for entry in tx.line.unsettled(instance):
        if entry.state in (ItemState.QUEUED, ItemState.HELD) and not entry.on_wire:
            save(tx, entry, rules.cancel(entry, now), now)
            cancelled.append(entry.id)
    return tuple(cancelled)


def clear(tx: Tx, instance: InstanceId, now: float) -> int:
    """Empty the queue as far as nothing may be out already; returns how many items were cancelled."""
    known(tx, instance, for_update=True)
    return len(cancel_waiting(tx, instance, now))


def trigger(tx: Tx, instance: InstanceId, now: float) -> int:
    """Let waiting retries go now, within the windows; returns the depth. Raises NotReadyError, QueueEmptyError.

    Items whose fate is unknown keep waiting for proof, and scheduled ones for their time.
    """
    found = known(tx, instance, for_update=True)
    if found.observed.state is not State.READY:
        raise NotReadyError(found.observed.state)
    depth = tx.line.depth(instance)
    if not depth:
        raise QueueEmptyError
    for entry in tx.line.unsettled(instance):
        if entry.state is ItemState.QUEUED and entry.next_attempt_at > now >= entry.joined_at:
            save(tx, entry, rules.retry(entry, now), now, found)
    return depth


def release(tx: Tx, instance: InstanceId, now: float) -> int:
    """Let held items back into the line; returns how many."""
    found = known(tx, instance, for_update=True)
    entries = [entry for entry in tx.line.unsettled(instance) if entry.state is ItemState.HELD]
    for entry in entries:
        save(tx, entry, rules.release(entry, now), now, found)
    return len(entries)


def hold_for_new_account(tx: Tx, instance: Instance, now: float) -> tuple[QueueId, ...]:
    """Another number was paired: what waited for the old one is held; returns the ids (contract 0.13).

    What may be out already under the old number can never be proved or repeated from the new one: its fate stays
    unknown, and the caller decides.
    """
    held = []
    for entry in tx.line.unsettled(instance.id):
        if entry.state is ItemState.UNKNOWN and not entry.gave_up:
            lost = replace(entry.noted(now, "given_up", ACCOUNT_CHANGED), settled_at=now, last_error=ACCOUNT_CHANGED)
            save(tx, entry, lost, now, instance)
        elif save(tx, entry, rules.hold(entry, ACCOUNT_CHANGED, now), now, instance) is not entry:
            held.append(entry.id)
    return tuple(held)


def _find(tx: Tx, instance: InstanceId, queue_id: QueueId) -> Entry:
    known(tx, instance, for_update=True)
    entry = tx.outbox.get(instance, queue_id)
    if entry is None:
        raise RequestNotFoundError(queue_id)
    return entry
