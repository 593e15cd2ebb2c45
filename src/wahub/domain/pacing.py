"""Pacing: rolling windows and spacing, as arithmetic.

A slot is taken when an item is claimed for the wire, whatever comes of it. Windows are pruned when they are read,
from stored claims, so they hold across restarts. 0 means unlimited (contract 0.11).
"""

from __future__ import annotations

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
