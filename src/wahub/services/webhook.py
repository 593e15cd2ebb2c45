"""Webhooks as use cases: log an event with the change that caused it, write down what became of an attempt."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wahub.domain.endpoint import ASIDE_AFTER, Held, Secrets, Trouble, after_failure, ends_outage
from wahub.domain.event import ENDS_SECRETS, SECRETS, UNLOGGED, LoggedEvent
from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance
from wahub.domain.lifecycle import Incident, IncidentKind
from wahub.domain.retry import Backoff
from wahub.domain.webhook import (
    LIFECYCLE_LANE,
    RETRY_HORIZON,
    Answer,
    Delivery,
    DeliveryState,
    after_attempt,
    aside,
    body_text,
    bury,
    stands_aside,
    wants,
)
from wahub.ports.store import Tx


@dataclass(frozen=True, slots=True)
class Emission:
    """An event that callers are to hear of.

    `event_id` is chosen outside, so that a transaction that runs again logs the same event. `ttl` (seconds) is for
    events that die early; without it attempts go on for 72 h.
    """

    event: str
    data: Mapping[str, Any] = field(repr=False)
    lane: str
    event_id: str
    ttl: float | None = None

    @property
    def lives(self) -> float:
        """Seconds for which it is worth telling."""
        return RETRY_HORIZON if self.ttl is None else self.ttl


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
    """Write an event into the instance's log, and queue it for its URL if it has one and wants it. True if queued.

    After the commit, notify the topic `webhooks`. ValueError if `data` is something that JavaScript would not read back
    the same.
    """
    if event in ENDS_SECRETS:
        for dead in SECRETS:
            tx.webhooks.supersede(instance.id, dead)
        tx.events.end_secrets(now, instance.id)
    return emit_all(tx, instance, [Emission(event, data, lane, event_id, ttl)], now=now) > 0


def emit_all(tx: Tx, instance: Instance, emissions: Sequence[Emission], *, now: float) -> int:
    """The same for several events, in their order, none of which ends a secret. Returns how many were queued."""
    config, url = instance.config, instance.config.webhook_url or ""
    told = [one for one in emissions if one.event not in UNLOGGED or wants(config, one.event)]
    numbers = _numbers(tx, instance.id, told)
    made = [_logged(instance.id, one, number, now) for one, number in zip(told, numbers, strict=True)]
    placed = zip(told, made, tx.events.add_all(made), strict=True)
    queued = [_delivery(event, position, url, one) for one, event, position in placed if wants(config, one.event)]
    tx.webhooks.add_all(queued)
    return len(queued)


def _numbers(tx: Tx, instance: InstanceId, told: Sequence[Emission]) -> list[int]:
    """Their numbers in the log, one after the other; 0 for those that are not logged."""
    count = sum(one.event not in UNLOGGED for one in told)
    free = itertools.count(tx.instances.next_sequences(instance, count) if count else 0)
    return [0 if one.event in UNLOGGED else next(free) for one in told]


def _logged(instance: InstanceId, one: Emission, sequence: int, now: float) -> LoggedEvent:
    return LoggedEvent(
        event_id=one.event_id,
        instance=instance,
        event=one.event,
        body=body_text(one.event, instance, one.data),
        sequence=sequence,
        created_at=now,
        secret_until=now + one.lives if one.event in SECRETS else None,
    )


def _delivery(made: LoggedEvent, position: int, url: str, one: Emission) -> Delivery:
    return Delivery(
        event_id=made.event_id,
        instance=made.instance,
        event=made.event,
        lane=one.lane,
        url=url,
        body=made.body,
        sequence=made.sequence,
        created_at=made.created_at,
        expires_at=made.created_at + one.lives,
        next_attempt_at=made.created_at,
        position=position,
    )


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


@dataclass(frozen=True, slots=True)
class Noted:
    """What an attempt did: the delivery as it stands now, and the endpoint's trouble if it was held just now."""

    delivery: Delivery
    held: Trouble | None = None
    recovered: bool = False
    """It was held before, and everything that waited goes on."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one attempt to post, and when it was over. `unit` is random in [0, 1)."""

    delivery: Delivery
    answer: Answer
    now: float
    unit: float


def note_results(tx: Tx, attempts: Sequence[Attempt], policy: Backoff) -> list[Noted]:
    """Write down what came of attempts, one after the other in this order."""
    noted: list[Noted] = []
    # Endpoints of which no trouble can be known any more: they took something, and refused nothing since.
    sound: set[tuple[InstanceId, str]] = set()
    taken: list[Delivery] = []
    for one in attempts:
        endpoint = (one.delivery.instance, one.delivery.url)
        after = after_attempt(one.delivery, one.answer, one.now, one.unit, policy)
        if one.answer.ok:
            taken.append(after)
            noted.append(Noted(after, recovered=endpoint not in sound and _recover(tx, *endpoint, one.now)))
            sound.add(endpoint)
        else:
            # What becomes of a failure depends on what else was taken.
            tx.webhooks.save_all(taken)
            taken.clear()
            noted.append(_note_failure(tx, after, one, policy))
            sound.discard(endpoint)
    tx.webhooks.save_all(taken)
    return noted


