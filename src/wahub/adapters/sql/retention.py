"""Forgetting what was received, some rows at a time."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import chats, inbox, missed
from wahub.domain.ids import InstanceId

_BEFORE = inbox.c.received_at < bindparam("before")
_OF = inbox.c.instance == bindparam("of")


def _some(column: sa.Column[Any], *conditions: Any) -> sa.Select[Any]:
    return sa.select(column).where(*conditions).limit(bindparam("at_most"))


_BLANK = (
    sa.update(inbox)
    .where(
        inbox.c.position.in_(
            _some(inbox.c.position, _OF, _BEFORE, inbox.c.received_at >= bindparam("since"), inbox.c.type != "")
        )
    )
    # Without a type it is not blanked again. Whom it was from and in which chat tells a second copy, also after the
    # person moved to another address.
    .values(
        type="",
        listed=sa.false(),
        text="",
        raw=sa.null(),
        details=sa.null(),
        push_name=sa.null(),
        target=sa.null(),
    )
)
_FORGET = sa.delete(inbox).where(inbox.c.position.in_(_some(inbox.c.position, _OF, _BEFORE)))
_SAID = sa.exists().where(
    inbox.c.instance == chats.c.instance, inbox.c.chat_key == chats.c.key, inbox.c.listed == sa.true()
)
_FORGET_CHATS = sa.delete(chats).where(
    chats.c.instance == bindparam("of"),
    chats.c.key.in_(
        _some(chats.c.key, chats.c.instance == bindparam("of"), chats.c.last_at < bindparam("before"), ~_SAID)
    ),
)
_FORGET_MISSED = sa.delete(missed).where(
    missed.c.instance == bindparam("of"),
    missed.c.message_id.in_(
        _some(missed.c.message_id, missed.c.instance == bindparam("of"), missed.c.at < bindparam("before"))
    ),
    missed.c.at < bindparam("before"),
)


class SqlRetention:
    """ports.threads.Retention."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def blank(self, instance: InstanceId, since: float, before: float, limit: int) -> int:
        return self._run(_BLANK, instance, before, limit, since=since)

    def forget(self, instance: InstanceId, before: float, limit: int) -> int:
        return self._run(_FORGET, instance, before, limit)

    def forget_chats(self, instance: InstanceId, before: float, limit: int) -> int:
        return self._run(_FORGET_CHATS, instance, before, limit)

    def forget_missed(self, instance: InstanceId, before: float, limit: int) -> int:
        return self._run(_FORGET_MISSED, instance, before, limit)

    def _run(self, statement: sa.Executable, instance: InstanceId, before: float, limit: int, **more: float) -> int:
        values = {"of": instance, "before": before, "at_most": limit, **more}
        return self._runner.run(statement, values).rowcount
