"""Receiving, as a use case: store a message once and queue what callers get to see of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wahub.domain.contact import Contact, stranger
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import ABOUT_OTHERS, NOTICES, STATUS, Address, PollKey, Received, poll_key
from wahub.domain.incoming import Place, event_of
from wahub.domain.instance import Instance
from wahub.domain.lease import Lease
from wahub.domain.message import Poll
from wahub.ports.messages import ChatNews, Filed
from wahub.ports.store import Tx
from wahub.services import contact, webhook


def ingest(tx: Tx, lease: Lease, received: Received, now: float, event_id: str) -> bool:
    """Store a message and its webhook in one transaction; a second arrival changes nothing. True if it was new.

    `event_id` is chosen outside, so that a transaction that runs again stores the same.
    """
    return bool(ingest_all(tx, lease, [(received, event_id)], now))


def ingest_all(tx: Tx, lease: Lease, received: Sequence[tuple[Received, str]], now: float) -> list[Received]:
    """The same for several of one instance, each with its event id, in their order; returns those that were new."""
    tx.fence(lease)
    # Nothing in here changes what the instance is set to.
    batch = _Batch(tx, tx.instances.get(lease.instance), now)
    for message, event_id in received:
        batch.take(message, event_id)
    batch.write()
    return batch.new


@dataclass(frozen=True, slots=True)
class _Letter:
    """A message, and who it is from and with: None stands for us (`author`) or for a group (`partner`)."""

    received: Received
    event_id: str
    author: Contact | None
    partner: Contact | None

    @property
    def chat_key(self) -> str:
        return self.received.chat if self.partner is None else self.partner.id

    @property
    def author_key(self) -> str | None:
        return None if self.author is None else self.author.id


class _Batch:
    """Messages of one instance on their way into the store: a table is written once for as many as possible.

    The outcome is that of writing one after the other. So what is about another message is the last that is written at
    once, for it may not see those after it; and before two contacts turn out to be one, all that waits is written.
    """

    def __init__(self, tx: Tx, instance: Instance | None, now: float) -> None:
        self._tx = tx
        self._instance = instance
        self._now = now
        self._met = contact.Met(before_merge=self.write)
        self._waiting: list[_Letter] = []
        self.new: list[Received] = []
        """What was written and had not been there before."""

    def take(self, received: Received, event_id: str) -> None:
        """Find out who wrote it; write it now or with the next ones."""
        author, partner = self._people(received, event_id)
        self._waiting.append(_Letter(received, event_id, author, partner))
        if not received.stands_alone:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        letters, self._waiting = self._waiting, []
        if not letters:
            return
        tx = self._tx
        filed = [Filed(letter.received, letter.chat_key, letter.author_key) for letter in letters]
        new = [one for one, is_new in zip(letters, tx.inbox.add_all(filed, self._now), strict=True) if is_new]
        self.new += (letter.received for letter in new)
        _note_chats(tx, new)
        if self._instance is not None:
            told = [emission for letter in new if (emission := _told(tx, letter)) is not None]
            webhook.emit_all(tx, self._instance, told, now=self._now)

    def _people(self, received: Received, seed: str) -> tuple[Contact | None, Contact | None]:
        """Its author and its partner, with what it says of who they are."""
        author = partner = None
        if not received.from_me and not received.by_nobody:
            author = self._meet(received, received.author, received.push_name, seed)
        if received.partner is not None:
            if author is not None and received.partner == received.author:
                return author, author
            partner = self._meet(received, received.partner, None, seed)
        return author, partner

    def _meet(self, received: Received, address: Address, name: str | None, seed: str) -> Contact:
        return contact.meet(self._tx, received.instance, address, name, now=self._now, seed=seed, met=self._met)


def _note_chats(tx: Tx, letters: Sequence[_Letter]) -> None:
    """What is the latest of each chat; a later one of the same second counts."""
    latest: dict[str, Received] = {}
    for letter in letters:
        received = letter.received
        if received.new_subject is not None:
            tx.chats.set_title(received.instance, letter.chat_key, received.new_subject)
        if not received.stands_alone or received.chat == STATUS:
            continue
        before = latest.get(letter.chat_key)
        if before is None or received.timestamp >= before.timestamp:
            latest[letter.chat_key] = received
    if letters:
        news = {key: _news(received) for key, received in latest.items()}
        tx.chats.note_all(letters[0].received.instance, news)


def _told(tx: Tx, letter: _Letter) -> webhook.Emission | None:
    """What callers hear of it; None if nothing."""
    received, author = letter.received, letter.author
    if author is None and received.type in NOTICES:
        author = _unknown_author(received)
    if author is None or not _may_tell(tx, received, author.id):
        return None
    event, data = event_of(received, Place(received.chat, author, letter.partner))
    return webhook.Emission(event, data, letter.chat_key, letter.event_id)


def _unknown_author(received: Received) -> Contact:
    """Who is no contact of ours did it: we ourselves, or nobody who was named."""
    return stranger(None, None) if received.by_nobody else stranger(received.author.phone, received.author.lid)


def _may_tell(tx: Tx, received: Received, author: str) -> bool:
    """Not of an edit or a delete that its sender had no right to, nor of what is about nothing: apps ignore those, too.

    In groups admins delete the messages of others. The stanza says that an admin did it; that WhatsApp lets no others
    say so is inferred.
    """
    if received.target is None:
        return received.type not in ABOUT_OTHERS or received.vote is not None
    if received.type not in ("edit", "delete"):
        return True
    if received.type == "delete" and received.in_group and received.details.get("byAdmin"):
        return True
    if tx.outbox.find_message(received.instance, received.target) is not None:
        return False  # ours
    authors = tx.inbox.authors_of(received.instance, received.target)
    return not authors or author in authors


def _news(received: Received) -> ChatNews:
    return ChatNews(
        at=received.timestamp,
        message_id=received.message_id,
        type=received.type,
        text=received.text,
        from_me=received.from_me,
    )


def find_poll(tx: Tx, instance: InstanceId, message_id: MessageId) -> PollKey | None:
    """What reads the votes on a poll: one that we sent, that the account's phone sent, or that was received."""
    entry = tx.outbox.find_message(instance, message_id)
    if entry is not None:
        content = entry.content
        return PollKey(content.options, content.secret) if isinstance(content, Poll) else None
    for received in tx.inbox.find(instance, message_id):
        key = poll_key(received)
        if key is not None:
            return key
    return None
