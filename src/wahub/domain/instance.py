"""The life of an instance: states, what may happen in each, and why links end.

The rules, in words (contract B and 0.12):

- An instance is *wanted* (someone created it and nobody deleted it) and has an *observed* state; this table moves
  the latter.
- `needs_qr` means only: never paired, or WhatsApp said that the credentials are dead. Loss of network never leads
  there.
- A QR code in `ready`, or while an authenticated link still connects, is spurious and changes nothing.
- `ready` comes only from an opened link.
- `error`, `failed_qr_timeout` and `restricted` end by a request only; `paused` by its wake time or a request.
- Browser engines also have `starting_browser`, before `connecting`; an engine that opens a socket has nothing to start.

`TRANSITIONS` says it all (docs/states.md is drawn from it); anything else raises `IllegalTransitionError`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from wahub.domain.errors import IllegalTransitionError
from wahub.domain.ids import InstanceId


class State(StrEnum):
    """Observed state (contract B.1)."""

    CONNECTING = "connecting"
    """Set up for the first time, logging in after a scan, or on its way back to ready. Sends are queued."""
    NEEDS_QR = "needs_qr"
    """It waits for a scan: never paired, or WhatsApp said that the credentials are dead. New sends are refused."""
    READY = "ready"
    """Logged in: the queue is drained."""
    DISCONNECTED = "disconnected"
    """Its link was lost, and attempts to get it back go on. Sends are queued."""
    PAUSED = "paused"
    """No attempt for a while, or before a request. Sends are queued."""
    RESTRICTED = "restricted"
    """WhatsApp refuses the account. Nothing is tried before a request. Sends are queued."""
    ERROR = "error"
    """It failed for good; a request begins anew. Sends are queued."""
    FAILED_QR_TIMEOUT = "failed_qr_timeout"
    """Nobody scanned in time; a request begins anew. New sends are refused."""


class Event(StrEnum):
    """What moves an instance (contract B.3)."""

    LINK_STARTED = "link_started"
    """A link is being opened: at first, on one of the fast attempts, or by a restart."""
    LINK_RETRIED = "link_retried"
    """One of the slow attempts after the fast ones: nothing promises that it will do better (contract 0.12)."""
    QR = "qr"
    """There is a code to scan."""
    QR_ENDED = "qr_ended"
    """All codes of a round were shown and none was scanned."""
    QR_GIVEN_UP = "qr_given_up"
    """No more codes before a request."""
    PAIRED = "authenticated"
    """A phone scanned the code, or its owner typed ours."""
    OPENED = "ready"
    """A link is logged in."""
    LINK_LOST = "disconnected"
    """A link ended, or could not be had, and credentials are as good as before."""
    PAIRING_LOST = "pairing_lost"
    """A link of an account that is not linked yet broke: it goes on being set up."""
    COOLDOWN = "cooldown"
    """A link was lost, and a pause comes before the first attempt."""
    COOLDOWN_OVER = "cooldown_over"
    """A pause ended by itself."""
    RESTART_REQUIRED = "restart_required"
    """A link ended for another one to follow at once: after a scan, or because we wanted it so."""
    RESTART = "restart"
    """A restart begins, by a request or by a timer."""
    LOGGED_OUT = "logged_out"
    """The account was unlinked: on the phone, or by a request."""
    AUTH_FAILED = "auth_failure"
    """The login was refused: the credentials are dead."""
    REPLACED = "replaced"
    """Another client uses the session."""
    RESTRICTED = "restricted"
    """WhatsApp refuses the account."""
    LIMIT_REACHED = "restart_limit"
    """Links were lost too often within the restart window."""
    EXHAUSTED = "reconnect_exhausted"
    """The fast attempts are used up, and the operator wants a new scan then (RECONNECT_EXHAUSTED=needs_qr)."""
    READY_TIMED_OUT = "ready_timeout"
    """The account did not become ready in time."""
    FAILED = "failed"
    """What was tried failed for good."""
    RETRY = "retry"
    """A request to begin anew."""


class Stage(StrEnum):
    """How far a link got before it ended (contract 0.12 treats the two sides of the handshake differently)."""

    UNREACHED = "unreached"
    """The encrypted handshake never completed: the server, the network or the proxy was not there."""
    REACHED = "reached"
    """It completed; the account was not logged in yet."""
    OPEN = "open"
    """Logged in."""


class Disconnect(StrEnum):
    """Why a link ended (contract B.6), mapped once by each engine adapter from its own codes."""

    LOGGED_OUT = "logged_out"
    """401: the owner removed this device, or the login was refused for good."""
    BANNED = "banned"
    """403: WhatsApp refuses the account."""
    TIMED_OUT = "timed_out"
    """408: the connection broke or said nothing any more."""
    MULTIDEVICE_MISMATCH = "multidevice_mismatch"
    """411: the phone does not support linked devices as this one is linked."""
    CONNECTION_CLOSED = "connection_closed"
    """428: the server closed the connection."""
    REPLACED = "replaced"
    """440: another client uses the same session."""
    BAD_SESSION = "bad_session"
    """500: the server failed, or does not understand the session."""
    UNAVAILABLE = "unavailable"
    """503: the server has no time."""
    RESTART_REQUIRED = "restart_required"
    """515: a new connection with the same credentials is wanted, as after each pairing."""
    QR_EXPIRED = "qr_expired"
    """All pairing codes of one round were shown and none was scanned."""
    TERM_EXPIRED = "term_expired"
    """The engine closed the link because its lease term was not extended."""
    ENGINE_DIED = "engine_died"
    """Our own engine process ended."""
    CLOSED_BY_US = "closed_by_us"
    """The worker closed it: it stops, or lost the lease."""
    RECYCLED = "recycled"
    """We ended it on purpose, to open another at once: the process was swollen, or a caller or a timer asked."""
    CREDENTIALS_UNREADABLE = "credentials_unreadable"
    """What the store holds is no session: trying again changes nothing."""
    UNKNOWN = "unknown"
    """Anything else, faults of our own included."""


_RECONNECTING = {
    Event.LINK_STARTED: State.CONNECTING,
    Event.LINK_RETRIED: State.DISCONNECTED,
    Event.QR: State.NEEDS_QR,
    Event.OPENED: State.READY,
    Event.LINK_LOST: State.DISCONNECTED,
    Event.COOLDOWN: State.PAUSED,
    Event.RESTART_REQUIRED: State.CONNECTING,
    Event.RESTART: State.CONNECTING,
    Event.LOGGED_OUT: State.NEEDS_QR,
    Event.AUTH_FAILED: State.NEEDS_QR,
    Event.REPLACED: State.PAUSED,
    Event.RESTRICTED: State.RESTRICTED,
    Event.LIMIT_REACHED: State.PAUSED,
    Event.EXHAUSTED: State.NEEDS_QR,
    Event.READY_TIMED_OUT: State.PAUSED,
    Event.FAILED: State.ERROR,
}
"""What all states share in which links come and go."""

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.CONNECTING: {
        **_RECONNECTING,
        Event.PAIRED: State.CONNECTING,
        Event.PAIRING_LOST: State.CONNECTING,
    },
    State.DISCONNECTED: {
        **_RECONNECTING,
        Event.PAIRED: State.DISCONNECTED,
    },
    State.PAUSED: {
        **_RECONNECTING,
        Event.PAIRED: State.PAUSED,
        Event.COOLDOWN_OVER: State.DISCONNECTED,
    },
    State.READY: {
        # LINK_STARTED, LINK_RETRIED: the end of the last link was not written down, because its worker died or the
        # store failed at that moment.
        **_RECONNECTING,
        Event.QR: State.READY,
        Event.PAIRED: State.READY,
        Event.OPENED: State.READY,
    },
    State.NEEDS_QR: {
        Event.LINK_STARTED: State.NEEDS_QR,
        Event.LINK_RETRIED: State.NEEDS_QR,
        Event.QR: State.NEEDS_QR,
        Event.QR_ENDED: State.NEEDS_QR,
        Event.QR_GIVEN_UP: State.FAILED_QR_TIMEOUT,
        Event.PAIRED: State.CONNECTING,
        Event.OPENED: State.READY,
        Event.LINK_LOST: State.NEEDS_QR,
        Event.PAIRING_LOST: State.NEEDS_QR,
        Event.EXHAUSTED: State.NEEDS_QR,
        Event.RESTART_REQUIRED: State.CONNECTING,
        Event.LOGGED_OUT: State.NEEDS_QR,
        Event.AUTH_FAILED: State.NEEDS_QR,
        Event.REPLACED: State.PAUSED,
        Event.RESTRICTED: State.RESTRICTED,
        Event.FAILED: State.ERROR,
    },
    State.RESTRICTED: {
        Event.RESTRICTED: State.RESTRICTED,
        Event.LINK_LOST: State.RESTRICTED,
        Event.AUTH_FAILED: State.NEEDS_QR,
        # By hand only, once the restriction is over.
        Event.RESTART: State.CONNECTING,
        # A caller unlinks it, to pair another account.
        Event.LOGGED_OUT: State.NEEDS_QR,
    },
    State.ERROR: {
        Event.RETRY: State.CONNECTING,
        Event.PAIRED: State.ERROR,
        Event.LINK_STARTED: State.ERROR,
        Event.LINK_LOST: State.ERROR,
        Event.QR: State.NEEDS_QR,
        Event.OPENED: State.READY,
        Event.LOGGED_OUT: State.NEEDS_QR,
        Event.AUTH_FAILED: State.NEEDS_QR,
        Event.FAILED: State.ERROR,
    },
    State.FAILED_QR_TIMEOUT: {
        Event.RETRY: State.CONNECTING,
        # Scanned at the moment it was given up: the retry logs in. A code that was on its way then is nobody's.
        Event.PAIRED: State.FAILED_QR_TIMEOUT,
        Event.QR: State.FAILED_QR_TIMEOUT,
        Event.LINK_STARTED: State.FAILED_QR_TIMEOUT,
        Event.LINK_LOST: State.FAILED_QR_TIMEOUT,
        Event.LOGGED_OUT: State.NEEDS_QR,
        Event.AUTH_FAILED: State.NEEDS_QR,
    },
}

_WHILE_AUTHENTICATED = {State.CONNECTING: {Event.QR: State.CONNECTING}}
"""A code on a link that was paired a moment ago is spurious (contract B.3)."""

_PUBLIC = {
    State.READY: "ready",
    State.CONNECTING: "initializing",
    State.NEEDS_QR: "qr",
    State.RESTRICTED: "restricted",
    State.PAUSED: "paused",
}


ENDED: Final = frozenset({State.ERROR, State.FAILED_QR_TIMEOUT})
"""States that a retry ends."""
AT_REST: Final = ENDED | {State.RESTRICTED}
"""States that only a request ends, and no restart of the gateway (contract B.1)."""


def transition(state: State, event: Event, *, authenticated: bool = False) -> State:
    """The state after `event`; IllegalTransitionError if the table has no such move.

    `authenticated`: the account was paired and has not been ready since.
    """
    if authenticated and event in _WHILE_AUTHENTICATED.get(state, {}):
        return _WHILE_AUTHENTICATED[state][event]
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransitionError(f"{event} in state {state}") from None


def public_status(state: State) -> str:
    """The status word callers see (contract A.0); whatever is not named there is `disconnected`."""
    return _PUBLIC.get(state, "disconnected")


def accepts_sends(state: State) -> bool:
    """Whether a new send is queued (202) in this state, or refused because a scan is needed (400, contract I-5)."""
    return state not in (State.NEEDS_QR, State.FAILED_QR_TIMEOUT)


# --- the record -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine presents this instance; None leaves it to the engine."""

    device_name: str | None = None
    """What the phone's list of linked devices shows; read by WhatsApp when the account is paired."""
    mark_online: bool | None = None
    """Whether the account appears online while linked; the phone then gets no notifications of its own."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the caller set."""

    name: str
    webhook_url: str | None = None
    webhook_events: tuple[str, ...] = ()
    """Names of events to post; empty means the standard set (contract D.4)."""
    typing_enabled: bool = True
    apply_typing_to: tuple[str, ...] = ("customer",)
    proxy: str | None = field(default=None, repr=False)
    """`http://`, `https://` or `socks5://` URL, perhaps with a user and a password, which is never shown."""
    engine: EngineOptions = EngineOptions()


