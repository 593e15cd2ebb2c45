"""Rows of received messages."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import inbox
from wahub.domain.ids import InstanceId
from wahub.domain.inbox import Received

_COLUMNS = (
    *("instance", "chat", "sender", "sender_phone", "message_id", "from_me", "type", "text", "timestamp", "raw"),
    "received_at",
)
_IDENTITY = (inbox.c.instance, inbox.c.chat, inbox.c.sender, inbox.c.message_id)
_ADD = for_both(
    lambda insert: (
        insert(inbox)
        .values({name: bindparam(name) for name in _COLUMNS})
        .on_conflict_do_nothing(index_elements=_IDENTITY)
        .returning(inbox.c.position)
    )
)
_LAST_RECEIVED = sa.select(sa.func.max(inbox.c.received_at)).where(inbox.c.instance == bindparam("instance"))
_LATEST: Final = 2**53
"""A sender writes the timestamp; one that no column can hold must not stop the message for ever."""


class SqlInbox:
    """ports.store.Inbox."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def last_received_at(self, instance: InstanceId) -> float | None:
        last: float | None = self._runner.run(_LAST_RECEIVED, {"instance": instance}).scalar_one()
        return last

    def add(self, received: Received, now: float) -> bool:
        codec = self._runner.codec
        values = {
            "instance": received.instance,
            "chat": received.chat,
            "sender": received.sender,
            "sender_phone": received.sender_phone,
            "message_id": received.message_id,
            "from_me": received.from_me,
            "type": received.type,
            "text": codec.text_in(received.text),
            "timestamp": max(0, min(received.timestamp, _LATEST)),
            "raw": None if received.raw is None else codec.text_in(received.raw),
            "received_at": now,
        }
        return self._runner.run(_ADD[self._runner.dialect], values).one_or_none() is not None
