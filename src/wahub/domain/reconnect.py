"""What follows when a link ends (contract B.5, B.6 and 0.12): one pure decision, `after_close`.

In words:

- Losing the network is not losing the session. Attempts go on for ever; after the fast ones there is one incident.
- The credentials are dead when WhatsApp says so (401, 411, or 500 again and again at the login). Then, and only then,
  an instance that was linked waits for a scan again.
- A link that was ready and is lost counts once in the restart window, however many attempts its return takes; too
  many are followed by a long pause. A server that cannot be reached, and a death of our own engine process, do not
  count.
- Another client that took the session over is left alone for a minute; the second time within ten, until someone asks.
- A ban ends attempts until someone asks, at the earliest when the restriction is over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from wahub.domain.instance import AT_REST, Disconnect, Event, Observed, Stage, State
from wahub.domain.lifecycle import IncidentKind, Lifecycle
from wahub.domain.retry import Backoff, ReconnectLadder

_STEADY = 60.0
"""Seconds after which a link that was up is not part of a loop any more."""
_QUICK_RESTARTS = 5
_EXHAUSTED_WAIT = 5.0
RESTART_SPREAD = 30.0
_DEAD = (Disconnect.LOGGED_OUT, Disconnect.MULTIDEVICE_MISMATCH)


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """What an operator sets; seconds."""

    ladder: ReconnectLadder = field(default_factory=ReconnectLadder)
    pairing: Backoff = field(default_factory=lambda: Backoff(2.0, 30.0))
    pairing_attempts: int = 10
    auto: bool = True
    """Whether links that were lost come back by themselves (DISABLE_AUTO_RECONNECT)."""
    cooldown: float | None = None
    """A pause before the ladder begins; None: the ladder begins at once, as fits a socket (contract I-8)."""
    restarts: int = 4
    """Lost links within `window` that are followed by another attempt at once; 0: no limit."""
    window: float = 600.0
    limit_extra: float = 3600.0
    restricted: float = 72 * 3600.0
    replaced_wait: float = 60.0
    replaced_window: float = 600.0
    exhausted_needs_qr: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a link ended. `unit` is a random number in [0, 1)."""

    reason: Disconnect
    stage: Stage
    at: float
    unit: float
    cooldown: float | None = None
    """A pause that this ending asks for, whatever the policy says."""
    refused: bool = False
    """The server refused the login itself."""


@dataclass(frozen=True, slots=True)
class Next:
    """What follows. `wait` is in seconds; None: no attempt before someone asks."""

    event: Event
    wait: float | None
    record: Lifecycle
    attempts: int
    """Failed attempts in a row, this one included."""
    incident: IncidentKind | None = None
    purge: bool = False
    keep_qr: bool = False
    counts: bool = True
    """Whether the ending is shown as a disconnect and an error."""


