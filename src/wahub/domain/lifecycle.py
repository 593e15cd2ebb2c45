"""What an instance went through: the part of its record that only its lifecycle reads and writes.

`domain/instance.py` has what every request reads; this is what timers and decisions need to survive a restart of the
gateway, and what `GET …/diagnostics` tells. Times are Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from wahub.domain.ids import InstanceId
from wahub.domain.instance import AT_REST, Event, Observed, State


class Ask(StrEnum):
    """What a caller asked of an instance's worker; the latest stands."""

    SOFT_RESTART = "soft_restart"
    HARD_RESTART = "hard_restart"
    RETRY = "retry"
    PAIRING_CODE = "pairing_code"


class IncidentKind(StrEnum):
    """What somebody should know of (an alert)."""

    MAX_RECONNECT_ATTEMPTS = "max_reconnect_attempts"
    LOGGED_OUT = "logged_out"
    BANNED = "banned"
    REPLACED = "connection_replaced"
    MULTIDEVICE_MISMATCH = "multidevice_mismatch"
    BAD_SESSION = "bad_session"
    CREDENTIALS_UNREADABLE = "credentials_unreadable"
    RESTART_LIMIT = "restart_limit"
    CONNECTED_MUTE = "connected_mute"
    READY_TIMEOUT = "ready_timeout"
    RESTART_FAILED = "restart_failed"
    INIT_FAILED = "init_failed"
    RESTORE_FAILED = "restore_failed"
    QR_TIMEOUT = "qr_timeout"
    MESSAGE_REFUSED = "message_refused"
    MESSAGES_MISSED = "messages_missed"
    WEBHOOK_PAUSED = "webhook_paused"
    WEBHOOK_DISABLED = "webhook_disabled"


