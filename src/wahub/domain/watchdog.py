"""The timers of an instance (contract B.4, B.7 and 0.12), as arithmetic: which alarm rings when.

`alarms` lists every timer that runs for what is seen now, with the time at which it rings. Nobody starts or stops a
timer: a timer runs because the facts say so, and a fact that changed ends it. So a restart of the gateway needs no
timer to be saved, only the facts.

Times are Unix seconds; what a link knows by a monotonic clock is converted by whoever builds the view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from wahub.domain.instance import AT_REST, Observed, State
from wahub.domain.lifecycle import Lifecycle, QrPolicy, QrStep, qr_step
from wahub.domain.retry import Backoff

_POLL_GRACE = 5.0
"""A login takes a moment: sooner than this after the link was opened, a poll would only get in its way."""


class Alarm(StrEnum):
    """What rings, most urgent first."""

    MUTE = "mute"
    STALE = "stale"
    QR_GIVE_UP = "qr_give_up"
    QR_RECREATE = "qr_recreate"
    QR_RELOAD = "qr_reload"
    INIT_TIMEOUT = "init_timeout"
    READY_TIMEOUT = "ready_timeout"
    RESTART_TIMEOUT = "restart_timeout"
    CONNECTING_TIMEOUT = "connecting_timeout"
    CONNECT_TIMEOUT = "connect_timeout"
    READY_POLL = "ready_poll"
    HEALTH_CHECK = "health_check"
    RECYCLE = "recycle"
    LOOK = "look"
    """Nothing but a reason to look again."""


class MuteEvidence(StrEnum):
    """Why a link that seems to be up is taken for mute."""

    UNACKED_SENDS = "unacked_sends"
    UNHANDLED_MESSAGE = "unhandled_message"
    UNANSWERED_PINGS = "unanswered_pings"


@dataclass(frozen=True, slots=True)
class Timers:
    """What an operator sets; seconds."""

    connect: float = 60.0
    init: float = 120.0
    init_attempts: int = 2
    init_pause: float = 2.0
    ready_watchdog: float = 600.0
    ready_pause: float = 600.0
    ready_poll: float = 15.0
    ready_poll_first: float = 0.8
    connecting_watchdog: float = 600.0
    connecting_restarts: int = 2
    soft_restart: float = 180.0
    hard_restart: float = 180.0
    restart_backoff: Backoff = field(default_factory=lambda: Backoff(2.0, 3600.0))
    restart_waits: tuple[float, ...] = ()
    """The waits before the soft and the hard restart, instead of the backoff."""
    health_every: float = 1200.0
    inactive: float = 1800.0
    """A link without messages for longer is asked for a sign of life at its health check."""
    stale: float = 300.0
    unhandled: float = 30.0
    unanswered: float = 45.0
    unacked_sends: int = 2
    recycle_idle: float = 86_400.0
    look_every: float = 10.0
    qr: QrPolicy = field(default_factory=QrPolicy)

    def restart_wait(self, number: int) -> float:
        """Seconds before restart step 1 (soft) or 2 (hard)."""
        if self.restart_waits:
            return self.restart_waits[min(number, len(self.restart_waits)) - 1]
        return self.restart_backoff.delay(number)


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart under way: soft first, then hard."""

    hard: bool
    since: float
    asked: bool
    """A person asked, or a timer did."""


@dataclass(frozen=True, slots=True)
class LinkView:
    """What is seen of the link that is up or being opened."""

    since: float
    """When its opening began."""
    opened_at: float | None = None
    heard_at: float = 0.0
    unanswered_since: float | None = None
    unhandled_since: float | None = None
    unacked: int = 0
    """Sends in a row that got no answer in time."""
    active_at: float = 0.0
    """When the last message went or came."""
    busy: bool = False
    """Something is being sent."""
    polled_at: float | None = None
    checked_at: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """An instance as its timers see it."""

    now: float
    observed: Observed
    record: Lifecycle
    link: LinkView | None = None
    restart: Restart | None = None
    init_since: float | None = None
    """When the running attempt to set up an account that was never linked began."""
    spread: float = 0.0
    """A number in [0, 1) of this instance, so that not all links of a worker are recycled at the same time."""


