"""Receiving, as a use case: store a message once and queue what callers get to see of it."""

from __future__ import annotations

from collections.abc import Sequence

from wahub.domain.contact import Contact, stranger
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import ABOUT_OTHERS, NOTICES, STATUS, PollKey, Received, poll_key
from wahub.domain.incoming import Place, event_of
from wahub.domain.instance import Instance
from wahub.domain.lease import Lease
from wahub.domain.message import Poll
from wahub.ports.messages import ChatNews
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
    instance, met = tx.instances.get(lease.instance), contact.Met()
    return [message for message, event_id in received if _ingest(tx, instance, met, message, now, event_id)]


def _ingest(tx: Tx, instance: Instance | None, met: contact.Met, received: Received, now: float, event_id: str) -> bool:
    author, partner = _people(tx, met, received, now, event_id)
    key = received.chat if partner is None else partner.id
    if not tx.inbox.add(received, key, None if author is None else author.id, now):
        return False
    if received.type not in NOTICES | ABOUT_OTHERS and received.target is None and received.chat != STATUS:
        tx.chats.note(received.instance, key, _news(received))
    if received.new_subject is not None:
        tx.chats.set_title(received.instance, key, received.new_subject)
    if author is None and received.type in NOTICES:
        author = _unknown_author(received)
    if instance is not None and author is not None and _may_tell(tx, received, author.id):
        event, data = event_of(received, Place(received.chat, author, partner))
        webhook.emit(tx, instance, event, data, lane=key, now=now, event_id=event_id)
    return True


def _people(
    tx: Tx, met: contact.Met, received: Received, now: float, seed: str
) -> tuple[Contact | None, Contact | None]:
    """Who wrote it (None: we) and who the chat is with (None: a group), with what this message says of who they are."""
    author = partner = None
    if not received.from_me and not received.by_nobody:
        author = contact.meet(tx, received.instance, received.author, received.push_name, now=now, seed=seed, met=met)
    if received.partner is not None:
        if author is not None and received.partner == received.author:
            return author, author
        partner = contact.meet(tx, received.instance, received.partner, None, now=now, seed=seed, met=met)
    return author, partner


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
