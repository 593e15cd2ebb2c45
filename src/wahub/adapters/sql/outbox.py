"""Rows of the outbox, one by one and by what is known of them. Their order is in `line.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.entry import CHANGING, ENTRIES, FIXED, EntryReader, Twofold, all_values, changing_values
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import outbox
from wahub.domain.errors import RequestNotFoundError
from wahub.domain.ids import InstanceId, MessageId, QueueId
from wahub.domain.outbox import Entry, ItemState

_OF = outbox.c.instance == bindparam("instance")
_ADD = sa.insert(outbox).values({name: bindparam(name) for name in (*FIXED, *CHANGING)}).returning(outbox.c.position)
_GET = Twofold(ENTRIES.where(_OF, outbox.c.id == bindparam("queue_id")))
_FIND = Twofold(ENTRIES.where(_OF, outbox.c.message_id == bindparam("message")))
_ONE = (outbox.c.instance == bindparam("of"), outbox.c.id == bindparam("queue_id"))
_SAVE = sa.update(outbox).where(*_ONE).values({name: bindparam(name) for name in CHANGING})
_PLACE = ("settled_at", "joined_at", "scheduled", "expires_at", "next_attempt_at")
"""What the indexes of the line are made of."""
_SAVE_IN_PLACE = (
    sa.update(outbox)
    .where(*_ONE, *(outbox.c[name].is_not_distinct_from(bindparam(f"same_{name}")) for name in _PLACE))
    .values({name: bindparam(name) for name in CHANGING if name not in _PLACE})
)
"""The same where none of these change, as when it is claimed.

SQLite moves a row in each index whose columns are set, also to the value that they have; PostgreSQL compares.
"""
_EXPIRED = Twofold(
    ENTRIES.where(
        outbox.c.expires_at <= bindparam("now"),
        # The condition of the index, and then literals, because a planner cannot match parameters with it.
        outbox.c.settled_at.is_(None),
        outbox.c.state.in_([literal_column("'queued'"), literal_column("'held'")]),
        ~outbox.c.on_wire,
    )
    .order_by(outbox.c.expires_at, outbox.c.position)
    .limit(bindparam("at_most")),
    # One that somebody decides on right now is left to the next round.
    skip_locked=True,
)


def _newest(*conditions: Any) -> Twofold:
    # The positions first: sorting whole rows of an instance with 100,000 takes 140 ms, sorting their numbers 10.
    newest = (
        sa.select(outbox.c.position).where(*conditions).order_by(outbox.c.position.desc()).limit(bindparam("at_most"))
    )
    return Twofold(ENTRIES.where(outbox.c.position.in_(newest)).order_by(outbox.c.position.desc()))


_IN_STATE = outbox.c.state == bindparam("wanted")
_LIST = {
    (False, False): _newest(),
    (True, False): _newest(_OF),
    (False, True): _newest(_IN_STATE),
    (True, True): _newest(_OF, _IN_STATE),
}
"""By whether an instance and a state are given."""


class SqlOutbox:
    """ports.store.Outbox."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._entries = EntryReader(runner)

    def add(self, entry: Entry) -> Entry:
        values = all_values(entry, self._runner.codec)
        return replace(entry, position=self._runner.run(_ADD, values).scalar_one())

    def get(self, instance: InstanceId, queue_id: QueueId) -> Entry | None:
        return self._entries.one(_GET, {"instance": instance, "queue_id": queue_id})

    def find_message(self, instance: InstanceId, message_id: MessageId) -> Entry | None:
        return self._entries.one(_FIND, {"instance": instance, "message": message_id})

    def save(self, entry: Entry) -> None:
        """RequestNotFoundError if it is gone (its instance was deleted)."""
        which = {"of": entry.instance, "queue_id": entry.id}
        values = changing_values(entry)
        if entry.settled_at is None and self._runner.dialect == "sqlite":
            same = {f"same_{name}": values[name] for name in _PLACE}
            if self._runner.run(_SAVE_IN_PLACE, {**which, **values, **same}).rowcount:
                return
        if self._runner.run(_SAVE, {**which, **values}).rowcount == 0:
            raise RequestNotFoundError(entry.id)

    def list(self, instance: InstanceId | None, state: ItemState | None, limit: int) -> Sequence[Entry]:
        values: dict[str, Any] = {"at_most": limit}
        if instance is not None:
            values["instance"] = instance
        if state is not None:
            values["wanted"] = state.value
        return self._entries.many(_LIST[instance is not None, state is not None], values)

    def expired(self, now: float, limit: int) -> Sequence[Entry]:
        return self._entries.many(_EXPIRED, {"now": now, "at_most": limit})