@dataclass(frozen=True, slots=True)
class Observed:
    """What was last seen of it. Times are Unix seconds."""

    state: State = State.CONNECTING
    state_at: float = 0.0
    phone: str | None = None
    lid: str | None = None
    display_name: str | None = None
    qr: str | None = None
    qr_expires_at: float | None = None
    last_event: str | None = None
    last_event_at: float | None = None
    last_error: str | None = None
    last_disconnect_reason: str | None = None
    last_disconnect_at: float | None = None
    authenticated_at: float | None = None
    ready_at: float | None = None
    last_ready_at: float | None = None
    restart_attempts: int = 0
    """Attempts to get a link back since it was ready."""

    @property
    def linked(self) -> bool:
        """Whether there are credentials that nobody declared dead: paired, and not logged out since."""
        return self.authenticated_at is not None

    @property
    def awaits_ready(self) -> bool:
        """Paired, and not ready since."""
        paired, ready = self.authenticated_at, self.last_ready_at
        return paired is not None and (ready is None or ready < paired)


@dataclass(frozen=True, slots=True)
class Instance:
    """One linked account."""

    id: InstanceId
    config: Config
    observed: Observed
    created_at: float
    deleting: bool = False
    """Someone asked to delete it: no new sends, no new links."""
    unlinking: bool = False
    """Someone asked to unlink it and to keep its queue."""
