"""Rows of messages that could not be read."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner, for_both
from wahub.adapters.sql.tables import inbox, missed
from wahub.domain.ids import InstanceId, MessageId
from wahub.ports.threads import Unreadable

_COLUMNS = ("instance", "message_id", "chat", "sender", "why", "at")
_ADD = for_both(
    lambda insert: (
        insert(missed)
        .values({name: bindparam(name) for name in _COLUMNS})
        .on_conflict_do_nothing()
        .returning(missed.c.message_id)
    )
)
_IS_HERE = (
    sa.select(inbox.c.position)
    .where(inbox.c.instance == bindparam("instance"), inbox.c.message_id == bindparam("message_id"))
    .limit(1)
)
_CAME = sa.exists().where(inbox.c.instance == missed.c.instance, inbox.c.message_id == missed.c.message_id)
_OF = sa.and_(missed.c.instance == bindparam("instance"), ~_CAME)
_COUNT_OF = sa.select(sa.func.count()).select_from(missed).where(_OF)
_LATEST = (
    sa.select(missed.c.message_id, missed.c.at)
    .where(_OF)
    .order_by(missed.c.at.desc(), missed.c.message_id.desc())
    .limit(bindparam("at_most"))
)
_COUNT = sa.select(sa.func.count()).select_from(missed).where(~_CAME)


class SqlMissed:
    """ports.threads.MissedMessages."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def add(self, instance: InstanceId, message_id: MessageId, chat: str, sender: str, why: str, at: float) -> bool:
        where = {"instance": instance, "message_id": message_id}
        if self._runner.run(_IS_HERE, where).one_or_none() is not None:
            return False
        values = {**where, "chat": chat, "sender": sender, "why": why, "at": at}
        return self._runner.run(_ADD[self._runner.dialect], values).one_or_none() is not None

    def unreadable(self, instance: InstanceId, limit: int) -> Unreadable:
        count: int = self._runner.run(_COUNT_OF, {"instance": instance}).scalar_one()
        if not count:
            return Unreadable()
        latest = list(self._runner.run(_LATEST, {"instance": instance, "at_most": limit}))
        return Unreadable(count, latest[0].at, tuple(row.message_id for row in latest))

    def count(self) -> int:
        found: int = self._runner.run(_COUNT, {}).scalar_one()
        return found
