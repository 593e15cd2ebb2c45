"""Writing an entry together with the webhooks that its change calls for, in one transaction."""

from __future__ import annotations

import hashlib
from typing import Any

from wahub.domain.inbox import address_of
from wahub.domain.instance import Instance
from wahub.domain.message import Text
from wahub.domain.outbox import Entry, ItemState
from wahub.ports.messages import ChatNews
from wahub.ports.store import Tx
from wahub.services import contact, webhook


def save(tx: Tx, before: Entry, after: Entry, now: float, instance: Instance | None = None) -> Entry:
    """Store the entry if it changed, and queue what callers asked to be told of. Returns `after`."""
    if after is before:
        return after
    tx.outbox.save(after)
    if after.state is ItemState.SENT is not before.state:
        _note_chat(tx, after, now)
    for event, data in _news(before, after, now):
        known = instance or tx.instances.get(after.instance)
        if known is not None:
            webhook.emit(tx, known, event, data, lane=after.chat.jid, now=now, event_id=_event_id(after, event))
    return after


def _note_chat(tx: Tx, sent: Entry, now: float) -> None:
    """It is the latest message of its chat."""
    key = sent.chat.jid
    if not sent.chat.is_group:
        key = contact.meet(tx, sent.instance, address_of(key), None, now=now, seed=sent.id).id
    said = sent.content
    kind, text = ("text", said.text) if isinstance(said, Text) else ("poll", said.caption)
    at = int(now if sent.claimed_at is None else sent.claimed_at)
    tx.chats.note(sent.instance, key, ChatNews(at, sent.message_id, kind, text, from_me=True))


def _news(before: Entry, after: Entry, now: float) -> list[tuple[str, dict[str, Any]]]:
    """The events of a change. They name ids, never texts or chats."""
    ids: dict[str, Any] = {"id": after.message_id, "queueId": after.id}
    news: list[tuple[str, dict[str, Any]]] = []
    if after.delivery is not None and after.delivery is not before.delivery:
        news.append(("message_ack", {**ids, "delivery": str(after.delivery), "at": int(now)}))
    if after.gave_up and not before.gave_up:
        news.append(("message_unknown", {**ids, "reason": after.last_error, "resends": after.resends}))
    if after.state is ItemState.EXPIRED is not before.state:
        news.append(("message_expired", {**ids, "reason": after.last_error}))
    if after.state is ItemState.FAILED is not before.state:
        news.append(("message_failed", {**ids, "reason": after.last_error}))
    return news


def _event_id(entry: Entry, event: str) -> str:
    """The same for the same change: a transaction that runs again queues the same event.

    Not the length of the timeline: a full one grows no more, and two events may not share an id.
    """
    return hashlib.sha256(f"{entry.id}:{event}:{entry.delivery}:{entry.timeline!r}".encode()).hexdigest()[:32]
