"""Forgetting what was received, some rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import chats, inbox, missed
from wahub.domain.ids import InstanceId
from wahub.domain.inbox import FORGOTTEN

_BEFORE = inbox.c.received_at < bindparam("before")
_OF = inbox.c.instance == bindparam("of")


def _some(column: sa.Column[Any], *conditions: Any) -> sa.Select[Any]:
    return sa.select(column).where(*conditions).limit(bindparam("at_most"))


_OLDEST = (
    sa.select(inbox.c.position, inbox.c.received_at, inbox.c.type)
    .where(
        _OF,
        inbox.c.received_at >= bindparam("since"),
        _BEFORE,
        sa.or_(inbox.c.received_at > bindparam("since"), inbox.c.position > bindparam("beyond")),
    )
    .order_by(inbox.c.received_at, inbox.c.position)
    .limit(bindparam("at_most"))
)
_BLANK = (
    sa.update(inbox)
    .where(inbox.c.position.in_(bindparam("positions", expanding=True)))
    # Whom it was from and in which chat tells a second copy, also after the person moved to another address.
    .values(
        type=FORGOTTEN,
        listed=sa.false(),
        text="",
        raw=sa.null(),
        details=sa.null(),
        push_name=sa.null(),
        target=sa.null(),
    )
)
_SAID = sa.exists().where(
    inbox.c.instance == chats.c.instance, inbox.c.chat_key == chats.c.key, inbox.c.listed == sa.true()
)
_OLD_MESSAGE = _some(inbox.c.position, _OF, _BEFORE)
_OLD_CHAT = _some(
    chats.c.key,
    chats.c.instance == bindparam("of"),
    chats.c.last_at < bindparam("before"),
    # What a group is called is told once, when it changes: it stays, the last thing that was said goes.
    sa.or_(chats.c.title.is_(None), chats.c.last_at > 0),
    ~_SAID,
)
_OLD_MISSED = _some(missed.c.message_id, missed.c.instance == bindparam("of"), missed.c.at < bindparam("before"))
_FORGET = sa.delete(inbox).where(inbox.c.position.in_(_OLD_MESSAGE))
_THESE_CHATS = sa.and_(chats.c.instance == bindparam("of"), chats.c.key.in_(_OLD_CHAT))
_EMPTY_CHATS = (
    sa.update(chats)
    .where(_THESE_CHATS, chats.c.title.is_not(None))
    .values(last_at=0, last_message_id=sa.null(), last_type=sa.null(), last_text=sa.null(), last_from_me=sa.null())
)
_FORGET_CHATS = sa.delete(chats).where(_THESE_CHATS, chats.c.title.is_(None))
_FORGET_MISSED = sa.delete(missed).where(
    missed.c.instance == bindparam("of"), missed.c.message_id.in_(_OLD_MISSED), missed.c.at < bindparam("before")
)


class SqlRetention:
    """ports.threads.Retention."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def to_blank(
        self, instance: InstanceId, after: tuple[float, int], before: float, limit: int
    ) -> tuple[Sequence[int], tuple[float, int] | None]:
        values = {"of": instance, "since": after[0], "beyond": after[1], "before": before, "at_most": limit}
        rows = list(self._runner.run(_OLDEST, values))
        last = (rows[-1].received_at, rows[-1].position) if len(rows) == limit else None
        return [row.position for row in rows if row.type != FORGOTTEN], last

    def blank(self, positions: Sequence[int]) -> None:
        if positions:
            self._runner.run(_BLANK, {"positions": list(positions)})

    def is_due(self, instance: InstanceId, messages_before: float, before: float) -> bool:
        limits = ((_OLD_MESSAGE, messages_before), (_OLD_CHAT, before), (_OLD_MISSED, before))
        return any(
            self._runner.run(question, {"of": instance, "before": limit, "at_most": 1}).one_or_none() is not None
            for question, limit in limits
        )

    def forget(self, instance: InstanceId, before: float, limit: int) -> int:
        return self._run(_FORGET, instance, before, limit)

    def forget_chats(self, instance: InstanceId, before: float, limit: int) -> int:
        emptied = self._run(_EMPTY_CHATS, instance, before, limit)
        return emptied + self._run(_FORGET_CHATS, instance, before, limit)

    def forget_missed(self, instance: InstanceId, before: float, limit: int) -> int:
        return self._run(_FORGET_MISSED, instance, before, limit)

    def _run(self, statement: sa.Executable, instance: InstanceId, before: float, limit: int) -> int:
        return self._runner.run(statement, {"of": instance, "before": before, "at_most": limit}).rowcount