def after_close(observed: Observed, record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Next:
    """Decide. `observed` and `record` are as before the link ended."""
    if observed.state in AT_REST and ended.reason not in _DEAD:
        # A link that was still closing when it was given up: only a request goes on from here.
        return Next(Event.LINK_LOST, None, record, observed.restart_attempts, counts=False)
    match ended.reason:
        case Disconnect.RECYCLED if observed.state is State.NEEDS_QR:
            return Next(Event.QR_ENDED, 0.0, record, 0, counts=False)
        case Disconnect.RECYCLED:
            return Next(Event.RESTART_REQUIRED, 0.0, record, observed.restart_attempts, counts=False)
        case Disconnect.TERM_EXPIRED:
            # Our own lease ran out; the next term may go on at once.
            return Next(Event.LINK_LOST, 0.0, record, observed.restart_attempts)
        case Disconnect.RESTART_REQUIRED:
            return _restart_required(observed, record, ended, policy)
        case Disconnect.QR_EXPIRED:
            return _qr_ended(observed, record)
        case Disconnect.LOGGED_OUT:
            return _logged_out(record, ended, IncidentKind.LOGGED_OUT)
        case Disconnect.MULTIDEVICE_MISMATCH:
            # No attempt with these credentials, and none with new ones before someone asks (contract B.6: 'no retry').
            dead = replace(
                record,
                credentials_dead=True,
                qr_rounds_left=0,
                last_auth_failure_at=ended.at,
                ready_watchdog_at=None,
                ready_timed_out=False,
            )
            return Next(_refused(ended), None, dead, 0, IncidentKind.MULTIDEVICE_MISMATCH)
        case Disconnect.BANNED:
            held = replace(record, restricted_until=ended.at + policy.restricted)
            return Next(Event.RESTRICTED, None, held, 0, IncidentKind.BANNED)
        case Disconnect.REPLACED:
            return _replaced(record, ended, policy)
        case Disconnect.CREDENTIALS_UNREADABLE:
            return Next(Event.FAILED, None, record, 0, IncidentKind.CREDENTIALS_UNREADABLE)
        case Disconnect.BAD_SESSION if ended.stage is not Stage.UNREACHED and observed.linked:
            return _bad_session(observed, record, ended, policy)
        case _:
            return _lost(observed, record, ended, policy)


def _refused(ended: Ended) -> Event:
    """A refusal at the login is a failed authentication; of a link that was up it is a logout."""
    return Event.LOGGED_OUT if ended.stage is Stage.OPEN else Event.AUTH_FAILED


def _restart_required(observed: Observed, record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Next:
    steady = ended.stage is Stage.OPEN and ended.at - (observed.ready_at or ended.at) >= _STEADY
    count = 1 if steady else record.quick_restarts + 1
    if count > _QUICK_RESTARTS:
        # It promises that the next login works; when it did not for a while, believe it no more.
        return _lost(observed, record, ended, policy)
    wait = (0.0, 0.0, 1.0, 2.0)[min(count, 3)]
    moved = replace(record, quick_restarts=count)
    return Next(Event.RESTART_REQUIRED, wait, moved, observed.restart_attempts, counts=False)


def _qr_ended(observed: Observed, record: Lifecycle) -> Next:
    if observed.state is not State.NEEDS_QR:
        return Next(Event.LINK_LOST, 0.0, record, observed.restart_attempts, counts=False)
    left = record.qr_rounds_left
    if left is None:
        return Next(Event.QR_ENDED, 0.0, record, 0, counts=False)
    if left > 1:
        return Next(Event.QR_ENDED, 0.0, replace(record, qr_rounds_left=left - 1), 0, counts=False)
    ended = replace(record, qr_rounds_left=0)
    return Next(Event.QR_GIVEN_UP, None, ended, 0, IncidentKind.QR_TIMEOUT, counts=False)


def _logged_out(record: Lifecycle, ended: Ended, kind: IncidentKind) -> Next:
    """The keys are dead: purged, and one fresh pairing shows a code (contract I-10)."""
    event = _refused(ended)
    failed_at = ended.at if event is Event.AUTH_FAILED else record.last_auth_failure_at
    fresh = replace(
        record,
        qr_rounds_left=1,
        last_auth_failure_at=failed_at,
        bad_sessions=0,
        credentials_dead=False,
        ready_watchdog_at=None,
        ready_timed_out=False,
    )
    return Next(event, 0.0, fresh, 0, kind, purge=True)


def _replaced(record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Next:
    again = record.replaced_at is not None and 0 <= ended.at - record.replaced_at < policy.replaced_window
    until = None if again else ended.at + policy.replaced_wait
    moved = replace(record, replaced_at=ended.at, paused_until=until, pause_reason="replaced")
    incident = IncidentKind.REPLACED if again else None
    return Next(Event.REPLACED, None if again else policy.replaced_wait, moved, 0, incident)


def _bad_session(observed: Observed, record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Next:
    count = record.bad_sessions + 1
    fast = policy.ladder.fast
    if ended.refused and count >= fast and observed.restart_attempts >= fast:
        return _logged_out(record, ended, IncidentKind.BAD_SESSION)
    return _lost(observed, replace(record, bad_sessions=count), ended, policy)


def _lost(observed: Observed, record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Next:
    """The network, the server or our own process failed."""
    if not observed.linked or observed.state in (State.NEEDS_QR, State.FAILED_QR_TIMEOUT):
        return _pairing_lost(observed, record, ended, policy)
    if not policy.auto:
        return Next(Event.LINK_LOST, None, record, observed.restart_attempts)
    was_ready = observed.state is State.READY
    if was_ready:
        record = _remember(record, ended, policy)
        if policy.restarts and len(record.restarts) > policy.restarts:
            return _limited(record, ended, policy)
        cooldown = policy.cooldown if ended.cooldown is None else ended.cooldown
        if cooldown:
            paused = replace(record, paused_until=ended.at + cooldown, pause_reason="cooldown")
            return Next(Event.COOLDOWN, cooldown, paused, 0)
    attempts = 1 if was_ready else observed.restart_attempts + 1
    wait = policy.ladder.delay(attempts, ended.unit)
    if attempts == policy.ladder.fast + 1:
        incident = IncidentKind.MAX_RECONNECT_ATTEMPTS
        if policy.exhausted_needs_qr:
            return Next(Event.EXHAUSTED, _EXHAUSTED_WAIT, record, attempts, incident)
        return Next(Event.LINK_LOST, wait, record, attempts, incident)
    return Next(Event.LINK_LOST, wait, record, attempts)


def _remember(record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Lifecycle:
    """Count the lost link in the restart window, unless it was our own process that died.

    What lies in the future was written before the clock was set back: it says nothing about the last minutes.
    """
    recent = tuple(at for at in record.restarts if 0 <= ended.at - at < policy.window)
    if ended.reason is not Disconnect.ENGINE_DIED and ended.stage is not Stage.UNREACHED:
        recent = (*recent, ended.at)
    return replace(record, restarts=recent)


def _limited(record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Next:
    wait = policy.window + policy.limit_extra + RESTART_SPREAD * ended.unit
    paused = replace(record, paused_until=ended.at + wait, pause_reason="restart_limit")
    return Next(Event.LIMIT_REACHED, wait, paused, 0, IncidentKind.RESTART_LIMIT)


def _pairing_lost(observed: Observed, record: Lifecycle, ended: Ended, policy: ReconnectPolicy) -> Next:
    """Nothing is linked that could be lost. The code that is shown stays; another follows."""
    attempts = observed.restart_attempts + 1
    # Before the first code, the time for setting it up is what ends the attempts.
    goes_on = attempts <= policy.pairing_attempts or observed.state is State.CONNECTING
    wait = policy.pairing.delay(attempts) if goes_on else None
    if ended.reason is Disconnect.ENGINE_DIED:
        wait = policy.ladder.base
    event = Event.PAIRING_LOST if observed.state in (State.CONNECTING, State.NEEDS_QR) else Event.LINK_LOST
    return Next(event, wait, record, attempts, keep_qr=True)
