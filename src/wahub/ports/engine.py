"""The seam to the libraries that speak WhatsApp.

An *engine* makes links; a *link* is one live connection of one instance, and is never reused: after `Closed` its
owner opens a new one. The engine never decides to reconnect, to purge or to resend; it reports, and the runtime
decides.

Who may call what: only the worker that holds the instance's lease opens a link, and every link carries that lease's
epoch. The engine closes a link by itself when its term (`LinkSpec.trusted_until`, extended by `Link.extend`) runs
out, so a frozen worker cannot leave a socket behind that still sends.

Key material is asked for and written through the `KeyVault` that the opener passes in. `KeyVault.write` returns when
the change is durable, and the engine puts no frame on the wire that depends on a ratchet step before that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from wahub.domain.ids import ChatId, InstanceId, MessageId
from wahub.domain.inbox import PollKey
from wahub.domain.instance import Disconnect, EngineOptions, Stage
from wahub.domain.media import MediaRef
from wahub.domain.message import Content
from wahub.domain.outbox import SendAcked, SendNotStarted, SendRefused, SendResult, SendUncertain
from wahub.domain.session import KeyChanges, KeyName

__all__ = [
    "LOGIN_REFUSED",
    "Acked",
    "CaughtUp",
    "Closed",
    "Engine",
    "Fetched",
    "Inbound",
    "KeyVault",
    "Link",
    "LinkEvent",
    "LinkSpec",
    "LinkVitals",
    "Mapped",
    "MediaRef",
    "Missed",
    "Opened",
    "OwnIdentity",
    "Paired",
    "PairingCode",
    "PollKey",
    "PresenceSeen",
    "Probe",
    "QrShown",
    "Receipted",
    "SendAcked",
    "SendNotStarted",
    "SendRefused",
    "SendResult",
    "SendUncertain",
]


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """What a link is opened for. `trusted_until` is in seconds of `time.monotonic()` of this process."""

    instance: InstanceId
    epoch: int
    trusted_until: float
    proxy: str | None = field(default=None, repr=False)
    """`http://`, `https://` or `socks5://` URL, with its password; all traffic of the link goes through it."""
    options: EngineOptions = field(default_factory=EngineOptions)


@dataclass(frozen=True, slots=True)
class LinkVitals:
    """Signs of life of a link, at most a few seconds old. Times are monotonic seconds of this process."""

    heard_at: float
    """When the last frame of any kind came from the server, keep-alives included."""
    unanswered_since: float | None = None
    """Since when a keep-alive of ours waits for its answer."""
    unhandled_since: float | None = None
    """Since when a received message is neither reported nor refused: the oldest of them. Messages are handled one after
    the other, and each counts from its turn: a long queue that moves is no sign of a stuck link."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What asking the server came to. `logged_in`: it has accepted the account; `answered`: it answered a ping now."""

    logged_in: bool
    answered: bool


@dataclass(frozen=True, slots=True)
class PairingCode:
    """Eight characters to type into the phone (shown as XXXX-XXXX), good for `ttl` seconds. Never logged."""

    code: str = field(repr=False)
    ttl: float


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """Who the account is: phone digits, its LID digits (or None), the push name (or None)."""

    phone: str
    lid: str | None
    name: str | None


# --- what a link reports ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QrShown:
    """A pairing code to show.

    `text` is what the QR picture encodes; it dies after `ttl` seconds or with the next one.
    """

    text: str
    ttl: float


@dataclass(frozen=True, slots=True)
class Paired:
    """A phone scanned the code: credentials exist now. The engine will close with `Disconnect.RESTART_REQUIRED`."""

    me: OwnIdentity


@dataclass(frozen=True, slots=True)
class Opened:
    """Logged in and usable. `polled`: the library did not say so by itself; a probe found out."""

    me: OwnIdentity
    polled: bool = False


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The server's offline queue has been drained: what was sent to us while away has been reported.

    `offline_count` counts all that was in it. Of messages `announced` were to come (None: the server did not say), and
    `received` came: fewer than announced is a gap.
    """

    offline_count: int
    announced: int | None = None
    received: int = 0


@dataclass(frozen=True, slots=True)
class Missed:
    """A message came that cannot be read, and its text is not known. It may still come, under the same id.

    `chat` and `sender` are JIDs, `why` a constant word, `at` Unix seconds. May be told again.
    """

    message_id: MessageId
    chat: str
    sender: str
    why: str
    at: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """It was learned that this number and this LID (digits) are one person."""

    phone: str
    lid: str


@dataclass(frozen=True, slots=True)
class PresenceSeen:
    """Somebody is there or types: available, unavailable, composing, recording or paused. Only while watched.

    `chat` and `sender` are JIDs; `last_seen` is Unix seconds, where the person tells it.
    """

    chat: str
    sender: str
    sender_phone: str | None
    sender_lid: str | None
    state: str
    last_seen: int | None = None


@dataclass(frozen=True, slots=True)
class Acked:
    """The server answered a message of ours when nobody waited for it any more: the evidence of contract 0.5.

    `error` is None when it took the message, else its code (463, 479, …). An answer that comes in time is the result of
    `Link.send` and is not reported here.
    """

    message_id: MessageId
    error: int | None


@dataclass(frozen=True, slots=True)
class Receipted:
    """A receipt for messages of ours. `kind`: delivered, read, played, retry, sender, inactive or server-error."""

    message_ids: tuple[MessageId, ...]
    kind: str
    chat: str
    at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A decrypted message, durable in the engine's spool until `Link.ack_inbound(seq)`. May be reported again after a
    crash.

    `body` is plain data: `message_id`, `chat` (JID), `chat_phone` and `chat_lid` (digits or None: of the partner in a
    direct chat), `sender` (JID), `sender_phone` and `sender_lid` (digits or None), `from_me`, `push_name`, `timestamp`
    (Unix seconds), `type` (text, image, …), `text`, `target` (the message that it is about: of a reaction, an edit, a
    delete, a vote), `details` (what the type has beside the text, in the words that callers see: docs/events.md) and
    `raw` (the WhatsApp message as JSON text).

    A vote has `poll_id` (the WhatsApp id of the poll) and `options` (the names chosen, in the order of the poll; empty
    when it was withdrawn; None when it could not be read). The types `group_update` and `call` are no messages,
    but come the same way.
    """

    seq: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Closed:
    """The last event of a link. `code` is the engine's own number, for diagnostics only; `detail` a constant word."""

    reason: Disconnect
    code: int | None
    detail: str
    stage: Stage = Stage.REACHED


