"""The outbox: what may become of a message, decided in one place.

The line: items of one chat and priority leave in the order in which they joined. An unscheduled item joins when it is
accepted, a scheduled one at its time; from then on whatever is unsettled holds back what joined later, in its chat and
priority only. High priority overtakes normal everywhere, also in its chat.

An entry is accepted (`queued`), claimed for the wire (`sending`), and settled. Its WhatsApp message id is chosen at
acceptance and never changes, so a resend carries the same id. `next_step` is the whole policy of contract 0.5: it
takes an entry, what became of the attempt and the time, and says what to write. What people may decide about an item
is in domain/manage.py. Nothing here reads a clock or a database.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from wahub.domain.ids import ChatId, InstanceId, MessageId, QueueId
from wahub.domain.message import Content
from wahub.domain.retry import Backoff


class ItemState(StrEnum):
    """Where an entry stands (contract 0.5)."""

    QUEUED = "queued"
    SENDING = "sending"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    HELD = "held"


UNSETTLED = frozenset({ItemState.QUEUED, ItemState.SENDING, ItemState.UNKNOWN, ItemState.HELD})
"""States that may still change: these count as queue depth and hold back later items of their chat."""


class DeliveryMark(StrEnum):
    """How far a sent message got, in this order; it only ever moves forward."""

    SERVER = "server"
    DELIVERED = "delivered"
    READ = "read"
    PLAYED = "played"


_MARK_ORDER: dict[DeliveryMark | None, int] = {
    None: 0,
    **{mark: rank for rank, mark in enumerate(DeliveryMark, start=1)},
}


class Priority(StrEnum):
    """Which of two waiting items goes first, whatever their order of acceptance."""

    NORMAL = "normal"
    HIGH = "high"


class Audience(StrEnum):
    """Whom an item is for: a typing indicator is shown to those that the instance lists (contract C.8)."""

    CUSTOMER = "customer"
    MERCHANT = "merchant"


class KeyKind(StrEnum):
    """The three kinds of idempotency key (contract 0.4)."""

    EXPLICIT = "explicit"
    ORDER = "order"
    DERIVED = "derived"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key as a request carries it, and the hash of the payload it stands for."""

    value: str
    kind: KeyKind
    payload_hash: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of an item's timeline: Unix seconds, what happened, and a detail without private content."""

    at: float
    kind: str
    detail: str | None = None


MOST_MOMENTS = 60
"""A timeline keeps its beginning and its latest moments, so that a row cannot grow without end."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One outbox item. Times are Unix seconds."""

    id: QueueId
    instance: InstanceId
    chat: ChatId
    content: Content
    message_id: MessageId
    key: IdempotencyKey
    created_at: float
    state: ItemState = ItemState.QUEUED
    next_attempt_at: float = 0.0
    attempts: int = 0
    on_wire: bool = False
    """Bytes of it may have left at some time: from then on it can only end by proof or by the caller's word."""
    resends: int = 0
    """How often it was put on the wire again under its id after its fate was unknown."""
    deferrals: int = 0
    """How often WhatsApp's outreach lock put it off."""
    claimed_epoch: int | None = None
    claimed_at: float | None = None
    settled_at: float | None = None
    delivery: DeliveryMark | None = None
    last_error: str | None = None
    priority: Priority = Priority.NORMAL
    audience: Audience = Audience.CUSTOMER
    joined_at: float = 0.0
    """When it joins the line: at acceptance, or at the time it is scheduled for."""
    scheduled: bool = False
    """Whether a caller chose the time (`sendAt`)."""
    expires_at: float = float("inf")
    """From then on it is not sent any more, unless it may be out already."""
    typing: bool = True
    """Whether the caller wants a typing indicator before it (`uxTyping`)."""
    timeline: tuple[Moment, ...] = ()
    position: int = 0
    """Order of acceptance, given by the store."""

    @property
    def settled(self) -> bool:
        """Whether its fate is final. `unknown` is final once it will not be sent again."""
        return self.state not in UNSETTLED or self.gave_up

    def noted(self, at: float, kind: str, detail: str | None = None) -> Entry:
        """The entry with one more moment on its timeline."""
        kept = self.timeline
        if len(kept) >= MOST_MOMENTS:
            kept = (*kept[:10], *kept[-(MOST_MOMENTS - 11) :])
        return replace(self, timeline=(*kept, Moment(at, kind, detail)))

    @property
    def gave_up(self) -> bool:
        """An unknown item that will not be sent again by itself; the caller decides."""
        return self.state is ItemState.UNKNOWN and self.settled_at is not None


