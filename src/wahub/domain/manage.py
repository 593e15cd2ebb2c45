"""What people and callers may decide about an item of the outbox: take it back, try it again, end its unknown fate."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from wahub.domain.errors import NotCancellableError, NotRetryableError, NotUnknownError
from wahub.domain.outbox import Entry, ItemState, settle

RETRIED_LIFE = 86_400.0
"""An item that was tried again by hand has at least a day."""


class Verdict(StrEnum):
    """What a caller may say about an item of unknown fate (contract 0.5)."""

    RESEND = "resend"
    SENT = "sent"
    FAILED = "failed"


def resolve(entry: Entry, verdict: Verdict, now: float) -> Entry:
    """End an unknown fate by the caller's word. NotUnknownError for an item whose fate is known."""
    if entry.state is not ItemState.UNKNOWN:
        raise NotUnknownError(entry.id, entry.state)
    noted = entry.noted(now, "resolved", str(verdict))
    match verdict:
        case Verdict.SENT:
            return settle(noted, ItemState.SENT, now)
        case Verdict.FAILED:
            return settle(noted, ItemState.FAILED, now, "resolved as failed by the caller")
        case Verdict.RESEND:
            # Resends that it had already still count: once they are used up, the next uncertainty ends it again.
            return replace(noted, next_attempt_at=now, settled_at=None, last_error=None)


def cancel(entry: Entry, now: float) -> Entry:
    """Take back an item that never was on the wire. NotCancellableError otherwise."""
    if entry.state not in (ItemState.QUEUED, ItemState.HELD) or entry.on_wire:
        raise NotCancellableError(entry.id, entry.state)
    return settle(entry.noted(now, "cancelled"), ItemState.CANCELLED, now)


def retry(entry: Entry, now: float) -> Entry:
    """Try again now: a waiting item at once, a failed, expired or cancelled one from the start, under the same id.

    NotRetryableError for an item that is sent, on the wire, or of unknown fate (that one is resolved instead).
    """
    if entry.state is ItemState.QUEUED:
        # A scheduled item joins the line now instead of at its time.
        joined_at = min(entry.joined_at, now)
        return replace(
            entry.noted(now, "retried"), next_attempt_at=min(entry.next_attempt_at, now), joined_at=joined_at
        )
    if entry.state not in (ItemState.FAILED, ItemState.EXPIRED, ItemState.CANCELLED) or entry.on_wire:
        raise NotRetryableError(entry.id, entry.state)
    return replace(
        entry.noted(now, "retried"),
        state=ItemState.QUEUED,
        settled_at=None,
        next_attempt_at=now,
        attempts=0,
        last_error=None,
        expires_at=max(entry.expires_at, now + RETRIED_LIFE),
    )


def hold(entry: Entry, reason: str, now: float) -> Entry:
    """Keep an item back until a caller releases it. One on the wire or of unknown fate stays what it is."""
    if entry.state is not ItemState.QUEUED:
        return entry
    return replace(entry.noted(now, "held", reason), state=ItemState.HELD, last_error=reason)


def release(entry: Entry, now: float) -> Entry:
    """Back into the line, at its old place."""
    if entry.state is not ItemState.HELD:
        return entry
    state = ItemState.UNKNOWN if entry.on_wire else ItemState.QUEUED
    return replace(
        entry.noted(now, "released"), state=state, last_error=None, next_attempt_at=max(entry.next_attempt_at, now)
    )