def alarms(view: View, timers: Timers) -> list[tuple[float, Alarm]]:
    """Every running timer as (when it rings, what rings), soonest first; of those that ring now, most urgent first."""
    order = list(Alarm)
    found = [*_of_setup(view, timers), *_of_qr(view, timers)]
    if view.link is not None:
        found += _of_open(view, view.link, timers) if view.link.opened_at else _of_opening(view, view.link, timers)
    return sorted(found, key=lambda alarm: (max(alarm[0], view.now), order.index(alarm[1])))


def mute_evidence(view: View, timers: Timers) -> MuteEvidence | None:
    """Whether an open link is mute, by what was seen of it; never a guess."""
    link, now = view.link, view.now
    if link is None or link.opened_at is None:
        return None
    if link.unacked >= timers.unacked_sends:
        return MuteEvidence.UNACKED_SENDS
    if link.unhandled_since is not None and now - link.unhandled_since >= timers.unhandled:
        return MuteEvidence.UNHANDLED_MESSAGE
    if link.unanswered_since is not None and now - link.unanswered_since >= timers.unanswered:
        return MuteEvidence.UNANSWERED_PINGS
    return None


def _of_setup(view: View, timers: Timers) -> Iterator[tuple[float, Alarm]]:
    observed, record, state = view.observed, view.record, view.observed.state
    if state is State.READY or state is State.PAUSED:
        return
    if not observed.linked and state is State.CONNECTING and view.init_since is not None:
        yield view.init_since + timers.init, Alarm.INIT_TIMEOUT
    if record.ready_watchdog_at is not None and not record.ready_timed_out and state not in AT_REST:
        yield record.ready_watchdog_at + timers.ready_watchdog, Alarm.READY_TIMEOUT
    if record.connecting_watchdog_at is not None and state not in AT_REST:
        yield record.connecting_watchdog_at + timers.connecting_watchdog, Alarm.CONNECTING_TIMEOUT
    if view.restart is not None:
        limit = timers.hard_restart if view.restart.hard else timers.soft_restart
        yield view.restart.since + limit, Alarm.RESTART_TIMEOUT


_QR_ALARM = {
    QrStep.RELOAD: Alarm.QR_RELOAD,
    QrStep.RECREATE: Alarm.QR_RECREATE,
    QrStep.GIVE_UP: Alarm.QR_GIVE_UP,
}


def _of_qr(view: View, timers: Timers) -> Iterator[tuple[float, Alarm]]:
    if view.observed.state is not State.NEEDS_QR:
        return
    step = qr_step(view.observed, view.record, timers.qr, view.now)
    if step is QrStep.NOTHING:
        yield view.now + timers.qr.every, Alarm.LOOK
    else:
        yield view.now, _QR_ALARM[step]


def _of_opening(view: View, link: LinkView, timers: Timers) -> Iterator[tuple[float, Alarm]]:
    observed = view.observed
    if not observed.linked or observed.state is State.NEEDS_QR:
        return
    since = link.since
    scanned = observed.authenticated_at if observed.awaits_ready else None
    if scanned is not None and scanned <= view.now:
        # Before that a person had all the time that codes have, over the same link.
        since = max(since, scanned)
    yield since + timers.connect, Alarm.CONNECT_TIMEOUT
    if link.polled_at is not None:
        yield link.polled_at + timers.ready_poll, Alarm.READY_POLL
    elif scanned is not None:
        first = scanned + timers.ready_poll_first
        yield min(max(first, since + _POLL_GRACE), since + timers.ready_poll), Alarm.READY_POLL
    else:
        yield since + timers.ready_poll, Alarm.READY_POLL


def _of_open(view: View, link: LinkView, timers: Timers) -> Iterator[tuple[float, Alarm]]:
    if link.opened_at is None:
        return
    if mute_evidence(view, timers) is not None:
        yield view.now, Alarm.MUTE
    yield link.heard_at + timers.stale, Alarm.STALE
    yield max(link.checked_at or 0.0, link.opened_at) + timers.health_every, Alarm.HEALTH_CHECK
    if timers.recycle_idle and not link.busy:
        idle_since = max(link.active_at, link.opened_at)
        yield idle_since + timers.recycle_idle * (1 + 0.1 * view.spread), Alarm.RECYCLE
    yield view.now + timers.look_every, Alarm.LOOK
