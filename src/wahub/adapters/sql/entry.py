"""An outbox entry as a row, both ways. `outbox.py` and `line.py` read and write through this."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from wahub.adapters.sql.codec import Codec
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import outbox
from wahub.domain.ids import ChatId, ChatKind
from wahub.domain.outbox import Audience, DeliveryMark, Entry, IdempotencyKey, ItemState, KeyKind, Moment, Priority

FIXED: Final = (
    *("id", "instance", "chat", "content", "message_id", "key", "key_kind", "payload_hash", "created_at"),
    *("priority", "audience", "typing"),
)
CHANGING: Final = (
    *("state", "next_attempt_at", "attempts", "on_wire", "resends", "deferrals"),
    *("claimed_epoch", "claimed_at", "settled_at", "delivery", "last_error"),
    *("joined_at", "scheduled", "expires_at", "timeline"),
)
ENTRIES: Final = sa.select(*(outbox.c[name] for name in (*FIXED, *CHANGING, "position")))
"""All entries; narrow it with `where`."""


def all_values(entry: Entry, codec: Codec) -> dict[str, Any]:
    """Every column but the position."""
    return {
        "id": entry.id,
        "instance": entry.instance,
        "chat": str(entry.chat),
        "content": codec.content_in(entry.content),
        "message_id": entry.message_id,
        "key": entry.key.value,
        "key_kind": entry.key.kind.value,
        "payload_hash": entry.key.payload_hash,
        "created_at": entry.created_at,
        "priority": entry.priority.value,
        "audience": entry.audience.value,
        "typing": entry.typing,
        **changing_values(entry),
    }


def changing_values(entry: Entry) -> dict[str, Any]:
    """The columns that `save` writes."""
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
        "joined_at": entry.joined_at,
        "scheduled": entry.scheduled,
        # Null is "never": infinity has no common literal.
        "expires_at": None if math.isinf(entry.expires_at) else entry.expires_at,
        "timeline": _encode_timeline(entry.timeline),
    }


def read_entry(row: Sequence[Any], codec: Codec) -> Entry:
    """The entry of a row of `ENTRIES`."""
    queue_id, instance, chat, content, message_id, key, key_kind, payload_hash, created_at, *more = row
    priority, audience, typing, state, next_at, attempts, on_wire, resends, deferrals, epoch, claimed_at, *more = more
    settled_at, mark, error, joined_at, scheduled, expires_at, timeline, position = more
    user, _, server = chat.rpartition("@")
    return Entry(
        id=queue_id,
        instance=instance,
        chat=ChatId(user, ChatKind(server)),
        content=codec.content_out(content),
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
        priority=Priority(priority),
        audience=Audience(audience),
        joined_at=joined_at,
        scheduled=scheduled,
        expires_at=math.inf if expires_at is None else expires_at,
        typing=typing,
        timeline=_decode_timeline(timeline),
        position=position,
    )


def _encode_timeline(timeline: Sequence[Moment]) -> str:
    """`[[at, kind, detail], …]` as compact ASCII JSON."""
    return _to_json([(moment.at, moment.kind, moment.detail) for moment in timeline])


def _decode_timeline(column: str) -> tuple[Moment, ...]:
    return tuple(Moment(at, kind, detail) for at, kind, detail in json.loads(column))


_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Made once: `json.dumps` with other separators makes an encoder in every call."""


class EntryReader:
    """Reads entries in one transaction; a writing one locks what it reads (PostgreSQL).

    Proof of a message, the end of its attempt and a caller's cancel may come at the same moment, and each must decide
    on what the other wrote.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def one(self, statement: Twofold, values: Mapping[str, Any]) -> Entry | None:
        row = self._runner.run(statement.pick(self._runner), values).one_or_none()
        return None if row is None else read_entry(row, self._runner.codec)

    def many(self, statement: Twofold, values: Mapping[str, Any]) -> list[Entry]:
        rows = self._runner.run(statement.pick(self._runner), values)
        return [read_entry(row, self._runner.codec) for row in rows]


class Twofold:
    """A question as a reading transaction asks it, and as a writing one does."""

    def __init__(self, reading: sa.Select[Any], *, skip_locked: bool = False) -> None:
        self.reading = reading
        # The weaker of PostgreSQL's two row locks, and on the outbox only, whatever the conditions look at. SQLite's
        # one writer needs no such words and gets none.
        self._writing = reading.with_for_update(key_share=True, skip_locked=skip_locked, of=outbox)

    def pick(self, runner: Runner) -> sa.Select[Any]:
        return self._writing if runner.writable else self.reading