# --- what became of an attempt ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendAcked:
    """The server took this id."""


@dataclass(frozen=True, slots=True)
class SendRefused:
    """The server answered with an error: `code` as on the wire."""

    code: int


@dataclass(frozen=True, slots=True)
class SendNotStarted:
    """Nothing of this message reached the socket. `link_lost`: because there was no link, which costs no attempt."""

    reason: str
    permanent: bool = False
    link_lost: bool = False


@dataclass(frozen=True, slots=True)
class SendUncertain:
    """Bytes may have left and no answer came (time-out, broken link, dead engine or gateway)."""

    reason: str


SendResult = SendAcked | SendRefused | SendNotStarted | SendUncertain


_RETRY = Backoff(base=5.0, cap=120.0)
_OUTREACH_LOCK = Backoff(base=3_600.0, cap=86_400.0)


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """The figures of contract 0.5 and C.4; seconds."""

    retry: Backoff = _RETRY
    max_attempts: int = 5
    evidence_wait: float = 10.0
    max_resends: int = 5
    resend_window: float = 86_400.0
    outreach_lock: Backoff = _OUTREACH_LOCK


OUTREACH_LOCKED = 463
"""WhatsApp's time-lock on writing to people who never wrote first (source: Baileys `NackCallbackSideEffects`)."""

OUTREACH_REASON = "outreach_locked"

LINK_RETRY_WAIT = 1.0


def next_step(entry: Entry, result: SendResult, now: float, policy: SendPolicy) -> Entry:
    """The entry as it is to be stored after `result`. Pure; the only place that decides an item's fate."""
    match result:
        case SendAcked():
            return settle(entry.noted(now, "acked"), ItemState.SENT, now)
        case SendRefused(code):
            # The server has no copy of what it refused, so that was no resend.
            back = replace(entry.noted(now, "refused", str(code)), resends=entry.resends - entry.on_wire)
            return _after_refusal(back, code, now, policy)
        case SendNotStarted(reason, permanent, link_lost):
            back = replace(entry.noted(now, "not_started", reason), resends=entry.resends - entry.on_wire)
            if permanent and not entry.on_wire:
                return settle(back, ItemState.FAILED, now, reason)
            if link_lost:
                return _wait(back, now + LINK_RETRY_WAIT, reason)
            return _retry(back, now, reason, policy)
        case SendUncertain(reason):
            return _after_uncertainty(entry.noted(now, "uncertain", reason), reason, now, policy)


def settle(entry: Entry, state: ItemState, now: float, error: str | None = None) -> Entry:
    """The entry with a final state; a sent one has at least the server's mark."""
    delivery = entry.delivery
    if state is ItemState.SENT and delivery is None:
        delivery = DeliveryMark.SERVER
    return replace(entry, state=state, settled_at=now, last_error=error, delivery=delivery, claimed_epoch=None)


def note_evidence(entry: Entry, mark: DeliveryMark, now: float) -> Entry:
    """An ack or a receipt for this id came: it is sent, and its mark moves forward, never back."""
    if entry.state in (ItemState.FAILED, ItemState.EXPIRED, ItemState.CANCELLED):
        return entry
    further = mark if _MARK_ORDER[mark] > _MARK_ORDER[entry.delivery] else entry.delivery
    if entry.state is ItemState.SENT:
        return entry if further is entry.delivery else replace(entry.noted(now, str(mark)), delivery=further)
    return replace(settle(entry.noted(now, str(mark), "evidence"), ItemState.SENT, now), delivery=further)


def await_evidence(entry: Entry, now: float, policy: SendPolicy) -> Entry:
    """Start (again) the wait for proof of an unknown item: the link is up and its offline queue is drained."""
    if entry.state is not ItemState.UNKNOWN or entry.gave_up:
        return entry
    until = now + policy.evidence_wait
    if entry.last_error == OUTREACH_REASON:
        # A new link does not lift WhatsApp's lock.
        until = max(until, entry.next_attempt_at)
    return replace(entry, next_attempt_at=until)


