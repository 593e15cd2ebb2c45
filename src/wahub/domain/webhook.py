"""Webhooks: what is posted, to whom, in which order, signed how (contract D.3, D.4, 0.7)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wahub.domain.ids import InstanceId


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one URL. Times are Unix seconds.

    `event_id` is the same on every attempt; `sequence` counts the events of the instance without gaps; `lane` names
    what it must stay in order with: a chat, or `lifecycle`. `body` is the exact bytes that are signed and sent, as
    text.
    """

    event_id: str
    instance: InstanceId
    event: str
    lane: str
    url: str
    body: str
    sequence: int
    created_at: float
    expires_at: float
    next_attempt_at: float
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    last_error: str | None = None
    position: int = 0
    """Order of creation, given by the store."""
