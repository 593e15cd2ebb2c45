"""Counting what happened: figures over rolling windows, and the audit."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import audit, disconnects, outbox
from wahub.domain.ids import InstanceId
from wahub.ports.store import Counters

_HOUR: Final = 3_600.0
_DAY: Final = 86_400.0
_OF = outbox.c.instance == bindparam("instance")
# Literals, because a planner cannot match a parameter with the condition of a partial index.
_FAILED = (_OF, outbox.c.state == literal_column("'failed'"))
_earlier = outbox.alias("earlier")


def _ours(table: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """What was sent, and by us: an imported record was never claimed here."""
    return (
        table.c.instance == bindparam("instance"),
        table.c.state == literal_column("'sent'"),
        table.c.claimed_at.is_not(None),
    )


def _count(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(outbox).where(*conditions).scalar_subquery()


def _new_chats() -> sa.ScalarSelect[int]:
    recent = sa.select(outbox.c.chat).where(*_ours(outbox), outbox.c.settled_at > bindparam("day_ago")).distinct()
    chats = recent.subquery("recent")
    # The first by an order that only one index has: PostgreSQL must not choose another and read the whole history.
    first = (
        sa.select(_earlier.c.settled_at)
        .where(*_ours(_earlier), _earlier.c.chat == chats.c.chat)
        .order_by(_earlier.c.chat, _earlier.c.settled_at)
        .limit(literal_column("1"))
        .correlate(chats)
        .scalar_subquery()
    )
    return sa.select(sa.func.count()).select_from(chats).where(first > bindparam("day_ago")).scalar_subquery()


_COUNTERS = sa.select(
    _count(*_ours(outbox), outbox.c.settled_at > bindparam("hour_ago")),
    _count(*_ours(outbox), outbox.c.settled_at > bindparam("day_ago")),
    _count(*_FAILED, outbox.c.settled_at > bindparam("hour_ago")),
    sa.select(sa.func.count())
    .select_from(disconnects)
    .where(disconnects.c.instance == bindparam("instance"), disconnects.c.at > bindparam("hour_ago"))
    .scalar_subquery(),
    _new_chats(),
)
_ADD_DISCONNECT = sa.insert(disconnects).values(instance=bindparam("instance"), at=bindparam("at"))
_FORGET = sa.delete(disconnects).where(
    disconnects.c.instance == bindparam("instance"), disconnects.c.at < bindparam("before")
)
_AUDIT = sa.insert(audit).values(at=bindparam("at"), action=bindparam("action"), subject=bindparam("subject"))


class SqlTally:
    """ports.store.Tally."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def counters(self, instance: InstanceId, now: float) -> Counters:
        values = {"instance": instance, "hour_ago": now - _HOUR, "day_ago": now - _DAY}
        row: Any = self._runner.run(_COUNTERS, values).one_or_none()
        return Counters(*row)

    def add_disconnect(self, instance: InstanceId, at: float) -> None:
        self._runner.run(_ADD_DISCONNECT, {"instance": instance, "at": at})
        self._runner.run(_FORGET, {"instance": instance, "before": at - _DAY})

    def audit(self, at: float, action: str, subject: InstanceId) -> None:
        digest = hashlib.sha256(subject.encode()).hexdigest()
        self._runner.run(_AUDIT, {"at": at, "action": action, "subject": digest})
