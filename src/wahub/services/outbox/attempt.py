"""What the send loop asks: the next item and what to do before it, what became of it, what an earlier term left."""

from __future__ import annotations

from dataclasses import dataclass, field

from wahub.domain.ids import ChatKind, MessageId, QueueId
from wahub.domain.instance import Instance, State
from wahub.domain.lease import Lease
from wahub.domain.outbox import (
    DeliveryMark,
    Entry,
    ItemState,
    SendPolicy,
    SendResult,
    SendUncertain,
    await_evidence,
    claim,
    expire,
    lapse,
    next_step,
    note_evidence,
    settle,
)
from wahub.domain.pacing import HOUR, Pace, TypingPolicy, next_slot, typing_time
from wahub.ports.store import Knowledge, Tx
from wahub.services.outbox.record import save

KNOWN_FOR = 30 * 86_400.0
UNKNOWN_FOR = 3_600.0
"""How long WhatsApp's yes and no about a number are trusted (issue: yes 30 days, no 1 hour)."""

NOT_ON_WHATSAPP = "not_on_whatsapp"


@dataclass(frozen=True, slots=True)
class SendRules:
    """The operator's figures for sending."""

    policy: SendPolicy = field(default_factory=SendPolicy)
    pace: Pace = field(default_factory=Pace)
    typing: TypingPolicy = field(default_factory=TypingPolicy)
    ask_first: bool = True
    """Whether WhatsApp is asked about a number before the first send to it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the loop did for one item before its claim. `exists` is WhatsApp's answer, None if there was none."""

    queue_id: QueueId
    asked: bool = False
    exists: bool | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """This item is next; before it is claimed: ask about its number, and type for so many seconds."""

    entry: Entry
    ask: bool
    typing: float
    skipped: str | None = None
    """Why nobody types, for the log."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An item that is ours to put on the wire now."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to claim before `until` (Unix seconds); None: not before new work comes."""

    until: float | None


def claim_next(
    tx: Tx, lease: Lease, now: float, rules: SendRules, prepared: Prepared | None = None
) -> Claimed | Prepare | Idle:
    """The next item that may go out, in order and within the windows: claimed, or to be prepared first.

    Order of a send (contract 0.5): pace, ask, type, check again, claim, wire. The caller sends a claimed item as soon
    as this is committed.
    """
    tx.fence(lease)
    instance = tx.instances.get(lease.instance)
    if instance is None or instance.deleting or instance.observed.state is not State.READY:
        return Idle(None)
    if prepared is not None and prepared.asked and prepared.exists is not None:
        _learn(tx, lease, prepared, now)
    entry = _next_alive(tx, lease, instance, now, rules.policy)
    if entry is None:
        return Idle(tx.line.next_attempt_at(lease.instance))
    if not rules.pace.unlimited:
        slot = next_slot(tx.keys.claims_since(lease.instance, now - HOUR), now, rules.pace)
        if slot > now:
            return Idle(slot)
    ready = prepared is not None and prepared.queue_id == entry.id
    if not ready:
        todo = _preparation(tx, instance, entry, now, rules)
        if todo.ask or todo.typing:
            return todo
    if not rules.pace.unlimited:
        tx.keys.add_claim(lease.instance, now, forget_before=now - HOUR)
    claimed = claim(entry, lease.epoch, now)
    tx.outbox.save(claimed)
    return Claimed(claimed)


def _next_alive(tx: Tx, lease: Lease, instance: Instance, now: float, policy: SendPolicy) -> Entry | None:
    """The item that is due; those whose time is over, or whose number does not exist, are settled on the way."""
    while (entry := tx.line.next_due(lease.instance, now)) is not None:
        checked = lapse(expire(entry, now), now, policy)
        if checked is entry and not entry.on_wire and _is_absent(tx, entry, now):
            checked = settle(entry.noted(now, "refused", NOT_ON_WHATSAPP), ItemState.FAILED, now, NOT_ON_WHATSAPP)
        if checked is entry:
            return entry
        save(tx, entry, checked, now, instance)
    return None


