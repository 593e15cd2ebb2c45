"""Pacing: rolling windows and spacing, as arithmetic.

A slot is taken when an item is claimed for the wire, whatever comes of it. Windows are pruned when they are read,
from stored claims, so they hold across restarts. 0 means unlimited (contract 0.11).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

MINUTE = 60.0
HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of one instance: sends per rolling minute and hour, and seconds between two sends."""

    per_minute: int = 6
    per_hour: int = 60
    spacing: float = 0.5

    @property
    def unlimited(self) -> bool:
        """Whether no claim ever has to wait, so that none need be counted."""
        return not self.per_minute and not self.per_hour and not self.spacing


def next_slot(claims: Sequence[float], now: float, pace: Pace) -> float:
    """When the next claim is due: `now` or later. `claims` are past claim times of the last hour, oldest first."""
    due = now
    for limit, window in ((pace.per_minute, MINUTE), (pace.per_hour, HOUR)):
        inside = [at for at in claims if at > now - window]
        if limit and len(inside) >= limit:
            due = max(due, inside[-limit] + window)
    if claims and pace.spacing:
        due = max(due, claims[-1] + pace.spacing)
    return due


# --- typing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TypingPolicy:
    """How long a typing indicator is shown (contract C.8); seconds. `enabled` is the operator's default."""

    enabled: bool = True
    shortest: float = 0.6
    longest: float = 1.8
    cap: float = 2.5
    """Bounds typing and everything that waits for it."""


def typing_time(queue_id: str, policy: TypingPolicy) -> float:
    """How long to type before an item: spread evenly over the allowed range, and always the same for the same item.

    Drawn from the item's id (32 hex digits) instead of from chance, so that a forecast knows it.
    """
    share = int(queue_id[:8], 16) / 0xFFFFFFFF
    return min(policy.shortest + (policy.longest - policy.shortest) * share, policy.cap)


# --- forecast ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a forecast needs to know of one waiting item. `line` names its chat and priority; `typing` is in seconds."""

    id: str
    line: tuple[str, str]
    high: bool
    ready_at: float
    joined_at: float
    typing: float = 0.0


def forecast(items: Sequence[Waiting], claims: Sequence[float], now: float, pace: Pace) -> dict[str, float]:
    """When each item will be claimed if nothing goes wrong: by id, Unix seconds.

    `items` come in the order of their line. Cost: n log n. What is on the wire counts as a claim, not as an item.
    """
    lines: dict[tuple[str, str], deque[tuple[int, Waiting]]] = {}
    for number, item in enumerate(items):
        lines.setdefault(item.line, deque()).append((number, item))
    later: list[tuple[float, int, Waiting]] = []
    ripe: list[tuple[bool, float, int, Waiting]] = []

    def enter(line: tuple[str, str]) -> None:
        if lines[line]:
            number, head = lines[line].popleft()
            heapq.heappush(later, (max(head.ready_at, head.joined_at), number, head))

    for line in lines:
        enter(line)
    past = deque((at for at in claims if at > now - HOUR), maxlen=max(pace.per_hour, pace.per_minute, 1))
    at, found = now, {}
    while later or ripe:
        at = max(at, _slot(past, pace))
        if not ripe:
            at = max(at, later[0][0])
        while later and later[0][0] <= at:
            _, number, head = heapq.heappop(later)
            heapq.heappush(ripe, (not head.high, head.joined_at, number, head))
        *_, item = heapq.heappop(ripe)
        at += item.typing
        found[item.id] = at
        past.append(at)
        enter(item.line)
    return found


def _slot(past: deque[float], pace: Pace) -> float:
    """The earliest next claim that the windows allow; `past` holds as many claims as the larger window counts."""
    due = past[-1] + pace.spacing if past and pace.spacing else 0.0
    for limit, window in ((pace.per_minute, MINUTE), (pace.per_hour, HOUR)):
        if limit and len(past) >= limit:
            due = max(due, past[-limit] + window)
    return due
