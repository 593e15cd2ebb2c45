"""Webhooks as use cases: queue an event with the change that caused it, write down what became of an attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from wahub.domain.instance import Instance
from wahub.domain.retry import Backoff
from wahub.domain.webhook import (
    LIFECYCLE_LANE,
    RETRY_HORIZON,
    Answer,
    Delivery,
    after_attempt,
    body_text,
    bury,
    wants,
)
from wahub.ports.store import Tx

SUPERSEDED_BY_NEXT = frozenset({"qr"})
"""Events of which only the latest is worth posting (contract 0.7)."""


def emit(
    tx: Tx,
    instance: Instance,
    event: str,
    data: Mapping[str, Any],
    *,
    lane: str = LIFECYCLE_LANE,
    now: float,
    event_id: str,
    ttl: float | None = None,
) -> bool:
    """Queue an event for the instance's URL, if it has one and wants the event. True if it was queued.

    `ttl` (seconds) is for events that die early; without it attempts go on for 72 h. `event_id` is chosen outside, so
    that a transaction that runs again queues the same event. After the commit, notify the topic `webhooks`.
    ValueError if `data` is something that JavaScript would not read back the same.
    """
    url = instance.config.webhook_url
    if url is None or not wants(instance.config, event):
        return False
    body = body_text(event, instance.id, data)
    if event in SUPERSEDED_BY_NEXT:
        tx.webhooks.supersede(instance.id, event)
    tx.webhooks.add(
        Delivery(
            event_id=event_id,
            instance=instance.id,
            event=event,
            lane=lane,
            url=url,
            body=body,
            sequence=tx.instances.next_sequence(instance.id),
            created_at=now,
            expires_at=now + (RETRY_HORIZON if ttl is None else ttl),
            next_attempt_at=now,
        )
    )
    return True


def farewell(instance: Instance, data: Mapping[str, Any], *, now: float) -> Delivery | None:
    """The last event of an instance, `instance_deleted`; it is never stored. None if the instance has no URL.

    Its sequence number is 0: the gapless sequence ends with the rows that are removed.
    """
    url = instance.config.webhook_url
    if url is None:
        return None
    return Delivery(
        event_id=hashlib.sha256(f"{instance.id}:{instance.created_at}:instance_deleted".encode()).hexdigest()[:32],
        instance=instance.id,
        event="instance_deleted",
        lane=LIFECYCLE_LANE,
        url=url,
        body=body_text("instance_deleted", instance.id, data),
        sequence=0,
        created_at=now,
        expires_at=now,
        next_attempt_at=now,
    )


def note_result(tx: Tx, delivery: Delivery, answer: Answer, now: float, unit: float, policy: Backoff) -> Delivery:
    """Write down what came of an attempt; returns the delivery as it stands now. `unit` is random in [0, 1)."""
    after = after_attempt(delivery, answer, now, unit, policy)
    tx.webhooks.save(after)
    return after


def give_up(tx: Tx, delivery: Delivery, reason: str) -> Delivery:
    """Make it a dead letter without another attempt."""
    dead = bury(delivery, reason)
    tx.webhooks.save(dead)
    return dead
