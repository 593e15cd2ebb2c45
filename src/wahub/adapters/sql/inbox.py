"""Rows of received messages."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql

from wahub.adapters.sql.runner import ByDialect, Runner, for_both
from wahub.adapters.sql.schema import clean
from wahub.adapters.sql.tables import inbox, people
from wahub.domain.ids import InstanceId, MessageId
from wahub.domain.inbox import Address, Received, Vote, address_of
from wahub.ports.messages import Filed

_READ = (
    *("instance", "chat", "sender", "sender_phone", "sender_lid", "message_id", "from_me", "type", "text", "timestamp"),
    *("raw", "push_name", "target", "details"),
)
_WRITTEN = (*_READ, "received_at", "chat_key", "author_key", "listed")
_IDENTITY = (inbox.c.instance, inbox.c.chat, inbox.c.sender, inbox.c.message_id)
_ADD = for_both(
    lambda insert: (
        insert(inbox)
        .values({name: bindparam(name) for name in _WRITTEN})
        .on_conflict_do_nothing(index_elements=_IDENTITY)
    )
)
_ADD_TOLD = _ADD["postgresql"].returning(*_IDENTITY[1:])
_LAST_RECEIVED = sa.select(sa.func.max(inbox.c.received_at)).where(inbox.c.instance == bindparam("instance"))
_SOME_OF = sa.select(inbox.c.position).where(inbox.c.instance == bindparam("instance")).limit(bindparam("at_most"))
_GUARDS = sa.select(sa.func.count()).select_from(_SOME_OF.subquery())
_SAME_ID = sa.and_(inbox.c.instance == bindparam("instance"), inbox.c.message_id == bindparam("message_id"))
_SAME_PERSON = sa.and_(people.c.instance == inbox.c.instance, people.c.id == inbox.c.author_key)
_AUTHOR = sa.func.coalesce(people.c.merged_into, inbox.c.author_key).label("author")
_WITH_PEOPLE = inbox.outerjoin(people, _SAME_PERSON)
_AUTHORS = sa.select(_AUTHOR).select_from(_WITH_PEOPLE).where(_SAME_ID)
# One parameter however many ids there are, so that the text stays the same.
_ONE_OF: ByDialect[sa.ColumnElement[bool]] = {
    "sqlite": inbox.c.message_id.in_(sa.select(sa.func.json_each(bindparam("ids")).table_valued("value").c.value)),
    "postgresql": inbox.c.message_id == sa.any_(bindparam("ids", type_=postgresql.ARRAY(sa.Text))),
}
_WHERE = sa.select(inbox.c.message_id, inbox.c.chat_key, _AUTHOR, inbox.c.chat, inbox.c.sender).select_from(
    _WITH_PEOPLE
)
_KNOWN: ByDialect[sa.Executable] = {
    dialect: _WHERE.where(inbox.c.instance == bindparam("instance"), one_of) for dialect, one_of in _ONE_OF.items()
}
# Half the time on SQLite, and often there is one.
_KNOWN_ONE = _WHERE.where(_SAME_ID)
_FIND = sa.select(*(inbox.c[name] for name in _READ)).where(_SAME_ID).order_by(inbox.c.position)
_LATEST: Final = 2**53
"""A sender writes the timestamp; one that no column can hold must not stop the message for ever."""

_Place = tuple[str, str, str | None]
"""Message id, chat key, author: by these a copy is known that came under another address."""
_Identity = tuple[str, str, str]
"""Chat, sender, message id, as they are stored."""

_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class SqlInbox:
    """ports.messages.Inbox."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def last_received_at(self, instance: InstanceId) -> float | None:
        last: float | None = self._runner.run(_LAST_RECEIVED, {"instance": instance}).scalar_one()
        return last

    def guards(self, instance: InstanceId, most: int) -> int:
        found: int = self._runner.run(_GUARDS, {"instance": instance, "at_most": most}).scalar_one()
        return found

    def add_all(self, filed: Sequence[Filed], now: float) -> Sequence[bool]:
        if not filed:
            return []
        places, identities = self._known(filed[0].received.instance, {clean(one.received.message_id) for one in filed})
        fresh: dict[int, _Identity] = {}
        for at, one in enumerate(filed):
            place, identity = _place(one), _identity(one.received)
            if place not in places and identity not in identities:
                fresh[at] = identity
                places.add(place)
                identities.add(identity)
        stored = self._insert([self._row(filed[at], now) for at in fresh], fresh.values()) if fresh else ()
        return [fresh.get(at) in stored for at in range(len(filed))]

    def find(self, instance: InstanceId, message_id: MessageId) -> Sequence[Received]:
        rows = self._runner.run(_FIND, {"instance": instance, "message_id": message_id})
        return [read_received(self._runner, row) for row in rows]

    def authors_of(self, instance: InstanceId, message_id: MessageId) -> frozenset[str | None]:
        return frozenset(self._runner.run(_AUTHORS, {"instance": instance, "message_id": message_id}).scalars())

    def _known(self, instance: InstanceId, ids: set[str]) -> tuple[set[_Place], set[_Identity]]:
        """Where messages with these ids stand already."""
        if len(ids) == 1:
            rows = list(self._runner.run(_KNOWN_ONE, {"instance": instance, "message_id": next(iter(ids))}))
        else:
            listed = _to_json(list(ids)) if self._runner.dialect == "sqlite" else list(ids)
            rows = list(self._runner.run(_KNOWN[self._runner.dialect], {"instance": instance, "ids": listed}))
        if not rows:
            return set(), set()
        places = {(row.message_id, row.chat_key, row.author) for row in rows}
        return places, {(row.chat, row.sender, row.message_id) for row in rows}

    def _insert(self, rows: Sequence[Mapping[str, Any]], identities: Collection[_Identity]) -> Collection[_Identity]:
        """Insert messages that were not there when `_known` asked; returns those that were stored."""
        if self._runner.dialect == "postgresql":
            return {tuple(row) for row in self._runner.insert_returning(_ADD_TOLD, rows)}
        # Nobody else writes meanwhile.
        self._runner.run_many(_ADD["sqlite"], rows)
        return identities

    def _row(self, one: Filed, now: float) -> dict[str, Any]:
        received, codec = one.received, self._runner.codec
        return {
            "instance": received.instance,
            "chat": received.chat,
            "sender": received.sender,
            "sender_phone": received.author.phone,
            "sender_lid": received.author.lid,
            "message_id": received.message_id,
            "from_me": received.from_me,
            "type": received.type,
            "text": codec.text_in(received.text),
            "timestamp": max(0, min(received.timestamp, _LATEST)),
            "raw": None if received.raw is None else codec.text_in(received.raw),
            "received_at": now,
            "chat_key": one.chat_key,
            "author_key": one.author,
            "push_name": received.push_name,
            "target": received.target,
            "details": codec.text_in(_to_json(details)) if (details := _details(received)) else None,
            "listed": received.stands_alone,
        }


