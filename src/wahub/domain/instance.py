"""The life of an instance: states, what may happen in each, and why links end.

The rules, in words (contract B and 0.12):

- An instance is *wanted* (someone created it and nobody deleted it) and has an *observed* state; this table moves
  the latter.
- `needs_qr` means only: never paired, or WhatsApp said that the credentials are dead. Loss of network never leads
  there.
- A QR code in `ready`, or while an authenticated link still connects, is spurious and changes nothing.
- `ready` comes only from an opened link.

`TRANSITIONS` says it all; anything else raises `IllegalTransitionError`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from wahub.domain.errors import IllegalTransitionError
from wahub.domain.ids import InstanceId


class State(StrEnum):
    """Observed state (contract B.1; a socket engine never shows `starting_browser`)."""

    CONNECTING = "connecting"
    NEEDS_QR = "needs_qr"
    READY = "ready"
    DISCONNECTED = "disconnected"
    PAUSED = "paused"
    RESTRICTED = "restricted"
    ERROR = "error"
    FAILED_QR_TIMEOUT = "failed_qr_timeout"


class Event(StrEnum):
    """What moves an instance."""

    LINK_STARTED = "link_started"
    QR = "qr"
    QR_ENDED = "qr_ended"
    PAIRED = "paired"
    OPENED = "opened"
    LINK_LOST = "link_lost"
    RESTART_REQUIRED = "restart_required"
    LOGGED_OUT = "logged_out"
    REPLACED = "replaced"
    BANNED = "banned"
    RETRY = "retry"


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
    BANNED = "banned"
    TIMED_OUT = "timed_out"
    MULTIDEVICE_MISMATCH = "multidevice_mismatch"
    CONNECTION_CLOSED = "connection_closed"
    REPLACED = "replaced"
    BAD_SESSION = "bad_session"
    UNAVAILABLE = "unavailable"
    RESTART_REQUIRED = "restart_required"
    QR_EXPIRED = "qr_expired"
    """All pairing codes of one round were shown and none was scanned."""
    TERM_EXPIRED = "term_expired"
    """The engine closed the link because its lease term was not extended."""
    ENGINE_DIED = "engine_died"
    CLOSED_BY_US = "closed_by_us"
    RECYCLED = "recycled"
    """We ended it on purpose, to open another at once: the process was swollen, or a caller or a timer asked."""
    CREDENTIALS_UNREADABLE = "credentials_unreadable"
    """What the store holds is no session: trying again changes nothing."""
    UNKNOWN = "unknown"

    @property
    def event(self) -> Event:
        """The transition event that this reason stands for."""
        return _EVENT_OF.get(self, Event.LINK_LOST)


_EVENT_OF = {
    Disconnect.LOGGED_OUT: Event.LOGGED_OUT,
    Disconnect.MULTIDEVICE_MISMATCH: Event.LOGGED_OUT,
    Disconnect.BANNED: Event.BANNED,
    Disconnect.REPLACED: Event.REPLACED,
    Disconnect.RESTART_REQUIRED: Event.RESTART_REQUIRED,
    Disconnect.QR_EXPIRED: Event.QR_ENDED,
}

_RECONNECTING = {
    Event.LINK_STARTED: State.CONNECTING,
    Event.QR: State.NEEDS_QR,
    Event.PAIRED: State.CONNECTING,
    Event.OPENED: State.READY,
    Event.LINK_LOST: State.DISCONNECTED,
    Event.RESTART_REQUIRED: State.CONNECTING,
    Event.LOGGED_OUT: State.NEEDS_QR,
    Event.REPLACED: State.PAUSED,
    Event.BANNED: State.RESTRICTED,
    Event.QR_ENDED: State.NEEDS_QR,
}

TRANSITIONS: dict[State, dict[Event, State]] = {
    State.CONNECTING: _RECONNECTING,
    State.DISCONNECTED: _RECONNECTING,
    State.PAUSED: _RECONNECTING,
    State.READY: {
        # The end of the last link was not written down: its worker died, or the store failed at that moment.
        Event.LINK_STARTED: State.CONNECTING,
        Event.QR: State.READY,
        Event.OPENED: State.READY,
        Event.LINK_LOST: State.DISCONNECTED,
        Event.RESTART_REQUIRED: State.CONNECTING,
        Event.LOGGED_OUT: State.NEEDS_QR,
        Event.REPLACED: State.PAUSED,
        Event.BANNED: State.RESTRICTED,
    },
    State.NEEDS_QR: {
        Event.LINK_STARTED: State.NEEDS_QR,
        Event.QR: State.NEEDS_QR,
        Event.QR_ENDED: State.NEEDS_QR,
        Event.PAIRED: State.CONNECTING,
        Event.OPENED: State.READY,
        Event.LINK_LOST: State.NEEDS_QR,
        Event.RESTART_REQUIRED: State.CONNECTING,
        Event.LOGGED_OUT: State.NEEDS_QR,
        Event.REPLACED: State.PAUSED,
        Event.BANNED: State.RESTRICTED,
    },
    State.RESTRICTED: {
        Event.LINK_STARTED: State.CONNECTING,
        Event.BANNED: State.RESTRICTED,
        # A caller unlinks it, to pair another account.
        Event.LOGGED_OUT: State.NEEDS_QR,
    },
    State.ERROR: {Event.RETRY: State.CONNECTING},
    State.FAILED_QR_TIMEOUT: {Event.RETRY: State.CONNECTING},
}

_PUBLIC = {
    State.READY: "ready",
    State.CONNECTING: "initializing",
    State.NEEDS_QR: "qr",
    State.RESTRICTED: "restricted",
    State.PAUSED: "paused",
}


def transition(state: State, event: Event) -> State:
    """The state after `event`; IllegalTransitionError if the table has no such move."""
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
