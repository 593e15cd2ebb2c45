"""Rows of the outbox.

A writing transaction locks every entry it reads (PostgreSQL): proof of a message, the end of its attempt and a
caller's cancel may come at the same moment, and each must decide on what the other wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import Runner, locked
from wahub.adapters.sql.tables import outbox
from wahub.domain.errors import RequestNotFoundError
from wahub.domain.ids import ChatId, ChatKind, InstanceId, MessageId, QueueId
from wahub.domain.outbox import DeliveryMark, Entry, IdempotencyKey, ItemState, KeyKind

_CHANGING = (
    *("state", "next_attempt_at", "attempts", "on_wire", "resends", "deferrals"),
    *("claimed_epoch", "claimed_at", "settled_at", "delivery", "last_error"),
)
_FIXED = ("id", "instance", "chat", "content", "message_id", "key", "key_kind", "payload_hash", "created_at")
_COLUMNS = (*_FIXED, *_CHANGING, "position")

_ALL = sa.select(*(outbox.c[name] for name in _COLUMNS))
_OF = outbox.c.instance == bindparam("instance")
_OPEN = outbox.c.settled_at.is_(None)

_earlier = outbox.alias("earlier")
_HEADS = (
    _OF,
    _OPEN,
    # Literals, because a planner cannot match a parameter with the condition of a partial index.
    outbox.c.state.in_([literal_column("'queued'"), literal_column("'unknown'")]),
    ~sa.exists().where(
        _earlier.c.instance == outbox.c.instance,
        _earlier.c.chat == outbox.c.chat,
        _earlier.c.position < outbox.c.position,
        _earlier.c.settled_at.is_(None),
    ),
)
"""Entries that nothing open of the same chat stands before, and that are not on the wire themselves."""

_ADD = (
    sa.insert(outbox)
    .values({name: bindparam(name) for name in _COLUMNS if name != "position"})
    .returning(outbox.c.position)
)
_GET = _ALL.where(_OF, outbox.c.id == bindparam("queue_id"))
_FIND = _ALL.where(_OF, outbox.c.message_id == bindparam("message"))
_SAVE = (
    sa.update(outbox)
    .where(outbox.c.instance == bindparam("of"), outbox.c.id == bindparam("queue_id"))
    .values({name: bindparam(name) for name in _CHANGING})
)
_OPEN_ONES = _ALL.where(_OF, _OPEN).order_by(outbox.c.position)
_GIVEN_UP = _ALL.where(_OF, outbox.c.state == literal_column("'unknown'"), outbox.c.settled_at.is_not(None)).order_by(
    outbox.c.position
)
_DEPTH = sa.select(sa.func.count()).select_from(outbox).where(_OF, _OPEN)
_NEXT_DUE = (
    _ALL.where(*_HEADS, outbox.c.next_attempt_at <= bindparam("now"))
    .order_by(outbox.c.position)
    .limit(literal_column("1"))
)
_NEXT_AT = sa.select(sa.func.min(outbox.c.next_attempt_at)).where(*_HEADS)
_LOCKED = {statement: locked(statement) for statement in (_GET, _FIND, _OPEN_ONES, _GIVEN_UP)}
_NEXT_DUE_LOCKED = _NEXT_DUE.with_for_update(key_share=True, of=outbox)


class SqlOutbox:
    """ports.store.Outbox."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def add(self, entry: Entry) -> Entry:
        values = {
            "id": entry.id,
            "instance": entry.instance,
            "chat": str(entry.chat),
            "content": self._runner.codec.content_in(entry.content),
            "message_id": entry.message_id,
            "key": entry.key.value,
            "key_kind": entry.key.kind.value,
            "payload_hash": entry.key.payload_hash,
            "created_at": entry.created_at,
            **_changing(entry),
        }
        return replace(entry, position=self._runner.run(_ADD, values).scalar_one())

    def get(self, instance: InstanceId, queue_id: QueueId) -> Entry | None:
        return self._one(self._lock(_GET), {"instance": instance, "queue_id": queue_id})

    def find_message(self, instance: InstanceId, message_id: MessageId) -> Entry | None:
        return self._one(self._lock(_FIND), {"instance": instance, "message": message_id})

    def save(self, entry: Entry) -> None:
        """RequestNotFoundError if it is gone (its instance was deleted)."""
        values = {"of": entry.instance, "queue_id": entry.id, **_changing(entry)}
        if self._runner.run(_SAVE, values).rowcount == 0:
            raise RequestNotFoundError(entry.id)

    def unsettled(self, instance: InstanceId) -> Sequence[Entry]:
        # Two questions, each with a small index of its own; PostgreSQL cannot lock the rows of a UNION.
        values = {"instance": instance}
        found = [
            self._read(row)
            for statement in (_OPEN_ONES, _GIVEN_UP)
            for row in self._runner.run(self._lock(statement), values)
        ]
        return sorted(found, key=lambda entry: entry.position)

    def depth(self, instance: InstanceId) -> int:
        count: int = self._runner.run(_DEPTH, {"instance": instance}).scalar_one()
        return count

    def next_due(self, instance: InstanceId, now: float) -> Entry | None:
        statement = _NEXT_DUE_LOCKED if self._runner.writable else _NEXT_DUE
        return self._one(statement, {"instance": instance, "now": now})

    def next_attempt_at(self, instance: InstanceId) -> float | None:
        earliest: float | None = self._runner.run(_NEXT_AT, {"instance": instance}).scalar_one()
        return earliest

    def _lock(self, statement: sa.Select[Any]) -> sa.Select[Any]:
        return _LOCKED[statement] if self._runner.writable else statement

    def _one(self, statement: sa.Select[Any], values: dict[str, Any]) -> Entry | None:
        row = self._runner.run(statement, values).one_or_none()
        return None if row is None else self._read(row)

    def _read(self, row: Sequence[Any]) -> Entry:
        # In the order of _COLUMNS.
        queue_id, instance, chat, content, message_id, key, key_kind, payload_hash, created_at, *changing = row
        state, next_at, attempts, on_wire, resends, deferrals, epoch, claimed_at, settled_at, mark, error, position = (
            changing
        )
        user, _, server = chat.rpartition("@")
        return Entry(
            id=queue_id,
            instance=instance,
            chat=ChatId(user, ChatKind(server)),
            content=self._runner.codec.content_out(content),
            message_id=message_id,
            key=IdempotencyKey(key, KeyKind(key_kind), payload_hash),
            created_at=created_at,
            state=ItemState(state),
            next_attempt_at=next_at,
            attempts=attempts,
            on_wire=on_wire,
            resends=resends,
            deferrals=deferrals,
            claimed_epoch=epoch,
            claimed_at=claimed_at,
            settled_at=settled_at,
            delivery=None if mark is None else DeliveryMark(mark),
            last_error=error,
            position=position,
        )


def _changing(entry: Entry) -> dict[str, Any]:
    return {
        "state": entry.state.value,
        "next_attempt_at": entry.next_attempt_at,
        "attempts": entry.attempts,
        "on_wire": entry.on_wire,
        "resends": entry.resends,
        "deferrals": entry.deferrals,
        "claimed_epoch": entry.claimed_epoch,
        "claimed_at": entry.claimed_at,
        "settled_at": entry.settled_at,
        "delivery": None if entry.delivery is None else entry.delivery.value,
        "last_error": entry.last_error,
    }