def lapse(entry: Entry, now: float, policy: SendPolicy) -> Entry:
    """End the wait for proof: after the resend window an unknown item is not sent again, the caller decides."""
    if entry.state is not ItemState.UNKNOWN or entry.gave_up or not _resend_window_is_over(entry, now, policy):
        return entry
    return _give_up(entry.noted(now, "given_up", "resend_window"), now, entry.last_error or "no proof in time")


def may_claim(entry: Entry, now: float) -> bool:
    """Whether the entry may be put on the wire now."""
    return entry.state in (ItemState.QUEUED, ItemState.UNKNOWN) and not entry.gave_up and entry.next_attempt_at <= now


def claim(entry: Entry, epoch: int, now: float) -> Entry:
    """The entry, claimed for the wire under a lease epoch. Sending an unknown one again counts as a resend."""
    return replace(
        entry.noted(now, "resend" if entry.on_wire else "attempt"),
        state=ItemState.SENDING,
        claimed_epoch=epoch,
        claimed_at=now,
        resends=entry.resends + entry.on_wire,
    )


def expire(entry: Entry, now: float) -> Entry:
    """The entry, expired if its time is over and it never was on the wire."""
    if entry.state not in (ItemState.QUEUED, ItemState.HELD) or entry.on_wire or now < entry.expires_at:
        return entry
    return settle(entry.noted(now, "expired"), ItemState.EXPIRED, now, entry.last_error or "expired")


# --- steps of the policy ----------------------------------------------------------------------------------------------


def _after_refusal(entry: Entry, code: int, now: float, policy: SendPolicy) -> Entry:
    if code == OUTREACH_LOCKED:
        deferred = replace(entry, deferrals=entry.deferrals + 1)
        if entry.on_wire and now >= entry.expires_at:
            # One that may be out never expires; without this end it would be put off for ever.
            return _give_up(deferred, now, OUTREACH_REASON)
        return _wait(deferred, now + policy.outreach_lock.delay(deferred.deferrals), OUTREACH_REASON)
    reason = f"refused by WhatsApp ({code})"
    if code == 429 or code >= 500:
        return _retry(entry, now, reason, policy)
    return _give_up(entry, now, reason)


def _give_up(entry: Entry, now: float, reason: str) -> Entry:
    """No further attempt. A copy that may have arrived makes "failed" a guess: then the caller decides."""
    if entry.on_wire:
        return replace(entry, state=ItemState.UNKNOWN, settled_at=now, last_error=reason, claimed_epoch=None)
    return settle(entry, ItemState.FAILED, now, reason)


def _retry(entry: Entry, now: float, reason: str, policy: SendPolicy) -> Entry:
    tried = replace(entry, attempts=entry.attempts + 1)
    if tried.attempts < policy.max_attempts:
        return _wait(tried, now + policy.retry.delay(tried.attempts), reason)
    return _give_up(tried, now, reason)


def _wait(entry: Entry, until: float, reason: str) -> Entry:
    """Back into the line. An item that may be out goes back to unknown, never to queued."""
    state = ItemState.UNKNOWN if entry.on_wire else ItemState.QUEUED
    return replace(entry, state=state, next_attempt_at=until, last_error=reason, claimed_epoch=None)


def _after_uncertainty(entry: Entry, reason: str, now: float, policy: SendPolicy) -> Entry:
    """No proof either way: wait for evidence, then resend under the same id, a bounded number of times."""
    unknown = replace(entry, state=ItemState.UNKNOWN, on_wire=True, last_error=reason, claimed_epoch=None)
    too_late = entry.on_wire and _resend_window_is_over(entry, now, policy)
    if entry.resends >= policy.max_resends or too_late:
        return replace(unknown, settled_at=now)
    return replace(unknown, next_attempt_at=now + policy.evidence_wait)


def _resend_window_is_over(entry: Entry, now: float, policy: SendPolicy) -> bool:
    """Counted from the first time that it may have left: it may have waited long before that, or been scheduled."""
    first_out = next((moment.at for moment in entry.timeline if moment.kind == "uncertain"), now)
    return now - first_out > policy.resend_window