def _knowledge(tx: Tx, entry: Entry, now: float) -> bool | None:
    """What is still trusted about the number of an item; None: WhatsApp has to be asked."""
    known = tx.contacts.get(entry.chat.user)
    if known is None:
        return None
    trusted_for = KNOWN_FOR if known.exists else UNKNOWN_FOR
    return known.exists if now < known.checked_at + trusted_for else None


def _is_absent(tx: Tx, entry: Entry, now: float) -> bool:
    return entry.chat.kind is ChatKind.PHONE and _knowledge(tx, entry, now) is False


def _learn(tx: Tx, lease: Lease, prepared: Prepared, now: float) -> None:
    entry = tx.outbox.get(lease.instance, prepared.queue_id)
    if entry is not None and prepared.exists is not None:
        tx.contacts.put(entry.chat.user, Knowledge(prepared.exists, now))


def _preparation(tx: Tx, instance: Instance, entry: Entry, now: float, rules: SendRules) -> Prepare:
    is_phone = entry.chat.kind is ChatKind.PHONE
    ask = rules.ask_first and is_phone and not entry.on_wire and _knowledge(tx, entry, now) is None
    skipped = None
    if not (rules.typing.enabled and instance.config.typing_enabled and entry.typing):
        skipped = "disabled"
    elif entry.chat.is_group:
        skipped = "is_group"
    elif entry.audience not in instance.config.apply_typing_to:
        skipped = "not_for_this_audience"
    typing = 0.0 if skipped else typing_time(entry.id, rules.typing)
    return Prepare(entry, ask, typing, skipped)


def settle_attempt(
    tx: Tx, lease: Lease, queue_id: QueueId, result: SendResult, now: float, policy: SendPolicy
) -> Entry | None:
    """Write down what became of an attempt. None if the item is gone or proof overtook us."""
    tx.fence(lease)
    entry = tx.outbox.get(lease.instance, queue_id)
    if entry is None or entry.state is not ItemState.SENDING or entry.claimed_epoch != lease.epoch:
        return None
    return save(tx, entry, next_step(entry, result, now, policy), now)


def recover(tx: Tx, lease: Lease, now: float, policy: SendPolicy, *, also_own: bool = False) -> int:
    """Take over what an earlier term left on the wire: its fate is unknown. Returns how many there were.

    `also_own`: no send loop of this term runs, so what it left (its outcome could not be stored) is taken as well.
    """
    tx.fence(lease)
    found = 0
    for entry in tx.line.going_out(lease.instance):
        if entry.state is ItemState.SENDING and (also_own or entry.claimed_epoch != lease.epoch):
            save(tx, entry, next_step(entry, SendUncertain("the process died during the send"), now, policy), now)
            found += 1
    return found


def start_evidence_wait(tx: Tx, lease: Lease, now: float, policy: SendPolicy) -> int:
    """The link is up: from `now` on, wait for proof of each unknown item before it is sent again."""
    tx.fence(lease)
    waiting = 0
    for entry in tx.line.going_out(lease.instance):
        if save(tx, entry, await_evidence(entry, now, policy), now) is not entry:
            waiting += 1
    return waiting


def note_proof(tx: Tx, lease: Lease, ids: tuple[MessageId, ...], mark: DeliveryMark, now: float) -> int:
    """An ack without error, or a receipt, came for these ids. Returns how many entries moved."""
    tx.fence(lease)
    moved = 0
    for wanted in ids:
        entry = tx.outbox.find_message(lease.instance, wanted)
        if entry is not None and save(tx, entry, note_evidence(entry, mark, now), now) is not entry:
            moved += 1
    return moved


def expire_due(tx: Tx, now: float, limit: int) -> int:
    """Expire what is over, of all instances. Returns how many; `limit` of them means that there may be more."""
    entries = tx.outbox.expired(now, limit)
    for entry in entries:
        save(tx, entry, expire(entry, now), now)
    return len(entries)


def lapse_due(tx: Tx, now: float, policy: SendPolicy) -> int:
    """Give up what waited for proof longer than the resend window, also where no link comes back. Returns how many."""
    ended = 0
    for instance in tx.instances.list():
        for entry in tx.line.going_out(instance.id):
            if save(tx, entry, lapse(entry, now, policy), now, instance) is not entry:
                ended += 1
    return ended