def _place(one: Filed) -> _Place:
    return clean(one.received.message_id), clean(one.chat_key), one.author


def _identity(received: Received) -> _Identity:
    return clean(received.chat), clean(received.sender), clean(received.message_id)


def _details(received: Received) -> Mapping[str, Any]:
    """With what was voted for, which has no column of its own."""
    if received.vote is None:
        return received.details
    return {**received.details, "options": received.vote.options}


def _vote(kind: str, target: MessageId | None, details: dict[str, Any]) -> Vote | None:
    if kind != "vote" or target is None:
        return None
    options = details.pop("options", None)
    return Vote(target, None if options is None else tuple(options))


def read_received(runner: Runner, row: Sequence[Any]) -> Received:
    """One row of `_READ`'s columns, in their order. The partner has the address that stood on the message."""
    values = dict(zip(_READ, row, strict=True))
    text_out = runner.codec.text_out
    chat, stored = values["chat"], values.pop("details")
    details: dict[str, Any] = {} if stored is None else json.loads(text_out(stored))
    phone, lid = values.pop("sender_phone"), values.pop("sender_lid")
    raw = values.pop("raw")
    return Received(
        **{**values, "text": text_out(values["text"]), "from_me": bool(values["from_me"])},
        author=Address(phone, lid),
        partner=address_of(chat) if chat.endswith(("@s.whatsapp.net", "@lid")) else None,
        vote=_vote(values["type"], values["target"], details),
        details=details,
        raw=None if raw is None else text_out(raw),
    )
