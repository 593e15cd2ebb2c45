"""How an instance moves: one transition of the table, under the lease of its worker, stored with its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wahub.domain.errors import InstanceNotFoundError
from wahub.domain.instance import Event, Instance, transition
from wahub.domain.lease import Lease
from wahub.domain.lifecycle import Incident, IncidentKind, Lifecycle, entered
from wahub.ports.store import Tx


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transaction did to an instance."""

    before: Instance
    after: Instance
    record: Lifecycle
    event: Event
    reason: str = ""


def current(tx: Tx, lease: Lease) -> tuple[Instance, Lifecycle]:
    """The instance and its record, locked; StaleLeaseError when the term is over."""
    tx.fence(lease)
    instance = tx.instances.get(lease.instance, for_update=True)
    if instance is None:
        raise InstanceNotFoundError(lease.instance)
    return instance, tx.lifecycles.get(lease.instance, for_update=True)


def move(
    tx: Tx,
    found: tuple[Instance, Lifecycle],
    event: Event,
    now: float,
    *,
    changes: Mapping[str, Any] | None = None,
    record: Lifecycle | None = None,
    reason: str = "",
) -> Moved:
    """Apply an event and store what it brought: `changes` of what was observed, and the changed record."""
    instance, stored = found
    before = instance.observed
    state = transition(before.state, event, authenticated=before.awaits_ready)
    moved = {"state": state, "state_at": now} if state is not before.state else {}
    observed = replace(before, **{**(changes or {}), **moved}, last_event=str(event), last_event_at=now)
    after = replace(instance, observed=observed)
    tx.instances.save(after)
    kept = entered(stored if record is None else record, before.state, state, event, now)
    keep(tx, stored, kept)
    return Moved(instance, after, kept, event, reason)


def keep(tx: Tx, stored: Lifecycle, record: Lifecycle) -> None:
    """Write the record if it changed."""
    if record != stored:
        tx.lifecycles.save(record)


def not_ready_any_more(tx: Tx, moved: Moved) -> Moved:
    """Callers were told that the account is not ready any more."""
    if not moved.record.told_ready:
        return moved
    record = replace(moved.record, told_ready=False)
    tx.lifecycles.save(record)
    return replace(moved, record=record)


def report(tx: Tx, moved: Moved, kind: IncidentKind, details: str, now: float) -> Moved:
    """Write an incident down, after the move itself: the record counts it."""
    instance = moved.after.id
    tx.lifecycles.add_incident(instance, Incident(kind, details, now))
    return replace(moved, record=tx.lifecycles.get(instance))
