"""Rows of chats and their messages, as they are read.

A page of a chat is two walks along an index, one in the inbox and one in the outbox; both begin at the cursor and end
after one page, however much was said before and however many reactions lie between.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.entry import ENTRIES, EntryReader, Twofold
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import chats, inbox, outbox, people
from wahub.domain.contact import Contact
from wahub.domain.ids import ChatId, InstanceId, MessageId
from wahub.domain.outbox import Entry
from wahub.domain.thread import Head, Kept, Spot

_ANY: Final = 2**53
"""Beyond every position."""

_HEAD = ("key", "last_at", "title", "last_message_id", "last_type", "last_text", "last_from_me")
_HEADS = (
    sa.select(*(chats.c[name] for name in _HEAD))
    .where(
        chats.c.instance == bindparam("instance"),
        chats.c.last_at <= bindparam("at"),
        chats.c.last_at >= bindparam("since"),
        sa.or_(chats.c.last_at < bindparam("at"), chats.c.key < bindparam("beyond")),
    )
    .order_by(chats.c.last_at.desc(), chats.c.key.desc())
    .limit(bindparam("at_most"))
)

_KEPT = ("position", "message_id", "author_key", "from_me", "type", "text", "timestamp", "target", "details")
_INSTANCE = inbox.c.instance == bindparam("instance")
_other = inbox.alias("other")
# One person may have been two contacts when the copies came; in a direct chat there is only one who may have written.
_SAME_AUTHOR = sa.or_(
    sa.and_(inbox.c.from_me, _other.c.from_me),
    sa.and_(
        ~inbox.c.from_me,
        ~_other.c.from_me,
        sa.or_(bindparam("direct", type_=sa.Boolean), _other.c.author_key == inbox.c.author_key),
    ),
)
_CAME_BEFORE = sa.exists().where(
    _other.c.instance == inbox.c.instance,
    _other.c.message_id == inbox.c.message_id,
    _other.c.chat_key == inbox.c.chat_key,
    _other.c.position < inbox.c.position,
    _other.c.listed,
    _SAME_AUTHOR,
)
_SENT_BY_US = (outbox.c.state == literal_column("'sent'"), outbox.c.claimed_at.is_not(None))
_IS_OURS = sa.exists().where(
    outbox.c.instance == inbox.c.instance, outbox.c.message_id == inbox.c.message_id, *_SENT_BY_US
)
_RECEIVED = (
    sa.select(*(inbox.c[name] for name in _KEPT))
    .where(
        _INSTANCE,
        inbox.c.chat_key == bindparam("key"),
        inbox.c.listed == sa.true(),
        inbox.c.timestamp <= bindparam("at"),
        inbox.c.timestamp >= bindparam("since"),
        sa.or_(inbox.c.timestamp < bindparam("at"), inbox.c.position < bindparam("beyond")),
        ~_CAME_BEFORE,
        ~sa.and_(inbox.c.from_me, _IS_OURS),
    )
    .order_by(inbox.c.timestamp.desc(), inbox.c.position.desc())
    .limit(bindparam("at_most"))
)
_SENT = Twofold(
    ENTRIES.where(
        outbox.c.instance == bindparam("instance"),
        outbox.c.chat == bindparam("chat"),
        *_SENT_BY_US,
        outbox.c.settled_at <= bindparam("at"),
        outbox.c.settled_at >= bindparam("since"),
        sa.or_(outbox.c.settled_at < bindparam("at"), outbox.c.position < bindparam("beyond")),
    )
    .order_by(outbox.c.settled_at.desc(), outbox.c.position.desc())
    .limit(bindparam("at_most"))
)
_LATEST_FIRST = (inbox.c.timestamp.desc(), inbox.c.position.desc())
_done = (
    sa.select(
        inbox.c.chat_key,
        *(inbox.c[name] for name in _KEPT),
        # The target first, as the index has it: otherwise SQLite reads all that is in the inbox, in another order.
        sa.func.row_number()
        .over(partition_by=[inbox.c.target, inbox.c.type, inbox.c.chat_key, inbox.c.author_key], order_by=_LATEST_FIRST)
        .label("rank"),
    )
    .where(_INSTANCE, inbox.c.target.is_not(None), inbox.c.target.in_(bindparam("ids", expanding=True)))
    .subquery()
)
_DONE = sa.select(_done.c.chat_key, *(_done.c[name] for name in _KEPT)).where(_done.c.rank == literal_column("1"))
_AUTHORS = (
    sa.select(inbox.c.chat_key, inbox.c.message_id, inbox.c.author_key)
    .where(_INSTANCE, inbox.c.message_id.in_(bindparam("ids", expanding=True)), inbox.c.listed == sa.true())
    .order_by(inbox.c.position.desc())
)

_CONTACT = ("id", "phone", "lid", "name", "created_at", "merged_into")
_now = people.alias("now")
_PEOPLE = (
    sa.select(people.c.id, *(_now.c[name].label(f"now_{name}") for name in _CONTACT))
    .select_from(
        people.join(
            _now,
            sa.and_(
                _now.c.instance == people.c.instance, _now.c.id == sa.func.coalesce(people.c.merged_into, people.c.id)
            ),
        )
    )
    .where(people.c.instance == bindparam("instance"), people.c.id.in_(bindparam("ids", expanding=True)))
)


class SqlThreads:
    """ports.threads.Threads."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def heads(self, instance: InstanceId, before: tuple[int, str], limit: int, since: float) -> Sequence[Head]:
        place = {"at": before[0], "beyond": before[1], "since": math.ceil(since)}
        values = {"instance": instance, **place, "at_most": limit}
        return [self._head(row) for row in self._runner.run(_HEADS, values)]

    def received(self, instance: InstanceId, key: str, before: Spot, since: float, limit: int) -> Sequence[Kept]:
        whole = math.floor(before.at)
        values = {
            "instance": instance,
            "key": key,
            "direct": not key.endswith("@g.us"),
            "at": whole,
            # At the very time of the cursor: all of it if ours stand there, else what is before it.
            "beyond": _ANY if before.ours or whole < before.at else before.position,
            "since": math.ceil(since),
            "at_most": limit,
        }
        return [self._kept(row) for row in self._runner.run(_RECEIVED, values)]

    def sent(
        self, instance: InstanceId, addresses: Sequence[ChatId], before: Spot, since: float, limit: int
    ) -> Sequence[Entry]:
        entries = EntryReader(self._runner)
        values = {
            "instance": instance,
            "at": before.at,
            "beyond": before.position if before.ours else 0,
            "since": since,
            "at_most": limit,
        }
        return [entry for chat in addresses for entry in entries.many(_SENT, {**values, "chat": str(chat)})]

    def done_to(self, instance: InstanceId, ids: Collection[MessageId]) -> Mapping[str, Sequence[Kept]]:
        found: dict[str, list[Kept]] = defaultdict(list)
        for key, *row in self._many(_DONE, instance, ids):
            found[key].append(self._kept(row))
        return found

    def authors(self, instance: InstanceId, ids: Collection[MessageId]) -> Mapping[tuple[str, MessageId], str | None]:
        return {(key, message_id): author for key, message_id, author in self._many(_AUTHORS, instance, ids)}

    def people(self, instance: InstanceId, contacts: Collection[str]) -> Mapping[str, Contact]:
        return {was: Contact(*now) for was, *now in self._many(_PEOPLE, instance, contacts)}

    def _many(self, statement: sa.Executable, instance: InstanceId, ids: Collection[str]) -> list[Any]:
        return list(self._runner.run(statement, {"instance": instance, "ids": list(ids)})) if ids else []

    def _head(self, row: Sequence[Any]) -> Head:
        key, at, title, message_id, kind, text, from_me = row
        return Head(
            key=key,
            at=at,
            title=title,
            message_id=message_id,
            type=kind,
            text=None if text is None else self._runner.codec.text_out(text),
            from_me=bool(from_me),
        )

    def _kept(self, row: Sequence[Any]) -> Kept:
        position, message_id, author, from_me, kind, text, timestamp, target, details = row
        text_out = self._runner.codec.text_out
        more: dict[str, Any] = {} if details is None else json.loads(text_out(details))
        options = more.pop("options", None) if kind == "vote" else None
        return Kept(
            position=position,
            message_id=message_id,
            author=None if from_me else author,
            type=kind,
            text=text_out(text),
            timestamp=timestamp,
            target=target,
            details=more,
            options=None if options is None else tuple(options),
        )