LOGIN_REFUSED = "login_refused"
"""`Closed.detail` when the server answered the login itself with a refusal."""

LinkEvent = QrShown | Paired | Opened | CaughtUp | Acked | Receipted | Inbound | Missed | Mapped | PresenceSeen | Closed


# --- files of messages ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of fetching a file: `error` is None when the whole file was written and is what was sent.

    Errors: too_large, gone (no longer on WhatsApp's servers), refused, damaged, unreachable, not_open, failed. `sha256`
    is hex.
    """

    error: str | None
    size: int = 0
    sha256: str = ""


# --- the protocols ----------------------------------------------------------------------------------------------------


class KeyVault(Protocol):
    """Session material of one instance under one lease term.

    Writes are fenced: StaleLeaseError when the term is gone.
    """

    async def read(self, names: Sequence[KeyName]) -> Mapping[KeyName, bytes]:
        """The stored values; missing names are left out."""

    async def write(self, changes: KeyChanges) -> None:
        """Make all changes durable, or none."""

    async def poll(self, message_id: MessageId) -> PollKey | None:
        """What reads the votes on the poll of that id; None when no such poll is known."""

    async def sent_message(self, message_id: MessageId) -> tuple[ChatId, Content] | None:
        """What we sent under this id, for a device that asks to have it encrypted anew; None when it is not ours."""


class Link(Protocol):
    """One live connection of one instance."""

    @property
    def spec(self) -> LinkSpec: ...

    def events(self) -> AsyncIterator[LinkEvent]:
        """Everything the link reports, in order, ending after `Closed`. One consumer."""

    async def send(self, message_id: MessageId, chat: ChatId, content: Content) -> SendResult:
        """Send under this id and wait for the server's answer. Never raises for a lost link: the result says it."""

    async def show_typing(self, chat: ChatId, typing: bool) -> bool:
        """Tell the chat that somebody types, or no longer does. False if it could not be told; never raises."""

    async def exists(self, chat: ChatId) -> bool | None:
        """Whether WhatsApp knows this phone number; None when it gave no answer. Never raises."""

    @property
    def vitals(self) -> LinkVitals:
        """Its signs of life; `heard_at` is the time of opening while nothing came yet."""

    async def probe(self) -> Probe:
        """Ask the server for a sign of life, and wait at most 10 s.

        If it answers on a link that is logged in and yet was not reported open, the link opens by this:
        `Opened(polled=True)` follows as an event. Never raises.
        """

    async def pairing_code(self, phone: str) -> PairingCode:
        """A code to link by, instead of the QR code. `phone` is digits with the country code.

        PairingRefusedError when the link does not wait for pairing, or WhatsApp refuses the number.
        """

    def extend(self, trusted_until: float) -> None:
        """Lengthen the term (monotonic seconds). Shorter or past values are ignored."""

    def ack_inbound(self, *seqs: int) -> None:
        """The messages are stored: the spool may drop them."""

    def watch(self, presence: bool) -> None:
        """Whether to ask for, and report, the presence of the people who write. Off at the beginning."""

    async def fetch(self, media: MediaRef, path: Path, limit: int) -> Fetched:
        """Fetch a file of at most `limit` bytes (0: any) and write it, checked, to `path` (absolute). Never raises."""

    async def logout(self) -> None:
        """Unlink at the server (best effort, at most 5 s), then close."""

    async def close(self) -> None:
        """Close the socket and wait until it is closed. Closing twice is fine."""


class Engine(Protocol):
    """Makes links. Owns its side processes."""

    async def start(self) -> None:
        """Bring up the first process. EngineDownError when it cannot run."""

    async def open(self, spec: LinkSpec, vault: KeyVault) -> Link:
        """A new link.

        Connecting goes on in the background and is told by events. EngineDownError when no process is up.
        """

    async def forget(self, instance: InstanceId) -> None:
        """Remove what the engine keeps of an instance outside the store. Its links must be closed."""

    async def stop(self) -> None:
        """Close all links and end the processes. Stopping twice is fine."""

    @property
    def healthy(self) -> bool:
        """Whether a process is up and answers."""
