"""Chats and their messages, as use cases: which chat is meant, and what was said in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from wahub.domain.contact import Contact
from wahub.domain.errors import ChatNotFoundError
from wahub.domain.ids import ChatId, ChatKind, InstanceId, MessageId
from wahub.domain.instance import Instance
from wahub.domain.thread import Head, Kept, Message, Spot, Thread, fold, received, sent
from wahub.ports.store import Tx
from wahub.services import instance as instances

_CONTACT = re.compile(r"c_[0-9a-f]{20}")

People = Mapping[str, Contact]
"""By the contact ids that messages and chats name, also by those of contacts that were merged."""


@dataclass(frozen=True, slots=True)
class ChatList:
    """Chats, the latest activity first. `more`: there are others behind them."""

    heads: tuple[Head, ...]
    people: People
    more: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Messages of a chat, newest first. `more`: there are older ones."""

    owner: Instance
    thread: Thread
    messages: tuple[Message, ...]
    people: People
    more: bool


def find(tx: Tx, instance: InstanceId, name: str) -> Thread:
    """The chat that a caller means: a contact id, or an address as sends take it.

    InvalidChatIdError when it is neither, ChatNotFoundError for a contact id that nobody has.
    """
    if _CONTACT.fullmatch(name):
        person = tx.threads.people(instance, [name]).get(name)
        if person is None:
            raise ChatNotFoundError(name)
        return _with(person)
    chat = ChatId.parse(name)
    if chat.is_group:
        return Thread(chat.jid, (chat,))
    by = tx.people.by_lid if chat.kind is ChatKind.LID else tx.people.by_phone
    partner = by(instance, chat.user)
    return Thread(None, (chat,)) if partner is None else _with(partner)


def _with(person: Contact) -> Thread:
    users = ((person.phone, ChatKind.PHONE), (person.lid, ChatKind.LID))
    return Thread(person.id, tuple(ChatId(user, kind) for user, kind in users if user), person)


def chats(tx: Tx, instance: InstanceId, before: tuple[int, str], limit: int) -> ChatList:
    """The chats of an instance whose (time, key) is less than `before`. Raises InstanceNotFoundError."""
    instances.get(tx, instance)
    # Chats of the number that was linked before belong to another account.
    heads = tx.threads.heads(instance, before, limit + 1, tx.lifecycles.get(instance).account_since)
    shown = _as_they_are_now(tx, instance, heads[:limit])
    people = tx.threads.people(instance, {head.key for head in shown if not head.is_group})
    return ChatList(shown, people, len(heads) > limit)


def _as_they_are_now(tx: Tx, instance: InstanceId, heads: Iterable[Head]) -> tuple[Head, ...]:
    """Their last messages may have been edited or deleted since."""
    heads = tuple(heads)
    ids = {head.message_id for head in heads if head.message_id is not None}
    done = tx.threads.done_to(instance, ids)
    if not done:
        return heads
    authors = tx.threads.authors(instance, ids)
    people = tx.threads.people(instance, _authors_of(done) | {author for author in authors.values() if author})
    return tuple(_as_it_is_now(head, done, authors, people) for head in heads)


def _as_it_is_now(
    head: Head,
    done: Mapping[str, Collection[Kept]],
    authors: Mapping[tuple[str, MessageId], str | None],
    people: People,
) -> Head:
    if head.message_id is None or head.key not in done:
        return head
    author = None if head.from_me else authors.get((head.key, head.message_id))
    if author is None and not head.from_me:
        return head  # of whom it is, is not known any more
    message = Message(head.message_id, Spot(head.at, head.from_me, 0), author, head.type or "", head.text)
    message = fold(_by_now(message, people), _all_by_now(done[head.key], people), group=head.is_group)
    return replace(head, text=message.text)


def messages(
    tx: Tx, instance: InstanceId, chat: str, before: Spot, *, since: float, ours_since: float, limit: int
) -> Page:
    """A page of a chat: what stands before that spot, from `since` on (Unix seconds); ours not before `ours_since`.

    Raises InstanceNotFoundError, and what `find` raises.
    """
    owner = instances.get(tx, instance)
    thread = find(tx, instance, chat)
    since = max(since, tx.lifecycles.get(instance).account_since)
    ours_since = max(since, ours_since)
    found = [sent(entry) for entry in tx.threads.sent(instance, thread.addresses, before, ours_since, limit + 1)]
    if thread.key is not None:
        found += [received(row) for row in tx.threads.received(instance, thread.key, before, since, limit + 1)]
    found.sort(key=lambda message: message.spot, reverse=True)
    shown = found[:limit]
    done = tx.threads.done_to(instance, {message.id for message in shown}) if thread.key is not None else {}
    here = {key: rows for key, rows in done.items() if key == thread.key}
    people = tx.threads.people(instance, _authors_of(here) | {message.author for message in shown if message.author})
    rows = _all_by_now(here.get(thread.key or "", ()), people)
    by_target: dict[str | None, list[Kept]] = {}
    for row in rows:
        by_target.setdefault(row.target, []).append(row)
    folded = tuple(
        fold(_by_now(message, people), by_target.get(message.id, ()), group=thread.is_group) for message in shown
    )
    return Page(owner, thread, folded, people, len(found) > limit)


def _authors_of(done: Mapping[str, Collection[Kept]]) -> set[str]:
    return {row.author for rows in done.values() for row in rows if row.author is not None}


def _by_now(message: Message, people: People) -> Message:
    """With its author as they are known now."""
    known = people.get(message.author or "")
    return message if known is None else replace(message, author=known.id)


def _all_by_now(rows: Iterable[Kept], people: People) -> list[Kept]:
    return [row if (known := people.get(row.author or "")) is None else replace(row, author=known.id) for row in rows]
