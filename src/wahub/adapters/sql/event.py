"""Rows of the event log.

An instance's numbers are taken under the lock of its row, so they appear in order. Positions of different instances may
be committed in another order than they were taken (PostgreSQL): whoever follows all of them stops before a position
that is missing, until its transaction can no longer be under way. SQLite has one writer and no such gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, literal_column

from wahub.adapters.sql.place import SqlPlaces, note_forgotten
from wahub.adapters.sql.runner import Runner
from wahub.adapters.sql.tables import deliveries, events, instances
from wahub.domain.errors import InstanceNotFoundError
from wahub.domain.event import LoggedEvent, Span, without_secret
from wahub.domain.ids import InstanceId

_UNDER_WAY: Final = 30.0
"""Seconds for which a missing position may still appear: longer than the server lets a transaction idle."""

_COLUMNS = ("event_id", "instance", "event", "body", "sequence", "created_at", "secret_until", "position")
_ALL = sa.select(*(events.c[name] for name in _COLUMNS))
_ADD = sa.insert(events).values({name: bindparam(name) for name in _COLUMNS if name != "position"})
# Sorted by the server, which gives the positions then, too.
_ADD_PLACED = _ADD.returning(events.c.position, sort_by_parameter_order=True)
_ADD_AT = _ADD.values(position=bindparam("position"))
_AFTER = (
    _ALL.where(events.c.instance == bindparam("instance"), events.c.sequence > bindparam("beyond"))
    .order_by(events.c.sequence)
    .limit(bindparam("at_most"))
)
_SINCE = _ALL.where(events.c.position > bindparam("beyond")).order_by(events.c.position).limit(bindparam("at_most"))
_OLDEST = (
    sa.select(sa.func.min(events.c.sequence)).where(events.c.instance == instances.c.id).correlate(instances)
).scalar_subquery()
_SPAN = sa.select(_OLDEST.label("oldest"), instances.c.sequence.label("newest")).where(
    instances.c.id == bindparam("instance")
)
_WITH_SECRET = sa.select(events.c.position, events.c.instance, events.c.event).where(events.c.secret_until.is_not(None))
_DEAD_SECRETS = _WITH_SECRET.where(events.c.secret_until <= bindparam("before"))
_SECRETS_OF = _WITH_SECRET.where(events.c.instance == bindparam("instance"))
_END_SECRET = (
    sa.update(events).where(events.c.position == bindparam("of")).values(body=bindparam("text"), secret_until=sa.null())
)
_EXAMINED = (
    sa.select(events.c.position, events.c.created_at)
    .where(events.c.position > bindparam("beyond"))
    .order_by(events.c.position)
    .limit(bindparam("at_most"))
)
_WAITS = sa.exists().where(
    deliveries.c.position == events.c.position, deliveries.c.state == literal_column("'pending'")
)
_OLD = sa.select(events.c.position, events.c.instance, events.c.sequence).where(
    events.c.position > bindparam("beyond"),
    events.c.position <= bindparam("last"),
    events.c.created_at < bindparam("before"),
    ~_WAITS,
)
_FORGET = sa.delete(events).where(events.c.position.in_(bindparam("positions", expanding=True)), ~_WAITS)


class SqlEvents:
    """ports.events.Events."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def add_all(self, events: Sequence[LoggedEvent]) -> Sequence[int]:
        if not events:
            return []
        rows = [self._row(event) for event in events]
        if len(rows) == 1:
            return [self._runner.run(_ADD_PLACED, rows[0]).scalar_one()]
        if self._runner.dialect == "postgresql":
            return list(self._runner.insert_returning(_ADD_PLACED, rows).scalars())
        # The one writer knows the next positions, and a row that is handed back costs as much as the insert.
        first = SqlPlaces(self._runner).given() + 1
        for position, row in enumerate(rows, first):
            row["position"] = position
        self._runner.run_many(_ADD_AT, rows)
        return range(first, first + len(rows))

    def after(self, instance: InstanceId, sequence: int, limit: int) -> Sequence[LoggedEvent]:
        found = self._runner.run(_AFTER, {"instance": instance, "beyond": sequence, "at_most": limit})
        return [self._read(row) for row in found]

    def since(self, position: int, limit: int) -> Sequence[LoggedEvent]:
        found = [self._read(row) for row in self._runner.run(_SINCE, {"beyond": position, "at_most": limit})]
        if self._runner.dialect != "postgresql":
            return found
        settled = self._runner.clock.now() - _UNDER_WAY
        for at, event in enumerate(found):
            if event.position != position + 1 and event.created_at > settled:
                return found[:at]
            position = event.position
        return found

    def span(self, instance: InstanceId) -> Span:
        row = self._runner.run(_SPAN, {"instance": instance}).one_or_none()
        if row is None:
            raise InstanceNotFoundError(instance)
        return Span(row.newest + 1 if row.oldest is None else row.oldest, row.newest)

    def end_secrets(self, before: float, instance: InstanceId | None = None) -> int:
        if instance is None:
            rows = list(self._runner.run(_DEAD_SECRETS, {"before": before}))
        else:
            rows = list(self._runner.run(_SECRETS_OF, {"instance": instance}))
        for row in rows:
            text = self._runner.codec.text_in(without_secret(row.event, row.instance))
            self._runner.run(_END_SECRET, {"of": row.position, "text": text})
        return len(rows)

    def forget(self, before: float, position: int, limit: int) -> int | None:
        examined = list(self._runner.run(_EXAMINED, {"beyond": position, "at_most": limit}))
        old = [row.position for row in examined if row.created_at < before]
        if not old:
            return None
        removable = list(self._runner.run(_OLD, {"beyond": position, "last": old[-1], "before": before}))
        if removable:
            # Before the rows: whoever deletes the instance locks it first, too, and then its events.
            note_forgotten(self._runner, {row.instance: row.position for row in removable if row.sequence})
            self._runner.run(_FORGET, {"positions": [row.position for row in removable]})
        last = examined[-1]
        return last.position if len(examined) == limit and last.created_at < before else None

    def _row(self, event: LoggedEvent) -> dict[str, Any]:
        return {
            "event_id": event.event_id,
            "instance": event.instance,
            "event": event.event,
            "body": self._runner.codec.text_in(event.body),
            "sequence": event.sequence or None,
            "created_at": event.created_at,
            "secret_until": event.secret_until,
        }

    def _read(self, row: Sequence[Any]) -> LoggedEvent:
        values = dict(zip(_COLUMNS, row, strict=True))
        values["body"] = self._runner.codec.text_out(values["body"])
        values["sequence"] = values["sequence"] or 0
        return LoggedEvent(**values)