def _note_failure(tx: Tx, failed: Delivery, attempt: Attempt, policy: Backoff) -> Noted:
    after = aside(failed) if _should_step_aside(tx, failed) else failed
    held = _count_failure(tx, after, attempt.answer, attempt.now, attempt.unit, policy)
    tx.webhooks.save_all([after])
    return Noted(after, held)


def _recover(tx: Tx, instance: InstanceId, url: str, now: float) -> bool:
    trouble = tx.endpoints.recover(instance, url)
    if trouble is None or not ends_outage(trouble, now):
        return False
    tx.endpoints.wake(instance, url, now)
    return trouble.held is not None


def _should_step_aside(tx: Tx, failed: Delivery) -> bool:
    if failed.state is not DeliveryState.PENDING or failed.attempts < ASIDE_AFTER or stands_aside(failed):
        return False
    since = failed.failed_at
    return since is not None and tx.endpoints.took_since(failed.instance, failed.url, since)


def _count_failure(
    tx: Tx, failed: Delivery, answer: Answer, now: float, unit: float, policy: Backoff
) -> Trouble | None:
    before = tx.endpoints.trouble(failed.instance, failed.url)
    if before is None:
        if tx.instances.get(failed.instance) is None:
            return None  # deleted while it was posted
        before = Trouble(failed.instance, failed.url, 0, now, "")
    before = replace(before, last_error=failed.last_error or "")
    after = after_failure(before, status=answer.status, probe=failed.probe, now=now, unit=unit, retry=policy)
    held = after if after.held is not before.held else None
    if held is not None:
        kind = IncidentKind.WEBHOOK_DISABLED if after.held is Held.DISABLED else IncidentKind.WEBHOOK_PAUSED
        text = f"{after.failures} attempts to post webhooks failed in a row: {after.last_error}"
        # First of all that is written here: it locks the instance, as whoever changes one does first.
        tx.lifecycles.add_incident(failed.instance, Incident(kind, text, now))
    tx.endpoints.note(after)
    return held


def give_up(tx: Tx, delivery: Delivery, reason: str) -> Delivery:
    """Make it a dead letter without another attempt."""
    dead = bury(delivery, reason)
    tx.webhooks.save_all([dead])
    return dead


def enable(tx: Tx, instance: InstanceId, url: str, now: float) -> None:
    """Somebody set this URL, or wants its dead letters replayed: post to it again, at once."""
    if tx.endpoints.recover(instance, url) is not None:
        tx.endpoints.wake(instance, url, now)


def replay(tx: Tx, instance: Instance, event_id: str | None, now: float) -> int:
    """Post dead letters again to the instance's present URL: one, or all (None). Returns how many.

    They count as new: attempts begin at 1 and go on for 72 h. Pairing codes stay dead. ValueError without a URL.
    """
    url = instance.config.webhook_url
    if not url:
        raise ValueError("the instance has no webhook.url")
    revived = tx.dead.revive(instance.id, event_id, url, now, now + RETRY_HORIZON)
    enable(tx, instance.id, url, now)
    return revived


def set_secret(tx: Tx, instance: InstanceId, secret: str | None, now: float, overlap: float) -> Secrets:
    """Give the instance another secret of its own (None: none); the one before stays live for `overlap` seconds."""
    rotated = tx.endpoints.secrets(instance).rotated(secret, now, overlap)
    tx.endpoints.set_secrets(instance, rotated)
    return rotated


def trial(instance: Instance, *, now: float, event_id: str, secrets: Secrets) -> Delivery | None:
    """A `webhook_test` for the instance's URL; it is never stored. None if the instance has no URL."""
    url = instance.config.webhook_url
    if url is None:
        return None
    body = body_text("webhook_test", instance.id, {"message": "A test of this webhook URL", "timestamp": int(now)})
    return Delivery(
        event_id=event_id,
        instance=instance.id,
        event="webhook_test",
        lane=LIFECYCLE_LANE,
        url=url,
        body=body,
        sequence=0,
        created_at=now,
        expires_at=now,
        next_attempt_at=now,
        secrets=secrets,
    )


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a test post. `status` is None when no answer came; `latency` is in seconds."""

    event_id: str
    status: int | None
    error: str | None
    latency: float
