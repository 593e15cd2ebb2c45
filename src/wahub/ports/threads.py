"""The parts of a transaction that read what was said, and forget it when its time is over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wahub.domain.contact import Contact
from wahub.domain.ids import ChatId, InstanceId, MessageId
from wahub.domain.outbox import Entry
from wahub.domain.thread import Head, Kept, Spot


class Threads(Protocol):
    """Chats and their messages, newest first. Anyone may read."""

    def heads(self, instance: InstanceId, before: tuple[int, str], limit: int, since: float) -> Sequence[Head]:
        """Chats whose (time of the last message, key) is less than `before`."""

    def received(self, instance: InstanceId, key: str, before: Spot, since: float, limit: int) -> Sequence[Kept]:
        """Messages of the inbox in that chat, each id once; without those that only change others, and notices.

        Their spots are less than `before`, their times at least `since` (Unix seconds).
        """

    def sent(
        self, instance: InstanceId, addresses: Sequence[ChatId], before: Spot, since: float, limit: int
    ) -> Sequence[Entry]:
        """Entries of the outbox that we sent to these addresses; in `since` and `before`, the time of their ack."""

    def done_to(self, instance: InstanceId, ids: Collection[MessageId]) -> Mapping[str, Sequence[Kept]]:
        """What was done to messages with these ids, by the key of the chat in which it was done.

        Of each type the latest of each author.
        """

    def authors(self, instance: InstanceId, ids: Collection[MessageId]) -> Mapping[tuple[str, MessageId], str | None]:
        """Who wrote the received messages with these ids, by the key of the chat and the id."""

    def people(self, instance: InstanceId, contacts: Collection[str]) -> Mapping[str, Contact]:
        """Contacts by id; for one that was merged, whom it was merged into."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Messages that could not be read and did not come again. `latest_at` is Unix seconds; `ids` are the latest."""

    count: int = 0
    latest_at: float | None = None
    ids: tuple[MessageId, ...] = ()


class MissedMessages(Protocol):
    """Messages that came and could not be read. The lease holder writes them down."""

    def add(self, instance: InstanceId, message_id: MessageId, chat: str, sender: str, why: str, at: float) -> bool:
        """Insert or ignore; False if it was known, or the message is in the inbox already."""

    def unreadable(self, instance: InstanceId, limit: int) -> Unreadable:
        """Those whose message is not in the inbox; at most `limit` ids, newest first."""

    def count(self) -> int:
        """How many of them there are of all instances."""


class Retention(Protocol):
    """Forgetting what was received. Times are Unix seconds; the last three do at most `limit` rows and say how many."""

    def to_blank(
        self, instance: InstanceId, after: tuple[float, int], before: float, limit: int
    ) -> tuple[Sequence[int], tuple[float, int] | None]:
        """Looks at `limit` messages that were stored before that, oldest first, and gives the positions of those that
        still say something, and where to go on; None: there are no others. `after` is (time, position).
        """

    def blank(self, positions: Sequence[int]) -> None:
        """Of these messages, keep only what recognises a second copy."""

    def is_due(self, instance: InstanceId, messages_before: float, before: float) -> bool:
        """Whether any of the following may find something to remove."""

    def forget(self, instance: InstanceId, before: float, limit: int) -> int:
        """Remove messages that were stored before that."""

    def forget_chats(self, instance: InstanceId, before: float, limit: int) -> int:
        """Remove chats whose last message is older than that, and of which no message is left.

        Of a chat with a title only that stays: WhatsApp tells it when it changes, and not again.
        """

    def forget_missed(self, instance: InstanceId, before: float, limit: int) -> int:
        """Remove what is known of messages that could not be read."""
