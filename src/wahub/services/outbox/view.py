"""Showing the queue: what waits, when it will go, and how full the windows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wahub.domain.ids import ChatId, InstanceId, QueueId
from wahub.domain.instance import Instance, State
from wahub.domain.outbox import OUTREACH_REASON, Entry, ItemState, Priority
from wahub.domain.pacing import HOUR, MINUTE, Pace, TypingPolicy, Waiting, forecast, typing_time
from wahub.ports.store import Counters, Tx
from wahub.services.known import known


@dataclass(frozen=True, slots=True)
class QueueItem:
    """One waiting item. `next_attempt_at` is when it will be claimed if nothing goes wrong (Unix seconds).

    None: nobody can say, because it is held or stands behind one that is.
    """

    entry: Entry
    next_attempt_at: float | None
    eligible: bool
    """Whether its turn is now (contract C.3); a typing indicator may come before the claim."""


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue, in the order of the line."""

    state: State
    depth: int
    sending: bool
    items: tuple[QueueItem, ...]


@dataclass(frozen=True, slots=True)
class StatusView:
    """An instance with its counters; `minute` and `hour` are the claims inside the rolling windows."""

    instance: Instance
    depth: int
    sending: bool
    counters: Counters
    minute: int
    hour: int
    outreach_locked: bool
    """Whether WhatsApp's outreach lock puts off something that waits."""


def overview(tx: Tx, wanted: InstanceId, now: float, pace: Pace, typing: TypingPolicy) -> QueueView:
    """The queue of an instance with times computed from positions and windows. Raises InstanceNotFoundError."""
    instance = known(tx, wanted)
    entries = tx.line.unsettled(wanted)
    claims = [] if pace.unlimited else tx.keys.claims_since(wanted, now - HOUR)
    stuck = _stuck(entries)
    waiting = [_waiting(entry, instance, typing) for entry in entries if _waits(entry) and entry.id not in stuck]
    times = forecast(waiting, claims, now, pace)
    turns = {item.id: times[item.id] - item.typing for item in waiting if item.id in times}
    items = tuple(
        QueueItem(
            entry,
            None if entry.id in stuck else max(times.get(entry.id, now), now),
            entry.id not in stuck and turns.get(entry.id, float("inf")) <= now,
        )
        for entry in entries
        if not entry.gave_up
    )
    return QueueView(instance.observed.state, tx.line.depth(wanted), _is_sending(entries), items)


def status(tx: Tx, wanted: InstanceId, now: float) -> StatusView:
    """The figures of `GET …/status`. Raises InstanceNotFoundError."""
    instance = known(tx, wanted)
    claims = tx.keys.claims_since(wanted, now - HOUR)
    entries = tx.line.unsettled(wanted)
    return StatusView(
        instance=instance,
        depth=sum(not entry.gave_up for entry in entries),
        sending=_is_sending(entries),
        counters=tx.tally.counters(wanted, now),
        minute=sum(at > now - MINUTE for at in claims),
        hour=len(claims),
        outreach_locked=any(entry.last_error == OUTREACH_REASON and not entry.gave_up for entry in entries),
    )


def _is_sending(entries: Sequence[Entry]) -> bool:
    return any(entry.state is ItemState.SENDING for entry in entries)


def _stuck(entries: Sequence[Entry]) -> set[QueueId]:
    """Held items, and what joined the line of their chat and priority after them."""
    lines: set[tuple[ChatId, Priority]] = set()
    stuck: set[QueueId] = set()
    for entry in entries:
        line = (entry.chat, entry.priority)
        if entry.state is ItemState.HELD:
            lines.add(line)
        if line in lines:
            stuck.add(entry.id)
    return stuck


def _waits(entry: Entry) -> bool:
    return entry.state in (ItemState.QUEUED, ItemState.UNKNOWN) and not entry.gave_up


def _waiting(entry: Entry, instance: Instance, typing: TypingPolicy) -> Waiting:
    config = instance.config
    types = typing.enabled and config.typing_enabled and entry.typing and not entry.chat.is_group
    types = types and entry.audience in config.apply_typing_to
    return Waiting(
        id=entry.id,
        line=(str(entry.chat), str(entry.priority)),
        high=entry.priority is Priority.HIGH,
        ready_at=entry.next_attempt_at,
        joined_at=entry.joined_at,
        typing=typing_time(entry.id, typing) if types else 0.0,
    )
