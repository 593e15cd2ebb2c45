"""The parts of a transaction that hold what was said, by whom, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wahub.domain.contact import Contact
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import Received


@dataclass(frozen=True, slots=True)
class Filed:
    """A received message with its place.

    `chat_key`: the contact id of a direct chat, else the chat's JID. `author`: a contact id, None when it is ours.
    """

    received: Received
    chat_key: str
    author: str | None


class Inbox(Protocol):
    """Received messages."""

    def last_received_at(self, instance: InstanceId) -> float | None:
        """When the latest message of this instance was stored."""

    def guards(self, instance: InstanceId, most: int) -> int:
        """How many messages guard against a second copy of themselves, counted up to `most`; the texts may be gone."""

    def add_all(self, filed: Sequence[Filed], now: float) -> Sequence[bool]:
        """Insert or ignore messages of one instance; for each, in this order, whether it was new.

        It is not new if the same message is there, or stands before it in `filed`, also under another address of the
        same chat and author.
        """

    def find(self, instance: InstanceId, message_id: MessageId) -> Sequence[Received]:
        """Messages with that id: one, as a rule, for ids are random; but senders choose them."""

    def authors_of(self, instance: InstanceId, message_id: MessageId) -> frozenset[str | None]:
        """Contact ids of who wrote messages with that id, as they are now; None stands for ourselves."""


class People(Protocol):
    """Contacts of an instance (domain/contact.py)."""

    def get(self, instance: InstanceId, contact: str) -> Contact | None:
        """By id, as it was: it may have been merged into another."""

    def by_phone(self, instance: InstanceId, phone: str) -> Contact | None: ...

    def by_lid(self, instance: InstanceId, lid: str) -> Contact | None: ...

    def save(self, instance: InstanceId, contact: Contact) -> None:
        """Insert or replace."""

    def redirect(self, instance: InstanceId, gone: str, kept: str) -> None:
        """The chat with one contact is the chat with the other: its messages, and its place among the chats."""


@dataclass(frozen=True, slots=True)
class ChatNews:
    """The latest message of a chat. `at` is Unix seconds."""

    at: int
    message_id: MessageId
    type: str
    text: str = field(repr=False)
    from_me: bool


class Chats(Protocol):
    """Chats, each under the contact id of its partner or the JID of its group."""

    def note(self, instance: InstanceId, key: str, news: ChatNews) -> None:
        """The chat has a message; an older one than the latest changes nothing."""

    def note_all(self, instance: InstanceId, latest: Mapping[str, ChatNews]) -> None:
        """The same for several chats, by key."""

    def set_title(self, instance: InstanceId, key: str, title: str | None) -> None:
        """The subject of a group, whether or not anything was said there."""
