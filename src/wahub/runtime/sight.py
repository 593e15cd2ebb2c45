"""What a runner knows of its instance and its link at this moment, and how its timers see it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from wahub.domain.ids import InstanceId
from wahub.domain.instance import Instance, Observed, Stage
from wahub.domain.lifecycle import Lifecycle
from wahub.domain.watchdog import LinkView, Restart, View
from wahub.ports.clock import Clock
from wahub.ports.engine import Link
from wahub.runtime.sender import Sender
from wahub.services.lifecycle import Moved


@dataclass(slots=True)
class LinkFacts:
    """One link, from the moment its opening began.

    Times are monotonic seconds: a wall clock that is set ends no link.
    """

    link: Link
    since: float
    opened_at: float | None = None
    active_at: float = 0.0
    polled_at: float | None = None
    checked_at: float | None = None
    sender: Sender | None = None
    caught_up: bool = False
    """Its offline queue is drained."""
    reached: bool = False
    """It is known to have got through the handshake."""


class Anchors:
    """Stored times, held fast on the monotonic clock from when they are first seen: a wall clock that is set makes no
    timer ring early or late. A time that lies in the future when it is first seen counts as now, if it tells a past.
    """

    _PAST = ("ready_watchdog_at", "connecting_watchdog_at", "needs_qr_since", "last_qr_at", "qr_recovery_at")

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, float]] = {}
        """By name: the time as stored, and the same in monotonic seconds."""

    def record(self, record: Lifecycle, clock: Clock) -> Lifecycle:
        """The record with its times in Unix seconds of the wall clock as it is set now."""
        times: dict[str, Any] = {name: self._now(name, getattr(record, name), clock, past=True) for name in self._PAST}
        return replace(record, **times)

    def observed(self, observed: Observed, clock: Clock) -> Observed:
        """The same for what was observed."""
        expires_at = self._now("qr_expires_at", observed.qr_expires_at, clock, past=False)
        return observed if expires_at == observed.qr_expires_at else replace(observed, qr_expires_at=expires_at)

    def _now(self, name: str, stored: float | None, clock: Clock, *, past: bool) -> float | None:
        if stored is None:
            self._held.pop(name, None)
            return None
        offset = clock.now() - clock.monotonic()
        held = self._held.get(name)
        if held is None or held[0] != stored:
            at = min(stored - offset, clock.monotonic()) if past else stored - offset
            held = self._held[name] = (stored, at)
        return held[1] + offset


@dataclass(slots=True)
class Sight:
    """The latest of what was stored, and what only this process knows."""

    wanted: InstanceId
    instance: Instance | None = None
    record: Lifecycle = field(init=False)
    link: LinkFacts | None = None
    restart: Restart | None = None
    """Its `since` is monotonic, like `init_since`."""
    init_since: float | None = None
    init_attempts: int = 0
    last_stage: Stage | None = None
    """How far the last link got."""
    anchors: Anchors = field(default_factory=Anchors)

    def __post_init__(self) -> None:
        self.record = Lifecycle(self.wanted)

    @property
    def observed(self) -> Observed:
        return Observed() if self.instance is None else self.instance.observed

    def take(self, moved: Moved) -> None:
        """Something was stored."""
        self.instance, self.record = moved.after, moved.record

    def view(self, clock: Clock, *, with_link: bool = True) -> View:
        """As the timers see it: all times in Unix seconds."""
        offset = clock.now() - clock.monotonic()
        restart = None if self.restart is None else replace(self.restart, since=self.restart.since + offset)
        return View(
            now=clock.now(),
            observed=self.anchors.observed(self.observed, clock),
            record=self.anchors.record(self.record, clock),
            link=_link_view(self.link, offset) if self.link is not None and with_link else None,
            restart=restart,
            init_since=_moved(self.init_since, offset),
            spread=zlib.crc32(self.wanted.encode()) % 1000 / 1000,
        )


def _moved(at: float | None, offset: float) -> float | None:
    return None if at is None else at + offset


def _link_view(facts: LinkFacts, offset: float) -> LinkView:
    vitals, sender = facts.link.vitals, facts.sender
    return LinkView(
        since=facts.since + offset,
        opened_at=_moved(facts.opened_at, offset),
        heard_at=vitals.heard_at + offset,
        unanswered_since=_moved(vitals.unanswered_since, offset),
        unhandled_since=_moved(vitals.unhandled_since, offset),
        unacked=0 if sender is None else sender.unacked,
        active_at=max(facts.active_at, sender.answered_at if sender is not None else 0.0) + offset,
        busy=sender is not None and sender.busy,
        polled_at=_moved(facts.polled_at, offset),
        checked_at=_moved(facts.checked_at, offset),
    )
