"""A thread: the messages of a chat as people see them, each with what was done to it since.

What was received is kept as it came: an edit, a delete, a reaction or a vote is a row of its own that names its target.
Here they are folded into the message. Of what one person did, the latest stands, by the sender's time and then by
arrival; so it does not matter in which order things came, nor whether the message came after what was done to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wahub.domain.contact import Contact
from wahub.domain.ids import ChatId, MessageId, QueueId
from wahub.domain.message import Poll, Text
from wahub.domain.outbox import DeliveryMark, Entry, ItemState

IDENTITY_KEPT = 30 * 86_400.0
"""Seconds for which a received message is recognised when it comes again, also when its text is kept for less.

WhatsApp keeps what waits for a device for some weeks, so a second copy may come late.
"""

_NO_TIME = 253_402_300_799.0
"""The end of the year 9999: no message is younger."""


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """Where a message stands in its chat: the greatest is the newest. Of two of one second, ours is the newer.

    `at` is Unix seconds: when it was written, as the message says, or when WhatsApp took ours. `position` is the order
    of its rows in the store.
    """

    at: float
    ours: bool
    position: int


END = Spot(_NO_TIME, True, 2**53)
"""Beyond the newest message of any chat."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the inbox. `author` is a contact id as it was when it came; None when the account's phone wrote it.

    `text` and `details` are those of domain/inbox.Received; `options` are those of a vote (None: it could not be read).
    """

    position: int
    message_id: MessageId
    author: str | None
    type: str
    text: str = field(repr=False)
    timestamp: int
    target: MessageId | None = None
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    options: tuple[str, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a message that went through the outbox."""

    queue_id: QueueId
    state: ItemState
    delivery: DeliveryMark | None


@dataclass(frozen=True, slots=True)
class Reaction:
    """What somebody feels about a message; `author` None is the account itself, `at` Unix seconds."""

    author: str | None
    emoji: str
    at: int


@dataclass(frozen=True, slots=True)
class Ballot:
    """What somebody chose in a poll: names in its order; None when it could not be read. Never empty."""

    author: str | None
    options: tuple[str, ...] | None
    at: int


@dataclass(frozen=True, slots=True)
class Thread:
    """A chat and all its addresses. `key` names it in the inbox; None: nothing ever came from there.

    `partner` is who a direct chat is with, as far as known.
    """

    key: str | None
    addresses: tuple[ChatId, ...]
    partner: Contact | None = None

    @property
    def is_group(self) -> bool:
        return any(address.is_group for address in self.addresses)

    @property
    def chat_id(self) -> str:
        """Where a caller may send to it."""
        return str(self.addresses[0]) if self.partner is None else self.partner.address


@dataclass(frozen=True, slots=True)
class Head:
    """A chat in a list: where it stands, what it is called, and its last message. `at` is Unix seconds.

    0 and None: nothing was said yet. `text` None: it was deleted.
    """

    key: str
    at: int
    title: str | None = None
    message_id: MessageId | None = None
    type: str | None = None
    text: str | None = field(default=None, repr=False)
    from_me: bool = False

    @property
    def is_group(self) -> bool:
        return "@" in self.key


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a chat with all that was done to it. Times are Unix seconds.

    Of one that was deleted nothing is left but who wrote it, when, and of which type it was: `text` is None.
    """

    id: MessageId
    spot: Spot
    author: str | None
    type: str
    text: str | None = field(repr=False)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fate: Fate | None = None
    edited_at: int | None = None
    revoked_at: int | None = None
    reactions: tuple[Reaction, ...] = field(default=(), repr=False)
    votes: tuple[Ballot, ...] = field(default=(), repr=False)


def received(row: Kept) -> Message:
    """The message of a row, with nothing done to it yet."""
    spot = Spot(float(row.timestamp), False, row.position)
    return Message(row.message_id, spot, row.author, row.type, row.text, row.details)


def sent(entry: Entry) -> Message:
    """The message of an outbox entry that was sent. It is as old as WhatsApp's word that it has it."""
    assert entry.settled_at is not None
    spot = Spot(entry.settled_at, True, entry.position)
    kind, text, details = _said(entry)
    fate = Fate(entry.id, entry.state, entry.delivery)
    return Message(entry.message_id, spot, None, kind, text, details, fate)


def _said(entry: Entry) -> tuple[str, str, dict[str, Any]]:
    match entry.content:
        case Text(text):
            return "text", text, {}
        case Poll(caption, options, multiple):
            poll = {"name": caption, "options": list(options), "selectable": 0 if multiple else 1}
            return "poll", caption, {"poll": poll}


def fold(message: Message, done: Iterable[Kept], *, group: bool) -> Message:
    """The message with what was done to it.

    - Only its author edits a message.
    - Its author deletes it; in a group an admin may, too.
    - A reaction or a vote replaces the one that the same person gave before; an empty one takes it back.
    """
    rows = sorted((row for row in done if row.target == message.id), key=lambda row: (row.timestamp, row.position))
    own = [row for row in rows if row.author == message.author]
    deletes = [row for row in rows if row.type == "delete" and (row in own or (group and row.details.get("byAdmin")))]
    if deletes:
        return replace(message, text=None, details={}, revoked_at=deletes[-1].timestamp)
    edits = [row for row in own if row.type == "edit"]
    if edits:
        message = replace(message, text=edits[-1].text, edited_at=edits[-1].timestamp)
    return replace(message, reactions=_reactions(rows), votes=_votes(rows))


def _reactions(rows: list[Kept]) -> tuple[Reaction, ...]:
    latest = _latest(row for row in rows if row.type == "reaction")
    return tuple(Reaction(row.author, row.text, row.timestamp) for row in latest if row.text)


def _votes(rows: list[Kept]) -> tuple[Ballot, ...]:
    latest = _latest(row for row in rows if row.type == "vote")
    return tuple(Ballot(row.author, row.options, row.timestamp) for row in latest if row.options != ())


def _latest(rows: Iterable[Kept]) -> list[Kept]:
    """The last row of each author, in the order of these rows."""
    found: dict[str | None, Kept] = {}
    for row in rows:
        found.pop(row.author, None)
        found[row.author] = row
    return list(found.values())
