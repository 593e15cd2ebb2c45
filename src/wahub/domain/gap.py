"""Gaps: messages that WhatsApp says are there, and that were not read."""

from __future__ import annotations

from dataclasses import replace

from wahub.domain.lifecycle import Lifecycle

BURST = 600.0
"""Seconds. Gaps that follow each other more closely are one alert: whoever looks after the first sees them all."""


def note(record: Lifecycle, now: float) -> tuple[Lifecycle, bool]:
    """The record after a gap, and whether a burst begins with it."""
    last = record.last_gap_at
    # A clock that was set back ends a burst, too.
    begins = last is None or not 0 <= now - last < BURST
    return replace(record, last_gap_at=now), begins


def of_queue(announced: int | None, received: int) -> int:
    """How many messages of the server's queue did not come, as far as it said how many there are."""
    return 0 if announced is None else max(announced - received, 0)