@dataclass(frozen=True, slots=True)
class Incident:
    """One alert about an instance. `details` never holds a number, a text or a secret."""

    kind: IncidentKind
    details: str
    at: float


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The lifecycle record of one instance; one that was never written is all defaults."""

    instance: InstanceId

    # Pairing.
    needs_qr_since: float | None = None
    last_qr_at: float | None = None
    qr_received_during_restart: bool = False
    qr_recovery_attempts: int = 0
    qr_recovery_at: float | None = None
    qr_rounds_left: int | None = None
    """Rounds of codes that may still begin without somebody asking; None: as many as contract B.7 gives."""
    credentials_dead: bool = False
    """WhatsApp refused the stored credentials for good; they are cleared before the next pairing begins."""
    pairing_phone: str | None = field(default=None, repr=False)
    pairing_code: str | None = field(default=None, repr=False)
    pairing_code_expires_at: float | None = None
    pairing_error: str | None = None
    last_auth_failure_at: float | None = None

    # Getting ready.
    ready_watchdog_at: float | None = None
    """Since when the account is being made ready; None while nothing is awaited."""
    ready_timed_out: bool = False
    """The soft restart that each authentication gets was used."""
    ready_source: str | None = None
    authenticated_to_ready_ms: int | None = None
    """How long the account took from the scan to its first ready."""
    ready_poll_attempts: int = 0
    last_ready_poll_error: str | None = None
    connecting_watchdog_at: float | None = None
    connecting_watchdog_restarts: int = 0

    # Endings.
    paused_until: float | None = None
    """When a pause ends by itself; None in `paused` means: by a request only."""
    pause_reason: str | None = None
    restricted_until: float | None = None
    restarts: tuple[float, ...] = ()
    """When links that had been ready were lost, as far as the restart window looks back."""
    last_restart_at: float | None = None
    restart_count: int = 0
    replaced_at: float | None = None
    bad_sessions: int = 0
    quick_restarts: int = 0
    """Restarts that WhatsApp required (515) without a steady link between them."""
    last_error_at: float | None = None
    told_ready: bool = False
    """Callers were told `ready`, and not since that it is over."""

    # Liveness.
    mute_since: float | None = None
    mute_evidence: str | None = None
    mutes: int = 0
    reconnects: int = 0
    """How often a link that was up was lost."""
    health_checked_at: float | None = None
    caught_up_at: float | None = None
    """When this link had reported all that waited for it; None until then."""
    account_since: float = 0.0
    """Since when the present number is linked, if another was before: what that one received is not shown any more."""
    last_gap_at: float | None = None
    """When a message was last found to be missing."""

    incidents: tuple[tuple[str, int], ...] = ()
    """How many incidents there were of each kind; of a kind that a later version wrote, too."""

    # What callers ask for.
    asked: Ask | None = None
    asked_at: float | None = None

    def counting(self, kind: IncidentKind) -> Lifecycle:
        """The record with one more incident of that kind."""
        counts = dict(self.incidents)
        counts[kind.value] = counts.get(kind.value, 0) + 1
        return replace(self, incidents=tuple(sorted(counts.items())))


@dataclass(frozen=True, slots=True)
class QrPolicy:
    """Contract B.7; seconds."""

    stale: float = 90.0
    ttl: float = 300.0
    attempts: int = 3
    backoff: tuple[float, ...] = (10.0, 30.0, 60.0)
    every: float = 10.0

    def wait_before(self, attempt: int) -> float:
        """Seconds between what came last and attempt 1, 2, …; the last figure also before giving up."""
        return self.backoff[min(attempt, len(self.backoff)) - 1] if self.backoff else 0.0


class QrStep(StrEnum):
    """What to do about an instance that waits for a scan."""

    NOTHING = "nothing"
    RELOAD = "reload"
    """A new link."""
    RECREATE = "recreate"
    """A new lease term and a new link: nothing of the old one is left."""
    GIVE_UP = "give_up"


def qr_step(observed: Observed, record: Lifecycle, policy: QrPolicy, now: float) -> QrStep:
    """Contract B.7. No attempt ever purges session material, so 'log out and recreate' is 'recreate' here: an account
    that was never linked has nothing to log out of.
    """
    if observed.state is not State.NEEDS_QR:
        return QrStep.NOTHING
    since = record.needs_qr_since if record.needs_qr_since is not None else observed.state_at
    old = now - since > policy.ttl
    seen = record.last_qr_at
    alive = observed.qr_expires_at is not None and now < observed.qr_expires_at
    if not old and seen is not None and (alive or now - seen <= policy.stale):
        return QrStep.NOTHING
    if record.qr_rounds_left is not None and (record.qr_rounds_left == 0 or seen is not None):
        # Nothing begins by itself here: only its age ends it.
        return QrStep.GIVE_UP if old else QrStep.NOTHING
    attempt = record.qr_recovery_attempts + 1
    last = max(since, record.qr_recovery_at or 0.0)
    if now - last < policy.wait_before(attempt):
        return QrStep.NOTHING
    if attempt > policy.attempts:
        return QrStep.GIVE_UP
    return QrStep.RELOAD if attempt == 1 else QrStep.RECREATE


def entered(record: Lifecycle, before: State, after: State, event: Event, now: float) -> Lifecycle:
    """The record after a move; rules 3 and 4 of contract B.2."""
    if after is State.NEEDS_QR and before is not State.NEEDS_QR:
        record = replace(
            record,
            needs_qr_since=now,
            last_qr_at=None,
            qr_recovery_attempts=0,
            qr_recovery_at=None,
            connecting_watchdog_at=None,
        )
    elif before is State.NEEDS_QR and after is not State.NEEDS_QR:
        record = replace(
            record,
            needs_qr_since=None,
            qr_rounds_left=None,
            pairing_phone=None,
            pairing_code=None,
            pairing_code_expires_at=None,
            pairing_error=None,
        )
    if after is State.READY and event is Event.OPENED:
        record = replace(
            record,
            ready_watchdog_at=None,
            ready_timed_out=False,
            connecting_watchdog_at=None,
            connecting_watchdog_restarts=0,
            paused_until=None,
            pause_reason=None,
            restricted_until=None,
            bad_sessions=0,
            mute_since=None,
            mute_evidence=None,
            credentials_dead=False,
        )
    if after in AT_REST and before is not after:
        record = replace(record, ready_watchdog_at=None, connecting_watchdog_at=None)
    if after is State.PAUSED:
        record = replace(record, connecting_watchdog_at=None)
    elif before is State.PAUSED:
        # Nobody tried to get ready during the pause.
        watched = None if record.ready_watchdog_at is None else now
        record = replace(record, paused_until=None, pause_reason=None, ready_watchdog_at=watched)
    return record
